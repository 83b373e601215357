//! The embedded store: one file, one process, every commit synced before it is answered.
//!
//! Every row has a checksum, which every read verifies: see `format`. A damaged row is an error that names it, and
//! nothing but that row: the others are read and written as before, also in the same group of commits.
//!
//! Commits use redb's quick repair (and with it two-phase commit), so that opening after a crash takes no walk over
//! the file. After an I/O error (a full filesystem is one) redb refuses everything until it is opened again; a store
//! in a file does that itself at the next call, so it is well again as soon as the filesystem is.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, StorageBackend, Table};

use crate::watch::History;
use crate::{
    Change, Commit, KeyValue, Operation, Precondition, Revision, Snapshot, Store, StoreError, Watch,
    appended_key,
};

pub(crate) mod format;
mod opening;
mod panics;
mod snapshot;

use format::{KEYS, REVISION, Row};
use opening::Place;
pub(crate) use opening::{corrupt, engine_failure, open_error};
pub(crate) use panics::caught;

/// Why a transaction did not do what it was to do.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A row's checksum does not match.
    Damaged {
        key: Bytes,
    },
    Engine(redb::Error),
}

macro_rules! engine_errors {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::Engine(error.into())
            }
        }
    )*};
}

engine_errors!(
    redb::CommitError,
    redb::Error,
    redb::SetDurabilityError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError
);

/// A store in one redb file.
#[derive(Debug)]
pub struct RedbStore {
    health: Arc<Health>,
    /// `None` when it could not be opened again; the next call tries once more.
    database: RwLock<Option<Database>>,
    /// Held from the beginning of a transaction until its changes are recorded, so that those are in order, and by whoever
    /// begins to watch.
    writing: Mutex<()>,
    history: History,
}

/// What a store and its snapshots know of the file together.
#[derive(Debug)]
struct Health {
    place: Place,
    /// Set after an error: the database must be opened again before it is used.
    failed: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// From a snapshot, whose engine may be closed since.
    LookingBack,
    Reading,
    Writing,
}

impl Health {
    /// Runs `run`, and notes when the database must be opened again after it.
    fn during<T>(&self, doing: Doing, run: impl FnOnce() -> Result<T, Failure>) -> Result<T, StoreError> {
        match caught(run) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => {
                // Where a place of the file is damaged, opening it again does not help.
                let helps = match (&failure, doing) {
                    (Failure::Damaged { .. }, _) => false,
                    (Failure::Engine(_), Doing::Writing) => true,
                    (Failure::Engine(error), Doing::Reading) => !opening::is_damage(error),
                    // Whoever met the error first has noted it.
                    (Failure::Engine(error), Doing::LookingBack) => {
                        !opening::is_damage(error) && !is_of_another_call(error)
                    }
                };
                if helps {
                    self.failed.store(true, Ordering::Release);
                }
                Err(self.place.failed(failure))
            }
            Err(panic) => {
                self.failed.store(true, Ordering::Release);
                Err(self.place.corrupt(panic))
            }
        }
    }
}

impl RedbStore {
    /// Opens the store in the file at `path`, making it when there is none. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it open, [`StoreError::Corrupt`] when the file is no store,
    /// [`StoreError::Newer`] when a later Farrier made it, [`StoreError::Full`] when there is no room to make it.
    /// Whether all of the file is sound is not asked: that is [`crate::offline::verify`].
    pub fn open(path: impl AsRef<Path>) -> Result<RedbStore, StoreError> {
        let path = path.as_ref();
        RedbStore::new(Place::File(path.into()), opening::open_or_make(path)?)
    }

    /// Opens the store on a backend of the caller's: for crash tests. After an I/O error it stays closed.
    pub fn with_backend(backend: impl StorageBackend) -> Result<RedbStore, StoreError> {
        RedbStore::new(Place::Backend, opening::with_backend(backend)?)
    }

    fn new(place: Place, database: Database) -> Result<RedbStore, StoreError> {
        let revision = read_revision(&database).map_err(|error| place.failed(error))?;
        Ok(RedbStore {
            health: Arc::new(Health {
                place,
                failed: AtomicBool::new(false),
            }),
            database: RwLock::new(Some(database)),
            writing: Mutex::default(),
            history: History::new(revision),
        })
    }

    /// Runs `run` on the database, after opening that again where an earlier error made it necessary.
    fn with<T>(
        &self,
        doing: Doing,
        run: impl FnOnce(&Database) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        self.open_again_after_failure()?;
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        // It is not there when another thread has just failed to open it.
        let Some(database) = database.as_ref() else {
            return Err(self.health.place.failure(redb::Error::DatabaseClosed));
        };
        self.health.during(doing, || run(database))
    }

    /// As [`RedbStore::with`]; once more when an error of another thread was in the way.
    fn read<T>(&self, run: impl Fn(&Database) -> Result<T, Failure>) -> Result<T, StoreError> {
        match self.with(Doing::Reading, &run) {
            Err(StoreError::Backend {
                source: Some(source), ..
            }) if source.downcast_ref().is_some_and(is_of_another_call) => self.with(Doing::Reading, &run),
            answer => answer,
        }
    }

