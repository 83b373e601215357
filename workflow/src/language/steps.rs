//! What a task of version 1 has beside 0.1's fields: what it does without a machine, and how often and when it runs.

use std::collections::BTreeMap;

use super::duration::{is_digits, until_ms};
use yaml::{Entry, Fields, Kind, Node, What};

use super::expressions::Standing;
use super::fields::{Check, Known, is_map};
use super::{Amount, Approve, Control, ForEach, Retry, Task};

/// What a task does: one of these.
const DOES: [&str; 8] = [
    "actions", "wait", "until", "answers", "workflow", "set", "succeed", "fail",
];
/// What only a `forEach` has.
/// A workflow has no more task executions.
const MOST_ITEMS: u32 = 10_000;
const OF_FOR_EACH: [&str; 4] = ["minItems", "maxParallel", "waves", "maxFailures"];
const MOST_ATTEMPTS: u32 = 1000;
const MOST_BACKOFF: f64 = 100.0;

const APPROVE: Known = Known {
    whose: "approve",
    old: &["message", "by", "timeout"],
    new: &[],
};
const RETRY: Known = Known {
    whose: "retry",
    old: &["attempts", "delay", "backoff", "maxDelay", "on"],
    new: &[],
};
const FAIL: Known = Known {
    whose: "fail",
    old: &["reason", "message"],
    new: &[],
};

impl<'a> Check<'a> {
    /// Everything of a task that 0.1 has not, and what is checked in another way than there. `needs`, `recovers` and
    /// `goto` name other tasks; they come later.
    pub(super) fn steps(&mut self, fields: &Fields<'a>, index: usize, task: &mut Task) {
        let does: Vec<&str> = DOES
            .into_iter()
            .filter(|field| fields.get(field).is_some())
            .collect();
        self.does_one_thing(fields, task, &does);
        task.group = self.plain(fields.get("group"), "group").to_owned();
        task.control = self.control(fields, index);
        task.when = fields
            .get("when")
            .map(|node| self.cel(node, "when", Some(index), Standing::When));
        task.for_each = self.for_each(fields, index);
        task.retry = fields.get("retry").map(|node| self.retry(node, index));
        task.timeout_s = self.seconds(fields.get("timeout"), "timeout", Some(index));
        self.answers_in_time(fields, task);
        task.approve = fields.get("approve").map(|node| self.approve(node, index));
        if fields.get("workflow").is_none()
            && let Some(node) = fields.get("inputs")
        {
            let message = format!(
                "task {:?} has inputs, but no workflow that they are for",
                task.name
            );
            self.problem(node.at, Kind::Value, message);
        }
    }

    fn does_one_thing(&mut self, fields: &Fields<'a>, task: &Task, does: &[&str]) {
        let name = &task.name;
        let worker = fields.get("worker");
        match (does, worker) {
            ([one, other, ..], _) => {
                let message = format!("task {name:?} has both {one} and {other}: make it two tasks");
                self.problem(fields.at(other), Kind::Conflict, message);
            }
            (["actions"], None) => self.no_worker(fields.at("worker"), name),
            ([], None) if fields.get("approve").is_none() => {
                let message = format!(
                    "task {name:?} does nothing: write actions and a worker, or wait, until, answers, workflow, set, succeed, fail or approve"
                );
                self.problem(fields.at, Kind::Missing, message);
            }
            ([control], Some(worker)) if !matches!(*control, "actions" | "answers") => {
                let message =
                    format!("task {name:?} has a worker, but {control} needs no machine: leave worker out");
                self.problem(worker.at, Kind::Conflict, message);
            }
            (_, Some(worker)) if task.worker.is_empty() => self.no_worker(worker.at, name),
            _ => {}
        }
        let control = does.iter().find(|field| **field != "actions");
        let not_with = |field: &str, what: &str, cure: &str| {
            if let Some(node) = fields.get(field) {
                let message = format!("task {name:?} has {field}, which {what} does not take: {cure}");
                self.problem(node.at, Kind::Conflict, message);
            }
        };
        if let Some(control) = control {
            for field in ["volumes", "environment"] {
                not_with(field, control, "only actions have a use for it");
            }
            not_with("approve", control, "approve in a task before it");
            if *control != "workflow" {
                not_with("retry", control, "there is nothing to try again");
            }
            if matches!(*control, "succeed" | "fail") {
                not_with("forEach", control, "it ends the workflow once");
                let cure = "nothing follows the end of the workflow; put the goto into a task before it, or leave one of the two out";
                not_with("goto", control, cure);
                not_with("timeout", control, "it takes no time");
            }
        }
    }

