//! A task: its turn, its condition, its items, its end and its way back.

use std::collections::{BTreeMap, BTreeSet};

use super::item::{At, Item};
use super::{End, Flow, Letter, Model, Told};
use crate::plan::{Budget, Each, Outputs, When, Work};

#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// None: not over.
    pub(crate) end: Option<End>,
    pub(crate) active: bool,
    /// It has asked for machines, and nobody has answered.
    pub(crate) asking: bool,
    /// The machines that it was told.
    pub(crate) answer: Option<Vec<usize>>,
    pub(crate) items: Vec<Item>,
    /// Items that an earlier run did well: they stay.
    pub(super) kept: BTreeMap<usize, Option<Outputs>>,
    /// Sub-workflows of an earlier run that this one goes on with.
    pub(super) carried: BTreeMap<usize, String>,
    /// More failures than are borne: no further item begins.
    pub(super) stopped: bool,
    pub(super) recovered: bool,
    pub(super) went_back: u32,
    /// How often a way back led over it.
    pub(super) round: u32,
    /// What it has counted to in this round, when it recorded something; and in the one before, if there was one.
    pub(super) count: Option<u64>,
    pub(super) last: Option<u64>,
    /// A person has skipped it, or items of it, before their turn.
    pub(super) skipped: bool,
    pub(super) skipped_items: BTreeSet<usize>,
    /// A person holds it, or items of it, before their turn.
    pub(crate) held: bool,
    pub(crate) held_items: BTreeSet<usize>,
    pub(super) ended_at: u64,
}

impl Task {
    pub(super) fn new() -> Task {
        Task {
            end: None,
            active: false,
            asking: false,
            answer: None,
            items: Vec::new(),
            kept: BTreeMap::new(),
            carried: BTreeMap::new(),
            stopped: false,
            recovered: false,
            went_back: 0,
            round: 0,
            count: None,
            last: None,
            skipped: false,
            skipped_items: BTreeSet::new(),
            held: false,
            held_items: BTreeSet::new(),
            ended_at: 0,
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.end, Some(End::Failed | End::Timeout))
    }
}

impl Model {
    /// Tasks that wait to be told their machines.
    pub(crate) fn wants_machines(&self) -> Vec<usize> {
        let is_open = matches!(self.flow, Flow::Running | Flow::Paused);
        (0..self.tasks.len())
            .filter(|&task| is_open && self.tasks[task].asking)
            .collect()
    }

    /// What a task is to be told when it asks now.
    pub(crate) fn answer_for(&self, task: usize) -> Vec<usize> {
        let answers = self.plan.tasks[task]
            .each
            .as_ref()
            .and_then(|each| each.answers.as_ref());
        let answers = answers.expect("it asks for machines");
        answers[(self.asked[task] - 1) % answers.len()].clone()
    }

    /// The answer; None: there is none, for an error of the selector.
    pub(crate) fn told_machines(&mut self, task: usize, machines: Option<Vec<usize>>) {
        let state = &mut self.tasks[task];
        state.asking = false;
        match machines {
            Some(machines) => {
                state.active = true;
                state.answer = Some(machines);
            }
            None => {
                state.end = Some(End::Failed);
                state.ended_at = self.now;
            }
        }
        self.look();
    }

    /// A person does not want it, or one item of it.
    pub(crate) fn skipped(&mut self, task: usize, item: Option<usize>) {
        let state = &mut self.tasks[task];
        let made = item.unwrap_or(0);
        if made < state.items.len() {
            state.items[made].skipped = true;
            state.items[made].held = false;
            match state.items[made].at {
                At::Away | At::Sub { told: Told::Cancel } => {}
                At::Sub { .. } => self.tell_sub(task, made, Told::Cancel, Letter::Cancel),
                _ => self.over(task, made, End::Skipped),
            }
        } else if let Some(item) = item {
            state.skipped_items.insert(item);
            state.held_items.remove(&item);
        } else if state.asking {
            state.asking = false;
            state.end = Some(End::Skipped);
            state.ended_at = self.now;
        } else {
            state.skipped = true;
            state.held = false;
        }
        self.look();
    }

    /// What a person can skip.
    pub(crate) fn skippable(&self) -> Vec<(usize, Option<usize>)> {
        let mut all = Vec::new();
        for (task, state) in self.tasks.iter().enumerate() {
            if !matches!(self.flow, Flow::Running | Flow::Paused) || state.end.is_some() {
                continue;
            }
            let is_over = |item: usize| state.items.get(item).is_some_and(|item| item.end().is_some());
            if self.plan.tasks[task].each.is_none() || !state.active {
                all.extend((!is_over(0)).then_some((task, None)));
                continue;
            }
            all.extend(
                (0..self.total(task))
                    .filter(|&item| !is_over(item))
                    .map(|item| (task, Some(item))),
            );
        }
        all
    }

