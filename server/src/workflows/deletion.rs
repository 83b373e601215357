//! Deleting a workflow: what it left in the store, and what its machines boot next without it.

use std::collections::BTreeSet;

use workflow::engine::{Command, Head};

use super::last::Last;
use super::{Text, read};
use crate::control::{Change, ControlPlane};
use crate::coordinator::rows;
use crate::database::{Batch, Stored, View};
use crate::error::Error;

impl ControlPlane {
    /// Removes an ended (or not yet started) workflow with its events and logs.
    pub(crate) async fn delete_workflow(&self, id: &str) -> Result<(), Error> {
        let workflow = self.workflow(id)?;
        let head = &workflow.head;
        if !head.state.is_final() {
            if head.started_at.is_some() {
                return Err(has_not_ended(head));
            }
            // What it asked machines to keep for it goes first.
            let reason = "it is deleted".to_owned();
            self.ask(id, Command::Cancel { reason }).await?;
        }
        let _turn = self.workflow_turn(id).lock().await;
        loop {
            match self.try_delete_workflow(id).await {
                // Another workflow of one of its machines has ended in the meantime.
                Err(error) if error.is_conflict() => self.inner.coordinator.forget_workflow(id),
                other => return other,
            }
        }
    }

    async fn try_delete_workflow(&self, id: &str) -> Result<(), Error> {
        let workflow = self.workflow(id)?;
        let mut machines = BTreeSet::new();
        let workers = workflow
            .executions
            .values()
            .map(|execution| execution.worker.as_str());
        let workers = workers.chain(workflow.definition.tasks.iter().map(|task| task.worker.as_str()));
        for worker in workers.collect::<BTreeSet<_>>() {
            machines.insert(self.inner.coordinator.machine_of(worker)?);
        }
        let asked = id.to_owned();
        let known = self.inner.db.with(move |view| deletion(view, &asked, machines));
        let Deletion {
            head,
            text,
            machines,
            previous,
        } = known.await?;
        if !head.value.state.is_final() {
            return Err(has_not_ended(&head.value));
        }
        let mut batch = Batch::default();
        batch.unchanged(rows::head(id), head.modified);
        batch.delete(rows::head(id));
        batch.delete(rows::definition(id));
        batch.delete(format!("workflow-text/{id}"));
        for below in ["execution", "items", "event", "log", "log-total"] {
            batch.delete_below(&format!("{below}/{id}/"));
        }
        let data = store::Commit {
            operations: crate::data::versions::forget(id),
            ..store::Commit::default()
        };
        batch.take_in(&data);
        if let Some(key) = text
            .map(|text| text.idempotency_key)
            .filter(|key| !key.is_empty())
        {
            batch.delete(format!("idempotency/{key}"));
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
        self.inner.db.commit(batch).await?;
        self.inner.coordinator.forget_workflow(id);
        self.changed(Change::Workflow(id.to_owned()));
        Ok(())
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

/// What must be known to delete a workflow.
struct Deletion {
    head: Stored<Head>,
    text: Option<Text>,
    machines: BTreeSet<String>,
    previous: Vec<Previous>,
}

/// Of a machine whose last workflow goes: the one that is the last then.
struct Previous {
    machine: String,
    /// Of what says so now.
    modified: store::Revision,
    last: Option<Last>,
}

fn deletion(view: &View, id: &str, machines: BTreeSet<String>) -> Result<Deletion, Error> {
    let head = view
        .get::<Head>(&rows::head(id))?
        .ok_or_else(|| read::no_workflow(id))?;
    let text = view.get::<Text>(&format!("workflow-text/{id}"))?;
    let mut previous = Vec::new();
    for machine in &machines {
        let Some(now) = view
            .get::<Last>(&format!("last/{machine}"))?
            .filter(|last| last.value.id == id)
        else {
            continue;
        };
        let mut before: Option<(u64, Last)> = None;
        for (other, ()) in view.list::<()>(&format!("of/{machine}/"))? {
            let Some(other) = view.get::<Head>(&rows::head(&other))?.filter(|_| other != id) else {
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
    Ok(Deletion {
        head,
        text: text.map(|text| text.value),
        machines,
        previous,
    })
}
