//! [`redacted`]: a text without the credentials of the URLs that stand in it.
//!
//! For what is shown: messages, log lines, states. Whoever needs the real value keeps the real value. Two things are
//! hidden: the userinfo of a URL, whole, as a token may stand in place of the user (RFC 3986 section 3.2.1), and the
//! values of query and fragment parameters whose names say that they are secret, such as those of presigned URLs.
//!
//! [`Secrets`]: values that are known to be secret, hidden in any text.
//!
//! Pure: reads no file, no clock and no network.

#![forbid(unsafe_code)]

mod authority;
mod query;
mod secrets;

use std::borrow::Cow;
use std::fmt;

pub use secrets::Secrets;

/// Stands where a credential stood. Legal in a userinfo and in a query.
pub const HIDDEN: &str = "***";

/// `text` with [`HIDDEN`] for every credential in its URLs; all else is as it was.
///
/// A URL may stand anywhere and be written as parsers forgive it: with backslashes, with one slash, without a scheme
/// behind `http_proxy=`, percent-encoded in the parameter of another one. Doing it again changes nothing.
pub fn redacted(text: &str) -> Cow<'_, str> {
    if !text.contains(['@', '?', '#', '%']) {
        return Cow::Borrowed(text);
    }
    hidden(text, query::NESTED)
}

/// The same for a text that is one URL, whatever characters are in it.
///
/// For text that no parser took: a password with a blank in it ends no URL here.
pub fn redacted_url(url: &str) -> String {
    word(url, query::NESTED)
}

/// What `T` displays, redacted.
#[derive(Clone, Copy, Debug)]
pub struct Redacted<T>(pub T);

impl<T: fmt::Display> fmt::Display for Redacted<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&redacted(&self.0.to_string()))
    }
}

/// `nested` more levels of percent-encoding are looked into.
fn hidden(text: &str, nested: u8) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut unchanged_from = 0;
    let mut at = 0;
    for piece in text.split_inclusive(ends_a_word) {
        let whole = piece.trim_end_matches(ends_a_word);
        if whole.contains(['@', '?', '#', '%']) {
            let clean = word(whole, nested);
            if clean != whole {
                shown.push_str(&text[unchanged_from..at]);
                shown.push_str(&clean);
                unchanged_from = at + whole.len();
            }
        }
        at += piece.len();
    }
    if unchanged_from == 0 && shown.is_empty() {
        return Cow::Borrowed(text);
    }
    shown.push_str(&text[unchanged_from..]);
    Cow::Owned(shown)
}

/// What no URL has in it (RFC 3986 appendix C), and what a text sets around one.
fn ends_a_word(letter: char) -> bool {
    letter.is_whitespace() || letter.is_control() || matches!(letter, '"' | '<' | '>' | '`' | '“' | '”')
}

/// Looks at a word that changed so often again.
const AGAIN: u32 = 8;

/// Where a credential went, what is left may read as another URL: that is hidden as it would be later.
fn word(word: &str, nested: u8) -> String {
    let once = |word: &str| query::hidden(&authority::hidden(word), nested);
    let mut shown = once(word);
    if shown == word {
        return shown;
    }
    for _ in 0..AGAIN {
        let again = once(&shown);
        if again == shown {
            return shown;
        }
        shown = again;
    }
    // Nobody writes such a thing, but for whoever wants something to be shown.
    HIDDEN.to_owned()
}

#[cfg(test)]
mod tests;
