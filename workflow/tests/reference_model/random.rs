//! Random plans.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::plan::{Again, Ask, Back, Budget, Doing, Each, MACHINES, Plan, Step, When, Work};

/// What is drawn for a task; numbers become tasks before it.
#[derive(Clone, Debug)]
struct Drawn {
    /// 0: the task before; else one of these each.
    needs: Option<Vec<Index>>,
    when: u8,
    whose: Index,
    recovers: bool,
    each: Option<Each>,
    again: Option<Again>,
    approve: Option<Option<u64>>,
    timeout: Option<u64>,
    work: Work,
    back: Option<(Index, u32, bool)>,
}

pub(crate) fn plans() -> impl Strategy<Value = Plan> {
    let later = prop::option::weighted(0.2, 1u64..40);
    (plans_of(6, 2), later, prop::bool::weighted(0.15)).prop_map(|(plan, later, steps)| Plan {
        later,
        steps,
        ..plan.named("model")
    })
}

/// Of so many tasks, with sub-workflows so deep.
fn plans_of(tasks: usize, depth: usize) -> BoxedStrategy<Plan> {
    let tasks = prop::collection::vec(drawn(depth), 1..=tasks);
    let timeout = prop::option::weighted(0.15, 5u64..60);
    let plans = (tasks, timeout).prop_map(|(drawn, global_timeout)| {
        let mut plan = Plan {
            name: String::new(),
            tasks: Vec::new(),
            global_timeout,
            later: None,
            steps: false,
        };
        for one in drawn {
            add(&mut plan, one);
        }
        plan
    });
    plans.boxed()
}

fn add(plan: &mut Plan, drawn: Drawn) {
    let index = plan.tasks.len();
    let mut needs: Vec<usize> = match &drawn.needs {
        _ if index == 0 => Vec::new(),
        None => vec![index - 1],
        Some(needs) => needs.iter().map(|need| need.index(index)).collect(),
    };
    needs.sort_unstable();
    needs.dedup();
    plan.tasks.push(Step {
        needs,
        when: When::Plain,
        recovers: Vec::new(),
        each: drawn.each,
        again: drawn.again,
        approve: drawn.approve.map(|timeout| Ask { timeout }),
        timeout: drawn.timeout,
        work: drawn.work,
        back: None,
    });
    let before = plan.before(index);
    let each = plan.tasks[index].each.as_ref();
    let has_numbers = each.is_some_and(|each| each.answers.is_none());
    plan.tasks[index].when = match drawn.when {
        0 => When::Success,
        1 => When::Failure,
        2 | 3 => When::Always,
        4 => When::Never,
        5 => When::PlainFalse,
        6 | 7 if !before.is_empty() => When::IfFailed(before[drawn.whose.index(before.len())]),
        8 | 9 if has_numbers => When::OddItems,
        10 => When::Broken,
        11 | 12 => When::FirstRound,
        _ => When::Plain,
    };
    if drawn.recovers {
        plan.tasks[index].recovers = before;
    }
    if let Some((to, max, always)) = drawn.back {
        let to = to.index(index + 1);
        if plan.can_go_back(index, to) {
            // What recovers, goes back and recovers in one moment shows others a failure or none by who looks first.
            if !matches!(
                plan.tasks[index].work,
                Work::Actions(..) | Work::Workflow { .. } | Work::Wait(_)
            ) {
                plan.tasks[index].recovers.clear();
            }
            plan.tasks[index].back = Some(Back { to, max, always });
        }
    }
    // A task behind must not make a branch out of the middle of a loop.
    let broken = plan.tasks.iter().enumerate().any(|(from, step)| {
        step.back
            .as_ref()
            .is_some_and(|back| !plan.can_go_back(from, back.to))
    });
    if broken {
        plan.tasks[index].needs = vec![index - 1];
        let before = plan.before(index);
        let step = &mut plan.tasks[index];
        step.recovers.retain(|task| before.contains(task));
        if matches!(step.when, When::IfFailed(task) if !before.contains(&task)) {
            step.when = When::Plain;
        }
        step.back = None;
        let still = (0..index).any(|from| {
            let back = plan.tasks[from].back.clone();
            back.is_some_and(|back| !plan.can_go_back(from, back.to))
        });
        if still {
            for step in &mut plan.tasks {
                step.back = None;
            }
        }
    }
}

