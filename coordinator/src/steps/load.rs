//! Workflows and machines out of the store, or out of memory when they were seen before.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::{Error as _, IgnoredAny};
use serde_json::Value;
use store::Revision;
use workflow::engine::machine::Queue;
use workflow::engine::{self, Event, Execution, ExecutionId, Head, Workflow, apply};
use workflow::language::Definition;

use super::Coordinator;
use super::rows::{self, About, Row};
use crate::archive;
use crate::database::{Seen, Stored, View};
use crate::error::Error;
use crate::machines::names::{orphan, worker_in_keys};
use crate::machines::{self, parse_mac};
use crate::namespaces::Reach;

/// A workflow as it was committed last.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) workflow: Arc<Workflow>,
    /// Of its last event.
    pub(super) modified: Revision,
    /// Of its head.
    pub(super) head: Revision,
    /// What has changed since that was written.
    pub(super) unwritten: Unwritten,
    /// Rows of its outbox, and which machine each is about.
    pub(super) pending: BTreeMap<String, About>,
}

/// Where a workflow is.
pub(super) enum Found {
    Archived,
    /// In the store, or in memory.
    Here(Known),
    Nowhere,
}

/// What events after the head have changed of what is written with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unwritten {
    pub(super) events: u64,
    /// In their order.
    pub(super) executions: Vec<ExecutionId>,
}

/// A machine's work as it was committed last.
#[derive(Clone, Default)]
pub(super) struct KnownMachine {
    pub(super) work: engine::Machine,
    /// `None`: it was never written.
    pub(super) modified: Option<Revision>,
}

impl Coordinator {
    pub(super) fn known(&self, id: &str) -> Result<Option<Known>, Error> {
        Ok(match self.find(id)? {
            Found::Here(known) => Some(known),
            Found::Archived | Found::Nowhere => None,
        })
    }

    pub(super) fn find(&self, id: &str) -> Result<Found, Error> {
        if let Some(known) = self.workflows.get(id) {
            return Ok(Found::Here(known));
        }
        let changes = self.workflows.changes(id);
        // Taken after the changes were counted: what is put is as new as what others have put by then.
        let view = self.view()?;
        if let Some(known) = load(&view, id)? {
            self.workflows.put_loaded(id, known.clone(), changes);
            return Ok(Found::Here(known));
        }
        // In the same snapshot: it may be brought back at any time.
        Ok(match view.get::<IgnoredAny>(&archive::key(id))? {
            Some(_) => Found::Archived,
            None => Found::Nowhere,
        })
    }

    pub(super) fn known_machine(&self, machine: &str) -> Result<KnownMachine, Error> {
        if let Some(known) = self.machines.get(machine) {
            return Ok(known);
        }
        let changes = self.machines.changes(machine);
        let known = load_machine(&self.view()?, machine)?;
        self.machines.put_loaded(machine, known.clone(), changes);
        Ok(known)
    }
}

/// The name of the machine that a worker means in a namespace; when there is no such machine there (yet), what is kept for the
/// worker itself is called so. A machine of another namespace is none.
pub fn machine_of(view: &View, namespace: &str, worker: &str) -> Result<String, Error> {
    let name = named(view, worker)?;
    in_namespace(name, namespace, worker, |name| {
        let whose = machines::namespace_of(view, name)?;
        Ok(whose.is_none_or(|whose| whose == namespace))
    })
}

impl Coordinator {
    /// As [`machine_of`], where the same machines are asked for again and again.
    pub(super) fn machine_in(&self, view: &View, namespace: &str, worker: &str) -> Result<String, Error> {
        let name = named(view, worker)?;
        in_namespace(name, namespace, worker, |name| {
            let whose = self.namespace_of(view, name)?;
            Ok(whose.is_none_or(|whose| *whose == *namespace))
        })
    }

    /// As [`machines::namespace_of`]: a record that is as it was is not read again.
    pub(super) fn namespace_of(&self, view: &View, machine: &str) -> Result<Option<Arc<str>>, Error> {
        Ok(self.record_of(view, machine)?.map(|(_, namespace)| namespace))
    }

    /// What wrote a machine's record last, and its namespace.
    pub(super) fn record_of(
        &self,
        view: &View,
        machine: &str,
    ) -> Result<Option<(Revision, Arc<str>)>, Error> {
        let known = self.namespaces.get(machine);
        let modified = known.as_ref().map(|(modified, _)| *modified);
        let found = machines::namespace_unless(view, machine, modified)?;
        Ok(match found {
            Seen::Nothing => None,
            Seen::AsKnown => known,
            Seen::Now(Stored { value, modified }) => {
                let namespace: Arc<str> = value.into();
                self.namespaces.put(machine, (modified, namespace.clone()));
                Some((modified, namespace))
            }
        })
    }
}

