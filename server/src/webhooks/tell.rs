//! Tells webhooks of events: a task for each, which is a listener as any other.
//!
//! One that is dead, slow or gone keeps its own task waiting and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use coordinator::Error;
use coordinator::database::Stored;
use coordinator::namespaces::Reach;
use coordinator::order;
use coordinator::webhooks::delivery::{self, Delivery, Next, Progress};
use coordinator::webhooks::message::{Occasion, body, id as message_id};
use coordinator::webhooks::{self, Webhook, WebhookId};
use store::Revision;
use tokio::task::JoinSet;
use tokio::time::Instant;
use workflow::engine::UnixMillis;
use workflow::expression::Selector;

use super::target;
use crate::clock;
use crate::control::{ControlPlane, Inner};
use crate::listeners::read::{Found, Reader};
use crate::listeners::wanted::Wanted;
use crate::random::random;
use crate::tasks::caught;

/// Rows of the order that are read in one go.
const PAGE: usize = 200;
/// What happens within it is read together.
const TOGETHER: Duration = Duration::from_millis(50);
/// How far one is that wants nothing of what happens is kept so often.
const KEEP: Duration = Duration::from_secs(30);
/// After a failure of the store.
const RETRY: Duration = Duration::from_secs(5);
/// The clock may be set while we sleep.
const MAX_SLEEP: Duration = Duration::from_secs(30);

/// Holds the control plane weakly while there is no webhook: it must be able to go away.
pub(crate) async fn run(control: Weak<Inner>, stopped: impl Future<Output = ()>) {
    let mut tasks: JoinSet<()> = JoinSet::new();
    // Those that have, or had, a task, with when they were made: one that wants nothing any more is not begun again.
    let mut told: BTreeMap<WebhookId, UnixMillis> = BTreeMap::new();
    tokio::pin!(stopped);
    loop {
        let Some(inner) = control.upgrade() else { return };
        let control = ControlPlane { inner };
        let changed = control.inner.webhooks.changed.clone();
        let all = control
            .inner
            .db
            .with(|view| webhooks::all(view, &Reach::everything()));
        let mut pause = None;
        match all.await {
            Ok(all) => {
                let made: BTreeMap<WebhookId, UnixMillis> = all
                    .iter()
                    .map(|(id, webhook)| (id.clone(), webhook.created_at))
                    .collect();
                told.retain(|id, at| made.get(id) == Some(at));
                for (id, webhook) in all {
                    if told.insert(id.clone(), webhook.created_at).is_none() {
                        tasks.spawn(tell_always(control.clone(), id, webhook));
                    }
                }
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "webhooks cannot be looked for now");
                pause = Some(RETRY);
            }
        }
        drop(control);
        let pause = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // What was not taken is sent again after the next start: nothing has to be ended.
            () = &mut stopped => return,
            () = changed.notified() => {}
            Some(_) = tasks.join_next() => {}
            () = pause => {}
        }
    }
}

/// Also when it breaks down.
async fn tell_always(control: ControlPlane, id: WebhookId, webhook: Webhook) {
    while caught("telling a webhook", tell(&control, &id, &webhook))
        .await
        .is_none()
    {
        tokio::time::sleep(RETRY).await;
    }
}

