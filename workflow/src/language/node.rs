//! YAML text to a tree: every value at its place, every scalar as the text that it is.
//!
//! YAML's own types are kept beside, for values that are given on as they are (inputs): `0644`, `true` and `n` stay
//! what the operator wrote in every other field, as in upstream's string fields.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Location, MessageFormatter, NonFiniteFloatPolicy, Spanned, UserMessageFormatter};

use super::problem::{Problem, Text};

/// A value of the YAML text.
pub(super) struct Node {
    /// Where it is used: for an alias, the alias.
    pub(super) at: Location,
    /// Where it is written.
    pub(super) defined: Location,
    pub(super) what: What,
}

pub(super) enum What {
    Nothing,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

pub(super) struct Scalar {
    pub(super) text: String,
    /// What YAML takes it for: a text unless it is written plainly.
    pub(super) value: Value,
}

/// A key of a mapping, and its value.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) at: Location,
    pub(super) node: Node,
}

/// YAML nodes of a workflow, aliases resolved; ten times what 256 KiB of reasonable text come to.
const MAX_NODES: usize = 50_000;

/// What stands in `yaml`.
pub(super) fn parse(yaml: &str) -> Result<Node, Problem> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: MAX_NODES },
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
    };
    let raw: Spanned<Raw> = serde_saphyr::from_str_with_options(yaml, options).map_err(|error| {
        let error = error.without_snippet();
        let location = error.location().unwrap_or(Location::UNKNOWN);
        let (line, column) = line_and_column(&location);
        Problem::at(Text::Rendered, yaml, line, column, in_words(error))
    })?;
    Ok(node(raw, yaml))
}

fn in_words(error: &serde_saphyr::Error) -> String {
    let message = UserMessageFormatter.format_message(error);
    format!("bad YAML: {}", message.trim_end_matches('.'))
}

pub(super) fn line_and_column(location: &Location) -> (usize, usize) {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    (number(location.line()), number(location.column()))
}

impl Node {
    /// The value in JSON. Floats that JSON has not stay the text that they are.
    pub(super) fn json(&self) -> Value {
        match &self.what {
            What::Nothing => Value::Null,
            What::Scalar(scalar) => scalar.value.clone(),
            What::List(items) => items.iter().map(Node::json).collect(),
            What::Map(entries) => {
                let json = |entry: &Entry| (entry.name.clone(), entry.node.json());
                Value::Object(entries.iter().map(json).collect())
            }
        }
    }

    /// The text of the file that the value is written with, quotes and all.
    pub(super) fn written<'a>(&self, yaml: &'a str) -> &'a str {
        written(&self.defined, yaml)
    }
}

fn written<'a>(defined: &Location, yaml: &'a str) -> &'a str {
    let span = defined.span();
    let byte = |number: u64| usize::try_from(number).ok();
    let range = span
        .byte_offset()
        .and_then(byte)
        .and_then(|start| Some(start..start.checked_add(span.byte_len().and_then(byte)?)?));
    range.and_then(|range| yaml.get(range)).unwrap_or("")
}

/// As it comes from the parser. A scalar that YAML takes for a number or a truth value comes without its text.
enum Raw {
    Nothing,
    Text(String),
    Typed(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn node(raw: Spanned<Raw>, yaml: &str) -> Node {
    let what = match raw.value {
        Raw::Nothing => What::Nothing,
        Raw::Text(text) => What::Scalar(Scalar {
            value: Value::String(text.clone()),
            text,
        }),
        Raw::Typed(value) => {
            let text = written(&raw.defined, yaml).trim();
            let text = match value {
                // A tag, or quotes behind one.
                _ if text.is_empty() || text.starts_with(['!', '"', '\'', '|', '>', '&']) => {
                    value.to_string()
                }
                _ => text.to_owned(),
            };
            let value = if value.is_null() || is_only_digits_of_a_kind(&text) {
                Value::String(text.clone())
            } else {
                value
            };
            What::Scalar(Scalar { text, value })
        }
        Raw::List(items) => What::List(items.into_iter().map(|item| node(item, yaml)).collect()),
        Raw::Map(entries) => What::Map(
            entries
                .into_iter()
                .map(|(name, value)| Entry {
                    name: name.value,
                    at: name.referenced,
                    node: node(value, yaml),
                })
                .collect(),
        ),
    };
    Node {
        at: raw.referenced,
        defined: raw.defined,
        what,
    }
}

/// `0644` and `1_000` are modes and serial numbers rather than numbers.
fn is_only_digits_of_a_kind(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    text.contains('_') || (digits.starts_with('0') && digits[1..].starts_with(|c: char| c.is_ascii_digit()))
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Raw;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Nothing)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Typed(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_the_text_that_is_written_and_yaml_s_value() {
        let yaml = "- 0644\n- 1_0\n- yes\n- n\n- true # so\n- TRUE\n- 1.50\n- .inf\n- -3\n- 0x1F\n- '5'\n- \"a\\tb\"\n- a\n  b\n- ~\n-\n- \
                    1e999\n- 12:30:00\n- &x 07\n- *x\n- !!str 5\n- !!int '5'\n- |\n  5\n- !a\n- !b 5\n- 0x\n- é 1\n- 2\n";
        let tree = parse(yaml).unwrap();
        let What::List(items) = &tree.what else {
            panic!("a list")
        };
        let texts: Vec<String> = items
            .iter()
            .map(|item| match &item.what {
                What::Scalar(scalar) => format!("{} {}", scalar.text, scalar.value),
                What::Nothing => "nothing".to_owned(),
                _ => panic!("a scalar"),
            })
            .collect();
        let want = [
            "0644 \"0644\"",
            "1_0 \"1_0\"",
            "yes \"yes\"",
            "n \"n\"",
            "true true",
            "TRUE true",
            "1.50 1.5",
            ".inf \".inf\"",
            "-3 -3",
            "0x1F 31",
            "5 \"5\"",
            "a\tb \"a\\tb\"",
            "a b \"a b\"",
            "nothing",
            "nothing",
            "1e999 \"1e999\"",
            "12:30:00 \"12:30:00\"",
            "07 \"07\"",
            "07 \"07\"",
            "5 \"5\"",
            "5 5",
            "5\n \"5\\n\"",
            "nothing",
            "5 5",
            "0x \"0x\"",
            "é 1 \"é 1\"",
            "2 2",
        ];
        assert_eq!(texts, want);
    }
}
