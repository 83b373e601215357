//! Watching a range from a revision on, and the changes that the embedded engines keep for it.
//!
//! Shaped by etcd: changes come in the order of their revisions, all changes of a revision together, and who asks for
//! a revision that is not kept is told [`StoreError::Compacted`]. Embedded engines keep the last [`KEPT_CHANGES`] in
//! memory while somebody watches, and nothing otherwise: who begins to watch has none of the changes before, unless
//! somebody else watched already.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{KeyValue, Revision, StoreError};

/// Changes that an embedded engine keeps.
pub const KEPT_CHANGES: usize = 8192;
/// Bytes of keys and values that it keeps for them, unless one commit alone is larger.
const KEPT_BYTES: usize = 16 * 1024 * 1024;
/// After this many changes [`Watch::next`] returns at the next end of a revision.
const BATCH_CHANGES: usize = 1000;

/// What a commit did to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key was there and is gone.
    Delete { key: Bytes, revision: Revision },
    /// The key was written; `modified` is the revision.
    Put(KeyValue),
}

/// Changes of one range, as they become durable.
#[derive(Debug)]
pub struct Watch {
    from: Bytes,
    to: Bytes,
    /// The first revision that was not given yet.
    next: Revision,
    kept: Arc<Mutex<Kept>>,
    newest: watch::Receiver<Revision>,
}

/// The latest changes of an embedded engine, while somebody watches.
#[derive(Debug)]
pub(crate) struct History {
    kept: Arc<Mutex<Kept>>,
    newest: watch::Sender<Revision>,
}

#[derive(Debug)]
struct Kept {
    /// In order of their revisions; of a revision all or none.
    changes: VecDeque<Change>,
    bytes: usize,
    /// Changes up to this revision are gone.
    compacted: Revision,
}

impl Watch {
    /// Waits for changes and returns them, in order: one revision's or more, always whole revisions.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when the watcher fell so far behind that changes are lost: read the range again.
    pub async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        loop {
            // Before looking, so that what comes after looking wakes us.
            self.newest.mark_unchanged();
            let changes = self.take()?;
            if !changes.is_empty() {
                return Ok(changes);
            }
            self.newest.changed().await.map_err(|_| StoreError::Backend {
                message: "closed while it was watched".into(),
                source: None,
            })?;
        }
    }

    fn take(&mut self) -> Result<Vec<Change>, StoreError> {
        let kept = lock(&self.kept);
        if self.next <= kept.compacted {
            return Err(StoreError::Compacted {
                wanted: self.next,
                oldest: kept.compacted + 1,
            });
        }
        let first = kept
            .changes
            .partition_point(|change| change.revision() < self.next);
        let mut found: Vec<Change> = Vec::new();
        for change in kept.changes.range(first..) {
            if found.len() >= BATCH_CHANGES && change.revision() >= self.next {
                break;
            }
            self.next = change.revision() + 1;
            let key = change.key();
            if self.from <= *key && *key < self.to {
                found.push(change.clone());
            }
        }
        Ok(found)
    }
}

impl Change {
    pub fn key(&self) -> &Bytes {
        match self {
            Change::Delete { key, .. } => key,
            Change::Put(put) => &put.key,
        }
    }

    pub fn revision(&self) -> Revision {
        match self {
            Change::Delete { revision, .. } => *revision,
            Change::Put(put) => put.modified,
        }
    }

    fn len_bytes(&self) -> usize {
        match self {
            Change::Delete { key, .. } => key.len(),
            Change::Put(put) => put.key.len() + put.value.len(),
        }
    }
}

impl History {
    /// Of a store that is at `revision`.
    pub(crate) fn new(revision: Revision) -> History {
        let kept = Kept {
            changes: VecDeque::new(),
            bytes: 0,
            compacted: revision,
        };
        History {
            kept: Arc::new(Mutex::new(kept)),
            newest: watch::Sender::new(revision),
        }
    }

    /// Changes of `[from, to)` of revisions from `start` on, or from now on.
    pub(crate) fn watch(&self, from: &[u8], to: &[u8], start: Option<Revision>) -> Result<Watch, StoreError> {
        let newest = self.newest.subscribe();
        let kept = lock(&self.kept);
        let next = start.unwrap_or_else(|| self.revision() + 1);
        if next <= kept.compacted {
            return Err(StoreError::Compacted {
                wanted: next,
                oldest: kept.compacted + 1,
            });
        }
        Ok(Watch {
            from: Bytes::copy_from_slice(from),
            to: Bytes::copy_from_slice(to),
            next,
            kept: self.kept.clone(),
            newest,
        })
    }

    /// The newest durable revision.
    pub(crate) fn revision(&self) -> Revision {
        *self.newest.borrow()
    }

    /// Whether what the next commits do is to be recorded. Nobody begins to watch between this and their
    /// [`History::record`]: the engine holds a lock over both, and over [`History::watch`].
    pub(crate) fn is_watched(&self) -> bool {
        !self.newest.is_closed()
    }

