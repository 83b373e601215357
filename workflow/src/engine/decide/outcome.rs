//! How tasks and workflows end, and why, in words.

use super::super::event::Failure;
use super::super::state::{Execution, StepState, Workflow, WorkflowState};
use super::scope::is_unhandled;
use super::tasks::{amount, is_over_budget};

/// How a task ends whose executions are all over.
pub(super) fn of_task(workflow: &Workflow, task: usize) -> (StepState, Option<Failure>) {
    let (Some(defined), Some(state)) = (workflow.definition.tasks.get(task), workflow.head.tasks.get(task))
    else {
        return (StepState::Success, None);
    };
    let Some(for_each) = &defined.for_each else {
        return match workflow.executions_of(task).next() {
            Some(execution) => (execution.state, execution.error.clone()),
            None => (StepState::Success, None),
        };
    };
    let first = workflow
        .executions_of(task)
        .find(|execution| has_failed(execution));
    let first = first.map(|execution| {
        let item = execution.id.item;
        format!(
            "; the first was item {item}: {}",
            of_execution(workflow, execution)
        )
    });
    let (failed, items) = (state.failed, state.items);
    let first = first.unwrap_or_default();
    match for_each.max_failures {
        Some(most) if is_over_budget(for_each, state) => {
            let most = amount(most, items);
            let message = format!(
                "{failed} of {items} items failed, {most} are borne, and no more were started{first}"
            );
            (StepState::Failed, Some(Failure::new("TooManyFailures", message)))
        }
        None if failed > 0 => {
            let message = format!("{failed} of {items} items failed{first}");
            (StepState::Failed, Some(Failure::new("ItemsFailed", message)))
        }
        // What a stop has left undone is not borne: the next run does it.
        _ if workflow.executions_of(task).any(is_stopped) => (StepState::Cancelled, None),
        _ => (StepState::Success, None),
    }
}

/// How a workflow ends whose tasks are all over: with its first failure that no task made good.
pub(super) fn of_workflow(workflow: &Workflow) -> (WorkflowState, String) {
    let tasks = workflow.head.tasks.iter().enumerate();
    let first = tasks
        .filter(|(_, state)| is_unhandled(state))
        .min_by_key(|(index, state)| (state.ended_at, *index));
    let Some((index, state)) = first else {
        return (WorkflowState::Success, String::new());
    };
    let end = match state.state {
        StepState::Timeout => WorkflowState::Timeout,
        _ => WorkflowState::Failed,
    };
    let defined = workflow.definition.tasks.get(index);
    let execution = workflow.executions_of(index).next();
    let message = match (defined, execution) {
        (Some(task), Some(execution)) if task.for_each.is_none() && has_failed(execution) => {
            of_execution(workflow, execution)
        }
        (Some(task), _) => of_control(&task.name, state.state, state.error.as_ref()),
        (None, _) => String::new(),
    };
    (end, message)
}

fn is_stopped(execution: &Execution) -> bool {
    execution.state == StepState::Cancelled
}

fn has_failed(execution: &Execution) -> bool {
    use StepState::*;
    matches!(execution.state, Failed | Timeout | Cancelled)
}

/// Why an execution failed: its action, where one did.
pub(super) fn of_execution(workflow: &Workflow, execution: &Execution) -> String {
    let Some(task) = workflow.definition.tasks.get(execution.id.task) else {
        return String::new();
    };
    let is_own = |reason: &str| {
        execution
            .error
            .as_ref()
            .is_none_or(|error| error.reason == reason || reason.is_empty())
    };
    let failed = execution.actions.iter().zip(&task.actions).find(|(action, _)| {
        use StepState::*;
        matches!(action.state, Failed | Timeout | Cancelled) && is_own(&action.reason)
    });
    let Some((action, defined)) = failed else {
        return of_control(&task.name, execution.state, execution.error.as_ref());
    };
    let place = format!("action {:?} of task {:?}", defined.name, task.name);
    // What ended the task is that of its action, word for word, or its own.
    let is_of_task = execution.state == StepState::Timeout
        && execution
            .error
            .as_ref()
            .is_some_and(|error| error.message != action.message);
    if is_of_task {
        return of_control(&task.name, execution.state, execution.error.as_ref());
    }
    let what = match action.state {
        StepState::Failed if action.reason == "Lost" => {
            let times = if action.tries == 1 {
                String::new()
            } else {
                format!(" {} times", action.tries)
            };
            return format!("{place} was lost{times}: {}", action.message);
        }
        StepState::Timeout => "timed out",
        StepState::Cancelled => "was stopped on the machine",
        _ => "failed",
    };
    sentence(&place, what, &action.reason, &action.message)
}

/// Why a task failed that has no action to blame.
pub(super) fn of_control(task: &str, state: StepState, error: Option<&Failure>) -> String {
    let what = match state {
        StepState::Timeout => "timed out",
        StepState::Cancelled => "was cancelled",
        _ => "failed",
    };
    let (reason, message) = error.map_or(("", ""), |error| (&error.reason, &error.message));
    sentence(&format!("task {task:?}"), what, reason, message)
}

fn sentence(place: &str, what: &str, reason: &str, message: &str) -> String {
    let reason = match reason {
        "" | "Timeout" | "Stopped" | "Failed" => String::new(),
        reason => format!(" ({reason})"),
    };
    let colon = if message.is_empty() { "" } else { ": " };
    format!("{place} {what}{reason}{colon}{message}")
}
