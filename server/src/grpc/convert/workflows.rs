//! Workflows and their events as messages.

use std::collections::BTreeSet;

use proto::v1;
use serde::Serialize;
use serde_json::{Map, Value};
use workflow::engine::{
    ActionState, ApprovalDecision, Event, EventKind, Execution, Failure, Head, Intervention, Said, StepState,
    TaskState, Waiting, Workflow,
};
use workflow::language::{Action, Control, Definition, Task};

use crate::clock::timestamp;
use crate::workflows::list::Listed;
use coordinator::making::Text;

/// A workflow with all that is known of it.
pub(crate) fn shown(workflow: &Workflow, text: Option<Text>) -> v1::Workflow {
    let defined = &workflow.definition.tasks;
    let tasks = defined
        .iter()
        .zip(&workflow.head.tasks)
        .enumerate()
        .map(|(index, (task, state))| {
            let executions: Vec<&Execution> = workflow.executions_of(index).collect();
            let mut shown = task_state(&workflow.definition, task, state, &workflow.head);
            shown.actions = match executions.first() {
                _ if task.for_each.is_some() => Vec::new(),
                Some(execution) => actions(task, execution),
                None => idle_actions(task, state.state),
            };
            if state.outputs.is_null() && task.for_each.is_some() && state.state.is_final() {
                let outputs: Vec<_> = executions.iter().map(|execution| &execution.outputs).collect();
                shown.outputs_json = json(&outputs);
            }
            shown.executions = executions
                .into_iter()
                .map(|state| execution(task, state))
                .collect();
            shown
        });
    v1::Workflow {
        tasks: tasks.collect(),
        definition_yaml: text.map(|text| text.yaml).unwrap_or_default(),
        ..head(&workflow.head)
    }
}

/// A workflow for a list: without its executions; of an archived one tasks have name, worker and state.
pub(crate) fn summary(listed: &Listed) -> v1::Workflow {
    match listed {
        Listed::Stored(head_of, definition) => {
            let tasks = definition.tasks.iter().zip(&head_of.tasks);
            v1::Workflow {
                tasks: tasks
                    .map(|(task, state)| task_state(definition, task, state, head_of))
                    .collect(),
                ..head(head_of)
            }
        }
        Listed::Archived(archived) => {
            let tasks = archived.tasks.iter().map(|task| v1::TaskState {
                name: task.name.clone(),
                worker: task.worker.clone(),
                state: task.state.clone(),
                ..v1::TaskState::default()
            });
            v1::Workflow {
                tasks: tasks.collect(),
                ..head(&archived.head)
            }
        }
    }
}

fn head(head: &Head) -> v1::Workflow {
    let (parent, root) = match &head.parent {
        Some(parent) => (parent.workflow.clone(), parent.root.clone()),
        None => (String::new(), head.id.clone()),
    };
    let made_from = head.made_from.as_deref().cloned().unwrap_or_default();
    v1::Workflow {
        // As the names of machines.
        progress: Vec::new(),
        updated_at: Some(timestamp(head.last_at)),
        stamp: head.stamp().to_string(),
        paused: head.paused.as_ref().map(intervention),
        resumed: head.resumed.as_ref().map(intervention),
        cancelled: head.cancelled.as_ref().map(intervention),
        template_id: made_from.id,
        template_version: made_from.version,
        template_sha256: made_from.sha256,
        id: head.id.clone(),
        name: head.name.clone(),
        template: head.template.clone(),
        state: head.state.to_string(),
        tasks: Vec::new(),
        created_at: Some(timestamp(head.created_at)),
        started_at: head.started_at.map(timestamp),
        ended_at: head.ended_at.map(timestamp),
        message: head.message.clone(),
        definition_yaml: String::new(),
        namespace: head.namespace.clone(),
        run: head.run,
        parent,
        root,
        inputs_json: object(&head.inputs),
        outputs_json: object(&head.outputs),
        vars_json: object(&head.vars),
        paused_at: head.paused_at.map(timestamp),
        policy: head.policy.iter().map(ToString::to_string).collect(),
        starts_at: head.start_at.filter(|_| !head.state.is_final()).map(timestamp),
        last_event: head.last_event,
        labels: head
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    }
}

fn intervention(asked: &Intervention) -> v1::Intervention {
    v1::Intervention {
        by: asked.by.clone(),
        reason: asked.reason.clone(),
        at: Some(timestamp(asked.at)),
    }
}

