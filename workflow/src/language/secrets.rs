//! The secrets that a template names, and where.

use yaml::{Finding, Kind};

use super::holes::{holes, is_version_1};
use super::problem::{Problem, Text};
use crate::expression::secret_name;

/// A secret that a template names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUse {
    pub name: String,
    /// Where it stands, with what is to be said if there is no such secret.
    pub place: Problem,
}

/// With the lines that they stand in.
pub(super) fn uses(
    found: Vec<(String, Finding)>,
    in_text: impl Fn(Vec<Finding>) -> Vec<Problem>,
) -> Vec<SecretUse> {
    let (names, places): (Vec<String>, Vec<Finding>) = found.into_iter().unzip();
    let uses = names.into_iter().zip(in_text(places));
    uses.map(|(name, place)| SecretUse { name, place }).collect()
}

impl SecretUse {
    pub(super) fn missing(name: &str) -> String {
        format!("there is no secret {name}: set it with `farrier secret set {name}`")
    }
}

/// The secrets that the lines of a template's text name, before there is anything to render it with.
pub fn secrets(text: &str) -> Vec<SecretUse> {
    let mut found = Vec::new();
    if !is_version_1(text) {
        return found;
    }
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let is_comment = line.trim_start().starts_with('#');
        // A hole that is not closed on its line is the checker's.
        let holes = holes(line).unwrap_or_default();
        for hole in holes.into_iter().filter(|_| !is_comment) {
            let name = line.get(hole.source).and_then(secret_name);
            found.extend(name.map(|name| SecretUse {
                name: name.to_owned(),
                place: Problem::at_offset(
                    Text::Template,
                    text,
                    start + hole.whole.start,
                    Kind::Missing,
                    SecretUse::missing(name),
                ),
            }));
        }
        start += line.len();
    }
    found
}

/// Names of the secrets that stand in any text.
pub fn secrets_in(text: &str) -> impl Iterator<Item = String> {
    let inside = text
        .split("${{")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("}}")?.0));
    inside.filter_map(|source| secret_name(source).map(str::to_owned))
}
