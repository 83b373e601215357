//! The engine against a model of the language's meaning that was written from its description alone and shares nothing
//! with it: random definitions, and random things that happen to them. After each the two have to agree on what is ready
//! for which machine, what is under way, who is asked, what is due when, how tasks and the workflow ended, and how often
//! each action was handed out. Tasks ask for machines and are answered or not; what did not succeed is retried by a person.

mod driver;
mod model;
mod plan;
mod random;

use std::collections::BTreeMap;

use proptest::prelude::*;
use workflow::engine::{AttemptId, Command, Outcome as Said, StepState, Waiting, WorkflowState, next_due};

use driver::{Boot, Driver};
use model::{At, End, Flow, Model, Outcome};
use plan::{MACHINES, Plan, Work};

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_means_what_the_model_means(
        plan in random::plans(),
        script in prop::collection::vec(any::<u32>(), 0..120),
        then in prop::collection::vec(prop::collection::vec(any::<u32>(), 0..40), 0..3),
    ) {
        run(&plan, &script, &then);
    }
}

/// `PROPTEST_CASES`, or enough for every day.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(1000)
}

/// Plays a script, and then whatever comes first until the workflow is over; and where that did not succeed, a person has
/// it done again, with the next script.
fn run(plan: &Plan, script: &[u32], then: &[Vec<u32>]) {
    let mut both = Both {
        model: Model::new(plan),
        driver: Driver::new(plan),
        is_paused: false,
        history: Vec::new(),
    };
    both.compare();
    both.play_to_the_end(script);
    for script in then {
        if both.model.flow == Flow::Over(End::Success) {
            break;
        }
        let by = "somebody".to_owned();
        both.driver
            .tell(&Command::Retry { by })
            .expect("it is tried again");
        both.model.retried();
        both.is_paused = false;
        both.history.push(Choice::Retry);
        both.compare();
        both.play_to_the_end(script);
    }
}

impl Both {
    fn play_to_the_end(&mut self, script: &[u32]) {
        let both = self;
        for &number in script {
            if both.model.is_over() {
                break;
            }
            let choices = both.choices(true);
            let choice = choices[number as usize % choices.len()];
            both.play(choice);
        }
        // Now everything goes well, and it has to come to an end.
        for _ in 0..2_000 {
            if both.model.is_over() {
                break;
            }
            let choices = both.choices(false);
            let Some(choice) = choices.first() else {
                panic!(
                    "it stands still after {:?}:\n{:?}",
                    both.history, both.model.tasks
                );
            };
            both.play(*choice);
        }
        assert!(both.model.is_over(), "it does not end: {:?}", both.history);
        both.compare_end();
    }
}

#[derive(Clone, Copy, Debug)]
enum Choice {
    Advance,
    Answer(usize),
    Approve(usize, usize),
    Boot(usize),
    Cancel,
    HandOut(usize),
    Late(usize),
    Leave(usize),
    NoAnswer(usize),
    Pause,
    Reject(usize, usize),
    Report(usize, Outcome),
    /// By a person.
    Retry,
    Silence(usize),
    Start(usize),
    Unpause,
}

struct Both {
    model: Model,
    driver: Driver,
    is_paused: bool,
    history: Vec<Choice>,
}

