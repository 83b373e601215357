//! Workflows and machines out of the store, or out of memory when they were seen before.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use store::Revision;
use workflow::engine::{self, Execution, Head, Workflow};
use workflow::language::Definition;

use super::Coordinator;
use super::rows::{self, About, Row};
use crate::database::{Stored, View};
use crate::error::Error;
use crate::machines::{mac_text, parse_mac};

/// A workflow as it was committed last.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) workflow: Arc<Workflow>,
    /// Of its head.
    pub(super) modified: Revision,
    /// Rows of its outbox, and which machine each is about.
    pub(super) pending: BTreeMap<String, About>,
}

/// A machine's work as it was committed last.
#[derive(Clone, Default)]
pub(super) struct KnownMachine {
    pub(super) work: engine::Machine,
    /// `None`: it was never written.
    pub(super) modified: Option<Revision>,
}

/// Times that a workflow is read again because it changed in between.
const TRIES: usize = 8;

impl Coordinator {
    pub(super) fn known(&self, id: &str) -> Result<Option<Known>, Error> {
        if let Some(known) = self.workflows.get(id) {
            return Ok(Some(known));
        }
        let changes = self.workflows.changes(id);
        let known = load(&self.view, id)?;
        if let Some(known) = &known {
            self.workflows.put_loaded(id, known.clone(), changes);
        }
        Ok(known)
    }

    pub(super) fn known_machine(&self, machine: &str) -> Result<KnownMachine, Error> {
        if let Some(known) = self.machines.get(machine) {
            return Ok(known);
        }
        let changes = self.machines.changes(machine);
        let stored = self.view.get::<engine::Machine>(&rows::machine_work(machine))?;
        let known = stored.map_or_else(KnownMachine::default, |Stored { value, modified }| KnownMachine {
            work: value,
            modified: Some(modified),
        });
        self.machines.put_loaded(machine, known.clone(), changes);
        Ok(known)
    }
}

/// The name of the machine that a worker means; the worker itself when there is no such machine (yet).
pub(crate) fn machine_of(view: &View, worker: &str) -> Result<String, Error> {
    let worker = plain(worker);
    let key = if parse_mac(&worker).is_some() {
        format!("mac/{worker}")
    } else {
        format!("agent-id/{worker}")
    };
    Ok(view.get::<String>(&key)?.map_or(worker, |name| name.value))
}

/// A worker as it is written in keys.
pub(super) fn plain(worker: &str) -> String {
    parse_mac(worker).map_or_else(|| worker.to_owned(), mac_text)
}

/// A workflow, and nothing about its outbox.
pub(crate) fn workflow(view: &View, id: &str) -> Result<Option<Arc<Workflow>>, Error> {
    Ok(load(view, id)?.map(|known| known.workflow))
}

fn load(view: &View, id: &str) -> Result<Option<Known>, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        let Some(head) = view.get::<Head>(&rows::head(id))? else {
            return Ok(None);
        };
        let Some(definition) = view.get::<Definition>(&rows::definition(id))? else {
            return Ok(None);
        };
        let executions = view.list::<Execution>(&format!("execution/{id}/"))?;
        let lists = view.list::<Vec<Value>>(&format!("items/{id}/"))?;
        let pending = view.list::<Row>(&rows::outbox(id))?;
        let now = view.get::<Head>(&rows::head(id))?.map(|head| head.modified);
        if now != Some(head.modified) && tries < TRIES {
            continue;
        }
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
        let prefix = rows::outbox(id);
        return Ok(Some(Known {
            workflow: Arc::new(workflow),
            modified: head.modified,
            pending: pending
                .into_iter()
                .map(|(key, row)| (format!("{prefix}{key}"), row.about()))
                .collect(),
        }));
    }
}
