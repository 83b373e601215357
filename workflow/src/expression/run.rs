//! Evaluation: a syntax tree and a scope to a value, or to words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};

use cel::common::types;
use cel::common::value::{CowVal, Val};
use cel::{Context, Env, ExecutionError};
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::cost::{self, Values};
use super::lower::{ADD, EACH, MATCHES, lower};
use super::syntax::{Kind, Node};
use super::{EvaluationError, Scope, functions, parse, value};

/// The value of an expression. Bounded in time and size.
pub fn evaluate(source: &str, scope: &Scope) -> Result<Value, EvaluationError> {
    let node = parse(source)?;
    evaluate_node(source, &node, scope)
}

/// The selectors of the `machines(…)` calls in an expression, which are evaluated first.
pub fn selectors(source: &str, scope: &Scope) -> Result<Vec<String>, EvaluationError> {
    let node = parse(source)?;
    let mut selectors = Vec::new();
    for (_, selector) in asked(source, &node, scope)? {
        if !selectors.contains(&selector) {
            selectors.push(selector);
        }
    }
    Ok(selectors)
}

/// Whether it calls `success()`, `failure()` or `always()`.
pub fn has_gate(source: &str) -> bool {
    fn calls_gate(node: &Node) -> bool {
        let here =
            matches!(&node.kind, Kind::Call { function, target: None, .. } if functions::is_gate(function));
        here || node.children().into_iter().any(calls_gate)
    }
    parse::parse(source).is_ok_and(|node| calls_gate(&node))
}

pub(super) fn parse(source: &str) -> Result<Node, EvaluationError> {
    parse::parse(source).map_err(|problem| {
        let shown: String = source.chars().take(parse::MAX_SOURCE_BYTES).collect();
        EvaluationError(format!("`{shown}`: {}", problem.message))
    })
}

pub(super) fn evaluate_node(source: &str, node: &Node, scope: &Scope) -> Result<Value, EvaluationError> {
    let error = |why: String| EvaluationError(format!("`{source}`: {why}{}", seen(node, scope)));
    let mut machines = BTreeMap::new();
    for (at, selector) in asked(source, node, scope)? {
        let answer = scope
            .machines
            .get(&selector)
            .ok_or_else(|| error(format!("which machines match {selector:?} has not been asked")))?;
        machines.insert(at, answer);
    }
    let values = Values {
        variables: &scope.variables,
        machines: &machines,
    };
    cost::check(node, &values).map_err(error)?;
    unknown_function(node).map_or(Ok(()), |name| {
        Err(error(format!("there is no function {name}()")))
    })?;

    let mut bound = BTreeSet::new();
    loops_bind(node, &mut bound);
    let answer = |node: &Node| match &node.kind {
        // `int` is a type where nothing has that name, and types are no values here.
        Kind::Name(name) if !scope.variables.contains_key(name) && !bound.contains(name.as_str()) => {
            Some(cel::common::ast::Expr::Ident(format!("@{name}")))
        }
        Kind::Call {
            function,
            target: None,
            arguments,
        } => match function.as_str() {
            "machines" => Some(cel::common::ast::Expr::Ident(machines_name(node.at))),
            "success" if arguments.is_empty() => Some(boolean(scope.success)),
            "failure" if arguments.is_empty() => Some(boolean(scope.failure)),
            "always" if arguments.is_empty() => Some(boolean(true)),
            _ => None,
        },
        _ => None,
    };
    let lowered = lower(node, &answer);
    let mut context = context();
    for (name, fields) in used(node) {
        match (scope.variables.get(name), fields) {
            (None, _) => {}
            (Some(Value::Object(entries)), Some(fields)) => {
                let entries = entries
                    .iter()
                    .map(|(key, value)| (key.as_str(), value))
                    .filter(|(key, _)| fields.contains(key));
                context.add_variable_as_val(name, Box::new(value::map(entries)));
            }
            (Some(value), _) => context.add_variable_as_val(name, value::from_json(value)),
        }
    }
    for (at, answer) in &machines {
        let machines: Vec<Box<dyn Val + '_>> = answer.iter().map(value::from_json).collect();
        context.add_variable_as_val(machines_name(*at), Box::new(types::CelList::from(machines)));
    }
    let result = cel::Value::resolve(&lowered, &context).map_err(|failed| error(in_words(&failed)))?;
    value::to_json(&result).map_err(error)
}

fn boolean(value: bool) -> cel::common::ast::Expr {
    cel::common::ast::Expr::Literal(cel::common::ast::LiteralValue::Boolean(value.into()))
}

fn machines_name(at: usize) -> String {
    format!("@machines{at}")
}

