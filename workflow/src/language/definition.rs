//! What a template comes to: one type for both versions. Fields that 0.1 does not have are empty there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::labels::Labels;

use super::PolicyRule;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A rendered, validated workflow definition. Immutable once a workflow was made from it.
///
/// In version "1" texts may hold `${{ CEL }}`; the fields that say so are filled in when a task execution is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// "0.1" or "1".
    pub version: String,
    pub name: String,
    #[serde(default)]
    pub id: String,
    /// Seconds that the workflow may run, pauses not counted; 0: no limit.
    #[serde(default)]
    pub global_timeout_s: u64,
    /// What its machines boot after its SUCCESS; `None`: what was written to their disks says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boots: Option<Boots>,
    /// That workflows begin with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub labels: Labels,
    /// Which actions a person releases, and which are refused; before these come those that are given when a workflow is made.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: Vec<PolicyRule>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub inputs: BTreeMap<String, Input>,
    /// Name to CEL, evaluated when the workflow succeeds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub outputs: BTreeMap<String, String>,
    pub tasks: Vec<Task>,
}

/// What a machine boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Boots {
    /// The in-memory agent.
    Agent,
    /// Its own disk.
    Local,
}

/// A value that is given when a workflow is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    #[serde(rename = "type")]
    pub kind: InputType,
    /// None: it must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub description: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputType {
    String,
    Int,
    Double,
    Bool,
    List,
    Map,
}

/// A task. With `actions` it runs on its worker; with `control` it does something by itself; with neither it only
/// waits for `needs` and for `approve`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub name: String,
    /// The group that it is a branch of, whose tasks stand one after the other; empty: none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub group: String,
    /// A MAC (lower case, colons), or an operator's agent id. May hold `${{ }}`. Empty for a control task.
    #[serde(default)]
    pub worker: String,
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Values may hold `${{ }}`.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default)]
    pub actions: Vec<Action>,
    /// Indexes of the tasks that must be final before it starts. Always written out: the task before it, where the text leaves `needs` out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub needs: Vec<usize>,
    /// CEL. SKIPPED unless true; without `success()`, `failure()` or `always()` it means `success() && (when)`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when: Option<String>,
    /// Indexes of the tasks whose failure its success makes handled.
    #[serde(default, skip_serializing_if = "is_default")]
    pub recovers: Vec<usize>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub for_each: Option<ForEach>,
    /// Runs the whole task (of one item) again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry: Option<Retry>,
    /// Seconds from its first dispatch, pauses not counted; 0: no limit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeout_s: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub approve: Option<Approve>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub control: Option<Control>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub goto: Option<Goto>,
}

/// One action.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub name: String,
    /// May hold `${{ }}`.
    pub image: String,
    /// Seconds; 0: none.
    #[serde(default)]
    pub timeout_s: u64,
    /// May hold `${{ }}`.
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub on_timeout: Vec<String>,
    #[serde(default)]
    pub on_failure: Vec<String>,
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Values may hold `${{ }}`.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// What it is given as data, `$FARRIER_INPUT`; a built-in action takes its variables from it, too. Texts in it may hold
    /// `${{ }}`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub input: Map<String, Value>,
    /// `host` or empty.
    #[serde(default)]
    pub pid: String,
    /// `host`, `none` or empty.
    #[serde(default)]
    pub network: String,
    /// A container that may do what Docker lets one do, and no more.
    #[serde(default, skip_serializing_if = "is_default")]
    pub confined: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Done when the machine has left and come back with another boot. In 0.1: whenever the agent says that it leaves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reboots: bool,
    /// None: the image decides.
    #[serde(default, skip_serializing_if = "is_default")]
    pub runtime: Option<Runtime>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry: Option<Retry>,
}

/// What runs an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// The image, as a container that a containerd of the machine's makes.
    Containerd,
    /// The image, as a container of whom the machine's agent was told: the server's policy says so, and no template.
    Image,
    /// The image, as a container that the agent makes by itself.
    Namespaces,
    /// The agent itself, by the last part of the image's name, wherever that image lies.
    Native,
}

impl Runtime {
    /// As templates and agents say it.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Containerd => "containerd",
            Runtime::Image => "image",
            Runtime::Namespaces => "namespaces",
            Runtime::Native => "native",
        }
    }

    pub(super) fn named(name: &str) -> Option<Runtime> {
        let all = [Runtime::Containerd, Runtime::Namespaces, Runtime::Native];
        all.into_iter().find(|runtime| runtime.name() == name)
    }
}

