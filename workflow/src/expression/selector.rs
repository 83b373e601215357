//! Selectors: which machines are meant.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::check::check_named;
use super::syntax::{Kind, Node};
use super::types::{Type, Types};
use super::{EvaluationError, ExpressionProblem, Scope, run};

/// Whether a machine matches a selector: CEL over its labels by name, `name` and `labels`. A label that it has not is "",
/// however it is asked for.
///
/// `machine` is a record: `name`, `mac`, `labels`, `metadata`, ...
///
/// # Errors
/// Everything else that has no value, and a value that is neither true nor false: with the selector and what it saw.
pub fn matches(selector: &str, machine: &Value) -> Result<bool, EvaluationError> {
    let mut node = run::parse(selector)?;
    let none = Map::new();
    let labels = machine.get("labels").and_then(Value::as_object).unwrap_or(&none);
    let label = |name: &str| labels.get(name).cloned().unwrap_or_else(|| "".into());
    let mut variables = Map::new();
    labels_as_names(&mut node, &mut |name| {
        let variable = format!("labels.{name}");
        variables.insert(variable.clone(), label(name));
        variable
    });
    let mut names = BTreeSet::new();
    collect_names(&node, &mut names);
    for name in names {
        variables.entry(name).or_insert_with(|| label(name));
    }
    let field = |name: &str, otherwise: Value| machine.get(name).cloned().unwrap_or(otherwise);
    variables.insert("name".into(), field("name", Value::String(String::new())));
    variables.insert("metadata".into(), field("metadata", Value::Object(Map::new())));
    variables.insert("labels".into(), Value::Object(labels.clone()));
    let scope = Scope {
        variables,
        ..Scope::default()
    };
    match run::evaluate_node(selector, &node, &scope)? {
        Value::Bool(matches) => Ok(matches),
        other => Err(EvaluationError(format!(
            "`{selector}`: a selector is true or false for a machine, not {other}"
        ))),
    }
}

/// Checks a selector before there are machines: any name is a label, which is a text.
pub fn check_selector(selector: &str) -> Result<(), Vec<ExpressionProblem>> {
    let meaning = |name: &str| {
        Some(match name {
            "labels" => Type::Map(Box::new(Type::Text)),
            "metadata" => Type::Any,
            _ => Type::Text,
        })
    };
    match check_named(
        selector,
        &meaning,
        &["labels", "metadata", "name"],
        &Types::default(),
    )? {
        kind if kind.can_be(&Type::Bool) => Ok(()),
        kind => Err(vec![ExpressionProblem {
            missing: None,
            offset: 0,
            message: format!("a selector is true or false for a machine, not {kind}"),
        }]),
    }
}

/// The labels that a selector asks for, in whatever way: by name, `labels.rack`, `labels['rack']`, `has(labels.rack)` or
/// `'rack' in labels`. None of a selector that can't be read.
pub fn labels(selector: &str) -> BTreeSet<String> {
    let mut asked = BTreeSet::new();
    let Ok(mut node) = run::parse(selector) else {
        return asked;
    };
    labels_asked_in(&node, &mut asked);
    labels_as_names(&mut node, &mut |name| {
        asked.insert(name.to_owned());
        // No label: its own name is taken.
        "labels".to_owned()
    });
    let mut names = BTreeSet::new();
    collect_names(&node, &mut names);
    let mut own: BTreeSet<&str> = ["labels", "metadata", "name"].into();
    collect_variables(&node, &mut own);
    asked.extend(names.difference(&own).map(|name| (*name).to_owned()));
    asked
}

/// Of loops.
fn collect_variables<'n>(node: &'n Node, names: &mut BTreeSet<&'n str>) {
    if let Kind::Loop { name, .. } = &node.kind {
        names.insert(name);
    }
    for child in node.children() {
        collect_variables(child, names);
    }
}

/// `has(labels.rack)`, `'rack' in labels`
fn labels_asked_in(node: &Node, asked: &mut BTreeSet<String>) {
    let is_labels = |node: &Node| matches!(&node.kind, Kind::Name(name) if name == "labels");
    if let Kind::Has { of, name } = &node.kind
        && is_labels(of)
    {
        asked.insert(name.clone());
    }
    let children = node.children();
    if let [left, right] = children.as_slice()
        && is_labels(right)
        && let Kind::Text(name) = &left.kind
    {
        asked.insert(name.clone());
    }
    for child in children {
        labels_asked_in(child, asked);
    }
}

/// `labels.rack` and `labels['rack']` become names of their own, which have a value where the label is missing. What else
/// is asked of `labels` (`has(labels.rack)`, `'rack' in labels`) is about those that there are.
fn labels_as_names(node: &mut Node, variable: &mut impl FnMut(&str) -> String) {
    let is_labels = |node: &Node| matches!(&node.kind, Kind::Name(name) if name == "labels");
    let label = match &node.kind {
        Kind::Field { of, name } if is_labels(of) => Some(name),
        Kind::Index { of, index } if is_labels(of) => match &index.kind {
            Kind::Text(name) => Some(name),
            _ => None,
        },
        _ => None,
    };
    match label {
        Some(name) => node.kind = Kind::Name(variable(name)),
        None => node
            .children_mut()
            .into_iter()
            .for_each(|child| labels_as_names(child, variable)),
    }
}

fn collect_names<'n>(node: &'n Node, names: &mut BTreeSet<&'n str>) {
    if let Kind::Name(name) = &node.kind {
        names.insert(name);
    }
    for child in node.children() {
        collect_names(child, names);
    }
}
