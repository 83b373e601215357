//! What a webhook is told: which events, and in which words.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use workflow::engine::{Event, EventKind, Loss, UnixMillis, Waiting, Workflow, time_of};

use crate::error::Error;

/// What a webhook may be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// Somebody is waited for, to say yes or no.
    Approval,
    /// A workflow that is no part of another has ended.
    Ended,
    /// Nothing was heard of a machine while it had something to do: that is lost.
    Silent,
}

impl Occasion {
    pub const ALL: [Occasion; 3] = [Occasion::Approval, Occasion::Ended, Occasion::Silent];

    /// The type of its messages.
    pub fn kind(self) -> &'static str {
        match self {
            Occasion::Approval => "workflow.waits_for_approval",
            Occasion::Ended => "workflow.ended",
            Occasion::Silent => "machine.silent",
        }
    }

    /// Words of [`EventKind::told_as`] that an event of it may have: others are passed over unread.
    pub fn told_as(self) -> &'static [&'static str] {
        match self {
            Occasion::Approval => &["action_asked", "execution_made", "resumed"],
            Occasion::Ended => &["ended"],
            Occasion::Silent => &["lost"],
        }
    }

    /// Which one an event is, if it is one.
    pub fn of(workflow: &Workflow, event: &Event) -> Option<Occasion> {
        match &event.kind {
            EventKind::Ended { .. } if workflow.head.parent.is_none() => Some(Occasion::Ended),
            EventKind::ActionAsked { .. } => Some(Occasion::Approval),
            EventKind::ExecutionMade { waiting, .. } if *waiting == Some(Waiting::Approval) => {
                Some(Occasion::Approval)
            }
            EventKind::Resumed { waiting, .. } if *waiting == Waiting::Approval => Some(Occasion::Approval),
            EventKind::Lost {
                why: Loss::Silence { .. },
                ..
            } => Some(Occasion::Silent),
            _ => None,
        }
    }
}

impl fmt::Display for Occasion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Occasion::Approval => "approval",
            Occasion::Ended => "ended",
            Occasion::Silent => "silent",
        })
    }
}

impl FromStr for Occasion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Occasion::ALL
            .into_iter()
            .find(|occasion| occasion.to_string() == text);
        found.ok_or_else(|| {
            Error::Invalid(format!(
                "a webhook cannot be for {text:?}: it is for approval, ended or silent"
            ))
        })
    }
}

/// The id of the message about an event: the same however often it is sent, to whichever webhook.
pub fn id(workflow: &str, event: u64) -> String {
    format!("evt_{workflow}_{event}")
}

/// The body of the message about an event.
///
/// Source: Standard Webhooks 1.0.0, "Payload structure": type, timestamp and data.
pub fn body(occasion: Occasion, workflow: &Workflow, event: &Event) -> Vec<u8> {
    let head = &workflow.head;
    let execution = event.kind.execution().and_then(|id| workflow.execution(id));
    let task = event
        .kind
        .task()
        .and_then(|task| workflow.definition.tasks.get(task));
    let item = execution
        .filter(|execution| execution.item.is_some())
        .map(|execution| execution.id.item);
    let (state, message) = match &event.kind {
        EventKind::Ended { state, message, .. } => (state.to_string(), message.clone()),
        kind => (head.state.to_string(), kind.to_string()),
    };
    let mut data = json!({
        "workflow": head.id,
        "name": head.name,
        "namespace": head.namespace,
        "root": workflow.root(),
        "template": head.template,
        "labels": *head.labels,
        "state": state,
        "event": event.number,
        "message": message,
    });
    let told = [
        ("task", task.map(|task| Value::from(task.name.as_str()))),
        ("item", item.map(Value::from)),
        (
            "machine",
            execution
                .filter(|execution| !execution.worker.is_empty())
                .map(|execution| Value::from(execution.worker.as_str())),
        ),
    ];
    if let Some(fields) = data.as_object_mut() {
        let told = told
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        fields.extend(told);
    }
    whole(occasion.kind(), event.at, data)
}

/// The body of a message that a person has sent to see whether it arrives.
pub fn body_of_test(namespace: &str, name: &str, by: &str, now: UnixMillis) -> Vec<u8> {
    whole(
        "webhook.test",
        now,
        json!({"webhook": name, "namespace": namespace, "by": by}),
    )
}

fn whole(kind: &str, at: UnixMillis, data: Value) -> Vec<u8> {
    let message = json!({"type": kind, "timestamp": time_of(at), "data": data});
    message.to_string().into_bytes()
}
