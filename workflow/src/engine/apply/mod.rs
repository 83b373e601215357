//! Folding events into state.

mod execution;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::UnixMillis;
use super::event::{Event, EventKind, Failure};
use super::ids::ExecutionId;
use super::size::json_bytes;
use super::state::{
    Ending, Execution, Head, Intervention, LastRound, Said, StepState, TaskState, Workflow, WorkflowState,
};
use crate::Shared;
use crate::language::Control;

/// Folds one event into the state.
///
/// Total. An event that does not follow (its number is not the next, a second Created, an attempt that there cannot
/// be) leaves the state as it is: `last_event` shows whether it was taken. The first has to be Created.
pub fn apply(state: Option<Workflow>, event: &Event) -> Option<Workflow> {
    match state {
        Some(mut workflow) => {
            happen(&mut workflow, event);
            Some(workflow)
        }
        None => created(event),
    }
}

/// Why a list of events is no history of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error("a workflow's history is empty")]
    Empty,
    #[error("event {number} ({kind}) does not follow event {after}")]
    DoesNotFollow {
        number: u64,
        kind: &'static str,
        after: u64,
    },
}

/// The state after a whole history, which begins with Created and has no holes.
pub fn replay<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Workflow, ReplayError> {
    let mut state: Option<Workflow> = None;
    for event in events {
        let after = state.as_ref().map_or(0, |workflow| workflow.head.last_event);
        state = apply(state, event);
        if state.as_ref().map(|workflow| workflow.head.last_event) != after.checked_add(1) {
            return Err(ReplayError::DoesNotFollow {
                number: event.number,
                kind: event.kind.name(),
                after,
            });
        }
    }
    state.ok_or(ReplayError::Empty)
}

fn created(event: &Event) -> Option<Workflow> {
    let EventKind::Created {
        id,
        namespace,
        name,
        template,
        made_from,
        labels,
        definition,
        inputs,
        machines,
        parent,
        resolved: _,
        start_at,
        policy,
        by: _,
    } = &event.kind
    else {
        return None;
    };
    (event.number == 1).then(|| Workflow {
        definition: Arc::new((**definition).clone()),
        head: Head {
            id: id.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
            template: template.clone(),
            made_from: made_from.clone(),
            labels: labels.clone().into(),
            parent: parent.clone(),
            state: WorkflowState::Pending,
            run: 1,
            ending: None,
            message: String::new(),
            inputs: inputs.clone().into(),
            vars: Shared::default(),
            outputs: Map::new(),
            machines: machines.clone().into(),
            policy: policy.clone().into(),
            policies: u32::from(!policy.is_empty()),
            tasks: Shared::from(
                definition
                    .tasks
                    .iter()
                    .map(|_| TaskState::idle())
                    .collect::<Vec<_>>(),
            ),
            outputs_bytes: 0,
            data_version: 0,
            created_at: event.at,
            start_at: *start_at,
            started_at: None,
            ended_at: None,
            paused_at: None,
            paused_ms: 0,
            pauses: 0,
            paused: None,
            resumed: None,
            cancelled: None,
            last_event: 1,
            last_at: event.at,
            last_tick: event.tick,
        },
        executions: BTreeMap::new(),
        items: BTreeMap::new(),
    })
}

/// Folds an event into the state in place. False: it does not follow, and nothing has changed.
pub(super) fn happen(workflow: &mut Workflow, event: &Event) -> bool {
    let follows = event.number == workflow.head.last_event.saturating_add(1)
        && event.at >= workflow.head.last_at
        && take(workflow, event).is_some();
    if follows {
        workflow.head.last_event = event.number;
        workflow.head.last_at = event.at;
        workflow.head.last_tick = event.tick;
    }
    follows
}

