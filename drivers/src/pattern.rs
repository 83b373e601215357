//! Patterns of device names (`modules.alias`), and which of many mean a name.
//!
//! Source: depmod.d(5); the patterns are those of fnmatch(3) without flags.

use std::collections::HashMap;

/// Many patterns, each with what it stands for.
///
/// A name is compared with few of them: those whose beginning, up to the first sign that stands for something else, is the name's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns {
    all: Vec<(String, String)>,
    /// By that beginning, places in `all`.
    by_beginning: HashMap<String, Vec<usize>>,
    /// Lengths of those beginnings, sorted.
    lengths: Vec<usize>,
}

impl Patterns {
    /// Adds a pattern.
    pub fn add(&mut self, pattern: &str, meant: &str) {
        let end = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
        let beginning = pattern.get(..end).unwrap_or_default();
        self.by_beginning
            .entry(beginning.to_owned())
            .or_default()
            .push(self.all.len());
        if let Err(at) = self.lengths.binary_search(&end) {
            self.lengths.insert(at, end);
        }
        self.all.push((pattern.to_owned(), meant.to_owned()));
    }

    /// What the patterns that mean `name` stand for, in the order in which they were added, each once.
    pub fn meaning(&self, name: &str) -> Vec<&str> {
        let beginnings = self.lengths.iter().filter_map(|length| name.get(..*length));
        let mut places: Vec<usize> = beginnings
            .filter_map(|beginning| self.by_beginning.get(beginning))
            .flatten()
            .copied()
            .collect();
        places.sort_unstable();
        let mut meant: Vec<&str> = Vec::new();
        for (pattern, one) in places.into_iter().filter_map(|place| self.all.get(place)) {
            if !meant.contains(&one.as_str()) && matches(pattern.as_bytes(), name.as_bytes()) {
                meant.push(one);
            }
        }
        meant
    }

    /// All patterns and what they stand for, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all
            .iter()
            .map(|(pattern, meant)| (pattern.as_str(), meant.as_str()))
    }
}

/// fnmatch(3) without flags, for `*`, `?` and `[...]`; linear memory, no recursion, at most n·m steps.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => in_set(pattern.get(p..).unwrap_or_default(), *byte),
            Some(other) => (other == byte).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => (p, t) = (p + length, t + 1),
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern
        .get(p..)
        .unwrap_or_default()
        .iter()
        .all(|byte| *byte == b'*')
}

/// Length of the `[...]` at the start of `pattern` when it holds `byte`.
fn in_set(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = 1 + pattern.get(1..)?.iter().position(|one| *one == b']')?;
    let set = pattern.get(1..end)?;
    let mut at = 0;
    while let Some(first) = set.get(at) {
        match (set.get(at + 1), set.get(at + 2)) {
            (Some(b'-'), Some(last)) => {
                if (*first..=*last).contains(&byte) {
                    return Some(end + 1);
                }
                at += 3;
            }
            _ if *first == byte => return Some(end + 1),
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_fnmatch() {
        for (pattern, text, want) in [
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("usb:v*p[0-9A-C]?x", "usb:v12pB7x", true),
            ("usb:v*p[0-9A-C]?x", "usb:v12pD7x", false),
            ("[", "[", false),
            ("[]", "a", false),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                want,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn a_name_finds_all_its_patterns_in_order_and_each_meaning_once() {
        let mut patterns = Patterns::default();
        for (pattern, meant) in [
            ("pci:v00008086d*bc02*", "by-class"),
            ("*", "everything"),
            ("pci:v00008086d00001572sv*", "i40e"),
            ("pci:v00008086d00001572*", "i40e"),
            ("pci:v00008086d00001573*", "other"),
            ("fs-ext4", "ext4"),
        ] {
            patterns.add(pattern, meant);
        }
        let x710 = "pci:v00008086d00001572sv0sd0bc02sc00i00";
        assert_eq!(patterns.meaning(x710), ["by-class", "everything", "i40e"]);
        assert_eq!(patterns.meaning("fs-ext4"), ["everything", "ext4"]);
        // A length within a letter is no beginning.
        assert_eq!(patterns.meaning("fs-ext\u{e4}"), ["everything"]);
        assert_eq!(Patterns::default().meaning("a"), [""; 0]);
    }
}
