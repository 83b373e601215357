//! What carries a template in the field: Kubernetes objects of Tinkerbell and of EKS Anywhere.
//!
//! - `Template` of `tinkerbell.org/v1alpha1`: the template is the text `spec.data`.
//! - `TinkerbellTemplateConfig` of `anywhere.eks.amazonaws.com/v1alpha1`: it is the map `spec.template`.
//! - `Workflow` of `tinkerbell.org/v1alpha1` names a template, and the machine and devices to make it for.
//!
//! What `farrier template get -o yaml` shows is one, too: the template is its `text`, and it has name, namespace and labels beside.
//!
//! The name of objects is that of their metadata, by which the field's workflows call them; their namespace and
//! labels are, too. A file may hold other objects beside.
//!
//! Source: `api/v1alpha1/tinkerbell/{template,workflow}.go` of github.com/tinkerbell/tinkerbell.

use std::collections::BTreeMap;

use serde_json::Value;
use yaml::{Fields, Finding, Findings, Kind, Known, Node, Place, Scalar, Style, Unknown, What};

use super::problem::{Problem, Text};
use super::{LIMITS, MAX_RENDERED_BYTES};
use crate::labels::{self, Labels};

/// What a file of Kubernetes objects has of templates.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    pub templates: Vec<CarriedTemplate>,
    pub workflows: Vec<CarriedWorkflow>,
    /// What is no template and was passed over, and what has no effect.
    pub warnings: Vec<Problem>,
}

/// A template out of an object that carries it.
#[derive(Clone, Debug)]
pub struct CarriedTemplate {
    /// Of the object.
    pub name: String,
    /// Of the object; empty: it names none.
    pub namespace: String,
    /// Of the object.
    pub labels: Labels,
    /// The line of the object.
    pub line: u32,
    /// The template.
    pub text: String,
    lines: Lines,
}

/// What a `Workflow` object asks for.
#[derive(Clone, Debug)]
pub struct CarriedWorkflow {
    /// Of the object.
    pub name: String,
    /// Of the object; empty: it names none.
    pub namespace: String,
    /// Of the object.
    pub labels: Labels,
    /// The line of the object.
    pub line: u32,
    /// The name of the template.
    pub template: String,
    /// The name of the machine whose record `.hardware` is; empty: none is named.
    pub machine: String,
    pub devices: BTreeMap<String, String>,
}

/// Where the lines of a template are in the file that carries it.
#[derive(Clone, Copy, Debug)]
enum Lines {
    /// One below the other, each indented.
    Below { line: u32, indent: u32 },
    /// Somewhere from here on: the text is written in another way.
    From(Place),
}

const TINKERBELL: &str = "tinkerbell.org/v1alpha1";
const EKS_ANYWHERE: &str = "anywhere.eks.amazonaws.com/v1alpha1";
const OBJECT: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// What a text has of objects that carry templates; `None` for a text that is a template itself.
///
/// # Errors
/// Everything that is wrong with objects of the kinds that are read here, and with the file as YAML.
pub fn carried(text: &str) -> Result<Option<Carried>, Vec<Problem>> {
    let documents = yaml::parse(text, LIMITS);
    let is_object = |node: &Node| node.get("kind").is_some() && node.get("apiVersion").is_some();
    let filled = || documents.iter().filter(|document| !document.node.is_nothing());
    // A template's actions may make it no YAML, so that its first document counts; but nobody writes both lines in one.
    let is_carrier = match filled().next() {
        Some(first) => is_object(&first.node) || shown(&first.node).is_some(),
        None => ["kind:", "apiVersion:"]
            .iter()
            .all(|key| text.lines().any(|line| line.starts_with(key))),
    };
    if !is_carrier {
        return Ok(None);
    }
    let found = Findings::default();
    let mut carried = Carried::default();
    for document in &documents {
        for problem in &document.problems {
            found.problem(problem.place, problem.kind, &problem.message);
        }
    }
    let mut objects = Vec::new();
    for document in filled() {
        let kind = document.node.get("kind").and_then(Node::text).unwrap_or_default();
        match kind {
            "List" | "TemplateList" | "WorkflowList" => {
                objects.extend(found.list(document.node.get("items"), "items"))
            }
            _ => match &document.node.what {
                What::List(items) => objects.extend(items),
                _ => objects.push(&document.node),
            },
        }
    }
    for object in objects {
        match shown(object) {
            Some(scalar) => carried.templates.extend(as_shown(object, scalar, text, &found)),
            None => read(object, text, &found, &mut carried),
        }
    }
    let (problems, warnings) = found.into_sorted();
    if problems.is_empty() {
        carried.warnings = Problem::all(Text::Template, text, warnings);
        Ok(Some(carried))
    } else {
        Err(Problem::all(Text::Template, text, problems))
    }
}

