//! Defaults and choices: sprig's "Default Functions" and "Flow Control Functions".

use gotmpl::Value;

use super::arguments::{Arguments, as_text};
use super::{Answer, Entry};

pub(super) const TABLE: &[Entry] = &[
    ("default", default),
    ("empty", |a| Ok(Value::Bool(!a.is_true(&a.exactly::<1>()?[0])))),
    ("coalesce", |a| {
        Ok(a.values
            .iter()
            .find(|value| a.is_true(value))
            .cloned()
            .unwrap_or(Value::Nil))
    }),
    ("ternary", ternary),
    ("all", |a| {
        Ok(Value::Bool(a.values.iter().all(|value| a.is_true(value))))
    }),
    ("any", |a| {
        Ok(Value::Bool(a.values.iter().any(|value| a.is_true(value))))
    }),
    ("fail", |a| Err(a.error(as_text(&a.exactly::<1>()?[0])))),
    ("kindOf", |a| {
        super::arguments::string(kind(&a.exactly::<1>()?[0]))
    }),
    ("kindIs", |a| {
        let [want, value] = a.exactly()?;
        Ok(Value::Bool(a.text(want)? == kind(value)))
    }),
    ("typeOf", |a| {
        super::arguments::string(type_of(&a.exactly::<1>()?[0]))
    }),
    ("typeIs", |a| {
        let [want, value] = a.exactly()?;
        Ok(Value::Bool(a.text(want)? == type_of(value)))
    }),
    ("typeIsLike", |a| {
        let [want, value] = a.exactly()?;
        Ok(Value::Bool(
            a.text(want)?.trim_start_matches('*') == type_of(value),
        ))
    }),
    ("deepCopy", |a| Ok(a.exactly::<1>()?[0].clone())),
    ("mustDeepCopy", |a| Ok(a.exactly::<1>()?[0].clone())),
    ("deepEqual", |a| {
        let [left, right] = a.exactly()?;
        Ok(Value::Bool(left == right))
    }),
];

/// `default "x" .value`: the value unless it is empty.
fn default(arguments: &Arguments<'_>) -> Answer {
    match arguments.values {
        [default] => Ok(default.clone()),
        [default, given] => Ok(if arguments.is_true(given) { given } else { default }.clone()),
        _ => Err(arguments.wrong_count("1 or 2")),
    }
}

/// `ternary "yes" "no" true`.
fn ternary(arguments: &Arguments<'_>) -> Answer {
    let [yes, no, condition] = arguments.exactly()?;
    match condition {
        Value::Bool(condition) => Ok(if *condition { yes } else { no }.clone()),
        other => Err(arguments.wrong_type("true or false", other)),
    }
}

/// Go's `reflect.Kind` of a value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "invalid",
        Value::List(_) => "slice",
        Value::Map(_) => "map",
        other => other.type_name(),
    }
}

/// Go's type of a value, as `%T` prints it.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Nil => "<nil>",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
        other => kind(other),
    }
}
