//! Webhooks: addresses that are told of some events, one message each, until they take it.
//!
//! ```text
//! webhook/<namespace>/<name>                      Webhook
//! webhook-progress/<namespace>/<name>             delivery::Progress: a place in the order of all events
//! webhook-delivery/<namespace>/<name>/<n:010>     delivery::Delivery, the last so many
//! ```
//!
//! A webhook is a listener that the server keeps itself. Address and key are sealed, as secrets are: a copy of the store has neither. Pure:
//! whoever calls brings the key, the nonce and the time, and sends.

pub mod delivery;
pub mod message;
pub mod signature;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use url::Url;
use workflow::engine::UnixMillis;
use zeroize::Zeroizing;

use crate::database::{Batch, Stored, View};
use crate::error::Error;
use crate::namespaces::{self, Reach, Scope, of, option};
use crate::order;
use crate::secrets::{Key, Sealed, Value};
use delivery::{Delivery, KEPT_DELIVERIES, Progress};
use message::Occasion;

/// Of one server.
pub const MAX_WEBHOOKS: usize = 100;
/// Of an address.
pub const MAX_URL_BYTES: usize = 2_048;

/// A webhook as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// What is shown of its address: without credentials.
    pub shown: String,
    /// Its address and its key.
    sealed: Sealed,
    pub on: BTreeSet<Occasion>,
    /// Of the workflow's labels; empty: any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// A machine's name; empty: any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine: String,
    pub created_at: UnixMillis,
    pub created_by: String,
}

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WebhookId {
    pub namespace: String,
    pub name: String,
}

/// A webhook that somebody wants.
#[derive(Clone)]
pub struct NewWebhook {
    pub name: String,
    pub url: String,
    /// What is shown of it.
    pub shown: String,
    pub on: BTreeSet<Occasion>,
    pub selector: String,
    pub machine: String,
    pub by: String,
}

/// Where messages go, and what they are signed with.
pub struct Target {
    pub url: Url,
    pub key: Value,
}

#[derive(Serialize, Deserialize)]
struct Hidden {
    url: String,
    key: String,
}

impl WebhookId {
    fn key(&self) -> String {
        format!("webhook/{}/{}", self.namespace, self.name)
    }

    fn progress(&self) -> String {
        format!("webhook-progress/{}/{}", self.namespace, self.name)
    }

    fn deliveries(&self) -> String {
        format!("webhook-delivery/{}/{}/", self.namespace, self.name)
    }

    fn delivery(&self, number: u64) -> String {
        format!("{}{number:010}", self.deliveries())
    }

    /// What its address and its key are sealed for.
    fn sealed_for(&self) -> String {
        format!("farrier webhook\0{}\0{}", self.namespace, self.name)
    }
}

impl Webhook {
    /// Where its messages go; `None`: the key is another one, or the row is damaged.
    pub fn target(&self, id: &WebhookId, key: &Key) -> Option<Target> {
        let opened = key.open_for(&id.sealed_for(), &self.sealed)?;
        let Hidden { url, key } = serde_json::from_str(opened.as_ref()).ok()?;
        let key = Value::new(key);
        Some(Target {
            url: Url::parse(&url).ok()?,
            key,
        })
    }
}

