//! [`ControlPlane`]: what all parts of the control plane share, and its beginning and end.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use access::Pin;
use connections::{Places, Said};
use store::StoreHandle;
use store::blobs::Blobs;
use tokio::sync::{broadcast, mpsc};

use crate::agents::pull::{Offers, RegistrySettings};
use crate::agents::registry::Registry;
use crate::archive::{keeper, retention};
use crate::data::intake::Intake;
use crate::database::{Database, off_the_runtime};
use crate::grpc::{ServeError, with_causes};
use crate::images;
use crate::itself::Folder;
use crate::listeners::kept;
use crate::secrets::KeyFile;
use crate::tasks::{Stopped, Tasks};
use crate::timeline;
use crate::turns::Turns;
use crate::webhooks::{Webhooks, tell};
use crate::workflows::logs::Progress;
use crate::workflows::silence::{self, Silence};
use crate::workflows::timers::{self, Timer};
use crate::workflows::{answers, blocked, carrier};
use coordinator::Error;
use coordinator::database::formats;
use coordinator::machines::Served;
use coordinator::order::trim::Kept;
use coordinator::{Coordinator, Limits};
use workflow::language::ImagePolicy;

/// What may be set; the defaults are for real use.
#[derive(Clone, Debug)]
pub struct Config {
    /// How often an agent says that it is alive.
    pub heartbeat_interval: Duration,
    /// Lines kept of one attempt; further ones are counted.
    pub log_lines: u64,
    /// Bytes kept of one attempt; further ones are counted as lines.
    pub log_bytes: u64,
    /// Entries kept of one machine's boot timeline, and of all strangers'.
    pub boot_log_entries: u64,
    /// A machine that was out of contact for so long has lost its attempt. Only time counts in which it could have been heard.
    pub lost_after: Duration,
    /// A machine that has something to run and was not heard for so long is shown as silent.
    pub silent_after: Duration,
    /// How long after its end a workflow is archived: its rows become one blob.
    pub archive_after: Duration,
    /// How long after its end a workflow is deleted; `None`: never.
    pub keep_ended: Option<Duration>,
    /// How much is kept of the order of all events: who follows them may be away for so long.
    pub keep_events: Kept,
    /// Between asking an action to stop (SIGTERM) and ending it (SIGKILL); whole seconds.
    pub stop_grace: Duration,
    /// This server's addresses on the network that machines are on. Records are checked against them; none: they are not.
    pub served: Vec<Served>,
    /// What is too large for the store, by digest. In memory, it is gone with the process.
    pub blobs: Blobs,
    /// The contents of images that machines are given, by digest. In memory, as above.
    pub images: Blobs,
    /// What images may have that machines had fetched; `None`: there is no bound.
    pub registry_keep: Option<u64>,
    /// The file with the key that secrets are sealed with, made when the first is set. `None`: in memory, gone with the
    /// process.
    pub secrets_key: Option<PathBuf>,
    /// Which images machines may run, and whether a built-in action is meant by an image's name.
    pub image_policy: ImagePolicy,
    /// How machines pull images by themselves, by the names of registries as references have them.
    pub pulls: BTreeMap<String, RegistrySettings>,
    /// The certificate authority that the tokens which it makes name.
    pub authority: Pin,
    /// The folders that it lives from, which it says to admins.
    pub folders: Vec<Folder>,
    /// What those may take who come from outside.
    pub limits: crate::Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(10),
            log_lines: 20_000,
            log_bytes: 4 * 1024 * 1024,
            boot_log_entries: 2_000,
            lost_after: Duration::from_secs(5 * 60),
            silent_after: Duration::from_secs(30),
            archive_after: Duration::from_secs(60),
            keep_ended: None,
            keep_events: Kept::default(),
            stop_grace: Duration::from_secs(10),
            served: Vec::new(),
            blobs: Blobs::in_memory(),
            images: Blobs::in_memory(),
            registry_keep: None,
            secrets_key: None,
            image_policy: ImagePolicy::default(),
            pulls: BTreeMap::new(),
            authority: Pin::of(b""),
            folders: Vec::new(),
            limits: crate::Limits::default(),
        }
    }
}

