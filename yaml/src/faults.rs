//! What makes a text no YAML, in our words and at the place that is to be mended.
//!
//! A scanner finds a quote or a bracket that is not closed where it can no longer go on, which is lines below. The place
//! that somebody has to look at is where it was opened.

use serde_saphyr::granit_parser::{
    ErrorKind, Marker, Options, ScanError, Scanner, Span, StrInput, TokenType,
};

use crate::read::place_of;
use crate::{Finding, Kind, Place};

/// A fault of the syntax as a finding.
pub(crate) fn in_words(text: &str, error: &ScanError) -> Finding {
    let found = place_of(error.marker());
    let (place, message) = told(text, error, found);
    match error.kind() {
        ErrorKind::RecursionLimitExceeded | ErrorKind::AnchorCountOverflow => {
            Finding::new(place, Kind::TooMuch, message)
        }
        _ => Finding::new(place, Kind::NotYaml, format!("bad YAML: {message}")),
    }
}

fn told(text: &str, error: &ScanError, found: Place) -> (Place, String) {
    use ErrorKind as E;
    let here = |message: &str| (found, message.to_owned());
    if let Some(open) = open_bracket(text, error.marker()).filter(|(.., place)| place.line < found.line)
        && matches!(
            error.kind(),
            E::MappingValueNotAllowed | E::InvalidColonPlacement | E::SimpleKeyExpected | E::InvalidSimpleKey
        )
    {
        return not_closed(open);
    }
    match error.kind() {
        E::UnclosedQuotedScalar
        | E::DocumentIndicatorInQuotedScalar
        | E::InvalidQuotedScalarIndent
        | E::InvalidTrailingSingleQuotedScalar
        | E::InvalidTrailingDoubleQuotedScalar => quote(text, error, found),
        E::UnclosedFlowCollection { .. }
        | E::UnexpectedEofFlowSequence
        | E::UnexpectedEofFlowMapping
        | E::UnexpectedEofImplicitFlowMapping
        | E::ExpectedFlowMappingSeparator
        | E::ExpectedFlowSequenceSeparator
        | E::BlockEntryInFlowCollection
        | E::InvalidFlowScalarIndent => bracket(text, error, found),
        E::MismatchedFlowCollectionEnd { open, close } => {
            let message = format!("this {open} is closed by a {close}: one of the two is wrong");
            (found, message)
        }
        E::MisplacedFlowCollectionEnd => here("this bracket closes nothing"),
        E::MappingValueNotAllowed | E::InvalidColonPlacement | E::MappingKeyNotAllowed => here(
            "a second key in one line, or a key that is indented wrongly: put a text with `: ` in it in quotes, and each key \
             on a line of its own",
        ),
        E::SimpleKeyExpected | E::InvalidSimpleKey | E::ExpectedBlockMappingKey => here(
            "this is no key: value like what stands above it: look at its indent, and for a `:` that is missing here or in the \
             line before",
        ),
        E::ExpectedBlockSequenceEntry | E::BlockSequenceEntryNotAllowed => here(
            "an item of a list (- ) cannot stand here: look at its indent, and begin a list on a line of its own",
        ),
        E::InvalidIndentation | E::InvalidBlockScalarIndent => {
            here("this line is indented less or more than what it belongs to")
        }
        E::TabNotAllowed
        | E::TabInBlockIndentation
        | E::TabInIndentation
        | E::TabAtBlockScalarStart
        | E::TabInPlainScalar => tab(text, found),
        E::UnknownAnchor => here(
            "this alias (*name) stands for nothing: no &name is before it; put a text that begins with * in quotes",
        ),
        E::MissingAnchorOrAliasName => {
            here("a name is missing behind this & or *: put a text that begins with one in quotes")
        }
        E::UnexpectedCharacter { character } => {
            let message = format!("{character:?} cannot stand here: put the text in quotes");
            (found, message)
        }
        E::PlainScalarStartsWithDashFlowIndicator | E::UnexpectedEndOfPlainScalar => {
            here("a text cannot begin so without quotes")
        }
        E::CommentInterceptedScalar => here("a comment stands within a text of several lines"),
        E::CommentNotSeparated => here("a blank is missing before this #"),
        E::UnknownQuotedScalarEscape
        | E::InvalidQuotedScalarHexEscape
        | E::InvalidLowSurrogateHexEscape
        | E::InvalidLowSurrogate
        | E::MissingLowSurrogate
        | E::UnpairedLowSurrogate
        | E::InvalidUnicodeEscape => {
            here("this \\ begins no escape that there is: write \\\\ for a backslash, or use single quotes")
        }
        E::InvalidBlockScalarHeader | E::ZeroBlockScalarIndent => {
            here("behind this | or > nothing but -, + and an indent from 1 to 9 may stand")
        }
        E::UndeclaredTagHandle
        | E::ExpectedTagBang
        | E::InvalidTagTerminator
        | E::MissingTagUri
        | E::UnclosedVerbatimTag
        | E::InvalidTagEscape
        | E::InvalidGlobalTagCharacter => {
            here("this ! begins no tag: put a text that begins with ! in quotes")
        }
        E::RecursionLimitExceeded => here("nested too deeply"),
        E::InvalidDocumentEnd => here("nothing may stand behind ... in a line"),
        E::BomInsideDocument => here("a byte-order mark stands within the text: take it out"),
        E::DuplicateVersionDirective
        | E::UnsupportedYamlMajorVersion
        | E::DuplicateTagDirective
        | E::ExpectedDocumentStart
        | E::MissingDocumentEndBeforeDirective
        | E::InvalidDirectiveTerminator
        | E::MissingYamlVersionSeparator
        | E::MissingDirectiveName
        | E::InvalidDirectiveName
        | E::YamlVersionTooLong
        | E::MissingYamlVersion => {
            here("this is no directive (%YAML, %TAG) as YAML 1.2 has them: leave it out")
        }
        _ => here("this cannot be read from here on"),
    }
}

