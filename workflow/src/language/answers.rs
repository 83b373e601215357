//! `answers`: a task that waits until an installed system answers.

use yaml::{Fields, Kind, Node};

use super::fields::{Check, Known};
use super::flow::Ancestors;
use super::{Answers, AnswersBy, Control, Definition, Task};

const ANSWERS: Known = Known {
    whose: "answers",
    old: &["by", "address", "port", "path", "status"],
    new: &[],
};
/// Bytes of a DNS name (RFC 1035 section 2.3.4).
const MAX_HOST_BYTES: usize = 253;

impl<'a> Check<'a> {
    pub(super) fn answers(&mut self, node: &'a Node, fields: &Fields<'a>, task: usize) -> Control {
        let written = self.fields(node, &ANSWERS);
        let index = Some(task);
        self.answers.push((task, node.at));
        let by = match self.plain(written.get("by"), "by") {
            "ssh" => AnswersBy::Ssh,
            "http" => AnswersBy::Http,
            other => {
                let message = match other {
                    "" => "answers has no by: write ssh or http".to_owned(),
                    other => format!("answers by {other:?} is not known: write ssh or http"),
                };
                self.problem(written.at("by"), Kind::Value, message);
                AnswersBy::Ssh
            }
        };
        for field in ["path", "status"] {
            if let Some(node) = written.get(field).filter(|_| by == AnswersBy::Ssh) {
                let message = format!("{field} is for answers by http: leave it out, or write by: http");
                self.problem(node.at, Kind::Conflict, message);
            }
        }
        let mut number = |field: &'static str, least: u32, most: u32, otherwise: u16| {
            let number = written
                .get(field)
                .map(|node| self.count(node, (field, index), least, most));
            number.map_or(otherwise, |number| u16::try_from(number).unwrap_or(otherwise))
        };
        let port = number("port", 1, u32::from(u16::MAX), by.port());
        let status = number("status", 100, 599, 0);
        let path = self.filled(written.get("path"), "path", index).to_owned();
        if let Some(node) = written.get("path").filter(|_| !is_path(&path)) {
            let message =
                format!("path {path:?} is none: it begins with a slash and has no space, like /healthz");
            self.problem(node.at, Kind::Value, message);
        }
        let address = self
            .filled(written.get("address"), "address", index)
            .trim()
            .to_owned();
        if let Some(node) = written
            .get("address")
            .filter(|_| !address.contains("${{") && !is_host(&address))
        {
            self.problem(node.at, Kind::Value, not_a_host(&address));
        }
        if address.is_empty() && written.get("address").is_none() && fields.get("worker").is_none() {
            let message = "answers has nobody to ask: write the task's worker, or an address";
            self.problem(node.at, Kind::Missing, message);
        }
        Control::Answers(Answers {
            by,
            address,
            port,
            path,
            status,
        })
    }

    /// A machine that is to boot its disk must not be needed by what comes later, or at the same time.
    pub(super) fn check_answers(&mut self, definition: &Definition, ancestors: &Ancestors) {
        for (index, at) in std::mem::take(&mut self.answers) {
            let Some(up) = definition.tasks.get(index) else {
                continue;
            };
            let own = &up.worker;
            if own.is_empty() {
                continue;
            }
            let is_unknown = |worker: &str| worker.contains("${{");
            let later = definition.tasks.iter().enumerate().find_map(|(other, task)| {
                let is_before = ancestors.has(index, other);
                let works = !task.actions.is_empty();
                let may = works && is_unknown(&task.worker)
                    || matches!(task.control, Some(Control::Workflow { .. }));
                let how = match () {
                    () if is_before => return None,
                    () if works && task.worker == *own && !is_unknown(own) => "runs",
                    () if may => "may run",
                    () => return None,
                };
                Some(format!("task {:?} {how} on it later", task.name))
            });
            if let Some(later) = later {
                let name = &up.name;
                let message = format!(
                    "task {name:?} waits until {own} answers, and {later}: the machine is kept in the agent for that; put {name:?} behind \
                     it, or that into a workflow of its own"
                );
                self.warning(at, Kind::Odd, message);
            }
        }
    }

    /// Who waits for an answer says how long.
    pub(super) fn answers_in_time(&mut self, fields: &Fields<'a>, task: &Task) {
        if !matches!(task.control, Some(Control::Answers(_))) || task.timeout_s > 0 {
            return;
        }
        let is_open = fields
            .get("timeout")
            .is_some_and(|node| !self.is_known(self.text(Some(node), "timeout")));
        if !is_open {
            let message = "answers has no timeout: write how long the task waits at most, like timeout: 30m";
            self.problem(fields.at("timeout"), Kind::Missing, message);
        }
    }
}

impl AnswersBy {
    fn port(self) -> u16 {
        match self {
            AnswersBy::Http => 80,
            AnswersBy::Ssh => 22,
        }
    }
}

/// Whether a text may be an IP address or the name of a host (RFC 1123 section 2.1).
pub(crate) fn is_host(text: &str) -> bool {
    let is_name = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.parse::<std::net::IpAddr>().is_ok()
        || text.len() <= MAX_HOST_BYTES && text.trim_end_matches('.').split('.').all(is_name)
}

/// Why a text is no address.
pub(crate) fn not_a_host(text: &str) -> String {
    format!("address {text:?} is neither an IP address nor the name of a host: write one, without a port")
}

/// Whether a text may stand in a request as its path.
pub(crate) fn is_path(text: &str) -> bool {
    text.contains("${{") || text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_other_texts() {
        for text in [
            "10.77.0.11",
            "fd00::1",
            "node1",
            "node1.example.com",
            "a_b.example.com.",
        ] {
            assert!(is_host(text), "{text}");
        }
        for text in [
            "",
            " ",
            "10.77.0.11:22",
            "[fd00::1]",
            "a..b",
            "-a",
            "a b",
            "http://a",
            "\u{fc}.example",
        ] {
            assert!(!is_host(text), "{text}");
        }
    }
}
