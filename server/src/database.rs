//! The store off the runtime's threads: reads of snapshots on threads that may block, commits that are awaited.

use std::sync::Arc;

use coordinator::Error;
use coordinator::database::{self, Batch, Stored, View};
use serde::de::DeserializeOwned;
use store::{Commit, Revision, Store, StoreError, StoreHandle};

use crate::tasks::broken_off;

#[derive(Clone)]
pub(crate) struct Database {
    store: StoreHandle,
}

impl Database {
    pub(crate) fn new(store: StoreHandle) -> Self {
        Self { store }
    }

    /// Runs `read` on one snapshot, on a thread that may block; from its beginning again when the snapshot expires.
    pub(crate) async fn with<T, F>(&self, read: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&View) -> Result<T, Error> + Send + 'static,
    {
        let store = self.store();
        off_the_runtime(move || database::read(&*store, read)).await
    }

    /// The store itself, for blocking code.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        self.store.store().clone()
    }

    pub(crate) async fn get<T>(&self, key: String) -> Result<Option<Stored<T>>, Error>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.with(move |view| view.get(&key)).await
    }

    /// Every value below `prefix`, which ends in a slash, with what follows the prefix in its key.
    pub(crate) async fn list<T>(&self, prefix: String) -> Result<Vec<(String, T)>, Error>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.with(move |view| view.list(&prefix)).await
    }

    /// See [`StoreHandle::writable`].
    pub(crate) fn writable(&self) -> Result<(), StoreError> {
        self.store.writable()
    }

    /// Returns when the batch is durable.
    pub(crate) async fn commit(&self, batch: Batch) -> Result<Revision, Error> {
        self.commit_of(batch.into_commit()).await
    }

    pub(crate) async fn commit_of(&self, commit: Commit) -> Result<Revision, Error> {
        Ok(self.store.commit(commit).await?)
    }
}

/// Runs what may take long on a thread that may block.
pub(crate) async fn off_the_runtime<T, F>(read: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| broken_off(&error))?
}
