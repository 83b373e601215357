//! What a workflow is made from: a template, rendered and checked against the machines that there are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use workflow::engine::{Creation, MadeFrom, Parent};
use workflow::expression::{EvaluationError, Selector};
use workflow::labels::{self, Labels};
use workflow::language::{self, Control, Definition, Devices, ImagePolicy, Problem, Rendered};
use yaml::Kind;

use crate::database::View;
use crate::error::Error;
use crate::machines::{self, Inventory, Machine, mac_text, parse_mac};
use crate::namespaces::{self, Scope};
use crate::secrets;
use crate::templates::{self, Meant, described, lines};

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
    /// A template, or an object that carries one.
    pub text: String,
    /// The name of the file that `text` is from, for messages; empty: none.
    pub file: String,
    pub devices: BTreeMap<String, String>,
    /// Name or MAC of the machine whose record `.hardware` is; empty: the one that the devices tell.
    pub machine: String,
    pub inputs: Map<String, Value>,
    /// Inputs as somebody typed them: read as what the template says that they are.
    pub typed_inputs: BTreeMap<String, String>,
    /// Empty: the template's.
    pub name: String,
    /// Of the stored template.
    pub template_id: String,
    pub template_version: u64,
    pub template_labels: Labels,
    /// Beside the template's, and before them.
    pub labels: Labels,
}

/// Whose workflow it is to be.
#[derive(Clone, Debug)]
pub struct Identity {
    pub id: String,
    /// Of a sub-workflow.
    pub parent: Option<Parent>,
    /// Empty: none.
    pub idempotency_key: String,
    /// Who makes it; empty: not a person.
    pub by: String,
}

/// Renders a template, checks what came of it against the machines that there are and the server's rules for images, and fills in
/// inputs and name.
///
/// # Errors
/// [`Error::Invalid`] with every problem of text, images, inputs or labels, [`Error::NotFound`] with every machine or secret that there is
/// not.
pub fn make(
    view: &View,
    scope: &Scope,
    images: &ImagePolicy,
    source: Source,
    identity: Identity,
) -> Result<(Creation, Text), Error> {
    let (source, meant) = asked(view, scope, source)?;
    let Rendering {
        outcome, warnings, ..
    } = render(view, scope, images, &source, &meant)?;
    let file = source.file.clone();
    let mut rendered = outcome?;
    let mut given = source.inputs.clone();
    given.extend(language::typed_inputs(&rendered.definition, &source.typed_inputs));
    let inputs = inputs(&rendered.definition, &given)?;
    if rendered.has_bounds_of_inputs {
        let line = |problem: &Problem| described(&meant.in_file(problem.clone()), &file);
        rendered.definition = rendered.made_with(&inputs).map_err(|problems| {
            let mut lines: Vec<String> = problems.iter().map(line).collect();
            lines.push(how_to_see(&source));
            Error::Invalid(lines.join("\n"))
        })?;
        images.settle(&mut rendered.definition);
    }
    let (_, mut resolved) = with_macs(view, scope, &source.devices)?;
    check_workers(view, scope, &mut rendered.definition, &mut resolved)?;
    let unknown = secrets::unknown(view, scope, &rendered.secrets)?;
    if !unknown.is_empty() {
        return Err(Error::NotFound(lines(&unknown, &file)));
    }
    let name = if source.name.is_empty() {
        rendered.definition.name.clone()
    } else {
        source.name
    };
    let mut labels = meant.labels;
    labels.extend(rendered.definition.labels.clone());
    labels.extend(source.labels);
    labels::check(&labels).map_err(|error| Error::Invalid(error.to_string()))?;
    let text = Text {
        yaml: rendered.yaml,
        devices: source.devices,
        warnings,
        idempotency_key: identity.idempotency_key,
    };
    let creation = Creation {
        id: identity.id,
        namespace: scope.namespace().to_owned(),
        name,
        template: source.template,
        made_from: Some(MadeFrom {
            id: source.template_id,
            version: source.template_version,
            sha256: ephemeral::Digest::of(meant.text.as_bytes()).to_string(),
        }),
        labels,
        // Filled in by whoever commits it, from the machines that there are then.
        machines: BTreeMap::new(),
        resolved,
        definition: rendered.definition,
        inputs,
        parent: identity.parent,
        policy: Vec::new(),
        start_at: None,
        by: identity.by,
    };
    Ok((creation, text))
}

