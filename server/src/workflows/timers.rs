//! Due times of workflows: kept in memory, found again in the store after a restart.

use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::mpsc;
use workflow::engine::{Command, UnixMillis, Workflow, next_timer};

use super::step::Step;
use crate::clock;
use crate::control::{ControlPlane, Inner};
use crate::database::Batch;
use crate::error::Error;

/// When to look at a workflow again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) at: UnixMillis,
    pub(crate) workflow: String,
}

/// After a failure of the store.
const RETRY_MS: UnixMillis = 5_000;
/// The clock may be set while we sleep; we look again this often.
const MAX_SLEEP: Duration = Duration::from_secs(30);

impl ControlPlane {
    pub(crate) async fn arm_timers(&self) -> Result<(), Error> {
        let timers = self.inner.db.with(|view| {
            let open = view.list::<()>("open/")?;
            let ids: BTreeSet<String> = open
                .into_iter()
                .filter_map(|(key, ())| Some(key.rsplit_once('/')?.1.to_owned()))
                .collect();
            let mut timers = Vec::new();
            for id in ids {
                let state = view.get::<Workflow>(&format!("workflow/{id}"))?;
                if let Some(at) = state.and_then(|state| next_timer(&state.value)) {
                    timers.push(Timer { at, workflow: id });
                }
            }
            Ok(timers)
        });
        for timer in timers.await? {
            // The receiver is alive: it is started after this.
            let _ = self.inner.timers.send(timer);
        }
        Ok(())
    }
}

/// Holds the control plane weakly: it must be able to go away.
pub(crate) async fn run(
    control: Weak<Inner>,
    mut timers: mpsc::UnboundedReceiver<Timer>,
    stopped: impl Future<Output = ()>,
) {
    let mut due: BTreeSet<Timer> = BTreeSet::new();
    tokio::pin!(stopped);
    loop {
        let wait = due.first().map_or(MAX_SLEEP, |timer| {
            Duration::from_millis(timer.at.saturating_sub(clock::now())).min(MAX_SLEEP)
        });
        tokio::select! {
            () = &mut stopped => return,
            timer = timers.recv() => match timer {
                Some(timer) => drop(due.insert(timer)),
                None => return,
            },
            () = tokio::time::sleep(wait) => {
                let Some(inner) = control.upgrade() else { return };
                let control = ControlPlane { inner };
                while due.first().is_some_and(|timer| timer.at <= clock::now()) {
                    let Some(timer) = due.pop_first() else { break };
                    let done = control.command(&timer.workflow, &Command::Timer, Batch::default()).await;
                    match done {
                        // One that is not due any more, or has ended, says so.
                        Ok(Step::Done(_) | Step::Refused(_)) => {}
                        Err(error) => {
                            tracing::error!(workflow = timer.workflow, error = &error as &dyn std::error::Error,
                                "timer failed, tried again in {RETRY_MS} ms");
                            due.insert(Timer { at: clock::now() + RETRY_MS, ..timer });
                        }
                    }
                }
            }
        }
    }
}
