//! `farrier lab enter`: a shell in the namespaces of a lab that runs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
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
    command.env("FARRIER_SERVER", crate::lab::server::Server::API);
    // Where the server has put the token that it made.
    if let Some(directory) = data_dir_in(pid) {
        command.env("FARRIER_DATA_DIR", directory);
    }
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

/// The data directory of the server that runs in a lab.
fn data_dir_in(lab: i32) -> Option<OsString> {
    let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let of_lab = network(&lab.to_string())?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut inside = processes.filter_map(|process| {
        let pid = process.file_name().into_string().ok()?;
        (network(&pid)? == of_lab).then_some(pid)
    });
    inside.find_map(|pid| data_dir(&fs::read(format!("/proc/{pid}/cmdline")).ok()?))
}

/// What `farrier serve --data-dir DIR` was told.
fn data_dir(command_line: &[u8]) -> Option<OsString> {
    let mut words = command_line.split(|&byte| byte == 0).skip(1);
    if words.next()? != b"serve" {
        return None;
    }
    words.find(|&word| word == b"--data-dir")?;
    Some(OsString::from_vec(words.next()?.to_vec()))
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
    fn the_data_directory_is_that_of_the_server() {
        let server = b"/usr/bin/farrier\0serve\0--interface\0br0\0--data-dir\0/tmp/lab 1/data\0";
        assert_eq!(data_dir(server), Some(OsString::from("/tmp/lab 1/data")));
        assert_eq!(data_dir(b"farrier\0lab\0--data-dir\0x\0"), None);
        assert_eq!(data_dir(b"farrier\0serve\0"), None);
    }

    #[test]
    fn only_the_first_process_of_a_nested_namespace_is_a_lab() {
        assert!(is_first("Name:\tfarrier\nNSpid:\t4711\t1\n"));
        assert!(!is_first("Name:\tqemu\nNSpid:\t4712\t17\n"));
        assert!(!is_first("Name:\tinit\nNSpid:\t1\n"));
    }
}
