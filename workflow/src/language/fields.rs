//! What the checks of a definition have in common: problems at places, and fields read from mappings.

use std::collections::BTreeSet;

use serde_saphyr::Location;

use super::SecretUse;
use super::expressions::Expression;
use super::nearest::nearest;
use super::node::{Entry, Node, What, line_and_column};
use super::problem::{Problem, Text};

/// The fields that a mapping may have.
pub(super) struct Known {
    /// `a task`
    pub(super) whose: &'static str,
    /// In both versions.
    pub(super) old: &'static [&'static str],
    /// In version 1 only.
    pub(super) new: &'static [&'static str],
}

/// A definition's check under way: what is wrong so far.
pub(super) struct Check<'a> {
    pub(super) yaml: &'a str,
    lines: Vec<&'a str>,
    pub(super) is_version_1: bool,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    pub(super) undone: Vec<Problem>,
    pub(super) expressions: Vec<Expression<'a>>,
    pub(super) secrets: Vec<SecretUse>,
    /// Where the images of actions stand: task, action.
    pub(super) images: Vec<(usize, usize, Location)>,
    /// Inputs with a wrong declaration: expressions may use them all the same.
    pub(super) untyped_inputs: Vec<&'a str>,
    /// Values of the wrong shape: nothing else needs to be said of them.
    misshapen: BTreeSet<(usize, usize)>,
}

/// The fields that a mapping has.
pub(super) struct Fields<'a> {
    /// The mapping's place.
    pub(super) at: Location,
    entries: Vec<(&'a str, &'a Node)>,
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a Node> {
        self.entries
            .iter()
            .find_map(|(key, node)| (*key == name).then_some(*node))
    }

    /// The place of a field's value, or of the mapping when it has not got it.
    pub(super) fn at(&self, name: &str) -> Location {
        self.get(name).map_or(self.at, |node| node.at)
    }
}

