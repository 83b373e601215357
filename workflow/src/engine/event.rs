//! What happened to a workflow. Events are stored as JSON and are never rewritten: fields may be added, with a
//! default; none changes its meaning.
//!
//! Everything that was evaluated stands in the event with its result: applying events evaluates nothing.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ids::{AttemptId, ExecutionId};
use super::state::{ChildRequest, Filled, MadeFrom, Parent, StepState, Waiting, WorkflowState};
use super::{Stamp, UnixMillis};
use crate::labels::{Labels, in_one_line};
use crate::language::{Definition, PolicyRule};

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
        #[serde(default, skip_serializing_if = "Option::is_none")]
        made_from: Option<Box<MadeFrom>>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: Labels,
        definition: Box<Definition>,
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        inputs: Map<String, Value>,
        /// What is known of the machines of static workers, by worker.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        machines: BTreeMap<String, Value>,
        /// The MACs of machines that were named otherwise, by the name or address that was given.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        resolved: BTreeMap<String, String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Parent>,
        /// It begins then, and not at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start_at: Option<UnixMillis>,
        /// All its rules, those of its template too.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        policy: Vec<PolicyRule>,
        /// Who made it; empty: not a person.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        by: String,
    },
    /// Somebody changed its labels. It may have ended.
    Labelled {
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        set: Labels,
        /// Keys of those that it has not any more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        removed: Vec<String>,
        by: String,
    },
    /// It is to begin at another time than it was.
    StartMoved {
        start_at: UnixMillis,
        by: String,
    },
    /// The time has come at which it was to begin, or somebody has it begin: it waits for its machines from here on.
    Begun {
        /// Empty: its time came.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        by: String,
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
        /// What is odd about the list: labels that no machine has.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
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
        /// A person had skipped it before it was made: SKIPPED.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        skipped: Option<Failure>,
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
    /// The policy has somebody asked before this action is handed out. `decided` answers.
    ActionAsked {
        execution: ExecutionId,
        action: usize,
        rule: PolicyRule,
    },
    /// Its rules are these.
    PolicySet {
        policy: Vec<PolicyRule>,
        by: String,
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
    /// Something else came than the answer that it waits for, and something else than before.
    Unanswered {
        execution: ExecutionId,
        /// In words.
        seen: String,
    },
    /// The next attempt of an action (or of a whole task: `action` is None) is made at `due`.
    Delayed {
        execution: ExecutionId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        action: Option<usize>,
        due: UnixMillis,
    },
    /// A delay is over, or a pause in which it became ready: it goes on to wait for what `waiting` says.
    Resumed {
        execution: ExecutionId,
        waiting: Waiting,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<UnixMillis>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        child: Option<String>,
    },
    /// Its sub-workflow is asked to do as this one does.
    ChildAsked {
        execution: ExecutionId,
        request: ChildRequest,
        /// What its end then means, when it is cancelled.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        then: Option<StepState>,
    },
    /// Its sub-workflow has ended; what that means for the execution follows.
    ChildEnded {
        execution: ExecutionId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<u32>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        workers: Vec<String>,
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
    /// A person wants one thing of it not to be done. SKIPPED follows: at once, when what is under way has stopped, or when its
    /// turn comes.
    SkipAsked {
        task: usize,
        /// Of a `forEach`; None: the task.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        item: Option<usize>,
        /// None: it has not been made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        execution: Option<ExecutionId>,
        by: String,
        reason: String,
    },
    /// A person holds one thing of it: nothing more of it begins.
    TaskPaused {
        task: usize,
        /// Of a `forEach`; None: the task.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        item: Option<usize>,
        /// None: it has not been made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        execution: Option<ExecutionId>,
        by: String,
        reason: String,
    },
    /// It goes on.
    TaskResumed {
        task: usize,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        item: Option<usize>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        execution: Option<ExecutionId>,
        by: String,
    },
    /// A person has an item that failed done again.
    ItemReopened {
        execution: ExecutionId,
        by: String,
    },
    /// A person has a task that failed done again, with what depends on it.
    TasksReopened {
        by: String,
        tasks: Vec<usize>,
    },
    /// A person wants it to end.
    CancelAsked {
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

impl Event {
    pub fn stamp(&self) -> Stamp {
        Stamp {
            at: self.at,
            tick: self.tick,
        }
    }
}

impl EventKind {
    /// The word that stands for it in JSON.
    pub fn name(&self) -> &'static str {
        use EventKind::*;
        match self {
            Created { .. } => "created",
            Labelled { .. } => "labelled",
            StartMoved { .. } => "start_moved",
            Begun { .. } => "begun",
            Asked { .. } => "asked",
            TaskStarted { .. } => "task_started",
            ExecutionMade { .. } => "execution_made",
            Decided { .. } => "decided",
            ActionAsked { .. } => "action_asked",
            PolicySet { .. } => "policy_set",
            Dispatched { .. } => "dispatched",
            Reported { .. } => "reported",
            StopAsked { .. } => "stop_asked",
            Lost { .. } => "lost",
            Returned { .. } => "returned",
            Late { .. } => "late",
            Unanswered { .. } => "unanswered",
            Delayed { .. } => "delayed",
            Resumed { .. } => "resumed",
            ChildAsked { .. } => "child_asked",
            ChildEnded { .. } => "child_ended",
            ExecutionEnded { .. } => "execution_ended",
            WaveOpened { .. } => "wave_opened",
            TaskEnded { .. } => "task_ended",
            WentBack { .. } => "went_back",
            PauseAsked { .. } => "pause_asked",
            CancelAsked { .. } => "cancel_asked",
            SkipAsked { .. } => "skip_asked",
            ItemReopened { .. } => "item_reopened",
            TasksReopened { .. } => "tasks_reopened",
            TaskPaused { .. } => "task_paused",
            TaskResumed { .. } => "task_resumed",
            Paused => "paused",
            Unpaused { .. } => "unpaused",
            Stopping { .. } => "stopping",
            Ended { .. } => "ended",
            RunOpened { .. } => "run_opened",
        }
    }

    /// The sub-workflow that an execution has from here on.
    pub fn child(&self) -> Option<&str> {
        use EventKind::*;
        match self {
            ExecutionMade { child, .. } | Decided { child, .. } | Resumed { child, .. } => child.as_deref(),
            _ => None,
        }
    }

    /// Who wanted it, where a person did; empty: nobody in particular.
    pub fn by(&self) -> Option<&str> {
        use EventKind::*;
        match self {
            Created { by, .. }
            | Labelled { by, .. }
            | StartMoved { by, .. }
            | Begun { by }
            | Decided { by, .. }
            | PolicySet { by, .. }
            | PauseAsked { by, .. }
            | SkipAsked { by, .. }
            | TaskPaused { by, .. }
            | TaskResumed { by, .. }
            | ItemReopened { by, .. }
            | TasksReopened { by, .. }
            | CancelAsked { by, .. }
            | Unpaused { by }
            | RunOpened { by, .. } => Some(by),
            _ => None,
        }
    }

    /// The attempt that it is about.
    pub fn attempt(&self) -> Option<&AttemptId> {
        use EventKind::*;
        match self {
            Dispatched { attempt, .. }
            | Reported { attempt, .. }
            | StopAsked { attempt, .. }
            | Lost { attempt, .. }
            | Returned { attempt, .. }
            | Late { attempt, .. } => Some(attempt),
            _ => None,
        }
    }

    /// The task execution that it is about.
    pub fn execution(&self) -> Option<ExecutionId> {
        use EventKind::*;
        match self {
            ExecutionMade { execution, .. }
            | Decided { execution, .. }
            | ActionAsked { execution, .. }
            | ItemReopened { execution, .. }
            | Unanswered { execution, .. }
            | Delayed { execution, .. }
            | Resumed { execution, .. }
            | ChildAsked { execution, .. }
            | ChildEnded { execution, .. }
            | ExecutionEnded { execution, .. } => Some(*execution),
            SkipAsked { execution, .. } | TaskPaused { execution, .. } | TaskResumed { execution, .. } => {
                *execution
            }
            _ => self.attempt().map(|attempt| attempt.execution),
        }
    }

    /// The task that it is about, by its index.
    pub fn task(&self) -> Option<usize> {
        use EventKind::*;
        match self {
            Asked { task, .. }
            | TaskStarted { task, .. }
            | WaveOpened { task, .. }
            | SkipAsked { task, .. }
            | TaskPaused { task, .. }
            | TaskResumed { task, .. }
            | TaskEnded { task, .. }
            | WentBack { from: task, .. } => Some(*task),
            _ => self.execution().map(|execution| execution.task),
        }
    }
}

impl Outcome {
    /// The word that stands for it in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Started => "started",
            Outcome::Succeeded { .. } => "succeeded",
            Outcome::Failed { .. } => "failed",
            Outcome::TimedOut { .. } => "timed_out",
            Outcome::Leaving { .. } => "leaving",
            Outcome::Stopped { .. } => "stopped",
        }
    }
}

/// `what`, and `: message` where there is one.
fn with(formatter: &mut fmt::Formatter<'_>, what: impl fmt::Display, message: &str) -> fmt::Result {
    match message {
        "" => write!(formatter, "{what}"),
        message => write!(formatter, "{what}: {message}"),
    }
}

/// What happened, in words, for a log or a table.
impl fmt::Display for EventKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        use EventKind::*;
        match self {
            Created {
                template,
                by,
                resolved,
                start_at,
                ..
            } => {
                match template.as_str() {
                    "" => formatter.write_str("created")?,
                    template => write!(formatter, "created from template {template}")?,
                }
                match by.as_str() {
                    "" => {}
                    by => write!(formatter, " by {by}")?,
                }
                for (n, (word, mac)) in resolved.iter().enumerate() {
                    let before = if n == 0 { ": " } else { ", " };
                    write!(formatter, "{before}{word} is {mac}")?;
                }
                match start_at {
                    Some(at) => write!(formatter, "; begins at {}", time_of(*at)),
                    None => Ok(()),
                }
            }
            Labelled { set, removed, by } => {
                let removed = removed.iter().map(|key| format!("{key}-"));
                let changes: Vec<String> = Some(in_one_line(set))
                    .filter(|set| !set.is_empty())
                    .into_iter()
                    .chain(removed)
                    .collect();
                write!(formatter, "labelled by {by}: {}", changes.join(","))
            }
            StartMoved { start_at, by } => {
                write!(formatter, "is to begin at {}, says {by}", time_of(*start_at))
            }
            Begun { by } if by.is_empty() => formatter.write_str("the time has come: it begins"),
            Begun { by } => write!(formatter, "begins now, says {by}"),
            Asked { selector, .. } => write!(formatter, "asked for machines({selector:?})"),
            TaskStarted { items: None, .. } => formatter.write_str("started"),
            TaskStarted {
                items: Some(items), ..
            } => write!(formatter, "started for {} items", items.len()),
            ExecutionMade {
                skipped: Some(skipped),
                ..
            } => ended(formatter, StepState::Skipped, Some(skipped)),
            ExecutionMade {
                waiting: None,
                condition,
                ..
            } => skipped(formatter, condition.as_ref()),
            ExecutionMade {
                waiting: Some(waiting),
                worker,
                child,
                ..
            } => waits(formatter, *waiting, worker, child.as_deref()),
            Decided {
                approved,
                by,
                comment,
                ..
            } => {
                let verb = if *approved { "approved" } else { "rejected" };
                with(formatter, format_args!("{verb} by {by}"), comment)
            }
            ActionAsked { action, rule, .. } => {
                write!(
                    formatter,
                    "waits for approval of its action {}: {rule}",
                    action.saturating_add(1)
                )
            }
            PolicySet { policy, by } if policy.is_empty() => {
                write!(
                    formatter,
                    "nothing is asked for or refused from here on, says {by}"
                )
            }
            PolicySet { policy, by } => {
                let rules: Vec<String> = policy.iter().map(ToString::to_string).collect();
                write!(formatter, "the policy is {}, says {by}", rules.join("; "))
            }
            Dispatched { worker, .. } => write!(formatter, "handed to {worker}"),
            Reported { outcome, .. } => outcome.fmt(formatter),
            StopAsked { reason, .. } => with(formatter, "the machine is asked to stop it", reason),
            Lost { why, .. } => write!(formatter, "lost: {why}"),
            Returned { .. } => formatter.write_str("the machine came back"),
            Late { outcome, .. } => write!(formatter, "late report, changes nothing: {outcome}"),
            Unanswered { seen, .. } => write!(formatter, "no answer yet: {seen}"),
            Delayed { action: None, .. } => formatter.write_str("the task is tried again"),
            Delayed { .. } => formatter.write_str("the action is tried again"),
            Resumed { waiting, child, .. } => waits(formatter, *waiting, "", child.as_deref()),
            ChildAsked { request, .. } => match request {
                ChildRequest::Pause => formatter.write_str("the sub-workflow is asked to pause"),
                ChildRequest::Unpause => formatter.write_str("the sub-workflow is asked to go on"),
                ChildRequest::Cancel => formatter.write_str("the sub-workflow is being cancelled"),
            },
            ChildEnded { .. } => formatter.write_str("the sub-workflow has ended"),
            ExecutionEnded { state, error, .. } => ended(formatter, *state, error.as_ref()),
            WaveOpened { wave, .. } => write!(formatter, "wave {} begins", wave.saturating_add(1)),
            TaskEnded {
                state: StepState::Skipped,
                error: None,
                condition,
                ..
            } => skipped(formatter, condition.as_ref()),
            TaskEnded { state, error, .. } => ended(formatter, *state, error.as_ref()),
            WentBack { condition, tasks, .. } => {
                write!(
                    formatter,
                    "went back over {} tasks: {}",
                    tasks.len(),
                    condition.expression
                )
            }
            PauseAsked { by, reason } => with(formatter, format_args!("pause asked by {by}"), reason),
            CancelAsked { by, reason } => with(formatter, format_args!("cancel asked by {by}"), reason),
            SkipAsked { item, by, reason, .. } => match item {
                None => with(formatter, format_args!("skipped by {by}"), reason),
                Some(item) => with(formatter, format_args!("item {item} skipped by {by}"), reason),
            },
            ItemReopened { by, .. } => write!(formatter, "{by} has it done again"),
            TasksReopened { by, tasks } => {
                write!(formatter, "{by} has {} tasks done again", tasks.len())
            }
            TaskPaused { item, by, reason, .. } => match item {
                None => with(formatter, format_args!("it is paused by {by}"), reason),
                Some(item) => with(formatter, format_args!("item {item} is paused by {by}"), reason),
            },
            TaskResumed { item, by, .. } => match item {
                None => write!(formatter, "it is resumed by {by}"),
                Some(item) => write!(formatter, "item {item} is resumed by {by}"),
            },
            Paused => formatter.write_str("paused"),
            Unpaused { by } => write!(formatter, "resumed by {by}"),
            Stopping { state, message } => with(formatter, format_args!("will be {state}"), message),
            Ended { state, message, .. } => with(formatter, format_args!("is {state}"), message),
            RunOpened { run, by, .. } => write!(formatter, "run {run} opened by {by}"),
        }
    }
}

