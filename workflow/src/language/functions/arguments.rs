//! Taking a function's arguments apart, with errors that name the function.

use std::sync::Arc;

use gotmpl::{TemplateError, Value};

use super::Answer;
use super::dicts::{Dicts, Map};

/// What a function was called with. A piped value is the last one.
pub(super) struct Arguments<'a> {
    pub(super) name: &'static str,
    pub(super) values: &'a [Value],
    /// Where dicts are that a template changes.
    pub(super) dicts: &'a Dicts,
}

impl<'a> Arguments<'a> {
    pub(super) fn error(&self, message: impl std::fmt::Display) -> TemplateError {
        TemplateError::Exec(format!("{}: {message}", self.name))
    }

    /// Exactly `N` arguments.
    pub(super) fn exactly<const N: usize>(&self) -> Result<&'a [Value; N], TemplateError> {
        self.values
            .try_into()
            .map_err(|_| self.wrong_count(&N.to_string()))
    }

    /// At least one; the first, and the others.
    pub(super) fn first_and_rest(&self) -> Result<(&'a Value, &'a [Value]), TemplateError> {
        self.values
            .split_first()
            .ok_or_else(|| self.wrong_count("at least 1"))
    }

    /// At least one; the last, and those before.
    pub(super) fn last_and_rest(&self) -> Result<(&'a Value, &'a [Value]), TemplateError> {
        self.values
            .split_last()
            .ok_or_else(|| self.wrong_count("at least 1"))
    }

    pub(super) fn wrong_count(&self, want: &str) -> TemplateError {
        let plural = if want == "1" { "" } else { "s" };
        self.error(format!(
            "wants {want} argument{plural}, got {}",
            self.values.len()
        ))
    }

    /// A string and nothing else.
    pub(super) fn text<'v>(&self, value: &'v Value) -> Result<&'v str, TemplateError> {
        value.as_str().ok_or_else(|| self.wrong_type("a string", value))
    }

    /// sprig's `toInt64`: numbers, and strings that are whole numbers; anything else is 0 there, an error here.
    pub(super) fn int(&self, value: &Value) -> Result<i64, TemplateError> {
        match value {
            Value::Int(number) => Some(*number),
            Value::Uint(number) => i64::try_from(*number).ok(),
            Value::Float(number) if number.is_finite() => Some(*number as i64),
            Value::Bool(flag) => Some(i64::from(*flag)),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
        .ok_or_else(|| self.wrong_type("a whole number", value))
    }

    pub(super) fn float(&self, value: &Value) -> Result<f64, TemplateError> {
        match value {
            Value::Int(number) => Some(*number as f64),
            Value::Uint(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
        .ok_or_else(|| self.wrong_type("a number", value))
    }

    /// An index or a count.
    pub(super) fn size(&self, value: &Value) -> Result<usize, TemplateError> {
        usize::try_from(self.int(value)?).map_err(|_| self.wrong_type("a number of at least 0", value))
    }

    /// A list; nil is the empty one.
    pub(super) fn list<'v>(&self, value: &'v Value) -> Result<&'v [Value], TemplateError> {
        match value {
            Value::List(list) => Ok(list),
            Value::Nil => Ok(&[]),
            _ => Err(self.wrong_type("a list", value)),
        }
    }

    /// What is in a dict now.
    pub(super) fn map(&self, value: &Value) -> Result<Arc<Map>, TemplateError> {
        self.dicts
            .content(value)
            .ok_or_else(|| self.wrong_type("a dict", value))
    }

    /// As Go has it: not empty, not zero.
    pub(super) fn is_true(&self, value: &Value) -> bool {
        self.dicts.truth(value).is_truthy()
    }

    pub(super) fn wrong_type(&self, want: &str, value: &Value) -> TemplateError {
        let shown: String = match value {
            Value::String(text) => format!("{:?}", shortened(text)),
            Value::Nil => "nothing".into(),
            other => format!("{} {}", other.type_name(), shortened(&other.to_string())),
        };
        self.error(format!("wants {want}, got {shown}"))
    }
}

/// A value as text, as sprig's `strval` has it.
pub(super) fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Nil => String::new(),
        other => other.to_string(),
    }
}

pub(super) fn string(text: impl Into<Arc<str>>) -> Answer {
    Ok(Value::String(text.into()))
}

pub(super) fn list(values: Vec<Value>) -> Answer {
    Ok(Value::List(values.into()))
}

pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}