    fn control(&mut self, fields: &Fields<'a>, index: usize) -> Option<Control> {
        let task = Some(index);
        // Where a condition or a list decides whether it waits at all, what it would wait for need not be right.
        let is_sure = fields.get("when").is_none() && fields.get("forEach").is_none();
        if let Some(node) = fields.get("wait") {
            let text = self.filled(Some(node), "wait", task);
            if let Some(value) = self.known(node, text, "wait", is_sure) {
                self.milliseconds(node, &value, "wait");
            }
            return Some(Control::Wait(text.trim().to_owned()));
        }
        if let Some(node) = fields.get("until") {
            let text = self.filled(Some(node), "until", task);
            if let Some(value) = self
                .known(node, text, "until", is_sure)
                .filter(|value| until_ms(value, 0).is_none())
            {
                let message = format!(
                    "until {value:?} is no time: write one with its zone, like 2026-12-24T18:00:00Z, next 22:00Z, next 22:00+01:00 or next 22:00 \
                     Europe/Berlin"
                );
                self.problem(node.at, Kind::Value, message);
            }
            return Some(Control::Until(text.trim().to_owned()));
        }
        if let Some(node) = fields.get("answers") {
            return Some(self.answers(node, fields, index));
        }
        if let Some(node) = fields.get("workflow") {
            let template = self.filled(Some(node), "workflow", task).trim().to_owned();
            if template.is_empty() {
                self.problem(
                    node.at,
                    Kind::Missing,
                    "workflow is empty: write the name of a template",
                );
            }
            let mut inputs = BTreeMap::new();
            for entry in fields.map("inputs") {
                self.identifier(entry, "an input");
                self.filled_within(&entry.node, task);
                inputs.insert(entry.name.clone(), entry.node.json());
            }
            return Some(Control::Workflow { template, inputs });
        }
        if let Some(node) = fields.get("set") {
            let values = self.expressions_by_name(fields.map("set"), "a variable", task);
            if values.is_empty() {
                self.problem(node.at, Kind::Missing, "set is empty: write name: expression");
            }
            return Some(Control::Set(values));
        }
        if let Some(node) = fields.get("succeed") {
            if !is_map(node) {
                let message = format!("succeed is not {}: write succeed: {{}}", node.describe());
                self.found.misshapen(node, message);
            } else if let Some(entry) = fields.map("succeed").first() {
                self.problem(
                    entry.at,
                    Kind::UnknownField,
                    "succeed takes no fields: write succeed: {}",
                );
            }
            return Some(Control::Succeed);
        }
        let fail = self.fields(fields.get("fail")?, &FAIL);
        let reason = self.filled(fail.get("reason"), "reason", task).to_owned();
        let message = self.filled(fail.get("message"), "message", task).to_owned();
        if reason.is_empty() {
            self.problem(
                fail.at("reason"),
                Kind::Missing,
                "fail has no reason: write one word, like DiskTooSmall",
            );
        }
        Some(Control::Fail { reason, message })
    }

    /// A mapping of names to CEL.
    pub(super) fn expressions_by_name(
        &mut self,
        entries: &'a [Entry],
        of: &str,
        task: Option<usize>,
    ) -> BTreeMap<String, String> {
        let place = task.map_or(Standing::Outputs, |_| Standing::Set);
        let mut values = BTreeMap::new();
        for entry in entries {
            self.identifier(entry, of);
            let source = self.cel(&entry.node, &entry.name, task, place);
            values.insert(entry.name.clone(), source);
        }
        values
    }