/// A time of day as people and machines read it: RFC 3339, in UTC, in seconds where it has no more.
pub fn time_of(at: UnixMillis) -> String {
    let time = i64::try_from(at)
        .ok()
        .and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    // Only what no clock shows is not one.
    time.map_or_else(|| format!("{at} ms after 1970"), |time| time.to_string())
}

fn ended(formatter: &mut fmt::Formatter<'_>, state: StepState, error: Option<&Failure>) -> fmt::Result {
    match error {
        Some(Failure { reason, message }) => with(formatter, format_args!("is {state} ({reason})"), message),
        None => write!(formatter, "is {state}"),
    }
}

fn skipped(formatter: &mut fmt::Formatter<'_>, condition: Option<&Evaluated>) -> fmt::Result {
    match condition {
        Some(Evaluated { expression, result }) => write!(formatter, "skipped: {expression} is {result}"),
        None => formatter.write_str("skipped: a task that it needs failed"),
    }
}

fn waits(
    formatter: &mut fmt::Formatter<'_>,
    waiting: Waiting,
    worker: &str,
    child: Option<&str>,
) -> fmt::Result {
    match (waiting, child) {
        (Waiting::Machine, _) if worker.is_empty() => formatter.write_str("waits for its machine"),
        (Waiting::Machine, _) => write!(formatter, "waits for machine {worker}"),
        (Waiting::Approval, _) => formatter.write_str("waits for approval"),
        (Waiting::Children, Some(child)) => write!(formatter, "waits for sub-workflow {child}"),
        (Waiting::Children, None) => formatter.write_str("waits for its sub-workflow"),
        (Waiting::Time, _) => formatter.write_str("waits"),
        (Waiting::Answer, _) if worker.is_empty() => formatter.write_str("waits for an answer"),
        (Waiting::Answer, _) => write!(formatter, "waits until {worker} answers"),
        (Waiting::Resume, _) => formatter.write_str("waits until it is resumed"),
    }
}

/// Continues "it was lost: ".
impl fmt::Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::OtherBoot { .. } => {
                formatter.write_str("the machine came back with another boot before it was done")
            }
            Loss::Forgotten => formatter.write_str("the machine does not know of it any more"),
            Loss::Silence { for_ms } => {
                write!(
                    formatter,
                    "the machine was out of contact for {} s",
                    for_ms / 1000
                )
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Started => formatter.write_str("started"),
            Outcome::Succeeded { message, .. } => with(formatter, "succeeded", message),
            Outcome::Failed { reason, message, .. } if reason.is_empty() => {
                with(formatter, "failed", message)
            }
            Outcome::Failed { reason, message, .. } => {
                with(formatter, format_args!("failed ({reason})"), message)
            }
            Outcome::TimedOut { message } => with(formatter, "timed out", message),
            Outcome::Leaving { how } => with(formatter, "the machine leaves", how),
            Outcome::Stopped { message } => with(formatter, "stopped", message),
        }
    }
}
