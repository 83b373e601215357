//! A problem in a template, at its place.

use std::fmt;

use serde::{Deserialize, Serialize};
use yaml::{Finding, Kind, Place};

/// A problem in a template. Several are reported at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong and where: in the template's text for problems of its language, in the rendered text for those of
    /// what it gives.
    pub finding: Finding,
    /// The line that it is in, quoted.
    pub quoted: String,
    /// Which text the place and the quoted line are of.
    #[serde(default)]
    pub text: Text,
}

/// A template has two texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Text {
    /// As it was written.
    #[default]
    Template,
    /// With everything filled in.
    Rendered,
}

impl Problem {
    /// A problem of `source`, which it quotes from.
    pub(super) fn of(text: Text, source: &str, finding: Finding) -> Problem {
        let quoted = finding.place.index().and_then(|line| source.lines().nth(line));
        Problem::quoting(text, quoted.unwrap_or(""), finding)
    }

    /// All problems of `source`, which may be many.
    pub(super) fn all(text: Text, source: &str, findings: Vec<Finding>) -> Vec<Problem> {
        let lines: Vec<&str> = source.lines().collect();
        let quoted = |finding: Finding| {
            let quoted = finding.place.index().and_then(|line| lines.get(line));
            Problem::quoting(text, quoted.unwrap_or(&""), finding)
        };
        findings.into_iter().map(quoted).collect()
    }

    fn quoting(text: Text, quoted: &str, finding: Finding) -> Problem {
        const QUOTED_CHARS: usize = 200;
        Problem {
            finding,
            quoted: quoted.chars().take(QUOTED_CHARS).collect(),
            text,
        }
    }

    /// A problem at a line and column of `source`; 0: unknown.
    pub(super) fn at(
        text: Text,
        source: &str,
        (line, column): (usize, usize),
        kind: Kind,
        message: impl Into<String>,
    ) -> Problem {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let place = Place {
            line: number(line),
            column: number(column),
        };
        Problem::of(text, source, Finding::new(place, kind, message))
    }

    /// A problem at a byte of `source`.
    pub(super) fn at_offset(
        text: Text,
        source: &str,
        offset: usize,
        kind: Kind,
        message: impl Into<String>,
    ) -> Problem {
        let place = Place::of_byte(source, offset);
        Problem::of(text, source, Finding::new(place, kind, message))
    }
}

/// `template line 3, column 8: ...`, and below it the line.
impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.text {
            Text::Template => "template",
            Text::Rendered => "rendered",
        };
        let Finding { place, message, .. } = &self.finding;
        if place.line == 0 {
            return write!(formatter, "{text}: {message}");
        }
        write!(
            formatter,
            "{text} line {}, column {}: {message}",
            place.line, place.column
        )?;
        if self.quoted.trim().is_empty() {
            Ok(())
        } else {
            write!(formatter, "\n    {}", self.quoted)
        }
    }
}
