//! Templates: the texts that workflows are made from. Changing one never changes a workflow that exists.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use workflow::engine::UnixMillis;
use workflow::labels::Labels;
use workflow::language::{self, Carried, CarriedTemplate, CarriedWorkflow, Problem};
use yaml::{Kind, Place};

use crate::database::{Batch, Stored, View};
use crate::error::Error;
use crate::machines::ChangeKind;
use crate::namespaces::{Reach, Scope, default_namespace, of};
use crate::secrets;

/// A stored template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    pub id: String,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    pub name: String,
    pub text: String,
    /// Of the object that carried it: workflows begin with them.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Raised by every change of the text, or of the labels.
    pub version: u64,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
    /// Who stored this version; empty: a server that did not note it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub updated_by: String,
}

impl Template {
    /// What tells texts apart: `sha256:` and the SHA-256 in hex.
    pub fn digest(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.text.as_bytes());
        format!("sha256:{}", data_encoding::HEXLOWER.encode(digest.as_ref()))
    }
}

/// Versions of a template that are kept beside the newest.
pub const OLDER_VERSIONS: u64 = 20;

/// As upstream's workflow names.
const MAX_NAME_BYTES: usize = 199;

/// What can be said of a template before there are devices.
#[derive(Debug, PartialEq, Eq)]
pub struct Checked {
    /// A line each.
    pub warnings: Vec<String>,
    /// Whether all of it was understood; else only its syntax was, as it needs the record of a machine to be rendered.
    pub is_whole: bool,
}

/// Checks all templates of a file, called `source` in messages, without a server.
///
/// # Errors
/// [`Error::Invalid`] with every problem, its line and what stands there.
pub fn check(text: &str, source: &str) -> Result<Checked, Error> {
    let lines = |problems: Vec<Problem>| Error::Invalid(lines(&problems, source));
    let Some(carried) = language::carried(text).map_err(lines)? else {
        return Ok(check_one(text).map_err(lines)?.described(source));
    };
    if carried.templates.is_empty() {
        return Err(no_template(&carried, source));
    }
    let mut all = Understood {
        odd: carried.warnings,
        is_whole: true,
    };
    for template in &carried.templates {
        let in_file = |problem| template.in_file(problem);
        let one = check_one(&template.text)
            .map_err(|problems| lines(problems.into_iter().map(in_file).collect()))?;
        all.odd.extend(one.odd.into_iter().map(in_file));
        all.is_whole &= one.is_whole;
    }
    Ok(all.described(source))
}

/// What is odd about a template, and whether all of it was understood.
struct Understood {
    odd: Vec<Problem>,
    is_whole: bool,
}

impl Understood {
    fn described(self, source: &str) -> Checked {
        Checked {
            warnings: self.odd.iter().map(|odd| described(odd, source)).collect(),
            is_whole: self.is_whole,
        }
    }
}

fn check_one(text: &str) -> Result<Understood, Vec<Problem>> {
    let given = |mut problem: Problem| {
        problem.text = language::Text::Template;
        problem
    };
    let plain = language::check(text).map_err(|found| found.into_iter().map(given).collect::<Vec<_>>())?;
    let (mut bad, odd) = literal(text);
    // What is too long, or no YAML, may be so for what was made up; and a bad name has words of its own.
    let certain = language::certain(text).into_iter();
    bad.extend(certain.filter(|problem| !matches!(problem.finding.kind, Kind::NotYaml | Kind::TooMuch)));
    if !bad.is_empty() {
        bad.sort_by_key(|problem| problem.finding.place);
        bad.dedup_by(|one, other| {
            let (one, other) = (&one.finding, &other.finding);
            one.message == other.message && one.place.line == other.place.line
        });
        return Err(bad);
    }
    let is_whole = odd.is_some();
    // A template that fills nothing in was checked as a whole, and it is its own rendering. Of one that made-up values
    // do not render, its lines tell what they can.
    let odd = odd.unwrap_or_else(|| {
        plain
            .into_iter()
            .chain(language::undone(text))
            .map(given)
            .collect()
    });
    Ok(Understood { odd, is_whole })
}