    /// What the commit of this revision did, or `None` where that is not kept; called in the order of revisions, when they
    /// are durable.
    pub(crate) fn record(&self, revision: Revision, changes: Option<Vec<Change>>) {
        let mut kept = lock(&self.kept);
        let Some(changes) = changes else {
            kept.forget(revision);
            self.newest.send_replace(revision);
            return;
        };
        kept.bytes += changes.iter().map(Change::len_bytes).sum::<usize>();
        kept.changes.extend(changes);
        while let Some(oldest) = kept.changes.front().map(Change::revision) {
            // What is left of a revision that has lost a change is of no use.
            if oldest > kept.compacted && !kept.is_over_bounds(revision) {
                break;
            }
            kept.compacted = oldest;
            kept.bytes -= kept.changes.pop_front().map_or(0, |change| change.len_bytes());
        }
        self.newest.send_replace(revision);
    }

    /// The store was opened again and is at `revision`; if that is not the one before, something unknown happened.
    pub(crate) fn reopened(&self, revision: Revision) {
        let mut kept = lock(&self.kept);
        if revision != self.revision() {
            kept.forget(revision);
            self.newest.send_replace(revision);
        }
    }
}

impl Kept {
    /// Changes up to this revision are not known.
    fn forget(&mut self, revision: Revision) {
        // The room, too: nobody may ever watch again.
        self.changes = VecDeque::new();
        self.bytes = 0;
        self.compacted = revision;
    }

    fn is_over_bounds(&self, newest: Revision) -> bool {
        let one_commit = self
            .changes
            .front()
            .is_some_and(|oldest| oldest.revision() == newest);
        self.changes.len() > KEPT_CHANGES || (self.bytes > KEPT_BYTES && !one_commit)
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    // Nothing that runs under the lock can panic half-way through a change.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, len: usize, modified: Revision) -> Change {
        Change::Put(KeyValue {
            key: key.to_owned().into(),
            value: vec![0; len].into(),
            modified,
        })
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_in_number_and_in_bytes_and_ends_between_revisions() {
        let history = History::new(0);
        for revision in 1..=3 {
            history.record(revision, Some(vec![put("k", 1, revision); KEPT_CHANGES / 2]));
        }
        let error = history.watch(b"a", b"z", Some(1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "changes from revision 1 on are no longer kept, only from 2 on: read again, and watch from then on"
        );
        let mut watch = history.watch(b"a", b"z", Some(2)).unwrap();
        assert_eq!(watch.next().await.unwrap().len(), KEPT_CHANGES / 2);
        history.record(4, Some(vec![put("k", KEPT_BYTES + 1, 4)]));
        assert!(history.watch(b"a", b"z", Some(3)).is_err());
        assert!(matches!(
            watch.next().await,
            Err(StoreError::Compacted { wanted: 3, oldest: 4 })
        ));
        let mut watch = history.watch(b"a", b"z", Some(4)).unwrap();
        assert_eq!(watch.next().await.unwrap().len(), 1);
        history.record(5, Some(vec![put("k", 1, 5); KEPT_CHANGES + 1]));
        assert!(history.watch(b"a", b"z", Some(5)).is_err());
        assert_eq!(lock(&history.kept).bytes, 0);
    }

    #[tokio::test]
    async fn nothing_is_kept_when_nobody_watches() {
        let history = History::new(0);
        assert!(!history.is_watched());
        let mut watch = history.watch(b"a", b"z", None).unwrap();
        assert!(history.is_watched());
        history.record(1, Some(vec![put("k", 100, 1)]));
        assert_eq!(watch.next().await.unwrap(), [put("k", 100, 1)]);
        // Somebody else may still go back as far as the first one can.
        assert!(history.watch(b"a", b"z", Some(1)).is_ok());
        drop(watch);
        assert!(!history.is_watched());
        history.record(2, None);
        assert_eq!(history.revision(), 2);
        {
            let kept = lock(&history.kept);
            assert_eq!((kept.changes.capacity(), kept.bytes), (0, 0));
        }
        assert!(matches!(
            history.watch(b"a", b"z", Some(2)),
            Err(StoreError::Compacted { wanted: 2, oldest: 3 })
        ));
        let mut watch = history.watch(b"a", b"z", None).unwrap();
        history.record(3, Some(vec![put("k", 1, 3)]));
        assert_eq!(watch.next().await.unwrap(), [put("k", 1, 3)]);
    }

    #[tokio::test]
    async fn a_store_that_was_opened_again_at_another_revision_has_lost_track() {
        let history = History::new(7);
        history.record(8, Some(vec![put("k", 1, 8)]));
        let mut watch = history.watch(b"a", b"z", Some(8)).unwrap();
        history.reopened(8);
        assert_eq!(watch.next().await.unwrap(), [put("k", 1, 8)]);
        history.reopened(9);
        assert!(matches!(
            watch.next().await,
            Err(StoreError::Compacted {
                wanted: 9,
                oldest: 10
            })
        ));
    }
}
