//! Durable ordered key-value store: get, range, snapshots, and commits with preconditions.
//!
//! Engines: [`memory`] for tests, [`redb`] as the embedded default. One conformance suite runs against each.
//! The limits are etcd's: [`MAX_OPERATIONS`] operations and [`MAX_COMMIT_BYTES`] a commit.
//!
//! The engines block. Code on a runtime uses [`queue::StoreHandle`], which has the one writer thread and turns
//! commits that wait at the same time into one synced transaction.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

pub mod between_reads;
pub mod blobs;
pub mod formats;
pub mod memory;
pub mod offline;
pub mod queue;
pub mod redb;
pub mod rows;
pub mod watch;

pub use crate::between_reads::BetweenReads;
pub use crate::blobs::{Blobs, Digest};
pub use crate::memory::MemoryStore;
pub use crate::queue::StoreHandle;
pub use crate::redb::RedbStore;
pub use crate::watch::{Change, Watch};

/// Operations in one commit, and preconditions in one commit (etcd's `--max-txn-ops`).
pub const MAX_OPERATIONS: usize = 128;
/// Bytes of keys and values in one commit (etcd's `--max-request-bytes`).
pub const MAX_COMMIT_BYTES: usize = 1_572_864;

/// Grows with every commit; a key's version is the revision that last wrote it.
///
/// The embedded engines count commits. etcd does not count one that changes nothing, so nobody may rely on that.
pub type Revision = u64;

/// A key with its value and the revision that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    pub modified: Revision,
}

/// Something that must hold for a commit to happen.
///
/// All preconditions of a commit are checked before its first operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    Absent { key: Bytes },
    Unchanged { key: Bytes, modified: Revision },
}

/// One write of a commit.
///
/// As in etcd, a key that a commit puts is written by no other operation of it, except that it may be deleted before:
/// then the delete is left out. Ranges and keys that are deleted may overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Put {
        key: Bytes,
        value: Bytes,
    },
    /// Deleting a key that is not there is no error.
    Delete {
        key: Bytes,
    },
    /// All keys in `[from, to)`.
    DeleteRange {
        from: Bytes,
        to: Bytes,
    },
    /// A row whose place is the commit's own: its key is [`appended_key`] of `log` and the revision that the commit gets. So the
    /// rows of a log stand in the order of commits, and one that is seen is never followed by one that is put before it.
    ///
    /// `log` ends in a slash, and nothing else of the commit is below it.
    Append {
        log: Bytes,
        value: Bytes,
    },
}

/// A set of writes that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    pub preconditions: Vec<Precondition>,
    pub operations: Vec<Operation>,
}

/// Why a store did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another commit came first; read again and decide again.
    #[error("conflict on key {key:?}")]
    Conflict { key: Bytes },
    #[error(
        "commit of {operations} operations and {bytes} B is over the limit of {MAX_OPERATIONS} operations and {MAX_COMMIT_BYTES} B"
    )]
    TooLarge { operations: usize, bytes: usize },
    /// Changes that were asked for are no longer kept.
    #[error(
        "changes from revision {wanted} on are no longer kept, only from {oldest} on: read again, and watch from then on"
    )]
    Compacted { wanted: Revision, oldest: Revision },
    /// etcd refuses that, so every engine does ("duplicate key given in txn request").
    #[error("key {key:?} is put in a commit that writes it a second time: merge the two")]
    DuplicateKey { key: Bytes },
    /// A log is below a prefix, as all kinds of rows are.
    #[error("{log:?} is no log that a commit may append to: its name ends in a slash")]
    NoLog { log: Bytes },
    /// etcd refuses that, so every engine does ("key is not provided").
    #[error("a commit writes the empty key: give it a name")]
    EmptyKey,
    /// What the snapshot had is gone: etcd has compacted it, or the file was opened again after an I/O error.
    #[error("a snapshot of the store is no longer kept: take a new one, and read again from the beginning")]
    SnapshotExpired,
    /// The filesystem is full, or a quota is. What was there is untouched, and writing works again once there is room.
    #[error(
        "no room in the filesystem of store {path}: free some, or make it larger; then all goes on without a restart"
    )]
    Full {
        path: PathBuf,
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has the store's file open.
    #[error("store {path} is in use by another process: stop that one, or choose another data directory")]
    Locked { path: PathBuf },
    /// The store's file is there but is no store, or is damaged.
    #[error(
        "store {path} cannot be read: {message}; put a backup in its place, or move it away to start empty"
    )]
    Corrupt { path: PathBuf, message: String },
    /// What is stored under a key is not what was written. Other keys are not touched by it.
    #[error(
        "key {} in store {path} is damaged: its checksum does not match; `farrier store check` names all that is \
         damaged, and a backup that `farrier store import --force` puts in place is the cure",
        String::from_utf8_lossy(key)
    )]
    Damaged { path: PathBuf, key: Bytes },
    /// A later version of Farrier made the store.
    #[error(
        "store {path} is of format {version}, and this version of Farrier knows up to {}: use the one that made it, or a \
         later one",
        crate::redb::format::VERSION
    )]
    Newer { path: PathBuf, version: u64 },
    /// A later version of Farrier wrote rows that this one cannot read.
    #[error(
        "the rows of the store are of format {format}, which Farrier {by} wrote first, and this is Farrier {}, which reads \
         formats up to {}: use Farrier {by}, or a later one, or import an export that was made before",
        reader.version, reader.reads
    )]
    NewerRows {
        format: u32,
        by: String,
        reader: formats::Reader,
    },
    /// Whether the commit happened is not known. Preconditions make it safe to try again.
    #[error("store: {message}")]
    Backend {
        message: String,
        #[source]
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
}

