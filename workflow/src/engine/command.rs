//! What is asked of a workflow, why it may be refused, and what else is to be done when it is not.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::UnixMillis;
use super::event::{Event, Failure, Loss, Outcome};
use super::ids::{AttemptId, ExecutionId};
use super::state::{MadeFrom, Parent, Workflow, WorkflowState, has_no_rules};
use crate::Shared;
use crate::labels::{LabelError, Labels};
use crate::language::{Definition, PolicyRule};

/// What somebody wants of a workflow.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Inputs have been checked against the definition, and their defaults filled in.
    Create(Box<Creation>),
    /// The decision before had to be cut short: go on.
    Continue,
    /// The machine is free, attached with this boot, and held by this workflow's root: hand the execution out.
    Dispatch {
        execution: ExecutionId,
        worker: String,
        boot_id: String,
        epoch: u64,
    },
    Report {
        attempt: AttemptId,
        outcome: Outcome,
    },
    /// The machine attached with `boot_id`, after it had said that it leaves.
    Returned {
        attempt: AttemptId,
        boot_id: String,
    },
    Lost {
        attempt: AttemptId,
        why: Loss,
    },
    /// Something is due; see [`next_due`](super::next_due).
    Timer,
    /// What came of a [`Question`](super::Question).
    Answered {
        execution: ExecutionId,
        seen: Seen,
    },
    /// The answer to an [`Effect::Ask`]: what is known of the machines that match, by worker, in order of their names.
    Answer {
        task: usize,
        instance: u32,
        selector: String,
        machines: Vec<(String, Value)>,
        /// Labels that the selector asks for and no machine at all has, in words.
        unknown: Vec<String>,
    },
    /// The same, when the selector has no value for a machine, the first by name: why, with the selector and what it saw.
    NoAnswer {
        task: usize,
        instance: u32,
        selector: String,
        machine: String,
        why: String,
    },
    /// A sub-workflow has ended (or could not be made): what its [`Effect::EndChild`] says.
    ChildEnded {
        /// As its [`Parent`] has it.
        execution: ExecutionId,
        child: String,
        /// The run of the child that ended; None: it could not be made.
        run: Option<u32>,
        state: WorkflowState,
        message: String,
        outputs: Map<String, Value>,
        /// Machines that it and its own sub-workflows claimed in the root's name.
        workers: Vec<String>,
    },
    Pause {
        by: String,
        reason: String,
    },
    Unpause {
        by: String,
    },
    /// Its labels change, whatever its state is.
    Label {
        set: Labels,
        /// Keys of those that go; of one that it has not, nothing.
        remove: BTreeSet<String>,
        by: String,
    },
    /// It has not begun: it is to begin then, by the clock on the wall; None: now.
    Start {
        at: Option<UnixMillis>,
        by: String,
    },
    /// Starts nothing any more, not even `always()` or `on-failure`.
    Cancel {
        /// Who wants it; empty: not a person.
        by: String,
        reason: String,
    },
    /// Opens the next run from the failed tasks. Only at a root that has ended FAILED, TIMEOUT or CANCELLED.
    Retry {
        by: String,
    },
    /// The same from the parent: what an [`Effect::RetryChild`] asks of a sub-workflow.
    RetryChild {
        by: String,
    },
    /// The task's name, or `NAME[item]` for one item of a `forEach`.
    Decide {
        task: String,
        item: Option<usize>,
        approved: bool,
        by: String,
        groups: Vec<String>,
        comment: String,
    },
    /// One thing of it is not done: a task by its name, or `NAME[item]` for one item of a `forEach`.
    Skip {
        task: String,
        item: Option<usize>,
        by: String,
        reason: String,
    },
    /// One thing of it does not go on until it is resumed; what of it is under way runs to the end of its action.
    PauseOne {
        task: String,
        item: Option<usize>,
        by: String,
        reason: String,
    },
    /// It goes on, unless the workflow is paused as well.
    UnpauseOne {
        task: String,
        item: Option<usize>,
        by: String,
    },
    /// One thing of it that failed is done again: an item of a `forEach` that goes on, or a task with what depends on it.
    RetryOne {
        task: String,
        item: Option<usize>,
        by: String,
    },
    /// From here on these rules say which of its actions a person releases, and which are refused.
    SetPolicy {
        policy: Vec<PolicyRule>,
        by: String,
    },
    /// Its claims would wait for each other for ever, and it is the younger root.
    Deadlock {
        machine: String,
        with: String,
    },
}

/// What somebody sees who asks a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It answers as it is to: the task's outputs.
    Answer(Map<String, Value>),
    /// What comes instead, in words.
    Else(String),
}

/// What a workflow is made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Creation {
    pub id: String,
    pub namespace: String,
    pub name: String,
    pub template: String,
    pub made_from: Option<MadeFrom>,
    /// As [`labels::check`](crate::labels::check) has them.
    pub labels: Labels,
    pub definition: Definition,
    pub inputs: Map<String, Value>,
    pub machines: BTreeMap<String, Value>,
    /// The MACs of machines that were named otherwise, by the name or address that was given.
    pub resolved: BTreeMap<String, String>,
    pub parent: Option<Parent>,
    /// Rules that come before its template's; of a sub-workflow those of its parent.
    pub policy: Vec<PolicyRule>,
    /// It begins then, by the clock on the wall; until then it has no machine, and waits for none.
    pub start_at: Option<UnixMillis>,
    /// Who made it; empty: not a person.
    pub by: String,
}

