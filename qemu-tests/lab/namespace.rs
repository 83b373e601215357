//! Namespaces of our own (network, mounts, processes), which die with the one process that is visible outside.
//!
//! The chain: the visible process starts `unshare` with a parent-death signal; `unshare` starts the first
//! process of a new PID namespace with `--kill-child`; when that one dies the kernel kills everything in the
//! namespace, and the network with its bridge and taps and the private mounts go with it. So SIGKILL of the
//! visible process leaves nothing, whatever it was doing.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::{env, thread};

use anyhow::{Context, bail};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::Uid;

/// Set in the environment of whatever runs inside.
pub const INSIDE: &str = "FARRIER_LAB_INSIDE";

/// Whether this process runs inside namespaces made by [`run`].
pub fn inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs this same binary again with `args` inside new namespaces, on this terminal, and waits for it.
///
/// Ctrl-C is left to the process inside, which gets it from the terminal too.
///
/// # Errors
/// When `unshare` cannot be started, or says that namespaces are refused.
pub fn run<S: AsRef<OsStr>>(args: &[S], environment: &[(&str, String)]) -> anyhow::Result<ExitStatus> {
    permitted()?;
    let mut command = unshare()?;
    command
        .args(args)
        .envs(environment.iter().map(|(name, value)| (name, value)));
    // SAFETY: SIG_IGN installs no handler, so nothing runs in signal context.
    unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) }.context("ignoring SIGINT")?;
    // The parent-death signal follows the thread that forks, so one thread starts the child and stays with it.
    let waited = thread::spawn(move || command.status()).join();
    // SAFETY: as above; SIG_DFL installs no handler.
    unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }.context("restoring SIGINT")?;
    waited
        .map_err(|_| anyhow::anyhow!("the thread that waits for the lab panicked"))?
        .context("running unshare")
}

/// Runs the calling `#[test]` in namespaces of its own: plain test functions stay plain.
///
/// Outside, the test binary is run again for exactly this test; inside, `test` is called.
///
/// # Panics
/// When the test inside fails, or did not run; its output is printed before that.
#[track_caller]
pub fn in_lab(test: impl FnOnce()) {
    if inside() {
        return test();
    }
    let output = test_inside().expect("namespaces for the test");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    print!("{text}");
    assert!(
        output.status.success(),
        "the test failed inside its namespaces ({}), see above",
        output.status
    );
    assert!(
        text.contains("test result: ok. 1 passed"),
        "the test did not run inside its namespaces"
    );
}

fn test_inside() -> anyhow::Result<Output> {
    permitted()?;
    let name = thread::current()
        .name()
        .context("the test's thread has no name")?
        .to_owned();
    let mut command = unshare()?;
    command
        .args(["--exact", &name, "--nocapture", "--test-threads=1"])
        .stdin(Stdio::null());
    thread::spawn(move || command.output())
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that waits for the test panicked"))?
        .context("running unshare")
}

/// `unshare … -- THIS_BINARY`, arguments to be added.
fn unshare() -> anyhow::Result<Command> {
    let myself = env::current_exe().context("finding my own binary")?;
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child=SIGKILL",
        "--mount-proc",
    ]);
    if !Uid::effective().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--").arg(myself).env(INSIDE, "1");
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec only async-signal-safe system calls are made (prctl, getppid, sigaction).
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            if nix::unistd::getppid() != parent {
                return Err(std::io::Error::other("the lab's parent is gone"));
            }
            signal(Signal::SIGINT, SigHandler::SigDfl)?;
            Ok(())
        });
    }
    Ok(command)
}

