//! The embedded store: one file, one process, every commit synced before it is answered.
//!
//! Commits use redb's quick repair (and with it two-phase commit), so that opening after a crash takes no walk over
//! the file. After an I/O error (a full filesystem is one) redb refuses everything until it is opened again; a store
//! in a file does that itself at the next call, so it is well again as soon as the filesystem is.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, StorageError, Table, TableDefinition};

use crate::watch::History;
use crate::{Change, Commit, KeyValue, Operation, Precondition, Revision, Store, StoreError, Watch};

mod opening;

use opening::Place;
pub(crate) use opening::{corrupt_or_backend, open_error};

/// Every key, with the revision that wrote it and its value.
pub(crate) const KEYS: TableDefinition<&[u8], (u64, &[u8])> = TableDefinition::new("keys");
/// One row: the number of commits so far.
pub(crate) const REVISION: TableDefinition<(), u64> = TableDefinition::new("revision");

/// A store in one redb file.
#[derive(Debug)]
pub struct RedbStore {
    place: Place,
    /// `None` when it could not be opened again; the next call tries once more.
    database: RwLock<Option<Database>>,
    /// Set after an error: the database must be opened again before it is used.
    failed: AtomicBool,
    /// Held from the beginning of a transaction until its changes are recorded, so that those are in order.
    writing: Mutex<()>,
    history: History,
}

impl RedbStore {
    /// Opens the store in the file at `path`, making it when there is none. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it open, [`StoreError::Corrupt`] when the file is no store,
    /// [`StoreError::Full`] when there is no room to make it.
    pub fn open(path: impl AsRef<Path>) -> Result<RedbStore, StoreError> {
        let path = path.as_ref();
        RedbStore::new(Place::File(path.into()), opening::open_or_make(path)?)
    }

    /// Opens the store on a backend of the caller's: for crash tests. After an I/O error it stays closed.
    pub fn with_backend(backend: impl StorageBackend) -> Result<RedbStore, StoreError> {
        RedbStore::new(Place::Backend, opening::with_backend(backend)?)
    }

    fn new(place: Place, database: Database) -> Result<RedbStore, StoreError> {
        let revision = read_revision(&database).map_err(|error| place.failure(error))?;
        Ok(RedbStore {
            place,
            database: RwLock::new(Some(database)),
            failed: AtomicBool::new(false),
            writing: Mutex::default(),
            history: History::new(revision),
        })
    }

    /// Runs `run` on the database, after opening that again where an earlier error made it necessary.
    fn with<T>(&self, run: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        self.open_again_after_failure()?;
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        // It is not there when another thread has just failed to open it.
        let database = database.as_ref().ok_or(redb::Error::DatabaseClosed);
        database.and_then(run).map_err(|error| {
            self.failed.store(true, Ordering::Release);
            self.place.failure(error)
        })
    }

    /// As [`RedbStore::with`]; once more when an error of another thread was in the way.
    fn read<T>(&self, run: impl Fn(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        match self.with(&run) {
            Err(StoreError::Backend {
                source: Some(source), ..
            }) if is_of_another_call(&*source) => self.with(&run),
            answer => answer,
        }
    }

    fn open_again_after_failure(&self) -> Result<(), StoreError> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let Place::File(path) = &self.place else {
            return Err(self.place.failure(redb::Error::PreviousIo));
        };
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        // The lock on the file goes with it.
        *database = None;
        let opened = opening::open(path)?;
        let revision = read_revision(&opened).map_err(|error| self.place.failure(error))?;
        self.history.reopened(revision);
        *database = Some(opened);
        self.failed.store(false, Ordering::Release);
        tracing::warn!(path = %path.display(), revision, "the store was opened again after an error");
        Ok(())
    }
}

/// The answer of each commit of a group, and what those that happened did.
type Written = (Vec<Result<Revision, StoreError>>, Vec<(Revision, Vec<Change>)>);

