//! Machines that are not heard of while they have something to run.
//!
//! The clock counts only time in which this server was up and could hear: it advances by ticks, and a tick that comes much
//! too late (the process was stopped, the machine slept) counts as one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::control::{ControlPlane, Inner};
use crate::tasks::caught;
use coordinator::Input;

/// The longest time between two looks.
const MAX_TICK: Duration = Duration::from_secs(1);

/// For how long each machine could have been heard, and was not.
#[derive(Default)]
pub(crate) struct Silence {
    clock: Mutex<Clock>,
}

#[derive(Default)]
struct Clock {
    /// Time in which we could hear, since the start.
    listened: Duration,
    /// What `listened` was when a machine was heard last.
    heard: HashMap<String, Duration>,
}

impl Silence {
    pub(crate) fn heard(&self, machine: &str) {
        let mut clock = self.lock();
        let listened = clock.listened;
        match clock.heard.get_mut(machine) {
            Some(heard) => *heard = listened,
            None => drop(clock.heard.insert(machine.to_owned(), listened)),
        }
    }

    /// A machine that was never heard is silent since we began.
    pub(crate) fn of(&self, machine: &str) -> Duration {
        let clock = self.lock();
        let heard = clock.heard.get(machine).copied().unwrap_or_default();
        clock.listened.saturating_sub(heard)
    }

    fn listened(&self, more: Duration) {
        self.lock().listened += more;
    }

    fn lock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds the control plane weakly: it must be able to go away.
pub(crate) async fn run(control: Weak<Inner>, lost_after: Duration, stopped: impl Future<Output = ()>) {
    let tick = (lost_after / 10).clamp(Duration::from_millis(1), MAX_TICK);
    let mut last = Instant::now();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(tick) => {}
        }
        let Some(inner) = control.upgrade() else { return };
        let control = ControlPlane { inner };
        control.inner.silence.listened(last.elapsed().min(2 * tick));
        last = Instant::now();
        control.look_for_silence(lost_after).await;
    }
}

impl ControlPlane {
    /// A machine that cannot be looked at does not keep the others from it.
    async fn look_for_silence(&self, lost_after: Duration) {
        for machine in self.inner.coordinator.busy() {
            let silence = self.inner.silence.of(&machine);
            if silence < lost_after {
                continue;
            }
            let for_ms = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(
                machine,
                for_ms,
                "nothing was heard of a machine: its attempt is lost"
            );
            let input = Input::Silent { machine, for_ms };
            let Some(done) = caught("looking whether an attempt is lost", self.step(&input)).await else {
                continue;
            };
            if let (Err(error), Input::Silent { machine, .. }) = (done, &input) {
                tracing::error!(
                    machine,
                    error = &error as &dyn std::error::Error,
                    "whether an attempt is lost cannot be looked at now; it is tried again"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_the_start_or_from_the_last_word() {
        let silence = Silence::default();
        let seconds = Duration::from_secs;
        silence.listened(seconds(10));
        silence.heard("node1");
        silence.listened(seconds(5));
        assert_eq!(
            (silence.of("node1"), silence.of("node2")),
            (seconds(5), seconds(15))
        );
    }
}
