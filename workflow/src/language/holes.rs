//! `${{ CEL }}` in the texts of version 1, and how it gets past the Go template step.
//!
//! Go's `text/template` would take the `{{` of `${{` for an action. So in a text of version 1 everything from a `${{`
//! to its `}}` is masked before that step and put back afterwards. Plain `{{ … }}` stays Go's, and what it fills in is
//! not looked at. In a text of version 0.1 nothing is masked: there `${{.device_1}}` is a dollar and an action.
//!
//! Which version a text is of is decided by its first line that begins, in the first column and outside of an action,
//! with `version:`; or, for a text that is one `{…}`, by its first key.

use std::ops::Range;

use super::blocks;

/// A `${{ }}` in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    /// From the dollar to behind the braces.
    pub(crate) whole: Range<usize>,
    /// What is between the braces.
    pub(crate) source: Range<usize>,
}

/// The `${{ }}` of a text, or where one begins that is not closed.
///
/// One ends at the first `}}` that is neither in quotes nor closes a `{` within.
pub(crate) fn holes(text: &str) -> Result<Vec<Hole>, usize> {
    let mut holes = Vec::new();
    let mut at = 0;
    while let Some(start) = find(text, at, "${{") {
        let end = end_of_source(text, start + 3, Quotes::Cel).ok_or(start)?;
        holes.push(Hole {
            whole: start..end + 2,
            source: start + 3..end,
        });
        at = end + 2;
    }
    Ok(holes)
}

/// Whether a template's text says that it is of version 1.
pub(super) fn is_version_1(text: &str) -> bool {
    let bare = text.trim_start_matches('\u{feff}');
    let first = bare
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#') && *line != "---");
    if let Some(flow) = first
        .filter(|line| line.starts_with('{') && !line.starts_with("{{"))
        .and_then(|line| bare.find(line))
    {
        return version(bare[flow + 1..].trim_start()).is_some_and(|version| version == "1");
    }
    let mut actions = blocks::extents(bare).peekable();
    let mut line_start = 0;
    for line in bare.split_inclusive('\n') {
        let start = line_start;
        line_start += line.len();
        while actions.next_if(|action| action.end <= start).is_some() {}
        if actions.peek().is_some_and(|action| action.start < start) {
            continue;
        }
        if let Some(version) = version(line) {
            return version == "1";
        }
    }
    false
}

/// The version of a line that begins with `version:`.
fn version(line: &str) -> Option<&str> {
    let rest = ["version", "\"version\"", "'version'"]
        .iter()
        .find_map(|key| line.strip_prefix(key))?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start();
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].split(quote).next(),
        _ => value.split([' ', '\t', '\r', '\n', ',', '}', '#']).next(),
    }
}

/// A text whose `${{ }}` the template language takes for plain text. It is as long, and its lines are the same.
pub(super) struct Masked {
    pub(super) text: String,
    /// What stands for `{{`.
    mask: String,
}

impl Masked {
    pub(super) fn new(text: &str) -> Masked {
        let mask = mask(text);
        let mut masked = String::with_capacity(text.len());
        let mut done = 0;
        while let Some(open) = find(text, done, "{{") {
            if open == 0 || text.as_bytes()[open - 1] != b'$' {
                let end = blocks::end_of_action_at(text, open);
                masked.push_str(&text[done..end]);
                done = end;
                continue;
            }
            let inside = open + 2;
            // An unclosed one is a problem of the scalar that it is in, or nothing but a comment.
            let end = end_of_source(text, inside, Quotes::Yaml)
                .or_else(|| find(text, inside, "}}"))
                .unwrap_or(inside);
            masked.push_str(&text[done..open]);
            masked.push_str(&mask);
            masked.push_str(&text[inside..end].replace("{{", &mask));
            done = end;
        }
        masked.push_str(&text[done..]);
        Masked { text: masked, mask }
    }

    /// A piece of the masked text as it was.
    pub(super) fn unmask(&self, piece: &str) -> String {
        piece.replace(&self.mask, "{{")
    }
}

/// Two control characters, as YAML takes none, that are not in the text.
fn mask(text: &str) -> String {
    let control = || (1..=8).map(char::from);
    control()
        .flat_map(|first| control().map(move |second| format!("{first}{second}")))
        .find(|mask| !text.contains(mask.as_str()))
        .unwrap_or_else(|| "\u{1}\u{1}".into())
}

fn find(text: &str, from: usize, what: &str) -> Option<usize> {
    Some(from + text.get(from..)?.find(what)?)
}

/// How quotes are written where an expression stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Cel,
    /// In YAML, where a quote may have a backslash before it that is not CEL's.
    Yaml,
}

