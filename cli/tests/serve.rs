//! `farrier serve` as a process: when it is ready, how it stops, and what it finds again.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const MACHINE: &str = "machine: node1\nmac: 52:54:00:77:00:0b\naddress: 10.77.0.11/24\n";

/// A server that is killed when the test ends, however it ends.
struct Serve {
    child: Child,
    stderr: BufReader<ChildStderr>,
    grpc: String,
}

impl Serve {
    /// Starts it on loopback with ports of the kernel's choice, and waits until it says that it is ready.
    fn start(dir: &Path) -> Self {
        let mut child = command(dir).spawn().expect("farrier runs");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut serve = Self {
            child,
            stderr,
            grpc: String::new(),
        };
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(
                serve.stderr.read_line(&mut line).expect("text"),
                0,
                "ended before it was ready: {said}"
            );
            if let Some(ready) = line.strip_prefix("farrier: ready grpc=") {
                serve.grpc = ready.split(' ').next().expect("an address").to_owned();
                assert!(
                    ready.contains(" http=127.0.0.1:") && ready.contains(" dhcp=off tftp=127.0.0.1:"),
                    "{line}"
                );
                return serve;
            }
            said += &line;
        }
    }

    fn run(&self, args: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_farrier"))
            .args(["--server", &self.grpc])
            .args(args)
            .output()
            .expect("farrier runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    }

    /// Its exit code (`None` after a signal that it did not take) and what it still said.
    fn signal(mut self, signal: Signal) -> (Option<i32>, String) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        kill(pid, signal).expect("it runs");
        let status = self.child.wait().expect("it ends");
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("text");
        (status.code(), said)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(dir: &Path) -> Command {
    let boot = dir.join("boot");
    std::fs::create_dir_all(&boot).expect("directory");
    // What the TFTP service looks for; nothing is booted here.
    for file in [
        "vmlinuz",
        "initramfs.img",
        "snponly.efi",
        "undionly.kpxe",
        "local-boot.efi",
    ] {
        std::fs::write(boot.join(file), file).expect("write");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
    command
        .args([
            "serve",
            "--interface",
            "lo",
            "--address",
            "127.0.0.1",
            "--listen",
            "127.0.0.1",
            "--no-dhcp",
            "--no-ra",
        ])
        .args([
            "--grpc-port",
            "0",
            "--http-port",
            "0",
            "--tftp-port",
            "0",
            "--data-dir",
        ])
        .arg(dir)
        .env_clear()
        .stderr(Stdio::piped());
    command
}

#[test]
fn stops_cleanly_on_a_signal_and_keeps_what_it_was_told() {
    let dir = tempfile::TempDir::new().expect("directory");
    let file = dir.path().join("m.yaml");
    std::fs::write(&file, MACHINE).expect("write");
    let serve = Serve::start(dir.path());
    serve.run(&["machine", "apply", "-f", file.to_str().expect("text")]);
    let (code, said) = serve.signal(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");
    let serve = Serve::start(dir.path());
    assert!(serve.run(&["machine", "list"]).contains("node1"));
    let (code, said) = serve.signal(Signal::SIGINT);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn finds_everything_again_after_a_kill() {
    let dir = tempfile::TempDir::new().expect("directory");
    let file = dir.path().join("m.yaml");
    std::fs::write(&file, MACHINE).expect("write");
    let serve = Serve::start(dir.path());
    serve.run(&["machine", "apply", "-f", file.to_str().expect("text")]);
    assert_eq!(serve.signal(Signal::SIGKILL).0, None);
    let serve = Serve::start(dir.path());
    assert!(serve.run(&["machine", "list"]).contains("node1"));
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let dir = tempfile::TempDir::new().expect("directory");
    let _first = Serve::start(dir.path());
    let second = command(dir.path()).output().expect("farrier runs");
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{stderr}");
    let want = format!(
        "farrier: store {}/farrier.redb is in use by another process",
        dir.path().display()
    );
    assert!(stderr.contains(&want), "{stderr}");
}
