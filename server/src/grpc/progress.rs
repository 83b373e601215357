//! How far actions are, passed on while it happens.

use proto::v1::ActionProgress;
use tokio::sync::{broadcast, mpsc};

use crate::control::ControlPlane;
use coordinator::Error;
use coordinator::namespaces::Reach;

impl ControlPlane {
    /// Passes progress on until the workflow has ended; with an empty id, that of all workflows.
    pub(super) async fn watch_progress(
        &self,
        reach: &Reach,
        id: &str,
        to: mpsc::Sender<ActionProgress>,
    ) -> Result<(), Error> {
        let mut progress = self.inner.progress.subscribe();
        let mut changes = self.inner.changes.subscribe();
        loop {
            if !id.is_empty() && self.workflow(reach, id).await?.head.state.is_final() {
                return Ok(());
            }
            let received = tokio::select! {
                received = progress.recv() => received,
                () = crate::workflows::read::workflow_changed(&mut changes, id) => continue,
                () = to.closed() => return Ok(()),
                () = self.stopped() => return Err(Error::Stopping),
            };
            match received {
                Ok(one) if (id.is_empty() && reach.has(&one.namespace)) || one.workflow == id => {
                    if to.send(one.message).await.is_err() {
                        return Ok(());
                    }
                }
                // What was missed is out of date anyway.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Err(Error::Stopping),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn progress_that_was_missed_is_passed_over() {
        let store = store::StoreHandle::new(store::MemoryStore::new());
        let control = ControlPlane::open(store, crate::Config::default())
            .await
            .expect("open");
        let (to, mut from) = mpsc::channel(1);
        let watching = tokio::spawn({
            let control = control.clone();
            async move { control.watch_progress(&Reach::everything(), "", to).await }
        });
        while control.inner.progress.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        let count = crate::control::CHANGES as u64 + 100;
        for done_bytes in 0..count {
            let message = ActionProgress {
                done_bytes,
                ..ActionProgress::default()
            };
            let workflow = "w".to_owned();
            let namespace = "default".to_owned();
            let progress = crate::workflows::logs::Progress {
                workflow,
                namespace,
                message,
            };
            control.inner.progress.send(progress).expect("somebody watches");
        }
        let mut got = Vec::new();
        while got.last() != Some(&(count - 1)) {
            got.push(from.recv().await.expect("the newest").done_bytes);
        }
        assert!(
            got.len() < usize::try_from(count).expect("few"),
            "some were missed"
        );
        drop(from);
        // Before the server stops, which would be the other reason to end.
        assert!(watching.await.expect("no panic").is_ok());
        control.close().await;
    }
}
