//! A person holds one thing, and lets it go on.

use super::{At, Flow, Letter, Model, Told};

impl Model {
    /// Nothing more of it begins, and its clock stands still.
    pub(crate) fn held(&mut self, task: usize, item: Option<usize>) {
        let is_many = self.plan.tasks[task].each.is_some();
        let (state, now) = (&mut self.tasks[task], self.now);
        match (item, state.items.get_mut(item.unwrap_or(0))) {
            (None, _) if is_many => state.held = true,
            (_, Some(one)) => {
                one.held = true;
                one.stop_clock(now);
            }
            (Some(item), None) => {
                state.held_items.insert(item);
            }
            (None, None) => state.held = true,
        }
        self.look();
    }

    pub(crate) fn let_go(&mut self, task: usize, item: Option<usize>) {
        let is_many = self.plan.tasks[task].each.is_some();
        let (state, now) = (&mut self.tasks[task], self.now);
        let made = item.unwrap_or(0);
        match (item, state.items.get_mut(made)) {
            (None, _) if is_many => state.held = false,
            (_, Some(one)) => {
                one.held = false;
                if self.flow == Flow::Running {
                    one.start_clock(now);
                    self.act_on_due();
                    self.wake(task, made);
                }
            }
            (Some(item), None) => {
                state.held_items.remove(&item);
            }
            (None, None) => state.held = false,
        }
        self.look();
    }

    /// Goes on with what a pause, of the workflow or its own, has held back.
    pub(super) fn wake(&mut self, task: usize, item: usize) {
        if self.flow != Flow::Running || self.tasks[task].items[item].held {
            return;
        }
        match self.tasks[task].items[item].at {
            At::Approved | At::Held => self.go_on(task, item),
            // As in `go_on`: its machine is asked for, also where it does not come to more.
            At::Ready if !self.needs_release(task, item) => self.claims.extend(self.machine(task, item)),
            At::Sub { told: Told::Pause } => self.tell_sub(task, item, Told::Nothing, Letter::Unpause),
            _ => {}
        }
    }

    /// What a person can hold.
    pub(crate) fn holdable(&self) -> Vec<(usize, Option<usize>)> {
        let mut things = self.skippable();
        things.retain(|&(task, item)| {
            let state = &self.tasks[task];
            let one = state.items.get(item.unwrap_or(0));
            match one {
                Some(one) => !one.held && !one.skipped,
                None => {
                    let is_skipped = item.is_some_and(|item| state.skipped_items.contains(&item));
                    let is_held = item.map_or(state.held, |item| state.held_items.contains(&item));
                    !state.skipped && !is_skipped && !is_held
                }
            }
        });
        // A list that has begun, and is not all made.
        for (task, state) in self.tasks.iter().enumerate() {
            let is_open = matches!(self.flow, Flow::Running | Flow::Paused) && state.end.is_none();
            let is_many = self.plan.tasks[task].each.is_some();
            if is_open && is_many && state.active && !state.held && state.items.len() < self.total(task) {
                things.push((task, None));
            }
        }
        things
    }

    /// What a person holds.
    pub(crate) fn all_held(&self) -> Vec<(usize, Option<usize>)> {
        let mut things = Vec::new();
        if !matches!(self.flow, Flow::Running | Flow::Paused) {
            return things;
        }
        for (task, state) in self
            .tasks
            .iter()
            .enumerate()
            .filter(|(_, state)| state.end.is_none())
        {
            let is_many = self.plan.tasks[task].each.is_some();
            things.extend(state.held.then_some((task, None)));
            things.extend(state.held_items.iter().map(|&item| (task, Some(item))));
            let items = state.items.iter().enumerate();
            let held = items.filter(|(_, one)| one.held && !matches!(one.at, At::Over(_)));
            things.extend(held.map(|(item, _)| (task, is_many.then_some(item))));
        }
        things
    }
}
