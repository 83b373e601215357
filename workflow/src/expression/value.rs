//! JSON as the library's values, and back.

use std::collections::{BTreeMap, HashMap};

use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt,
};
use cel::common::value::Val;
use serde_json::{Map, Number, Value};

/// Bytes of a result, as JSON.
pub const MAX_RESULT_BYTES: usize = 1 << 20;

/// The library's value; texts are borrowed.
pub(super) fn from_json(value: &Value) -> Box<dyn Val + '_> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(*value)),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Box::new(CelInt::from(value)),
            (_, Some(value)) => Box::new(CelUInt::from(value)),
            _ => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(values) => Box::new(CelList::from(values.iter().map(from_json).collect::<Vec<_>>())),
        Value::Object(entries) => Box::new(map(entries.iter().map(|(key, value)| (key.as_str(), value)))),
    }
}

/// A map of some entries.
pub(super) fn map<'v>(entries: impl Iterator<Item = (&'v str, &'v Value)>) -> CelMap<'v> {
    let entries: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> = entries
        .map(|(key, value)| (CelMapKey::String(CelString::from(key)), from_json(value)))
        .collect();
    CelMap::from(entries)
}

/// JSON, with the keys of maps in order; or what there is no JSON for, in words.
pub(super) fn to_json(value: &cel::Value) -> Result<Value, String> {
    let mut left = MAX_RESULT_BYTES;
    convert(value, &mut left)
}

fn convert(value: &cel::Value, left: &mut usize) -> Result<Value, String> {
    let mut take = |bytes: usize| {
        *left = left
            .checked_sub(bytes)
            .ok_or_else(|| format!("the result is larger than {MAX_RESULT_BYTES} bytes"))?;
        Ok::<(), String>(())
    };
    take(2)?;
    Ok(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(value) => Value::Bool(*value),
        cel::Value::Int(value) => Value::from(*value),
        cel::Value::UInt(value) => Value::from(*value),
        cel::Value::Float(value) => match Number::from_f64(*value) {
            Some(number) => Value::Number(number),
            None => return Err(format!("the result is {value}, which JSON has no number for")),
        },
        cel::Value::String(text) => {
            take(text.len())?;
            Value::String(text.as_str().to_owned())
        }
        cel::Value::List(values) => {
            let values: Result<Vec<Value>, String> =
                values.iter().map(|value| convert(value, left)).collect();
            Value::Array(values?)
        }
        cel::Value::Map(entries) => {
            // The library's order is that of a hash with a random seed.
            let mut sorted: BTreeMap<&str, &cel::Value> = BTreeMap::new();
            for (key, value) in entries.map.iter() {
                let cel::objects::Key::String(key) = key else {
                    return Err(format!(
                        "the result has a map with the key {key}: keys are texts, so write string(…)"
                    ));
                };
                take(key.len())?;
                sorted.insert(key, value);
            }
            let mut object = Map::new();
            for (key, value) in sorted {
                object.insert(key.to_owned(), convert(value, left)?);
            }
            Value::Object(object)
        }
        other => {
            return Err(format!(
                "the result is of type {}, which JSON has nothing for: make it a text with string(…)",
                other.type_of()
            ));
        }
    })
}

/// Bytes that a value takes up, more or less: what copying and comparing it costs.
pub(super) fn weight(value: &Value) -> u64 {
    8 + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len() as u64,
        Value::Array(values) => values.iter().map(weight).sum(),
        Value::Object(entries) => entries
            .iter()
            .map(|(key, value)| key.len() as u64 + weight(value))
            .sum(),
    }
}
