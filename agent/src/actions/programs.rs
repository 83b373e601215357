//! Programs of the boot image or of the host: brought, run to their end, asked what they know.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::process::{self, Force};
use super::{Failure, Feed, Halt, Place};
use crate::tools::{Step, Tools, ToolsError};

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What the kernel runs when it needs a module.
const MODPROBE: &str = "/proc/sys/kernel/modprobe";

/// A program that is here.
pub(super) struct Program(PathBuf);

/// What a program answered.
pub(super) struct Answer {
    /// Its exit code; 128 and the signal's number, if it was killed.
    pub(super) code: i32,
    /// The end of what it said of its troubles.
    pub(super) errors: String,
    /// What it said beside that.
    pub(super) output: Vec<u8>,
}

impl Program {
    /// Where the program is, having been brought if the boot image has it.
    ///
    /// # Errors
    /// `NoProgram`, `Tools…`: it is not here.
    pub(super) async fn named(
        name: &str,
        place: &Place,
        feed: &Feed,
        halt: &Halt,
    ) -> Result<Program, Failure> {
        if place.tools.has(name) {
            let brought = tokio::select! {
                brought = bring(&place.tools, name, feed) => brought,
                () = halt.asked() => return Err(Failure::stopped()),
            };
            brought.map_err(|e| Failure::new(e.reason(), e.to_string()))?;
        }
        let places = PATH.split(':').map(|folder| Path::new(folder).join(name));
        let found = places.into_iter().find(|path| path.is_file());
        found.map(Program).ok_or_else(|| {
            Failure::new(
                "NoProgram",
                format!(
                    "{name} is in none of {PATH}; nothing was written. Build the boot image with its programs, or install {name} on this \
                     host"
                ),
            )
        })
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.0);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C");
        // No udev makes nodes here, so nobody waits for it: libdevmapper, LVM and mdadm make theirs.
        if !Path::new("/run/udev/control").exists() {
            command.env("DM_DISABLE_UDEV", "1").env("MDADM_NO_UDEV", "1");
        }
        command
    }

    /// Runs it to a good end; what it prints is told. `input` is all that it can read: secrets go here, and never into arguments.
    ///
    /// # Errors
    /// `ExitCode`, with its arguments and last lines; `StartFailed`; `Stopped`.
    pub(super) async fn execute(
        &self,
        arguments: &[String],
        input: &[u8],
        feed: &Feed,
        halt: &Halt,
    ) -> Result<(), Failure> {
        let ended = process::run(self.command(arguments), input, feed, halt, Force::Kill).await?;
        ended.message().map(drop).map_err(|failure| {
            let message = format!(
                "{} {}: {}",
                self.0.display(),
                arguments.join(" "),
                failure.message
            );
            Failure { message, ..failure }
        })
    }

    /// Runs it to any end; nothing of it is told. It writes nothing, so it is killed when the action is stopped.
    ///
    /// # Errors
    /// `StartFailed`; `Stopped`.
    pub(super) async fn ask(
        &self,
        arguments: &[String],
        input: &[u8],
        halt: &Halt,
    ) -> Result<Answer, Failure> {
        let failed =
            |e: std::io::Error| Failure::new("StartFailed", format!("running {}: {e}", self.0.display()));
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().map_err(failed)?;
        // One that has read enough closes it.
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(input).await;
        }
        let output = tokio::select! {
            output = child.wait_with_output() => output.map_err(failed)?,
            () = halt.asked() => return Err(Failure::stopped()),
        };
        let errors = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<&str> = errors.lines().rev().take(4).collect();
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        Ok(Answer {
            code: output.status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0)),
            errors: errors.into_iter().rev().collect::<Vec<_>>().join("; "),
            output: output.stdout,
        })
    }
}

/// Has the kernel's modules loaded, as the kernel itself does: by what it runs for that. What is built in, or not to be had, is no error here:
/// what needs it says so.
pub(super) async fn load_modules(names: &[&str]) {
    let loader = std::fs::read_to_string(MODPROBE).unwrap_or_default();
    if loader.trim().is_empty() {
        return;
    }
    for name in names {
        let mut command = Command::new(loader.trim());
        command.args(["-q", "--", name]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let _ = command.kill_on_drop(true).status().await;
    }
}

/// Sees to it that `program` can be run by its name; how far that is, its people are told. Cancel safe.
///
/// # Errors
/// [`ToolsError`].
pub(crate) async fn bring(tools: &Tools, program: &str, feed: &Feed) -> Result<(), ToolsError> {
    let (mut lines, mut begun) = (Vec::new(), false);
    let mut report = |step: Step| match step {
        Step::Fetched { bytes, of_bytes, .. } => {
            if !std::mem::replace(&mut begun, true) {
                feed.line_if_room(step.to_string());
            }
            feed.progress(bytes, of_bytes, 0, "tools");
        }
        Step::Mounted { .. } => lines.push(step.to_string()),
    };
    tools.needed(program, &mut report).await?;
    for line in lines {
        feed.line(line).await;
    }
    Ok(())
}
