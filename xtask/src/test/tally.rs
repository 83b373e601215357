//! What was counted, and how long each part took.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;

/// Counts checks and minutes.
#[derive(Default)]
pub(super) struct Tally {
    passed: u64,
    failed: u64,
    lines: Vec<String>,
    over: Vec<String>,
}

impl Tally {
    /// Runs a part, and says aloud when it took longer than its share.
    pub(super) fn part(&mut self, name: &str, share: Option<u32>, run: impl FnOnce(&mut Tally)) {
        let started = Instant::now();
        run(self);
        let line = minutes(name, started.elapsed(), share);
        println!("--- {line}");
        if is_over(started.elapsed(), share) {
            self.over.push(line.clone());
        }
        self.lines.push(line);
    }

    /// A check that counts as one.
    pub(super) fn step(&mut self, name: &str, check: impl FnOnce() -> Outcome<()>) {
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

    /// Checks that were run elsewhere.
    pub(super) fn count(&mut self, name: &str, outcomes: &[Outcome<()>], started: Instant) {
        let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        let passed = outcomes.len() - failed;
        self.passed += passed as u64;
        self.failed += failed as u64;
        self.note(name, &format!("{passed} passed, {failed} failed"), started);
    }

    /// A `cargo test` run, counted by its `test result:` lines. One that ran no test has failed.
    pub(super) fn tests(&mut self, name: &str, mut command: Command) {
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

    fn note(&mut self, name: &str, result: &str, started: Instant) {
        let line = format!("{:>7} s  {name}: {result}", started.elapsed().as_secs());
        println!("--- {line}");
        self.lines.push(line);
    }

    /// The last line counts.
    pub(super) fn close(self, of_all: bool) -> ExitCode {
        println!("\n{}\n", self.lines.join("\n"));
        for line in &self.over {
            println!("warning: {line}: over its share (no failure: machines differ)");
        }
        if of_all && self.failed > 0 {
            println!(
                "A part is run again alone, from step N on, by: cargo xtask test --all --only PART --from N"
            );
        }
        println!("{} passed, {} failed", self.passed, self.failed);
        match self.failed {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}

fn is_over(took: Duration, share: Option<u32>) -> bool {
    share.is_some_and(|minutes| took.as_secs() > u64::from(minutes) * 60)
}

/// `7.4 min of 14: tests`.
fn minutes(name: &str, took: Duration, share: Option<u32>) -> String {
    let took = took.as_secs_f64() / 60.0;
    let share = share.map_or(String::new(), |minutes| format!(" of {minutes}"));
    format!("{took:>5.1} min{share}: {name}")
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
    use super::*;

    #[test]
    fn reads_cargos_result_lines() {
        let line =
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        assert_eq!(test_result(line), Some((12, 0)));
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.1s";
        assert_eq!(test_result(line), Some((1, 2)));
        assert_eq!(test_result("running 3 tests"), None);
    }

    #[test]
    fn a_part_over_its_share_is_told_and_has_not_failed() {
        let took = Duration::from_secs(61);
        assert!(is_over(took, Some(1)) && !is_over(took, Some(2)) && !is_over(took, None));
        assert_eq!(
            minutes("tests", Duration::from_secs(444), Some(14)),
            "  7.4 min of 14: tests"
        );
        let mut tally = Tally::default();
        tally.part("slow", Some(0), |tally| {
            std::thread::sleep(Duration::from_millis(1001));
            tally.step("check", || Ok(()));
        });
        assert_eq!((tally.passed, tally.failed, tally.over.len()), (1, 0, 1));
    }
}
