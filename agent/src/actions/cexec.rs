//! `cexec`: a command inside the installed system (or beside it, with its filesystem mounted).
//!
//! The worker mounts the filesystem, starts its own binary as `chroot-exec` ([`super::chroot`]), hands it the spec
//! on standard input and passes on what it prints. Source of the variables: tinkerbell/actions cexec.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use proto::v1;
use redaction::Secrets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::chroot::{Shown, Spec};
use super::command_line;
use super::environment::Environment;
use super::image_root;
use super::mount_points::MountPoints;
use super::scratch::{self, Scratch};
use super::target::{self, Mounted, blocking};
use super::{Done, Failure, Feed, Gives, Halt, Place};
use crate::cmdline::Cmdline;
use crate::device_links;
use crate::worker::Setting;
use crate::worker::core::Event;

/// Where the command finds the ephemeral data, and the folder of its output file.
const WORKFLOW: &str = "/workflow";
const OUTPUTS: &str = "/run/farrier";
const BURIED_WITHIN: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);
/// Output that daemons outside the PID namespace still hold open is not waited for longer.
const DRAIN: Duration = Duration::from_secs(1);
/// A line without an end is passed on in pieces of this size.
const MAX_LINE_BYTES: usize = 16 << 10;
/// Quoted in the failure's message.
const LAST_LINES: usize = 10;