/// `None` when the event cannot have happened to this workflow; then nothing has changed.
fn take(workflow: &mut Workflow, event: &Event) -> Option<()> {
    use EventKind::*;
    let is_any_time = matches!(event.kind, Late { .. } | Labelled { .. });
    let after_end = matches!(event.kind, RunOpened { .. });
    if workflow.head.state.is_final() != after_end && !is_any_time {
        return None;
    }
    let at = event.at;
    match &event.kind {
        Created { .. } => None,
        Late { .. } => Some(()),
        Asked {
            task,
            instance,
            selector,
        } => {
            let state = opening(&mut workflow.head, *task, *instance)?;
            state.asking = Some(selector.clone());
            Some(())
        }
        TaskStarted {
            task,
            instance,
            items,
            machines,
            warnings,
            ..
        } => {
            start_task(workflow, *task, *instance, items.as_ref(), machines, at)?;
            workflow.head.tasks.get_mut(*task)?.warnings.clone_from(warnings);
            Some(())
        }
        WaveOpened {
            task, instance, wave, ..
        } => {
            running(&mut workflow.head, *task, *instance)?.wave = *wave;
            Some(())
        }
        TaskEnded {
            task,
            instance,
            state,
            error,
            outputs,
            ..
        } => end_task(workflow, *task, *instance, *state, error.as_ref(), outputs, at),
        WentBack { from, tasks, .. } => go_back(workflow, *from, tasks),
        CancelAsked { by, reason } => {
            workflow.head.cancelled = Some(Intervention::new(by, reason, at));
            Some(())
        }
        Labelled { set, removed, .. } => {
            let labels = &mut *workflow.head.labels;
            labels.extend(set.clone());
            removed.iter().for_each(|key| drop(labels.remove(key)));
            Some(())
        }
        PolicySet { policy, .. } => {
            let head = &mut workflow.head;
            head.policy = policy.clone().into();
            head.policies = head.policies.saturating_add(1);
            Some(())
        }
        StartMoved { start_at, .. } => {
            let head = &mut workflow.head;
            head.start_at?;
            head.start_at = Some(*start_at);
            Some(())
        }
        Begun { .. } => workflow.head.start_at.take().map(|_| ()),
        SkipAsked {
            task,
            item,
            execution: None,
            by,
            reason,
        } => {
            let state = workflow.head.tasks.get_mut(*task)?;
            if state.state.is_final() {
                return None;
            }
            let said = Said::new(by, reason);
            match item {
                None => {
                    state.pause = None;
                    state.skip = Some(said);
                }
                Some(item) => {
                    state.pauses.remove(item);
                    state.skips.insert(*item, said);
                }
            }
            Some(())
        }
        TaskPaused {
            task,
            item,
            execution: None,
            by,
            reason,
        } => {
            let state = workflow.head.tasks.get_mut(*task)?;
            if state.state.is_final() {
                return None;
            }
            let said = Said::new(by, reason);
            match item {
                None => state.pause = Some(said),
                Some(item) => {
                    state.pauses.insert(*item, said);
                }
            }
            Some(())
        }
        TaskResumed {
            task,
            item,
            execution: None,
            ..
        } => {
            let state = workflow.head.tasks.get_mut(*task)?;
            let said = match item {
                None => state.pause.take(),
                Some(item) => state.pauses.remove(item),
            };
            said.map(|_| ())
        }
        PauseAsked { by, reason } => {
            let head = &mut workflow.head;
            matches!(head.state, WorkflowState::Pending | WorkflowState::Running).then(|| {
                head.state = WorkflowState::Pausing;
                head.paused_at = Some(at);
                head.pauses = head.pauses.saturating_add(1);
                head.paused = Some(Intervention::new(by, reason, at));
            })
        }
        Paused => {
            let head = &mut workflow.head;
            (head.state == WorkflowState::Pausing).then(|| head.state = WorkflowState::Paused)
        }
        Unpaused { by } => {
            let head = &mut workflow.head;
            head.paused_at?;
            head.resumed = Some(Intervention::new(by, "", at));
            head.state = match head.started_at {
                Some(_) => WorkflowState::Running,
                None => WorkflowState::Pending,
            };
            stand_up(head, at);
            Some(())
        }
        Stopping { state, message } => {
            let head = &mut workflow.head;
            if !state.is_final() || head.ending.is_some() {
                return None;
            }
            head.state = match state {
                WorkflowState::Cancelled => WorkflowState::Cancelling,
                _ => WorkflowState::Ending,
            };
            head.ending = Some(Ending {
                state: *state,
                message: message.clone(),
            });
            stand_up(head, at);
            Some(())
        }
        Ended {
            state,
            message,
            outputs,
        } => state
            .is_final()
            .then(|| end(&mut workflow.head, *state, message, outputs, at)),
        RunOpened { run, tasks, .. } => open_run(workflow, *run, tasks),
        TasksReopened { tasks, .. } => {
            let is_over = |task: &usize| {
                let state = workflow.head.tasks.get(*task);
                state.is_some_and(|state| state.state.is_final())
            };
            if !tasks.iter().all(is_over) {
                return None;
            }
            do_again(workflow, tasks);
            Some(())
        }
        _ => execution::take(workflow, event),
    }
}

