//! People: they make workflows, meddle with them, and ask again when no answer came.

use std::collections::BTreeMap;

use bytes::Bytes;
use coordinator::namespaces::DEFAULT;
use coordinator::once::Once;
use coordinator::{Answer, Input, NewWorkflow};
use serde_json::{Map, Value, json};
use store::{Commit, Operation, Precondition};
use workflow::engine::{Command, Creation, StepState, Workflow, WorkflowState};
use workflow::language;

use super::namespaces::BLUE;
use super::{Happening, World};
use crate::definitions;

/// A request of somebody.
pub(crate) type Ticket = u64;

/// More workflows at a time than this nobody makes.
const MOST_OPEN: usize = 40;

/// With a number: the name of a person, who asks for one thing.
pub(crate) const SOMEBODY: &str = "somebody-";

#[derive(Default)]
pub(crate) struct People {
    last: Ticket,
    /// Sent, and not answered yet.
    waiting: BTreeMap<Ticket, Asked>,
    /// Nobody knows what came of them: they are sent again.
    again: Vec<Ticket>,
    /// Workflows that were asked for, and ids that were given.
    made: u64,
    ids: u64,
}

struct Asked {
    input: Input,
    workflow: String,
    what: &'static str,
    /// The event that the workflow was at when it was done, as an answer said that was lost on its way.
    done: Option<u64>,
}

impl People {
    pub(crate) fn unanswered(&mut self, ticket: Ticket) {
        self.again.push(ticket);
    }

