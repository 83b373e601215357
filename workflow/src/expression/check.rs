//! The checker: names, types and numbers of arguments, before there are any values. What it lets pass may still have no value
//! when it is evaluated (an index, a key, an overflow), but not for its types where they are known.

use std::collections::BTreeMap;

use yaml::nearest;

use super::eval::is_pattern;
use super::fill::{self, Part};
use super::functions::{self, Wrong};
use super::parse::parse;
use super::secret::SECRET_PLACES;
use super::selector::check_selector;
use super::syntax::{Kind, Loop, Node, Operator};
use super::types::{Type, Types, task};
use super::{ExpressionProblem, Missing};

/// The type of an expression's value, or everything that is wrong with it, in the order of the source.
pub fn check(source: &str, types: &Types) -> Result<Type, Vec<ExpressionProblem>> {
    check_named(source, &|name| types.named(name), &types.names(), types)
}

/// Checks the `${{ }}` of a text, and gives the type of what it is filled in to.
pub fn check_text(text: &str, types: &Types) -> Result<Type, Vec<ExpressionProblem>> {
    let parts = fill::parts(text).map_err(|problem| vec![problem])?;
    let mut problems = Vec::new();
    let mut alone = Type::Text;
    for part in &parts {
        let Part::Expression { source, at } = part else {
            continue;
        };
        let space = source.len() - source.trim_start().len();
        match check(source.trim(), types) {
            Ok(kind) if parts.len() == 1 => alone = kind,
            Ok(_) => {}
            Err(found) => problems.extend(found.into_iter().map(|problem| ExpressionProblem {
                offset: at + space + problem.offset,
                ..problem
            })),
        }
    }
    if problems.is_empty() {
        Ok(alone)
    } else {
        Err(problems)
    }
}

/// As [`check`], where names mean something else.
pub(super) fn check_named(
    source: &str,
    meaning: &dyn Fn(&str) -> Option<Type>,
    names: &[&str],
    types: &Types,
) -> Result<Type, Vec<ExpressionProblem>> {
    let node = parse(source).map_err(|problem| vec![problem])?;
    let mut checker = Checker {
        meaning,
        names,
        types,
        bound: Vec::new(),
        known: Vec::new(),
        problems: Vec::new(),
    };
    let kind = checker.kind(&node);
    let mut problems = checker.problems;
    problems.sort_by_key(|problem| problem.offset);
    if problems.is_empty() {
        Ok(kind)
    } else {
        Err(problems)
    }
}

struct Checker<'a> {
    meaning: &'a dyn Fn(&str) -> Option<Type>,
    names: &'a [&'a str],
    types: &'a Types,
    /// By loops, innermost last.
    bound: Vec<(String, Type)>,
    /// What may be missing and is there, as `has` or `in` said: `vars.NAME`, `tasks.NAME`, `workflow.labels.NAME`.
    known: Vec<String>,
    problems: Vec<ExpressionProblem>,
}