/// What a source comes to when its text is an object that asks for a workflow: the template that it names, its devices and
/// its machine, where nothing else was said.
///
/// # Errors
/// As [`templates::asked`]; [`Error::NotFound`] when the template is not stored.
fn asked(view: &View, scope: &Scope, mut source: Source) -> Result<(Source, Meant), Error> {
    if !source.template.is_empty() {
        // One that was stored before it was read as what it is carries its template still.
        let mut meant = templates::meant(&source.text, "", "")?;
        meant.labels.extend(std::mem::take(&mut source.template_labels));
        return Ok((source, meant));
    }
    let asked = templates::asked(&source.text, &source.name, &source.file)?;
    if let Some(workflow) = asked.workflow {
        let given = std::mem::take(&mut source.devices);
        source.devices = workflow.devices;
        source.devices.extend(given);
        if source.machine.is_empty() {
            source.machine = workflow.machine;
        }
        if source.name.is_empty() {
            source.name = workflow.name;
        }
        let given = std::mem::take(&mut source.labels);
        source.labels = workflow.labels;
        source.labels.extend(given);
    }
    let meant = match asked.template {
        Ok(meant) => meant,
        Err(stored) => {
            let template = templates::find(view, scope, &stored)?;
            source.template = template.name;
            source.template_id = template.id;
            source.template_version = template.version;
            let mut meant = templates::meant(&template.text, "", "")?;
            meant.warnings = asked.warnings;
            meant.labels.extend(template.labels);
            meant
        }
    };
    Ok((source, meant))
}

/// What a template was rendered to, whatever is wrong with it.
#[derive(Debug)]
pub struct Rendering {
    /// As far as it went.
    pub yaml: String,
    /// [`Error::Invalid`] with every problem; [`Error::NotFound`] when it asks for the record of a machine that nobody knows.
    pub outcome: Result<Rendered, Error>,
    /// A line each.
    pub warnings: Vec<String>,
}

/// Renders a template for the machines that there are; of a `Workflow` object the template that it names.
///
/// # Errors
/// When there is nothing to render: no such template or machine.
pub fn rendering(
    view: &View,
    scope: &Scope,
    images: &ImagePolicy,
    source: Source,
) -> Result<Rendering, Error> {
    let (source, meant) = asked(view, scope, source)?;
    render(view, scope, images, &source, &meant)
}

fn render(
    view: &View,
    scope: &Scope,
    images: &ImagePolicy,
    source: &Source,
    meant: &Meant,
) -> Result<Rendering, Error> {
    check_devices(&source.devices)?;
    let (devices, _) = with_macs(view, scope, &source.devices)?;
    let record = record(view, scope, &source.machine, &devices)?;
    let hardware = match &record {
        Ok(machine) => with_inventory(view, machine)?,
        Err(_) => Value::Null,
    };
    let devices = Devices { devices, hardware };
    let line = |problem: &Problem| described(&meant.in_file(problem.clone()), &source.file);
    let mut warnings: Vec<String> = meant
        .warnings
        .iter()
        .map(|odd| described(odd, &source.file))
        .collect();
    let mut rendered = match language::rendering(&meant.text, &devices) {
        Ok(rendered) => rendered,
        Err(failed) => {
            let is_unknown = |problem: &Problem| problem.finding.kind == Kind::NoRecord;
            let mut lines: Vec<String> = failed.problems.iter().map(line).collect();
            let error = match record {
                Err(no_record) if failed.problems.iter().any(is_unknown) => no_record.told(&lines),
                _ => {
                    if failed
                        .problems
                        .iter()
                        .any(|problem| problem.text == language::Text::Rendered)
                    {
                        lines.push(how_to_see(source));
                    }
                    Error::Invalid(lines.join("\n"))
                }
            };
            return Ok(Rendering {
                yaml: failed.yaml,
                outcome: Err(error),
                warnings,
            });
        }
    };
    let all = rendered.warnings.iter().chain(&rendered.undone);
    warnings.extend(all.map(line));
    let unused = source.devices.keys().filter(|name| !is_used(&meant.text, name));
    warnings.extend(unused.map(|name| format!("device {name:?} is given, and the template does not use it")));
    warnings.extend(secrets::unknown(view, scope, &rendered.secrets)?.iter().map(line));
    images.settle(&mut rendered.definition);
    warnings.extend(images.pulled_by_policy(&rendered.definition));
    let mut seen = BTreeSet::new();
    undone_below(
        view,
        scope,
        images,
        &rendered.definition,
        &mut seen,
        &mut warnings,
    )?;
    let refused = images.refused(&rendered.definition);
    if refused.is_empty() {
        warnings.extend(images.unpinned(&rendered.definition));
    }
    Ok(Rendering {
        yaml: rendered.yaml.clone(),
        outcome: match refused.is_empty() {
            true => Ok(rendered),
            false => Err(Error::Invalid(refused.join("\n"))),
        },
        warnings,
    })
}

