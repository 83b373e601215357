//! Texts from outside, cut to what is kept of them.

/// Cuts `text` to at most `max_bytes`, and says so with `mark` at its end.
pub(crate) fn cut(text: &mut String, max_bytes: usize, mark: &str) {
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
    fn cuts_between_characters_and_only_what_is_too_long() {
        for (text, want) in [("", ""), ("aé", "aé"), ("aéb", "aé…"), ("abé", "ab…")] {
            let mut text = text.to_owned();
            cut(&mut text, 3, "…");
            assert_eq!(text, want);
        }
    }
}
