//! A workflow, its sub-workflows and theirs: what they tell each other, which is under way for a while.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use workflow::labels::Labels;

use super::{At, End, Flow, Model, Outcome};
use crate::plan::{Outputs, Plan, Work};

/// What one workflow tells another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Letter {
    /// What failed of it runs again.
    Again,
    Cancel,
    /// To the parent.
    Ended {
        /// None: it could not be made.
        run: Option<u32>,
        end: End,
        outputs: Option<Outputs>,
    },
    Pause,
    Start {
        template: String,
        given: u64,
        labels: Labels,
        steps: bool,
    },
    Unpause,
}

/// Whose task a workflow is.
#[derive(Clone, Debug)]
pub(crate) struct Parent {
    pub(crate) name: String,
    pub(crate) task: usize,
    pub(crate) item: usize,
}

/// Letters that are under way, by sender and receiver, in their order.
pub(crate) type Letters = BTreeMap<(String, String), VecDeque<Letter>>;

pub(crate) struct Family {
    templates: BTreeMap<String, Plan>,
    /// The root first.
    pub(crate) models: Vec<Model>,
    pub(crate) letters: Letters,
    parents: BTreeMap<String, Parent>,
    /// Machines that are held for the root.
    pub(crate) claimed: BTreeSet<usize>,
}

pub(crate) const ROOT: &str = "w";

impl Family {
    pub(crate) fn new(plan: &Plan) -> Family {
        let mut family = Family {
            templates: plan.templates(),
            models: vec![Model::new(plan, ROOT, (0, Labels::new()), 0, None)],
            letters: Letters::new(),
            parents: BTreeMap::new(),
            claimed: BTreeSet::new(),
        };
        family.collect();
        family
    }

    pub(crate) fn root(&self) -> &Model {
        &self.models[0]
    }

    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        self.models.iter().position(|model| model.name == name)
    }

    /// Machines are claimed when a run begins whose plan names them and when something is ready for them, and given back by
    /// the root, when nothing that is left of it may use them: see decision 006. Its sub-workflows are over by then.
    fn settle_claims(&mut self) {
        for model in &mut self.models {
            self.claimed.extend(model.claims.drain(..));
        }
        let ready = self.models.iter().flat_map(Model::ready);
        self.claimed.extend(ready.map(|(machine, ..)| machine));
        let root = &self.models[0];
        self.claimed
            .retain(|&machine| !root.is_over() && root.may_use(machine, None));
    }

    /// Takes what has been written, to carry it later.
    pub(crate) fn collect(&mut self) {
        for model in &mut self.models {
            for (to, letter) in std::mem::take(&mut model.letters) {
                if let Letter::Start { .. } = letter {
                    let (task, item) = model.whose(&to).expect("it was started just now");
                    let name = model.name.clone();
                    self.parents.insert(to.clone(), Parent { name, task, item });
                }
                let way = (model.name.clone(), to);
                self.letters.entry(way).or_default().push_back(letter);
            }
        }
        self.settle_claims();
    }

    fn take(&mut self, way: &(String, String)) -> Letter {
        let letters = self.letters.get_mut(way).expect("a letter is under way");
        let letter = letters.pop_front().expect("a letter is under way");
        if letters.is_empty() {
            self.letters.remove(way);
        }
        letter
    }

    /// The next letter on a way arrives.
    pub(crate) fn carry(&mut self, way: &(String, String)) {
        let letter = self.take(way);
        let (from, to) = way;
        let now = self.root().now;
        if let Letter::Start {
            template,
            given,
            labels,
            steps,
        } = letter
        {
            let plan = &self.templates[&template];
            let parent = Some(self.parents[to].clone());
            let mut plan = plan.clone();
            plan.steps = steps;
            self.models
                .push(Model::new(&plan, to, (given, labels), now, parent));
        } else if let Some(at) = self.named(to) {
            self.models[at].receive(from, letter);
        }
        self.collect();
    }

    /// There is no template for it: its parent is told.
    pub(crate) fn cannot_start(&mut self, way: &(String, String)) {
        let letter = self.take(way);
        assert!(matches!(letter, Letter::Start { .. }), "{letter:?}");
        let parent = self.parents[&way.1].clone();
        let at = self.named(&parent.name).expect("it waits for the sub-workflow");
        self.models[at].sub_ended(parent.task, parent.item, None, End::Failed, None);
        self.collect();
    }

    pub(crate) fn next_due(&self) -> Option<u64> {
        self.models.iter().filter_map(Model::next_due).min()
    }
}

impl Model {
    /// The task and item that have this sub-workflow.
    fn whose(&self, name: &str) -> Option<(usize, usize)> {
        let mut subs = self.all(|at| matches!(at, At::Sub { .. })).into_iter();
        subs.find(|&(task, item)| self.tasks[task].items[item].sub.as_deref() == Some(name))
    }

