//! A server that does one thing after the other, and agents that say what a test wants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use coordinator::database::View;
use coordinator::namespaces::Scope;
use coordinator::{Answer, Assignment, Coordinator, Input, Limits, NewWorkflow, Next, Orders};
use store::{Commit, MemoryStore, Operation, Store};
use workflow::engine::{
    AttemptId, Command, Creation, Event, EventKind, Machine, Outcome, Refusal, Workflow, WorkflowState,
};
use workflow::language::{Devices, render};

pub(crate) struct Server {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) coordinator: Coordinator,
    pub(crate) now: u64,
    pub(crate) limits: Limits,
    /// What is to be done after the steps so far.
    pub(crate) then: VecDeque<Next>,
    pub(crate) timers: BTreeSet<(u64, String)>,
    /// Machines that there may be something for.
    pub(crate) woken: BTreeSet<String>,
    /// What agents say of attempts that did not end well.
    pub(crate) untouched: bool,
    epochs: BTreeMap<String, (String, u64, u64)>,
    made: u64,
}

pub(crate) fn limits() -> Limits {
    Limits {
        workflows: 16,
        machines: 64,
        inline_machines: 2,
        ..Limits::default()
    }
}

impl Server {
    pub(crate) fn new(limits: Limits) -> Self {
        Self::over(Arc::new(MemoryStore::default()), limits)
    }

    pub(crate) fn over(store: Arc<dyn Store>, limits: Limits) -> Self {
        Self {
            coordinator: Coordinator::new(store.clone(), limits.clone()),
            store,
            now: 1_000_000,
            limits,
            then: VecDeque::new(),
            timers: BTreeSet::new(),
            woken: BTreeSet::new(),
            untouched: false,
            epochs: BTreeMap::new(),
            made: 0,
        }
    }

    /// What is in memory is gone; what is in the store is found again.
    pub(crate) fn crash(&mut self) {
        self.coordinator = Coordinator::new(self.store.clone(), self.limits.clone());
        self.then = self
            .coordinator
            .recover()
            .expect("a store that can be read")
            .into();
        self.timers.clear();
        self.woken.clear();
    }

    /// One step; what follows from it is left.
    pub(crate) fn step(&mut self, input: Input) -> Answer {
        self.now += 1;
        let (answer, then) = self.coordinator.step(self.now, &input).expect("a step");
        self.then.extend(then);
        answer
    }

    /// Does what follows, until nothing is left but timers.
    pub(crate) fn settle(&mut self) {
        while let Some(next) = self.then.pop_front() {
            match next {
                Next::Carry(key) => drop(self.step(Input::Carry { key })),
                Next::Ask { .. } => {}
                Next::Timer { at, workflow } => drop(self.timers.insert((at, workflow))),
                Next::Wake(machine) => drop(self.woken.insert(machine)),
                Next::Changed { .. } | Next::Ended { .. } | Next::Turned { .. } => {}
            }
        }
    }

    /// Lets time pass until the next timer, and does what is due.
    pub(crate) fn next_timer(&mut self) {
        let (at, workflow) = self.timers.pop_first().expect("a timer");
        self.now = self.now.max(at);
        self.step(Input::Timer { workflow, at });
        self.settle();
    }

    /// Makes a workflow; ids sort in the order in which they are made.
    pub(crate) fn create(&mut self, text: &str) -> String {
        self.made += 1;
        let id = format!("w{}", self.made);
        let creation = creation(&id, text);
        let new = NewWorkflow {
            creation,
            extra: Commit::default(),
        };
        match self.step(Input::Create(Box::new(new))) {
            Answer::Workflow(workflow) => assert_eq!(workflow.head.id, id),
            other => panic!("not created: {other:?}"),
        }
        self.settle();
        id
    }

