//! `farrier lab enter`: a shell in the namespaces of a lab that runs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use nix::unistd::Uid;

use super::EnterOptions;
use crate::lab::namespace::INSIDE;
use crate::lab::network::Network;

/// Replaces this process by a shell in the lab's namespaces.
pub(super) fn enter(options: &EnterOptions) -> anyhow::Result<ExitCode> {
    let pid = match (options.pid, running_labs().as_slice()) {
        (Some(pid), _) => pid,
        (None, [pid]) => *pid,
        (None, []) => bail!("no lab runs here: start one with `farrier lab --keep` (as the same user)"),
        (None, several) => bail!("several labs run ({several:?}): say which with --pid"),
    };
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid.to_string(), "--net", "--mount", "--pid"]);
    if !Uid::effective().is_root() {
        command.args(["--user", "--preserve-credentials"]);
    }
    command.arg("--");
    match options.command.as_slice() {
        [] => {
            let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
            eprintln!(
                "In the lab: the server is {}, machines are {} and on; `farrier machine list` asks that server.",
                Network::SERVER,
                Network::machine_address(1)
            );
            command.arg(shell)
        }
        words => command.args(words),
    };
    command.env("FARRIER_SERVER", crate::lab::server::Server::GRPC);
    // `cargo xtask lab` runs a farrier that no PATH leads to.
    let farrier = super::places::farrier()?;
    command.env("PATH", with_directory_of(&farrier, std::env::var_os("PATH")));
    Err(command.exec()).context("running nsenter (Debian package util-linux)")
}

/// The search path with this program's directory before all others.
fn with_directory_of(program: &Path, path: Option<OsString>) -> OsString {
    let path = path.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let directories = program.parent().map(Path::to_owned).into_iter();
    // A directory with a colon in its name stands in no search path.
    std::env::join_paths(directories.chain(std::env::split_paths(&path))).unwrap_or(path)
}

/// The first processes of the labs of this user: inside by their environment, and number 1 of a PID namespace.
fn running_labs() -> Vec<i32> {
    let mark = format!("{INSIDE}=");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|&byte| byte == 0)
                .any(|variable| variable.starts_with(mark.as_bytes()))
        })
        .filter(|pid| is_first(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()))
        .collect()
}

/// Whether a process's status says that it is number 1 in the innermost of several PID namespaces.
fn is_first(status: &str) -> bool {
    let numbers = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .unwrap_or_default();
    let numbers: Vec<_> = numbers.split_whitespace().collect();
    numbers.len() > 1 && numbers.last() == Some(&"1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lab_finds_the_farrier_that_entered_it() {
        let farrier = Path::new("/srv/farrier/bin/farrier");
        let with = |path: Option<&str>| with_directory_of(farrier, path.map(OsString::from));
        assert_eq!(with(Some("/usr/bin:/bin")), "/srv/farrier/bin:/usr/bin:/bin");
        assert_eq!(with(None), "/srv/farrier/bin:/usr/local/bin:/usr/bin:/bin");
        let odd = with_directory_of(Path::new("/a:b/farrier"), Some("/bin".into()));
        assert_eq!(odd, "/bin");
    }

    #[test]
    fn only_the_first_process_of_a_nested_namespace_is_a_lab() {
        assert!(is_first("Name:\tfarrier\nNSpid:\t4711\t1\n"));
        assert!(!is_first("Name:\tqemu\nNSpid:\t4712\t17\n"));
        assert!(!is_first("Name:\tinit\nNSpid:\t1\n"));
    }
}
