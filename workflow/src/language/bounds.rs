//! Numbers and times that bound a run (`timeout`, `attempts`, `maxParallel` …) where `${{ }}` stands for them.
//!
//! They are worked out when the workflow is made, from its inputs and nothing else, and are checked as if they were written out.
//! Before there are inputs the defaults stand for them; where one has no default, its value is checked when it is given.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use yaml::{Finding, Kind, Node, Place};

use super::Input;
use super::expression_types::words;
use super::expressions::Standing;
use super::fields::Check;
use super::holes::holes;
use crate::expression::{Scope, fill};

/// Names that an expression may have which is worked out when its task begins.
const LATER_NAMES: [&str; 10] = [
    "branch_index",
    "item",
    "item_index",
    "machine",
    "machines",
    "round",
    "secrets",
    "tasks",
    "vars",
    "workflow",
];

/// The inputs as far as they are known.
#[derive(Default)]
pub(super) struct Given {
    values: Map<String, Value>,
    /// Those that have to be given, and were not yet.
    missing: BTreeSet<String>,
}

impl Given {
    /// What was given when the workflow is made; before that, `None`, the defaults.
    pub(super) fn of(inputs: &BTreeMap<String, Input>, given: Option<&Map<String, Value>>) -> Given {
        if let Some(values) = given {
            return Given {
                values: values.clone(),
                missing: BTreeSet::new(),
            };
        }
        let mut known = Given::default();
        for (name, input) in inputs {
            match &input.default {
                Some(value) => drop(known.values.insert(name.clone(), value.clone())),
                None => drop(known.missing.insert(name.clone())),
            }
        }
        known
    }
}

impl<'a> Check<'a> {
    /// The text of a field that bounds something, with its `${{ }}` worked out. `None`: its value is not known yet, or something is wrong
    /// with it, which is told.
    pub(super) fn bound(
        &mut self,
        node: &'a Node,
        field: &'a str,
        task: Option<usize>,
    ) -> Option<Cow<'a, str>> {
        let text = self.text(Some(node), field);
        if !self.is_version_1 || !text.contains("${{") {
            return Some(Cow::Borrowed(text));
        }
        self.looked_through(Some(node), field, (task, Standing::Bound, field), false);
        self.worked_out(node, text, field).map(Cow::Owned)
    }

    /// What a text is that is filled in when its task begins, as far as that is known before: as it is written, or, of a task that is
    /// `sure` to begin, by inputs alone.
    pub(super) fn known<'t>(
        &mut self,
        node: &'a Node,
        text: &'t str,
        field: &str,
        sure: bool,
    ) -> Option<Cow<'t, str>> {
        if !text.contains("${{") {
            return Some(Cow::Borrowed(text));
        }
        if !sure {
            return None;
        }
        let sees_more = holes(text).ok()?.iter().any(|hole| {
            let words = words(text.get(hole.source.clone()).unwrap_or_default());
            LATER_NAMES.iter().any(|name| words.contains(name))
        });
        if sees_more {
            return None;
        }
        self.worked_out(node, text, field).map(Cow::Owned)
    }

    fn worked_out(&mut self, node: &'a Node, text: &str, field: &str) -> Option<String> {
        if !self.are_known(text) {
            return None;
        }
        match fill(text.trim(), &self.scope_of_inputs()) {
            Ok(Value::String(text)) => Some(text),
            Ok(value @ Value::Number(_)) => Some(value.to_string()),
            // What the check of types finds is told there.
            Ok(other) => {
                let message =
                    format!("{field} must be a number or a text, as it would be written out, not {other}");
                self.failed(node.at, message);
                None
            }
            Err(error) => {
                self.failed(node.at, format!("{field}: {error}"));
                None
            }
        }
    }

    /// The items of a list that is one `${{ }}`, as texts.
    pub(super) fn bound_list(
        &mut self,
        node: &'a Node,
        field: &'a str,
        task: Option<usize>,
    ) -> Option<Vec<String>> {
        let text = self.text(Some(node), field);
        self.looked_through(Some(node), field, (task, Standing::BoundList, field), false);
        if !self.are_known(text) {
            return None;
        }
        match fill(text.trim(), &self.scope_of_inputs()) {
            Ok(Value::Array(items)) => {
                let item = |item: Value| match item {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                Some(items.into_iter().map(item).collect())
            }
            Ok(other) => {
                self.failed(node.at, format!("{field} must be a list, not {other}"));
                None
            }
            Err(error) => {
                self.failed(node.at, format!("{field}: {error}"));
                None
            }
        }
    }

    fn are_known(&mut self, text: &str) -> bool {
        self.has_bounds_of_inputs = true;
        self.is_known(text)
    }

    /// Whether all inputs are known that stand in a text.
    pub(super) fn is_known(&self, text: &str) -> bool {
        let words = words(text);
        let mut missing = self.given.missing.iter();
        !missing.any(|name| words.contains(name.as_str()))
    }

    fn scope_of_inputs(&self) -> Scope {
        let inputs = Value::Object(self.given.values.clone());
        Scope {
            variables: Map::from_iter([("inputs".to_owned(), inputs)]),
            ..Scope::default()
        }
    }

    fn failed(&mut self, at: Place, message: String) {
        self.failed_bounds
            .push(Finding::new(at, Kind::Expression, message));
    }

    /// What gave no value, unless something else is wrong, which may be why.
    pub(super) fn tell_failed_bounds(&mut self) {
        let failed = std::mem::take(&mut self.failed_bounds);
        if self.found.has_problems() {
            return;
        }
        for Finding { place, kind, message } in failed {
            self.problem(place, kind, message);
        }
    }
}
