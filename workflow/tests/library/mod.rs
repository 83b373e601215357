//! The `cel` crate, as a second opinion on what expressions mean.

use std::collections::{BTreeMap, HashMap};

use cel::{Context, Program};
use serde_json::{Map, Value, json};

/// What the library makes of it with its own parser; None where it refuses the text.
pub(crate) fn evaluate(source: &str, variables: &Map<String, Value>) -> Option<Result<Value, ()>> {
    let program = Program::compile(source).ok()?;
    let mut context = Context::default();
    for (name, value) in variables {
        context.add_variable_from_value(name, to_library(value));
    }
    let result = program.execute(&context).map_err(|_| ());
    Some(result.and_then(|value| json_of(&value).ok_or(())))
}

/// Whole numbers as ints: the library's own way from JSON makes uints of them.
fn to_library(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => cel::Value::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => cel::Value::Int(number),
            (_, Some(number)) => cel::Value::UInt(number),
            _ => cel::Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => cel::Value::String(text.clone().into()),
        Value::Array(values) => cel::Value::List(values.iter().map(to_library).collect::<Vec<_>>().into()),
        Value::Object(entries) => {
            let entries: HashMap<String, cel::Value> = entries
                .iter()
                .map(|(key, value)| (key.clone(), to_library(value)))
                .collect();
            cel::Value::Map(entries.into())
        }
    }
}

fn json_of(value: &cel::Value) -> Option<Value> {
    Some(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(value) => json!(value),
        cel::Value::Int(value) => json!(value),
        cel::Value::UInt(value) => json!(value),
        cel::Value::Float(value) => Value::Number(serde_json::Number::from_f64(*value)?),
        cel::Value::String(text) => json!(text.as_str()),
        cel::Value::List(values) => Value::Array(values.iter().map(json_of).collect::<Option<_>>()?),
        cel::Value::Map(entries) => {
            let mut sorted = BTreeMap::new();
            for (key, value) in entries.map.iter() {
                let cel::objects::Key::String(key) = key else {
                    return None;
                };
                sorted.insert(key.as_str().to_owned(), json_of(value)?);
            }
            Value::Object(Map::from_iter(sorted))
        }
        _ => return None,
    })
}

/// The library's ANTLR parser takes far more stack than a test's thread has.
pub(crate) fn on_a_large_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(256 << 20);
    if let Err(panic) = thread.spawn(test).expect("a thread").join() {
        std::panic::resume_unwind(panic);
    }
}