/// The text of a template as `template get` shows it in YAML or JSON, also the first of several; `None`: it is something else.
fn shown(node: &Node) -> Option<(&Node, &Scalar)> {
    if let What::List(items) = &node.what {
        return shown(items.first()?);
    }
    let is_shown = ["name", "id", "version"]
        .iter()
        .all(|name| node.get(name).is_some());
    let text = node
        .get("text")
        .filter(|_| is_shown && node.get("tasks").is_none())?;
    match &text.what {
        What::Scalar(scalar) => Some((text, scalar)),
        _ => None,
    }
}

fn as_shown<'a>(
    object: &'a Node,
    (at, scalar): (&Node, &Scalar),
    file: &str,
    found: &'a Findings,
) -> Option<CarriedTemplate> {
    let fields = Fields::of(Some(object), Known::new("a template", &[], Unknown::Fine), found);
    let name = fields.text("name").filter(|name| !name.is_empty());
    if name.is_none() {
        found.problem(
            object.at,
            Kind::Missing,
            "the template has no name: write `name: NAME`",
        );
    }
    Some(CarriedTemplate {
        name: name?.to_owned(),
        namespace: fields.owned("namespace").unwrap_or_default(),
        labels: labels_of(&fields, found),
        line: object.at.line,
        text: scalar.text.clone(),
        lines: lines_of(at.at, scalar, file),
    })
}

impl CarriedTemplate {
    /// A problem of the template, at its place in the file that carries it.
    pub fn in_file(&self, mut problem: Problem) -> Problem {
        if problem.text == Text::Rendered {
            return problem;
        }
        let Finding { place, kind, message } = problem.finding;
        let (place, message) = match self.lines {
            _ if place.line == 0 => (
                Place {
                    line: self.line,
                    column: 0,
                },
                message,
            ),
            Lines::Below { line, indent } => {
                let column = if place.column == 0 {
                    0
                } else {
                    place.column + indent
                };
                let line = line + place.line - 1;
                (Place { line, column }, message)
            }
            Lines::From(at) => (at, format!("line {} of it: {message}", place.line)),
        };
        // The line that it quotes is the same one.
        problem.finding = Finding::new(place, kind, message);
        problem
    }
}