/// A store as it was at one revision: all that is read of it belongs together. Blocking.
///
/// Whoever reads more than one row to make one thing of them reads a snapshot. It is for one such reading, and dropped
/// then: while it is there, an engine keeps what was overwritten since. An engine may end it before that
/// ([`StoreError::SnapshotExpired`]); its user drops what it has read and begins again with a new one.
pub trait Snapshot: Send + Sync + 'static {
    /// The revision of the last commit that is seen.
    fn revision(&self) -> Result<Revision, StoreError>;

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError>;

    /// At most `limit` keys of `[from, to)`, in order. Nothing when `from >= to`.
    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError>;

    /// The last keys of `[from, to)`, at most `limit`, the last one first. Nothing when `from >= to`.
    ///
    /// Engines read no more than they give. This one reads the whole range: it is for wrappers, as tests have them.
    fn range_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        let mut rows = self.range(from, to, usize::MAX)?;
        rows.reverse();
        rows.truncate(limit);
        Ok(rows)
    }
}

/// A durable ordered map. Blocking; callers on a runtime use [`queue::StoreHandle`].
pub trait Store: Send + Sync + 'static {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError>;

    /// At most `limit` keys of `[from, to)`, in order, all as of one revision. Nothing when `from >= to`.
    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError>;

    /// The store as it is now: every commit that was answered before is seen, and none that comes later.
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError>;

    /// Returns when the commit is durable (synced).
    fn commit(&self, commit: &Commit) -> Result<Revision, StoreError>;

    /// Does several commits, each all-or-nothing with preconditions of its own, and each seeing the ones before it.
    /// Engines may make them durable with one sync; none is answered before it is durable.
    fn commit_group(&self, commits: &[&Commit]) -> Vec<Result<Revision, StoreError>> {
        commits.iter().map(|commit| self.commit(commit)).collect()
    }

    /// The newest durable revision: what is read after this call is at least that new.
    fn revision(&self) -> Result<Revision, StoreError> {
        Err(no_watch())
    }

    /// Changes of the keys in `[from, to)`, of revisions from `start` on; from now on when `None`.
    ///
    /// To follow a range without a gap: watch it from now on, then read it from a snapshot, and leave out the changes up
    /// to that snapshot's revision. The embedded engines keep changes only while somebody watches, so that a commit
    /// costs nothing when nobody does.
    ///
    /// May wait for the commit that is under way.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when changes since `start` are not kept.
    fn watch(&self, from: &[u8], to: &[u8], start: Option<Revision>) -> Result<Watch, StoreError> {
        let _ = (from, to, start);
        Err(no_watch())
    }
}

