//! What only a store in a file has: it is there after reopening, it is one process's, and a bad file says so.

use bytes::Bytes;
use store::{Commit, Operation, Precondition, RedbStore, Store, StoreError};

fn put(key: &str, value: &str) -> Commit {
    let operation = Operation::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    Commit {
        operations: vec![operation],
        ..Commit::default()
    }
}

#[test]
fn everything_is_there_after_reopening_and_revisions_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("farrier.redb");
    let revision = {
        let store = RedbStore::open(&path).unwrap();
        store.commit(&put("a", "1")).unwrap();
        store.commit(&put("b", "2")).unwrap()
    };
    let store = RedbStore::open(&path).unwrap();
    let found = store.get(b"b").unwrap().unwrap();
    assert_eq!((&found.value[..], found.modified), (&b"2"[..], revision));
    let key = Bytes::from_static(b"b");
    let commit = Commit {
        preconditions: vec![Precondition::Unchanged {
            key,
            modified: revision,
        }],
        ..put("b", "3")
    };
    assert_eq!(store.commit(&commit).unwrap(), revision + 1);
}

#[test]
fn a_file_that_is_open_elsewhere_is_locked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("farrier.redb");
    let _open = RedbStore::open(&path).unwrap();
    let error = RedbStore::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }));
    let want = format!(
        "store {} is in use by another process: stop that one, or choose another data directory",
        path.display()
    );
    assert_eq!(error.to_string(), want);
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("farrier.redb");
    let text = b"This is not a database.\n".repeat(1000);
    std::fs::write(&path, &text).unwrap();
    let error = RedbStore::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("put a backup in its place"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), text);
}

#[test]
fn a_damaged_header_is_an_error_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("farrier.redb");
    drop(RedbStore::open(&path).unwrap().commit(&put("a", "1")));
    let good = std::fs::read(&path).unwrap();
    for at in [0, 9, 12, 16, 20, 24, 28, 64, 100, 192] {
        let mut bad = good.clone();
        bad[at..at + 4].fill(0xee);
        std::fs::write(&path, bad).unwrap();
        // Damage that redb can repair from the other commit slot is fine, too.
        if let Err(error) = RedbStore::open(&path) {
            assert!(error.to_string().contains("farrier.redb"), "byte {at}: {error}");
        }
    }
    for len in [1, 100, 320, good.len() / 2] {
        std::fs::write(&path, &good[..len]).unwrap();
        let error = RedbStore::open(&path).unwrap_err();
        assert!(
            matches!(error, StoreError::Corrupt { .. } | StoreError::Backend { .. }),
            "{len} B: {error:?}"
        );
    }
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing/farrier.redb");
    let error = RedbStore::open(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("store: cannot open {}", path.display())
    );
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("No such file or directory"), "{cause}");
}
