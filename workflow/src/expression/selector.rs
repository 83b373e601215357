//! Selectors: which machines, or workflows, are meant.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::check::check_named;
use super::label_selector::{self, Is, Requirement};
use super::syntax::{Kind, Node};
use super::types::{Type, Types};
use super::{EvaluationError, ExpressionProblem, Scope, run};

/// Which machines, or workflows, are meant: read once, asked of each.
///
/// Either labels, as Kubernetes writes them (`rack=r7,disk!=hdd,!gpu`), or CEL over labels by name, `name` and `labels`. A label
/// that something has not is "", however it is asked for.
#[derive(Clone, Debug)]
pub struct Selector {
    source: String,
    meant: Meant,
}

#[derive(Clone, Debug)]
enum Meant {
    /// All of these.
    Labels(Vec<Requirement>),
    Expression {
        node: Node,
        /// Names of the expression, and the label that each is.
        names: Vec<(String, String)>,
    },
}

impl Selector {
    /// # Errors
    /// It is neither labels nor an expression. What has no value for one machine is found when that is asked about.
    pub fn parse(source: &str) -> Result<Selector, EvaluationError> {
        let meant = match label_selector::read(source) {
            Some(requirements) => Meant::Labels(requirements),
            None => {
                let mut node = run::parse(source)?;
                let mut names = Vec::new();
                labels_as_names(&mut node, &mut |name| {
                    let variable = format!("labels.{name}");
                    names.push((variable.clone(), name.to_owned()));
                    variable
                });
                let mut own = BTreeSet::new();
                collect_names(&node, &mut own);
                own.retain(|own| names.iter().all(|(name, _)| name != own));
                let own: Vec<_> = own
                    .into_iter()
                    .map(|own| (own.to_owned(), own.to_owned()))
                    .collect();
                names.extend(own);
                Meant::Expression { node, names }
            }
        };
        Ok(Selector {
            source: source.to_owned(),
            meant,
        })
    }

    /// Whether this word stands in it: what it can't ask for need not be looked up.
    pub fn may_ask_for(&self, word: &str) -> bool {
        self.source.contains(word)
    }

    /// Whether it means a thing: a machine's record, or what is known of a workflow, with `name`, `labels`, `metadata` and
    /// `inventory`.
    ///
    /// # Errors
    /// What has no value, and a value that is neither true nor false: with the selector and what it saw.
    pub fn matches(&self, thing: &Value) -> Result<bool, EvaluationError> {
        let none = Map::new();
        let labels = thing.get("labels").and_then(Value::as_object).unwrap_or(&none);
        let (node, names) = match &self.meant {
            Meant::Labels(requirements) => {
                let own = thing.get("name").and_then(Value::as_str);
                let value = |key: &str| match key {
                    OWN_NAME => own,
                    key => labels.get(key).and_then(Value::as_str),
                };
                return Ok(requirements.iter().all(|one| one.is_met(value(&one.key))));
            }
            Meant::Expression { node, names } => (node, names),
        };
        let mut variables = Map::new();
        for (name, label) in names {
            let value = labels.get(label).cloned().unwrap_or_else(|| "".into());
            variables.insert(name.clone(), value);
        }
        let field = |name: &str, otherwise: Value| thing.get(name).cloned().unwrap_or(otherwise);
        variables.insert(OWN_NAME.into(), field(OWN_NAME, Value::String(String::new())));
        variables.insert("metadata".into(), field("metadata", Value::Object(Map::new())));
        variables.insert("inventory".into(), field("inventory", Value::Object(Map::new())));
        variables.insert("labels".into(), Value::Object(labels.clone()));
        let scope = Scope {
            variables,
            ..Scope::default()
        };
        let source = &self.source;
        match run::evaluate_node(source, node, &scope)? {
            Value::Bool(matches) => Ok(matches),
            other => Err(EvaluationError(format!(
                "`{source}`: a selector is true or false for a machine, not {other}"
            ))),
        }
    }

    /// A label that everything has which it means, with the values that it may have there (none: any): the one by which there is
    /// least to look through. `None`: it says that of no label, or cannot be told without asking.
    pub fn needs(&self) -> Option<(&str, Vec<&str>)> {
        let Meant::Labels(requirements) = &self.meant else {
            return None;
        };
        let needed = requirements.iter().filter(|one| one.key != OWN_NAME);
        let needed = needed.filter_map(|one| match &one.is {
            Is::OneOf(values) => Some((one, values.iter().map(String::as_str).collect::<Vec<_>>())),
            Is::There => Some((one, Vec::new())),
            Is::NoneOf(_) | Is::Missing => None,
        });
        let least = needed.min_by_key(|(_, values)| match values.len() {
            0 => usize::MAX,
            some => some,
        });
        least.map(|(one, values)| (one.key.as_str(), values))
    }
}

/// What stands for the thing's own name; a label of that key is `labels.name`.
const OWN_NAME: &str = "name";

/// Checks a selector before there are machines: any name is a label, which is a text.
pub fn check_selector(selector: &str) -> Result<(), Vec<ExpressionProblem>> {
    if label_selector::read(selector).is_some() {
        return Ok(());
    }
    let meaning = |name: &str| {
        Some(match name {
            "labels" => Type::Map(Box::new(Type::Text)),
            "inventory" | "metadata" => Type::Any,
            _ => Type::Text,
        })
    };
    match check_named(
        selector,
        &meaning,
        &["inventory", "labels", "metadata", "name"],
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
    if let Some(requirements) = label_selector::read(selector) {
        let keys = requirements.into_iter().map(|one| one.key);
        return keys.filter(|key| key != OWN_NAME).collect();
    }
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
    let mut own: BTreeSet<&str> = ["inventory", "labels", "metadata", "name"].into();
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
