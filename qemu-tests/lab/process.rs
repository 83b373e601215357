//! Child processes of the lab, and commands that must succeed.

use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::wait::{Look, wait_until};

/// A child that is killed when it is dropped.
#[derive(Debug)]
pub struct Guarded(Child);

impl Guarded {
    /// Starts `command`.
    ///
    /// # Errors
    /// When the program cannot be started; names it.
    pub fn start(command: &mut Command) -> anyhow::Result<Guarded> {
        let child = command
            .spawn()
            .with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Guarded(child))
    }

    /// Its process id, as seen in the lab's namespace.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.0.id())?);
        kill(pid, signal).with_context(|| format!("sending {signal} to process {pid}"))
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        // It may be gone already, which is what was asked for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub fn wait(&mut self, what: &str, deadline: Duration) -> anyhow::Result<ExitStatus> {
        Ok(wait_until(&format!("{what} to end"), deadline, || {
            match self.0.try_wait() {
                Ok(Some(status)) => Look::Done(status),
                Ok(None) => Look::not_yet("running"),
                Err(error) => Look::never(error),
            }
        })?)
    }
}

impl From<Child> for Guarded {
    fn from(child: Child) -> Guarded {
        Guarded(child)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end and gives its stdout.
///
/// # Errors
/// When it cannot be started, or fails: with its stderr.
pub fn output(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("running {program} (is it installed?)"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{program} {}` failed ({}): {}",
            args.join(" "),
            output.status,
            said.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_says_what_it_said() {
        let error = output("sh", &["-c", "echo no such bridge >&2; exit 3"])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("exit status: 3") && error.ends_with("no such bridge"),
            "{error}"
        );
    }

    #[test]
    fn a_dropped_child_is_killed() {
        let child = Guarded::start(Command::new("sleep").arg("1000")).unwrap();
        let pid = Pid::from_raw(child.pid().try_into().unwrap());
        drop(child);
        assert!(kill(pid, None).is_err());
    }
}
