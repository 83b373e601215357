//! Text to trees.

use std::collections::HashMap;

use serde_json::Value;
use serde_saphyr::granit_parser::{Event, Marker, Options, Parser, ScalarStyle, Span, StrInput, Tag};

use crate::scalar::{is_null, resolve};
use crate::{Entry, Finding, Kind, Node, Place, Scalar, Style, What, faults};

/// What a text may come to, aliases expanded.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Values in all documents together; ten times what anybody writes is good.
    pub nodes: usize,
    /// Bytes of the texts among them.
    pub bytes: usize,
}

/// Nesting that anybody writes by hand, several times over; keeps the recursion here shallow.
const MAX_DEPTH: usize = 64;

/// All documents of a text, in order; the last one may have ended in a fault.
pub type Parsed = Vec<Document>;

/// One document of a text.
#[derive(Clone, Debug)]
pub struct Document {
    /// Where it begins: its `---`, or its first value.
    pub at: Place,
    /// What stands in it: nothing in an empty one, and in one that is not YAML.
    pub node: Node,
    /// What is wrong with it as YAML.
    pub problems: Vec<Finding>,
}

/// Reads all documents of `text`, empty ones included. What comes behind a fault of the syntax is not read.
pub fn parse(text: &str, limits: Limits) -> Parsed {
    if let Some(at) = text.find('\0') {
        let place = Place::of_byte(text, at);
        // The library takes it for the end of the text.
        let message = "a NUL character stands here: no YAML has one";
        return vec![broken(place, Finding::new(place, Kind::NotYaml, message))];
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut reader = Reader {
        text,
        parser: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        limits,
        nodes: 0,
        bytes: 0,
        problems: Vec::new(),
    };
    let mut documents = Vec::new();
    // Where the `---` of the document stands that is read.
    let mut begun: Option<Place> = None;
    loop {
        match reader.document(&mut begun) {
            Ok(None) => return documents,
            Ok(Some((at, node))) => documents.push(Document {
                at,
                node,
                problems: std::mem::take(&mut reader.problems),
            }),
            Err(finding) => {
                let mut document = broken(begun.unwrap_or(finding.place), finding);
                document
                    .problems
                    .splice(0..0, std::mem::take(&mut reader.problems));
                documents.push(document);
                return documents;
            }
        }
    }
}

/// What the one document of a text is in JSON; null for an empty text.
///
/// # Errors
/// What is wrong with it first, or that there is a second document.
pub fn value(text: &str, limits: Limits) -> Result<Value, Finding> {
    let documents = parse(text, limits);
    if let Some(problem) = documents.iter().find_map(|document| document.problems.first()) {
        return Err(problem.clone());
    }
    let mut filled = documents
        .into_iter()
        .filter(|document| !document.node.is_nothing());
    let first = filled.next();
    match filled.next() {
        Some(second) => Err(Finding::new(
            second.at,
            Kind::TooMuch,
            "a second document begins here, and one is wanted",
        )),
        None => Ok(first.map_or(Value::Null, |document| document.node.json())),
    }
}

fn broken(at: Place, finding: Finding) -> Document {
    Document {
        at,
        node: Node {
            at,
            what: What::Nothing,
        },
        problems: vec![finding],
    }
}

struct Reader<'a> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    limits: Limits,
    nodes: usize,
    bytes: usize,
    problems: Vec<Finding>,
}

