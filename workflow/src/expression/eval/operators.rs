//! Operators on values. What has no value is said with the operator as it is written, and the types.
//!
//! Source: cel-spec, "Language Definition": "Numeric Values", "Equality", "Ordering", "Overflow".

use std::cmp::Ordering;

use super::super::functions::{KEYS_OF_A_MAP, sign};
use super::super::syntax::Operator;
use super::meter::Meter;
use super::value::{Key, List, Map, Value, whole_int};
use super::{Evaluated, Stop, shortened};

/// What a comparison of two values without texts counts as, in bytes.
const COMPARED: usize = 8;

/// Of two values that are there. `&&` and `||` need not have both: they are in `logic`.
pub(super) fn binary<'a>(
    operator: Operator,
    left: &Value<'a>,
    right: &Value<'a>,
    meter: &mut Meter,
) -> Evaluated<'a> {
    Ok(match (operator, left, right) {
        (Operator::Equal, ..) => Value::Bool(equal(left, right, meter)?),
        (Operator::NotEqual, ..) => Value::Bool(!equal(left, right, meter)?),
        (Operator::In, ..) => Value::Bool(is_in(left, right, meter)?),
        (Operator::Less, ..) => Value::Bool(order(operator, left, right, meter)?.is_lt()),
        (Operator::LessOrEqual, ..) => Value::Bool(order(operator, left, right, meter)?.is_le()),
        (Operator::Greater, ..) => Value::Bool(order(operator, left, right, meter)?.is_gt()),
        (Operator::GreaterOrEqual, ..) => Value::Bool(order(operator, left, right, meter)?.is_ge()),
        (Operator::Add, Value::Text(left), Value::Text(right)) => {
            let both = [left.as_str(), right.as_str()];
            meter.bytes(both.iter().map(|text| text.len()).sum())?;
            Value::text(both.concat())
        }
        (Operator::Add, Value::List(left), Value::List(right)) => {
            meter.elements(left.len() + right.len())?;
            Value::list(left.iter().chain(right.iter()).collect())
        }
        _ => arithmetic(operator, left, right)?,
    })
}

pub(super) fn negated<'a>(value: &Value<'a>) -> Evaluated<'a> {
    match value {
        Value::Int(value) => value.checked_neg().map(Value::Int).ok_or_else(beyond),
        Value::Double(value) => Ok(Value::Double(-value)),
        other => Err(Stop::failed(format!("no - for {}", other.kind()))),
    }
}

/// Of two numbers of one kind.
fn arithmetic<'a>(operator: Operator, left: &Value<'a>, right: &Value<'a>) -> Evaluated<'a> {
    let divides = matches!(operator, Operator::Divide | Operator::Remainder);
    match (left, right) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) if divides => {
            Err(Stop::failed("division by zero"))
        }
        (Value::Int(left), Value::Int(right)) => match operator {
            Operator::Add => left.checked_add(*right),
            Operator::Subtract => left.checked_sub(*right),
            Operator::Multiply => left.checked_mul(*right),
            Operator::Divide => left.checked_div(*right),
            _ => left.checked_rem(*right),
        }
        .map(Value::Int)
        .ok_or_else(beyond),
        (Value::Uint(left), Value::Uint(right)) => match operator {
            Operator::Add => left.checked_add(*right),
            Operator::Subtract => left.checked_sub(*right),
            Operator::Multiply => left.checked_mul(*right),
            Operator::Divide => left.checked_div(*right),
            _ => left.checked_rem(*right),
        }
        .map(Value::Uint)
        .ok_or_else(beyond),
        (Value::Double(left), Value::Double(right)) if operator != Operator::Remainder => {
            Ok(Value::Double(match operator {
                Operator::Add => left + right,
                Operator::Subtract => left - right,
                Operator::Multiply => left * right,
                _ => left / right,
            }))
        }
        _ => Err(no(operator, left, right)),
    }
}

/// Whether they are the same. Values of different types are not, but numbers are compared as numbers.
pub(super) fn equal(left: &Value<'_>, right: &Value<'_>, meter: &mut Meter) -> Result<bool, Stop> {
    meter.bytes(COMPARED)?;
    Ok(match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Text(left), Value::Text(right)) => {
            let (left, right) = (left.as_str(), right.as_str());
            if left.len() == right.len() {
                meter.bytes(left.len())?;
            }
            left == right
        }
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len() && equal_lists(left, right, meter)?
        }
        (Value::Map(left), Value::Map(right)) => left.len() == right.len() && equal_maps(left, right, meter)?,
        _ => numbers(left, right).is_some_and(|order| order == Some(Ordering::Equal)),
    })
}

