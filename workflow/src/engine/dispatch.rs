//! What a workflow's state means for a machine: what it should run, what it should stop, when to look again.

use std::collections::BTreeMap;

use super::UnixMillis;
use super::event::AttemptId;
use super::state::{ActionState, Position, StepState, Workflow, WorkflowState};

/// An attempt with everything that is needed to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    pub attempt: AttemptId,
    pub workflow_id: String,
    pub workflow_name: String,
    /// Name of the task.
    pub task: String,
    /// Name of the action.
    pub action: String,
    pub image: String,
    /// The action's `command`; in an extra run its `on-failure` or `on-timeout`.
    pub command: Vec<String>,
    /// The task's, then the action's.
    pub volumes: Vec<String>,
    /// The task's, overlaid by the action's.
    pub environment: BTreeMap<String, String>,
    /// 0: none.
    pub timeout_s: u64,
    pub pid: String,
    pub network: String,
    /// From 0, within the task.
    pub action_index: usize,
    /// Of the task.
    pub action_count: usize,
}

/// The attempt that `worker` should be running now and has been dispatched, if any, with the indexes of its task and
/// action. `None` while the workflow is being stopped: what is under way then is in [`stop_due`].
pub fn current_attempt(state: &Workflow, worker: &str) -> Option<(AttemptId, usize, usize)> {
    if state.state != WorkflowState::Running {
        return None;
    }
    let (position, action) = under_way(state, worker)?;
    Some((
        AttemptId::new(&state.id, position, action.attempts),
        position.task,
        position.action,
    ))
}

/// What to push to `worker` for its [`current_attempt`].
pub fn dispatch(state: &Workflow, worker: &str) -> Option<Dispatch> {
    let (attempt, task_index, action_index) = current_attempt(state, worker)?;
    let position = Position {
        task: task_index,
        action: action_index,
    };
    let (task, action) = state.defined(position)?;
    let progress = state.action_state(position)?;
    let command = match progress.state {
        StepState::Failed => &action.on_failure,
        StepState::Timeout => &action.on_timeout,
        _ => &action.command,
    };
    let mut environment = task.environment.clone();
    environment.extend(action.environment.clone());
    Some(Dispatch {
        attempt,
        workflow_id: state.id.clone(),
        workflow_name: state.name.clone(),
        task: task.name.clone(),
        action: action.name.clone(),
        image: action.image.clone(),
        command: command.clone(),
        volumes: task.volumes.iter().chain(&action.volumes).cloned().collect(),
        environment,
        timeout_s: action.timeout_s,
        pid: action.pid.clone(),
        network: action.network.clone(),
        action_index,
        action_count: task.actions.len(),
    })
}

/// The attempt that `worker` is to stop, and why, while the workflow is CANCELLING or ENDING.
pub fn stop_due(state: &Workflow, worker: &str) -> Option<(AttemptId, String)> {
    let ending = state.ending.as_ref().filter(|_| !state.state.is_final())?;
    let (position, action) = under_way(state, worker)?;
    Some((
        AttemptId::new(&state.id, position, action.attempts),
        ending.message.clone(),
    ))
}

/// When the next [`Command::Timer`](super::Command::Timer) is due.
pub fn next_timer(state: &Workflow) -> Option<UnixMillis> {
    if state.state != WorkflowState::Running || state.definition.global_timeout_s == 0 {
        return None;
    }
    Some(
        state
            .started_at?
            .saturating_add(state.definition.global_timeout_s.saturating_mul(1000)),
    )
}

/// What the workflow does or waits for, as seen by `worker`, in one line.
pub fn explain(state: &Workflow, worker: &str) -> String {
    let place = format!("workflow {} ({})", state.name, state.id);
    if state.state.is_final() {
        let colon = if state.message.is_empty() { "" } else { ": " };
        return format!("{place} is {}{colon}{}", state.state, state.message);
    }
    let Some((task, action)) = state.position().and_then(|position| state.defined(position)) else {
        return format!("{place} is {}", state.state);
    };
    if task.worker == worker {
        format!(
            "{place} is {} at action {:?} of task {:?}",
            state.state, action.name, task.name
        )
    } else {
        format!("{place} waits for task {:?} on {}", task.name, task.worker)
    }
}

fn under_way<'a>(state: &'a Workflow, worker: &str) -> Option<(Position, &'a ActionState)> {
    let position = state.position()?;
    let action = state
        .action_state(position)
        .filter(|action| action.is_under_way())?;
    let (task, _) = state.defined(position)?;
    (task.worker == worker).then_some((position, action))
}
