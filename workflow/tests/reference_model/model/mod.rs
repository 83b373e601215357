//! What workflows mean, as simply as it can be said: no events, no bounded steps, no queues but those between a workflow
//! and its sub-workflows. Everything is looked at again after each thing that happens.

mod attempt;
mod family;
mod held;
mod item;
mod machine;
mod policy;
mod retry_one;
mod run;
mod task;

use std::collections::BTreeMap;

use workflow::labels::Labels;

use super::plan::Plan;
pub(crate) use attempt::Outcome;
pub(crate) use family::{Family, Letter, Letters, Parent, ROOT, Told, sub_name};
pub(crate) use item::At;
pub(crate) use task::Task;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Cancelled,
    Failed,
    Skipped,
    Success,
    Timeout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Running,
    Paused,
    /// It will end so when nothing is under way.
    Stopping(End),
    Over(End),
}

pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) parent: Option<Parent>,
    /// Its input.
    pub(super) given: u64,
    pub(super) run: u32,
    pub(crate) labels: Labels,
    pub(crate) plan: Plan,
    pub(crate) tasks: Vec<Task>,
    pub(crate) flow: Flow,
    /// Seconds.
    pub(crate) now: u64,
    /// Seconds of the global timeout that are left, and since when they run.
    pub(super) budget: Option<(u64, Option<u64>)>,
    pub(super) started: bool,
    /// Somebody releases every action.
    pub(crate) steps: bool,
    /// The second in which it begins, until it has.
    pub(crate) later: Option<u64>,
    /// It was to end before its tasks did.
    pub(crate) was_stopped: bool,
    /// How often each task has asked for machines.
    pub(super) asked: Vec<usize>,
    /// Sub-workflows that were made, by task and item.
    pub(super) born: BTreeMap<(usize, usize), u32>,
    /// Machines that a run which has begun names.
    pub(super) claims: Vec<usize>,
    /// By task: the rounds in which it recorded something, and what it counted to last.
    pub(crate) vars: BTreeMap<usize, (Vec<u32>, u64)>,
    /// What it has told others, and nobody has taken yet.
    pub(super) letters: Vec<(String, Letter)>,
    /// Handed out in all: by task, item, action.
    pub(crate) attempts: BTreeMap<(usize, usize, usize), u32>,
}

impl Model {
    pub(super) fn new(
        plan: &Plan,
        name: &str,
        (given, labels): (u64, Labels),
        now: u64,
        parent: Option<Parent>,
    ) -> Model {
        let mut model = Model {
            tasks: vec![Task::new(); plan.tasks.len()],
            asked: vec![0; plan.tasks.len()],
            plan: plan.clone(),
            flow: Flow::Running,
            name: name.to_owned(),
            parent,
            given,
            labels,
            run: 1,
            now,
            budget: plan.global_timeout.map(|seconds| (seconds, None)),
            started: false,
            steps: plan.steps,
            later: plan.later,
            was_stopped: false,
            born: BTreeMap::new(),
            claims: Vec::new(),
            vars: BTreeMap::new(),
            letters: Vec::new(),
            attempts: BTreeMap::new(),
        };
        if model.later.is_none() {
            model.claim();
        }
        model.look();
        model
    }

    /// When time does something next.
    pub(crate) fn next_due(&self) -> Option<u64> {
        if self.flow != Flow::Running {
            return None;
        }
        if self.later.is_some() {
            return self.later;
        }
        let global = self.budget.and_then(|(left, since)| Some(since? + left));
        let items = self.tasks.iter().flat_map(|task| &task.items);
        let dues = items.filter(|item| !item.held).filter_map(|item| {
            let own = match item.at {
                At::Approval { due } => due,
                At::Delayed { due } | At::Waiting { due } => Some(due),
                _ => None,
            };
            own.into_iter().chain(item.times_out()).min()
        });
        dues.chain(global).min()
    }

    /// In any state.
    pub(crate) fn labelled(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => drop(self.labels.insert(key.to_owned(), value.to_owned())),
            None => drop(self.labels.remove(key)),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.flow, Flow::Over(_))
    }

    pub(super) fn all(&self, which: impl Fn(At) -> bool) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        for (index, task) in self.tasks.iter().enumerate() {
            for (item, at) in task.items.iter().enumerate() {
                if task.active && which(at.at) {
                    all.push((index, item));
                }
            }
        }
        all
    }
}
