//! Stores that no server has open: checked, exported, imported.
//!
//! A data directory holds [`FILE`] and, below [`BLOBS`], the blobs. Checking and exporting read it and change nothing,
//! not even to repair it. Everything here blocks, and must not be called on a runtime's thread.

use std::io;
use std::path::{Path, PathBuf};

use crate::StoreError;
use crate::blobs::{BlobError, Blobs};
use crate::formats::Reader;

mod check;
mod export;
mod import;
mod manifest;
mod read_only;

pub use check::{BlobsReport, Named, Names, Report, Segment, check, verify};
pub use export::{Target, export};
pub use import::{Import, import};
pub use manifest::{Rows, Summary};

/// The store's file in a data directory.
pub const FILE: &str = "farrier.redb";
/// The directory of blobs in a data directory.
pub const BLOBS: &str = "blobs";

/// How far something is. Called often; `total` is 0 when it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// "keys" or "blobs".
    pub what: &'static str,
    pub done: u64,
    pub total: u64,
}

/// Why a store could not be checked, exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error("{path} is not there: name the data directory of a server with --data-dir")]
    NotFound { path: PathBuf },
    #[error("{path} is there already: export to a directory that is empty, or new")]
    NotEmpty { path: PathBuf },
    #[error(
        "{path} already holds a store: name an empty data directory, or replace what is there with --force"
    )]
    TargetInUse { path: PathBuf },
    /// The export is not what was written: nothing was imported.
    #[error("the export is damaged: {message}; take another one")]
    Damaged { message: String },
    /// A later version of Farrier made the export: nothing was imported.
    #[error("{what}, and this is Farrier {}, which reads {knows}: import it with {cure}", reader.version)]
    Newer {
        what: String,
        reader: Reader,
        knows: String,
        cure: String,
    },
    /// The store is not sound: nothing was exported.
    #[error(
        "{path} is damaged, and was not exported: {message}; restore it from a backup with `farrier store import`"
    )]
    Unsound { path: PathBuf, message: String },
    #[error("cannot {doing} {path}")]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl OfflineError {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> OfflineError {
        OfflineError::Io {
            doing,
            path: path.into(),
            source,
        }
    }

    fn damaged(message: impl Into<String>) -> OfflineError {
        OfflineError::Damaged {
            message: message.into(),
        }
    }
}

/// Drives what is async about blobs.
fn runtime() -> Result<tokio::runtime::Runtime, OfflineError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| OfflineError::io("start threads for", Path::new(BLOBS), error))
}

/// The blobs of a data directory, as they are; `None` when it has none.
fn blobs_as_they_are(data: &Path) -> Result<Option<Blobs>, OfflineError> {
    let directory = data.join(BLOBS);
    if directory.is_dir() {
        Ok(Some(Blobs::open_as_it_is(&directory)?))
    } else {
        Ok(None)
    }
}
