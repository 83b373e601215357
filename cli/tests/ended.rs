//! A build that somebody ends leaves nothing behind: no folder where it works, no program that goes on.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const WITHIN: Duration = Duration::from_secs(60);

fn hidden(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with('.') || name.starts_with("farrier-"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_build_that_is_ended_leaves_no_folder() {
    for (signal, status) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        // A mirror that takes connections and never answers: the build waits for it.
        let mirror = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", mirror.local_addr().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let temporary = directory.path().join("tmp");
        fs::create_dir(&temporary).unwrap();
        let mut build = Command::new(env!("CARGO_BIN_EXE_farrier"))
            .args([
                "image",
                "build",
                "--agent",
                "/bin/true",
                "--mirror",
                &url,
                "--output",
            ])
            .arg(directory.path().join("boot"))
            .arg("--cache")
            .arg(directory.path().join("cache"))
            .env("TMPDIR", &temporary)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + WITHIN;
        while !hidden(directory.path())
            .iter()
            .any(|name| name.starts_with(".boot-image-"))
        {
            assert_eq!(build.try_wait().unwrap(), None, "it ended by itself");
            assert!(Instant::now() < deadline, "it makes no folder");
            std::thread::sleep(Duration::from_millis(5));
        }
        kill(Pid::from_raw(i32::try_from(build.id()).unwrap()), signal).unwrap();
        assert_eq!(build.wait().unwrap().code(), Some(status));
        assert_eq!(hidden(directory.path()), Vec::<String>::new());
        assert_eq!(hidden(&temporary), Vec::<String>::new());
    }
}
