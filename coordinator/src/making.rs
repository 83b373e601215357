//! What a workflow is made from: a template, rendered and checked against the machines that there are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use workflow::engine::{Creation, Parent};
use workflow::language::{self, Control, Definition, Devices, Rendered};

use crate::database::View;
use crate::error::Error;
use crate::machines::{self, Machine, mac_text, parse_mac};
use crate::secrets;
use crate::templates::{self, described, lines};

/// What a workflow was made from; never changes. Stored as `workflow-text/<id>`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Text {
    /// What the template was rendered to.
    pub yaml: String,
    pub devices: BTreeMap<String, String>,
    pub warnings: Vec<String>,
    pub idempotency_key: String,
}

/// What a workflow is to be made from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The name of the template that `text` is of; empty: it is stored under none.
    pub template: String,
    pub text: String,
    pub devices: BTreeMap<String, String>,
    pub inputs: Map<String, Value>,
    /// Inputs as somebody typed them: read as what the template says that they are.
    pub typed_inputs: BTreeMap<String, String>,
    /// Empty: the template's.
    pub name: String,
}

/// Whose workflow it is to be.
#[derive(Clone, Debug)]
pub struct Identity {
    pub id: String,
    pub namespace: String,
    /// Of a sub-workflow.
    pub parent: Option<Parent>,
    /// Empty: none.
    pub idempotency_key: String,
    /// Who makes it; empty: not a person.
    pub by: String,
}

/// Renders a template, checks what came of it against the machines that there are, and fills in inputs and name.
///
/// # Errors
/// [`Error::Invalid`] with every problem of text or inputs, [`Error::NotFound`] with every machine or secret that there is
/// not.
pub fn make(view: &View, source: Source, identity: Identity) -> Result<(Creation, Text), Error> {
    let (mut rendered, warnings) = render(view, &source.text, &source.devices)?;
    check_workers(view, &mut rendered.definition)?;
    let unknown = secrets::unknown(view, &rendered.secrets)?;
    if !unknown.is_empty() {
        return Err(Error::NotFound(lines(&unknown)));
    }
    let mut given = source.inputs;
    given.extend(language::typed_inputs(&rendered.definition, &source.typed_inputs));
    let inputs = inputs(&rendered.definition, &given)?;
    let name = if source.name.is_empty() {
        rendered.definition.name.clone()
    } else {
        source.name
    };
    let text = Text {
        yaml: rendered.yaml,
        devices: source.devices,
        warnings,
        idempotency_key: identity.idempotency_key,
    };
    let creation = Creation {
        id: identity.id,
        namespace: identity.namespace,
        name,
        template: source.template,
        // Filled in by whoever commits it, from the machines that there are then.
        machines: BTreeMap::new(),
        definition: rendered.definition,
        inputs,
        parent: identity.parent,
        by: identity.by,
    };
    Ok((creation, text))
}

/// What `text` renders to for these devices, and warnings.
///
/// # Errors
/// [`Error::Invalid`] with every problem.
pub fn render(
    view: &View,
    text: &str,
    devices: &BTreeMap<String, String>,
) -> Result<(Rendered, Vec<String>), Error> {
    check_devices(devices)?;
    let devices = Devices {
        devices: devices.clone(),
        hardware: hardware(view, devices)?,
    };
    let rendered = language::render(text, &devices).map_err(|problems| Error::Invalid(lines(&problems)))?;
    let all = rendered.warnings.iter().chain(&rendered.undone);
    let mut warnings: Vec<String> = all.map(described).collect();
    let unused = devices.devices.keys().filter(|name| !is_used(text, name));
    warnings.extend(unused.map(|name| format!("device {name:?} is given, and the template does not use it")));
    warnings.extend(secrets::unknown(view, &rendered.secrets)?.iter().map(described));
    let mut seen = BTreeSet::new();
    undone_below(view, &rendered.definition, &mut seen, &mut warnings)?;
    Ok((rendered, warnings))
}

/// What a device stands for is filled in before expressions and secrets are looked for: it is no way to either.
fn check_devices(devices: &BTreeMap<String, String>) -> Result<(), Error> {
    match devices.iter().find(|(_, value)| value.contains("${{")) {
        Some((name, _)) => Err(Error::Invalid(format!(
            "device {name:?} holds ${{{{: a device is a MAC or a plain text; write expressions and secrets into the template"
        ))),
        None => Ok(()),
    }
}

/// Whether a template may use a device: it names it, looks for it by a name that is made, or asks for the record of the
/// machine that it stands for.
fn is_used(text: &str, device: &str) -> bool {
    const BY_ANY_NAME: [&str; 8] = [
        "ardware", "range", "index", "get ", "dig ", "pluck ", "toJson", "toYaml",
    ];
    text.contains(device) || BY_ANY_NAME.iter().any(|word| text.contains(word))
}

