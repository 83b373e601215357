//! Tasks that the worker cannot do without.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

/// Runs beside the worker what it cannot do without: a panic there ends the process, and PID 1 starts it anew.
pub(crate) fn spawn_needed(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        if AssertUnwindSafe(task).catch_unwind().await.is_err() {
            std::process::abort();
        }
    });
}
