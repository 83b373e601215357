//! The expressions of a definition of version 1: found on the way, to be checked all at the end (`expression_types`).

use yaml::{Entry, Finding, Kind, Node, Place, What};

use super::SecretUse;
use super::fields::Check;
use super::holes::{Hole, holes};
use crate::expression::secret_name;

/// An expression, and where it stands.
pub(super) struct Expression<'a> {
    pub(super) node: &'a Node,
    /// The field's name, for words.
    pub(super) field: &'a str,
    /// The text of the scalar that it is in.
    text: &'a str,
    /// Where it begins in that text.
    start: usize,
    pub(super) source: &'a str,
    /// The task that it is of; `None`: the workflow's outputs.
    pub(super) task: Option<usize>,
    pub(super) standing: Standing,
}

/// What kind of place an expression stands at, which decides what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// `forEach`: before there is an item. The first of a task to be looked at.
    ForEach,
    /// `when`
    When,
    /// `goto.when`: at the task's end, so that it sees its own state.
    Goto,
    /// A value of `set`.
    Set,
    /// A value of the workflow's `outputs`: at its end.
    Outputs,
    /// `${{ }}` in a text.
    Hole,
    /// `${{ }}` of a number or a time that bounds something, which is worked out when the workflow is made.
    Bound,
    /// The same of a list of them.
    BoundList,
}

impl Standing {
    /// It stands within `${{ }}`.
    fn is_hole(self) -> bool {
        matches!(self, Standing::Hole | Standing::Bound | Standing::BoundList)
    }

    /// It is worked out when the workflow is made, and sees inputs alone.
    pub(super) fn is_bound(self) -> bool {
        matches!(self, Standing::Bound | Standing::BoundList)
    }
}

impl<'a> Check<'a> {
    /// A field that is CEL. It may stand in `${{ }}`, which changes nothing.
    pub(super) fn cel(
        &mut self,
        node: &'a Node,
        field: &'a str,
        task: Option<usize>,
        standing: Standing,
    ) -> String {
        let text = self.text(Some(node), field);
        let bare = text.trim();
        if bare.is_empty() {
            let message = format!("{field} is empty: write a CEL expression");
            self.problem(node.at, Kind::Missing, message);
            return String::new();
        }
        let within = match holes(bare).as_deref() {
            Ok([hole]) if hole.whole == (0..bare.len()) => hole.source.clone(),
            _ => 0..bare.len(),
        };
        let start = text.len() - text.trim_start().len() + within.start;
        let source = bare[within].trim_end();
        let start = start + source.len() - source.trim_start().len();
        let source = source.trim_start();
        self.expressions.push(Expression {
            node,
            field,
            text,
            start,
            source,
            task,
            standing,
        });
        source.to_owned()
    }