/// A task whose turn has come and that has not started: the instance it is to have is the next.
fn opening(head: &mut Head, task: usize, instance: u32) -> Option<&mut TaskState> {
    head.tasks
        .get_mut(task)
        .filter(|state| state.state == StepState::Idle && state.instance.checked_add(1) == Some(instance))
}

/// A task that has started and is not over.
fn running(head: &mut Head, task: usize, instance: u32) -> Option<&mut TaskState> {
    head.tasks.get_mut(task).filter(|state| {
        state.instance == instance && state.state != StepState::Idle && !state.state.is_final()
    })
}

fn start_task(
    workflow: &mut Workflow,
    task: usize,
    instance: u32,
    items: Option<&Vec<Value>>,
    machines: &BTreeMap<String, Value>,
    at: UnixMillis,
) -> Option<()> {
    let state = opening(&mut workflow.head, task, instance)?;
    *state = TaskState {
        state: StepState::Waiting,
        instance,
        items: items.map_or(1, Vec::len),
        started_at: Some(at),
        ..begin_again(state)
    };
    if let Some(items) = items {
        workflow.items.insert((task, instance), Arc::new(items.clone()));
    }
    for (worker, machine) in machines {
        workflow.head.machines.insert(worker.clone(), machine.clone());
    }
    Some(())
}

/// What stays of a task's state when it runs again.
fn begin_again(state: &TaskState) -> TaskState {
    TaskState {
        instance: state.instance,
        iteration: state.iteration,
        went_back: state.went_back,
        carries: state.carries,
        carries_since: state.carries_since,
        last: state.last.clone(),
        // Also one that a `goto` goes over before its turn has come.
        skip: state.skip.clone().filter(|_| state.state == StepState::Idle),
        pause: state.pause.clone().filter(|_| state.state == StepState::Idle),
        ..TaskState::idle()
    }
}

fn end_task(
    workflow: &mut Workflow,
    task: usize,
    instance: u32,
    end: StepState,
    error: Option<&Failure>,
    outputs: &Value,
    at: UnixMillis,
) -> Option<()> {
    if !end.is_final() {
        return None;
    }
    let head = &mut workflow.head;
    let state = match opening(head, task, instance) {
        Some(state) => {
            *state = begin_again(state);
            state.instance = instance;
            state
        }
        None => running(head, task, instance)?,
    };
    state.state = end;
    forget_what_was_said(state);
    state.error = error.cloned();
    state.outputs = outputs.clone();
    state.ended_at = Some(at);
    if end == StepState::Success {
        for &recovered in workflow
            .definition
            .tasks
            .get(task)
            .map_or(&[][..], |task| &task.recovers)
        {
            if let Some(state) = head.tasks.get_mut(recovered) {
                state.recovered = matches!(
                    state.state,
                    StepState::Failed | StepState::Timeout | StepState::Cancelled
                );
            }
        }
    }
    Some(())
}

fn go_back(workflow: &mut Workflow, from: usize, tasks: &[usize]) -> Option<()> {
    let head = &mut workflow.head;
    if !head.tasks.get(from)?.state.is_final() || tasks.iter().any(|&task| task >= head.tasks.len()) {
        return None;
    }
    for &task in tasks {
        if let Some(state) = head.tasks.get_mut(task) {
            *state = TaskState {
                iteration: state.iteration.saturating_add(1),
                carries: 0,
                carries_since: 0,
                last: Some(Box::new(LastRound {
                    instance: state.instance,
                    state: state.state,
                    error: state.error.clone(),
                })),
                went_back: if task == from {
                    state.went_back.saturating_add(1)
                } else {
                    0
                },
                ..begin_again(state)
            };
        }
    }
    recover_again(workflow);
    Some(())
}

/// What tasks that run again had made good is to be made good again.
fn recover_again(workflow: &mut Workflow) {
    let tasks = workflow.definition.tasks.iter().zip(&workflow.head.tasks);
    let good: BTreeSet<usize> = tasks
        .filter(|(_, state)| state.state == StepState::Success)
        .flat_map(|(task, _)| task.recovers.iter().copied())
        .collect();
    for (index, state) in workflow.head.tasks.iter_mut().enumerate() {
        state.recovered &= good.contains(&index);
    }
}

