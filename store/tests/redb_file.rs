//! What only a store in a file has: it is there after reopening, it is one process's, and a bad file says so.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use bytes::Bytes;
use redb::{Database, ReadableTable, TableDefinition};
use store::offline::{self, Named, OfflineError, Target, check, export, verify};
use store::{Commit, Operation, Precondition, RedbStore, Store, StoreError};

/// The table of rows, as format 2 has it: revision, checksum, the key's checksum, value.
const KEYS: TableDefinition<&[u8], (u64, u64, u32, &[u8])> = TableDefinition::new("keys");

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

/// Changes a row behind the store's back; the engine's own checksums are right.
fn damage(path: &Path, key: &str) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut keys = transaction.open_table(KEYS).unwrap();
        let (modified, sum, key_sum, mut value) = {
            let row = keys.get(key.as_bytes()).unwrap().unwrap();
            let (modified, sum, key_sum, value) = row.value();
            (modified, sum, key_sum, value.to_vec())
        };
        value[0] ^= 1;
        keys.insert(key.as_bytes(), (modified, sum, key_sum, &value[..]))
            .unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn a_damaged_row_is_an_error_that_names_it_and_stops_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(offline::FILE);
    let store = RedbStore::open(&path).unwrap();
    for key in ["a", "b", "c"] {
        store.commit(&put(key, "1")).unwrap();
    }
    drop(store);
    damage(&path, "b");

    let store = RedbStore::open(&path).unwrap();
    let want = format!(
        "key b in store {} is damaged: its checksum does not match; `farrier store check` names all that is \
         damaged, and a backup that `farrier store import --force` puts in place is the cure",
        path.display()
    );
    assert_eq!(store.get(b"b").unwrap_err().to_string(), want);
    assert_eq!(store.range(b"a", b"z", 9).unwrap_err().to_string(), want);
    assert_eq!(store.get(b"a").unwrap().unwrap().modified, 1);
    assert_eq!(store.range(b"c", b"z", 9).unwrap().len(), 1);
    // Of a group only the commit that rests on it is refused.
    let resting = Commit {
        preconditions: vec![Precondition::Unchanged {
            key: "b".into(),
            modified: 2,
        }],
        ..put("d", "1")
    };
    let answers = store.commit_group(&[&put("a", "2"), &resting, &put("c", "2")]);
    assert!(
        matches!(answers[..], [Ok(4), Err(StoreError::Damaged { .. }), Ok(5)]),
        "{answers:?}"
    );
    assert_eq!(store.get(b"d").unwrap(), None);
    drop(store);

    let no_names = |_: &_| Named::default();
    let report = check(directory.path(), &no_names, &mut |_| {}).unwrap();
    assert_eq!(report.problems, ["key b is damaged: its checksum does not match"]);
    assert_eq!(report.keys, 3);
    let mut archive = Vec::new();
    let refused = export(
        directory.path(),
        &no_names,
        Target::Tar(&mut archive),
        &mut |_| {},
    );
    assert!(
        matches!(refused, Err(OfflineError::Unsound { .. })),
        "{refused:?}"
    );
    assert!(archive.is_empty());
    let refused = verify(directory.path(), &mut |_| {}).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "store {} cannot be read: key b is damaged: its checksum does not match; put a backup in its place, or \
             move it away to start empty",
            path.display()
        )
    );

    // Who writes it anew heals it.
    let store = RedbStore::open(&path).unwrap();
    store.commit(&put("b", "3")).unwrap();
    assert_eq!(&store.get(b"b").unwrap().unwrap().value[..], b"3");
    drop(store);
    verify(directory.path(), &mut |_| {}).unwrap();
}

/// As Farrier wrote it before rows had checksums.
fn of_the_first_format(path: &Path, rows: u64) {
    const KEYS: TableDefinition<&[u8], (u64, &[u8])> = TableDefinition::new("keys");
    const REVISION: TableDefinition<(), u64> = TableDefinition::new("revision");
    let database = Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut keys = transaction.open_table(KEYS).unwrap();
        for n in 1..=rows {
            let (key, value) = (format!("key/{n:06}"), format!("value {n}"));
            keys.insert(key.as_bytes(), (n, value.as_bytes())).unwrap();
        }
        transaction
            .open_table(REVISION)
            .unwrap()
            .insert((), rows)
            .unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn a_store_of_the_first_format_is_read_as_it_is_and_upgraded_when_it_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(offline::FILE);
    of_the_first_format(&path, 1_200);
    let no_names = |_: &_| Named::default();
    let exported = || {
        let mut archive = Vec::new();
        export(
            directory.path(),
            &no_names,
            Target::Tar(&mut archive),
            &mut |_| {},
        )
        .unwrap();
        archive
    };
    let before = std::fs::read(&path).unwrap();
    let report = check(directory.path(), &no_names, &mut |_| {}).unwrap();
    assert_eq!(
        (report.problems, report.keys, report.revision),
        (vec![], 1_200, 1_200)
    );
    verify(directory.path(), &mut |_| {}).unwrap();
    let as_it_was = exported();
    assert!(
        std::fs::read(&path).unwrap() == before,
        "who only reads changes nothing"
    );

    let store = RedbStore::open(&path).unwrap();
    let row = store.get(b"key/000007").unwrap().unwrap();
    assert_eq!((&row.value[..], row.modified), (&b"value 7"[..], 7));
    assert_eq!(store.range(b"key/", b"key0", 9_999).unwrap().len(), 1_200);
    drop(store);
    verify(directory.path(), &mut |_| {}).unwrap();
    assert!(exported() == as_it_was);
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.commit(&put("a", "1")).unwrap(), 1_201);
    drop(store);
    damage(&path, "key/000007");
    assert!(verify(directory.path(), &mut |_| {}).is_err());
}

#[test]
fn a_store_of_a_later_format_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(offline::FILE);
    drop(RedbStore::open(&path).unwrap());
    {
        const FORMAT: TableDefinition<(), u64> = TableDefinition::new("format");
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(FORMAT).unwrap().insert((), 3).unwrap();
        transaction.commit().unwrap();
    }
    let want = format!(
        "store {} is of format 3, and this version of Farrier knows up to 2: use the one that made it, or a later one",
        path.display()
    );
    assert_eq!(RedbStore::open(&path).unwrap_err().to_string(), want);
    let no_names = |_: &_| Named::default();
    let refused = check(directory.path(), &no_names, &mut |_| {}).unwrap_err();
    assert_eq!(refused.to_string(), want);
    assert_eq!(
        verify(directory.path(), &mut |_| {}).unwrap_err().to_string(),
        want
    );
}
