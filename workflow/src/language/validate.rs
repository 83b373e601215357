//! What stands in the YAML to a definition, or to all that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use yaml::{Fields, Finding, Findings, Kind, Node, Place, What};

use super::bounds::Given;
use super::duration::duration_ms;
use super::fields::{Check, Known};
use super::flow::Links;
use super::native::{names_disk, native_by};
use super::{Action, Boots, Definition, Task, image_reference};
use crate::labels::{self, Labels};

/// Bytes of a name, as upstream.
const MAX_NAME_BYTES: usize = 199;
/// What Docker takes behind a volume's second colon.
const VOLUME_OPTIONS: [&str; 17] = [
    "ro",
    "rw",
    "z",
    "Z",
    "bind",
    "rbind",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "private",
    "rprivate",
    "nocopy",
    "consistent",
    "cached",
    "delegated",
    "U",
];

const WORKFLOW: Known = Known {
    whose: "a workflow",
    old: &["version", "name", "id", "global_timeout", "tasks"],
    new: &["boots", "labels", "policy", "inputs", "outputs"],
};
const TASK: Known = Known {
    whose: "a task",
    old: &["name", "worker", "actions", "volumes", "environment"],
    new: &[
        "group",
        "needs",
        "when",
        "recovers",
        "forEach",
        "minItems",
        "maxParallel",
        "waves",
        "maxFailures",
        "retry",
        "timeout",
        "approve",
        "wait",
        "until",
        "answers",
        "workflow",
        "inputs",
        "set",
        "succeed",
        "fail",
        "goto",
    ],
};
const ACTION: Known = Known {
    whose: "an action",
    old: &[
        "name",
        "image",
        "timeout",
        "command",
        "on-timeout",
        "on-failure",
        "volumes",
        "environment",
        "pid",
        "namespaces",
    ],
    new: &["confined", "input", "retry", "reboots", "resources", "runtime"],
};
const NAMESPACES: Known = Known {
    whose: "namespaces",
    old: &["network", "pid"],
    new: &[],
};

/// A definition, and what is odd about it.
pub(super) struct Validated {
    pub(super) definition: Definition,
    pub(super) warnings: Vec<Finding>,
    pub(super) undone: Vec<Finding>,
    pub(super) secrets: Vec<(String, Finding)>,
    pub(super) has_bounds_of_inputs: bool,
}

/// `inputs` are those of a workflow that is made; without them their defaults are checked.
pub(super) fn validate(
    tree: &Node,
    yaml: &str,
    inputs: Option<&Map<String, Value>>,
) -> Result<Validated, Vec<Finding>> {
    let found = Findings::default();
    let mut check = Check::new(yaml, &found);
    let definition = if tree.is_nothing() {
        let message = "the template is empty: it needs version, name and tasks";
        check.problem(Place::default(), Kind::Missing, message);
        Definition::default()
    } else {
        check.definition(tree, inputs)
    };
    let mut undone = std::mem::take(&mut check.undone);
    undone.sort_by_key(|finding| finding.place);
    let mut secrets = std::mem::take(&mut check.secrets);
    secrets.sort_by_key(|(_, finding)| finding.place);
    let has_bounds_of_inputs = check.has_bounds_of_inputs;
    drop(check);
    let (problems, warnings) = found.into_sorted();
    if problems.is_empty() {
        Ok(Validated {
            definition,
            warnings,
            undone,
            secrets,
            has_bounds_of_inputs,
        })
    } else {
        Err(problems)
    }
}