impl Checker<'_> {
    /// The type of a part; any where something is wrong with it, so that this is told once.
    fn kind(&mut self, node: &Node) -> Type {
        match &node.kind {
            Kind::Null => Type::Null,
            Kind::Bool(_) => Type::Bool,
            Kind::Int(_) => Type::Int,
            Kind::Uint(_) => Type::Uint,
            Kind::Double(_) => Type::Double,
            Kind::Text(_) => Type::Text,
            Kind::Name(name) => self.named(node.at, name),
            Kind::Has { of, name } if self.later_path(of, name).is_some() || is_labels(of) => Type::Bool,
            Kind::Field { of, name } | Kind::Has { of, name } => {
                let whole = of.path().map(|path| path.join("."));
                let of = self.kind(of);
                let field = self.field(node.at, of, name, whole.as_deref());
                match node.kind {
                    Kind::Has { .. } => Type::Bool,
                    _ => field,
                }
            }
            Kind::Index { of, index } => self.index(node.at, of, index),
            Kind::Call {
                function,
                target,
                arguments,
            } => self.call(node.at, function, target.as_deref(), arguments),
            Kind::List(elements) => {
                let kinds: Vec<Type> = elements.iter().map(|element| self.kind(element)).collect();
                Type::List(Box::new(kinds.into_iter().reduce(Type::or).unwrap_or_default()))
            }
            Kind::Map(entries) => self.map(entries),
            Kind::Not(of) => {
                let kind = self.kind(of);
                self.condition(node.at, &kind, "!");
                Type::Bool
            }
            Kind::Negate(of) => match self.kind(of) {
                kind @ (Type::Any | Type::Int | Type::Double) => kind,
                kind => self.wrong(node.at, format!("no - for {kind}")),
            },
            Kind::All(terms) | Kind::Any(terms) => {
                let sign = if matches!(node.kind, Kind::All(_)) {
                    "&&"
                } else {
                    "||"
                };
                let known = self.known.len();
                for term in terms {
                    let kind = self.kind(term);
                    self.condition(term.at, &kind, sign);
                    // A term is asked where those before it were true (of `&&`), or false.
                    self.know(term, sign == "&&");
                }
                self.known.truncate(known);
                Type::Bool
            }
            Kind::Binary {
                operator,
                left,
                right,
            } => {
                let (left, right) = (self.kind(left), self.kind(right));
                match functions::binary(*operator, &left, &right) {
                    Ok(kind) => kind,
                    Err(message) => {
                        self.problem(node.at, message);
                        match operator {
                            Operator::Add | Operator::Subtract => Type::Any,
                            Operator::Multiply | Operator::Divide | Operator::Remainder => Type::Any,
                            _ => Type::Bool,
                        }
                    }
                }
            }
            Kind::If {
                condition,
                then,
                otherwise,
            } => {
                let kind = self.kind(condition);
                self.condition(node.at, &kind, "? :");
                let known = self.known.len();
                self.know(condition, true);
                let then = self.kind(then);
                self.known.truncate(known);
                self.know(condition, false);
                let otherwise = self.kind(otherwise);
                self.known.truncate(known);
                then.or(otherwise)
            }
            Kind::Loop {
                kind,
                over,
                name,
                only,
                body,
            } => self.looped(node.at, *kind, over, name, only.as_deref(), body),
        }
    }

    fn named(&mut self, at: usize, name: &str) -> Type {
        let bound = self.bound.iter().rev().find(|(bound, _)| bound == name);
        if let Some((_, kind)) = bound {
            return kind.clone();
        }
        if let Some(kind) = (self.meaning)(name) {
            return kind;
        }
        let message = match name {
            "secrets" => SECRET_PLACES.to_owned(),
            _ if self.types.inputs_only && !functions::is_known(name) => format!("there is no {name} yet"),
            "item" | "item_index" => format!("there is no {name} outside a task with forEach"),
            "branch_index" => "there is no branch_index outside a task of a group".to_owned(),
            "round" => "there is no round where no goto leads back to".to_owned(),
            "machine" => "there is no machine in a task without a worker".to_owned(),
            _ if functions::is_known(name) => format!("{name} is a function: write {name}(…)"),
            _ => {
                let bound = self.bound.iter().map(|(name, _)| name.as_str());
                let known: Vec<&str> = self.names.iter().copied().chain(bound).collect();
                let cure = meant(name, &known, "there are", "a text stands in quotes");
                format!("there is no {name:?}{cure}")
            }
        };
        self.wrong(at, message)
    }

    fn field(&mut self, at: usize, of: Type, name: &str, whole: Option<&str>) -> Type {
        let whole = whole.unwrap_or("this map");
        match of {
            Type::Any => Type::Any,
            Type::Map(_) if whole == LABELS && !self.is_known(LABELS, name) => {
                let (there, label) = match is_field_name(name) {
                    true => (format!("has({LABELS}.{name})"), format!("{LABELS}.{name}")),
                    false => (format!("'{name}' in {LABELS}"), format!("{LABELS}['{name}']")),
                };
                self.wrong(
                    at,
                    format!("a workflow may not have the label {name:?}: write {there} ? {label} : …"),
                )
            }
            Type::Map(of) => *of,
            Type::Object(mut fields) => {
                if let Some(kind) = fields.remove(name) {
                    return kind;
                }
                if let Some(kind) = self.later(whole, name) {
                    if self.is_known(whole, name) {
                        return kind;
                    }
                    return self.wrong(at, not_in_the_first_round(whole, name));
                }
                let known: Vec<&str> = fields.keys().map(String::as_str).collect();
                // `tasks.write-image` is a subtraction.
                let with_dash = known.iter().find(|known| {
                    known
                        .strip_prefix(name)
                        .is_some_and(|rest| rest.starts_with(['-', ' ', '.']))
                });
                let cure = match with_dash {
                    Some(known) => format!("; write {whole}['{known}']"),
                    None => meant(name, &known, "it has", "it has no fields"),
                };
                self.problems.push(ExpressionProblem {
                    offset: at,
                    message: format!("{whole} has no {name:?}{cure}"),
                    missing: Some(Missing {
                        of: whole.to_owned(),
                        name: name.to_owned(),
                    }),
                });
                Type::Any
            }
            Type::List(_) => self.wrong(
                at,
                format!("a list has no fields: write [0] or a loop for .{name}"),
            ),
            other => self.wrong(at, format!("{other} has no fields, so no .{name}")),
        }
    }

    fn index(&mut self, at: usize, of: &Node, index: &Node) -> Type {
        let whole = of.path().map(|path| path.join("."));
        let of = self.kind(of);
        let by = self.kind(index);
        match (of, &by, &index.kind) {
            (of @ (Type::Map(_) | Type::Object(_)), _, Kind::Text(name)) => {
                self.field(index.at, of, name, whole.as_deref())
            }
            (of @ (Type::Map(_) | Type::Object(_)), Type::Text | Type::Any, _) => of.value(),
            (Type::List(of), by, _) if by.is_number() || *by == Type::Any => *of,
            (Type::Any, Type::Text | Type::Any | Type::Int | Type::Uint | Type::Double | Type::Bool, _) => {
                Type::Any
            }
            (of, by, _) => {
                let cure = match of {
                    Type::List(_) => "; the elements of a list have numbers from 0",
                    Type::Map(_) | Type::Object(_) => "; the keys of a map are strings",
                    _ => "",
                };
                self.wrong(at, format!("no [] for {of} and {by}{cure}"))
            }
        }
    }

    /// The type of what is there from the second round on.
    fn later(&self, whole: &str, name: &str) -> Option<Type> {
        match whole {
            "vars" => self.types.later_vars.get(name).cloned(),
            "tasks" => self.types.later_tasks.get(name).cloned().map(task),
            _ => None,
        }
    }

    /// `of.name`, where that is there from the second round on.
    fn later_path(&self, of: &Node, name: &str) -> Option<String> {
        let whole = of.path()?.join(".");
        self.later(&whole, name)?;
        Some(format!("{whole}.{name}"))
    }

    fn is_known(&self, whole: &str, name: &str) -> bool {
        let path = format!("{whole}.{name}");
        self.known.contains(&path)
    }

    /// Notes what is there where a condition is true, or false.
    fn know(&mut self, condition: &Node, is_true: bool) {
        match (&condition.kind, is_true) {
            (Kind::Has { of, name }, true) if is_labels(of) => self.known.push(format!("{LABELS}.{name}")),
            (Kind::Has { of, name }, true) => self.known.extend(self.later_path(of, name)),
            // A name with a dash has no other way to be asked for.
            (
                Kind::Binary {
                    operator: Operator::In,
                    left,
                    right,
                },
                true,
            ) => {
                if let Kind::Text(name) = &left.kind {
                    match is_labels(right) {
                        true => self.known.push(format!("{LABELS}.{name}")),
                        false => self.known.extend(self.later_path(right, name)),
                    }
                }
            }
            (Kind::Not(of), _) => self.know(of, !is_true),
            (Kind::All(terms), true) | (Kind::Any(terms), false) => {
                terms.iter().for_each(|term| self.know(term, is_true));
            }
            _ => {}
        }
    }

    fn map(&mut self, entries: &[(Node, Node)]) -> Type {
        let mut fields = BTreeMap::new();
        let mut values = Vec::new();
        for (key, value) in entries {
            match (self.kind(key), &key.kind) {
                (_, Kind::Text(name)) => {
                    let value = self.kind(value);
                    if fields.insert(name.clone(), value).is_some() {
                        self.problem(key.at, format!("the key {name:?} stands in this map twice"));
                    }
                    continue;
                }
                (Type::Text | Type::Any, _) => {}
                (other, _) => self.problem(
                    key.at,
                    format!("the keys of a map are strings, not {other}: write string(…)"),
                ),
            }
            values.push(self.kind(value));
        }
        if values.is_empty() {
            return Type::Object(fields);
        }
        let known = fields.into_values();
        Type::Map(Box::new(
            values
                .into_iter()
                .chain(known)
                .reduce(Type::or)
                .unwrap_or_default(),
        ))
    }

    fn call(&mut self, at: usize, function: &str, target: Option<&Node>, arguments: &[Node]) -> Type {
        let on = target.map(|target| self.kind(target));
        let given: Vec<Type> = arguments.iter().map(|argument| self.kind(argument)).collect();
        if functions::is_gate(function) && target.is_none() && !self.types.gates {
            return self.wrong(at, format!("{function}() can be called in `when` only"));
        }
        if function == "machines" && target.is_none() {
            self.machines(at, arguments);
        }
        match functions::call(function, on.as_ref(), &given) {
            Ok(kind) => {
                let pattern = arguments.last().filter(|_| function == "matches");
                if let Some((at, Kind::Text(pattern))) = pattern.map(|pattern| (pattern.at, &pattern.kind))
                    && let Err(why) = is_pattern(pattern)
                {
                    self.problem(at, why);
                }
                kind
            }
            Err(Wrong::Unknown) => {
                let known: Vec<&str> = functions::names().collect();
                let cure = meant(function, &known, "there are", "");
                self.wrong(at, format!("there is no function {function}(){cure}"))
            }
            Err(Wrong::Call(message)) => self.wrong(at, message),
        }
    }

    fn machines(&mut self, at: usize, arguments: &[Node]) {
        if !self.types.machines {
            self.problem(
                at,
                "machines() can be called in the list of a forEach only".into(),
            );
        }
        let [selector] = arguments else { return };
        let mut names = Vec::new();
        collect_names(selector, &mut names);
        for (name, at) in names {
            if self.bound.iter().any(|(bound, _)| bound == name) {
                self.problem(
                    at,
                    format!("machines() is asked before the loop: it can't see {name}, which the loop binds"),
                );
            }
        }
        if calls_machines(selector) {
            self.problem(at, "machines() within machines(): take it apart".into());
        }
        if let Kind::Text(text) = &selector.kind {
            for problem in check_selector(text).err().unwrap_or_default() {
                let column = text.get(..problem.offset).unwrap_or(text).chars().count() + 1;
                self.problem(
                    selector.at,
                    format!("in this selector, at its column {column}: {}", problem.message),
                );
            }
        }
    }

    fn looped(
        &mut self,
        at: usize,
        kind: Loop,
        over: &Node,
        name: &str,
        only: Option<&Node>,
        body: &Node,
    ) -> Type {
        let function = kind.as_str();
        let element = match self.kind(over) {
            Type::Any => Type::Any,
            Type::List(of) => *of,
            Type::Map(_) | Type::Object(_) => Type::Text,
            other => self.wrong(at, format!("{function}() goes over a list or a map, not {other}")),
        };
        if self.names.contains(&name) || self.bound.iter().any(|(bound, _)| bound == name) {
            self.problem(
                at,
                format!("{name:?} means something here already: take another name for {function}()"),
            );
        }
        self.bound.push((name.to_owned(), element.clone()));
        if let Some(only) = only {
            let condition = self.kind(only);
            self.condition(only.at, &condition, &format!("the condition of {function}()"));
        }
        let made = self.kind(body);
        self.bound.pop();
        if kind != Loop::Map {
            self.condition(body.at, &made, &format!("the condition of {function}()"));
        }
        match kind {
            Loop::All | Loop::Exists | Loop::ExistsOne => Type::Bool,
            Loop::Filter => Type::List(Box::new(element)),
            Loop::Map => Type::List(Box::new(made)),
        }
    }

    fn condition(&mut self, at: usize, kind: &Type, of: &str) {
        if !kind.can_be(&Type::Bool) {
            let (what, verb) = match of {
                "&&" | "||" | "!" => (of.to_owned(), "takes"),
                "? :" => ("? :".to_owned(), "decides by"),
                other => (other.to_owned(), "is"),
            };
            self.problem(at, format!("{what} {verb} a bool, not {kind}"));
        }
    }

    fn wrong(&mut self, at: usize, message: String) -> Type {
        self.problem(at, message);
        Type::Any
    }

    fn problem(&mut self, offset: usize, message: String) {
        self.problems.push(ExpressionProblem {
            offset,
            message,
            missing: None,
        });
    }
}

