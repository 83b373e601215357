//! What is found wrong, or odd, in a text.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Node, Place};

/// Something wrong, or odd, at its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// What sort of thing it is.
    pub kind: Kind,
    /// What is wrong, with the value, and what would be right.
    pub message: String,
}

/// What sort of thing a finding is. Who has to treat findings differently asks this, and never their words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Two things that do not go together.
    Conflict,
    /// An expression that is wrong.
    Expression,
    /// A document that is not of the kind that is read here.
    Foreign,
    /// No reference to an image.
    Image,
    /// What is needed is not there.
    Missing,
    /// A template's language (Go's `text/template`) is used wrongly, or its run failed.
    Template,
    /// What stands here has no effect.
    NoEffect,
    /// A template asks for a machine's record, and there is none that it could be.
    NoRecord,
    /// A name that means nothing here, where others would.
    NoSuchName,
    /// Not YAML.
    NotYaml,
    /// It is odd, and taken as it is.
    Odd,
    /// A list where a text is wanted, and the like.
    Shape,
    /// Larger, deeper or more than is taken.
    TooMuch,
    /// The same thing a second time.
    Twice,
    /// A field that a mapping has not.
    UnknownField,
    /// A value that its field does not take.
    Value,
}

impl Finding {
    /// What is wrong at a place.
    pub fn new(place: Place, kind: Kind, message: impl Into<String>) -> Finding {
        Finding {
            place,
            kind,
            message: message.into(),
        }
    }

    /// As a line for people: `FILE:LINE:COLUMN: message`.
    pub fn in_file(&self, source: &str) -> String {
        let Place { line, column } = self.place;
        match (line, column) {
            (0, _) => format!("{source}: {}", self.message),
            (_, 0) => format!("{source}:{line}: {}", self.message),
            _ => format!("{source}:{line}:{column}: {}", self.message),
        }
    }
}

/// What was found in one text so far.
#[derive(Debug, Default)]
pub struct Findings {
    problems: RefCell<Vec<Finding>>,
    warnings: RefCell<Vec<Finding>>,
    /// Values of the wrong shape: nothing else needs to be said of them.
    misshapen: RefCell<BTreeSet<Place>>,
}

impl Findings {
    /// Takes note of what is wrong.
    pub fn problem(&self, place: Place, kind: Kind, message: impl Into<String>) {
        if place == Place::default() || !self.misshapen.borrow().contains(&place) {
            self.problems
                .borrow_mut()
                .push(Finding::new(place, kind, message));
        }
    }

    /// Takes note of what is odd.
    pub fn warn(&self, place: Place, kind: Kind, message: impl Into<String>) {
        self.warnings
            .borrow_mut()
            .push(Finding::new(place, kind, message));
    }

    /// Takes note of a value of the wrong shape, of which nothing else needs to be said.
    pub fn misshapen(&self, node: &Node, message: impl Into<String>) {
        self.problem(node.at, Kind::Shape, message);
        self.misshapen.borrow_mut().insert(node.at);
    }

    /// Whether something is wrong.
    pub fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// Problems and warnings, both in the order of the text; what aliases repeat is told once.
    pub fn into_sorted(self) -> (Vec<Finding>, Vec<Finding>) {
        let sorted = |mut found: Vec<Finding>| {
            // Stable: what is found at one place is told in the order in which it was found.
            found.sort_by_key(|finding| finding.place);
            found.dedup();
            found
        };
        (
            sorted(self.problems.into_inner()),
            sorted(self.warnings.into_inner()),
        )
    }
}
