//! Workflows as they are read and followed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use workflow::engine::{self, Event, Workflow};

use crate::clock;
use crate::control::{Change, ControlPlane};
use coordinator::Error;
use coordinator::making::Text;
use coordinator::namespaces::Reach;
use coordinator::steps::{load, rows};

/// Events read in one go.
const PAGE: usize = 200;
/// Keys have ten digits of a number.
const MAX_NUMBER: u64 = 9_999_999_999;

pub(crate) fn no_workflow(id: &str) -> Error {
    Error::NotFound(format!("no workflow has id {id:?}: see `farrier workflow list`"))
}

impl ControlPlane {
    /// A workflow as it is now, or was when it was archived. One out of reach is none.
    pub(crate) async fn workflow(&self, reach: &Reach, id: &str) -> Result<Arc<Workflow>, Error> {
        let found = self.workflow_if_any(id).await?;
        let found = found.filter(|workflow| reach.has(&workflow.head.namespace));
        found.ok_or_else(|| no_workflow(id))
    }

    /// In any namespace.
    pub(crate) async fn workflow_if_any(&self, id: &str) -> Result<Option<Arc<Workflow>>, Error> {
        if let Some(found) = self.workflow_in_store(id).await? {
            return Ok(Some(found));
        }
        // It may have been brought back since: then it is read where it is now.
        let asked = id.to_owned();
        let read = self.rows_of(id).read(move |place| {
            let found = load::workflow(place.rows, &asked)?;
            if found.is_none() && place.archived.is_some() {
                return Err(Error::Refused(format!(
                    "the archive of workflow {asked} has no workflow"
                )));
            }
            Ok(found)
        });
        read.await
    }

    /// A workflow that is not archived, out of memory or out of the store.
    pub(crate) async fn workflow_in_store(&self, id: &str) -> Result<Option<Arc<Workflow>>, Error> {
        if let Some(found) = self.inner.coordinator.at_hand(id) {
            return Ok(Some(found));
        }
        let asked = id.to_owned();
        self.ask_coordinator(move |coordinator| coordinator.workflow(&asked))
            .await
    }

    /// What a workflow was rendered to.
    pub(crate) async fn workflow_text(&self, workflow: &Workflow) -> Result<Option<Text>, Error> {
        let id = &workflow.head.id;
        let key = format!("workflow-text/{id}");
        let read = self.rows_of(id).read(move |place| place.rows.get::<Text>(&key));
        Ok(read.await?.map(|text| text.value))
    }

    /// Sends events from number `from` on; with `follow`, until the workflow has ended.
    pub(crate) async fn events(
        &self,
        reach: &Reach,
        id: &str,
        mut from: u64,
        follow: bool,
        to: mpsc::Sender<(Event, Arc<Workflow>)>,
    ) -> Result<(), Error> {
        let mut changes = self.inner.changes.subscribe();
        let rows = self.rows_of(id);
        loop {
            // Before the events: what comes later is seen in the next round.
            let workflow = self.workflow(reach, id).await?;
            let mut more = true;
            while more {
                // A page is of one snapshot. Events never change, so the pages belong together, too.
                let (asked, prefix) = (id.to_owned(), format!("event/{id}/"));
                let start = rows::event(id, from.min(MAX_NUMBER));
                let page = rows.read(move |place| {
                    let page = place.rows.page::<Event>(&prefix, &start, PAGE)?;
                    // An end that is none: it was deleted.
                    if page.len() < PAGE && !place.has_workflow(&asked)? {
                        return Err(no_workflow(&asked));
                    }
                    Ok(page)
                });
                let page = page.await?;
                more = page.len() == PAGE;
                for (_, event) in page {
                    from = event.number + 1;
                    if to.send((event, workflow.clone())).await.is_err() {
                        return Ok(());
                    }
                }
            }
            if !follow || workflow.head.state.is_final() {
                return Ok(());
            }
            tokio::select! {
                () = workflow_changed(&mut changes, id) => {}
                () = to.closed() => return Ok(()),
                () = self.stopped() => return Err(Error::Stopping),
            }
        }
    }

    /// What a workflow or one of its tasks does or waits for; with the queues of the machines that it waits for.
    pub(crate) async fn explain(
        &self,
        reach: &Reach,
        id: &str,
        task: Option<&str>,
    ) -> Result<Vec<String>, Error> {
        let workflow = self.workflow(reach, id).await?;
        let named = task.map(|task| task.split('[').next().unwrap_or(task));
        if let Some(named) = named.filter(|named| workflow.definition.task_named(named).is_none()) {
            let names = workflow.definition.tasks.iter().map(|task| task.name.as_str());
            return Err(Error::NotFound(format!(
                "workflow {id} has no task {named:?}: it has {}",
                names.collect::<Vec<_>>().join(", ")
            )));
        }
        let mut lines = engine::explain(&workflow, task, clock::now());
        let named = named.and_then(|named| workflow.definition.task_named(named));
        let queues = self.ask_coordinator(move |coordinator| coordinator.queues(&workflow, named));
        lines.extend(queues.await?);
        Ok(lines)
    }

    /// Waits until the workflow has ended, or `within` is over; gives it as it is then.
    pub(crate) async fn wait(
        &self,
        reach: &Reach,
        id: &str,
        within: Option<Duration>,
    ) -> Result<Arc<Workflow>, Error> {
        let mut changes = self.inner.changes.subscribe();
        let over = async {
            match within {
                Some(within) => tokio::time::sleep(within).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        loop {
            let workflow = self.workflow(reach, id).await?;
            if workflow.head.state.is_final() {
                return Ok(workflow);
            }
            tokio::select! {
                () = workflow_changed(&mut changes, id) => {}
                () = &mut over => return self.workflow(reach, id).await,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use store::{MemoryStore, StoreHandle};

    use super::*;
    use crate::Config;

    #[tokio::test]
    async fn who_has_missed_changes_of_others_looks_again() {
        let store = StoreHandle::new(MemoryStore::new());
        let control = ControlPlane::open(store, Config::default()).await.expect("open");
        let mut changes = control.inner.changes.subscribe();
        let mut others = async |count: usize| {
            (0..count).for_each(|_| control.changed(Change::Workflow("another".into())));
            let looked = workflow_changed(&mut changes, "mine");
            tokio::time::timeout(Duration::from_millis(200), looked).await
        };
        assert!(
            others(crate::control::CHANGES).await.is_err(),
            "nothing was missed"
        );
        assert!(others(crate::control::CHANGES + 1).await.is_ok());
        control.close().await;
    }
}
