//! What a workflow is to do, in structures of the model's own.

use std::collections::BTreeMap;

pub(crate) const MACHINES: usize = 3;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Of its template.
    pub(crate) name: String,
    pub(crate) tasks: Vec<Step>,
    /// Seconds.
    pub(crate) global_timeout: Option<u64>,
    /// The second in which it begins; of the root only.
    pub(crate) later: Option<u64>,
    /// Somebody releases every action; of the root only, whose sub-workflows have it from there.
    pub(crate) steps: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Earlier tasks.
    pub(crate) needs: Vec<usize>,
    pub(crate) when: When,
    /// Of those that it needs, directly or not.
    pub(crate) recovers: Vec<usize>,
    pub(crate) each: Option<Each>,
    pub(crate) again: Option<Again>,
    pub(crate) approve: Option<Ask>,
    /// Seconds.
    pub(crate) timeout: Option<u64>,
    pub(crate) work: Work,
    pub(crate) back: Option<Back>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum When {
    /// Left out: `success()`.
    Plain,
    Success,
    Failure,
    Always,
    /// Always, but then false.
    Never,
    /// No status function in it, and false.
    PlainFalse,
    /// Always, when that task is FAILED.
    IfFailed(usize),
    /// No status function in it, and only true before a `goto` has led back.
    FirstRound,
    /// Of a list: its odd items.
    OddItems,
    /// Division by zero.
    Broken,
}

#[derive(Clone, Debug)]
pub(crate) struct Each {
    /// Of a list that stands there.
    pub(crate) items: usize,
    /// Instead: `machines(…)`, and what it is answered, one answer after the other and from the first again.
    pub(crate) answers: Option<Vec<Vec<usize>>>,
    /// 0: all.
    pub(crate) parallel: usize,
    /// Sizes, cumulative. Empty: one.
    pub(crate) waves: Vec<usize>,
    pub(crate) budget: Option<Budget>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    Count(u32),
    Percent(u32),
}

#[derive(Clone, Debug)]
pub(crate) struct Again {
    pub(crate) attempts: u32,
    /// Seconds.
    pub(crate) delay: u64,
    pub(crate) doubles: bool,
    /// Seconds; 0: none.
    pub(crate) longest: u64,
    pub(crate) on: Vec<&'static str>,
}

#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// Seconds.
    pub(crate) timeout: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// On a machine; with a list, item n on machine n modulo all.
    Actions(usize, Vec<Doing>),
    /// A sub-workflow; its input is this and the number of the run, or with a list the item and that.
    Workflow {
        plan: Box<Plan>,
        given: u64,
        /// The run in which the input has no value.
        hollow: Option<u32>,
    },
    /// Seconds.
    Wait(u64),
    /// Appends its round to a variable, and counts on from what it gave in the round before.
    Set,
    Succeed,
    Fail,
    Nothing,
}

/// What a plan's workflow comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outputs {
    pub(crate) twice: u64,
    pub(crate) run: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Doing {
    pub(crate) again: Option<Again>,
    pub(crate) on_failure: bool,
    pub(crate) on_timeout: bool,
    pub(crate) reboots: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Back {
    pub(crate) to: usize,
    pub(crate) max: u32,
    /// Else: when this task is FAILED.
    pub(crate) always: bool,
}

pub(crate) fn machine_name(machine: usize) -> String {
    format!("52:54:00:77:00:0{machine}")
}

impl Plan {
    /// Gives all a name of their own.
    pub(crate) fn named(mut self, name: &str) -> Plan {
        for (task, step) in self.tasks.iter_mut().enumerate() {
            if let Work::Workflow { plan, .. } = &mut step.work {
                **plan = plan.clone().named(&format!("{name}-{task}"));
            }
        }
        self.name = name.to_owned();
        self
    }

    /// It and all that it starts, by name.
    pub(crate) fn templates(&self) -> BTreeMap<String, Plan> {
        let mut all = BTreeMap::from([(self.name.clone(), self.clone())]);
        for step in &self.tasks {
            if let Work::Workflow { plan, .. } = &step.work {
                all.extend(plan.templates());
            }
        }
        all
    }

    /// Everything that a task needs, directly or not.
    pub(crate) fn before(&self, task: usize) -> Vec<usize> {
        let mut all: Vec<usize> = Vec::new();
        let mut left = self.tasks[task].needs.clone();
        while let Some(need) = left.pop() {
            if !all.contains(&need) {
                all.push(need);
                left.extend(&self.tasks[need].needs);
            }
        }
        all.sort_unstable();
        all
    }

    /// The tasks that going back to one runs again.
    pub(crate) fn after(&self, task: usize) -> Vec<usize> {
        (0..self.tasks.len())
            .filter(|&other| other == task || self.before(other).contains(&task))
            .collect()
    }

    /// What going back from one task to another runs again.
    pub(crate) fn looped(&self, from: usize, to: usize) -> Vec<usize> {
        let before = self.before(from);
        let mut looped = self.after(to);
        looped.retain(|task| *task == from || before.contains(task));
        looped
    }

    /// Where the list is not `machines(…)`.
    pub(crate) fn machine(&self, task: usize, item: usize) -> Option<usize> {
        match &self.tasks[task].work {
            Work::Actions(_, _) if self.tasks[task].each.is_some() => Some(item % MACHINES),
            Work::Actions(machine, _) => Some(*machine),
            _ => None,
        }
    }

    /// Whether the language takes this goto: see language/flow.rs.
    pub(crate) fn can_go_back(&self, from: usize, to: usize) -> bool {
        let comes_after = |task: usize, other: usize| task == other || self.before(task).contains(&other);
        let loops = |other: usize| self.before(other).contains(&to);
        comes_after(from, to)
            && self.tasks[from].each.is_none()
            && self.tasks[to].each.is_none()
            && (0..self.tasks.len()).all(|other| {
                let no_exit = !loops(other) || comes_after(from, other) || self.before(other).contains(&from);
                let between = loops(other) && comes_after(from, other);
                let no_entry = !between
                    || self.tasks[other]
                        .needs
                        .iter()
                        .all(|&need| comes_after(need, to) || self.before(to).contains(&need));
                no_exit && no_entry
            })
    }
}
