//! Which machines the rest of a workflow can use: what a claim is held for.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::graph;
use super::ids::{AttemptId, ExecutionId};
use super::state::{Execution, StepState, TaskState, Workflow};
use crate::language::{Control, Task};

/// Whether something that is left may run on a machine that can't be told yet: a sub-workflow, or a worker that is
/// an expression.
pub(super) fn may_use_any(workflow: &Workflow) -> bool {
    let again = reopened(workflow);
    workflow.definition.tasks.iter().enumerate().any(|(index, task)| {
        let Some(state) = workflow
            .head
            .tasks
            .get(index)
            .filter(|_| !workflow.head.state.is_final())
        else {
            return false;
        };
        let reopens = again.contains(&index);
        if state.state.is_final() && !reopens {
            return false;
        }
        if matches!(task.control, Some(Control::Workflow { .. })) {
            return true;
        }
        let is_made = !reopens && state.instance > 0 && state.items > 0 && state.made >= state.items;
        let is_listed = !reopens && is_item(task) && list_of(workflow, index, state).is_some();
        has_unknown_worker(task) && !is_made && !is_listed
    })
}

/// Whether something that is left runs on this machine for sure or by what is known; `except` does not count.
pub(super) fn may_use(workflow: &Workflow, worker: &str, except: Option<ExecutionId>) -> bool {
    if workflow.head.state.is_final() {
        return false;
    }
    let again = reopened(workflow);
    workflow.definition.tasks.iter().enumerate().any(|(index, task)| {
        let Some(state) = workflow.head.tasks.get(index) else {
            return false;
        };
        let is_named = !task.actions.is_empty() && task.worker == worker;
        if again.contains(&index) && is_named {
            return true;
        }
        if state.state.is_final() {
            return false;
        }
        let is_left = state.items == 0 || state.made < state.items;
        if is_left && (is_named || names(workflow, index, task, state, worker)) {
            return true;
        }
        workflow.executions_of(index).any(|execution| {
            // Who waits for an answer of a machine does not hold it.
            let is_used = !execution.actions.is_empty() && execution.worker == worker;
            !execution.state.is_final() && is_used && Some(execution.id) != except
        })
    })
}

/// Every machine that was ever claimed for this workflow or its sub-workflows.
pub(super) fn claimed(workflow: &Workflow) -> BTreeSet<String> {
    let executions = || workflow.executions.values();
    let of_children = executions().flat_map(|execution| execution.child_workers.iter());
    let of_executions = executions()
        .filter(|execution| !execution.actions.is_empty() && !execution.worker.is_empty())
        .map(|execution| &execution.worker);
    let mut all = static_workers(workflow);
    all.extend(of_children.chain(of_executions).cloned());
    all
}

/// The machines that the definition names.
pub(super) fn static_workers(workflow: &Workflow) -> BTreeSet<String> {
    let tasks = workflow.definition.tasks.iter();
    tasks
        .filter(|task| !task.actions.is_empty() && !task.worker.is_empty() && !has_unknown_worker(task))
        .map(|task| task.worker.clone())
        .collect()
}

/// Whether this is the last action of the last task on its machine. A workflow that is being stopped begins no other.
pub(super) fn is_last_on_machine(workflow: &Workflow, attempt: &AttemptId) -> bool {
    let is_stopping = workflow.head.ending.is_some();
    workflow.execution(attempt.execution).is_some_and(|execution| {
        let is_left = |execution: &Execution| {
            may_use_any(workflow) || may_use(workflow, &execution.worker, Some(execution.id))
        };
        is_last_action(execution, attempt.action) && (is_stopping || !is_left(execution))
    })
}

fn is_last_action(execution: &Execution, action: usize) -> bool {
    action.checked_add(1) == Some(execution.actions.len())
}

/// Tasks that a `goto` may still run again.
fn reopened(workflow: &Workflow) -> BTreeSet<usize> {
    let mut tasks = BTreeSet::new();
    for (from, task) in workflow.definition.tasks.iter().enumerate() {
        let is_over = workflow
            .head
            .tasks
            .get(from)
            .is_none_or(|state| state.state.is_final() || state.went_back >= task.goto_max());
        if let Some(goto) = task.goto.as_ref().filter(|_| !is_over) {
            tasks.extend(graph::between(&workflow.definition, goto.task, from));
        }
    }
    tasks
}

fn has_unknown_worker(task: &Task) -> bool {
    !task.actions.is_empty() && task.worker.contains("${{")
}

/// Whether the worker is the item itself, or its `mac`: then it is known as soon as the list is.
pub(super) fn is_item(task: &Task) -> bool {
    let inner = task
        .worker
        .trim()
        .strip_prefix("${{")
        .and_then(|text| text.strip_suffix("}}"));
    task.for_each.is_some()
        && !task.actions.is_empty()
        && matches!(inner.map(str::trim), Some("item" | "item.mac"))
}

/// Whether an item that no execution was made for yet names the machine.
fn names(workflow: &Workflow, index: usize, task: &Task, state: &TaskState, worker: &str) -> bool {
    if !is_item(task) {
        return false;
    }
    let items = list_of(workflow, index, state);
    let mut left = items.iter().flat_map(|items| items.iter().skip(state.made));
    left.any(|item| {
        let text = item.as_str().or_else(|| item.get("mac").and_then(Value::as_str));
        text.is_none_or(|text| text.eq_ignore_ascii_case(worker))
    })
}

/// The list that a task goes over, or will: that of an earlier instance only if it is carried on from there. A task that
/// is to run anew (in the next run, or after a `goto`) makes a new one.
fn list_of<'w>(workflow: &'w Workflow, index: usize, state: &TaskState) -> Option<&'w Arc<Vec<Value>>> {
    let instance = match state.state {
        StepState::Idle => state.carries,
        _ => state.instance,
    };
    workflow.items.get(&(index, instance))
}

impl Task {
    fn goto_max(&self) -> u32 {
        self.goto.as_ref().map_or(0, |goto| goto.max)
    }
}
