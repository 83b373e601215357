//! The engine: what a command does to a workflow. [`decide`] gives events, [`apply`] folds them into state.
//!
//! Replaying a workflow's events gives its state, bit for bit. Nothing here reads a clock: callers pass `now`.

use serde::{Deserialize, Serialize};

use crate::language::Definition;

/// Milliseconds since the Unix epoch.
pub type UnixMillis = u64;

/// One try of one action on one machine: `<workflow id>/<task index>/<action index>/<attempt from 1>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId(pub String);

/// The state of a workflow, rebuilt from its events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workflow {
    pub id: String,
    pub name: String,
    pub template: String,
    pub definition: Definition,
    pub state: WorkflowState,
    pub tasks: Vec<TaskState>,
    pub created_at: UnixMillis,
    pub started_at: Option<UnixMillis>,
    pub ended_at: Option<UnixMillis>,
    /// Why it failed, in words.
    pub message: String,
    /// Number of the last event; the next is one more.
    pub last_event: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkflowState {
    Pending,
    Running,
    Success,
    Failed,
    Timeout,
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskState {
    pub state: StepState,
    pub actions: Vec<ActionState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Tries so far.
    pub attempts: u32,
    /// The boot that the current attempt was handed to.
    pub boot_id: Option<String>,
    /// The machine said that it leaves (reboot, kexec) and has not come back yet.
    pub leaving: bool,
    pub started_at: Option<UnixMillis>,
    pub ended_at: Option<UnixMillis>,
    pub reason: String,
    pub message: String,
    pub bytes: u64,
}

/// What somebody wants of a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Create {
        id: String,
        name: String,
        template: String,
        definition: Box<Definition>,
    },
    /// The machine (worker id) is attached with this boot and runs `running` (an attempt id), or nothing.
    /// Gives a dispatch if it is this machine's turn; marks an attempt of an earlier boot LOST.
    Attached {
        worker: String,
        boot_id: String,
        running: Option<AttemptId>,
    },
    Report {
        attempt: AttemptId,
        outcome: Outcome,
    },
    /// A timer is due: global timeout.
    Timer,
    Cancel {
        reason: String,
    },
}

/// What an agent reports of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    Started,
    Succeeded {
        message: String,
        bytes: u64,
    },
    Failed {
        reason: String,
        message: String,
        exit_code: i32,
    },
    TimedOut {
        message: String,
    },
    Leaving {
        how: String,
    },
    Stopped {
        message: String,
    },
}

/// What happened, numbered within its workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub number: u64,
    pub at: UnixMillis,
    #[serde(flatten)]
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    Created {
        id: String,
        name: String,
        template: String,
        definition: Box<Definition>,
    },
    /// The attempt was handed to the machine; from here on it may run.
    Dispatched {
        attempt: AttemptId,
        worker: String,
        boot_id: String,
    },
    Reported {
        attempt: AttemptId,
        outcome: Outcome,
    },
    /// The machine came back with another boot while the attempt was under way.
    Lost {
        attempt: AttemptId,
        boot_id: String,
        retried: bool,
    },
    /// A report that changes nothing (of a lost or finished attempt).
    Late {
        attempt: AttemptId,
        outcome: Outcome,
    },
    Ended {
        state: WorkflowState,
        message: String,
    },
}

/// Why a command was refused; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("workflow {id} exists already")]
    Exists { id: String },
    #[error("workflow {id} has ended: it is {state:?}")]
    Ended { id: String, state: WorkflowState },
    #[error("workflow {id} has no attempt {attempt}")]
    UnknownAttempt { id: String, attempt: String },
}

/// The events that `command` leads to. `state` is `None` only for [`Command::Create`].
pub fn decide(state: Option<&Workflow>, command: &Command, now: UnixMillis) -> Result<Vec<Event>, Refusal> {
    let _ = (state, command, now);
    Ok(Vec::new())
}

/// Folds one event into the state.
pub fn apply(state: Option<Workflow>, event: &Event) -> Workflow {
    let _ = event;
    state.expect("skeleton")
}

/// The attempt that `worker` should be running now and has been dispatched, if any.
pub fn current_attempt<'a>(state: &'a Workflow, worker: &str) -> Option<(AttemptId, usize, usize)> {
    let _ = (state, worker);
    None
}

/// When the next [`Command::Timer`] is due.
pub fn next_timer(state: &Workflow) -> Option<UnixMillis> {
    let _ = state;
    None
}
