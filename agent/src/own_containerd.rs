//! The containerd of a boot image that has one: brought, started, and started again when it ends.
//!
//! Its stores lie in a tmpfs with a bound, with its log beside them. It listens where containerd does by default, so whoever runs actions
//! there asks it as any other. One that a worker before this one started is taken over.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use containerd::Containerd;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::actions::{Feed, NoImage, bring};
use crate::images::share_bytes;
use crate::notices::say_and_tell;
use crate::tools::Tools;

/// As the boot image has it, and where its archive is mounted.
pub(crate) const PROGRAM: &str = "containerd";
const PATH: &str = "/usr/sbin/containerd";
/// For its shims, and for runc.
const SEARCHED: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// What it has lies here, in a filesystem of its own.
const FOLDER: &str = "/run/farrier-agent/containerd";
/// The name of that filesystem in /proc/self/mounts.
const SOURCE: &str = "farrier-containerd";
/// Seconds where a processor is emulated.
const SERVES_WITHIN: Duration = Duration::from_secs(90);
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
/// One that ends sooner than this is not started again before somebody needs it.
const WELL_AFTER: Duration = Duration::from_secs(10);
const LAST_LINES: usize = 5;
/// An older log is cut off when it starts again.
const MOST_LOG_BYTES: u64 = 1 << 20;

/// The containerd of the boot image. Clones are the same.
#[derive(Clone)]
pub(crate) struct OwnContainerd(Arc<Inner>);

struct Inner {
    tools: Tools,
    containerd: Containerd,
    /// One at a time starts it.
    starting: Arc<Mutex<()>>,
}

impl OwnContainerd {
    /// The one of these programs, which `containerd` asks.
    pub(crate) fn of(tools: Tools, containerd: Containerd) -> OwnContainerd {
        OwnContainerd(Arc::new(Inner {
            tools,
            containerd,
            starting: Arc::default(),
        }))
    }

    /// Returns when it serves. Cancel safe: one that is being started goes on.
    ///
    /// # Errors
    /// In words, with its last lines where it has ended.
    pub(crate) async fn needed(&self, feed: &Feed) -> Result<(), NoImage> {
        let turn = self.0.starting.clone().lock_owned().await;
        if self.answers().await {
            return Ok(());
        }
        bring(&self.0.tools, PROGRAM, feed).await.map_err(|e| NoImage {
            reason: e.reason().to_owned(),
            message: e.to_string(),
        })?;
        let (started, version) = oneshot::channel();
        tokio::spawn(self.clone().keep(turn, started));
        let version = version
            .await
            .unwrap_or_else(|_| Err("its task is gone".to_owned()));
        match version {
            Ok(version) => {
                feed.line(format!("farrier: containerd {version} of the boot image serves"))
                    .await;
                Ok(())
            }
            Err(why) => Err(NoImage {
                reason: "ContainerdAway".to_owned(),
                message: format!("the boot image's containerd does not serve: {why}"),
            }),
        }
    }

    async fn answers(&self) -> bool {
        let asked = timeout(ANSWERS_WITHIN, self.0.containerd.version());
        matches!(asked.await, Ok(Ok(_)))
    }

    /// Starts it, says when it serves, and starts it again as long as it serves for a while each time. Who has the turn starts it.
    async fn keep(self, turn: OwnedMutexGuard<()>, started: oneshot::Sender<Result<String, String>>) {
        let (mut turn, mut started) = (Some(turn), Some(started));
        loop {
            if turn.is_none() {
                turn = Some(self.0.starting.clone().lock_owned().await);
                if self.answers().await {
                    // Who has started it looks after it.
                    return;
                }
            }
            let began = Instant::now();
            match self.start().await {
                Ok((version, mut child)) => {
                    drop(turn.take());
                    started.take().map(|started| started.send(Ok(version)));
                    let ended = child.wait().await;
                    said(&ended_in_words(ended));
                }
                Err(why) => {
                    match started.take() {
                        Some(started) => drop(started.send(Err(why))),
                        None => said(&why),
                    }
                    return;
                }
            }
            if began.elapsed() < WELL_AFTER {
                return;
            }
        }
    }

    /// Its version, and the process.
    async fn start(&self) -> Result<(String, Child), String> {
        let mut child = start().map_err(|e| format!("starting it failed: {e}"))?;
        match self.until_it_serves(&mut child).await {
            Ok(version) => Ok((version, child)),
            Err(why) => {
                let _ = child.start_kill();
                let _ = child.wait().await;
                Err(why)
            }
        }
    }

