//! Values that are known to be secret, found and hidden in any text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde_json::{Map, Value};

use crate::HIDDEN;

/// Values that nobody is to see, ready to be looked for.
///
/// Hidden is a value as it is, each of its lines (what runs prints line by line), and the value as JSON writes it. A value
/// that was changed in another way, by base64 or percent-encoding or a shell's quotes, is not known for one.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Each of at least [`Secrets::LEAST_BYTES`].
    texts: Vec<String>,
    /// Indexes of `texts` by their first bytes, so that a text is gone over once however many there are.
    by_start: HashMap<[u8; Secrets::LEAST_BYTES], Vec<usize>>,
}

impl Secrets {
    /// Fewer bytes stand in any text by chance: they are not looked for.
    pub const LEAST_BYTES: usize = 4;

    /// Secrets with these values.
    pub fn new<V: AsRef<str>>(values: impl IntoIterator<Item = V>) -> Secrets {
        let mut texts = Vec::new();
        for value in values {
            let value = value.as_ref();
            texts.push(value.to_owned());
            texts.push(in_json(value));
            texts.extend(value.split(['\n', '\r']).map(|line| line.trim().to_owned()));
        }
        texts.retain(|text| text.len() >= Secrets::LEAST_BYTES);
        texts.sort_unstable();
        texts.dedup();
        let mut by_start: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, text) in texts.iter().enumerate() {
            if let Some(start) = text.as_bytes().first_chunk() {
                by_start.entry(*start).or_default().push(index);
            }
        }
        Secrets { texts, by_start }
    }

    /// Nothing is hidden.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// `text` with [`HIDDEN`] for every value in it; values that overlap are hidden as one.
    pub fn hidden<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let found = self.found(text.as_bytes());
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut shown = String::with_capacity(text.len());
        let mut at = 0;
        for range in found {
            // Values are whole texts, so that they begin and end between characters.
            shown.push_str(text.get(at..range.start).unwrap_or_default());
            shown.push_str(HIDDEN);
            at = range.end;
        }
        shown.push_str(text.get(at..).unwrap_or_default());
        Cow::Owned(shown)
    }

    /// Hides every value in the texts, names and numbers of a JSON value.
    pub fn hide_in(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(hidden) = self.hidden(text) {
                    *text = hidden;
                }
            }
            Value::Number(number) => {
                if let Cow::Owned(hidden) = self.hidden(&number.to_string()) {
                    *value = Value::String(hidden);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide_in(item)),
            Value::Object(fields) => self.hide_in_object(fields),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// The same for an object.
    pub fn hide_in_object(&self, fields: &mut Map<String, Value>) {
        if self.is_empty() {
            return;
        }
        fields.values_mut().for_each(|field| self.hide_in(field));
        if fields
            .keys()
            .any(|name| matches!(self.hidden(name), Cow::Owned(_)))
        {
            let shown = std::mem::take(fields).into_iter();
            *fields = shown
                .map(|(name, field)| (self.hidden(&name).into_owned(), field))
                .collect();
        }
    }

    /// Bytes of `text` that may be shown without what follows: a piece of that length ends in no value, and in none that
    /// what follows may complete.
    pub fn whole(&self, text: &[u8]) -> usize {
        let longest = self.texts.iter().map(String::len).max().unwrap_or(0);
        let from = text.len().saturating_sub(longest);
        let is_begun = |at: &usize| {
            let rest = text.get(*at..).unwrap_or_default();
            let mut values = self.texts.iter().map(String::as_bytes);
            values.any(|value| value.len() > rest.len() && value.starts_with(rest))
        };
        let mut end = (from..text.len()).find(is_begun).unwrap_or(text.len());
        while let Some(range) = self
            .found(text)
            .into_iter()
            .find(|range| range.start < end && end < range.end)
        {
            end = range.start;
        }
        end
    }

    /// Where values stand, in order, without overlaps.
    fn found(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        if self.is_empty() {
            return found;
        }
        for at in 0..text.len() {
            let rest = text.get(at..).unwrap_or_default();
            let Some(start) = rest.first_chunk() else { break };
            let Some(values) = self.by_start.get(start) else {
                continue;
            };
            let values = values.iter().filter_map(|index| self.texts.get(*index));
            let longest = values.filter(|value| rest.starts_with(value.as_bytes()));
            let Some(length) = longest.map(String::len).max() else {
                continue;
            };
            match found.last_mut().filter(|last| at < last.end) {
                Some(last) => last.end = last.end.max(at + length),
                None => found.push(at..at + length),
            }
        }
        found
    }
}

