//! The expressions of a definition of version 1: found on the way, checked all at the end.

use serde_saphyr::Location;

use super::Definition;
use super::fields::Check;
use super::flow::Ancestors;
use super::holes::holes;
use super::node::{Entry, Node};
use super::problem::{Problem, Text};

/// An expression, and where it stands.
#[expect(
    dead_code,
    reason = "its task and place decide what it may see, which is not checked yet"
)]
pub(super) struct Expression<'a> {
    pub(super) node: &'a Node,
    /// The text of the scalar that it is in.
    text: &'a str,
    /// Where it begins in that text.
    start: usize,
    pub(super) source: &'a str,
    /// The task that it is of; `None`: the workflow's outputs.
    pub(super) task: Option<usize>,
    pub(super) place: Place,
}

/// What kind of place an expression stands at, which decides what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `forEach`: before there is an item.
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
}

impl<'a> Check<'a> {
    /// A field that is CEL. It may stand in `${{ }}`, which changes nothing.
    pub(super) fn cel(&mut self, node: &'a Node, field: &str, task: Option<usize>, place: Place) -> String {
        let text = self.text(Some(node));
        let bare = text.trim();
        if bare.is_empty() {
            self.problem(&node.at, format!("{field} is empty: write a CEL expression"));
            return String::new();
        }
        let source = match holes(bare).as_deref() {
            Ok([hole]) if hole.whole == (0..bare.len()) => bare[hole.source.clone()].trim(),
            _ => bare,
        };
        self.expression(node, text, source, task, place);
        source.to_owned()
    }

    /// A text that may hold `${{ }}`.
    pub(super) fn filled(&mut self, node: Option<&'a Node>, task: Option<usize>) -> &'a str {
        let text = self.text(node);
        let Some(node) = node.filter(|_| self.is_version_1) else {
            return text;
        };
        match holes(text) {
            Ok(holes) => {
                for hole in holes {
                    let source = text[hole.source].trim();
                    if source.is_empty() {
                        let problem = locate(
                            self.yaml,
                            node,
                            text,
                            hole.whole.start,
                            "this ${{ }} is empty: write a CEL expression in it",
                        );
                        self.problems.push(problem);
                    } else {
                        self.expression(node, text, source, task, Place::Hole);
                    }
                }
            }
            Err(at) => {
                let message = "this ${{ has no }}: close it, or write ${{ \"${{\" }} for the text itself";
                let problem = locate(self.yaml, node, text, at, message);
                self.problems.push(problem);
            }
        }
        text
    }

    /// Every text within a value may hold `${{ }}`.
    pub(super) fn filled_within(&mut self, node: &'a Node, task: Option<usize>) {
        use super::node::What;
        match &node.what {
            What::Nothing => {}
            What::Scalar(_) => {
                self.filled(Some(node), task);
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
        self.problem(&entry.at, message);
    }

    /// All that is wrong with the expressions.
    pub(super) fn check_expressions(&mut self, definition: &Definition, ancestors: &Ancestors) {
        const MAX_BYTES: usize = 1024;
        let _ = (definition, ancestors);
        for expression in &self.expressions {
            let length = expression.source.len();
            if length > MAX_BYTES {
                let message = format!("the expression has {length} B, {MAX_BYTES} B is the most");
                self.problems.push(expression.problem(self.yaml, 0, message));
            }
        }
    }

    fn expression(
        &mut self,
        node: &'a Node,
        text: &'a str,
        source: &'a str,
        task: Option<usize>,
        place: Place,
    ) {
        let start = source.as_ptr() as usize - text.as_ptr() as usize;
        self.expressions.push(Expression {
            node,
            text,
            start,
            source,
            task,
            place,
        });
    }
}

impl Expression<'_> {
    /// A problem at a byte of the expression.
    pub(super) fn problem(&self, yaml: &str, offset: usize, message: impl Into<String>) -> Problem {
        locate(yaml, self.node, self.text, self.start + offset, message)
    }
}

/// A problem at a byte of a scalar's text, as near as YAML's quotes and folds let it be found.
fn locate(yaml: &str, node: &Node, text: &str, offset: usize, message: impl Into<String>) -> Problem {
    let at = |location: &Location| super::node::line_and_column(location);
    let written = node.written(yaml);
    let whole = text.trim_end_matches('\n');
    // A text of one line stands there as it is, unless something in it is escaped; a longer one has its lines.
    let line_start = text
        .get(..offset)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |at| at + 1);
    let line = text
        .get(line_start..)
        .and_then(|rest| rest.lines().next())
        .unwrap_or("");
    let found = if written.is_empty() || whole.is_empty() {
        None
    } else {
        written.find(whole).map(|at| at + offset).or_else(|| {
            Some(
                written.find(line.trim())?
                    + (offset - line_start).saturating_sub(line.len() - line.trim_start().len()),
            )
            .filter(|_| !line.trim().is_empty())
        })
    };
    let start = node
        .defined
        .span()
        .byte_offset()
        .and_then(|start| usize::try_from(start).ok());
    match (found, start) {
        (Some(found), Some(start)) => Problem::at_offset(Text::Rendered, yaml, start + found, message),
        _ => {
            let (line, column) = at(&node.at);
            Problem::at(Text::Rendered, yaml, line, column, message)
        }
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
