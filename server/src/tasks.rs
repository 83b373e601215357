//! Background work that must not be gone in silence.

use std::panic::AssertUnwindSafe;

use coordinator::Error;
use futures_util::FutureExt;
use tokio::task::JoinError;

/// Does `work`; `None` when it panicked, which is said. Nothing that others share may be half changed by a panic: the store's
/// commits happen wholly or not at all, and what is in memory is read from there again.
pub(crate) async fn caught<T>(what: &str, work: impl Future<Output = T>) -> Option<T> {
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
