//! Carries what workflows want of others: rows of outboxes, in order within a workflow, many workflows at a time.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::control::{ControlPlane, Inner};
use crate::tasks::caught;
use coordinator::Error;
use coordinator::{Input, Next};

/// Outboxes that are emptied at the same time.
const AT_ONCE: usize = 32;
/// After a failure of the store.
const RETRY: Duration = Duration::from_secs(5);

/// Holds the control plane weakly: it must be able to go away.
pub(crate) async fn run(
    control: Weak<Inner>,
    mut keys: mpsc::UnboundedReceiver<String>,
    stopped: impl Future<Output = ()>,
) {
    let mut waiting: VecDeque<String> = VecDeque::new();
    let mut active: BTreeSet<String> = BTreeSet::new();
    // Got a row while they were being emptied, perhaps after the last look.
    let mut again: BTreeSet<String> = BTreeSet::new();
    let mut emptied: JoinSet<(String, bool)> = JoinSet::new();
    tokio::pin!(stopped);
    loop {
        while emptied.len() < AT_ONCE
            && let Some(outbox) = waiting.pop_front()
        {
            let Some(inner) = control.upgrade() else { return };
            let control = ControlPlane { inner };
            active.insert(outbox.clone());
            emptied.spawn(async move {
                let emptied = caught(
                    "carrying what a workflow wants of others",
                    empty(&control, &outbox),
                );
                let done = match emptied.await {
                    Some(done) => done,
                    None => {
                        pause(&control).await;
                        false
                    }
                };
                (outbox, done)
            });
        }
        tokio::select! {
            () = &mut stopped => break,
            key = keys.recv() => {
                let Some(key) = key else { break };
                let outbox = outbox_of(&key);
                if active.contains(&outbox) {
                    again.insert(outbox);
                } else if !waiting.contains(&outbox) {
                    waiting.push_back(outbox);
                }
            }
            Some(done) = emptied.join_next() => {
                let Ok((outbox, done)) = done else { continue };
                active.remove(&outbox);
                if again.remove(&outbox) || !done {
                    waiting.push_back(outbox);
                }
            }
        }
    }
    // A step is not broken off.
    while emptied.join_next().await.is_some() {}
}

/// Before it is tried again.
async fn pause(control: &ControlPlane) {
    tokio::select! {
        () = tokio::time::sleep(RETRY) => {}
        () = control.stopped() => {}
    }
}

/// False: it failed, and is to be tried again.
async fn empty(control: &ControlPlane, outbox: &str) -> bool {
    loop {
        match carry_first(control, outbox).await {
            Ok(true) => {}
            Ok(false) => return true,
            Err(Error::Stopping) => return true,
            Err(error) => {
                tracing::error!(
                    outbox,
                    error = &error as &dyn std::error::Error,
                    "an outbox is tried again in {RETRY:?}"
                );
                pause(control).await;
                return false;
            }
        }
        if control.inner.tasks.is_stopping() {
            return true;
        }
    }
}

/// True: there is more.
async fn carry_first(control: &ControlPlane, outbox: &str) -> Result<bool, Error> {
    let key = outbox.to_owned();
    let input = Input::Carry { key };
    let (_, then) = loop {
        match control.step_and_then(&input).await {
            Err(Error::Archived(id)) => control.bring_back(&id).await?,
            done => break done?,
        }
    };
    let mut more = false;
    for next in then {
        match next {
            Next::Carry(key) if outbox_of(&key) == outbox => more = true,
            other => control.follow_up(other),
        }
    }
    Ok(more)
}

/// `outbox/<id>/`.
fn outbox_of(key: &str) -> String {
    key.splitn(3, '/')
        .take(2)
        .map(|part| format!("{part}/"))
        .collect()
}