    fn for_each(&mut self, fields: &Fields<'a>, index: usize) -> Option<ForEach> {
        let Some(node) = fields.get("forEach") else {
            for field in OF_FOR_EACH {
                if let Some(node) = fields.get(field) {
                    self.problem(
                        node.at,
                        Kind::Conflict,
                        format!("{field} is for a forEach, which this task has not got"),
                    );
                }
            }
            return None;
        };
        let list = if matches!(node.what, What::List(_)) {
            let message = format!(
                "forEach is CEL, not a list of YAML: write it as a text, '{}'",
                node.json()
            );
            self.found.misshapen(node, message);
            String::new()
        } else {
            self.cel(node, "forEach", Some(index), Standing::ForEach)
        };
        if let Some(goto) = fields.get("goto") {
            let message = "a task with forEach cannot have goto: put the goto into a task behind it";
            self.problem(goto.at, Kind::Conflict, message);
        }
        let task = Some(index);
        Some(ForEach {
            list,
            min_items: fields
                .get("minItems")
                .map_or(0, |node| self.count(node, ("minItems", task), 0, MOST_ITEMS)),
            max_parallel: fields
                .get("maxParallel")
                .map_or(0, |node| self.count(node, ("maxParallel", task), 1, u32::MAX)),
            waves: fields
                .get("waves")
                .map(|node| self.waves(node, task))
                .unwrap_or_default(),
            max_failures: fields
                .get("maxFailures")
                .and_then(|node| self.bounded_amount(node, task)),
        })
    }

    fn waves(&mut self, node: &'a Node, task: Option<usize>) -> Vec<Amount> {
        let mut sizes = Vec::new();
        if let What::Scalar(_) = node.what
            && self.text(Some(node), "waves").contains("${{")
        {
            let Some(items) = self.bound_list(node, "waves", task) else {
                return Vec::new();
            };
            sizes.extend(items.into_iter().map(|item| (node, item)));
        } else {
            let items = self.found.list(Some(node), "waves");
            for item in items {
                match self.bound(item, "a wave", task) {
                    Some(text) => sizes.push((item, text.into_owned())),
                    // Not known yet.
                    None => return Vec::new(),
                }
            }
        }
        if sizes.is_empty() {
            self.problem(
                node.at,
                Kind::Missing,
                "waves is empty: write sizes that rise, like [1, 10%, 100%]",
            );
        }
        let (mut waves, mut count, mut percent) = (Vec::new(), 0, 0);
        for (item, text) in sizes {
            let Some(amount) = self.amount(item, &text, "a wave", 1) else {
                continue;
            };
            let (before, now) = match amount {
                Amount::Count(now) => (std::mem::replace(&mut count, now), now),
                Amount::Percent(now) => (std::mem::replace(&mut percent, now), now),
            };
            if now <= before || percent == 100 && !matches!(amount, Amount::Percent(_)) {
                let message = format!(
                    "the wave {text} is not larger than the one before it: sizes count from the beginning and rise, like [1, 10%, 100%]"
                );
                self.problem(item.at, Kind::Value, message);
            }
            waves.push(amount);
        }
        waves
    }

    fn bounded_amount(&mut self, node: &'a Node, task: Option<usize>) -> Option<Amount> {
        let text = self.bound(node, "maxFailures", task)?;
        self.amount(node, &text, "maxFailures", 0)
    }

    /// A count, or a share like `10%`.
    fn amount(&self, node: &Node, text: &str, field: &str, least: u32) -> Option<Amount> {
        let text = text.trim();
        let percent = text.strip_suffix('%').map(str::trim);
        let number = Some(percent.unwrap_or(text))
            .filter(|digits| is_digits(digits))
            .and_then(|digits| digits.parse::<u32>().ok())
            .filter(|number| *number >= least && (percent.is_none() || *number <= 100));
        if number.is_none() {
            let message = format!(
                "{field} {text:?} is neither a count from {least} on nor a share of {least}% to 100%"
            );
            self.problem(node.at, Kind::Value, message);
        }
        let amount = if percent.is_some() {
            Amount::Percent
        } else {
            Amount::Count
        };
        number.map(amount)
    }

