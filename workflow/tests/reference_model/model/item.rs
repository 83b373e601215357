//! A task for one item of its list, or for none: where it is, and how it begins.

use std::collections::BTreeSet;

use super::{End, Flow, Model, Outcome, Told};
use crate::plan::{Outputs, Work};

#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) at: At,
    pub(crate) action: usize,
    /// Of this action.
    pub(super) tries: u32,
    pub(super) task_tries: u32,
    /// Something of it was handed out.
    pub(super) begun: bool,
    /// The extra run of a failed action is due or under way; with what the item then fails.
    pub(super) cleaning: Option<Outcome>,
    /// The sub-workflow that it has, or had last.
    pub(crate) sub: Option<String>,
    /// That has ended once.
    pub(super) has_run: bool,
    /// Of the sub-workflow.
    pub(crate) outputs: Option<Outputs>,
    /// The time for this try of the task has passed: what it has under way was asked to stop.
    pub(crate) timed_out: bool,
    /// A person has skipped it: what it has under way was asked to stop.
    pub(crate) skipped: bool,
    /// A person holds it: nothing more of it begins.
    pub(crate) held: bool,
    /// Somebody is asked whether its next action may be done.
    pub(crate) asked: bool,
    /// Actions that somebody has released.
    pub(super) released: BTreeSet<usize>,
    /// Somebody said yes to all of it.
    pub(super) approved: bool,
    /// It could not be made.
    pub(super) broken: bool,
    /// Seconds that are left of the task's timeout, and since when they run. None: it has not begun.
    pub(super) budget: Option<(u64, Option<u64>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Approval {
        due: Option<u64>,
    },
    /// During a pause, of the workflow or its own: it goes on when that is over.
    Approved,
    /// Held since before its turn came.
    Held,
    Ready,
    Away,
    /// The machine has left and is to come back.
    Left,
    Delayed {
        due: u64,
    },
    /// Its sub-workflow is under way.
    Sub {
        told: Told,
    },
    Waiting {
        due: u64,
    },
    Over(End),
}

impl Item {
    pub(super) fn new() -> Item {
        Item {
            at: At::Ready,
            action: 0,
            tries: 0,
            task_tries: 1,
            begun: false,
            cleaning: None,
            sub: None,
            has_run: false,
            outputs: None,
            timed_out: false,
            skipped: false,
            held: false,
            asked: false,
            released: BTreeSet::new(),
            approved: false,
            broken: false,
            budget: None,
        }
    }

    /// When its task's time is over; None where it is being stopped for that.
    pub(super) fn times_out(&self) -> Option<u64> {
        let is_open = self.end().is_none() && !self.timed_out && !self.skipped;
        let (left, since) = self.budget.filter(|_| is_open)?;
        Some(since? + left)
    }

    pub(crate) fn is_cleaning(&self) -> bool {
        self.cleaning.is_some()
    }

    /// Something of it is under way: the clock of its task runs.
    pub(super) fn begin(&mut self, now: u64, timeout: Option<u64>) {
        self.begun = true;
        if self.budget.is_none() {
            self.budget = timeout.map(|seconds| (seconds, Some(now)));
        }
    }

    pub(super) fn stop_clock(&mut self, now: u64) {
        // That of one whose time is over, or that was skipped, counts no more.
        if let Some((left, since)) = self.budget.as_mut().filter(|_| !self.timed_out && !self.skipped)
            && let Some(since) = since.take()
        {
            *left -= now - since;
        }
    }

    /// Of a workflow that runs; unless something else keeps it.
    pub(super) fn start_clock(&mut self, now: u64) {
        if self.held || self.asked || self.timed_out || self.skipped {
            return;
        }
        if let Some((_, since)) = &mut self.budget {
            *since = Some(now);
        }
    }

    pub(crate) fn end(&self) -> Option<End> {
        match self.at {
            At::Over(end) => Some(end),
            _ => None,
        }
    }
}

impl Model {
    pub(crate) fn asking(&self) -> Vec<(usize, usize)> {
        if !matches!(self.flow, Flow::Running | Flow::Paused) {
            return Vec::new();
        }
        let mut asking = self.all(|at| !matches!(at, At::Over(_)));
        asking.retain(|&(task, item)| {
            let one = &self.tasks[task].items[item];
            one.asked || matches!(one.at, At::Approval { .. })
        });
        asking
    }

    pub(crate) fn decided(&mut self, task: usize, item: usize, approved: bool) {
        if self.tasks[task].items[item].asked {
            self.answered(task, item, approved);
            return self.look();
        }
        self.tasks[task].items[item].approved = approved;
        if approved && (self.flow == Flow::Paused || self.tasks[task].items[item].held) {
            self.tasks[task].items[item].at = At::Approved;
        } else if approved {
            self.go_on(task, item);
        } else {
            self.tasks[task].items[item].at = At::Over(End::Failed);
        }
        self.look();
    }

    /// What a `set` records.
    fn record(&mut self, task: usize) {
        let state = &mut self.tasks[task];
        let count = state.last.map_or(1, |last| last + 1);
        state.count = Some(count);
        let (rounds, counted) = self.vars.entry(task).or_default();
        rounds.push(state.round);
        *counted = count;
    }

    /// Approved, or nobody had to.
    pub(super) fn go_on(&mut self, task: usize, item: usize) {
        let now = self.now;
        if !matches!(self.plan.tasks[task].work, Work::Actions(..)) {
            self.start();
        }
        let timeout = self.plan.tasks[task].timeout;
        let one = &mut self.tasks[task].items[item];
        match self.plan.tasks[task].work {
            Work::Actions(..) => {
                one.at = At::Ready;
                // Also where it does not come to more: what stops the workflow may follow at once.
                if !self.needs_release(task, item) {
                    self.claims.extend(self.machine(task, item));
                }
            }
            Work::Workflow { .. } => self.begin_sub(task, item),
            Work::Wait(seconds) => {
                one.begin(now, timeout);
                one.at = At::Waiting { due: now + seconds };
            }
            Work::Set => {
                one.at = At::Over(End::Success);
                self.record(task);
            }
            Work::Nothing => one.at = At::Over(End::Success),
            Work::Succeed => {
                one.at = At::Over(End::Success);
                self.stop(End::Success);
            }
            Work::Fail => {
                one.at = At::Over(End::Failed);
                self.stop(End::Failed);
            }
        }
    }
}
