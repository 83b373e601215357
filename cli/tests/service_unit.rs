//! The systemd unit in `packaging/`: systemd takes it, its command line is one that `farrier serve` takes, and what it
//! allows is enough.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// More than a start takes on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);
/// `nobody`: who has nothing but what the unit gives.
const NOBODY: u32 = 65534;

/// The unit's settings, by name; none of those looked at comes twice.
fn unit() -> BTreeMap<String, String> {
    let lines = text();
    let settings = lines
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='));
    settings
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn text() -> String {
    fs::read_to_string(root().join("packaging/farrier.service")).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The unit's command, of the program that was built, with settings of `dir`.
fn command_line(dir: &Path) -> Vec<String> {
    let config = dir.join("farrier.toml");
    unit()["ExecStart"]
        .replace("/usr/local/bin/farrier", env!("CARGO_BIN_EXE_farrier"))
        .replace("/etc/farrier.toml", config.to_str().unwrap())
        .split(' ')
        .map(str::to_owned)
        .collect()
}

fn settings(dir: &Path, more: &str) {
    let boot = dir.join("boot");
    fs::create_dir(&boot).unwrap();
    for file in [
        "vmlinuz",
        "initramfs.img",
        "snponly.efi",
        "undionly.kpxe",
        "local-boot.efi",
    ] {
        fs::write(boot.join(file), file).unwrap();
    }
    let data = dir.join("data");
    fs::create_dir(&data).unwrap();
    let (boot, data) = (boot.display(), data.display());
    let settings = format!("interface = \"lo\"\ndata-dir = \"{data}\"\nboot-dir = \"{boot}\"\n{more}");
    fs::write(dir.join("farrier.toml"), settings).unwrap();
}

/// A server that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn next(told: &UnixDatagram) -> String {
    let mut said = [0; 64];
    let len = told.recv(&mut said).expect("the service manager is told");
    String::from_utf8(said[..len].to_vec()).unwrap()
}

/// The manager's socket, in `dir`.
fn manager(dir: &Path) -> (UnixDatagram, PathBuf) {
    let path = dir.join("notify");
    let told = UnixDatagram::bind(&path).unwrap();
    told.set_read_timeout(Some(WITHIN)).unwrap();
    (told, path)
}

#[test]
fn its_command_line_starts_a_server_that_tells_when_it_is_ready_and_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    settings(
        dir.path(),
        "address = \"127.0.0.1\"\nlisten = \"127.0.0.1\"\nno-dhcp = true\nno-ra = true\n\
         api-listen = \"127.0.0.1:0\"\ngrpc-port = 0\nhttp-port = 0\ntftp-port = 0\n",
    );
    let (told, path) = manager(dir.path());
    let words = command_line(dir.path());
    let child = Command::new(&words[0])
        .args(&words[1..])
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    assert_eq!(next(&told), "READY=1");
    let pid = Pid::from_raw(i32::try_from(running.0.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(next(&told), "STOPPING=1");
    assert!(running.0.wait().unwrap().success());
}

/// In a network namespace, as nobody, with all services on their own ports.
#[test]
fn its_capabilities_are_what_every_service_needs() {
    let dir = tempfile::tempdir().unwrap();
    settings(dir.path(), "address = \"127.0.0.1\"\n");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(dir.path().join("data"), Some(NOBODY), None).unwrap();
    let unit = unit();
    assert_eq!(unit["AmbientCapabilities"], unit["CapabilityBoundingSet"]);
    let needed = unit["AmbientCapabilities"].to_lowercase();
    let capabilities: Vec<&str> = needed
        .split(' ')
        .map(|name| name.strip_prefix("cap_").unwrap())
        .collect();

    // The program may lie where nobody may look.
    let program = dir.path().join("farrier");
    fs::copy(env!("CARGO_BIN_EXE_farrier"), &program).unwrap();
    let starts = |capabilities: &[&str], name: &str| {
        let manager_dir = dir.path().join(name);
        fs::create_dir(&manager_dir).unwrap();
        let (told, path) = manager(&manager_dir);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let set = capabilities
            .iter()
            .map(|name| format!("+{name}"))
            .collect::<Vec<_>>()
            .join(",");
        let words = command_line(dir.path());
        let child = Command::new("unshare")
            .args([
                "--net",
                "--",
                "sh",
                "-c",
                "ip link set lo up && exec \"$@\"",
                "sh",
                "setpriv",
            ])
            .args([
                "--reuid",
                "nobody",
                "--regid",
                "nogroup",
                "--clear-groups",
                "--no-new-privs",
            ])
            .arg(format!("--inh-caps=-all,{set}"))
            .arg(format!("--bounding-set=-all,{set}"))
            .arg(format!("--ambient-caps=-all,{set}"))
            .arg(&program)
            .args(&words[1..])
            .env("NOTIFY_SOCKET", &path)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut running = Running(child);
        // It is ready, or it ends.
        told.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        loop {
            let mut said = [0; 64];
            if told.recv(&mut said).is_ok() {
                return Ok(());
            }
            if running.0.try_wait().unwrap().is_some() {
                let stderr = running.0.stderr.take().unwrap();
                return Err(std::io::read_to_string(stderr).unwrap());
            }
        }
    };
    starts(&capabilities, "all").unwrap();
    // And none of them is there for nothing.
    for (number, left_out) in capabilities.iter().enumerate() {
        let others: Vec<&str> = capabilities
            .iter()
            .copied()
            .filter(|name| name != left_out)
            .collect();
        let Err(refused) = starts(&others, &number.to_string()) else {
            panic!("the server starts without {left_out}: the unit gives too much");
        };
        assert!(
            refused.contains(&format!("CAP_{}", left_out.to_uppercase())),
            "{left_out}: {refused}"
        );
    }
}

#[test]
fn systemd_takes_it() {
    // The programs are not installed here.
    let server = text().replace("/usr/local/bin/farrier", env!("CARGO_BIN_EXE_farrier"));
    systemd_takes("farrier.service", &server);
    let agent = fs::read_to_string(root().join("packaging/farrier-agent.service")).unwrap();
    let installed = "/usr/local/sbin/farrier-agent";
    assert!(agent.contains(&format!("ExecStart={installed} ")));
    systemd_takes(
        "farrier-agent.service",
        &agent.replace(installed, env!("CARGO_BIN_EXE_farrier")),
    );
}

fn systemd_takes(name: &str, unit: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, unit).unwrap();
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // It speaks of the host's own units, too.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("farrier")).collect();
    assert!(ours.is_empty(), "{ours:?}");
    assert!(output.status.success(), "{said}");
}
