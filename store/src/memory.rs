//! A store in memory, for tests: the same answers as the durable engines, gone with the process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::watch::History;
use crate::{
    Change, Commit, KeyValue, Operation, Precondition, Revision, Snapshot, Store, StoreError, Watch,
    appended_key,
};

/// An ordered map behind a lock.
#[derive(Debug)]
pub struct MemoryStore {
    /// A snapshot shares it; the next commit then changes a copy.
    rows: Mutex<Arc<Rows>>,
    history: History,
}

/// All rows as of a revision.
#[derive(Clone, Debug, Default)]
struct Rows {
    revision: Revision,
    keys: BTreeMap<Bytes, (Revision, Bytes)>,
}

impl MemoryStore {
    pub fn new() -> MemoryStore {
        MemoryStore {
            rows: Mutex::default(),
            history: History::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Rows>> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.lock().get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.lock().range(from, to, limit)
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        let rows: Arc<Rows> = self.lock().clone();
        Ok(rows)
    }

    fn commit(&self, commit: &Commit) -> Result<Revision, StoreError> {
        commit.check_limits()?;
        let mut rows = self.lock();
        for precondition in &commit.preconditions {
            let (key, holds) = match precondition {
                Precondition::Absent { key } => (key, !rows.keys.contains_key(key)),
                Precondition::Unchanged { key, modified } => (
                    key,
                    rows.keys
                        .get(key)
                        .is_some_and(|(revision, _)| revision == modified),
                ),
            };
            if !holds {
                return Err(StoreError::Conflict { key: key.clone() });
            }
        }
        let inner = Arc::make_mut(&mut rows);
        inner.revision += 1;
        let revision = inner.revision;
        let mut changes = self.history.is_watched().then(Vec::new);
        for operation in commit.effective_operations() {
            inner.run(operation, revision, changes.as_mut());
        }
        // Still under the lock: changes are recorded in the order of their revisions.
        self.history.record(revision, changes);
        Ok(revision)
    }

    fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.history.revision())
    }

    fn watch(&self, from: &[u8], to: &[u8], start: Option<Revision>) -> Result<Watch, StoreError> {
        // A commit that is under way has looked already whether somebody watches.
        let _rows = self.lock();
        self.history.watch(from, to, start)
    }
}

impl Snapshot for Rows {
    fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.revision)
    }

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        Ok(self.keys.get_key_value(key).map(key_value))
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let range = self.keys.range::<[u8], _>(bounds);
        Ok(range.take(limit).map(key_value).collect())
    }

    fn range_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let range = self.keys.range::<[u8], _>(bounds);
        Ok(range.rev().take(limit).map(key_value).collect())
    }
}

impl Rows {
    fn run(&mut self, operation: &Operation, revision: Revision, mut changes: Option<&mut Vec<Change>>) {
        match operation {
            Operation::Put { key, value } => self.put(key.clone(), value, revision, changes),
            Operation::Append { log, value } => {
                self.put(appended_key(log, revision), value, revision, changes);
            }
            Operation::Delete { key } => self.delete(key, revision, changes),
            Operation::DeleteRange { from, to } if from < to => {
                let range = self.keys.range::<Bytes, _>(from..to);
                let keys: Vec<Bytes> = range.map(|(key, _)| key.clone()).collect();
                for key in &keys {
                    self.delete(key, revision, changes.as_deref_mut());
                }
            }
            Operation::DeleteRange { .. } => {}
        }
    }

    fn put(&mut self, key: Bytes, value: &Bytes, revision: Revision, changes: Option<&mut Vec<Change>>) {
        let row = (revision, value.clone());
        if let Some(changes) = changes {
            changes.push(Change::Put(key_value((&key, &row))));
        }
        self.keys.insert(key, row);
    }

    fn delete(&mut self, key: &Bytes, revision: Revision, changes: Option<&mut Vec<Change>>) {
        if self.keys.remove(key).is_some()
            && let Some(changes) = changes
        {
            let key = key.clone();
            changes.push(Change::Delete { key, revision });
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