/// What is wrong and what is odd in lines that every rendering has as they are, found by rendering with a made-up
/// value for each variable. `None` when the template needs more than that, such as a record's fields.
fn literal(text: &str) -> (Vec<Problem>, Option<Vec<Problem>>) {
    let value = |name: &str| (name.to_owned(), "00:00:00:00:00:01".to_owned());
    let devices = language::Devices {
        devices: variables(text).map(value).collect(),
        hardware: serde_json::Value::Null,
    };
    // Of lines that are the same, the one that has as many of them before it.
    let as_written = |mut problem: Problem, before: usize| {
        let same = |(_, line): &(usize, &str)| *line == problem.quoted;
        let mut lines = text.lines().enumerate().filter(same);
        let (at, _) = lines.clone().nth(before).or_else(|| lines.next())?;
        problem.finding.place.line = u32::try_from(at + 1).ok()?;
        problem.text = language::Text::Template;
        Some(problem)
    };
    match language::render(text, &devices) {
        Ok(rendered) => {
            let all = rendered.warnings.into_iter().chain(rendered.undone);
            let odd = all.filter_map(|problem| {
                let line = usize::try_from(problem.finding.place.line).unwrap_or(0);
                let above = rendered.yaml.lines().take(line.saturating_sub(1));
                let before = above.filter(|line| *line == problem.quoted).count();
                as_written(problem, before)
            });
            (Vec::new(), Some(odd.collect()))
        }
        // Other mistakes may be of the made-up values.
        Err(problems) => {
            let is_certain =
                |problem: &Problem| matches!(problem.finding.kind, Kind::Image | Kind::UnknownField);
            let certain = problems.into_iter().filter(is_certain);
            (
                certain.filter_map(|problem| as_written(problem, 0)).collect(),
                None,
            )
        }
    }
}

/// The template that is meant by what was given for one.
#[derive(Debug)]
pub struct Meant {
    /// The template itself.
    pub text: String,
    /// The name that it has; `None`: it gives none.
    pub name: Option<String>,
    /// Of the object that carries it.
    pub labels: Labels,
    /// What is odd about what carries it.
    pub warnings: Vec<Problem>,
    carrier: Option<CarriedTemplate>,
}

impl Meant {
    /// That its object names; empty: none.
    fn namespace(&self) -> String {
        let carrier = self.carrier.as_ref();
        carrier
            .map(|template| template.namespace.clone())
            .unwrap_or_default()
    }

    /// A problem of the template at its place in what was given.
    pub fn in_file(&self, problem: Problem) -> Problem {
        match &self.carrier {
            Some(template) => template.in_file(problem),
            None => problem,
        }
    }
}

/// The template in a text, which is one or carries one. Where it carries several, the one called `name`.
///
/// # Errors
/// [`Error::Invalid`] when none is meant, or it is not clear which.
pub fn meant(text: &str, name: &str, source: &str) -> Result<Meant, Error> {
    let Some(carried) = language::carried(text).map_err(|found| Error::Invalid(lines(&found, source)))?
    else {
        return Ok(Meant {
            name: named(text),
            text: text.to_owned(),
            labels: Labels::new(),
            warnings: Vec::new(),
            carrier: None,
        });
    };
    let names = carried
        .templates
        .iter()
        .map(|template| (template.name.as_str(), template.line));
    let index = match chosen(names, name, "template")? {
        Some(index) => index,
        None => return Err(no_template(&carried, source)),
    };
    Ok(out_of(carried, index))
}

fn out_of(mut carried: Carried, index: usize) -> Meant {
    let template = carried.templates.swap_remove(index);
    Meant {
        text: template.text.clone(),
        name: Some(template.name.clone()),
        labels: template.labels.clone(),
        warnings: carried.warnings,
        carrier: Some(template),
    }
}

/// The templates that a file names, for who deletes them: the namespace of each, empty where the file says none, and its name.
///
/// # Errors
/// [`Error::Invalid`] when it has none, or one has no name.
pub fn names(text: &str, source: &str) -> Result<Vec<(String, String)>, Error> {
    let carried = language::carried(text).map_err(|found| Error::Invalid(lines(&found, source)))?;
    let Some(carried) = carried else {
        let name = named(text).ok_or_else(|| {
            Error::Invalid(format!(
                "{source}: line 1: the template has no name: write `name: NAME` in it"
            ))
        })?;
        return Ok(vec![(String::new(), name)]);
    };
    if carried.templates.is_empty() {
        return Err(no_template(&carried, source));
    }
    let templates = carried.templates.into_iter();
    Ok(templates
        .map(|template| (template.namespace, template.name))
        .collect())
}