    /// Its version.
    async fn until_it_serves(&self, child: &mut Child) -> Result<String, String> {
        let give_up = Instant::now() + SERVES_WITHIN;
        loop {
            let last = match timeout(ANSWERS_WITHIN, self.0.containerd.version()).await {
                Ok(Ok(version)) => return Ok(version),
                Ok(Err(e)) => e.to_string(),
                Err(_) => format!(
                    "it took the question, and gave no answer for {} s",
                    ANSWERS_WITHIN.as_secs()
                ),
            };
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Err(ended_in_words(Ok(status))),
                Err(e) => return Err(ended_in_words(Err(e))),
            }
            if Instant::now() >= give_up {
                return Err(format!(
                    "not within {} s: {last}{}",
                    SERVES_WITHIN.as_secs(),
                    last_words()
                ));
            }
            sleep(PAUSE).await;
        }
    }
}

fn said(what: &str) {
    say_and_tell(&format!("the boot image's containerd: {what}"));
}

fn ended_in_words(ended: io::Result<ExitStatus>) -> String {
    match ended {
        Ok(status) => format!("it ended ({status}){}", last_words()),
        Err(e) => format!("it is not known how it ended: {e}{}", last_words()),
    }
}

/// Starts it; one that does not answer any more is ended first.
fn start() -> io::Result<Child> {
    let folder = Path::new(FOLDER);
    make_place(folder)?;
    end_former(folder);
    let log = folder.join("log");
    if fs::metadata(&log).is_ok_and(|log| log.len() > MOST_LOG_BYTES) {
        fs::remove_file(&log)?;
    }
    let log = File::options().create(true).append(true).open(log)?;
    let config = folder.join("config.toml");
    fs::write(&config, configuration(FOLDER))?;
    let child = Command::new(PATH)
        .arg("--config")
        .arg(config)
        .env_clear()
        .env("PATH", SEARCHED)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // What the worker's group is told is not for it.
        .process_group(0)
        .spawn()?;
    if let Some(pid) = child.id() {
        fs::write(folder.join("pid"), pid.to_string())?;
    }
    Ok(child)
}

/// The filesystem for all that it has, once.
fn make_place(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    if mounts
        .lines()
        .any(|line| line.starts_with(&format!("{SOURCE} {FOLDER} ")))
    {
        return Ok(());
    }
    let options = format!("size={},mode=711", share_bytes());
    // Images have programs of theirs in it, which are run through overlays of it.
    let flags = MsFlags::empty();
    Ok(mount(
        Some(SOURCE),
        folder,
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )?)
}

/// One that a worker before this one started, or that has lost its tongue. Actions that it runs go on by their shims.
fn end_former(folder: &Path) {
    let pid = fs::read_to_string(folder.join("pid")).ok();
    let Some(pid) = pid
        .and_then(|text| text.trim().parse::<i32>().ok())
        .filter(|pid| *pid > 1)
    else {
        return;
    };
    let is_it = || fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program == Path::new(PATH));
    for _ in 0..50 {
        if !is_it() {
            return;
        }
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        std::thread::sleep(PAUSE);
    }
}

/// No CRI, and none of what takes devices or folders that the machine has not.
///
/// Source: containerd-config.toml(5), version 2, which 1.x and 2.x read.
fn configuration(folder: &str) -> String {
    let without = [
        "io.containerd.grpc.v1.cri",
        "io.containerd.cri.v1.images",
        "io.containerd.cri.v1.runtime",
        "io.containerd.internal.v1.opt",
        "io.containerd.internal.v1.tracing",
        "io.containerd.nri.v1.nri",
        "io.containerd.snapshotter.v1.aufs",
        "io.containerd.snapshotter.v1.blockfile",
        "io.containerd.snapshotter.v1.btrfs",
        "io.containerd.snapshotter.v1.devmapper",
        "io.containerd.snapshotter.v1.erofs",
        "io.containerd.snapshotter.v1.zfs",
    ];
    format!(
        "version = 2\nroot = \"{folder}/root\"\nstate = \"{folder}/state\"\ndisabled_plugins = {without:?}\n[debug]\nlevel = \"warn\"\n"
    )
}

/// The end of its log, behind a colon; nothing where it said nothing.
fn last_words() -> String {
    let log = fs::read(Path::new(FOLDER).join("log")).unwrap_or_default();
    last_lines(&String::from_utf8_lossy(&log))
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines
        .get(lines.len().saturating_sub(LAST_LINES)..)
        .unwrap_or_default();
    match last {
        [] => "; it said nothing".to_owned(),
        last => format!("; its last lines: {}", last.join(" | ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_last_lines_are_told() {
        let log: String = (1..=7).map(|number| format!("line {number}\n\n")).collect();
        assert_eq!(
            last_lines(&log),
            "; its last lines: line 3 | line 4 | line 5 | line 6 | line 7"
        );
        assert_eq!(last_lines("\n"), "; it said nothing");
    }

    #[test]
    fn its_configuration_names_its_folder_and_no_pods() {
        let text = configuration("/run/x");
        assert!(text.contains("root = \"/run/x/root\"\n") && text.contains("state = \"/run/x/state\"\n"));
        assert!(
            text.contains("disabled_plugins = [\"io.containerd.grpc.v1.cri\", "),
            "{text}"
        );
    }
}