/// Tells one webhook, until it is gone or wants nothing any more.
async fn tell(control: &ControlPlane, id: &WebhookId, webhook: &Webhook) {
    loop {
        let mut telling = match Telling::begin(control, id, webhook).await {
            Ok(Some(telling)) => telling,
            Ok(None) => return,
            Err(error) => {
                say(id, &error);
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        loop {
            match telling.go_on().await {
                Ok(true) => {}
                Ok(false) => return,
                // Deleted, or made anew: it is read again.
                Err(error) if error.is_conflict() => break,
                Err(error) => {
                    say(id, &error);
                    tokio::time::sleep(RETRY).await;
                    break;
                }
            }
        }
    }
}

fn say(id: &WebhookId, error: &Error) {
    tracing::error!(
        webhook = id.name,
        namespace = id.namespace,
        error = error as &dyn std::error::Error,
        "a webhook cannot be told now; it is tried again in {RETRY:?}"
    );
}

/// A webhook that is being told.
struct Telling<'a> {
    control: &'a ControlPlane,
    id: &'a WebhookId,
    webhook: &'a Webhook,
    wanted: Wanted,
    reader: Reader,
    progress: Progress,
    /// Of what is stored of it.
    modified: Revision,
    kept_at: Instant,
    changes: tokio::sync::broadcast::Receiver<crate::control::Change>,
}

impl<'a> Telling<'a> {
    /// `None`: it is gone, or another one.
    async fn begin(
        control: &'a ControlPlane,
        id: &'a WebhookId,
        webhook: &'a Webhook,
    ) -> Result<Option<Self>, Error> {
        let changes = control.inner.changes.subscribe();
        let (asked, made) = (id.clone(), webhook.created_at);
        let progress = control.inner.db.with(move |view| {
            let all = webhooks::all(view, &Reach::only(&asked.namespace))?;
            let is_there = all
                .iter()
                .any(|(id, webhook)| *id == asked && webhook.created_at == made);
            match is_there {
                true => webhooks::progress(view, &asked),
                false => Ok(None),
            }
        });
        let Some(Stored { value, modified }) = progress.await? else {
            return Ok(None);
        };
        let kinds = webhook.on.iter().flat_map(|occasion| occasion.told_as());
        let selector = match webhook.selector.as_str() {
            "" => None,
            text => {
                let selector = Selector::parse(text).map_err(|error| Error::Invalid(error.to_string()))?;
                Some(Arc::new(selector))
            }
        };
        let wanted = Wanted {
            reach: Reach::only(&id.namespace),
            kinds: kinds.map(|kind| (*kind).to_owned()).collect(),
            selector,
            machine: webhook.machine.clone(),
            workflow: String::new(),
        };
        Ok(Some(Self {
            control,
            id,
            webhook,
            wanted,
            reader: Reader::new(control.clone()),
            progress: value,
            modified,
            kept_at: Instant::now(),
            changes,
        }))
    }

    /// Does what is next; false: nothing ever again.
    async fn go_on(&mut self) -> Result<bool, Error> {
        match self.progress.next(clock::now()) {
            Next::Stop => return Ok(false),
            Next::Wait(until) => {
                let wait = Duration::from_millis(until.saturating_sub(clock::now()));
                tokio::time::sleep(wait.min(MAX_SLEEP)).await;
                self.is_there().await?;
            }
            Next::Look(token) => self.look(token).await?,
            Next::Send => self.send().await?,
        }
        Ok(true)
    }

    async fn look(&mut self, token: order::ResumeToken) -> Result<(), Error> {
        // Before it is read: what comes later is seen in the next round.
        self.changes = self.changes.resubscribe();
        let page = self
            .control
            .inner
            .db
            .with(move |view| match order::page(view, &token, PAGE) {
                Err(Error::OutOfRange(_)) => Ok(Err(order::oldest(view)?)),
                page => Ok(Ok(page?)),
            });
        let page = match page.await? {
            Ok(page) => page,
            Err(oldest) => {
                tracing::warn!(
                    webhook = self.id.name,
                    "what a webhook was to be told next is not kept any more"
                );
                let lost = self.progress.lost(oldest, clock::now());
                return self.keep(Some(lost)).await;
            }
        };
        let found = self.reader.wanted(&self.wanted, page.events).await?;
        let first = found
            .into_iter()
            .find_map(|found| self.is_for(&found).map(|at| (found, at)));
        if let Some((found, (occasion, at))) = first {
            let wanted = delivery::Wanted {
                id: message_id(&found.place.workflow, found.place.number),
                kind: occasion.kind().to_owned(),
                workflow: found.place.workflow,
                event: found.place.number,
                at,
                token: found.place.token,
            };
            let listed = self.progress.found(wanted, clock::now());
            return self.keep(Some(listed)).await;
        }
        self.progress.passed(page.token);
        if self.kept_at.elapsed() >= KEEP {
            self.keep(None).await?;
        }
        if page.is_last {
            tokio::select! {
                // One that is told of too many to keep up looks, too.
                _ = self.changes.recv() => tokio::time::sleep(TOGETHER).await,
                () = tokio::time::sleep(KEEP) => self.is_there().await?,
            }
        }
        Ok(())
    }

    fn is_for(&self, found: &Found) -> Option<(Occasion, UnixMillis)> {
        let (workflow, event) = found.what.as_ref()?;
        let occasion = Occasion::of(workflow, event)?;
        self.webhook
            .on
            .contains(&occasion)
            .then_some((occasion, event.at))
    }

    /// Sends the message under way.
    async fn send(&mut self) -> Result<(), Error> {
        let Some(under_way) = self.progress.under_way.clone() else {
            return Ok(());
        };
        let Delivery {
            id: message,
            workflow,
            event,
            ..
        } = under_way.delivery;
        let Some((body, target)) = self.message(&workflow, event).await? else {
            let why = "its workflow was deleted before it was taken";
            let listed = self.progress.dropped(why);
            return self.keep(listed).await;
        };
        let answer = match target {
            Ok(target) => {
                let at_s = clock::wall() / 1_000;
                self.control
                    .inner
                    .webhooks
                    .post
                    .send(&target, &message, at_s, body)
                    .await
            }
            Err(why) => delivery::Answer::None { why },
        };
        let chance = u64::from_le_bytes(random::<8>()?);
        let listed = self.progress.answered(answer, clock::now(), chance);
        if let Some((_, listed)) = &listed {
            tracing::debug!(
                webhook = self.id.name,
                message,
                state = listed.state.as_str(),
                tries = listed.tries,
                "sent"
            );
        }
        if let Some(stopped) = &self.progress.stopped {
            tracing::warn!(
                webhook = self.id.name,
                why = stopped.why,
                "a webhook is told nothing any more"
            );
        }
        self.keep(listed).await
    }

    /// The body of a message, and where it goes or why it cannot. `None`: the workflow is gone.
    async fn message(
        &mut self,
        workflow: &str,
        event: u64,
    ) -> Result<Option<(Vec<u8>, Result<webhooks::Target, String>)>, Error> {
        let Some((workflow, event)) = self.reader.one(workflow, event).await? else {
            return Ok(None);
        };
        let Some(occasion) = Occasion::of(&workflow, &event) else {
            return Ok(None);
        };
        let (keys, id, webhook) = (
            self.control.inner.secrets_key.clone(),
            self.id.clone(),
            self.webhook.clone(),
        );
        let opened = crate::database::off_the_runtime(move || {
            Ok(target(&keys, &id, &webhook).map_err(|error| error.to_string()))
        });
        Ok(Some((body(occasion, &workflow, &event), opened.await?)))
    }

    async fn keep(&mut self, listed: Option<(u64, Delivery)>) -> Result<(), Error> {
        let batch = webhooks::kept(self.id, self.modified, &self.progress, listed.as_ref());
        self.modified = self.control.inner.db.commit(batch).await?;
        self.kept_at = Instant::now();
        Ok(())
    }

    /// # Errors
    /// A conflict, when it is gone or another one.
    async fn is_there(&self) -> Result<(), Error> {
        let asked = self.id.clone();
        let progress = self
            .control
            .inner
            .db
            .with(move |view| webhooks::progress(view, &asked))
            .await?;
        match progress.is_some_and(|progress| progress.modified == self.modified) {
            true => Ok(()),
            false => Err(store::StoreError::Conflict {
                key: "webhook".into(),
            }
            .into()),
        }
    }
}
