//! The sessions that there are now: who holds a machine, and how it is woken.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coordinator::machines::mac_text;
use macaddr::MacAddr6;
use proto::v1::ActionProgress;
use tokio::sync::Notify;
use workflow::engine::UnixMillis;

use super::looks::Looks;
use crate::clock;
use crate::workflows::logs::Progress;

/// One session, as others see it.
pub(crate) struct Handle {
    /// The machine's name.
    pub(crate) machine: String,
    pub(crate) mac: MacAddr6,
    pub(crate) boot_id: String,
    /// Its agent says who runs actions that are images, and no containerd does.
    lacks_containerd: AtomicBool,
    /// There may be work.
    pub(crate) poked: Notify,
    /// A newer stream of the same machine came: end.
    pub(crate) replaced: Notify,
    /// Held while the session runs, so that the next one of the machine begins after it.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// When the last message came.
    heard: AtomicU64,
    /// How far the action is that runs there, as it was told last.
    progress: Mutex<Option<Progress>>,
    /// Who waits for what the agent sees.
    pub(crate) looks: Looks,
}

/// By the machines' names: one machine is one agent, whichever of its NICs it booted from.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    sessions: Arc<Mutex<Sessions>>,
}

type Sessions = HashMap<String, Arc<Handle>>;

/// A session that is there until this is dropped, however its task ends.
pub(crate) struct Registered {
    handle: Arc<Handle>,
    registry: Registry,
}

/// A stream that may not replace the session that there is.
pub(crate) struct Held;

impl Registry {
    /// Registers a session; one of the same machine is told to end.
    ///
    /// # Errors
    /// [`Held`] when another boot holds the machine and this one has proved nothing.
    pub(crate) fn register(
        &self,
        machine: &str,
        mac: MacAddr6,
        boot_id: &str,
        proved: bool,
    ) -> Result<Registered, Held> {
        let mut sessions = self.lock();
        let before = sessions.get(machine).cloned();
        if before
            .as_ref()
            .is_some_and(|before| before.boot_id != boot_id && !proved)
        {
            return Err(Held);
        }
        let turn = before
            .as_ref()
            .map(|before| before.turn.clone())
            .unwrap_or_default();
        let handle = Arc::new(Handle {
            machine: machine.to_owned(),
            mac,
            boot_id: boot_id.to_owned(),
            lacks_containerd: AtomicBool::new(false),
            heard: AtomicU64::new(clock::wall()),
            progress: Mutex::default(),
            looks: Looks::default(),
            poked: Notify::new(),
            replaced: Notify::new(),
            turn,
        });
        if let Some(before) = before {
            before.replaced.notify_one();
        }
        sessions.insert(machine.to_owned(), handle.clone());
        Ok(Registered {
            handle,
            registry: self.clone(),
        })
    }

    /// Has the machine's session look for work, if it is attached.
    pub(crate) fn poke(&self, machine: &str) {
        if let Some(handle) = self.lock().get(machine) {
            handle.poked.notify_one();
        }
    }

    /// When the attached agent of a machine was last heard; `None` when it is not attached.
    pub(crate) fn heard(&self, machine: &str) -> Option<UnixMillis> {
        Some(self.lock().get(machine)?.last_heard())
    }

    /// The session of a machine, if it is attached.
    pub(crate) fn session(&self, machine: &str) -> Option<Arc<Handle>> {
        self.lock().get(machine).cloned()
    }

    /// How far the action is that runs on a machine, as it told last.
    pub(crate) fn progress_on(&self, machine: &str) -> Option<ActionProgress> {
        let handle = self.lock().get(machine).cloned()?;
        let progress = handle.progress().clone();
        progress.map(|progress| progress.message)
    }

    /// How far actions are, by the ids of their workflows.
    pub(crate) fn progress(&self) -> HashMap<String, Vec<ActionProgress>> {
        let mut all: HashMap<String, Vec<ActionProgress>> = HashMap::new();
        for handle in self.lock().values() {
            if let Some(progress) = handle.progress().clone() {
                all.entry(progress.workflow).or_default().push(progress.message);
            }
        }
        for of_one in all.values_mut() {
            of_one.sort_by(|one, other| one.attempt_id.cmp(&other.attempt_id));
        }
        all
    }

    /// The name of an attached machine that has no containerd, as it has booted, by a worker's text: a name or a MAC.
    pub(crate) fn without_containerd(&self, worker: &str) -> Option<String> {
        let sessions = self.lock();
        let is_it = |handle: &&Arc<Handle>| handle.machine == worker || mac_text(handle.mac) == worker;
        let handle = sessions.get(worker).or_else(|| sessions.values().find(is_it))?;
        let lacks = handle.lacks_containerd.load(Ordering::Relaxed);
        lacks.then(|| handle.machine.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }
}

/// Forgets it, unless a newer one has its place.
impl Drop for Registered {
    fn drop(&mut self) {
        let mut sessions = self.registry.lock();
        if sessions
            .get(&self.handle.machine)
            .is_some_and(|current| Arc::ptr_eq(current, &self.handle))
        {
            sessions.remove(&self.handle.machine);
        }
    }
}

impl Handle {
    /// What the agent's Hello says of who runs actions that are images.
    pub(crate) fn says(&self, runtimes: &[String]) {
        let lacks = !runtimes.is_empty() && !runtimes.iter().any(|name| name == "containerd");
        self.lacks_containerd.store(lacks, Ordering::Relaxed);
    }

    pub(crate) fn heard(&self) {
        self.heard.store(clock::wall(), Ordering::Relaxed);
    }

    pub(crate) fn progressed(&self, progress: Progress) {
        *self.progress() = Some(progress);
    }

    /// Nothing more is to be told of an attempt.
    pub(crate) fn is_over(&self, attempt: &str) {
        let is_of = |progress: &mut Progress| progress.message.attempt_id == attempt;
        self.progress().take_if(is_of);
    }

    fn progress(&self) -> MutexGuard<'_, Option<Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn last_heard(&self) -> UnixMillis {
        self.heard.load(Ordering::Relaxed)
    }

    /// Waits until the machine's earlier session has ended.
    pub(crate) async fn turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_is_there_until_its_task_ends_also_by_a_panic_and_a_newer_one_stays() {
        let registry = Registry::default();
        let mac = MacAddr6::new(2, 0, 0, 0, 0, 1);
        let first = registry.register("node1", mac, "k1", true).ok().expect("free");
        assert!(registry.heard("node1").is_some());
        let task = tokio::spawn(async move {
            let _registered = first;
            panic!("a defect, made for the test");
        });
        assert!(task.await.is_err());
        assert!(registry.heard("node1").is_none());
        let older = registry.register("node1", mac, "k1", true).ok().expect("free");
        let newer = registry.register("node1", mac, "k2", true).ok().expect("proved");
        drop(older);
        assert!(registry.heard("node1").is_some());
        drop(newer);
        assert!(registry.heard("node1").is_none());
    }
}
