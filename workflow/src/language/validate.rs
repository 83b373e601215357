//! What stands in the YAML to a definition, or to all that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use serde_saphyr::{Location, Spanned};

use super::nearest::nearest;
use super::parse::{self, Placed, Unknown, line_and_column};
use super::problem::{Problem, Text};
use super::{Action, Definition, Task, image_reference};

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

pub(super) fn validate(
    written: &Spanned<Option<parse::Definition>>,
    yaml: &str,
) -> Result<(Definition, Vec<Problem>), Vec<Problem>> {
    let mut check = Check {
        yaml,
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let definition = match &written.value {
        Some(definition) => Some(check.definition(definition, &written.referenced)),
        None => {
            check.problem(
                &Location::UNKNOWN,
                "the template is empty: it needs version, name and tasks",
            );
            None
        }
    };
    check
        .warnings
        .sort_by_key(|warning| (warning.line, warning.column));
    match definition {
        Some(definition) if check.problems.is_empty() => Ok((definition, check.warnings)),
        _ => {
            check
                .problems
                .sort_by_key(|problem| (problem.line, problem.column));
            Err(check.problems)
        }
    }
}

struct Check<'a> {
    yaml: &'a str,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Check<'_> {
    fn definition(&mut self, written: &parse::Definition, at: &Location) -> Definition {
        self.unknown(&written.unknown, "a workflow");
        let version = self.version(&written.version, at);
        let name = self.name(&written.name, at, "the workflow");
        let global_timeout_s = self.seconds(&written.global_timeout, "global_timeout");
        let tasks: &[Spanned<Option<parse::Task>>] = items(&written.tasks);
        if tasks.is_empty() {
            let at = written.tasks.as_ref().map_or(at, |tasks| &tasks.referenced);
            self.problem(at, "the workflow has no tasks: it needs at least one");
        }
        let mut names = BTreeSet::new();
        let mut tasks: Vec<Task> = tasks.iter().map(|task| self.task(task, &mut names)).collect();
        for (index, task) in tasks.iter_mut().enumerate().skip(1) {
            task.needs = vec![index - 1];
        }
        let id = text(&written.id).to_owned();
        Definition {
            version,
            name,
            id,
            global_timeout_s,
            tasks,
            ..Definition::default()
        }
    }

    fn version(&mut self, written: &Placed<String>, at: &Location) -> String {
        match text(written) {
            "0.1" => {}
            "" => self.warning(place(written, at), "there is no version: write version: \"0.1\""),
            other => {
                let message = format!("version {other:?} is not known: write \"0.1\"");
                self.problem(place(written, at), message);
            }
        }
        "0.1".into()
    }

    fn task(&mut self, written: &Spanned<Option<parse::Task>>, names: &mut BTreeSet<String>) -> Task {
        let (empty, at) = (parse::Task::default(), &written.referenced);
        let task = written.value.as_ref().unwrap_or(&empty);
        self.unknown(&task.unknown, "a task");
        let name = self.name(&task.name, at, "a task");
        if !name.is_empty() && !names.insert(name.clone()) {
            self.problem(
                place(&task.name, at),
                format!("a second task is called {name:?}: names must differ"),
            );
        }
        let worker = worker(text(&task.worker));
        if worker.is_empty() {
            let message =
                format!("task {name:?} has no worker: write a MAC, or a device like \"{{{{.device_1}}}}\"");
            self.problem(place(&task.worker, at), message);
        }
        let mut action_names = BTreeSet::new();
        let actions: &[Spanned<Option<parse::Action>>] = items(&task.actions);
        Task {
            actions: actions
                .iter()
                .map(|action| self.action(action, &name, &mut action_names))
                .collect(),
            volumes: self.volumes(&task.volumes),
            environment: environment(&task.environment),
            name,
            worker,
            ..Task::default()
        }
    }

    fn action(
        &mut self,
        written: &Spanned<Option<parse::Action>>,
        task: &str,
        names: &mut BTreeSet<String>,
    ) -> Action {
        let (empty, at) = (parse::Action::default(), &written.referenced);
        let action = written.value.as_ref().unwrap_or(&empty);
        self.unknown(&action.unknown, "an action");
        let name = self.name(&action.name, at, "an action");
        if !name.is_empty() && !names.insert(name.clone()) {
            let message = format!("a second action of task {task:?} is called {name:?}: names must differ");
            self.problem(place(&action.name, at), message);
        }
        let image = text(&action.image).to_owned();
        if let Err(error) = image_reference::check(&image) {
            let message = format!("image {image:?} of action {name:?} is no image reference: {error}");
            self.problem(place(&action.image, at), message);
        }
        let no_namespaces = parse::Namespaces::default();
        let namespaces = action
            .namespaces
            .as_ref()
            .and_then(|spanned| spanned.value.as_ref())
            .unwrap_or(&no_namespaces);
        self.unknown(&namespaces.unknown, "namespaces");
        // `pid` is the older spelling of namespaces.pid.
        let pid = if text(&namespaces.pid).is_empty() {
            &action.pid
        } else {
            &namespaces.pid
        };
        self.namespace(pid, "pid");
        self.namespace(&namespaces.network, "network");
        Action {
            timeout_s: self.seconds(&action.timeout, "timeout"),
            command: texts(&action.command),
            on_timeout: texts(&action.on_timeout),
            on_failure: texts(&action.on_failure),
            volumes: self.volumes(&action.volumes),
            environment: environment(&action.environment),
            pid: text(pid).to_owned(),
            network: text(&namespaces.network).to_owned(),
            name,
            image,
            ..Action::default()
        }
    }

    fn name(&mut self, written: &Placed<String>, at: &Location, whose: &str) -> String {
        let name = text(written);
        let at = place(written, at);
        if name.is_empty() {
            self.problem(
                at,
                format!("{whose} has no name: it needs one of 1 to {MAX_NAME_BYTES} bytes"),
            );
        } else if name.len() > MAX_NAME_BYTES {
            let message = format!(
                "the name of {whose} has {} bytes: {MAX_NAME_BYTES} is the most",
                name.len()
            );
            self.problem(at, message);
        }
        name.to_owned()
    }

    fn seconds(&mut self, written: &Placed<String>, field: &str) -> u64 {
        let value = text(written).trim();
        if value.is_empty() {
            return 0;
        }
        let message = match value.parse::<i64>() {
            Ok(seconds) if seconds < 0 => {
                format!("{field} {value} is negative: write seconds, or 0 for none")
            }
            Ok(seconds) => return seconds.unsigned_abs(),
            Err(_) => format!("{field} {value:?} is no whole number of seconds: write one, like 600"),
        };
        self.problem(place(written, &Location::UNKNOWN), message);
        0
    }

    fn volumes(&mut self, written: &Placed<Vec<Spanned<Option<String>>>>) -> Vec<String> {
        let volumes: &[Spanned<Option<String>>] = items(written);
        for volume in volumes {
            let value = volume.value.as_deref().unwrap_or("");
            let parts: Vec<&str> = value.split(':').collect();
            let is_good = match parts[..] {
                [source, target] | [source, target, _] => !source.is_empty() && target.starts_with('/'),
                _ => false,
            };
            if !is_good {
                let message = format!(
                    "volume {value:?} is not like /on/host:/in/container or /on/host:/in/container:ro"
                );
                self.problem(&volume.referenced, message);
            }
            for option in parts.get(2).into_iter().flat_map(|options| options.split(',')) {
                if is_good && !VOLUME_OPTIONS.contains(&option) {
                    let message = format!("volume {value:?} has the unknown option {option:?}");
                    self.warning(&volume.referenced, message);
                }
            }
        }
        volumes
            .iter()
            .map(|volume| volume.value.clone().unwrap_or_default())
            .collect()
    }

    fn namespace(&mut self, written: &Placed<String>, which: &str) {
        let value = text(written);
        if !matches!(value, "" | "host") {
            let message = format!("{which} {value:?} has no effect: only \"host\" has");
            self.warning(place(written, &Location::UNKNOWN), message);
        }
    }

    fn unknown(&mut self, fields: &[Unknown], whose: &str) {
        for field in fields {
            let name = &field.name.value;
            let near = nearest(name, field.known.iter().copied())
                .map(|near| format!("; did you mean {near:?}?"))
                .unwrap_or_default();
            self.warning(
                &field.name.referenced,
                format!("{name:?} is no field of {whose} and has no effect{near}"),
            );
        }
    }

    fn problem(&mut self, at: &Location, message: impl Into<String>) {
        let problem = self.at(at, message);
        self.problems.push(problem);
    }

    fn warning(&mut self, at: &Location, message: impl Into<String>) {
        let warning = self.at(at, message);
        self.warnings.push(warning);
    }

    fn at(&self, at: &Location, message: impl Into<String>) -> Problem {
        let (line, column) = line_and_column(at);
        Problem::at(Text::Rendered, self.yaml, line, column, message)
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

fn text(written: &Placed<String>) -> &str {
    written
        .as_ref()
        .and_then(|spanned| spanned.value.as_deref())
        .unwrap_or("")
}

fn items<T>(written: &Placed<Vec<T>>) -> &[T] {
    written
        .as_ref()
        .and_then(|spanned| spanned.value.as_deref())
        .unwrap_or_default()
}

/// An item that is null is an empty string, as upstream.
fn texts(written: &Placed<Vec<Option<String>>>) -> Vec<String> {
    items(written)
        .iter()
        .map(|item| item.clone().unwrap_or_default())
        .collect()
}

fn environment(written: &Placed<BTreeMap<String, Option<String>>>) -> BTreeMap<String, String> {
    let entries = written
        .iter()
        .filter_map(|spanned| spanned.value.as_ref())
        .flatten();
    entries
        .map(|(name, value)| (name.clone(), value.clone().unwrap_or_default()))
        .collect()
}

fn place<'a, T>(written: &'a Placed<T>, otherwise: &'a Location) -> &'a Location {
    written.as_ref().map_or(otherwise, |spanned| &spanned.referenced)
}
