//! The store as the control plane uses it: JSON values under text keys. Everything here blocks.
//!
//! Whatever is read is read from a snapshot, so all that one [`View`] gives belongs together. When a snapshot expires, its
//! user begins again with another: [`read`] does that.
//!
//! Keys, all text, ids time-ordered:
//!
//! ```text
//! machine/<name>                              the record
//! mac/<mac>  address/<ip>  agent-id/<id>      -> machine name
//! namespace/<name>                            see [`namespaces`](crate::namespaces)
//! template/<namespace>/<name>                 the text
//! template-id/<id>                            -> its namespace and name
//! template-version/<id>/<version:020>         what it was before
//! workflow/<id> ...                           see [`steps`](crate::steps)
//! workflow-text/<id>                          what it was rendered to
//! archived/<id>  sub/<root>/<id>              those that have ended; sub-workflows; see `archive`
//! of/<worker>/<id>                            every workflow of a worker
//! open/<worker>/<id>                          those that have not ended
//! last/<worker>                               the one that ended last
//! idempotency/<namespace>/<key>               -> workflow id
//! once/<person>/<key>  once-until/<at>/...    what was asked with a key; when that goes; see [`once`](crate::once)
//! log/<attempt>/<line>  log-total/<attempt>   what an attempt printed; how much
//! token/<name>  token-secret/<digest>         what people have been given; -> name; see [`people`](crate::people)
//! boot/<mac>                                  boots and their tokens
//! secret/<namespace>/<name>                   a secret, sealed; see [`secrets`](crate::secrets)
//! webhook/<namespace>/<name> ...              who is told of events; see [`webhooks`](crate::webhooks)
//! agent/<mac>                                 what attached last: version, when it was heard
//! inventory/<mac>                             what its machine is made of, as it told last
//! data-version/<root>  data/<root>/<version>  the ephemeral data; see `data`
//! boot-log/<ring>/<number>  boot-ring/<ring>  the timeline; its first and next number
//! detached/<id>/<digest>/<piece>              values of a workflow's rows that are too large for a commit; see [`detached`]
//! order/<revision:020>                        the events that a commit wrote; see [`order`](crate::order)
//! meta/order                                  what of the order is not kept any more
//! meta/rows                                   the formats that values may be in; see [`formats`]
//! ```

pub mod detached;
pub mod formats;

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::{Commit, KeyValue, Operation, Precondition, Revision, Snapshot, Store};

use crate::error::Error;

/// Keys read in one go while a prefix is walked.
const PAGE: usize = 500;

/// A stored value and the revision that wrote it.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    pub value: T,
    pub modified: Revision,
}

/// What is under a key of which a value may be known; see [`View::get_unless`].
#[derive(Clone, Debug)]
pub enum Seen<T> {
    Nothing,
    AsKnown,
    Now(Stored<T>),
}

/// Times that something is read again because its snapshot expired.
const TRIES: usize = 8;

/// Runs `read` on the store as it is now; once more, from the beginning, when that snapshot expires under it.
///
/// # Errors
/// Those of `read`; [`store::StoreError::SnapshotExpired`] when that happened eight times in a row.
pub fn read<T>(store: &dyn Store, mut read: impl FnMut(&View) -> Result<T, Error>) -> Result<T, Error> {
    until_read(|| read(&View::now(store)?))
}

/// Runs `read`, which takes snapshots of its own, until none of them expires under it; eight times at most.
///
/// # Errors
/// As [`read`].
pub fn until_read<T>(mut read: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..TRIES {
        match read() {
            Err(Error::Store(error)) if error.is_expired() => {}
            done => return done,
        }
    }
    read()
}

/// Blocking reads of one snapshot.
#[derive(Clone)]
pub struct View {
    rows: Arc<dyn Snapshot>,
}

impl View {
    pub fn new(rows: Arc<dyn Snapshot>) -> Self {
        Self { rows }
    }

