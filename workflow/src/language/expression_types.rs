//! Which names an expression of a definition sees at its place, and the check of all of them.
//!
//! `tasks.NAME` and `vars.NAME` are there for the tasks that are final by then: those that the expression's task needs,
//! directly or not. Anything else would be a matter of luck.

use std::collections::{BTreeMap, BTreeSet};

use yaml::Kind;

use super::expressions::{Expression, Standing};
use super::fields::Check;
use super::flow::Ancestors;
use super::{Control, Definition};
use crate::expression::{self, Missing, Type, Types};

/// With more names than these an expression is shown only those that stand in it, which bounds the work.
const MANY: usize = 100;

impl Check<'_> {
    /// Checks all expressions. Without `ancestors` the order of the tasks is not known, and they may see any of them.
    pub(super) fn check_expressions(&mut self, definition: &Definition, ancestors: Option<&Ancestors>) {
        let mut expressions = std::mem::take(&mut self.expressions);
        // The types of items and variables are known before they are used.
        expressions.sort_by_key(|expression| match expression.task {
            Some(task) => (
                ancestors.map_or(0, |all| all.count(task)),
                task,
                expression.standing,
            ),
            None => (u32::MAX, usize::MAX, expression.standing),
        });
        let mut seen = Seen::new(definition, ancestors, &self.untyped_inputs);
        for expression in &expressions {
            let types = seen.types(expression);
            match expression::check(expression.source, &types) {
                Ok(kind) => {
                    if let Some(message) = misplaced(expression, &kind) {
                        self.problem(expression.place(self.yaml, 0), Kind::Expression, message);
                    }
                    seen.note(expression, kind);
                }
                Err(problems) => {
                    for found in problems {
                        let message = seen
                            .too_early(expression, found.missing.as_ref())
                            .unwrap_or(found.message);
                        let at = expression.place(self.yaml, found.offset);
                        let meant = match expression.standing.is_bound() {
                            true => too_early_to_tell(expression, &message),
                            false => seen.meant(expression),
                        }
                        .unwrap_or_default();
                        self.problem(at, Kind::Expression, message + &meant);
                    }
                    seen.note(expression, Type::Any);
                }
            }
        }
    }
}

/// Why a value of this type is of no use where the expression stands.
fn misplaced(expression: &Expression<'_>, kind: &Type) -> Option<String> {
    let field = expression.field;
    match expression.standing {
        Standing::When | Standing::Goto if !kind.can_be(&Type::Bool) => Some(format!(
            "{field} is of type {kind}: it must be true or false; compare it with something"
        )),
        Standing::ForEach if !kind.can_be(&Type::list()) => Some(format!(
            "{field} is of type {kind}: it must be a list, like [{}]",
            expression.source
        )),
        Standing::Bound
            if ![Type::Text, Type::Int, Type::Double]
                .iter()
                .any(|good| kind.can_be(good)) =>
        {
            Some(format!(
                "{field} is of type {kind}: it must be a number or a text, as it would be written out"
            ))
        }
        Standing::BoundList if !kind.can_be(&Type::list()) => {
            Some(format!("{field} is of type {kind}: it must be a list"))
        }
        _ => None,
    }
}

/// Why what an expression asks for is not there when the workflow is made.
fn too_early_to_tell(expression: &Expression<'_>, message: &str) -> Option<String> {
    let field = expression.field;
    message
        .ends_with(" yet")
        .then(|| format!(": {field} is worked out when the workflow is made, from inputs and nothing else"))
}

/// What expressions see so far.
struct Seen<'d> {
    definition: &'d Definition,
    ancestors: Option<&'d Ancestors>,
    by_name: BTreeMap<&'d str, usize>,
    inputs: BTreeMap<&'d str, Type>,
    vars: BTreeMap<&'d str, Variable>,
    /// By task: the type of an item of its `forEach`.
    items: BTreeMap<usize, Type>,
    groups: BTreeMap<&'d str, Vec<usize>>,
    /// The first and the last task of each loop.
    loops: Vec<(usize, usize)>,
}

struct Variable {
    kind: Type,
    set_by: Vec<usize>,
}

