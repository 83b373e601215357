//! How long boots take: `farrier bench boot`.
//!
//! Machines of both firmwares boot from power on to the first action, and beside them, in the same run, the
//! same kernel boots directly (`-kernel`) with an init that exits: the floor that no network boot can go below.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use image::Profile;

use super::plain;
use crate::lab::accelerator::Accelerator;
use crate::lab::command::{self, PathOptions, Prepared};
use crate::lab::display::Display;
use crate::lab::firmware::Firmware;
use crate::lab::journey::{Journey, Stage};
use crate::lab::machine::{Blueprint, Machine};
use crate::lab::namespace;
use crate::lab::table::{self, Table};
use crate::lab::world::World;

/// `farrier bench boot`.
#[derive(Clone, Debug, clap::Args)]
pub struct BootBench {
    /// Boots of each kind
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub boots: u32,
    /// Boot with this firmware only [default: both]
    #[arg(long, value_enum)]
    pub firmware: Option<Firmware>,
    /// Memory of a machine, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = command::memory_mib)]
    pub memory: u32,
    /// Install missing packages without asking
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub paths: PathOptions,
}

/// Boots, and prints the table.
///
/// # Errors
/// When a boot does not reach its first action.
pub(super) fn run(bench: BootBench) -> anyhow::Result<ExitCode> {
    thread::spawn(move || match namespace::inside() {
        true => boots(&bench, &Prepared::handed_over()?),
        false => {
            namespace::permitted()?;
            command::run_inside(&command::prepare(&bench.paths, Profile::Lab, bench.yes, false)?)
        }
    })
    .join()
    .map_err(|_| anyhow::anyhow!("the bench panicked, see above"))?
}

fn boots(bench: &BootBench, prepared: &Prepared) -> anyhow::Result<ExitCode> {
    command::end_on_ctrl_c();
    let display = Display::new();
    display.line(&format!("QEMU runs with {}", Accelerator::probe()));
    let world = World::start(&prepared.built)?;

    let mut plain = Vec::new();
    let mut directly = plain::machine(&prepared.built.boot_dir, &world.run_dir, bench.memory)?;
    for number in 1..=bench.boots {
        let took = plain::boot(&mut directly)?.took;
        display.line(&format!("plain -kernel boot {number}: {}", table::seconds(took)));
        plain.push(took);
    }
    println!("\nThe kernel directly, to its init: {}", spread(&mut plain));
    let floor = median(&mut plain);

    let both = [(1, Firmware::Bios), (2, Firmware::Uefi)];
    for (number, firmware) in both
        .into_iter()
        .filter(|(_, one)| bench.firmware.is_none_or(|only| only == *one))
    {
        let blueprint = Blueprint::numbered(number)
            .firmware(firmware)
            .memory_mib(bench.memory);
        let mut machine = world.machine(blueprint.disk(1 << 30))?;
        let runs = (0..bench.boots)
            .map(|_| to_the_first_action(&world, &mut machine, &display))
            .collect::<anyhow::Result<Vec<_>>>()
            .with_context(|| format!("booting by {firmware}"))?;
        println!(
            "\n{firmware}, boots: {}, power on to the first action:\n\n{}",
            bench.boots,
            stages(&runs)
        );
        let above = median(&mut totals(&runs)).as_secs_f64() - floor.as_secs_f64();
        println!("That is {above:.1} s more than the kernel directly.");
    }
    Ok(ExitCode::SUCCESS)
}

/// One boot; the machine is off again afterwards.
pub(super) fn to_the_first_action(
    world: &World,
    machine: &mut Machine,
    display: &Display,
) -> anyhow::Result<Vec<Stage>> {
    let template = world.api.put_template(TEMPLATE)?;
    world
        .api
        .create_workflow(&template.name, &[("device_1", machine.mac())])?;
    let mut journey = Journey::new(machine, &world.api, display, 1);
    journey.power_on()?;
    journey.netboot()?;
    journey.first_action()?;
    let stages = journey.stages;
    machine.wait_until_off(Duration::from_secs(60))?;
    machine.power_cut();
    Ok(stages)
}

/// The machine switches itself off: the workflow is over, and the next boot has one of its own.
const TEMPLATE: &str = "\
version: \"0.1\"
name: bench-boot
global_timeout: 600
tasks:
  - name: bench
    worker: \"{{.device_1}}\"
    actions:
      - name: poweroff
        image: poweroff
        timeout: 60
";

fn stages(runs: &[Vec<Stage>]) -> Table {
    let mut table = Table::new(&["stage", "median", "fastest", "slowest", "bytes"]);
    let mut row = |name: &str, mut times: Vec<Duration>, bytes: u64| {
        let middle = median(&mut times);
        let picks = [Some(&middle), times.first(), times.last()];
        let cells = picks
            .into_iter()
            .map(|time| time.map(|time| format!("{:.3} s", time.as_secs_f64())));
        let cells = cells.map(Option::unwrap_or_default);
        table.row(
            [name.to_owned()]
                .into_iter()
                .chain(cells)
                .chain([table::bytes(bytes)])
                .collect(),
        );
    };
    for (index, stage) in runs.first().into_iter().flatten().enumerate() {
        let times = runs
            .iter()
            .filter_map(|run| run.get(index))
            .map(|stage| stage.duration);
        row(&stage.name, times.collect(), stage.bytes);
    }
    row("power on to first action", totals(runs), 0);
    table
}

fn totals(runs: &[Vec<Stage>]) -> Vec<Duration> {
    runs.iter()
        .map(|run| run.iter().map(|stage| stage.duration).sum())
        .collect()
}

fn spread(times: &mut [Duration]) -> String {
    let middle = median(times);
    let seconds = |time: Option<&Duration>| time.map_or(0.0, Duration::as_secs_f64);
    format!(
        "median {:.2} s ({:.2} to {:.2} s)",
        middle.as_secs_f64(),
        seconds(times.first()),
        seconds(times.last())
    )
}

/// The middle of the times, which are sorted by this; zero of none.
fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seconds: &[u64]) -> Vec<Stage> {
        let stage = |&seconds: &u64| Stage {
            name: format!("s{seconds}"),
            duration: Duration::from_secs(seconds),
            bytes: 0,
        };
        seconds.iter().map(stage).collect()
    }

    #[test]
    fn the_table_has_the_median_and_the_spread_of_each_stage() {
        let text = stages(&[run(&[2, 9]), run(&[1, 5]), run(&[4, 6])]).to_string();
        let rows: Vec<_> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            rows[2..],
            [
                "s2 2.000 s 1.000 s 4.000 s",
                "s9 6.000 s 5.000 s 9.000 s",
                "power on to first action 10.000 s 6.000 s 11.000 s"
            ]
        );
    }
}