fn task_state(definition: &Definition, task: &Task, state: &TaskState, head: &Head) -> v1::TaskState {
    let names = |indexes: &[usize]| {
        let tasks = indexes.iter().filter_map(|index| definition.tasks.get(*index));
        tasks.map(|task| task.name.clone()).collect()
    };
    let error = state.error.clone().unwrap_or_default();
    v1::TaskState {
        name: task.name.clone(),
        worker: workflow::engine::worker_shown(&task.worker, head),
        // Put in where it is asked for.
        machine: String::new(),
        group: task.group.clone(),
        state: state.state.to_string(),
        actions: Vec::new(),
        kind: kind_of(task).into(),
        needs: names(&task.needs),
        recovers: names(&task.recovers),
        when: task.when.clone().unwrap_or_default(),
        for_each: task.for_each.is_some(),
        instance: state.instance,
        iteration: state.iteration,
        items: count(state.items),
        made: count(state.made),
        ended: count(state.ended),
        failed: count(state.failed),
        skipped: count(state.skipped),
        wave: u32::try_from(state.wave).unwrap_or(u32::MAX),
        recovered: state.recovered,
        reason: error.reason,
        message: error.message,
        outputs_json: if state.outputs.is_null() {
            String::new()
        } else {
            state.outputs.to_string()
        },
        started_at: state.started_at.map(timestamp),
        ended_at: state.ended_at.map(timestamp),
        executions: Vec::new(),
        warnings: workflow::engine::warnings(task, state),
        skip: state.skip.as_ref().map(said),
        pause: state.pause.as_ref().map(said),
        ahead: items_ahead(state),
    }
}

/// Items whose turn has not come, of which somebody wants something.
fn items_ahead(state: &TaskState) -> Vec<v1::ItemAhead> {
    let items: BTreeSet<usize> = state.skips.keys().chain(state.pauses.keys()).copied().collect();
    let ahead = items.into_iter().map(|item| v1::ItemAhead {
        item: count(item),
        skip: state.skips.get(&item).map(said),
        pause: state.pauses.get(&item).map(said),
    });
    ahead.collect()
}

fn said(said: &Said) -> v1::Said {
    v1::Said {
        by: said.by.clone(),
        reason: said.reason.clone(),
        since: None,
    }
}

fn kind_of(task: &Task) -> &'static str {
    match &task.control {
        Some(Control::Wait(_)) => "wait",
        Some(Control::Until(_)) => "until",
        Some(Control::Answers(_)) => "answers",
        Some(Control::Workflow { .. }) => "workflow",
        Some(Control::Set(_)) => "set",
        Some(Control::Succeed) => "succeed",
        Some(Control::Fail { .. }) => "fail",
        None if !task.actions.is_empty() => "actions",
        None if task.approve.is_some() => "approve",
        None => "join",
    }
}

fn execution(task: &Task, state: &Execution) -> v1::TaskExecution {
    let error = state.error.clone().unwrap_or_default();
    let message = task.approve.as_ref().map(|approve| approve.message.clone());
    let filled = state.filled.as_ref().map(|filled| filled.message.clone());
    let asks = state.asks.as_ref().map(|asks| {
        let action = task.actions.get(asks.action).map_or("", |action| &action.name);
        format!("action {action:?} (the policy says {})", asks.rule)
    });
    v1::TaskExecution {
        id: state.id.to_string(),
        item: count(state.id.item),
        item_json: state.item.as_ref().map(Value::to_string).unwrap_or_default(),
        worker: state.worker.clone(),
        // As of the task.
        machine: String::new(),
        state: state.state.to_string(),
        waiting: state.waiting.map(waiting).unwrap_or_default().into(),
        due: state.due.map(timestamp),
        tries: state.tries,
        actions: actions(task, state),
        child: state.child.clone().unwrap_or_default(),
        decision: state.decision.as_ref().map(decision),
        approve_message: asks
            .or(filled.filter(|filled| !filled.is_empty()))
            .or(message)
            .unwrap_or_default(),
        reason: error.reason,
        message: match state.waiting {
            // What came instead, last.
            Some(Waiting::Answer) => state.unanswered.clone(),
            _ => error.message,
        },
        outputs_json: object(&state.outputs),
        created_at: Some(timestamp(state.created_at)),
        started_at: state.started_at.map(timestamp),
        ended_at: state.ended_at.map(timestamp),
        skip: state.skip.as_ref().map(said),
        pause: state.pause.as_ref().map(|pause| v1::Said {
            since: Some(timestamp(pause.since)),
            ..said(&pause.said)
        }),
    }
}

fn waiting(waiting: Waiting) -> &'static str {
    match waiting {
        Waiting::Approval => "approval",
        Waiting::Machine => "machine",
        Waiting::Children => "children",
        Waiting::Time => "time",
        Waiting::Resume => "resume",
        Waiting::Answer => "answer",
    }
}

/// With the texts that were filled in for this execution.
fn actions(task: &Task, state: &Execution) -> Vec<v1::ActionState> {
    let filled = state.filled.as_ref().map(|filled| filled.actions.as_slice());
    let defined = filled
        .filter(|actions| actions.len() == task.actions.len())
        .unwrap_or(&task.actions);
    let both = defined.iter().zip(&state.actions);
    both.map(|(action, of)| action_state(action, of, state.state))
        .collect()
}

fn idle_actions(task: &Task, state: StepState) -> Vec<v1::ActionState> {
    let idle = |action: &Action| v1::ActionState {
        name: action.name.clone(),
        image: action.image.clone(),
        state: not_begun(state).to_string(),
        ..v1::ActionState::default()
    };
    task.actions.iter().map(idle).collect()
}

