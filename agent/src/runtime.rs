//! The runtime of those faces of the agent that have one: one thread.

use std::process::ExitCode;

use crate::console::say;

/// Runs the work to its end.
pub(crate) fn on_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    crate::entropy::prepare();
    crate::traced::onto_the_console();
    // reqwest and tonic ask for it; a second installation is no harm.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // A driver that still looks for its devices is not waited for.
            runtime.shutdown_background();
            code
        }
        Err(e) => {
            say(&format!("no runtime: {e}"));
            ExitCode::FAILURE
        }
    }
}
