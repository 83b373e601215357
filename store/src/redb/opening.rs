//! Making a store's file, opening it, and what its errors mean.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, StorageBackend, StorageError,
    WriteTransaction,
};

use super::{KEYS, REVISION};
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

    /// What an error of a transaction means.
    pub(super) fn failure(&self, error: redb::Error) -> StoreError {
        match error {
            redb::Error::Io(ref io) if crate::is_full(io) => full(self.path(), error),
            redb::Error::Corrupted(message) => corrupt(self.path(), message),
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
    let database = open(&builder()).map_err(|error| open_error(path, error))?;
    create_tables(&database).map_err(|error| corrupt_or_backend(path, error))?;
    Ok(database)
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
        Err(DatabaseError::Storage(error)) if is_damage(&error) => {
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

/// Readers may then open the tables without asking whether they are there.
fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let read = database.begin_read()?;
    if read.open_table(KEYS).is_ok() && read.open_table(REVISION).is_ok() {
        return Ok(());
    }
    let transaction = begin_write(database)?;
    transaction.open_table(KEYS)?;
    transaction.open_table(REVISION)?;
    transaction.commit()?;
    Ok(())
}

pub(super) fn begin_write(database: &Database) -> Result<WriteTransaction, redb::Error> {
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
    let used_bytes = (|| -> Result<u64, redb::Error> {
        let transaction = database.begin_write()?;
        let stats = transaction.stats()?;
        let used = stats.stored_bytes() + stats.metadata_bytes();
        transaction.abort()?;
        Ok(used)
    })()
    .map_err(|error| corrupt_or_backend(path, error))?;
    if used_bytes < file_bytes / 4 {
        tracing::info!(path = %path.display(), file_bytes, used_bytes, "compacting the store");
        database
            .compact()
            .map_err(|error| corrupt_or_backend(path, error.into()))?;
    }
    Ok(())
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

/// What an error while opening means.
pub(crate) fn corrupt_or_backend(path: &Path, error: redb::Error) -> StoreError {
    match error {
        redb::Error::Corrupted(message) => corrupt(path, message),
        redb::Error::Io(ref io) if io.kind() == io::ErrorKind::InvalidData => corrupt(path, io.to_string()),
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

fn is_damage(error: &StorageError) -> bool {
    match error {
        StorageError::Corrupted(_) => true,
        StorageError::Io(io) => io.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

fn full(path: &Path, error: redb::Error) -> StoreError {
    StoreError::Full {
        path: path.into(),
        source: Arc::new(error),
    }
}

fn corrupt(path: &Path, message: String) -> StoreError {
    StoreError::Corrupt {
        path: path.into(),
        message,
    }
}
