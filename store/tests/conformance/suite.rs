//! What every engine must do.

use std::sync::Arc;

use bytes::Bytes;
use store::{Commit, MAX_COMMIT_BYTES, MAX_OPERATIONS, Operation, Precondition, Revision, Store, StoreError};

pub fn gives_back_what_was_put(store: &Arc<impl Store>) {
    assert_eq!(store.get(b"a").unwrap(), None);
    let revision = store.commit(&puts(&["a=1"])).unwrap();
    let found = store.get(b"a").unwrap().unwrap();
    assert_eq!(
        (&found.key[..], &found.value[..], found.modified),
        (&b"a"[..], &b"1"[..], revision)
    );
    store
        .commit(&Commit {
            operations: vec![delete("a")],
            ..Commit::default()
        })
        .unwrap();
    assert_eq!(store.get(b"a").unwrap(), None);
}

pub fn revisions_count_commits(store: &Arc<impl Store>) {
    let first = store.commit(&puts(&["a=1", "b=1"])).unwrap();
    let second = store.commit(&puts(&["a=2"])).unwrap();
    assert_eq!(second, first + 1);
    assert_eq!(modified(store, "a"), second);
    assert_eq!(modified(store, "b"), first);
    let refused = Commit {
        preconditions: vec![absent("a")],
        ..puts(&["a=3"])
    };
    store.commit(&refused).unwrap_err();
    assert_eq!(store.commit(&puts(&["b=2"])).unwrap(), second + 1);
}

pub fn preconditions_hold_or_nothing_happens(store: &Arc<impl Store>) {
    let revision = store.commit(&puts(&["a=1"])).unwrap();
    for (precondition, holds) in [
        (absent("b"), true),
        (absent("a"), false),
        (unchanged("a", revision), true),
        (unchanged("a", revision + 1), false),
        (unchanged("a", 0), false),
        (unchanged("b", 0), false),
        (unchanged("b", revision), false),
    ] {
        let commit = Commit {
            preconditions: vec![absent("never"), precondition.clone()],
            operations: vec![delete("c"), delete("d")],
        };
        match store.commit(&commit) {
            Ok(_) => assert!(holds, "{precondition:?}"),
            Err(StoreError::Conflict { key }) => {
                assert!(!holds, "{precondition:?}");
                let (Precondition::Absent { key: want } | Precondition::Unchanged { key: want, .. }) =
                    precondition;
                assert_eq!(key, want);
            }
            Err(error) => panic!("{error}"),
        }
    }
    let refused = Commit {
        preconditions: vec![absent("a")],
        operations: vec![put("x", "1"), delete("a")],
    };
    assert!(store.commit(&refused).unwrap_err().is_conflict());
    assert_eq!(keys(store, "", "~"), ["a"]);
}

pub fn a_precondition_sees_the_state_before_the_commit(store: &Arc<impl Store>) {
    let commit = Commit {
        preconditions: vec![absent("a"), absent("a")],
        operations: vec![put("a", "1")],
    };
    store.commit(&commit).unwrap();
    assert!(store.commit(&commit).unwrap_err().is_conflict());
}

pub fn a_commit_puts_and_deletes(store: &Arc<impl Store>) {
    store
        .commit(&puts(&["a=1", "b=1", "c=1", "c1=1", "d=1"]))
        .unwrap();
    let operations = vec![
        delete("a"),
        put("b", "2"),
        delete("c1"),
        delete_range("c", "d"),
        delete("not-there"),
        put("e", "2"),
    ];
    let revision = store
        .commit(&Commit {
            operations,
            ..Commit::default()
        })
        .unwrap();
    assert_eq!(keys(store, "", "~"), ["b", "d", "e"]);
    assert_eq!(&store.get(b"b").unwrap().unwrap().value[..], b"2");
    assert_eq!(modified(store, "b"), revision);
    assert_eq!(modified(store, "d"), revision - 1);
}

pub fn what_etcd_refuses_is_refused(store: &Arc<impl Store>) {
    store.commit(&puts(&["a=1"])).unwrap();
    let before = store.revision().unwrap();
    for (operations, want) in [
        (vec![put("x", "1"), put("a", "2"), put("a", "3")], Some(key("a"))),
        (vec![put("x", "1"), put("a", "2"), delete("a")], Some(key("a"))),
        (vec![delete_range("a", "b"), put("a", "2")], Some(key("a"))),
        (vec![put("x", "1"), put("", "2")], None),
    ] {
        let commit = Commit {
            operations,
            ..Commit::default()
        };
        match (store.commit(&commit).unwrap_err(), want) {
            (StoreError::DuplicateKey { key }, Some(want)) => assert_eq!(key, want),
            (StoreError::EmptyKey, None) => {}
            (error, _) => panic!("{error}"),
        }
    }
    assert_eq!(keys(store, "", "~"), ["a"]);
    assert_eq!(store.revision().unwrap(), before);
}

