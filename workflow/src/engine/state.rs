//! The state of a workflow: a fold over its events, and nothing that is not in them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::UnixMillis;
use crate::language::{Action, Definition, Task};

/// The state of a workflow, rebuilt from its events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workflow {
    pub id: String,
    pub name: String,
    pub template: String,
    pub definition: Definition,
    pub state: WorkflowState,
    /// One for each task of the definition.
    pub tasks: Vec<TaskState>,
    pub created_at: UnixMillis,
    /// Of the first dispatch.
    pub started_at: Option<UnixMillis>,
    pub ended_at: Option<UnixMillis>,
    /// Why it failed, in words.
    pub message: String,
    /// How it will end when the attempt that is under way has stopped. Set in CANCELLING and ENDING.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// Number of the last event; the next is one more.
    pub last_event: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkflowState {
    Pending,
    Running,
    /// Somebody cancelled it; the attempt that is under way is being stopped.
    Cancelling,
    /// Its outcome is fixed; the attempt that is under way is being stopped.
    Ending,
    Success,
    Failed,
    Timeout,
    Cancelled,
}

/// An outcome that waits for an attempt to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub state: WorkflowState,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskState {
    pub state: StepState,
    /// One for each action of the task.
    pub actions: Vec<ActionState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StepState {
    Idle,
    /// Handed to a machine, not yet said to run.
    Waiting,
    Running,
    Success,
    Failed,
    Timeout,
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionState {
    pub state: StepState,
    /// Tries so far, the run of `on-failure` or `on-timeout` included.
    pub attempts: u32,
    /// The boot that the current attempt was handed to.
    pub boot_id: Option<String>,
    /// The machine said that it leaves (reboot, kexec) and has not come back yet.
    pub leaving: bool,
    /// Of the last try: handed out, then said to run.
    pub started_at: Option<UnixMillis>,
    pub ended_at: Option<UnixMillis>,
    pub reason: String,
    pub message: String,
    pub bytes: u64,
    /// Where the run of `on-failure` or `on-timeout` is, for an action that has failed and has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<Cleanup>,
}

/// The extra run of a failed action, with the arguments of its `on-failure` or `on-timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Cleanup {
    Due,
    UnderWay,
    Done,
}

/// The place of an action in its workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) task: usize,
    pub(super) action: usize,
}

impl Workflow {
    pub(super) fn created(
        id: &str,
        name: &str,
        template: &str,
        definition: &Definition,
        at: UnixMillis,
    ) -> Workflow {
        let tasks = definition.tasks.iter().map(|task| TaskState {
            state: StepState::Idle,
            actions: task.actions.iter().map(|_| ActionState::idle()).collect(),
        });
        Workflow {
            id: id.into(),
            name: name.into(),
            template: template.into(),
            tasks: tasks.collect(),
            definition: definition.clone(),
            state: WorkflowState::Pending,
            created_at: at,
            started_at: None,
            ended_at: None,
            message: String::new(),
            ending: None,
            last_event: 0,
        }
    }

    /// The first action that has not succeeded: the one that is, or comes, under way.
    pub(super) fn position(&self) -> Option<Position> {
        self.tasks.iter().enumerate().find_map(|(task, state)| {
            let action = state
                .actions
                .iter()
                .position(|action| action.state != StepState::Success)?;
            Some(Position { task, action })
        })
    }

    pub(super) fn is_last(&self, position: Position) -> bool {
        self.tasks
            .get(position.task)
            .is_some_and(|task| position.action + 1 >= task.actions.len())
            && self
                .tasks
                .iter()
                .skip(position.task + 1)
                .all(|task| task.actions.is_empty())
    }

    pub(super) fn action_state(&self, position: Position) -> Option<&ActionState> {
        self.tasks.get(position.task)?.actions.get(position.action)
    }

    pub(super) fn action_state_mut(&mut self, position: Position) -> Option<&mut ActionState> {
        self.tasks
            .get_mut(position.task)?
            .actions
            .get_mut(position.action)
    }

    pub(super) fn defined(&self, position: Position) -> Option<(&Task, &Action)> {
        let task = self.definition.tasks.get(position.task)?;
        Some((task, task.actions.get(position.action)?))
    }
}

impl ActionState {
    fn idle() -> ActionState {
        ActionState {
            state: StepState::Idle,
            attempts: 0,
            boot_id: None,
            leaving: false,
            started_at: None,
            ended_at: None,
            reason: String::new(),
            message: String::new(),
            bytes: 0,
            cleanup: None,
        }
    }

    /// An attempt (the last one) was handed out and its end is not known.
    pub fn is_under_way(&self) -> bool {
        matches!(self.state, StepState::Waiting | StepState::Running)
            || self.cleanup == Some(Cleanup::UnderWay)
    }

    /// The next attempt may be handed out.
    pub(super) fn is_due(&self) -> bool {
        self.state == StepState::Idle || self.cleanup == Some(Cleanup::Due)
    }
}

impl WorkflowState {
    /// No command leads out of it.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            WorkflowState::Success
                | WorkflowState::Failed
                | WorkflowState::Timeout
                | WorkflowState::Cancelled
        )
    }

    pub fn as_str(self) -> &'static str {
        match self {
            WorkflowState::Pending => "PENDING",
            WorkflowState::Running => "RUNNING",
            WorkflowState::Cancelling => "CANCELLING",
            WorkflowState::Ending => "ENDING",
            WorkflowState::Success => "SUCCESS",
            WorkflowState::Failed => "FAILED",
            WorkflowState::Timeout => "TIMEOUT",
            WorkflowState::Cancelled => "CANCELLED",
        }
    }
}

impl StepState {
    pub fn as_str(self) -> &'static str {
        match self {
            StepState::Idle => "IDLE",
            StepState::Waiting => "WAITING",
            StepState::Running => "RUNNING",
            StepState::Success => "SUCCESS",
            StepState::Failed => "FAILED",
            StepState::Timeout => "TIMEOUT",
            StepState::Cancelled => "CANCELLED",
        }
    }
}

impl fmt::Display for WorkflowState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl fmt::Display for StepState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}