    /// A text that may hold `${{ }}`.
    pub(super) fn filled(&mut self, node: Option<&'a Node>, what: &str, task: Option<usize>) -> &'a str {
        self.looked_through(node, what, (task, Standing::Hole, ""), false)
    }

    /// A text that an action is handed: `${{ secrets.NAME }}` may stand in it, too.
    pub(super) fn handed(&mut self, node: Option<&'a Node>, what: &str, task: usize) -> &'a str {
        self.looked_through(node, what, (Some(task), Standing::Hole, ""), true)
    }

    /// A variable of an action that is recorded as it is handed out.
    pub(super) fn recorded(&mut self, node: Option<&'a Node>, task: usize, variable: &str) -> &'a str {
        let before = self.secrets.len();
        let text = self.handed(node, variable, task);
        for (_, found) in self.secrets.split_off(before) {
            let message = format!(
                "{variable} says which disk is written, and that is recorded: write it out, or make it an input"
            );
            self.problem(found.place, Kind::Expression, message);
        }
        text
    }

    /// A hole of `node`'s text is one of a secret, and it may stand there.
    fn secret(&mut self, node: &'a Node, text: &str, hole: &Hole) -> bool {
        let name = text.get(hole.source.clone()).and_then(secret_name);
        let Some(name) = name else { return false };
        let at = locate(self.yaml, node, text, hole.whole.start);
        let missing = Finding::new(at, Kind::Missing, SecretUse::missing(name));
        self.secrets.push((name.to_owned(), missing));
        true
    }

    /// What a record holds for templates of version 1 does not become somebody's password as it stands there.
    pub(super) fn no_secret(&self, node: Option<&'a Node>, text: &str) {
        let Some(node) = node else { return };
        let found = holes(text).unwrap_or_default().into_iter().find(|hole| {
            text.get(hole.source.clone())
                .is_some_and(|source| secret_name(source).is_some())
        });
        if let Some(hole) = found {
            let written = text.get(hole.whole.clone()).unwrap_or_default();
            let message = format!("{written} is put in by templates of version 1 only: write version: \"1\"");
            let at = locate(self.yaml, node, text, hole.whole.start);
            self.problem(at, Kind::Expression, message);
        }
    }

    pub(super) fn looked_through(
        &mut self,
        node: Option<&'a Node>,
        what: &str,
        (task, standing, field): (Option<usize>, Standing, &'a str),
        secrets: bool,
    ) -> &'a str {
        let text = self.text(node, what);
        if !self.is_version_1 {
            self.no_secret(node, text);
        }
        let Some(node) = node.filter(|_| self.is_version_1) else {
            return text;
        };
        match holes(text) {
            Ok(holes) => {
                for hole in holes {
                    if secrets && self.secret(node, text, &hole) {
                        continue;
                    }
                    let source = text[hole.source.clone()].trim_start();
                    let start = hole.source.end - source.len();
                    if source.is_empty() {
                        let message = "this ${{ }} is empty: write a CEL expression in it";
                        let at = locate(self.yaml, node, text, hole.whole.start);
                        self.problem(at, Kind::Expression, message);
                        continue;
                    }
                    self.expressions.push(Expression {
                        node,
                        field,
                        text,
                        start,
                        source: source.trim_end(),
                        task,
                        standing,
                    });
                }
            }
            Err(at) => {
                let message = "this ${{ has no }}: close it, or write ${{ \"${{\" }} for the text itself";
                self.problem(locate(self.yaml, node, text, at), Kind::Expression, message);
            }
        }
        text
    }

    /// Every text within a value may hold `${{ }}`.
    pub(super) fn filled_within(&mut self, node: &'a Node, task: Option<usize>) {
        match &node.what {
            What::Nothing => {}
            What::Scalar(_) => {
                self.filled(Some(node), "a value", task);
            }
            What::List(items) => items.iter().for_each(|item| self.filled_within(item, task)),
            What::Map(entries) => entries
                .iter()
                .for_each(|entry| self.filled_within(&entry.node, task)),
        }
    }

    /// Names that expressions use behind a dot.
    pub(super) fn identifier(&mut self, entry: &Entry, of: &str) {
        let name = &entry.name;
        if is_identifier(name) {
            return;
        }
        let better: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let better = if better.starts_with(|c: char| c.is_ascii_digit())
            || is_reserved(&better)
            || better.is_empty()
        {
            format!("_{better}")
        } else {
            better
        };
        let message =
            format!("{name:?} is no name for {of}: CEL knows names of letters, digits and _; write {better}");
        self.problem(entry.at, Kind::Value, message);
    }
}

impl Expression<'_> {
    /// The place of a byte of the expression.
    pub(super) fn place(&self, yaml: &str, offset: usize) -> Place {
        let found = self.found(written(self.node, yaml), offset);
        place(yaml, self.node, found)
    }

    /// Where a byte of the expression is in what is written, quotes and all.
    fn found(&self, written: &str, offset: usize) -> Option<usize> {
        let in_text = find(written, self.text, self.start + offset);
        // With quotes, escapes or folds in it, the expression itself may still stand there as it is.
        in_text.or_else(|| {
            if self.standing.is_hole() {
                let after_opening = written.match_indices("${{").map(|(at, _)| at + 3);
                let mut starts = after_opening.map(|at| written.len() - written[at..].trim_start().len());
                starts
                    .find(|at| written[*at..].starts_with(self.source))
                    .map(|at| at + offset)
            } else {
                find(written, self.source, offset)
            }
        })
    }
}

/// The place of a byte of a text.
fn locate(yaml: &str, node: &Node, text: &str, offset: usize) -> Place {
    place(yaml, node, find(written(node, yaml), text, offset))
}

/// What a text is written with, quotes and all.
fn written<'a>(node: &Node, yaml: &'a str) -> &'a str {
    match &node.what {
        What::Scalar(scalar) => yaml.get(scalar.written.clone()).unwrap_or(""),
        _ => "",
    }
}

/// Where a byte of `text` is in what is written, as a whole or a line of it.
fn find(written: &str, text: &str, offset: usize) -> Option<usize> {
    let whole = text.trim_end_matches('\n');
    if whole.is_empty() {
        return None;
    }
    if let Some(at) = written.find(whole) {
        return Some(at + offset);
    }
    let line_start = text.get(..offset)?.rfind('\n').map_or(0, |at| at + 1);
    let line = text.get(line_start..)?.lines().next()?;
    let bare = line.trim();
    let within = (offset - line_start).checked_sub(line.len() - line.trim_start().len())?;
    (!bare.is_empty()).then(|| written.find(bare).map(|at| at + within))?
}

/// The place of a byte of what is written; its beginning if that is not known.
fn place(yaml: &str, node: &Node, found: Option<usize>) -> Place {
    match (found, &node.what) {
        (Some(found), What::Scalar(scalar)) => Place::of_byte(yaml, scalar.written.start + found),
        _ => node.at,
    }
}

/// What CEL takes for a name: `[_a-zA-Z][_a-zA-Z0-9]*`, and no word of its own.
fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !is_reserved(name)
}

/// Source: CEL specification, "Syntax", RESERVED and the literals.
fn is_reserved(name: &str) -> bool {
    const WORDS: [&str; 21] = [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "null",
        "package",
        "return",
        "true",
        "var",
        "void",
        "while",
    ];
    WORDS.contains(&name)
}
