//! What a workflow does or waits for, in words.

use serde_json::{Map, Value};

use super::UnixMillis;
use super::decide::{next_due_of, timeout_of, told_of_answers};
use super::event::time_of;
use super::graph;
use super::state::{Execution, Head, Said, StepState, TaskState, Waiting, Workflow};
use crate::expression::{Scope, fill_text};
use crate::language::Task;

/// Tasks or items that are told of; the rest is counted.
const TOLD: usize = 20;

/// What is odd about what a task did, although nothing failed: that nobody is left to wonder why nothing was done.
pub fn warnings(task: &Task, state: &TaskState) -> Vec<String> {
    let mut warnings = state.warnings.clone();
    let is_list = task.for_each.is_some() && state.instance > 0 && state.asking.is_none();
    if !is_list || state.state == StepState::Idle {
        return warnings;
    }
    let is_done = state.state == StepState::Success;
    if is_done && state.items == 0 {
        warnings.push("its list is empty: it had nothing to do (minItems fails it then)".into());
    } else if is_done && state.skipped == state.items {
        warnings.push(format!(
            "all of its {} items were skipped: it has done nothing",
            state.items
        ));
    }
    warnings
}

/// The worker of a task as it is shown before an execution has one: with the values of inputs in place of their names. What needs
/// more than that (an item) stays as it was written.
pub fn worker_shown(worker: &str, head: &Head) -> String {
    if !worker.contains("${{") {
        return worker.to_owned();
    }
    let mut scope = Scope::default();
    for (name, values) in [("inputs", &head.inputs), ("vars", &head.vars)] {
        let values = Value::Object(Map::clone(values));
        scope.variables.insert(name.to_owned(), values);
    }
    fill_text(worker, &scope).unwrap_or_else(|_| worker.to_owned())
}

/// What the workflow (or one task of it, by name or `NAME[item]`) does or waits for, in lines that a person reads.
///
/// Of a machine it says only that it is waited for; who holds that is for the [`Machine`](super::Machine) to say.
pub fn explain(workflow: &Workflow, task: Option<&str>, now: UnixMillis) -> Vec<String> {
    match task {
        None => of_workflow(workflow, now),
        Some(name) => of_named(workflow, name, now),
    }
}

fn warned(task: &Task, state: &TaskState) -> Vec<String> {
    let name = &task.name;
    let warnings = warnings(task, state);
    warnings
        .iter()
        .map(|warning| format!("warning: task {name:?}: {warning}"))
        .collect()
}

fn of_workflow(workflow: &Workflow, now: UnixMillis) -> Vec<String> {
    let head = &workflow.head;
    let mut lines = vec![told(
        &format!("workflow {} ({}) is {}", head.name, head.id, head.state),
        &head.message,
    )];
    if let Some(ending) = &head.ending {
        let line = format!("it will be {} when what is under way has stopped", ending.state);
        lines.push(told(&line, &ending.message));
    }
    if let Some(at) = head.start_at.filter(|_| !head.state.is_final()) {
        lines.push(format!(
            "it begins at {}; until then it waits for no machine (farrier workflow start {} --now)",
            time_of(at),
            head.id
        ));
    }
    if head.paused_at.is_some() {
        lines.push("it is paused: nothing is started until it is resumed".into());
    }
    if !head.policy.is_empty() && !head.state.is_final() {
        let rules: Vec<String> = head.policy.iter().map(ToString::to_string).collect();
        lines.push(format!("its policy: {}", rules.join("; ")));
    }
    if let Some(parent) = &head.parent {
        lines.push(format!("it is part of workflow {}", parent.workflow));
    }
    let tasks = workflow.definition.tasks.iter().zip(&head.tasks);
    lines.extend(tasks.flat_map(|(task, state)| warned(task, state)).take(TOLD));
    if head.state.is_final() {
        return lines;
    }
    if head.start_at.is_some() {
        return lines;
    }
    let mut left = 0_usize;
    for (index, (task, state)) in workflow.definition.tasks.iter().zip(&head.tasks).enumerate() {
        if state.state.is_final() {
            continue;
        }
        left = left.saturating_add(1);
        if left <= TOLD {
            lines.extend(of_task(workflow, index, task, state, now));
        }
    }
    if left > TOLD {
        lines.push(format!("and {} more tasks", left.saturating_sub(TOLD)));
    }
    if let Some(due) = next_due_of(workflow) {
        lines.push(format!("the next timer is due {}", after(due, now)));
    }
    lines
}

