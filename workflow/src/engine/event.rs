//! What happened to a workflow. Events are stored as JSON and are never rewritten: fields may be added, with a
//! default; none changes its meaning.
//!
//! Everything that was evaluated stands in the event with its result: applying events evaluates nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::UnixMillis;
use super::ids::{AttemptId, ExecutionId};
use super::state::{Filled, Parent, StepState, Waiting, WorkflowState};
use crate::language::Definition;

/// What happened, numbered within its workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// From 1.
    pub number: u64,
    /// A hybrid logical clock, which sorts across workflows: never below the event before it, and `tick` counts the
    /// events of one millisecond.
    pub at: UnixMillis,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tick: u32,
    #[serde(flatten)]
    pub kind: EventKind,
}

fn is_zero(tick: &u32) -> bool {
    *tick == 0
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    Created {
        id: String,
        namespace: String,
        name: String,
        template: String,
        definition: Box<Definition>,
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        inputs: Map<String, Value>,
        /// What is known of the machines of static workers, by worker.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        machines: BTreeMap<String, Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Parent>,
    },
    /// `machines(selector)` is to be answered before the task can go on.
    Asked {
        task: usize,
        instance: u32,
        selector: String,
    },
    /// A task's turn came, its status gate is open, its list (if it has one) was evaluated.
    TaskStarted {
        task: usize,
        instance: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<Evaluated>,
        /// The items of its `forEach`; None without.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        items: Option<Vec<Value>>,
        /// What is known of machines that came with the list.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        machines: BTreeMap<String, Value>,
    },
    /// An execution was made, its texts filled in. It is WAITING (for what `waiting` says), or SKIPPED.
    ExecutionMade {
        execution: ExecutionId,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        worker: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<Evaluated>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        filled: Option<Box<Filled>>,
        /// None: SKIPPED.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waiting: Option<Waiting>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<UnixMillis>,
        /// The sub-workflow that is started for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        child: Option<String>,
    },
    /// Somebody decided; an approved execution goes on to wait for what `waiting` says (None: it is over).
    Decided {
        execution: ExecutionId,
        approved: bool,
        by: String,
        comment: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waiting: Option<Waiting>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<UnixMillis>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        child: Option<String>,
    },
    /// The attempt was handed to the machine; from here on it may run.
    Dispatched {
        attempt: AttemptId,
        worker: String,
        boot_id: String,
        epoch: u64,
        data_version: u64,
    },
    Reported {
        attempt: AttemptId,
        outcome: Outcome,
    },
    /// The machine is asked to stop the attempt; its end then means `then`.
    StopAsked {
        attempt: AttemptId,
        then: StepState,
        reason: String,
    },
    /// The attempt's end will never be known.
    Lost {
        attempt: AttemptId,
        why: Loss,
    },
    /// The machine came back after it had said that it leaves.
    Returned {
        attempt: AttemptId,
        boot_id: String,
    },
    /// A report of an attempt that was over; changes nothing.
    Late {
        attempt: AttemptId,
        outcome: Outcome,
    },
    /// The next attempt of an action (or of a whole task: `action` is None) is made at `due`.
    Delayed {
        execution: ExecutionId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        action: Option<usize>,
        due: UnixMillis,
    },
    /// A delay is over: ready for its machine again.
    Resumed {
        execution: ExecutionId,
    },
    /// The execution is over.
    ExecutionEnded {
        execution: ExecutionId,
        state: StepState,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Failure>,
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        outputs: Map<String, Value>,
    },
    /// The next wave of a `forEach` begins.
    WaveOpened {
        task: usize,
        instance: u32,
        wave: usize,
    },
    /// A task is over (SKIPPED: with the condition that says why, None when a need failed).
    TaskEnded {
        task: usize,
        instance: u32,
        state: StepState,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<Evaluated>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Failure>,
        #[serde(default, skip_serializing_if = "Value::is_null")]
        outputs: Value,
    },
    /// `goto`: these tasks are to run again.
    WentBack {
        from: usize,
        condition: Evaluated,
        /// The target and what depends on it.
        tasks: Vec<usize>,
    },
    PauseAsked {
        by: String,
        reason: String,
    },
    Paused,
    Unpaused {
        by: String,
    },
    /// It is to end like this, as soon as what is under way has stopped.
    Stopping {
        state: WorkflowState,
        message: String,
    },
    Ended {
        state: WorkflowState,
        message: String,
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        outputs: Map<String, Value>,
    },
    /// A person opened the next run: these tasks run again.
    RunOpened {
        run: u32,
        by: String,
        tasks: Vec<usize>,
    },
}

/// An expression and what it gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    pub expression: String,
    pub result: Value,
}

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A word: ExitCode, WrongDigest, Timeout, Lost, Rejected, Expression, Deadlock, ...
    pub reason: String,
    pub message: String,
}

/// Why the end of an attempt is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// The machine came back with another boot.
    OtherBoot { boot_id: String },
    /// The same boot does not know of it any more.
    Forgotten,
    /// It was out of contact for too long.
    Silence { for_ms: u64 },
}

/// What an agent reports of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    Started,
    Succeeded {
        message: String,
        bytes: u64,
        /// The object that the action wrote.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        outputs: Map<String, Value>,
        /// The version of the ephemeral data that the report was merged to; None: it changed nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data_version: Option<u64>,
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
