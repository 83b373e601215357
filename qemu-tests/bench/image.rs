//! What a boot image costs: `farrier bench image`.
//!
//! The images of both profiles are built, or taken as they are; their manifests say the bytes of every part. Then the agent is packed
//! again as after a change, and machines boot from each image: one that stays in memory, whose kernel says what is left of it, and one
//! that runs an action. The same kernel, started directly, says what is its own.

mod figures;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use image::{Manifest, Profile};
use proto::v1::BootLogEntry;
use serde::{Deserialize, Serialize};

use self::figures::{Figures, Sizes};
use super::plain;
use crate::lab::command::{self, PathOptions, Prepared};
use crate::lab::display::Display;
use crate::lab::machine::{Blueprint, Machine};
use crate::lab::namespace;
use crate::lab::wait::{Look, wait_until};
use crate::lab::world::World;

/// `farrier bench image`.
#[derive(Clone, Debug, clap::Args)]
pub struct ImageBench {
    /// Measure this profile only: lab or server [default: both]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<Profile>,
    /// Boots of each image from power on to the first action
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub boots: u32,
    /// Memory of a machine, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = command::memory_mib)]
    pub memory: u32,
    /// Install missing packages without asking
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub paths: PathOptions,
}

/// Measures, and prints one table.
///
/// # Errors
/// When an image is not built, or a machine does not boot from it.
pub(super) fn run(bench: ImageBench) -> anyhow::Result<ExitCode> {
    thread::spawn(move || match namespace::inside() {
        true => inside(&bench),
        false => outside(&bench),
    })
    .join()
    .map_err(|_| anyhow::anyhow!("the bench panicked, see above"))?
}

/// On the host: images, and what is measured of them without a machine.
fn outside(bench: &ImageBench) -> anyhow::Result<ExitCode> {
    namespace::permitted()?;
    let profiles = match bench.profile {
        Some(only) => vec![only],
        None => vec![Profile::Lab, Profile::Server],
    };
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    let mut all = Vec::new();
    for profile in profiles {
        let prepared = command::prepare(&bench.paths, profile, bench.yes, false)?;
        let boot_dir = &prepared.built.boot_dir;
        let manifest = Manifest::read(boot_dir)?;
        let repack = command::pack_again(&bench.paths, profile, boot_dir)?;
        let scratch = tempfile::tempdir().context("making a directory for figures")?;
        let file = scratch.path().join("figures.json");
        let environment = [prepared.hand_over()?, (FIGURES, file.display().to_string())];
        let status = namespace::run(&args, &environment).context("booting in namespaces")?;
        anyhow::ensure!(
            status.success(),
            "machines did not boot from {}, see above",
            boot_dir.display()
        );
        let text = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        all.push(Figures {
            profile: manifest.profile.clone(),
            sizes: Sizes::of(&manifest),
            repack,
            boots: serde_json::from_slice(&text).context("reading the figures of the boots")?,
        });
    }
    println!("\n{}", figures::table(&all));
    println!("{}", figures::WHAT_IS_COUNTED);
    Ok(ExitCode::SUCCESS)
}

/// What boots from one image gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Boots {
    /// What the kernel has of the memory when it alone was started.
    kernel_kib: u64,
    /// The same when the agent waits for an action, all drivers loaded.
    waiting_kib: u64,
    /// What was sent to the machine until then.
    wire_bytes: u64,
    /// Of that, by the name of the file.
    wire_files: BTreeMap<String, u64>,
    /// Kernel start to the first action, the median.
    kernel_to_action: Duration,
}

