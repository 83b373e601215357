//! `&&` and `||`, also over the elements of a list: a term that decides does so whatever the others are, an error among
//! them.
//!
//! Source: cel-spec, "Logical Operators": both are commutative. Where no term decides and several have no value, the last
//! one's error is told.

use super::value::Value;
use super::{Evaluated, Stop};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logic {
    And,
    Or,
}

/// The terms so far.
#[derive(Debug)]
pub(super) struct Terms {
    logic: Logic,
    state: State,
}

#[derive(Debug)]
enum State {
    /// All were true (of `&&`), or false (of `||`).
    Open,
    /// The first is of another type.
    Other(&'static str),
    Failed(Stop),
}

impl Terms {
    pub(super) fn new(logic: Logic) -> Terms {
        let state = State::Open;
        Terms { logic, state }
    }

    /// Takes the next term in. True: it decides, so that the others need not be evaluated.
    ///
    /// # Errors
    /// A bound that was reached ends everything.
    pub(super) fn take(&mut self, term: Evaluated<'_>, is_first: bool) -> Result<bool, Stop> {
        let decides = self.logic == Logic::Or;
        match (term, &self.state) {
            (Err(bound @ Stop::Bound(_)), _) => return Err(bound),
            (Err(failed), _) => self.state = State::Failed(failed),
            (Ok(Value::Bool(value)), _) if value == decides => return Ok(true),
            (Ok(_), State::Failed(_)) => {}
            (Ok(Value::Bool(_)), State::Open) => {}
            (Ok(other), State::Open) if is_first => self.state = State::Other(other.kind()),
            (Ok(other), State::Open) => self.state = State::Failed(self.no("bool", other.kind())),
            (Ok(next), State::Other(first)) => self.state = State::Failed(self.no(first, next.kind())),
        }
        Ok(false)
    }

    /// What they come to when none has decided.
    pub(super) fn undecided<'a>(self) -> Evaluated<'a> {
        match self.state {
            State::Open => Ok(Value::Bool(self.logic == Logic::And)),
            State::Other(first) => Err(self.no(first, "bool")),
            State::Failed(failed) => Err(failed),
        }
    }

    fn no(&self, left: &str, right: &str) -> Stop {
        let sign = match self.logic {
            Logic::And => "&&",
            Logic::Or => "||",
        };
        Stop::failed(format!("no {sign} for {left} and {right}"))
    }
}
