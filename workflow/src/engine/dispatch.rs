//! What a workflow's state means for others: what a machine is to run, when to look again, what it waits for.

use std::collections::BTreeMap;

use super::UnixMillis;
use super::ids::AttemptId;
use super::state::Workflow;

/// An attempt with everything that is needed to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    pub attempt: AttemptId,
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
    /// The ephemeral data to give it.
    pub data_version: u64,
}

/// What to push to the machine that the attempt was dispatched to. None when it is not under way.
pub fn dispatch(workflow: &Workflow, attempt: &AttemptId) -> Option<Dispatch> {
    let _ = (workflow, attempt);
    None
}

/// When the next [`Command::Timer`](super::Command::Timer) is due.
pub fn next_due(workflow: &Workflow) -> Option<UnixMillis> {
    let _ = workflow;
    None
}

/// What the workflow (or one task of it, by name or `NAME[item]`) does or waits for, in lines that a person reads.
pub fn explain(workflow: &Workflow, task: Option<&str>, now: UnixMillis) -> Vec<String> {
    let _ = (workflow, task, now);
    Vec::new()
}
