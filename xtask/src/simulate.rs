//! `cargo xtask simulate`: the coordinator and agents in simulated worlds, release profile.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::{Outcome, build};

/// Builds the simulation and becomes it.
pub(crate) fn run(args: &[&str]) -> Outcome<ExitCode> {
    build::cargo(&["build", "--release", "--package", "simulation"], &[])?;
    let binary = build::target_directory().join("release/simulation");
    let error = Command::new(&binary).args(args).exec();
    Err(format!("running {}: {error}", binary.display()))
}
