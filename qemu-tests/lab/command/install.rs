//! Inside the namespaces: the server, the machines, and each machine's way to a login.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use proto::v1::Workflow;

use super::prepare::{DiskImage, Prepared};
use super::{LabOptions, console, signals};
use crate::lab::accelerator::Accelerator;
use crate::lab::artifacts::Artifacts;
use crate::lab::devices::{DiskController, Nic};
use crate::lab::display::Display;
use crate::lab::documents::{self, ServedImage};
use crate::lab::journey::{Journey, Stage};
use crate::lab::machine::{Blueprint, Machine};
use crate::lab::network::Network;
use crate::lab::server::Server;
use crate::lab::table::{self, Table};
use crate::lab::wait::Look;
use crate::lab::world::World;

/// Runs the lab and shows its table.
pub(super) fn install(options: &LabOptions, prepared: &Prepared) -> anyhow::Result<ExitCode> {
    let mut display = if options.console {
        Display::silent()
    } else {
        Display::new()
    };
    display.line(&format!("QEMU runs with {}", Accelerator::probe()));
    let world = World::start(&prepared.built)?;
    display.line(&format!("farrier serve is ready on {}", Network::SERVER));
    let mut machines = (1..=options.machines)
        .map(|number| {
            world.machine(
                Blueprint::numbered(number)
                    .firmware(options.firmware)
                    .nics_are(options.nic)
                    .disks_are_on(options.disk_controller)
                    .memory_mib(options.memory)
                    .cpus(cpus_each(options.machines))
                    .disk(u64::from(options.disk_size) << 30),
            )
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let workflows = machines
        .iter()
        .map(|machine| workflow(options, prepared, &world, machine))
        .collect::<anyhow::Result<Vec<_>>>()?;

    display.restart_clock();
    let results: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = machines
            .iter_mut()
            .zip(&workflows)
            .enumerate()
            .map(|(index, (machine, workflow))| {
                let (world, display) = (&world, &display);
                scope.spawn(move || {
                    let shows_console = options.console && index == 0;
                    travel(
                        options,
                        prepared,
                        world,
                        display,
                        machine,
                        workflow,
                        shows_console,
                    )
                })
            })
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("panicked")).flatten())
            .collect()
    });
    let failures: Vec<_> = machines
        .iter()
        .zip(&results)
        .filter_map(|(machine, result)| Some((machine, result.as_ref().err()?)))
        .collect();
    for (machine, error) in &failures {
        eprintln!(
            "\nmachine {}: {error:#}\nThe last lines of its serial line:",
            machine.name()
        );
        for line in machine.serial().last_lines(20) {
            eprintln!("  {line}");
        }
    }
    if !failures.is_empty() {
        keep_evidence(prepared, options, &world, &failures)?;
    }
    let journeys: Vec<_> = results.iter().flatten().collect();
    if !journeys.is_empty() {
        println!("\n{}", summary(&prepared.stages, &journeys));
    }
    let done = failures.is_empty();
    if done {
        println!("{}", verdict(options));
    }
    if options.keep {
        stay(&world, &machines, options, if done { 0 } else { 1 });
    }
    Ok(if done {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Two where the host has them to give: Debian starts and images are written in two thirds of the time.
fn cpus_each(machines: u8) -> u32 {
    let host = thread::available_parallelism().map_or(1, usize::from);
    if host / usize::from(machines.max(1)) >= 2 {
        2
    } else {
        1
    }
}

/// Stores the machine's template and creates its workflow.
fn workflow(
    options: &LabOptions,
    prepared: &Prepared,
    world: &World,
    machine: &Machine,
) -> anyhow::Result<Workflow> {
    let template = match (&options.workflow, &prepared.disk_image) {
        (Some(file), _) => std::fs::read_to_string(file)
            .with_context(|| format!("reading the template {} (--workflow)", file.display()))?,
        (None, Some(image)) => documents::install_debian(
            &format!("debian-{}", machine.name()),
            machine.name(),
            machine.mac(),
            machine.address(),
            &machine.disk_device(),
            &ServedImage {
                file: &image.file,
                sha256: &image.sha256,
            },
            world.key.public(),
        ),
        (None, None) => anyhow::bail!("there is no disk image to install"),
    };
    let template = world
        .api
        .put_template(&template)
        .context("storing the template")?;
    world
        .api
        .create_workflow(&template.name, &[("device_1", machine.mac())])
        .context("creating the workflow")
}

/// One machine, from power on to a checked login (or to the end of the person's own workflow).
fn travel(
    options: &LabOptions,
    prepared: &Prepared,
    world: &World,
    display: &Display,
    machine: &mut Machine,
    workflow: &Workflow,
    shows_console: bool,
) -> anyhow::Result<Vec<Stage>> {
    // Two machines under TCG keep two processors busy; more than that share them.
    let patience = u32::from(options.machines).div_ceil(2);
    let mut journey = Journey::new(machine, &world.api, display, patience);
    journey.power_on()?;
    if shows_console {
        console::attach(&journey.machine.serial_socket())?;
    }
    journey.netboot()?;
    journey.run_workflow(&workflow.id)?;
    if options.workflow.is_none() {
        journey.boot_from_disk()?;
        log_in(
            &mut journey,
            world,
            prepared.disk_image.as_ref(),
            u64::from(options.disk_size) << 30,
        )?;
    }
    Ok(journey.stages)
}

/// Over SSH: the name that the workflow wrote, and a root filesystem that has grown over the image's size.
fn log_in(
    journey: &mut Journey<'_>,
    world: &World,
    image: Option<&DiskImage>,
    disk_bytes: u64,
) -> anyhow::Result<()> {
    let (key, image_bytes) = (&world.key, image.map_or(0, |image| image.raw_bytes));
    journey.until("SSH login and hostname", 180, |machine| {
        match key.run(machine.address(), "hostname && df --block-size=1 --output=size /") {
            Err(error) => Look::not_yet(format!("{error:#}")),
            Ok(said) => match check_login(&said, machine.name(), image_bytes, disk_bytes) {
                Ok(()) => Look::Done(0),
                Err(why) => Look::never(why),
            },
        }
    })
}

fn check_login(said: &str, name: &str, image_bytes: u64, disk_bytes: u64) -> Result<(), String> {
    let mut lines = said.lines();
    let hostname = lines.next().unwrap_or_default();
    if hostname != name {
        return Err(format!(
            "the machine that answers is called {hostname:?}, expected {name:?}"
        ));
    }
    let root: u64 = lines
        .last()
        .and_then(|size| size.trim().parse().ok())
        .unwrap_or(0);
    // Metadata of ext4 takes some percent.
    if root <= image_bytes || root < disk_bytes / 10 * 8 {
        return Err(format!(
            "the root filesystem has {root} B on a disk of {disk_bytes} B: it was not grown"
        ));
    }
    Ok(())
}

fn keep_evidence(
    prepared: &Prepared,
    options: &LabOptions,
    world: &World,
    failures: &[(&Machine, &anyhow::Error)],
) -> anyhow::Result<()> {
    let name = options.firmware.to_string().to_lowercase();
    let artifacts = Artifacts::create(&prepared.artifacts, &name)?;
    artifacts.keep(world.server.log(), "serve.log");
    artifacts.keep_boot_log(&world.api, "");
    for (machine, _) in failures {
        artifacts.keep_machine(machine);
        artifacts.keep_boot_log(&world.api, machine.name());
    }
    eprintln!(
        "\nSerial log, boot timeline, packets and the server's log are in {}",
        artifacts.path().display()
    );
    Ok(())
}

/// The table: what was built, then the stages; with several machines the fastest, median and slowest of each.
fn summary(built: &[(String, f64, u64)], journeys: &[&Vec<Stage>]) -> Table {
    let one = journeys.len() == 1;
    let mut table = match one {
        true => Table::new(&["stage", "duration", "bytes"]),
        false => Table::new(&["stage", "fastest", "median", "slowest", "bytes each"]),
    };
    let mut row = |name: &str, mut durations: Vec<Duration>, bytes: u64| {
        durations.sort_unstable();
        let picks = match one {
            true => vec![durations.len() / 2],
            false => vec![0, durations.len() / 2, durations.len() - 1],
        };
        let times = picks
            .into_iter()
            .filter_map(|pick| durations.get(pick))
            .map(|&time| table::seconds(time));
        table.row(
            [name.to_owned()]
                .into_iter()
                .chain(times)
                .chain([table::bytes(bytes)])
                .collect(),
        );
    };
    for (name, seconds, bytes) in built {
        row(
            name,
            vec![Duration::from_secs_f64(*seconds); journeys.len()],
            *bytes,
        );
    }
    let longest = journeys.iter().max_by_key(|stages| stages.len());
    for (index, stage) in longest.iter().flat_map(|stages| stages.iter().enumerate()) {
        let durations = journeys
            .iter()
            .filter_map(|stages| stages.get(index))
            .map(|stage| stage.duration);
        row(&stage.name, durations.collect(), stage.bytes);
    }
    let totals = journeys
        .iter()
        .map(|stages| stages.iter().map(|stage| stage.duration).sum())
        .collect();
    row("power on to the end", totals, 0);
    table
}

fn verdict(options: &LabOptions) -> String {
    let machines = match options.machines {
        1 => "The machine".to_owned(),
        several => format!("The {several} machines"),
    };
    let mut how = options.firmware.to_string();
    if options.nic != Nic::default() {
        how += &format!(", NIC {}", options.nic);
    }
    if options.disk_controller != DiskController::default() {
        how += &format!(", disk on {}", options.disk_controller);
    }
    match options.workflow {
        Some(_) => format!("{machines} netbooted ({how}) and ran the workflow to SUCCESS."),
        None => format!(
            "{machines} netbooted ({how}), installed Debian, booted it from disk and answered over SSH."
        ),
    }
}

/// Shows how to reach what runs, and stays until Ctrl-C (which a console passes on to the machine).
fn stay(world: &World, machines: &[Machine], options: &LabOptions, status: i32) -> ! {
    let key = if options.console { "Ctrl-]" } else { "Ctrl-C" };
    println!("\nLeft running until {key}. `farrier lab enter` opens a shell in its network, where");
    println!("  the server is {} (HTTP {}), and", Server::API, Server::HTTP);
    for machine in machines {
        println!(
            "  {} is {}: {}",
            machine.name(),
            machine.mac(),
            world.key.command(machine.address())
        );
    }
    signals::end_on_ctrl_c(status);
    loop {
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &str, seconds: u64, bytes: u64) -> Stage {
        Stage {
            name: name.to_owned(),
            duration: Duration::from_secs(seconds),
            bytes,
        }
    }

    #[test]
    fn one_machine_gives_one_column_of_times() {
        let journey = vec![stage("firmware", 2, 0), stage("write-image", 8, 122_000_000)];
        let text = summary(&[("boot image".to_owned(), 3.0, 0)], &[&journey]).to_string();
        let rows: Vec<_> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            rows[2..],
            [
                "boot image 3.0 s",
                "firmware 2.0 s",
                "write-image 8.0 s 122.0 MB",
                "power on to the end 10.0 s"
            ]
        );
    }

    #[test]
    fn several_machines_give_the_spread() {
        let journeys = [
            vec![stage("firmware", 3, 0)],
            vec![stage("firmware", 2, 0)],
            vec![stage("firmware", 7, 0)],
        ];
        let text = summary(&[], &journeys.iter().collect::<Vec<_>>()).to_string();
        let row = text
            .lines()
            .nth(2)
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert_eq!(row, "firmware 2.0 s 3.0 s 7.0 s");
    }

    #[test]
    fn a_login_on_another_machine_or_a_root_that_did_not_grow_is_refused() {
        let disk = 4 << 30;
        assert!(check_login("m1\n 1B-blocks\n4100000000\n", "m1", 1 << 30, disk).is_ok());
        assert!(
            check_login("debian\n 1B-blocks\n4100000000\n", "m1", 1 << 30, disk)
                .unwrap_err()
                .contains("debian")
        );
        assert!(
            check_login("m1\n 1B-blocks\n900000000\n", "m1", 1 << 30, disk)
                .unwrap_err()
                .contains("not grown")
        );
    }
}
