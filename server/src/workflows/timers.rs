//! Due times of workflows: rows of the store, held in memory in their order.

use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use workflow::engine::UnixMillis;

use crate::clock;
use crate::control::{ControlPlane, Inner};
use crate::coordinator::{Input, Next};

/// The row that says when to look at a workflow again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) at: UnixMillis,
    pub(crate) workflow: String,
}

/// After a failure of the store.
const RETRY_MS: UnixMillis = 5_000;
/// The clock may be set while we sleep; we look again this often.
const MAX_SLEEP: Duration = Duration::from_secs(30);
/// Steps at the same time.
const AT_ONCE: usize = 64;

/// Holds the control plane weakly: it must be able to go away.
pub(crate) async fn run(
    control: Weak<Inner>,
    mut timers: mpsc::UnboundedReceiver<Timer>,
    stopped: impl Future<Output = ()>,
) {
    // When to act, and the row.
    let mut due: BTreeSet<(UnixMillis, Timer)> = BTreeSet::new();
    let mut steps: JoinSet<Option<(UnixMillis, Timer)>> = JoinSet::new();
    tokio::pin!(stopped);
    loop {
        let wait = due.first().map_or(MAX_SLEEP, |(at, _)| {
            Duration::from_millis(at.saturating_sub(clock::now())).min(MAX_SLEEP)
        });
        tokio::select! {
            () = &mut stopped => break,
            timer = timers.recv() => match timer {
                Some(timer) => drop(due.insert((timer.at, timer))),
                None => break,
            },
            Some(done) = steps.join_next() => due.extend(done.ok().flatten()),
            () = tokio::time::sleep(wait), if steps.len() < AT_ONCE => {
                let Some(inner) = control.upgrade() else { break };
                let control = ControlPlane { inner };
                while steps.len() < AT_ONCE && due.first().is_some_and(|(at, _)| *at <= clock::now()) {
                    let Some((_, timer)) = due.pop_first() else { break };
                    let control = control.clone();
                    steps.spawn(async move { fire(&control, timer).await });
                }
            }
        }
    }
    // A step is not broken off.
    while steps.join_next().await.is_some() {}
}

/// Gives the timer back when it is to be tried again.
async fn fire(control: &ControlPlane, timer: Timer) -> Option<(UnixMillis, Timer)> {
    let input = Input::Timer {
        workflow: timer.workflow.clone(),
        at: timer.at,
    };
    let then = match control.step_and_then(&input).await {
        Ok((_, then)) => then,
        Err(error) => {
            tracing::error!(
                workflow = timer.workflow,
                error = &error as &dyn std::error::Error,
                "timer failed, tried again in {RETRY_MS} ms"
            );
            return Some((clock::now() + RETRY_MS, timer));
        }
    };
    let mut again = None;
    for next in then {
        match next {
            // It is still due: not at once again.
            Next::Timer { at, .. } if at == timer.at => {
                again = Some((clock::now().max(at) + RETRY_MS, timer.clone()))
            }
            other => control.follow_up(other),
        }
    }
    again
}
