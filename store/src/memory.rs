//! A store in memory, for tests: the same answers as the durable engines, gone with the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::{Commit, KeyValue, Operation, Precondition, Revision, Store, StoreError};

/// An ordered map behind a lock.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    revision: Revision,
    keys: BTreeMap<Bytes, (Revision, Bytes)>,
}

impl MemoryStore {
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        Ok(self.lock().keys.get_key_value(key).map(key_value))
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let inner = self.lock();
        let range = inner
            .keys
            .range(Bytes::copy_from_slice(from)..Bytes::copy_from_slice(to));
        Ok(range.take(limit).map(key_value).collect())
    }

    fn commit(&self, commit: &Commit) -> Result<Revision, StoreError> {
        commit.check_limits()?;
        let mut inner = self.lock();
        for precondition in &commit.preconditions {
            let (key, holds) = match precondition {
                Precondition::Absent { key } => (key, !inner.keys.contains_key(key)),
                Precondition::Unchanged { key, modified } => (
                    key,
                    inner
                        .keys
                        .get(key)
                        .is_some_and(|(revision, _)| revision == modified),
                ),
            };
            if !holds {
                return Err(StoreError::Conflict { key: key.clone() });
            }
        }
        inner.revision += 1;
        let revision = inner.revision;
        for operation in &commit.operations {
            match operation {
                Operation::Put { key, value } => {
                    inner.keys.insert(key.clone(), (revision, value.clone()));
                }
                Operation::Delete { key } => {
                    inner.keys.remove(key);
                }
                Operation::DeleteRange { from, to } => {
                    inner.keys.retain(|key, _| key < from || key >= to);
                }
            }
        }
        Ok(revision)
    }
}

fn key_value((key, (modified, value)): (&Bytes, &(Revision, Bytes))) -> KeyValue {
    KeyValue {
        key: key.clone(),
        value: value.clone(),
        modified: *modified,
    }
}
