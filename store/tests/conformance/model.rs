//! Random commits, against a plain map.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use store::{Commit, KeyValue, Operation, Precondition, Revision, Store, StoreError};

type Map = BTreeMap<Bytes, (Revision, Bytes)>;

/// Opens a fresh store for each case.
pub fn check<K, S: Store>(open: impl Fn() -> (K, S)) {
    let config = ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let run = TestRunner::new(config).run(&prop::collection::vec(any_commit(), 1..30), |commits| {
        let (_keep, store) = open();
        let mut map = Map::new();
        let mut revision = 0;
        for commit in &commits {
            if commit.check_limits().is_err() {
                let error = store.commit(commit).unwrap_err();
                let duplicate = matches!(error, StoreError::DuplicateKey { .. });
                prop_assert!(duplicate, "{}", error);
                continue;
            }
            let refused = commit
                .preconditions
                .iter()
                .any(|precondition| !holds(&map, precondition));
            match store.commit(commit) {
                Ok(new) => {
                    prop_assert!(!refused, "{commit:?} went through");
                    prop_assert_eq!(new, revision + 1);
                    revision = new;
                    happen(&mut map, commit, revision);
                }
                Err(error) => prop_assert!(refused && error.is_conflict(), "{error} for {commit:?}"),
            }
            let want: Vec<KeyValue> = map
                .iter()
                .map(|(key, (modified, value))| KeyValue {
                    key: key.clone(),
                    value: value.clone(),
                    modified: *modified,
                })
                .collect();
            prop_assert_eq!(store.range(b"", b"\xff", usize::MAX).unwrap(), want);
        }
        Ok(())
    });
    run.unwrap();
}

fn any_key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(prop::sample::select(vec![b'a', b'b', b'c', 0, 0xfe]), 1..3).prop_map(Bytes::from)
}

fn any_log() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a/", "b/", "a/b/"]).prop_map(Bytes::from)
}

fn any_commit() -> impl Strategy<Value = Commit> {
    let precondition = prop_oneof![
        3 => any_key().prop_map(|key| Precondition::Absent { key }),
        1 => (any_key(), 0..6_u64).prop_map(|(key, modified)| Precondition::Unchanged { key, modified }),
    ];
    let operation = prop_oneof![
        6 => (any_key(), any::<u8>()).prop_map(|(key, byte)| Operation::Put { key, value: vec![byte; 3].into() }),
        2 => any_key().prop_map(|key| Operation::Delete { key }),
        1 => (any_key(), any_key()).prop_map(|(from, to)| Operation::DeleteRange { from, to }),
        2 => (any_log(), any::<u8>()).prop_map(|(log, byte)| Operation::Append { log, value: vec![byte; 3].into() }),
    ];
    (
        prop::collection::vec(precondition, 0..2),
        prop::collection::vec(operation, 0..6),
    )
        .prop_map(|(preconditions, operations)| Commit {
            preconditions,
            operations,
        })
}

fn holds(map: &Map, precondition: &Precondition) -> bool {
    match precondition {
        Precondition::Absent { key } => !map.contains_key(key),
        Precondition::Unchanged { key, modified } => map.get(key).is_some_and(|row| row.0 == *modified),
    }
}

fn happen(map: &mut Map, commit: &Commit, revision: Revision) {
    for operation in &commit.operations {
        match operation {
            Operation::Put { key, value } => {
                map.insert(key.clone(), (revision, value.clone()));
            }
            Operation::Delete { key } => {
                map.remove(key);
            }
            Operation::DeleteRange { from, to } => map.retain(|key, _| !(from <= key && key < to)),
            Operation::Append { log, value } => {
                let key = [&log[..], format!("{revision:020}").as_bytes()].concat();
                map.insert(key.into(), (revision, value.clone()));
            }
        }
    }
}
