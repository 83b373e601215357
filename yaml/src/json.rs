//! JSON that people give on a command line.

use serde_json::error::Category;
use serde_json::{Map, Value};

use crate::{Finding, Kind, Place};

/// The object that a text of JSON is.
///
/// # Errors
/// Where it stops being JSON, or what it is instead.
pub fn json_object(text: &str) -> Result<Map<String, Value>, Finding> {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let found = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) => return Ok(object),
        Ok(other) => {
            let what = match other {
                Value::Null => "null",
                Value::Bool(_) => "true or false",
                Value::Number(_) => "a number",
                Value::String(_) => "a text",
                Value::Array(_) => "a list",
                Value::Object(_) => "an object",
            };
            let message = format!("it is {what}, not an object in {{ }}");
            return Err(Finding::new(Place::default(), Kind::Shape, message));
        }
        Err(found) => found,
    };
    let place = Place {
        line: number(found.line()),
        column: number(found.column()),
    };
    let message = match found.classify() {
        Category::Eof => "it ends before it is complete: a quote or a bracket is not closed".to_owned(),
        _ if text.trim_start().starts_with('{') => match place.line {
            1 => format!("it stops being JSON at column {}", place.column),
            line => format!("it stops being JSON at line {line}, column {}", place.column),
        },
        _ => "it is no JSON".to_owned(),
    };
    Err(Finding::new(place, Kind::NotYaml, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_wanted_and_anything_else_said_in_our_words() {
        assert_eq!(json_object("{\"a\": 1}").expect("an object").len(), 1);
        for (text, want) in [
            (
                "",
                "it ends before it is complete: a quote or a bracket is not closed",
            ),
            (
                "{\"a\": ",
                "it ends before it is complete: a quote or a bracket is not closed",
            ),
            ("{\"a\": b}", "it stops being JSON at column 7"),
            ("{\n'a': 1}", "it stops being JSON at line 2, column 1"),
            ("[1]", "it is a list, not an object in { }"),
            ("rack", "it is no JSON"),
        ] {
            assert_eq!(json_object(text).expect_err(text).message, want);
        }
    }
}
