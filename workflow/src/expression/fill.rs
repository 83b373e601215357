//! Texts with `${{ … }}` in them.

use serde_json::{Map, Value};

use super::{EvaluationError, ExpressionProblem, MAX_RESULT_BYTES, Scope, evaluate};

/// A text with its `${{ }}` filled in. A text that is one expression and nothing else keeps that one's type.
pub fn fill(text: &str, scope: &Scope) -> Result<Value, EvaluationError> {
    match scanned(text)?.as_slice() {
        [Part::Expression { source, .. }] => evaluate(source.trim(), scope),
        parts => joined(parts, scope).map(Value::String),
    }
}

/// A text with its `${{ }}` filled in: strings as they are, other values as JSON.
pub fn fill_text(text: &str, scope: &Scope) -> Result<String, EvaluationError> {
    joined(&scanned(text)?, scope)
}

/// Every text within a value, filled in with [`fill`].
pub fn fill_value(value: &Value, scope: &Scope) -> Result<Value, EvaluationError> {
    Ok(match value {
        Value::String(text) => fill(text, scope)?,
        Value::Array(values) => {
            let values: Result<Vec<Value>, EvaluationError> =
                values.iter().map(|value| fill_value(value, scope)).collect();
            Value::Array(values?)
        }
        Value::Object(entries) => {
            let mut filled = Map::new();
            for (key, value) in entries {
                filled.insert(key.clone(), fill_value(value, scope)?);
            }
            Value::Object(filled)
        }
        plain => plain.clone(),
    })
}

/// A stretch of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Plain(&'a str),
    /// What stands between `${{` and `}}`, and the byte of the text where it begins.
    Expression {
        source: &'a str,
        at: usize,
    },
}

/// The stretches of a text.
pub(super) fn parts(text: &str) -> Result<Vec<Part<'_>>, ExpressionProblem> {
    const OPEN: &str = "${{";
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find(OPEN) {
        if found > 0 {
            parts.push(Part::Plain(&text[at..at + found]));
        }
        let open = at + found;
        let start = open + OPEN.len();
        let Some(length) = closed(&text[start..]) else {
            return Err(ExpressionProblem {
                missing: None,
                offset: open,
                message: "this ${{ has no }} (one in quotes or of a map does not count)".into(),
            });
        };
        parts.push(Part::Expression {
            source: &text[start..start + length],
            at: start,
        });
        at = start + length + 2;
    }
    if at < text.len() {
        parts.push(Part::Plain(&text[at..]));
    }
    Ok(parts)
}

/// Bytes before the `}}` that is neither in quotes nor the end of two maps.
fn closed(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut open = 0usize;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"') => {
                let raw = at > 0
                    && matches!(bytes[at - 1], b'r' | b'R')
                    && !bytes[..at - 1]
                        .last()
                        .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
                at = behind_quotes(bytes, at, quote, raw)?;
                continue;
            }
            b'{' => open += 1,
            b'}' if open > 0 => open -= 1,
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Behind the closing quotes of the text that begins at `at`.
fn behind_quotes(bytes: &[u8], at: usize, quote: u8, raw: bool) -> Option<usize> {
    let triple = bytes.get(at..at + 3) == Some(&[quote; 3]);
    let length = if triple { 3 } else { 1 };
    let mut at = at + length;
    while at < bytes.len() {
        if bytes[at] == b'\\' && !raw {
            at += 2;
        } else if bytes.get(at..at + length)?.iter().all(|byte| *byte == quote) {
            return Some(at + length);
        } else {
            at += 1;
        }
    }
    None
}

fn scanned(text: &str) -> Result<Vec<Part<'_>>, EvaluationError> {
    parts(text).map_err(|problem| {
        let shown: String = text[problem.offset..].chars().take(80).collect();
        EvaluationError(format!("`{shown}`: {}", problem.message))
    })
}

fn joined(parts: &[Part<'_>], scope: &Scope) -> Result<String, EvaluationError> {
    let mut filled = String::new();
    for part in parts {
        match part {
            Part::Plain(text) => filled.push_str(text),
            Part::Expression { source, .. } => match evaluate(source.trim(), scope)? {
                Value::String(text) => filled.push_str(&text),
                other => filled.push_str(&other.to_string()),
            },
        }
        if filled.len() > MAX_RESULT_BYTES {
            return Err(EvaluationError(format!(
                "a text of more than {MAX_RESULT_BYTES} bytes when filled in"
            )));
        }
    }
    Ok(filled)
}
