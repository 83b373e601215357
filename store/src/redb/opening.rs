//! Making a store's file, opening it, and what its errors mean.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, Database, DatabaseError, Durability, StorageBackend, StorageError, WriteTransaction};

use super::format::{self, Found};
use super::{Failure, caught};
use crate::StoreError;

/// redb's own default of 1 GiB is more than a whole server should need.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Quick repair lets a file grow (redb issue 934); one that is mostly holes is compacted when it is opened.
const COMPACT_FROM_BYTES: u64 = 64 * 1024 * 1024;

/// Where a store is, and so whether it can be opened again.
#[derive(Debug)]
pub(super) enum Place {
    Backend,
    File(PathBuf),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Place::Backend => Path::new("(backend)"),
            Place::File(path) => path,
        }
    }

    pub(super) fn corrupt(&self, message: String) -> StoreError {
        corrupt(self.path(), message)
    }

    /// What a failed transaction means.
    pub(super) fn failed(&self, failure: Failure) -> StoreError {
        match failure {
            Failure::Damaged { key } => StoreError::Damaged {
                path: self.path().into(),
                key,
            },
            Failure::Engine(error) => self.failure(error),
        }
    }

    /// What an error of the engine means.
    pub(super) fn failure(&self, error: redb::Error) -> StoreError {
        match error {
            redb::Error::Io(ref io) if crate::is_full(io) => full(self.path(), error),
            error if is_damage(&error) => self.corrupt(what_is_damaged(error)),
            redb::Error::PreviousIo => StoreError::Backend {
                message: format!(
                    "{} takes no writes since an earlier one failed: open it again",
                    self.path().display()
                ),
                source: Some(Arc::new(redb::Error::PreviousIo)),
            },
            error => StoreError::Backend {
                message: format!("{} failed", self.path().display()),
                source: Some(Arc::new(error)),
            },
        }
    }
}

/// Opens the store at `path`, making it when there is none, and compacts it when it is mostly holes.
pub(super) fn open_or_make(path: &Path) -> Result<Database, StoreError> {
    let mut database = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
        // An empty file becomes a store where it is.
        _ => open_with(path, |builder| builder.create(path))?,
    };
    compact_if_mostly_holes(path, &mut database)?;
    Ok(database)
}

/// Opens the store at `path`, which is there.
pub(super) fn open(path: &Path) -> Result<Database, StoreError> {
    open_with(path, |builder| builder.open(path))
}

pub(super) fn with_backend(backend: impl StorageBackend) -> Result<Database, StoreError> {
    open_with(Place::Backend.path(), |builder| {
        builder.create_with_backend(backend)
    })
}

fn open_with(
    path: &Path,
    open: impl FnOnce(&Builder) -> Result<Database, DatabaseError>,
) -> Result<Database, StoreError> {
    let opened = caught(|| {
        let database = open(&builder()).map_err(|error| open_error(path, error))?;
        make_current(&database, path)?;
        Ok(database)
    });
    opened.unwrap_or_else(|panic| Err(corrupt(path, panic)))
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Makes a store under another name first: a crash or a full filesystem leaves no file that is half a store.
///
/// Of two processes that do this at the same time, one finds the other's file locked, or already there.
fn make(path: &Path) -> Result<Database, StoreError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    let failed = |error: io::Error| corrupt_or_backend(path, error.into());
    let made = open_with(path, |builder| match builder.create(&unfinished) {
        // What an earlier attempt left.
        Err(DatabaseError::Storage(StorageError::Corrupted(_))) => {
            fs::remove_file(&unfinished)?;
            builder.create(&unfinished)
        }
        Err(DatabaseError::Storage(StorageError::Io(error))) if is_of_content(&error) => {
            fs::remove_file(&unfinished)?;
            builder.create(&unfinished)
        }
        made => made,
    })?;
    let linked = fs::hard_link(&unfinished, path);
    fs::remove_file(&unfinished).map_err(failed)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return open(path),
        linked => linked.map_err(failed)?,
    }
    // A new name is there after a power cut only when its directory was synced.
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    File::open(parent.unwrap_or(Path::new(".")))
        .and_then(|directory| directory.sync_all())
        .map_err(failed)?;
    Ok(made)
}

