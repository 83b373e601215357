//! The state of a workflow: a fold over its events, and nothing that is not in them.
//!
//! It is kept in parts, so that a commit writes what changed: the [`Head`], one [`Execution`] for each task execution,
//! one list of items for each expanded `forEach`, and the definition, which never changes. Clones share the parts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::event::Failure;
use super::ids::ExecutionId;
use super::secrets::SecretHole;
use super::{Stamp, UnixMillis};
use crate::Shared;
use crate::labels::Labels;
use crate::language::{Action, Definition, PolicyRule};

/// A workflow with all its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Workflow {
    pub definition: Arc<Definition>,
    pub head: Head,
    pub executions: BTreeMap<ExecutionId, Arc<Execution>>,
    /// Of an expanded `forEach`, by task index and instance.
    pub items: BTreeMap<(usize, u32), Arc<Vec<Value>>>,
}

/// What a workflow is as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub id: String,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    pub name: String,
    pub template: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_from: Option<Box<MadeFrom>>,
    #[serde(default, skip_serializing_if = "has_no_labels")]
    pub labels: Shared<Labels>,
    /// The workflow whose task this one is; none for a root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    pub state: WorkflowState,
    /// From 1; a person's retry opens the next.
    pub run: u32,
    /// How it will end when what is under way has stopped. Set in ENDING and CANCELLING.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// Why it ended as it did, in words.
    #[serde(default)]
    pub message: String,
    #[serde(default, skip_serializing_if = "is_empty_map")]
    pub inputs: Shared<Map<String, Value>>,
    /// What `set` recorded.
    #[serde(default, skip_serializing_if = "is_empty_map")]
    pub vars: Shared<Map<String, Value>>,
    /// Of the workflow, when it succeeded.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub outputs: Map<String, Value>,
    /// What is known of machines, by worker: what `machine` means in expressions. Recorded at creation.
    #[serde(default, skip_serializing_if = "has_no_machines")]
    pub machines: Shared<BTreeMap<String, Value>>,
    /// Which actions a person releases, and which are refused: the first rule that fits.
    #[serde(default, skip_serializing_if = "has_no_rules")]
    pub policy: Shared<Vec<PolicyRule>>,
    /// How often it had another one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub policies: u32,
    /// One for each task of the definition: its latest instance.
    pub tasks: Shared<Vec<TaskState>>,
    /// Of outputs and values that were recorded in this run, and of those that tasks have from earlier ones, as JSON.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub outputs_bytes: usize,
    /// Of the ephemeral data; raised by every merge.
    #[serde(default)]
    pub data_version: u64,
    pub created_at: UnixMillis,
    /// When it is to begin, until it has: nothing of it is looked at before, and no machine is claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<UnixMillis>,
    /// Of the first dispatch of the run.
    pub started_at: Option<UnixMillis>,
    pub ended_at: Option<UnixMillis>,
    /// Since when it is PAUSING or PAUSED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<UnixMillis>,
    /// Pauses of this run so far, without the present one. Budgets stand still in them.
    #[serde(default)]
    pub paused_ms: u64,
    /// How often it was paused.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pauses: u32,
    /// Who paused it last in this run, and why; who had it go on; who cancelled it. What a workflow asks of its sub-workflows is not
    /// a person's cancel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Intervention>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<Intervention>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<Intervention>,
    /// The last event: its number and stamp. The next number is one more, the next stamp is above.
    pub last_event: u64,
    pub last_at: UnixMillis,
    #[serde(default)]
    pub last_tick: u32,
}

fn is_zero<T: Default + PartialEq>(count: &T) -> bool {
    *count == T::default()
}

fn is_empty_map(map: &Map<String, Value>) -> bool {
    map.is_empty()
}

pub(super) fn has_no_rules(policy: &[PolicyRule]) -> bool {
    policy.is_empty()
}

fn has_no_machines(machines: &BTreeMap<String, Value>) -> bool {
    machines.is_empty()
}

fn has_no_labels(labels: &Labels) -> bool {
    labels.is_empty()
}

