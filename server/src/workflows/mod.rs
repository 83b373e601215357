//! Workflows: made from a template and devices, stepped by commands, kept as events and state.

pub(crate) mod logs;
pub(crate) mod next;
pub(crate) mod read;
pub(crate) mod step;
pub(crate) mod timers;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;
use workflow::engine::{Command, Workflow};
use workflow::language::{self, Devices, Rendered};

use crate::control::ControlPlane;
use crate::database::{Batch, View};
use crate::error::Error;
use crate::machines::{mac_text, parse_mac};
use crate::templates::{described, lines};
use step::{Last, Step};

/// What a client asks to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Creation {
    pub(crate) template: String,
    pub(crate) devices: BTreeMap<String, String>,
    /// Empty: none.
    pub(crate) idempotency_key: String,
    /// Empty: the template's.
    pub(crate) name: String,
}

/// What a workflow was made from; never changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Text {
    pub(crate) yaml: String,
    pub(crate) devices: BTreeMap<String, String>,
    pub(crate) warnings: Vec<String>,
    pub(crate) idempotency_key: String,
}

/// A client's key, and what was asked with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    id: String,
    template: String,
    devices: BTreeMap<String, String>,
    name: String,
}

impl ControlPlane {
    /// Renders the template, checks it against the machines that there are, and queues it for them.
    ///
    /// The same idempotency key with the same question gives the same workflow.
    pub(crate) async fn create_workflow(&self, creation: Creation) -> Result<(Workflow, Vec<String>), Error> {
        if let Some(known) = self.asked_before(&creation).await? {
            return Ok(known);
        }
        let template = self.template(&creation.template).await?;
        let (mut rendered, yaml_warnings) = self.render(&template.text, &creation.devices).await?;
        // Until it is stored: no machine that it is for goes away in between.
        let _turn = self.inner.machines_turn.lock().await;
        self.check_workers(&mut rendered).await?;
        let id = Uuid::now_v7().to_string();
        let name = if creation.name.is_empty() {
            rendered.definition.name.clone()
        } else {
            creation.name.clone()
        };
        let text = Text {
            yaml: rendered.yaml,
            devices: creation.devices.clone(),
            warnings: yaml_warnings.clone(),
            idempotency_key: creation.idempotency_key.clone(),
        };
        let mut extra = Batch::default();
        extra.put(format!("workflow-text/{id}"), &text);
        if !creation.idempotency_key.is_empty() {
            let key = format!("idempotency/{}", creation.idempotency_key);
            extra.absent(&key);
            let asked = Asked {
                id: id.clone(),
                template: creation.template.clone(),
                devices: creation.devices.clone(),
                name: creation.name.clone(),
            };
            extra.put(key, &asked);
        }
        let definition = Box::new(rendered.definition);
        let command = Command::Create {
            id: id.clone(),
            name,
            template: template.name,
            definition,
        };
        match self.command(&id, &command, extra).await {
            Ok(Step::Done(workflow)) => Ok((*workflow, yaml_warnings)),
            Ok(Step::Refused(refusal)) => Err(Error::Refused(refusal.to_string())),
            // Somebody used the key in the meantime.
            Err(error) if error.is_conflict() && !creation.idempotency_key.is_empty() => {
                self.asked_before(&creation).await?.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// What `text` renders to for these devices.
    pub(crate) async fn render(
        &self,
        text: &str,
        devices: &BTreeMap<String, String>,
    ) -> Result<(Rendered, Vec<String>), Error> {
        let named = devices.clone();
        let hardware = self.inner.db.with(move |view| hardware(view, &named)).await?;
        let devices = Devices {
            devices: devices.clone(),
            hardware,
        };
        let rendered =
            language::render(text, &devices).map_err(|problems| Error::Invalid(lines(&problems)))?;
        let warnings = rendered.warnings.iter().map(described).collect();
        Ok((rendered, warnings))
    }

    /// Removes an ended (or not yet started) workflow with its events and logs.
    pub(crate) async fn delete_workflow(&self, id: &str) -> Result<(), Error> {
        let _turn = self.workflow_turn(id).lock().await;
        loop {
            match self.try_delete_workflow(id).await {
                // Another workflow of one of its workers has ended in the meantime.
                Err(error) if error.is_conflict() => {}
                other => return other,
            }
        }
    }

    async fn try_delete_workflow(&self, id: &str) -> Result<(), Error> {
        let asked = id.to_owned();
        let (state, text, previous) = self.inner.db.with(move |view| deletion(view, &asked)).await?;
        let workflow = &state.value;
        if !workflow.state.is_final() && workflow.started_at.is_some() {
            return Err(Error::Refused(format!(
                "workflow {id} is {}: wait for its end with `farrier workflow wait {id}`, or cancel it with \
                 `farrier workflow cancel {id}`",
                workflow.state
            )));
        }
        let mut batch = Batch::default();
        batch.unchanged(format!("workflow/{id}"), state.modified);
        batch.delete(format!("workflow/{id}"));
        batch.delete(format!("workflow-text/{id}"));
        batch.delete_below(&format!("event/{id}/"));
        batch.delete_below(&format!("log/{id}/"));
        batch.delete_below(&format!("log-total/{id}/"));
        if let Some(key) = text
            .map(|text| text.idempotency_key)
            .filter(|key| !key.is_empty())
        {
            batch.delete(format!("idempotency/{key}"));
        }
        for worker in step::workers(workflow) {
            batch.delete(format!("of/{worker}/{id}"));
            batch.delete(format!("open/{worker}/{id}"));
        }
        for Previous {
            worker,
            modified,
            last,
        } in previous
        {
            let key = format!("last/{worker}");
            batch.unchanged(&key, modified);
            match last {
                Some(last) => batch.put(key, &last),
                None => batch.delete(key),
            }
        }
        self.inner.db.commit(batch).await?;
        self.after_change(workflow);
        Ok(())
    }

    pub(crate) async fn cancel_workflow(&self, id: &str, reason: &str) -> Result<Workflow, Error> {
        let reason = if reason.is_empty() {
            "cancelled by a person"
        } else {
            reason
        };
        match self
            .command(
                id,
                &Command::Cancel {
                    reason: reason.to_owned(),
                },
                Batch::default(),
            )
            .await?
        {
            Step::Done(workflow) => Ok(*workflow),
            Step::Refused(workflow::engine::Refusal::Missing) => Err(read::no_workflow(id)),
            Step::Refused(refusal) => Err(Error::Refused(refusal.to_string())),
        }
    }

    async fn asked_before(&self, creation: &Creation) -> Result<Option<(Workflow, Vec<String>)>, Error> {
        if creation.idempotency_key.is_empty() {
            return Ok(None);
        }
        let key = format!("idempotency/{}", creation.idempotency_key);
        let Some(asked) = self.inner.db.get::<Asked>(key).await?.map(|asked| asked.value) else {
            return Ok(None);
        };
        if (&asked.template, &asked.devices, &asked.name)
            != (&creation.template, &creation.devices, &creation.name)
        {
            return Err(Error::Exists(format!(
                "idempotency key {:?} was used for another workflow, {}: use a new key",
                creation.idempotency_key, asked.id
            )));
        }
        let (workflow, text) = self.workflow(&asked.id).await?;
        Ok(Some((
            workflow,
            text.map(|text| text.warnings).unwrap_or_default(),
        )))
    }

    /// Every task's worker must be a machine that there is. MACs are then written as everywhere else.
    async fn check_workers(&self, rendered: &mut Rendered) -> Result<(), Error> {
        for task in &mut rendered.definition.tasks {
            if let Some(mac) = parse_mac(&task.worker) {
                task.worker = mac_text(mac);
            }
        }
        let tasks = rendered.definition.tasks.clone();
        let problems = self
            .inner
            .db
            .with(move |view| {
                let mut problems = Vec::new();
                for task in &tasks {
                    if crate::machines::with_worker(view, &task.worker)?.is_none() {
                        if let Some(named) = crate::machines::named(view, &task.worker)? {
                            problems.push(format!(
                                "task {:?}: {} is a machine's name, and a worker is a MAC or an agent id: write {}",
                                task.name,
                                task.worker,
                                mac_text(named.mac())
                            ));
                            continue;
                        }
                        let has = if parse_mac(&task.worker).is_some() {
                            "MAC"
                        } else {
                            "agent id"
                        };
                        problems.push(format!(
                            "task {:?}: no machine has {has} {}: add it with `farrier machine apply`",
                            task.name, task.worker
                        ));
                    }
                }
                Ok(problems)
            })
            .await?;
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Error::NotFound(problems.join("\n")))
        }
    }
}

/// The record that `.hardware` stands for: the only machine that the devices name, or the one of `device_1`.
fn hardware(view: &View, devices: &BTreeMap<String, String>) -> Result<Value, Error> {
    let mut named: Vec<(String, Value)> = Vec::new();
    for (key, worker) in devices {
        let Some(machine) = crate::machines::with_worker(view, worker)? else {
            continue;
        };
        if key == "device_1" {
            return Ok(machine.hardware);
        }
        if named.iter().all(|(name, _)| *name != machine.name) {
            named.push((machine.name, machine.hardware));
        }
    }
    match (named.pop(), named.is_empty()) {
        (Some((_, hardware)), true) => Ok(hardware),
        _ => Ok(Value::Null),
    }
}

type Deletion = (crate::database::Stored<Workflow>, Option<Text>, Vec<Previous>);

/// Of a worker whose last workflow goes: the one that is the last then.
struct Previous {
    worker: String,
    /// Of what says so now.
    modified: store::Revision,
    last: Option<Last>,
}

/// What must be known to delete a workflow.
fn deletion(view: &View, id: &str) -> Result<Deletion, Error> {
    let state = view
        .get::<Workflow>(&format!("workflow/{id}"))?
        .ok_or_else(|| read::no_workflow(id))?;
    let text = view
        .get::<Text>(&format!("workflow-text/{id}"))?
        .map(|text| text.value);
    let mut previous = Vec::new();
    for worker in step::workers(&state.value) {
        let Some(now) = view
            .get::<Last>(&format!("last/{worker}"))?
            .filter(|last| last.value.id == id)
        else {
            continue;
        };
        let mut before: Option<(u64, Last)> = None;
        for (other, ()) in view
            .list::<()>(&format!("of/{worker}/"))?
            .into_iter()
            .filter(|(other, _)| other != id)
        {
            let Some(other) = view.get::<Workflow>(&format!("workflow/{other}"))? else {
                continue;
            };
            let ended = other.value.ended_at.unwrap_or(0);
            if other.value.state.is_final() && before.as_ref().is_none_or(|(at, _)| *at <= ended) {
                before = Some((ended, Last::of(&other.value)));
            }
        }
        previous.push(Previous {
            worker,
            modified: now.modified,
            last: before.map(|(_, last)| last),
        });
    }
    Ok((state, text, previous))
}
