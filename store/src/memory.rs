//! A store in memory, for tests: the same answers as the durable engines, gone with the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::watch::History;
use crate::{Change, Commit, KeyValue, Operation, Precondition, Revision, Store, StoreError, Watch};

/// An ordered map behind a lock.
#[derive(Debug)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
    history: History,
}

#[derive(Debug, Default)]
struct Inner {
    revision: Revision,
    keys: BTreeMap<Bytes, (Revision, Bytes)>,
}

impl MemoryStore {
    pub fn new() -> MemoryStore {
        MemoryStore {
            inner: Mutex::default(),
            history: History::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
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
        let mut changes = Vec::new();
        for operation in commit.effective_operations() {
            inner.run(operation, revision, &mut changes);
        }
        // Still under the lock: changes are recorded in the order of their revisions.
        self.history.record(revision, changes);
        Ok(revision)
    }

    fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.history.revision())
    }

    fn watch(&self, from: &[u8], to: &[u8], start: Option<Revision>) -> Result<Watch, StoreError> {
        self.history.watch(from, to, start)
    }
}

impl Inner {
    fn run(&mut self, operation: &Operation, revision: Revision, changes: &mut Vec<Change>) {
        let delete = |keys: &mut BTreeMap<_, _>, key: &Bytes, changes: &mut Vec<Change>| {
            if keys.remove(key).is_some() {
                let key = key.clone();
                changes.push(Change::Delete { key, revision });
            }
        };
        match operation {
            Operation::Put { key, value } => {
                self.keys.insert(key.clone(), (revision, value.clone()));
                changes.push(Change::Put(key_value((key, &(revision, value.clone())))));
            }
            Operation::Delete { key } => delete(&mut self.keys, key, changes),
            Operation::DeleteRange { from, to } if from < to => {
                let range = self.keys.range::<Bytes, _>(from..to);
                let keys: Vec<Bytes> = range.map(|(key, _)| key.clone()).collect();
                for key in &keys {
                    delete(&mut self.keys, key, changes);
                }
            }
            Operation::DeleteRange { .. } => {}
        }
    }
}

fn key_value((key, (modified, value)): (&Bytes, &(Revision, Bytes))) -> KeyValue {
    KeyValue {
        key: key.clone(),
        value: value.clone(),
        modified: *modified,
    }
}