fn default_namespace() -> String {
    "default".into()
}

/// The template that a workflow was made from, as it was then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeFrom {
    /// Of the stored template; empty: it was given as a text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Of the stored template; 0: it was given as a text.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub version: u64,
    /// Of the text, before it was rendered.
    pub sha256: String,
}

/// What somebody wanted of a workflow, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intervention {
    pub by: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    pub at: UnixMillis,
}

/// Whose task a workflow is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub workflow: String,
    pub execution: ExecutionId,
    /// The workflow at the top: machines are claimed in its name.
    pub root: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkflowState {
    Pending,
    Running,
    /// Somebody paused it; attempts run on.
    Pausing,
    /// Paused, and nothing is under way.
    Paused,
    /// Its outcome is fixed; what is under way is being stopped.
    Ending,
    /// Somebody cancelled it; what is under way is being stopped.
    Cancelling,
    Success,
    Failed,
    Timeout,
    Cancelled,
}

/// An outcome that waits for attempts to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub state: WorkflowState,
    pub message: String,
}

/// A task: the latest instance of it, as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskState {
    pub state: StepState,
    /// From 1 once it was started, 0 before. Raised by `goto` and by a retry of the workflow.
    #[serde(default)]
    pub instance: u32,
    /// Raised by `goto` only.
    #[serde(default)]
    pub iteration: u32,
    /// How often its own `goto` went back, since another one went back over it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub went_back: u32,
    /// The instance that a retry of the workflow goes on from: what succeeded there is not done again. 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub carries: u32,
    /// The first instance of that chain: an item that a run in between did not come to is looked for there. 0: there is only one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub carries_since: u32,
    /// Executions that there will be: 1 without `forEach`.
    #[serde(default)]
    pub items: usize,
    /// Executions made so far; the next item is this one.
    #[serde(default)]
    pub made: usize,
    /// Of those made: final, and of these failed (FAILED, TIMEOUT) and skipped.
    #[serde(default)]
    pub ended: usize,
    #[serde(default)]
    pub failed: usize,
    #[serde(default)]
    pub skipped: usize,
    /// The wave that is open, from 0.
    #[serde(default)]
    pub wave: usize,
    /// `machines(...)` was asked for and not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asking: Option<String>,
    /// What was odd about its list: labels that no machine has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// A person has skipped it before it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<Said>,
    /// The same of its items, by number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skips: BTreeMap<usize, Said>,
    /// A person holds it: it does not begin; of a `forEach` that has begun, no further item does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Said>,
    /// The same of its items that were not made, by number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pauses: BTreeMap<usize, Said>,
    /// Its failure was made good by a task that `recovers` it.
    #[serde(default)]
    pub recovered: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// `tasks.NAME.outputs`, once final. Null with `forEach`: there it is the list of its executions' outputs.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub outputs: Value,
    /// How it ended before a `goto` went back over it the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Box<LastRound>>,
    pub started_at: Option<UnixMillis>,
    pub ended_at: Option<UnixMillis>,
}

/// What a task came to in the round of a loop before. Its outputs are those of the executions of that instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRound {
    pub instance: u32,
    pub state: StepState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// A task, for one item, in one instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    pub id: ExecutionId,
    /// None without `forEach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Value>,
    /// Empty for a control task.
    pub worker: String,
    pub state: StepState,
    /// What it waits for: in WAITING, and in RUNNING between two attempts (for the machine).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// One for each action of the task.
    pub actions: Vec<ActionState>,
    /// The task's texts with `${{ }}` filled in; None where the definition's hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filled: Option<Box<Filled>>,
    /// When a wait, an approval or a delay is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<UnixMillis>,
    /// Tries of the whole task, this one included.
    pub tries: u32,
    /// The sub-workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<String>,
    /// Its run that ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_run: Option<u32>,
    /// What it was asked last, and what its end then means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_asked: Option<ChildRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<StepState>,
    /// Machines that sub-workflows claimed in the root's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub child_workers: Vec<String>,
    /// The machine was told that this is ready since the workflow's pause of this number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wanted: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<ApprovalDecision>,
    /// What came instead of the answer that it waits for, last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unanswered: String,
    /// How often that was another one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unanswered_times: u32,
    /// A person has skipped it: it is SKIPPED when what is under way has stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<Said>,
    /// A person holds it: nothing more of it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<OwnPause>,
    /// The policy has somebody asked before its next action is handed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<Asks>,
    /// Since when its own clock stands still, for one of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_clock: Option<StoppedClock>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Of its actions, later ones above earlier ones; of its sub-workflow; of its `set`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub outputs: Map<String, Value>,
    pub created_at: UnixMillis,
    /// Of the first dispatch (of a control task: when it began).
    pub started_at: Option<UnixMillis>,
    /// The run's `paused_ms` at that time: what was paused before does not count for the timeout.
    #[serde(default)]
    pub paused_before_ms: u64,
    /// How long its own clock stood still since then, without the present time and without what was a pause of the workflow.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub own_paused_ms: u64,
    pub ended_at: Option<UnixMillis>,
}

