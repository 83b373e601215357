//! What a workflow is to do, in structures of the model's own; and the definition that says the same to the engine.

use std::collections::BTreeMap;

use workflow::language::{Action, Amount, Approve, Control, Definition, ForEach, Goto, Retry, Task};

pub(crate) const MACHINES: usize = 3;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Of its template.
    pub(crate) name: String,
    pub(crate) tasks: Vec<Step>,
    /// Seconds.
    pub(crate) global_timeout: Option<u64>,
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

    pub(crate) fn definition(&self) -> Definition {
        Definition {
            version: "1".into(),
            name: self.name.clone(),
            global_timeout_s: self.global_timeout.unwrap_or(0),
            outputs: [("twice", "inputs.given * 2"), ("run", "workflow.run")]
                .map(|(name, cel)| (name.to_owned(), cel.to_owned()))
                .into(),
            tasks: (0..self.tasks.len()).map(|index| self.task(index)).collect(),
            ..Definition::default()
        }
    }

    fn task(&self, index: usize) -> Task {
        let step = &self.tasks[index];
        let (worker, actions) = match &step.work {
            Work::Actions(machine, doings) => (
                match step.each {
                    Some(Each { answers: Some(_), .. }) => "${{ item.mac }}".to_owned(),
                    Some(_) => {
                        let names: Vec<String> = (0..MACHINES)
                            .map(|machine| format!("'{}'", machine_name(machine)))
                            .collect();
                        format!("${{{{ [{}][item % {MACHINES}] }}}}", names.join(", "))
                    }
                    None => machine_name(*machine),
                },
                doings
                    .iter()
                    .enumerate()
                    .map(|(n, doing)| doing.action(n))
                    .collect(),
            ),
            _ => (String::new(), Vec::new()),
        };
        Task {
            name: name(index),
            worker,
            actions,
            needs: step.needs.clone(),
            when: match &step.when {
                When::Plain => None,
                When::Success => Some("success()".into()),
                When::Failure => Some("failure()".into()),
                When::Always => Some("always()".into()),
                When::Never => Some("always() && 1 == 2".into()),
                When::PlainFalse => Some("1 == 2".into()),
                When::IfFailed(task) => Some(format!("always() && tasks.{}.state == 'FAILED'", name(*task))),
                When::OddItems => Some("item % 2 == 1".into()),
                When::Broken => Some("1 / 0 == 1".into()),
            },
            recovers: step.recovers.clone(),
            for_each: step.each.as_ref().map(|each| ForEach {
                list: match each.answers {
                    Some(_) => "machines('true')".to_owned(),
                    None => format!("{:?}", (0..each.items).collect::<Vec<_>>()),
                },
                max_parallel: u32::try_from(each.parallel).expect("a small number"),
                waves: each
                    .waves
                    .iter()
                    .map(|size| Amount::Count(u32::try_from(*size).expect("a small number")))
                    .collect(),
                max_failures: each.budget.map(|budget| match budget {
                    Budget::Count(count) => Amount::Count(count),
                    Budget::Percent(percent) => Amount::Percent(percent),
                }),
            }),
            retry: step.again.as_ref().map(Again::retry),
            approve: step.approve.as_ref().map(|ask| Approve {
                timeout_s: ask.timeout.unwrap_or(0),
                ..Approve::default()
            }),
            timeout_s: step.timeout.unwrap_or(0),
            control: match &step.work {
                Work::Wait(seconds) => Some(Control::Wait(format!("{seconds}s"))),
                Work::Workflow { plan, given, hollow } => {
                    let more = hollow.map_or(String::new(), |run| format!(" + 0 / (workflow.run - {run})"));
                    let input = match step.each {
                        Some(_) => format!("${{{{ item + workflow.run{more} }}}}"),
                        None => format!("${{{{ {given} + workflow.run{more} }}}}"),
                    };
                    Some(Control::Workflow {
                        template: plan.name.clone(),
                        inputs: [("given".to_owned(), input.into())].into(),
                    })
                }
                Work::Set => Some(Control::Set([("seen".to_owned(), "1 + 1".to_owned())].into())),
                Work::Succeed => Some(Control::Succeed),
                Work::Fail => Some(Control::Fail {
                    reason: "Enough".into(),
                    message: "no more".into(),
                }),
                Work::Actions(..) | Work::Nothing => None,
            },
            goto: step.back.as_ref().map(|back| Goto {
                when: if back.always {
                    "1 == 1".into()
                } else {
                    format!("tasks.{}.state == 'FAILED'", name(index))
                },
                task: back.to,
                max: back.max,
            }),
            ..Task::default()
        }
    }
}

fn name(index: usize) -> String {
    format!("t{index}")
}

impl Doing {
    fn action(&self, index: usize) -> Action {
        let words = |set: bool| if set { vec!["clean".to_owned()] } else { Vec::new() };
        Action {
            name: format!("a{index}"),
            image: "image".into(),
            on_failure: words(self.on_failure),
            on_timeout: words(self.on_timeout),
            reboots: self.reboots,
            retry: self.again.as_ref().map(Again::retry),
            ..Action::default()
        }
    }
}

impl Again {
    fn retry(&self) -> Retry {
        Retry {
            attempts: self.attempts,
            delay_ms: self.delay * 1000,
            backoff_percent: if self.doubles { 200 } else { 100 },
            max_delay_ms: self.longest * 1000,
            on: self.on.iter().map(|on| (*on).to_owned()).collect(),
        }
    }
}
