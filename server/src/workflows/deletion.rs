//! Deleting a workflow: what it left in the store or in an archive, and what its machines boot next without it.

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::v1::DeleteWorkflowResponse;
use store::Revision;
use workflow::engine::{Command, Head, Workflow};

use super::idempotency;
use crate::control::{Change, ControlPlane};
use crate::once::note;
use coordinator::Error;
use coordinator::archive::{self, Archived, tree};
use coordinator::database::{Batch, Stored, View};
use coordinator::last::Last;
use coordinator::making::Text;
use coordinator::namespaces::Reach;
use coordinator::once::Once;
use coordinator::steps::{load, rows};

/// Why it is deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Because {
    /// A person wants it to be as if it had not been: its machines boot what they booted without it.
    Asked,
    /// It is old. What its machines boot stays.
    Old,
}

impl ControlPlane {
    /// Removes an ended (or not yet started) workflow with its sub-workflows, events and logs.
    pub(crate) async fn delete_workflow(
        &self,
        reach: &Reach,
        id: &str,
        once: Option<Once>,
    ) -> Result<DeleteWorkflowResponse, Error> {
        let workflow = self.workflow(reach, id).await?;
        let head = &workflow.head;
        if let Some(parent) = &head.parent {
            let root = parent.root.clone();
            let asked = root.clone();
            if self
                .inner
                .db
                .with(move |view| tree::head_of(view, &asked))
                .await?
                .is_some()
            {
                return Err(Error::Refused(format!(
                    "workflow {id} is a part of workflow {root}: delete that one with `farrier workflow delete {root}`"
                )));
            }
        }
        if !head.state.is_final() {
            if head.started_at.is_some() {
                return Err(has_not_ended(head));
            }
            // What it asked machines to keep for it goes first.
            let reason = "it is deleted".to_owned();
            self.ask(
                reach,
                id,
                Command::Cancel {
                    by: String::new(),
                    reason,
                },
                None,
            )
            .await?;
        }
        self.delete_all(id, Because::Asked, once.as_ref()).await?;
        Ok(DeleteWorkflowResponse {})
    }

    /// Removes an archived root that is old, with its sub-workflows.
    pub(crate) async fn delete_old_workflow(&self, id: &str) -> Result<(), Error> {
        self.delete_all(id, Because::Old, None).await
    }

    /// The workflow is the last to go: what is broken off can be deleted again.
    async fn delete_all(&self, root: &str, because: Because, once: Option<&Once>) -> Result<(), Error> {
        let _turn = self.archive_turn(root).lock().await;
        let asked = root.to_owned();
        let ids = self.inner.db.with(move |view| tree::ids(view, &asked)).await?;
        // The root has claimed what only its sub-workflows use.
        let mut all_machines = BTreeSet::new();
        for id in ids {
            let _turn = self.workflow_turn(&id).lock().await;
            let once = once.filter(|_| id == root);
            loop {
                match self
                    .try_delete_workflow(&id, &mut all_machines, because, once)
                    .await
                {
                    // Its key was used for something else in the meantime.
                    Err(error) if once.is_some_and(|once| once.is_met_by(&error)) => return Err(error),
                    // Another workflow of one of its machines has ended in the meantime.
                    Err(error) if error.is_conflict() => self.inner.coordinator.forget_workflow(&id),
                    Err(error) => return Err(error),
                    Ok(()) => break,
                }
            }
        }
        Ok(())
    }

