//! A store in which something happens between the reads of others: what a race or a failure does, at a place that a test
//! chooses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Commit, KeyValue, Revision, Snapshot, Store, StoreError, Watch};

/// Called before each read, with the store beneath and how many reads there were before; an error is what the read gives.
type Happening = dyn Fn(&dyn Store, u64) -> Result<(), StoreError> + Send + Sync;

/// Reads of the store and of its snapshots are counted together. Commits go through as they are.
#[derive(Clone)]
pub struct BetweenReads {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    reads: AtomicU64,
    happening: Box<Happening>,
}

impl BetweenReads {
    /// Calls `happening` before each read of `store`, with the store and the number of reads before.
    ///
    /// It may commit, and may give an error in place of what is read: [`StoreError::SnapshotExpired`], for one.
    pub fn new(
        store: Arc<dyn Store>,
        happening: impl Fn(&dyn Store, u64) -> Result<(), StoreError> + Send + Sync + 'static,
    ) -> BetweenReads {
        BetweenReads {
            shared: Arc::new(Shared {
                store,
                reads: AtomicU64::new(0),
                happening: Box::new(happening),
            }),
        }
    }

    /// How many reads there were.
    pub fn reads(&self) -> u64 {
        self.shared.reads.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn before_a_read(&self) -> Result<(), StoreError> {
        let before = self.reads.fetch_add(1, Ordering::SeqCst);
        (self.happening)(&*self.store, before)
    }
}

impl Store for BetweenReads {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.shared.before_a_read()?;
        self.shared.store.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.shared.before_a_read()?;
        self.shared.store.range(from, to, limit)
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(Arc::new(Reading {
            snapshot: self.shared.store.snapshot()?,
            shared: self.shared.clone(),
        }))
    }

    fn commit(&self, commit: &Commit) -> Result<Revision, StoreError> {
        self.shared.store.commit(commit)
    }

    fn commit_group(&self, commits: &[&Commit]) -> Vec<Result<Revision, StoreError>> {
        self.shared.store.commit_group(commits)
    }

    fn revision(&self) -> Result<Revision, StoreError> {
        self.shared.store.revision()
    }

    fn watch(&self, from: &[u8], to: &[u8], start: Option<Revision>) -> Result<Watch, StoreError> {
        self.shared.store.watch(from, to, start)
    }
}

struct Reading {
    snapshot: Arc<dyn Snapshot>,
    shared: Arc<Shared>,
}

impl Snapshot for Reading {
    fn revision(&self) -> Result<Revision, StoreError> {
        self.snapshot.revision()
    }

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.shared.before_a_read()?;
        self.snapshot.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.shared.before_a_read()?;
        self.snapshot.range(from, to, limit)
    }

    fn range_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.shared.before_a_read()?;
        self.snapshot.range_back(from, to, limit)
    }
}
