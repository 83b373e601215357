//! A row as a line of JSON, as exports and archives have it: text as text, anything else in base64.

use bytes::Bytes;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::KeyValue;

/// The longest line of a store's row: the largest value, every byte of it escaped in six characters, and its key.
pub(crate) const MAX_LINE_BYTES: u64 = 8 * crate::MAX_COMMIT_BYTES as u64;

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    modified: u64,
}

/// Why a line is no row, in words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoRow(String);

/// The row's line, with its end.
pub fn to_line(row: &KeyValue) -> Vec<u8> {
    let (key, key_base64) = encoded(&row.key);
    let (value, value_base64) = encoded(&row.value);
    let line = Line {
        key,
        key_base64,
        value,
        value_base64,
        modified: row.modified,
    };
    let mut text = serde_json::to_vec(&line).expect("text and numbers become JSON");
    text.push(b'\n');
    text
}

/// The row of a line, which is given without its end.
///
/// # Errors
/// When the line is no JSON object with one key, one value and a revision.
pub fn from_line(text: &[u8]) -> Result<KeyValue, NoRow> {
    let line: Line = serde_json::from_slice(text).map_err(|error| NoRow(error.to_string()))?;
    let decoded = |text: Option<String>, base64: Option<String>| match (text, base64) {
        (Some(text), None) => Ok(Bytes::from(text)),
        (None, Some(base64)) => BASE64
            .decode(base64.as_bytes())
            .map(Bytes::from)
            .map_err(|error| NoRow(error.to_string())),
        _ => Err(NoRow("it has not one key and one value".into())),
    };
    Ok(KeyValue {
        key: decoded(line.key, line.key_base64)?,
        value: decoded(line.value, line.value_base64)?,
        modified: line.modified,
    })
}

fn encoded(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64.encode(bytes))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_become_a_line_and_come_back() {
        for (key, value, want) in [
            (
                &b"a/b"[..],
                &b"{\"x\":1}"[..],
                r#"{"key":"a/b","value":"{\"x\":1}","modified":7}"#,
            ),
            (b"\xff", b"", r#"{"key_base64":"/w==","value":"","modified":7}"#),
            (
                b"k",
                b"a\x80",
                r#"{"key":"k","value_base64":"YYA=","modified":7}"#,
            ),
            (
                "\n\0é".as_bytes(),
                b"v",
                r#"{"key":"\n\u0000é","value":"v","modified":7}"#,
            ),
        ] {
            let row = KeyValue {
                key: Bytes::from_static(key),
                value: Bytes::from_static(value),
                modified: 7,
            };
            let line = to_line(&row);
            assert_eq!(String::from_utf8(line.clone()).unwrap(), format!("{want}\n"));
            assert_eq!(from_line(&line[..line.len() - 1]).unwrap(), row);
        }
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"key":"a","modified":1}"#,
            r#"{"key":"a","key_base64":"","value":"","modified":1}"#,
            r#"{"key_base64":"?","value":"","modified":1}"#,
            r#"{"key":"a","value":"","modified":-1}"#,
            r#"{"key":"a","value":"","modified":1,"more":1}"#,
        ] {
            assert!(from_line(text.as_bytes()).is_err(), "{text}");
        }
    }
}
