//! What can happen.

use workflow::engine::Effect;

use crate::Both;
use crate::model::{At, Flow, Model, Outcome};
use crate::plan::{MACHINES, Work};

/// Workflows are meant by their place in the family; what is under way by that of its sender among those that have sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice {
    Advance,
    Answer(usize, usize),
    Approve(usize, usize, usize),
    Boot(usize),
    Begin(usize),
    Cancel(usize),
    CannotStart(usize),
    Carry(usize),
    HandOut(usize),
    Hold(usize, usize, Option<usize>),
    /// A label is set or, without a value, taken away.
    Label(usize, &'static str, Option<&'static str>),
    Late(usize),
    LateEnd(usize),
    LetGo(usize, usize, Option<usize>),
    /// It begins some seconds later.
    Move(usize, u64),
    Leave(usize),
    NoAnswer(usize, usize),
    /// A second passes.
    Pass,
    Pause(usize),
    /// Somebody releases every action from here on, or nobody does.
    Policy(usize, bool),
    Reject(usize, usize, usize),
    Report(usize, Outcome),
    /// By a person.
    Retry,
    RetryOne(usize, usize, Option<usize>),
    Silence(usize),
    Skip(usize, usize, Option<usize>),
    Start(usize),
    Unpause(usize),
}

impl Both {
    /// What can happen now; the first is one that leads on.
    pub(crate) fn choices(&self, all: bool) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (from, effect) in self.driver.heads().enumerate() {
            choices.extend([Choice::Carry(from); 3]);
            if all && matches!(effect, Effect::StartChild { .. }) {
                choices.push(Choice::CannotStart(from));
            }
        }
        for (of, model) in self.family.models.iter().enumerate() {
            if model.flow == Flow::Paused {
                choices.push(Choice::Unpause(of));
            }
        }
        for (of, model) in self.family.models.iter().enumerate() {
            let held = model.all_held().into_iter();
            choices.extend(held.map(|(task, item)| Choice::LetGo(of, task, item)));
        }
        for machine in 0..MACHINES {
            self.choices_of_machine(machine, all, &mut choices);
        }
        for (of, model) in self.family.models.iter().enumerate() {
            choices_of_people(of, model, all, &mut choices);
            // One of what could be skipped, now and then: a world where everything is skipped shows nothing.
            let things = model.skippable();
            if all && !things.is_empty() && self.history.len().is_multiple_of(3) {
                let (task, item) = things[self.history.len() / 3 % things.len()];
                choices.push(Choice::Skip(of, task, item));
            }
            let things = model.retriable();
            if all && model.flow == Flow::Running && !things.is_empty() && self.history.len() % 3 == 2 {
                let (task, item) = things[self.history.len() / 3 % things.len()];
                choices.push(Choice::RetryOne(of, task, item));
            }
            let is_open = matches!(model.flow, Flow::Running | Flow::Paused);
            if all && is_open && self.history.len() % 7 == 2 {
                choices.push(Choice::Policy(of, !model.steps));
            }
            let things = model.holdable();
            if all && !things.is_empty() && self.history.len() % 3 == 1 {
                let (task, item) = things[self.history.len() / 3 % things.len()];
                choices.push(Choice::Hold(of, task, item));
            }
        }
        if self.family.next_due().is_some() {
            choices.push(Choice::Advance);
        }
        if all {
            choices.push(Choice::Pass);
            choices.extend((0..self.driver.ends.len()).rev().take(2).map(Choice::LateEnd));
            choices.extend((0..self.driver.lost.len().min(1)).map(Choice::Late));
        }
        choices
    }

    fn choices_of_machine(&self, machine: usize, all: bool, choices: &mut Vec<Choice>) {
        let Some((of, task, item)) = self.on(machine) else {
            if self.driver.is_fenced(machine) {
                choices.push(Choice::Boot(machine));
            } else if self.driver.next_for(machine).is_some() {
                // What came late may be ready no more.
                choices.extend([Choice::HandOut(machine); 4]);
            }
            return;
        };
        let model = &self.family.models[of];
        if model.tasks[task].items[item].at == At::Left {
            return choices.push(Choice::Boot(machine));
        }
        if reboots(model, task, item) {
            choices.extend([Choice::Leave(machine); 4]);
        } else {
            choices.extend([Choice::Report(machine, Outcome::Succeeded); 4]);
        }
        if all && is_stopped(model, task, item) && self.driver.is_asked_to_stop(machine) {
            choices.extend([Choice::Report(machine, Outcome::Stopped); 4]);
        }
        if all {
            choices.extend([
                Choice::Start(machine),
                Choice::Report(machine, Outcome::Failed),
                Choice::Report(machine, Outcome::Failed),
                Choice::Report(machine, Outcome::Special),
                Choice::Report(machine, Outcome::TimedOut),
                Choice::Boot(machine),
                Choice::Silence(machine),
            ]);
        }
    }

    /// What runs on a machine: whose task, and which item.
    pub(crate) fn on(&self, machine: usize) -> Option<(usize, usize, usize)> {
        let models = self.family.models.iter().enumerate();
        let mut away = models.flat_map(|(of, model)| {
            let away = model.away().into_iter();
            let here = away.filter(|(task, item)| model.machine(*task, *item) == Some(machine));
            here.map(move |(task, item)| (of, task, item))
        });
        away.next()
    }
}

fn choices_of_people(of: usize, model: &Model, all: bool, choices: &mut Vec<Choice>) {
    for task in model.wants_machines() {
        choices.push(Choice::Answer(of, task));
        if all {
            choices.extend([Choice::Answer(of, task), Choice::NoAnswer(of, task)]);
        }
    }
    for (task, item) in model.asking() {
        choices.push(Choice::Approve(of, task, item));
        if all {
            choices.extend([Choice::Approve(of, task, item), Choice::Reject(of, task, item)]);
        }
    }
    if all && model.later.is_some() && matches!(model.flow, Flow::Running | Flow::Paused) {
        choices.extend([Choice::Begin(of), Choice::Move(of, 3), Choice::Move(of, 20)]);
    }
    if all {
        let value = ["one", "two", "three"].get(model.labels.len());
        choices.push(Choice::Label(of, ["a", "b"][of % 2], value.copied()));
    }
    if all && model.flow == Flow::Running {
        choices.extend([Choice::Pause(of), Choice::Cancel(of)]);
    }
}

fn reboots(model: &Model, task: usize, item: usize) -> bool {
    let item = &model.tasks[task].items[item];
    match &model.plan.tasks[task].work {
        Work::Actions(_, doings) => doings[item.action].reboots,
        _ => false,
    }
}

/// Whether the machine was asked to stop what it runs.
pub(crate) fn is_stopped(model: &Model, task: usize, item: usize) -> bool {
    let item = &model.tasks[task].items[item];
    matches!(model.flow, Flow::Stopping(_)) || item.timed_out || item.skipped
}
