//! The clock of a running server is set: a real `farrier serve` under libfaketime.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jiff::{Timestamp, Unit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

struct Server {
    child: Child,
    folder: TempDir,
    address: String,
}

impl Server {
    fn start() -> Server {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("boot")).unwrap();
        fs::write(folder.path().join("clock"), "+0").unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_farrier"))
            .args(["serve", "--interface", "lo", "--address", "127.0.0.1"])
            .args(["--listen", "127.0.0.1", "--no-dhcp", "--no-ra"])
            .args(["--http-port", "0", "--tftp-port", "0", "--grpc-port", "0"])
            .arg("--data-dir")
            .arg(folder.path())
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", folder.path().join("clock"))
            .env("FAKETIME_NO_CACHE", "1")
            // A clock that is set leaves those alone that only count.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let address = loop {
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("not ready: {said}"))
                .unwrap();
            if let Some(ready) = line.strip_prefix("farrier: ready grpc=") {
                break ready.split(' ').next().unwrap().to_owned();
            }
            said += &line;
        };
        // Its pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        Server {
            child,
            folder,
            address,
        }
    }

    fn set_clock(&self, by: &str) {
        let file = self.folder.path().join("clock");
        let fresh = self.folder.path().join("clock.new");
        fs::write(&fresh, by).unwrap();
        fs::rename(fresh, file).unwrap();
    }

    fn farrier(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_farrier"))
            .args(["--server", &self.address])
            .args(args)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    /// A workflow of one task that waits.
    fn waits(&self, what: &str) -> String {
        let file = self.folder.path().join("template.yaml");
        let text = format!("version: \"1\"\nname: w\ntasks:\n  - {{name: t, {what}}}\n");
        fs::write(&file, text).unwrap();
        let (_, json) = self.farrier(&["workflow", "create", "-f", file.to_str().unwrap(), "-o", "json"]);
        let workflow: serde_json::Value = serde_json::from_str(&json).unwrap();
        workflow["id"].as_str().unwrap().to_owned()
    }

    fn wait(&self, id: &str, within: &str) -> Option<i32> {
        self.farrier(&["workflow", "wait", id, "--timeout", within]).0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// Where Debian's package `faketime` has it, for whichever architecture.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten();
    let place = |folder: &Path| folder.join("faketime/libfaketimeMT.so.1");
    let found = folders
        .map(|entry| place(&entry.path()))
        .find(|path| path.exists());
    found.expect("libfaketime: apt-get install faketime")
}

/// `so_far` from now, to the second.
fn in_time(so_far: Duration) -> String {
    let then = Timestamp::now() + so_far;
    then.round(Unit::Second).unwrap().to_string()
}

#[test]
fn waits_go_by_the_time_that_passes_and_until_by_the_clock() {
    let server = Server::start();
    let short = server.waits("wait: 3s");
    server.set_clock("-1d");
    assert_eq!(
        server.wait(&short, "60s"),
        Some(0),
        "a clock that is set back holds up a wait"
    );
    let (long, hour) = ("wait: 2h", Duration::from_secs(3600));
    let long = server.waits(long);
    let until = server.waits(&format!("until: \"{}\"", in_time(hour)));
    server.set_clock("+1d");
    assert_eq!(server.wait(&until, "60s"), Some(0), "that hour has passed");
    assert_eq!(server.wait(&long, "1s"), Some(1), "two hours have not");
}
