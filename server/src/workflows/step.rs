//! One step of a workflow: load, decide, commit events and state and index together, tell.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use workflow::engine::{Command, Refusal, Workflow, WorkflowState, apply, decide, next_timer};

use super::timers::Timer;
use crate::clock;
use crate::control::{Change, ControlPlane};
use crate::database::Batch;
use crate::error::Error;

/// Times that a step is decided again after another commit came first.
const TRIES: usize = 16;

/// What a command led to.
pub(crate) enum Step {
    /// The state after it, durable; also when it changed nothing.
    Done(Box<Workflow>),
    /// The engine would not; nothing changed.
    Refused(Refusal),
}

/// The workflow that ended last on a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Last {
    pub(crate) id: String,
    pub(crate) state: WorkflowState,
    pub(crate) message: String,
}

impl Last {
    pub(crate) fn of(workflow: &Workflow) -> Self {
        Self {
            id: workflow.id.clone(),
            state: workflow.state,
            message: workflow.message.clone(),
        }
    }
}

impl ControlPlane {
    /// Does `command` to a workflow. `extra` is written in the same commit, also when there are no events.
    pub(crate) async fn command(&self, id: &str, command: &Command, extra: Batch) -> Result<Step, Error> {
        let _turn = self.workflow_turn(id).lock().await;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_command(id, command, extra.clone()).await {
                // A create that conflicts has met its own idempotency key.
                Err(error)
                    if error.is_conflict() && tries < TRIES && !matches!(command, Command::Create { .. }) => {
                }
                other => return other,
            }
        }
    }

    async fn try_command(&self, id: &str, command: &Command, extra: Batch) -> Result<Step, Error> {
        let key = format!("workflow/{id}");
        let (before, modified) = match self.inner.db.get::<Workflow>(key.clone()).await? {
            Some(stored) => (Some(stored.value), Some(stored.modified)),
            None => (None, None),
        };
        let events = match decide(before.as_ref(), command, clock::now()) {
            Ok(events) => events,
            Err(refusal) => return Ok(Step::Refused(refusal)),
        };
        let was_final = before.as_ref().is_some_and(|before| before.state.is_final());
        let timer = before.as_ref().and_then(next_timer);
        let created = before.is_none();
        let state = events
            .iter()
            .fold(before, |state, event| Some(apply(state, event)));
        let Some(state) = state else {
            return Ok(Step::Refused(Refusal::Missing));
        };
        let mut batch = extra;
        if events.is_empty() {
            if !batch.is_empty() {
                self.inner.db.commit(batch).await?;
            }
            return Ok(Step::Done(Box::new(state)));
        }
        batch.expect(&key, modified);
        batch.put(&key, &state);
        for event in &events {
            batch.put(format!("event/{id}/{:010}", event.number), event);
        }
        index(&mut batch, &state, created, was_final);
        self.inner.db.commit(batch).await?;
        if let Some(at) = next_timer(&state).filter(|at| timer != Some(*at)) {
            // Nobody receives any more when we stop.
            let _ = self.inner.timers.send(Timer {
                at,
                workflow: id.to_owned(),
            });
        }
        self.after_change(&state);
        Ok(Step::Done(Box::new(state)))
    }

    /// Tells followers, and the agents that it is work for.
    pub(crate) fn after_change(&self, workflow: &Workflow) {
        self.changed(Change::Workflow(workflow.id.clone()));
        workers(workflow)
            .iter()
            .for_each(|worker| self.inner.agents.poke(worker));
    }

    pub(crate) fn workflow_turn(&self, id: &str) -> &tokio::sync::Mutex<()> {
        let turns = &self.inner.workflow_turns;
        // Ids are time-ordered: their last characters are the random ones.
        let sum = id.bytes().rev().take(8).fold(0_usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        turns
            .get(sum % turns.len().max(1))
            .expect("an index below the length")
    }
}

/// The workers of all tasks, each once.
pub(crate) fn workers(workflow: &Workflow) -> BTreeSet<String> {
    workflow
        .definition
        .tasks
        .iter()
        .map(|task| task.worker.clone())
        .collect()
}

/// What a worker's workflows are, and so what its machine boots next: kept in the commit that changes it.
fn index(batch: &mut Batch, state: &Workflow, created: bool, was_final: bool) {
    for worker in workers(state) {
        let open = format!("open/{worker}/{}", state.id);
        if created {
            batch.put(format!("of/{worker}/{}", state.id), &());
            batch.put(&open, &());
        }
        if state.state.is_final() && !was_final {
            batch.delete(&open);
            batch.put(format!("last/{worker}"), &Last::of(state));
        }
    }
}
