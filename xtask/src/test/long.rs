//! The parts that only `--all` has. Each is a row of steps that stand alone, so that a run that broke off goes on.

use std::process::Command;

use super::choice::Choice;
use super::ordinary::{LONG, Lab, succeed};
use super::tally::Tally;
use crate::build;

const SEEDS_OF_A_STEP: usize = 500;
const PLANS_OF_A_STEP: usize = 2_000;
const KILLS_OF_A_STEP: usize = 400;

/// Each step has seeds of its own, the same in every run.
pub(super) fn simulation(choice: &Choice, tally: &mut Tally) {
    let mut is_built = false;
    tally.step("simulation is built", || {
        build::cargo(&["build", "--release", "--package", "simulation"], &[])?;
        is_built = true;
        Ok(())
    });
    if !is_built {
        return;
    }
    rows(choice, tally, 20, |step| {
        let first = (step - 1) * SEEDS_OF_A_STEP + 1;
        let mut command = Command::new(build::target_directory().join("release/simulation"));
        command.args([
            "--seed",
            &first.to_string(),
            "--seeds",
            &SEEDS_OF_A_STEP.to_string(),
        ]);
        (
            format!("simulation, {SEEDS_OF_A_STEP} seeds from {first} on"),
            command,
        )
    });
}

/// Plans are made by chance: each run has others, and one that fails is kept by proptest.
pub(super) fn model(choice: &Choice, tally: &mut Tally) {
    rows(choice, tally, 10, |_| {
        let mut command = build::cargo_command(&[
            "test",
            "--release",
            "--package",
            "workflow",
            "--test",
            "reference_model",
        ]);
        command.env("PROPTEST_CASES", PLANS_OF_A_STEP.to_string());
        (format!("reference model, {PLANS_OF_A_STEP} plans"), command)
    });
}

/// Where a server is hit differs from run to run.
pub(super) fn kills(choice: &Choice, tally: &mut Tally) {
    rows(choice, tally, 5, |_| {
        let mut command = build::cargo_command(&["test", "--package", "farrier", "--test", "killed"]);
        command.env("FARRIER_KILLS", KILLS_OF_A_STEP.to_string());
        (format!("a server under load, {KILLS_OF_A_STEP} kills"), command)
    });
}

/// As small as they go.
pub(super) fn benches(choice: &Choice, tally: &mut Tally) {
    let Some(lab) = Lab::prepared(choice, tally) else {
        return;
    };
    let yes = choice.assume_yes.then_some("--yes");
    rows(choice, tally, 5, |step| match step {
        1 => {
            let mut bench = lab.farrier();
            bench.args(["bench", "workflows", "--agents", "16", "--workflows", "4"]);
            bench.args(["--idle", "200", "--finished", "100"]);
            ("bench workflows".to_owned(), bench)
        }
        2 => {
            let mut bench = lab.farrier();
            bench.args(["bench", "boot", "--boots", "1"]).args(yes);
            ("bench boot".to_owned(), bench)
        }
        3 => {
            let mut bench = lab.farrier();
            bench.args(["bench", "image", "--boots", "1"]).args(yes);
            ("bench image".to_owned(), bench)
        }
        4 => {
            let mut bench = build::cargo_command(&["xtask", "bench", "containers", "--mib", "16"]);
            bench.args(["--rounds", "1", "--starts", "3"]).args(yes);
            ("bench containers".to_owned(), bench)
        }
        _ => {
            let mut bench = build::cargo_command(&["xtask", "bench", "disk", "--mib", "64", "--rounds", "1"]);
            bench.args(yes);
            ("bench disk".to_owned(), bench)
        }
    });
}

/// Machines of other cards and kernels than the usual ones: an end-to-end test each.
pub(super) fn machines(choice: &Choice, tally: &mut Tally) {
    let Some(lab) = Lab::prepared(choice, tally) else {
        return;
    };
    let mut agent = None;
    tally.step("agent with the client of containerd", || {
        agent = Some(build::agent_with_containerd()?);
        Ok(())
    });
    let Some(agent) = agent else { return };
    let names = match lab.names() {
        Ok(names) => names.into_iter().filter(|name| name.starts_with(LONG)),
        Err(message) => return tally.step("tests of machines", || Err(message)),
    };
    let names: Vec<String> = names.collect();
    rows(choice, tally, names.len(), |step| {
        let name = names.get(step - 1).cloned().unwrap_or_default();
        let mut command = lab.tests();
        command.args(["--", "--exact", &name]);
        command.env("FARRIER_AGENT_WITH_CONTAINERD", &agent);
        (name, command)
    });
}

/// The steps from the first that was asked for on.
fn rows(choice: &Choice, tally: &mut Tally, steps: usize, command: impl Fn(usize) -> (String, Command)) {
    if choice.from > steps {
        return tally.step("steps", || {
            Err(format!("there are {steps}, none from {} on", choice.from))
        });
    }
    for step in choice.from..=steps {
        let (name, mut command) = command(step);
        tally.step(&format!("step {step} of {steps}: {name}"), || {
            succeed(&mut command, &name)
        });
    }
}
