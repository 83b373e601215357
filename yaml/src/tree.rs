//! The tree: maps, lists and scalars, each at its place.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A place in a text; both numbers from 1, columns in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// 0: the whole text is meant.
    pub line: u32,
    /// 0: the whole line is meant.
    pub column: u32,
}

impl Place {
    /// Its line from 0, where the text has lines; `None` when the whole text is meant.
    pub fn index(&self) -> Option<usize> {
        usize::try_from(self.line.checked_sub(1)?).ok()
    }

    /// The place of a byte of a text.
    pub fn of_byte(text: &str, byte: usize) -> Place {
        let mut byte = byte.min(text.len());
        while !text.is_char_boundary(byte) {
            byte -= 1;
        }
        let before = &text[..byte];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Place {
            line: number(before.matches('\n').count() + 1),
            column: number(before[line_start..].chars().count() + 1),
        }
    }
}

/// A value of a YAML text.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it is used: for an alias, the alias.
    pub at: Place,
    /// What it is.
    pub what: What,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Null, or left out.
    Nothing,
    /// One text.
    Scalar(Scalar),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order in which it is written; no name is there twice.
    Map(Vec<Entry>),
}

/// A text, as it is written and as YAML takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// What an operator means by it: `0644`, `true` and `n` stay the text that they are.
    pub text: String,
    /// What YAML takes it for (core schema of YAML 1.2, section 10.3.2): a text unless it is written plainly.
    pub value: Value,
    /// How it is written.
    pub style: Style,
    /// The bytes of the file that it is written with, quotes and all. For an alias, those of what it stands for.
    pub written: Range<usize>,
}

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// In single or double quotes.
    Quoted,
    /// Lines below a `|`, as they are.
    Literal,
    /// Lines below a `>`, folded.
    Folded,
}

/// A key of a mapping, and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub name: String,
    /// Where the key stands.
    pub at: Place,
    /// The value.
    pub node: Node,
}

impl Node {
    /// The value of a name in a mapping; also when it is nothing.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.entry(name).map(|entry| &entry.node)
    }

    /// The key and value of a name in a mapping.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        let What::Map(entries) = &self.what else {
            return None;
        };
        entries.iter().find(|entry| entry.name == name)
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.what {
            What::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Whether it is null, or left out.
    pub fn is_nothing(&self) -> bool {
        matches!(self.what, What::Nothing)
    }

    /// What it is, for messages.
    pub fn describe(&self) -> String {
        const SHOWN_CHARS: usize = 200;
        match &self.what {
            What::List(_) => "a list".into(),
            What::Map(_) => "a map".into(),
            What::Nothing => "nothing".into(),
            What::Scalar(scalar) => match scalar.text.char_indices().nth(SHOWN_CHARS) {
                Some((cut, _)) => format!("{:?}…", &scalar.text[..cut]),
                None => format!("{:?}", scalar.text),
            },
        }
    }

    /// The value in JSON. Floats that JSON has not stay the text that they are.
    pub fn json(&self) -> Value {
        match &self.what {
            What::Nothing => Value::Null,
            What::Scalar(scalar) => scalar.value.clone(),
            What::List(items) => items.iter().map(Node::json).collect(),
            What::Map(entries) => {
                let json = |entry: &Entry| (entry.name.clone(), entry.node.json());
                Value::Object(entries.iter().map(json).collect())
            }
        }
    }

    /// Values within it, itself included, and bytes of text.
    pub(crate) fn size(&self) -> (usize, usize) {
        let add = |(nodes, bytes): (usize, usize), node: &Node| {
            let (more, text) = node.size();
            (nodes + more, bytes + text)
        };
        match &self.what {
            What::Nothing => (1, 0),
            What::Scalar(scalar) => (1, scalar.text.len()),
            What::List(items) => items.iter().fold((1, 0), add),
            What::Map(entries) => entries.iter().fold((1, 0), |sum, entry| {
                let (nodes, bytes) = add(sum, &entry.node);
                (nodes + 1, bytes + entry.name.len())
            }),
        }
    }
}
