//! The syntax tree of an expression, with the place of everything in it.

use std::iter;

/// A part of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// Byte of the source where the word, literal or operator stands that this node is about.
    pub at: usize,
    /// Levels of the tree from here on, this one included.
    pub depth: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Name(String),
    Field {
        of: Box<Node>,
        name: String,
    },
    /// `has(of.name)`
    Has {
        of: Box<Node>,
        name: String,
    },
    Index {
        of: Box<Node>,
        index: Box<Node>,
    },
    Call {
        function: String,
        target: Option<Box<Node>>,
        arguments: Vec<Node>,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Not(Box<Node>),
    Negate(Box<Node>),
    /// Two and more terms with `&&` between them.
    All(Vec<Node>),
    /// Two and more terms with `||` between them.
    Any(Vec<Node>),
    Binary {
        operator: Operator,
        left: Box<Node>,
        right: Box<Node>,
    },
    If {
        condition: Box<Node>,
        then: Box<Node>,
        otherwise: Box<Node>,
    },
    Loop {
        kind: Loop,
        over: Box<Node>,
        name: String,
        /// Of `map` with three arguments.
        only: Option<Box<Node>>,
        body: Box<Node>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Divide,
    Equal,
    Greater,
    GreaterOrEqual,
    In,
    Less,
    LessOrEqual,
    Multiply,
    NotEqual,
    Remainder,
    Subtract,
}

/// A macro that goes over a list, or over the keys of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

impl Loop {
    pub(super) fn named(name: &str) -> Option<Loop> {
        Some(match name {
            "all" => Loop::All,
            "exists" => Loop::Exists,
            "exists_one" => Loop::ExistsOne,
            "filter" => Loop::Filter,
            "map" => Loop::Map,
            _ => return None,
        })
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Loop::All => "all",
            Loop::Exists => "exists",
            Loop::ExistsOne => "exists_one",
            Loop::Filter => "filter",
            Loop::Map => "map",
        }
    }
}

/// The parts of a node, in the order of the source: `&` of them for `&` of its kind, `&mut` for `&mut`. `$unboxed` is how
/// a reference to a box becomes one to what is in it.
macro_rules! parts {
    ($kind:expr, $unboxed:path) => {
        match $kind {
            Kind::Null
            | Kind::Bool(_)
            | Kind::Int(_)
            | Kind::Uint(_)
            | Kind::Double(_)
            | Kind::Text(_)
            | Kind::Name(_) => Vec::new(),
            Kind::Field { of, .. } | Kind::Has { of, .. } | Kind::Not(of) | Kind::Negate(of) => vec![of],
            Kind::Index { of, index } => vec![of, index],
            Kind::Call {
                target, arguments, ..
            } => target.into_iter().map($unboxed).chain(arguments).collect(),
            Kind::List(parts) | Kind::All(parts) | Kind::Any(parts) => Vec::from_iter(parts),
            Kind::Map(entries) => entries
                .into_iter()
                .flat_map(|(key, value)| [key, value])
                .collect(),
            Kind::Binary { left, right, .. } => vec![left, right],
            Kind::If {
                condition,
                then,
                otherwise,
            } => vec![condition, then, otherwise],
            Kind::Loop { over, only, body, .. } => {
                let parts = iter::once(over).chain(only).chain([body]);
                parts.map($unboxed).collect()
            }
        }
    };
}

impl Node {
    /// The parts, in the order of the source.
    pub(super) fn children(&self) -> Vec<&Node> {
        parts!(&self.kind, Box::as_ref)
    }

    pub(super) fn children_mut(&mut self) -> Vec<&mut Node> {
        parts!(&mut self.kind, Box::as_mut)
    }

    /// `["inputs", "disk"]` for `inputs.disk`: a name and the fields that are asked of it.
    pub(super) fn path(&self) -> Option<Vec<&str>> {
        match &self.kind {
            Kind::Name(name) => Some(vec![name]),
            Kind::Field { of, name } => {
                let mut path = of.path()?;
                path.push(name);
                Some(path)
            }
            _ => None,
        }
    }
}
