//! Loops over the elements of a list, or over the keys of a map in order.
//!
//! Source: cel-spec, "Macros".

use std::rc::Rc;

use super::super::syntax::{Loop, Node};
use super::logic::{Logic, Terms};
use super::value::{Key, List, Value};
use super::{Evaluated, Evaluator, Stop};

impl<'a> Evaluator<'a> {
    pub(super) fn looped(
        &mut self,
        kind: Loop,
        over: &'a Node,
        name: &'a str,
        only: Option<&'a Node>,
        body: &'a Node,
    ) -> Evaluated<'a> {
        let elements = match self.value(over)? {
            Value::List(list) => list,
            Value::Map(map) => {
                self.meter.keys(&map)?;
                List::Made(Rc::new(map.keys().into_iter().map(Key::value).collect()))
            }
            other => {
                return Err(Stop::failed(format!(
                    "{}() goes over a list or a map, not {}",
                    kind.as_str(),
                    other.kind()
                )));
            }
        };
        let depth = self.bound.len();
        let result = match kind {
            Loop::All => self.folded(Logic::And, &elements, name, body),
            Loop::Exists => self.folded(Logic::Or, &elements, name, body),
            Loop::ExistsOne => self.counted(&elements, name, body),
            Loop::Filter => self.filtered(&elements, name, body),
            Loop::Map => self.mapped(&elements, name, only, body),
        };
        // Whatever ended it.
        self.bound.truncate(depth);
        result
    }

    fn bind(&mut self, name: &'a str, element: Value<'a>) -> Result<(), Stop> {
        self.meter.step()?;
        self.bound.push((name, element));
        Ok(())
    }

    fn folded(&mut self, logic: Logic, over: &List<'a>, name: &'a str, body: &'a Node) -> Evaluated<'a> {
        let mut so_far = Terms::new(logic);
        for element in over.iter() {
            self.bind(name, element)?;
            let term = self.value(body);
            self.bound.pop();
            if so_far.take(term, false)? {
                return Ok(Value::Bool(logic == Logic::Or));
            }
        }
        so_far.undecided()
    }

    fn counted(&mut self, over: &List<'a>, name: &'a str, body: &'a Node) -> Evaluated<'a> {
        let mut count = 0u64;
        for element in over.iter() {
            self.bind(name, element)?;
            count += u64::from(self.is_true(body)?);
            self.bound.pop();
        }
        Ok(Value::Bool(count == 1))
    }

    fn filtered(&mut self, over: &List<'a>, name: &'a str, body: &'a Node) -> Evaluated<'a> {
        let mut kept = Vec::new();
        for element in over.iter() {
            self.bind(name, element.clone())?;
            let keeps = self.is_true(body)?;
            self.bound.pop();
            if keeps {
                self.meter.elements(1)?;
                kept.push(element);
            }
        }
        Ok(Value::list(kept))
    }

    fn mapped(
        &mut self,
        over: &List<'a>,
        name: &'a str,
        only: Option<&'a Node>,
        body: &'a Node,
    ) -> Evaluated<'a> {
        let mut made = Vec::new();
        for element in over.iter() {
            self.bind(name, element)?;
            let keeps = match only {
                Some(only) => self.is_true(only)?,
                None => true,
            };
            if keeps {
                self.meter.elements(1)?;
                let value = self.value(body)?;
                made.push(value);
            }
            self.bound.pop();
        }
        Ok(Value::list(made))
    }
}