impl<'a> Check<'a> {
    fn definition(&mut self, tree: &'a Node, given: Option<&Map<String, Value>>) -> Definition {
        if !matches!(tree.what, What::Map(_)) {
            let message = format!("a workflow must be a map (key: value), not {}", tree.describe());
            self.found.misshapen(tree, message);
            return Definition::default();
        }
        let version = self.version(tree);
        let fields = self.fields(tree, &WORKFLOW);
        let name = self.name(&fields, "the workflow");
        let written = fields.list("tasks");
        if written.is_empty() {
            let message = "the workflow has no tasks: it needs at least one";
            self.problem(fields.at("tasks"), Kind::Missing, message);
        }
        let boots = self.boots(&fields);
        let labels = self.labels(&fields);
        let policy = self.policy(&fields);
        let inputs = self.inputs(&fields);
        self.given = Given::of(&inputs, given);
        let global_timeout_s = self.seconds(fields.get("global_timeout"), "global_timeout", None);
        let mut names = BTreeSet::new();
        let mut links = Vec::new();
        let mut tasks: Vec<Task> = written
            .iter()
            .enumerate()
            .map(|(index, task)| {
                let (task, of) = self.task(index, task, &mut names);
                links.push(of);
                task
            })
            .collect();
        let outputs = self.expressions_by_name(fields.map("outputs"), "an output", None);
        let ancestors = self.link(&mut tasks, &links);
        let definition = Definition {
            version,
            name,
            id: self.plain(fields.get("id"), "id").to_owned(),
            global_timeout_s,
            boots,
            labels,
            policy,
            inputs,
            outputs,
            tasks,
        };
        self.check_expressions(&definition, ancestors.as_ref());
        self.check_images(&definition, ancestors.as_ref());
        if let Some(ancestors) = &ancestors {
            self.check_answers(&definition, ancestors);
        }
        self.tell_failed_bounds();
        definition
    }

    fn boots(&mut self, fields: &Fields<'a>) -> Option<Boots> {
        let node = fields.get("boots")?;
        match self.plain(Some(node), "boots") {
            "agent" => Some(Boots::Agent),
            "local" => Some(Boots::Local),
            _ => {
                let message = format!(
                    "bad boots {}: expected agent (the in-memory agent) or local (its own disk)",
                    node.describe()
                );
                self.problem(node.at, Kind::Value, message);
                None
            }
        }
    }

    fn labels(&mut self, fields: &Fields<'a>) -> Labels {
        let mut labels = Labels::new();
        for entry in fields.map("labels") {
            let value = self.plain(Some(&entry.node), &format!("label {:?}", entry.name));
            match labels::check_one(&entry.name, value) {
                Ok(()) => drop(labels.insert(entry.name.clone(), value.to_owned())),
                Err(error) => self.problem(entry.at, Kind::Value, error.to_string()),
            }
        }
        if let Err(error) = labels::check(&labels) {
            self.problem(fields.at("labels"), Kind::Value, error.to_string());
        }
        labels
    }

    fn version(&mut self, tree: &'a Node) -> String {
        let node = tree.get("version");
        let version = self.text(node, "version");
        let at = node.map_or(tree.at, |node| node.at);
        match version {
            "0.1" => {}
            "1" => self.is_version_1 = true,
            "" => self.warning(at, Kind::Missing, "there is no version: write version: \"0.1\""),
            other => {
                let message = format!("version {other:?} is not known: write \"0.1\" or \"1\"");
                self.problem(at, Kind::Value, message);
            }
        }
        if self.is_version_1 { "1" } else { "0.1" }.into()
    }

    fn task(&mut self, index: usize, node: &'a Node, names: &mut BTreeSet<String>) -> (Task, Links<'a>) {
        let fields = self.fields(node, &TASK);
        let name = self.name(&fields, "a task");
        if !name.is_empty() && !names.insert(name.clone()) {
            self.problem(
                fields.at("name"),
                Kind::Twice,
                format!("a second task is called {name:?}: names must differ"),
            );
        }
        let mut action_names = BTreeSet::new();
        let actions = fields
            .list("actions")
            .iter()
            .enumerate()
            .map(|(number, action)| self.action((index, number), action, &name, &mut action_names))
            .collect();
        let mut task = Task {
            actions,
            volumes: self.volumes(&fields),
            environment: self.environment(&fields, index),
            worker: worker(self.filled(fields.get("worker"), "worker", Some(index))),
            name,
            ..Task::default()
        };
        let links = self.links(&fields);
        if self.is_version_1 {
            self.steps(&fields, index, &mut task);
        } else if task.worker.is_empty() {
            self.no_worker(fields.at("worker"), &task.name);
        }
        (task, links)
    }

    pub(super) fn no_worker(&mut self, at: Place, task: &str) {
        let message =
            format!("task {task:?} has no worker: write a MAC, or a device like \"{{{{.device_1}}}}\"");
        self.problem(at, Kind::Missing, message);
    }

