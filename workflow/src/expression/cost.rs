//! What an evaluation may cost at most, from the syntax tree and the sizes of the values that it goes over.
//!
//! The library evaluates without a bound, and two loops over ten thousand machines are a hundred million steps. So an
//! upper bound is counted before: each node is a step for each time that a loop comes by, and what is copied or
//! compared counts in bytes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::syntax::{Kind, Loop, Node, Operator};
use super::value;

/// Nodes that are evaluated, each counted once for every element of the loops around it.
pub const MAX_STEPS: u64 = 1_000_000;
/// Bytes that are copied or compared.
pub const MAX_BYTES: u64 = 64 << 20;

/// Values that are known before the evaluation.
pub(super) struct Values<'a> {
    pub variables: &'a Map<String, Value>,
    /// Of `machines(…)`, by the place of the call.
    pub machines: &'a BTreeMap<usize, &'a Vec<Value>>,
}

/// Refuses, in words, what would cost too much.
pub(super) fn check(node: &Node, values: &Values<'_>) -> Result<(), String> {
    let mut meter = Meter {
        values,
        bound: Vec::new(),
        times: 1,
        steps: 0,
        bytes: 0,
    };
    meter.shape(node).map(|_| ())
}

/// What is known of a value.
#[derive(Clone)]
enum Shape<'a> {
    /// It is one of these.
    OneOf(Vec<&'a Value>),
    /// A list of so many elements.
    List { length: u64, each: Box<Shape<'a>> },
    /// Anything of so many bytes.
    Some(u64),
}

struct Meter<'a, 'n> {
    values: &'a Values<'a>,
    /// Names that loops bind, innermost last.
    bound: Vec<(&'n str, Shape<'a>)>,
    /// Elements of the loops around, multiplied.
    times: u64,
    steps: u64,
    bytes: u64,
}

type Shaped<'a> = Result<Shape<'a>, String>;

impl<'a, 'n> Meter<'a, 'n> {
    fn shape(&mut self, node: &'n Node) -> Shaped<'a> {
        self.step(1)?;
        Ok(match &node.kind {
            Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Uint(_) | Kind::Double(_) => Shape::Some(8),
            Kind::Text(text) => Shape::Some(8 + text.len() as u64),
            Kind::Name(name) => self.named(name),
            Kind::Field { of, name } => {
                let of = self.shape(of)?;
                field(of, name)
            }
            Kind::Has { of, .. } | Kind::Not(of) | Kind::Negate(of) => {
                self.shape(of)?;
                Shape::Some(8)
            }
            Kind::Index { of, index } => {
                let of = self.shape(of)?;
                self.shape(index)?;
                match &index.kind {
                    Kind::Text(name) => field(of, name),
                    _ => each(of),
                }
            }
            Kind::Call {
                function,
                target,
                arguments,
            } => self.call(node.at, function, target.as_deref().into_iter().chain(arguments))?,
            Kind::List(elements) => {
                let mut heaviest = 0;
                for element in elements {
                    let weight = self.copied(element)?;
                    heaviest = heaviest.max(weight);
                }
                Shape::List {
                    length: elements.len() as u64,
                    each: Box::new(Shape::Some(heaviest)),
                }
            }
            Kind::Map(entries) => {
                let mut whole = 8;
                for part in entries.iter().flat_map(|(key, value)| [key, value]) {
                    whole = self.copied(part)?.saturating_add(whole);
                }
                Shape::Some(whole)
            }
            Kind::All(terms) | Kind::Any(terms) => {
                for term in terms {
                    self.shape(term)?;
                }
                Shape::Some(8)
            }
            Kind::Binary {
                operator,
                left,
                right,
            } => self.binary(*operator, left, right)?,
            Kind::If {
                condition,
                then,
                otherwise,
            } => {
                self.shape(condition)?;
                let then = self.shape(then)?;
                let otherwise = self.shape(otherwise)?;
                self.either(then, otherwise)?
            }
            Kind::Loop {
                kind,
                over,
                name,
                only,
                body,
            } => self.looped(*kind, over, name, only.as_deref(), body)?,
        })
    }

    fn named(&self, name: &str) -> Shape<'a> {
        let bound = self.bound.iter().rev().find(|(bound, _)| *bound == name);
        match (bound, self.values.variables.get(name)) {
            (Some((_, shape)), _) => shape.clone(),
            (None, Some(value)) => Shape::OneOf(vec![value]),
            (None, None) => Shape::Some(8),
        }
    }

    fn call(&mut self, at: usize, function: &str, parts: impl Iterator<Item = &'n Node>) -> Shaped<'a> {
        let mut whole: u64 = 8;
        for part in parts {
            // A list's or map's size is not counted element by element.
            let weight = match function {
                "size" => {
                    self.shape(part)?;
                    8
                }
                _ => self.copied(part)?,
            };
            whole = whole.saturating_add(weight);
        }
        match function {
            "machines" => {
                let machines = self.values.machines.get(&at).copied();
                return Ok(Shape::List {
                    length: machines.map_or(1, |machines| machines.len() as u64),
                    each: Box::new(Shape::OneOf(machines.into_iter().flatten().collect())),
                });
            }
            // A pattern is translated once, and searched for at a few steps a byte.
            "matches" => self.copy(whole.saturating_mul(8))?,
            _ => {}
        }
        Ok(Shape::Some(whole))
    }

    fn binary(&mut self, operator: Operator, left: &'n Node, right: &'n Node) -> Shaped<'a> {
        let left = self.shape(left)?;
        let right = self.shape(right)?;
        let both = self.weight(&left)?.saturating_add(self.weight(&right)?);
        self.copy(both)?;
        if operator != Operator::Add {
            return Ok(Shape::Some(8));
        }
        if !is_list(&left) || !is_list(&right) {
            return Ok(Shape::Some(both));
        }
        let length = length(&left).saturating_add(length(&right));
        let each = Box::new(self.either(each(left), each(right))?);
        Ok(Shape::List { length, each })
    }

    fn looped(
        &mut self,
        kind: Loop,
        over: &'n Node,
        name: &'n str,
        only: Option<&'n Node>,
        body: &'n Node,
    ) -> Shaped<'a> {
        let over = self.shape(over)?;
        let length = length(&over);
        let element = each(over.clone());
        let outside = self.times;
        self.times = self.times.saturating_mul(length);
        // Around the body: the condition, the accumulated result, the element's copy.
        self.step(4)?;
        let weight = self.weight(&element)?;
        self.copy(weight)?;
        self.bound.push((name, element.clone()));
        if let Some(only) = only {
            self.shape(only)?;
        }
        let made = self.shape(body)?;
        self.bound.pop();
        let result = match kind {
            Loop::All | Loop::Exists | Loop::ExistsOne => Shape::Some(8),
            Loop::Filter => Shape::List {
                length,
                each: Box::new(element),
            },
            Loop::Map => {
                let weight = self.weight(&made)?;
                self.copy(weight)?;
                Shape::List {
                    length,
                    each: Box::new(made),
                }
            }
        };
        self.times = outside;
        Ok(result)
    }

    /// What is one or the other.
    fn either(&mut self, left: Shape<'a>, right: Shape<'a>) -> Shaped<'a> {
        Ok(match (left, right) {
            (Shape::OneOf(mut left), Shape::OneOf(right)) => {
                left.extend(right);
                Shape::OneOf(left)
            }
            (
                Shape::List { length, each },
                Shape::List {
                    length: other,
                    each: of_other,
                },
            ) => Shape::List {
                length: length.max(other),
                each: Box::new(self.either(*each, *of_other)?),
            },
            (left, right) => {
                let weight = self.weight(&left)?.max(self.weight(&right)?);
                self.copy(weight)?;
                Shape::Some(weight)
            }
        })
    }

    /// The weight of a part that is copied.
    fn copied(&mut self, part: &'n Node) -> Result<u64, String> {
        let shape = self.shape(part)?;
        let weight = self.weight(&shape)?;
        self.copy(weight)?;
        Ok(weight)
    }

    fn step(&mut self, steps: u64) -> Result<(), String> {
        self.steps = self.steps.saturating_add(steps.saturating_mul(self.times));
        if self.steps > MAX_STEPS {
            return Err(format!(
                "it would take more than {MAX_STEPS} steps: loop over fewer elements, or take it apart with `set`"
            ));
        }
        Ok(())
    }

    fn copy(&mut self, bytes: u64) -> Result<(), String> {
        self.bytes = self.bytes.saturating_add(bytes.saturating_mul(self.times));
        if self.bytes > MAX_BYTES {
            return Err(format!(
                "it would copy or compare more than {MAX_BYTES} bytes: use smaller values"
            ));
        }
        Ok(())
    }

    fn weight(&mut self, shape: &Shape<'a>) -> Result<u64, String> {
        Ok(match shape {
            Shape::OneOf(values) => values.iter().map(|value| value::weight(value)).max().unwrap_or(8),
            Shape::List { length, each } => self.weight(each)?.saturating_mul(*length).saturating_add(8),
            Shape::Some(weight) => *weight,
        })
    }
}

