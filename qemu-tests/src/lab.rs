//! `farrier lab`: one command netboots machines into the agent, which installs Debian on them.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::firmware::Firmware;

/// Options of `farrier lab`.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LabArgs {
    #[command(subcommand)]
    command: Option<LabCommand>,
    #[command(flatten)]
    options: LabOptions,
}

/// What else `farrier lab` does.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum LabCommand {
    /// Open a shell in the network of a lab that runs (see --keep)
    Enter,
}

/// How the lab is run.
#[derive(Clone, Debug, clap::Args)]
pub struct LabOptions {
    /// Firmware of the machines
    #[arg(long, value_enum, default_value_t)]
    pub firmware: Firmware,
    /// How many machines are installed at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub machines: u8,
    /// Memory of a machine, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub memory: u32,
    /// Size of a machine's empty disk, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 4)]
    pub disk_size: u32,
    /// Leave it running when all is done, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Run this template instead of the lab's own; the machine is {{.device_1}}
    #[arg(long, value_name = "FILE")]
    pub workflow: Option<PathBuf>,
    /// Show the first machine's serial line instead of progress, and type on it
    #[arg(long)]
    pub console: bool,
    /// Install missing packages without asking
    #[arg(long)]
    pub yes: bool,
    /// The static farrier-agent [default: beside farrier, then /usr/lib/farrier]
    #[arg(long, value_name = "FILE", env = "FARRIER_AGENT")]
    pub agent: Option<PathBuf>,
    /// Use this boot image directory instead of building one
    #[arg(long, value_name = "DIR", env = "FARRIER_BOOT_DIR")]
    pub boot_dir: Option<PathBuf>,
    /// Install this disk image (.img.zst) instead of building a Debian 12
    #[arg(long, value_name = "FILE", env = "FARRIER_DISK_IMAGE")]
    pub disk_image: Option<PathBuf>,
    /// Where images are built and kept [default: ~/.cache/farrier]
    #[arg(long, value_name = "DIR", env = "FARRIER_LAB_DIR")]
    pub work_dir: Option<PathBuf>,
}

/// Runs `farrier lab`. The exit code is 0 only when everything was seen to happen.
///
/// # Errors
/// Which stage failed, and where its evidence is.
pub fn run(args: LabArgs) -> anyhow::Result<ExitCode> {
    let _ = args;
    anyhow::bail!("the lab is not put together yet")
}