pub fn ranges_are_half_open_ordered_and_limited(store: &Arc<impl Store>) {
    store
        .commit(&puts(&["b=1", "a=1", "ab=1", "c=1", "b0=1"]))
        .unwrap();
    assert_eq!(keys(store, "a", "c"), ["a", "ab", "b", "b0"]);
    assert_eq!(keys(store, "ab", "b"), ["ab"]);
    assert_eq!(keys(store, "b\0", "z"), ["b0", "c"]);
    let limited = store.range(b"a", b"z", 2).unwrap();
    assert_eq!(
        limited.iter().map(|row| &row.key[..]).collect::<Vec<_>>(),
        [b"a" as &[u8], b"ab"]
    );
    assert!(store.range(b"a", b"z", 0).unwrap().is_empty());
    let by_prefix = store.range(b"b", &store::prefix_end(b"b"), 10).unwrap();
    assert_eq!(by_prefix.len(), 2);
}

pub fn an_empty_range_is_empty(store: &Arc<impl Store>) {
    store.commit(&puts(&["a=1", "b=1"])).unwrap();
    assert!(keys(store, "a", "a").is_empty());
    assert!(keys(store, "b", "a").is_empty());
    for (from, to) in [("a", "a"), ("b", "a")] {
        store
            .commit(&Commit {
                operations: vec![delete_range(from, to)],
                ..Commit::default()
            })
            .unwrap();
    }
    assert_eq!(keys(store, "", "~"), ["a", "b"]);
}

pub fn ranges_are_deleted(store: &Arc<impl Store>) {
    for chunk in (0..1000).collect::<Vec<_>>().chunks(MAX_OPERATIONS) {
        let operations = chunk
            .iter()
            .map(|at| put(&format!("k{at:04}"), "value"))
            .collect();
        store
            .commit(&Commit {
                operations,
                ..Commit::default()
            })
            .unwrap();
    }
    store
        .commit(&Commit {
            operations: vec![delete_range("k0001", "k0999")],
            ..Commit::default()
        })
        .unwrap();
    assert_eq!(keys(store, "", "~"), ["k0000", "k0999"]);
}

pub fn limits_are_enforced(store: &Arc<impl Store>) {
    let operations = |count| Commit {
        operations: (0..count).map(|at| put(&format!("a{at}"), "1")).collect(),
        ..Commit::default()
    };
    store.commit(&operations(MAX_OPERATIONS)).unwrap();
    let error = store.commit(&operations(MAX_OPERATIONS + 1)).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { operations: 129, .. }));
    let bytes = |len: usize| Commit {
        operations: vec![Operation::Put {
            key: key("big"),
            value: vec![7; len].into(),
        }],
        ..Commit::default()
    };
    store.commit(&bytes(MAX_COMMIT_BYTES - 3)).unwrap();
    let error = store.commit(&bytes(MAX_COMMIT_BYTES - 2)).unwrap_err();
    assert!(matches!(
        error,
        StoreError::TooLarge {
            operations: 1,
            bytes: 1_572_865
        }
    ));
    assert_eq!(
        store.get(b"big").unwrap().unwrap().value.len(),
        MAX_COMMIT_BYTES - 3
    );
}

pub fn what_is_appended_stands_in_the_order_of_commits(store: &Arc<impl Store>) {
    let append = |value: &str| Commit {
        operations: vec![append("log/", value), put("other", value)],
        ..Commit::default()
    };
    // Commits that do not append, and those that are refused, leave no row.
    let first = store.commit(&append("1")).unwrap();
    store.commit(&puts(&["a=1"])).unwrap();
    let refused = Commit {
        preconditions: vec![absent("a")],
        ..append("no")
    };
    let group = [&append("2"), &refused, &append("3")];
    let answers = store.commit_group(&group);
    let revisions: Vec<Revision> = answers.into_iter().flatten().collect();
    assert_eq!(revisions, [first + 2, first + 3]);
    let rows = store.range(b"log/", b"log0", 10).unwrap();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                String::from_utf8_lossy(&row.key).into_owned(),
                &row.value[..],
                row.modified,
            )
        })
        .collect();
    let key = |revision: Revision| format!("log/{revision:020}");
    let want = [(first, &b"1"[..]), (first + 2, b"2"), (first + 3, b"3")];
    assert_eq!(
        rows,
        want.map(|(revision, value)| (key(revision), value, revision))
    );
}

pub fn a_commit_does_not_write_in_a_log_that_it_appends_to(store: &Arc<impl Store>) {
    for (others, is_taken) in [
        (vec![put("log/1", "x")], false),
        (vec![delete("log/1")], false),
        (vec![delete_range("lo", "log/1")], false),
        (vec![delete_range("log/1", "log/2")], false),
        (vec![append("log/", "x")], false),
        (vec![append("log/more/", "x")], false),
        (vec![delete_range("log0", "z"), delete_range("a", "log/")], true),
        (vec![append("log2/", "x"), put("log", "x")], true),
    ] {
        let operations = [vec![append("log/", "1")], others].concat();
        let answer = store.commit(&Commit {
            operations: operations.clone(),
            ..Commit::default()
        });
        match answer {
            Ok(_) => assert!(is_taken, "{operations:?}"),
            Err(StoreError::DuplicateKey { .. }) => assert!(!is_taken, "{operations:?}"),
            Err(error) => panic!("{error} for {operations:?}"),
        }
    }
    let nameless = Commit {
        operations: vec![append("log", "1")],
        ..Commit::default()
    };
    assert!(matches!(store.commit(&nameless), Err(StoreError::NoLog { .. })));
}