/// Templates of sub-workflows that are looked into.
const MAX_BELOW: usize = 32;

/// What nobody will do of the sub-workflows that a definition names, and of theirs.
fn undone_below(
    view: &View,
    definition: &Definition,
    seen: &mut BTreeSet<String>,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    for task in &definition.tasks {
        let Some(Control::Workflow { template, .. }) = &task.control else {
            continue;
        };
        let is_new = !template.contains("${{") && seen.len() < MAX_BELOW && seen.insert(template.clone());
        if !is_new {
            continue;
        }
        let found = match templates::find(view, template) {
            Ok(found) => found,
            Err(Error::NotFound(_)) => {
                warnings.push(format!(
                    "task {:?}: there is no template {template:?} yet: store it with `farrier template create` before the task begins",
                    task.name
                ));
                continue;
            }
            Err(error) => return Err(error),
        };
        // As it is rendered when its turn comes.
        let rendered = language::render(&found.text, &Devices::default());
        let undone = match &rendered {
            Ok(rendered) => rendered.undone.clone(),
            Err(_) => language::undone(&found.text),
        };
        let told = undone
            .iter()
            .map(|what| format!("template {template:?}, {}", described(what)));
        warnings.extend(told);
        let unknown = secrets::unknown(view, &language::secrets(&found.text))?;
        let told = unknown.iter();
        warnings.extend(told.map(|what| format!("template {template:?}, {}", described(what))));
        if let Ok(rendered) = rendered {
            undone_below(view, &rendered.definition, seen, warnings)?;
        }
    }
    Ok(())
}

/// What is given, checked against the definition, and the defaults of the rest.
fn inputs(definition: &Definition, given: &Map<String, Value>) -> Result<Map<String, Value>, Error> {
    language::inputs(definition, given).map_err(|problems| Error::Invalid(problems.join("\n")))
}

/// Every worker that stands in the definition must be a machine that there is. MACs are then written as everywhere else,
/// and a machine goes by one name in all tasks.
fn check_workers(view: &View, definition: &mut Definition) -> Result<(), Error> {
    let mut problems = Vec::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for task in &mut definition.tasks {
        if let Some(mac) = parse_mac(&task.worker) {
            task.worker = mac_text(mac);
        }
        if !is_static(&task.worker) {
            continue;
        }
        match machines::with_worker(view, &task.worker)? {
            Some(machine) => {
                let first = names.entry(machine.name).or_insert_with(|| task.worker.clone());
                task.worker.clone_from(first);
            }
            None => problems.push(unknown(view, &task.name, &task.worker)?),
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::NotFound(problems.join("\n")))
    }
}

fn unknown(view: &View, task: &str, worker: &str) -> Result<String, Error> {
    if let Some(named) = machines::named(view, worker)? {
        return Ok(format!(
            "task {task:?}: {worker} is a machine's name, and a worker is a MAC or an agent id: write {}",
            mac_text(named.mac())
        ));
    }
    let has = if parse_mac(worker).is_some() {
        "MAC"
    } else {
        "agent id"
    };
    Ok(format!(
        "task {task:?}: no machine has {has} {worker}: add it with `farrier machine apply`"
    ))
}

/// What is known of the machines of workers that stand in the definition, by worker.
pub fn facts_of_workers(view: &View, definition: &Definition) -> Result<BTreeMap<String, Value>, Error> {
    let workers: BTreeSet<&String> = definition
        .tasks
        .iter()
        .map(|task| &task.worker)
        .filter(|worker| is_static(worker))
        .collect();
    let mut known = BTreeMap::new();
    for worker in workers {
        if let Some(machine) = machines::with_worker(view, worker)? {
            known.insert(worker.clone(), facts(&machine));
        }
    }
    Ok(known)
}

/// What `machine` is in expressions.
pub fn facts(machine: &Machine) -> Value {
    let metadata = machine.hardware.pointer("/spec/metadata").cloned();
    json!({
        "name": machine.name,
        "mac": mac_text(machine.mac()),
        "labels": machine.labels,
        "metadata": metadata.filter(Value::is_object).unwrap_or_else(|| json!({})),
        "addresses": machine.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// A worker that names a machine: not a control task's, and no expression.
fn is_static(worker: &str) -> bool {
    !worker.is_empty() && !worker.contains("${{")
}

/// The record that `.hardware` stands for: the only machine that the devices name, or the one of `device_1`.
fn hardware(view: &View, devices: &BTreeMap<String, String>) -> Result<Value, Error> {
    let mut named: Vec<(String, Value)> = Vec::new();
    for (key, worker) in devices {
        let Some(machine) = machines::with_worker(view, worker)? else {
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
