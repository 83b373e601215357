//! Whether every `{{if}}`, `{{range}}`, `{{with}}`, `{{define}}` and `{{block}}` of a template has its `{{end}}`, and
//! no other.
//!
//! The template library (gotmpl 0.6.1) takes a missing `{{end}}` for one at the end of the text, and ends the template
//! silently at one too many. Go refuses both, and so must we: half a template is another workflow. This can go when
//! `Template::parse("{{if .x}}")` is an error there.

use std::ops::Range;

use yaml::Kind;

use super::problem::{Problem, Text};

/// What is wrong with the blocks of a template that the library has lexed without an error.
pub(super) fn check(text: &str) -> Result<(), Problem> {
    let problem = |at: usize, message: String| {
        Err(Problem::at_offset(
            Text::Template,
            text,
            at,
            Kind::Template,
            message,
        ))
    };
    let mut open: Vec<Block<'_>> = Vec::new();
    let actions = Actions { text, at: 0 };
    for (at, word, second) in actions {
        match word {
            "if" | "range" | "with" | "define" | "block" => open.push(Block {
                word,
                at,
                had_else: false,
            }),
            "else" => match open.last_mut() {
                Some(block) if matches!(block.word, "if" | "range" | "with") && !block.had_else => {
                    block.had_else = !matches!(second, "if" | "with");
                }
                Some(block) if block.had_else => {
                    return problem(at, format!("a second {{{{else}}}} in one {{{{{}}}}}", block.word));
                }
                _ => return problem(at, "an {{else}} outside {{if}}, {{range}} and {{with}}".into()),
            },
            "end" if open.is_empty() => {
                return problem(at, "an {{end}} too many: nothing is open here".into());
            }
            "end" => drop(open.pop()),
            "break" | "continue" => {
                let within = open
                    .iter()
                    .rev()
                    .take_while(|block| !matches!(block.word, "define" | "block"));
                if !within.into_iter().any(|block| block.word == "range") {
                    return problem(at, format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
            }
            _ => {}
        }
    }
    match open.last() {
        Some(block) => problem(
            block.at,
            format!("this {{{{{}}}}} has no {{{{end}}}}", block.word),
        ),
        None => Ok(()),
    }
}

/// Where each action is, from its `{{` to behind its `}}`.
pub(super) fn extents(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text.get(at..)?.find("{{")?;
        at = end_of_action_at(text, start);
        Some(start..at)
    })
}

/// Behind the `}}` of the action whose `{{` is at `start`; the end of the text if there is none.
pub(super) fn end_of_action_at(text: &str, start: usize) -> usize {
    let (inside_at, inside) = inside(text, start + 2);
    let inside_at = if inside.starts_with("/*") {
        inside_at + inside.find("*/").map_or(inside.len(), |end| end + 2)
    } else {
        inside_at
    };
    inside_at + end_of_action(&text[inside_at..])
}

/// What stands in an action, behind its `{{` and white space, and where.
fn inside(text: &str, opened: usize) -> (usize, &str) {
    let inside = &text[opened..];
    let inside = inside
        .strip_prefix("- ")
        .or_else(|| trim_marker(inside))
        .unwrap_or(inside)
        .trim_start();
    (text.len() - inside.len(), inside)
}

struct Block<'a> {
    word: &'a str,
    at: usize,
    had_else: bool,
}

/// The place, first and second word of each action.
struct Actions<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Actions<'a> {
    type Item = (usize, &'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let opened = self.at + self.text.get(self.at..)?.find("{{")? + 2;
        let (start, inside) = inside(self.text, opened);
        if inside.starts_with("/*") {
            let end = inside.find("*/").map_or(inside.len(), |end| end + 2);
            self.at = start + end;
            return Some((start, "", ""));
        }
        self.at = start + end_of_action(inside);
        let (first, rest) = word(inside);
        Some((start, first, word(rest.trim_start()).0))
    }
}

/// A `-` before any white space trims, too.
fn trim_marker(inside: &str) -> Option<&str> {
    inside
        .strip_prefix('-')
        .filter(|rest| rest.starts_with(char::is_whitespace))
}

fn word(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Behind the `}}` that no quotes hide.
fn end_of_action(inside: &str) -> usize {
    let bytes = inside.as_bytes();
    let mut at = 0;
    let mut quote = None;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(b'"' | b'\''), b'\\') => at += 1,
            (Some(open), byte) if open == byte => quote = None,
            (None, byte @ (b'"' | b'\'' | b'`')) => quote = Some(byte),
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return at + 2,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_balanced_blocks() {
        for good in [
            "",
            "plain }} text",
            "{{if .a}}{{else if .b}}{{else}}{{end}}",
            "{{- range .a -}}{{break}}{{if .b}}{{continue}}{{end}}{{else}}{{- end -}}",
            "{{with .a}}{{else with .b}}{{end}}",
            "{{define \"a\"}}{{end}}{{block \"b\" .}}x{{end}}",
            "{{/* {{if}} */}}{{- /* {{end}} */ -}}",
            "{{print \"{{if}} }}\" '}' `}}`}}{{print \"\\\"}}\"}}",
            "{{ endpoint }}{{ .end }}{{ if_ }}{{$end}}",
            "{{-3}}",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn says_which_block_is_unbalanced() {
        for (bad, line, column, message) in [
            ("a\n{{if .a}}", 2, 3, "this {{if}} has no {{end}}"),
            (
                "{{range .a}}{{if .b}}{{end}}",
                1,
                3,
                "this {{range}} has no {{end}}",
            ),
            ("{{define \"a\"}}", 1, 3, "this {{define}} has no {{end}}"),
            (
                "a\n {{- end}}b",
                2,
                6,
                "an {{end}} too many: nothing is open here",
            ),
            (
                "{{if .a}}{{end}}{{ end }}",
                1,
                20,
                "an {{end}} too many: nothing is open here",
            ),
            (
                "{{else}}",
                1,
                3,
                "an {{else}} outside {{if}}, {{range}} and {{with}}",
            ),
            (
                "{{define \"a\"}}{{else}}{{end}}",
                1,
                17,
                "an {{else}} outside {{if}}, {{range}} and {{with}}",
            ),
            (
                "{{if .a}}{{else}}{{else}}{{end}}",
                1,
                20,
                "a second {{else}} in one {{if}}",
            ),
            ("{{if .a}}{{break}}{{end}}", 1, 12, "{{break}} outside {{range}}"),
            (
                "{{range .a}}{{define \"x\"}}{{continue}}{{end}}{{end}}",
                1,
                29,
                "{{continue}} outside {{range}}",
            ),
        ] {
            let problem = check(bad).unwrap_err();
            assert_eq!(
                (
                    problem.finding.place.line,
                    problem.finding.place.column,
                    problem.finding.message.as_str()
                ),
                (line, column, message),
                "{bad}"
            );
        }
    }
}
