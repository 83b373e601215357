//! Selectors as Kubernetes writes them: `rack=r7,disk!=hdd,zone in (a,b),gpu,!old`.
//!
//! Source: "Label selectors" of Kubernetes' page on labels, whose grammar this is; equality may be written `==`, too. A text that
//! is not of this form is an expression.

use std::collections::BTreeSet;

use super::parse::MAX_SOURCE_BYTES;
use crate::labels::{check_key, check_one};

/// What is asked of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Requirement {
    pub(super) key: String,
    pub(super) is: Is,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Is {
    Missing,
    /// Also where it is missing.
    NoneOf(BTreeSet<String>),
    OneOf(BTreeSet<String>),
    There,
}

impl Requirement {
    /// `value`: of the label; `None`: it is missing.
    pub(super) fn is_met(&self, value: Option<&str>) -> bool {
        match (&self.is, value) {
            (Is::Missing, value) => value.is_none(),
            (Is::There, value) => value.is_some(),
            (Is::OneOf(values), value) => value.is_some_and(|value| values.contains(value)),
            (Is::NoneOf(values), value) => value.is_none_or(|value| !values.contains(value)),
        }
    }
}

/// `None`: it is not of this form, such as everything with quotes in it, and `true`.
pub(super) fn read(source: &str) -> Option<Vec<Requirement>> {
    if source.len() > MAX_SOURCE_BYTES {
        return None;
    }
    let requirements: Option<Vec<Requirement>> = parts(source).map(requirement).collect();
    requirements.filter(|all| !all.is_empty())
}

/// What stands between commas, those within parentheses not counted.
fn parts(source: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    source.split(move |letter| {
        match letter {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    })
}

fn requirement(part: &str) -> Option<Requirement> {
    let part = part.trim();
    let (is_denied, part) = match part.strip_prefix('!') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, part),
    };
    let is_of_word = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    let end = part.find(|letter| !is_of_word(letter)).unwrap_or(part.len());
    let (key, rest) = part.split_at(end);
    let rest = rest.trim();
    if check_key(key).is_err() || is_word_of_expressions(key) {
        return None;
    }
    let is = match (is_denied, rest) {
        (true, "") => Is::Missing,
        (true, _) => return None,
        (false, "") => Is::There,
        (false, rest) => condition(key, rest)?,
    };
    Some(Requirement {
        key: key.to_owned(),
        is,
    })
}

/// What stands behind a key.
fn condition(key: &str, text: &str) -> Option<Is> {
    let one = |text: &str| Some(BTreeSet::from([value(key, text)?]));
    if let Some(rest) = text.strip_prefix("!=") {
        return Some(Is::NoneOf(one(rest)?));
    }
    if let Some(rest) = text.strip_prefix("==").or_else(|| text.strip_prefix('=')) {
        return Some(Is::OneOf(one(rest)?));
    }
    let several = |rest: &str| {
        let inside = rest.trim_start().strip_prefix('(')?.strip_suffix(')')?;
        let values = inside.split(',').map(|text| value(key, text));
        values.collect::<Option<BTreeSet<String>>>()
    };
    match text.strip_prefix("notin") {
        Some(rest) => Some(Is::NoneOf(several(rest)?)),
        None => Some(Is::OneOf(several(text.strip_prefix("in")?)?)),
    }
}

fn value(key: &str, text: &str) -> Option<String> {
    let value = text.trim();
    let is_plain = check_one(key, value).is_ok() && !is_word_of_expressions(value);
    is_plain.then(|| value.to_owned())
}

/// What means something else in an expression, and so is one.
fn is_word_of_expressions(word: &str) -> bool {
    matches!(
        word,
        "true" | "false" | "null" | "inventory" | "labels" | "metadata"
    ) || word.starts_with("inventory.")
        || word.starts_with("labels.")
        || word.starts_with("metadata.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(source: &str) -> Requirement {
        let mut all = read(source).expect("a label selector");
        assert_eq!(all.len(), 1, "{source}");
        all.remove(0)
    }

    fn values(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn reads_what_kubernetes_writes() {
        for (source, key, is) in [
            ("rack=r7", "rack", Is::OneOf(values(&["r7"]))),
            (" rack == r7 ", "rack", Is::OneOf(values(&["r7"]))),
            ("rack!=r7", "rack", Is::NoneOf(values(&["r7"]))),
            ("rack=", "rack", Is::OneOf(values(&[""]))),
            ("zone in (a, b)", "zone", Is::OneOf(values(&["a", "b"]))),
            ("zone notin (a,b)", "zone", Is::NoneOf(values(&["a", "b"]))),
            ("zone in ()", "zone", Is::OneOf(values(&[""]))),
            ("gpu", "gpu", Is::There),
            ("! gpu", "gpu", Is::Missing),
            ("example.com/x=1", "example.com/x", Is::OneOf(values(&["1"]))),
            ("unit-height=2", "unit-height", Is::OneOf(values(&["2"]))),
        ] {
            let key = key.to_owned();
            assert_eq!(one(source), Requirement { key, is }, "{source}");
        }
        let keys: Vec<String> = read("a=1,b in (2,3),!c,d")
            .expect("four")
            .into_iter()
            .map(|one| one.key)
            .collect();
        assert_eq!(keys, ["a", "b", "c", "d"]);
    }

    #[test]
    fn everything_else_is_an_expression() {
        for source in [
            "",
            " ",
            ",",
            "a,",
            "true",
            "false",
            "rack == 'r7'",
            "rack = \"r7\"",
            "rack in ['a']",
            "labels.gpu == x",
            "metadata.ram",
            "a == true",
            "has(gpu)",
            "a && b",
            "a > 1",
            "a in b",
            "a=b c",
            "!a=b",
            "a in (b",
            "(a)",
            "-a=b",
            "a=b/c",
        ] {
            assert_eq!(read(source), None, "{source}");
        }
    }

    #[test]
    fn a_label_that_is_missing_is_not_another_one() {
        let is_met = |source: &str, value: Option<&str>| one(source).is_met(value);
        for (source, missing, r7, r8) in [
            ("rack=r7", false, true, false),
            ("rack!=r7", true, false, true),
            ("rack in (r7,r8)", false, true, true),
            ("rack notin (r7,r8)", true, false, false),
            ("rack", false, true, true),
            ("!rack", true, false, false),
            ("rack=", false, false, false),
        ] {
            let met = (
                is_met(source, None),
                is_met(source, Some("r7")),
                is_met(source, Some("r8")),
            );
            assert_eq!(met, (missing, r7, r8), "{source}");
        }
        assert!(is_met("rack=", Some("")));
    }
}
