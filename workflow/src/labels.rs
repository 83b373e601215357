//! Labels: what workflows are found by. Keys and values are written as in Kubernetes.

use std::collections::BTreeMap;

/// By key.
pub type Labels = BTreeMap<String, String>;

/// Labels of one workflow. Each is a row that it is found by.
pub const MAX_LABELS: usize = 16;
/// Of a key behind its prefix, and of a value.
pub const MAX_NAME_BYTES: usize = 63;
/// Of a prefix: a DNS name.
pub const MAX_PREFIX_BYTES: usize = 253;

/// What is wrong with labels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    #[error(
        "bad key of a label {key:?}: expected 1 to 63 of the letters A to Z and a to z, digits, `-`, `_` and `.`, with a letter or \
         digit at both ends; a DNS name and a slash may stand before it"
    )]
    Key { key: String },
    #[error("{count} labels are too many: a workflow has {MAX_LABELS} at most; take some away")]
    TooMany { count: usize },
    #[error(
        "bad value of the label {key:?}, {value:?}: expected nothing, or 1 to 63 of the letters A to Z and a to z, digits, `-`, `_` \
         and `.`, with a letter or digit at both ends"
    )]
    Value { key: String, value: String },
}

/// Whether a workflow may have these labels.
///
/// # Errors
/// What is wrong with the first that it may not have; that there are too many.
pub fn check(labels: &Labels) -> Result<(), LabelError> {
    labels.iter().try_for_each(|(key, value)| check_one(key, value))?;
    match labels.len() {
        0..=MAX_LABELS => Ok(()),
        count => Err(LabelError::TooMany { count }),
    }
}

/// Whether there can be such a label.
///
/// # Errors
/// What is wrong with its key or value.
pub fn check_one(key: &str, value: &str) -> Result<(), LabelError> {
    check_key(key)?;
    if !value.is_empty() && !is_name(value) {
        return Err(LabelError::Value {
            key: key.to_owned(),
            value: value.to_owned(),
        });
    }
    Ok(())
}

/// Whether there can be a label of this key.
///
/// # Errors
/// What a key is.
pub fn check_key(key: &str) -> Result<(), LabelError> {
    let is_key = match key.split_once('/') {
        Some((prefix, name)) => is_prefix(prefix) && is_name(name),
        None => is_name(key),
    };
    match is_key {
        true => Ok(()),
        false => Err(LabelError::Key { key: key.to_owned() }),
    }
}

fn is_name(text: &str) -> bool {
    let has = |at: Option<u8>| at.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= MAX_NAME_BYTES
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && has(text.bytes().next())
        && has(text.bytes().last())
}

/// A DNS subdomain (RFC 1123).
fn is_prefix(text: &str) -> bool {
    let part = |part: &str| {
        let has = |at: Option<u8>| at.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        part.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && has(part.bytes().next())
            && has(part.bytes().last())
    };
    text.len() <= MAX_PREFIX_BYTES && text.split('.').all(part)
}

/// Labels as they are written in one line: `a=1,b=2`. No key and no value has a comma, a space or an equals sign.
pub fn in_one_line(labels: &Labels) -> String {
    let pairs = labels.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: "Syntax and character set", Kubernetes' page on labels and selectors.
    #[test]
    fn keys_are_those_of_kubernetes() {
        for good in [
            "a",
            "A",
            "7",
            "rack",
            "unit-height",
            "a.b_c-d",
            "app.kubernetes.io/name",
            "a/b",
            &"k".repeat(63),
            &format!("{}/x", vec!["p".repeat(50); 4].join(".")),
        ] {
            assert_eq!(check_key(good), Ok(()), "{good}");
        }
        let long = format!("{}/x", "p.".repeat(127));
        for bad in [
            "",
            "-a",
            "a-",
            ".a",
            "a.",
            "_a",
            "a b",
            "a=b",
            "a,b",
            "ä",
            "a/",
            "/a",
            "a/b/c",
            "A.io/x",
            "a..b/x",
            "-a.io/x",
            "a_b.io/x",
            "a\n",
            &"k".repeat(64),
            &long,
        ] {
            let key = bad.to_owned();
            assert_eq!(check_key(bad), Err(LabelError::Key { key }), "{bad}");
        }
    }

    #[test]
    fn values_are_those_of_kubernetes() {
        for good in ["", "r7", "A.b_c-d", "7", &"v".repeat(63)] {
            assert_eq!(check_one("k", good), Ok(()), "{good}");
        }
        for bad in [
            " ",
            "-a",
            "a-",
            "a b",
            "a/b",
            "a,b",
            "a=b",
            "ä",
            "52:54",
            "a\n",
            &"v".repeat(64),
        ] {
            let (key, value) = ("k".to_owned(), bad.to_owned());
            assert_eq!(
                check_one("k", bad),
                Err(LabelError::Value { key, value }),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_workflow_has_sixteen_at_most() {
        let labels = |count: usize| -> Labels {
            let label = |number: usize| (format!("k{number}"), String::new());
            (0..count).map(label).collect()
        };
        assert_eq!(check(&labels(16)), Ok(()));
        assert_eq!(check(&labels(17)), Err(LabelError::TooMany { count: 17 }));
    }
}
