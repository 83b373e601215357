//! Workflows as they are read and followed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proto::v1::WorkflowDataFile;
use tokio::sync::{broadcast, mpsc};
use workflow::engine::{self, Event, Head, Workflow};
use workflow::language::Definition;

use super::Text;
use crate::clock;
use crate::control::{Change, ControlPlane};
use crate::coordinator::rows;
use crate::database::View;
use crate::error::Error;

/// Events read in one go.
const PAGE: usize = 200;
/// Keys have ten digits of a number.
const MAX_NUMBER: u64 = 9_999_999_999;

pub(crate) fn no_workflow(id: &str) -> Error {
    Error::NotFound(format!("no workflow has id {id:?}: see `farrier workflow list`"))
}

impl ControlPlane {
    /// A workflow as it is now.
    pub(crate) fn workflow(&self, id: &str) -> Result<Arc<Workflow>, Error> {
        let found = self.inner.coordinator.workflow(id)?;
        found.ok_or_else(|| no_workflow(id))
    }

    /// What a workflow was rendered to.
    pub(crate) async fn workflow_text(&self, id: &str) -> Result<Option<Text>, Error> {
        let text = self.inner.db.get::<Text>(format!("workflow-text/{id}")).await?;
        Ok(text.map(|text| text.value))
    }

    /// All workflows, or those with a task on this machine, in order of creation: what they are as a whole.
    pub(crate) async fn workflows(&self, machine: &str) -> Result<Vec<(Head, Definition)>, Error> {
        let names = match machine {
            "" => None,
            machine => Some(self.machine(machine).await?.index_names()),
        };
        self.inner
            .db
            .with(move |view| {
                let mut found = Vec::new();
                match names {
                    None => found.extend(view.list::<Head>("workflow/")?.into_iter().map(|(_, head)| head)),
                    Some(names) => {
                        for id in workflows_of(view, &names)? {
                            found.extend(view.get::<Head>(&rows::head(&id))?.map(|stored| stored.value));
                        }
                    }
                }
                let mut defined = Vec::new();
                for head in found {
                    let definition = view.get::<Definition>(&rows::definition(&head.id))?;
                    defined.extend(definition.map(|definition| (head, definition.value)));
                }
                Ok(defined)
            })
            .await
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
            let workflow = self.workflow(id)?;
            let mut more = true;
            while more {
                let (prefix, start) = (format!("event/{id}/"), rows::event(id, from.min(MAX_NUMBER)));
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
    pub(crate) fn explain(&self, id: &str, task: Option<&str>) -> Result<Vec<String>, Error> {
        let workflow = self.workflow(id)?;
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
            let workflow = self.workflow(id)?;
            if workflow.head.state.is_final() {
                return Ok(workflow);
            }
            tokio::select! {
                () = workflow_changed(&mut changes, id) => {}
                () = &mut over => return self.workflow(id),
                () = self.stopped() => return Err(Error::Stopping),
            }
        }
    }
}

/// Ids of all workflows that had something for a machine, in order of creation.
fn workflows_of(view: &View, names: &[String]) -> Result<BTreeSet<String>, Error> {
    let mut ids = BTreeSet::new();
    for name in names {
        let of = view.list::<()>(&format!("of/{name}/"))?;
        ids.extend(of.into_iter().map(|(id, ())| id));
    }
    Ok(ids)
}

impl ControlPlane {
    /// Sends the files that a workflow's actions have handed over; `version` 0: the newest, `path` empty: all.
    pub(crate) async fn data_files(
        &self,
        id: &str,
        version: u64,
        path: &str,
        to: mpsc::Sender<WorkflowDataFile>,
    ) -> Result<(), Error> {
        let workflow = self.workflow(id)?;
        let (root, coordinator) = (workflow.root(), &self.inner.coordinator);
        let version = match version {
            0 => coordinator.data_version(root)?,
            version => version,
        };
        let manifest = coordinator.data_manifest(root, version)?.ok_or_else(|| {
            Error::NotFound(format!(
                "version {version} of the data of workflow {root} is not kept"
            ))
        })?;
        if !path.is_empty() && manifest.get(path).is_none() {
            return Err(Error::NotFound(format!(
                "there is no file {path:?} in version {version} of the data of workflow {root}: see `farrier workflow data \
                 {root}`"
            )));
        }
        let files = manifest
            .files()
            .filter(|(name, _)| path.is_empty() || name.as_str() == path);
        for (name, file) in files {
            let digest = file.sha256.to_string();
            let blob = digest.parse().map_err(|_| {
                Error::NotFound(format!("the data of workflow {root} name no blob: {digest}"))
            })?;
            let content = self.inner.config.blobs.get(&blob).await?;
            let file = WorkflowDataFile {
                version,
                path: name.to_string(),
                size_bytes: file.size_bytes,
                sha256: digest,
                content: content.to_vec(),
            };
            if to.send(file).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
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