/// Texts of a task execution with expressions filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default)]
    pub actions: Vec<Action>,
    /// Of `approve`.
    #[serde(default)]
    pub message: String,
    /// Of `fail`.
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub fail_message: String,
    /// Of `wait` or `until`.
    #[serde(default)]
    pub time: String,
    /// Of `workflow`.
    #[serde(default)]
    pub template: String,
    #[serde(default)]
    pub inputs: Map<String, Value>,
    /// Of `answers`: who is asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Where secrets are put in when its actions are handed out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretHole>,
}

/// What a task execution waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    Approval,
    /// Ready to run; its machine is busy, held by another workflow, or not attached.
    Machine,
    Children,
    Time,
    /// A person holds it since before it was made: it goes on when it is resumed.
    Resume,
    /// A system that is to answer.
    Answer,
}

/// What a workflow asks of a sub-workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildRequest {
    Pause,
    Unpause,
    Cancel,
}

/// Who said yes or no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalDecision {
    pub approved: bool,
    pub by: String,
    pub comment: String,
    pub at: UnixMillis,
}

/// Who wanted something of one task or item, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub by: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A pause of one task execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnPause {
    #[serde(flatten)]
    pub said: Said,
    pub since: UnixMillis,
}

/// An action that is not handed out before somebody has said yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asks {
    pub action: usize,
    pub rule: PolicyRule,
    pub since: UnixMillis,
}

/// The clock of a task execution that stands still while the workflow's runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedClock {
    pub since: UnixMillis,
    /// Pauses of the workflow in this run up to then: what comes to these meanwhile is not counted twice.
    pub paused_ms: u64,
}

/// States of tasks, task executions and actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StepState {
    #[default]
    Idle,
    /// A task: see [`Waiting`]. An action: handed to a machine, not yet said to run.
    Waiting,
    /// Between attempts.
    Delayed,
    Running,
    Skipped,
    Success,
    Failed,
    Timeout,
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionState {
    pub state: StepState,
    /// Tries so far over all tries of the task, the run of `on-failure` or `on-timeout` included: the number of the
    /// latest attempt.
    pub attempts: u32,
    /// Tries that count for `retry`: since the task began this try.
    #[serde(default)]
    pub tries: u32,
    /// The boot that the current attempt was handed to.
    pub boot_id: Option<String>,
    /// The machine said that it leaves (reboot, kexec) and has not come back yet.
    #[serde(default)]
    pub leaving: bool,
    /// The machine was asked to stop the attempt, and what its end then means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<StepState>,
    /// The ephemeral data that the attempt was given.
    #[serde(default)]
    pub data_version: u64,
    /// Of the last try: handed out, then said to run.
    pub started_at: Option<UnixMillis>,
    pub ended_at: Option<UnixMillis>,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub exit_code: i32,
    #[serde(default)]
    pub bytes: u64,
    /// What it gave, when it succeeded.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub outputs: Map<String, Value>,
    /// Where the run of `on-failure` or `on-timeout` is, for an action that has failed and has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<Cleanup>,
    /// Whether the action may be handed out, where the policy asked: for all its tries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<ApprovalDecision>,
}

