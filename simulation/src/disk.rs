//! The servers' disk: a store over a map, that forgets at a power cut what was not synced.
//!
//! An honest disk syncs every commit before it answers, as the trait demands. What a cut may take then is only a
//! commit that was never answered: [`Disk::misbehave`] has the next one fail, with or without having happened, and
//! [`Disk::expire_snapshots`] has those that are there end, as a compaction does.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use store::{Commit, KeyValue, Operation, Precondition, Revision, Snapshot, Store, StoreError};

/// Shared by all servers of a world.
#[derive(Default)]
pub(crate) struct Disk {
    state: Mutex<State>,
    compaction: Arc<Compaction>,
}

/// When snapshots end.
#[derive(Default)]
struct Compaction {
    /// Raised by each.
    epoch: AtomicU64,
    /// Reads from snapshots until the next one; 0: none comes.
    reads_left: AtomicU64,
}

/// What the next commit does instead of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misbehaviour {
    /// It fails, and nothing happened.
    Fails,
    /// It happens, and is said to have failed.
    HappensAndFails,
}

#[derive(Default)]
struct State {
    /// Snapshots share it.
    map: Arc<Map>,
    revision: Revision,
    /// Commits that are not synced, oldest first, each with what it overwrote.
    unsynced: Vec<Undo>,
    /// The broken disk: it answers before it has synced.
    lazy: bool,
    next: Option<Misbehaviour>,
    /// Since somebody looked: what was committed, in order.
    fresh: Vec<Commit>,
}

type Map = BTreeMap<Bytes, (Bytes, Revision)>;

/// Keys as they were before a commit, in the order in which it changed them.
type Undo = Vec<(Bytes, Option<(Bytes, Revision)>)>;

impl Disk {
    /// A broken one: commits are answered before they are synced.
    pub(crate) fn lazy() -> Disk {
        let disk = Disk::default();
        disk.lock().lazy = true;
        disk
    }

    pub(crate) fn misbehave(&self, next: Option<Misbehaviour>) {
        self.lock().next = next;
    }

    /// Power is cut and comes back: at most `keep` of the commits that were not synced survive. Gives how many are lost.
    pub(crate) fn power_cut(&self, keep: usize) -> usize {
        let mut state = self.lock();
        let lost: Vec<Undo> = state.unsynced.drain(..).skip(keep).collect();
        let map = Arc::make_mut(&mut state.map);
        for undo in lost.iter().rev() {
            for (key, before) in undo.iter().rev() {
                match before {
                    Some(before) => map.insert(key.clone(), before.clone()),
                    None => map.remove(key),
                };
            }
        }
        lost.len()
    }

    /// The snapshots that are there at the so-manieth read from now on expire with it.
    pub(crate) fn expire_snapshots(&self, at_read: u64) {
        self.compaction.reads_left.store(at_read, Ordering::SeqCst);
    }

    pub(crate) fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// What was committed since the last call.
    pub(crate) fn fresh(&self) -> Vec<Commit> {
        std::mem::take(&mut self.lock().fresh)
    }

    /// For whoever looks from outside: it never expires.
    pub(crate) fn as_it_is(&self) -> impl Snapshot + use<> {
        self.reading(Arc::default())
    }

    fn reading(&self, compaction: Arc<Compaction>) -> DiskSnapshot {
        let state = self.lock();
        DiskSnapshot {
            map: state.map.clone(),
            revision: state.revision,
            epoch: compaction.epoch.load(Ordering::SeqCst),
            compaction,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        Ok(get(&self.lock().map, key))
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        Ok(range(&self.lock().map, from, to, limit))
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(Arc::new(self.reading(self.compaction.clone())))
    }

    fn commit(&self, commit: &Commit) -> Result<Revision, StoreError> {
        commit.check_limits()?;
        let mut state = self.lock();
        let misbehaviour = state.next.take();
        if misbehaviour == Some(Misbehaviour::Fails) {
            return Err(failed());
        }
        state.check(commit)?;
        let undo = state.apply(commit);
        state.fresh.push(commit.clone());
        if state.lazy {
            state.unsynced.push(undo);
        }
        match misbehaviour {
            Some(_) => Err(failed()),
            None => Ok(state.revision),
        }
    }
}

impl State {
    fn check(&self, commit: &Commit) -> Result<(), StoreError> {
        for precondition in &commit.preconditions {
            let (key, holds) = match precondition {
                Precondition::Absent { key } => (key, !self.map.contains_key(key)),
                Precondition::Unchanged { key, modified } => {
                    (key, self.map.get(key).is_some_and(|(_, at)| at == modified))
                }
            };
            if !holds {
                return Err(StoreError::Conflict { key: key.clone() });
            }
        }
        Ok(())
    }

