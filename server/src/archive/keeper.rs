//! Archives workflows some time after they have ended, in the background.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;
use std::time::Duration;

use store::StoreError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::control::{ControlPlane, Inner};
use crate::database::off_the_runtime;
use crate::tasks::caught;
use coordinator::Error;
use coordinator::archive::{Member, Packed, Readiness};
use coordinator::data;

/// Roots that are archived at the same time.
const AT_ONCE: usize = 8;
/// When it failed, or somebody still needs it: looked at again after this, and then after twice as long each time.
const AGAIN: Duration = Duration::from_secs(10);
const MAX_AGAIN: Duration = Duration::from_secs(10 * 60);

/// Takes the roots that have ended. Holds the control plane weakly: it must be able to go away.
pub(crate) async fn run(
    control: Weak<Inner>,
    mut ended: mpsc::UnboundedReceiver<String>,
    after: Duration,
    stopped: impl Future<Output = ()>,
) {
    let mut due: BTreeSet<(Instant, String)> = BTreeSet::new();
    let mut waits: BTreeMap<String, Duration> = BTreeMap::new();
    let mut under_way: JoinSet<(String, bool)> = JoinSet::new();
    tokio::pin!(stopped);
    loop {
        let next = due.first().map(|(at, _)| *at);
        let sleep = tokio::time::sleep_until(next.unwrap_or_else(Instant::now));
        tokio::select! {
            () = &mut stopped => break,
            root = ended.recv() => match root {
                Some(root) => drop(due.insert((Instant::now() + after, root))),
                None => break,
            },
            Some(done) = under_way.join_next() => {
                let Ok((root, done)) = done else { continue };
                if done {
                    waits.remove(&root);
                } else {
                    let wait = waits.get(&root).map_or(AGAIN, |wait| (2 * *wait).min(MAX_AGAIN));
                    waits.insert(root.clone(), wait);
                    due.insert((Instant::now() + wait, root));
                }
            }
            () = sleep, if next.is_some() && under_way.len() < AT_ONCE => {
                let Some(inner) = control.upgrade() else { break };
                let Some((_, root)) = due.pop_first() else { continue };
                let control = ControlPlane { inner };
                under_way.spawn(async move {
                    let archived = caught("archiving a workflow", control.try_archive(&root)).await;
                    let done = archived.unwrap_or(false);
                    (root, done)
                });
            }
        }
    }
    // What is half done is done to its end: it is short.
    while under_way.join_next().await.is_some() {}
}

impl ControlPlane {
    /// False: it is to be tried again.
    async fn try_archive(&self, root: &str) -> bool {
        match self.archive(root).await {
            Ok(Readiness::Gone | Readiness::Ready(_)) => true,
            Ok(Readiness::NotYet(why)) => {
                tracing::debug!(workflow = root, why, "an ended workflow is not archived yet");
                false
            }
            Err(error) => {
                // Somebody wrote to it, or its snapshot did not last: it is looked at again.
                let goes_on = error.is_conflict() || error.store().is_some_and(StoreError::is_expired);
                if !goes_on {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(workflow = root, error, "an ended workflow cannot be archived now");
                }
                false
            }
        }
    }

    /// Archives a root and all that are below it, if nobody needs them in the store.
    pub(crate) async fn archive(&self, root: &str) -> Result<Readiness, Error> {
        let _turn = self.archive_turn(root).lock().await;
        let store = self.inner.db.store();
        let asked = root.to_owned();
        let readiness = off_the_runtime(move || Readiness::of(&*store, &asked)).await?;
        if let Readiness::Ready(members) = &readiness {
            for member in members {
                self.archive_one(member).await?;
            }
        }
        Ok(readiness)
    }

    async fn archive_one(&self, member: &Member) -> Result<(), Error> {
        let blobs = &self.inner.config.blobs;
        let mut files = Vec::new();
        for digest in member.contents() {
            let blob = data::blob_of(&digest)?;
            files.push((digest.to_string(), blobs.get(&blob).await?));
        }
        // A workflow whose log is large has several blobs; only one is held in memory.
        let (parts, mut packed) = mpsc::channel::<Packed>(1);
        let (store, packing) = (self.inner.db.store(), member.clone());
        let packing = off_the_runtime(move || {
            let mut packer = packing.packer(&*store, files)?;
            while let Some(part) = packer.next_part()? {
                if parts.blocking_send(part).is_err() {
                    break;
                }
            }
            Ok(())
        });
        // It owns the channel's end: when a part cannot be put, the other side is not left waiting.
        let putting = async move {
            let mut put = Vec::new();
            while let Some(part) = packed.recv().await {
                put.push((part.first, blobs.put(part.bytes).await?));
            }
            Ok::<_, Error>(put)
        };
        let (packed, put) = tokio::join!(packing, putting);
        let put = put?;
        packed?;
        self.inner.db.commit_of(member.commit(put)).await?;
        self.inner.coordinator.forget_workflow(member.id());
        Ok(())
    }
}
