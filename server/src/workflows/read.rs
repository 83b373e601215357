//! Workflows as they are read and followed.

use tokio::sync::{broadcast, mpsc};
use workflow::engine::{Event, Workflow};

use super::Text;
use crate::control::{Change, ControlPlane};
use crate::error::Error;

/// Events read in one go.
const PAGE: usize = 200;

pub(crate) fn no_workflow(id: &str) -> Error {
    Error::NotFound(format!("no workflow has id {id:?}: see `farrier workflow list`"))
}

impl ControlPlane {
    /// A workflow and what it was rendered to.
    pub(crate) async fn workflow(&self, id: &str) -> Result<(Workflow, Option<Text>), Error> {
        let asked = id.to_owned();
        self.inner
            .db
            .with(move |view| {
                let state = view
                    .get::<Workflow>(&format!("workflow/{asked}"))?
                    .ok_or_else(|| no_workflow(&asked))?;
                let text = view.get::<Text>(&format!("workflow-text/{asked}"))?;
                Ok((state.value, text.map(|text| text.value)))
            })
            .await
    }

    /// All workflows, or those with a task on this machine, in order of creation.
    pub(crate) async fn workflows(&self, machine: &str) -> Result<Vec<Workflow>, Error> {
        if machine.is_empty() {
            let all = self.inner.db.list::<Workflow>("workflow/".into()).await?;
            return Ok(all.into_iter().map(|(_, workflow)| workflow).collect());
        }
        let workers = self.machine(machine).await?.workers();
        self.inner
            .db
            .with(move |view| {
                let mut ids = Vec::new();
                for worker in workers {
                    ids.extend(
                        view.list::<()>(&format!("of/{worker}/"))?
                            .into_iter()
                            .map(|(id, ())| id),
                    );
                }
                ids.sort();
                ids.dedup();
                let mut found = Vec::new();
                for id in ids {
                    found.extend(
                        view.get::<Workflow>(&format!("workflow/{id}"))?
                            .map(|stored| stored.value),
                    );
                }
                Ok(found)
            })
            .await
    }

    /// Sends events from number `from` on; with `follow`, until the workflow has ended.
    pub(crate) async fn events(
        &self,
        id: &str,
        mut from: u64,
        follow: bool,
        to: mpsc::Sender<(Event, Workflow)>,
    ) -> Result<(), Error> {
        let mut changes = self.inner.changes.subscribe();
        loop {
            // Before the events: what comes later is seen in the next round.
            let (workflow, _) = self.workflow(id).await?;
            let mut more = true;
            while more {
                let (prefix, start) = (format!("event/{id}/"), format!("event/{id}/{from:010}"));
                let page = self
                    .inner
                    .db
                    .with(move |view| view.page::<Event>(&prefix, &start, PAGE))
                    .await?;
                more = page.len() == PAGE;
                for (_, event) in page {
                    from = event.number + 1;
                    if to.send((event, workflow.clone())).await.is_err() {
                        return Ok(());
                    }
                }
            }
            if !follow || workflow.state.is_final() {
                return Ok(());
            }
            tokio::select! {
                () = workflow_changed(&mut changes, id) => {}
                () = to.closed() => return Ok(()),
                () = self.stopped() => return Err(Error::Stopping),
            }
        }
    }
}

/// Waits until something of this workflow changed, or changes were missed.
pub(crate) async fn workflow_changed(changes: &mut broadcast::Receiver<Change>, id: &str) {
    loop {
        match changes.recv().await {
            Ok(Change::Workflow(changed)) if changed == id => return,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            // Only when we stop, which the caller sees too.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