/// What a file asks for that a workflow is to be made from.
#[derive(Debug)]
pub struct Asked {
    /// `None`: a stored one, by its name.
    pub template: Result<Meant, String>,
    /// Of a `Workflow` object.
    pub workflow: Option<CarriedWorkflow>,
    /// What is odd about the file, where the template is not from it.
    pub warnings: Vec<Problem>,
}

/// The workflow that a text asks for: by an object that names template, machine and devices, or by a template alone. Where
/// it has several, the one called `name`.
///
/// # Errors
/// As [`meant`].
pub fn asked(text: &str, name: &str, source: &str) -> Result<Asked, Error> {
    let carried = language::carried(text).map_err(|found| Error::Invalid(lines(&found, source)))?;
    let Some(carried) = carried.filter(|carried| !carried.workflows.is_empty()) else {
        return Ok(Asked {
            template: Ok(meant(text, name, source)?),
            workflow: None,
            warnings: Vec::new(),
        });
    };
    let names = carried
        .workflows
        .iter()
        .map(|workflow| (workflow.name.as_str(), workflow.line));
    let index = chosen(names, name, "workflow")?.unwrap_or(0);
    let workflow = carried.workflows.get(index).cloned();
    let wanted = workflow
        .as_ref()
        .map(|workflow| workflow.template.clone())
        .unwrap_or_default();
    let namespace = workflow.as_ref().map(|workflow| workflow.namespace.as_str());
    let own = carried.templates.iter().position(|template| {
        template.name == wanted && is_one(namespace.unwrap_or_default(), &template.namespace)
    });
    let warnings = carried.warnings.clone();
    Ok(Asked {
        template: own.map(|index| out_of(carried, index)).ok_or(wanted),
        workflow,
        warnings,
    })
}

/// Whether two objects may be of one namespace: one that names none is of whichever it is taken for.
fn is_one(namespace: &str, other: &str) -> bool {
    namespace == other || namespace.is_empty() || other.is_empty()
}

/// The namespace that what a text asks for is of, as its object says; empty: it says none. Where the text has several, of the
/// one called `name`.
///
/// # Errors
/// As [`asked`].
pub fn namespace_of(text: &str, name: &str, source: &str) -> Result<String, Error> {
    // Most texts are templates, and say nothing of it.
    if !text.contains("namespace") {
        return Ok(String::new());
    }
    let asked = asked(text, name, source)?;
    let of_workflow = asked.workflow.map(|workflow| workflow.namespace);
    let of_workflow = of_workflow.filter(|namespace| !namespace.is_empty());
    Ok(of_workflow.unwrap_or_else(|| asked.template.map(|meant| meant.namespace()).unwrap_or_default()))
}

/// The only one, or the one of this name.
fn chosen<'n>(
    names: impl Iterator<Item = (&'n str, u32)> + Clone,
    name: &str,
    what: &str,
) -> Result<Option<usize>, Error> {
    let count = names.clone().count();
    let by_name = names.clone().position(|(other, _)| other == name);
    match (count, by_name) {
        (0, _) => Ok(None),
        (1, _) => Ok(Some(0)),
        (_, Some(index)) => Ok(Some(index)),
        (count, None) => {
            let all: Vec<String> = names
                .map(|(name, line)| format!("{name} (line {line})"))
                .collect();
            Err(Error::Invalid(format!(
                "the file has {count} {what}s, and one is wanted: {}: choose one with --name NAME",
                all.join(", ")
            )))
        }
    }
}

fn no_template(carried: &Carried, source: &str) -> Error {
    let of_workflow = carried.workflows.first().map(|workflow| {
        format!(
            "Workflow {:?} is no template: it asks for one, {:?}, and `farrier workflow create` makes it",
            workflow.name, workflow.template
        )
    });
    let mut said = vec![of_workflow.unwrap_or_else(|| "the file holds no template".into())];
    said.extend(carried.warnings.iter().map(|warning| described(warning, source)));
    Error::Invalid(said.join("\n"))
}

/// The names behind a dot inside of `{{` and `}}`.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    let actions = text
        .split("{{")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("}}")?.0));
    let word = |char: char| char.is_alphanumeric() || matches!(char, '_' | '.');
    actions.flat_map(move |action| {
        action
            .split(move |char: char| !word(char))
            .filter_map(|path| path.strip_prefix('.')?.split('.').next())
            .filter(|name| !name.is_empty() && !matches!(*name, "hardware" | "Hardware"))
    })
}