/// The `machines(…)` calls: their places and selectors.
fn asked(source: &str, node: &Node, scope: &Scope) -> Result<Vec<(usize, String)>, EvaluationError> {
    let mut calls = Vec::new();
    collect(node, &mut calls);
    let mut asked = Vec::new();
    for (at, selector) in calls {
        let mut within = Vec::new();
        collect(selector, &mut within);
        if !within.is_empty() {
            return Err(EvaluationError(format!(
                "`{source}`: machines() within machines()"
            )));
        }
        match evaluate_node(source, selector, scope)? {
            Value::String(selector) => asked.push((at, selector)),
            other => {
                return Err(EvaluationError(format!(
                    "`{source}`: machines() takes a selector as a text, not {other}"
                )));
            }
        }
    }
    return Ok(asked);

    fn collect<'n>(node: &'n Node, calls: &mut Vec<(usize, &'n Node)>) {
        match &node.kind {
            Kind::Call {
                function,
                target: None,
                arguments,
            } if function == "machines" && arguments.len() == 1 => {
                calls.extend(arguments.iter().map(|selector| (node.at, selector)));
            }
            _ => node
                .children()
                .into_iter()
                .for_each(|child| collect(child, calls)),
        }
    }
}

/// The names that loops bind anywhere in it.
fn loops_bind<'n>(node: &'n Node, names: &mut BTreeSet<&'n str>) {
    if let Kind::Loop { name, .. } = &node.kind {
        names.insert(name);
    }
    for child in node.children() {
        loops_bind(child, names);
    }
}

fn unknown_function(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Call {
            function, arguments, ..
        } if !functions::is_known(function) || (function == "machines" && arguments.len() != 1) => {
            Some(function)
        }
        _ => node.children().into_iter().find_map(unknown_function),
    }
}

/// The names that an expression uses; with the fields, where it uses no more of a name than fields by name.
fn used(node: &Node) -> BTreeMap<&str, Option<BTreeSet<&str>>> {
    fn walk<'n>(node: &'n Node, used: &mut BTreeMap<&'n str, Option<BTreeSet<&'n str>>>) {
        match &node.kind {
            Kind::Name(name) => drop(used.insert(name, None)),
            Kind::Field { of, name } | Kind::Has { of, name } => match &of.kind {
                Kind::Name(root) => {
                    if let Some(fields) = used.entry(root).or_insert_with(|| Some(BTreeSet::new())) {
                        fields.insert(name);
                    }
                }
                _ => walk(of, used),
            },
            _ => node.children().into_iter().for_each(|child| walk(child, used)),
        }
    }
    let mut all = BTreeMap::new();
    walk(node, &mut all);
    all
}

/// The library's functions without optional values (times are a feature that is off), and three of ours.
fn context<'v>() -> Context<'static, 'v> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    let environment = ENVIRONMENT.get_or_init(|| {
        let mut environment = Env::default().with_optional_support(false).with_stdlib();
        environment
            .add_overload(EACH, "each", vec![types::DYN_TYPE], in_order)
            .expect("the library has no function of this name");
        environment
            .add_overload(ADD, "add", vec![types::DYN_TYPE, types::DYN_TYPE], add)
            .expect("the library has no function of this name");
        Arc::new(environment)
    });
    let mut context = Context::with_env(environment.clone());
    let last: Mutex<Option<(String, Regex)>> = Mutex::new(None);
    context
        .add_function(MATCHES, move |text: Arc<String>, pattern: Arc<String>| {
            let mut last = last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if last.as_ref().is_none_or(|(of, _)| *of != *pattern) {
                *last = Some((pattern.to_string(), regex(&pattern)?));
            }
            Ok::<bool, ExecutionError>(last.as_ref().is_some_and(|(_, regex)| regex.is_match(&text)))
        })
        .expect("the library has no function of this name");
    context
}

/// Says, in words, when a text is no pattern.
pub(super) fn is_pattern(pattern: &str) -> Result<(), String> {
    regex(pattern).map(|_| ()).map_err(|error| in_words(&error))
}

fn regex(pattern: &str) -> Result<Regex, ExecutionError> {
    const COMPILED_BYTES: usize = 64 << 10;
    RegexBuilder::new(pattern)
        .size_limit(COMPILED_BYTES)
        .dfa_size_limit(COMPILED_BYTES * 16)
        .build()
        .map_err(|error| {
            let why = match error {
                regex::Error::CompiledTooBig(_) => "it is too large when translated".to_owned(),
                other => other.to_string().lines().last().unwrap_or_default().to_owned(),
            };
            ExecutionError::function_error("matches", format!("{pattern:?} is no pattern: {why}"))
        })
}