fn read<'a>(object: &'a Node, file: &str, found: &'a Findings, carried: &mut Carried) {
    let text = |name: &str| object.get(name).and_then(Node::text).unwrap_or_default();
    let (kind, version) = (text("kind"), text("apiVersion"));
    let fields = |node, whose, names, unknown| Fields::of(node, Known::new(whose, names, unknown), found);
    let object_fields = |whose| fields(Some(object), whose, &OBJECT[..], Unknown::Warning);
    let meta_of = |top: &Fields<'a>| {
        let meta = fields(top.get("metadata"), "metadata", &[], Unknown::Fine);
        let name = meta.text("name").unwrap_or_default().to_owned();
        if name.is_empty() {
            let message = format!("the {kind} has no name: write `metadata: {{name: NAME}}`");
            found.problem(object.at, Kind::Missing, message);
        }
        Meta {
            name,
            namespace: meta.owned("namespace").unwrap_or_default(),
            labels: labels_of(&meta, found),
        }
    };
    match (kind, version) {
        ("Template", TINKERBELL) => {
            let top = object_fields("a Template");
            let Meta {
                name,
                namespace,
                labels,
            } = meta_of(&top);
            let spec = fields(top.get("spec"), "spec", &["data"], Unknown::Warning);
            let Some(node) = spec.get("data") else {
                let message =
                    format!("Template {name:?} has no spec.data: write the template below `data: |`");
                return found.problem(spec.at, Kind::Missing, message);
            };
            let What::Scalar(scalar) = &node.what else {
                let message = format!(
                    "spec.data of Template {name:?} must be text, not {}: write the template below `data: |`",
                    node.describe()
                );
                return found.misshapen(node, message);
            };
            carried.templates.push(CarriedTemplate {
                name,
                namespace,
                labels,
                line: object.at.line,
                text: scalar.text.clone(),
                lines: lines_of(node.at, scalar, file),
            });
        }
        ("TinkerbellTemplateConfig", EKS_ANYWHERE) => {
            let top = object_fields("a TinkerbellTemplateConfig");
            let Meta {
                name,
                namespace,
                labels,
            } = meta_of(&top);
            let spec = fields(top.get("spec"), "spec", &["template"], Unknown::Warning);
            let Some(node) = spec.get("template") else {
                let message = format!("TinkerbellTemplateConfig {name:?} has no spec.template");
                return found.problem(spec.at, Kind::Missing, message);
            };
            if !matches!(node.what, What::Map(_)) {
                let message = format!(
                    "spec.template must be a map (key: value), not {}",
                    node.describe()
                );
                return found.misshapen(node, message);
            }
            let cut = cut_out(node, file);
            let (text, lines) = cut.unwrap_or_else(|| (written_anew(node), Lines::From(node.at)));
            carried.templates.push(CarriedTemplate {
                name,
                namespace,
                labels,
                line: object.at.line,
                text,
                lines,
            });
        }
        ("Workflow", TINKERBELL) => {
            let top = object_fields("a Workflow");
            let Meta {
                name,
                namespace,
                labels,
            } = meta_of(&top);
            let names = [
                "templateRef",
                "hardwareRef",
                "hardwareMap",
                "disabled",
                "bootOptions",
            ];
            let spec = fields(top.get("spec"), "spec", &names, Unknown::Warning);
            let template = spec.text("templateRef").unwrap_or_default().to_owned();
            if template.is_empty() {
                let message = format!("Workflow {name:?} names no template: write `templateRef: NAME`");
                found.problem(spec.at, Kind::Missing, message);
            }
            if spec.flag("disabled") == Some(true) {
                let message =
                    format!("Workflow {name:?} is disabled: take `disabled: true` out to have it made");
                found.problem(spec.at("disabled"), Kind::Conflict, message);
            }
            if let Some(place) = spec.place("bootOptions") {
                let message = "bootOptions have no effect: a machine that has a workflow netboots into it";
                found.warn(place, Kind::NoEffect, message);
            }
            carried.workflows.push(CarriedWorkflow {
                name,
                namespace,
                labels,
                line: object.at.line,
                template,
                machine: spec.owned("hardwareRef").unwrap_or_default(),
                devices: spec.pairs("hardwareMap").into_iter().collect(),
            });
        }
        // Of a form that is not known here it would be wrong to say that it is none.
        ("Template" | "TinkerbellTemplateConfig" | "Workflow", _) => {
            let message = format!(
                "a {kind} of apiVersion {version:?} is not known: expected Template or Workflow of {TINKERBELL}, or \
                 TinkerbellTemplateConfig of {EKS_ANYWHERE}"
            );
            found.problem(object.at, Kind::Foreign, message);
        }
        _ => {
            let name = object.get("metadata").and_then(|meta| meta.get("name")?.text());
            let what = match (kind, name) {
                ("", _) => "a document without a kind".to_owned(),
                (kind, Some(name)) => format!("{kind} {name:?}"),
                (kind, None) => kind.to_owned(),
            };
            let cure = match kind {
                "Hardware" => ": `farrier machine apply` takes it",
                _ => "",
            };
            let message = format!("{what} is no template, and is passed over{cure}");
            found.warn(object.at, Kind::Foreign, message);
        }
    }
}

/// What an object says of itself.
struct Meta {
    name: String,
    namespace: String,
    labels: Labels,
}

fn labels_of(meta: &Fields<'_>, found: &Findings) -> Labels {
    let at = meta.at("labels");
    let labels: Labels = meta.pairs("labels").into_iter().collect();
    if let Err(error) = labels::check(&labels) {
        found.problem(at, Kind::Value, error.to_string());
    }
    labels
}

/// Where the lines of a scalar are in the file.
fn lines_of(at: Place, scalar: &Scalar, file: &str) -> Lines {
    let below = || {
        let first = usize::try_from(at.line.checked_sub(1)?).ok()?;
        let blank = scalar.text.lines().take_while(|line| line.is_empty()).count();
        // The place is that of the first line, or of the first that is not blank.
        [first, first.checked_sub(blank)?]
            .into_iter()
            .find_map(|first| Some((first, indent_of(&scalar.text, file, first)?)))
    };
    match below().filter(|_| scalar.style == Style::Literal) {
        Some((line, indent)) => Lines::Below {
            line: u32::try_from(line + 1).unwrap_or(u32::MAX),
            indent: u32::try_from(indent).unwrap_or(u32::MAX),
        },
        // It is written in another way, or an alias of one elsewhere.
        None => Lines::From(at),
    }
}

