//! What every engine must do for those who watch.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::watch::KEPT_CHANGES;
use store::{Change, Commit, Operation, Precondition, Revision, Store, StoreError, Watch};

pub fn a_watch_gives_every_change_once_in_order(store: &Arc<impl Store>) {
    store.commit(&puts(&["a=0"])).unwrap();
    let mut watch = store.watch(b"a", b"z", None).unwrap();
    let first = store.commit(&puts(&["b=1", "a=1"])).unwrap();
    let mut second = puts(&["c=2"]);
    second.operations.push(Operation::Delete { key: key("a") });
    let second = store.commit(&second).unwrap();
    assert_eq!(
        told(&mut watch, 4),
        [
            format!("{first} b=1"),
            format!("{first} a=1"),
            format!("{second} c=2"),
            format!("{second} a gone")
        ]
    );
    let third = store.commit(&puts(&["d=3"])).unwrap();
    assert_eq!(told(&mut watch, 1), [format!("{third} d=3")]);
}

pub fn a_key_that_is_deleted_and_then_put_is_put(store: &Arc<impl Store>) {
    store.commit(&puts(&["a=1"])).unwrap();
    let mut watch = store.watch(b"a", b"z", None).unwrap();
    let mut commit = puts(&["a=2"]);
    commit.operations.insert(0, Operation::Delete { key: key("a") });
    let revision = store.commit(&commit).unwrap();
    assert_eq!(store.get(b"a").unwrap().unwrap().value, "2");
    store.commit(&puts(&["b=3"])).unwrap();
    assert_eq!(
        told(&mut watch, 2),
        [format!("{revision} a=2"), format!("{} b=3", revision + 1)]
    );
}

pub fn a_watch_from_a_revision_gives_what_happened_since(store: &Arc<impl Store>) {
    let start = store.revision().unwrap() + 1;
    // As long as somebody watches, changes are kept for others, too.
    let _watched = store.watch(b"x", b"y", None).unwrap();
    for at in 0..10 {
        store.commit(&puts(&[&format!("k={at}")])).unwrap();
    }
    for from in start..=start + 10 {
        let mut watch = store.watch(b"k", b"l", Some(from)).unwrap();
        let last = store.commit(&puts(&["k=last"])).unwrap();
        let changes = told(&mut watch, usize::try_from(last - from + 1).unwrap());
        assert!(changes[0].starts_with(&format!("{from} k=")), "{changes:?}");
        assert_eq!(changes.last().unwrap(), &format!("{last} k=last"));
    }
    // A revision that is yet to come is waited for.
    let next = store.revision().unwrap() + 1;
    let mut watch = store.watch(b"k", b"l", Some(next + 1)).unwrap();
    store.commit(&puts(&["k=not asked for"])).unwrap();
    store.commit(&puts(&["k=asked for"])).unwrap();
    assert_eq!(told(&mut watch, 1), [format!("{} k=asked for", next + 1)]);
}

pub fn a_watch_waits_for_what_comes(store: &Arc<impl Store>) {
    let mut watch = store.watch(b"a", b"z", None).unwrap();
    let waiting = runtime().block_on(async {
        // Polled once: there is nothing yet.
        tokio::time::timeout(Duration::ZERO, watch.next()).await.is_err()
    });
    assert!(waiting);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| told(&mut watch, 20));
        for at in 0..20 {
            store.commit(&puts(&[&format!("k={at}")])).unwrap();
        }
        let changes = waiter.join().unwrap();
        assert!(changes[19].ends_with(" k=19"), "{changes:?}");
    });
}

pub fn a_watch_sees_its_range_only(store: &Arc<impl Store>) {
    let mut watch = store.watch(b"b", b"c", None).unwrap();
    store.commit(&puts(&["a=1", "c=1"])).unwrap();
    let second = store.commit(&puts(&["a=2", "b=2", "bb=2", "c=2"])).unwrap();
    let deleted = store.commit(&deleting("a", "d")).unwrap();
    assert_eq!(
        told(&mut watch, 4),
        [
            format!("{second} b=2"),
            format!("{second} bb=2"),
            format!("{deleted} b gone"),
            format!("{deleted} bb gone")
        ]
    );
}

pub fn refused_commits_and_deletes_of_nothing_are_no_changes(store: &Arc<impl Store>) {
    store.commit(&puts(&["a=1"])).unwrap();
    let mut watch = store.watch(b"a", b"z", None).unwrap();
    let refused = Commit {
        preconditions: vec![Precondition::Absent { key: key("a") }],
        ..puts(&["b=1"])
    };
    let nothing = deleting("x", "z");
    let twice = Commit {
        operations: [deleting("a", "b").operations, deleting("a", "c").operations].concat(),
        ..Commit::default()
    };
    let answers = store.commit_group(&[&refused, &nothing, &twice]);
    let deleted = answers[2].as_ref().unwrap();
    let last = store.commit(&puts(&["z0=out", "y=in"])).unwrap();
    assert_eq!(
        told(&mut watch, 2),
        [format!("{deleted} a gone"), format!("{last} y=in")]
    );
}

