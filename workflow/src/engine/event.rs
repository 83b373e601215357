//! What happened to a workflow. Events are stored as JSON and are never rewritten: fields may be added, with a
//! default; none changes its meaning.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::UnixMillis;
use super::state::{Position, WorkflowState};
use crate::language::Definition;

/// One try of one action on one machine: `<workflow id>/<task index>/<action index>/<attempt from 1>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId(pub String);

/// An [`AttemptId`] taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptParts<'a> {
    pub workflow: &'a str,
    /// From 0.
    pub task: usize,
    /// From 0.
    pub action: usize,
    /// From 1.
    pub attempt: u32,
}

/// What happened, numbered within its workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// From 1.
    pub number: u64,
    pub at: UnixMillis,
    #[serde(flatten)]
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    Created {
        id: String,
        name: String,
        template: String,
        definition: Box<Definition>,
    },
    /// The attempt was handed to the machine; from here on it may run.
    Dispatched {
        attempt: AttemptId,
        worker: String,
        boot_id: String,
    },
    Reported {
        attempt: AttemptId,
        outcome: Outcome,
    },
    /// The machine came back with another boot while the attempt was under way.
    Lost {
        attempt: AttemptId,
        boot_id: String,
        retried: bool,
    },
    /// The machine came back with another boot after it had said that it leaves: the attempt is done.
    Returned {
        attempt: AttemptId,
        boot_id: String,
    },
    /// A report that changes nothing (of a lost or finished attempt).
    Late {
        attempt: AttemptId,
        outcome: Outcome,
    },
    /// It is to end like this, as soon as the attempt that is under way has stopped.
    Stopping {
        state: WorkflowState,
        message: String,
    },
    Ended {
        state: WorkflowState,
        message: String,
    },
}

/// What an agent reports of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    Started,
    Succeeded {
        message: String,
        bytes: u64,
    },
    Failed {
        reason: String,
        message: String,
        exit_code: i32,
    },
    TimedOut {
        message: String,
    },
    Leaving {
        how: String,
    },
    Stopped {
        message: String,
    },
}

impl AttemptId {
    pub(super) fn new(workflow: &str, position: Position, attempt: u32) -> AttemptId {
        AttemptId(format!(
            "{workflow}/{}/{}/{attempt}",
            position.task, position.action
        ))
    }

    /// `None` for a text that is no attempt id.
    pub fn parts(&self) -> Option<AttemptParts<'_>> {
        let mut parts = self.0.rsplitn(4, '/');
        let attempt = parts.next()?.parse().ok().filter(|&attempt| attempt > 0)?;
        let action = parts.next()?.parse().ok()?;
        let task = parts.next()?.parse().ok()?;
        Some(AttemptParts {
            workflow: parts.next()?,
            task,
            action,
            attempt,
        })
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl AttemptParts<'_> {
    pub(super) fn position(&self) -> Position {
        Position {
            task: self.task,
            action: self.action,
        }
    }
}

impl EventKind {
    /// The word that stands for it in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            EventKind::Created { .. } => "created",
            EventKind::Dispatched { .. } => "dispatched",
            EventKind::Reported { .. } => "reported",
            EventKind::Lost { .. } => "lost",
            EventKind::Returned { .. } => "returned",
            EventKind::Late { .. } => "late",
            EventKind::Stopping { .. } => "stopping",
            EventKind::Ended { .. } => "ended",
        }
    }

    /// The attempt that it is about.
    pub fn attempt(&self) -> Option<&AttemptId> {
        match self {
            EventKind::Dispatched { attempt, .. }
            | EventKind::Reported { attempt, .. }
            | EventKind::Lost { attempt, .. }
            | EventKind::Returned { attempt, .. }
            | EventKind::Late { attempt, .. } => Some(attempt),
            EventKind::Created { .. } | EventKind::Stopping { .. } | EventKind::Ended { .. } => None,
        }
    }
}

impl Outcome {
    /// The word that stands for it in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Started => "started",
            Outcome::Succeeded { .. } => "succeeded",
            Outcome::Failed { .. } => "failed",
            Outcome::TimedOut { .. } => "timed_out",
            Outcome::Leaving { .. } => "leaving",
            Outcome::Stopped { .. } => "stopped",
        }
    }
}

/// What happened, in words, for a log or a table.
impl fmt::Display for EventKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventKind::Created { template, .. } => write!(formatter, "created from template {template}"),
            EventKind::Dispatched { worker, .. } => write!(formatter, "handed to {worker}"),
            EventKind::Reported { outcome, .. } => outcome.fmt(formatter),
            EventKind::Lost { retried: true, .. } => {
                formatter.write_str("lost: the machine came back with another boot; it is tried again")
            }
            EventKind::Lost { .. } => formatter.write_str("lost: the machine came back with another boot"),
            EventKind::Returned { .. } => formatter.write_str("the machine came back"),
            EventKind::Late { outcome, .. } => write!(formatter, "late report, changes nothing: {outcome}"),
            EventKind::Stopping { state, message } | EventKind::Ended { state, message } => {
                let verb = if matches!(self, EventKind::Ended { .. }) {
                    "is"
                } else {
                    "will be"
                };
                write!(formatter, "{verb} {state}")?;
                if message.is_empty() {
                    Ok(())
                } else {
                    write!(formatter, ": {message}")
                }
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, message) = match self {
            Outcome::Started => ("started", ""),
            Outcome::Succeeded { message, .. } => ("succeeded", message.as_str()),
            Outcome::Failed { reason, message, .. } => {
                write!(formatter, "failed")?;
                if !reason.is_empty() {
                    write!(formatter, " ({reason})")?;
                }
                ("", message.as_str())
            }
            Outcome::TimedOut { message } => ("timed out", message.as_str()),
            Outcome::Leaving { how } => ("the machine leaves", how.as_str()),
            Outcome::Stopped { message } => ("stopped", message.as_str()),
        };
        formatter.write_str(what)?;
        if message.is_empty() {
            Ok(())
        } else {
            write!(formatter, ": {message}")
        }
    }
}
