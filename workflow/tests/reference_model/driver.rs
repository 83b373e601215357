//! The engine with the machines around it: what a server does with decisions.

use std::collections::BTreeMap;

use workflow::engine::machine::Attached;
use workflow::engine::{
    ActionState, AttemptId, Cleanup, Command, Creation, Decision, Effect, Event, ExecutionId, Loss, Machine,
    Outcome, Refusal, StepState, Workflow, decide, next_due, replay,
};

use super::plan::{MACHINES, Plan, machine_name};

pub(crate) struct Driver {
    pub(crate) workflow: Workflow,
    pub(crate) events: Vec<Event>,
    pub(crate) machines: BTreeMap<String, Machine>,
    /// Milliseconds.
    pub(crate) now: u64,
    boots: u32,
    /// Tasks that asked for machines, with what they asked.
    pub(crate) asking: BTreeMap<usize, (u32, String)>,
    /// Attempts that were lost: a report of them is late.
    pub(crate) lost: Vec<AttemptId>,
}

impl Driver {
    pub(crate) fn new(plan: &Plan) -> Driver {
        let creation = Creation {
            id: "w".into(),
            namespace: "default".into(),
            name: "model".into(),
            template: "model".into(),
            definition: plan.definition(),
            ..Creation::default()
        };
        let decision = decide(None, &Command::Create(Box::new(creation)), 0).expect("a new workflow");
        let mut driver = Driver {
            workflow: decision.workflow.clone(),
            events: Vec::new(),
            machines: BTreeMap::new(),
            now: 0,
            boots: 0,
            asking: BTreeMap::new(),
            lost: Vec::new(),
        };
        for machine in 0..MACHINES {
            driver.machines.insert(machine_name(machine), Machine::default());
            driver.boot(machine);
        }
        driver.take(decision);
        driver
    }

    /// Gives the command to the engine, and lets it go on until it has nothing to do now.
    pub(crate) fn tell(&mut self, command: &Command) -> Result<(), Refusal> {
        let decision = decide(Some(&self.workflow), command, self.now)?;
        self.take(decision);
        Ok(())
    }

    fn take(&mut self, mut decision: Decision) {
        for _ in 0..10_000 {
            self.events.extend(decision.events);
            self.workflow = decision.workflow;
            for effect in decision.effects {
                self.carry(effect);
            }
            let next = if decision.more {
                Command::Continue
            } else if next_due(&self.workflow).is_some_and(|due| due <= self.now) {
                Command::Timer
            } else {
                return;
            };
            decision = decide(Some(&self.workflow), &next, self.now).expect("it goes on");
        }
        panic!("the engine goes on without end");
    }

    fn carry(&mut self, effect: Effect) {
        match effect {
            Effect::Claim { worker, root } => self.machine(&worker).claim(&root),
            Effect::Release { worker, root } => self.machine(&worker).release(&root),
            Effect::ReleaseMany { workers, root } => {
                for worker in workers {
                    self.machine(&worker).release(&root);
                }
            }
            Effect::Want {
                worker,
                root,
                workflow,
                execution,
            } => self.machine(&worker).want(&root, &workflow, execution),
            Effect::Unwant {
                worker,
                workflow,
                execution,
            } => self.machine(&worker).unwant(&workflow, execution),
            Effect::Stop {
                worker,
                attempt,
                reason,
            } => {
                self.machine(&worker).stop(&attempt, &reason);
            }
            Effect::Ask {
                task,
                instance,
                selector,
                ..
            } => drop(self.asking.insert(task, (instance, selector))),
            other => panic!("no plan leads to {other:?}"),
        }
    }

    /// Answers a task that asked for machines; None: the selector has no value for one.
    pub(crate) fn answer(&mut self, task: usize, machines: Option<&[usize]>) {
        let (instance, selector) = self.asking.remove(&task).expect("it asked");
        let facts = |&machine: &usize| {
            let mac = machine_name(machine);
            (
                mac.clone(),
                serde_json::json!({"mac": mac, "name": format!("n{machine}")}),
            )
        };
        let command = match machines {
            Some(machines) => Command::Answer {
                task,
                instance,
                selector,
                machines: machines.iter().map(facts).collect(),
            },
            None => Command::NoAnswer {
                task,
                instance,
                selector,
                machine: "n0".into(),
                why: "it has no such label".into(),
            },
        };
        self.tell(&command).expect("an answer is taken");
    }

    pub(crate) fn machine(&mut self, worker: &str) -> &mut Machine {
        self.machines
            .get_mut(worker)
            .unwrap_or_else(|| panic!("{worker} is no machine of the plan"))
    }

