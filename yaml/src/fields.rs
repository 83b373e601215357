//! Reads a mapping field by field; takes note of every problem at its place instead of stopping at one.

use std::str::FromStr;

use crate::{Entry, Finding, Findings, Kind, Node, Place, What, meant, nearest};

/// The fields that a mapping may have.
#[derive(Clone, Copy, Debug)]
pub struct Known<'k> {
    /// Whose fields they are: `a task`.
    pub whose: &'k str,
    /// Their names.
    pub names: &'k [&'k str],
    /// What another name is.
    pub unknown: Unknown,
    /// Names that are fields in another place or version, and what is said of one that stands here.
    pub elsewhere: (&'k [&'k str], &'k str),
}

impl<'k> Known<'k> {
    /// Fields that are nowhere else.
    pub fn new(whose: &'k str, names: &'k [&'k str], unknown: Unknown) -> Known<'k> {
        Known {
            whose,
            names,
            unknown,
            elsewhere: (&[], ""),
        }
    }
}

/// What an unknown field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is wrong.
    Problem,
    /// It has no effect.
    Warning,
    /// It is nobody's business here.
    Fine,
}

/// The fields of a mapping. One that is missing has none.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    /// The mapping's place.
    pub at: Place,
    entries: Vec<&'a Entry>,
    found: &'a Findings,
}

impl<'a> Fields<'a> {
    /// The fields of `node`; what it may not have is noted, and is not among them.
    pub fn of(node: Option<&'a Node>, known: Known<'_>, found: &'a Findings) -> Fields<'a> {
        let mut entries = Vec::new();
        for entry in map(node, known.whose, found) {
            if known.names.contains(&entry.name.as_str()) || known.unknown == Unknown::Fine {
                entries.push(entry);
            } else if let Some((finding, is_problem)) = unknown(entry, known) {
                let Finding { place, kind, message } = finding;
                match is_problem {
                    true => found.problem(place, kind, message),
                    false => found.warn(place, kind, message),
                }
            }
        }
        Fields {
            at: node.map(|node| node.at).unwrap_or_default(),
            entries,
            found,
        }
    }

    /// Its fields, in order.
    pub fn entries(&self) -> impl Iterator<Item = &'a Entry> + '_ {
        self.entries.iter().copied()
    }

    /// Takes the fields away of which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        self.entries.retain(|entry| keep(entry));
    }

    fn entry(&self, name: &str) -> Option<&'a Entry> {
        self.entries().find(|entry| entry.name == name)
    }

    /// A field's value, unless it is nothing.
    pub fn get(&self, name: &str) -> Option<&'a Node> {
        let node = &self.entry(name)?.node;
        (!node.is_nothing()).then_some(node)
    }

    /// The place of a field's value, or of the mapping when it has not got it.
    pub fn at(&self, name: &str) -> Place {
        self.entry(name).map_or(self.at, |entry| entry.node.at)
    }

    /// Where a field's value stands, unless it is nothing.
    pub fn place(&self, name: &str) -> Option<Place> {
        Some(self.get(name)?.at)
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.found.text(self.get(name), name)
    }

    /// A text of its own.
    pub fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    /// A text that is not empty, and where it stands.
    pub fn placed(&self, name: &str) -> Option<(String, Place)> {
        let text = self.text(name).filter(|text| !text.is_empty())?;
        Some((text.to_owned(), self.get(name)?.at))
    }

    /// A value with a grammar of its own; `example` shows it.
    pub fn parse<T: FromStr>(&self, name: &str, what: &str, example: &str) -> Option<T> {
        self.found.parsed(self.get(name)?, what, example)
    }

    /// `true` or `false`.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.parse(name, name, "true or false")
    }

    /// A list.
    pub fn list(&self, name: &str) -> &'a [Node] {
        self.found.list(self.get(name), name)
    }

    /// A mapping.
    pub fn map(&self, name: &str) -> &'a [Entry] {
        self.found.map(self.get(name), name)
    }

    /// The values of a list, or one text that stands for a list of one.
    pub fn items(&self, name: &str) -> &'a [Node] {
        match self.get(name) {
            Some(one) if one.text().is_some() => std::slice::from_ref(one),
            _ => self.list(name),
        }
    }

    /// As [`Fields::items`], of texts.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let text = |item: &Node| self.item_text(item, name);
        self.items(name).iter().filter_map(text).collect()
    }

    /// A mapping from text to text.
    pub fn pairs(&self, name: &str) -> Vec<(String, String)> {
        let pair = |entry: &Entry| Some((entry.name.clone(), self.item_text(&entry.node, name)?));
        self.map(name).iter().filter_map(pair).collect()
    }

    fn item_text(&self, item: &Node, name: &str) -> Option<String> {
        if item.text().is_none() {
            self.found
                .misshapen(item, format!("{name} must hold text, not {}", item.describe()));
        }
        item.text().map(str::to_owned)
    }
}