    fn apply(&mut self, commit: &Commit) -> Undo {
        self.revision += 1;
        let map = Arc::make_mut(&mut self.map);
        let mut undo = Undo::new();
        for operation in &commit.operations {
            match operation {
                Operation::Put { key, value } => {
                    let before = map.insert(key.clone(), (value.clone(), self.revision));
                    undo.push((key.clone(), before));
                }
                Operation::Delete { key } => undo.push((key.clone(), map.remove(key))),
                Operation::DeleteRange { from, to } if from < to => {
                    let range = map.range(from.clone()..to.clone());
                    let keys: Vec<Bytes> = range.map(|(key, _)| key.clone()).collect();
                    for key in keys {
                        let before = map.remove(&key);
                        undo.push((key, before));
                    }
                }
                Operation::DeleteRange { .. } => {}
                Operation::Append { log, value } => {
                    let key = store::appended_key(log, self.revision);
                    let before = map.insert(key.clone(), (value.clone(), self.revision));
                    undo.push((key, before));
                }
            }
        }
        undo
    }
}

struct DiskSnapshot {
    map: Arc<Map>,
    revision: Revision,
    epoch: u64,
    compaction: Arc<Compaction>,
}

impl DiskSnapshot {
    fn is_read(&self) -> Result<(), StoreError> {
        let Compaction { epoch, reads_left } = &*self.compaction;
        match reads_left.load(Ordering::SeqCst) {
            0 => {}
            left => {
                reads_left.store(left - 1, Ordering::SeqCst);
                epoch.fetch_add(u64::from(left == 1), Ordering::SeqCst);
            }
        }
        match self.epoch == epoch.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(StoreError::SnapshotExpired),
        }
    }
}

impl Snapshot for DiskSnapshot {
    fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.revision)
    }

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.is_read()?;
        Ok(get(&self.map, key))
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.is_read()?;
        Ok(range(&self.map, from, to, limit))
    }
}

fn get(map: &Map, key: &[u8]) -> Option<KeyValue> {
    map.get_key_value(key).map(key_value)
}

fn range(map: &Map, from: &[u8], to: &[u8], limit: usize) -> Vec<KeyValue> {
    if from >= to {
        return Vec::new();
    }
    let bounds = (Bound::Included(from), Bound::Excluded(to));
    let range = map.range::<[u8], _>(bounds);
    range.take(limit).map(key_value).collect()
}

fn key_value((key, (value, modified)): (&Bytes, &(Bytes, Revision))) -> KeyValue {
    KeyValue {
        key: key.clone(),
        value: value.clone(),
        modified: *modified,
    }
}

fn failed() -> StoreError {
    StoreError::Backend {
        message: "input/output error".to_owned(),
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str) -> Commit {
        Commit {
            operations: vec![Operation::Put {
                key: Bytes::from_static(key.as_bytes()),
                value: Bytes::from_static(value.as_bytes()),
            }],
            ..Commit::default()
        }
    }

    fn value(disk: &Disk, key: &str) -> Option<Bytes> {
        disk.get(key.as_bytes()).expect("reads").map(|found| found.value)
    }

    #[test]
    fn an_honest_disk_loses_nothing_that_it_answered() {
        let disk = Disk::default();
        disk.commit(&put("a", "1")).expect("commits");
        disk.misbehave(Some(Misbehaviour::Fails));
        disk.commit(&put("a", "2")).expect_err("fails");
        assert_eq!(disk.power_cut(0), 0);
        assert_eq!(value(&disk, "a").as_deref(), Some(&b"1"[..]));
        disk.misbehave(Some(Misbehaviour::HappensAndFails));
        disk.commit(&put("a", "3")).expect_err("fails");
        assert_eq!(value(&disk, "a").as_deref(), Some(&b"3"[..]));
    }

    #[test]
    fn a_lazy_disk_goes_back_to_what_was_synced() {
        let disk = Disk::lazy();
        disk.commit(&put("a", "1")).expect("commits");
        disk.commit(&put("a", "2")).expect("commits");
        disk.commit(&put("b", "3")).expect("commits");
        assert_eq!(disk.power_cut(1), 2);
        assert_eq!(value(&disk, "a").as_deref(), Some(&b"1"[..]));
        assert_eq!(value(&disk, "b"), None);
    }

    #[test]
    fn a_snapshot_stays_as_it_is_until_it_expires() {
        let disk = Disk::lazy();
        disk.commit(&put("a", "1")).expect("commits");
        let (one, other) = (disk.snapshot().expect("reads"), disk.snapshot().expect("reads"));
        disk.commit(&put("a", "2")).expect("commits");
        let value = |snapshot: &dyn Snapshot| snapshot.get(b"a").map(|found| found.map(|found| found.value));
        assert_eq!(value(&*one).expect("reads").as_deref(), Some(&b"1"[..]));
        disk.expire_snapshots(2);
        assert_eq!(value(&*one).expect("reads").as_deref(), Some(&b"1"[..]));
        assert!(value(&*one).expect_err("expires").is_expired());
        assert!(value(&*other).expect_err("expires").is_expired());
        let now = disk.snapshot().expect("reads");
        assert_eq!(disk.power_cut(1), 1);
        assert_eq!(value(&*now).expect("reads").as_deref(), Some(&b"2"[..]));
    }
}