    /// Of the store as it is now. It is for one reading: while it is there the store keeps what it overwrites.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn now(store: &dyn Store) -> Result<Self, Error> {
        Ok(Self::new(store.snapshot()?))
    }

    pub fn rows(&self) -> &dyn Snapshot {
        &*self.rows
    }

    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Stored<T>>, Error> {
        let found = self.rows.get(key.as_bytes())?;
        found.map(|found| self.decode(found)).transpose()
    }

    /// As [`View::get`], but a value that is still as `known` wrote it is not read again.
    ///
    /// # Errors
    /// Those of [`View::get`].
    pub fn get_unless<T: DeserializeOwned>(
        &self,
        key: &str,
        known: Option<Revision>,
    ) -> Result<Seen<T>, Error> {
        match self.rows.get(key.as_bytes())? {
            None => Ok(Seen::Nothing),
            Some(found) if Some(found.modified) == known => Ok(Seen::AsKnown),
            Some(found) => Ok(Seen::Now(self.decode(found)?)),
        }
    }

    /// The key of the first entry below `prefix`, without the prefix.
    pub fn first(&self, prefix: &str) -> Result<Option<String>, Error> {
        let found = self.rows.range(prefix.as_bytes(), after(prefix).as_bytes(), 1)?;
        Ok(found.first().map(|entry| tail(entry, prefix)))
    }

    pub fn list<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, T)>, Error> {
        let mut all = Vec::new();
        let mut from = prefix.to_owned();
        loop {
            let found = self.rows.range(from.as_bytes(), after(prefix).as_bytes(), PAGE)?;
            let full = found.len() == PAGE;
            if let Some(last) = found.last() {
                // The smallest key that is larger.
                from = format!("{prefix}{}\0", tail(last, prefix));
            }
            let page = self.decode_all(found, prefix)?.into_iter();
            all.extend(page.map(|(key, found)| (key, found.value)));
            if !full {
                return Ok(all);
            }
        }
    }

    /// The first entries below `prefix`, at most `limit`, with the revisions that wrote them.
    pub fn first_of<T: DeserializeOwned>(
        &self,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<(String, Stored<T>)>, Error> {
        let found = self
            .rows
            .range(prefix.as_bytes(), after(prefix).as_bytes(), limit)?;
        self.decode_all(found, prefix)
    }

    /// All entries below `prefix` whose whole key is at least `from`, with the revisions that wrote them.
    pub fn from<T: DeserializeOwned>(&self, prefix: &str, from: &str) -> Result<Vec<Stored<T>>, Error> {
        let (mut all, mut from) = (Vec::new(), Bytes::copy_from_slice(from.as_bytes()));
        loop {
            let found = self.rows.range(&from, after(prefix).as_bytes(), PAGE)?;
            let full = found.len() == PAGE;
            if let Some(last) = found.last() {
                // The smallest key that is larger.
                from = [&last.key, &b"\0"[..]].concat().into();
            }
            for entry in found {
                all.push(self.decode(entry)?);
            }
            if !full {
                return Ok(all);
            }
        }
    }

    /// At most `limit` entries below `prefix` whose whole key is at least `from`.
    pub fn page<T: DeserializeOwned>(
        &self,
        prefix: &str,
        from: &str,
        limit: usize,
    ) -> Result<Vec<(String, T)>, Error> {
        let found = self
            .rows
            .range(from.as_bytes(), after(prefix).as_bytes(), limit)?;
        self.values(found, prefix)
    }

    /// The last entries below `prefix` whose whole key is in `[from, before)`, at most `limit`, the last one first.
    pub fn page_back<T: DeserializeOwned>(
        &self,
        prefix: &str,
        from: &str,
        before: &str,
        limit: usize,
    ) -> Result<Vec<(String, T)>, Error> {
        let end = after(prefix);
        let before = before.min(end.as_str());
        let found = self.rows.range_back(from.as_bytes(), before.as_bytes(), limit)?;
        self.values(found, prefix)
    }

    /// The first entries below `prefix` whose whole key is in `[from, before)`, at most `limit`.
    pub fn page_between<T: DeserializeOwned>(
        &self,
        prefix: &str,
        from: &str,
        before: &str,
        limit: usize,
    ) -> Result<Vec<(String, T)>, Error> {
        let end = after(prefix);
        let before = before.min(end.as_str());
        let found = self.rows.range(from.as_bytes(), before.as_bytes(), limit)?;
        self.values(found, prefix)
    }

    fn values<T: DeserializeOwned>(
        &self,
        found: Vec<KeyValue>,
        prefix: &str,
    ) -> Result<Vec<(String, T)>, Error> {
        let found = self.decode_all(found, prefix)?;
        Ok(found.into_iter().map(|(key, found)| (key, found.value)).collect())
    }

    fn decode_all<T: DeserializeOwned>(
        &self,
        found: Vec<KeyValue>,
        prefix: &str,
    ) -> Result<Vec<(String, Stored<T>)>, Error> {
        let mut all = Vec::with_capacity(found.len());
        for entry in found {
            let tail = tail(&entry, prefix);
            all.push((tail, self.decode(entry)?));
        }
        Ok(all)
    }

    fn decode<T: DeserializeOwned>(&self, found: KeyValue) -> Result<Stored<T>, Error> {
        let found = detached::whole(&*self.rows, found)?;
        let value = formats::CURRENT
            .up_to_date(&found.key, found.value)
            .and_then(|value| serde_json::from_slice(&value));
        let value = value.map_err(|source| Error::Damaged {
            key: String::from_utf8_lossy(&found.key).into_owned(),
            source,
        })?;
        Ok(Stored {
            value,
            modified: found.modified,
        })
    }
}

