//! Background work that must not be gone in silence.

use std::panic::AssertUnwindSafe;

use coordinator::Error;
use futures_util::FutureExt;
use tokio::task::JoinError;

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
        };
        let within = crate::within::Within::of_admin();
        control
            .put_template(within.clone(), offered)
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