/// As [`described`], one below the other.
pub fn lines(problems: &[Problem], source: &str) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| described(problem, source))
        .collect();
    lines.join("\n")
}

/// `FILE: line LINE, column COLUMN: message`, with the line it is in below; "rendered" when it is not the template's line.
/// Without a file where `source` is empty.
pub fn described(problem: &Problem, source: &str) -> String {
    let text = match problem.text {
        language::Text::Template => "",
        language::Text::Rendered => "rendered ",
    };
    let source = match source {
        "" => String::new(),
        source => format!("{source}: "),
    };
    let Place { line, column } = problem.finding.place;
    let place = match (line, column) {
        (0, _) => String::new(),
        (line, 0) => format!("{source}{text}line {line}: "),
        (line, column) => format!("{source}{text}line {line}, column {column}: "),
    };
    let quoted = problem.quoted.trim_end();
    let quoted = if quoted.is_empty() {
        String::new()
    } else {
        format!("\n    | {quoted}")
    };
    format!("{place}{}{quoted}", problem.finding.message)
}

/// What storing a template comes to.
#[derive(Debug)]
pub struct Put {
    /// As it is stored afterwards.
    pub template: Template,
    /// As it is stored now; `None`: there is none.
    pub before: Option<Template>,
    pub warnings: Vec<String>,
    /// `None`: it is stored already, as it is.
    pub batch: Option<Batch>,
    /// To be committed before it: keeps the version that is replaced. Both together may be too large for one commit.
    pub history: Option<Batch>,
}

impl Put {
    /// What it is: `created`, `updated` or `unchanged`.
    pub fn change(&self) -> ChangeKind {
        match (&self.batch, &self.before) {
            (None, _) => ChangeKind::Unchanged,
            (Some(_), None) => ChangeKind::Created,
            (Some(_), Some(_)) => ChangeKind::Updated,
        }
    }
}

/// A text that is to be stored as a template.
#[derive(Clone, Debug, Default)]
pub struct Offered {
    /// Empty: the name that the text gives.
    pub name: String,
    /// A template, or an object that carries one.
    pub text: String,
    /// The name of its file, for messages.
    pub source: String,
    /// Who stores it.
    pub by: String,
}

/// Stores a template under its name. `id` is that of a template that there was not.
///
/// # Errors
/// [`Error::Invalid`] with every problem of the text, or what is wrong with the name.
pub fn put(view: &View, scope: &Scope, offered: &Offered, id: &str, now: UnixMillis) -> Result<Put, Error> {
    let source = &offered.source;
    let wanted = offered.name.trim();
    let mut meant = meant(&offered.text, wanted, source)?;
    let in_file = |problem| meant.in_file(problem);
    let understood = check_one(&meant.text).map_err(|problems| {
        let problems: Vec<Problem> = problems.into_iter().map(in_file).collect();
        Error::Invalid(lines(&problems, source))
    })?;
    let unknown = secrets::unknown(view, scope, &language::secrets(&meant.text))?;
    let odd: Vec<Problem> = understood.odd.into_iter().chain(unknown).map(in_file).collect();
    let warnings = meant.warnings.iter().chain(&odd);
    let warnings: Vec<String> = warnings.map(|odd| described(odd, source)).collect();
    let name = match wanted {
        "" => meant.name.take().ok_or_else(|| {
            Error::Invalid("the template has no name: write `name: NAME` in it, or give one".into())
        })?,
        name => name.to_owned(),
    };
    let text = meant.text.as_str();
    let printable = |letter: char| letter != '/' && !letter.is_control();
    // By its id another template is found.
    let is_id = Uuid::parse_str(&name).is_ok();
    if name.len() > MAX_NAME_BYTES || !name.chars().all(printable) || is_id {
        return Err(Error::Invalid(format!(
            "bad template name {name:?}: expected 1 to {MAX_NAME_BYTES} bytes of printable text without a slash, and no id"
        )));
    }
    let key = key(scope.namespace(), &name);
    let before = view.get::<Template>(&key)?;
    let template = match &before {
        Some(before) if before.value.text == text && before.value.labels == meant.labels => {
            return Ok(Put {
                template: before.value.clone(),
                before: Some(before.value.clone()),
                warnings,
                batch: None,
                history: None,
            });
        }
        Some(Stored { value, .. }) => Template {
            text: text.to_owned(),
            labels: meant.labels.clone(),
            version: value.version + 1,
            updated_at: now,
            updated_by: offered.by.clone(),
            ..value.clone()
        },
        None => Template {
            id: id.to_owned(),
            namespace: scope.namespace().to_owned(),
            name,
            text: text.to_owned(),
            labels: meant.labels.clone(),
            version: 1,
            created_at: now,
            updated_at: now,
            updated_by: offered.by.clone(),
        },
    };
    let mut batch = Batch::default();
    batch.expect(&key, before.as_ref().map(|before| before.modified));
    let history = before.as_ref().map(|before| {
        let mut history = Batch::default();
        // With a template that is deleted meanwhile none of its versions stays.
        history.unchanged(&key, before.modified);
        history.put(version_key(&template.id, before.value.version), &before.value);
        history
    });
    if let Some(too_old) = template.version.checked_sub(OLDER_VERSIONS + 1) {
        batch.delete(version_key(&template.id, too_old));
    }
    batch.put(&key, &template);
    batch.put(
        format!("template-id/{}", template.id),
        &format!("{}/{}", template.namespace, template.name),
    );
    Ok(Put {
        template,
        before: before.map(|before| before.value),
        warnings,
        batch: Some(batch),
        history,
    })
}

