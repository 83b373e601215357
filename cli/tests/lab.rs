//! `farrier lab` before it has a machine: what it asks, and what it refuses. The lab itself is run by the
//! end-to-end tests.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use nix::pty::openpty;

#[test]
fn a_memory_that_no_machine_can_boot_with_is_refused_in_words() {
    for (memory, words) in [
        ("255", "needs at least 256 MiB"),
        ("0", "needs at least 256 MiB"),
        ("2G", "a number of MiB, such as 1024"),
        ("-1", "a number of MiB, such as 1024"),
        ("99999999999", "at most 1048576 MiB"),
    ] {
        for command in [&["lab"][..], &["bench", "boot"]] {
            let output = Command::new(env!("CARGO_BIN_EXE_farrier"))
                .args(command)
                .arg(format!("--memory={memory}"))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{memory}: {said}");
            assert!(
                said.contains("--memory") && said.contains(words),
                "{memory}: {said}"
            );
        }
    }
    // OVMF needs more; said before anything is built.
    let output = Command::new(env!("CARGO_BIN_EXE_farrier"))
        .args(["lab", "--firmware=uefi", "--memory=319"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("a UEFI machine needs at least 320 MiB, not 319"),
        "{said}"
    );
}

#[test]
fn hardware_that_cannot_work_is_refused_before_anything_is_built() {
    for (args, code, words) in [
        (
            &["--firmware=uefi", "--disk-controller=megasas"][..],
            1,
            "no driver for the disk controller megasas",
        ),
        (
            &["--nic=e1000e", "--memory=511"],
            1,
            "needs at least 512 MiB, not 511",
        ),
        (&["--nic=igb"], 2, "e1000e"),
        (&["--suite=stable"], 2, "such as trixie or bookworm"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_farrier"))
            .arg("lab")
            .args(args)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

#[test]
fn on_a_terminal_it_asks_before_it_installs_and_a_no_installs_nothing() {
    let host = Host::new();
    let (status, said) = host.prepare_on_a_terminal(&[], "n\n");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("qemu-system-x86") && said.contains("runs the machines"),
        "{said}"
    );
    assert!(said.contains("Install them with apt-get"), "{said}");
    assert!(said.contains("nothing installed"), "{said}");
    assert_eq!(host.asked(), "");
}

#[test]
fn on_a_terminal_a_yes_or_the_option_runs_apt_get_whose_failure_is_told() {
    for (options, typed) in [(&[][..], "\n"), (&["--yes"], "")] {
        let host = Host::new();
        let (status, said) = host.prepare_on_a_terminal(options, typed);
        assert_eq!(status.code(), Some(1), "{said}");
        assert_eq!(said.contains("[Y/n]"), options.is_empty(), "{said}");
        assert!(
            said.contains("apt-get update -q failed (exit status: 100)"),
            "{said}"
        );
        assert_eq!(host.asked(), "noninteractive update -q\n");
    }
}

#[test]
fn without_a_terminal_it_does_not_ask() {
    let host = Host::new();
    let output = host.prepare().stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains("[Y/n]"), "{said}");
    assert_eq!(host.asked(), "noninteractive update -q\n");
}

#[test]
fn without_apt_get_it_prints_the_list_and_stops() {
    let host = Host::new();
    fs::remove_file(host.0.path().join("apt-get")).unwrap();
    let output = host.prepare().arg("--yes").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("not Debian or Ubuntu") && said.contains("qemu-system-x86"),
        "{said}"
    );
}

/// A PATH of nothing but an apt-get that writes down what it was asked for, and fails.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        let asked = host.0.path().join("asked").display().to_string();
        let apt_get = format!("#!/bin/sh\necho \"$DEBIAN_FRONTEND $*\" >>{asked}\nexit 100\n");
        executable(&host.0.path().join("apt-get"), &apt_get);
        // Who is not root asks by sudo.
        executable(&host.0.path().join("sudo"), "#!/bin/sh\nshift\nexec \"$@\"\n");
        host
    }

    fn prepare(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
        command
            .args(["lab", "prepare", "--work-dir"])
            .arg(self.0.path().join("lab"))
            .env("PATH", self.0.path());
        command
    }

    /// How it ended, and all that the terminal shows. What is typed waits for its question.
    fn prepare_on_a_terminal(&self, options: &[&str], typed: &str) -> (ExitStatus, String) {
        let pty = openpty(None, None).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut child = self
            .prepare()
            .args(options)
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .unwrap();
        drop(pty.slave);
        let mut terminal = File::from(pty.master);
        terminal.write_all(typed.as_bytes()).unwrap();
        let mut said = Vec::new();
        // It ends with EIO when nobody has the terminal open any more.
        let _ = terminal.read_to_end(&mut said);
        (child.wait().unwrap(), String::from_utf8_lossy(&said).into_owned())
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.0.path().join("asked")).unwrap_or_default()
    }
}

fn executable(path: &Path, script: &str) {
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