fn of_named(workflow: &Workflow, name: &str, now: UnixMillis) -> Vec<String> {
    let (plain, item) = match name.strip_suffix(']').and_then(|name| name.rsplit_once('[')) {
        Some((plain, item)) if workflow.definition.task_named(name).is_none() => {
            (plain, item.parse::<usize>().ok())
        }
        _ => (name, None),
    };
    let index = workflow.definition.task_named(plain);
    let found = index.and_then(|index| {
        let task = workflow.definition.tasks.get(index)?;
        Some((index, task, workflow.head.tasks.get(index)?))
    });
    let Some((index, task, state)) = found else {
        let names: Vec<&str> = workflow
            .definition
            .tasks
            .iter()
            .map(|task| task.name.as_str())
            .collect();
        return vec![format!(
            "workflow {} has no task {plain:?}; it has {}",
            workflow.head.id,
            names.join(", ")
        )];
    };
    let Some(item) = item else {
        let mut lines = of_task(workflow, index, task, state, now);
        lines.extend(warned(task, state));
        return lines;
    };
    match workflow
        .executions_of(index)
        .find(|execution| execution.id.item == item)
    {
        Some(execution) => vec![of_execution(workflow, task, execution, now)],
        None if item < state.items => {
            let skip = state
                .skips
                .get(&item)
                .map(|said| format!("; {} then", of_skip(said)));
            let pause = state.pauses.get(&item);
            let pause = pause.map(|said| format!("; {}", of_pause(workflow, name, said)));
            vec![format!(
                "item {item} of task {plain:?} has not been started: {}{}",
                window(workflow, task, state),
                skip.or(pause).unwrap_or_default()
            )]
        }
        None => vec![format!(
            "task {plain:?} has {} items and no item {item}",
            state.items
        )],
    }
}

fn of_task(
    workflow: &Workflow,
    index: usize,
    task: &Task,
    state: &TaskState,
    now: UnixMillis,
) -> Vec<String> {
    let name = &task.name;
    if let Some(selector) = &state.asking {
        let pause = state.pause.as_ref();
        let pause = pause.map(|said| format!("; {}", of_pause(workflow, name, said)));
        return vec![format!(
            "task {name:?} waits to be told the machines for {selector:?}{}",
            pause.unwrap_or_default()
        )];
    }
    if state.state == StepState::Idle {
        let skip = state
            .skip
            .as_ref()
            .map(|said| format!("; {} when its turn comes", of_skip(said)));
        let pause = state.pause.as_ref();
        let pause = pause.map(|said| format!("; {}", of_pause(workflow, name, said)));
        let needs = needs(workflow, index);
        return vec![format!(
            "task {name:?} {needs}{}",
            skip.or(pause).unwrap_or_default()
        )];
    }
    if state.state.is_final() {
        let error = state.error.as_ref();
        let error = error.map_or(String::new(), |error| {
            format!("{}: {}", error.reason, error.message)
        });
        let recovered = if state.recovered { ", recovered" } else { "" };
        return vec![told(
            &format!("task {name:?} is {}{recovered}", state.state),
            &error,
        )];
    }
    let mut lines = Vec::new();
    if task.for_each.is_some() {
        lines.push(format!(
            "task {name:?}: {} of {} items are over, {} of them failed; {}",
            state.ended,
            state.items,
            state.failed,
            window(workflow, task, state)
        ));
        let ahead = state.skips.iter().take(TOLD);
        lines.extend(
            ahead.map(|(item, said)| {
                format!("task {name:?} item {item}: {} when its turn comes", of_skip(said))
            }),
        );
        let ahead = state.pauses.iter().take(TOLD);
        lines.extend(ahead.map(|(item, said)| {
            let thing = format!("{name}[{item}]");
            format!("task {name:?} item {item}: {}", of_pause(workflow, &thing, said))
        }));
    }
    let mut open = workflow
        .executions_of(index)
        .filter(|execution| !execution.state.is_final());
    lines.extend(
        open.by_ref()
            .take(TOLD)
            .map(|execution| of_execution(workflow, task, execution, now)),
    );
    let more = open.count();
    if more > 0 {
        lines.push(format!("and {more} more items"));
    }
    lines
}

