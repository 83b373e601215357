//! `farrier lab` as a person runs it: several machines, kept running, entered, killed; and a workflow that fails.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use qemu_tests::wait::{Look, wait_until};

use crate::scene::path_from;

/// Marks every process of a lab, by inheritance.
const MARK: &str = "FARRIER_LAB_TEST";

#[test]
fn two_machines_are_installed_kept_and_entered_and_a_kill_9_leaves_nothing() {
    let mark = uuid::Uuid::new_v4().to_string();
    let mut lab = Lab::start(&mark, &["--machines", "2", "--keep"]);
    let said = lab.read_until("Left running until Ctrl-C");
    let verdict =
        "The 2 machines netbooted (BIOS), installed Debian, booted it from disk and answered over SSH";
    assert!(said.contains(verdict), "{said}");

    let inside = child_of(child_of(lab.0.id()));
    let enter = |words: &[&str]| {
        let pid = inside.to_string();
        let mut command = Command::new(path_from("FARRIER_BIN"));
        command.args(["lab", "enter", "--pid", &pid]).args(words);
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    };
    let addresses = enter(&["ip", "-brief", "address", "show", "br0"]);
    assert!(addresses.contains("10.77.0.1/24"), "{addresses}");
    let farrier = path_from("FARRIER_BIN");
    let workflows = enter(&[farrier.to_str().unwrap(), "workflow", "list"]);
    let succeeded = workflows.lines().filter(|line| line.contains("SUCCESS")).count();
    assert_eq!(succeeded, 2, "{workflows}");

    assert!(marked(&mark).len() > 4, "the lab, its server and two machines");
    lab.0.kill().unwrap();
    lab.0.wait().unwrap();
    wait_until(
        "the lab's processes to be gone",
        Duration::from_secs(20),
        || match marked(&mark).as_slice() {
            [] => Look::Done(()),
            left => Look::not_yet(format!("{left:?}")),
        },
    )
    .unwrap();
}

#[test]
fn a_workflow_that_fails_is_exit_code_1_with_the_reason_and_the_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("missing.yaml");
    fs::write(
        &template,
        "version: \"0.1\"\nname: missing\nglobal_timeout: 600\ntasks:\n  - name: install\n    worker: \"{{.device_1}}\"\n    \
         actions:\n      - name: write-image\n        image: image2disk\n        timeout: 300\n        environment:\n          \
         IMG_URL: http://10.77.0.1:7080/images/missing.zst\n          DEST_DISK: /dev/vda\n",
    )
    .unwrap();
    let mark = uuid::Uuid::new_v4().to_string();
    let mut lab = Lab::start(&mark, &["--workflow", template.to_str().unwrap()]);
    let said = lab.read_until("\u{0}");
    let mut complained = String::new();
    lab.0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut complained)
        .unwrap();
    assert_eq!(lab.0.wait().unwrap().code(), Some(1), "{said}{complained}");
    assert!(
        complained.contains("404") && complained.contains("missing.zst"),
        "{said}{complained}"
    );
    let all = said + &complained;
    let artifacts = path_from("FARRIER_LAB_DIR").join("artifacts");
    assert!(
        all.contains(artifacts.to_str().unwrap()),
        "where the evidence is, is not said: {all}"
    );
}

/// A running `farrier lab`; killed with this value.
struct Lab(Child);

impl Lab {
    fn start(mark: &str, options: &[&str]) -> Self {
        let lab = Command::new(path_from("FARRIER_BIN"))
            .args(["lab", "--yes"])
            .args(options)
            .env(MARK, mark)
            .env("FARRIER_AGENT", path_from("FARRIER_AGENT"))
            .env("FARRIER_LAB_DIR", path_from("FARRIER_LAB_DIR"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(lab)
    }

    /// What it prints, up to a line with these words, or to its end.
    fn read_until(&mut self, words: &str) -> String {
        let mut said = String::new();
        let mut lines = BufReader::new(self.0.stdout.as_mut().unwrap());
        while lines.read_line(&mut said).unwrap() > 0 && !said.contains(words) {}
        said
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The one child of a process.
fn child_of(parent: u32) -> u32 {
    let line = format!("PPid:\t{parent}");
    let children: Vec<u32> = processes()
        .into_iter()
        .filter(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|one| one == line)
        })
        .collect();
    match children.as_slice() {
        [child] => *child,
        others => panic!("process {parent} has the children {others:?}"),
    }
}

fn marked(mark: &str) -> Vec<u32> {
    let variable = format!("{MARK}={mark}");
    let has_it = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|&byte| byte == 0)
            .any(|one| one == variable.as_bytes())
    };
    processes().into_iter().filter(has_it).collect()
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}