/// The record that templates see, with what the machine told beside what somebody wrote.
fn with_inventory(view: &View, machine: &Machine) -> Result<Value, Error> {
    let mut hardware = machine.hardware.clone();
    if let Some(fields) = hardware.as_object_mut()
        && let Some(told) = Inventory::of(view, machine)?
    {
        fields
            .entry("inventory")
            .or_insert_with(|| Value::Object(told.hardware));
    }
    Ok(hardware)
}

/// What the server's rules say of the images of a template that nothing is filled into yet, a line each; of one that needs devices
/// nothing, until it has some.
pub fn refused_images(text: &str, images: &ImagePolicy) -> Vec<String> {
    let Ok(mut rendered) = language::render(text, &Devices::default()) else {
        return Vec::new();
    };
    images.settle(&mut rendered.definition);
    images.refused(&rendered.definition)
}

/// The command that prints what was rendered.
fn how_to_see(source: &Source) -> String {
    let word = |text: &str| {
        let is_plain = |letter: char| letter.is_alphanumeric() || "-_./=:,@%+".contains(letter);
        match !text.is_empty() && text.chars().all(is_plain) {
            true => text.to_owned(),
            false => format!("'{}'", text.replace('\'', "'\\''")),
        }
    };
    let of = match (source.template.as_str(), source.file.as_str()) {
        ("", "" | "<stdin>") => "-f FILE".to_owned(),
        ("", file) => format!("-f {}", word(file)),
        (template, _) => word(template),
    };
    let given = source
        .devices
        .iter()
        .map(|(name, value)| format!(" -r {}", word(&format!("{name}={value}"))));
    let given: String = given.collect();
    let machine = match source.machine.as_str() {
        "" => String::new(),
        machine => format!(" --machine {}", word(machine)),
    };
    format!("to see what was rendered, with numbered lines: `farrier template render {of}{given}{machine}`")
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
    scope: &Scope,
    images: &ImagePolicy,
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
        let found = match templates::find(view, scope, template) {
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
        let text = templates::meant(&found.text, "", "").map_or(found.text, |meant| meant.text);
        let rendered = language::render(&text, &Devices::default());
        let undone = match &rendered {
            Ok(rendered) => rendered.undone.clone(),
            Err(_) => language::undone(&text),
        };
        let told = undone
            .iter()
            .map(|what| format!("template {template:?}, {}", described(what, "")));
        warnings.extend(told);
        let unknown = secrets::unknown(view, scope, &language::secrets(&text))?;
        let told = unknown.iter();
        warnings.extend(told.map(|what| format!("template {template:?}, {}", described(what, ""))));
        let refused = refused_images(&text, images).into_iter();
        warnings.extend(refused.map(|what| format!("template {template:?}, {what}")));
        if let Ok(rendered) = rendered {
            undone_below(view, scope, images, &rendered.definition, seen, warnings)?;
        }
    }
    Ok(())
}

/// What is given, checked against the definition, and the defaults of the rest.
fn inputs(definition: &Definition, given: &Map<String, Value>) -> Result<Map<String, Value>, Error> {
    language::inputs(definition, given).map_err(|problems| Error::Invalid(problems.join("\n")))
}

