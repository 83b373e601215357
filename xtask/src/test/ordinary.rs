//! The parts that CI runs.

use std::process::{Command, Stdio};
use std::time::Instant;

use super::choice::Choice;
use super::parts::Length;
use super::tally::Tally;
use crate::fuzz::{self, Depth};
use crate::{Outcome, build};

pub(super) fn formatting(_: &Choice, tally: &mut Tally) {
    tally.step("formatting", || build::cargo(&["fmt", "--all", "--check"], &[]));
}

pub(super) fn clippy(_: &Choice, tally: &mut Tally) {
    const STRICT: [&str; 3] = ["--", "-D", "warnings"];
    tally.step("clippy", || {
        let all = ["clippy", "--workspace", "--all-targets"];
        build::cargo(&[&all[..], &STRICT].concat(), &[])?;
        // Left out of `--all-targets`, because only this command runs it.
        let e2e = ["clippy", "--package", "qemu-tests", "--test", "e2e"];
        build::cargo(&[&e2e[..], &STRICT].concat(), &[])
    });
}

pub(super) fn documentation(_: &Choice, tally: &mut Tally) {
    tally.step("documentation", || {
        build::cargo(
            &[
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
                "--quiet",
            ],
            &[("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")],
        )
    });
}

pub(super) fn tests(_: &Choice, tally: &mut Tally) {
    tally.tests(
        "unit and integration tests",
        build::cargo_command(&["test", "--workspace", "--no-fail-fast"]),
    );
}

/// Every target for a while. Two run at a time, as most machines have two cores.
pub(super) fn fuzz(choice: &Choice, tally: &mut Tally) {
    let (depth, seconds) = match choice.length {
        Length::Ordinary => (Depth::Quick, 5),
        Length::All => (Depth::Deep, 60),
    };
    let mut fuzzer = None;
    tally.step("fuzz targets are built", || {
        fuzzer = Some(fuzz::build(depth)?);
        Ok(())
    });
    let Some(fuzzer) = fuzzer else { return };
    let targets = match fuzz::targets() {
        Ok(targets) => choice.steps(targets),
        Err(message) => return tally.step("fuzz targets", || Err(message)),
    };
    if targets.is_empty() {
        return tally.step("fuzz targets", || Err("no target is left to run".to_owned()));
    }
    let started = Instant::now();
    println!("\n=== fuzz targets, {seconds} s each");
    let mut outcomes = Vec::new();
    for pair in targets.chunks(2) {
        let run = |(number, name): &(usize, String)| {
            let outcome = fuzzer.try_for(name, seconds);
            match &outcome {
                Ok(inputs) => println!("{number:>3} {name}: {inputs} inputs"),
                Err(message) => println!("{number:>3} {name}: FAILED: {message}"),
            }
            outcome.map(|_| ())
        };
        std::thread::scope(|scope| {
            let running: Vec<_> = pair
                .iter()
                .map(|target| scope.spawn(move || run(target)))
                .collect();
            outcomes.extend(running.into_iter().map(|run| {
                run.join()
                    .unwrap_or_else(|_| Err("its thread panicked".to_owned()))
            }));
        });
    }
    tally.count(&format!("fuzz targets, {seconds} s each"), &outcomes, started);
}

pub(super) fn end_to_end(choice: &Choice, tally: &mut Tally) {
    let Some(lab) = Lab::prepared(choice, tally) else {
        return;
    };
    let mut command = lab.tests();
    command.args(["--", "--test-threads", "2", "--skip", LONG]);
    if choice.from > 1 {
        match lab.names() {
            Ok(mut names) => {
                names.retain(|name| !name.starts_with(LONG));
                let names = choice.steps(names);
                if names.is_empty() {
                    return tally.step("end-to-end tests", || Err("no test is left to run".to_owned()));
                }
                command
                    .arg("--exact")
                    .args(names.into_iter().map(|(_, name)| name));
            }
            Err(message) => return tally.step("end-to-end tests", || Err(message)),
        }
    } else {
        command.args(&choice.filter);
    }
    tally.tests("end-to-end tests", command);
}

/// What the names of end-to-end tests begin with that only `--all` runs.
pub(super) const LONG: &str = "long::";

/// The binaries and images that end-to-end tests and benches need.
pub(super) struct Lab {
    binaries: build::Binaries,
}

impl Lab {
    /// Builds and prepares; `None`: that failed, and was counted.
    pub(super) fn prepared(choice: &Choice, tally: &mut Tally) -> Option<Lab> {
        let mut binaries = None;
        tally.step("binaries", || {
            // What `cargo test` has built is whole, and minutes are short; what people run is tried by --all.
            let profile = match choice.length {
                Length::Ordinary => build::Profile::Dev,
                Length::All => build::Profile::Release,
            };
            binaries = Some(build::binaries(profile)?);
            Ok(())
        });
        let lab = Lab { binaries: binaries? };
        let mut prepared = false;
        tally.step("packages, boot image and disk image", || {
            let mut prepare = lab.farrier();
            prepare
                .args(["lab", "prepare", "--profile", "lab", "--profile", "server"])
                .args(choice.assume_yes.then_some("--yes"));
            succeed(&mut prepare, "farrier lab prepare")?;
            prepared = true;
            Ok(())
        });
        prepared.then_some(lab)
    }

    /// `farrier`, with what the lab needs in its environment.
    pub(super) fn farrier(&self) -> Command {
        self.with_environment(Command::new(&self.binaries.farrier))
    }

    /// All end-to-end tests, as cargo runs them.
    pub(super) fn tests(&self) -> Command {
        let arguments = [
            "test",
            "--package",
            "qemu-tests",
            "--test",
            "e2e",
            "--no-fail-fast",
        ];
        self.with_environment(build::cargo_command(&arguments))
    }

    /// Of the tests, in order.
    ///
    /// # Errors
    /// They could not be built or listed.
    pub(super) fn names(&self) -> Outcome<Vec<String>> {
        let mut list = self.tests();
        list.args(["--", "--list", "--format", "terse"])
            .stderr(Stdio::inherit());
        let output = list
            .output()
            .map_err(|error| format!("listing the tests: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut names: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .map(str::to_owned)
            .collect();
        names.sort();
        Ok(names)
    }

    fn with_environment(&self, mut command: Command) -> Command {
        command
            .env("FARRIER_BIN", &self.binaries.farrier)
            .env("FARRIER_AGENT", &self.binaries.agent)
            .env("FARRIER_LAB_DIR", build::lab_directory());
        command
    }
}

/// Runs a command to its end.
pub(super) fn succeed(command: &mut Command, name: &str) -> Outcome<()> {
    let status = command
        .status()
        .map_err(|error| format!("running {name}: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{name} failed ({status})")),
    }
}