    /// A whole number of a task's field; the least when it is not known yet.
    pub(super) fn count(
        &mut self,
        node: &'a Node,
        (field, task): (&'static str, Option<usize>),
        least: u32,
        most: u32,
    ) -> u32 {
        let Some(text) = self.bound(node, field, task) else {
            return least;
        };
        let text = text.trim();
        let number = Some(text).filter(|digits| is_digits(digits));
        let number = number
            .and_then(|digits| digits.parse().ok())
            .filter(|number| (least..=most).contains(number));
        number.unwrap_or_else(|| {
            let range = if most == u32::MAX {
                format!("from {least} on")
            } else {
                format!("from {least} to {most}")
            };
            let message = format!("{field} {text:?} is no whole number {range}");
            self.problem(node.at, Kind::Value, message);
            least
        })
    }

    pub(super) fn retry(&mut self, node: &'a Node, task: usize) -> Retry {
        let task = Some(task);
        let fields = self.fields(node, &RETRY);
        let attempts = match fields.get("attempts") {
            Some(node) => self.count(node, ("attempts", task), 1, MOST_ATTEMPTS),
            None => {
                let message =
                    "retry has no attempts: write how often it runs at most, the first time included";
                self.problem(fields.at, Kind::Missing, message);
                1
            }
        };
        let mut duration = |field: &'static str| {
            let node = fields.get(field);
            node.map_or(0, |node| self.duration(node, field, task))
        };
        let (delay_ms, max_delay_ms) = (duration("delay"), duration("maxDelay"));
        Retry {
            attempts,
            delay_ms,
            backoff_percent: fields.get("backoff").map_or(100, |node| self.backoff(node, task)),
            max_delay_ms,
            on: self.retried_on(&fields),
        }
    }

    /// `2` doubles the delay each time.
    fn backoff(&mut self, node: &'a Node, task: Option<usize>) -> u32 {
        let Some(text) = self.bound(node, "backoff", task) else {
            return 100;
        };
        let text = text.trim();
        match text.parse::<f64>() {
            Ok(times) if (1.0..=MOST_BACKOFF).contains(&times) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "100 to 10,000"
                )]
                let percent = (times * 100.0).round() as u32;
                percent
            }
            _ => {
                let message = format!(
                    "backoff {text:?} is no number from 1 to {MOST_BACKOFF}: 2 doubles the delay each time"
                );
                self.problem(node.at, Kind::Value, message);
                100
            }
        }
    }

    fn retried_on(&mut self, fields: &Fields<'a>) -> Vec<String> {
        let mut on: Vec<String> = Vec::new();
        for (word, at) in self.words(fields, "on") {
            let lower = word.to_ascii_lowercase();
            let is_word = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric());
            if !is_word {
                let message =
                    format!("on {word:?} is neither failed, timeout, lost nor the reason of a failure");
                self.problem(at, Kind::Value, message);
            } else if lower != word && matches!(lower.as_str(), "failed" | "timeout" | "lost") {
                self.problem(
                    at,
                    Kind::Value,
                    format!("on {word:?} is a reason that no action gives: write {lower}"),
                );
            } else if on.iter().any(|before| before == word) {
                self.problem(at, Kind::Twice, format!("on has {word} twice: take one out"));
            } else {
                on.push(word.to_owned());
            }
        }
        on
    }

    fn approve(&mut self, node: &'a Node, index: usize) -> Approve {
        let fields = self.fields(node, &APPROVE);
        let message = self
            .filled(fields.get("message"), "message", Some(index))
            .to_owned();
        if message.trim().is_empty() {
            let problem = "approve has no message: write what is asked, for example \"wipe rack r7?\"";
            self.problem(fields.at("message"), Kind::Missing, problem);
        }
        let mut by: Vec<String> = Vec::new();
        for (group, at) in self.words(&fields, "by") {
            if group.is_empty() {
                self.problem(at, Kind::Value, "by has a group without a name");
            } else if by.iter().any(|before| before == group) {
                self.problem(at, Kind::Twice, format!("by has {group:?} twice: take one out"));
            } else {
                by.push(group.to_owned());
            }
        }
        Approve {
            message,
            by,
            timeout_s: self.seconds(fields.get("timeout"), "timeout", Some(index)),
        }
    }
}