impl<'a> Check<'a> {
    pub(super) fn new(yaml: &'a str) -> Check<'a> {
        Check {
            yaml,
            lines: yaml.lines().collect(),
            is_version_1: false,
            problems: Vec::new(),
            warnings: Vec::new(),
            undone: Vec::new(),
            expressions: Vec::new(),
            secrets: Vec::new(),
            images: Vec::new(),
            untyped_inputs: Vec::new(),
            misshapen: BTreeSet::new(),
        }
    }

    /// The fields of a mapping. What it may not have is noted, and is not among them.
    pub(super) fn fields(&mut self, node: &'a Node, known: &Known) -> Fields<'a> {
        let mut entries = Vec::new();
        for entry in self.map(Some(node)) {
            let name = entry.name.as_str();
            if known.old.contains(&name) {
                entries.push((name, &entry.node));
            } else if !self.is_version_1 || !known.new.contains(&name) {
                self.unknown(entry, known);
            } else if matches!(entry.node.what, What::Nothing) {
                self.empty(entry);
            } else {
                entries.push((name, &entry.node));
            }
        }
        Fields { at: node.at, entries }
    }

    fn unknown(&mut self, entry: &Entry, known: &Known) {
        let (name, whose) = (&entry.name, known.whose);
        let new: &[&str] = if self.is_version_1 { known.new } else { &[] };
        let near = nearest(name, known.old.iter().chain(new).copied())
            .map(|near| format!("; did you mean {near:?}?"))
            .unwrap_or_default();
        if self.is_version_1 {
            let near = if near.is_empty() {
                let fields: Vec<&str> = known.old.iter().chain(new).copied().collect();
                format!(": the fields are {}", fields.join(", "))
            } else {
                near
            };
            self.problem(&entry.at, format!("{name:?} is no field of {whose}{near}"));
        } else if known.new.contains(&name.as_str()) {
            let message = format!(
                "{name:?} is a field of {whose} in version \"1\" only and has no effect: write version: \"1\" to use it"
            );
            self.warning(&entry.at, message);
        } else {
            self.warning(
                &entry.at,
                format!("{name:?} is no field of {whose} and has no effect{near}"),
            );
        }
    }

    fn empty(&mut self, entry: &Entry) {
        let name = &entry.name;
        // `when: !inputs.x` is a tag in YAML, and nothing behind it.
        let (line, _) = line_and_column(&entry.node.at);
        let is_tag = self.line(line).is_some_and(|line| {
            line.split_once(name.as_str())
                .is_some_and(|(_, behind)| behind.trim_start_matches(['"', '\'', ':', ' ']).starts_with('!'))
        });
        let message = if is_tag {
            format!("{name} is empty for YAML: put a text that begins with ! in quotes")
        } else {
            format!("{name} is empty: give it a value or leave it out")
        };
        self.problem(&entry.node.at, message);
    }

    /// The text of a scalar; empty when there is none.
    pub(super) fn text(&mut self, node: Option<&'a Node>) -> &'a str {
        match node.map(|node| (&node.what, node)) {
            Some((What::Scalar(scalar), _)) => &scalar.text,
            Some((What::List(_) | What::Map(_), node)) => {
                self.misshapen(node, "a text is wanted here, not a list or a mapping");
                ""
            }
            Some((What::Nothing, _)) | None => "",
        }
    }

    /// A text of version 1 that is not looked through for `${{ }}`, and so may have none.
    pub(super) fn plain(&mut self, node: Option<&'a Node>, field: &str) -> &'a str {
        let text = self.text(node);
        if !self.is_version_1 {
            self.no_secret(node);
        }
        if let Some(node) = node.filter(|_| self.is_version_1 && text.contains("${{")) {
            let message = format!("{field} is not looked through for ${{{{ }}}}: write it out");
            self.problem(&node.at, message);
        }
        text
    }

    pub(super) fn list(&mut self, node: Option<&'a Node>) -> &'a [Node] {
        match node.map(|node| (&node.what, node)) {
            Some((What::List(items), _)) => items,
            Some((What::Nothing, _)) | None => &[],
            Some((_, node)) => {
                self.misshapen(node, "a list is wanted here");
                &[]
            }
        }
    }

    pub(super) fn map(&mut self, node: Option<&'a Node>) -> &'a [Entry] {
        match node.map(|node| (&node.what, node)) {
            Some((What::Map(entries), _)) => entries,
            Some((What::Nothing, _)) | None => &[],
            Some((_, node)) => {
                self.misshapen(node, "a mapping (key: value) is wanted here");
                &[]
            }
        }
    }

    /// A list of texts, or one text for a list of one.
    pub(super) fn words(&mut self, node: Option<&'a Node>, field: &str) -> Vec<(&'a str, Location)> {
        let items = match node {
            Some(one) if matches!(one.what, What::Scalar(_)) => std::slice::from_ref(one),
            other => self.list(other),
        };
        items
            .iter()
            .map(|item| (self.plain(Some(item), field), item.at))
            .collect()
    }

    /// `true` or `false`; false when it is left out.
    pub(super) fn flag(&mut self, node: Option<&'a Node>, field: &str) -> bool {
        let text = self.text(node);
        if let Some(node) = node.filter(|_| !matches!(text, "" | "true" | "false")) {
            self.problem(&node.at, format!("{field} {text:?} is neither true nor false"));
        }
        text == "true"
    }

    pub(super) fn problem(&mut self, at: &Location, message: impl Into<String>) {
        if !self.misshapen.contains(&line_and_column(at)) {
            let problem = self.place(at, message);
            self.problems.push(problem);
        }
    }

    pub(super) fn warning(&mut self, at: &Location, message: impl Into<String>) {
        let warning = self.place(at, message);
        self.warnings.push(warning);
    }

    pub(super) fn not_done(&mut self, at: &Location, message: impl Into<String>) {
        let what = self.place(at, message);
        self.undone.push(what);
    }

    pub(super) fn misshapen(&mut self, node: &Node, message: &str) {
        self.problem(&node.at, message);
        self.misshapen.insert(line_and_column(&node.at));
    }

    fn place(&self, at: &Location, message: impl Into<String>) -> Problem {
        let (line, column) = line_and_column(at);
        let quoted = self.line(line).unwrap_or("");
        Problem::quoting(Text::Rendered, quoted, line, column, message)
    }

    /// From 1.
    fn line(&self, number: usize) -> Option<&'a str> {
        self.lines.get(number.checked_sub(1)?).copied()
    }
}

/// `; did you mean "…"?`, or what to write.
pub(super) fn meant<'n>(word: &str, known: impl IntoIterator<Item = &'n str>, otherwise: &str) -> String {
    nearest(word, known)
        .map(|near| format!("; did you mean {near:?}?"))
        .unwrap_or_else(|| otherwise.to_owned())
}