/// The control plane over one store. Clones are handles of the same.
#[derive(Clone)]
pub struct ControlPlane {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) db: Database,
    pub(crate) config: Config,
    /// Written by whoever changes machines, read by whoever makes what needs them to stay.
    pub(crate) machines_turn: tokio::sync::RwLock<()>,
    /// Written by whoever collects contents of images, read by whoever names some.
    pub(crate) images_turn: tokio::sync::RwLock<()>,
    pub(crate) image_uses: images::Uses,
    /// One command of a workflow at a time; the store's preconditions would make them safe, this makes them cheap.
    pub(crate) workflow_turns: Turns,
    /// Whoever archives a root, brings it back or deletes it.
    pub(crate) archive_turns: Turns,
    pub(crate) coordinator: Coordinator,
    pub(crate) agents: Registry,
    /// What agents may ask for before they pull.
    pub(crate) offers: Offers,
    pub(crate) secrets_key: Arc<KeyFile>,
    pub(crate) silence: Silence,
    pub(crate) changes: broadcast::Sender<Change>,
    pub(crate) progress: broadcast::Sender<Progress>,
    pub(crate) timeline: timeline::writer::Recorder,
    pub(crate) wants: Wants,
    /// Streams that have not said Hello.
    pub(crate) unspoken: Places<IpAddr>,
    unspoken_said: Mutex<Said>,
    /// What agents bring before they report.
    pub(crate) intake: Intake,
    /// Who follows the events of all workflows, by the names of their tokens.
    pub(crate) followers: Places<String>,
    pub(crate) webhooks: Webhooks,
    pub(crate) tasks: Tasks,
}

impl Inner {
    /// Whether a stream that was refused is to be said.
    pub(crate) fn unspoken_said(&self) -> MutexGuard<'_, Said> {
        self.unspoken_said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What follows from steps, to the tasks that do it.
pub(crate) struct Wants {
    /// A workflow has a timer, or has a new one.
    pub(crate) timers: mpsc::UnboundedSender<Timer>,
    /// A workflow may wait for a system that answers.
    pub(crate) answers: mpsc::UnboundedSender<String>,
    /// A row of an outbox is to be carried.
    pub(crate) outboxes: mpsc::UnboundedSender<String>,
    /// A root has ended.
    pub(crate) ended: mpsc::UnboundedSender<String>,
}

/// Something in the store changed: whoever follows it reads again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A ring of the boot timeline.
    BootLog(String),
    /// A workflow's events or logs, by its id.
    Workflow(String),
}

/// Changes that a follower may be behind before it is told to read everything again.
pub(crate) const CHANGES: usize = 1024;