/// Says in words why namespaces are refused, before anything is started, or downloaded and built for nothing.
/// Where `unshare` is yet to be installed nothing is known, and nothing refused.
///
/// # Errors
/// What the kernel refuses, with the cure.
pub fn permitted() -> anyhow::Result<()> {
    let mut probe = Command::new("unshare");
    probe.args(["--net", "--mount", "--pid", "--fork", "--mount-proc"]);
    if !Uid::effective().is_root() {
        probe.args(["--user", "--map-root-user"]);
    }
    let output = match probe.args(["--", "true"]).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        output => {
            output.context("running unshare (Debian package util-linux), which makes the lab's namespaces")?
        }
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    bail!(
        "{}",
        refusal(&said, Uid::effective().is_root(), |name| std::fs::read_to_string(
            name
        )
        .ok())
    )
}

/// The message for a refused namespace; `read` gives the text of a file below /proc/sys.
fn refusal(said: &str, root: bool, read: impl Fn(&str) -> Option<String>) -> String {
    let value = |name: &str| read(name).map(|text| text.trim().to_owned());
    if root {
        return format!(
            "the kernel refused namespaces to root ({said}); in a container the lab needs --privileged or CAP_SYS_ADMIN"
        );
    }
    for (file, sysctl, refusing, cure) in SWITCHES {
        if value(file).as_deref() == Some(refusing) {
            return format!(
                "user namespaces are switched off for you ({said}): {sysctl} is {refusing}; \
                 run the lab with sudo, or `sudo sysctl {sysctl}={cure}`"
            );
        }
    }
    format!("the kernel refused user namespaces ({said}); run the lab with sudo")
}

/// File, sysctl, the value that refuses, the value that allows.
const SWITCHES: [(&str, &str, &str, &str); 3] = [
    // Ubuntu 23.10 and later.
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "0",
    ),
    // Debian's own switch, off before Debian 11.
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "kernel.unprivileged_userns_clone",
        "0",
        "1",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "user.max_user_namespaces",
        "0",
        "10000",
    ),
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::time::Duration;

    use super::*;
    use crate::lab::wait::{Look, wait_until};

    #[test]
    fn a_test_inside_sees_its_own_network_and_processes() {
        in_lab(|| {
            assert_eq!(std::process::id(), 1);
            let links = fs::read_to_string("/proc/net/dev").unwrap();
            assert!(!links.contains("eth"), "{links}");
        });
    }

    #[test]
    fn nothing_outlives_a_kill_9() {
        if env::var_os("LAB_TEST_OUTER").is_some() {
            if inside() {
                // A grandchild that would stay for long, with a mark to find it by from outside.
                let mut sleeper = Command::new("sleep").arg("86399.25").spawn().unwrap();
                println!("started");
                sleeper.wait().unwrap();
            } else {
                run(&["--exact", OUTLIVES, "--nocapture"], &[]).unwrap();
            }
            return;
        }
        let mut outer = Command::new(env::current_exe().unwrap())
            .args(["--exact", OUTLIVES, "--nocapture"])
            .env("LAB_TEST_OUTER", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(outer.stdout.take().unwrap()).lines();
        assert!(
            lines
                .by_ref()
                .map_while(Result::ok)
                .any(|line| line.ends_with("started"))
        );
        wait_for_sleepers(1);
        outer.kill().unwrap();
        outer.wait().unwrap();
        wait_for_sleepers(0);
    }

    fn wait_for_sleepers(wanted: usize) {
        let what = format!("{wanted} sleepers");
        wait_until(&what, Duration::from_secs(10), || match sleepers() {
            count if count == wanted => Look::Done(()),
            count => Look::not_yet(format!("{count} sleepers")),
        })
        .unwrap();
    }

    const OUTLIVES: &str = "lab::namespace::tests::nothing_outlives_a_kill_9";

    fn sleepers() -> usize {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter(|process| {
                fs::read(process.path().join("cmdline")).is_ok_and(|line| line == b"sleep\086399.25\0")
            })
            .count()
    }

    #[test]
    fn ubuntus_restriction_is_named_with_its_cure() {
        let message = refusal("unshare failed: Operation not permitted", false, |name| {
            name.ends_with("apparmor_restrict_unprivileged_userns")
                .then(|| "1\n".to_owned())
        });
        assert!(
            message.contains("sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
            "{message}"
        );
    }
}