fn needs(workflow: &Workflow, index: usize) -> String {
    let waits: Vec<String> = graph::needs(&workflow.definition, index)
        .iter()
        .filter(|&&need| {
            let state = workflow.head.tasks.get(need);
            state.is_some_and(|state| !state.state.is_final())
        })
        .filter_map(|&need| workflow.definition.tasks.get(need))
        .map(|need| format!("{:?}", need.name))
        .collect();
    match &waits[..] {
        [] => "has its turn next".into(),
        waits => format!("waits for {}", waits.join(", ")),
    }
}

/// Why the next item of a `forEach` is not started yet.
fn window(workflow: &Workflow, task: &Task, state: &TaskState) -> String {
    let Some(for_each) = &task.for_each else {
        return String::new();
    };
    if state.made >= state.items {
        return "all are started".into();
    }
    if let Some(said) = &state.pause {
        let pause = of_pause(workflow, &task.name, said);
        return format!("no further one is started: {pause}");
    }
    let waves = for_each.waves.len();
    let running = state.made.saturating_sub(state.ended);
    if for_each.max_parallel > 0 && usize::try_from(for_each.max_parallel).is_ok_and(|most| running >= most) {
        return format!("{} at a time", for_each.max_parallel);
    }
    if waves > 0 {
        return format!(
            "wave {} of {waves} is open; the next begins when it is over",
            state.wave.saturating_add(1).min(waves)
        );
    }
    "the next is started soon".into()
}

fn of_execution(workflow: &Workflow, task: &Task, execution: &Execution, now: UnixMillis) -> String {
    let line = of_state(workflow, task, execution, now);
    match execution.pause.as_ref().filter(|_| !execution.state.is_final()) {
        Some(pause) => {
            let pause = of_pause(workflow, &named(task, execution), &pause.said);
            format!("{line}; {pause}")
        }
        None => line,
    }
}

/// As people name it.
fn named(task: &Task, execution: &Execution) -> String {
    match task.for_each {
        Some(_) => format!("{}[{}]", task.name, execution.id.item),
        None => task.name.clone(),
    }
}