/// A quoted text that is not closed, or behind which something stands.
fn quote(text: &str, error: &ScanError, found: Place) -> (Place, String) {
    let Some(opened) = opened_quote(text, error.marker()) else {
        return (found, "a quote is not closed".to_owned());
    };
    let quote = text[opened..].chars().next().unwrap_or('"');
    let place = Place::of_byte(text, opened);
    let message = match error.kind() {
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar
            if place.line == found.line =>
        {
            let escaped = if quote == '"' { "\\\"" } else { "''" };
            format!(
                "the text that this {quote} opens ends before column {}, and something stands behind it: write {escaped} for a \
                 {quote} within a text",
                found.column
            )
        }
        _ => format!("this {quote} is not closed: write a {quote} where its text ends"),
    };
    (place, message)
}

/// Where the quoted text begins in which the scanner gave up: behind the last thing that it could read.
fn opened_quote(text: &str, at: &Marker) -> Option<usize> {
    let mut end = 0;
    for (span, _) in tokens(text, at) {
        end = end.max(span.end.byte_offset()?);
    }
    let mut rest = end;
    for line in text.get(end..)?.split_inclusive('\n') {
        // The last thing may be the mark of a key or an item, whose own letter comes first.
        let code = line.trim_start_matches([' ', '\t', ':', '-', '?', ',', '[', '{']);
        if !code.is_empty() && !code.starts_with('#') {
            return Some(rest + line.len() - code.len() + code.find(['"', '\''])?);
        }
        rest += line.len();
    }
    None
}

/// A bracket that is not closed.
fn bracket(text: &str, error: &ScanError, found: Place) -> (Place, String) {
    match (open_bracket(text, error.marker()), error.kind()) {
        (
            Some((opening, closing, place)),
            ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::ExpectedFlowSequenceSeparator,
        ) if place.line == found.line => {
            let message = format!(
                "a , is missing before this, or the {closing} of the {opening} in column {}",
                place.column
            );
            (found, message)
        }
        (Some(open), _) => not_closed(open),
        (None, _) => (found, "a [ or { is not closed".to_owned()),
    }
}

fn not_closed((opening, closing, place): (char, char, Place)) -> (Place, String) {
    let message = format!("this {opening} is not closed: write a {closing} at its end");
    (place, message)
}

/// The innermost bracket that is open at a place, how it is closed, and where it stands.
fn open_bracket(text: &str, at: &Marker) -> Option<(char, char, Place)> {
    let mut open = Vec::new();
    for (span, token) in tokens(text, at) {
        match token {
            TokenType::FlowSequenceStart => open.push(('[', ']', place_of(&span.start))),
            TokenType::FlowMappingStart => open.push(('{', '}', place_of(&span.start))),
            TokenType::FlowSequenceEnd | TokenType::FlowMappingEnd => drop(open.pop()),
            _ => {}
        }
    }
    open.pop()
}

