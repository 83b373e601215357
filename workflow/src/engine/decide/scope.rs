//! What expressions see.

use serde_json::{Map, Value, json};

use super::super::event::Failure;
use super::super::graph;
use super::super::state::{StepState, TaskState, Workflow};
use crate::expression::Scope;

/// What the expressions of `task` (None: the workflow's outputs) see outside of an execution.
pub(super) fn scope(workflow: &Workflow, task: Option<usize>) -> Scope {
    let head = &workflow.head;
    let mut tasks = Map::new();
    for (index, (task, state)) in workflow.definition.tasks.iter().zip(&head.tasks).enumerate() {
        let outputs = if task.for_each.is_some() {
            outputs_of_items(workflow, index)
        } else if state.outputs.is_null() {
            json!({})
        } else {
            state.outputs.clone()
        };
        tasks.insert(
            task.name.clone(),
            seen(state.state, outputs, state.error.as_ref()),
        );
    }
    let (success, failure) = gate(workflow, task);
    let mut variables = Map::new();
    variables.insert("inputs".into(), Value::Object(Map::clone(&head.inputs)));
    if let Some(state) = task.and_then(|task| head.tasks.get(task)) {
        variables.insert("round".into(), Value::from(state.iteration));
    }
    variables.insert("vars".into(), Value::Object(Map::clone(&head.vars)));
    variables.insert("tasks".into(), Value::Object(tasks));
    variables.insert(
        "workflow".into(),
        json!({"id": head.id, "name": head.name, "run": head.run, "namespace": head.namespace, "labels": *head.labels}),
    );
    Scope {
        variables,
        success,
        failure,
        ..Scope::default()
    }
}

/// An element of a `forEach`'s list, and which it is, from 0.
#[derive(Clone, Copy)]
pub(super) struct Item<'v> {
    pub value: &'v Value,
    pub index: usize,
}

/// The scope, with what `item`, `item_index` and `machine` are. A worker's machine is what was known of it when the
/// workflow was made; an item with a `mac` is its own machine.
pub(super) fn bind(scope: &mut Scope, workflow: &Workflow, item: Option<Item<'_>>, worker: &str) {
    let of_item = item
        .map(|item| item.value)
        .filter(|item| item.get("mac").is_some());
    let machine = of_item.or_else(|| workflow.head.machines.get(worker));
    for (name, value) in [
        ("item", item.map(|item| item.value.clone())),
        ("item_index", item.map(|item| Value::from(item.index))),
        ("machine", machine.cloned()),
    ] {
        match value {
            Some(value) => scope.variables.insert(name.into(), value),
            None => scope.variables.remove(name),
        };
    }
}

/// What `tasks.NAME` is.
pub(super) fn seen(state: StepState, outputs: Value, error: Option<&Failure>) -> Value {
    let (reason, message) = error.map_or(("", ""), |error| (&error.reason, &error.message));
    json!({"state": state.as_str(), "outputs": outputs, "error": {"reason": reason, "message": message}})
}

fn outputs_of_items(workflow: &Workflow, task: usize) -> Value {
    let executions = workflow.executions_of(task);
    executions
        .map(|execution| Value::Object(execution.outputs.clone()))
        .collect()
}

/// What `success()` and `failure()` are for a task: none of all that it needs failed unhandled; one of it failed,
/// handled or not.
pub(super) fn gate(workflow: &Workflow, task: Option<usize>) -> (bool, bool) {
    let tasks = &workflow.head.tasks;
    let all: Vec<usize> = match task {
        Some(task) => graph::ancestors(&workflow.definition, task).into_iter().collect(),
        None => (0..tasks.len()).collect(),
    };
    let mut needed = all.iter().filter_map(|&need| tasks.get(need));
    let success = !needed.clone().any(is_unhandled);
    let failure = needed.any(|need| matches!(need.state, StepState::Failed | StepState::Timeout));
    (success, failure)
}

/// Failed, and no task that recovers it has succeeded.
pub(super) fn is_unhandled(task: &TaskState) -> bool {
    use StepState::*;
    matches!(task.state, Failed | Timeout | Cancelled) && !task.recovered
}