/// What a loop goes over: a list as it is, the keys of a map in order. The library's own order is that of a hash with a
/// random seed.
fn in_order<'b, 'v>(mut arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let over = arguments
        .pop()
        .ok_or_else(ExecutionError::missing_argument_or_target)?;
    let Some(map) = over.downcast_ref::<types::CelMap>() else {
        return Ok(over);
    };
    let mut keys: Vec<&types::CelMapKey<'_>> = map.inner().keys().collect();
    keys.sort_by_cached_key(|key| cel::objects::Key::from((*key).clone()));
    let keys: Vec<Box<dyn Val + 'v>> = keys.into_iter().map(|key| key.inner().clone_as_boxed()).collect();
    Ok(CowVal::owned(types::CelList::from(keys)))
}

/// The library's `+`, but for a map on the right of a list: it adds the keys of that, in the order of a hash with a random
/// seed.
fn add<'b, 'v>(mut arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (Some(right), Some(left)) = (arguments.pop(), arguments.pop()) else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    match left.as_adder() {
        Some(adder) if right.downcast_ref::<types::CelMap>().is_none() => {
            Ok(CowVal::Owned(adder.add(right.as_ref())?.into_owned()))
        }
        _ => Err(ExecutionError::UnsupportedBinaryOperator(
            "add",
            left.as_ref().try_into()?,
            right.as_ref().try_into()?,
        )),
    }
}

/// The library's errors, without its names of things.
fn in_words(error: &ExecutionError) -> String {
    let kind = |value: &cel::Value| value.type_of().to_string();
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no {key:?}"),
        ExecutionError::UndeclaredReference(name) => format!("there is no {} here", plain(name)),
        ExecutionError::NoSuchOverload(overload) => {
            let types = overload.argument_types().join(" and ");
            match functions::operator_named(overload.function()) {
                Some(operator) => format!("no {operator} for {types}"),
                None => format!("no {}() for {types}", plain(overload.function())),
            }
        }
        ExecutionError::UnexpectedType { got, want } => format!("{want} is needed where {got} is"),
        ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
            let cure = match (*operator, left, right) {
                ("add", cel::Value::List(_), cel::Value::Map(_)) => functions::KEYS_OF_A_MAP,
                _ => "",
            };
            format!(
                "no {} for {} and {}{cure}",
                functions::operator_named(operator).unwrap_or(operator),
                kind(left),
                kind(right)
            )
        }
        ExecutionError::ValuesNotComparable(left, right) => {
            format!("{} and {} have no order", kind(left), kind(right))
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".into(),
        ExecutionError::Overflow(..) => "the result is beyond 64 bits".into(),
        ExecutionError::IndexOutOfBounds(index) => match value::to_json(index) {
            Ok(index) => format!("the list has no element {index}"),
            Err(_) => "the list has no such element".into(),
        },
        ExecutionError::DuplicateKey(_) => "a key twice in one map".into(),
        ExecutionError::UnsupportedKeyType(key) => format!("{} can't be a key of a map", kind(key)),
        ExecutionError::UnsupportedIndex(index, of) => format!("{} has no index {}", kind(of), kind(index)),
        ExecutionError::FunctionError { function, message } => format!("{}(): {message}", plain(function)),
        other => {
            let text: String = other.to_string().chars().take(200).collect();
            text.to_lowercase()
        }
    }
}

fn plain(function: &str) -> &str {
    function.trim_start_matches('@')
}

/// The values of the scope that an expression uses: `; it saw inputs.n = 3`.
fn seen(node: &Node, scope: &Scope) -> String {
    const VALUES: usize = 8;
    const CHARS: usize = 120;
    fn paths<'n>(node: &'n Node, found: &mut Vec<Vec<&'n str>>) {
        match node.path() {
            Some(path) if !found.contains(&path) => found.push(path),
            Some(_) => {}
            None => node.children().into_iter().for_each(|child| paths(child, found)),
        }
    }
    let mut found = Vec::new();
    paths(node, &mut found);
    let mut words = String::new();
    for path in found.iter().take(VALUES) {
        let Some(mut value) = path.first().and_then(|root| scope.variables.get(*root)) else {
            continue;
        };
        let mut known = 1;
        for field in &path[1..] {
            let Some(next) = value.get(*field) else { break };
            value = next;
            known += 1;
        }
        let mut shown = Shown {
            text: String::new(),
            left: CHARS,
        };
        // Ends with an error when there is no room left.
        let whole = serde_json::to_writer(&mut shown, value).is_ok();
        words.push_str(if words.is_empty() { "; it saw " } else { ", " });
        words.push_str(&format!(
            "{} = {}{}",
            path[..known].join("."),
            shown.text,
            if whole { "" } else { "…" }
        ));
    }
    words
}

/// Takes so many characters and no more.
struct Shown {
    text: String,
    left: usize,
}

impl std::io::Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for c in String::from_utf8_lossy(bytes).chars() {
            self.left = self.left.checked_sub(1).ok_or(std::io::ErrorKind::WriteZero)?;
            self.text.push(c);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
