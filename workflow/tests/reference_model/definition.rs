//! The definition that says the same as a plan to the engine.

use std::collections::BTreeMap;

use workflow::language::{Action, Amount, Approve, Control, Definition, ForEach, Goto, Retry, Task};

use crate::plan::{Again, Budget, Doing, Each, MACHINES, Plan, When, Work, machine_name};

impl Plan {
    pub(crate) fn definition(&self) -> Definition {
        Definition {
            version: "1".into(),
            name: self.name.clone(),
            global_timeout_s: self.global_timeout.unwrap_or(0),
            policy: self
                .steps
                .then(|| "step".parse().expect("a rule"))
                .into_iter()
                .collect(),
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
                When::FirstRound => Some("round == 0".into()),
                When::OddItems => Some("item % 2 == 1".into()),
                When::Broken => Some("1 / 0 == 1".into()),
            },
            recovers: step.recovers.clone(),
            for_each: step.each.as_ref().map(|each| ForEach {
                min_items: 0,
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
                        Some(_) => format!("${{{{ item_index + workflow.run{more} }}}}"),
                        None => format!("${{{{ {given} + workflow.run{more} }}}}"),
                    };
                    Some(Control::Workflow {
                        template: plan.name.clone(),
                        inputs: [("given".to_owned(), input.into())].into(),
                    })
                }
                Work::Set => Some(Control::Set(set(index))),
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

/// What a task records: its rounds, and how many of them followed each other without a break.
fn set(index: usize) -> BTreeMap<String, String> {
    let (own, rounds, count) = (name(index), rounds(index), count(index));
    let before = format!("tasks.{own}.outputs.{count}");
    BTreeMap::from([
        (
            rounds.clone(),
            format!("(has(vars.{rounds}) ? vars.{rounds} : []) + [round]"),
        ),
        (
            count,
            format!("has(tasks.{own}) && has({before}) ? {before} + 1 : 1"),
        ),
    ])
}

/// The variable with the rounds of a task.
pub(crate) fn rounds(index: usize) -> String {
    format!("rounds{index}")
}

/// The variable with what it has counted to.
pub(crate) fn count(index: usize) -> String {
    format!("count{index}")
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
