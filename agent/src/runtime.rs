//! The runtime of those faces of the agent that have one: one thread.

use std::process::ExitCode;

use crate::console::say;

/// Runs the work to its end.
pub(crate) fn on_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    crate::entropy::prepare();
    // reqwest and tonic ask for it; a second installation is no harm.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(e) => {
            say(&format!("no runtime: {e}"));
            ExitCode::FAILURE
        }
    }
}
