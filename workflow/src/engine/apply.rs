//! Folding events into state.

use super::event::{AttemptId, Event, EventKind, Outcome};
use super::state::{ActionState, Cleanup, Ending, Position, StepState, TaskState, Workflow, WorkflowState};
use super::{MAX_ATTEMPTS, UnixMillis};
use crate::language::Definition;

/// Folds one event into the state.
///
/// Total. An event that does not follow (its number is not the next, a second Created, an attempt that there cannot
/// be) leaves the state as it is. A first event that is not Created gives an empty workflow with an empty id;
/// [`replay`] reports such histories instead.
pub fn apply(state: Option<Workflow>, event: &Event) -> Workflow {
    let Some(mut workflow) = state else {
        return first(event);
    };
    if event.number != workflow.last_event.saturating_add(1) {
        return workflow;
    }
    if happen(&mut workflow, event).is_some() {
        workflow.last_event = event.number;
        settle_tasks(&mut workflow.tasks);
    }
    workflow
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
        let after = state.as_ref().map_or(0, |workflow| workflow.last_event);
        let next = apply(state.take(), event);
        if next.last_event != after.saturating_add(1) || next.last_event != event.number {
            return Err(ReplayError::DoesNotFollow {
                number: event.number,
                kind: event.kind.name(),
                after,
            });
        }
        state = Some(next);
    }
    state.ok_or(ReplayError::Empty)
}

fn first(event: &Event) -> Workflow {
    let mut workflow = match &event.kind {
        EventKind::Created {
            id,
            name,
            template,
            definition,
        } if event.number == 1 => {
            let mut workflow = Workflow::created(id, name, template, definition, event.at);
            workflow.last_event = 1;
            workflow
        }
        _ => {
            let nothing = Definition {
                version: String::new(),
                name: String::new(),
                id: String::new(),
                global_timeout_s: 0,
                tasks: Vec::new(),
            };
            Workflow::created("", "", "", &nothing, event.at)
        }
    };
    settle_tasks(&mut workflow.tasks);
    workflow
}

/// `None` when the event cannot have happened to this workflow; then nothing has changed.
fn happen(workflow: &mut Workflow, event: &Event) -> Option<()> {
    if workflow.state.is_final() && !matches!(event.kind, EventKind::Late { .. }) {
        return None;
    }
    match &event.kind {
        EventKind::Created { .. } => return None,
        EventKind::Late { .. } => {}
        EventKind::Dispatched { attempt, boot_id, .. } => {
            let number = attempt.parts()?.attempt;
            let stopping = workflow.ending.is_some();
            let action = attempted(workflow, attempt)?;
            if stopping || !action.is_due() || number != action.attempts.saturating_add(1) {
                return None;
            }
            hand_out(action, boot_id, event.at);
            workflow.state = WorkflowState::Running;
            workflow.started_at.get_or_insert(event.at);
        }
        EventKind::Reported { attempt, outcome } => {
            let last = workflow.is_last(attempt.parts()?.position());
            let cleanup = attempt
                .parts()
                .and_then(|parts| cleanup_of(workflow, parts.position(), outcome));
            let action = under_way(workflow, attempt)?;
            if action.cleanup == Some(Cleanup::UnderWay) {
                report_of_cleanup(action, outcome);
            } else {
                report(action, outcome, event.at, last);
                action.cleanup = cleanup;
            }
        }
        EventKind::Lost { attempt, retried, .. } => {
            let stopping = workflow.ending.is_some();
            lose(under_way(workflow, attempt)?, *retried, stopping, event.at);
        }
        EventKind::Returned { attempt, .. } => {
            let action = under_way(workflow, attempt).filter(|action| action.leaving)?;
            action.state = StepState::Success;
            action.leaving = false;
            action.ended_at = Some(event.at);
        }
        EventKind::Stopping { state, message } => {
            if !state.is_final() {
                return None;
            }
            workflow.state = match state {
                WorkflowState::Cancelled => WorkflowState::Cancelling,
                _ => WorkflowState::Ending,
            };
            workflow.ending = Some(Ending {
                state: *state,
                message: message.clone(),
            });
        }
        EventKind::Ended { state, message } => {
            if !state.is_final() {
                return None;
            }
            end(workflow, *state, message, event.at);
        }
    }
    Some(())
}

/// The action of an attempt, where that is the one that the workflow has come to.
fn attempted<'a>(workflow: &'a mut Workflow, attempt: &AttemptId) -> Option<&'a mut ActionState> {
    let parts = attempt.parts()?;
    if parts.workflow != workflow.id || workflow.position() != Some(parts.position()) {
        return None;
    }
    workflow.action_state_mut(parts.position())
}

/// The action of an attempt, where that attempt is the one under way.
fn under_way<'a>(workflow: &'a mut Workflow, attempt: &AttemptId) -> Option<&'a mut ActionState> {
    let number = attempt.parts()?.attempt;
    attempted(workflow, attempt).filter(|action| action.is_under_way() && action.attempts == number)
}

