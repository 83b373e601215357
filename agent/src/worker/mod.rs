//! The worker: attaches to the server, runs what it is given, reports.
//!
//! One thread. [`core`] decides; this file owns the stream, the journal, the running action and the console.
//! Tasks: the session ([`session`]), the running action ([`crate::actions`]), lease renewal ([`crate::net`]).

mod attempts;
mod clock;
pub mod core;
mod identity;
mod journal;
mod logs;
mod session;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use disk::probe::System;
use proto::v1;
use proto::v1::agent_message::Kind as ToServer;
use proto::v1::report::Outcome;
use proto::v1::server_message::Kind as FromServer;
use redaction::Secrets;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, interval};

use self::core::{Core, Event, Leaving, Order};
use crate::actions::{self, Feed, Halt, Last, Place, Runtimes, SharedImages, Surroundings, Told};
use crate::cmdline::RegistryParameters;
use crate::cmdline::RuntimeParameters;
use crate::console::{printable, say, stage};
use crate::data::DataServer;
use crate::hardware::Hardware;
use crate::images::Pulled;
use crate::inventory::watch::Watched;
use crate::last_words;
use crate::needed::spawn_needed;
use crate::notices;
use crate::notices::say_and_tell;
#[cfg(feature = "containerd")]
use crate::own_containerd;
use crate::screen::render::how_far;
use crate::screen::{self, Doing, Trouble};
use crate::setting::Setting;
use crate::sight;
#[cfg(feature = "containerd")]
use crate::stores::Stores;
use crate::supervisor::{EXIT_KEXEC, EXIT_POWEROFF, EXIT_REBOOT};
use crate::tools::Tools;
pub use identity::Identity;
use journal::Journal;
use session::{Notice, Opened};

/// How often collected log lines and progress are sent.
const TICK: Duration = Duration::from_millis(100);
/// The same trouble is said again on the console after this.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Log lines and progress wait while the stream has this much to send.
const BACKLOG: usize = 32;
/// Lines of an action on the console, each second; the server gets all of them.
const CONSOLE_LINES_PER_S: u32 = 20;
/// How far an action is stands on the console this often; the screen shows it as it goes.
const SAY_PROGRESS: Duration = Duration::from_secs(10);

/// Where and as whom the worker attaches.
#[derive(Clone, Debug)]
pub struct Settings {
    pub identity: Identity,
    /// `host:port`.
    pub server: String,
    /// Where the journal of this boot is kept.
    pub state_dir: PathBuf,
    pub setting: Setting,
    /// How the worker before this one died, for the server; empty: there was none.
    pub last_death: String,
    pub surroundings: Surroundings,
    pub registries: RegistryParameters,
    pub runtime: RuntimeParameters,
    /// Drivers that are loaded once the machine is attached; `None` where that is not the agent's.
    pub hardware: Option<Hardware>,
    /// Programs that actions may ask for; none where the system has its own.
    pub tools: Tools,
}

impl Settings {
    fn mounts(&self) -> PathBuf {
        self.state_dir.join("mounts")
    }
}

/// Works until the machine leaves; then the exit code tells PID 1 how.
pub async fn run(settings: Settings) -> ExitCode {
    let (notices, mut session) = mpsc::channel(64);
    spawn_needed(session::run(settings.server.clone(), notices));
    let (tell, mut told) = mpsc::channel(256);
    let mut worker = Worker::new(settings, tell);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // Cloned so that the wait for room in the stream does not hold on to the worker.
        let stream = worker.stream.as_ref().map(|stream| stream.messages.clone());
        let stream = stream.filter(|_| !worker.outbox.is_empty());
        let room = async {
            match &stream {
                Some(stream) => stream.reserve().await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            permit = room => match (permit, worker.outbox.pop_front()) {
                (Some(permit), Some(kind)) => permit.send(v1::AgentMessage { kind: Some(kind) }),
                // The session tells why the stream ended.
                _ => worker.stream = None,
            },
            Some(notice) = session.recv() => worker.notice(notice),
            Some(told) = told.recv() => worker.told(told),
            Some(ended) = worker.lasts.join_next() => worker.last_ended(ended),
            _ = tick.tick() => worker.tick(),
        }
        if let Some(how) = worker.leave {
            return worker.leave(how);
        }
    }
}