/// The extra run of a failed action, with the arguments of its `on-failure` or `on-timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Cleanup {
    Due,
    UnderWay,
    Done,
}

impl Workflow {
    /// The workflow in whose name machines are claimed.
    pub fn root(&self) -> &str {
        self.head
            .parent
            .as_ref()
            .map_or(&self.head.id, |parent| &parent.root)
    }

    pub fn execution(&self, id: ExecutionId) -> Option<&Execution> {
        self.executions.get(&id).map(|execution| &**execution)
    }

    /// What an earlier run came to for this execution, where its task goes on from there.
    pub(super) fn earlier(&self, id: ExecutionId) -> Option<&Execution> {
        self.earlier_runs(id).next()
    }

    /// The same, where that came to a sub-workflow: a run in between may not have come so far.
    pub(super) fn earlier_with_child(&self, id: ExecutionId) -> Option<&Execution> {
        self.earlier_runs(id).find(|execution| execution.child.is_some())
    }

    /// The latest first.
    fn earlier_runs(&self, id: ExecutionId) -> impl Iterator<Item = &Execution> {
        let task = self.head.tasks.get(id.task);
        let (since, carries) = task.map_or((0, 0), |task| (task.carries_since, task.carries));
        let since = if since > 0 { since } else { carries };
        let instances = (since.max(1)..=carries).rev();
        instances.filter_map(move |instance| self.execution(ExecutionId { instance, ..id }))
    }

    /// The executions of a task's latest instance, in the order of their items.
    pub fn executions_of(&self, task: usize) -> impl Iterator<Item = &Execution> {
        let instance = self.head.tasks.get(task).map_or(0, |state| state.instance);
        self.executions_in(task, instance)
    }

    /// The executions of one instance of a task, in the order of their items.
    pub(super) fn executions_in(&self, task: usize, instance: u32) -> impl Iterator<Item = &Execution> {
        let bound = |item| ExecutionId { task, instance, item };
        self.executions
            .range(bound(0)..=bound(usize::MAX))
            .map(|(_, execution)| &**execution)
    }
}

impl Head {
    /// Pauses of this run up to `at`, the present one included.
    pub(super) fn paused_ms_at(&self, at: UnixMillis) -> u64 {
        let present = self.paused_at.map_or(0, |since| at.saturating_sub(since));
        self.paused_ms.saturating_add(present)
    }

    /// Of the last event.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            at: self.last_at,
            tick: self.last_tick,
        }
    }

    /// Whether nothing but the last event, and the bytes of outputs, is another one than in `other`.
    pub fn differs_in_last_event_only(&self, other: &Head) -> bool {
        let Head {
            id,
            namespace,
            name,
            template,
            made_from,
            labels,
            parent,
            state,
            run,
            ending,
            message,
            inputs,
            vars,
            outputs,
            machines,
            policy,
            policies,
            tasks,
            data_version,
            created_at,
            start_at,
            started_at,
            ended_at,
            paused_at,
            paused_ms,
            pauses,
            paused,
            resumed,
            cancelled,
            outputs_bytes: _,
            last_event: _,
            last_at: _,
            last_tick: _,
        } = self;
        *id == other.id
            && *namespace == other.namespace
            && *name == other.name
            && *template == other.template
            && *made_from == other.made_from
            && *labels == other.labels
            && *parent == other.parent
            && *state == other.state
            && *run == other.run
            && *ending == other.ending
            && *message == other.message
            && *inputs == other.inputs
            && *vars == other.vars
            && *outputs == other.outputs
            && *machines == other.machines
            && *policy == other.policy
            && *policies == other.policies
            && *tasks == other.tasks
            && *data_version == other.data_version
            && *created_at == other.created_at
            && *start_at == other.start_at
            && *started_at == other.started_at
            && *ended_at == other.ended_at
            && *paused_at == other.paused_at
            && *paused_ms == other.paused_ms
            && *pauses == other.pauses
            && *paused == other.paused
            && *resumed == other.resumed
            && *cancelled == other.cancelled
    }
}

