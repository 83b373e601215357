//! What the checks of a definition have in common: fields of both versions, and findings on the way.

use yaml::{Entry, Fields, Finding, Findings, Kind, Node, Place, Unknown, What};

use super::bounds::Given;
use super::expressions::Expression;

/// The fields that a mapping may have.
pub(super) struct Known {
    /// `a task`
    pub(super) whose: &'static str,
    /// In both versions.
    pub(super) old: &'static [&'static str],
    /// In version 1 only.
    pub(super) new: &'static [&'static str],
}

/// How a mapping is written for which people write a number, a list or `yes`.
fn example(whose: &str) -> Option<&'static str> {
    Some(match whose {
        "retry" => "retry: {attempts: 3}",
        "approve" => "approve: {message: \"wipe rack r7?\"}",
        "goto" => "goto: {task: NAME, when: CONDITION, max: 3}",
        "fail" => "fail: {message: \"no disk is large enough\"}",
        "answers" => "answers: {by: ssh}",
        "resources" => "resources: {memory: 512MiB}",
        _ => return None,
    })
}

pub(super) fn is_map(node: &Node) -> bool {
    matches!(node.what, What::Map(_) | What::Nothing)
}

/// A definition's check under way: what is wrong so far.
pub(super) struct Check<'a> {
    pub(super) yaml: &'a str,
    lines: Vec<&'a str>,
    pub(super) is_version_1: bool,
    pub(super) found: &'a Findings,
    pub(super) undone: Vec<Finding>,
    pub(super) expressions: Vec<Expression<'a>>,
    /// Secrets that actions are handed, with what is to be said if there is none.
    pub(super) secrets: Vec<(String, Finding)>,
    /// Where the images of actions stand: task, action.
    pub(super) images: Vec<(usize, usize, Place)>,
    /// Where tasks wait for an answer.
    pub(super) answers: Vec<(usize, Place)>,
    /// Inputs with a wrong declaration: expressions may use them all the same.
    pub(super) untyped_inputs: Vec<&'a str>,
    /// What inputs are known to be: what was given, or their defaults.
    pub(super) given: Given,
    /// Something that bounds a run comes from an input, and is checked again when that is given.
    pub(super) has_bounds_of_inputs: bool,
    /// Bounds that gave no value.
    pub(super) failed_bounds: Vec<Finding>,
}

impl<'a> Check<'a> {
    pub(super) fn new(yaml: &'a str, found: &'a Findings) -> Check<'a> {
        Check {
            yaml,
            lines: yaml.lines().collect(),
            is_version_1: false,
            found,
            undone: Vec::new(),
            expressions: Vec::new(),
            secrets: Vec::new(),
            images: Vec::new(),
            answers: Vec::new(),
            untyped_inputs: Vec::new(),
            given: Given::default(),
            has_bounds_of_inputs: false,
            failed_bounds: Vec::new(),
        }
    }

    /// The fields of a mapping. What it may not have is noted, and is not among them.
    pub(super) fn fields(&self, node: &'a Node, known: &Known) -> Fields<'a> {
        let whose = known.whose;
        if let (Some(example), false) = (example(whose), is_map(node)) {
            let message = format!(
                "{whose} must be a map (key: value), not {}: write {example}",
                node.describe()
            );
            self.found.misshapen(node, message);
            let mut none = Fields::of(None, yaml::Known::new(whose, &[], Unknown::Fine), self.found);
            none.at = node.at;
            return none;
        }
        if !self.is_version_1 {
            let known = yaml::Known {
                whose,
                names: known.old,
                unknown: Unknown::Warning,
                elsewhere: (known.new, ONLY_IN_1),
            };
            return Fields::of(Some(node), known, self.found);
        }
        let all: Vec<&str> = known.old.iter().chain(known.new).copied().collect();
        let all = yaml::Known::new(whose, &all, Unknown::Problem);
        let mut fields = Fields::of(Some(node), all, self.found);
        // Those of 0.1 may be left empty, as upstream has them.
        fields.retain(|entry| {
            let is_empty = entry.node.is_nothing() && known.new.contains(&entry.name.as_str());
            if is_empty {
                self.empty(entry);
            }
            !is_empty
        });
        fields
    }

    fn empty(&self, entry: &Entry) {
        let name = &entry.name;
        // `when: !inputs.x` is a tag in YAML, and nothing behind it.
        let is_tag = self.line(entry.node.at).is_some_and(|line| {
            line.split_once(name.as_str())
                .is_some_and(|(_, behind)| behind.trim_start_matches(['"', '\'', ':', ' ']).starts_with('!'))
        });
        let message = if is_tag {
            format!("{name} is empty for YAML: put a text that begins with ! in quotes")
        } else {
            format!("{name} is empty: give it a value or leave it out")
        };
        self.problem(entry.node.at, Kind::Missing, message);
    }

    /// The text of a scalar; empty when there is none.
    pub(super) fn text(&self, node: Option<&'a Node>, what: &str) -> &'a str {
        self.found.text(node, what).unwrap_or_default()
    }

    /// A text of version 1 that is not looked through for `${{ }}`, and so may have none.
    pub(super) fn plain(&self, node: Option<&'a Node>, what: &str) -> &'a str {
        let text = self.text(node, what);
        if !self.is_version_1 {
            self.no_secret(node, text);
        }
        if let Some(node) = node.filter(|_| self.is_version_1 && text.contains("${{")) {
            let message = format!("{what} is not looked through for ${{{{ }}}}: write it out");
            self.problem(node.at, Kind::Expression, message);
        }
        text
    }

    /// A list of texts, or one text for a list of one.
    pub(super) fn words(&self, fields: &Fields<'a>, field: &str) -> Vec<(&'a str, Place)> {
        let word = |item: &'a Node| (self.plain(Some(item), field), item.at);
        fields.items(field).iter().map(word).collect()
    }

    /// `true` or `false`; false when it is left out.
    pub(super) fn flag(&self, node: Option<&'a Node>, field: &str) -> bool {
        let text = self.text(node, field);
        if let Some(node) = node.filter(|_| !matches!(text, "" | "true" | "false")) {
            let message = format!("{field} {text:?} is neither true nor false");
            self.problem(node.at, Kind::Value, message);
        }
        text == "true"
    }

    pub(super) fn problem(&self, at: Place, kind: Kind, message: impl Into<String>) {
        self.found.problem(at, kind, message);
    }

    pub(super) fn warning(&self, at: Place, kind: Kind, message: impl Into<String>) {
        self.found.warn(at, kind, message);
    }

    pub(super) fn not_done(&mut self, at: Place, message: impl Into<String>) {
        self.undone.push(Finding::new(at, Kind::NoEffect, message));
    }

    fn line(&self, at: Place) -> Option<&'a str> {
        self.lines.get(at.index()?).copied()
    }
}

const ONLY_IN_1: &str = "in version \"1\" only and has no effect: write version: \"1\" to use it";
