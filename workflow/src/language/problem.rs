//! A problem in a template, at its place.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A problem in a template. Several are reported at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// 1-based; of the template's text for rendering problems, of the rendered text for YAML ones. 0: unknown.
    pub line: u32,
    pub column: u32,
    /// What is wrong, with the value, and what would be right.
    pub message: String,
    /// The line that it is in, quoted.
    pub quoted: String,
    /// Which text `line`, `column` and `quoted` are of.
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
    /// A problem at a line and column of `source`, which it quotes from.
    pub(super) fn at(
        text: Text,
        source: &str,
        line: usize,
        column: usize,
        message: impl Into<String>,
    ) -> Problem {
        let quoted = line
            .checked_sub(1)
            .and_then(|before| source.lines().nth(before))
            .unwrap_or("");
        Problem::quoting(text, quoted, line, column, message)
    }

    /// A problem in a line that is known.
    pub(super) fn quoting(
        text: Text,
        quoted: &str,
        line: usize,
        column: usize,
        message: impl Into<String>,
    ) -> Problem {
        const QUOTED_CHARS: usize = 200;
        Problem {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            message: message.into(),
            quoted: quoted.chars().take(QUOTED_CHARS).collect(),
            text,
        }
    }

    /// A problem at a byte of `source`.
    pub(super) fn at_offset(text: Text, source: &str, offset: usize, message: impl Into<String>) -> Problem {
        let mut offset = offset.min(source.len());
        while !source.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &source[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        Problem::at(
            text,
            source,
            line,
            before[line_start..].chars().count() + 1,
            message,
        )
    }
}

/// `template line 3, column 8: ...`, and below it the line.
impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.text {
            Text::Template => "template",
            Text::Rendered => "rendered",
        };
        if self.line == 0 {
            return write!(formatter, "{text}: {}", self.message);
        }
        write!(
            formatter,
            "{text} line {}, column {}: {}",
            self.line, self.column, self.message
        )?;
        if self.quoted.trim().is_empty() {
            Ok(())
        } else {
            write!(formatter, "\n    {}", self.quoted)
        }
    }
}