fn tail(entry: &KeyValue, prefix: &str) -> String {
    String::from_utf8_lossy(entry.key.get(prefix.len()..).unwrap_or_default()).into_owned()
}

/// The end of the range of keys below `prefix`, which ends in a slash: `0` follows `/` in ASCII.
fn after(prefix: &str) -> String {
    debug_assert!(prefix.ends_with('/'), "{prefix} does not end in a slash");
    format!("{}0", prefix.strip_suffix('/').unwrap_or(prefix))
}

/// Writes that happen together or not at all, and what must hold for them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    commit: Commit,
}

impl Batch {
    pub fn put(&mut self, key: impl Into<String>, value: &impl Serialize) {
        let value =
            serde_json::to_vec(value).expect("our own types have text keys and no failing serializer");
        self.put_as_it_is(key.into().into_bytes().into(), value.into());
    }

    /// A value that is encoded already.
    pub fn put_as_it_is(&mut self, key: Bytes, value: Bytes) {
        self.forget(&key);
        self.commit.operations.push(Operation::Put { key, value });
    }

    pub fn delete(&mut self, key: impl Into<String>) {
        let key: Bytes = key.into().into_bytes().into();
        self.forget(&key);
        self.commit.operations.push(Operation::Delete { key });
    }

    /// A key is written once in a commit: what was to be done with it before does not count.
    fn forget(&mut self, key: &Bytes) {
        self.commit.operations.retain(|operation| match operation {
            Operation::Put { key: other, .. } | Operation::Delete { key: other } => other != key,
            Operation::Append { .. } | Operation::DeleteRange { .. } => true,
        });
    }

    /// Deletes everything below `prefix`, which ends in a slash.
    pub fn delete_below(&mut self, prefix: &str) {
        self.delete_range(prefix.to_owned(), after(prefix));
    }

    pub fn delete_range(&mut self, from: String, to: String) {
        let (from, to) = (from.into_bytes().into(), to.into_bytes().into());
        self.commit.operations.push(Operation::DeleteRange { from, to });
    }

    /// Adds a row to a log, which stands in the order of commits; see [`Operation::Append`].
    pub fn append(&mut self, log: &'static str, value: &impl Serialize) {
        let value =
            serde_json::to_vec(value).expect("our own types have text keys and no failing serializer");
        let log = Bytes::from_static(log.as_bytes());
        let value = value.into();
        self.commit.operations.push(Operation::Append { log, value });
    }

    pub fn absent(&mut self, key: impl Into<String>) {
        self.commit.preconditions.push(Precondition::Absent {
            key: key.into().into_bytes().into(),
        });
    }

    pub fn unchanged(&mut self, key: impl Into<String>, modified: Revision) {
        self.commit.preconditions.push(Precondition::Unchanged {
            key: key.into().into_bytes().into(),
            modified,
        });
    }

    /// Absent when `modified` is `None`.
    pub fn expect(&mut self, key: impl Into<String>, modified: Option<Revision>) {
        match modified {
            Some(modified) => self.unchanged(key, modified),
            None => self.absent(key),
        }
    }

    pub fn merge(&mut self, other: Batch) {
        self.commit.preconditions.extend(other.commit.preconditions);
        self.commit.operations.extend(other.commit.operations);
    }

    /// Preconditions and writes that were made elsewhere.
    pub fn take_in(&mut self, commit: &Commit) {
        self.commit
            .preconditions
            .extend(commit.preconditions.iter().cloned());
        self.commit.operations.extend(commit.operations.iter().cloned());
    }

    pub fn into_commit(self) -> Commit {
        self.commit
    }

    pub fn is_empty(&self) -> bool {
        self.commit.operations.is_empty()
    }

    pub fn len(&self) -> usize {
        self.commit.operations.len()
    }

    pub fn preconditions(&self) -> usize {
        self.commit.preconditions.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_write_of_a_key_counts() {
        let mut batch = Batch::default();
        batch.put("a", &1);
        batch.delete("b");
        batch.delete("a");
        batch.put("b", &2);
        let want = vec![
            Operation::Delete { key: "a".into() },
            Operation::Put {
                key: "b".into(),
                value: "2".into(),
            },
        ];
        assert_eq!(batch.into_commit().operations, want);
    }
}
