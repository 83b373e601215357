//! The async side of a store: many callers, one writer thread, one sync for all commits that wait.
//!
//! A commit that was queued happens even when its caller stops waiting for the answer. The thread ends, and with it
//! the store is closed, when the last handle is dropped; that waits for the commits that are queued.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::{Commit, KeyValue, Revision, Store, StoreError, Watch};

/// Commits that may wait; more callers wait for a place.
const QUEUE_COMMITS: usize = 1024;
/// Commits in one transaction.
const GROUP_COMMITS: usize = 512;
/// Bytes of keys and values in one transaction, unless one commit alone is larger.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// A clonable handle on a store for code that must not block.
#[derive(Clone)]
pub struct StoreHandle {
    store: Arc<dyn Store>,
    writer: Arc<Writer>,
    trouble: Trouble,
}

/// What the last write failed with; `None`: it did not.
type Trouble = Arc<Mutex<Option<StoreError>>>;

impl StoreHandle {
    /// Takes a store over and starts its writer thread.
    pub fn new(store: impl Store) -> StoreHandle {
        StoreHandle::shared(Arc::new(store))
    }

    /// As [`StoreHandle::new`], for a store that somebody else reads too.
    pub fn shared(store: Arc<dyn Store>) -> StoreHandle {
        let (sender, receiver) = mpsc::channel(QUEUE_COMMITS);
        let written = store.clone();
        let trouble = Trouble::default();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn({
                let trouble = trouble.clone();
                move || write_queued(&*written, receiver, &trouble)
            })
            .expect("the process may start one more thread");
        StoreHandle {
            store,
            writer: Arc::new(Writer {
                sender: Some(sender),
                thread: Some(thread),
            }),
            trouble,
        }
    }

    /// Returns when the commit is durable, or was refused.
    pub async fn commit(&self, commit: Commit) -> Result<Revision, StoreError> {
        commit.check_limits()?;
        let (answer, answered) = oneshot::channel();
        let sender = self.writer.sender.as_ref().ok_or_else(stopped)?;
        sender
            .send(Queued { commit, answer })
            .await
            .map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Whether commits can be made, as far as that is known: the writer thread runs, and the last write did not fail. A store whose
    /// disk was full is writable again with the first commit that succeeds.
    ///
    /// # Errors
    /// What a commit would say, or what the last one said.
    pub fn writable(&self) -> Result<(), StoreError> {
        let is_there = self
            .writer
            .sender
            .as_ref()
            .is_some_and(|sender| !sender.is_closed());
        if !is_there {
            return Err(stopped());
        }
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone().map_or(Ok(()), Err)
    }

    /// Reads one key; from memory or with one short read, so on the calling thread.
    pub async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.store.get(key)
    }

    /// Reads a range on a thread for blocking work.
    pub async fn range(
        &self,
        from: impl Into<Bytes>,
        to: impl Into<Bytes>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, StoreError> {
        let (store, from, to) = (self.store.clone(), from.into(), to.into());
        off_the_runtime(move || store.range(&from, &to, limit)).await
    }

    /// All keys that begin with `prefix`, at most `limit`.
    pub async fn prefix(&self, prefix: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.range(Bytes::copy_from_slice(prefix), crate::prefix_end(prefix), limit)
            .await
    }

    /// See [`Store::revision`].
    pub fn revision(&self) -> Result<Revision, StoreError> {
        self.store.revision()
    }

    /// Changes of all keys that begin with `prefix`; see [`Store::watch`].
    pub async fn watch(&self, prefix: &[u8], start: Option<Revision>) -> Result<Watch, StoreError> {
        let (store, prefix) = (self.store.clone(), Bytes::copy_from_slice(prefix));
        off_the_runtime(move || store.watch(&prefix, &crate::prefix_end(&prefix), start)).await
    }

    /// The store itself, for blocking code.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StoreHandle").finish_non_exhaustive()
    }
}

/// The writer thread; joined when dropped.
struct Writer {
    sender: Option<mpsc::Sender<Queued>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.sender.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer thread had panicked");
        }
    }
}

struct Queued {
    commit: Commit,
    answer: oneshot::Sender<Result<Revision, StoreError>>,
}

fn write_queued(store: &dyn Store, mut receiver: mpsc::Receiver<Queued>, trouble: &Trouble) {
    let mut left_over = None;
    while let Some(first) = left_over.take().or_else(|| receiver.blocking_recv()) {
        let mut bytes = first.commit.len_bytes();
        let mut group = vec![first];
        while group.len() < GROUP_COMMITS
            && let Ok(next) = receiver.try_recv()
        {
            bytes += next.commit.len_bytes();
            if bytes > GROUP_BYTES {
                left_over = Some(next);
                break;
            }
            group.push(next);
        }
        let commits: Vec<&Commit> = group.iter().map(|queued| &queued.commit).collect();
        let answers = store.commit_group(&commits);
        let failed = match answers.first() {
            Some(Err(error @ (StoreError::Backend { .. } | StoreError::Full { .. }))) => Some(error),
            _ => None,
        };
        *trouble.lock().unwrap_or_else(PoisonError::into_inner) = failed.cloned();
        if let Some(error) = failed {
            tracing::error!(
                error = error as &dyn std::error::Error,
                commits = group.len(),
                "store write failed"
            );
        }
        for (queued, answer) in group.into_iter().zip(answers) {
            // A caller that no longer waits does not want to know.
            let _ = queued.answer.send(answer);
        }
    }
}

/// Runs `read` on a thread for blocking work.
async fn off_the_runtime<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| {
        Err(StoreError::Backend {
            message: "reading was broken off".into(),
            source: Some(Arc::new(error)),
        })
    })
}

fn stopped() -> StoreError {
    StoreError::Backend {
        message: "its writer thread has stopped (the log says why): start the server again".into(),
        source: None,
    }
}
