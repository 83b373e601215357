//! The sessions that there are now: who holds a machine, and how it is woken.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use macaddr::MacAddr6;
use tokio::sync::Notify;
use workflow::engine::UnixMillis;

use crate::clock;

/// One session, as others see it.
pub(crate) struct Handle {
    /// The machine's name.
    pub(crate) machine: String,
    pub(crate) mac: MacAddr6,
    pub(crate) boot_id: String,
    /// There may be work.
    pub(crate) poked: Notify,
    /// A newer stream of the same machine came: end.
    pub(crate) replaced: Notify,
    /// Held while the session runs, so that the next one of the machine begins after it.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// When the last message came.
    heard: AtomicU64,
}

/// By the machines' names: one machine is one agent, whichever of its NICs it booted from.
#[derive(Default)]
pub(crate) struct Registry {
    sessions: Mutex<HashMap<String, Arc<Handle>>>,
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
    ) -> Result<Arc<Handle>, Held> {
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
            heard: AtomicU64::new(clock::wall()),
            poked: Notify::new(),
            replaced: Notify::new(),
            turn,
        });
        if let Some(before) = before {
            before.replaced.notify_one();
        }
        sessions.insert(machine.to_owned(), handle.clone());
        Ok(handle)
    }

    /// Forgets a session, unless a newer one has its place.
    pub(crate) fn forget(&self, handle: &Arc<Handle>) {
        let mut sessions = self.lock();
        if sessions
            .get(&handle.machine)
            .is_some_and(|current| Arc::ptr_eq(current, handle))
        {
            sessions.remove(&handle.machine);
        }
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

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Handle>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    pub(crate) fn heard(&self) {
        self.heard.store(clock::wall(), Ordering::Relaxed);
    }

    pub(crate) fn last_heard(&self) -> UnixMillis {
        self.heard.load(Ordering::Relaxed)
    }

    /// Waits until the machine's earlier session has ended.
    pub(crate) async fn turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }
}