    fn receive(&mut self, from: &str, letter: Letter) {
        match (letter, self.flow) {
            (Letter::Cancel, Flow::Running | Flow::Paused) => self.cancelled(),
            (Letter::Pause, Flow::Running) => self.paused(),
            (Letter::Unpause, Flow::Paused) => self.unpaused(),
            (Letter::Again, Flow::Over(end)) if end != End::Success => self.retried(),
            (Letter::Ended { run, end, outputs }, _) => {
                let (task, item) = self.whose(from).expect("its end is waited for");
                self.sub_ended(task, item, run, end, outputs);
            }
            // It has ended, or is ending, meanwhile; or a person has paused or resumed it.
            (Letter::Cancel | Letter::Pause | Letter::Unpause, _) => {}
            (letter, flow) => panic!("{letter:?} comes to a workflow that is {flow:?}"),
        }
    }

    /// A sub-workflow begins, or that of the run before goes on from what failed in it.
    pub(super) fn begin_sub(&mut self, task: usize, item: usize) {
        self.start();
        let (now, timeout) = (self.now, self.plan.tasks[task].timeout);
        let Work::Workflow { plan, given, .. } = &self.plan.tasks[task].work else {
            unreachable!("it is a sub-workflow")
        };
        let is_first = self.tasks[task].items[item].task_tries == 1;
        let earlier = self.tasks[task].carried.get(&item).filter(|_| is_first).cloned();
        let (name, letter) = match earlier {
            Some(earlier) => (earlier, Letter::Again),
            None => {
                let number = self.born.entry((task, item)).or_default();
                *number += 1;
                let name = sub_name(&self.name, task, item, *number);
                let base = match self.plan.tasks[task].each {
                    Some(_) => item as u64,
                    None => *given,
                };
                let template = plan.name.clone();
                let given = base + u64::from(self.run);
                let labels = self.labels.clone();
                let steps = self.steps;
                let start = Letter::Start {
                    template,
                    given,
                    labels,
                    steps,
                };
                (name, start)
            }
        };
        let one = &mut self.tasks[task].items[item];
        one.begin(now, timeout);
        one.timed_out = false;
        one.at = At::Sub { told: Told::Nothing };
        one.has_run = letter == Letter::Again;
        one.sub = Some(name.clone());
        self.letters.push((name, letter));
    }

    pub(super) fn tell_sub(&mut self, task: usize, item: usize, told: Told, letter: Letter) {
        let one = &mut self.tasks[task].items[item];
        one.at = At::Sub { told };
        let name = one.sub.clone().expect("it has a sub-workflow");
        self.letters.push((name, letter));
    }

    /// What has to be passed on to sub-workflows now.
    pub(super) fn pass_on(&mut self) {
        for (task, item) in self.all(|at| matches!(at, At::Sub { .. })) {
            let At::Sub { told } = self.tasks[task].items[item].at else {
                continue;
            };
            let is_held = self.tasks[task].items[item].held;
            match (self.flow, told) {
                (Flow::Stopping(_), Told::Nothing | Told::Pause) => {
                    self.tell_sub(task, item, Told::Cancel, Letter::Cancel);
                }
                (Flow::Running, Told::Nothing) if is_held => {
                    self.tell_sub(task, item, Told::Pause, Letter::Pause);
                }
                (Flow::Paused, Told::Nothing) => self.tell_sub(task, item, Told::Pause, Letter::Pause),
                (Flow::Running, Told::Pause) if !is_held => {
                    self.tell_sub(task, item, Told::Nothing, Letter::Unpause)
                }
                _ => {}
            }
        }
    }

    pub(super) fn sub_ended(
        &mut self,
        task: usize,
        item: usize,
        run: Option<u32>,
        end: End,
        outputs: Option<Outputs>,
    ) {
        let one = &mut self.tasks[task].items[item];
        assert!(matches!(one.at, At::Sub { .. }), "{one:?}");
        one.has_run = run.is_some();
        one.outputs = outputs;
        let is_stopping = matches!(self.flow, Flow::Stopping(_));
        match end {
            End::Success => one.at = At::Over(End::Success),
            _ if one.skipped => one.at = At::Over(End::Skipped),
            _ if is_stopping => {
                one.at = At::Over(if one.timed_out {
                    End::Timeout
                } else {
                    End::Cancelled
                });
            }
            _ if one.timed_out => self.give_up(task, item, Outcome::TimedOut),
            End::Timeout => self.give_up(task, item, Outcome::TimedOut),
            End::Cancelled => self.give_up(task, item, Outcome::SubCancelled),
            _ => self.give_up(task, item, Outcome::SubFailed),
        }
        self.look();
    }

    /// It has come to its end.
    pub(super) fn end(&mut self, end: End) {
        self.flow = Flow::Over(end);
        let outputs = (end == End::Success).then_some(Outputs {
            twice: 2 * self.given,
            run: u64::from(self.run),
        });
        if let Some(parent) = &self.parent {
            let run = Some(self.run);
            self.letters
                .push((parent.name.clone(), Letter::Ended { run, end, outputs }));
        }
    }
}

/// What a sub-workflow was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Cancel,
    Nothing,
    Pause,
}

/// The sub-workflow number `number` of an item.
pub(crate) fn sub_name(parent: &str, task: usize, item: usize, number: u32) -> String {
    format!("{parent}/{task}.{item}.{number}")
}