/// Wrappers around a store, as tests have them, may go without.
fn no_watch() -> StoreError {
    StoreError::Backend {
        message: "this engine cannot be watched".into(),
        source: None,
    }
}

impl Commit {
    /// Refuses a commit that no engine would take: too large, a key put that is written twice, the empty key.
    pub fn check_limits(&self) -> Result<(), StoreError> {
        let operations = self.operations.len().max(self.preconditions.len());
        let bytes = self.len_bytes();
        if operations > MAX_OPERATIONS || bytes > MAX_COMMIT_BYTES {
            return Err(StoreError::TooLarge { operations, bytes });
        }
        self.check_keys()
    }

    /// Source: etcd, `checkIntervals` in server/etcdserver/api/v3rpc/key.go.
    fn check_keys(&self) -> Result<(), StoreError> {
        self.check_logs()?;
        let mut puts = BTreeSet::new();
        for operation in &self.operations {
            let twice = match operation {
                Operation::Put { key, .. } | Operation::Delete { key } if key.is_empty() => {
                    return Err(StoreError::EmptyKey);
                }
                Operation::Put { key, .. } => (!puts.insert(key)).then_some(key),
                Operation::Delete { key } => puts.get(key).copied(),
                Operation::Append { .. } | Operation::DeleteRange { .. } => None,
            };
            if let Some(key) = twice {
                return Err(StoreError::DuplicateKey { key: key.clone() });
            }
        }
        for operation in &self.operations {
            if let Operation::DeleteRange { from, to } = operation
                && from < to
                && let Some(key) = puts.range::<Bytes, _>(from..to).next()
            {
                return Err(StoreError::DuplicateKey {
                    key: Bytes::clone(key),
                });
            }
        }
        Ok(())
    }

    /// What is appended to a log is not known by its key before it is there: the rest of the commit stays out of the log.
    fn check_logs(&self) -> Result<(), StoreError> {
        for (place, operation) in self.operations.iter().enumerate() {
            let Operation::Append { log, .. } = operation else {
                continue;
            };
            if !log.ends_with(b"/") {
                return Err(StoreError::NoLog { log: log.clone() });
            }
            let end = prefix_end(log);
            let others = self.operations.iter().enumerate().filter(|(at, _)| *at != place);
            let is_in_it = |operation: &Operation| match operation {
                Operation::Put { key, .. } | Operation::Delete { key } => key.starts_with(log),
                Operation::DeleteRange { from, to } => from < to && *from < end && log < to,
                Operation::Append { log: other, .. } => other.starts_with(log) || log.starts_with(other),
            };
            if others.map(|(_, operation)| operation).any(is_in_it) {
                return Err(StoreError::DuplicateKey { key: log.clone() });
            }
        }
        Ok(())
    }

    /// The operations, without deletes of keys that are put later: what an engine has to do.
    pub fn effective_operations(&self) -> impl Iterator<Item = &Operation> {
        let deletes = |operation: &Operation| matches!(operation, Operation::Delete { .. });
        // Most commits delete nothing.
        let puts: BTreeSet<&Bytes> = self
            .operations
            .iter()
            .filter_map(|operation| match operation {
                Operation::Put { key, .. } => Some(key),
                _ => None,
            })
            .take(if self.operations.iter().any(deletes) {
                self.operations.len()
            } else {
                0
            })
            .collect();
        self.operations.iter().filter(move |operation| match operation {
            Operation::Delete { key } => !puts.contains(key),
            _ => true,
        })
    }

    /// Bytes of all keys and values.
    pub fn len_bytes(&self) -> usize {
        let preconditions = self.preconditions.iter().map(|precondition| match precondition {
            Precondition::Absent { key } | Precondition::Unchanged { key, .. } => key.len(),
        });
        let operations = self.operations.iter().map(|operation| match operation {
            Operation::Put { key, value } => key.len() + value.len(),
            Operation::Delete { key } => key.len(),
            Operation::DeleteRange { from, to } => from.len() + to.len(),
            Operation::Append { log, value } => log.len() + REVISION_DIGITS + value.len(),
        });
        preconditions.sum::<usize>() + operations.sum::<usize>()
    }
}

