//! The clock of a running server is set: a real `farrier serve` under libfaketime.

#![allow(clippy::unwrap_used, reason = "tests")]

mod servers;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{Timestamp, Unit};
use servers::Serve;
use tempfile::TempDir;

struct Server {
    serve: Serve,
    folder: TempDir,
}

impl Server {
    fn start() -> Server {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("clock"), "+0").unwrap();
        let mut command = servers::serve(folder.path());
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", folder.path().join("clock"))
            .env("FAKETIME_NO_CACHE", "1")
            // A clock that is set leaves those alone that only count.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let serve = Serve::started(command, folder.path());
        Server { serve, folder }
    }

    fn set_clock(&self, by: &str) {
        let file = self.folder.path().join("clock");
        let fresh = self.folder.path().join("clock.new");
        fs::write(&fresh, by).unwrap();
        fs::rename(fresh, file).unwrap();
    }

    fn farrier(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self.serve.command(args).output().unwrap();
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
