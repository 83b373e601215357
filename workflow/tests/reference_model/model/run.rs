//! A run of a workflow: it begins, is paused, is stopped, ends, and is done again by a person.

use super::item::Item;
use super::task::Task;
use super::{At, End, Flow, Model, Outcome};

impl Model {
    /// Until nothing changes any more.
    pub(super) fn look(&mut self) {
        loop {
            self.pass_on();
            if let Flow::Stopping(end) = self.flow {
                let is_busy = |at| matches!(at, At::Away | At::Left | At::Sub { .. });
                if self.all(is_busy).is_empty() {
                    self.cancel_the_rest();
                    self.end(end);
                }
                return;
            }
            if self.flow != Flow::Running || self.later.is_some() {
                return;
            }
            if !self.look_at_all() {
                break;
            }
        }
        self.ask();
        if self.tasks.iter().all(|task| task.end.is_some()) {
            // With the first failure that nobody made good.
            let failed =
                |task: &&Task| !task.recovered && matches!(task.end, Some(End::Failed | End::Timeout));
            let first = self.tasks.iter().filter(failed).min_by_key(|task| task.ended_at);
            self.end(first.and_then(|task| task.end).unwrap_or(End::Success));
        }
    }

    /// Task by task, in the order of the file: what happens in one moment happens in that order. Whether something changed.
    fn look_at_all(&mut self) -> bool {
        let mut changed = false;
        for task in 0..self.tasks.len() {
            while self.flow == Flow::Running && self.look_at(task) {
                changed = true;
                if !self.tasks[task].active {
                    break;
                }
            }
        }
        changed
    }

    /// The first attempt is handed out, or the first task that needs no machine begins.
    pub(super) fn start(&mut self) {
        if !self.started {
            self.started = true;
            if let Some((_, since)) = &mut self.budget {
                *since = Some(self.now);
            }
        }
    }

    /// It waits for its machines from here on.
    fn begin_late(&mut self) {
        self.later = None;
        self.claim();
    }

    /// Somebody moves the second in which it begins; None: it begins now, or when it is resumed.
    pub(crate) fn moved(&mut self, second: Option<u64>) {
        match second {
            None if self.flow == Flow::Running => self.begin_late(),
            second => self.later = second.or(Some(self.now)),
        }
        self.look();
    }

    pub(crate) fn time_is(&mut self, now: u64) {
        self.now = now;
        self.act_on_due();
        self.look();
    }

    pub(super) fn act_on_due(&mut self) {
        let now = self.now;
        if self.flow != Flow::Running {
            return;
        }
        match self.later {
            Some(second) if second > now => return,
            Some(_) => self.begin_late(),
            None => {}
        }
        if let Some((left, Some(since))) = self.budget
            && now >= since + left
        {
            self.stop(End::Timeout);
            return;
        }
        for task in 0..self.tasks.len() {
            for item in 0..self.tasks[task].items.len() {
                let one = &mut self.tasks[task].items[item];
                if one.held {
                    continue;
                }
                if one.times_out().is_some_and(|due| due <= now) {
                    self.time_out(task, item);
                    continue;
                }
                match one.at {
                    At::Approval { due: Some(due) } if due <= now => one.at = At::Over(End::Timeout),
                    At::Delayed { due } if due <= now => self.try_now(task, item),
                    At::Waiting { due } if due <= now => one.at = At::Over(End::Success),
                    _ => {}
                }
            }
        }
    }

    pub(crate) fn paused(&mut self) {
        self.flow = Flow::Paused;
        self.pass_on();
        let now = self.now;
        for (left, since) in self.budgets() {
            if let Some(since) = since.take() {
                *left -= now - since;
            }
        }
    }

    fn budgets(&mut self) -> impl Iterator<Item = &mut (u64, Option<u64>)> {
        let items = self.tasks.iter_mut().flat_map(|task| &mut task.items);
        let global = self.budget.as_mut().filter(|_| self.started);
        let open = items.filter(|item| {
            item.end().is_none() && !item.timed_out && !item.skipped && !item.held && !item.asked
        });
        open.filter_map(|item| item.budget.as_mut()).chain(global)
    }

    pub(crate) fn unpaused(&mut self) {
        self.flow = Flow::Running;
        let now = self.now;
        for (_, since) in self.budgets() {
            *since = Some(now);
        }
        self.act_on_due();
        // One that acts may end the workflow, and with it the others.
        for (task, item) in self.all(|_| true) {
            self.wake(task, item);
        }
        self.look();
    }