/// Everything of `commits` in one transaction. After an error it is not known whether they happened.
fn write(database: &Database, commits: &[&Commit]) -> Result<Written, redb::Error> {
    let transaction = opening::begin_write(database)?;
    let mut answers = Vec::with_capacity(commits.len());
    let mut done = Vec::with_capacity(commits.len());
    {
        let mut keys = transaction.open_table(KEYS)?;
        let mut counter = transaction.open_table(REVISION)?;
        let mut revision = counter.get(())?.map_or(0, |row| row.value());
        for commit in commits {
            let refused = match commit.check_limits() {
                Ok(()) => broken_precondition(&keys, commit)?.map(|key| StoreError::Conflict { key }),
                Err(error) => Some(error),
            };
            if let Some(error) = refused {
                answers.push(Err(error));
                continue;
            }
            revision += 1;
            done.push((revision, run(&mut keys, commit, revision)?));
            answers.push(Ok(revision));
        }
        if !done.is_empty() {
            counter.insert((), revision)?;
        }
    }
    if done.is_empty() {
        transaction.abort()?;
    } else {
        transaction.commit()?;
    }
    Ok((answers, done))
}

impl Store for RedbStore {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.read(|database| {
            let table = database.begin_read()?.open_table(KEYS)?;
            Ok(table.get(key)?.map(|row| key_value(key, row.value())))
        })
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        self.read(|database| {
            let table = database.begin_read()?.open_table(KEYS)?;
            let mut found = Vec::new();
            for row in table.range(from..to)?.take(limit) {
                let (key, value) = row?;
                found.push(key_value(key.value(), value.value()));
            }
            Ok(found)
        })
    }

    fn commit(&self, commit: &Commit) -> Result<Revision, StoreError> {
        let mut answers = self.commit_group(&[commit]);
        answers.pop().expect("one answer for one commit")
    }

    fn commit_group(&self, commits: &[&Commit]) -> Vec<Result<Revision, StoreError>> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match self.with(|database| write(database, commits)) {
            Ok((answers, done)) => {
                for (revision, changes) in done {
                    self.history.record(revision, changes);
                }
                answers
            }
            Err(error) => vec![Err(error); commits.len()],
        }
    }

    fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.history.revision())
    }

    fn watch(&self, from: &[u8], to: &[u8], start: Option<Revision>) -> Result<Watch, StoreError> {
        self.history.watch(from, to, start)
    }
}

fn broken_precondition(
    keys: &Table<'_, &[u8], (u64, &[u8])>,
    commit: &Commit,
) -> Result<Option<Bytes>, StorageError> {
    for precondition in &commit.preconditions {
        let (key, holds) = match precondition {
            Precondition::Absent { key } => (key, keys.get(&key[..])?.is_none()),
            Precondition::Unchanged { key, modified } => (
                key,
                keys.get(&key[..])?.is_some_and(|row| row.value().0 == *modified),
            ),
        };
        if !holds {
            return Ok(Some(key.clone()));
        }
    }
    Ok(None)
}

fn run(
    keys: &mut Table<'_, &[u8], (u64, &[u8])>,
    commit: &Commit,
    revision: Revision,
) -> Result<Vec<Change>, StorageError> {
    let mut changes = Vec::with_capacity(commit.operations.len());
    for operation in commit.effective_operations() {
        match operation {
            Operation::Put { key, value } => {
                keys.insert(&key[..], (revision, &value[..]))?;
                changes.push(Change::Put(KeyValue {
                    key: key.clone(),
                    value: value.clone(),
                    modified: revision,
                }));
            }
            Operation::Delete { key } => {
                if keys.remove(&key[..])?.is_some() {
                    let key = key.clone();
                    changes.push(Change::Delete { key, revision });
                }
            }
            Operation::DeleteRange { from, to } if from < to => {
                keys.retain_in(&from[..]..&to[..], |key, _| {
                    let key = Bytes::copy_from_slice(key);
                    changes.push(Change::Delete { key, revision });
                    false
                })?;
            }
            Operation::DeleteRange { .. } => {}
        }
    }
    Ok(changes)
}

/// Whether it was another call's I/O error that stopped this one.
fn is_of_another_call(source: &(dyn std::error::Error + 'static)) -> bool {
    matches!(
        source.downcast_ref(),
        Some(redb::Error::PreviousIo | redb::Error::DatabaseClosed)
    )
}

fn read_revision(database: &Database) -> Result<Revision, redb::Error> {
    let table = database.begin_read()?.open_table(REVISION)?;
    Ok(table.get(())?.map_or(0, |row| row.value()))
}

pub(crate) fn key_value(key: &[u8], (modified, value): (u64, &[u8])) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        modified,
    }
}
