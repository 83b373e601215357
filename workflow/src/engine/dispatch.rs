//! What a workflow's state means for others: what a machine is to run, when to look again.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::UnixMillis;
use super::decide::next_due_of;
use super::ids::AttemptId;
use super::secrets::{SecretHole, SecretText};
use super::state::{StepState, Workflow};
use crate::labels::Labels;
use crate::language::{BadWait, Native, Resources, Runtime};

/// An attempt with everything that is needed to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    pub attempt: AttemptId,
    pub workflow_name: String,
    pub namespace: String,
    /// Of the workflow, as they are when it is handed out.
    pub labels: Labels,
    /// Name of the task.
    pub task: String,
    /// Name of the action.
    pub action: String,
    pub image: String,
    /// The agent itself does it; `None`: its image is to run as a container.
    pub native: Option<&'static Native>,
    /// The machine reports that it leaves first, and runs the container so many seconds after that was acknowledged; `None`:
    /// as every other action.
    pub leaves_before_s: Option<u64>,
    /// Why it is not to be handed out: an expression gave a text that is no time to wait.
    pub bad_wait: Option<BadWait>,
    /// Who runs a container, where the template says it.
    pub runtime: Option<Runtime>,
    /// The action's `command`; in an extra run its `on-failure` or `on-timeout`.
    pub command: Vec<String>,
    /// The task's, then the action's.
    pub volumes: Vec<String>,
    /// The task's, overlaid by the action's; see [`Dispatch::hand_out`] for what the input sets.
    pub environment: BTreeMap<String, String>,
    /// What it is given as data.
    pub input: Map<String, Value>,
    /// 0: none.
    pub timeout_s: u64,
    pub pid: String,
    pub network: String,
    pub confined: bool,
    pub resources: Resources,
    /// From 0, within the task.
    pub action_index: usize,
    /// Of the task.
    pub action_count: usize,
    /// The ephemeral data to give it.
    pub data_version: u64,
    /// Where `command`, `environment` and `input` have a secret; see [`Dispatch::hand_out`].
    pub secrets: Vec<SecretHole>,
}

/// What to push to the machine that the attempt was dispatched to. None when it is not under way, or is to stop.
pub fn dispatch(workflow: &Workflow, attempt: &AttemptId) -> Option<Dispatch> {
    let head = &workflow.head;
    let execution = workflow
        .execution(attempt.execution)
        .filter(|execution| attempt.workflow == head.id && !execution.state.is_final())?;
    let (index, progress) = execution.under_way().filter(|(index, action)| {
        *index == attempt.action && action.attempts == attempt.attempt && action.stopping.is_none()
    })?;
    if progress.leaving || head.state.is_final() || head.ending.is_some() {
        return None;
    }
    let task = workflow.definition.tasks.get(attempt.execution.task)?;
    let filled = execution.filled.as_ref();
    let defined = task.actions.get(index)?;
    let action = filled
        .and_then(|filled| filled.actions.get(index))
        .unwrap_or(defined);
    let command = match progress.state {
        StepState::Failed => &action.on_failure,
        StepState::Timeout => &action.on_timeout,
        _ => &action.command,
    };
    let is_command = std::ptr::eq(command, &action.command);
    let secrets = filled.map(|filled| filled.secrets.as_slice()).unwrap_or_default();
    let is_handed = |hole: &&SecretHole| match (&hole.action, &hole.text) {
        (None, SecretText::Environment(variable)) => !action.environment.contains_key(variable),
        (Some(of), SecretText::Environment(_) | SecretText::Input(_)) => *of == index,
        (Some(of), SecretText::Command(_)) => *of == index && is_command,
        (None, SecretText::Command(_) | SecretText::Input(_)) => false,
    };
    let secrets = secrets.iter().filter(is_handed).cloned().collect();
    let mut environment = filled
        .map_or(&task.environment, |filled| &filled.environment)
        .clone();
    environment.extend(action.environment.clone());
    let wrapped = action.wrapped(&environment);
    let native = match &wrapped {
        Some(wrapped) => wrapped.native(),
        None => action.native(),
    };
    // What the agent does itself reports before it leaves in any case.
    let (leaves_before_s, bad_wait) = match wrapped.as_ref().map(|wrapped| &wrapped.wait_s) {
        Some(Ok(wait_s)) => (native.is_none().then_some(*wait_s), None),
        Some(Err(bad)) => (None, Some(bad.clone())),
        None => (None, None),
    };
    let image = wrapped.map_or_else(|| action.image.clone(), |wrapped| wrapped.image);
    Some(Dispatch {
        attempt: attempt.clone(),
        workflow_name: head.name.clone(),
        namespace: head.namespace.clone(),
        labels: Labels::clone(&head.labels),
        task: task.name.clone(),
        action: action.name.clone(),
        image,
        native,
        leaves_before_s,
        bad_wait,
        runtime: action.runtime,
        command: command.clone(),
        volumes: task.volumes.iter().chain(&action.volumes).cloned().collect(),
        environment,
        input: action.input.clone(),
        timeout_s: action.timeout_s,
        pid: action.pid.clone(),
        network: action.network.clone(),
        confined: action.confined,
        resources: action.resources,
        action_index: index,
        action_count: task.actions.len(),
        data_version: progress.data_version,
        secrets,
    })
}

/// When the next [`Command::Timer`](super::Command::Timer) is due.
pub fn next_due(workflow: &Workflow) -> Option<UnixMillis> {
    next_due_of(workflow)
}
