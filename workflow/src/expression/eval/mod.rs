//! Evaluation: a syntax tree and what it sees to a value.
//!
//! It goes over the tree once, and counts what it does (`meter`). Nothing depends on more than the tree and the values: maps
//! are gone over in the order of their keys.
//!
//! - `value`: values, and JSON. `operators`, `logic`, `loops`, `calls`, `pattern`: what is done to them.

mod calls;
mod logic;
mod loops;
mod meter;
mod operators;
mod pattern;
#[cfg(test)]
mod tests;
mod value;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map as JsonMap, Value as Json};

use super::syntax::{Kind, Node};
use logic::{Logic, Terms};
use meter::Meter;
pub use meter::{MAX_BYTES, MAX_STEPS};
use pattern::Patterns;
pub(super) use pattern::is_pattern;
pub use value::MAX_RESULT_BYTES;
use value::{Key, List, Map, Text, Value};

/// What an expression sees.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub variables: &'a JsonMap<String, Json>,
    /// What `success()` and `failure()` say.
    pub success: bool,
    pub failure: bool,
    /// Answers of `machines(…)`, by the place of the call.
    pub machines: &'a BTreeMap<usize, &'a [Json]>,
}

/// The value of an expression as JSON, or why it has none, in words.
pub(super) fn evaluate(node: &Node, seen: Seen<'_>) -> Result<Json, String> {
    let mut evaluator = Evaluator::new(seen);
    match evaluator.value(node) {
        Ok(value) => value.to_json(),
        Err(Stop::Bound(why) | Stop::Failed(why)) => Err(why),
    }
}

type Evaluated<'a> = Result<Value<'a>, Stop>;

/// Why there is no value, in words.
#[derive(Debug)]
enum Stop {
    /// It would take too much. Nothing makes good for that: the other side of an `||` does not.
    Bound(String),
    Failed(String),
}

impl Stop {
    fn failed(why: impl Into<String>) -> Stop {
        Stop::Failed(why.into())
    }
}

struct Evaluator<'a> {
    seen: Seen<'a>,
    /// By loops, innermost last.
    bound: Vec<(&'a str, Value<'a>)>,
    meter: Meter,
    patterns: Patterns,
}