    fn action(
        &mut self,
        (task, number): (usize, usize),
        node: &'a Node,
        task_name: &str,
        names: &mut BTreeSet<String>,
    ) -> Action {
        let fields = self.fields(node, &ACTION);
        let name = self.name(&fields, "an action");
        if !name.is_empty() && !names.insert(name.clone()) {
            let message =
                format!("a second action of task {task_name:?} is called {name:?}: names must differ");
            self.problem(fields.at("name"), Kind::Twice, message);
        }
        let image = self.filled(fields.get("image"), "image", Some(task)).to_owned();
        match image_reference::check(&image) {
            // What an expression gives is checked when it is filled in.
            Err(_) if self.is_version_1 && image.contains("${{") => {}
            Err(error) => {
                let message = format!("image {image:?} of action {name:?} is no image reference: {error}");
                self.problem(fields.at("image"), Kind::Image, message);
            }
            Ok(()) => self.images.push((task, number, fields.at("image"))),
        }
        let namespaces = fields
            .get("namespaces")
            .map(|node| self.fields(node, &NAMESPACES));
        let of_namespaces = |field| namespaces.as_ref().and_then(|fields| fields.get(field));
        // `pid` is the older spelling of namespaces.pid.
        let pid = self.namespace(of_namespaces("pid").or(fields.get("pid")), "pid");
        let network = self.namespace(of_namespaces("network"), "network");
        let handed = |check: &mut Check<'a>, item| check.handed(Some(item), "command", task).to_owned();
        let runtime = self.runtime(fields.get("runtime"), &name, &image);
        let command = fields.list("command");
        if let (Some(node), Some(native)) = (
            fields.get("command").filter(|_| !command.is_empty()),
            native_by(runtime, &image),
        ) {
            let cure = match native.name {
                "cexec" => "cexec runs what CMD_LINE says",
                "exec" => "exec runs what CMD_LINE says",
                _ => "it is told what to do by its environment",
            };
            let message = format!("command of action {name:?} has no effect: {cure}");
            self.not_done(node.at, message);
        }
        let confined = self.flag(fields.get("confined"), "confined");
        let resources = fields
            .get("resources")
            .map(|node| self.resources(node, &name, task))
            .unwrap_or_default();
        if let Some(native) = native_by(runtime, &image) {
            for field in ["confined", "resources"] {
                if let Some(node) = fields.get(field).filter(|_| field == "resources" || confined) {
                    let message = format!(
                        "{field} of action {name:?} is for containers, and {} is built into the agent: leave it out, or write \
                         runtime: namespaces to have the image run",
                        native.name
                    );
                    self.problem(node.at, Kind::Conflict, message);
                }
            }
        }
        let environment = self.environment(&fields, task);
        let known = native_by(runtime, &image).filter(|_| !image.contains("${{"));
        Action {
            timeout_s: self.seconds(fields.get("timeout"), "timeout", Some(task)),
            command: command.iter().map(|item| handed(self, item)).collect(),
            on_timeout: self.arguments(&fields, "on-timeout"),
            on_failure: self.arguments(&fields, "on-failure"),
            volumes: self.volumes(&fields),
            input: self.action_input(&fields, (&name, task), known, &environment),
            environment,
            reboots: self.flag(fields.get("reboots"), "reboots"),
            retry: fields.get("retry").map(|node| self.retry(node, task)),
            runtime,
            pid,
            network,
            confined,
            resources,
            name,
            image,
        }
    }

    fn name(&mut self, fields: &Fields<'a>, whose: &str) -> String {
        let name = self.plain(fields.get("name"), "a name");
        let at = fields.at("name");
        if name.is_empty() {
            self.problem(
                at,
                Kind::Missing,
                format!("{whose} has no name: it needs one of 1 to {MAX_NAME_BYTES} bytes"),
            );
        } else if name.len() > MAX_NAME_BYTES {
            let message = format!(
                "the name of {whose} has {} bytes: {MAX_NAME_BYTES} is the most",
                name.len()
            );
            self.problem(at, Kind::TooMuch, message);
        }
        name.to_owned()
    }