/// Where the `}}` is that ends an expression.
fn end_of_source(text: &str, from: usize, quotes: Quotes) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = from;
    let mut before = ' ';
    while let Some(char) = text.get(at..)?.chars().next() {
        let rest = &text[at..];
        match char {
            '}' if depth == 0 && rest.starts_with("}}") => return Some(at),
            '}' => depth = depth.saturating_sub(1),
            '{' => depth += 1,
            '\\' if quotes == Quotes::Yaml && rest[1..].starts_with('"') => {
                at = find(text, at + 2, "\\\"")? + 2;
                before = '"';
                continue;
            }
            '"' | '\'' => {
                at = end_of_string(text, at, char, matches!(before, 'r' | 'R'))?;
                before = char;
                continue;
            }
            _ => {}
        }
        before = char;
        at += char.len_utf8();
    }
    None
}

/// Behind the closing quote of the string that begins at `at`.
fn end_of_string(text: &str, at: usize, quote: char, is_raw: bool) -> Option<usize> {
    let triple = quote.to_string().repeat(3);
    let closing = if text[at..].starts_with(&triple) {
        triple.as_str()
    } else {
        &triple[..1]
    };
    let mut at = at + closing.len();
    loop {
        let rest = text.get(at..)?;
        if rest.starts_with(closing) {
            return Some(at + closing.len());
        }
        let mut chars = rest.chars();
        let char = chars.next()?;
        at += char.len_utf8();
        if char == '\\' && !is_raw {
            at += chars.next()?.len_utf8();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_ends_at_its_own_braces() {
        for (text, sources) in [
            ("", vec![]),
            ("plain {{ }} $ { $x }}", vec![]),
            ("${{ a }}", vec![" a "]),
            ("x${{a}}-${{ b }}y", vec!["a", " b "]),
            ("${{ {'a': {'b': 1}} }}", vec![" {'a': {'b': 1}} "]),
            ("${{{'a': {'b': 1}}}}", vec!["{'a': {'b': 1}}"]),
            ("${{ '}}' + \"}}\" }}", vec![" '}}' + \"}}\" "]),
            (
                r#"${{ '\'}}' + r'\' + "\"}}" }}"#,
                vec![r#" '\'}}' + r'\' + "\"}}" "#],
            ),
            ("${{ '''a'}}''' }}", vec![" '''a'}}''' "]),
            ("${{ \"${{\" }}", vec![" \"${{\" "]),
            ("é${{ 'é' }}é", vec![" 'é' "]),
        ] {
            let found = holes(text).unwrap();
            let found: Vec<&str> = found.iter().map(|hole| &text[hole.source.clone()]).collect();
            assert_eq!(found, sources, "{text}");
        }
        for (text, at) in [("a ${{ b", 2), ("${{ a }} ${{ 'b }}", 9), ("${{ { }}", 0)] {
            assert_eq!(holes(text), Err(at), "{text}");
        }
    }

    #[test]
    fn the_version_is_that_of_the_first_line_that_gives_one() {
        for text in [
            "version: \"1\"\nname: x\n",
            "version: '1' # new\n",
            "# a\n---\nversion : 1\r\n",
            "\u{feff}version: 1",
            "name: x\n\"version\": \"1\"\n",
            "{version: \"1\", name: x}",
            "# json\n{ \"version\" : \"1\"}",
            "{\n  \"version\": \"1\"\n}",
            "{{/*\nversion: \"0.1\"\n*/}}\nversion: \"1\"\n",
            "a: ${{ x }}\nversion: 1\nversion: 0.1",
        ] {
            assert!(is_version_1(text), "{text}");
        }
        for text in [
            "",
            "version: \"0.1\"\n",
            "version: 1.0\n",
            "version: 11\n",
            "version: {{ .v }}\n",
            "{{/*\nversion: \"1\"\n*/}}\nversion: \"0.1\"\n",
            "  version: 1\n",
            "a: {version: 1}\n",
            "versions: 1\n",
            "version: 0.1\nversion: 1\n",
            "{name: x, version: 1}",
        ] {
            assert!(!is_version_1(text), "{text}");
        }
    }

    #[test]
    fn masking_leaves_only_go_s_actions() {
        for (text, want) in [
            ("${{ a }} {{ .b }}", "$## a }} {{ .b }}"),
            (
                "{{ print \"${{ a }}\" }} ${{ b }}",
                "{{ print \"${{ a }}\" }} $## b }}",
            ),
            (
                "{{/* ${{ a */}}${{ '{{ .b }}' }}",
                "{{/* ${{ a */}}$## '## .b }}' }}",
            ),
            ("\"${{ a == \\\"}} {{\\\" }}\"", "\"$## a == \\\"}} ##\\\" }}\""),
            ("# ${{ open\n{{ .b }}", "# $## open\n## .b }}"),
            ("${{ it's }} {{ .b }}", "$## it's }} {{ .b }}"),
            ("${{", "$##"),
            ("{{ .a", "{{ .a"),
        ] {
            let masked = Masked::new(text);
            assert_eq!(masked.text.replace(&masked.mask, "##"), want);
            assert_eq!(masked.text.len(), text.len());
            assert_eq!(masked.unmask(&masked.text), text);
        }
        let used = Masked::new("\u{1}\u{1} ${{ a }}");
        assert_eq!(used.text, "\u{1}\u{1} $\u{1}\u{2} a }}");
    }
}
