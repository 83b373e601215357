//! Lets something happen, to the model and to the engine.

use workflow::engine::{Command, Outcome as Said};

use crate::Both;
use crate::choices::Choice;
use crate::driver::Boot;
use crate::model::Outcome;

impl Both {
    pub(crate) fn play(&mut self, choice: Choice) {
        self.history.push(choice);
        match choice {
            Choice::Advance => {
                let due = self.family.next_due().expect("something is due");
                self.advance(due.max(self.driver.now / 1000));
            }
            Choice::Answer(of, task) => {
                let machines = self.family.models[of].answer_for(task);
                let name = self.name(of);
                self.driver.answer(&name, task, Some(&machines));
                self.family.models[of].told_machines(task, Some(machines));
            }
            Choice::NoAnswer(of, task) => {
                let name = self.name(of);
                self.driver.answer(&name, task, None);
                self.family.models[of].told_machines(task, None);
            }
            Choice::Approve(of, task, item) => self.decide(of, task, item, true),
            Choice::Reject(of, task, item) => self.decide(of, task, item, false),
            Choice::Boot(machine) => self.boot(machine),
            Choice::Begin(of) => self.start(of, None),
            Choice::Move(of, seconds) => self.start(of, Some(self.driver.now / 1000 + seconds)),
            Choice::Cancel(of) => {
                let reason = "enough".to_owned();
                self.tell(
                    of,
                    &Command::Cancel {
                        by: String::new(),
                        reason,
                    },
                );
                self.family.models[of].cancelled();
            }
            Choice::CannotStart(from) => {
                let way = self.driver.cannot_start(from);
                self.family.cannot_start(&way);
            }
            Choice::Carry(from) => {
                if let Some(way) = self.driver.carry(from) {
                    self.family.carry(&way);
                }
            }
            Choice::HandOut(machine) => {
                let Some(attempt) = self.driver.hand_out(machine) else {
                    return self.compare();
                };
                let (task, item) = (attempt.execution.task, attempt.execution.item);
                let name = self.driver.name_of(&attempt.workflow);
                let of = self.family.named(name).expect("a workflow of the family");
                let model = &mut self.family.models[of];
                assert_eq!(attempt.action, model.tasks[task].items[item].action);
                model.handed_out(task, item);
            }
            Choice::Label(of, key, value) => {
                let value = value.map(str::to_owned);
                let label = Command::Label {
                    set: value
                        .iter()
                        .map(|value| (key.to_owned(), value.clone()))
                        .collect(),
                    remove: value.is_none().then(|| key.to_owned()).into_iter().collect(),
                    by: "somebody".into(),
                };
                self.tell(of, &label);
                self.family.models[of].labelled(key, value.as_deref());
            }
            Choice::Hold(of, task, item) => {
                let pause = Command::PauseOne {
                    task: format!("t{task}"),
                    item,
                    by: "somebody".into(),
                    reason: String::new(),
                };
                self.tell(of, &pause);
                self.family.models[of].held(task, item);
            }
            Choice::LetGo(of, task, item) => {
                let resume = Command::UnpauseOne {
                    task: format!("t{task}"),
                    item,
                    by: "somebody".into(),
                };
                self.tell(of, &resume);
                self.family.models[of].let_go(task, item);
            }
            Choice::Late(at) => {
                let attempt = self.driver.lost[at].clone();
                let name = self.driver.name_of(&attempt.workflow).to_owned();
                let outcome = said(Outcome::Succeeded);
                self.changes_nothing(&name, &Command::Report { attempt, outcome });
            }
            Choice::LateEnd(at) => {
                let (name, command) = self.driver.ends[at].clone();
                self.changes_nothing(&name, &command);
            }
            Choice::Leave(machine) => self.leave(machine),
            Choice::Pass => self.advance(self.driver.now / 1000 + 1),
            Choice::Pause(of) => {
                let (by, reason) = ("somebody".to_owned(), String::new());
                self.tell(of, &Command::Pause { by, reason });
                self.family.models[of].paused();
            }
            Choice::RetryOne(of, task, item) => {
                let retry = Command::RetryOne {
                    task: format!("t{task}"),
                    item,
                    by: "somebody".into(),
                };
                self.tell(of, &retry);
                self.family.models[of].retried_one(task, item);
            }
            Choice::Policy(of, steps) => {
                let policy = steps.then(|| "step".parse().expect("a rule"));
                let (policy, by) = (policy.into_iter().collect(), "somebody".to_owned());
                self.tell(of, &Command::SetPolicy { policy, by });
                self.family.models[of].steps_are(steps);
            }
            Choice::Report(machine, outcome) => {
                let (of, task, item) = self.on(machine).expect("something runs");
                self.driver.report(machine, said(outcome));
                self.family.models[of].ended(task, item, outcome);
            }
            Choice::Retry => unreachable!("a run is opened when it is over"),
            Choice::Silence(machine) => {
                let (of, task, item) = self.on(machine).expect("something runs");
                self.driver.silent(machine);
                self.family.models[of].ended(task, item, Outcome::Lost);
            }
            Choice::Skip(of, task, item) => {
                let skip = Command::Skip {
                    task: format!("t{task}"),
                    item,
                    by: "somebody".into(),
                    reason: String::new(),
                };
                self.tell(of, &skip);
                self.family.models[of].skipped(task, item);
            }
            Choice::Start(machine) => self.driver.report(machine, Said::Started),
            Choice::Unpause(of) => {
                let by = "somebody".to_owned();
                self.tell(of, &Command::Unpause { by });
                self.family.models[of].unpaused();
            }
        }
        self.family.collect();
        self.compare();
    }

