//! A process of an action: run in a group of its own to its end, its output told by lines, and stopped with a grace.
//!
//! Knows nothing of what is run, nor where: who starts it has set up the command.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::lines::Lines;
use super::{Failure, Feed, Halt};

/// Dead of a killed group are not waited for longer.
const BURIED_WITHIN: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// How a process ended that nobody stopped.
pub(super) struct Ended {
    status: ExitStatus,
    printed: Printed,
}

/// The newest lines that an action printed, oldest first.
pub(super) struct Printed(VecDeque<String>);

/// How a process of an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Exited(i32),
    Killed(i32),
}

/// How a process group is made to end that did not when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Force {
    Kill,
    /// It is told to kill what it keeps, and ends by itself then; killed only when it does not.
    Keeper(Signal),
}

impl Ended {
    /// The last line that it printed, when all is well.
    ///
    /// # Errors
    /// As [`Printed::message_of`].
    pub(super) fn message(self) -> Result<String, Failure> {
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => How::Exited(code),
            (None, signal) => How::Killed(signal.unwrap_or_default()),
        };
        self.printed.message_of(how)
    }

    /// What it printed, where somebody else tells how it ended.
    pub(super) fn printed(self) -> Printed {
        self.printed
    }
}

impl Printed {
    pub(super) fn of(last: VecDeque<String>) -> Printed {
        Printed(last)
    }

    /// The last line, when all is well.
    ///
    /// # Errors
    /// `ExitCode`, with its last lines: it exited with another code than 0, or was killed.
    pub(super) fn message_of(self, how: How) -> Result<String, Failure> {
        let last = self.0;
        let (how, exit_code) = match how {
            How::Exited(0) => return Ok(last.back().cloned().unwrap_or_default()),
            How::Exited(code) => (format!("the command exited with code {code}"), code),
            How::Killed(signal) => (format!("the command was killed by signal {signal}"), 128 + signal),
        };
        let said = if last.is_empty() {
            "it printed nothing".to_owned()
        } else {
            format!("its last lines:\n{}", Vec::from(last).join("\n"))
        };
        Err(Failure {
            reason: "ExitCode".to_owned(),
            message: format!("{how}; {said}"),
            exit_code,
        })
    }
}

/// Runs the command to its end, with `input` on its standard input, which it has to read before it prints much. Both of its output streams are told by lines, in order.
///
/// # Errors
/// `StartFailed`: it could not be started. `Stopped`: it was asked to end; then nothing of its group is left.
pub(super) async fn run(
    mut command: Command,
    input: &[u8],
    feed: &Feed,
    halt: &Halt,
    force: Force,
) -> Result<Ended, Failure> {
    let failed = |what: &str, e: io::Error| Failure::new("StartFailed", format!("{what} failed: {e}"));
    if halt.is_asked() {
        return Err(Failure::stopped());
    }
    // One pipe for both streams keeps their lines in order.
    let (reader, writer) = io::pipe().map_err(|e| failed("making a pipe", e))?;
    let output = Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(|e| failed("making a pipe", e))?;
    let second = writer.try_clone().map_err(|e| failed("making a pipe", e))?;
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    command.process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(writer).stderr(second);
    let mut child = command
        .spawn()
        .map_err(|e| failed(&format!("starting {program}"), e))?;
    // The command holds the pipe's ends too: without this, the end of the output would never come.
    drop(command);
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(input)
            .await
            .map_err(|e| failed("describing the command", e))?;
    }
    let mut lines = Lines::of([output], feed);
    let waited = wait(&mut child, halt, force);
    tokio::pin!(waited);
    // The output may end before the command does; halting goes on then.
    let status = tokio::select! {
        status = &mut waited => status,
        () = lines.pass_on() => waited.await,
    };
    let end = status.map_err(|e| failed("waiting for the command", e))?;
    let printed = lines.end().await;
    match end {
        End::ByItself(status) => Ok(Ended { status, printed }),
        // However it took being asked.
        End::Asked => Err(Failure::stopped()),
    }
}

/// How a command came to its end.
enum End {
    ByItself(ExitStatus),
    Asked,
}

/// Waits for the end; when halted, asks the whole process group to end and then makes it.
async fn wait(child: &mut Child, halt: &Halt, force: Force) -> io::Result<End> {
    tokio::select! {
        status = child.wait() => return status.map(End::ByItself),
        () = halt.asked() => {}
    }
    signal(child, Signal::SIGTERM);
    tokio::select! {
        status = child.wait() => return status.map(|_| End::Asked),
        () = halt.grace_over() => {}
    }
    let group = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .map(Pid::from_raw);
    if let Force::Keeper(told) = force {
        signal(child, told);
        if let Ok(status) = timeout(BURIED_WITHIN, child.wait()).await {
            return status.map(|_| End::Asked);
        }
    }
    signal(child, Signal::SIGKILL);
    child.wait().await?;
    if let Some(group) = group {
        wait_for_group(group).await;
    }
    Ok(End::Asked)
}

/// Waits until nothing of a killed process group is left: what is dying in the command's namespaces still holds the
/// filesystem, and with it the disk that the next action may want. Where PID 1 is slow to bury its dead, not for long.
async fn wait_for_group(group: Pid) {
    let deadline = Instant::now() + BURIED_WITHIN;
    while killpg(group, None).is_ok() && Instant::now() < deadline {
        sleep(POLL).await;
    }
}

fn signal(child: &Child, signal: Signal) {
    // No id: it was waited for already, and the number may be another process's.
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
        let _ = killpg(Pid::from_raw(pid), signal);
    }
}