    /// What the machine would be handed next.
    pub(crate) fn next_for(&self, machine: usize) -> Option<ExecutionId> {
        self.machines[&machine_name(machine)]
            .next()
            .map(|want| want.execution)
    }

    pub(crate) fn current(&self, machine: usize) -> Option<AttemptId> {
        let current = self.machines[&machine_name(machine)].current.as_ref()?;
        (!current.lost).then(|| current.attempt.clone())
    }

    pub(crate) fn is_asked_to_stop(&self, machine: usize) -> bool {
        let current = self.machines[&machine_name(machine)].current.as_ref();
        current.is_some_and(|current| current.stop.is_some())
    }

    /// It gets nothing before it has booted: something may still run there, or it has left for good with what it ran.
    pub(crate) fn is_fenced(&self, machine: usize) -> bool {
        let machine = &self.machines[&machine_name(machine)];
        let is_lost = machine.current.as_ref().is_some_and(|current| current.lost);
        is_lost || machine.leaving
    }

    pub(crate) fn hand_out(&mut self, machine: usize) -> AttemptId {
        let worker = machine_name(machine);
        let execution = self.next_for(machine).expect("something is ready");
        let (boot_id, epoch) = (self.machine(&worker).boot_id.clone(), self.machine(&worker).epoch);
        self.tell(&Command::Dispatch {
            execution,
            worker: worker.clone(),
            boot_id,
            epoch,
        })
        .expect("what a machine is to be handed can be handed out");
        let dispatched = self.events.iter().rev().find_map(|event| match &event.kind {
            workflow::engine::EventKind::Dispatched { attempt, .. } => Some(attempt.clone()),
            _ => None,
        });
        let attempt = dispatched.expect("it was handed out");
        self.machine(&worker).dispatched("w", attempt.clone());
        attempt
    }

    pub(crate) fn report(&mut self, machine: usize, outcome: Outcome) {
        let worker = machine_name(machine);
        let attempt = self.current(machine).expect("it runs something");
        match &outcome {
            Outcome::Started => {}
            Outcome::Leaving { .. } => return self.leave(&worker, attempt, outcome),
            _ => self.machine(&worker).ended(&attempt),
        }
        self.tell(&Command::Report { attempt, outcome })
            .expect("a report is taken");
    }

    /// Whether that was enough is the workflow's to say. As the server does it: the machine leaves, whatever comes of that.
    fn leave(&mut self, worker: &str, attempt: AttemptId, outcome: Outcome) {
        let attempt_left = attempt.clone();
        self.machine(worker).left(&attempt_left, false);
        self.tell(&Command::Report { attempt, outcome })
            .expect("a report is taken");
        if !self.action(&attempt_left).is_under_way() {
            self.machine(worker).left(&attempt_left, true);
        }
    }

    /// Whether the action of an attempt has succeeded, or had its extra run.
    pub(crate) fn is_done(&self, attempt: &AttemptId) -> bool {
        let action = self.action(attempt);
        action.state == StepState::Success || action.cleanup == Some(Cleanup::Done)
    }

    fn action(&self, attempt: &AttemptId) -> &ActionState {
        let execution = self.workflow.execution(attempt.execution);
        &execution.expect("it was handed out").actions[attempt.action]
    }

    /// The machine boots. Gives whether that ended what ran on it.
    pub(crate) fn boot(&mut self, machine: usize) -> Option<Boot> {
        self.boots += 1;
        let boot_id = format!("boot-{}", self.boots);
        let worker = machine_name(machine);
        match self.machine(&worker).attach(&boot_id) {
            Attached::Unchanged | Attached::FenceDown => None,
            Attached::Returned(attempt) => {
                self.tell(&Command::Returned { attempt, boot_id })
                    .expect("a return is taken");
                Some(Boot::Returned)
            }
            Attached::OtherBoot(attempt) => {
                self.lost.push(attempt.clone());
                let why = Loss::OtherBoot { boot_id };
                self.tell(&Command::Lost { attempt, why })
                    .expect("a loss is taken");
                Some(Boot::Lost)
            }
        }
    }

    /// Out of contact for too long.
    pub(crate) fn silent(&mut self, machine: usize) {
        let worker = machine_name(machine);
        let attempt = self.current(machine).expect("it runs something");
        self.machine(&worker).lost(&attempt);
        self.lost.push(attempt.clone());
        let why = Loss::Silence { for_ms: 300_000 };
        self.tell(&Command::Lost { attempt, why })
            .expect("a loss is taken");
    }

    /// Folding the events gives the state.
    pub(crate) fn check_replay(&self) {
        let replayed = replay(&self.events).expect("events replay");
        assert_eq!(replayed, self.workflow, "replaying the events gives the state");
    }
}

/// What a boot meant for what ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boot {
    Lost,
    Returned,
}