impl ControlPlane {
    /// Begins to serve what `store` holds. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Store`] when the store cannot be read, or has rows of a later version.
    pub async fn open(store: StoreHandle, config: Config) -> Result<Self, Error> {
        let rows = store.store().clone();
        // Before anything reads or writes.
        off_the_runtime(move || formats::CURRENT.prepare(&*rows)).await?;
        let coordinator = Coordinator::new(store.store().clone(), Limits::default())
            .with_images(config.image_policy.clone());
        let (lost_after, archive_after, keep_ended) =
            (config.lost_after, config.archive_after, config.keep_ended);
        let keep_events = config.keep_events;
        let secrets_key = Arc::new(KeyFile::new(config.secrets_key.clone()));
        let db = Database::new(store);
        let changes = broadcast::channel(CHANGES).0;
        let tasks = Tasks::new();
        let (timers, timers_due) = mpsc::unbounded_channel();
        let (answers, asked) = mpsc::unbounded_channel();
        let (outboxes, rows) = mpsc::unbounded_channel();
        let (ended, roots) = mpsc::unbounded_channel();
        let (timeline, entries) = timeline::writer::channel();
        tasks.last("the boot timeline", |stopped| {
            let most = config.boot_log_entries;
            timeline::writer::write(db.clone(), entries, most, changes.clone(), stopped)
        });
        let unspoken = Places::new(config.limits.unspoken);
        let intake = Intake::new(&config.limits);
        let followers = Places::new(config.limits.followers);
        let inner = Inner {
            db,
            config,
            machines_turn: tokio::sync::RwLock::default(),
            images_turn: tokio::sync::RwLock::default(),
            image_uses: images::Uses::default(),
            workflow_turns: Turns::default(),
            archive_turns: Turns::default(),
            coordinator,
            agents: Registry::default(),
            offers: Offers::default(),
            secrets_key,
            silence: Silence::default(),
            changes,
            progress: broadcast::channel(CHANGES).0,
            timeline,
            wants: Wants {
                timers,
                answers,
                outboxes,
                ended,
            },
            unspoken,
            unspoken_said: Mutex::default(),
            intake,
            followers,
            webhooks: Webhooks::default(),
            tasks,
        };
        let control = Self {
            inner: Arc::new(inner),
        };
        control.look_at_secrets().await?;
        // What was left to do when a server stopped.
        for next in control.ask_coordinator(Coordinator::recover).await? {
            control.follow_up(next);
        }
        let weak = || Arc::downgrade(&control.inner);
        let tasks = &control.inner.tasks;
        let stopped = || tasks.stopped();
        tasks.background("timers", timers::run(weak(), timers_due, stopped()));
        tasks.background("answers", answers::run(weak(), asked, stopped()));
        tasks.background("outboxes", carrier::run(weak(), rows, stopped()));
        tasks.background("silence", silence::run(weak(), lost_after, stopped()));
        tasks.background("deadlocks", blocked::run(weak(), stopped()));
        tasks.background("archive", keeper::run(weak(), roots, archive_after, stopped()));
        tasks.background("retention", retention::run(weak(), keep_ended, stopped()));
        tasks.background("webhooks", tell::run(weak(), stopped()));
        tasks.background("events", kept::run(weak(), keep_events, stopped()));
        Ok(control)
    }

    /// Waits until a background task is gone that was not told to stop; its name.
    pub(crate) async fn broken(&self) -> &'static str {
        self.inner.tasks.broken().await
    }

    /// Whether the control plane can do what it is asked: its background tasks are there, and its store can be written.
    ///
    /// # Errors
    /// In words, with the cure.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(task) = self.inner.tasks.broken_now() {
            return Err(ServeError::Broken(task).to_string());
        }
        self.inner.db.writable().map_err(|error| with_causes(&error))
    }

    /// Ends sessions, followers and background work, and waits for them. What was acknowledged is in the store.
    pub async fn close(&self) {
        self.inner.tasks.close().await;
    }

    /// Waits until [`ControlPlane::close`] is called.
    pub(crate) fn stopped(&self) -> Stopped {
        self.inner.tasks.stopped()
    }

    pub(crate) fn changed(&self, change: Change) {
        // Nobody may be following.
        let _ = self.inner.changes.send(change);
    }
}

#[cfg(test)]
mod tests {
    use store::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_background_task_that_breaks_down_is_not_missed_in_silence() {
        let store = StoreHandle::new(MemoryStore::new());
        let control = ControlPlane::open(store, Config::default()).await.expect("open");
        assert_eq!(control.ready(), Ok(()));
        control
            .inner
            .tasks
            .background("made for the test", async { panic!("a defect") });
        let name = tokio::time::timeout(Duration::from_secs(20), control.broken()).await;
        assert_eq!(name, Ok("made for the test"));
        let said = control.ready().expect_err("it is not ready");
        assert!(
            said.starts_with("its task \"made for the test\" broke down"),
            "{said}"
        );
        control.close().await;
    }
}