pub(super) async fn run(
    action: &v1::RunAction,
    env: &Environment<'_>,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    let hint = env.required("BLOCK_DEVICE")?;
    let fs_type = env.required("FS_TYPE")?.to_owned();
    let text = env.required("CMD_LINE")?;
    let commands = command_line::commands(text, env.optional("DEFAULT_INTERPRETER")).map_err(|why| {
        Failure::new(
            "BadVariable",
            format!("environment variable CMD_LINE cannot be run: {why}"),
        )
    })?;
    let device = target::resolve(hint).await?;
    let scratch = Scratch::make(action, place, halt).await?;
    let mounts = place.mounts.clone();
    let mounted = blocking(move || Mounted::mount(&mounts, &device, &fs_type)).await?;
    feed.touches_disk();
    let mut spec = Spec {
        mounted_at: mounted.path().to_owned(),
        chroot: env.optional("CHROOT").is_some(),
        commands,
        environment: action.environment.clone().into_iter().collect(),
        host_processes: action.pid == "host",
        cmdline: (place.setting == Setting::Netboot).then(|| Cmdline::of_this_boot().masked()),
        resolv_conf: env
            .is_on("UPDATE_RESOLV_CONF")
            .then(|| std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
        shown: Vec::new(),
    };
    spec.environment.extend(place.surroundings.variables(env));
    let needed = needed(&spec)?;
    let mount_points = show(&mut spec, &scratch, place.setting, action.reboots);
    let mount_points = match mount_points {
        Ok(mount_points) => mount_points,
        Err(e) => {
            scratch::none(feed, &e.to_string()).await;
            None
        }
    };
    if place.setting == Setting::Netboot {
        let refreshed = blocking(|| Ok(device_links::refresh())).await?;
        if let Err(e) = refreshed {
            feed.line(format!("farrier: /dev/disk is not as the disks are: {e}"))
                .await;
        }
    }
    let ran = run_child(&spec, feed, halt).await;
    drop(mount_points);
    // The last first: each puts back when its folder was changed.
    needed.into_iter().rev().for_each(drop);
    // Whatever happened: the filesystem is to be whole on the disk afterwards.
    let unmounted = blocking(move || mounted.unmount()).await;
    let ended = ran.and_then(|ended| unmounted.map(|()| ended));
    let message = match ended.and_then(|(status, last)| judge(status, &last)) {
        Ok(message) => message,
        Err(failure) => return Err(scratch.explain(failure).await),
    };
    // One after which the machine reboots had nothing to give in the first place.
    let gives = if action.reboots {
        Gives::default()
    } else {
        scratch.take(halt).await?
    };
    Ok(Done::Succeeded {
        message,
        bytes: 0,
        gives,
    })
}

/// Makes what the image lacks to have a root of its own; what was not there goes again.
///
/// # Errors
/// `BadRoot`: it is no root of a system, or its folders are none.
fn needed(spec: &Spec) -> Result<Vec<MountPoints>, Failure> {
    if !spec.chroot {
        return Ok(Vec::new());
    }
    let root = &spec.mounted_at;
    let mut made = Vec::new();
    for folder in image_root::NEEDED {
        let points = MountPoints::make(root, &[folder]).map_err(|e| {
            Failure::new(
                "BadRoot",
                format!("/{folder} is no folder of this filesystem, and a command with CHROOT needs it: {e}"),
            )
        })?;
        made.push(points);
    }
    // Where these cannot be made, the command has to do without, and its log says so.
    made.extend(MountPoints::make(root, &[image_root::RUN]).ok());
    if spec.resolv_conf.is_some() {
        made.extend(MountPoints::make_file(root, "etc", "resolv.conf").ok());
    }
    Ok(made)
}

/// Lets the command see `/workflow` and its output file: in its root where that is another one or our own, by their
/// paths on somebody else's system.
///
/// # Errors
/// They cannot be shown in the image; it is left as it is then.
fn show(
    spec: &mut Spec,
    scratch: &Scratch,
    setting: Setting,
    reboots: bool,
) -> io::Result<Option<MountPoints>> {
    let mut seen = vec![(scratch.workflow(), WORKFLOW)];
    if !reboots {
        seen.push((scratch.run(), OUTPUTS));
    }
    let mount_points = if spec.chroot {
        // The one for outputs lies in a /run of the command's own.
        Some(MountPoints::make(
            &spec.mounted_at,
            &["workflow", image_root::RUN],
        )?)
    } else {
        None
    };
    let in_place = !spec.chroot && setting == Setting::Host;
    for (from, at) in seen {
        let named = if in_place { from.clone() } else { PathBuf::from(at) };
        let (variable, value) = match at {
            WORKFLOW => ("FARRIER_WORKFLOW_DIR", named),
            _ => ("FARRIER_OUTPUT", named.join(Scratch::OUTPUT)),
        };
        spec.environment
            .insert(variable.to_owned(), value.display().to_string());
        spec.shown.push(Shown {
            from,
            at: (!in_place).then(|| PathBuf::from(at)),
            read_only: reboots,
        });
    }
    Ok(mount_points)
}

async fn run_child(spec: &Spec, feed: &Feed, halt: &Halt) -> Result<(ExitStatus, VecDeque<String>), Failure> {
    let failed = |what: &str, e: io::Error| Failure::new("StartFailed", format!("{what} failed: {e}"));
    if halt.is_asked() {
        return Err(scratch::stopped());
    }
    // One pipe for both streams keeps their lines in order.
    let (reader, writer) = io::pipe().map_err(|e| failed("making a pipe", e))?;
    let output = Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(|e| failed("making a pipe", e))?;
    let second = writer.try_clone().map_err(|e| failed("making a pipe", e))?;
    let own = std::env::current_exe().map_err(|e| failed("finding the agent's own binary", e))?;
    let mut command = Command::new(own);
    command
        .arg("chroot-exec")
        .env_clear()
        .process_group(0)
        .kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(writer).stderr(second);
    let mut child = command
        .spawn()
        .map_err(|e| failed("starting the agent's own binary", e))?;
    // The command holds the pipe's ends too: without this, the end of the output would never come.
    drop(command);
    if let Some(mut stdin) = child.stdin.take() {
        let text = serde_json::to_vec(spec).map_err(|e| failed("describing the command", e.into()))?;
        stdin
            .write_all(&text)
            .await
            .map_err(|e| failed("describing the command", e))?;
    }
    let mut lines = Lines {
        output,
        feed: feed.clone(),
        partial: Vec::new(),
        last: VecDeque::new(),
    };
    let waited = wait(&mut child, halt);
    tokio::pin!(waited);
    // The output may end before the command does; halting goes on then.
    let status = tokio::select! {
        status = &mut waited => status,
        () = lines.pass_on() => waited.await,
    };
    let end = status.map_err(|e| failed("waiting for the command", e))?;
    let _ = timeout(DRAIN, lines.pass_on()).await;
    lines.end_line().await;
    match end {
        End::ByItself(status) => Ok((status, lines.last)),
        // However it took being asked.
        End::Asked => Err(scratch::stopped()),
    }
}

/// How a command came to its end.
enum End {
    ByItself(ExitStatus),
    Asked,
}

/// Waits for the end; when halted, asks the whole process group to end and then makes it.
async fn wait(child: &mut Child, halt: &Halt) -> io::Result<End> {
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

/// The last line that it printed, when all is well.
fn judge(status: ExitStatus, last: &VecDeque<String>) -> Result<String, Failure> {
    use std::os::unix::process::ExitStatusExt;
    if status.success() {
        return Ok(last.back().cloned().unwrap_or_default());
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("the command exited with code {code}"),
        (None, Some(signal)) => format!("the command was killed by signal {signal}"),
        (None, None) => format!("the command ended: {status}"),
    };
    let lines: Vec<&str> = last.iter().map(String::as_str).collect();
    let said = if lines.is_empty() {
        "it printed nothing".to_owned()
    } else {
        format!("its last lines:\n{}", lines.join("\n"))
    };
    let exit_code = status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(-1);
    Err(Failure {
        reason: "ExitCode".to_owned(),
        message: format!("{how}; {said}"),
        exit_code,
    })
}

/// Cuts what the command prints into lines and passes them on as they come.
struct Lines {
    output: Receiver,
    feed: Feed,
    partial: Vec<u8>,
    last: VecDeque<String>,
}

impl Lines {
    /// Returns at the end of the output. Cancel safe: what was read and not passed on is kept.
    async fn pass_on(&mut self) {
        let mut buffer = [0_u8; 8192];
        loop {
            while let Some((line, length)) = next_line(&self.partial, &self.feed.secrets) {
                // The wait for room comes first: what follows cannot be cancelled.
                let Some(room) = self.feed.room().await else {
                    return;
                };
                let text = self.feed.secrets.hidden(&printed(line)).into_owned();
                self.last.push_back(text.chars().take(300).collect());
                if self.last.len() > LAST_LINES {
                    self.last.pop_front();
                }
                self.partial.drain(..length);
                room.send(Event::Line(text));
            }
            match self.output.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => self
                    .partial
                    .extend_from_slice(buffer.get(..length).unwrap_or_default()),
            }
        }
    }

    /// Passes on a last line without an end.
    async fn end_line(&mut self) {
        if !self.partial.is_empty() {
            self.partial.push(b'\n');
            let _ = timeout(DRAIN, self.pass_on()).await;
        }
    }
}

/// The next whole line, and how many bytes it takes with its end. A piece of a long one ends in the middle of no secret;
/// where all of it may be one, there is more to come.
fn next_line<'p>(partial: &'p [u8], secrets: &Secrets) -> Option<(&'p [u8], usize)> {
    match partial.iter().position(|b| *b == b'\n') {
        Some(end) => Some((partial.get(..end)?, end + 1)),
        None if partial.len() >= MAX_LINE_BYTES => {
            let whole = secrets.whole(partial);
            (whole > 0).then_some((partial.get(..whole)?, whole))
        }
        None => None,
    }
}

/// A progress bar overwrites its line: what stands there in the end counts.
fn printed(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    text.rsplit('\r').next().unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_at_line_ends_and_at_a_bound() {
        let none = Secrets::default();
        assert_eq!(next_line(b"a\nb", &none), Some((&b"a"[..], 2)));
        assert_eq!(next_line(b"b", &none), None);
        let long = vec![b'x'; MAX_LINE_BYTES];
        assert_eq!(
            next_line(&long, &none).map(|(_, length)| length),
            Some(MAX_LINE_BYTES)
        );
        let secrets = Secrets::new(["hunter22".to_owned(), "x".repeat(2 * MAX_LINE_BYTES)]);
        assert_eq!(next_line(&long, &secrets), None);
        let split = [&vec![b'y'; MAX_LINE_BYTES - 4][..], b"hunt"].concat();
        assert_eq!(
            next_line(&split, &secrets).map(|(_, length)| length),
            Some(MAX_LINE_BYTES - 4)
        );
    }

    #[test]
    fn of_a_progress_bar_its_last_state_is_kept() {
        assert_eq!(printed(b"10%\r50%\r100%\r"), "100%");
        assert_eq!(printed(b"bad \xff byte\r"), "bad \u{fffd} byte");
    }
}
