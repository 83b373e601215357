//! Circles of waits of which something still goes on are looked at again, until they are deadlocks or gone.

use std::sync::Weak;
use std::time::Duration;

use crate::control::{ControlPlane, Inner};
use crate::tasks::caught;
use coordinator::Input;

const LOOK: Duration = Duration::from_secs(1);

/// Holds the control plane weakly: it must be able to go away.
pub(crate) async fn run(control: Weak<Inner>, stopped: impl Future<Output = ()>) {
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let Some(inner) = control.upgrade() else { return };
        let control = ControlPlane { inner };
        for machine in control.inner.coordinator.suspects() {
            let input = Input::Blocked { machine };
            let looked = caught(
                "looking for workflows that wait for each other",
                control.step(&input),
            );
            if let Some(Err(error)) = looked.await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "machines that workflows wait for cannot be looked at"
                );
            }
        }
    }
}
