//! YAML as a tree in which every key and value knows its place.
//!
//! Typed decoding stops at the first mistake and loses places; an operator wants all of them at once. Scalars keep
//! their text, so that a name `n` is no boolean and a mode `0644` no number; [`Node::to_json`] resolves plain
//! scalars by the core schema of YAML 1.2 (section 10.3.2).

use std::collections::HashMap;

use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};

/// Nodes in one file, aliases expanded: more is an alias bomb.
const MAX_NODES: usize = 200_000;
/// Nesting that anybody writes by hand, several times over; keeps the recursion here shallow.
const MAX_DEPTH: usize = 64;

/// A place in a file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    Scalar { text: String, plain: bool },
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) name: String,
}

/// Why a text is not YAML that we take.
#[derive(Debug)]
pub(crate) struct Malformed {
    pub(crate) place: Place,
    pub(crate) message: String,
}

/// The documents of a text; empty ones are left out.
pub(crate) fn parse(text: &str) -> Result<Vec<Node>, Malformed> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        last: FIRST,
    };
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _) => {}
            (event, span) => {
                let node = reader.node(event, span, 0)?;
                if !node.is_null() {
                    documents.push(node);
                }
            }
        }
    }
}

const FIRST: Place = Place { line: 1, column: 1 };

struct Reader<'a> {
    parser: Parser<'a, serde_saphyr::granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    last: Place,
}

impl<'a> Reader<'a> {
    /// The next event that is not a comment.
    fn next(&mut self) -> Result<(Event<'a>, Span), Malformed> {
        loop {
            match self.parser.next_event() {
                None => {
                    return Err(Malformed {
                        place: self.last,
                        message: "the file ends too early".into(),
                    });
                }
                Some(Err(error)) => {
                    let place = place_of(error.marker().line(), error.marker().col());
                    return Err(Malformed {
                        place,
                        message: format!("not YAML: {}", error.info()),
                    });
                }
                Some(Ok((Event::Comment(..) | Event::Anchor(..), _))) => {}
                Some(Ok((event, span))) => {
                    self.last = place_of(span.start.line(), span.start.col());
                    return Ok((event, span));
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Malformed> {
        let place = place_of(span.start.line(), span.start.col());
        self.count(1, place)?;
        if depth > MAX_DEPTH {
            return Err(Malformed {
                place,
                message: format!("nested deeper than {MAX_DEPTH} levels"),
            });
        }
        let anchor = event.anchor_id();
        let kind = match event {
            Event::Scalar(text, style, ..) => Kind::Scalar {
                text: text.into_owned(),
                plain: style == ScalarStyle::Plain,
            },
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            Event::Alias(id) => {
                let Some(target) = self.anchors.get(&id).cloned() else {
                    return Err(Malformed {
                        place,
                        message: "alias of something around itself".into(),
                    });
                };
                self.count(target.size(), place)?;
                return Ok(Node {
                    place,
                    kind: target.kind,
                });
            }
            _ => {
                return Err(Malformed {
                    place,
                    message: "expected a value".into(),
                });
            }
        };
        let node = Node { place, kind };
        if let Some(id) = anchor {
            self.anchors.insert(id, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Kind, Malformed> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Kind::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Kind, Malformed> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut lines: HashMap<String, u32> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Kind::Map(entries));
            }
            let key = self.node(event, span, depth + 1)?;
            let Kind::Scalar { text: name, .. } = key.kind else {
                return Err(Malformed {
                    place: key.place,
                    message: "a key must be plain text".into(),
                });
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if let Some(first) = lines.insert(name.clone(), key.place.line) {
                let message = format!("{name:?} is given twice; first in line {first}");
                return Err(Malformed {
                    place: key.place,
                    message,
                });
            }
            entries.push((
                Key {
                    place: key.place,
                    name,
                },
                value,
            ));
        }
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), Malformed> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(Malformed {
                place,
                message: format!("more than {MAX_NODES} values, aliases expanded"),
            });
        }
        Ok(())
    }
}

fn place_of(line: usize, column: usize) -> Place {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Place {
        line: number(line.max(1)),
        column: number(column.saturating_add(1)),
    }
}

impl Node {
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        let Kind::Map(entries) = &self.kind else {
            return None;
        };
        entries
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if is_null(text))
    }

    /// What it is, for messages.
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a map".into(),
            Kind::Scalar { .. } if self.is_null() => "nothing".into(),
            Kind::Scalar { text, .. } => format!("{text:?}"),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Kind::Map(entries) => {
                let pairs = entries
                    .iter()
                    .map(|(key, value)| (key.name.clone(), value.to_json()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
            Kind::Scalar { text, plain: false } => Value::String(text.clone()),
            Kind::Scalar { text, plain: true } => resolve(text),
        }
    }

    fn size(&self) -> usize {
        match &self.kind {
            Kind::List(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            Kind::Map(entries) => 1 + entries.iter().map(|(_, value)| 1 + value.size()).sum::<usize>(),
            Kind::Scalar { .. } => 1,
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// A plain scalar by the core schema, but for `0644`, octal in YAML 1.1 and decimal in 1.2: it stays text.
fn resolve(text: &str) -> Value {
    if is_null(text) {
        return Value::Null;
    }
    match text {
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let ambiguous = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    let numeric = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits
            .chars()
            .all(|char| char.is_ascii_digit() || matches!(char, '.' | 'e' | 'E' | '+' | '-'));
    if numeric && !ambiguous {
        // JSON's number grammar is the rest of the check.
        if let Ok(number @ Value::Number(_)) = serde_json::from_str(text) {
            return number;
        }
    }
    Value::String(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        parse(text).expect("YAML").first().expect("a document").to_json()
    }

    #[test]
    fn keeps_what_looks_like_yaml_1_1_as_text() {
        let value = json("{a: n, b: 0644, c: 08:00:27:00:00:01, d: 1.5, e: -3, f: ~, g: 'true', h: true}");
        let want = serde_json::json!({"a": "n", "b": "0644", "c": "08:00:27:00:00:01", "d": 1.5, "e": -3,
            "f": null, "g": "true", "h": true});
        assert_eq!(value, want);
    }

    #[test]
    fn knows_places_in_every_document() {
        let documents = parse("a: 1\n---\n# nothing\n---\nb:\n  - c: x\n").expect("YAML");
        assert_eq!(documents.len(), 2);
        let Kind::List(items) = &documents[1].get("b").expect("b").kind else {
            panic!("no list")
        };
        assert_eq!(items[0].get("c").expect("c").place, Place { line: 6, column: 8 });
    }

    #[test]
    fn expands_aliases_and_stops_a_bomb() {
        assert_eq!(
            json("a: &x [1, 2]\nb: *x\n"),
            serde_json::json!({"a": [1, 2], "b": [1, 2]})
        );
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..9 {
            let below = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(","));
        }
        assert!(
            parse(&bomb)
                .expect_err("a bomb")
                .message
                .contains("aliases expanded")
        );
    }

    #[test]
    fn refuses_a_key_given_twice_with_both_lines() {
        let error = parse("a: 1\nb: 2\na: 3\n").expect_err("given twice");
        assert_eq!(
            (error.place.line, error.message.as_str()),
            (3, "\"a\" is given twice; first in line 1")
        );
    }

    #[test]
    fn says_where_a_text_stops_being_yaml() {
        let error = parse("a: [1, 2\nb: 3\n").expect_err("not closed");
        assert!(
            error.place.line >= 1 && error.message.starts_with("not YAML"),
            "{error:?}"
        );
    }
}
