//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, built with the coverage that libFuzzer goes by.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::{Outcome, build};

/// How much of a program is built for the fuzzer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Crates of this workspace. Those from outside are shared with all other builds, so this one takes a minute.
    Quick,
    /// Everything, with the address sanitizer, in a target directory of its own.
    Deep,
}

/// The fuzzer of all targets.
#[derive(Debug)]
pub(crate) struct Fuzzer {
    program: PathBuf,
    depth: Depth,
}

/// `cargo xtask fuzz [TARGET [libFuzzer flags or input files]]`.
pub(crate) fn run(args: &[&str]) -> Outcome<ExitCode> {
    let names = targets()?;
    let (depth, args) = match args {
        ["--quick", rest @ ..] => (Depth::Quick, rest),
        rest => (Depth::Deep, rest),
    };
    let (name, flags) = match args {
        [] | ["--help" | "-h", ..] => {
            print!("{HELP}\nTargets: {}\n", names.join(", "));
            return Ok(ExitCode::SUCCESS);
        }
        [name, flags @ ..] => (*name, flags),
    };
    if !names.iter().any(|target| target == name) {
        return Err(format!(
            "no fuzz target is called {name:?}; there are {}",
            names.join(", ")
        ));
    }
    let fuzzer = build(depth)?;
    let folder = build::workspace().join("fuzz");
    let mut command = fuzzer.command(name, &folder.join("artifacts").join(name))?;
    command.args(flags);
    // Input files are run once each, without the seeds.
    if !flags.iter().any(|flag| Path::new(flag).is_file()) {
        let corpus = folder.join("corpus").join(name);
        make(&corpus)?;
        command.arg(corpus).arg(seeds(name));
    }
    let error = command.exec();
    Err(format!("running {}: {error}", fuzzer.program.display()))
}

const HELP: &str = "\
Fuzz targets: every parser of bytes from outside (see fuzz/README.md)

  cargo xtask fuzz TARGET                      until it finds something or is stopped
  cargo xtask fuzz TARGET -max_total_time=30   half a minute; every flag of libFuzzer is passed on
  cargo xtask fuzz TARGET FILE                 one input again
  cargo xtask fuzz --quick TARGET              built in a minute: no sanitizer, no coverage of other people's crates
";

/// The names of all targets, in order: a test in `fuzz/` keeps their folders of seeds.
pub(crate) fn targets() -> Outcome<Vec<String>> {
    let folder = build::workspace().join("fuzz/seeds");
    let failed = |error| format!("reading {}: {error}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Builds the fuzzer.
pub(crate) fn build(depth: Depth) -> Outcome<Fuzzer> {
    let target = build::target_directory();
    let program = match depth {
        Depth::Quick => {
            let wrapper = build::workspace().join("fuzz/rustc");
            let wrapper = wrapper.to_string_lossy();
            // Of the whole workspace, so that crates have the same features as in its tests and are not compiled again.
            let arguments = ["build", "--workspace", "--bin", "fuzz"];
            build::cargo(&arguments, &[("RUSTC_WORKSPACE_WRAPPER", &wrapper)])?;
            target.join("debug/fuzz")
        }
        Depth::Deep => {
            let own = target.join("fuzz");
            let triple = build::host_triple()?;
            build::cargo(
                // A target that is named keeps the flags away from build scripts and procedural macros.
                &[
                    "build",
                    "--profile",
                    "fuzz",
                    "--package",
                    "fuzz",
                    "--target",
                    &triple,
                ],
                &[
                    ("CARGO_TARGET_DIR", &own.to_string_lossy()),
                    ("RUSTFLAGS", DEEP_FLAGS),
                    // The sanitizer is not stable.
                    ("RUSTC_BOOTSTRAP", "1"),
                ],
            )?;
            own.join(triple).join("fuzz/fuzz")
        }
    };
    Ok(Fuzzer { program, depth })
}

const DEEP_FLAGS: &str = "--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

impl Fuzzer {
    /// Tries one target for some seconds; returns how many inputs it was given, in libFuzzer's words.
    ///
    /// # Errors
    /// In words: what was found, and how to see it again.
    pub(crate) fn try_for(&self, name: &str, seconds: u32) -> Outcome<String> {
        let artifacts = build::workspace().join("fuzz/artifacts").join(name);
        // What is learned in so short a time is not worth keeping, and seeds are not written to.
        let scratch = build::target_directory().join("fuzz-scratch").join(name);
        let _ = fs::remove_dir_all(&scratch);
        make(&scratch)?;
        let mut command = self.command(name, &artifacts)?;
        command.arg(format!("-max_total_time={seconds}"));
        if self.depth == Depth::Quick {
            // The same way each time, so that a change is not blamed for what chance found.
            command.arg("-seed=1");
        }
        command.arg(&scratch).arg(seeds(name));
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("running {}: {error}", self.program.display()))?;
        let _ = fs::remove_dir_all(&scratch);
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let lines: Vec<&str> = said.lines().collect();
            let last = lines.len().saturating_sub(60);
            return Err(format!(
                "{}\n{name} ended with {}; see it again: cargo xtask fuzz {name} FILE, with the file that is named above",
                lines[last..].join("\n"),
                output.status
            ));
        }
        let done = inputs(&said).ok_or_else(|| format!("it does not say what it did:\n{said}"))?;
        Ok(done.to_owned())
    }

    fn command(&self, name: &str, artifacts: &Path) -> Outcome<Command> {
        make(artifacts)?;
        let mut command = Command::new(&self.program);
        command
            .env("FUZZ_TARGET", name)
            .args(["-timeout=10", "-rss_limit_mb=2048"])
            .arg(format!("-artifact_prefix={}/", artifacts.display()));
        Ok(command)
    }
}

/// `12345` of `Done 12345 runs in 6 second(s)`.
fn inputs(said: &str) -> Option<&str> {
    let line = said.lines().rev().find_map(|line| line.strip_prefix("Done "))?;
    line.split(' ').next()
}

fn seeds(name: &str) -> PathBuf {
    build::workspace().join("fuzz/seeds").join(name)
}

fn make(folder: &Path) -> Outcome<()> {
    fs::create_dir_all(folder).map_err(|error| format!("making {}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_known_by_their_seeds() {
        let names = targets().unwrap();
        assert!(
            names.is_sorted() && names.contains(&"dhcp_decode".to_owned()),
            "{names:?}"
        );
    }

    #[test]
    fn a_run_that_tried_nothing_is_not_taken_for_one() {
        assert_eq!(
            inputs("#2 INITED\nDone 12345 runs in 6 second(s)\n"),
            Some("12345")
        );
        assert_eq!(inputs("INFO: nothing\n"), None);
    }
}