impl StoreError {
    /// Whether reading again and deciding again may help.
    pub fn is_conflict(&self) -> bool {
        matches!(self, StoreError::Conflict { .. })
    }

    /// Whether reading again from a new snapshot may help.
    pub fn is_expired(&self) -> bool {
        matches!(self, StoreError::SnapshotExpired)
    }
}

/// Digits of a revision in a key: as many as the largest has.
pub const REVISION_DIGITS: usize = 20;

/// The key of what the commit of this revision appended to `log`. Keys of a log sort as their revisions do.
pub fn appended_key(log: &[u8], revision: Revision) -> Bytes {
    let mut key = log.to_vec();
    key.extend_from_slice(format!("{revision:0REVISION_DIGITS$}").as_bytes());
    key.into()
}

/// The first key after all keys that begin with `prefix`: `range(prefix, prefix_end(prefix))` gives those.
///
/// A prefix of 0xff bytes only (or an empty one) has no such key; keys of such a form are not used, and the answer
/// is then a key above every key of up to 64 bytes.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Bytes::from(end);
        }
    }
    Bytes::from_static(&[0xff; 64])
}

/// Whether an I/O error says that there is no room left.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_end_is_the_first_key_past_the_prefix() {
        assert_eq!(prefix_end(b"wf/"), Bytes::from_static(b"wf0"));
        assert_eq!(prefix_end(b"a\xff\xff"), Bytes::from_static(b"b"));
        assert!(prefix_end(b"") > Bytes::from_static(b"\xff\xfe"));
    }

    #[test]
    fn limits_count_keys_values_and_preconditions() {
        let put = |len| Commit {
            operations: vec![Operation::Put {
                key: Bytes::from_static(b"k"),
                value: vec![0; len].into(),
            }],
            ..Commit::default()
        };
        assert!(put(MAX_COMMIT_BYTES - 1).check_limits().is_ok());
        let error = put(MAX_COMMIT_BYTES).check_limits().unwrap_err();
        assert_eq!(
            error.to_string(),
            "commit of 1 operations and 1572865 B is over the limit of 128 operations and 1572864 B"
        );
        let many = Commit {
            preconditions: vec![Precondition::Absent { key: Bytes::new() }; MAX_OPERATIONS + 1],
            ..Commit::default()
        };
        assert!(matches!(
            many.check_limits(),
            Err(StoreError::TooLarge {
                operations: 129,
                bytes: 0
            })
        ));
    }

    #[test]
    fn a_key_that_is_put_is_written_by_nothing_else() {
        let key = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let put = |text| Operation::Put {
            key: key(text),
            value: Bytes::new(),
        };
        let delete = |text| Operation::Delete { key: key(text) };
        let range = |from, to| Operation::DeleteRange {
            from: key(from),
            to: key(to),
        };
        for (operations, twice) in [
            (vec![put("a"), put("b"), delete("c"), range("d", "e")], None),
            (vec![put("a"), put("b"), put("a")], Some("a")),
            (vec![put("a"), delete("a")], Some("a")),
            (vec![delete("a"), put("a")], None),
            (vec![range("a", "c"), put("b")], Some("b")),
            (vec![put("b"), range("b", "c")], Some("b")),
            (vec![put("c"), put("a\x01"), range("a", "c")], Some("a\x01")),
            (
                vec![put("c"), range("b", "c"), range("c", "c"), range("d", "b")],
                None,
            ),
            (
                vec![delete("a"), delete("a"), range("a", "b"), range("a", "c")],
                None,
            ),
        ] {
            let commit = Commit {
                operations,
                ..Commit::default()
            };
            match (commit.check_limits(), twice) {
                (Ok(()), None) => {}
                (Err(error @ StoreError::DuplicateKey { .. }), Some(twice)) => assert_eq!(
                    error.to_string(),
                    format!(
                        "key {:?} is put in a commit that writes it a second time: merge the two",
                        key(twice)
                    )
                ),
                (answer, _) => panic!("{answer:?} for {commit:?}"),
            }
        }
        let empty = Commit {
            operations: vec![delete("")],
            ..Commit::default()
        };
        assert!(matches!(empty.check_limits(), Err(StoreError::EmptyKey)));
    }
}
