//! Selectors: which machines are meant.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::check::check_named;
use super::syntax::{Kind, Node};
use super::types::{Type, Types};
use super::{EvaluationError, ExpressionProblem, Scope, run};

/// Whether a machine matches a selector: CEL over its labels by name, `name` and `labels`. A label that it has not is "".
///
/// `machine` is a record: `name`, `mac`, `labels`, `metadata`, ...
pub fn matches(selector: &str, machine: &Value) -> Result<bool, EvaluationError> {
    let node = run::parse(selector)?;
    let none = Map::new();
    let labels = machine.get("labels").and_then(Value::as_object).unwrap_or(&none);
    let missing = || Value::String(String::new());
    let mut asked = Asked::default();
    asked.look(&node);
    let mut variables: Map<String, Value> = asked
        .names
        .into_iter()
        .map(|name| (name.to_owned(), labels.get(name).cloned().unwrap_or_else(missing)))
        .collect();
    let mut all_labels = labels.clone();
    if !asked.labels_otherwise {
        for label in asked.labels {
            all_labels.entry(label).or_insert_with(missing);
        }
    }
    let field = |name: &str, otherwise: Value| machine.get(name).cloned().unwrap_or(otherwise);
    variables.insert("name".into(), field("name", Value::String(String::new())));
    variables.insert("metadata".into(), field("metadata", Value::Object(Map::new())));
    variables.insert("labels".into(), Value::Object(all_labels));
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
            offset: 0,
            message: format!("a selector is true or false for a machine, not {kind}"),
        }]),
    }
}

/// What a selector uses.
#[derive(Default)]
struct Asked<'n> {
    names: BTreeSet<&'n str>,
    /// `labels.rack`, `labels['rack']`
    labels: BTreeSet<&'n str>,
    /// `labels` in another way: `has(labels.rack)`, `'rack' in labels`. Then only the labels count that are there.
    labels_otherwise: bool,
}

impl<'n> Asked<'n> {
    fn look(&mut self, node: &'n Node) {
        let is_labels = |node: &Node| matches!(&node.kind, Kind::Name(name) if name == "labels");
        match &node.kind {
            Kind::Name(name) if name == "labels" => self.labels_otherwise = true,
            Kind::Name(name) => drop(self.names.insert(name)),
            Kind::Field { of, name } if is_labels(of) => drop(self.labels.insert(name)),
            Kind::Index { of, index } if is_labels(of) && matches!(index.kind, Kind::Text(_)) => {
                if let Kind::Text(name) = &index.kind {
                    self.labels.insert(name);
                }
            }
            _ => node.children().into_iter().for_each(|child| self.look(child)),
        }
    }
}
