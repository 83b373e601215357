//! `farrier lab` as a person runs it: several machines, on a terminal, kept running, entered, killed; and a workflow
//! that fails.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use qemu_tests::lab::wait::{Look, wait_until};

use crate::scene::path_from;
use crate::terminal::Terminal;

/// Marks every process of a lab, by inheritance.
pub(crate) const MARK: &str = "FARRIER_LAB_TEST";

#[test]
fn two_machines_are_installed_kept_and_entered_and_a_kill_9_leaves_nothing() {
    let mark = uuid::Uuid::new_v4().to_string();
    let options = ["--machines", "2", "--memory", "768", "--keep", "--console"];
    let (mut terminal, lab) = Terminal::start(&mut command(&mark, &options), false);
    let mut lab = Lab(lab);
    let said = terminal.wait_for("Left running until Ctrl-]", Duration::from_secs(2400));
    let verdict =
        "The 2 machines netbooted (BIOS), installed Debian, booted it from disk and answered over SSH";
    // The end says why; all of it is more than a log keeps.
    assert!(
        said.contains(verdict),
        "…{}",
        said.get(said.floor_char_boundary(said.len().saturating_sub(8_000))..)
            .unwrap_or_default()
    );

    // The first machine's serial line, from the agent to the login prompt; the second machine's is not there.
    for words in ["farrier: stage=attached", "machine=m1", "m1 login:"] {
        assert!(said.contains(words), "{words:?} was not on the console: {said}");
    }
    assert!(!said.contains("m2 login:"), "{said}");
    // Nobody but the machine asks for a password, and only when it was told who logs in.
    assert!(!said.contains("Password:"), "{said}");
    assert!(terminal.is_raw(), "keys are the machine's, Ctrl-C too");
    terminal.type_keys("somebody\r");
    terminal.wait_for("Password:", Duration::from_secs(120));

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

    // QEMU was told the memory, and Debian has it. The command that logs in is the one that the lab has printed.
    let told: Vec<_> = marked(&mark).into_iter().filter_map(memory_of_qemu).collect();
    assert_eq!(told, ["768", "768"]);
    let log_in = said
        .lines()
        .find_map(|line| line.split_once(" is 52:54:00:77:00:0c: "));
    let log_in = log_in.map(|(_, command)| command.trim()).unwrap();
    let memory = enter(&["sh", "-c", &format!("{log_in} grep MemTotal: /proc/meminfo")]);
    let kib: u32 = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((512 << 10..=768 << 10).contains(&kib), "{memory}");

    assert!(marked(&mark).len() > 4, "the lab, its server and two machines");
    lab.0.kill().unwrap();
    lab.0.wait().unwrap();
    wait_until_gone(&mark);
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

/// `farrier lab` with everything that it needs built before, its processes marked.
fn command(mark: &str, options: &[&str]) -> Command {
    let mut command = Command::new(path_from("FARRIER_BIN"));
    command
        .args(["lab", "--yes"])
        .args(options)
        .env(MARK, mark)
        .env("FARRIER_AGENT", path_from("FARRIER_AGENT"))
        .env("FARRIER_LAB_DIR", path_from("FARRIER_LAB_DIR"));
    command
}

/// A running `farrier lab`; killed with this value.
pub(crate) struct Lab(pub(crate) Child);

impl Lab {
    fn start(mark: &str, options: &[&str]) -> Self {
        let lab = command(mark, options)
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

/// The argument of `-m` of a process that is QEMU.
fn memory_of_qemu(pid: u32) -> Option<String> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split('\0');
    words.next()?.ends_with("qemu-system-x86_64").then_some(())?;
    words.skip_while(|word| *word != "-m").nth(1).map(str::to_owned)
}

#[track_caller]
pub(crate) fn wait_until_gone(mark: &str) {
    wait_until(
        "the lab's processes to be gone",
        Duration::from_secs(20),
        || match marked(mark).as_slice() {
            [] => Look::Done(()),
            left => Look::not_yet(format!("{left:?}")),
        },
    )
    .unwrap();
}

pub(crate) fn marked(mark: &str) -> Vec<u32> {
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
