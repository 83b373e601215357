//! What happened in a workflow, as it is printed: its events and its log.

use proto::v1;
use serde::Serialize;
use serde_json::Value;

use super::{clock, first_line, given, time};
use crate::terminal::safe_line;

#[derive(Debug, Serialize)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) at: Option<String>,
    pub(crate) stamp: String,
    pub(crate) kind: String,
    pub(crate) task: Option<String>,
    pub(crate) execution: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) attempt: Option<u32>,
    pub(crate) message: Option<String>,
    pub(crate) event: Value,
}

impl From<v1::WorkflowEvent> for Event {
    fn from(event: v1::WorkflowEvent) -> Self {
        Self {
            number: event.number,
            at: time(event.at),
            stamp: event.stamp,
            kind: event.kind,
            task: given(event.task),
            execution: given(event.execution),
            action: given(event.action),
            attempt: Some(event.attempt).filter(|attempt| *attempt > 0),
            message: given(event.message),
            event: serde_json::from_str(&event.json).unwrap_or_default(),
        }
    }
}

impl Event {
    pub(crate) fn line(&self) -> String {
        let task = self.task.as_deref().unwrap_or("-");
        let task = format!("{task}{}", item(self.execution.as_deref()));
        let place = match &self.action {
            Some(action) => match self.attempt {
                Some(attempt @ 2..) => format!("{task}/{action} #{attempt}"),
                _ => format!("{task}/{action}"),
            },
            None => task,
        };
        let place = safe_line(&place);
        let message = self.message.as_deref().unwrap_or_default();
        let message = match self.kind.as_str() {
            // The report before it has the rest.
            "execution_ended" | "task_ended" => first_line(message),
            // What a command printed last is part of it.
            _ => message.replace('\n', "\n      "),
        };
        let line = format!(
            "{:>4}  {}  {:<15}  {place:<22}  {message}",
            self.number,
            clock(self.at.as_deref()),
            self.kind
        );
        line.trim_end().to_owned()
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct LogLine {
    pub(crate) task: String,
    pub(crate) execution: String,
    pub(crate) action: String,
    pub(crate) attempt: u32,
    pub(crate) line: u64,
    pub(crate) text: String,
    pub(crate) machine: Option<String>,
    /// When the server was told it.
    pub(crate) at: Option<String>,
}

impl From<v1::LogLine> for LogLine {
    fn from(line: v1::LogLine) -> Self {
        Self {
            task: line.task,
            execution: line.execution,
            action: line.action,
            attempt: line.attempt,
            line: line.line,
            text: line.text,
            machine: given(line.machine),
            at: time(line.at),
        }
    }
}

impl LogLine {
    /// `TASK[ITEM]/ACTION #TRY on MACHINE`, as far as there are several.
    pub(crate) fn place(&self) -> String {
        let tries = match self.attempt {
            0 | 1 => String::new(),
            attempt => format!(" #{attempt}"),
        };
        let machine = self.machine.as_ref().map(|machine| format!(" on {machine}"));
        format!(
            "{}{}/{}{tries}{}",
            self.task,
            item(Some(&self.execution)),
            self.action,
            machine.unwrap_or_default()
        )
    }

    /// The time of day when it came.
    pub(crate) fn clock(&self) -> String {
        clock(self.at.as_deref())
    }
}

/// `[ITEM]` of an execution's id, for all but the first item.
fn item(execution: Option<&str>) -> String {
    match execution.and_then(|id| id.rsplit('/').next()) {
        None | Some("" | "0") => String::new(),
        Some(item) => format!("[{item}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_item_but_for_the_first() {
        let line = |execution: &str, attempt| LogLine {
            task: "t".into(),
            execution: execution.into(),
            action: "a".into(),
            attempt,
            line: 0,
            text: String::new(),
            machine: (attempt == 2).then(|| "node1".into()),
            at: None,
        };
        assert_eq!(line("0/1/0", 1).place(), "t/a");
        assert_eq!(line("0/1/7", 2).place(), "t[7]/a #2 on node1");
    }
}
