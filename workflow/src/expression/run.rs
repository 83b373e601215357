//! From a text to a value: parsing, the machines that it asks for, evaluation, and words for what failed.

use std::collections::BTreeMap;

use serde_json::Value;

use super::eval::{self, Seen};
use super::syntax::{Kind, Node};
use super::{EvaluationError, Scope, functions, parse};

/// The value of an expression. Bounded in time and size.
pub fn evaluate(source: &str, scope: &Scope) -> Result<Value, EvaluationError> {
    let node = parse(source)?;
    evaluate_node(source, &node, scope)
}

/// The selectors of the `machines(…)` calls in an expression, which are evaluated first.
pub fn selectors(source: &str, scope: &Scope) -> Result<Vec<String>, EvaluationError> {
    let node = parse(source)?;
    let mut selectors = Vec::new();
    for (_, selector) in asked(source, &node, scope)? {
        if !selectors.contains(&selector) {
            selectors.push(selector);
        }
    }
    Ok(selectors)
}

/// Whether it calls `success()`, `failure()` or `always()`.
pub fn has_gate(source: &str) -> bool {
    fn calls_gate(node: &Node) -> bool {
        let here =
            matches!(&node.kind, Kind::Call { function, target: None, .. } if functions::is_gate(function));
        here || node.children().into_iter().any(calls_gate)
    }
    parse::parse(source).is_ok_and(|node| calls_gate(&node))
}

pub(super) fn parse(source: &str) -> Result<Node, EvaluationError> {
    parse::parse(source).map_err(|problem| {
        let shown: String = source.chars().take(parse::MAX_SOURCE_BYTES).collect();
        EvaluationError(format!("`{shown}`: {}", problem.message))
    })
}

pub(super) fn evaluate_node(source: &str, node: &Node, scope: &Scope) -> Result<Value, EvaluationError> {
    let error = |why: String| EvaluationError(format!("`{source}`: {why}{}", seen(node, scope)));
    let mut machines = BTreeMap::new();
    for (at, selector) in asked(source, node, scope)? {
        let answer = scope
            .machines
            .get(&selector)
            .ok_or_else(|| error(format!("which machines match {selector:?} has not been asked")))?;
        machines.insert(at, answer.as_slice());
    }
    if let Some(name) = unknown_function(node) {
        return Err(error(format!("there is no function {name}()")));
    }
    let seen = Seen {
        variables: &scope.variables,
        success: scope.success,
        failure: scope.failure,
        machines: &machines,
    };
    eval::evaluate(node, seen).map_err(error)
}

/// The `machines(…)` calls: their places and selectors.
fn asked(source: &str, node: &Node, scope: &Scope) -> Result<Vec<(usize, String)>, EvaluationError> {
    let mut calls = Vec::new();
    collect(node, &mut calls);
    let mut asked = Vec::new();
    for (at, selector) in calls {
        let mut within = Vec::new();
        collect(selector, &mut within);
        if !within.is_empty() {
            return Err(EvaluationError(format!(
                "`{source}`: machines() within machines()"
            )));
        }
        match evaluate_node(source, selector, scope)? {
            Value::String(selector) => asked.push((at, selector)),
            other => {
                return Err(EvaluationError(format!(
                    "`{source}`: machines() takes a selector as a text, not {other}"
                )));
            }
        }
    }
    return Ok(asked);

    fn collect<'n>(node: &'n Node, calls: &mut Vec<(usize, &'n Node)>) {
        match &node.kind {
            Kind::Call {
                function,
                target: None,
                arguments,
            } if function == "machines" && arguments.len() == 1 => {
                calls.extend(arguments.iter().map(|selector| (node.at, selector)));
            }
            _ => node
                .children()
                .into_iter()
                .for_each(|child| collect(child, calls)),
        }
    }
}

fn unknown_function(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Call {
            function, arguments, ..
        } if !functions::is_known(function) || (function == "machines" && arguments.len() != 1) => {
            Some(function)
        }
        _ => node.children().into_iter().find_map(unknown_function),
    }
}

/// The values of the scope that an expression uses: `; it saw inputs.n = 3`.
fn seen(node: &Node, scope: &Scope) -> String {
    const VALUES: usize = 8;
    const CHARS: usize = 120;
    fn paths<'n>(node: &'n Node, found: &mut Vec<Vec<&'n str>>) {
        match node.path() {
            Some(path) if !found.contains(&path) => found.push(path),
            Some(_) => {}
            None => node.children().into_iter().for_each(|child| paths(child, found)),
        }
    }
    let mut found = Vec::new();
    paths(node, &mut found);
    let mut words = String::new();
    for path in found.iter().take(VALUES) {
        let Some(mut value) = path.first().and_then(|root| scope.variables.get(*root)) else {
            continue;
        };
        let mut known = 1;
        for field in &path[1..] {
            let Some(next) = value.get(*field) else { break };
            value = next;
            known += 1;
        }
        let mut shown = Shown {
            text: String::new(),
            left: CHARS,
        };
        // Ends with an error when there is no room left.
        let whole = serde_json::to_writer(&mut shown, value).is_ok();
        words.push_str(if words.is_empty() { "; it saw " } else { ", " });
        words.push_str(&format!(
            "{} = {}{}",
            path[..known].join("."),
            shown.text,
            if whole { "" } else { "…" }
        ));
    }
    words
}

/// Takes so many characters and no more.
struct Shown {
    text: String,
    left: usize,
}

impl std::io::Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for c in String::from_utf8_lossy(bytes).chars() {
            self.left = self.left.checked_sub(1).ok_or(std::io::ErrorKind::WriteZero)?;
            self.text.push(c);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
