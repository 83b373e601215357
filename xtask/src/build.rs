//! Builds the two binaries.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// The target that static glibc binaries are built for. It has to be named: without `--target` cargo would build
/// build scripts and proc macros with `crt-static` too.
const AGENT_TARGET: &str = "x86_64-unknown-linux-gnu";

const STATIC: &str = "-Ctarget-feature=+crt-static";

/// The two binaries of Farrier.
pub(crate) struct Binaries {
    /// The server and command line.
    pub(crate) farrier: PathBuf,
    /// The agent: static, profile `agent`.
    pub(crate) agent: PathBuf,
}

/// How `farrier` is compiled. The agent is always as it is netbooted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Release,
    /// As `cargo test` has compiled it, with debug assertions.
    Dev,
}

/// Builds `farrier` and the static `farrier-agent`, side by side: the agent's last step takes one processor for minutes. They are of
/// different profiles, and so lie in directories of their own.
pub(crate) fn binaries(profile: Profile) -> Outcome<Binaries> {
    let (arguments, farrier): (&[&str], _) = match profile {
        Profile::Release => (&["build", "--release", "--package", "farrier"], "release/farrier"),
        // Of the whole workspace, so that its crates have the same features as in their tests and are not compiled again.
        Profile::Dev => (&["build", "--workspace", "--bin", "farrier"], "debug/farrier"),
    };
    std::thread::scope(|scope| {
        // One of the two says how far it is.
        println!("Building farrier, and farrier-agent beside it:");
        let agent = scope.spawn(|| agent(&["--quiet"]));
        cargo(arguments, &[])?;
        if !agent.is_finished() {
            println!("farrier is built; farrier-agent may take two minutes more");
        }
        Ok(Binaries {
            farrier: target_directory().join(farrier),
            agent: agent
                .join()
                .unwrap_or_else(|_| Err("building the agent panicked".to_owned()))?,
        })
    })
}

/// Builds the static `farrier-agent`, with more arguments of cargo's.
pub(crate) fn agent(more: &[&str]) -> Outcome<PathBuf> {
    const ARGUMENTS: [&str; 8] = [
        "build",
        "--profile",
        "agent",
        "--package",
        "farrier-agent",
        // A netbooted image has no containerd.
        "--no-default-features",
        "--target",
        AGENT_TARGET,
    ];
    cargo(&[&ARGUMENTS, more].concat(), &[("RUSTFLAGS", STATIC)])?;
    Ok(target_directory().join(AGENT_TARGET).join("agent/farrier-agent"))
}

/// Builds a static `farrier-agent` that can ask containerd, for boot images that have one.
pub(crate) fn agent_with_containerd() -> Outcome<PathBuf> {
    // Of its own: the other would be linked anew each time, for minutes.
    let directory = target_directory().join("agent-with-containerd");
    let arguments = [
        "build",
        "--profile",
        "agent",
        "--package",
        "farrier-agent",
        "--target",
        AGENT_TARGET,
    ];
    cargo(
        &arguments,
        &[
            ("RUSTFLAGS", STATIC),
            ("CARGO_TARGET_DIR", &directory.to_string_lossy()),
        ],
    )?;
    Ok(directory.join(AGENT_TARGET).join("agent/farrier-agent"))
}

/// Runs cargo in the workspace; its output goes to the terminal.
pub(crate) fn cargo(args: &[&str], environment: &[(&str, &str)]) -> Outcome<()> {
    let status = cargo_command(args)
        .envs(environment.iter().copied())
        .status()
        .map_err(|error| format!("running cargo: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("cargo {} failed ({status})", args.join(" "))),
    }
}

/// `cargo ARGS…` in the workspace.
pub(crate) fn cargo_command(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(workspace());
    // `cargo run` tells us of this crate. Build scripts that look at these (ring's does) would run again, and all that needs them, whenever
    // cargo is called by us and by hand in turn.
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|of_xtask| told.starts_with(of_xtask))
        {
            command.env_remove(&name);
        }
    }
    command
}

/// What this machine compiles for.
pub(crate) fn host_triple() -> Outcome<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .current_dir(workspace())
        .output()
        .map_err(|error| format!("running rustc: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| format!("rustc -vV does not say for which host it is: {said}"))
}

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// Cargo's target directory.
pub(crate) fn target_directory() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => workspace().join(directory),
        None => workspace().join("target"),
    }
}

/// Where the lab keeps what it builds: boot image, disk image, downloaded packages, evidence of failures.
pub(crate) fn lab_directory() -> PathBuf {
    target_directory().join("lab")
}
