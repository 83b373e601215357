//! Durable ordered key-value store: get, range, and commits with preconditions.
//!
//! Engines: [`memory`] for tests, [`redb`] as the embedded default. One conformance suite runs against each.
//! The limits are etcd's: [`MAX_OPERATIONS`] operations and [`MAX_COMMIT_BYTES`] a commit.

use bytes::Bytes;

/// Operations in one commit (etcd's `--max-txn-ops`).
pub const MAX_OPERATIONS: usize = 128;
/// Bytes of keys and values in one commit (etcd's `--max-request-bytes`).
pub const MAX_COMMIT_BYTES: usize = 1_572_864;

/// Counts commits; a key's version is the revision that last wrote it.
pub type Revision = u64;

/// A key with its value and the revision that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    pub modified: Revision,
}

/// Something that must hold for a commit to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    Absent { key: Bytes },
    Unchanged { key: Bytes, modified: Revision },
}

/// One write of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Put {
        key: Bytes,
        value: Bytes,
    },
    Delete {
        key: Bytes,
    },
    /// All keys in `[from, to)`.
    DeleteRange {
        from: Bytes,
        to: Bytes,
    },
}

/// A set of writes that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    pub preconditions: Vec<Precondition>,
    pub operations: Vec<Operation>,
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another commit came first; read again and decide again.
    #[error("conflict on key {key:?}")]
    Conflict { key: Bytes },
    #[error("commit of {operations} operations and {bytes} B is over the limit")]
    TooLarge { operations: usize, bytes: usize },
    #[error("store: {message}")]
    Backend {
        message: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// A durable ordered map. Blocking; callers on a runtime use `spawn_blocking` or the handle in [`crate::queue`].
pub trait Store: Send + Sync + 'static {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError>;
    /// At most `limit` keys of `[from, to)`, in order.
    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError>;
    /// Returns when the commit is durable (synced).
    fn commit(&self, commit: &Commit) -> Result<Revision, StoreError>;
}