/// Makes the tables of a new store, and gives those of an earlier version their checksums.
fn make_current(database: &Database, path: &Path) -> Result<(), StoreError> {
    let failed = |failure| engine_failure(path, failure);
    match format::found(database).map_err(failed)? {
        Found::Current => Ok(()),
        Found::Empty => in_one(database, format::create).map_err(failed),
        Found::First => {
            tracing::info!(path = %path.display(), "giving the rows of the store their checksums");
            in_one(database, format::upgrade).map_err(failed)
        }
        Found::Newer(version) => Err(StoreError::Newer {
            path: path.into(),
            version,
        }),
    }
}

/// Does it durably, or not at all.
fn in_one(
    database: &Database,
    change: impl FnOnce(&WriteTransaction) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let transaction = begin_write(database)?;
    change(&transaction)?;
    transaction.commit()?;
    Ok(())
}

pub(super) fn begin_write(database: &Database) -> Result<WriteTransaction, Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn compact_if_mostly_holes(path: &Path, database: &mut Database) -> Result<(), StoreError> {
    let file_bytes = fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0);
    if file_bytes < COMPACT_FROM_BYTES {
        return Ok(());
    }
    let compacted = caught(|| -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        let stats = transaction.stats()?;
        let used_bytes = stats.stored_bytes() + stats.metadata_bytes();
        transaction.abort()?;
        if used_bytes < file_bytes / 4 {
            tracing::info!(path = %path.display(), file_bytes, used_bytes, "compacting the store");
            database.compact()?;
        }
        Ok(())
    });
    match compacted {
        Ok(compacted) => compacted.map_err(|error| corrupt_or_backend(path, error)),
        Err(panic) => Err(corrupt(path, panic)),
    }
}

pub(crate) fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path: path.into() },
        DatabaseError::UpgradeRequired(version) => {
            corrupt(path, format!("it has the old file format {version}"))
        }
        error => corrupt_or_backend(path, error.into()),
    }
}

/// What a failed transaction on an opened file means.
pub(crate) fn engine_failure(path: &Path, failure: Failure) -> StoreError {
    match failure {
        Failure::Damaged { key } => StoreError::Damaged {
            path: path.into(),
            key,
        },
        Failure::Engine(error) => corrupt_or_backend(path, error),
    }
}

/// What an error while opening means.
fn corrupt_or_backend(path: &Path, error: redb::Error) -> StoreError {
    match error {
        error if is_damage(&error) => corrupt(path, what_is_damaged(error)),
        redb::Error::Io(ref io) if crate::is_full(io) => full(path, error),
        redb::Error::TableTypeMismatch { table, .. } => {
            corrupt(path, format!("its table {table} is not of this version"))
        }
        error => StoreError::Backend {
            message: format!("cannot open {}", path.display()),
            source: Some(Arc::new(error)),
        },
    }
}

/// Whether it is the content of the file that is wrong.
pub(super) fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Corrupted(_) => true,
        redb::Error::Io(io) => is_of_content(io),
        _ => false,
    }
}

fn is_of_content(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

fn what_is_damaged(error: redb::Error) -> String {
    match error {
        redb::Error::Corrupted(message) => message,
        redb::Error::Io(io) if io.kind() == io::ErrorKind::UnexpectedEof => {
            "it names a page that is behind its end".into()
        }
        error => error.to_string(),
    }
}

fn full(path: &Path, error: redb::Error) -> StoreError {
    StoreError::Full {
        path: path.into(),
        source: Arc::new(error),
    }
}

pub(crate) fn corrupt(path: &Path, message: String) -> StoreError {
    StoreError::Corrupt {
        path: path.into(),
        message,
    }
}
