//! Requests that take effect once: a person gives one a key, and who asks again with it gets what the first one came to.
//!
//! What was asked with a key is written in the commit of what the request does, so either both are there or neither is. A request
//! that was refused leaves none. Keys are a person's own, and are kept for a day; [`forget`] takes away those that were kept for
//! so long, by rows that are in order of time.
//!
//! ```text
//! once/<person>/<key>                      Done
//! once-until/<at:013>/<person>/<key>       it may go then
//! ```

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use store::StoreError;
use workflow::engine::UnixMillis;

use crate::database::{Batch, View};
use crate::error::Error;

/// How long a key is kept, in milliseconds.
pub const KEPT_MS: u64 = 24 * 3_600_000;
/// Bytes of a key.
pub const MAX_KEY_BYTES: usize = 256;
/// Keys that are taken away in one commit: two rows each.
const FORGOTTEN_AT_ONCE: usize = 48;
const UNTIL: &str = "once-until/";

/// A request that is to take effect once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    person: String,
    key: String,
    /// The name of the call.
    call: String,
    /// SHA-256 of call and request, in hexadecimal digits.
    request: String,
    until: UnixMillis,
}

/// What a request came to that took effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    call: String,
    request: String,
    until: UnixMillis,
    pub came: Came,
}

/// What is kept of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Came {
    /// It was done to a workflow, which was at this event then. The answer is the workflow as it is when somebody asks again.
    Workflow { event: u64 },
    /// The answer itself, as it was sent, in hexadecimal digits.
    Answer { bytes: String },
}

/// Whether a key may be one.
///
/// # Errors
/// [`Error::Invalid`] when it is too long, or has control characters.
pub fn check_key(key: &str) -> Result<(), Error> {
    if key.len() > MAX_KEY_BYTES {
        return Err(Error::Invalid(format!(
            "the idempotency key takes {} B, {MAX_KEY_BYTES} B at most: a UUID is long enough",
            key.len()
        )));
    }
    if key.chars().any(char::is_control) {
        return Err(Error::Invalid(format!(
            "the idempotency key {key:?} has control characters: a UUID is a good one"
        )));
    }
    Ok(())
}

impl Once {
    /// What `person` asks by `call`, with `request` as it is on the wire, without its key. `now` is by the clock on the wall.
    ///
    /// # Errors
    /// As [`check_key`]; [`Error::Invalid`] for an empty one.
    pub fn new(person: &str, key: &str, call: &str, request: &[u8], now: UnixMillis) -> Result<Self, Error> {
        check_key(key)?;
        if key.is_empty() {
            return Err(Error::Invalid(
                "the idempotency key is empty: leave it out".to_owned(),
            ));
        }
        let asked = [call.as_bytes(), b"\0", request].concat();
        Ok(Self {
            person: person.to_owned(),
            key: key.to_owned(),
            call: call.to_owned(),
            request: HEXLOWER.encode(digest(&SHA256, &asked).as_ref()),
            until: now.saturating_add(KEPT_MS),
        })
    }

    fn row(&self) -> String {
        format!("once/{}/{}", self.person, self.key)
    }

    /// What the same request came to before; `None`: it has not taken effect.
    ///
    /// # Errors
    /// [`Error::Exists`] when the key was used for something else.
    pub fn before(&self, view: &View) -> Result<Option<Done>, Error> {
        let Some(done) = view.get::<Done>(&self.row())?.map(|found| found.value) else {
            return Ok(None);
        };
        if done.request != self.request {
            let Self {
                person, key, call, ..
            } = self;
            return Err(Error::Exists(format!(
                "idempotency key {key:?} of {person} was used for something else, {}, and this is {call}: use a new key for each \
                 request, and the same one only to ask the same again",
                match done.call == *call {
                    true => format!("another {call}"),
                    false => done.call,
                }
            )));
        }
        Ok(Some(done))
    }

    /// Writes what it comes to with what it does.
    pub fn note(&self, batch: &mut Batch, came: Came) {
        let done = Done {
            call: self.call.clone(),
            request: self.request.clone(),
            until: self.until,
            came,
        };
        batch.absent(self.row());
        batch.put(self.row(), &done);
        let Self {
            person, key, until, ..
        } = self;
        batch.put(format!("{UNTIL}{until:013}/{person}/{key}"), &());
    }

    /// Whether a commit with its note failed since the key is there already.
    pub fn is_met_by(&self, error: &Error) -> bool {
        matches!(error.store(), Some(StoreError::Conflict { key }) if *key == self.row().as_bytes())
    }
}

impl Came {
    pub fn answer(bytes: &[u8]) -> Self {
        Self::Answer {
            bytes: HEXLOWER.encode(bytes),
        }
    }

    /// Where the workflow was when it was done to one.
    pub fn event(&self) -> Option<u64> {
        match self {
            Self::Answer { .. } => None,
            Self::Workflow { event } => Some(*event),
        }
    }

    /// The answer's bytes; `None`: it is kept as a workflow.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Answer { bytes } => HEXLOWER.decode(bytes.as_bytes()).ok(),
            Self::Workflow { .. } => None,
        }
    }
}

