//! `farrier lab`: one command netboots machines into the agent, which installs Debian on them.
//!
//! Outside the namespaces it installs packages and builds images ([`prepare()`]); then this same command is run
//! again inside namespaces of its own ([`install`]), where the server and the machines are.

mod console;
mod enter;
mod install;
mod places;
mod prepare;
mod signals;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, thread};

use anyhow::Context;
use image::Profile;
use image::apt::Suite;

pub(crate) use prepare::pack_again;
pub use prepare::{Prepared, prepare};

use crate::lab::devices::{self, DiskController, Nic};
use crate::lab::firmware::Firmware;
use crate::lab::namespace;

/// `farrier lab`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  farrier lab
  farrier lab --firmware uefi --machines 3
  farrier lab --nic e1000e --disk-controller ahci
  farrier lab --suite bookworm  Debian 12 is netbooted and installed
  farrier lab --keep            then, in another terminal: farrier lab enter
  farrier lab --workflow mine.yaml --memory 256"
)]
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
    #[command(after_help = "\
Examples:
  farrier lab enter
  farrier lab enter farrier machine list
  farrier lab enter ping -c 1 10.77.0.11

The shell finds this farrier, and FARRIER_SERVER is the lab's server.")]
    Enter(EnterOptions),
    /// Install the packages that the lab needs and build its images, nothing else
    #[command(after_help = "\
Examples:
  farrier lab prepare
  farrier lab prepare --profile lab --profile server
  farrier lab prepare --yes --mirror http://mirror.example/debian")]
    Prepare(PrepareOptions),
}

/// What `farrier lab prepare` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct PrepareOptions {
    /// Profile of the boot image: lab or server; may be given more than once
    #[arg(long = "profile", value_name = "NAME", default_value = "lab")]
    pub profiles: Vec<Profile>,
    /// Install missing packages without asking
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub paths: PathOptions,
}

/// Which lab to enter, and what to run there.
#[derive(Clone, Debug, clap::Args)]
pub struct EnterOptions {
    /// Process id of the lab, where several run
    #[arg(long)]
    pub pid: Option<i32>,
    /// Run this instead of a shell
    #[arg(trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

/// How the lab is run.
#[derive(Clone, Debug, clap::Args)]
pub struct LabOptions {
    /// Firmware of the machines
    #[arg(long, value_enum, default_value_t)]
    pub firmware: Firmware,
    /// Network card of the machines
    #[arg(long, value_enum, default_value_t)]
    pub nic: Nic,
    /// What the machines' disks hang on
    #[arg(long, value_enum, default_value_t)]
    pub disk_controller: DiskController,
    /// How many machines are installed at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub machines: u8,
    /// Memory of a machine, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = memory_mib)]
    pub memory: u32,
    /// Size of a machine's empty disk, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 4)]
    pub disk_size: u32,
    /// Leave it running when all is done, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Run this template instead of the lab's own; {{.device_1}} is the machine's MAC
    #[arg(long, value_name = "FILE")]
    pub workflow: Option<PathBuf>,
    /// Show the first machine's serial line instead of progress, and type on it (Ctrl-] ends)
    #[arg(long)]
    pub console: bool,
    /// Install missing packages without asking
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub paths: PathOptions,
}

/// Where things are that the lab needs.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PathOptions {
    /// The static farrier-agent [default: beside farrier, then /usr/lib/farrier/farrier-agent]
    #[arg(long, value_name = "FILE", env = "FARRIER_AGENT")]
    pub agent: Option<PathBuf>,
    /// A boot image directory [default: /usr/lib/farrier/boot, else built]
    #[arg(long, value_name = "DIR", env = "FARRIER_LAB_BOOT_DIR")]
    pub boot_dir: Option<PathBuf>,
    /// A disk image to install (.zst) instead of the lab's own Debian
    #[arg(long, value_name = "FILE", env = "FARRIER_DISK_IMAGE")]
    pub disk_image: Option<PathBuf>,
    /// Suite of Debian that is netbooted and installed: a code name such as trixie or bookworm
    #[arg(long, value_name = "SUITE", default_value_t)]
    pub suite: Suite,
    /// The Debian mirror that images are built from [default: the host's, else the public one]
    #[arg(long, value_name = "URL", env = "FARRIER_MIRROR", hide_env_values = true)]
    pub mirror: Option<String>,
    /// Where images are built and kept [default: ~/.cache/farrier]
    #[arg(long, value_name = "DIR", env = "FARRIER_LAB_DIR")]
    pub work_dir: Option<PathBuf>,
}

