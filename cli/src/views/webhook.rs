//! Webhooks as they are printed.

use proto::v1;
use serde::Serialize;

use super::{dash, given, short_age, time, when};
use crate::output::{InNamespace, Rows};

#[derive(Debug, Serialize)]
pub(crate) struct Webhook {
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// Without credentials.
    pub(crate) url: String,
    pub(crate) on: Vec<String>,
    pub(crate) selector: Option<String>,
    pub(crate) machine: Option<String>,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    /// In a row.
    pub(crate) failures: u32,
    pub(crate) next_try: Option<String>,
    pub(crate) token: String,
    pub(crate) created_at: Option<String>,
    pub(crate) created_by: String,
}

/// With what its messages are signed with.
#[derive(Debug, Serialize)]
pub(crate) struct CreatedWebhook {
    #[serde(flatten)]
    pub(crate) webhook: Webhook,
    pub(crate) signing_key: String,
}

impl From<v1::Webhook> for Webhook {
    fn from(webhook: v1::Webhook) -> Self {
        Self {
            name: webhook.name,
            namespace: webhook.namespace,
            url: webhook.url,
            on: webhook.on,
            selector: given(webhook.selector),
            machine: given(webhook.machine),
            state: webhook.state,
            reason: given(webhook.reason),
            failures: webhook.failures,
            next_try: time(webhook.next_try),
            token: webhook.token,
            created_at: time(webhook.created_at),
            created_by: webhook.created_by,
        }
    }
}

impl Webhook {
    pub(crate) fn state_in_words(&self) -> String {
        let reason = self
            .reason
            .as_deref()
            .map(|reason| format!(": {reason}"))
            .unwrap_or_default();
        let again = match &self.next_try {
            Some(next) => format!("; {} in a row, tried again {}", self.failures, when(Some(next))),
            None => String::new(),
        };
        format!("{}{reason}{again}", self.state)
    }

    pub(crate) fn made(&self) -> String {
        format!("{} by {}", when(self.created_at.as_deref()), self.created_by)
    }
}

impl InNamespace for Webhook {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Rows for Webhook {
    const HEADER: &'static [&'static str] = &["NAME", "ON", "STATE", "AGE", "URL"];
    const NONE: &'static str = "no webhooks: make one with `farrier webhook create`";

    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.on.join(","),
            self.state.clone(),
            short_age(self.created_at.as_deref()),
            self.url.clone(),
        ]
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct WebhookDelivery {
    pub(crate) number: u64,
    pub(crate) id: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) workflow: Option<String>,
    pub(crate) event: u64,
    pub(crate) at: Option<String>,
    pub(crate) state: String,
    pub(crate) tries: u32,
    pub(crate) tried_at: Option<String>,
    pub(crate) status: Option<u32>,
    pub(crate) message: Option<String>,
}

impl From<v1::WebhookDelivery> for WebhookDelivery {
    fn from(delivery: v1::WebhookDelivery) -> Self {
        Self {
            number: delivery.number,
            id: given(delivery.id),
            kind: given(delivery.kind),
            workflow: given(delivery.workflow),
            event: delivery.event,
            at: time(delivery.at),
            state: delivery.state,
            tries: delivery.tries,
            tried_at: time(delivery.tried_at),
            status: delivery.status,
            message: given(delivery.message),
        }
    }
}

impl Rows for WebhookDelivery {
    const HEADER: &'static [&'static str] = &[
        "NUMBER", "AT", "WHAT", "WORKFLOW", "STATE", "TRIES", "STATUS", "MESSAGE",
    ];
    const NONE: &'static str = "it was told of nothing so far";

    fn row(&self) -> Vec<String> {
        vec![
            self.number.to_string(),
            when(self.at.as_deref()),
            dash(self.kind.as_deref().unwrap_or_default()),
            dash(self.workflow.as_deref().unwrap_or_default()),
            self.state.clone(),
            self.tries.to_string(),
            dash(&self.status.map(|status| status.to_string()).unwrap_or_default()),
            dash(self.message.as_deref().unwrap_or_default()),
        ]
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct TestedWebhook {
    pub(crate) id: String,
    pub(crate) taken: bool,
    pub(crate) status: Option<u32>,
    pub(crate) message: Option<String>,
}

impl From<v1::TestWebhookResponse> for TestedWebhook {
    fn from(tested: v1::TestWebhookResponse) -> Self {
        Self {
            id: tested.id,
            taken: tested.taken,
            status: tested.status,
            message: given(tested.message),
        }
    }
}

impl TestedWebhook {
    pub(crate) fn line(&self) -> String {
        let Self {
            id, status, message, ..
        } = self;
        match (status, message) {
            (Some(status), _) if self.taken => format!("message {id} was taken: it answered {status}"),
            (Some(status), _) => format!("message {id} was not taken: it answered {status}"),
            (None, why) => format!(
                "message {id} was not taken: {}",
                why.as_deref().unwrap_or("no answer")
            ),
        }
    }
}
