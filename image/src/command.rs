//! Running the few programs of the host that a build needs.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

/// A program of the host could not do its part.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program ran and failed; its own words are in the message.
    #[error("{program} failed ({status}): {said}")]
    Failed {
        program: String,
        status: String,
        said: String,
    },
    /// The program is not installed.
    #[error("{program} is not installed: install the Debian package {package}")]
    Missing { program: String, package: &'static str },
    /// The program is there but could not be started.
    #[error("could not start {program}")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
}

/// Runs `command` to its end and returns what it printed on stdout.
///
/// `package` is the Debian package that holds the program, for the message when it is missing.
pub(crate) fn run(command: &mut Command, package: &'static str) -> Result<Vec<u8>, CommandError> {
    // Messages are matched and shown: they are asked for in English, and nothing may wait for a terminal.
    command
        .env("LC_ALL", "C")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(std::process::Stdio::null());
    end_with_us(command);
    let program = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(output) => Err(CommandError::Failed {
            program,
            status: output.status.to_string(),
            said: last_words(&output),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(CommandError::Missing { program, package })
        }
        Err(source) => Err(CommandError::Start { program, source }),
    }
}

/// Runs `command` as [`run`] does, and calls `look` from time to time until it has ended.
pub(crate) fn run_watched(
    command: &mut Command,
    package: &'static str,
    mut look: impl FnMut(),
) -> Result<Vec<u8>, CommandError> {
    thread::scope(|scope| {
        let (done, ended) = mpsc::channel::<()>();
        let running = scope.spawn(move || {
            // Dropped when the program has ended, whichever way.
            let _done = done;
            run(command, package)
        });
        while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            look();
        }
        running
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A build that is ended does not go on in its programs.
fn end_with_us(command: &mut Command) {
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec only prctl and getppid are called, which are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
            if nix::unistd::getppid() != parent {
                return Err(io::Error::other("the build is gone"));
            }
            Ok(())
        });
    }
}

/// The last lines of stderr, or of stdout where stderr is empty: enough to see why, short enough to read.
fn last_words(output: &Output) -> String {
    let spoken = if output.stderr.trim_ascii().is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    let text = String::from_utf8_lossy(spoken);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let kept = lines.len().saturating_sub(LAST_LINES);
    lines.into_iter().skip(kept).collect::<Vec<_>>().join("\n")
}

const LAST_LINES: usize = 12;
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_program_names_its_package() {
        let error = run(&mut Command::new("no-such-program-here"), "some-package").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no-such-program-here is not installed: install the Debian package some-package"
        );
    }

    #[test]
    fn a_program_is_watched_while_it_runs() {
        let directory = tempfile::tempdir().unwrap();
        let (begun, may_end) = (directory.path().join("begun"), directory.path().join("end"));
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "touch begun; i=0; until [ -e end ] || [ $i = 500 ]; do sleep 0.02; i=$((i+1)); done; echo said",
        ]);
        let mut looks = 0;
        let said = run_watched(command.current_dir(directory.path()), "dash", || {
            if begun.exists() {
                looks += 1;
                std::fs::write(&may_end, "").unwrap();
            }
        });
        assert_eq!(said.unwrap(), b"said\n");
        assert!(looks > 0, "it ended only because it was looked at");
    }

    #[test]
    fn failure_quotes_what_the_program_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo on the wrong foot >&2; exit 3"]);
        let error = run(&mut command, "dash").unwrap_err();
        assert_eq!(error.to_string(), "sh failed (exit status: 3): on the wrong foot");
    }
}