/// Whether it is a list for certain.
fn is_list(shape: &Shape<'_>) -> bool {
    match shape {
        Shape::OneOf(values) => values.iter().all(|value| value.is_array()),
        Shape::List { .. } => true,
        Shape::Some(_) => false,
    }
}

fn length(shape: &Shape<'_>) -> u64 {
    match shape {
        Shape::OneOf(values) => {
            let lengths = values.iter().map(|value| match value {
                Value::Array(elements) => elements.len(),
                Value::Object(entries) => entries.len(),
                _ => 0,
            });
            lengths.max().unwrap_or(0) as u64
        }
        Shape::List { length, .. } => *length,
        Shape::Some(weight) => weight / 8,
    }
}

/// An element of a list, or a key or value of a map.
fn each(shape: Shape<'_>) -> Shape<'_> {
    match shape {
        Shape::OneOf(values) => {
            let keys = values.iter().filter_map(|value| value.as_object());
            let longest = keys.flat_map(Map::keys).map(String::len).max();
            let elements: Vec<&Value> = values
                .iter()
                .flat_map(|value| match value {
                    Value::Array(elements) => elements.iter().collect::<Vec<_>>(),
                    Value::Object(entries) => entries.values().collect(),
                    _ => Vec::new(),
                })
                .collect();
            match longest {
                // What a loop binds is the key; what an index gives is the value.
                Some(longest) => {
                    let values = elements.into_iter().map(value::weight).max().unwrap_or(8);
                    Shape::Some(values.max(8 + longest as u64))
                }
                None => Shape::OneOf(elements),
            }
        }
        Shape::List { each, .. } => *each,
        Shape::Some(weight) => Shape::Some(weight),
    }
}

fn field<'a>(shape: Shape<'a>, name: &str) -> Shape<'a> {
    match shape {
        Shape::OneOf(values) => {
            Shape::OneOf(values.into_iter().filter_map(|value| value.get(name)).collect())
        }
        Shape::List { each, .. } => *each,
        Shape::Some(weight) => Shape::Some(weight),
    }
}
