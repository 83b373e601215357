//! Texts from outside, cut to what is kept of them.

use std::borrow::Cow;

/// Cuts `text` to at most `max_bytes`, and says so with `mark` at its end. Credentials of URLs in it are not kept.
pub(crate) fn cut(text: &mut String, max_bytes: usize, mark: &str) {
    // Before it is cut: half a URL is not known for one.
    if let Cow::Owned(clean) = redaction::redacted(text) {
        *text = clean;
    }
    if text.len() > max_bytes {
        let end = (0..=max_bytes)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        text.truncate(end);
        text.push_str(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_kept() {
        let mut text = "get http://u:secret@h/?sig=1".to_owned();
        cut(&mut text, 20, "…");
        assert_eq!(text, "get http://***@h/?si…");
    }

    #[test]
    fn cuts_between_characters_and_only_what_is_too_long() {
        for (text, want) in [("", ""), ("aé", "aé"), ("aéb", "aé…"), ("abé", "ab…")] {
            let mut text = text.to_owned();
            cut(&mut text, 3, "…");
            assert_eq!(text, want);
        }
    }
}
