//! How long boots take: `farrier bench boot`.

use std::path::PathBuf;
use std::process::ExitCode;

/// The hidden `farrier bench boot`.
#[derive(Clone, Debug, clap::Args)]
pub struct BootBench {
    /// Boots of each firmware.
    #[arg(long, default_value_t = 5)]
    pub boots: u32,
    /// What `farrier image build` made.
    #[arg(long, value_name = "DIR")]
    pub boot_dir: Option<PathBuf>,
    /// The static agent, when the boot image has to be built.
    #[arg(long, value_name = "FILE")]
    pub agent: Option<PathBuf>,
}

/// Boots machines and prints how long each stage took.
///
/// # Errors
/// When a boot does not reach its first action.
pub fn boot(_bench: BootBench) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the boot bench has no lab to run in yet")
}