    pub(crate) fn cancelled(&mut self) {
        self.stop(End::Cancelled);
        self.look();
    }

    pub(super) fn stop(&mut self, end: End) {
        self.flow = Flow::Stopping(end);
        self.was_stopped = true;
        // A machine that has left runs nothing that could be stopped.
        for item in self.tasks.iter_mut().flat_map(|task| &mut task.items) {
            if item.at == At::Left {
                item.at = At::Over(End::Cancelled);
            }
        }
    }

    /// What has not ended was stopped, or had not begun, when the whole was.
    pub(super) fn cancel_the_rest(&mut self) {
        for task in 0..self.tasks.len() {
            let total = self.total(task);
            let state = &mut self.tasks[task];
            let is_whole = state.active && state.items.len() == total;
            for item in &mut state.items {
                // One of which only the extra run was left had failed before.
                let end = item.end().unwrap_or(match item.cleaning {
                    None => End::Cancelled,
                    Some(Outcome::TimedOut) => End::Timeout,
                    Some(_) => End::Failed,
                });
                item.at = At::Over(end);
            }
            let ends: Vec<End> = state.items.iter().filter_map(Item::end).collect();
            let is_done = is_whole && !ends.contains(&End::Cancelled);
            if self.tasks[task].end.is_none() {
                let end = if is_done {
                    self.end_of(task)
                } else {
                    End::Cancelled
                };
                self.tasks[task].end = Some(end);
                if end == End::Success {
                    for &recovered in &self.plan.tasks[task].recovers {
                        self.tasks[recovered].recovered = true;
                    }
                }
            }
            let state = &mut self.tasks[task];
            state.active = false;
            state.asking = false;
        }
    }

    /// A person has it done again: what failed and all that depends on it; items that succeeded stay.
    pub(crate) fn retried(&mut self) {
        // What had not ended when the whole was stopped was cancelled with it.
        let did_not_succeed =
            |task: &Task| !task.recovered && !matches!(task.end, Some(End::Success | End::Skipped));
        let mut again: Vec<usize> = (0..self.tasks.len())
            .filter(|&task| did_not_succeed(&self.tasks[task]))
            .flat_map(|task| self.plan.after(task))
            .collect();
        again.sort_unstable();
        again.dedup();
        self.open_run(again);
    }

    /// The next run does these.
    pub(super) fn open_run(&mut self, again: Vec<usize>) {
        self.do_again(again);
        self.run += 1;
        self.make_good_again();
        self.flow = Flow::Running;
        self.was_stopped = false;
        self.started = false;
        self.later = None;
        self.budget = self.plan.global_timeout.map(|seconds| (seconds, None));
        self.claim();
        self.look();
    }

    pub(super) fn do_again(&mut self, again: Vec<usize>) {
        for task in again {
            let state = &self.tasks[task];
            let mut next = Task {
                round: state.round,
                last: state.last,
                ..Task::new()
            };
            let is_many = self.plan.tasks[task].each.is_some();
            if is_many && state.end != Some(End::Success) {
                let mut kept = state.kept.clone();
                kept.extend(
                    state
                        .items
                        .iter()
                        .enumerate()
                        .filter(|(_, one)| one.end() == Some(End::Success))
                        .map(|(item, one)| (item, one.outputs.clone())),
                );
                next.kept = kept;
                // Items are those of the list that they were made from.
                next.answer = state.answer.clone();
            }
            if state.end != Some(End::Success) {
                next.carried = state.carried.clone();
                // One that could not be made is nothing to go on with.
                for (item, one) in state
                    .items
                    .iter()
                    .enumerate()
                    .filter(|(_, one)| one.sub.is_some())
                {
                    next.carried.remove(&item);
                    next.carried
                        .extend(one.sub.clone().filter(|_| one.has_run).map(|sub| (item, sub)));
                }
            }
            self.tasks[task] = next;
        }
    }

    /// What tasks that are to run again had made good is to be made good again.
    pub(super) fn make_good_again(&mut self) {
        for task in 0..self.tasks.len() {
            self.tasks[task].recovered = self
                .plan
                .tasks
                .iter()
                .zip(&self.tasks)
                .any(|(step, state)| state.end == Some(End::Success) && step.recovers.contains(&task));
        }
    }
}