    /// A time limit in seconds; 0 when there is none, or it is not known yet.
    pub(super) fn seconds(
        &mut self,
        node: Option<&'a Node>,
        field: &'static str,
        task: Option<usize>,
    ) -> u64 {
        let Some(node) = node else { return 0 };
        let Some(value) = self.bound(node, field, task) else {
            return 0;
        };
        let value = value.trim();
        if value.is_empty() {
            return 0;
        }
        if self.is_version_1 && !value.starts_with('-') {
            let ms = self.milliseconds(node, value, field);
            if !ms.is_multiple_of(1000) {
                let message = format!("{field} {value:?} has a part of a second: write whole seconds");
                self.problem(node.at, Kind::Value, message);
            }
            return ms / 1000;
        }
        let message = match value.parse::<i64>() {
            Ok(seconds) if seconds < 0 => {
                format!("{field} {value} is negative: write seconds, or 0 for none")
            }
            Ok(seconds) => return seconds.unsigned_abs(),
            Err(_) => format!("{field} {value:?} is no whole number of seconds: write one, like 600"),
        };
        self.problem(node.at, Kind::Value, message);
        0
    }

    /// The milliseconds of a duration of version 1; 0 when it is not known yet.
    pub(super) fn duration(&mut self, node: &'a Node, field: &'static str, task: Option<usize>) -> u64 {
        let value = self.bound(node, field, task);
        value.map_or(0, |value| self.milliseconds(node, &value, field))
    }

    /// What a text of version 1 is as a duration.
    pub(super) fn milliseconds(&self, node: &Node, value: &str, field: &str) -> u64 {
        duration_ms(value).unwrap_or_else(|| {
            let message =
                format!("{field} {value:?} is no duration: write seconds, or one like 90s, 10m, 1h30m or 2d");
            self.problem(node.at, Kind::Value, message);
            0
        })
    }

    fn volumes(&mut self, fields: &Fields<'a>) -> Vec<String> {
        let volumes = fields.list("volumes").iter();
        volumes.map(|volume| self.volume(volume)).collect()
    }

    fn volume(&mut self, node: &'a Node) -> String {
        let value = self.plain(Some(node), "a volume");
        let parts: Vec<&str> = value.split(':').collect();
        let is_good = match parts[..] {
            [source, target] | [source, target, _] => !source.is_empty() && target.starts_with('/'),
            _ => false,
        };
        if !is_good {
            let message =
                format!("volume {value:?} is not like /on/host:/in/container or /on/host:/in/container:ro");
            self.problem(node.at, Kind::Value, message);
        }
        for option in parts.get(2).into_iter().flat_map(|options| options.split(',')) {
            if is_good && !VOLUME_OPTIONS.contains(&option) {
                let message = format!("volume {value:?} has the unknown option {option:?}");
                self.warning(node.at, Kind::Odd, message);
            }
        }
        value.to_owned()
    }

    fn namespace(&mut self, node: Option<&'a Node>, which: &str) -> String {
        let value = self.text(node, which);
        let (is_known, known) = match which {
            "network" => (
                matches!(value, "" | "bridge" | "host" | "none"),
                "only \"host\", \"bridge\" and \"none\" have",
            ),
            _ => (matches!(value, "" | "host"), "only \"host\" has"),
        };
        if let Some(node) = node.filter(|_| !is_known) {
            let message = format!("{which} {value:?} has no effect: {known}");
            self.warning(node.at, Kind::NoEffect, message);
        }
        value.to_owned()
    }

    /// An item that is null is an empty string, as upstream.
    fn arguments(&mut self, fields: &Fields<'a>, field: &str) -> Vec<String> {
        let items = fields.list(field).iter();
        items
            .map(|item| self.plain(Some(item), field).to_owned())
            .collect()
    }

    fn environment(&mut self, fields: &Fields<'a>, task: usize) -> BTreeMap<String, String> {
        let entries = fields.map("environment").iter();
        entries
            .map(|entry| {
                let node = Some(&entry.node);
                let value = if names_disk(&entry.name) {
                    self.recorded(node, task, &entry.name)
                } else {
                    self.handed(node, &entry.name, task)
                };
                (entry.name.clone(), value.to_owned())
            })
            .collect()
    }
}

/// MACs are compared as text, so there is one way to write them: lower case with colons.
fn worker(written: &str) -> String {
    let written = written.trim();
    let is_mac = written.len() == 17
        && written
            .split([':', '-'])
            .all(|byte| byte.len() == 2 && byte.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_mac {
        written.to_ascii_lowercase().replace('-', ":")
    } else {
        written.to_owned()
    }
}
