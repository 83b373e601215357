//! What machines see of a workflow: what is ready for them, what they run, and that they leave.

use super::{At, End, Flow, Model, Outcome};
use crate::plan::Work;

impl Model {
    /// Items that wait for a machine, with it.
    pub(crate) fn ready(&self) -> Vec<(usize, usize, usize)> {
        if self.flow != Flow::Running {
            return Vec::new();
        }
        self.all(|at| at == At::Ready)
            .into_iter()
            .filter_map(|(task, item)| Some((self.machine(task, item)?, task, item)))
            .collect()
    }

    pub(crate) fn machine(&self, task: usize, item: usize) -> Option<usize> {
        match &self.tasks[task].answer {
            Some(machines) => machines.get(item).copied(),
            None => self.plan.machine(task, item),
        }
    }

    pub(crate) fn away(&self) -> Vec<(usize, usize)> {
        self.all(|at| matches!(at, At::Away | At::Left))
    }

    pub(crate) fn handed_out(&mut self, task: usize, item: usize) {
        let one = &mut self.tasks[task].items[item];
        assert_eq!(one.at, At::Ready);
        one.at = At::Away;
        one.begun = true;
        if one.cleaning.is_none() {
            one.tries += 1;
        }
        *self.attempts.entry((task, item, one.action)).or_default() += 1;
        self.start();
    }

    /// Whether the machine has to come back before a last action that leaves is done: it has, where something else of
    /// the workflow waits for it; it has not, where nothing can. None: that depends on what will be.
    pub(crate) fn needs_back(&self, task: usize, item: usize, machine: usize) -> Option<bool> {
        let Work::Actions(_, doings) = &self.plan.tasks[task].work else {
            unreachable!("only actions leave")
        };
        if matches!(self.flow, Flow::Stopping(_)) {
            return Some(false);
        }
        if self.tasks[task].items[item].action + 1 < doings.len() {
            return Some(true);
        }
        let waits = self.ready().iter().any(|(of, ..)| *of == machine);
        let nothing_left = self.plan.tasks.iter().enumerate().all(|(index, step)| {
            let is_this = index == task && step.each.is_none();
            step.back.is_none() && (is_this || self.tasks[index].end.is_some())
        });
        match (waits, nothing_left) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }

    /// The machine said that it leaves, as the action is to do.
    pub(crate) fn left(&mut self, task: usize, item: usize, is_done: bool) {
        if matches!(self.flow, Flow::Stopping(_)) {
            // A machine that reboots has stopped.
            self.over(task, item, End::Cancelled);
            self.look();
        } else if is_done {
            self.ended(task, item, Outcome::Succeeded);
        } else {
            self.tasks[task].items[item].at = At::Left;
        }
    }
}