impl<'a> Evaluator<'a> {
    fn new(seen: Seen<'a>) -> Evaluator<'a> {
        Evaluator {
            seen,
            bound: Vec::new(),
            meter: Meter::default(),
            patterns: Patterns::default(),
        }
    }

    fn value(&mut self, node: &'a Node) -> Evaluated<'a> {
        self.meter.step()?;
        match &node.kind {
            Kind::Null => Ok(Value::Null),
            Kind::Bool(value) => Ok(Value::Bool(*value)),
            Kind::Int(value) => Ok(Value::Int(*value)),
            Kind::Uint(value) => Ok(Value::Uint(*value)),
            Kind::Double(value) => Ok(Value::Double(*value)),
            Kind::Text(text) => Ok(Value::Text(Text::Given(text))),
            Kind::Name(name) => self.named(name),
            Kind::Field { of, name } => {
                let of = self.value(of)?;
                operators::field(&of, name)?
                    .ok_or_else(|| Stop::failed(format!("there is no {:?}", shortened(name))))
            }
            Kind::Has { of, name } => {
                let of = self.value(of)?;
                operators::field(&of, name).map(|there| Value::Bool(there.is_some()))
            }
            Kind::Index { of, index } => {
                let of = self.value(of)?;
                let index = self.value(index)?;
                operators::index(&of, &index, &mut self.meter)
            }
            Kind::Call {
                function,
                target,
                arguments,
            } => self.call(node.at, function, target.as_deref(), arguments),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Not(of) => match self.value(of)? {
                Value::Bool(value) => Ok(Value::Bool(!value)),
                other => Err(Stop::failed(format!("no ! for {}", other.kind()))),
            },
            Kind::Negate(of) => operators::negated(&self.value(of)?),
            Kind::All(terms) => self.terms(Logic::And, terms),
            Kind::Any(terms) => self.terms(Logic::Or, terms),
            Kind::Binary {
                operator,
                left,
                right,
            } => {
                let left = self.value(left)?;
                let right = self.value(right)?;
                operators::binary(*operator, &left, &right, &mut self.meter)
            }
            Kind::If {
                condition,
                then,
                otherwise,
            } => match self.is_true(condition)? {
                true => self.value(then),
                false => self.value(otherwise),
            },
            Kind::Loop {
                kind,
                over,
                name,
                only,
                body,
            } => self.looped(*kind, over, name, only.as_deref(), body),
        }
    }

    fn named(&self, name: &str) -> Evaluated<'a> {
        if let Some((_, value)) = self.bound.iter().rev().find(|(bound, _)| *bound == name) {
            return Ok(value.clone());
        }
        match self.seen.variables.get(name) {
            Some(value) => Ok(Value::of(value)),
            None => Err(Stop::failed(format!("there is no {name} here"))),
        }
    }

    fn is_true(&mut self, condition: &'a Node) -> Result<bool, Stop> {
        match self.value(condition)? {
            Value::Bool(value) => Ok(value),
            other => Err(Stop::failed(format!("bool is needed where {} is", other.kind()))),
        }
    }

    fn list(&mut self, elements: &'a [Node]) -> Evaluated<'a> {
        self.meter.elements(elements.len())?;
        let values: Result<Vec<Value<'a>>, Stop> =
            elements.iter().map(|element| self.value(element)).collect();
        values.map(Value::list)
    }

    fn map(&mut self, entries: &'a [(Node, Node)]) -> Evaluated<'a> {
        self.meter.elements(2 * entries.len())?;
        let mut made = BTreeMap::new();
        for (key, value) in entries {
            let key = self.value(key)?;
            let (Some(own), Some(sought)) = (Key::of(&key), Key::sought(&key)) else {
                return Err(Stop::failed(format!("{} can't be a key of a map", key.kind())));
            };
            let value = self.value(value)?;
            if sought.iter().any(|key| made.contains_key(key)) {
                return Err(Stop::failed("a key twice in one map"));
            }
            made.insert(own, value);
        }
        Ok(Value::Map(Map::Made(Rc::new(made))))
    }

    fn terms(&mut self, logic: Logic, terms: &'a [Node]) -> Evaluated<'a> {
        let mut so_far = Terms::new(logic);
        for (index, term) in terms.iter().enumerate() {
            let term = self.value(term);
            if so_far.take(term, index == 0)? {
                return Ok(Value::Bool(logic == Logic::Or));
            }
        }
        so_far.undecided()
    }

    fn call(
        &mut self,
        at: usize,
        function: &'a str,
        target: Option<&'a Node>,
        arguments: &'a [Node],
    ) -> Evaluated<'a> {
        match (function, target, arguments) {
            ("success", None, []) => return Ok(Value::Bool(self.seen.success)),
            ("failure", None, []) => return Ok(Value::Bool(self.seen.failure)),
            ("always", None, []) => return Ok(Value::Bool(true)),
            ("machines", None, [_]) => {
                let answer = self.seen.machines.get(&at).copied();
                let answer = answer.ok_or_else(|| Stop::failed("this machines() has not been asked"))?;
                return Ok(Value::List(List::Given(answer)));
            }
            _ => {}
        }
        let parts: Result<Vec<Value<'a>>, Stop> = target
            .into_iter()
            .chain(arguments)
            .map(|part| self.value(part))
            .collect();
        calls::call(
            function,
            target.is_some(),
            &parts?,
            &mut self.meter,
            &mut self.patterns,
        )
    }
}

/// A text that people are shown a part of when it is long.
fn shortened(text: &str) -> Cow<'_, str> {
    const CHARS: usize = 120;
    match text.char_indices().nth(CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}