/// What the scanner reads before it comes to a place.
fn tokens<'t>(text: &'t str, at: &Marker) -> impl Iterator<Item = (Span, TokenType<'t>)> {
    let (line, column) = (at.line(), at.col());
    let mut options = Options::default();
    options.set_emit_comments(false);
    Scanner::with_options(StrInput::new(text), options)
        .map_while(|token| Some(token.ok()?.into_parts()))
        .take_while(move |(span, _)| {
            (span.start.line(), span.start.col()) < (line, column) || span.start.line() == 0
        })
}

/// A tab where only blanks indent: the first one from where the text begins in which it was found.
fn tab(text: &str, found: Place) -> (Place, String) {
    let from = usize::try_from(found.line.saturating_sub(1)).unwrap_or(usize::MAX);
    let indented = text.lines().enumerate().skip(from).find_map(|(index, line)| {
        let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        Some((index, indent.find('\t')?))
    });
    let number = |number: usize| u32::try_from(number + 1).unwrap_or(u32::MAX);
    let place = indented.map_or(found, |(line, column)| Place {
        line: number(line),
        column: number(column),
    });
    (
        place,
        "a tab indents this line, and YAML takes blanks only".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use crate::{Limits, parse};

    const LIMITS: Limits = Limits {
        nodes: 1000,
        bytes: 10_000,
    };

    #[track_caller]
    fn check(text: &str, line: u32, column: u32, message: &str) {
        let documents = parse(text, LIMITS);
        let last = documents.last().expect("a document");
        let found = last.problems.last().expect("a problem");
        let want = (line, column, format!("bad YAML: {message}"));
        assert_eq!(
            (found.place.line, found.place.column, found.message.clone()),
            want,
            "{text}"
        );
    }

    #[test]
    fn a_quote_is_told_where_it_was_opened() {
        let unclosed = "this \" is not closed: write a \" where its text ends";
        check("a: 1\nb: \"x\nc: 2\nd: 3\n", 2, 4, unclosed);
        check("a:\n- b: \"x\n  c: \"y\"\n", 2, 6, unclosed);
        check("# \"\na: # \"\n  \"x\n", 3, 3, unclosed);
        check("a: \"x\n---\nb: 1\n", 1, 4, unclosed);
        check("- é: \"x\n", 1, 6, unclosed);
        check(
            "- 'x\n- y\n",
            1,
            3,
            "this ' is not closed: write a ' where its text ends",
        );
        let behind = "the text that this \" opens ends before column 7, and something stands behind it: write \\\" for a \" \
                      within a text";
        check("a: \"x\"y\"\n", 1, 4, behind);
        let flow = "the text that this \" opens ends before column 13, and something stands behind it: write \\\" for a \" \
                    within a text";
        check("{a: \"x, b: \"y\"}\n", 1, 5, flow);
    }

    #[test]
    fn a_bracket_is_told_where_it_was_opened() {
        check(
            "a: [1, 2\nb: 3\n",
            1,
            4,
            "this [ is not closed: write a ] at its end",
        );
        check(
            "a: {b: [1, 2\n",
            1,
            4,
            "this { is not closed: write a } at its end",
        );
        check(
            "a: {b: [1, 2]\nc: d\n",
            1,
            4,
            "this { is not closed: write a } at its end",
        );
        check(
            "a: [1, {2, 3]\n",
            1,
            8,
            "this { is closed by a ]: one of the two is wrong",
        );
        check("a: [1 2]]\n", 1, 9, "this bracket closes nothing");
    }

    #[test]
    fn what_is_no_yaml_is_said_in_our_words() {
        let two = "a second key in one line, or a key that is indented wrongly: put a text with `: ` in it in quotes, and each key on a \
                   line of its own";
        check("a: b: c\n", 1, 5, two);
        check("a: 1\n  b: 2\n", 2, 4, two);
        check(
            "a: 1\n\tb: 2\n",
            2,
            1,
            "a tab indents this line, and YAML takes blanks only",
        );
        check(
            "a:\n  b: 1\n \tc: 2\n",
            3,
            2,
            "a tab indents this line, and YAML takes blanks only",
        );
        let alias = "this alias (*name) stands for nothing: no &name is before it; put a text that begins with * in quotes";
        check("a: *x\n", 1, 4, alias);
        check("a: @x\n", 1, 4, "'@' cannot stand here: put the text in quotes");
        check(
            "a: \"\\q\"\n",
            1,
            4,
            "this \\ begins no escape that there is: write \\\\ for a backslash, or use single quotes",
        );
        let key = "this is no key: value like what stands above it: look at its indent, and for a `:` that is missing here or in \
                   the line before";
        check("a: 1\nb\nc: 2\n", 2, 1, key);
    }
}