/// The machine that a worker means, wherever it is.
fn named(view: &View, worker: &str) -> Result<Option<String>, Error> {
    let worker = plain(worker);
    let key = if parse_mac(&worker).is_some() {
        format!("mac/{worker}")
    } else {
        format!("agent-id/{worker}")
    };
    if let Some(name) = view.get::<String>(&key)? {
        return Ok(Some(name.value));
    }
    // What an expression gives is not looked up before this: names are what machines are called anyway.
    let Ok(address) = worker.parse() else {
        return Ok(None);
    };
    let machine = machines::with_address(view, &Reach::everything(), address)?;
    Ok(machine.map(|machine| machine.name))
}

fn in_namespace(
    name: Option<String>,
    namespace: &str,
    worker: &str,
    is_there: impl FnOnce(&str) -> Result<bool, Error>,
) -> Result<String, Error> {
    match name {
        Some(name) if is_there(&name)? => Ok(name),
        _ => Ok(orphan(namespace, worker)),
    }
}

/// A worker as it is written in keys.
fn plain(worker: &str) -> String {
    worker_in_keys(worker).into_owned()
}

/// A workflow, and nothing about its outbox.
pub fn workflow(view: &View, id: &str) -> Result<Option<Arc<Workflow>>, Error> {
    Ok(load(view, id)?.map(|known| known.workflow))
}

/// What is for a machine, and by whom it is held.
pub fn machine(view: &View, machine: &str) -> Result<engine::Machine, Error> {
    Ok(load_machine(view, machine)?.work)
}

fn load_machine(view: &View, machine: &str) -> Result<KnownMachine, Error> {
    let Some(work) = view.get::<engine::Machine>(&rows::machine_work(machine))? else {
        return Ok(KnownMachine::default());
    };
    let queue = view.get::<Queue>(&rows::machine_queue(machine))?;
    let Stored { mut value, modified } = work;
    value.set_queue(queue.map(|queue| queue.value).unwrap_or_default());
    Ok(KnownMachine {
        work: value,
        modified: Some(modified),
    })
}

fn load(view: &View, id: &str) -> Result<Option<Known>, Error> {
    let Some(head) = view.get::<Head>(&rows::head(id))? else {
        return Ok(None);
    };
    let Some(definition) = view.get::<Definition>(&rows::definition(id))? else {
        return Ok(None);
    };
    let executions = view.list::<Execution>(&format!("execution/{id}/"))?;
    let lists = view.list::<Vec<Value>>(&format!("items/{id}/"))?;
    let pending = view.list::<Row>(&rows::outbox(id))?;
    let since = view.from::<Event>(
        &format!("event/{id}/"),
        &rows::event(id, head.value.last_event.saturating_add(1)),
    )?;
    let items = lists.into_iter().filter_map(|(key, list)| {
        let (task, instance) = key.split_once('/')?;
        Some(((task.parse().ok()?, instance.parse().ok()?), Arc::new(list)))
    });
    let workflow = Workflow {
        definition: Arc::new(definition.value),
        head: head.value,
        executions: executions
            .into_iter()
            .map(|(_, execution)| (execution.id, Arc::new(execution)))
            .collect(),
        items: items.collect(),
    };
    let modified = since.last().map_or(head.modified, |event| event.modified);
    let (workflow, unwritten) = after(id, workflow, &since)?;
    let prefix = rows::outbox(id);
    Ok(Some(Known {
        workflow: Arc::new(workflow),
        modified,
        head: head.modified,
        unwritten,
        pending: pending
            .into_iter()
            .map(|(key, row)| (format!("{prefix}{key}"), row.about()))
            .collect(),
    }))
}

/// The workflow after events that came after its head was written.
fn after(id: &str, mut workflow: Workflow, events: &[Stored<Event>]) -> Result<(Workflow, Unwritten), Error> {
    let mut unwritten = Unwritten::default();
    for Stored { value: event, .. } in events {
        unwritten.note(event);
        workflow = apply(Some(workflow), event)
            .filter(|workflow| workflow.head.last_event == event.number)
            .ok_or_else(|| Error::Damaged {
                key: rows::event(id, event.number),
                source: serde_json::Error::custom("it does not follow the workflow's head"),
            })?;
    }
    Ok((workflow, unwritten))
}

impl Unwritten {
    fn note(&mut self, event: &Event) {
        self.events += 1;
        if let Some(id) = event.kind.execution() {
            self.execution(id);
        }
    }

    pub(super) fn execution(&mut self, id: ExecutionId) {
        if let Err(at) = self.executions.binary_search(&id) {
            self.executions.insert(at, id);
        }
    }
}