    fn open_again_after_failure(&self) -> Result<(), StoreError> {
        if !self.health.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let Place::File(path) = &self.health.place else {
            return Err(self.health.place.failure(redb::Error::PreviousIo));
        };
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if !self.health.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        // The lock on the file goes with it.
        let closed = database.take();
        if let Err(panic) = caught(|| drop(closed)) {
            tracing::error!(path = %path.display(), panic, "closing the store after an error failed");
        }
        let opened = opening::open(path)?;
        let revision = read_revision(&opened).map_err(|error| self.health.place.failed(error))?;
        self.history.reopened(revision);
        *database = Some(opened);
        self.health.failed.store(false, Ordering::Release);
        tracing::warn!(path = %path.display(), revision, "the store was opened again after an error");
        Ok(())
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        let database = self
            .database
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Closing writes where free pages are, and what was read of that may be damaged.
        if let Err(panic) = caught(|| drop(database)) {
            tracing::error!(panic, "closing the store failed");
        }
    }
}

/// The answer of each commit of a group, and what those that happened did, where somebody wants to know.
type Written = (
    Vec<Result<Revision, StoreError>>,
    Vec<(Revision, Option<Vec<Change>>)>,
);

/// Everything of `commits` in one transaction. After an error it is not known whether they happened.
fn write(
    database: &Database,
    place: &Place,
    commits: &[&Commit],
    is_watched: bool,
) -> Result<Written, Failure> {
    let transaction = opening::begin_write(database)?;
    let mut answers = Vec::with_capacity(commits.len());
    let mut done = Vec::with_capacity(commits.len());
    {
        let mut keys = transaction.open_table(KEYS)?;
        let mut counter = transaction.open_table(REVISION)?;
        let mut revision = format::revision(&counter)?;
        for commit in commits {
            let refused = match commit.check_limits() {
                Ok(()) => broken_precondition(&keys, place, commit)?,
                Err(error) => Some(error),
            };
            if let Some(error) = refused {
                answers.push(Err(error));
                continue;
            }
            revision += 1;
            let mut changes = is_watched.then(Vec::new);
            run(&mut keys, commit, revision, changes.as_mut())?;
            done.push((revision, changes));
            answers.push(Ok(revision));
        }
        if !done.is_empty() {
            counter.insert((), format::counter(revision))?;
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
        self.read(|database| format::get(&database.begin_read()?.open_table(KEYS)?, key))
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        self.read(|database| format::range(&database.begin_read()?.open_table(KEYS)?, from, to, limit))
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        let read = self.read(snapshot::Reading::begin)?;
        Ok(Arc::new(snapshot::RedbSnapshot::new(self.health.clone(), read)))
    }

    fn commit(&self, commit: &Commit) -> Result<Revision, StoreError> {
        let mut answers = self.commit_group(&[commit]);
        answers.pop().expect("one answer for one commit")
    }

    fn commit_group(&self, commits: &[&Commit]) -> Vec<Result<Revision, StoreError>> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_watched = self.history.is_watched();
        let place = &self.health.place;
        match self.with(Doing::Writing, |database| {
            write(database, place, commits, is_watched)
        }) {
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
        // A transaction that is under way has looked already whether somebody watches.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.history.watch(from, to, start)
    }
}

fn broken_precondition(
    keys: &Table<'_, &[u8], Row<'static>>,
    place: &Place,
    commit: &Commit,
) -> Result<Option<StoreError>, Failure> {
    for precondition in &commit.preconditions {
        let (Precondition::Absent { key } | Precondition::Unchanged { key, .. }) = precondition;
        let found = match format::modified(keys, key) {
            Ok(found) => found,
            // It concerns this commit, and no other of the group.
            Err(failure @ Failure::Damaged { .. }) => return Ok(Some(place.failed(failure))),
            Err(failure) => return Err(failure),
        };
        let holds = match precondition {
            Precondition::Absent { .. } => found.is_none(),
            Precondition::Unchanged { modified, .. } => found == Some(*modified),
        };
        if !holds {
            return Ok(Some(StoreError::Conflict { key: key.clone() }));
        }
    }
    Ok(None)
}

fn run(
    keys: &mut Table<'_, &[u8], Row<'static>>,
    commit: &Commit,
    revision: Revision,
    mut changes: Option<&mut Vec<Change>>,
) -> Result<(), Failure> {
    let mut note = |change: &dyn Fn() -> Change| {
        if let Some(changes) = &mut changes {
            changes.push(change());
        }
    };
    let deleted = |key: &[u8]| Change::Delete {
        key: Bytes::copy_from_slice(key),
        revision,
    };
    let put = |key: &Bytes, value: &Bytes| {
        Change::Put(KeyValue {
            key: key.clone(),
            value: value.clone(),
            modified: revision,
        })
    };
    for operation in commit.effective_operations() {
        match operation {
            Operation::Put { key, value } => {
                keys.insert(&key[..], format::to_row(key, revision, value))?;
                note(&|| put(key, value));
            }
            Operation::Append { log, value } => {
                let key = appended_key(log, revision);
                keys.insert(&key[..], format::to_row(&key, revision, value))?;
                note(&|| put(&key, value));
            }
            Operation::Delete { key } => {
                if keys.remove(&key[..])?.is_some() {
                    note(&|| deleted(key));
                }
            }
            Operation::DeleteRange { from, to } if from < to => {
                keys.retain_in(&from[..]..&to[..], |key, _| {
                    note(&|| deleted(key));
                    false
                })?;
            }
            Operation::DeleteRange { .. } => {}
        }
    }
    Ok(())
}

/// Whether it was another call's I/O error that stopped this one.
fn is_of_another_call(error: &redb::Error) -> bool {
    matches!(error, redb::Error::PreviousIo | redb::Error::DatabaseClosed)
}

fn read_revision(database: &Database) -> Result<Revision, Failure> {
    format::revision(&database.begin_read()?.open_table(REVISION)?)
}