fn of_state(workflow: &Workflow, task: &Task, execution: &Execution, now: UnixMillis) -> String {
    let place = match task.for_each {
        Some(_) => format!("task {:?} item {}", task.name, execution.id.item),
        None => format!("task {:?}", task.name),
    };
    let worker = &execution.worker;
    let until = |due: Option<UnixMillis>| due.map_or(String::new(), |due| format!(" {}", after(due, now)));
    if execution.state.is_final() {
        let error = execution.error.as_ref();
        let error = error.map_or(String::new(), |error| {
            format!("{}: {}", error.reason, error.message)
        });
        return told(&format!("{place} is {}", execution.state), &error);
    }
    if let Some((index, action)) = execution.under_way() {
        let name = task.actions.get(index).map_or("", |action| &action.name);
        let what = match action.state {
            _ if action.leaving => "waits for the machine to come back in",
            _ if action.stopping.is_some() => "stops",
            StepState::Waiting => "was handed out and has not said that it runs:",
            StepState::Running => "runs",
            _ => "runs the extra command of",
        };
        let skip = execution.skip.as_ref();
        let skip = skip.map(|said| format!("; {} when that has stopped", of_skip(said)));
        return format!(
            "{place} {what} action {name:?} on {worker}, attempt {}{}",
            action.attempts,
            skip.unwrap_or_default()
        );
    }
    let next = execution
        .next_action()
        .and_then(|index| task.actions.get(index))
        .map_or("", |action| &action.name);
    match (execution.state, execution.waiting) {
        (StepState::Delayed, _) => format!("{place} is tried again{}", until(execution.due)),
        (_, Some(Waiting::Machine)) if execution.pause.is_some() => {
            format!("{place} does not begin action {next:?} on {worker}")
        }
        (_, Some(Waiting::Machine)) => {
            format!("{place} is ready for action {next:?} and waits for machine {worker}")
        }
        (_, Some(Waiting::Approval)) if execution.asks.is_some() => {
            of_asks(workflow, &place, task, execution)
        }
        (_, Some(Waiting::Approval)) if execution.decision.is_some() => {
            let what = if execution.pause.is_some() {
                "it"
            } else {
                "the workflow"
            };
            format!("{place} is approved and goes on when {what} is resumed")
        }
        (_, Some(Waiting::Approval)) => of_approval(workflow, &place, task, execution, now),
        (_, Some(Waiting::Children)) => format!(
            "{place} waits for sub-workflow {}",
            execution.child.as_deref().unwrap_or_default()
        ),
        (_, Some(Waiting::Answer)) => {
            let whose = match worker.as_str() {
                "" => String::new(),
                worker => format!(" of {worker}"),
            };
            let told = told_of_answers(workflow, execution);
            let limit = timeout_of(workflow, execution);
            format!(
                "{place} waits for an answer{whose}: {told}; it times out{}",
                until(limit)
            )
        }
        (_, Some(Waiting::Time)) => format!("{place} waits; it is over{}", until(execution.due)),
        (_, Some(Waiting::Resume)) => format!("{place} does not begin"),
        (state, None) => format!("{place} is {state}"),
    }
}

/// Continues a line.
fn of_skip(said: &Said) -> String {
    let Said { by, reason } = said;
    let colon = if reason.is_empty() { "" } else { ": " };
    format!("skipped by {by}{colon}{reason}; it is SKIPPED")
}

/// Continues a line.
fn of_pause(workflow: &Workflow, thing: &str, said: &Said) -> String {
    let Said { by, reason } = said;
    let colon = if reason.is_empty() { "" } else { ": " };
    let id = &workflow.head.id;
    format!("paused by {by}{colon}{reason} (farrier workflow resume {id} {thing})")
}

/// An action that the policy asks for.
fn of_asks(workflow: &Workflow, place: &str, task: &Task, execution: &Execution) -> String {
    let Some(asks) = &execution.asks else {
        return place.to_owned();
    };
    let by = match asks.rule.by.as_slice() {
        [] => "anybody".to_owned(),
        groups => groups.join(" or "),
    };
    let action = task.actions.get(asks.action).map_or("", |action| &action.name);
    let (id, name) = (&workflow.head.id, named(task, execution));
    format!(
        "{place} waits for approval of action {action:?} by {by} (farrier workflow approve {id} {name}): the policy says {}",
        asks.rule
    )
}

fn of_approval(
    workflow: &Workflow,
    place: &str,
    task: &Task,
    execution: &Execution,
    now: UnixMillis,
) -> String {
    let approve = task.approve.clone().unwrap_or_default();
    let by = if approve.by.is_empty() {
        "anybody".into()
    } else {
        approve.by.join(" or ")
    };
    let name = named(task, execution);
    let filled = execution.filled.as_ref();
    let message = filled.map_or(&approve.message, |filled| &filled.message);
    let until = execution
        .due
        .map_or(String::new(), |due| format!(", it times out {}", after(due, now)));
    let line = format!(
        "{place} waits for approval by {by} (farrier workflow approve {} {name}){until}",
        workflow.head.id
    );
    told(&line, message)
}

fn after(due: UnixMillis, now: UnixMillis) -> String {
    match due.checked_sub(now) {
        None | Some(0) => "now".into(),
        Some(ms) => format!("in {} s", ms.div_ceil(1000)),
    }
}

fn told(line: &str, message: &str) -> String {
    let colon = if message.is_empty() { "" } else { ": " };
    format!("{line}{colon}{message}")
}