/// A workflow's labels, each of which somebody may take away at any time.
const LABELS: &str = "workflow.labels";

fn is_labels(node: &Node) -> bool {
    node.path().is_some_and(|path| path == ["workflow", "labels"])
}

/// Whether a name can stand behind a dot.
fn is_field_name(name: &str) -> bool {
    let begins = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    begins
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn collect_names<'n>(node: &'n Node, names: &mut Vec<(&'n str, usize)>) {
    if let Kind::Name(name) = &node.kind {
        names.push((name, node.at));
    }
    node.children()
        .into_iter()
        .for_each(|child| collect_names(child, names));
}

fn calls_machines(node: &Node) -> bool {
    matches!(&node.kind, Kind::Call { function, target: None, .. } if function == "machines")
        || node.children().into_iter().any(calls_machines)
}

/// What is said of a variable or a task that is asked for without asking whether it is there.
fn not_in_the_first_round(whole: &str, name: &str) -> String {
    let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let (asked, written) = match is_word {
        true => (format!("has({whole}.{name})"), format!("{whole}.{name}")),
        false => (format!("'{name}' in {whole}"), format!("{whole}['{name}']")),
    };
    format!("{written} is not there in the first round: write {asked} ? {written} : …")
}

/// `; did you mean "…"?`, or what there is.
fn meant(word: &str, known: &[&str], there_are: &str, otherwise: &str) -> String {
    const SHOWN: usize = 16;
    if let Some(near) = nearest(word, known.iter().copied()) {
        return format!("; did you mean {near:?}?");
    }
    match (known.len(), otherwise) {
        (0, "") => String::new(),
        (0, otherwise) => format!("; {otherwise}"),
        (1..=SHOWN, _) => format!("; {there_are} {}", known.join(", ")),
        _ => format!("; {there_are} {}, …", known[..SHOWN].join(", ")),
    }
}