/// What a container may use; 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    #[serde(default, skip_serializing_if = "is_default")]
    pub memory_bytes: u64,
    /// Thousandths of a processor.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpu_millis: u64,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pids: u64,
}

/// One task execution for each item of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForEach {
    /// CEL that gives a list. Only here may `machines(selector)` be called.
    pub list: String,
    /// Items that run at the same time; 0: all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_parallel: u32,
    /// Sizes of the waves, cumulative; the next begins when the one before is final. Empty: one wave.
    #[serde(default, skip_serializing_if = "is_default")]
    pub waves: Vec<Amount>,
    /// A list with fewer items fails the task; 0: an empty one is well.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_items: u32,
    /// Failed items that are borne; with one more nothing further is started and the task fails. None: all items are tried.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_failures: Option<Amount>,
}

/// A count, or a share of the items (rounded up).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    Count(u32),
    Percent(u32),
}

/// Tries after a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// In all, the first one included; at least 1.
    pub attempts: u32,
    #[serde(default)]
    pub delay_ms: u64,
    /// The delay before the next try is this share of the one before: 100 keeps it, 200 doubles it.
    #[serde(default = "hundred")]
    pub backoff_percent: u32,
    /// 0: no bound.
    #[serde(default)]
    pub max_delay_ms: u64,
    /// `failed`, `timeout`, `lost`, or the reason of a failure. Empty: failed, timeout and lost.
    #[serde(default)]
    pub on: Vec<String>,
}

fn hundred() -> u32 {
    100
}

/// Somebody has to say yes before the task goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approve {
    /// May hold `${{ }}`.
    pub message: String,
    /// Groups one of which has to decide; empty: anybody.
    #[serde(default)]
    pub by: Vec<String>,
    /// Seconds; 0: none. When it passes the task is TIMEOUT.
    #[serde(default)]
    pub timeout_s: u64,
}

/// What a task without a worker does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Control {
    /// A duration (`90s`, `10m`, `1h30m`). May hold `${{ }}`.
    Wait(String),
    /// A time, RFC 3339. May hold `${{ }}`.
    Until(String),
    /// Another template as a workflow of its own; its outputs are the task's.
    Workflow {
        /// May hold `${{ }}`.
        template: String,
        /// Texts in them may hold `${{ }}`.
        #[serde(default)]
        inputs: BTreeMap<String, Value>,
    },
    /// Name to CEL: recorded as `vars.NAME`.
    Set(BTreeMap<String, String>),
    /// Ends the workflow as SUCCESS.
    Succeed,
    /// Ends the workflow as FAILED. Both may hold `${{ }}`.
    Fail { reason: String, message: String },
    /// Waits until the worker's installed system answers, or whoever is at `address`.
    Answers(Answers),
}

/// What an answer is, and whose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    pub by: AnswersBy,
    /// An IP address or a name; empty: the first address of the worker's record. May hold `${{ }}`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub address: String,
    pub port: u16,
    /// Of HTTP. May hold `${{ }}`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub path: String,
    /// Of HTTP; 0: any from 200 to 299.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: u16,
}

/// By what it is told that a system answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswersBy {
    /// The status of a GET.
    Http,
    /// The line with which an SSH server introduces itself (RFC 4253 section 4.2).
    Ssh,
}

impl AnswersBy {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            AnswersBy::Http => "HTTP",
            AnswersBy::Ssh => "SSH",
        }
    }
}

/// Goes back to an earlier task when `when` is true at this one's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goto {
    /// CEL.
    pub when: String,
    /// Index of the task.
    pub task: usize,
    /// Times at most.
    pub max: u32,
}

impl Definition {
    /// Whether texts are looked through for `${{ }}`.
    pub fn has_expressions(&self) -> bool {
        self.version != "0.1"
    }

    /// Whether a task of it waits until a system answers.
    pub fn asks_systems(&self) -> bool {
        let mut tasks = self.tasks.iter();
        tasks.any(|task| matches!(task.control, Some(Control::Answers(_))))
    }

    /// The tasks of each group, in the order of the file.
    pub fn groups(&self) -> BTreeMap<&str, Vec<usize>> {
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, task) in self
            .tasks
            .iter()
            .enumerate()
            .filter(|(_, task)| !task.group.is_empty())
        {
            groups.entry(&task.group).or_default().push(index);
        }
        groups
    }

    pub fn task_named(&self, name: &str) -> Option<usize> {
        self.tasks.iter().position(|task| task.name == name)
    }
}