    /// Whether something changed.
    pub(super) fn look_at(&mut self, task: usize) -> bool {
        if self.tasks[task].end.is_some() {
            return false;
        }
        if self.tasks[task].asking {
            return false;
        }
        if !self.tasks[task].active {
            if self.tasks[task].held {
                return false;
            }
            let needs = &self.plan.tasks[task].needs;
            if needs.iter().any(|&need| self.tasks[need].end.is_none()) {
                return false;
            }
            self.begin(task);
            return true;
        }
        if self.perhaps_stop(task) || self.make_next(task) {
            return true;
        }
        let total = self.total(task);
        let state = &self.tasks[task];
        let all_made = state.items.len() == total || state.stopped;
        let all_over = state.items.iter().all(|item| matches!(item.at, At::Over(_)));
        if all_made && all_over {
            self.finish(task);
            return true;
        }
        false
    }

    pub(super) fn begin(&mut self, task: usize) {
        if self.tasks[task].skipped {
            self.tasks[task].end = Some(End::Skipped);
            self.tasks[task].ended_at = self.now;
            return;
        }
        let gate = match self.plan.tasks[task].when {
            When::Plain
            | When::PlainFalse
            | When::FirstRound
            | When::OddItems
            | When::Broken
            | When::Success => self.success(task),
            When::Failure => self.failure(task),
            When::Always | When::Never | When::IfFailed(_) => true,
        };
        // With a list, what `when` says besides is asked for each item.
        let has_gate_function = !matches!(
            self.plan.tasks[task].when,
            When::Plain | When::PlainFalse | When::FirstRound | When::OddItems | When::Broken
        );
        if !gate && (!has_gate_function || self.plan.tasks[task].each.is_none()) {
            self.tasks[task].end = Some(End::Skipped);
            self.tasks[task].ended_at = self.now;
            return;
        }
        let asks = self.plan.tasks[task]
            .each
            .as_ref()
            .is_some_and(|each| each.answers.is_some());
        if asks && self.tasks[task].answer.is_none() {
            self.tasks[task].asking = true;
            self.asked[task] += 1;
        } else {
            self.tasks[task].active = true;
        }
    }

    /// No task before failed without being recovered.
    pub(super) fn success(&self, task: usize) -> bool {
        let mut before = self.plan.before(task).into_iter().map(|need| &self.tasks[need]);
        !before.any(|need| need.has_failed() && !need.recovered)
    }

    /// Some task before failed, recovered or not.
    pub(super) fn failure(&self, task: usize) -> bool {
        self.plan
            .before(task)
            .into_iter()
            .any(|need| self.tasks[need].has_failed())
    }

    pub(super) fn total(&self, task: usize) -> usize {
        match (&self.tasks[task].answer, &self.plan.tasks[task].each) {
            (Some(machines), _) => machines.len(),
            (None, Some(each)) => each.items,
            (None, None) => 1,
        }
    }

    /// More items failed than are borne: what has not begun does not begin.
    pub(super) fn perhaps_stop(&mut self, task: usize) -> bool {
        let total = self.total(task);
        let each = self.plan.tasks[task].each.as_ref();
        let Some(borne) = each.and_then(|each| each.borne(total)) else {
            return false;
        };
        let state = &mut self.tasks[task];
        let ends: Vec<End> = state.items.iter().filter_map(Item::end).collect();
        if state.stopped || failures(&ends) <= borne {
            return false;
        }
        state.stopped = true;
        for item in &mut state.items {
            if item.end().is_none() && !item.begun {
                item.at = At::Over(End::Skipped);
            }
        }
        true
    }