fn equal_lists(left: &List<'_>, right: &List<'_>, meter: &mut Meter) -> Result<bool, Stop> {
    for (left, right) in left.iter().zip(right.iter()) {
        if !equal(&left, &right, meter)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn equal_maps(left: &Map<'_>, right: &Map<'_>, meter: &mut Meter) -> Result<bool, Stop> {
    meter.keys(left)?;
    for key in left.keys() {
        let Some(value) = left.find(&key) else { continue };
        let Some(other) = found(right, &key.value(), meter)?.flatten() else {
            return Ok(false);
        };
        if !equal(&value, &other, meter)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What stands under a key, as `map[key]` and `key in map` look for it; the outer none: it can be no key.
fn found<'a>(map: &Map<'a>, key: &Value<'a>, meter: &mut Meter) -> Result<Option<Option<Value<'a>>>, Stop> {
    if let Value::Text(text) = key {
        meter.bytes(text.as_str().len())?;
    }
    let sought = Key::sought(key);
    Ok(sought.map(|keys| keys.iter().find_map(|key| map.find(key))))
}

fn is_in<'a>(value: &Value<'a>, within: &Value<'a>, meter: &mut Meter) -> Result<bool, Stop> {
    match within {
        Value::List(list) => {
            for element in list.iter() {
                if equal(&element, value, meter)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Map(map) => match found(map, value, meter)? {
            Some(there) => Ok(there.is_some()),
            None => Err(no(Operator::In, value, within)),
        },
        _ => Err(no(Operator::In, value, within)),
    }
}

fn order(
    operator: Operator,
    left: &Value<'_>,
    right: &Value<'_>,
    meter: &mut Meter,
) -> Result<Ordering, Stop> {
    meter.bytes(COMPARED)?;
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => Ok(left.cmp(right)),
        (Value::Text(left), Value::Text(right)) => {
            meter.bytes(left.as_str().len().min(right.as_str().len()))?;
            Ok(left.cmp(right))
        }
        _ => match numbers(left, right) {
            Some(Some(order)) => Ok(order),
            Some(None) => Err(Stop::failed(format!(
                "a double that is no number (NaN) has no order, so no {} for it",
                sign(operator)
            ))),
            None => Err(no(operator, left, right)),
        },
    }
}

/// The order of two numbers of any kinds; of something with NaN there is none. The outer none: they are not both numbers.
///
/// An int or uint beside a double is taken for the nearest double, as cel-go does and the conformance tests want it
/// (`not_lt_dyn_int_big_lossy_double`).
fn numbers(left: &Value<'_>, right: &Value<'_>) -> Option<Option<Ordering>> {
    Some(match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Uint(left), Value::Uint(right)) => Some(left.cmp(right)),
        (Value::Int(left), Value::Uint(right)) => Some(i128::from(*left).cmp(&i128::from(*right))),
        (Value::Uint(left), Value::Int(right)) => Some(i128::from(*left).cmp(&i128::from(*right))),
        (Value::Double(left), right) => left.partial_cmp(&as_double(right)?),
        (left, Value::Double(right)) => as_double(left)?.partial_cmp(right),
        _ => return None,
    })
}

pub(super) fn as_double(value: &Value<'_>) -> Option<f64> {
    Some(match value {
        Value::Double(value) => *value,
        Value::Int(value) => *value as f64,
        Value::Uint(value) => *value as f64,
        _ => return None,
    })
}

/// `of[index]`
pub(super) fn index<'a>(of: &Value<'a>, index: &Value<'a>, meter: &mut Meter) -> Evaluated<'a> {
    let none = || Stop::failed(format!("no [] for {} and {}", of.kind(), index.kind()));
    match of {
        Value::Map(map) => match found(map, index, meter)? {
            Some(Some(value)) => Ok(value),
            Some(None) => Err(Stop::failed(format!("there is no {}", written(index)))),
            None => Err(none()),
        },
        Value::List(list) => {
            let place = match index {
                Value::Int(place) => usize::try_from(*place).ok(),
                Value::Uint(place) => usize::try_from(*place).ok(),
                Value::Double(place) => match whole_int(*place) {
                    Some(place) => usize::try_from(place).ok(),
                    None => {
                        return Err(Stop::failed(format!(
                            "{place} is no whole number, so no list has it for an index"
                        )));
                    }
                },
                _ => return Err(none()),
            };
            place
                .and_then(|place| list.at(place))
                .ok_or_else(|| Stop::failed(format!("the list has no element {}", written(index))))
        }
        _ => Err(none()),
    }
}

/// `of.name`; None: it has it not.
pub(super) fn field<'a>(of: &Value<'a>, name: &'a str) -> Result<Option<Value<'a>>, Stop> {
    match of {
        Value::Map(map) => Ok(map.field(name)),
        other => Err(Stop::failed(format!(
            "{} has no fields, so no .{name}",
            other.kind()
        ))),
    }
}

/// A key or an index, for people.
fn written(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => format!("{:?}", shortened(text.as_str())),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        other => other.kind().to_owned(),
    }
}

fn no(operator: Operator, left: &Value<'_>, right: &Value<'_>) -> Stop {
    let cure = match (operator, left, right) {
        (Operator::Add, Value::List(_), Value::Map(_)) => KEYS_OF_A_MAP,
        _ => "",
    };
    let (left, right) = (left.kind(), right.kind());
    Stop::failed(format!("no {} for {left} and {right}{cure}", sign(operator)))
}

fn beyond() -> Stop {
    Stop::failed("the result is beyond 64 bits")
}