impl Intervention {
    pub(super) fn new(by: &str, reason: &str, at: UnixMillis) -> Intervention {
        Intervention {
            by: by.to_owned(),
            reason: reason.to_owned(),
            at,
        }
    }
}

impl Said {
    /// The reason of what is SKIPPED because a person wanted that.
    pub(super) const SKIPPED: &str = "Skipped";

    pub(super) fn new(by: &str, reason: &str) -> Said {
        Said {
            by: by.to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// Why what was skipped is SKIPPED.
    pub(super) fn skipped(&self) -> Failure {
        let Said { by, reason } = self;
        let colon = if reason.is_empty() { "" } else { ": " };
        Failure::new(Said::SKIPPED, format!("{by} skipped it{colon}{reason}"))
    }
}

impl TaskState {
    pub fn idle() -> TaskState {
        TaskState {
            state: StepState::Idle,
            instance: 0,
            iteration: 0,
            went_back: 0,
            carries: 0,
            carries_since: 0,
            items: 0,
            made: 0,
            ended: 0,
            failed: 0,
            skipped: 0,
            wave: 0,
            warnings: Vec::new(),
            asking: None,
            skip: None,
            skips: BTreeMap::new(),
            pause: None,
            pauses: BTreeMap::new(),
            recovered: false,
            error: None,
            outputs: Value::Null,
            last: None,
            started_at: None,
            ended_at: None,
        }
    }
}

impl Execution {
    /// The first action that has not succeeded: the one that is, or comes, under way. None: all have.
    pub fn next_action(&self) -> Option<usize> {
        self.actions
            .iter()
            .position(|action| action.state != StepState::Success)
    }

    /// Somebody is asked for a yes or no: to all of it, or to its next action.
    pub fn is_asked(&self) -> bool {
        self.waiting == Some(Waiting::Approval) && (self.asks.is_some() || self.decision.is_none())
    }

    /// The action whose attempt was handed out and has not ended.
    pub fn under_way(&self) -> Option<(usize, &ActionState)> {
        self.actions
            .iter()
            .enumerate()
            .find(|(_, action)| !self.state.is_final() && action.is_under_way())
    }
}

impl ActionState {
    pub fn idle() -> ActionState {
        ActionState {
            state: StepState::Idle,
            attempts: 0,
            tries: 0,
            boot_id: None,
            leaving: false,
            stopping: None,
            data_version: 0,
            started_at: None,
            ended_at: None,
            reason: String::new(),
            message: String::new(),
            exit_code: 0,
            bytes: 0,
            outputs: Map::new(),
            cleanup: None,
            released: None,
        }
    }

    /// An attempt (the last one) was handed out and its end is not known.
    pub fn is_under_way(&self) -> bool {
        matches!(self.state, StepState::Waiting | StepState::Running)
            || self.cleanup == Some(Cleanup::UnderWay)
    }
}

impl WorkflowState {
    /// Only a person's retry leads out of it.
    pub fn is_final(self) -> bool {
        use WorkflowState::*;
        matches!(self, Success | Failed | Timeout | Cancelled)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            WorkflowState::Pending => "PENDING",
            WorkflowState::Running => "RUNNING",
            WorkflowState::Pausing => "PAUSING",
            WorkflowState::Paused => "PAUSED",
            WorkflowState::Ending => "ENDING",
            WorkflowState::Cancelling => "CANCELLING",
            WorkflowState::Success => "SUCCESS",
            WorkflowState::Failed => "FAILED",
            WorkflowState::Timeout => "TIMEOUT",
            WorkflowState::Cancelled => "CANCELLED",
        }
    }
}

impl StepState {
    pub fn is_final(self) -> bool {
        use StepState::*;
        matches!(self, Skipped | Success | Failed | Timeout | Cancelled)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            StepState::Idle => "IDLE",
            StepState::Waiting => "WAITING",
            StepState::Delayed => "DELAYED",
            StepState::Running => "RUNNING",
            StepState::Skipped => "SKIPPED",
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
