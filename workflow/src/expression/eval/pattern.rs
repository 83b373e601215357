//! Patterns of `matches`: RE2's syntax, as the `regex` crate reads it, without what it would take to look back.

use regex::{Regex, RegexBuilder};

use super::meter::Meter;
use super::{Stop, shortened};

/// Bytes of a pattern that is translated.
const TRANSLATED_BYTES: usize = 64 << 10;
/// What translating a pattern counts as, in bytes.
const TRANSLATING: usize = 8 << 10;
/// What searching a byte counts as, in bytes.
const SEARCHING: usize = 8;

/// The pattern that was used last: in a loop it is nearly always the same.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    last: Option<(String, Regex)>,
}

impl Patterns {
    pub(super) fn is_match(&mut self, text: &str, pattern: &str, meter: &mut Meter) -> Result<bool, Stop> {
        meter.bytes(SEARCHING * text.len() + pattern.len())?;
        if let Some((last, regex)) = &self.last
            && last == pattern
        {
            return Ok(regex.is_match(text));
        }
        meter.bytes(TRANSLATING + SEARCHING * pattern.len())?;
        let regex = translated(pattern).map_err(|why| Stop::failed(format!("matches(): {why}")))?;
        let is_match = regex.is_match(text);
        self.last = Some((pattern.to_owned(), regex));
        Ok(is_match)
    }
}

/// Says, in words, when a text is no pattern.
pub(in super::super) fn is_pattern(pattern: &str) -> Result<(), String> {
    translated(pattern)
        .map(drop)
        .map_err(|why| format!("matches(): {why}"))
}

fn translated(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(TRANSLATED_BYTES)
        .dfa_size_limit(TRANSLATED_BYTES * 16)
        .build()
        .map_err(|error| {
            let why = match error {
                regex::Error::CompiledTooBig(_) => "it is too large when translated".to_owned(),
                other => other.to_string().lines().last().unwrap_or_default().to_owned(),
            };
            format!("{:?} is no pattern: {why}", shortened(pattern))
        })
}