/// A pause is over: what it took does not count for budgets.
fn stand_up(head: &mut Head, at: UnixMillis) {
    if let Some(since) = head.paused_at.take() {
        head.paused_ms = head.paused_ms.saturating_add(at.saturating_sub(since));
    }
}

fn end(head: &mut Head, state: WorkflowState, message: &str, outputs: &Map<String, Value>, at: UnixMillis) {
    stand_up(head, at);
    head.state = state;
    head.message = message.to_owned();
    head.outputs = outputs.clone();
    head.ending = None;
    head.ended_at = Some(at);
    for task in head.tasks.iter_mut().filter(|task| !task.state.is_final()) {
        task.state = StepState::Cancelled;
        task.asking = None;
        forget_what_was_said(task);
        task.ended_at = Some(at);
    }
}

/// What people wanted of it before its turn is of no use any more.
fn forget_what_was_said(task: &mut TaskState) {
    task.skip = None;
    task.skips.clear();
    task.pause = None;
    task.pauses.clear();
}

fn open_run(workflow: &mut Workflow, run: u32, tasks: &[usize]) -> Option<()> {
    let head = &mut workflow.head;
    if head.run.checked_add(1) != Some(run) || tasks.iter().any(|&task| task >= head.tasks.len()) {
        return None;
    }
    head.run = run;
    head.state = WorkflowState::Pending;
    head.message.clear();
    head.outputs.clear();
    (head.paused, head.resumed, head.cancelled) = (None, None, None);
    head.start_at = None;
    head.started_at = None;
    head.ended_at = None;
    head.paused_ms = 0;
    do_again(workflow, tasks);
    workflow.head.outputs_bytes = outputs_bytes(workflow);
    Some(())
}

/// These tasks run again; items of them that have succeeded stay.
fn do_again(workflow: &mut Workflow, tasks: &[usize]) {
    let head = &mut workflow.head;
    for &task in tasks {
        if let Some(state) = head.tasks.get_mut(task) {
            // A task that was not started in this run keeps what it has to carry from the run before.
            let (carries, carries_since) = match state.state {
                StepState::Success => (0, 0),
                // What it carried itself, and did not come to, is not lost.
                _ if state.started_at.is_some() => {
                    let since = [state.carries_since, state.carries, state.instance];
                    (
                        state.instance,
                        since.into_iter().find(|&since| since > 0).unwrap_or(0),
                    )
                }
                _ => (state.carries, state.carries_since),
            };
            *state = TaskState {
                carries,
                carries_since,
                went_back: 0,
                ..begin_again(state)
            };
        }
    }
    recover_again(workflow);
}

/// Of the tasks that have succeeded, when a run begins.
fn outputs_bytes(workflow: &Workflow) -> usize {
    let tasks = workflow.head.tasks.iter().enumerate();
    let done = tasks.filter(|(_, state)| state.state.is_final());
    let outputs = done.flat_map(|(task, _)| workflow.executions_of(task).map(|execution| &execution.outputs));
    outputs.fold(0, |all, outputs| match outputs.is_empty() {
        true => all,
        false => all.saturating_add(json_bytes(outputs)),
    })
}

/// The latest instance of a task of which an execution has changed.
fn mirror(workflow: &mut Workflow, id: ExecutionId) {
    let Some(execution) = workflow.executions.get(&id) else {
        return;
    };
    let Some(task) = workflow.head.tasks.get(id.task) else {
        return;
    };
    let state = execution.state;
    // Nothing to do: the tasks stay shared.
    if task.state == state || task.instance != id.instance || task.state.is_final() || state.is_final() {
        return;
    }
    let is_many = workflow
        .definition
        .tasks
        .get(id.task)
        .is_some_and(|task| task.for_each.is_some());
    if (!is_many || state == StepState::Running)
        && let Some(task) = workflow.head.tasks.get_mut(id.task)
    {
        task.state = state;
    }
}

/// An execution of the latest instance of its task that is not over.
fn open(workflow: &mut Workflow, id: ExecutionId) -> Option<&mut Execution> {
    let instance = workflow.head.tasks.get(id.task)?.instance;
    let execution = workflow.executions.get_mut(&id)?;
    (instance == id.instance && !execution.state.is_final()).then(|| Arc::make_mut(execution))
}

/// What `set` records.
fn is_set(workflow: &Workflow, task: usize) -> bool {
    let control = workflow
        .definition
        .tasks
        .get(task)
        .and_then(|task| task.control.as_ref());
    matches!(control, Some(Control::Set(_)))
}