/// The address of a webhook.
///
/// # Errors
/// [`Error::Invalid`], never with the address itself.
pub fn check_url(url: &str) -> Result<Url, Error> {
    let bad = |why: String| {
        Error::Invalid(format!(
            "bad address of a webhook: {why}; expected https://HOST/PATH, or http:// where nobody else is on the way"
        ))
    };
    if url.len() > MAX_URL_BYTES {
        return Err(bad(format!("it has {} B, {MAX_URL_BYTES} B at most", url.len())));
    }
    let parsed = Url::parse(url).map_err(|error| bad(error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(bad(format!("its scheme is {:?}", parsed.scheme())));
    }
    if parsed.host_str().is_none_or(str::is_empty) {
        return Err(bad("it has no host".to_owned()));
    }
    if parsed.fragment().is_some() {
        return Err(bad("it has a fragment (#…), which no server is sent".to_owned()));
    }
    Ok(parsed)
}

/// Makes a webhook, which is told of what happens from now on. `nonce` and the key's text are drawn by chance, for this once.
///
/// # Errors
/// [`Error::Invalid`] for name or address, [`Error::Exists`], [`Error::Refused`] when there are too many.
pub fn create(
    view: &View,
    scope: &Scope,
    new: NewWebhook,
    (key, nonce): (&Key, [u8; crate::secrets::NONCE_BYTES]),
    signing: &str,
    now: UnixMillis,
) -> Result<(WebhookId, Webhook, Batch), Error> {
    let NewWebhook {
        name,
        url,
        shown,
        on,
        selector,
        machine,
        by,
    } = new;
    if !namespaces::is_name(&name) {
        return Err(Error::Invalid(format!(
            "bad name of a webhook {name:?}: expected 1 to 63 of the letters a to z, digits and `-`, with no dash at either end"
        )));
    }
    let url = check_url(&url)?;
    if on.is_empty() {
        return Err(Error::Invalid(
            "a webhook is for something: --on ended, approval or silent".to_owned(),
        ));
    }
    let id = WebhookId {
        namespace: scope.namespace().to_owned(),
        name,
    };
    if view.get::<Webhook>(&id.key())?.is_some() {
        return Err(Error::Exists(format!(
            "there is a webhook {:?}{} already: delete it with `farrier webhook delete{} {}`, or choose another name",
            id.name,
            of(&id.namespace),
            option(&id.namespace),
            id.name
        )));
    }
    if all(view, &Reach::everything())?.len() >= MAX_WEBHOOKS {
        return Err(Error::Refused(format!(
            "there are {MAX_WEBHOOKS} webhooks, the most that a server keeps: delete one with `farrier webhook delete`"
        )));
    }
    let hidden = Hidden {
        url: url.into(),
        key: signing.to_owned(),
    };
    let hidden = serde_json::to_string(&hidden).expect("texts become JSON");
    let hidden = Zeroizing::new(hidden);
    let webhook = Webhook {
        shown,
        sealed: key.seal_for(&id.sealed_for(), &hidden, nonce),
        on,
        selector,
        machine,
        created_at: now,
        created_by: by,
    };
    let mut batch = Batch::default();
    batch.absent(id.key());
    batch.put(id.key(), &webhook);
    batch.put(id.progress(), &Progress::begin(order::newest(view)?));
    Ok((id, webhook, batch))
}

/// Every webhook within reach, by namespace and name.
///
/// # Errors
/// When the store cannot be read.
pub fn all(view: &View, reach: &Reach) -> Result<Vec<(WebhookId, Webhook)>, Error> {
    let rows = view.list::<Webhook>("webhook/")?.into_iter();
    let named = rows.filter_map(|(key, webhook)| {
        let (namespace, name) = key.split_once('/')?;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Some((WebhookId { namespace, name }, webhook))
    });
    Ok(named.filter(|(id, _)| reach.has(&id.namespace)).collect())
}

/// # Errors
/// [`Error::NotFound`].
pub fn find(view: &View, scope: &Scope, name: &str) -> Result<(WebhookId, Stored<Webhook>), Error> {
    let id = WebhookId {
        namespace: scope.namespace().to_owned(),
        name: name.to_owned(),
    };
    match view.get::<Webhook>(&id.key())? {
        Some(webhook) => Ok((id, webhook)),
        None => Err(Error::NotFound(format!(
            "there is no webhook {name:?}{}: see `farrier webhook list{}`",
            of(scope.namespace()),
            scope.option()
        ))),
    }
}

/// How far a webhook is; `None`: it is gone.
///
/// # Errors
/// When the store cannot be read.
pub fn progress(view: &View, id: &WebhookId) -> Result<Option<Stored<Progress>>, Error> {
    view.get(&id.progress())
}

/// The last deliveries, the newest first.
///
/// # Errors
/// When the store cannot be read.
pub fn deliveries(view: &View, id: &WebhookId) -> Result<Vec<(u64, Delivery)>, Error> {
    let rows = view.list::<Delivery>(&id.deliveries())?.into_iter().rev();
    Ok(rows
        .filter_map(|(number, delivery)| Some((number.parse().ok()?, delivery)))
        .collect())
}

/// Keeps how far a webhook is, and what became of a message.
pub fn kept(
    id: &WebhookId,
    before: store::Revision,
    progress: &Progress,
    delivery: Option<&(u64, Delivery)>,
) -> Batch {
    let mut batch = Batch::default();
    // It may have been deleted, and made anew.
    batch.unchanged(id.progress(), before);
    batch.put(id.progress(), progress);
    if let Some((number, delivery)) = delivery {
        batch.put(id.delivery(*number), delivery);
        if let Some(old) = number.checked_sub(KEPT_DELIVERIES) {
            batch.delete(id.delivery(old));
        }
    }
    batch
}

/// Takes a webhook away, with all that is kept of it.
///
/// # Errors
/// [`Error::NotFound`].
pub fn deletion(view: &View, scope: &Scope, name: &str) -> Result<(WebhookId, Batch), Error> {
    let (id, webhook) = find(view, scope, name)?;
    let mut batch = Batch::default();
    batch.unchanged(id.key(), webhook.modified);
    batch.delete(id.key());
    batch.delete(id.progress());
    batch.delete_below(&id.deliveries());
    Ok((id, batch))
}

#[cfg(test)]
mod tests {
    use store::{MemoryStore, Store};

    use super::*;

    const SIGNING: &str = "whsec_AAAA";

    fn new(name: &str, url: &str) -> NewWebhook {
        NewWebhook {
            name: name.into(),
            url: url.into(),
            shown: "shown".into(),
            on: BTreeSet::from([Occasion::Ended]),
            selector: String::new(),
            machine: String::new(),
            by: "ann".into(),
        }
    }

    fn make(store: &MemoryStore, new: NewWebhook) -> Result<(WebhookId, Webhook), Error> {
        let view = View::now(store).unwrap();
        let scope = Scope::inside("default");
        let (id, webhook, batch) = create(&view, &scope, new, (&Key::new(&[1; 32]), [2; 12]), SIGNING, 5)?;
        store.commit(&batch.into_commit()).unwrap();
        Ok((id, webhook))
    }

    #[test]
    fn address_and_key_are_sealed_for_this_webhook_alone() {
        let store = MemoryStore::new();
        let (id, webhook) = make(&store, new("ops", "https://u:pass@example.org/hook?token=abc")).unwrap();
        let rows = store.range(b"\0", b"\xff", 100).unwrap();
        for row in &rows {
            let text = String::from_utf8_lossy(&row.value);
            for hidden in ["pass", "abc", SIGNING, "example.org"] {
                assert!(!text.contains(hidden), "{text}");
            }
        }
        let target = webhook.target(&id, &Key::new(&[1; 32])).expect("it opens");
        assert_eq!(target.url.as_str(), "https://u:pass@example.org/hook?token=abc");
        assert_eq!(target.key.as_ref(), SIGNING);
        assert!(webhook.target(&id, &Key::new(&[9; 32])).is_none());
        let copied = WebhookId {
            name: "other".into(),
            ..id
        };
        assert!(webhook.target(&copied, &Key::new(&[1; 32])).is_none());
    }

    #[test]
    fn bad_addresses_are_refused_without_being_said() {
        let long = format!("https://example.org/{}", "x".repeat(MAX_URL_BYTES));
        for bad in [
            "",
            "example.org/secret",
            "ftp://example.org/secret",
            "file:///etc/secret",
            "https://",
            "https://example.org/secret#part",
            &long,
        ] {
            let told = check_url(bad).unwrap_err().to_string();
            assert!(told.contains("bad address of a webhook"), "{told}");
            assert!(!told.contains("secret") && !told.contains("xxxx"), "{told}");
        }
        for good in [
            "https://example.org",
            "http://10.0.0.1:8080/x?y=z",
            "https://[2001:db8::1]/",
        ] {
            assert!(check_url(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_server_has_a_hundred_at_most_each_with_a_name_of_its_own() {
        let store = MemoryStore::new();
        for n in 0..MAX_WEBHOOKS {
            make(&store, new(&format!("w{n}"), "https://example.org")).unwrap();
        }
        let again = make(&store, new("w1", "https://example.org")).unwrap_err();
        assert!(matches!(again, Error::Exists(_)), "{again}");
        let more = make(&store, new("more", "https://example.org")).unwrap_err();
        assert!(more.to_string().contains("there are 100 webhooks"), "{more}");
        for bad in ["", "A", "a/b", "-a"] {
            assert!(matches!(
                make(&store, new(bad, "https://example.org")),
                Err(Error::Invalid(_))
            ));
        }
    }

    #[test]
    fn the_last_hundred_deliveries_are_kept_and_go_with_it() {
        let store = MemoryStore::new();
        let (id, _) = make(&store, new("ops", "https://example.org")).unwrap();
        let scope = Scope::inside("default");
        for n in 0..120 {
            let view = View::now(&store).unwrap();
            let Stored { value, modified } = progress(&view, &id).unwrap().unwrap();
            let mut value = value;
            let wanted = delivery::Wanted {
                id: message::id("w", n),
                kind: "workflow.ended".into(),
                workflow: "w".into(),
                event: n,
                at: 0,
                token: value.token,
            };
            let listed = value.found(wanted, 0);
            store
                .commit(&kept(&id, modified, &value, Some(&listed)).into_commit())
                .unwrap();
        }
        let view = View::now(&store).unwrap();
        let listed = deliveries(&view, &id).unwrap();
        let numbers: Vec<u64> = listed.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (21..=120).rev().collect::<Vec<_>>());
        let (_, batch) = deletion(&view, &scope, "ops").unwrap();
        store.commit(&batch.into_commit()).unwrap();
        assert!(store.range(b"webhook", b"webhool", 10).unwrap().is_empty());
        let gone = deletion(&View::now(&store).unwrap(), &scope, "ops").unwrap_err();
        assert!(matches!(gone, Error::NotFound(_)));
    }
}