pub fn what_is_no_longer_kept_is_compacted(store: &Arc<impl Store>) {
    let mut slow = store.watch(b"a", b"z", None).unwrap();
    let start = store.commit(&puts(&["a=1"])).unwrap();
    let operations: Vec<Operation> = (0..128)
        .map(|at| Operation::Put {
            key: format!("b{at}").into(),
            value: Bytes::new(),
        })
        .collect();
    let commit = Commit {
        operations,
        ..Commit::default()
    };
    let group = vec![&commit; KEPT_CHANGES / 128];
    assert!(store.commit_group(&group).iter().all(Result::is_ok));
    for error in [
        store.watch(b"a", b"z", Some(start)).unwrap_err(),
        runtime().block_on(slow.next()).unwrap_err(),
    ] {
        let StoreError::Compacted { wanted, oldest } = error else {
            panic!("{error}")
        };
        assert_eq!((wanted, oldest), (start, start + 1));
    }
    let mut watch = store.watch(b"a", b"z", Some(start + 1)).unwrap();
    assert_eq!(told(&mut watch, KEPT_CHANGES).len(), KEPT_CHANGES);
}

pub fn changes_that_nobody_watched_are_not_kept(store: &Arc<impl Store>) {
    let unwatched = store.commit(&puts(&["a=1"])).unwrap();
    let StoreError::Compacted { wanted, oldest } = store.watch(b"a", b"z", Some(unwatched)).unwrap_err()
    else {
        panic!("a change of before is kept")
    };
    assert_eq!((wanted, oldest), (unwatched, unwatched + 1));
    let watch = store.watch(b"a", b"z", None).unwrap();
    let watched = store.commit(&puts(&["a=2"])).unwrap();
    drop(watch);
    store.commit(&puts(&["a=3"])).unwrap();
    assert!(store.watch(b"a", b"z", Some(watched)).is_err());
    let mut watch = store.watch(b"a", b"z", Some(watched + 2)).unwrap();
    let last = store.commit(&puts(&["a=4"])).unwrap();
    assert_eq!(told(&mut watch, 1), [format!("{last} a=4")]);
}

/// The watch comes first; what the snapshot has already is left out.
pub fn watching_then_reading_misses_nothing(store: &Arc<impl Store>) {
    const COMMITS: usize = 200;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at in 0..COMMITS {
                store.commit(&puts(&[&format!("k{at:03}=1")])).unwrap();
            }
        });
        for _ in 0..20 {
            let mut watch = store.watch(b"k", b"l", None).unwrap();
            let snapshot = store.snapshot().unwrap();
            let revision = snapshot.revision().unwrap();
            let read = snapshot.range(b"k", b"l", COMMITS).unwrap();
            let mut known: Vec<Bytes> = read.into_iter().map(|row| row.key).collect();
            while known.len() < COMMITS {
                let changes = next(&mut watch);
                let new = changes.iter().filter(|change| change.revision() > revision);
                known.extend(new.map(|change| change.key().clone()));
            }
            // Each once, in the order in which they were written.
            let want = (0..COMMITS).map(|at| Bytes::from(format!("k{at:03}")));
            assert!(known.iter().cloned().eq(want), "{known:?}");
        }
    });
}

/// Waits for this many changes, as text.
fn told(watch: &mut Watch, count: usize) -> Vec<String> {
    let mut changes = Vec::new();
    while changes.len() < count {
        changes.extend(next(watch));
    }
    let said = |change: &Change| match change {
        Change::Put(row) => format!("{} {}={}", row.modified, text(&row.key), text(&row.value)),
        Change::Delete { key, revision } => format!("{revision} {} gone", text(key)),
    };
    let ordered: Vec<Revision> = changes.iter().map(Change::revision).collect();
    assert!(ordered.is_sorted(), "{ordered:?}");
    changes.iter().map(said).collect()
}

fn next(watch: &mut Watch) -> Vec<Change> {
    let next = async { tokio::time::timeout(Duration::from_secs(30), watch.next()).await };
    runtime().block_on(next).expect("a change within 30 s").unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

fn puts(rows: &[&str]) -> Commit {
    let put = |row: &&str| {
        let (name, value) = row.split_once('=').unwrap();
        Operation::Put {
            key: key(name),
            value: key(value),
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
            from: key(from),
            to: key(to),
        }],
        ..Commit::default()
    }
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
