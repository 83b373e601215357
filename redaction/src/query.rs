//! Parameters that are secret, in a query or a fragment.

use std::borrow::Cow;

use crate::HIDDEN;

/// Levels of percent-encoding that are looked into; what is encoded more often is not read as a URL by anybody.
pub(crate) const NESTED: u8 = 3;

/// In a parameter's name they make it secret wherever they stand.
const TELLING: [&str; 12] = [
    "accesskey",
    "accessid",
    "apikey",
    "authoriz",
    "credential",
    "keyid",
    "keypair",
    "passphrase",
    "passw",
    "secret",
    "signature",
    "token",
];
/// They do as a word of the name: `sig` of Azure, `key`, `X-Goog-Auth`.
const WORDS: [&str; 17] = [
    "auth",
    "bearer",
    "code",
    "hmac",
    "jwt",
    "key",
    "otp",
    "pass",
    "pin",
    "policy",
    "pw",
    "pwd",
    "session",
    "sessionid",
    "sid",
    "sig",
    "sign",
];

/// `word` without the values of its secret parameters.
pub(crate) fn hidden(word: &str, nested: u8) -> String {
    let Some(begin) = word.find(['?', '#']) else {
        return word.to_owned();
    };
    let (before, mut rest) = word.split_at(begin);
    let mut shown = before.to_owned();
    while !rest.is_empty() {
        let separator = separator(rest).unwrap_or(0);
        let (mark, parameter) = rest.split_at(separator);
        shown.push_str(mark);
        let end = next_separator(parameter);
        let (parameter, after) = parameter.split_at(end);
        match parameter.split_once('=') {
            Some((name, value)) if is_secret(name) => {
                // A `;` separates nothing today: all up to the next parameter is the value.
                let more = after.find(['&', '#', '?']).unwrap_or(after.len());
                let value_and_more = format!("{value}{}", &after[..more]);
                let value = value_and_more.trim_end_matches(CLOSING);
                let closing = &value_and_more[value.len()..];
                shown.push_str(name);
                shown.push('=');
                shown.push_str(if value.is_empty() { "" } else { HIDDEN });
                shown.push_str(closing);
                rest = &after[more..];
            }
            Some((name, value)) => {
                shown.push_str(name);
                shown.push('=');
                shown.push_str(&shown_value(value, nested));
                rest = after;
            }
            None => {
                shown.push_str(parameter);
                rest = after;
            }
        }
    }
    shown
}

/// What a sentence sets behind a URL.
const CLOSING: [char; 8] = ['\'', ')', ']', '}', ',', '.', ':', '\\'];

/// Bytes of the separator at the start; Go's JSON writes `&` as an escape.
fn separator(rest: &str) -> Option<usize> {
    if rest.starts_with("\\u0026") {
        return Some("\\u0026".len());
    }
    let first = rest.chars().next()?;
    matches!(first, '?' | '&' | '#' | ';').then_some(1)
}

fn next_separator(parameter: &str) -> usize {
    let plain = parameter.find(['?', '&', '#', ';']).unwrap_or(parameter.len());
    parameter[..plain].find("\\u0026").unwrap_or(plain)
}

/// A value may be a URL itself, percent-encoded.
fn shown_value(value: &str, nested: u8) -> Cow<'_, str> {
    let decoded = decoded(value);
    if decoded == value {
        return Cow::Borrowed(value);
    }
    let is_clean = nested > 0 && crate::hidden(&decoded, nested - 1) == decoded;
    Cow::Borrowed(if is_clean { value } else { HIDDEN })
}

fn is_secret(name: &str) -> bool {
    let name = decoded(name);
    let letters: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    TELLING.iter().any(|telling| letters.contains(telling))
        || WORDS.contains(&letters.as_str())
        || words(&name).any(|word| WORDS.contains(&word.to_ascii_lowercase().as_str()))
}

/// The words of `X-Amz-Signature`, `access_token`, `accessKey`.
fn words(name: &str) -> impl Iterator<Item = &str> {
    let mut from = 0;
    let mut ends: Vec<&str> = Vec::new();
    let mut before_is_small = false;
    for (at, letter) in name.char_indices() {
        if !letter.is_ascii_alphanumeric() {
            ends.push(&name[from..at]);
            from = at + letter.len_utf8();
        } else if letter.is_ascii_uppercase() && before_is_small {
            ends.push(&name[from..at]);
            from = at;
        }
        before_is_small = letter.is_ascii_lowercase();
    }
    ends.push(&name[from..]);
    ends.into_iter()
}

/// Without percent-encoding, once (RFC 3986 section 2.1).
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
