//! A busy run: groups of commits that put, replace and delete, and what must be there after each of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use store::{Commit, Operation, RedbStore, Store, offline};

use crate::disk::{Disk, Happened, Image};

/// Groups of commits; each group is one transaction.
pub const GROUPS: usize = 40;

pub struct Workload {
    pub groups: Vec<Vec<Commit>>,
    /// All keys and values before the first group, after it, after the second, and so on.
    pub states: Vec<BTreeMap<Bytes, Bytes>>,
}

impl Workload {
    pub fn busy() -> Workload {
        let mut coin = Coin(7);
        let mut state = BTreeMap::new();
        let mut states = vec![state.clone()];
        let mut groups = Vec::new();
        for group in 0..GROUPS {
            let commits: Vec<Commit> = (0..=coin.below(4)).map(|_| commit(group, &mut coin)).collect();
            commits.iter().for_each(|commit| happen(&mut state, commit));
            states.push(state.clone());
            groups.push(commits);
        }
        Workload { groups, states }
    }

    /// Runs all groups on an empty disk; what happened to it, and which groups were acknowledged when.
    pub fn run(&self) -> Vec<Happened> {
        let disk = Disk::empty();
        let store = RedbStore::with_backend(disk.clone()).unwrap();
        disk.note(Happened::Acknowledged(0));
        for (number, group) in self.groups.iter().enumerate() {
            let answers = store.commit_group(&group.iter().collect::<Vec<_>>());
            assert!(answers.iter().all(Result::is_ok));
            disk.note(Happened::Acknowledged(number + 1));
        }
        let happened = disk.happened();
        drop(store);
        happened
    }

    /// Opens what is on a disk; the number of groups that are there, all of them whole.
    #[track_caller]
    pub fn check(&self, image: Image, may_be_there: &[usize], when: &str) {
        let disk = Disk::new(image);
        let store = RedbStore::with_backend(disk).unwrap_or_else(|error| panic!("{when}: {error:?}"));
        let rows = store.range(b"", b"\xff", usize::MAX).unwrap();
        let found: BTreeMap<Bytes, Bytes> = rows.into_iter().map(|row| (row.key, row.value)).collect();
        let there = may_be_there.iter().find(|groups| self.states[**groups] == found);
        let Some(there) = there else {
            let other = self.states.iter().position(|state| *state == found);
            panic!("{when}: groups {may_be_there:?} may be there, found is {other:?}")
        };
        // It works on.
        let commits: usize = self.groups[..*there].iter().map(Vec::len).sum();
        let more = Commit {
            operations: vec![put("more".into(), 10, 1)],
            ..Commit::default()
        };
        assert_eq!(store.commit(&more).unwrap(), commits as u64 + 1, "{when}");
    }
}

/// What a server asks before it opens what is on a disk: a crash is no damage.
pub fn check_sound(image: &Image, when: &str) {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join(offline::FILE), image).unwrap();
    if let Err(error) = offline::verify(data.path(), &mut |_| {}) {
        panic!("{when}: {error}");
    }
}

/// As an engine of workflows writes: events that stay, states that are replaced, an outbox that comes and goes.
fn commit(group: usize, coin: &mut Coin) -> Commit {
    let byte = u8::try_from(group).unwrap();
    let mut operations = vec![
        put(format!("event/{group:03}/{:05}", coin.below(100_000)), 300, byte),
        put(format!("state/{}", coin.below(10)), 1500, byte),
        put(format!("outbox/{group:03}"), 40, byte),
        put("last".into(), 4, byte),
    ];
    if coin.below(3) == 0 {
        operations.push(put(format!("large/{}", coin.below(3)), 9000, byte));
    }
    if coin.below(2) == 0 {
        operations.push(Operation::Delete {
            key: format!("outbox/{:03}", group.saturating_sub(1 + coin.below(3))).into(),
        });
    }
    if coin.below(5) == 0 && group > 4 {
        operations.push(Operation::DeleteRange {
            from: "event/000".into(),
            to: format!("event/{:03}", group - coin.below(4) - 1).into(),
        });
    }
    let mut commit = Commit {
        operations,
        ..Commit::default()
    };
    if commit.check_limits().is_err() {
        // The outbox row of this very group.
        commit
            .operations
            .retain(|operation| !matches!(operation, Operation::Delete { .. }));
    }
    commit
}

fn put(key: String, len: usize, byte: u8) -> Operation {
    Operation::Put {
        key: key.into(),
        value: vec![byte; len].into(),
    }
}

fn happen(state: &mut BTreeMap<Bytes, Bytes>, commit: &Commit) {
    for operation in &commit.operations {
        match operation {
            Operation::Put { key, value } => {
                state.insert(key.clone(), value.clone());
            }
            Operation::Delete { key } => {
                state.remove(key);
            }
            Operation::DeleteRange { from, to } => state.retain(|key, _| !(from <= key && key < to)),
            Operation::Append { .. } => unreachable!("none of these commits appends"),
        }
    }
}

/// Numbers that are the same in every run (a linear congruential generator with Knuth's constants).
pub struct Coin(pub u64);

impl Coin {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}