/// Why a command was refused; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("workflow {id} exists already")]
    Exists { id: String },
    #[error("there is no such workflow")]
    Missing,
    #[error("workflow {id} has ended: it is {state}")]
    Ended { id: String, state: WorkflowState },
    #[error("workflow {id} is {state}: {cure}")]
    WrongState {
        id: String,
        state: WorkflowState,
        cure: &'static str,
    },
    #[error("workflow {id} has no attempt {attempt}")]
    UnknownAttempt { id: String, attempt: String },
    /// It does not want a machine now: whoever thought so forgets it.
    #[error("task execution {execution} of workflow {id} is not ready for a machine")]
    NotReady { id: String, execution: ExecutionId },
    #[error("workflow {id} has no task {task:?} that waits for approval{there_are}")]
    NothingToApprove {
        id: String,
        task: String,
        there_are: String,
    },
    #[error("task {task:?} is decided by one of the groups {by}, and {who:?} is in none of them")]
    NotYours { task: String, by: String, who: String },
    /// Only the first decision counts.
    #[error("task {task:?} was {how} by {by} already")]
    Decided {
        task: String,
        how: &'static str,
        by: String,
    },
    #[error("workflow {id} has no task {task:?}; it has {there_are}")]
    NoSuchTask {
        id: String,
        task: String,
        there_are: String,
    },
    /// Of one task or item: why it cannot be done, and what can.
    #[error("task {task:?} of workflow {id} {why}")]
    NotOfTask { id: String, task: String, why: String },
    #[error(
        "the reason takes {bytes} B, {most} B at most: put the long story where it can be read, and say here where"
    )]
    LongReason { bytes: usize, most: usize },
    #[error(transparent)]
    Label(#[from] LabelError),
    #[error("workflow {id} is part of workflow {root}: do this there")]
    NotTheRoot { id: String, root: String },
}

/// What a command leads to: all of it is stored in one commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// None: the command changes nothing (a repeated report).
    pub events: Vec<Event>,
    /// After the events.
    pub workflow: Workflow,
    /// Executions that the events made or changed. The head always changes when there are events.
    pub changed: BTreeSet<ExecutionId>,
    /// Lists of items that were made.
    pub expanded: BTreeSet<(usize, u32)>,
    /// For others; kept in the commit until they have taken it, except where the other is in the same commit.
    pub effects: Vec<Effect>,
    /// It was cut short: put in [`Command::Continue`] next.
    pub more: bool,
}

/// What others are to do. Taking one twice does no harm, but those of one workflow have to be taken in their order: a
/// Release after the Claim that came before it, an Unwant before the Want that came after it.
///
/// A refusal of what an effect asks of another workflow means that it is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Effect {
    /// To a machine: this root will need it.
    Claim {
        worker: String,
        root: String,
    },
    /// To a machine: nothing that is left of this root can use it.
    Release {
        worker: String,
        root: String,
    },
    /// The same to many machines at once (the end of a rollout).
    ReleaseMany {
        workers: Vec<String>,
        root: String,
    },
    /// To a machine: this execution is ready for it.
    Want {
        worker: String,
        root: String,
        workflow: String,
        execution: ExecutionId,
    },
    /// To a machine: it is not any more.
    Unwant {
        worker: String,
        workflow: String,
        execution: ExecutionId,
    },
    /// To a machine: stop this attempt.
    Stop {
        worker: String,
        attempt: AttemptId,
        reason: String,
    },
    /// To a machine: a person skipped something of this root's that had begun there. What it left half written is not made
    /// good by the end of the root.
    Skipped {
        worker: String,
        root: String,
    },
    /// The same to many machines at once (a sub-workflow of a rollout).
    SkippedMany {
        workers: Vec<String>,
        root: String,
    },
    /// Answer with [`Command::Answer`] or [`Command::NoAnswer`].
    Ask {
        workflow: String,
        task: usize,
        instance: u32,
        selector: String,
    },
    /// Make this workflow; when that can't be done, answer with [`Command::ChildEnded`] as FAILED.
    StartChild {
        id: String,
        parent: Parent,
        namespace: String,
        template: String,
        name: String,
        inputs: Map<String, Value>,
        /// The parent's: it begins with them, beside its template's.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: Labels,
        /// Of its parent.
        #[serde(default, skip_serializing_if = "has_no_rules")]
        policy: Shared<Vec<PolicyRule>>,
    },
    CancelChild {
        id: String,
        reason: String,
    },
    PauseChild {
        id: String,
        by: String,
        reason: String,
    },
    UnpauseChild {
        id: String,
        by: String,
    },
    RetryChild {
        id: String,
        by: String,
    },
    /// To the parent: [`Command::ChildEnded`].
    EndChild {
        parent: Parent,
        child: String,
        run: u32,
        state: WorkflowState,
        message: String,
        outputs: Map<String, Value>,
        workers: Vec<String>,
    },
}

impl Failure {
    pub fn new(reason: &str, message: impl Into<String>) -> Failure {
        Failure {
            reason: reason.into(),
            message: message.into(),
        }
    }
}