/// In the namespaces: one image's machines.
fn inside(bench: &ImageBench) -> anyhow::Result<ExitCode> {
    command::end_on_ctrl_c();
    let prepared = Prepared::handed_over()?;
    let file = env::var_os(FIGURES).map(PathBuf::from);
    let file =
        file.with_context(|| format!("{FIGURES} is not set: the bench enters its namespaces itself"))?;
    let display = Display::new();
    let world = World::start(&prepared.built)?;
    let mut boots = Boots::default();

    let mut directly = plain::machine(&prepared.built.boot_dir, &world.run_dir, bench.memory)?;
    boots.kernel_kib = plain::boot(&mut directly)?.used_kib;
    let blueprint = |number| Blueprint::numbered(number).memory_mib(bench.memory).disk(1 << 30);
    let mut machine = world.machine(blueprint(1))?;
    wait_in_memory(&world, &mut machine, &mut boots)?;
    display.line(&format!(
        "{}: {} KiB of memory, of which the kernel alone has {}",
        prepared.built.boot_dir.display(),
        boots.waiting_kib,
        boots.kernel_kib
    ));
    let mut machine = world.machine(blueprint(2))?;
    let mut times = (0..bench.boots)
        .map(|_| kernel_to_action(&world, &mut machine, &display))
        .collect::<anyhow::Result<Vec<_>>>()?;
    times.sort_unstable();
    boots.kernel_to_action = times.get(times.len() / 2).copied().unwrap_or_default();
    let text = serde_json::to_vec(&boots).context("writing the figures")?;
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Boots a machine that has nothing to do, until the drivers of all that it has are loaded.
fn wait_in_memory(world: &World, machine: &mut Machine, boots: &mut Boots) -> anyhow::Result<()> {
    let record = format!(
        "machine: {}\nmac: {}\naddress: {}/24\nnetboot: agent\n",
        machine.name(),
        machine.mac(),
        machine.address()
    );
    world.api.apply_machines(&record, "bench")?;
    machine.power_on()?;
    boots.waiting_kib = wait_until("the drivers of all that the machine has", WITHIN, || {
        let said = machine.said();
        waiting_kib(&said).map_or_else(
            || Look::not_yet(said.lines().last().unwrap_or("silence")),
            Look::Done,
        )
    })?;
    // The timeline is written in batches: the last download may come to it a little later.
    boots.wire_files = wait_until(
        "the drivers that were fetched on the timeline",
        WITHIN,
        || match world.api.boot_log(machine.mac()) {
            Ok(entries) => {
                let files = by_file(&entries);
                match files.contains_key(FETCHED) {
                    true => Look::Done(files),
                    false => Look::not_yet(format!("{files:?}")),
                }
            }
            Err(error) => Look::not_yet(format!("{error:#}")),
        },
    )?;
    boots.wire_bytes = boots.wire_files.values().sum();
    machine.power_cut();
    Ok(())
}

/// Bytes that were sent, by the last part of what was asked for: a file's name, or a kind of packet.
fn by_file(entries: &[BootLogEntry]) -> BTreeMap<String, u64> {
    let mut files = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.bytes > 0) {
        let name = entry.what.rsplit(['/', ' ']).next().unwrap_or_default();
        *files.entry(name.to_owned()).or_default() += entry.bytes;
    }
    files
}

/// `total_kib` less `available_kib` of the agent's line, once all of it has come.
fn waiting_kib(said: &str) -> Option<u64> {
    let mut lines = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let line = lines.find(|line| line.contains("farrier: stage=drivers"))?;
    let kib = |name: &str| -> Option<u64> {
        let mut words = line.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.parse().ok())
    };
    kib("total_kib=")?.checked_sub(kib("available_kib=")?)
}

/// One boot to an action that switches the machine off.
fn kernel_to_action(world: &World, machine: &mut Machine, display: &Display) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let stages = super::boot::to_the_first_action(world, machine, display)?;
    let of_the_kernel = stages
        .iter()
        .skip_while(|stage| stage.name != "kernel start")
        .map(|stage| stage.duration);
    let sum: Duration = of_the_kernel.sum();
    anyhow::ensure!(
        Duration::ZERO < sum && sum < began.elapsed(),
        "no kernel start among {stages:?}"
    );
    Ok(sum)
}

/// Where the process inside leaves its figures.
const FIGURES: &str = "FARRIER_BENCH_FIGURES";
/// What the agent fetches modules out of.
const FETCHED: &str = "modules.cpio";
const WITHIN: Duration = Duration::from_secs(180);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_by_the_file_that_was_sent() {
        let entry = |what: &str, bytes| BootLogEntry {
            what: what.to_owned(),
            bytes,
            ..Default::default()
        };
        let entries = [
            entry("DISCOVER", 300),
            entry("GET /boot/modules.cpio", 40_000),
            entry("GET /boot/modules.cpio", 2_000),
            entry("GET /boot/vmlinuz", 0),
            entry("RRQ snponly.efi", 7),
        ];
        let expected = [("DISCOVER", 300), ("modules.cpio", 42_000), ("snponly.efi", 7)];
        assert_eq!(
            by_file(&entries),
            expected.map(|(name, bytes)| (name.to_owned(), bytes)).into()
        );
    }

    #[test]
    fn memory_is_read_from_the_agents_line() {
        let said = "[ 4.1] x\r\nfarrier: stage=drivers uptime=4.2 loaded=9 fetched=2 total_kib=480000 available_kib=410000\r\n";
        assert_eq!(waiting_kib(said), Some(70_000));
        assert_eq!(waiting_kib(said.trim_end()), None, "the line may go on");
        assert_eq!(
            waiting_kib("farrier: stage=attached uptime=4.2 machine=m1\n"),
            None
        );
        assert_eq!(
            waiting_kib("farrier: stage=drivers total_kib=7 available_kib=8\n"),
            None
        );
    }
}