/// An action's outcome; where the action itself panics, a failed one, and the worker goes on.
async fn survived(action: impl Future<Output = Outcome> + Send + 'static, secrets: &Secrets) -> Outcome {
    // A task of its own: the runtime catches what unwinds out of it.
    let ended = tokio::spawn(action).await;
    ended.unwrap_or_else(|e| actions::fault(&e.to_string(), secrets))
}

struct Worker {
    settings: Settings,
    core: Core,
    journal: Journal,
    runtimes: Runtimes,
    tell: mpsc::Sender<Told>,
    stream: Option<Opened>,
    outbox: VecDeque<ToServer>,
    running: Option<Running>,
    heartbeat: Duration,
    heartbeat_at: Instant,
    said: Option<(String, Instant)>,
    console_lines: (Instant, u32),
    progress_said: Instant,
    leave: Option<Leaving>,
    last: Last,
    /// It runs: the machine leaves when it has ended. One at most.
    lasts: JoinSet<String>,
    /// The core's, for those who speak to the server beside the stream.
    epoch: Arc<AtomicU64>,
    /// `None` where the kernel gives no thread for it.
    inventory: Option<Watched>,
    /// In the inventory that was told last.
    store_told: Option<v1::ImageStore>,
    /// A Welcome came in the present stream.
    is_attached: bool,
    /// Of an earlier boot, until it was told.
    kernels_end: String,
    /// In the Hello that is not answered yet.
    notices_sent: Vec<String>,
}

fn images(settings: &Settings) -> Result<SharedImages, String> {
    let registries = settings.surroundings.registries(&settings.registries)?;
    Ok(Arc::new(Pulled::open(
        &settings.state_dir.join("images"),
        registries,
    )?))
}

#[cfg(feature = "containerd")]
fn stores(settings: &Settings) -> Result<Option<SharedImages>, String> {
    let own = match whose_containerd(settings) {
        Whose::BootImage => Some(settings.tools.clone()),
        Whose::Somebody => None,
        Whose::Nobody => return Ok(None),
    };
    let registries = settings.surroundings.registries(&settings.registries)?;
    // Two agents of one machine have folders of their own.
    let owner = format!("{} {}", settings.identity.mac, settings.state_dir.display());
    let address = &settings.runtime.containerd_address;
    Ok(Some(Arc::new(Stores::at(address, &owner, own, registries)?)))
}

#[cfg(not(feature = "containerd"))]
fn stores(_: &Settings) -> Result<Option<SharedImages>, String> {
    Ok(None)
}

/// Whose containerd it is.
#[cfg(feature = "containerd")]
enum Whose {
    /// Of the boot image, which the agent starts.
    BootImage,
    /// Of the host, or named by whoever booted the machine.
    Somebody,
    /// The boot image has none, and nobody has named another.
    Nobody,
}

#[cfg(feature = "containerd")]
fn whose_containerd(settings: &Settings) -> Whose {
    let is_named = settings.runtime.containerd_address != RuntimeParameters::default().containerd_address;
    if settings.setting == Setting::Host || is_named {
        return Whose::Somebody;
    }
    if settings.tools.has(own_containerd::PROGRAM) {
        return Whose::BootImage;
    }
    // An image of somebody's own has started one by itself.
    if settings.runtime.containerd_address.exists() {
        return Whose::Somebody;
    }
    Whose::Nobody
}

#[cfg(feature = "containerd")]
fn has_containerd(settings: &Settings) -> bool {
    match whose_containerd(settings) {
        Whose::BootImage => true,
        Whose::Nobody => false,
        Whose::Somebody => settings.runtime.containerd_address.exists(),
    }
}