/// The state of an action that has not begun, by that of its task execution: of one that is over nothing is waited for.
fn not_begun(execution: StepState) -> StepState {
    match execution {
        StepState::Cancelled => StepState::Cancelled,
        over if over.is_final() => StepState::Skipped,
        _ => StepState::Idle,
    }
}

fn action_state(action: &Action, state: &ActionState, execution: StepState) -> v1::ActionState {
    let shown = match state.state {
        StepState::Idle | StepState::Delayed => not_begun(execution),
        begun => begun,
    };
    v1::ActionState {
        name: action.name.clone(),
        image: action.image.clone(),
        state: if shown == StepState::Idle {
            state.state
        } else {
            shown
        }
        .to_string(),
        attempts: state.attempts,
        started_at: state.started_at.map(timestamp),
        ended_at: state.ended_at.map(timestamp),
        message: state.message.clone(),
        reason: state.reason.clone(),
        bytes: (state.state == StepState::Success).then_some(state.bytes),
        exit_code: exit_code(state),
        input_json: object(&action.input),
        outputs_json: object(&state.outputs),
        released: state.released.as_ref().map(decision),
    }
}

fn decision(decision: &ApprovalDecision) -> v1::Decision {
    v1::Decision {
        approved: decision.approved,
        by: decision.by.clone(),
        comment: decision.comment.clone(),
        at: Some(timestamp(decision.at)),
    }
}

/// A failure has one only where a command gave it.
fn exit_code(state: &ActionState) -> Option<i32> {
    match state.state {
        StepState::Success => Some(state.exit_code),
        _ => Some(state.exit_code).filter(|code| state.state.is_final() && *code != 0),
    }
}

pub(crate) fn event(event: &Event, workflow: &Workflow) -> v1::WorkflowEvent {
    let attempt = event.kind.attempt();
    let task = event
        .kind
        .task()
        .and_then(|task| workflow.definition.tasks.get(task));
    let action = attempt.and_then(|attempt| task?.actions.get(attempt.action));
    v1::WorkflowEvent {
        number: event.number,
        stamp: event.stamp().to_string(),
        at: Some(timestamp(event.at)),
        kind: event.kind.told_as().to_owned(),
        task: task.map(|task| task.name.clone()).unwrap_or_default(),
        action: action.map(|action| action.name.clone()).unwrap_or_default(),
        attempt: attempt.map(|attempt| attempt.attempt).unwrap_or_default(),
        message: message(&event.kind),
        json: serde_json::to_string(event).unwrap_or_default(),
        execution: event
            .kind
            .execution()
            .map(|execution| execution.to_string())
            .unwrap_or_default(),
    }
}

/// What the kind does not say.
fn message(kind: &EventKind) -> String {
    use workflow::engine::{Outcome, time_of};
    match kind {
        EventKind::Reported { outcome, .. } => match outcome {
            Outcome::Started => String::new(),
            Outcome::Succeeded { message, bytes, .. } => match (message.as_str(), bytes) {
                (message, 0) => message.to_owned(),
                ("", bytes) => format!("{bytes} B"),
                (message, bytes) => format!("{message} ({bytes} B)"),
            },
            Outcome::Failed { reason, message, .. } => format!("{reason}: {message}"),
            Outcome::TimedOut { message } | Outcome::Stopped { message } => message.clone(),
            Outcome::Leaving { how } => how.clone(),
        },
        EventKind::Created {
            name,
            template,
            by,
            resolved,
            start_at,
            ..
        } => {
            let from = match template.as_str() {
                "" => String::new(),
                template => format!(" from template {template}"),
            };
            let by = match by.as_str() {
                "" => String::new(),
                by => format!(" by {by}"),
            };
            let resolved = resolved.iter().map(|(word, mac)| format!("{word} is {mac}"));
            let resolved: Vec<String> = resolved.collect();
            let colon = if resolved.is_empty() { "" } else { ": " };
            let later = match start_at {
                Some(at) => format!("; begins at {}", time_of(*at)),
                None => String::new(),
            };
            format!("{name}{from}{by}{colon}{}{later}", resolved.join(", "))
        }
        EventKind::ExecutionEnded { state, error, .. } | EventKind::TaskEnded { state, error, .. } => {
            ended(*state, error.as_ref())
        }
        EventKind::Stopping { state, message } | EventKind::Ended { state, message, .. } => {
            let colon = if message.is_empty() { "" } else { ": " };
            format!("{state}{colon}{message}")
        }
        other => other.to_string(),
    }
}

fn ended(state: StepState, error: Option<&Failure>) -> String {
    match error {
        Some(Failure { reason, message }) => format!("{state}: {reason}: {message}"),
        None => state.to_string(),
    }
}

fn object(map: &Map<String, Value>) -> String {
    if map.is_empty() { String::new() } else { json(map) }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