impl<'d> Seen<'d> {
    fn new(definition: &'d Definition, ancestors: Option<&'d Ancestors>, untyped: &[&'d str]) -> Seen<'d> {
        let mut by_name = BTreeMap::new();
        let mut vars: BTreeMap<&str, Variable> = BTreeMap::new();
        for (index, task) in definition.tasks.iter().enumerate() {
            by_name.entry(task.name.as_str()).or_insert(index);
            if let Some(Control::Set(values)) = &task.control {
                for name in values.keys() {
                    let kind = Type::Any;
                    let variable = vars.entry(name).or_insert(Variable {
                        kind,
                        set_by: Vec::new(),
                    });
                    variable.set_by.push(index);
                }
            }
        }
        let typed = definition
            .inputs
            .iter()
            .map(|(name, input)| (name.as_str(), Type::from(input.kind)));
        Seen {
            definition,
            ancestors,
            by_name,
            inputs: untyped
                .iter()
                .map(|name| (*name, Type::Any))
                .chain(typed)
                .collect(),
            vars,
            items: BTreeMap::new(),
            groups: definition.groups(),
            loops: definition
                .tasks
                .iter()
                .enumerate()
                .filter_map(|(last, task)| Some((task.goto.as_ref()?.task, last)))
                .collect(),
        }
    }

    /// What is right instead of an expression that is wrong, where people err most.
    fn meant(&self, expression: &Expression<'_>) -> Option<String> {
        let source = expression.source;
        // `tasks.write disk.state`
        let mut names = self.definition.tasks.iter().map(|task| task.name.as_str());
        let named = names.find(|name| {
            let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            !is_plain && source.contains(&format!("tasks.{name}"))
        });
        if let Some(name) = named {
            return Some(format!(
                "; a name like this one stands in brackets: tasks[{name:?}]"
            ));
        }
        // `host: node1`
        let is_words = |c: char| c.is_alphanumeric() || " -_./:@".contains(c);
        let is_text =
            matches!(expression.standing, Standing::Set | Standing::Outputs) && source.chars().all(is_words);
        let first = source.split(['.', ' ']).next().unwrap_or_default();
        let is_path = [
            "inputs",
            "tasks",
            "vars",
            "item",
            "item_index",
            "branch_index",
            "machine",
            "round",
            "secrets",
            "workflow",
        ]
        .contains(&first);
        (is_text && !is_path).then(|| format!("; a text has quotes within quotes: \"'{source}'\""))
    }

    fn types(&self, expression: &Expression<'_>) -> Types {
        let words = words(expression.source);
        if expression.standing.is_bound() {
            let inputs = self.inputs.iter().map(|(name, kind)| (*name, kind));
            return Types {
                inputs: shown(inputs, self.inputs.len(), &words),
                inputs_only: true,
                ..Types::default()
            };
        }
        let task = expression.task.and_then(|index| self.definition.tasks.get(index));
        let is_for_items = matches!(
            expression.standing,
            Standing::When | Standing::Set | Standing::Hole
        );
        let for_each = task
            .and_then(|task| task.for_each.as_ref())
            .filter(|_| is_for_items);
        let item = for_each.and(expression.task).map(|index| {
            let kind = self.items.get(&index);
            kind.cloned().unwrap_or_default()
        });
        let has_worker = task.is_some_and(|task| !task.worker.is_empty());
        Types {
            inputs: shown(
                self.inputs.iter().map(|(name, kind)| (*name, kind)),
                self.inputs.len(),
                &words,
            ),
            vars: if words.contains("vars") {
                let visible = self
                    .vars
                    .iter()
                    .filter(|(_, variable)| variable.set_by.iter().any(|&by| self.is_before(by, expression)));
                shown(
                    visible.map(|(name, variable)| (*name, &variable.kind)),
                    self.vars.len(),
                    &words,
                )
            } else {
                BTreeMap::new()
            },
            later_vars: if words.contains("vars") {
                let later = self.vars.iter().filter(|(_, variable)| {
                    !variable.set_by.iter().any(|&by| self.is_before(by, expression))
                        && variable.set_by.iter().any(|&by| self.is_later(by, expression))
                });
                shown(
                    later.map(|(name, _)| (*name, &Type::Any)),
                    self.vars.len(),
                    &words,
                )
            } else {
                BTreeMap::new()
            },
            branch: task.is_some_and(|task| !task.group.is_empty()),
            groups: if words.contains("tasks") {
                self.groups_before(expression)
            } else {
                BTreeMap::new()
            },
            round: expression
                .task
                .is_some_and(|task| self.loops_with(task).next().is_some()),
            tasks: if words.contains("tasks") {
                self.tasks(&words, |task| self.is_before(task, expression))
            } else {
                BTreeMap::new()
            },
            later_tasks: if words.contains("tasks") {
                self.tasks(&words, |task| {
                    !self.is_before(task, expression) && self.is_later(task, expression)
                })
            } else {
                BTreeMap::new()
            },
            machine: is_for_items && (has_worker || item.is_some()),
            item,
            machines: expression.standing == Standing::ForEach,
            gates: matches!(expression.standing, Standing::When | Standing::Goto),
            inputs_only: false,
        }
    }

    /// The tasks that are there, with the types of their outputs.
    fn tasks(&self, words: &BTreeSet<&str>, is_there: impl Fn(usize) -> bool) -> BTreeMap<String, Type> {
        let is_many = self.by_name.len() > MANY;
        let outputs = |index: usize| match self.definition.tasks.get(index) {
            Some(task) if task.for_each.is_some() => Type::list(),
            _ => Type::Any,
        };
        self.by_name
            .iter()
            .filter(|(name, index)| (!is_many || words.contains(**name)) && is_there(**index))
            .map(|(name, index)| ((*name).to_owned(), outputs(*index)))
            .collect()
    }

    /// The groups all of whose tasks come before the expression's, with what their outputs are.
    fn groups_before(&self, expression: &Expression<'_>) -> BTreeMap<String, Type> {
        let is_before = |index: &usize| match (expression.task, self.ancestors) {
            (Some(own), Some(ancestors)) => ancestors.has(own, *index),
            _ => true,
        };
        let before = self
            .groups
            .iter()
            .filter(|(_, members)| members.iter().all(is_before));
        let outputs = |index: &usize| {
            let task = self.definition.tasks.get(*index)?;
            let of_task = if task.for_each.is_some() {
                Type::list()
            } else {
                Type::Any
            };
            Some((task.name.as_str(), of_task))
        };
        before
            .map(|(name, members)| {
                (
                    (*name).to_owned(),
                    Type::object(members.iter().filter_map(outputs)),
                )
            })
            .collect()
    }

    /// Whether a task is final when the expression is evaluated.
    fn is_before(&self, task: usize, expression: &Expression<'_>) -> bool {
        match (expression.task, self.ancestors) {
            (Some(own), Some(ancestors)) => {
                ancestors.has(own, task) || (own == task && expression.standing == Standing::Goto)
            }
            _ => true,
        }
    }

    /// Whether a task is final only after the expression is evaluated, but before that is done once more: it stands later in a
    /// loop of both, or is the expression's own.
    fn is_later(&self, task: usize, expression: &Expression<'_>) -> bool {
        let (Some(own), Some(ancestors)) = (expression.task, self.ancestors) else {
            return false;
        };
        (own == task || ancestors.has(task, own))
            && self
                .loops_with(own)
                .any(|(first, last)| self.is_within(task, first, last))
    }

    /// The loops that a task is in.
    fn loops_with(&self, task: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let loops = self.loops.iter().copied();
        loops.filter(move |(first, last)| self.is_within(task, *first, *last))
    }

    fn is_within(&self, task: usize, first: usize, last: usize) -> bool {
        let comes_after =
            |task, other| task == other || self.ancestors.is_none_or(|ancestors| ancestors.has(task, other));
        comes_after(task, first) && comes_after(last, task)
    }

    /// Remembers what a variable or an item is.
    fn note(&mut self, expression: &Expression<'_>, kind: Type) {
        match (expression.standing, expression.task) {
            (Standing::Set, _) => {
                let variable = self.vars.get_mut(expression.field);
                if let Some(variable) = variable.filter(|variable| variable.set_by.len() == 1) {
                    variable.kind = kind;
                }
            }
            (Standing::ForEach, Some(task)) => {
                let item = match kind {
                    Type::List(item) => *item,
                    _ => Type::Any,
                };
                self.items.insert(task, item);
            }
            _ => {}
        }
    }

    /// A better word for a task that there is, but not at that place.
    fn too_early(&self, expression: &Expression<'_>, missing: Option<&Missing>) -> Option<String> {
        let Missing { of: what, name } = missing?;
        let own = &self.definition.tasks.get(expression.task?)?.name;
        let setter = match what.as_str() {
            "tasks" => *self.by_name.get(name.as_str())?,
            "vars" => *self.vars.get(name.as_str())?.set_by.first()?,
            _ => return None,
        };
        let needed = &self.definition.tasks.get(setter)?.name;
        Some(if needed == own {
            format!("{what} has no {name:?} yet: task {own:?} is not over")
        } else {
            format!(
                "{what} has no {name:?} yet: task {own:?} does not come after {needed:?}; add that to its needs"
            )
        })
    }
}

/// All of the names, or those that stand in an expression if there are many.
fn shown<'n>(
    all: impl Iterator<Item = (&'n str, &'n Type)>,
    count: usize,
    words: &BTreeSet<&str>,
) -> BTreeMap<String, Type> {
    all.filter(|(name, _)| count <= MANY || words.contains(name))
        .map(|(name, kind)| (name.to_owned(), kind.clone()))
        .collect()
}

/// What may be a name in an expression: words, and what stands in quotes.
pub(super) fn words(source: &str) -> BTreeSet<&str> {
    let quoted = source.split(['\'', '"']);
    let bare = source.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    quoted.chain(bare).collect()
}