/// Every template within reach, by namespace and name.
///
/// # Errors
/// When the store cannot be read.
pub fn all(view: &View, reach: &Reach) -> Result<Vec<Template>, Error> {
    let all = view.list::<Template>("template/")?.into_iter();
    let all = all.map(|(_, template)| template);
    Ok(all.filter(|template| reach.has(&template.namespace)).collect())
}

/// Takes a template away. Workflows that were made from it go on: they have their own text.
///
/// # Errors
/// As [`find`].
pub fn deletion(view: &View, scope: &Scope, name_or_id: &str) -> Result<Batch, Error> {
    let template = find(view, scope, name_or_id)?;
    if template.name != name_or_id && template.id != name_or_id {
        return Err(Error::Invalid(format!(
            "{name_or_id:?} is one version of a template, and all go together: delete {:?}",
            template.name
        )));
    }
    let mut batch = Batch::default();
    batch.delete_below(&format!("template-version/{}/", template.id));
    batch.delete(key(&template.namespace, &template.name));
    batch.delete(format!("template-id/{}", template.id));
    Ok(batch)
}

/// The versions of a template that are kept, the newest first.
///
/// # Errors
/// As [`find`].
pub fn versions(view: &View, scope: &Scope, name_or_id: &str) -> Result<Vec<Template>, Error> {
    let newest = find(view, scope, name_or_id)?;
    let mut versions = older(view, &newest)?;
    versions.push(newest);
    versions.reverse();
    Ok(versions)
}

/// From the oldest on.
fn older(view: &View, newest: &Template) -> Result<Vec<Template>, Error> {
    let all = view.list::<Template>(&format!("template-version/{}/", newest.id))?;
    let all = all.into_iter().map(|(_, template)| template);
    // One may have been kept whose successor was not stored then.
    Ok(all.filter(|template| template.version < newest.version).collect())
}

fn of_version(view: &View, newest: Template, version: u64) -> Result<Template, Error> {
    if newest.version == version {
        return Ok(newest);
    }
    if version < newest.version
        && let Some(found) = view.get::<Template>(&version_key(&newest.id, version))?
    {
        return Ok(found.value);
    }
    let oldest = older(view, &newest)?
        .first()
        .map_or(newest.version, |template| template.version);
    let kept = match oldest == newest.version {
        true => format!("version {oldest} is the only one that is kept"),
        false => format!("versions {oldest} to {} are kept", newest.version),
    };
    Err(Error::NotFound(format!(
        "template {:?} has no version {version}: {kept}, see `farrier template versions {}`",
        newest.name, newest.name
    )))
}

