//! Builds the binaries and becomes `farrier lab`.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::{Outcome, build, packages};

/// `cargo xtask lab …`: the process is replaced, so that there is one to interrupt or kill.
pub(crate) fn run(args: &[&str]) -> Outcome<ExitCode> {
    become_farrier("lab", args)
}

/// `cargo xtask bench boot …`.
pub(crate) fn bench_boot(args: &[&str]) -> Outcome<ExitCode> {
    become_farrier("bench", &[&["boot"], args].concat())
}

/// `cargo xtask bench image …`.
pub(crate) fn bench_image(args: &[&str]) -> Outcome<ExitCode> {
    become_farrier("bench", &[&["image"], args].concat())
}

/// `cargo xtask bench lists …`.
pub(crate) fn bench_lists(args: &[&str]) -> Outcome<ExitCode> {
    become_farrier("bench", &[&["lists"], args].concat())
}

/// `cargo xtask bench workflows …`.
pub(crate) fn bench_workflows(args: &[&str]) -> Outcome<ExitCode> {
    become_farrier("bench", &[&["workflows"], args].concat())
}

fn become_farrier(command: &str, args: &[&str]) -> Outcome<ExitCode> {
    packages::install(packages::BUILD, args.contains(&"--yes"))?;
    let binaries = build::binaries(build::Profile::Release)?;
    let error = Command::new(&binaries.farrier)
        .arg(command)
        .args(args)
        .env("FARRIER_AGENT", &binaries.agent)
        .env("FARRIER_LAB_DIR", build::lab_directory())
        .exec();
    Err(format!("running {}: {error}", binaries.farrier.display()))
}