/// Says how many there are, and nothing of them.
impl fmt::Debug for Secrets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Secrets({HIDDEN})")
    }
}

/// What stands between the quotes where JSON has this text (RFC 8259 section 7, the short escapes).
fn in_json(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' => written.push_str("\\\""),
            '\\' => written.push_str("\\\\"),
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            other => written.push(other),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(values: &[&str], text: &str, want: &str) {
        assert_eq!(Secrets::new(values).hidden(text), want);
    }

    #[test]
    fn a_value_is_hidden_wherever_it_stands() {
        check(&["hunter22"], "hunter22", "***");
        check(&["hunter22"], "a=hunter22;hunter22", "a=***;***");
        check(&["hunter22"], "hunter2 is another", "hunter2 is another");
        check(&["pässwörd"], "das Pässwörd pässwörd", "das Pässwörd ***");
        check(&["one-value", "another"], "another one-value", "*** ***");
    }

    #[test]
    fn values_that_overlap_leave_nothing_of_each_other() {
        check(&["abcdef", "cdefgh"], "abcdefgh", "***");
        check(&["abcd", "abcdef"], "abcdef", "***");
        check(&["aaaa"], "aaaaaa", "***");
    }

    #[test]
    fn lines_of_a_value_are_hidden_each_and_as_json_writes_them() {
        let key = "-----BEGIN KEY-----\r\n  c2VjcmV0\nx}\n";
        check(&[key], "c2VjcmV0 of -----BEGIN KEY-----", "*** of ***");
        check(&[key], "x}", "x}");
        check(&["a\"b\\c"], r#"{"p":"a\"b\\c"}"#, r#"{"p":"***"}"#);
    }

    #[test]
    fn what_is_too_short_is_not_looked_for() {
        assert!(Secrets::new(["abc", ""]).is_empty());
        check(&["abc"], "abc", "abc");
    }

    #[test]
    fn json_keeps_its_shape() {
        let secrets = Secrets::new(["1234", "hunter\"22"]);
        let mut value = serde_json::json!({
            "a": ["say hunter\"22", 51234, 12, true, null],
            "x1234": {"b": "hunter"}
        });
        secrets.hide_in(&mut value);
        assert_eq!(
            value,
            serde_json::json!({"a": ["say ***", "5***", 12, true, null], "x***": {"b": "hunter"}})
        );
    }

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(format!("{:?}", Secrets::new(["hunter22"])), "Secrets(***)");
    }

    #[test]
    fn a_piece_ends_before_what_may_become_a_value() {
        let secrets = Secrets::new(["hunter22", "2222"]);
        for (text, want) in [
            ("say hunter", "say ".len()),
            ("say hunter22", "say ".len()),
            ("say hunter22!", "say hunter22!".len()),
            ("say h", "say ".len()),
            ("say", "say".len()),
            ("", 0),
        ] {
            assert_eq!(secrets.whole(text.as_bytes()), want, "{text}");
        }
        assert_eq!(Secrets::default().whole(b"say"), 3);
    }

    proptest! {
        /// However a text is cut into pieces, as it is where a line is too long, no value comes through.
        #[test]
        fn no_value_comes_through_in_pieces(
            values in prop::collection::vec("[ab]{4,9}", 1..4),
            text in "[abc]{0,60}",
            least in 1_usize..12,
        ) {
            let secrets = Secrets::new(&values);
            let (mut shown, mut partial) = (String::new(), Vec::new());
            for byte in text.bytes() {
                partial.push(byte);
                if partial.len() >= least {
                    let piece: Vec<u8> = partial.drain(..secrets.whole(&partial)).collect();
                    shown.push_str(&secrets.hidden(&String::from_utf8(piece).unwrap()));
                }
            }
            shown.push_str(&secrets.hidden(&String::from_utf8(partial).unwrap()));
            for value in &values {
                prop_assert!(!shown.contains(value.as_str()), "{value} in {shown}");
            }
            // All else is there.
            prop_assert_eq!(
                shown.matches('c').count(),
                text.matches('c').count()
            );
        }

        #[test]
        fn any_text_is_taken(value in any::<String>(), text in any::<String>()) {
            let secrets = Secrets::new([&value]);
            let shown = secrets.hidden(&text).into_owned();
            prop_assert!(secrets.whole(text.as_bytes()) <= text.len());
            if value.len() >= Secrets::LEAST_BYTES && !value.contains('*') {
                prop_assert!(!shown.contains(&value));
            }
        }
    }
}