/// Every worker that stands in the definition must be a machine that there is. MACs are then written as everywhere else,
/// and a machine goes by one name in all tasks. Into `resolved` goes what stands for which MAC.
fn check_workers(
    view: &View,
    scope: &Scope,
    definition: &mut Definition,
    resolved: &mut BTreeMap<String, String>,
) -> Result<(), Error> {
    let mut problems = Vec::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for task in &mut definition.tasks {
        if let Some(mac) = parse_mac(&task.worker) {
            task.worker = mac_text(mac);
        }
        if !is_static(&task.worker) {
            continue;
        }
        let known = match machines::with_worker(view, scope.only(), &task.worker)? {
            Some(machine) => Some(machine),
            // A name or an address is as good as a MAC: no machine is called like another one's agent id.
            None => {
                let meant = machines::meant(view, scope.only(), &task.worker)?;
                if let Some(meant) = &meant {
                    let mac = mac_text(meant.mac());
                    resolved.insert(std::mem::replace(&mut task.worker, mac.clone()), mac);
                }
                meant
            }
        };
        match known {
            Some(machine) => {
                let first = names.entry(machine.name).or_insert_with(|| task.worker.clone());
                task.worker.clone_from(first);
            }
            None => problems.push(format!(
                "task {:?}: {}",
                task.name,
                unknown(view, scope, &task.worker)?
            )),
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::NotFound(problems.join("\n")))
    }
}

/// That no machine of the namespace is meant by a worker. Of one in another namespace whoever reaches that is told.
fn unknown(view: &View, scope: &Scope, worker: &str) -> Result<String, Error> {
    let has = machines::kind_of_word(worker);
    let cure = match machines::meant(view, scope.reach(), worker)? {
        Some(machine) => format!(
            "machine {:?} is of namespace {:?}: make the workflow there, or move the machine",
            machine.name, machine.namespace
        ),
        None => format!("add it with `farrier machine apply{}`", scope.option()),
    };
    let of = namespaces::of(scope.namespace());
    Ok(format!("no machine{of} has {has} {worker}: {cure}"))
}

/// What is known of the machines of workers that stand in the definition, by worker.
pub fn facts_of_workers(
    view: &View,
    namespace: &str,
    definition: &Definition,
) -> Result<BTreeMap<String, Value>, Error> {
    let scope = Scope::inside(namespace);
    let workers: BTreeSet<&String> = definition
        .tasks
        .iter()
        .map(|task| &task.worker)
        .filter(|worker| is_static(worker))
        .collect();
    let mut known = BTreeMap::new();
    for worker in workers {
        if let Some(machine) = machines::with_worker(view, scope.only(), worker)? {
            let told = Inventory::of(view, &machine)?;
            known.insert(worker.clone(), facts(&machine, told.as_ref()));
        }
    }
    Ok(known)
}

