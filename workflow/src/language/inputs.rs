//! The inputs of a workflow: as the definition says, and as they are given when one is made.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use yaml::{Fields, Kind, Node, What, meant};

use super::fields::{Check, Known};
use super::{Definition, Input, InputType};

const INPUT: Known = Known {
    whose: "an input",
    old: &["type", "default", "description"],
    new: &[],
};
const TYPES: [(&str, InputType); 6] = [
    ("string", InputType::String),
    ("int", InputType::Int),
    ("double", InputType::Double),
    ("bool", InputType::Bool),
    ("list", InputType::List),
    ("map", InputType::Map),
];

/// The inputs of a workflow that is made: what is given, of the right type, and the defaults of the rest.
///
/// # Errors
/// Everything that is wrong, in words: unknown names, values of the wrong type, what is missing.
pub fn inputs(
    definition: &Definition,
    given: &Map<String, Value>,
) -> Result<Map<String, Value>, Vec<String>> {
    let mut problems = Vec::new();
    for name in given.keys().filter(|name| !definition.inputs.contains_key(*name)) {
        let names = definition.inputs.keys().map(String::as_str);
        let all: Vec<&str> = names.clone().collect();
        let otherwise = if all.is_empty() {
            ": leave it out".to_owned()
        } else {
            format!(": the inputs are {}", all.join(", "))
        };
        let meant = meant(name, names, &otherwise);
        problems.push(format!(
            "workflow {:?} has no input {name:?}{meant}",
            definition.name
        ));
    }
    let mut inputs = Map::new();
    for (name, input) in &definition.inputs {
        match (given.get(name), &input.default) {
            (Some(value), _) => match typed(value, input.kind) {
                Some(value) => {
                    inputs.insert(name.clone(), value);
                }
                None => problems.push(format!(
                    "input {name:?} is {}, but {} is wanted: {}",
                    described(value),
                    article(input.kind),
                    example(name, input.kind)
                )),
            },
            (None, Some(default)) => {
                inputs.insert(name.clone(), default.clone());
            }
            (None, None) => {
                let description = match input.description.trim() {
                    "" => String::new(),
                    text => format!(" ({text})"),
                };
                problems.push(format!(
                    "input {name:?}{description} is not given and has no default: {}",
                    example(name, input.kind)
                ));
            }
        }
    }
    if problems.is_empty() {
        Ok(inputs)
    } else {
        Err(problems)
    }
}

/// Values as somebody typed them, by the types that the definition declares: `17` is a text for an input of type string,
/// and JSON for others. Names that it has not, and what is no JSON, stay texts, for [`inputs`] to refuse.
pub fn typed_inputs(definition: &Definition, given: &BTreeMap<String, String>) -> Map<String, Value> {
    let read = |(name, text): (&String, &String)| {
        let json = serde_json::from_str::<Value>(text).ok();
        let is_text = definition
            .inputs
            .get(name)
            .is_some_and(|input| input.kind == InputType::String);
        let value = json.filter(|json| !is_text || json.is_string());
        (name.clone(), value.unwrap_or_else(|| text.as_str().into()))
    };
    given.iter().map(read).collect()
}

fn typed(value: &Value, kind: InputType) -> Option<Value> {
    let is_right = match kind {
        InputType::String => value.is_string(),
        InputType::Int => value.is_i64(),
        // A whole number is a double, too.
        InputType::Double => return value.as_f64().map(Value::from),
        InputType::Bool => value.is_boolean(),
        InputType::List => value.is_array(),
        InputType::Map => value.is_object(),
    };
    is_right.then(|| value.clone())
}

/// What a value is, so that it can be found.
fn described(value: &Value) -> String {
    const SHOWN_CHARS: usize = 60;
    let kind = match value {
        Value::Null => return "null".into(),
        Value::Bool(_) => "the bool",
        Value::Number(_) => "the number",
        Value::String(_) => "the string",
        Value::Array(_) => "the list",
        Value::Object(_) => "the map",
    };
    let text = value.to_string();
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("{kind} {shown}{more}")
}

fn word(kind: InputType) -> &'static str {
    TYPES
        .iter()
        .find_map(|(word, other)| (*other == kind).then_some(*word))
        .unwrap_or_default()
}

