//! People read a workflow while it is archived and brought back between any two reads of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use coordinator::archive::{Archived, Readiness, Restoring, key, unpack};
use futures_util::TryStreamExt;
use server::Config;
use store::blobs::Blobs;
use store::{BetweenReads, Commit, MemoryStore, Operation, Store, StoreError, StoreHandle};

use crate::archive::{all_of, ended};
use crate::harness::*;

const NEVER: Duration = Duration::from_secs(3600);

/// Archives a workflow that is in the store, and brings one back that is not, as the server does; blobs that nothing names
/// go at once.
struct Toggle {
    id: String,
    blobs: Blobs,
    is_armed: AtomicBool,
    reads: AtomicU64,
    /// Does it before each so-manieth read.
    every: u64,
    done: AtomicU64,
}

impl Toggle {
    fn before_a_read(self: &Arc<Self>, store: &dyn Store) -> Result<(), StoreError> {
        if !self.is_armed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let before = self.reads.fetch_add(1, Ordering::SeqCst);
        if before % self.every == self.every - 1 {
            // Blobs are async, and this is called on threads of a runtime.
            std::thread::scope(|scope| {
                let toggled = scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build();
                    runtime.expect("a runtime").block_on(self.toggle(store));
                });
                toggled.join().expect("it is toggled");
            });
        }
        Ok(())
    }

    async fn toggle(&self, store: &dyn Store) {
        self.done.fetch_add(1, Ordering::SeqCst);
        let archived = store.get(key(&self.id).as_bytes()).expect("a row");
        let Some(row) = archived else {
            return self.archive(store).await;
        };
        let archived: Archived = serde_json::from_slice(&row.value).expect("an archive");
        let mut restoring = Restoring::new(&self.id, row.modified);
        for part in &archived.parts {
            let blob = self.blobs.get(&part.blob).await.expect("a blob");
            let restored = restoring.part(unpack(&blob).expect("rows"));
            for content in restored.contents {
                self.blobs.put(content).await.expect("put");
            }
            for commit in restored.commits {
                store.commit(&commit).expect("a commit");
            }
        }
        let last = restoring.finish().expect("a head");
        store.commit(&last).expect("a commit");
        for part in &archived.parts {
            self.blobs.delete(&part.blob).await.expect("deleted");
        }
    }

    async fn archive(&self, store: &dyn Store) {
        let Readiness::Ready(members) = Readiness::of(store, &self.id).expect("readable") else {
            panic!("{} cannot be archived", self.id)
        };
        for member in members {
            let mut contents = Vec::new();
            for digest in member.contents() {
                let blob = coordinator::data::blob_of(&digest).expect("a name");
                let content = self.blobs.get(&blob).await.expect("a content");
                contents.push((digest.to_string(), content));
                // As garbage goes.
                self.blobs.delete(&blob).await.expect("deleted");
            }
            let mut packer = member.packer(store, contents).expect("a snapshot");
            let mut parts = Vec::new();
            while let Some(part) = packer.next_part().expect("a part") {
                parts.push((part.first, self.blobs.put(part.bytes).await.expect("put")));
            }
            store.commit(&member.commit(parts)).expect("a commit");
        }
    }
}

/// Rows and blobs, once more.
async fn copied(store: &MemoryStore, blobs: &Blobs) -> (Arc<MemoryStore>, Blobs) {
    let copy = Arc::new(MemoryStore::default());
    let rows = store.range(b"\0", b"\xff", usize::MAX).expect("rows");
    for row in rows {
        let put = Operation::Put {
            key: row.key,
            value: row.value,
        };
        let commit = Commit {
            operations: vec![put],
            ..Commit::default()
        };
        copy.commit(&commit).expect("a commit");
    }
    let copies = Blobs::in_memory();
    let all: Vec<_> = blobs.list().try_collect().await.expect("blobs");
    for blob in all {
        let content = blobs.get(&blob.digest).await.expect("a blob");
        copies.put(content).await.expect("put");
    }
    (copy, copies)
}

fn config(blobs: &Blobs) -> Config {
    Config {
        archive_after: NEVER,
        blobs: blobs.clone(),
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_reads_as_ever_while_it_is_archived_and_brought_back() {
    let (store, blobs) = (Arc::new(MemoryStore::default()), Blobs::in_memory());
    let server = Server::over(StoreHandle::shared(store.clone()), config(&blobs)).await;
    let id = ended(&server, leaving(), "SUCCESS").await;
    let want = all_of(&server, &id).await;
    server.stop().await;

    // Before each single read it would never be anywhere for as long as a reading takes.
    for every in 2..=8 {
        let (store, blobs) = copied(&store, &blobs).await;
        let toggle = Arc::new(Toggle {
            id: id.clone(),
            blobs: blobs.clone(),
            is_armed: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            every,
            done: AtomicU64::new(0),
        });
        let racing = {
            let toggle = toggle.clone();
            BetweenReads::new(store, move |store, _| toggle.before_a_read(store))
        };
        let server = Server::over(StoreHandle::shared(Arc::new(racing)), config(&blobs)).await;
        toggle.is_armed.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            let found = all_of(&server, &id).await;
            assert_eq!(found, want, "toggled at each read number {every}");
        }
        toggle.is_armed.store(false, Ordering::SeqCst);
        assert!(toggle.done.load(Ordering::SeqCst) > 2);
        server.stop().await;
    }
}
