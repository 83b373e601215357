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
    pub(crate) mac: MacAddr6,
    pub(crate) boot_id: String,
    /// What tasks may call the machine.
    pub(crate) workers: Vec<String>,
    /// There may be work.
    pub(crate) poked: Notify,
    /// A newer stream of the same machine came: end.
    pub(crate) replaced: Notify,
    /// Held while the session runs, so that the next one of the machine begins after it.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// When the last message came.
    heard: AtomicU64,
}

#[derive(Default)]
pub(crate) struct Registry {
    machines: Mutex<Machines>,
}

#[derive(Default)]
struct Machines {
    sessions: HashMap<MacAddr6, Arc<Handle>>,
    workers: HashMap<String, MacAddr6>,
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
        mac: MacAddr6,
        boot_id: &str,
        proved: bool,
        workers: Vec<String>,
    ) -> Result<Arc<Handle>, Held> {
        let mut machines = self.lock();
        let before = machines.sessions.get(&mac).cloned();
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
            mac,
            boot_id: boot_id.to_owned(),
            workers,
            heard: AtomicU64::new(clock::now()),
            poked: Notify::new(),
            replaced: Notify::new(),
            turn,
        });
        if let Some(before) = before {
            before.replaced.notify_one();
        }
        for worker in &handle.workers {
            machines.workers.insert(worker.clone(), mac);
        }
        machines.sessions.insert(mac, handle.clone());
        Ok(handle)
    }

    /// Forgets a session, unless a newer one has its place.
    pub(crate) fn forget(&self, handle: &Arc<Handle>) {
        let mut machines = self.lock();
        if machines
            .sessions
            .get(&handle.mac)
            .is_some_and(|current| Arc::ptr_eq(current, handle))
        {
            machines.sessions.remove(&handle.mac);
            machines.workers.retain(|_, mac| *mac != handle.mac);
        }
    }

    /// Has the worker's session look for work, if it is attached.
    pub(crate) fn poke(&self, worker: &str) {
        let machines = self.lock();
        if let Some(handle) = machines
            .workers
            .get(worker)
            .and_then(|mac| machines.sessions.get(mac))
        {
            handle.poked.notify_one();
        }
    }

    /// When the attached agent of a machine was last heard; `None` when it is not attached.
    pub(crate) fn heard(&self, mac: MacAddr6) -> Option<UnixMillis> {
        Some(self.lock().sessions.get(&mac)?.last_heard())
    }

    fn lock(&self) -> MutexGuard<'_, Machines> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    pub(crate) fn heard(&self) {
        self.heard.store(clock::now(), Ordering::Relaxed);
    }

    pub(crate) fn last_heard(&self) -> UnixMillis {
        self.heard.load(Ordering::Relaxed)
    }

    /// Waits until the machine's earlier session has ended.
    pub(crate) async fn turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }
}
