//! Reads a map of a document field by field; collects every problem with its place instead of stopping at one.

use std::cell::RefCell;
use std::fmt::Display;
use std::net::Ipv4Addr;
use std::str::FromStr;

use macaddr::MacAddr6;
use workflow::language::nearest;

use super::values::{address_problem, check_host_name, check_lease_time, mac_problem};
use super::{DEFAULT_LEASE_S, parse_mac};
use crate::error::Problem;
use crate::yaml::{Kind, Node, Place};

/// What was found wrong or odd in one file.
pub(super) struct Findings {
    pub(super) source: String,
    pub(super) problems: RefCell<Vec<Problem>>,
    pub(super) warnings: RefCell<Vec<Problem>>,
}

impl Findings {
    pub(super) fn new(source: &str) -> Self {
        let source = if source.is_empty() {
            "machines".to_owned()
        } else {
            source.to_owned()
        };
        Self {
            source,
            problems: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    pub(super) fn problem(&self, place: Place, message: impl Display) {
        self.problems.borrow_mut().push(self.at(place, message));
    }

    pub(super) fn warn(&self, place: Place, message: impl Display) {
        self.warnings.borrow_mut().push(self.at(place, message));
    }

    fn at(&self, place: Place, message: impl Display) -> Problem {
        Problem {
            source: self.source.clone(),
            line: place.line,
            column: place.column,
            message: message.to_string(),
        }
    }
}

/// What an unknown field is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    Problem,
    Warning,
}

/// A map of which the names are known. A missing map has no fields.
pub(super) struct Fields<'a> {
    pub(super) node: Option<&'a Node>,
    findings: &'a Findings,
}

impl<'a> Fields<'a> {
    /// `what` says in messages whose fields these are.
    pub(super) fn of(
        node: Option<&'a Node>,
        what: &str,
        known: &[&str],
        unknown: Unknown,
        findings: &'a Findings,
    ) -> Self {
        let Some(found) = node.filter(|node| !node.is_null()) else {
            return Self { node: None, findings };
        };
        let Kind::Map(entries) = &found.kind else {
            findings.problem(
                found.place,
                format!("{what} must be a map, not {}", found.describe()),
            );
            return Self { node: None, findings };
        };
        for (key, _) in entries
            .iter()
            .filter(|(key, _)| !known.contains(&key.name.as_str()))
        {
            let hint = nearest(&key.name, known.iter().copied());
            match unknown {
                Unknown::Problem => {
                    let cure = match hint {
                        Some(name) => format!("did you mean {name:?}?"),
                        None => format!("the fields are {}", known.join(", ")),
                    };
                    findings.problem(
                        key.place,
                        format!("unknown field {:?} of {what}: {cure}", key.name),
                    );
                }
                Unknown::Warning => {
                    let cure = hint
                        .map(|name| format!("; did you mean {name:?}?"))
                        .unwrap_or_default();
                    findings.warn(
                        key.place,
                        format!("unknown field {:?} of {what} has no effect{cure}", key.name),
                    );
                }
            }
        }
        Self { node, findings }
    }

    /// A map whose other names are nobody's business here.
    pub(super) fn any(node: Option<&'a Node>, findings: &'a Findings) -> Self {
        Self { node, findings }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Node> {
        self.node?.get(name).filter(|node| !node.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        let node = self.get(name)?;
        let text = node.text();
        if text.is_none() {
            self.findings.problem(
                node.place,
                format!("{name} must be text, not {}", node.describe()),
            );
        }
        text
    }

    pub(super) fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    /// A value with a grammar of its own; `example` shows it.
    pub(super) fn parse<T: FromStr>(&self, name: &str, what: &str, example: &str) -> Option<T> {
        let node = self.get(name)?;
        self.parsed(node, what, example)
    }

    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        self.parse(name, name, "true or false")
    }

    pub(super) fn mac(&self, name: &str) -> Option<(MacAddr6, Place)> {
        mac(self.get(name)?, self.findings)
    }

    /// A text that is not empty, and where it stands.
    pub(super) fn placed(&self, name: &str) -> Option<(String, Place)> {
        let text = self.text(name).filter(|text| !text.is_empty())?;
        Some((text.to_owned(), self.get(name)?.place))
    }

    pub(super) fn list(&self, name: &str) -> &'a [Node] {
        let Some(node) = self.get(name) else { return &[] };
        match &node.kind {
            Kind::List(items) => items,
            _ => {
                self.findings.problem(
                    node.place,
                    format!("{name} must be a list, not {}", node.describe()),
                );
                &[]
            }
        }
    }

