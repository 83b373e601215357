//! What is known of values before there are any.

use std::collections::BTreeMap;
use std::fmt;

use crate::language::InputType;

/// The type of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Type {
    /// Known when it is evaluated only.
    #[default]
    Any,
    Bool,
    Double,
    Int,
    List(Box<Type>),
    /// Of texts to this type.
    Map(Box<Type>),
    Null,
    /// A map with exactly these fields.
    Object(BTreeMap<String, Type>),
    Text,
    Uint,
}

/// What an expression can see at its place in a definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Types {
    /// `inputs.NAME`
    pub inputs: BTreeMap<String, Type>,
    /// `vars.NAME`: what some `set` records.
    pub vars: BTreeMap<String, Type>,
    /// `vars.NAME` of those that are there from the second round of a loop on: only behind `has(vars.NAME)`.
    pub later_vars: BTreeMap<String, Type>,
    /// `tasks.NAME` of the tasks that it may ask for, with the type of `tasks.NAME.outputs`.
    pub tasks: BTreeMap<String, Type>,
    /// The same of those that are there, as the round before left them, from the second round of a loop on: only behind
    /// `has(tasks.NAME)`, or `'NAME' in tasks`.
    pub later_tasks: BTreeMap<String, Type>,
    /// `machine`: the task has a worker.
    pub machine: bool,
    /// `item`, in a task with `forEach`; `item_index` goes with it.
    pub item: Option<Type>,
    /// `round`: a `goto` may lead back to the task.
    pub round: bool,
    /// `branch_index`: the task is of a group.
    pub branch: bool,
    /// `tasks.NAME` of the groups that it may ask for, with the type of their outputs.
    pub groups: BTreeMap<String, Type>,
    /// `machines(selector)` may be called: in the list of a `forEach`.
    pub machines: bool,
    /// `success()`, `failure()` and `always()` may be called: in `when`.
    pub gates: bool,
    /// There is nothing but `inputs`: what is worked out when the workflow is made.
    pub inputs_only: bool,
}

impl From<InputType> for Type {
    fn from(kind: InputType) -> Type {
        match kind {
            InputType::String => Type::Text,
            InputType::Int => Type::Int,
            InputType::Double => Type::Double,
            InputType::Bool => Type::Bool,
            InputType::List => Type::list(),
            InputType::Map => Type::map(),
        }
    }
}

impl Type {
    /// A list of anything.
    pub fn list() -> Type {
        Type::List(Box::new(Type::Any))
    }

    /// A map of anything.
    pub fn map() -> Type {
        Type::Map(Box::new(Type::Any))
    }

    pub fn object<'n>(fields: impl IntoIterator<Item = (&'n str, Type)>) -> Type {
        Type::Object(
            fields
                .into_iter()
                .map(|(name, kind)| (name.to_owned(), kind))
                .collect(),
        )
    }

    /// Whether a value of the one can be a value of the other; what a type does not say can be anything.
    pub fn can_be(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Any, _) | (_, Type::Any) => true,
            (Type::List(left), Type::List(right)) | (Type::Map(left), Type::Map(right)) => left.can_be(right),
            (Type::Map(of), Type::Object(fields)) | (Type::Object(fields), Type::Map(of)) => {
                fields.values().all(|field| field.can_be(of))
            }
            (Type::Object(left), Type::Object(right)) => {
                left.len() == right.len()
                    && left
                        .iter()
                        .all(|(name, kind)| right.get(name).is_some_and(|other| kind.can_be(other)))
            }
            _ => self == other,
        }
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Type::Double | Type::Int | Type::Uint)
    }

    /// Whether the two can be equal: numbers of all kinds can.
    pub(super) fn can_equal(&self, other: &Type) -> bool {
        self.can_be(other) || (self.is_number() && other.is_number())
    }

    /// The type of what is one or the other.
    pub(super) fn or(self, other: Type) -> Type {
        match (self, other) {
            (left, right) if left == right => left,
            (Type::List(left), Type::List(right)) => Type::List(Box::new(left.or(*right))),
            (left @ (Type::Map(_) | Type::Object(_)), right @ (Type::Map(_) | Type::Object(_))) => {
                Type::Map(Box::new(left.value().or(right.value())))
            }
            _ => Type::Any,
        }
    }

    /// The type of the values of a map.
    pub(super) fn value(self) -> Type {
        match self {
            Type::Map(of) => *of,
            Type::Object(fields) => fields.into_values().reduce(Type::or).unwrap_or_default(),
            _ => Type::Any,
        }
    }
}

/// As definitions name it: string, int, double, bool, list, map; besides uint, null, any.
impl fmt::Display for Type {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Type::Any => "any",
            Type::Bool => "bool",
            Type::Double => "double",
            Type::Int => "int",
            Type::List(_) => "list",
            Type::Map(_) | Type::Object(_) => "map",
            Type::Null => "null",
            Type::Text => "string",
            Type::Uint => "uint",
        })
    }
}

impl Types {
    /// What a name means here.
    pub(super) fn named(&self, name: &str) -> Option<Type> {
        if self.inputs_only && name != "inputs" {
            return None;
        }
        Some(match name {
            "branch_index" if self.branch => Type::Int,
            "inputs" => Type::Object(self.inputs.clone()),
            "item" => self.item.clone()?,
            "item_index" if self.item.is_some() => Type::Int,
            "machine" if self.machine => Type::Any,
            "round" if self.round => Type::Int,
            "tasks" => Type::Object(
                self.tasks
                    .iter()
                    .chain(&self.groups)
                    .map(|(name, outputs)| (name.clone(), task(outputs.clone())))
                    .collect(),
            ),
            "vars" => Type::Object(self.vars.clone()),
            "workflow" => Type::object([
                ("id", Type::Text),
                ("labels", Type::Map(Box::new(Type::Text))),
                ("name", Type::Text),
                ("namespace", Type::Text),
                ("run", Type::Int),
            ]),
            _ => return None,
        })
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        [
            "branch_index",
            "inputs",
            "item",
            "item_index",
            "machine",
            "round",
            "tasks",
            "vars",
            "workflow",
        ]
        .into_iter()
        .filter(|name| self.named(name).is_some())
        .collect()
    }
}

pub(super) fn task(outputs: Type) -> Type {
    let error = Type::object([("message", Type::Text), ("reason", Type::Text)]);
    Type::object([("error", error), ("outputs", outputs), ("state", Type::Text)])
}
