//! A snapshot is a read transaction: the engine keeps the pages that it needs until it is dropped.

use std::sync::Arc;

use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase};

use super::format::{self, KEYS, REVISION, Row};
use super::{Doing, Failure, Health, is_of_another_call};
use crate::{KeyValue, Revision, Snapshot, StoreError};

/// What a snapshot reads from.
pub(super) struct Reading {
    transaction: ReadTransaction,
    keys: ReadOnlyTable<&'static [u8], Row<'static>>,
}

impl Reading {
    pub(super) fn begin(database: &Database) -> Result<Reading, Failure> {
        let transaction = database.begin_read()?;
        let keys = transaction.open_table(KEYS)?;
        Ok(Reading { transaction, keys })
    }
}

pub(super) struct RedbSnapshot {
    health: Arc<Health>,
    reading: Reading,
}

impl RedbSnapshot {
    pub(super) fn new(health: Arc<Health>, reading: Reading) -> RedbSnapshot {
        RedbSnapshot { health, reading }
    }

    fn read<T>(&self, read: impl FnOnce(&Reading) -> Result<T, Failure>) -> Result<T, StoreError> {
        match self.health.during(Doing::LookingBack, || read(&self.reading)) {
            Err(StoreError::Backend {
                source: Some(source), ..
            }) if source.downcast_ref().is_some_and(is_of_another_call) => Err(StoreError::SnapshotExpired),
            answer => answer,
        }
    }
}

impl Snapshot for RedbSnapshot {
    fn revision(&self) -> Result<Revision, StoreError> {
        self.read(|reading| format::revision(&reading.transaction.open_table(REVISION)?))
    }

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.read(|reading| format::get(&reading.keys, key))
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        self.read(|reading| format::range(&reading.keys, from, to, limit))
    }

    fn range_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        self.read(|reading| format::range_back(&reading.keys, from, to, limit))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::{RedbStore, Store};

    /// What a snapshot says after this failure, and whether the store is opened again for it.
    fn after(failure: redb::Error) -> (StoreError, bool) {
        let store = RedbStore::with_backend(redb::backends::InMemoryBackend::new()).unwrap();
        let reading = store.read(Reading::begin).unwrap();
        let snapshot = RedbSnapshot::new(store.health.clone(), reading);
        let error = snapshot.read(|_| Err::<(), _>(failure.into())).unwrap_err();
        let failed = store.health.failed.load(Ordering::Acquire);
        assert_eq!(store.get(b"a").is_err(), failed);
        (error, failed)
    }

    #[test]
    fn an_engine_that_was_closed_since_is_no_failure_but_the_snapshots_end() {
        for closed in [redb::Error::DatabaseClosed, redb::Error::PreviousIo] {
            let (error, failed) = after(closed);
            assert!(error.is_expired() && !failed, "{error}");
        }
        let (error, failed) = after(io::Error::other("unplugged").into());
        assert!(matches!(error, StoreError::Backend { .. }) && failed, "{error}");
        // A damaged place stays damaged, however often the file is opened.
        let (error, failed) = after(redb::Error::Corrupted("a page".into()));
        assert!(matches!(error, StoreError::Corrupt { .. }) && !failed, "{error}");
    }
}
