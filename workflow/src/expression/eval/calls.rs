//! Functions on values. Those that the scope answers (`success()`, `machines(…)`) are in `eval`.
//!
//! Source: cel-spec, "List of Standard Definitions".

use super::meter::Meter;
use super::operators::as_double;
use super::pattern::Patterns;
use super::value::{Text, Value, whole_uint};
use super::{Evaluated, Stop, shortened};

/// The value of a call. `parts` are what it is called on, if anything, and the arguments.
pub(super) fn call<'a>(
    function: &str,
    on_value: bool,
    parts: &[Value<'a>],
    meter: &mut Meter,
    patterns: &mut Patterns,
) -> Evaluated<'a> {
    match (function, on_value, parts) {
        ("size", _, [of]) => size(of, meter),
        ("contains" | "startsWith" | "endsWith", true, [Value::Text(text), Value::Text(part)]) => {
            let (text, part) = (text.as_str(), part.as_str());
            Ok(Value::Bool(match function {
                "contains" => {
                    meter.bytes(text.len() + part.len())?;
                    text.contains(part)
                }
                "startsWith" => {
                    meter.bytes(part.len())?;
                    text.starts_with(part)
                }
                _ => {
                    meter.bytes(part.len())?;
                    text.ends_with(part)
                }
            }))
        }
        ("matches", _, [Value::Text(text), Value::Text(pattern)]) => patterns
            .is_match(text.as_str(), pattern.as_str(), meter)
            .map(Value::Bool),
        ("dyn", false, [value]) => Ok(value.clone()),
        ("string", false, [value]) => string(value, meter),
        ("int", false, [value]) => int(value, meter),
        ("uint", false, [value]) => uint(value, meter),
        ("double", false, [value]) => double(value, meter),
        ("bool", false, [value]) => bool(value),
        _ => Err(no(function, parts)),
    }
}

/// Of a text its code points.
fn size<'a>(of: &Value<'a>, meter: &mut Meter) -> Evaluated<'a> {
    let size = match of {
        Value::Text(text) => {
            meter.bytes(text.as_str().len())?;
            text.as_str().chars().count()
        }
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        _ => return Err(no("size", std::slice::from_ref(of))),
    };
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn string<'a>(value: &Value<'a>, meter: &mut Meter) -> Evaluated<'a> {
    let made = match value {
        Value::Text(_) => return Ok(value.clone()),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        _ => return Err(no("string", std::slice::from_ref(value))),
    };
    meter.bytes(made.len())?;
    Ok(Value::text(made))
}

fn int<'a>(value: &Value<'a>, meter: &mut Meter) -> Evaluated<'a> {
    let int = match value {
        Value::Int(value) => Some(*value),
        Value::Uint(value) => i64::try_from(*value).ok(),
        // Without the lowest int: the nearest double of another number is the same.
        Value::Double(value) => {
            let fits = *value > i64::MIN as f64 && *value < i64::MAX as f64;
            fits.then_some(value.trunc() as i64)
        }
        Value::Text(text) => return read("int", text, "whole number of 64 bits", meter).map(Value::Int),
        _ => return Err(no("int", std::slice::from_ref(value))),
    };
    int.map(Value::Int).ok_or_else(|| beyond("int", value))
}

fn uint<'a>(value: &Value<'a>, meter: &mut Meter) -> Evaluated<'a> {
    let uint = match value {
        Value::Uint(value) => Some(*value),
        Value::Int(value) => u64::try_from(*value).ok(),
        Value::Double(value) if *value >= 0.0 => whole_uint(value.trunc()),
        Value::Double(_) => None,
        Value::Text(text) => {
            return read("uint", text, "whole number of 64 bits from 0", meter).map(Value::Uint);
        }
        _ => return Err(no("uint", std::slice::from_ref(value))),
    };
    uint.map(Value::Uint).ok_or_else(|| beyond("uint", value))
}

fn double<'a>(value: &Value<'a>, meter: &mut Meter) -> Evaluated<'a> {
    match value {
        Value::Text(text) => read("double", text, "number", meter).map(Value::Double),
        other => as_double(other)
            .map(Value::Double)
            .ok_or_else(|| no("double", std::slice::from_ref(value))),
    }
}

fn bool<'a>(value: &Value<'a>) -> Evaluated<'a> {
    match value {
        Value::Bool(value) => Ok(Value::Bool(*value)),
        Value::Text(text) => match text.as_str() {
            "1" | "t" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            other => Err(Stop::failed(format!(
                "bool(): {:?} is neither true nor false",
                shortened(other)
            ))),
        },
        _ => Err(no("bool", std::slice::from_ref(value))),
    }
}

fn read<T: std::str::FromStr>(
    function: &str,
    text: &Text<'_>,
    what: &str,
    meter: &mut Meter,
) -> Result<T, Stop> {
    let text = text.as_str();
    meter.bytes(text.len())?;
    text.parse()
        .map_err(|_| Stop::failed(format!("{function}(): {:?} is no {what}", shortened(text))))
}

fn beyond(function: &str, value: &Value<'_>) -> Stop {
    let number = match value {
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        other => other.kind().to_owned(),
    };
    Stop::failed(format!(
        "{function}(): {} is beyond what there is of it",
        shortened(&number)
    ))
}

fn no(function: &str, parts: &[Value<'_>]) -> Stop {
    let kinds: Vec<&str> = parts.iter().map(Value::kind).collect();
    Stop::failed(format!("no {function}() for {}", kinds.join(" and ")))
}
