//! The engine with the machines around it: what a server does with decisions.

use std::collections::{BTreeMap, VecDeque};

use workflow::engine::machine::Attached;
use workflow::engine::{
    ActionState, AttemptId, Cleanup, Command, Creation, Decision, Effect, Event, EventKind, ExecutionId,
    Loss, Machine, Outcome, Refusal, StepState, Workflow, decide, next_due, replay,
};

use crate::model::ROOT;
use crate::plan::{MACHINES, Plan, machine_name};

pub(crate) struct Driver {
    pub(crate) templates: BTreeMap<String, Plan>,
    /// By the names that the model gives them.
    pub(crate) workflows: BTreeMap<String, One>,
    pub(crate) machines: BTreeMap<String, Machine>,
    /// Effects that are under way, with whom they are for: by sender, in their order.
    pub(crate) outbox: BTreeMap<String, VecDeque<(String, Effect)>>,
    /// Which effects on machines come late; 0: none.
    pub(crate) late: u32,
    pub(crate) turns: u32,
    /// The names of sub-workflows, by their ids; and how many each item has had.
    pub(crate) names: BTreeMap<String, String>,
    pub(crate) born: BTreeMap<(String, usize, usize), u32>,
    /// Milliseconds.
    pub(crate) now: u64,
    boots: u32,
    /// Ends of sub-workflows that were taken, and by whom: another one is late.
    pub(crate) ends: Vec<(String, Command)>,
    /// Attempts that were lost: a report of them is late.
    pub(crate) lost: Vec<AttemptId>,
}

/// A workflow.
pub(crate) struct One {
    pub(crate) state: Workflow,
    pub(crate) events: Vec<Event>,
    /// Tasks that asked for machines, with what they asked.
    pub(crate) asking: BTreeMap<usize, (u32, String)>,
}

impl Driver {
    pub(crate) fn new(plan: &Plan, late: u32) -> Driver {
        let creation = Creation {
            id: ROOT.into(),
            namespace: "default".into(),
            name: "model".into(),
            template: plan.name.clone(),
            definition: plan.definition(),
            start_at: plan.later.map(|second| second * 1000),
            inputs: [("given".to_owned(), 0.into())].into_iter().collect(),
            ..Creation::default()
        };
        let mut driver = Driver {
            templates: plan.templates(),
            workflows: BTreeMap::new(),
            machines: BTreeMap::new(),
            outbox: BTreeMap::new(),
            late,
            turns: 0,
            names: BTreeMap::from([(ROOT.to_owned(), ROOT.to_owned())]),
            born: BTreeMap::new(),
            now: 0,
            boots: 0,
            ends: Vec::new(),
            lost: Vec::new(),
        };
        for machine in 0..MACHINES {
            driver.machines.insert(machine_name(machine), Machine::default());
            driver.boot(machine);
        }
        driver.create(ROOT, creation);
        driver
    }

    pub(crate) fn create(&mut self, name: &str, creation: Creation) {
        let create = Command::Create(Box::new(creation));
        let decision = decide(None, &create, self.now).expect("a new workflow");
        let one = One {
            state: decision.workflow.clone(),
            events: Vec::new(),
            asking: BTreeMap::new(),
        };
        self.workflows.insert(name.to_owned(), one);
        self.take(name, decision);
    }

    /// Gives the command to the engine, and lets it go on until it has nothing to do now.
    pub(crate) fn tell(&mut self, name: &str, command: &Command) -> Result<(), Refusal> {
        let state = self.workflows.get(name).map(|one| &one.state);
        let decision = decide(state, command, self.now)?;
        self.take(name, decision);
        Ok(())
    }

    fn take(&mut self, name: &str, mut decision: Decision) {
        for _ in 0..10_000 {
            let one = self.workflows.get_mut(name).expect("there is such a workflow");
            one.events.extend(decision.events);
            one.state = decision.workflow;
            for effect in decision.effects {
                self.take_effect(name, effect);
            }
            let state = &self.workflows[name].state;
            let next = if decision.more {
                Command::Continue
            } else if next_due(state).is_some_and(|due| due <= self.now) {
                Command::Timer
            } else {
                return;
            };
            decision = decide(Some(state), &next, self.now).expect("it goes on");
        }
        panic!("the engine goes on without end");
    }

