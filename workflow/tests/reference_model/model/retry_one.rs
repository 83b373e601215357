//! A person has one thing that failed done again.

use super::item::Item;
use super::{At, End, Flow, Model};

impl Model {
    /// A task with all that depends on it, or one item of a list that goes on.
    pub(crate) fn retried_one(&mut self, task: usize, item: Option<usize>) {
        if let Some(item) = item {
            return self.reopened(task, item);
        }
        let mut again = self.plan.after(task);
        if self.is_over() {
            return self.open_run(again);
        }
        again.retain(|&task| self.tasks[task].end.is_some());
        self.do_again(again);
        self.make_good_again();
        self.claim();
        self.look();
    }

    fn reopened(&mut self, task: usize, item: usize) {
        let state = &mut self.tasks[task];
        let old = &state.items[item];
        state.items[item] = Item {
            task_tries: old.task_tries + 1,
            begun: old.begun,
            approved: old.approved,
            ..Item::new()
        };
        // Its failure counts no more.
        state.stopped = false;
        match &self.plan.tasks[task].approve {
            Some(ask) if !self.tasks[task].items[item].approved => {
                let due = ask.timeout.map(|seconds| self.now + seconds);
                self.tasks[task].items[item].at = At::Approval { due };
            }
            _ => self.go_on(task, item),
        }
        self.look();
    }

    /// What a person can have done again.
    pub(crate) fn retriable(&self) -> Vec<(usize, Option<usize>)> {
        let failed = |end: Option<End>| matches!(end, Some(End::Failed | End::Timeout));
        let has_begun = |task: usize| {
            let state = &self.tasks[task];
            state.active || state.asking || !matches!(state.end, None | Some(End::Skipped))
        };
        let mut things = Vec::new();
        for (task, state) in self.tasks.iter().enumerate() {
            let is_many = self.plan.tasks[task].each.is_some();
            match self.flow {
                // What a stop leaves of single tasks is the engine's to say.
                Flow::Over(_) if failed(state.end) && !self.was_stopped => things.push((task, None)),
                Flow::Running if state.active && is_many => {
                    let items = state.items.iter().enumerate();
                    let failed = items.filter(|(_, one)| failed(one.end()) && !one.broken);
                    things.extend(failed.map(|(item, _)| (task, Some(item))));
                }
                Flow::Running if failed(state.end) => {
                    let mut behind = self.plan.after(task).into_iter();
                    if !behind.any(|other| other != task && has_begun(other)) {
                        things.push((task, None));
                    }
                }
                _ => {}
            }
        }
        things
    }
}