impl<'a> Reader<'a> {
    /// The next document, with its place.
    fn document(&mut self, begun: &mut Option<Place>) -> Result<Option<(Place, Node)>, Finding> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(None),
                (Event::DocumentStart(is_explicit, _), span) => {
                    self.anchors.clear();
                    *begun = is_explicit.then(|| place_of(&span.start));
                }
                (Event::StreamStart | Event::DocumentEnd, _) => *begun = None,
                (event, span) => {
                    let node = self.node(event, span, 0)?;
                    return Ok(Some((begun.unwrap_or(node.at), node)));
                }
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Finding> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(faults::in_words(self.text, &error)),
            None => Err(Finding::new(
                Place::default(),
                Kind::NotYaml,
                "the text ends too early",
            )),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Finding> {
        let at = place_of(&span.start);
        if depth > MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(Finding::new(at, Kind::TooMuch, message));
        }
        let anchor = event.anchor_id();
        let what = match event {
            Event::Scalar(text, style, _, tag) => {
                self.count(at, (1, text.len()))?;
                scalar(text.into_owned(), style, tag.as_deref(), bytes_of(&span))
            }
            Event::SequenceStart(..) => {
                self.count(at, (1, 0))?;
                self.list(depth)?
            }
            Event::MappingStart(..) => {
                self.count(at, (1, 0))?;
                self.map(depth)?
            }
            Event::Alias(id) => {
                let Some(target) = self.anchors.get(&id) else {
                    let message = "this alias stands for something around itself";
                    return Err(Finding::new(at, Kind::NotYaml, message));
                };
                let size = target.size();
                self.count(at, size)?;
                self.anchors
                    .get(&id)
                    .map_or(What::Nothing, |target| target.what.clone())
            }
            _ => return Err(Finding::new(at, Kind::NotYaml, "a value is wanted here")),
        };
        let node = Node { at, what };
        if let Some(id) = anchor {
            // The copy counts, too: anchors may stand within each other.
            self.count(at, node.size())?;
            self.anchors.insert(id, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<What, Finding> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(What::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<What, Finding> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, u32> = HashMap::new();
        let mut merged: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if is_merge {
                self.merge(value, &mut merged);
                continue;
            }
            let name = match key.what {
                What::Scalar(scalar) => scalar.text,
                What::Nothing => String::new(),
                What::List(_) | What::Map(_) => {
                    let message = format!("a key must be text, not {}", key.describe());
                    self.problems.push(Finding::new(key.at, Kind::Shape, message));
                    continue;
                }
            };
            if let Some(first) = lines.get(&name) {
                let message = format!("{name:?} is given twice; first in line {first}");
                self.problems.push(Finding::new(key.at, Kind::Twice, message));
                continue;
            }
            lines.insert(name.clone(), key.at.line);
            entries.push(Entry {
                name,
                at: key.at,
                node: value,
            });
        }
        // What is merged gives way to what stands there, and later ones to earlier ones.
        for entry in merged {
            if !lines.contains_key(&entry.name) {
                lines.insert(entry.name.clone(), entry.at.line);
                entries.push(entry);
            }
        }
        Ok(What::Map(entries))
    }

    /// `<<`, the merge key of YAML 1.1 (yaml.org/type/merge.html), which the field uses.
    fn merge(&mut self, value: Node, merged: &mut Vec<Entry>) {
        match value.what {
            What::Map(entries) => merged.extend(entries),
            What::List(items) => items.into_iter().for_each(|item| match item.what {
                What::Map(entries) => merged.extend(entries),
                _ => self.not_merged(&item),
            }),
            What::Nothing => {}
            What::Scalar(_) => self.not_merged(&value),
        }
    }

    fn not_merged(&mut self, value: &Node) {
        let message = format!("<< merges a map, or a list of maps, not {}", value.describe());
        self.problems.push(Finding::new(value.at, Kind::Shape, message));
    }

    fn count(&mut self, at: Place, (nodes, bytes): (usize, usize)) -> Result<(), Finding> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.bytes = self.bytes.saturating_add(bytes);
        let message = if self.nodes > self.limits.nodes {
            format!("more than {} values, aliases expanded", self.limits.nodes)
        } else if self.bytes > self.limits.bytes {
            format!("more than {} B of text, aliases expanded", self.limits.bytes)
        } else {
            return Ok(());
        };
        Err(Finding::new(at, Kind::TooMuch, message))
    }
}

fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>, written: std::ops::Range<usize>) -> What {
    let is_plain = style == ScalarStyle::Plain;
    // `!`, the non-specific tag, makes a text of anything.
    let core = match tag {
        Some(tag) if tag.handle() == "tag:yaml.org,2002:" => Some(tag.suffix()),
        Some(tag) if tag.handle().is_empty() && tag.suffix() == "!" => Some("str"),
        _ => None,
    };
    let value = match core {
        Some("str" | "binary") => Value::String(text.clone()),
        Some("null") => return What::Nothing,
        Some(_) => resolve(&text),
        None if is_plain && is_null(&text) => return What::Nothing,
        None if is_plain => resolve(&text),
        None => Value::String(text.clone()),
    };
    let value = match value {
        Value::Null => Value::String(text.clone()),
        value => value,
    };
    What::Scalar(Scalar {
        text,
        value,
        style: match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::Literal => Style::Literal,
            ScalarStyle::Folded => Style::Folded,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
        },
        written,
    })
}

fn bytes_of(span: &Span) -> std::ops::Range<usize> {
    let start = span.start.byte_offset().unwrap_or(0);
    start..span.end.byte_offset().unwrap_or(start).max(start)
}

pub(crate) fn place_of(marker: &Marker) -> Place {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Place {
        line: number(marker.line().max(1)),
        column: number(marker.col().saturating_add(1)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIMITS: Limits = Limits {
        nodes: 50_000,
        bytes: 1 << 20,
    };

    fn json(text: &str) -> Value {
        value(text, LIMITS).expect("YAML")
    }

    fn problems(text: &str) -> Vec<(u32, u32, Kind, String)> {
        let all = parse(text, LIMITS)
            .into_iter()
            .flat_map(|document| document.problems);
        all.map(|found| (found.place.line, found.place.column, found.kind, found.message))
            .collect()
    }

    #[test]
    fn scalars_are_the_text_that_is_written_and_yaml_s_value() {
        let yaml = "- 0644\n- 1_0\n- yes\n- n\n- true # so\n- TRUE\n- 1.50\n- .inf\n- -3\n- 0x1F\n- '5'\n- \"a\\tb\"\n- a\n  b\n- ~\n-\n- \
                    1e999\n- 12:30:00\n- &x 07\n- *x\n- !!str 5\n- !!int '5'\n- |\n  5\n- !a\n- !b 5\n- 0x\n- é 1\n- ! 5\n- !!null ''\n- !!str\n- 2\n";
        let documents = parse(yaml, LIMITS);
        let What::List(items) = &documents[0].node.what else {
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
            "5 \"5\"",
            "nothing",
            " \"\"",
            "2 2",
        ];
        assert_eq!(texts, want);
    }

    #[test]
    fn knows_places_in_every_document_and_what_is_written() {
        let text = "a: 1\n---\n# nothing\n---\nb:\n  - c: é 'x'\n    d: \"q\"\n---\n";
        let documents = parse(text, LIMITS);
        let at: Vec<_> = documents.iter().map(|document| document.at.line).collect();
        assert_eq!(at, [1, 2, 4, 8]);
        let filled: Vec<_> = documents
            .iter()
            .map(|document| !document.node.is_nothing())
            .collect();
        assert_eq!(filled, [true, false, true, false]);
        let What::List(items) = &documents[2].node.get("b").expect("b").what else {
            panic!("no list")
        };
        assert_eq!(items[0].get("c").expect("c").at, Place { line: 6, column: 8 });
        assert_eq!(items[0].entry("d").expect("d").at, Place { line: 7, column: 5 });
        let written = |name: &str| match &items[0].get(name).expect("a value").what {
            What::Scalar(scalar) => &text[scalar.written.clone()],
            _ => panic!("no scalar"),
        };
        assert_eq!((written("c"), written("d")), ("é 'x'", "\"q\""));
    }

    #[test]
    fn merges_and_what_stands_there_wins() {
        let text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\none: {b: 0, <<: *x}\nboth: {<<: [*x, *y]}\nquoted: {'<<': 1}\nnone: {<<: }\n";
        let json = json(text);
        assert_eq!(json["one"], json!({"b": 0, "a": 1}));
        assert_eq!(json["both"], json!({"a": 1, "b": 2, "c": 4}));
        assert_eq!(json["quoted"], json!({"<<": 1}));
        assert_eq!(json["none"], json!({}));
        let bad = problems("a: {<<: 1}\n");
        assert_eq!(bad[0].3, "<< merges a map, or a list of maps, not \"1\"");
    }

    #[test]
    fn expands_aliases_and_stops_bombs() {
        assert_eq!(json("a: &x [1, 2]\nb: *x\n"), json!({"a": [1, 2], "b": [1, 2]}));
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..9 {
            let below = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(","));
        }
        assert_eq!(problems(&bomb)[0].3, "more than 50000 values, aliases expanded");
        let large = format!("a: &a {}\nb: [{}]\n", "x".repeat(10_000), "*a,".repeat(1000));
        assert_eq!(
            problems(&large)[0].3,
            "more than 1048576 B of text, aliases expanded"
        );
        // Anchors within each other are copied as often as they are deep.
        let nested = format!("{}{}", "[&a ".repeat(60), "[x".to_owned() + &",x".repeat(2000));
        assert_eq!(problems(&nested)[0].2, Kind::NotYaml);
        let nested = format!("{nested}{}", "]".repeat(61));
        assert_eq!(problems(&nested)[0].2, Kind::TooMuch);
        let deep = format!("a: {}", "[".repeat(5000));
        assert_eq!(problems(&deep)[0].2, Kind::TooMuch);
        assert_eq!(
            problems("a: &a [*a]\n")[0].3,
            "this alias stands for something around itself"
        );
    }

    #[test]
    fn a_key_given_twice_is_told_with_both_lines_and_reading_goes_on() {
        let text = "a: 1\nb: 2\na: 3\n[c]: 4\nb: 5\n";
        let want = [
            (
                3,
                1,
                Kind::Twice,
                "\"a\" is given twice; first in line 1".to_owned(),
            ),
            (4, 1, Kind::Shape, "a key must be text, not a list".to_owned()),
            (
                5,
                1,
                Kind::Twice,
                "\"b\" is given twice; first in line 2".to_owned(),
            ),
        ];
        assert_eq!(problems(text), want);
        assert_eq!(parse(text, LIMITS)[0].node.json(), json!({"a": 1, "b": 2}));
    }

    #[test]
    fn a_fault_ends_the_document_that_it_is_in_only() {
        let documents = parse("a: 1\n---\nb: [\n", LIMITS);
        assert_eq!(documents.len(), 2);
        assert!(documents[0].problems.is_empty() && !documents[0].node.is_nothing());
        assert_eq!(documents[1].at, Place { line: 2, column: 1 });
        assert_eq!(documents[1].problems[0].kind, Kind::NotYaml);
    }

    #[test]
    fn aliases_do_not_reach_into_another_document() {
        assert_eq!(problems("a: &x 1\n---\nb: *x\n")[0].2, Kind::NotYaml);
    }

    #[test]
    fn long_comments_marks_and_odd_characters_are_borne() {
        let comments = "# x\n".repeat(500) + "a: 1\n";
        assert_eq!(json(&comments), json!({"a": 1}));
        assert_eq!(json("\u{feff}a: 1\n"), json!({"a": 1}));
        assert_eq!(json("a: 1\r\nb: 2\r\n"), json!({"a": 1, "b": 2}));
        assert_eq!(
            problems("a: 1\nb\0: 2\n")[0].3,
            "a NUL character stands here: no YAML has one"
        );
        assert_eq!(json(""), Value::Null);
        assert_eq!(value("a: 1\n---\nb: 1\n", LIMITS).expect_err("two").place.line, 2);
    }
}