/// Takes away keys that were kept for their time: a few, and how many. `None`: there are none. It reads as many rows as it takes away,
/// and one more.
///
/// # Errors
/// When the store cannot be read.
pub fn forget(view: &View, now: UnixMillis) -> Result<Option<(Batch, usize)>, Error> {
    let mut batch = Batch::default();
    let mut forgotten = 0;
    for (row, _) in view.first_of::<IgnoredAny>(UNTIL, FORGOTTEN_AT_ONCE)? {
        let mut parts = row.splitn(3, '/');
        let until: Option<UnixMillis> = parts.next().and_then(|until| until.parse().ok());
        if until.is_some_and(|until| until >= now) {
            break;
        }
        if let (Some(person), Some(key)) = (parts.next(), parts.next()) {
            batch.delete(format!("once/{person}/{key}"));
        }
        batch.delete(format!("{UNTIL}{row}"));
        forgotten += 1;
    }
    Ok((forgotten > 0).then_some((batch, forgotten)))
}

#[cfg(test)]
mod tests {
    use store::{MemoryStore, Store};

    use super::*;

    fn once(person: &str, key: &str, request: &str) -> Once {
        Once::new(person, key, "SkipTask", request.as_bytes(), 1_000).expect("a key")
    }

    fn commit(store: &MemoryStore, once: &Once, came: Came) -> Result<(), Error> {
        let mut batch = Batch::default();
        once.note(&mut batch, came);
        Ok(store.commit(&batch.into_commit()).map(drop)?)
    }

    #[test]
    fn a_key_is_a_persons_own_and_of_one_request() {
        let store = MemoryStore::new();
        let first = once("ann", "k/1", "a");
        let before = |once: &Once| once.before(&View::now(&store).expect("a view"));
        assert_eq!(before(&first).expect("read"), None);
        commit(&store, &first, Came::Workflow { event: 7 }).expect("noted");
        // Asked later it is the same.
        let again = Once::new("ann", "k/1", "SkipTask", b"a", 2_000).expect("a key");
        let done = before(&again).expect("read").expect("it was done");
        assert_eq!(done.came, Came::Workflow { event: 7 });
        assert_eq!(before(&once("bob", "k/1", "a")).expect("read"), None);
        assert_eq!(before(&once("ann", "k/2", "a")).expect("read"), None);
        let said = |once: &Once| before(once).expect_err("refused").to_string();
        assert_eq!(
            said(&once("ann", "k/1", "b")),
            "idempotency key \"k/1\" of ann was used for something else, another SkipTask, and this is SkipTask: use a new key for \
             each request, and the same one only to ask the same again"
        );
        let other = Once::new("ann", "k/1", "PauseTask", b"a", 1_000).expect("a key");
        assert!(said(&other).contains("something else, SkipTask, and this is PauseTask"));
        // Two at the same time: one is noted.
        let error = commit(&store, &first, Came::Workflow { event: 8 }).expect_err("it is there");
        assert!(first.is_met_by(&error) && !once("bob", "k/1", "a").is_met_by(&error));
    }

    #[test]
    fn an_answer_is_kept_as_it_was_sent() {
        let came = Came::answer(b"\0\xff");
        let text = serde_json::to_string(&came).expect("a value");
        assert_eq!(text, r#"{"kind":"answer","bytes":"00ff"}"#);
        let read: Came = serde_json::from_str(&text).expect("a value");
        assert_eq!(read.bytes().as_deref(), Some(&b"\0\xff"[..]));
        assert_eq!(Came::Workflow { event: 1 }.bytes(), None);
    }

    #[test]
    fn keys_have_a_bound_and_are_text() {
        check_key(&"k".repeat(MAX_KEY_BYTES)).expect("a key");
        let said = |key: &str| check_key(key).expect_err("refused").to_string();
        assert_eq!(
            said(&"k".repeat(MAX_KEY_BYTES + 1)),
            "the idempotency key takes 257 B, 256 B at most: a UUID is long enough"
        );
        assert!(said("a\nb").contains("has control characters"));
        let empty = Once::new("ann", "", "SkipTask", b"", 0).expect_err("refused");
        assert_eq!(empty.to_string(), "the idempotency key is empty: leave it out");
    }

    #[test]
    fn keys_go_when_they_were_kept_for_their_time_a_few_at_a_time() {
        let store = MemoryStore::new();
        for number in 0..100 {
            let key = format!("k{number}");
            commit(&store, &once("ann", &key, "a"), Came::answer(b"")).expect("noted");
        }
        let late = Once::new("ann", "late", "SkipTask", b"a", 9_000).expect("a key");
        commit(&store, &late, Came::answer(b"")).expect("noted");
        let mut rounds = Vec::new();
        let now = 1_000 + KEPT_MS + 1;
        while let Some((batch, count)) = forget(&View::now(&store).expect("a view"), now).expect("read") {
            assert!(batch.len() <= store::MAX_OPERATIONS);
            store.commit(&batch.into_commit()).expect("forgotten");
            rounds.push(count);
        }
        assert_eq!(rounds, [48, 48, 4]);
        let left = |kind: &str| {
            let rows = store.range(kind.as_bytes(), &store::prefix_end(kind.as_bytes()), 1_000);
            rows.expect("rows").len()
        };
        assert_eq!((left("once/"), left(UNTIL)), (1, 1));
    }
}
