//! What expressions see.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::super::event::Failure;
use super::super::graph;
use super::super::state::{Execution, LastRound, StepState, TaskState, Workflow};
use crate::expression::Scope;
use crate::language::Definition;

/// What the expressions of `task` (None: the workflow's outputs) see outside of an execution.
pub(super) fn scope(workflow: &Workflow, task: Option<usize>) -> Scope {
    let head = &workflow.head;
    let mut tasks = Map::new();
    let later = task.map_or_else(BTreeSet::new, |task| {
        graph::later_in_loops(&workflow.definition, task)
    });
    for (index, (task, state)) in workflow.definition.tasks.iter().zip(&head.tasks).enumerate() {
        if later.contains(&index) {
            if let Some(last) = &state.last {
                tasks.insert(task.name.clone(), last_round(workflow, index, last));
            }
            continue;
        }
        let outputs = if task.for_each.is_some() {
            outputs_of_items(workflow.executions_of(index))
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
    for (name, members) in workflow.definition.groups() {
        // What is not over yet in this round makes no group.
        if !members.iter().any(|member| later.contains(member)) {
            let group = group(workflow, &members, &tasks);
            tasks.insert(name.to_owned(), group);
        }
    }
    let (success, failure) = gate(workflow, task);
    let mut variables = Map::new();
    variables.insert("inputs".into(), Value::Object(Map::clone(&head.inputs)));
    if let Some(state) = task.and_then(|task| head.tasks.get(task)) {
        variables.insert("round".into(), Value::from(state.iteration));
    }
    if let Some(branch) = task.and_then(|task| branch_index(&workflow.definition, task)) {
        variables.insert("branch_index".into(), Value::from(branch));
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

/// Which of the tasks of its group it is, from 0.
fn branch_index(definition: &Definition, task: usize) -> Option<usize> {
    let groups = definition.groups();
    let members = groups.get(definition.tasks.get(task)?.group.as_str())?;
    members.iter().position(|member| *member == task)
}

/// What `tasks.GROUP` is: what its tasks gave, by name. It is as the first of them that went wrong; SKIPPED when all were.
fn group(workflow: &Workflow, members: &[usize], tasks: &Map<String, Value>) -> Value {
    use StepState::*;
    let states = || {
        members
            .iter()
            .filter_map(|member| workflow.head.tasks.get(*member))
    };
    let wrong = states().find(|task| matches!(task.state, Failed | Timeout | Cancelled));
    let state = match wrong {
        Some(task) => task.state,
        None if states().all(|task| task.state == Skipped) => Skipped,
        None => Success,
    };
    let names = members
        .iter()
        .filter_map(|member| workflow.definition.tasks.get(*member));
    let outputs = names.map(|task| {
        let outputs = tasks.get(&task.name).and_then(|seen| seen.get("outputs"));
        (task.name.clone(), outputs.cloned().unwrap_or_else(|| json!({})))
    });
    let outputs = Value::Object(outputs.collect());
    seen(state, outputs, wrong.and_then(|task| task.error.as_ref()))
}

/// What `tasks.NAME` is of a task that has not ended in this round.
fn last_round(workflow: &Workflow, task: usize, last: &LastRound) -> Value {
    let mut executions = workflow.executions_in(task, last.instance);
    let is_many = workflow
        .definition
        .tasks
        .get(task)
        .is_some_and(|task| task.for_each.is_some());
    let outputs = match is_many {
        true => outputs_of_items(executions),
        false => executions
            .next()
            .map_or_else(|| json!({}), |execution| Value::Object(execution.outputs.clone())),
    };
    seen(last.state, outputs, last.error.as_ref())
}

fn outputs_of_items<'w>(executions: impl Iterator<Item = &'w Execution>) -> Value {
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