impl Both {
    /// What can happen now; the first is one that leads on.
    fn choices(&self, all: bool) -> Vec<Choice> {
        let mut choices = Vec::new();
        if self.is_paused {
            choices.push(Choice::Unpause);
        }
        for machine in 0..MACHINES {
            if let Some((task, item)) = self.on(machine) {
                let reboots = self.reboots(task, item);
                let is_left = self.model.tasks[task].items[item].at == At::Left;
                if is_left {
                    choices.push(Choice::Boot(machine));
                } else if reboots {
                    choices.extend([Choice::Leave(machine); 4]);
                } else {
                    choices.extend([Choice::Report(machine, Outcome::Succeeded); 4]);
                }
                if all && !is_left && self.is_stopped(task, item) {
                    choices.extend([Choice::Report(machine, Outcome::Stopped); 4]);
                }
                if all && !is_left {
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
            } else if self.driver.is_fenced(machine) {
                choices.push(Choice::Boot(machine));
            } else if self.model.ready().iter().any(|(of, ..)| *of == machine) {
                choices.extend([Choice::HandOut(machine); 4]);
            }
        }
        for task in self.model.wants_machines() {
            choices.push(Choice::Answer(task));
            if all {
                choices.extend([Choice::Answer(task), Choice::NoAnswer(task)]);
            }
        }
        for (task, item) in self.model.asking() {
            choices.push(Choice::Approve(task, item));
            if all {
                choices.extend([Choice::Approve(task, item), Choice::Reject(task, item)]);
            }
        }
        if self.model.next_due().is_some() {
            choices.push(Choice::Advance);
        }
        if all {
            choices.extend((0..self.driver.lost.len().min(1)).map(Choice::Late));
            if self.model.flow == Flow::Running {
                choices.extend([Choice::Pause, Choice::Cancel]);
            }
        }
        choices
    }

    /// What runs on a machine.
    fn on(&self, machine: usize) -> Option<(usize, usize)> {
        let away = self.model.away().into_iter();
        let mut here = away.filter(|(task, item)| self.model.machine(*task, *item) == Some(machine));
        here.next()
    }

    fn reboots(&self, task: usize, item: usize) -> bool {
        let item = &self.model.tasks[task].items[item];
        match &self.model.plan.tasks[task].work {
            Work::Actions(_, doings) => doings[item.action].reboots,
            _ => false,
        }
    }

    /// Whether the machine was asked to stop what it runs.
    fn is_stopped(&self, task: usize, item: usize) -> bool {
        matches!(self.model.flow, Flow::Stopping(_)) || self.model.tasks[task].items[item].timed_out
    }

    fn play(&mut self, choice: Choice) {
        self.history.push(choice);
        match choice {
            Choice::Advance => {
                let due = self.model.next_due().expect("something is due");
                let to = due.max(self.driver.now / 1000);
                self.driver.now = to * 1000;
                self.driver.tell(&Command::Timer).expect("a timer is taken");
                self.model.time_is(to);
            }
            Choice::Answer(task) => {
                let machines = self.model.answer_for(task);
                self.driver.answer(task, Some(&machines));
                self.model.told_machines(task, Some(machines));
            }
            Choice::NoAnswer(task) => {
                self.driver.answer(task, None);
                self.model.told_machines(task, None);
            }
            Choice::Approve(task, item) | Choice::Reject(task, item) => {
                let approved = matches!(choice, Choice::Approve(..));
                let has_list = self.model.plan.tasks[task].each.is_some();
                let decide = Command::Decide {
                    task: format!("t{task}"),
                    item: has_list.then_some(item),
                    approved,
                    by: "somebody".into(),
                    groups: Vec::new(),
                    comment: String::new(),
                };
                self.driver
                    .tell(&decide)
                    .unwrap_or_else(|refusal| panic!("{refusal}: {:?}", self.history));
                self.model.decided(task, item, approved);
            }
            Choice::Boot(machine) => {
                let here = self.on(machine);
                let boot = self.driver.boot(machine);
                match (boot, here) {
                    (Some(Boot::Lost), Some((task, item))) => self.model.ended(task, item, Outcome::Lost),
                    (Some(Boot::Returned), Some((task, item))) => {
                        self.model.ended(task, item, Outcome::Succeeded);
                    }
                    // It came back after the workflow had given up waiting for that.
                    (Some(Boot::Returned) | None, None) => {}
                    (boot, here) => panic!("{boot:?} with {here:?}: {:?}", self.history),
                }
            }
            Choice::Cancel => {
                let reason = "enough".to_owned();
                self.driver
                    .tell(&Command::Cancel { reason })
                    .expect("it is cancelled");
                self.model.cancelled();
            }
            Choice::HandOut(machine) => {
                let attempt = self.driver.hand_out(machine);
                let (task, item) = (attempt.execution.task, attempt.execution.item);
                assert_eq!(
                    attempt.action, self.model.tasks[task].items[item].action,
                    "{:?}",
                    self.history
                );
                self.model.handed_out(task, item);
            }
            Choice::Late(at) => {
                let attempt = self.driver.lost[at].clone();
                let before = self.driver.workflow.clone();
                let outcome = said(Outcome::Succeeded);
                // The workflow may have ended meanwhile, and refuse it.
                let _ = self.driver.tell(&Command::Report { attempt, outcome });
                let mut after = self.driver.workflow.clone();
                after.head.last_event = before.head.last_event;
                after.head.last_at = before.head.last_at;
                after.head.last_tick = before.head.last_tick;
                assert_eq!(before, after, "a late report changes nothing: {:?}", self.history);
            }
            Choice::Leave(machine) => {
                let (task, item) = self.on(machine).expect("something runs");
                let attempt = self.driver.current(machine).expect("something runs");
                let how = "reboot".into();
                self.driver.report(machine, Said::Leaving { how });
                let is_done = self.driver.is_done(&attempt);
                let is_awaited = self.model.needs_back(task, item, machine);
                assert_ne!(is_done, is_awaited, "done with leaving {}", self.told());
                self.model.left(task, item, is_done);
            }
            Choice::Pause => {
                let (by, reason) = ("somebody".to_owned(), String::new());
                self.driver
                    .tell(&Command::Pause { by, reason })
                    .expect("it is paused");
                self.model.paused();
                self.is_paused = true;
            }
            Choice::Report(machine, outcome) => {
                let (task, item) = self.on(machine).expect("something runs");
                self.driver.report(machine, said(outcome));
                self.model.ended(task, item, outcome);
            }
            Choice::Retry => unreachable!("a run is opened when it is over"),
            Choice::Silence(machine) => {
                let (task, item) = self.on(machine).expect("something runs");
                self.driver.silent(machine);
                self.model.ended(task, item, Outcome::Lost);
            }
            Choice::Start(machine) => self.driver.report(machine, Said::Started),
            Choice::Unpause => {
                let by = "somebody".to_owned();
                self.driver.tell(&Command::Unpause { by }).expect("it goes on");
                self.is_paused = false;
                self.model.unpaused();
            }
        }
        self.is_paused &= self.model.flow == Flow::Paused;
        self.compare();
    }

    fn told(&self) -> String {
        let events = self.driver.events.iter().rev().take(12).rev();
        let events: Vec<String> = events
            .map(|event| format!("  {} {}", event.kind.name(), event.kind))
            .collect();
        let events = events.join("\n");
        format!(
            "after {:?} of {:?}, where last\n{events}\n",
            self.history, self.model.plan
        )
    }

    fn compare(&self) {
        let head = &self.driver.workflow.head;
        let told = || self.told();
        match self.model.flow {
            Flow::Over(end) => {
                assert_eq!(head.state, workflow_state(end), "{} ({})", told(), head.message);
                return;
            }
            Flow::Stopping(End::Cancelled) => assert_eq!(head.state, WorkflowState::Cancelling, "{}", told()),
            Flow::Stopping(_) => assert_eq!(head.state, WorkflowState::Ending, "{}", told()),
            Flow::Paused => {
                let away = self.model.away().is_empty();
                let state = if away {
                    WorkflowState::Paused
                } else {
                    WorkflowState::Pausing
                };
                assert_eq!(head.state, state, "{}", told());
            }
            Flow::Running => {
                let running = [WorkflowState::Pending, WorkflowState::Running];
                assert!(running.contains(&head.state), "{} {}", head.state, told());
            }
        }
        let mut wanted: Vec<(usize, usize, usize)> = Vec::new();
        for machine in 0..MACHINES {
            let wants = &self.driver.machines[&plan::machine_name(machine)].wants;
            wanted.extend(
                wants
                    .iter()
                    .map(|want| (machine, want.execution.task, want.execution.item)),
            );
        }
        wanted.sort_unstable_by_key(|(_, task, item)| (*task, *item));
        assert_eq!(
            wanted,
            self.model.ready(),
            "ready for machines: engine, model {}",
            told()
        );
        for machine in 0..MACHINES {
            // A machine that has left keeps what it left with until it boots.
            let is_open = |attempt: &AttemptId| {
                let execution = self.driver.workflow.execution(attempt.execution);
                execution.is_some_and(|execution| {
                    let action = &execution.actions[attempt.action];
                    !execution.state.is_final() && action.attempts == attempt.attempt && action.is_under_way()
                })
            };
            let current = self.driver.current(machine).filter(is_open);
            let here = current.map(|attempt| (attempt.execution.task, attempt.execution.item));
            assert_eq!(
                here,
                self.on(machine),
                "on machine {machine}: engine, model {}",
                told()
            );
            if let Some((task, item)) = here
                && self.model.tasks[task].items[item].at == At::Away
            {
                assert_eq!(
                    self.driver.is_asked_to_stop(machine),
                    self.is_stopped(task, item),
                    "machine {machine} is to stop it: engine, model {}",
                    told()
                );
            }
        }
        if self.model.flow == Flow::Running {
            let due = next_due(&self.driver.workflow).map(|due| due / 1000);
            assert_eq!(due, self.model.next_due(), "due: engine, model {}", told());
            self.compare_tasks(&told);
        }
    }

    fn compare_tasks(&self, told: &dyn Fn() -> String) {
        let asking: Vec<(usize, usize)> = self
            .driver
            .workflow
            .executions
            .values()
            .filter(|execution| {
                execution.state == StepState::Waiting && execution.waiting == Some(Waiting::Approval)
            })
            .map(|execution| (execution.id.task, execution.id.item))
            .collect();
        assert_eq!(asking, self.model.asking(), "asking: engine, model {}", told());
        for (index, task) in self.model.tasks.iter().enumerate() {
            let state = self.driver.workflow.head.tasks[index].state;
            match task.end {
                Some(end) => assert_eq!(state, step_state(end), "task {index} {}", told()),
                None => assert!(!state.is_final(), "task {index} is {state} {}", told()),
            }
        }
    }

    fn compare_end(&self) {
        let told = || self.told();
        // What a stop leaves of single tasks is the engine's to say.
        if !self.model.was_stopped {
            self.compare_tasks(&told);
            let with_list = |(index, _): &(usize, &model::Task)| self.model.plan.tasks[*index].each.is_some();
            for (index, task) in self.model.tasks.iter().enumerate().filter(with_list) {
                for (item, one) in task.items.iter().enumerate() {
                    let execution = self
                        .driver
                        .workflow
                        .executions_of(index)
                        .find(|execution| execution.id.item == item);
                    let state = execution.map(|execution| execution.state);
                    assert_eq!(
                        state,
                        one.end().map(step_state),
                        "task {index} item {item} {}",
                        told()
                    );
                }
            }
        }
        let mut attempts: BTreeMap<(usize, usize, usize), u32> = BTreeMap::new();
        for execution in self.driver.workflow.executions.values() {
            for (action, state) in execution.actions.iter().enumerate() {
                if state.attempts > 0 {
                    *attempts
                        .entry((execution.id.task, execution.id.item, action))
                        .or_default() += state.attempts;
                }
            }
        }
        assert_eq!(
            attempts,
            self.model.attempts,
            "attempts: engine, model {}",
            told()
        );
        for machine in self.driver.machines.values() {
            assert!(
                machine.claims.is_empty() && machine.wants.is_empty(),
                "{machine:?} is kept {}",
                told()
            );
        }
        self.driver.check_replay();
    }
}

fn said(outcome: Outcome) -> Said {
    let failed = |reason: &str| Said::Failed {
        reason: reason.into(),
        message: "it failed".into(),
        exit_code: 1,
    };
    match outcome {
        Outcome::Failed => failed("Other"),
        Outcome::Special => failed("Special"),
        Outcome::Succeeded => Said::Succeeded {
            message: String::new(),
            bytes: 0,
            outputs: serde_json::Map::new(),
            data_version: None,
        },
        Outcome::Stopped => Said::Stopped {
            message: "SIGTERM".into(),
        },
        Outcome::TimedOut => Said::TimedOut {
            message: "too long".into(),
        },
        Outcome::Lost => panic!("nobody reports that"),
    }
}

fn workflow_state(end: End) -> WorkflowState {
    match end {
        End::Cancelled => WorkflowState::Cancelled,
        End::Failed => WorkflowState::Failed,
        End::Success => WorkflowState::Success,
        End::Timeout => WorkflowState::Timeout,
        End::Skipped => panic!("no workflow is skipped"),
    }
}

fn step_state(end: End) -> StepState {
    match end {
        End::Cancelled => StepState::Cancelled,
        End::Failed => StepState::Failed,
        End::Skipped => StepState::Skipped,
        End::Success => StepState::Success,
        End::Timeout => StepState::Timeout,
    }
}