    /// Answers a task that asked for machines; None: the selector has no value for one.
    pub(crate) fn answer(&mut self, name: &str, task: usize, machines: Option<&[usize]>) {
        let one = self.workflows.get_mut(name).expect("it asked");
        let (instance, selector) = one.asking.remove(&task).expect("it asked");
        let facts = |&machine: &usize| {
            let mac = machine_name(machine);
            (
                mac.clone(),
                serde_json::json!({"mac": mac, "name": format!("n{machine}")}),
            )
        };
        let command = match machines {
            Some(machines) => Command::Answer {
                unknown: vec![],
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
        self.tell(name, &command).expect("an answer is taken");
    }

    pub(crate) fn machine(&mut self, worker: &str) -> &mut Machine {
        self.machines
            .get_mut(worker)
            .unwrap_or_else(|| panic!("{worker} is no machine of the plan"))
    }

    /// What the machine would be handed next.
    pub(crate) fn next_for(&self, machine: usize) -> Option<(String, ExecutionId)> {
        let want = self.machines[&machine_name(machine)].next()?;
        Some((self.name_of(&want.workflow).to_owned(), want.execution))
    }

    /// What the model calls a workflow.
    pub(crate) fn name_of(&self, id: &str) -> &str {
        &self.names[id]
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

    /// None: what was ready for it is not any more, and it had not been told.
    pub(crate) fn hand_out(&mut self, machine: usize) -> Option<AttemptId> {
        let worker = machine_name(machine);
        while let Some((name, execution)) = self.next_for(machine) {
            let (boot_id, epoch) = (self.machine(&worker).boot_id.clone(), self.machine(&worker).epoch);
            let dispatch = Command::Dispatch {
                execution,
                worker: worker.clone(),
                boot_id,
                epoch,
            };
            if let Err(refusal) = self.tell(&name, &dispatch) {
                assert!(self.late > 0, "{refusal}");
                let id = self.workflows[&name].state.head.id.clone();
                self.machine(&worker).unwant(&id, execution);
                continue;
            }
            let events = self.workflows[&name].events.iter().rev();
            let attempt = events.into_iter().find_map(|event| match &event.kind {
                EventKind::Dispatched { attempt, .. } => Some(attempt.clone()),
                _ => None,
            });
            let attempt = attempt.expect("it was handed out");
            self.machine(&worker).dispatched(ROOT, attempt.clone());
            return Some(attempt);
        }
        None
    }

    pub(crate) fn report(&mut self, machine: usize, outcome: Outcome) {
        let worker = machine_name(machine);
        let attempt = self.current(machine).expect("it runs something");
        match &outcome {
            Outcome::Started => {}
            Outcome::Leaving { .. } => return self.leave(&worker, attempt, outcome),
            _ => self.machine(&worker).ended(&attempt),
        }
        self.tell_its(&Command::Report { attempt, outcome });
    }

    /// What is said of an attempt is said to its workflow.
    fn tell_its(&mut self, command: &Command) {
        let attempt = command.attempt().expect("it is about an attempt");
        let name = self.name_of(&attempt.workflow).to_owned();
        self.tell(&name, command).expect("what a machine says is taken");
    }

    /// Whether that was enough is the workflow's to say. As the server does it: the machine leaves, whatever comes of that.
    fn leave(&mut self, worker: &str, attempt: AttemptId, outcome: Outcome) {
        let attempt_left = attempt.clone();
        self.machine(worker).left(&attempt_left, false);
        self.tell_its(&Command::Report { attempt, outcome });
        if !self.action(&attempt_left).is_under_way() {
            self.machine(worker).left(&attempt_left, true);
        }
    }

    /// Whether the action of an attempt has succeeded, or had its extra run.
    pub(crate) fn is_done(&self, attempt: &AttemptId) -> bool {
        let action = self.action(attempt);
        action.state == StepState::Success || action.cleanup == Some(Cleanup::Done)
    }

    pub(crate) fn action(&self, attempt: &AttemptId) -> &ActionState {
        let workflow = &self.workflows[self.name_of(&attempt.workflow)].state;
        let execution = workflow.execution(attempt.execution);
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
                self.tell_its(&Command::Returned { attempt, boot_id });
                Some(Boot::Returned)
            }
            Attached::OtherBoot(attempt) => {
                self.lost.push(attempt.clone());
                let why = Loss::OtherBoot { boot_id };
                self.tell_its(&Command::Lost { attempt, why });
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
        self.tell_its(&Command::Lost { attempt, why });
    }

    /// Folding the events gives the state.
    pub(crate) fn check_replay(&self) {
        for one in self.workflows.values() {
            let replayed = replay(&one.events).expect("events replay");
            assert_eq!(replayed, one.state, "replaying the events gives the state");
        }
    }
}

/// What a boot meant for what ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boot {
    Lost,
    Returned,
}