    fn start(&mut self, of: usize, second: Option<u64>) {
        let at = second.map(|second| second * 1000);
        let by = "somebody".to_owned();
        self.tell(of, &Command::Start { at, by });
        self.family.models[of].moved(second);
    }

    fn name(&self, of: usize) -> String {
        self.family.models[of].name.clone()
    }

    fn tell(&mut self, of: usize, command: &Command) {
        let name = self.name(of);
        if let Err(refusal) = self.driver.tell(&name, command) {
            panic!("{refusal} {}", self.told());
        }
    }

    fn advance(&mut self, to: u64) {
        self.driver.now = to * 1000;
        for of in 0..self.family.models.len() {
            let is_due = self.family.models[of].next_due().is_some_and(|due| due <= to);
            if is_due {
                self.tell(of, &Command::Timer);
                self.family.models[of].time_is(to);
            } else {
                self.family.models[of].now = to;
            }
        }
    }

    fn decide(&mut self, of: usize, task: usize, item: usize, approved: bool) {
        let has_list = self.family.models[of].plan.tasks[task].each.is_some();
        let decide = Command::Decide {
            task: format!("t{task}"),
            item: has_list.then_some(item),
            approved,
            by: "somebody".into(),
            groups: Vec::new(),
            comment: String::new(),
        };
        self.tell(of, &decide);
        self.family.models[of].decided(task, item, approved);
    }

    fn boot(&mut self, machine: usize) {
        let here = self.on(machine);
        match (self.driver.boot(machine), here) {
            (Some(Boot::Lost), Some((of, task, item))) => {
                self.family.models[of].ended(task, item, Outcome::Lost);
            }
            (Some(Boot::Returned), Some((of, task, item))) => {
                self.family.models[of].ended(task, item, Outcome::Succeeded);
            }
            // It came back after the workflow had given up waiting for that.
            (Some(Boot::Returned) | None, None) => {}
            (boot, here) => panic!("{boot:?} with {here:?}: {}", self.told()),
        }
    }

    fn leave(&mut self, machine: usize) {
        let (of, task, item) = self.on(machine).expect("something runs");
        let attempt = self.driver.current(machine).expect("something runs");
        let how = "reboot".into();
        let is_awaited = self.family.models[of].needs_back(task, item, machine);
        self.driver.report(machine, Said::Leaving { how });
        let is_done = self.driver.is_done(&attempt);
        assert_ne!(is_done, is_awaited, "done with leaving {}", self.told());
        self.family.models[of].left(task, item, is_done);
    }

    /// What comes late is recorded at most.
    fn changes_nothing(&mut self, name: &str, command: &Command) {
        let before = self.driver.workflows[name].state.clone();
        // The workflow may have ended meanwhile, and refuse it.
        let _ = self.driver.tell(name, command);
        let mut after = self.driver.workflows[name].state.clone();
        after.head.last_event = before.head.last_event;
        after.head.last_at = before.head.last_at;
        after.head.last_tick = before.head.last_tick;
        assert_eq!(before, after, "{command:?} changes nothing {}", self.told());
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
        Outcome::Lost | Outcome::SubCancelled | Outcome::SubFailed => panic!("no machine reports that"),
    }
}