    async fn try_delete_workflow(
        &self,
        id: &str,
        all_machines: &mut BTreeSet<String>,
        because: Because,
        once: Option<&Once>,
    ) -> Result<(), Error> {
        let Some(found) = self.found(id).await? else {
            return Ok(());
        };
        let asked = id.to_owned();
        let workflow = found.workflow.clone();
        let before = std::mem::take(all_machines);
        let known = self.inner.db.with(move |view| {
            let mut machines = before.clone();
            let own = tree::machines(view, &workflow)?;
            machines.extend(own.iter().cloned());
            let of = if workflow.head.parent.is_none() {
                machines.clone()
            } else {
                own
            };
            let previous = previous(view, &asked, &of, because)?;
            Ok((machines, of, previous))
        });
        let (known, machines, previous) = known.await?;
        *all_machines = known;
        let head = &found.workflow.head;
        if !head.state.is_final() {
            return Err(has_not_ended(head));
        }
        let mut batch = Batch::default();
        match &found.archived {
            Some(archived) => {
                batch.unchanged(archive::key(id), archived.modified);
                batch.delete(archive::key(id));
            }
            None => batch.unchanged(rows::head(id), found.modified),
        }
        tree::forget_rows(&mut batch, id);
        rows::labels(head).for_each(|row| batch.delete(row));
        match &head.parent {
            Some(parent) => batch.delete(archive::sub_key(&parent.root, id)),
            None => batch.delete_below(&format!("sub/{id}/")),
        }
        if !found.idempotency_key.is_empty() {
            batch.delete(idempotency(
                &found.workflow.head.namespace,
                &found.idempotency_key,
            ));
        }
        // A rollout over many machines is deleted in several steps; what makes it be gone is the last.
        let mut before = Batch::default();
        let mut machines: Vec<_> = machines.into_iter().map(|machine| (machine, None)).collect();
        machines.extend(
            previous
                .into_iter()
                .map(|previous| (previous.machine.clone(), Some(previous))),
        );
        for (machine, previous) in machines {
            let batch = if batch.len() < MOST {
                &mut batch
            } else {
                &mut before
            };
            match previous {
                None => batch.delete(format!("of/{machine}/{id}")),
                Some(Previous { modified, last, .. }) => {
                    let key = format!("last/{machine}");
                    batch.unchanged(&key, modified);
                    match last {
                        Some(last) => batch.put(key, &last),
                        None => batch.delete(key),
                    }
                }
            }
            if before.len() >= MOST {
                self.inner.db.commit(std::mem::take(&mut before)).await?;
            }
        }
        if !before.is_empty() {
            self.inner.db.commit(before).await?;
        }
        note(once, &mut batch, &DeleteWorkflowResponse {});
        self.inner.db.commit(batch).await?;
        self.inner.coordinator.forget_workflow(id);
        if let Some(archived) = found.archived {
            self.forget_blobs(&archived.value).await;
        }
        self.changed(Change::Workflow(id.to_owned()));
        Ok(())
    }

    /// `None`: there is none.
    async fn found(&self, id: &str) -> Result<Option<Found>, Error> {
        let asked = id.to_owned();
        let read = self.rows_of(id).read(move |place| {
            let Some(head) = place.rows.get::<Head>(&rows::head(&asked))? else {
                return Ok(None);
            };
            let text = place.rows.get::<Text>(&format!("workflow-text/{asked}"))?;
            let workflow = load::workflow(place.rows, &asked)?;
            Ok(workflow.map(|workflow| Found {
                workflow,
                modified: head.modified,
                archived: place.archived.cloned(),
                idempotency_key: text.map(|text| text.value.idempotency_key).unwrap_or_default(),
            }))
        });
        read.await
    }
}

/// Operations of one commit.
const MOST: usize = 100;

fn has_not_ended(head: &Head) -> Error {
    let Head { id, state, .. } = head;
    Error::Refused(format!(
        "workflow {id} is {state}: wait for its end with `farrier workflow wait {id}`, or cancel it with \
         `farrier workflow cancel {id}`"
    ))
}

/// A workflow that is to be deleted.
struct Found {
    workflow: Arc<Workflow>,
    /// Of its head, where that is in the store.
    modified: Revision,
    archived: Option<Stored<Archived>>,
    idempotency_key: String,
}

/// Of a machine whose last workflow goes: the one that is the last then.
struct Previous {
    machine: String,
    /// Of what says so now.
    modified: Revision,
    last: Option<Last>,
}

/// Of those machines whose last workflow it is: the one before.
fn previous(
    view: &View,
    id: &str,
    machines: &BTreeSet<String>,
    because: Because,
) -> Result<Vec<Previous>, Error> {
    let mut previous = Vec::new();
    if because == Because::Old {
        return Ok(previous);
    }
    for machine in machines {
        let Some(now) = view
            .get::<Last>(&format!("last/{machine}"))?
            .filter(|last| last.value.id == id)
        else {
            continue;
        };
        let mut before: Option<(u64, Last)> = None;
        for (other, ()) in view.list::<()>(&format!("of/{machine}/"))? {
            let Some(other) = tree::head_of(view, &other)?.filter(|_| other != id) else {
                continue;
            };
            let ended = other.value.ended_at.unwrap_or(0);
            let is_later = before.as_ref().is_none_or(|(at, _)| *at <= ended);
            if other.value.state.is_final() && other.value.parent.is_none() && is_later {
                before = Some((ended, Last::of_head(&other.value)));
            }
        }
        previous.push(Previous {
            machine: machine.clone(),
            modified: now.modified,
            last: before.map(|(_, last)| last),
        });
    }
    Ok(previous)
}
