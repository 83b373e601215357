//! Webhooks: made and looked at by people, and told of events by a task for each ([`tell`]).

mod post;
pub(crate) mod tell;

use std::collections::BTreeSet;
use std::sync::Arc;

use coordinator::Error;
use coordinator::database::{Stored, View};
use coordinator::machines;
use coordinator::once::Once;
use coordinator::secrets::NONCE_BYTES;
use coordinator::webhooks::delivery::{Answer, Delivery, Progress};
use coordinator::webhooks::message::{Occasion, body_of_test};
use coordinator::webhooks::{self, NewWebhook, Target, Webhook, WebhookId, check_url, signature};
use proto::v1::DeleteWebhookResponse;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock;
use crate::control::ControlPlane;
use crate::once::note;
use crate::random::random;
use crate::secrets::KeyFile;
use crate::within::Within;
use post::Post;

/// What all of them share.
pub(crate) struct Webhooks {
    post: Post,
    /// One was made or deleted.
    changed: Arc<Notify>,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            post: Post::new(),
            changed: Arc::default(),
        }
    }
}

/// What somebody asks to be made.
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) on: Vec<String>,
    pub(crate) selector: String,
    pub(crate) machine: String,
    pub(crate) by: String,
}

/// A webhook, and how far it is.
pub(crate) struct Shown {
    pub(crate) id: WebhookId,
    pub(crate) webhook: Webhook,
    pub(crate) progress: Option<Progress>,
}

impl ControlPlane {
    /// Makes a webhook; gives what its messages are signed with, which is shown this once.
    pub(crate) async fn create_webhook(
        &self,
        within: Within,
        asked: Asked,
    ) -> Result<(Shown, String), Error> {
        let Asked {
            name,
            url,
            on,
            selector,
            machine,
            by,
        } = asked;
        check_url(&url)?;
        let on = on
            .iter()
            .map(|on| on.parse())
            .collect::<Result<BTreeSet<Occasion>, Error>>()?;
        let signing = signature::key_text(&random::<{ signature::KEY_BYTES }>()?);
        let new = NewWebhook {
            name,
            shown: redaction::redacted_url(&url),
            url,
            on,
            selector,
            machine,
            by,
        };
        // Its namespace stays meanwhile.
        let _turn = self.inner.machines_turn.read().await;
        let (keys, text, now) = (self.inner.secrets_key.clone(), signing.clone(), clock::wall());
        let made = self.inner.db.with(move |view| {
            let scope = within.scope(view)?;
            let mut new = new.clone();
            if !new.machine.is_empty() {
                new.machine = machines::find(view, scope.only(), &new.machine)?.value.name;
            }
            let key = keys.for_sealing(view)?;
            let nonce = random::<NONCE_BYTES>()?;
            webhooks::create(view, &scope, new, (&*key, nonce), &text, now)
        });
        let (id, webhook, batch) = made.await?;
        self.inner.db.commit(batch).await?;
        self.inner.webhooks.changed.notify_one();
        let progress = None;
        Ok((
            Shown {
                id,
                webhook,
                progress,
            },
            signing,
        ))
    }

    pub(crate) async fn webhooks(&self, within: Within) -> Result<Vec<Shown>, Error> {
        let all = self.inner.db.with(move |view| {
            let all = webhooks::all(view, &within.list(view)?)?;
            all.into_iter()
                .map(|(id, webhook)| shown(view, id, webhook))
                .collect()
        });
        all.await
    }

    pub(crate) async fn webhook(&self, within: Within, name: String) -> Result<Shown, Error> {
        let found = self.inner.db.with(move |view| {
            let (id, webhook) = webhooks::find(view, &within.scope(view)?, &name)?;
            shown(view, id, webhook.value)
        });
        found.await
    }

    pub(crate) async fn delete_webhook(
        &self,
        within: Within,
        name: String,
        once: Option<Once>,
    ) -> Result<DeleteWebhookResponse, Error> {
        let deletion = self
            .inner
            .db
            .with(move |view| webhooks::deletion(view, &within.scope(view)?, &name));
        let (_, mut batch) = deletion.await?;
        note(once.as_ref(), &mut batch, &DeleteWebhookResponse {});
        self.inner.db.commit(batch).await?;
        self.inner.webhooks.changed.notify_one();
        Ok(DeleteWebhookResponse {})
    }

    /// The last deliveries of a webhook, the newest first.
    pub(crate) async fn webhook_deliveries(
        &self,
        within: Within,
        name: String,
    ) -> Result<Vec<(u64, Delivery)>, Error> {
        let found = self.inner.db.with(move |view| {
            let (id, _) = webhooks::find(view, &within.scope(view)?, &name)?;
            webhooks::deliveries(view, &id)
        });
        found.await
    }

    /// Sends a message now that is about nothing; gives its id, and what came of it.
    pub(crate) async fn test_webhook(
        &self,
        within: Within,
        name: String,
        by: &str,
    ) -> Result<(String, Answer), Error> {
        let keys = self.inner.secrets_key.clone();
        let target = self.inner.db.with(move |view| {
            let (id, webhook) = webhooks::find(view, &within.scope(view)?, &name)?;
            Ok((target(&keys, &id, &webhook.value)?, id))
        });
        let (target, id) = target.await?;
        let now = clock::wall();
        let body = body_of_test(&id.namespace, &id.name, by, now);
        let message = format!("test_{}", Uuid::now_v7());
        let answer = self
            .inner
            .webhooks
            .post
            .send(&target, &message, now / 1_000, body)
            .await;
        Ok((message, answer))
    }
}

fn shown(view: &View, id: WebhookId, webhook: Webhook) -> Result<Shown, Error> {
    let progress = webhooks::progress(view, &id)?.map(|Stored { value, .. }| value);
    Ok(Shown {
        id,
        webhook,
        progress,
    })
}

/// Where its messages go. Blocks.
fn target(keys: &KeyFile, id: &WebhookId, webhook: &Webhook) -> Result<Target, Error> {
    webhook.target(id, &*keys.for_opening()?).ok_or_else(|| {
        Error::Refused(format!(
            "webhook {} does not open with the server's key file: put the file back that belongs to this store, or delete the webhook and \
             make it anew",
            id.name
        ))
    })
}
