//! The servers' disk: a store over a map, that forgets at a power cut what was not synced.
//!
//! An honest disk syncs every commit before it answers, as the trait demands. What a cut may take then is only a
//! commit that was never answered: [`Disk::misbehave`] has the next one fail, with or without having happened.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use store::{Commit, KeyValue, Operation, Precondition, Revision, Store, StoreError};

/// Shared by all servers of a world.
#[derive(Default)]
pub(crate) struct Disk(Mutex<State>);

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
    map: BTreeMap<Bytes, (Bytes, Revision)>,
    revision: Revision,
    /// Commits that are not synced, oldest first, each with what it overwrote.
    unsynced: Vec<Undo>,
    /// The broken disk: it answers before it has synced.
    lazy: bool,
    next: Option<Misbehaviour>,
    /// Since somebody looked: what was committed, in order.
    fresh: Vec<Commit>,
}

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
        for undo in lost.iter().rev() {
            for (key, before) in undo.iter().rev() {
                match before {
                    Some(before) => state.map.insert(key.clone(), before.clone()),
                    None => state.map.remove(key),
                };
            }
        }
        lost.len()
    }

    pub(crate) fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// What was committed since the last call.
    pub(crate) fn fresh(&self) -> Vec<Commit> {
        std::mem::take(&mut self.lock().fresh)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        let state = self.lock();
        Ok(state.map.get_key_value(key).map(key_value))
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let state = self.lock();
        Ok(state
            .map
            .range::<[u8], _>(bounds)
            .take(limit)
            .map(key_value)
            .collect())
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
        let mut undo = Undo::new();
        for operation in &commit.operations {
            match operation {
                Operation::Put { key, value } => {
                    let before = self.map.insert(key.clone(), (value.clone(), self.revision));
                    undo.push((key.clone(), before));
                }
                Operation::Delete { key } => undo.push((key.clone(), self.map.remove(key))),
                Operation::DeleteRange { from, to } if from < to => {
                    let keys: Vec<Bytes> = self
                        .map
                        .range(from.clone()..to.clone())
                        .map(|(key, _)| key.clone())
                        .collect();
                    for key in keys {
                        let before = self.map.remove(&key);
                        undo.push((key, before));
                    }
                }
                Operation::DeleteRange { .. } => {}
            }
        }
        undo
    }
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
}