impl Findings {
    /// The text of a scalar that is called `what`; none when it is nothing.
    pub fn text<'a>(&self, node: Option<&'a Node>, what: &str) -> Option<&'a str> {
        let node = node.filter(|node| !node.is_nothing())?;
        if node.text().is_none() {
            self.misshapen(node, format!("{what} must be text, not {}", node.describe()));
        }
        node.text()
    }

    /// The items of a list that is called `what`; empty when it is nothing.
    pub fn list<'a>(&self, node: Option<&'a Node>, what: &str) -> &'a [Node] {
        match node.map(|node| (&node.what, node)) {
            Some((What::List(items), _)) => items,
            Some((What::Nothing, _)) | None => &[],
            Some((_, node)) => {
                self.misshapen(node, format!("{what} must be a list, not {}", node.describe()));
                &[]
            }
        }
    }

    /// The fields of a mapping that is called `what`; empty when it is nothing.
    pub fn map<'a>(&self, node: Option<&'a Node>, what: &str) -> &'a [Entry] {
        map(node, what, self)
    }

    /// A value with a grammar of its own; `example` shows it.
    pub fn parsed<T: FromStr>(&self, node: &Node, what: &str, example: &str) -> Option<T> {
        let value = node.text().and_then(|text| text.parse().ok());
        if value.is_none() {
            let message = format!("bad {what} {}: expected {example}", node.describe());
            self.problem(node.at, Kind::Value, message);
        }
        value
    }
}

fn map<'a>(node: Option<&'a Node>, what: &str, found: &Findings) -> &'a [Entry] {
    match node.map(|node| (&node.what, node)) {
        Some((What::Map(entries), _)) => entries,
        Some((What::Nothing, _)) | None => &[],
        Some((_, node)) => {
            let message = format!("{what} must be a map (key: value), not {}", node.describe());
            found.misshapen(node, message);
            &[]
        }
    }
}

fn unknown(entry: &Entry, known: Known<'_>) -> Option<(Finding, bool)> {
    let (name, whose) = (&entry.name, known.whose);
    let names = known.names.iter().copied();
    let finding = |message| Finding::new(entry.at, Kind::UnknownField, message);
    let (elsewhere, said) = known.elsewhere;
    if elsewhere.contains(&name.as_str()) {
        return Some((finding(format!("{name:?} is a field of {whose} {said}")), false));
    }
    match known.unknown {
        Unknown::Fine => None,
        Unknown::Problem => {
            let all = format!(": the fields are {}", known.names.join(", "));
            let cure = meant(name, names, &all);
            Some((finding(format!("{name:?} is no field of {whose}{cure}")), true))
        }
        Unknown::Warning => {
            let cure = nearest(name, names)
                .map(|near| format!("; did you mean {near:?}?"))
                .unwrap_or_default();
            let message = format!("{name:?} is no field of {whose} and has no effect{cure}");
            Some((finding(message), false))
        }
    }
}