    /// A list of text, or one text that stands for a list of one.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.items(name)
            .iter()
            .filter_map(|item| self.item_text(item, name))
            .collect()
    }

    /// As [`Fields::texts`], of IPv4 addresses of hosts.
    pub(super) fn addresses(&self, name: &str, what: &str) -> Vec<Ipv4Addr> {
        let address = |item: &Node| {
            let address: Ipv4Addr = self.parsed(item, what, "an IPv4 address such as 10.77.0.1")?;
            // A resolver of the machine's own may be meant.
            if address.is_loopback() {
                let message = format!("{what} {address} is a loopback address: the machine asks itself");
                self.findings.warn(item.place, message);
            } else if let Some(message) = address_problem(what, address) {
                self.findings.problem(item.place, message);
            }
            Some(address)
        };
        self.items(name).into_iter().filter_map(address).collect()
    }

    /// The name of a host or a domain; an empty one is none.
    pub(super) fn host_name(&self, name: &str) -> Option<String> {
        let (text, place) = self.placed(name)?;
        check_host_name(name, &text, place, self.findings);
        Some(text)
    }

    /// Seconds of a lease, or the default.
    pub(super) fn lease_time_s(&self) -> u32 {
        let Some(seconds) = self.parse("lease_time", "lease_time", "seconds, such as 3600") else {
            return DEFAULT_LEASE_S;
        };
        if let Some(node) = self.get("lease_time") {
            check_lease_time(seconds, node.place, self.findings);
        }
        seconds
    }

    /// Where a field stands.
    pub(super) fn place(&self, name: &str) -> Option<Place> {
        Some(self.get(name)?.place)
    }

    /// A map from text to text.
    pub(super) fn pairs(&self, name: &str) -> Vec<(String, String)> {
        let Some(node) = self.get(name) else {
            return Vec::new();
        };
        let Kind::Map(entries) = &node.kind else {
            self.findings.problem(
                node.place,
                format!("{name} must be a map, not {}", node.describe()),
            );
            return Vec::new();
        };
        let pair = |(key, value): &'a (crate::yaml::Key, Node)| {
            Some((key.name.clone(), self.item_text(value, name)?))
        };
        entries.iter().filter_map(pair).collect()
    }

    pub(super) fn items(&self, name: &str) -> Vec<&'a Node> {
        match self.get(name) {
            Some(node) if node.text().is_some() => vec![node],
            Some(_) => self.list(name).iter().collect(),
            None => Vec::new(),
        }
    }

    fn item_text(&self, item: &Node, name: &str) -> Option<String> {
        if item.text().is_none() {
            self.findings.problem(
                item.place,
                format!("{name} must hold text, not {}", item.describe()),
            );
        }
        item.text().map(str::to_owned)
    }

    fn parsed<T: FromStr>(&self, node: &Node, what: &str, example: &str) -> Option<T> {
        let value = node.text().and_then(|text| text.parse().ok());
        if value.is_none() {
            let message = format!("bad {what} {}: expected {example}", node.describe());
            self.findings.problem(node.place, message);
        }
        value
    }
}

pub(super) fn mac(node: &Node, findings: &Findings) -> Option<(MacAddr6, Place)> {
    let mac = node.text().and_then(parse_mac);
    if mac.is_none() {
        let message = format!(
            "bad MAC {}: expected six hexadecimal pairs such as 52:54:00:77:00:0b",
            node.describe()
        );
        findings.problem(node.place, message);
    }
    if let Some(message) = mac.and_then(mac_problem) {
        findings.problem(node.place, message);
    }
    Some((mac?, node.place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_slips_only() {
        assert_eq!(nearest("adress", ["address", "gateway"]), Some("address"));
        assert_eq!(nearest("allowPxe", ["allowPXE"]), Some("allowPXE"));
        assert_eq!(nearest("colour", ["address", "gateway"]), None);
    }
}
