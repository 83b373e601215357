//! Due times of workflows: rows of the store, held in memory in their order.

use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use workflow::engine::{Now, UnixMillis};

use crate::clock;
use crate::control::{ControlPlane, Inner};
use crate::tasks::caught;
use coordinator::{Input, Next};

/// The row that says when to look at a workflow again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) at: UnixMillis,
    pub(crate) workflow: String,
}

/// After a failure of the store.
const RETRY_MS: UnixMillis = 5_000;
/// The clock may be set while we sleep; we look again this often.
const MAX_SLEEP: Duration = Duration::from_secs(5);
/// The clock was set.
const STEP_MS: u64 = 1_000;
/// Steps at the same time.
const AT_ONCE: usize = 64;

/// Holds the control plane weakly: it must be able to go away.
pub(crate) async fn run(
    control: Weak<Inner>,
    mut timers: mpsc::UnboundedReceiver<Timer>,
    stopped: impl Future<Output = ()>,
) {
    // When to act, by server time, and the row.
    let mut due: BTreeSet<(UnixMillis, Timer)> = BTreeSet::new();
    let mut wall_ahead_ms = 0;
    let mut steps: JoinSet<Option<(UnixMillis, Timer)>> = JoinSet::new();
    tokio::pin!(stopped);
    loop {
        let now = clock::both();
        if now.wall_ahead_ms.abs_diff(wall_ahead_ms) >= STEP_MS {
            wall_ahead_ms = now.wall_ahead_ms;
            tracing::warn!(
                by_ms = wall_ahead_ms,
                "the clock was set since the server started: waits, delays and timeouts go on by the time that passes, `until` \
                 by the clock, and stamps by the clock after a restart"
            );
            due = due
                .into_iter()
                .map(|(_, timer)| (looked_at(now, timer.at), timer))
                .collect();
        }
        let wait = due.first().map_or(MAX_SLEEP, |(at, _)| {
            Duration::from_millis(at.saturating_sub(clock::now())).min(MAX_SLEEP)
        });
        tokio::select! {
            () = &mut stopped => break,
            timer = timers.recv() => match timer {
                Some(timer) => drop(due.insert((looked_at(clock::both(), timer.at), timer))),
                None => break,
            },
            Some(done) = steps.join_next() => due.extend(done.ok().flatten()),
            () = tokio::time::sleep(wait), if steps.len() < AT_ONCE => {
                let Some(inner) = control.upgrade() else { break };
                let control = ControlPlane { inner };
                while steps.len() < AT_ONCE && due.first().is_some_and(|(at, _)| *at <= clock::now()) {
                    let Some((_, timer)) = due.pop_first() else { break };
                    let control = control.clone();
                    steps.spawn(async move {
                        let fired = caught("a timer", fire(&control, timer.clone())).await;
                        fired.unwrap_or_else(|| Some((clock::now() + RETRY_MS, timer)))
                    });
                }
            }
        }
    }
    // A step is not broken off.
    while steps.join_next().await.is_some() {}
}

/// When to look at what is due `at`, by server time. Whether that is a time of day or the end of a wait is the engine's to
/// know: we look at the first of both.
fn looked_at(now: Now, at: UnixMillis) -> UnixMillis {
    let ahead_ms = now.wall_ahead_ms.max(0).unsigned_abs();
    at.saturating_sub(ahead_ms)
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
                let now = clock::now();
                let then = if at > now {
                    at.min(now + RETRY_MS)
                } else {
                    now + RETRY_MS
                };
                again = Some((then, timer.clone()))
            }
            other => control.follow_up(other),
        }
    }
    again
}
