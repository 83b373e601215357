//! Webhooks, as people ask for them.

use coordinator::Error;
use coordinator::people::Caller;
use coordinator::webhooks::delivery::{Answer, Delivery};
use proto::v1::{self, CreateWebhookRequest, CreateWebhookResponse, TestWebhookResponse, WebhookDelivery};

use super::given::selected;
use crate::clock::timestamp;
use crate::control::ControlPlane;
use crate::webhooks::{Asked, Shown};
use crate::within::Within;

impl ControlPlane {
    pub(super) async fn webhook_created(
        &self,
        caller: Caller,
        request: CreateWebhookRequest,
    ) -> Result<CreateWebhookResponse, Error> {
        let within = Within::one(&caller, request.namespace);
        selected(&request.selector)?;
        let asked = Asked {
            name: request.name,
            url: request.url,
            on: request.on,
            selector: request.selector,
            machine: request.machine,
            by: caller.name,
        };
        let (shown, signing_key) = self.create_webhook(within, asked).await?;
        Ok(CreateWebhookResponse {
            webhook: Some(webhook(shown)),
            signing_key,
        })
    }
}

pub(super) fn webhook(shown: Shown) -> v1::Webhook {
    let Shown {
        id,
        webhook,
        progress,
    } = shown;
    let progress = progress.as_ref();
    let stopped = progress.and_then(|progress| progress.stopped.as_ref());
    let failing = progress.filter(|progress| progress.failures > 0);
    let last = progress.and_then(|progress| progress.under_way.as_ref());
    v1::Webhook {
        name: id.name,
        namespace: id.namespace,
        url: webhook.shown,
        on: webhook.on.iter().map(ToString::to_string).collect(),
        selector: webhook.selector,
        machine: webhook.machine,
        created_at: Some(timestamp(webhook.created_at)),
        created_by: webhook.created_by,
        state: match (stopped, failing) {
            (Some(_), _) => "STOPPED",
            (None, Some(_)) => "FAILING",
            (None, None) => "ACTIVE",
        }
        .to_owned(),
        reason: match (stopped, failing, last) {
            (Some(stopped), ..) => stopped.why.clone(),
            (None, Some(_), Some(last)) => last.delivery.message.clone(),
            _ => String::new(),
        },
        failures: failing.map_or(0, |progress| progress.failures),
        next_try: failing
            .filter(|_| stopped.is_none())
            .map(|progress| timestamp(progress.due)),
        token: progress
            .map(|progress| progress.token.to_string())
            .unwrap_or_default(),
    }
}

pub(super) fn delivery((number, delivery): (u64, Delivery)) -> WebhookDelivery {
    let Delivery {
        id,
        kind,
        workflow,
        event,
        at,
        state,
        tries,
        tried_at,
        status,
        message,
    } = delivery;
    WebhookDelivery {
        number,
        id,
        kind,
        workflow,
        event,
        at: Some(timestamp(at)),
        state: state.as_str().to_owned(),
        tries,
        tried_at: tried_at.map(timestamp),
        status: status.map(u32::from),
        message,
    }
}

/// In the words of a delivery.
pub(super) fn tested((id, answer): (String, Answer)) -> TestWebhookResponse {
    let (status, message) = match answer {
        Answer::Status { code, .. } => (Some(u32::from(code)), String::new()),
        Answer::None { why } => (None, why),
    };
    TestWebhookResponse {
        id,
        taken: status.is_some_and(|code| (200..300).contains(&code)),
        status,
        message,
    }
}
