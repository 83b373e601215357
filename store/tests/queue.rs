//! The async handle: answers, groups, and what happens when nobody waits.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use store::{
    Commit, KeyValue, MAX_OPERATIONS, MemoryStore, Operation, Precondition, RedbStore, Revision, Snapshot,
    Store, StoreError, StoreHandle,
};

fn put(key: &str) -> Commit {
    let operation = Operation::Put {
        key: key.to_owned().into(),
        value: Bytes::from_static(b"v"),
    };
    Commit {
        operations: vec![operation],
        ..Commit::default()
    }
}

/// Holds its writer back until it is opened, and counts groups.
#[derive(Default)]
struct Gate {
    inner: MemoryStore,
    groups: AtomicUsize,
    entered: (Mutex<bool>, Condvar),
    open: (Mutex<bool>, Condvar),
}

impl Gate {
    fn set((flag, changed): &(Mutex<bool>, Condvar)) {
        *flag.lock().unwrap() = true;
        changed.notify_all();
    }

    fn wait((flag, changed): &(Mutex<bool>, Condvar)) {
        drop(changed.wait_while(flag.lock().unwrap(), |flag| !*flag).unwrap());
    }
}

impl Store for Gate {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.inner.get(key)
    }
    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.inner.range(from, to, limit)
    }
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        self.inner.snapshot()
    }
    fn commit(&self, commit: &Commit) -> Result<Revision, StoreError> {
        self.inner.commit(commit)
    }
    fn commit_group(&self, commits: &[&Commit]) -> Vec<Result<Revision, StoreError>> {
        Gate::set(&self.entered);
        Gate::wait(&self.open);
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.inner.commit_group(commits)
    }
}

#[tokio::test]
async fn commits_that_wait_are_written_together_and_answered_apart() {
    let gate = Arc::new(Gate::default());
    let handle = StoreHandle::shared(gate.clone());
    let first = tokio::spawn({
        let handle = handle.clone();
        async move { handle.commit(put("first")).await }
    });
    tokio::task::spawn_blocking({
        let gate = gate.clone();
        move || Gate::wait(&gate.entered)
    })
    .await
    .unwrap();
    let rest: Vec<_> = (0..20)
        .map(|at| {
            let handle = handle.clone();
            tokio::spawn(async move {
                let mut commit = put(&format!("k{at}"));
                if at == 7 {
                    commit.preconditions.push(Precondition::Absent {
                        key: Bytes::from_static(b"first"),
                    });
                }
                handle.commit(commit).await
            })
        })
        .collect();
    // On this runtime of one thread each of them has queued its commit once they have all been polled.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    Gate::set(&gate.open);
    first.await.unwrap().unwrap();
    for (at, answer) in rest.into_iter().enumerate() {
        match answer.await.unwrap() {
            Ok(_) => assert_ne!(at, 7),
            Err(error) => assert!(at == 7 && error.is_conflict(), "{at}: {error}"),
        }
    }
    assert_eq!(gate.groups.load(Ordering::Relaxed), 2);
    assert_eq!(handle.prefix(b"k", 100).await.unwrap().len(), 19);
    assert!(handle.get(b"first").await.unwrap().is_some());
    assert_eq!(handle.range("a", "g", 10).await.unwrap().len(), 1);
}

/// As many as wait in the queue; one more waits outside of it, and is not made when its caller goes.
#[tokio::test]
async fn commits_wait_in_a_queue_of_a_bounded_length() {
    let gate = Arc::new(Gate::default());
    let handle = StoreHandle::shared(gate.clone());
    let commit = |key: String| {
        let handle = handle.clone();
        tokio::spawn(async move { handle.commit(put(&key)).await })
    };
    let mut waiting = vec![commit("k-first".into())];
    tokio::task::spawn_blocking({
        let gate = gate.clone();
        move || Gate::wait(&gate.entered)
    })
    .await
    .unwrap();
    waiting.extend((0..1024).map(|at| commit(format!("k{at}"))));
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let beyond = handle.commit(put("k-beyond"));
    let beyond = tokio::time::timeout(std::time::Duration::from_millis(100), beyond).await;
    assert!(beyond.is_err(), "it waits");
    Gate::set(&gate.open);
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(handle.prefix(b"k", 2_000).await.unwrap().len(), 1_025);
}

#[tokio::test]
async fn a_commit_over_the_limit_never_reaches_the_writer() {
    let handle = StoreHandle::new(MemoryStore::new());
    let mut commit = put("a");
    commit.operations = vec![commit.operations[0].clone(); MAX_OPERATIONS + 1];
    assert!(matches!(
        handle.commit(commit).await,
        Err(StoreError::TooLarge { .. })
    ));
    handle.commit(put("a")).await.unwrap();
}

#[tokio::test]
async fn a_commit_happens_even_when_its_caller_has_gone() {
    let gate = Arc::new(Gate::default());
    let handle = StoreHandle::shared(gate.clone());
    let caller = tokio::spawn({
        let handle = handle.clone();
        async move { handle.commit(put("gone")).await }
    });
    tokio::task::spawn_blocking({
        let gate = gate.clone();
        move || Gate::wait(&gate.entered)
    })
    .await
    .unwrap();
    caller.abort();
    Gate::set(&gate.open);
    handle.commit(put("next")).await.unwrap();
    assert!(handle.get(b"gone").await.unwrap().is_some());
}

#[tokio::test]
async fn dropping_the_last_handle_writes_what_is_queued_and_frees_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("farrier.redb");
    let handle = StoreHandle::new(RedbStore::open(&path).unwrap());
    let mut commits = Vec::new();
    for at in 0..10 {
        let handle = handle.clone();
        commits.push(tokio::spawn(async move {
            handle.commit(put(&format!("k{at}"))).await
        }));
    }
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
    drop(handle);
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.range(b"k", b"l", 100).unwrap().len(), 10);
}

#[tokio::test]
async fn a_prefix_is_watched_until_the_store_is_closed() {
    let handle = StoreHandle::new(MemoryStore::new());
    let mut watch = handle.watch(b"k", None).await.unwrap();
    handle.commit(put("j")).await.unwrap();
    let revision = handle.commit(put("k1")).await.unwrap();
    assert_eq!(handle.revision().unwrap(), revision);
    let changes = watch.next().await.unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].key(), "k1");
    drop(handle);
    assert_eq!(
        watch.next().await.unwrap_err().to_string(),
        "store: closed while it was watched"
    );
    let bare = StoreHandle::new(Broken);
    assert_eq!(
        bare.watch(b"k", None).await.unwrap_err().to_string(),
        "store: this engine cannot be watched"
    );
}

struct Broken;

impl Store for Broken {
    fn get(&self, _: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        Ok(None)
    }
    fn range(&self, _: &[u8], _: &[u8], _: usize) -> Result<Vec<KeyValue>, StoreError> {
        panic!("broken")
    }
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        panic!("broken")
    }
    fn commit(&self, _: &Commit) -> Result<Revision, StoreError> {
        panic!("broken")
    }
}

#[tokio::test]
async fn a_store_that_panics_gives_errors_and_no_hang() {
    let handle = StoreHandle::new(Broken);
    for _ in 0..3 {
        let error = handle.commit(put("a")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "store: its writer thread has stopped (the log says why): start the server again"
        );
    }
    let error = handle.range("a", "b", 1).await.unwrap_err();
    assert_eq!(error.to_string(), "store: reading was broken off");
}
