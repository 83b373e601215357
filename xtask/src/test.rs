//! `cargo xtask test`: every check there is, and one line that counts them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::{Outcome, build, packages};

/// Which checks run.
struct Selection {
    assume_yes: bool,
    quick: bool,
    end_to_end: bool,
    filter: Option<String>,
}

/// Runs the checks. The last line printed is `N passed, N failed`.
pub(crate) fn run(args: &[&str]) -> Outcome<ExitCode> {
    let selection = parse(args)?;
    let mut tally = Tally::default();
    if selection.quick {
        packages::install(packages::TEST, selection.assume_yes)?;
        tally.step("formatting", || build::cargo(&["fmt", "--all", "--check"], &[]));
        tally.step("clippy", || {
            build::cargo(
                &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
                &[],
            )?;
            // Left out of `--all-targets`, because only this command runs it.
            build::cargo(
                &[
                    "clippy",
                    "--package",
                    "qemu-tests",
                    "--test",
                    "e2e",
                    "--",
                    "-D",
                    "warnings",
                ],
                &[],
            )
        });
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
        tally.tests(
            "unit and integration tests",
            build::cargo_command(&["test", "--workspace", "--no-fail-fast"]),
        );
    }
    if selection.end_to_end {
        tally.end_to_end(selection.assume_yes, selection.filter.as_deref());
    }
    tally.close()
}

fn parse(args: &[&str]) -> Outcome<Selection> {
    let mut selection = Selection {
        assume_yes: false,
        quick: true,
        end_to_end: true,
        filter: None,
    };
    for arg in args {
        match *arg {
            "--yes" => selection.assume_yes = true,
            "--no-e2e" => selection.end_to_end = false,
            "--only-e2e" => selection.quick = false,
            filter if !selection.quick && !filter.starts_with('-') => {
                selection.filter = Some(filter.to_owned())
            }
            other => return Err(format!("test has no option {other:?}; see cargo xtask help")),
        }
    }
    Ok(selection)
}

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    lines: Vec<String>,
}

impl Tally {
    /// A check that counts as one.
    fn step(&mut self, name: &str, check: impl FnOnce() -> Outcome<()>) {
        let started = Instant::now();
        println!("\n=== {name}");
        match check() {
            Ok(()) => {
                self.passed += 1;
                self.note(name, "passed", started);
            }
            Err(message) => {
                self.failed += 1;
                self.note(name, &format!("FAILED: {message}"), started);
            }
        }
    }

    /// A `cargo test` run, counted by its `test result:` lines. One that ran no test has failed.
    fn tests(&mut self, name: &str, mut command: Command) {
        let started = Instant::now();
        println!("\n=== {name}");
        let (mut passed, mut failed) = (0, 0);
        let result = stream(command.stdout(Stdio::piped()), |line| {
            if let Some((line_passed, line_failed)) = test_result(line) {
                passed += line_passed;
                failed += line_failed;
            }
        });
        self.passed += passed;
        self.failed += failed;
        match result {
            Ok(()) if passed > 0 => self.note(name, &format!("{passed} passed, {failed} failed"), started),
            Ok(()) => {
                self.failed += 1;
                self.note(name, "FAILED: no test ran", started);
            }
            Err(message) => {
                // A test binary that did not build or crashed has no result line of its own.
                self.failed += u64::from(failed == 0);
                self.note(
                    name,
                    &format!("{passed} passed, {failed} failed: {message}"),
                    started,
                );
            }
        }
    }

    fn end_to_end(&mut self, assume_yes: bool, filter: Option<&str>) {
        let mut binaries = None;
        self.step("release binaries", || {
            binaries = Some(build::binaries()?);
            Ok(())
        });
        let Some(binaries) = binaries else { return };
        let lab = build::lab_directory();
        let environment = [
            ("FARRIER_BIN", binaries.farrier.as_path()),
            ("FARRIER_AGENT", binaries.agent.as_path()),
            ("FARRIER_LAB_DIR", lab.as_path()),
        ];
        let mut prepared = false;
        self.step("packages, boot image and disk image", || {
            let mut prepare = Command::new(&binaries.farrier);
            prepare
                .args(["lab", "prepare"])
                .args(assume_yes.then_some("--yes"))
                .envs(environment);
            let status = prepare
                .status()
                .map_err(|error| format!("running farrier lab prepare: {error}"))?;
            prepared = status.success();
            prepared
                .then_some(())
                .ok_or_else(|| format!("farrier lab prepare failed ({status})"))
        });
        if !prepared {
            return;
        }
        let mut command = build::cargo_command(&[
            "test",
            "--package",
            "qemu-tests",
            "--test",
            "e2e",
            "--no-fail-fast",
        ]);
        command
            .args(["--", "--test-threads", "2"])
            .args(filter)
            .envs(environment);
        self.tests("end-to-end tests", command);
    }

    fn note(&mut self, name: &str, result: &str, started: Instant) {
        let line = format!("{:>5} s  {name}: {result}", started.elapsed().as_secs());
        println!("--- {line}");
        self.lines.push(line);
    }

    fn close(self) -> Outcome<ExitCode> {
        println!("\n{}\n", self.lines.join("\n"));
        println!("{} passed, {} failed", self.passed, self.failed);
        Ok(match self.failed {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }
}

/// Runs `command`, prints its standard output as it comes and shows each line to `look`.
fn stream(command: &mut Command, mut look: impl FnMut(&str)) -> Outcome<()> {
    let mut child = command
        .spawn()
        .map_err(|error| format!("running cargo test: {error}"))?;
    let output = child.stdout.take().ok_or("cargo test has no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.map_err(|error| format!("reading the output of cargo test: {error}"))?;
        let line = String::from_utf8_lossy(&line);
        let _ = writeln!(std::io::stdout(), "{line}");
        look(&line);
    }
    let status = child
        .wait()
        .map_err(|error| format!("waiting for cargo test: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("cargo test ended with {status}")),
    }
}

/// Passed and failed of `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
fn test_result(line: &str) -> Option<(u64, u64)> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |word: &str| {
        counts
            .split("; ")
            .find_map(|part| part.strip_suffix(word)?.trim_end().parse::<u64>().ok())
    };
    Some((count("passed")?, count("failed")?))
}

#[cfg(test)]
mod tests {
    use super::test_result;

    #[test]
    fn reads_cargos_result_lines() {
        let line =
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        assert_eq!(test_result(line), Some((12, 0)));
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.1s";
        assert_eq!(test_result(line), Some((1, 2)));
        assert_eq!(test_result("running 3 tests"), None);
    }
}
