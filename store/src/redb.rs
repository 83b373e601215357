//! The embedded store: one file, one process, every commit synced before it is answered.
//!
//! Commits use redb's quick repair (and with it two-phase commit), so that opening after a crash takes no walk over
//! the file. After an I/O error redb refuses further writes until it is reopened; the error says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageBackend, StorageError,
    Table, TableDefinition,
};

use crate::{Commit, KeyValue, Operation, Precondition, Revision, Store, StoreError};

/// Every key, with the revision that wrote it and its value.
const KEYS: TableDefinition<&[u8], (u64, &[u8])> = TableDefinition::new("keys");
/// One row: the number of commits so far.
const REVISION: TableDefinition<(), u64> = TableDefinition::new("revision");
/// redb's own default of 1 GiB is more than a whole server should need.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Quick repair lets a file grow (redb issue 934); one that is mostly holes is compacted when it is opened.
const COMPACT_FROM_BYTES: u64 = 64 * 1024 * 1024;

/// A store in one redb file.
#[derive(Debug)]
pub struct RedbStore {
    database: Database,
}

impl RedbStore {
    /// Opens the store in the file at `path`, making it when there is none. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it open, [`StoreError::Corrupt`] when the file is no store.
    pub fn open(path: impl AsRef<Path>) -> Result<RedbStore, StoreError> {
        let path = path.as_ref();
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .map_err(|error| open_error(path, error))?;
        let mut store = RedbStore { database };
        store
            .create_tables()
            .map_err(|error| corrupt_or_backend(path, error))?;
        store.compact_if_mostly_holes(path)?;
        Ok(store)
    }

    /// Opens the store on a backend of the caller's: for crash tests.
    pub fn with_backend(backend: impl StorageBackend) -> Result<RedbStore, StoreError> {
        let path = Path::new("(backend)");
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(|error| open_error(path, error))?;
        let store = RedbStore { database };
        store
            .create_tables()
            .map_err(|error| corrupt_or_backend(path, error))?;
        Ok(store)
    }

    /// Readers may then open the tables without asking whether they are there.
    fn create_tables(&self) -> Result<(), redb::Error> {
        let read = self.database.begin_read()?;
        if read.open_table(KEYS).is_ok() && read.open_table(REVISION).is_ok() {
            return Ok(());
        }
        let transaction = self.begin_write()?;
        transaction.open_table(KEYS)?;
        transaction.open_table(REVISION)?;
        transaction.commit()?;
        Ok(())
    }

    fn begin_write(&self) -> Result<redb::WriteTransaction, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    fn compact_if_mostly_holes(&mut self, path: &Path) -> Result<(), StoreError> {
        let file_bytes = std::fs::metadata(path)
            .map(|metadata| metadata.len())
            .unwrap_or(0);
        if file_bytes < COMPACT_FROM_BYTES {
            return Ok(());
        }
        let used_bytes = (|| -> Result<u64, redb::Error> {
            let transaction = self.database.begin_write()?;
            let stats = transaction.stats()?;
            let used = stats.stored_bytes() + stats.metadata_bytes();
            transaction.abort()?;
            Ok(used)
        })()
        .map_err(backend)?;
        if used_bytes < file_bytes / 4 {
            tracing::info!(path = %path.display(), file_bytes, used_bytes, "compacting the store");
            self.database.compact().map_err(|error| backend(error.into()))?;
        }
        Ok(())
    }

    /// Everything of `commits` in one transaction; the outer error means that none of them happened.
    fn write(&self, commits: &[&Commit]) -> Result<Vec<Result<Revision, StoreError>>, redb::Error> {
        let transaction = self.begin_write()?;
        let mut answers = Vec::with_capacity(commits.len());
        {
            let mut keys = transaction.open_table(KEYS)?;
            let mut counter = transaction.open_table(REVISION)?;
            let mut revision = counter.get(())?.map_or(0, |row| row.value());
            let before = revision;
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
                run(&mut keys, commit, revision)?;
                answers.push(Ok(revision));
            }
            if revision != before {
                counter.insert((), revision)?;
            }
        }
        if answers.iter().any(Result::is_ok) {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok(answers)
    }
}

impl Store for RedbStore {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        let read = || -> Result<Option<KeyValue>, redb::Error> {
            let table = self.database.begin_read()?.open_table(KEYS)?;
            Ok(table.get(key)?.map(|row| key_value(key, row.value())))
        };
        read().map_err(backend)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let read = || -> Result<Vec<KeyValue>, redb::Error> {
            let table = self.database.begin_read()?.open_table(KEYS)?;
            let mut found = Vec::new();
            for row in table.range(from..to)?.take(limit) {
                let (key, value) = row?;
                found.push(key_value(key.value(), value.value()));
            }
            Ok(found)
        };
        read().map_err(backend)
    }

    fn commit(&self, commit: &Commit) -> Result<Revision, StoreError> {
        let mut answers = self.commit_group(&[commit]);
        answers.pop().expect("one answer for one commit")
    }

    fn commit_group(&self, commits: &[&Commit]) -> Vec<Result<Revision, StoreError>> {
        match self.write(commits) {
            Ok(answers) => answers,
            Err(error) => {
                let error = Arc::new(error);
                commits
                    .iter()
                    .map(|_| Err(shared_backend(error.clone())))
                    .collect()
            }
        }
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
) -> Result<(), StorageError> {
    for operation in &commit.operations {
        match operation {
            Operation::Put { key, value } => {
                keys.insert(&key[..], (revision, &value[..]))?;
            }
            Operation::Delete { key } => {
                keys.remove(&key[..])?;
            }
            Operation::DeleteRange { from, to } if from < to => {
                keys.retain_in(&from[..]..&to[..], |_, _| false)?;
            }
            Operation::DeleteRange { .. } => {}
        }
    }
    Ok(())
}

fn key_value(key: &[u8], (modified, value): (u64, &[u8])) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        modified,
    }
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path: path.into() },
        DatabaseError::UpgradeRequired(version) => {
            corrupt(path, format!("it has the old file format {version}"))
        }
        error => corrupt_or_backend(path, error.into()),
    }
}

fn corrupt_or_backend(path: &Path, error: redb::Error) -> StoreError {
    match error {
        redb::Error::Corrupted(message) => corrupt(path, message),
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            corrupt(path, error.to_string())
        }
        redb::Error::TableTypeMismatch { table, .. } => {
            corrupt(path, format!("its table {table} is not of this version"))
        }
        error => StoreError::Backend {
            message: format!("cannot open {}", path.display()),
            source: Some(Box::new(error)),
        },
    }
}

fn corrupt(path: &Path, message: String) -> StoreError {
    StoreError::Corrupt {
        path: PathBuf::from(path),
        message,
    }
}

fn backend(error: redb::Error) -> StoreError {
    shared_backend(Arc::new(error))
}

fn shared_backend(error: Arc<redb::Error>) -> StoreError {
    let message = match *error {
        redb::Error::PreviousIo => "an earlier write failed; restart to open the store again",
        _ => "the database failed",
    };
    StoreError::Backend {
        message: message.into(),
        source: Some(Box::new(error)),
    }
}