/// By how much the lines of a text are indented in a file from a line on; `None` when they do not stand there.
fn indent_of(text: &str, file: &str, first: usize) -> Option<usize> {
    let mut indent = None;
    let mut there = file.lines().skip(first);
    for own in text.lines() {
        let line = there.next()?;
        let before = line.strip_suffix(own)?;
        if own.is_empty() {
            if !line.trim().is_empty() {
                return None;
            }
            continue;
        }
        let is_indent =
            before.chars().all(|letter| letter == ' ') && *indent.get_or_insert(before.len()) == before.len();
        if !is_indent {
            return None;
        }
    }
    indent
}

/// The lines of a map of the block style without their indent, comments and quotes and all; `None` where that would not be
/// the same map, or would put YAML's escapes into actions of the template.
fn cut_out(node: &Node, file: &str) -> Option<(String, Lines)> {
    let What::Map(entries) = &node.what else {
        return None;
    };
    let first = entries.first()?.at;
    let indent = usize::try_from(first.column.checked_sub(1)?).ok()?;
    let skipped = usize::try_from(first.line.checked_sub(1)?).ok()?;
    let depth = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let is_bare = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let below: Vec<&str> = file
        .lines()
        .skip(skipped)
        .take_while(|line| is_bare(line) || depth(line) >= indent)
        .collect();
    let end = below.iter().rposition(|line| depth(line) >= indent)? + 1;
    let text: String = below[..end]
        .iter()
        .map(|line| match depth(line) < indent {
            true => format!("{}\n", line.trim_start()),
            false => format!("{}\n", &line[indent..]),
        })
        .collect();
    let documents = yaml::parse(&text, LIMITS);
    let [same] = documents.as_slice() else {
        return None;
    };
    let is_same = same.problems.is_empty() && same.node.json() == node.json();
    let lines = Lines::Below {
        line: first.line,
        indent: u32::try_from(indent).ok()?,
    };
    (is_same && !has_escaped_actions(&same.node, &text)).then_some((text, lines))
}

/// Whether a text in quotes has an action of the template in it, and an escape of YAML that would be read as part of it.
fn has_escaped_actions(node: &Node, text: &str) -> bool {
    match &node.what {
        What::Nothing => false,
        What::Scalar(scalar) => {
            let written = text.get(scalar.written.clone()).unwrap_or("");
            let escape = if written.starts_with('"') { "\\" } else { "''" };
            scalar.style == Style::Quoted && written.contains("{{") && written.contains(escape)
        }
        What::List(items) => items.iter().any(|item| has_escaped_actions(item, text)),
        What::Map(entries) => entries.iter().any(|entry| has_escaped_actions(&entry.node, text)),
    }
}

/// A map as YAML in one line, in which texts with actions stand as they are wherever YAML lets them.
fn written_anew(node: &Node) -> String {
    let mut text = String::new();
    write(node, &mut text);
    text.push('\n');
    text
}

fn write(node: &Node, to: &mut String) {
    // More is not taken as a template anyway.
    if to.len() > MAX_RENDERED_BYTES {
        return;
    }
    let comma = |index: usize, to: &mut String| {
        if index > 0 {
            to.push_str(", ");
        }
    };
    match &node.what {
        What::Nothing => to.push_str("null"),
        What::Scalar(scalar) => match &scalar.value {
            Value::String(text) => quoted(text, to),
            // The text rather than the value: `1.50` stays what it is.
            _ => to.push_str(&scalar.text),
        },
        What::List(items) => {
            to.push('[');
            for (index, item) in items.iter().enumerate() {
                comma(index, to);
                write(item, to);
            }
            to.push(']');
        }
        What::Map(entries) => {
            to.push('{');
            for (index, entry) in entries.iter().enumerate() {
                comma(index, to);
                quoted(&entry.name, to);
                to.push_str(": ");
                write(&entry.node, to);
            }
            to.push('}');
        }
    }
}

fn quoted(text: &str, to: &mut String) {
    if text.contains(|letter: char| letter.is_control()) || text.contains('\'') && !text.contains('"') {
        to.push_str(&Value::from(text).to_string());
    } else {
        to.push('\'');
        to.push_str(&text.replace('\'', "''"));
        to.push('\'');
    }
}