pub fn a_group_is_answered_one_by_one(store: &Arc<impl Store>) {
    let first = Commit {
        preconditions: vec![absent("a")],
        ..puts(&["a=1"])
    };
    let second = Commit {
        preconditions: vec![absent("a")],
        ..puts(&["a=2", "b=2"])
    };
    let third = Commit {
        operations: vec![put("a", "1"); MAX_OPERATIONS + 1],
        ..Commit::default()
    };
    let fourth = puts(&["c=4"]);
    let answers = store.commit_group(&[&first, &second, &third, &fourth]);
    let [Ok(one), Err(two), Err(three), Ok(four)] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(*four, one + 1);
    assert!(two.is_conflict());
    assert!(matches!(three, StoreError::TooLarge { .. }));
    assert_eq!(keys(store, "", "~"), ["a", "c"]);
    assert!(store.commit_group(&[]).is_empty());
    let refused = store.commit_group(&[&first, &second]);
    assert!(
        refused
            .iter()
            .all(|answer| answer.as_ref().is_err_and(StoreError::is_conflict))
    );
    assert_eq!(store.commit(&fourth).unwrap(), four + 1);
}

pub fn threads_that_compete_lose_nothing(store: &Arc<impl Store>) {
    const THREADS: usize = 4;
    const ROUNDS: usize = 25;
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    while !count_up(store) {}
                }
            });
        }
    });
    let count = store.get(b"count").unwrap().unwrap();
    assert_eq!(count.value, (THREADS * ROUNDS).to_string());
}

fn count_up(store: &Arc<impl Store>) -> bool {
    let (precondition, count) = match store.get(b"count").unwrap() {
        None => (absent("count"), 0),
        Some(row) => {
            let count: usize = std::str::from_utf8(&row.value).unwrap().parse().unwrap();
            (unchanged("count", row.modified), count)
        }
    };
    let commit = Commit {
        preconditions: vec![precondition],
        operations: vec![put("count", &(count + 1).to_string())],
    };
    match store.commit(&commit) {
        Ok(_) => true,
        Err(error) => {
            assert!(error.is_conflict(), "{error}");
            false
        }
    }
}

pub fn keys_and_values_may_be_any_bytes(store: &Arc<impl Store>) {
    let rows: Vec<(Bytes, Bytes)> = (0..=255_u8)
        .map(|byte| {
            (
                Bytes::from(vec![byte; 1 + usize::from(byte % 3)]),
                Bytes::from(vec![byte; usize::from(byte)]),
            )
        })
        .collect();
    for chunk in rows.chunks(MAX_OPERATIONS) {
        let operations = chunk
            .iter()
            .map(|(key, value)| Operation::Put {
                key: key.clone(),
                value: value.clone(),
            })
            .collect();
        store
            .commit(&Commit {
                operations,
                ..Commit::default()
            })
            .unwrap();
    }
    for (key, value) in rows {
        assert_eq!(store.get(&key).unwrap().unwrap().value, value);
    }
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> Operation {
    Operation::Put {
        key: self::key(key),
        value: self::key(value),
    }
}

fn append(log: &str, value: &str) -> Operation {
    Operation::Append {
        log: key(log),
        value: key(value),
    }
}

fn delete(key: &str) -> Operation {
    Operation::Delete { key: self::key(key) }
}

fn delete_range(from: &str, to: &str) -> Operation {
    Operation::DeleteRange {
        from: key(from),
        to: key(to),
    }
}

fn absent(key: &str) -> Precondition {
    Precondition::Absent { key: self::key(key) }
}

fn unchanged(key: &str, modified: Revision) -> Precondition {
    Precondition::Unchanged {
        key: self::key(key),
        modified,
    }
}

fn puts(rows: &[&str]) -> Commit {
    let operations = rows
        .iter()
        .map(|row| row.split_once('=').unwrap())
        .map(|(key, value)| put(key, value))
        .collect();
    Commit {
        operations,
        ..Commit::default()
    }
}

fn keys(store: &Arc<impl Store>, from: &str, to: &str) -> Vec<String> {
    let rows = store.range(from.as_bytes(), to.as_bytes(), usize::MAX).unwrap();
    rows.into_iter()
        .map(|row| String::from_utf8(row.key.to_vec()).unwrap())
        .collect()
}

fn modified(store: &Arc<impl Store>, key: &str) -> Revision {
    store.get(key.as_bytes()).unwrap().unwrap().modified
}
