//! Workflows as they are read and followed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use workflow::engine::{self, Event, Workflow};

use crate::clock;
use crate::control::{Change, ControlPlane};
use coordinator::Error;
use coordinator::making::Text;
use coordinator::steps::rows;

/// Events read in one go.
const PAGE: usize = 200;
/// Keys have ten digits of a number.
const MAX_NUMBER: u64 = 9_999_999_999;

pub(crate) fn no_workflow(id: &str) -> Error {
    Error::NotFound(format!("no workflow has id {id:?}: see `farrier workflow list`"))
}

impl ControlPlane {
    /// A workflow as it is now, or was when it was archived.
    pub(crate) async fn workflow(&self, id: &str) -> Result<Arc<Workflow>, Error> {
        loop {
            if let Some(found) = self.inner.coordinator.workflow(id)? {
                return Ok(found);
            }
            if let Some(found) = self.archived_workflow(id).await? {
                return Ok(found);
            }
            // Between the two looks it may have been brought back.
            if self.inner.coordinator.workflow(id)?.is_none() && self.archived(id).await?.is_none() {
                return Err(no_workflow(id));
            }
        }
    }

    /// What a workflow was rendered to.
    pub(crate) async fn workflow_text(&self, id: &str) -> Result<Option<Text>, Error> {
        loop {
            let place = self.place_of(id).await?;
            let key = format!("workflow-text/{id}");
            let text = place.rows.with(move |view| view.get::<Text>(&key)).await;
            if self.are_still_in(id, &place).await? {
                return Ok(text?.map(|text| text.value));
            }
        }
    }

    /// Sends events from number `from` on; with `follow`, until the workflow has ended.
    pub(crate) async fn events(
        &self,
        id: &str,
        mut from: u64,
        follow: bool,
        to: mpsc::Sender<(Event, Arc<Workflow>)>,
    ) -> Result<(), Error> {
        let mut changes = self.inner.changes.subscribe();
        loop {
            // Before the events: what comes later is seen in the next round.
            let workflow = self.workflow(id).await?;
            let place = self.place_of(id).await?;
            let mut more = true;
            while more {
                let (prefix, start) = (format!("event/{id}/"), rows::event(id, from.min(MAX_NUMBER)));
                let page = place
                    .rows
                    .with(move |view| view.page::<Event>(&prefix, &start, PAGE))
                    .await;
                let page = match page {
                    Err(_) if !self.are_still_in(id, &place).await? => break,
                    page => page?,
                };
                more = page.len() == PAGE;
                for (_, event) in page {
                    from = event.number + 1;
                    if to.send((event, workflow.clone())).await.is_err() {
                        return Ok(());
                    }
                }
            }
            if !self.are_still_in(id, &place).await? {
                continue;
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
    pub(crate) async fn explain(&self, id: &str, task: Option<&str>) -> Result<Vec<String>, Error> {
        let workflow = self.workflow(id).await?;
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
        lines.extend(self.inner.coordinator.queues(&workflow, named)?);
        Ok(lines)
    }

    /// Waits until the workflow has ended, or `within` is over; gives it as it is then.
    pub(crate) async fn wait(&self, id: &str, within: Option<Duration>) -> Result<Arc<Workflow>, Error> {
        let mut changes = self.inner.changes.subscribe();
        let over = async {
            match within {
                Some(within) => tokio::time::sleep(within).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        loop {
            let workflow = self.workflow(id).await?;
            if workflow.head.state.is_final() {
                return Ok(workflow);
            }
            tokio::select! {
                () = workflow_changed(&mut changes, id) => {}
                () = &mut over => return self.workflow(id).await,
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