    pub(crate) fn command(&mut self, id: &str, command: Command) -> Result<Arc<Workflow>, Refusal> {
        let workflow = id.to_owned();
        let answer = self.step(Input::Command { workflow, command });
        self.settle();
        match answer {
            Answer::Workflow(workflow) => Ok(workflow),
            Answer::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn workflow(&self, id: &str) -> Arc<Workflow> {
        self.coordinator
            .workflow(id)
            .expect("a store that can be read")
            .unwrap_or_else(|| panic!("no workflow {id}"))
    }

    pub(crate) fn state(&self, id: &str) -> WorkflowState {
        self.workflow(id).head.state
    }

    pub(crate) fn machine(&self, machine: &str) -> Machine {
        self.coordinator
            .machine(machine)
            .expect("a store that can be read")
    }

    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let found = self
            .store
            .range(prefix.as_bytes(), &store::prefix_end(prefix.as_bytes()), 100_000)
            .expect("a store that can be read");
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        found.iter().map(|entry| text(&entry.key)).collect()
    }

    /// The names of a workflow's events, as they are in the store.
    pub(crate) fn events(&self, id: &str) -> Vec<EventKind> {
        let history = self.history(id).into_iter();
        history.map(|event| event.kind).collect()
    }

    /// A workflow's events, as they are in the store.
    pub(crate) fn history(&self, id: &str) -> Vec<Event> {
        let view = View::now(&*self.store).expect("a store that can be read");
        let events = view.list(&format!("event/{id}/")).expect("events");
        events.into_iter().map(|(_, event)| event).collect()
    }

    pub(crate) fn put(&self, key: &str, value: &serde_json::Value) {
        let operations = vec![Operation::Put {
            key: key.to_owned().into(),
            value: value.to_string().into(),
        }];
        let commit = Commit {
            operations,
            ..Commit::default()
        };
        self.store.commit(&commit).expect("a commit");
    }

    /// The store as it is now.
    pub(crate) fn view(&self) -> View {
        View::now(&*self.store).expect("a view")
    }

    pub(crate) fn template(&self, name: &str, text: &str) {
        let template = serde_json::json!({"id": name, "name": name, "text": text, "version": 1, "created_at": 0, "updated_at": 0});
        self.put(&format!("template/default/{name}"), &template);
    }
}

/// The namespace `default`, and nothing else.
pub(crate) fn home() -> Scope {
    Scope::inside("default")
}

/// Agents.
impl Server {
    pub(crate) fn attach(&mut self, machine: &str, boot_id: &str) -> Assignment {
        self.attach_knowing(machine, boot_id, &[])
    }

    /// By an agent that knows of these attempts and runs none.
    pub(crate) fn attach_knowing(
        &mut self,
        machine: &str,
        boot_id: &str,
        knows: &[&AttemptId],
    ) -> Assignment {
        let answer = self.step(Input::Attach {
            machine: machine.to_owned(),
            boot_id: boot_id.to_owned(),
            running: None,
            knows: knows.iter().map(|attempt| (*attempt).clone()).collect(),
        });
        let Answer::Machine(assignment) = answer else {
            panic!("not attached: {answer:?}")
        };
        let session = (boot_id.to_owned(), assignment.epoch, assignment.sequence);
        self.epochs.insert(machine.to_owned(), session);
        self.settle();
        assignment
    }

    /// What the machine is told now.
    pub(crate) fn orders(&mut self, machine: &str) -> Orders {
        let epoch = self.epochs.get(machine).expect("an attached machine").1;
        let machine = machine.to_owned();
        match self.step(Input::Work { machine, epoch }) {
            Answer::Machine(assignment) => {
                self.settle();
                assignment.orders
            }
            other => panic!("{other:?}"),
        }
    }

    /// The attempt that the machine has now.
    pub(crate) fn run(&mut self, machine: &str) -> AttemptId {
        match self.orders(machine) {
            Orders::Run(attempt) => attempt,
            other => panic!("machine {machine} is told {other:?}"),
        }
    }

    pub(crate) fn report(&mut self, machine: &str, attempt: &AttemptId, outcome: Outcome) -> Assignment {
        let answer = self.try_report(machine, attempt, outcome);
        let Answer::Machine(assignment) = answer else {
            panic!("{answer:?}")
        };
        assignment
    }

    pub(crate) fn try_report(&mut self, machine: &str, attempt: &AttemptId, outcome: Outcome) -> Answer {
        let (boot_id, epoch, sequence) = self.epochs.get_mut(machine).expect("an attached machine");
        *sequence += 1;
        let input = Input::Report(Box::new(coordinator::Report {
            machine: machine.to_owned(),
            boot_id: boot_id.clone(),
            epoch: *epoch,
            sequence: *sequence,
            attempt: attempt.clone(),
            outcome: Some(outcome),
            data: None,
            untouched: self.untouched,
        }));
        let answer = self.step(input);
        self.settle();
        answer
    }

    /// Runs what the machine is given, successfully, until it has nothing to do.
    pub(crate) fn work_off(&mut self, machine: &str) -> Vec<AttemptId> {
        let mut done = Vec::new();
        while let Orders::Run(attempt) = self.orders(machine) {
            self.report(machine, &attempt, succeeded());
            done.push(attempt);
        }
        done
    }
}

pub(crate) fn creation(id: &str, text: &str) -> Creation {
    let rendered = render(text, &Devices::default()).unwrap_or_else(|problems| panic!("{problems:?}"));
    let inputs = workflow::language::inputs(&rendered.definition, &serde_json::Map::new());
    Creation {
        id: id.to_owned(),
        inputs: inputs.unwrap_or_default(),
        namespace: "default".into(),
        name: rendered.definition.name.clone(),
        template: "test".into(),
        definition: rendered.definition,
        ..Creation::default()
    }
}

pub(crate) fn succeeded() -> Outcome {
    Outcome::Succeeded {
        message: String::new(),
        bytes: 0,
        outputs: serde_json::Map::new(),
        data_version: None,
    }
}
