//! Keys of the coordinator, and the rows of an outbox.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use store::StoreError;
use workflow::engine::{Effect, ExecutionId, Head, UnixMillis};

use crate::last::Last;

pub fn head(id: &str) -> String {
    format!("workflow/{id}")
}

pub fn definition(id: &str) -> String {
    format!("workflow-definition/{id}")
}

pub fn execution(id: &str, execution: ExecutionId) -> String {
    let ExecutionId { task, instance, item } = execution;
    format!("execution/{id}/{task:05}/{instance:05}/{item:05}")
}

pub fn items(id: &str, task: usize, instance: u32) -> String {
    format!("items/{id}/{task:05}/{instance:05}")
}

/// By which a workflow is found that has a label.
pub fn label(namespace: &str, key: &str, value: &str, id: &str) -> String {
    format!("{}{id}", labelled_with(namespace, key, value))
}

/// All rows of a label with this value.
pub fn labelled_with(namespace: &str, key: &str, value: &str) -> String {
    format!("{}{value}/", labelled(namespace, key))
}

/// All rows of a label. No part of them has a colon, and only keys of labels have slashes: one at most.
pub fn labelled(namespace: &str, key: &str) -> String {
    format!("label/{namespace}/{}/", key.replace('/', ":"))
}

/// Those by which a workflow is found that has these labels.
pub fn labels(head: &Head) -> impl Iterator<Item = String> {
    let row = |(key, value): (&String, &String)| label(&head.namespace, key, value, &head.id);
    head.labels.iter().map(row)
}

pub fn event(id: &str, number: u64) -> String {
    format!("event/{id}/{number:010}")
}

/// The workflow that was decided about by whoever's commit came first; `None`: the conflict is about something else.
pub fn contended(error: &StoreError) -> Option<&str> {
    let StoreError::Conflict { key } = error else {
        return None;
    };
    let key = std::str::from_utf8(key).ok()?;
    match key.split_once('/')? {
        ("workflow", id) => Some(id),
        ("event", event) => event.split_once('/').map(|(id, _)| id),
        _ => None,
    }
}

pub fn machine_work(machine: &str) -> String {
    format!("machine-work/{machine}")
}

/// Who waits for a machine; no row: nobody.
pub fn machine_queue(machine: &str) -> String {
    format!("machine-queue/{machine}")
}

pub fn timer(at: UnixMillis, id: &str) -> String {
    format!("timer/{at:013}/{id}")
}

/// All rows of a workflow's outbox.
pub fn outbox(id: &str) -> String {
    format!("outbox/{id}/")
}

pub(super) fn outbox_row(id: &str, number: u64, n: usize) -> String {
    format!("outbox/{id}/{number:010}/{n:03}")
}

/// Behind all that a decision of the workflow has left.
pub(super) fn deadlock_row(id: &str) -> String {
    outbox_row(id, 9_999_999_999, 0)
}

/// The `n` of a row of that event, or of one that came out of it.
pub(super) fn place(key: &str, id: &str, number: u64) -> Option<usize> {
    let rest = key.strip_prefix(&format!("outbox/{id}/{number:010}/"))?;
    rest.split('/').next()?.parse().ok()
}

/// Whose outbox a row is in.
pub(super) fn whose(outbox_key: &str) -> Option<&str> {
    Some(outbox_key.strip_prefix("outbox/")?.split_once('/')?.0)
}

/// What is left to be done of a step, for one aggregate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "row", rename_all = "snake_case")]
pub(super) enum Row {
    /// For a machine; its name was found when the row was written, so that all of a workflow goes to the same.
    Machine {
        machine: String,
        effects: Vec<ForMachine>,
    },
    /// For a workflow, or the registry.
    Other { effect: Box<Effect> },
    /// The workflow's decision was cut short.
    Continue,
    /// A cycle of waits was seen, closed by this root.
    Deadlock { machine: String, with: String },
    /// Rows of their own did not fit into the commit.
    Several { rows: Vec<Row> },
}

/// An effect on a machine, and what it takes to keep what the machine boots next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ForMachine {
    pub(super) effect: Effect,
    /// Of a release: how the workflow ended on the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<Last>,
}

/// Which machine a row is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum About {
    Machine {
        name: String,
        /// What the workflow calls it: until it is claimed they may come to mean another machine.
        workers: BTreeSet<String>,
    },
    /// It may be any.
    Any,
    None,
}

impl Row {
    pub(super) fn about(&self) -> About {
        match self {
            Row::Machine { machine, effects } => {
                let workers = effects.iter().filter_map(|item| worker(&item.effect));
                About::Machine {
                    name: machine.clone(),
                    workers: workers.map(str::to_owned).collect(),
                }
            }
            Row::Several { .. } => About::Any,
            Row::Other { .. } | Row::Continue | Row::Deadlock { .. } => About::None,
        }
    }
}

impl About {
    /// Whether it may be about this machine, which the workflow calls `worker`.
    pub(super) fn may_be(&self, machine: &str, worker: &str) -> bool {
        match self {
            About::Machine { name, workers } => name == machine || workers.contains(worker),
            About::Any => true,
            About::None => false,
        }
    }
}

/// The worker of an effect that is for a machine.
pub(super) fn worker(effect: &Effect) -> Option<&str> {
    match effect {
        Effect::Claim { worker, .. }
        | Effect::Release { worker, .. }
        | Effect::Want { worker, .. }
        | Effect::Unwant { worker, .. }
        | Effect::Skipped { worker, .. }
        | Effect::Stop { worker, .. } => Some(worker),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_about_a_workflow_names_it() {
        let of = |key: String| contended(&StoreError::Conflict { key: key.into() }).map(str::to_owned);
        assert_eq!(of(head("w1")), Some("w1".to_owned()));
        assert_eq!(of(event("w1", 7)), Some("w1".to_owned()));
        assert_eq!(of(machine_work("m1")), None);
        assert_eq!(of("workflow".to_owned()), None);
        assert_eq!(contended(&StoreError::EmptyKey), None);
    }
}