/// What `machine` is in expressions, with what it told of itself in short: it is recorded with the workflow.
pub fn facts(machine: &Machine, told: Option<&Inventory>) -> Value {
    let metadata = machine.hardware.pointer("/spec/metadata").cloned();
    json!({
        "name": machine.name,
        "mac": mac_text(machine.mac()),
        "inventory": told.map_or_else(|| json!({}), Inventory::short),
        "labels": machine.labels,
        "metadata": metadata.filter(Value::is_object).unwrap_or_else(|| json!({})),
        "addresses": machine.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// Whether a selector means a machine. It sees all that the machine told, of which nothing is recorded.
///
/// # Errors
/// When the store cannot be read; within that, when the selector has no value for the machine.
pub fn is_meant(
    view: &View,
    selector: &Selector,
    machine: &Machine,
) -> Result<Result<bool, EvaluationError>, Error> {
    let mut facts = facts(machine, None);
    if selector.may_ask_for("inventory")
        && let Some(told) = Inventory::of(view, machine)?
    {
        facts["inventory"] = Value::Object(told.hardware);
    }
    Ok(selector.matches(&facts))
}

/// Those that a selector means.
///
/// # Errors
/// [`Error::Invalid`] when it has no value for one, which is not left out in silence.
pub fn selected(view: &View, selector: &Selector, machines: Vec<Machine>) -> Result<Vec<Machine>, Error> {
    let mut meant = Vec::new();
    for machine in machines {
        let said = is_meant(view, selector, &machine)?;
        if said.map_err(|error| Error::Invalid(format!("machine {}: {error}", machine.name)))? {
            meant.push(machine);
        }
    }
    Ok(meant)
}

/// A worker that names a machine: not a control task's, and no expression.
fn is_static(worker: &str) -> bool {
    !worker.is_empty() && !worker.contains("${{")
}

/// Words, and what each stands for.
type Words = BTreeMap<String, String>;

/// The devices, with the MAC of a machine for its name or address where a template wants a machine: `device_1`, `device_2`,
/// …; and the MAC for each name and address that was there.
fn with_macs(view: &View, scope: &Scope, devices: &Words) -> Result<(Words, Words), Error> {
    let mut all = devices.clone();
    let mut resolved = Words::new();
    for (_, value) in all.iter_mut().filter(|(key, _)| is_machine(key)) {
        if machines::with_worker(view, scope.only(), value)?.is_none()
            && let Some(meant) = machines::meant(view, scope.only(), value)?
        {
            let mac = mac_text(meant.mac());
            resolved.insert(std::mem::replace(value, mac.clone()), mac);
        }
    }
    Ok((all, resolved))
}

/// Whether a device is called as machines are in the templates of the field; others may be any text.
fn is_machine(device: &str) -> bool {
    let number = device.strip_prefix("device_").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Why there is no record for `.hardware`.
enum NoRecord {
    /// Machines that the devices name, by device.
    Ambiguous(Vec<(String, String)>),
    /// No device stands for a machine.
    None,
    /// Devices that stand for machines which nobody knows, with what is told of each.
    Unknown(Vec<(String, String)>),
}

impl NoRecord {
    /// What is told instead of "there is no value": the cause. `lines` say where the record is asked for.
    fn told(self, lines: &[String]) -> Error {
        let asked = lines.join("\n");
        match self {
            NoRecord::Ambiguous(named) => {
                let named: Vec<String> = named
                    .iter()
                    .map(|(device, name)| format!("{device} is {name}"))
                    .collect();
                Error::Invalid(format!(
                    "{asked}\nit is not clear which machine is meant: {}: choose one with --machine NAME",
                    named.join(", ")
                ))
            }
            NoRecord::None => Error::Invalid(format!(
                "{asked}\nno machine is given: name one with -r device_1=MAC, or with --machine NAME"
            )),
            NoRecord::Unknown(given) => {
                let given: Vec<String> = given
                    .iter()
                    .map(|(device, told)| format!("{device}: {told}"))
                    .collect();
                Error::NotFound(given.join("\n"))
            }
        }
    }
}

/// The machine whose record `.hardware` is: the one that is named; else the one of `device_1`, or the only one that the
/// devices name.
///
/// # Errors
/// [`Error::NotFound`] when the machine that is named is not there.
fn record(
    view: &View,
    scope: &Scope,
    machine: &str,
    devices: &BTreeMap<String, String>,
) -> Result<Result<Machine, NoRecord>, Error> {
    if !machine.is_empty() {
        return Ok(Ok(machines::find(view, scope.only(), machine)?.value));
    }
    let mut missing = Vec::new();
    let mut named: Vec<(String, Machine)> = Vec::new();
    for (device, value) in devices {
        match machines::with_worker(view, scope.only(), value)? {
            Some(machine) if device == "device_1" => return Ok(Ok(machine)),
            Some(machine) if named.iter().all(|(_, other)| other.name != machine.name) => {
                named.push((device.clone(), machine));
            }
            Some(_) => {}
            None if is_machine(device) || parse_mac(value).is_some() => {
                missing.push((device.clone(), unknown(view, scope, value)?));
            }
            None => {}
        }
    }
    let is_first_unknown = missing.iter().any(|(device, _)| device == "device_1");
    Ok(match (named.len(), missing.is_empty()) {
        (_, false) if is_first_unknown => Err(NoRecord::Unknown(missing)),
        (1, _) => match named.pop() {
            Some((_, machine)) => Ok(machine),
            None => Err(NoRecord::None),
        },
        (0, true) => Err(NoRecord::None),
        (0, false) => Err(NoRecord::Unknown(missing)),
        _ => {
            let name = |(device, machine): (String, Machine)| (device, machine.name);
            Err(NoRecord::Ambiguous(named.into_iter().map(name).collect()))
        }
    })
}