fn runtimes(settings: &Settings) -> Runtimes {
    let said = |images: Result<Option<SharedImages>, String>, by: &str| match images {
        Ok(images) => images,
        Err(why) => {
            say(&format!(
                "no images can be pulled for {by}, and actions that are images fail there: {why}"
            ));
            None
        }
    };
    let stores = stores(settings);
    if matches!(stores, Ok(None)) && settings.runtime.prefers_containerd {
        say_and_tell(
            "farrier.runtime=containerd is on the kernel command line, and this boot image has no containerd: actions that are images \
             fail; build the image with --profile containerd, or take the parameter out",
        );
    }
    Runtimes {
        namespaces: said(images(settings).map(Some), actions::NAMESPACES),
        containerd: said(stores, actions::CONTAINERD),
        prefers_containerd: settings.runtime.prefers_containerd,
    }
}

struct Running {
    attempt_id: String,
    name: String,
    workflow: String,
    halt: Halt,
}

impl Worker {
    fn new(settings: Settings, tell: mpsc::Sender<Told>) -> Worker {
        let (journal, reports) = match Journal::open(&settings.state_dir, &settings.identity.kernel_boot_id) {
            Ok(opened) => opened,
            Err(e) => {
                say(&format!("no journal in {}: {e}", settings.state_dir.display()));
                (Journal::none(), Vec::new())
            }
        };
        actions::clear_mounts(&settings.mounts());
        let runtimes = runtimes(&settings);
        let (core, orders) = Core::resume(reports, SystemTime::now());
        let watched = Watched::start(System::default());
        if let Err(e) = &watched {
            say(&format!("what this machine is made of is not told: {e}"));
        }
        let watched = watched.ok();
        let now = Instant::now();
        let mut worker = Worker {
            settings,
            core,
            journal,
            runtimes,
            tell,
            stream: None,
            outbox: VecDeque::new(),
            running: None,
            heartbeat: Duration::from_secs(10),
            heartbeat_at: now,
            said: None,
            console_lines: (now, 0),
            progress_said: now,
            leave: None,
            last: Last::default(),
            lasts: JoinSet::new(),
            epoch: Arc::default(),
            inventory: watched,
            store_told: None,
            is_attached: false,
            kernels_end: String::new(),
            notices_sent: Vec::new(),
        };
        worker.obey(orders);
        worker
    }