/// Reads the memory of a machine: enough for the agent, and for the Debian that it installs to come up. Measured: with
/// 192 MiB (and 128 on BIOS) the agent boots and installs, and Debian does not come up.
pub(crate) fn memory_mib(text: &str) -> Result<u32, String> {
    const LEAST: u64 = 256;
    const MOST: u64 = 1 << 20;
    match text.parse::<u64>() {
        Ok(mib) if mib < LEAST => Err(format!(
            "a machine needs at least {LEAST} MiB: with less the agent installs Debian, which then does not come up"
        )),
        Ok(mib) => u32::try_from(mib)
            .ok()
            .filter(|&mib| u64::from(mib) <= MOST)
            .ok_or_else(|| format!("a machine has at most {MOST} MiB here")),
        Err(_) => Err("give a number of MiB, such as 1024".to_owned()),
    }
}

/// Runs `farrier lab`. The exit code is 0 only when everything was seen to happen.
///
/// Must be called from `farrier lab …` itself: the same command line is run again inside the namespaces.
///
/// # Errors
/// Which stage failed, and where its evidence is.
pub fn run(args: LabArgs) -> anyhow::Result<ExitCode> {
    // The caller may be asynchronous; the lab blocks, and its API client has a runtime of its own.
    thread::spawn(move || match args.command {
        Some(LabCommand::Enter(options)) => enter::enter(&options),
        Some(LabCommand::Prepare(options)) => {
            for profile in options.profiles {
                let prepared = prepare(&options.paths, profile, options.yes, true)?;
                println!("The boot image is in {}", prepared.built.boot_dir.display());
                println!("Disk images are in {}", prepared.built.images_dir.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        None => lab(&args.options),
    })
    .join()
    .map_err(|_| anyhow::anyhow!("the lab panicked, see above"))?
}

fn lab(options: &LabOptions) -> anyhow::Result<ExitCode> {
    if namespace::inside() {
        signals::end_on_ctrl_c(130);
        return install::install(options, &Prepared::handed_over()?);
    }
    let profile = devices::profile_for(options.nic, options.disk_controller);
    enough_for(options.firmware, profile, options.memory)?;
    devices::bootable(options.disk_controller, options.firmware)?;
    namespace::permitted()?;
    let prepared = prepare(&options.paths, profile, options.yes, options.workflow.is_none())?;
    run_inside(&prepared)
}

/// OVMF keeps more to itself than SeaBIOS. Measured: with 256 MiB the agent boots and installs under OVMF, and Debian does
/// not come up; with 320 MiB it does.
fn enough_for(firmware: Firmware, profile: Profile, memory_mib: u32) -> anyhow::Result<()> {
    const LEAST_UEFI: u32 = 320;
    const LEAST_SERVER: u32 = 512;
    anyhow::ensure!(
        profile != Profile::Server || memory_mib >= LEAST_SERVER,
        "a machine with this network card or disk controller boots the image of physical servers, which needs at least \
         {LEAST_SERVER} MiB, not {memory_mib} (--memory)"
    );
    anyhow::ensure!(
        firmware != Firmware::Uefi || memory_mib >= LEAST_UEFI,
        "a UEFI machine needs at least {LEAST_UEFI} MiB, not {memory_mib}: with less the agent installs Debian, which then \
         does not come up (--memory)"
    );
    Ok(())
}

/// Runs this command again inside namespaces, hands `prepared` over, and gives the terminal back as it was.
pub(crate) fn run_inside(prepared: &Prepared) -> anyhow::Result<ExitCode> {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    let terminal = console::Terminal::remember();
    let status = namespace::run(&args, &[prepared.hand_over()?]).context("running the lab in its namespaces");
    terminal.restore();
    Ok(ExitCode::from(
        status?
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1),
    ))
}

/// From now on Ctrl-C ends this process, and with it everything in its namespaces.
pub(crate) fn end_on_ctrl_c() {
    signals::end_on_ctrl_c(130);
}
