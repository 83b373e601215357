//! Events of all workflows as they are printed.

use std::collections::BTreeMap;

use proto::v1;
use serde::Serialize;

use super::Event;
use crate::terminal::safe_line;

#[derive(Debug, Serialize)]
pub(crate) struct FollowedEvent {
    /// To go on after it.
    pub(crate) token: String,
    pub(crate) workflow: String,
    pub(crate) namespace: String,
    pub(crate) root: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// The workflow is gone, and with it all but the event's number and kind.
    pub(crate) deleted: bool,
    #[serde(flatten)]
    pub(crate) event: Event,
}

impl From<v1::FollowedEvent> for FollowedEvent {
    fn from(told: v1::FollowedEvent) -> Self {
        Self {
            token: told.token,
            workflow: told.workflow,
            namespace: told.namespace,
            root: told.root,
            name: told.name,
            labels: told.labels.into_iter().collect(),
            deleted: told.deleted,
            event: told.event.unwrap_or_default().into(),
        }
    }
}

impl FollowedEvent {
    pub(crate) fn line(&self) -> String {
        match self.deleted {
            true => format!(
                "{}  {:>4}  {} (deleted since)",
                self.workflow, self.event.number, self.event.kind
            ),
            false => format!(
                "{}  {}  {}",
                self.workflow,
                safe_line(&self.name),
                self.event.line()
            ),
        }
    }
}
