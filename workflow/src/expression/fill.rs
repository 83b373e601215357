//! Texts with `${{ … }}` in them.

use serde_json::{Map, Value};

use super::secret::{secret_hole, secret_name};
use super::{EvaluationError, ExpressionProblem, MAX_RESULT_BYTES, Scope, evaluate};

/// A text with its `${{ }}` filled in. A text that is one expression and nothing else keeps that one's type.
pub fn fill(text: &str, scope: &Scope) -> Result<Value, EvaluationError> {
    match scanned(text)?.as_slice() {
        [Part::Expression { source, .. }] => evaluate(source.trim(), scope),
        parts => joined(parts, scope, None).map(Value::String),
    }
}

/// A text with its `${{ }}` filled in: strings as they are, other values as JSON.
pub fn fill_text(text: &str, scope: &Scope) -> Result<String, EvaluationError> {
    joined(&scanned(text)?, scope, None)
}

/// The same for a text that an action is handed: `${{ secrets.NAME }}` stays, and beside the text is told at which bytes
/// which secrets stand. What an expression gives is never one, whatever characters it has.
pub fn fill_handed(text: &str, scope: &Scope) -> Result<(String, Vec<(usize, String)>), EvaluationError> {
    let mut secrets = Vec::new();
    let filled = joined(&scanned(text)?, scope, Some(&mut secrets))?;
    Ok((filled, secrets))
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

/// A secret in a value: the text that it is in, as a JSON pointer (RFC 6901), the byte of that text, and its name.
pub type SecretWithin = (String, usize, String);

/// Every text within a value that an action is handed, filled in as [`fill`] does; secrets are told as by [`fill_handed`].
pub fn fill_handed_value(
    value: &Value,
    scope: &Scope,
) -> Result<(Value, Vec<SecretWithin>), EvaluationError> {
    let mut secrets = Vec::new();
    let filled = handed_within(value, scope, "", &mut secrets)?;
    Ok((filled, secrets))
}

fn handed_within(
    value: &Value,
    scope: &Scope,
    at: &str,
    secrets: &mut Vec<SecretWithin>,
) -> Result<Value, EvaluationError> {
    Ok(match value {
        Value::String(text) => match scanned(text)?.as_slice() {
            [Part::Expression { source, .. }] if secret_name(source).is_none() => {
                let value = evaluate(source.trim(), scope)?;
                not_of_a_record_within(source, &value, scope)?;
                value
            }
            _ => {
                let (text, found) = fill_handed(text, scope)?;
                secrets.extend(found.into_iter().map(|(byte, name)| (at.to_owned(), byte, name)));
                Value::String(text)
            }
        },
        Value::Array(values) => {
            let mut filled = Vec::with_capacity(values.len());
            for (number, value) in values.iter().enumerate() {
                filled.push(handed_within(value, scope, &format!("{at}/{number}"), secrets)?);
            }
            Value::Array(filled)
        }
        Value::Object(entries) => {
            let mut filled = Map::new();
            for (key, value) in entries {
                let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                filled.insert(key.clone(), handed_within(value, scope, &at, secrets)?);
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

/// `secrets`: where those are noted that may stand here; `None`: none may.
fn joined(
    parts: &[Part<'_>],
    scope: &Scope,
    mut secrets: Option<&mut Vec<(usize, String)>>,
) -> Result<String, EvaluationError> {
    let mut filled = String::new();
    for part in parts {
        match (part, &mut secrets) {
            (Part::Plain(text), _) => filled.push_str(text),
            (Part::Expression { source, .. }, Some(secrets)) if secret_name(source).is_some() => {
                let name = secret_name(source).unwrap_or_default();
                secrets.push((filled.len(), name.to_owned()));
                filled.push_str(&secret_hole(name));
            }
            (Part::Expression { source, .. }, secrets) => {
                let text = match evaluate(source.trim(), scope)? {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                if secrets.is_some() {
                    not_of_a_record(source, &text, scope)?;
                }
                filled.push_str(&text);
            }
        }
        if filled.len() > MAX_RESULT_BYTES {
            return Err(EvaluationError(format!(
                "a text of more than {MAX_RESULT_BYTES} bytes when filled in"
            )));
        }
    }
    Ok(filled)
}

/// As [`not_of_a_record`], for every text within a value.
fn not_of_a_record_within(source: &str, value: &Value, scope: &Scope) -> Result<(), EvaluationError> {
    match value {
        Value::String(text) => not_of_a_record(source, text, scope),
        Value::Array(values) => values
            .iter()
            .try_for_each(|value| not_of_a_record_within(source, value, scope)),
        Value::Object(entries) => entries.iter().try_for_each(|(key, value)| {
            not_of_a_record(source, key, scope)?;
            not_of_a_record_within(source, value, scope)
        }),
        _ => Ok(()),
    }
}

/// A machine's record may hold `${{ secrets.NAME }}` for those templates that are rendered with it. As the value of an
/// expression it would reach the action as these characters, and somebody's password would be them.
fn not_of_a_record(source: &str, value: &str, scope: &Scope) -> Result<(), EvaluationError> {
    if !value.contains("${{") {
        return Ok(());
    }
    let facts = ["machine", "item"].map(|name| scope.variables.get(name).map(Value::to_string));
    let found = parts(value).unwrap_or_default();
    for part in found {
        let Part::Expression { source: hole, .. } = part else {
            continue;
        };
        let whole = format!("${{{{{hole}}}}}");
        let is_of_record = facts.iter().flatten().any(|facts| facts.contains(&whole));
        if secret_name(hole).is_some() && is_of_record {
            return Err(EvaluationError(format!(
                "`{}`: it gives {whole} out of a machine's record, and what an expression gives is not looked through for \
                 secrets: write {whole} where it is wanted, or {{{{ .hardware… }}}} in place of the expression",
                source.trim()
            )));
        }
    }
    Ok(())
}