    pub(crate) fn are_done(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Written with the workflow: a second request of the same name finds it.
fn idempotency(name: &str, id: &str) -> Commit {
    let key: Bytes = idempotency_key(name).into();
    Commit {
        preconditions: vec![Precondition::Absent { key: key.clone() }],
        operations: vec![Operation::Put {
            key,
            value: id.to_owned().into(),
        }],
    }
}

pub(super) fn idempotency_key(name: &str) -> String {
    format!("idempotency/{name}")
}

/// What the store has for sub-workflows.
pub(crate) fn templates() -> Vec<(String, Value)> {
    let row = |namespace: &str, (name, text): (&str, String)| {
        let template = json!({
            "id": name, "namespace": namespace, "name": name, "text": text, "version": 1,
            "created_at": 0, "updated_at": 0,
        });
        (format!("template/{namespace}/{name}"), template)
    };
    let of = |namespace| {
        definitions::children()
            .into_iter()
            .map(move |one| row(namespace, one))
    };
    of(DEFAULT).chain(of(BLUE)).collect()
}

impl World {
    pub(super) fn people_act(&mut self) {
        let after = 1 + self.dice.span(self.pace.people_ms);
        self.plan(after, Happening::PeopleAct);
        self.ask_again();
        if self.quiet {
            return;
        }
        let open = self.checks.open().count();
        let room = MOST_OPEN.min(2 + self.machines.len());
        match self.dice.below(10) {
            0..=3 if open < room => self.make(),
            4 if self.divided => self.move_machine(),
            _ => self.meddle(),
        }
    }

    fn ask_again(&mut self) {
        for ticket in std::mem::take(&mut self.people.again) {
            let id = self.new_id();
            let Some(asked) = self.people.waiting.get_mut(&ticket) else {
                continue;
            };
            // The server gives each request an id of its own; that it is the same one is told by its key.
            if let Input::Create(new) = &mut asked.input {
                new.creation.id.clone_from(&id);
                new.extra = idempotency(&new.creation.name, &id);
            }
            let input = asked.input.clone();
            self.say(format!("somebody asks again ({ticket})"));
            if !self.ask_server(input, ticket) {
                self.people.again.push(ticket);
            }
        }
    }

    fn ask(&mut self, input: Input, workflow: String, what: &'static str) {
        self.people.last += 1;
        let ticket = self.people.last;
        self.coverage.command(what);
        self.say(format!("somebody asks for {what} of {workflow} ({ticket})"));
        let asked = Asked {
            input: input.clone(),
            workflow,
            what,
            done: None,
        };
        self.people.waiting.insert(ticket, asked);
        if !self.ask_server(input, ticket) {
            self.people.again.push(ticket);
        }
    }

    /// An answer that somebody has seen is a promise.
    pub(super) fn answered(&mut self, ticket: Ticket, answer: Answer) {
        let Some(mut asked) = self.people.waiting.remove(&ticket) else {
            return;
        };
        let event = match &answer {
            Answer::Workflow(workflow) => Some(workflow.head.last_event),
            Answer::Before(done) => done.came.event(),
            _ => None,
        };
        if let Some(done) = asked.done
            && !matches!(&answer, Answer::Before(before) if before.came.event() == Some(done))
        {
            let Asked { what, workflow, .. } = &asked;
            return self.break_down(format!(
                "{what} of {workflow} ({ticket}), which was done at event {done}, is answered otherwise when it is asked again: \
                 {event:?}"
            ));
        }
        // The connection is lost before the answer has come.
        if event.is_some() && !self.quiet && matches!(asked.input, Input::Asked { .. }) && self.dice.one_in(6)
        {
            self.say(format!("the answer is lost ({ticket})"));
            self.coverage.fault("network: an answer is lost");
            asked.done = event;
            self.people.waiting.insert(ticket, asked);
            self.people.again.push(ticket);
            return;
        }
        match answer {
            Answer::Before(_) => {
                self.coverage.command("asked again");
                self.say(format!("answered ({ticket}): {} was done before", asked.what));
                self.look();
                let outcome = self.checks.promised(&asked.workflow, event.unwrap_or_default());
                self.must(outcome);
            }
            Answer::Workflow(workflow) => {
                self.say(format!(
                    "answered ({ticket}): {} of {} is done, it is {}",
                    asked.what, asked.workflow, workflow.head.state
                ));
                self.look();
                let outcome = self.checks.promised(&workflow.head.id, workflow.head.last_event);
                self.must(outcome);
            }
            Answer::Refused(refusal) => {
                self.coverage.command("refused");
                self.say(format!("answered ({ticket}): {refusal}"));
            }
            Answer::Done | Answer::Machine(_) | Answer::Stale => {
                self.break_down(format!(
                    "{} of {} is answered with {answer:?}",
                    asked.what, asked.workflow
                ));
            }
        }
    }

    fn make(&mut self) {
        let number = self.people.made + 1;
        let clock = self.server_clock(0);
        let id = self.new_id();
        let name = format!("w{number}");
        let (namespace, workers) = self.somewhere();
        let definition = match definitions::some(&mut self.dice, &name, &workers, clock) {
            Ok(definition) => definition,
            Err(problem) => return self.break_down(problem),
        };
        let inputs = match language::inputs(&definition, &Map::new()) {
            Ok(inputs) => inputs,
            Err(problems) => return self.break_down(problems.join("; ")),
        };
        let start_at = self.dice.one_in(8).then(|| clock + self.dice.below(120_000));
        let creation = Creation {
            start_at,
            id: id.clone(),
            namespace,
            name,
            template: "t".to_owned(),
            labels: [("owner".to_owned(), format!("v{}", number % 3))].into(),
            definition,
            inputs,
            ..Creation::default()
        };
        let extra = idempotency(&creation.name, &id);
        let new = NewWorkflow { creation, extra };
        self.people.made = number;
        self.ask(Input::Create(Box::new(new)), id, "create");
    }

    /// Time-ordered, as UUIDv7 is; the clocks of servers jump, and so does the order.
    fn new_id(&mut self) -> String {
        self.people.ids += 1;
        let (clock, number) = (self.server_clock(0), self.people.ids);
        format!(
            "{:08x}-{:04x}-7000-8000-{number:012x}",
            (clock >> 16) & 0xffff_ffff,
            clock & 0xffff
        )
    }

    fn meddle(&mut self) {
        let open: Vec<String> = self.checks.open().cloned().collect();
        let id = match self.dice.percent(80) && !open.is_empty() {
            true => self.dice.pick(&open).clone(),
            false => match self.checks.some_workflow(&mut self.dice) {
                Some(id) => id,
                None => return,
            },
        };
        let Some(workflow) = self.workflow(&id) else {
            return;
        };
        let by = "somebody".to_owned();
        let (what, command) = match self.dice.below(16) {
            0 | 1 => (
                "pause",
                Command::Pause {
                    by,
                    reason: "look".to_owned(),
                },
            ),
            2..=4 => ("resume", Command::Unpause { by }),
            5 if self.dice.one_in(2) => (
                "cancel",
                Command::Cancel {
                    by,
                    reason: "enough".to_owned(),
                },
            ),
            6 | 7 => ("retry", Command::Retry { by }),
            8 | 9 if workflow.head.start_at.is_some() => {
                let clock = self.server_clock(0);
                let at = self.dice.one_in(2).then(|| clock + self.dice.below(120_000));
                ("start", Command::Start { at, by })
            }
            9 if self.dice.one_in(3) => ("label", self.label()),
            8 if self.dice.one_in(2) => match self.thing(&workflow) {
                Some((task, item)) => (
                    "skip",
                    Command::Skip {
                        task,
                        item,
                        by,
                        reason: "broken".to_owned(),
                    },
                ),
                None => return,
            },
            9 | 10 => match self.thing(&workflow) {
                Some((task, item)) => (
                    "pause-one",
                    Command::PauseOne {
                        task,
                        item,
                        by,
                        reason: "look".to_owned(),
                    },
                ),
                None => return,
            },
            14 if self.dice.one_in(2) => match self.failed(&workflow) {
                Some((task, item)) => ("retry-one", Command::RetryOne { task, item, by }),
                None => return,
            },
            13 if self.dice.one_in(2) => {
                let rules = ["step", "ask writes=disk", "deny action=a1", "auto image=cexec"];
                let rules = rules.into_iter().filter(|_| self.dice.one_in(4));
                let policy = rules.filter_map(|rule| rule.parse().ok()).collect();
                ("policy", Command::SetPolicy { policy, by })
            }
            11 | 12 if held(&workflow).is_some() => match held(&workflow) {
                Some((task, item)) => ("resume-one", Command::UnpauseOne { task, item, by }),
                None => return,
            },
            _ => match self.decision(&workflow) {
                Some(decision) => decision,
                None if workflow.head.state.is_final() => ("retry", Command::Retry { by }),
                None => return,
            },
        };
        self.command(&id, what, command);
    }

    /// By somebody who asks for nothing else, so that it is seen in the events whether it took effect twice.
    fn command(&mut self, id: &str, what: &'static str, mut command: Command) {
        let person = format!("{SOMEBODY}{}", self.people.last + 1);
        sign(&mut command, &person);
        let request = format!("{id} {command:?}");
        let now = self.server_clock(0);
        let once = match Once::new(&person, "key", what, request.as_bytes(), now) {
            Ok(once) => once,
            Err(error) => return self.break_down(format!("a key is refused: {error}")),
        };
        let input = Input::Asked {
            workflow: id.to_owned(),
            command,
            once,
        };
        self.ask(input, id.to_owned(), what);
    }

    /// Of three labels one is set, or taken away.
    fn label(&mut self) -> Command {
        let key = (*self.dice.pick(&["owner", "change", "rack"])).to_owned();
        let value = self.dice.percent(70).then(|| format!("v{}", self.dice.below(3)));
        Command::Label {
            set: value.iter().map(|value| (key.clone(), value.clone())).collect(),
            remove: value.is_none().then_some(key).into_iter().collect(),
            by: "somebody".to_owned(),
        }
    }

    /// One task that is not over, or one item of it.
    fn thing(&mut self, workflow: &Workflow) -> Option<(String, Option<usize>)> {
        let tasks = workflow.definition.tasks.iter().zip(workflow.head.tasks.iter());
        let open: Vec<_> = tasks.filter(|(_, state)| !state.state.is_final()).collect();
        if open.is_empty() {
            return None;
        }
        let (task, state) = *self.dice.pick(&open);
        let has_items = task.for_each.is_some() && state.state != StepState::Idle && state.items > 0;
        let item = has_items.then(|| self.dice.below(state.items as u64) as usize);
        Some((task.name.clone(), item))
    }

    /// A task that failed, or an item.
    fn failed(&mut self, workflow: &Workflow) -> Option<(String, Option<usize>)> {
        let has_failed = |state: StepState| matches!(state, StepState::Failed | StepState::Timeout);
        let tasks = workflow.definition.tasks.iter().zip(workflow.head.tasks.iter());
        let mut failed = Vec::new();
        for (index, (task, state)) in tasks.enumerate() {
            if has_failed(state.state) {
                failed.push((task.name.clone(), None));
            } else if task.for_each.is_some() {
                let items = workflow.executions_of(index).filter(|one| has_failed(one.state));
                failed.extend(items.map(|one| (task.name.clone(), Some(one.id.item))));
            }
        }
        (!failed.is_empty()).then(|| self.dice.pick(&failed).clone())
    }

    /// Yes or no to one of those that wait for it.
    fn decision(&mut self, workflow: &Workflow) -> Option<(&'static str, Command)> {
        let waiting: Vec<_> = workflow
            .executions
            .values()
            .filter(|execution| !execution.state.is_final() && execution.is_asked())
            .collect();
        if waiting.is_empty() {
            return None;
        }
        let execution = *self.dice.pick(&waiting);
        let task = workflow.definition.tasks.get(execution.id.task)?;
        let approved = self.dice.percent(80);
        let group = if self.dice.percent(80) { "ops" } else { "others" };
        let command = Command::Decide {
            task: task.name.clone(),
            item: task.for_each.as_ref().map(|_| execution.id.item),
            approved,
            by: "somebody".to_owned(),
            groups: vec![group.to_owned()],
            comment: String::new(),
        };
        Some((if approved { "approve" } else { "reject" }, command))
    }

    /// At the end nobody leaves a pause or a question open.
    pub(super) fn people_help(&mut self) {
        if !self.people.again.is_empty() {
            self.ask_again();
        }
        if !self.coverage.steps.is_multiple_of(16) {
            return;
        }
        let open: Vec<String> = self.checks.open().cloned().collect();
        for id in open {
            if self.people.waiting.values().any(|asked| asked.workflow == id) {
                continue;
            }
            let Some(workflow) = self.workflow(&id) else {
                continue;
            };
            let paused = matches!(
                workflow.head.state,
                WorkflowState::Pausing | WorkflowState::Paused
            );
            if paused {
                let by = "somebody".to_owned();
                self.command(&id, "resume", Command::Unpause { by });
            } else if workflow.head.start_at.is_some() && !workflow.head.state.is_final() {
                let by = "somebody".to_owned();
                self.command(&id, "start", Command::Start { at: None, by });
            } else if let Some((task, item)) = held(&workflow).filter(|_| !is_over(&workflow)) {
                let by = "somebody".to_owned();
                self.command(&id, "resume-one", Command::UnpauseOne { task, item, by });
            } else if let Some((what, command)) = self.decision(&workflow) {
                self.command(&id, what, command);
            } else if self.waits_in_vain(&workflow) {
                let by = "somebody".to_owned();
                let reason = "its machine is not of its namespace".to_owned();
                self.command(&id, "cancel", Command::Cancel { by, reason });
            }
        }
    }
}

/// Says who wants it.
fn sign(command: &mut Command, person: &str) {
    if let Command::Cancel { by, .. }
    | Command::Decide { by, .. }
    | Command::Label { by, .. }
    | Command::Pause { by, .. }
    | Command::PauseOne { by, .. }
    | Command::Retry { by }
    | Command::RetryOne { by, .. }
    | Command::SetPolicy { by, .. }
    | Command::Skip { by, .. }
    | Command::Start { by, .. }
    | Command::Unpause { by }
    | Command::UnpauseOne { by, .. } = command
    {
        person.clone_into(by);
    }
}

/// Nobody is heard any more.
fn is_over(workflow: &Workflow) -> bool {
    workflow.head.state.is_final() || workflow.head.ending.is_some()
}

/// Something that somebody holds: a task, or an item of it.
fn held(workflow: &Workflow) -> Option<(String, Option<usize>)> {
    let tasks = workflow.definition.tasks.iter().zip(workflow.head.tasks.iter());
    tasks.enumerate().find_map(|(index, (task, state))| {
        let mut made = workflow.executions_of(index);
        let made = made.find(|execution| execution.pause.is_some() && !execution.state.is_final());
        let made = made.map(|execution| task.for_each.as_ref().map(|_| execution.id.item));
        let ahead = state.pauses.keys().next().map(|item| Some(*item));
        let whole = state.pause.as_ref().map(|_| None);
        Some((task.name.clone(), made.or(ahead).or(whole)?))
    })
}
