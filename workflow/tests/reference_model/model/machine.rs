//! What machines see of a workflow: what is ready for them, what they run, and that they leave.

use super::{At, Flow, Model, Outcome};
use crate::plan::Work;

impl Model {
    /// Items that wait for a machine, with it.
    pub(crate) fn ready(&self) -> Vec<(usize, usize, usize)> {
        if self.flow != Flow::Running {
            return Vec::new();
        }
        self.all(|at| at == At::Ready)
            .into_iter()
            .filter(|&(task, item)| !self.tasks[task].items[item].held && !self.needs_release(task, item))
            .filter_map(|(task, item)| Some((self.machine(task, item)?, task, item)))
            .collect()
    }

    pub(crate) fn machine(&self, task: usize, item: usize) -> Option<usize> {
        match &self.tasks[task].answer {
            Some(machines) => machines.get(item).copied(),
            None => self.plan.machine(task, item),
        }
    }

    /// A run begins: it claims the machines that the plan names for what is left.
    pub(super) fn claim(&mut self) {
        let steps = self.plan.tasks.iter().zip(&self.tasks);
        let left = steps.filter(|(step, state)| state.end.is_none() && step.each.is_none());
        let named = left.filter_map(|(step, _)| match step.work {
            Work::Actions(machine, _) => Some(machine),
            _ => None,
        });
        self.claims.extend(named);
    }

    pub(crate) fn away(&self) -> Vec<(usize, usize)> {
        self.all(|at| matches!(at, At::Away | At::Left))
    }

    pub(crate) fn handed_out(&mut self, task: usize, item: usize) {
        let one = &mut self.tasks[task].items[item];
        assert_eq!((self.flow, one.at), (Flow::Running, At::Ready));
        one.at = At::Away;
        one.begin(self.now, self.plan.tasks[task].timeout);
        if one.cleaning.is_none() {
            one.tries += 1;
        }
        *self.attempts.entry((task, item, one.action)).or_default() += 1;
        self.start();
    }

    /// Whether the machine has to come back before an action that leaves is done: it has not, where nothing that is left
    /// of the workflow may run on it. A workflow that is being stopped begins nothing more.
    pub(crate) fn needs_back(&self, task: usize, item: usize, machine: usize) -> bool {
        let Work::Actions(_, doings) = &self.plan.tasks[task].work else {
            unreachable!("only actions leave")
        };
        let one = &self.tasks[task].items[item];
        let is_last = one.action + 1 == doings.len();
        let is_stopping = matches!(self.flow, Flow::Stopping(_));
        let is_left = || !is_stopping && self.may_use(machine, Some((task, item)));
        !one.is_cleaning() && (!is_last || is_left())
    }

    /// The machine said that it leaves, as the action is to do.
    pub(crate) fn left(&mut self, task: usize, item: usize, is_done: bool) {
        let one = &mut self.tasks[task].items[item];
        if is_done {
            self.ended(task, item, Outcome::Succeeded);
        } else if one.timed_out || one.skipped || matches!(self.flow, Flow::Stopping(_)) {
            // A machine that reboots has stopped.
            self.ended(task, item, Outcome::Stopped);
        } else {
            one.at = At::Left;
        }
    }

    /// Whether something that is left may run on the machine, one item aside. What has not begun counts until its task is
    /// over; where its machine cannot be told yet it may be any.
    pub(crate) fn may_use(&self, machine: usize, aside: Option<(usize, usize)>) -> bool {
        (0..self.tasks.len()).any(|task| {
            let runs_again = self.may_run_again(task);
            (runs_again || self.tasks[task].end.is_none())
                && self.task_may_use(task, machine, aside, runs_again)
        })
    }

    fn task_may_use(
        &self,
        task: usize,
        machine: usize,
        aside: Option<(usize, usize)>,
        runs_again: bool,
    ) -> bool {
        let (step, state) = (&self.plan.tasks[task], &self.tasks[task]);
        match step.work {
            Work::Actions(..) => {}
            Work::Workflow { .. } => return true,
            _ => return false,
        }
        let is_listed = match &step.each {
            None => true,
            Some(each) if each.answers.is_some() => state.answer.is_some(),
            // Its worker is an expression that is worked out item by item.
            Some(_) => state.active && state.items.len() == self.total(task),
        };
        if !is_listed || (runs_again && step.each.is_some()) {
            return true;
        }
        (0..self.total(task)).any(|item| {
            let is_over = state.items.get(item).is_some_and(|item| item.end().is_some());
            self.machine(task, item) == Some(machine)
                && (runs_again || (!is_over && aside != Some((task, item))))
        })
    }

    /// Whether a goto that has not had its turn may bring the task back.
    fn may_run_again(&self, task: usize) -> bool {
        let steps = self.plan.tasks.iter().enumerate();
        let mut backs = steps.filter_map(|(from, step)| Some((from, step.back.as_ref()?)));
        backs.any(|(from, back)| {
            let state = &self.tasks[from];
            state.end.is_none()
                && state.went_back < back.max
                && self.plan.looped(from, back.to).contains(&task)
        })
    }
}
