//! What every engine must do for those who read from a snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use store::{BetweenReads, Commit, MAX_OPERATIONS, Operation, Snapshot, Store, StoreError};

pub fn a_snapshot_sees_nothing_of_later_commits(store: &Arc<impl Store>) {
    let first = store.commit(&puts(&["a=1", "b=1", "c=1"])).unwrap();
    let snapshot = store.snapshot().unwrap();
    let mut later = puts(&["a=2", "d=2"]);
    later.operations.extend(deleting("b", "c").operations);
    let second = store.commit(&later).unwrap();
    assert_eq!(
        rows(&*snapshot),
        [("a", "1", first), ("b", "1", first), ("c", "1", first)].map(owned)
    );
    assert_eq!(snapshot.revision().unwrap(), first);
    let of = |key: &[u8]| snapshot.get(key).unwrap().map(|row| (row.value, row.modified));
    assert_eq!(of(b"a"), Some((Bytes::from_static(b"1"), first)));
    assert_eq!(of(b"b"), Some((Bytes::from_static(b"1"), first)));
    assert_eq!(of(b"d"), None);
    assert_eq!(snapshot.range(b"b", b"z", 1).unwrap().len(), 1);
    assert!(snapshot.range(b"z", b"a", 9).unwrap().is_empty());
    let now = store.snapshot().unwrap();
    assert_eq!(
        rows(&*now),
        [("a", "2", second), ("c", "1", first), ("d", "2", second)].map(owned)
    );
}

pub fn a_snapshot_is_read_backwards(store: &Arc<impl Store>) {
    store.commit(&puts(&["a=1", "b=1", "c=1", "d=1"])).unwrap();
    let snapshot = store.snapshot().unwrap();
    let back = |from: &[u8], to: &[u8], limit| {
        let rows = snapshot.range_back(from, to, limit).unwrap();
        let keys = rows
            .iter()
            .map(|row| String::from_utf8_lossy(&row.key).into_owned());
        keys.collect::<String>()
    };
    assert_eq!(back(b"", b"z", 9), "dcba");
    assert_eq!(
        back(b"b", b"d", 9),
        "cb",
        "its end is not of it, its beginning is"
    );
    assert_eq!(back(b"a", b"z", 2), "dc", "the last ones");
    for (from, to, limit) in [
        (&b"a"[..], &b"z"[..], 0),
        (b"z", b"a", 9),
        (b"b", b"b", 9),
        (b"e", b"z", 9),
    ] {
        assert_eq!(back(from, to, limit), "");
    }
}

pub fn a_snapshot_sees_what_was_answered_before(store: &Arc<impl Store>) {
    assert_eq!(store.snapshot().unwrap().revision().unwrap(), 0);
    for at in 1..=20 {
        let revision = store.commit(&puts(&[&format!("k={at}")])).unwrap();
        let snapshot = store.snapshot().unwrap();
        assert_eq!(snapshot.revision().unwrap(), revision);
        assert_eq!(snapshot.get(b"k").unwrap().unwrap().value, at.to_string());
    }
}

pub fn several_snapshots_are_each_as_of_their_revision(store: &Arc<impl Store>) {
    let mut taken = Vec::new();
    for at in 0..10 {
        let revision = store.commit(&puts(&[&format!("k{at}=1"), "same=1"])).unwrap();
        taken.push((at, revision, store.snapshot().unwrap()));
    }
    // In no order of theirs, and some are gone before others are read.
    for (at, revision, snapshot) in taken.into_iter().rev() {
        assert_eq!(snapshot.range(b"k", b"l", 99).unwrap().len(), at + 1);
        assert_eq!(snapshot.get(b"same").unwrap().unwrap().modified, revision);
    }
}

pub fn a_snapshot_never_sees_half_of_a_commit(store: &Arc<impl Store>) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at in 0..200 {
                store
                    .commit(&puts(&[&format!("a={at}"), &format!("b={at}")]))
                    .unwrap();
            }
            over.store(true, Ordering::SeqCst);
        });
        while !over.load(Ordering::SeqCst) {
            let snapshot = store.snapshot().unwrap();
            let of = |key: &[u8]| snapshot.get(key).unwrap().map(|row| row.value);
            assert_eq!(of(b"a"), of(b"b"));
        }
    });
}

pub fn a_snapshot_outlives_much_that_comes_after_it(store: &Arc<impl Store>) {
    let names: Vec<String> = (0..MAX_OPERATIONS).map(|at| format!("k{at:04}=old")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let first = store.commit(&puts(&names)).unwrap();
    let snapshot = store.snapshot().unwrap();
    for round in 0..30 {
        store.commit(&deleting("k", "l")).unwrap();
        let new: Vec<String> = (0..MAX_OPERATIONS)
            .map(|at| format!("k{at:04}={round}"))
            .collect();
        store
            .commit(&puts(&new.iter().map(String::as_str).collect::<Vec<_>>()))
            .unwrap();
    }
    let found = snapshot.range(b"k", b"l", usize::MAX).unwrap();
    assert_eq!(found.len(), MAX_OPERATIONS);
    assert!(
        found
            .iter()
            .all(|row| row.value == "old" && row.modified == first)
    );
}

/// Whoever reads begins again, and does not put together what two snapshots have.
pub fn an_expired_snapshot_is_begun_again(store: &Arc<impl Store>) {
    store.commit(&puts(&["a=1", "b=1"])).unwrap();
    // The second read meets a compaction, after somebody has written.
    let expiring = BetweenReads::new(store.clone(), |store, before| {
        if before != 1 {
            return Ok(());
        }
        store.commit(&puts(&["a=2", "b=2"]))?;
        Err(StoreError::SnapshotExpired)
    });
    let read = |snapshot: &dyn Snapshot| -> Result<(Bytes, Bytes), StoreError> {
        let of = |key: &[u8]| Ok(snapshot.get(key)?.map(|row| row.value).unwrap_or_default());
        Ok((of(b"a")?, of(b"b")?))
    };
    let expired = expiring.snapshot().unwrap();
    let error = read(&*expired).unwrap_err();
    assert!(error.is_expired());
    assert_eq!(
        error.to_string(),
        "a snapshot of the store is no longer kept: take a new one, and read again from the beginning"
    );
    let again = expiring.snapshot().unwrap();
    assert_eq!(read(&*again).unwrap(), ("2".into(), "2".into()));
    assert_eq!(expiring.reads(), 4);
}

fn rows(snapshot: &dyn Snapshot) -> Vec<(String, String, u64)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let rows = snapshot.range(b"", b"\xff", usize::MAX).unwrap();
    rows.iter()
        .map(|row| (text(&row.key), text(&row.value), row.modified))
        .collect()
}

fn owned((key, value, modified): (&str, &str, u64)) -> (String, String, u64) {
    (key.to_owned(), value.to_owned(), modified)
}

fn puts(rows: &[&str]) -> Commit {
    let put = |row: &&str| {
        let (key, value) = row.split_once('=').unwrap();
        Operation::Put {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
        }
    };
    Commit {
        operations: rows.iter().map(put).collect(),
        ..Commit::default()
    }
}

fn deleting(from: &str, to: &str) -> Commit {
    Commit {
        operations: vec![Operation::DeleteRange {
            from: from.to_owned().into(),
            to: to.to_owned().into(),
        }],
        ..Commit::default()
    }
}
