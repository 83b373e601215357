//! Background work: what runs until the control plane is closed, and must not be gone in silence before.

use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};

use coordinator::Error;
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::task::TaskTracker;

/// The tasks of a control plane, and its end.
pub(crate) struct Tasks {
    running: TaskTracker,
    stopping: watch::Sender<bool>,
    /// The one that is gone without having been told to stop.
    broken: watch::Sender<Option<&'static str>>,
    /// Stops the last: after everything that has something to hand it.
    last_stopping: watch::Sender<bool>,
    last: Mutex<Option<JoinHandle<()>>>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self {
            running: TaskTracker::new(),
            stopping: watch::channel(false).0,
            broken: watch::channel(None).0,
            last_stopping: watch::channel(false).0,
            last: Mutex::default(),
        }
    }

    /// Has [`Tasks::close`] wait for this task, which ends by itself when stopping.
    pub(crate) fn keep(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(task);
    }

    /// Starts a task that runs until [`Tasks::close`]. One that is gone before is nothing to go on without: see [`Tasks::broken`].
    pub(crate) fn background(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.keep(watched(name, task, &self.broken, self.stopped()));
    }

    /// As [`Tasks::background`], for the one that ends when all others have ended: `task` is given what tells it to.
    pub(crate) fn last<T>(&self, name: &'static str, task: impl FnOnce(Stopped) -> T)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let task = task(stopped(&self.last_stopping));
        let watched = watched(name, task, &self.broken, stopped(&self.last_stopping));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(tokio::spawn(watched));
    }

    /// Waits until a background task is gone that was not told to stop; its name.
    pub(crate) async fn broken(&self) -> &'static str {
        let mut broken = self.broken.subscribe();
        let name = match broken.wait_for(Option::is_some).await {
            Ok(name) => *name,
            Err(_) => None,
        };
        match name {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }

    /// As [`Tasks::broken`], now.
    pub(crate) fn broken_now(&self) -> Option<&'static str> {
        *self.broken.borrow()
    }

    /// Waits until [`Tasks::close`] is called.
    pub(crate) fn stopped(&self) -> Stopped {
        stopped(&self.stopping)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Tells all tasks to end, and waits for them. One that panicked has said so.
    pub(crate) async fn close(&self) {
        self.stopping.send_replace(true);
        self.running.close();
        self.running.wait().await;
        self.last_stopping.send_replace(true);
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(last) = last {
            let _ = last.await;
        }
    }
}

/// Is ready when it is time to end.
pub(crate) type Stopped = futures_util::future::BoxFuture<'static, ()>;

fn stopped(stopping: &watch::Sender<bool>) -> Stopped {
    let mut stopping = stopping.subscribe();
    async move {
        // The sender going away means the same.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
    .boxed()
}

/// Does `task`, and tells `broken` its name if it ends before `stopped` does.
fn watched(
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
    broken: &watch::Sender<Option<&'static str>>,
    stopped: Stopped,
) -> impl Future<Output = ()> + Send + 'static {
    let broken = broken.clone();
    async move {
        if caught(name, task).await.is_none() && stopped.now_or_never().is_none() {
            broken.send_replace(Some(name));
        }
    }
}

/// Does `work`; `None` when it panicked, which is said. Nothing that others share may be half changed by a panic: the store's
/// commits happen wholly or not at all, and what is in memory is read from there again.
pub(crate) async fn caught<T>(what: &str, work: impl Future<Output = T>) -> Option<T> {
    #[cfg(test)]
    let work = async {
        tests::may_break_down(what);
        work.await
    };
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.map_err(|payload| {
        let why = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("it did not say why");
        tracing::error!("{what} broke down, which is a defect of Farrier: {why}");
    })
    .ok()
}

/// Why a task or thread of ours gave no answer.
pub(crate) fn broken_off(error: &JoinError) -> Error {
    if error.is_panic() {
        Error::BrokeDown
    } else {
        Error::Stopping
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use store::{MemoryStore, Store, StoreHandle};

    use crate::Config;
    use crate::control::ControlPlane;
    use crate::workflows::Creation;

    /// Work that panics the next time it is done.
    static DEFECTS: Mutex<Vec<&str>> = Mutex::new(Vec::new());

    pub(super) fn may_break_down(what: &str) {
        let mut defects = DEFECTS.lock().unwrap_or_else(PoisonError::into_inner);
        let place = defects.iter().position(|defect| *defect == what);
        let is_it = place.map(|place| defects.remove(place)).is_some();
        drop(defects);
        assert!(!is_it, "a defect, made for the test");
    }

    /// A timer, an outbox and an archive, each of which panics once on the way: the workflow ends and is archived all the same.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_panics_is_done_again() {
        const DONE_AGAIN: [&str; 3] = [
            "a timer",
            "carrying what a workflow wants of others",
            "archiving a workflow",
        ];
        let store = Arc::new(MemoryStore::new());
        let config = Config {
            archive_after: Duration::ZERO,
            ..Config::default()
        };
        let control = ControlPlane::open(StoreHandle::shared(store.clone()), config);
        let control = control.await.expect("open");
        let child = "version: '1'\nname: child\ntasks: [{name: only, succeed: {}}]\n";
        let offered = coordinator::templates::Offered {
            name: String::new(),
            text: child.into(),
            source: "child.yaml".into(),
            by: "ann".into(),
        };
        let within = crate::within::Within::of_admin();
        control
            .put_template(within.clone(), offered, false)
            .await
            .expect("template");
        DEFECTS.lock().expect("not poisoned").extend(DONE_AGAIN);
        let creation = Creation {
            text: "version: '1'\nname: w\ntasks: [{name: first, wait: 1s}, {name: inner, workflow: child}]\n"
                .into(),
            within,
            ..Creation::default()
        };
        let (workflow, _) = control.create_workflow(creation).await.expect("workflow");
        let key = format!("archived/{}", workflow.head.id);
        let deadline = Instant::now() + Duration::from_secs(60);
        while store.get(key.as_bytes()).expect("readable").is_none() {
            assert!(Instant::now() < deadline, "not archived");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let left = DEFECTS.lock().expect("not poisoned").clone();
        assert!(left.is_empty(), "{left:?} did not panic");
        control.close().await;
    }
}
