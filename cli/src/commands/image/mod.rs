//! `farrier image`: builds boot images, and says what is in them.

mod bars;
mod build;
mod compare;
mod modules;

use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) use compare::damaged;

use crate::failure::Failure;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ImageCommand {
    /// Build the kernel, initramfs and boot loaders that machines netboot
    Build(Box<build::BuildArgs>),
    /// Say what is different in two boot images: packages, modules, files
    Diff(compare::DiffArgs),
    /// Show which drivers and firmware a boot image has, all or for a card
    Modules(modules::ModulesArgs),
    /// Check that a boot image is as it was built
    Verify(compare::VerifyArgs),
}

pub(crate) fn run(command: ImageCommand) -> Result<ExitCode, Failure> {
    match command {
        ImageCommand::Build(args) => build::run(*args),
        ImageCommand::Diff(args) => compare::diff(&args),
        ImageCommand::Modules(args) => modules::run(&args),
        ImageCommand::Verify(args) => compare::verify(&args),
    }
}

/// A value whose errors say what it may be.
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// `--boot-dir` was `--output` once, which is a format everywhere else.
fn directory(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("name a directory".to_owned()),
        "table" | "json" | "yaml" => Err(format!(
            "{text} is a format; for a directory of that name write ./{text}"
        )),
        path => Ok(path.into()),
    }
}