/// The template of this name or id in a namespace; of `NAME@VERSION` an older version of it.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(view: &View, scope: &Scope, name_or_id: &str) -> Result<Template, Error> {
    let is_name = !name_or_id.contains('/');
    if is_name && let Some(found) = view.get::<Template>(&key(scope.namespace(), name_or_id))? {
        return Ok(found.value);
    }
    if let Some(place) = view.get::<String>(&format!("template-id/{name_or_id}"))?
        && let Some(found) = view.get::<Template>(&format!("template/{}", place.value))?
        && found.value.namespace == scope.namespace()
    {
        return Ok(found.value);
    }
    // Names may have an @, too.
    if let Some((name, version)) = name_or_id.rsplit_once('@')
        && let Ok(version) = version.parse()
        && !name.is_empty()
    {
        return of_version(view, find(view, scope, name)?, version);
    }
    let prefix = format!("template/{}/", scope.namespace());
    let names = view.page::<serde::de::IgnoredAny>(&prefix, &prefix, NAMES)?;
    let names = names.iter().map(|(name, _)| name.as_str());
    let otherwise = format!(": see `farrier template list{}`", scope.option());
    Err(Error::NotFound(format!(
        "no template{} has name or id {name_or_id:?}{}",
        of(scope.namespace()),
        yaml::meant(name_or_id, names, &otherwise)
    )))
}

/// Names among which a misspelt one is looked for.
const NAMES: usize = 10_000;

fn key(namespace: &str, name: &str) -> String {
    format!("template/{namespace}/{name}")
}

/// In the order of versions.
fn version_key(id: &str, version: u64) -> String {
    format!("template-version/{id}/{version:020}")
}

/// The top-level `name` of a text that is not rendered yet; `None` when it is itself made by the template.
fn named(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("name:"))?;
    let plain = line.split(" #").next().unwrap_or(line).trim();
    let name = plain.trim_matches(['"', '\'']);
    (!name.is_empty() && !name.contains("{{")).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(text: &str) -> Result<Vec<String>, Error> {
        check(text, "").map(|checked| checked.warnings)
    }

    const VARIABLE: &str = "version: \"0.1\"\nname: x\ntasks:\n- name: a\n  worker: \"{{.device_1}}\"\n  actions:\n  \
                            - name: w\n    image: IMAGE\n    timeot: 5\n    environment: {A: \"{{ .b | quote }}\"}\n";

    #[test]
    fn a_template_with_variables_is_warned_about_where_it_is_literal() {
        let text = VARIABLE.replace("IMAGE", "cexec");
        let told = warnings(&text.replace(" | quote", "")).expect("good enough");
        let want = "line 9, column 5: \"timeot\" is no field of an action and has no effect; did you mean \"timeout\"?\n    \
                    |     timeot: 5";
        assert_eq!(told, [want]);
        // The YAML that made-up values give is nobody's mistake.
        assert_eq!(
            warnings(&text.replace("{A: \"{{ .b | quote }}\"}", "{{ .b }}: [")).ok(),
            Some(vec![])
        );
        assert_eq!(
            warnings(&text.replace(".b | quote", ".hardware.spec.userData")).ok(),
            Some(vec![])
        );
    }

    #[test]
    fn an_unknown_field_of_version_1_beside_variables_is_refused_at_once() {
        let text = VARIABLE
            .replace("IMAGE", "cexec")
            .replace(" | quote", "")
            .replace("0.1", "1");
        let error = warnings(&text).expect_err("an unknown field").to_string();
        assert!(
            error.starts_with(
                "line 9, column 5: \"timeot\" is no field of an action; did you mean \"timeout\"?"
            ),
            "{error}"
        );
        assert_eq!(warnings(&text.replace("timeot", "timeout")).ok(), Some(vec![]));
    }

    #[test]
    fn a_bad_image_beside_variables_is_refused_at_once() {
        let text = VARIABLE.replace("IMAGE", "\"Bad Image\"").replace(" | quote", "");
        let error = warnings(&text).expect_err("a bad image").to_string();
        assert!(
            error.starts_with("line 8, column 12: image \"Bad Image\" of action \"w\""),
            "{error}"
        );
        let later = VARIABLE
            .replace("IMAGE", "\"{{ .image }} x\"")
            .replace(" | quote", "");
        assert!(warnings(&later).is_ok());
    }

    #[test]
    fn takes_the_name_from_the_text() {
        assert_eq!(
            named("version: \"0.1\"\nname: \"debian\" # the usual\n").as_deref(),
            Some("debian")
        );
        assert_eq!(named("tasks:\n- name: inner\n"), None);
        assert_eq!(named("name: {{ .name }}\n"), None);
    }
}