fn hand_out(action: &mut ActionState, boot_id: &str, at: UnixMillis) {
    action.attempts = action.attempts.saturating_add(1);
    action.boot_id = Some(boot_id.to_owned());
    action.leaving = false;
    if action.cleanup.is_some() {
        action.cleanup = Some(Cleanup::UnderWay);
    } else {
        action.state = StepState::Waiting;
        action.started_at = Some(at);
        action.ended_at = None;
        action.reason.clear();
        action.message.clear();
    }
}

fn report(action: &mut ActionState, outcome: &Outcome, at: UnixMillis, last: bool) {
    match outcome {
        Outcome::Started => {
            action.state = StepState::Running;
            action.started_at = Some(at);
            return;
        }
        Outcome::Leaving { how } if !last => {
            action.state = StepState::Running;
            action.leaving = true;
            action.message = how.clone();
            return;
        }
        Outcome::Leaving { how } => {
            action.state = StepState::Success;
            action.message = how.clone();
        }
        Outcome::Succeeded { message, bytes } => {
            action.state = StepState::Success;
            action.message = message.clone();
            action.bytes = *bytes;
        }
        Outcome::Failed { reason, message, .. } => {
            action.state = StepState::Failed;
            action.reason = reason.clone();
            action.message = message.clone();
        }
        Outcome::TimedOut { message } => {
            action.state = StepState::Timeout;
            action.reason = "Timeout".into();
            action.message = message.clone();
        }
        Outcome::Stopped { message } => {
            action.state = StepState::Cancelled;
            action.reason = "Stopped".into();
            action.message = message.clone();
        }
    }
    action.leaving = false;
    action.ended_at = Some(at);
}

/// The extra run changes nothing of how the action ended.
fn report_of_cleanup(action: &mut ActionState, outcome: &Outcome) {
    if *outcome != Outcome::Started {
        action.cleanup = Some(Cleanup::Done);
    }
}

/// Whether an outcome leads to an extra run: not once the workflow is being stopped.
fn cleanup_of(workflow: &Workflow, position: Position, outcome: &Outcome) -> Option<Cleanup> {
    let (_, action) = workflow.defined(position)?;
    let command = match outcome {
        Outcome::Failed { .. } => &action.on_failure,
        Outcome::TimedOut { .. } => &action.on_timeout,
        _ => return None,
    };
    (!command.is_empty() && workflow.ending.is_none()).then_some(Cleanup::Due)
}

fn lose(action: &mut ActionState, retried: bool, stopping: bool, at: UnixMillis) {
    action.leaving = false;
    action.boot_id = None;
    if action.cleanup == Some(Cleanup::UnderWay) {
        action.cleanup = Some(Cleanup::Done);
        return;
    }
    action.ended_at = Some(at);
    action.reason = "Lost".into();
    action.message = "the machine came back with another boot before it was done".into();
    action.state = if retried {
        StepState::Idle
    } else if stopping {
        StepState::Cancelled
    } else {
        StepState::Failed
    };
}

fn end(workflow: &mut Workflow, state: WorkflowState, message: &str, at: UnixMillis) {
    workflow.state = state;
    workflow.message = message.to_owned();
    workflow.ending = None;
    workflow.ended_at = Some(at);
    for action in workflow.tasks.iter_mut().flat_map(|task| &mut task.actions) {
        if matches!(action.state, StepState::Waiting | StepState::Running) {
            action.state = StepState::Cancelled;
            action.leaving = false;
            action.ended_at = Some(at);
        }
        if action.cleanup.is_some() {
            action.cleanup = Some(Cleanup::Done);
        }
    }
}

/// A task's state follows from its actions'; one without actions succeeds when its turn comes.
fn settle_tasks(tasks: &mut [TaskState]) {
    let mut reached = true;
    for task in tasks {
        let has = |state| task.actions.iter().any(|action| action.state == state);
        let ended = [StepState::Failed, StepState::Timeout, StepState::Cancelled]
            .into_iter()
            .find(|&state| has(state));
        task.state = if let Some(ended) = ended {
            ended
        } else if reached
            && task
                .actions
                .iter()
                .all(|action| action.state == StepState::Success)
        {
            StepState::Success
        } else if has(StepState::Running)
            || has(StepState::Success)
            || task.actions.iter().any(|a| a.attempts > 0)
        {
            if has(StepState::Waiting) && !has(StepState::Running) && !has(StepState::Success) {
                StepState::Waiting
            } else {
                StepState::Running
            }
        } else {
            StepState::Idle
        };
        reached &= task.state == StepState::Success;
    }
}

/// Whether a lost attempt may be tried again.
pub(super) fn may_retry(action: &ActionState) -> bool {
    action.attempts < MAX_ATTEMPTS && action.cleanup.is_none()
}