fn article(kind: InputType) -> String {
    let article = if kind == InputType::Int { "an" } else { "a" };
    format!("{article} {}", word(kind))
}

fn example(name: &str, kind: InputType) -> String {
    let value = match kind {
        InputType::String => "\"text\"",
        InputType::Int => "3",
        InputType::Double => "0.5",
        InputType::Bool => "true",
        InputType::List => "[\"a\", \"b\"]",
        InputType::Map => "{\"key\": \"value\"}",
    };
    format!("give one like {{\"{name}\": {value}}}")
}

impl<'a> Check<'a> {
    pub(super) fn inputs(&mut self, fields: &Fields<'a>) -> BTreeMap<String, Input> {
        let mut inputs = BTreeMap::new();
        for entry in fields.map("inputs") {
            self.identifier(entry, "an input");
            match self.input(&entry.name, &entry.node) {
                Some(input) => drop(inputs.insert(entry.name.clone(), input)),
                None => self.untyped_inputs.push(&entry.name),
            }
        }
        inputs
    }

    fn input(&mut self, name: &str, node: &'a Node) -> Option<Input> {
        let neither = format!("input {name:?} has neither a type nor a default: write {{type: string}}");
        match node.what {
            What::Nothing => {
                self.problem(node.at, Kind::Missing, neither);
                None
            }
            What::Scalar(_) | What::List(_) => {
                let (kind, default) = self.default(name, node, None)?;
                Some(Input {
                    kind,
                    default: Some(default),
                    description: String::new(),
                })
            }
            What::Map(_) => {
                let fields = self.fields(node, &INPUT);
                let written = fields.get("default");
                let said = match fields.get("type") {
                    Some(node) => Some(self.input_type(node)?),
                    None => None,
                };
                let (kind, default) = match (said, written) {
                    (said, Some(written)) => {
                        let (kind, default) = self.default(name, written, said)?;
                        (kind, Some(default))
                    }
                    (Some(kind), None) => (kind, None),
                    (None, None) => {
                        self.problem(node.at, Kind::Missing, neither);
                        return None;
                    }
                };
                let description = self.plain(fields.get("description"), "description");
                Some(Input {
                    kind,
                    default,
                    description: description.to_owned(),
                })
            }
        }
    }

    fn input_type(&mut self, node: &'a Node) -> Option<InputType> {
        let text = self.text(Some(node), "type");
        let found = TYPES
            .iter()
            .find_map(|(word, kind)| (*word == text).then_some(*kind));
        if found.is_none() {
            let words = TYPES.map(|(word, _)| word);
            let near = match text {
                "integer" | "number" => "; did you mean \"int\"?".to_owned(),
                "float" | "decimal" => "; did you mean \"double\"?".to_owned(),
                "object" | "dict" => "; did you mean \"map\"?".to_owned(),
                "array" => "; did you mean \"list\"?".to_owned(),
                text => meant(text, words, &format!(": the types are {}", words.join(", "))),
            };
            self.problem(node.at, Kind::Value, format!("type {text:?} is not known{near}"));
        }
        found
    }

    /// A default, and its type: the one that is said, or that of the value.
    fn default(&mut self, name: &str, node: &'a Node, said: Option<InputType>) -> Option<(InputType, Value)> {
        let value = match &node.what {
            // Any text may be written without quotes.
            What::Scalar(scalar) if said == Some(InputType::String) => Value::String(scalar.text.clone()),
            _ => node.json(),
        };
        if value.to_string().contains("${{") {
            let message =
                format!("the default of input {name:?} is not looked through for ${{{{ }}}}: write it out");
            self.problem(node.at, Kind::Expression, message);
            return None;
        }
        let kind = said.unwrap_or(match &value {
            Value::Null | Value::String(_) => InputType::String,
            Value::Bool(_) => InputType::Bool,
            Value::Number(number) if number.is_i64() => InputType::Int,
            Value::Number(_) => InputType::Double,
            Value::Array(_) => InputType::List,
            Value::Object(_) => InputType::Map,
        });
        let default = typed(&value, kind);
        if default.is_none() {
            let message = format!(
                "the default of input {name:?} is {}, but its type is {}",
                described(&value),
                word(kind)
            );
            self.problem(node.at, Kind::Value, message);
        }
        Some((kind, default?))
    }
}