fn drawn(depth: usize) -> impl Strategy<Value = Drawn> {
    let needs = prop::option::weighted(0.6, prop::collection::vec(any::<Index>(), 0..=2));
    let each = prop::option::weighted(0.25, each());
    let back = prop::option::weighted(0.15, (any::<Index>(), 1u32..=2, any::<bool>()));
    let approve = prop::option::weighted(0.15, prop::option::weighted(0.5, 3u64..20));
    (
        needs,
        0u8..24,
        any::<Index>(),
        prop::bool::weighted(0.15),
        each,
        prop::option::weighted(0.15, again()),
        (approve, prop::option::weighted(0.15, 1u64..12)),
        work(depth),
        back,
    )
        .prop_map(
            |(needs, when, whose, recovers, each, again, (approve, timeout), work, back)| Drawn {
                needs,
                when,
                whose,
                recovers,
                each: each
                    .filter(|_| !matches!(work, Work::Succeed | Work::Fail | Work::Set))
                    .map(|each| Each {
                        answers: each.answers.filter(|_| matches!(work, Work::Actions(..))),
                        ..each
                    }),
                again: again.filter(|_| matches!(work, Work::Actions(..) | Work::Workflow { .. })),
                // What ends the workflow does not go back.
                back: back.filter(|_| !matches!(work, Work::Succeed | Work::Fail)),
                approve,
                timeout: timeout
                    .filter(|_| matches!(work, Work::Actions(..) | Work::Workflow { .. } | Work::Wait(_))),
                work,
            },
        )
}

fn each() -> impl Strategy<Value = Each> {
    let waves = select(vec![vec![], vec![], vec![1], vec![1, 3], vec![2]]);
    let budget = prop::option::of(prop_oneof![
        (0u32..3).prop_map(Budget::Count),
        select(vec![0, 34, 50, 100]).prop_map(Budget::Percent),
    ]);
    let answer = prop::sample::subsequence((0..MACHINES).collect::<Vec<_>>(), 0..=MACHINES);
    let answers = prop::option::weighted(0.4, prop::collection::vec(answer, 1..=2));
    (0usize..5, 0usize..3, waves, budget, answers).prop_map(
        |(items, parallel, mut waves, budget, answers)| {
            // The last one is all of them.
            if !waves.is_empty() {
                // Of a list that is asked for nobody knows how long it will be.
                if answers.is_none() {
                    waves.retain(|wave| *wave < items);
                    waves.extend((items > 0).then_some(items));
                }
            }
            Each {
                items,
                parallel,
                waves,
                budget,
                answers,
            }
        },
    )
}

fn again() -> impl Strategy<Value = Again> {
    let on = select(vec![
        vec![],
        vec![],
        vec!["failed"],
        vec!["timeout", "lost"],
        vec!["Special"],
        vec!["lost", "Special"],
        vec!["Workflow"],
        vec!["Cancelled", "timeout"],
    ]);
    (1u32..=3, 0u64..4, any::<bool>(), 0u64..5, on).prop_map(|(attempts, delay, doubles, longest, on)| {
        Again {
            attempts,
            delay,
            doubles,
            longest,
            on,
        }
    })
}

fn work(depth: usize) -> BoxedStrategy<Work> {
    if depth == 0 {
        return plain_work().boxed();
    }
    let hollow = prop::option::weighted(0.15, 1u32..=3);
    let subs = (plans_of(3, depth - 1), 0u64..9, hollow).prop_map(|(plan, given, hollow)| Work::Workflow {
        plan: Box::new(plan),
        given,
        hollow,
    });
    prop_oneof![4 => plain_work(), 1 => subs].boxed()
}

fn plain_work() -> impl Strategy<Value = Work> {
    prop_oneof![
        12 => (0..MACHINES, prop::collection::vec(doing(), 1..=2))
            .prop_map(|(machine, doings)| Work::Actions(machine, doings)),
        1 => (1u64..8).prop_map(Work::Wait),
        2 => Just(Work::Set),
        1 => Just(Work::Nothing),
        1 => prop_oneof![Just(Work::Succeed), Just(Work::Fail)],
    ]
}

fn doing() -> impl Strategy<Value = Doing> {
    (
        prop::option::weighted(0.25, again()),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.15),
    )
        .prop_map(|(again, on_failure, on_timeout, reboots)| Doing {
            again,
            on_failure,
            on_timeout,
            reboots,
        })
}