    pub(super) fn make_next(&mut self, task: usize) -> bool {
        let made = self.tasks[task].items.len();
        if made >= self.total(task) || self.tasks[task].stopped || self.tasks[task].held {
            return false;
        }
        if let Some(each) = &self.plan.tasks[task].each {
            let open = |item: &Item| !matches!(item.at, At::Over(_));
            let running = self.tasks[task].items.iter().filter(|item| open(item)).count();
            if each.parallel > 0 && running >= each.parallel {
                return false;
            }
            // A wave begins when the one before is over.
            if each.waves.contains(&made) && running > 0 {
                return false;
            }
        }
        self.tasks[task].items.push(Item::new());
        let is_held = self.tasks[task].held_items.remove(&made);
        if let Some(outputs) = self.tasks[task].kept.get(&made).cloned() {
            self.tasks[task].items[made].outputs = outputs;
            self.over(task, made, End::Success);
            return true;
        }
        if self.tasks[task].skipped || self.tasks[task].skipped_items.contains(&made) {
            self.over(task, made, End::Skipped);
            return true;
        }
        let when = match self.plan.tasks[task].when {
            When::Never | When::PlainFalse => Some(End::Skipped),
            When::FirstRound => (self.tasks[task].round > 0).then_some(End::Skipped),
            When::IfFailed(other) => (self.tasks[other].end != Some(End::Failed)).then_some(End::Skipped),
            When::OddItems => made.is_multiple_of(2).then_some(End::Skipped),
            When::Broken => Some(End::Failed),
            When::Success => (!self.success(task)).then_some(End::Skipped),
            When::Failure => (!self.failure(task)).then_some(End::Skipped),
            When::Plain | When::Always => None,
        };
        if let Some(end) = when {
            self.tasks[task].items[made].broken = end == End::Failed;
            if end == End::Failed && self.plan.tasks[task].each.is_some() {
                self.start();
            }
            self.over(task, made, end);
        } else if self.has_hollow_input(task) {
            self.start();
            self.tasks[task].items[made].broken = true;
            self.over(task, made, End::Failed);
        } else if let Some(ask) = &self.plan.tasks[task].approve {
            let due = ask.timeout.map(|seconds| self.now + seconds);
            self.tasks[task].items[made].at = At::Approval { due };
            self.tasks[task].items[made].held = is_held;
        } else if is_held {
            self.tasks[task].items[made].at = At::Held;
            self.tasks[task].items[made].held = true;
        } else {
            self.go_on(task, made);
        }
        true
    }

    fn has_hollow_input(&self, task: usize) -> bool {
        matches!(self.plan.tasks[task].work, Work::Workflow { hollow: Some(run), .. } if run == self.run)
    }

    /// Of a task whose items are all over.
    pub(super) fn end_of(&self, task: usize) -> End {
        let ends: Vec<End> = self.tasks[task].items.iter().filter_map(Item::end).collect();
        match &self.plan.tasks[task].each {
            None => ends[0],
            Some(each) => {
                let failed = failures(&ends);
                match each.borne(self.total(task)) {
                    Some(borne) if failed <= borne => End::Success,
                    _ if failed > 0 => End::Failed,
                    _ => End::Success,
                }
            }
        }
    }

    pub(super) fn finish(&mut self, task: usize) {
        let end = self.end_of(task);
        let state = &mut self.tasks[task];
        state.end = Some(end);
        state.ended_at = self.now;
        state.active = false;
        if end == End::Success {
            for &recovered in &self.plan.tasks[task].recovers {
                self.tasks[recovered].recovered = true;
            }
        }
        self.perhaps_back(task, end);
    }

    pub(super) fn perhaps_back(&mut self, task: usize, end: End) {
        let Some(back) = self.plan.tasks[task].back.clone() else {
            return;
        };
        let wanted = end != End::Skipped && (back.always || end == End::Failed);
        if !wanted || self.tasks[task].went_back >= back.max {
            return;
        }
        let went_back = self.tasks[task].went_back + 1;
        // What comes behind this task has not begun; and how often it went back itself still counts.
        for again in self.plan.looped(task, back.to) {
            let had_its_turn = self.tasks[again].active || self.tasks[again].end.is_some();
            self.tasks[again] = Task {
                skipped: self.tasks[again].skipped && !had_its_turn,
                held: self.tasks[again].held && !had_its_turn,
                went_back: if again == task { went_back } else { 0 },
                round: self.tasks[again].round + 1,
                last: self.tasks[again].count,
                ..Task::new()
            };
        }
        self.make_good_again();
    }
}

pub(crate) fn failures(ends: &[End]) -> usize {
    let failed = |end: &&End| matches!(end, End::Failed | End::Timeout);
    ends.iter().filter(failed).count()
}

impl Each {
    /// Failed items that are borne.
    pub(crate) fn borne(&self, items: usize) -> Option<usize> {
        self.budget.map(|budget| match budget {
            Budget::Count(count) => count as usize,
            Budget::Percent(percent) => (items * percent as usize).div_ceil(100),
        })
    }
}