    /// Who runs actions that are images here, as templates name them.
    fn runtimes_here(&self) -> Vec<String> {
        let has = [
            (actions::NAMESPACES, self.runtimes.namespaces.is_some()),
            #[cfg(feature = "containerd")]
            (actions::CONTAINERD, has_containerd(&self.settings)),
        ];
        let there = has.into_iter().filter(|(_, is_there)| *is_there);
        there.map(|(name, _)| name.to_owned()).collect()
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Open(stream) => {
                let mut hello = self.settings.identity.hello(self.core.hello());
                hello.last_death = self.last_death();
                hello.notices = notices::untold();
                hello.runtimes = self.runtimes_here();
                self.notices_sent.clone_from(&hello.notices);
                self.outbox.clear();
                self.outbox.push_back(ToServer::Hello(hello));
                self.stream = Some(stream);
                self.is_attached = false;
            }
            Notice::Message(kind) => {
                if self.stream.is_none() {
                    // Of a stream that was left.
                    return;
                }
                if let FromServer::Welcome(welcome) = &kind
                    && welcome.epoch >= self.core.epoch()
                {
                    self.welcomed(welcome);
                }
                let orders = self.core.handle(SystemTime::now(), Event::Received(kind));
                self.epoch.store(self.core.epoch(), Ordering::Relaxed);
                self.obey(orders);
            }
            Notice::Closed { why, refused } => {
                self.stream = None;
                self.outbox.clear();
                let orders = self.core.handle(SystemTime::now(), Event::StreamLost);
                self.obey(orders);
                let then = if refused {
                    "asking again every 10 s"
                } else {
                    "trying again"
                };
                self.show_detached(&why, refused);
                self.say_once_a_while(format!("{why}; {then}"));
            }
        }
    }

    /// What was not told yet of earlier agents. The kernel's records are there soon after the worker has started.
    fn last_death(&mut self) -> String {
        if self.settings.setting == Setting::Netboot && self.kernels_end.is_empty() {
            self.kernels_end = last_words::of_the_kernel(Path::new(last_words::PSTORE));
        }
        let deaths = [self.settings.last_death.as_str(), self.kernels_end.as_str()];
        let deaths: Vec<&str> = deaths.into_iter().filter(|death| !death.is_empty()).collect();
        deaths.join("; ")
    }

    fn welcomed(&mut self, welcome: &v1::Welcome) {
        self.said = None;
        self.is_attached = true;
        // It was told.
        self.settings.last_death.clear();
        notices::are_told(&std::mem::take(&mut self.notices_sent));
        if !std::mem::take(&mut self.kernels_end).is_empty() {
            last_words::forget_the_kernels(Path::new(last_words::PSTORE));
        }
        if let Some(inventory) = &mut self.inventory {
            inventory.forget_seen();
        }
        if let Some(now) = welcome.now
            && self.settings.setting == Setting::Netboot
            && let Some(text) = clock::follow(now)
        {
            say(&text);
        }
        self.heartbeat = Duration::from_secs(u64::from(welcome.heartbeat_interval_s.clamp(1, 3600)));
        self.heartbeat_at = Instant::now() + self.heartbeat;
        screen::change(|state| {
            state.name = printable(&welcome.machine);
            state.is_attached = true;
            state.trouble = None;
            if !matches!(state.doing, Doing::Runs { .. }) {
                state.doing = Doing::WaitsFor("work".to_owned());
            }
        });
        stage("attached", &[("machine", &welcome.machine)]);
        // Not before: the machine has one way to its server, and whatever else it has may take seconds.
        if let Some(hardware) = self.settings.hardware.take() {
            hardware.begin();
        }
        say(&format!(
            "attached to {} as machine {} ({})",
            self.settings.server, welcome.machine, self.settings.identity.mac
        ));
    }

    fn told(&mut self, told: Told) {
        match &told {
            Told::Line(line) => self.show_line(line),
            Told::Ended { outcome, .. } => {
                self.show_end(outcome);
                if let Some(inventory) = &mut self.inventory {
                    // It may have written to disks.
                    inventory.look_again();
                    if self.runtimes.store() != self.store_told {
                        inventory.forget_seen();
                    }
                }
            }
            Told::Progress(progress) => self.show_progress(progress),
        }
        let orders = self.core.handle(SystemTime::now(), Event::Action(told));
        self.obey(orders);
    }

    fn tick(&mut self) {
        if self.outbox.len() < BACKLOG {
            let orders = self.core.handle(SystemTime::now(), Event::Tick);
            self.obey(orders);
        }
        if self.stream.is_some()
            && self.is_attached
            && self.outbox.len() < BACKLOG
            && let Some(mut inventory) = self.inventory.as_mut().and_then(Watched::unseen)
        {
            inventory.images = self.runtimes.store();
            self.store_told = inventory.images;
            self.outbox.push_back(ToServer::Inventory(inventory));
        }
        if self.stream.is_some() && Instant::now() >= self.heartbeat_at {
            self.heartbeat_at = Instant::now() + self.heartbeat;
            let running_attempt = self.core.running().to_owned();
            self.outbox.push_back(ToServer::Heartbeat(v1::Heartbeat {
                running_attempt,
                epoch: self.core.epoch(),
            }));
        }
    }

    fn obey(&mut self, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Detach => {
                    self.stream = None;
                    self.outbox.clear();
                }
                Order::Leave(how) => match self.last.take() {
                    Some(last) => self.run_last(last),
                    // Acknowledged once more while it runs.
                    None if !self.lasts.is_empty() => {}
                    None => self.leave = Some(how),
                },
                Order::Look(look) => self.outbox.push_back(ToServer::Seen(sight::answer(&look))),
                Order::Record(report) => {
                    let mut recorded = self.journal.record(&report);
                    if self.journal.is_long() {
                        recorded = recorded.and(self.journal.replace(&self.core.reports()));
                    }
                    if let Err(e) = recorded {
                        self.say_once_a_while(format!("the journal cannot be written: {e}"));
                    }
                }
                Order::Say(text) => {
                    if let Some(reason) = text.strip_prefix(core::WAITING) {
                        screen::change(|state| state.doing = Doing::WaitsFor(printable(reason)));
                    }
                    self.say_once_a_while(text);
                }
                Order::Send(kind) => self.outbox.push_back(kind),
                Order::Start(run) => self.start(run),
                Order::Stop { grace, reason } => {
                    if let Some(running) = &self.running {
                        say(&format!("action {} is stopped: {reason}", running.name));
                        running.halt.ask(grace, &reason);
                    }
                }
            }
        }
    }

    fn start(&mut self, run: v1::RunAction) {
        stage("action-start", &[("action", &run.action)]);
        let place = format!("{}/{}", u64::from(run.action_index) + 1, run.action_count);
        say(&format!("action {place} {}: {}", run.action, run.image));
        screen::change(|state| {
            state.doing = Doing::Runs {
                place: place.clone(),
                action: printable(&run.action),
                image: printable(&run.image),
                progress: None,
            };
            state.trouble = None;
        });
        self.progress_said = Instant::now();
        let halt = Halt::default();
        self.running = Some(Running {
            attempt_id: run.attempt_id.clone(),
            name: run.action.clone(),
            workflow: run.workflow_id.clone(),
            halt: halt.clone(),
        });
        let tell = self.tell.clone();
        let secrets = Arc::new(Secrets::new(&run.secrets));
        let feed = Feed::new(run.attempt_id.clone(), self.tell.clone(), secrets.clone());
        let attempt_id = run.attempt_id.clone();
        let place = Place {
            setting: self.settings.setting,
            mounts: self.settings.mounts(),
            data: self.data_server(),
            surroundings: self.settings.surroundings.clone(),
            registries: self.settings.registries.clone(),
            runtimes: self.runtimes.clone(),
            tools: self.settings.tools.clone(),
            own: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe")),
            last: self.last.clone(),
        };
        tokio::spawn(async move {
            let outcome = survived(actions::run(Arc::new(run), place, feed, halt), &secrets).await;
            let _ = tell.send(Told::Ended { attempt_id, outcome }).await;
        });
    }

    fn run_last(&mut self, last: actions::Waiting) {
        say("the server knows that this machine leaves: its last action runs");
        screen::change(|state| state.doing = Doing::Leaves("its last action".to_owned()));
        self.lasts.spawn(last.run());
    }

    fn last_ended(&mut self, ended: Result<String, JoinError>) {
        say(&ended
            .unwrap_or_else(|e| format!("the last action failed with the agent: {e}: the machine reboots")));
        self.leave = Some(Leaving::Reboot);
    }

    fn data_server(&self) -> DataServer {
        let identity = &self.settings.identity;
        DataServer {
            server: self.settings.server.clone(),
            mac: identity.mac.clone(),
            boot_id: identity.boot_id.clone(),
            token: identity.token.clone(),
            epoch: Arc::clone(&self.epoch),
        }
    }

    fn show_end(&mut self, outcome: &Outcome) {
        let Some(running) = self.running.take() else {
            return;
        };
        let (word, text) = actions::describe(outcome);
        stage("action-end", &[("action", &running.name), ("outcome", word)]);
        let ended = format!(
            "action {} ended: {word}{}{text}",
            running.name,
            if text.is_empty() { "" } else { ": " }
        );
        say(&ended);
        screen::change(|state| {
            state.doing = Doing::WaitsFor("the next action".to_owned());
            if matches!(outcome, Outcome::Failed(_) | Outcome::TimedOut(_)) {
                let cure = format!(
                    "see on the server: farrier workflow get {0}, farrier workflow logs {0}",
                    printable(&running.workflow)
                );
                state.trouble = Some(Trouble::new(printable(&ended), cure));
            }
        });
        tracing::debug!(attempt = running.attempt_id, word, "action ended");
    }

    /// On the screen at once, on a serial line now and then.
    fn show_progress(&mut self, progress: &v1::Progress) {
        let now = screen::Progress {
            stage: printable(&progress.stage),
            done_bytes: progress.done_bytes,
            total_bytes: progress.total_bytes,
            bytes_per_s: progress.rate_bytes_per_s,
        };
        if self.progress_said.elapsed() >= SAY_PROGRESS {
            self.progress_said = Instant::now();
            say(&format!("  {}", how_far(&now)));
        }
        screen::change(|state| {
            if let Doing::Runs { progress, .. } = &mut state.doing {
                *progress = Some(now);
            }
        });
    }

    fn show_detached(&self, why: &str, refused: bool) {
        let server = &self.settings.server;
        let cure = if refused {
            format!(
                "see on the server: farrier machine boot-log {}",
                self.settings.identity.mac
            )
        } else {
            format!(
                "see that farrier serve runs at {server}, and that the port is open from here; it goes on by itself"
            )
        };
        screen::change(|state| {
            state.is_attached = false;
            state.trouble = Some(Trouble::new(printable(why), cure));
            if !matches!(state.doing, Doing::Runs { .. }) {
                state.doing = Doing::WaitsFor(format!("the server at {server}"));
            }
        });
    }

    fn show_line(&mut self, line: &str) {
        let (since, count) = &mut self.console_lines;
        if since.elapsed() >= Duration::from_secs(1) {
            (*since, *count) = (Instant::now(), 0);
        }
        *count += 1;
        if *count <= CONSOLE_LINES_PER_S {
            // Before it is cut: half a URL is not known for one.
            let short: String = redaction::redacted(line).chars().take(200).collect();
            say(&format!("  | {short}"));
        }
    }

    fn say_once_a_while(&mut self, text: String) {
        let known = self
            .said
            .as_ref()
            .is_some_and(|(said, at)| *said == text && at.elapsed() < SAY_AGAIN);
        if !known {
            say(&text);
            self.said = Some((text, Instant::now()));
        }
    }

    fn leave(&self, how: Leaving) -> ExitCode {
        let (word, code) = match how {
            Leaving::Kexec => ("kexec", EXIT_KEXEC),
            Leaving::PowerOff => ("poweroff", EXIT_POWEROFF),
            Leaving::Reboot => ("reboot", EXIT_REBOOT),
        };
        stage("leaving", &[("how", word)]);
        screen::change(|state| state.doing = Doing::Leaves(word.to_owned()));
        if self.settings.setting == Setting::Netboot {
            nix::unistd::sync();
        }
        ExitCode::from(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_action_that_panics_is_a_failed_action_and_the_worker_goes_on() {
        let secrets = Secrets::new(["hunter22"]);
        let outcome = survived(async { panic!("index out of bounds: hunter22") }, &secrets).await;
        let Outcome::Failed(failed) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(failed.reason, "AgentFault");
        assert!(
            failed.message.contains("index out of bounds: ***"),
            "{}",
            failed.message
        );
        let next = survived(async { Outcome::Succeeded(v1::Succeeded::default()) }, &secrets).await;
        assert!(matches!(next, Outcome::Succeeded(_)));
    }
}
