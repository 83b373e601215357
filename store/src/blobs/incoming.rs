//! A blob that comes piece by piece, and counts when it is whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path as FsPath, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;

use super::{BlobError, Blobs, Digest, INCOMING, failure, path_of};

/// Bytes that are held before they are written.
const HELD_BYTES: usize = 256 << 10;

/// Bytes on their way to become a blob. Dropped, nothing of them stays.
#[derive(Debug)]
pub struct Incoming {
    blobs: Blobs,
    /// `None` while a thread writes to it, and for good when that failed.
    written: Option<Written>,
    held: Vec<u8>,
    len_bytes: u64,
}

#[derive(Debug)]
struct Written {
    file: NamedTempFile,
    hasher: Sha256,
    len_bytes: u64,
}

impl Blobs {
    /// Begins a blob of any size; what comes is never held whole in memory.
    ///
    /// # Errors
    /// When no file can be made for it.
    pub async fn incoming(&self) -> Result<Incoming, BlobError> {
        let directory = self
            .directory
            .as_deref()
            .map(|directory| directory.join(INCOMING));
        let made = blocking(move || match directory {
            Some(directory) => {
                // A directory that was opened as it is may have none.
                fs::create_dir_all(&directory)?;
                NamedTempFile::new_in(directory)
            }
            None => NamedTempFile::new(),
        });
        let file = made.await.map_err(|error| self.not_put(error))?;
        Ok(Incoming {
            blobs: self.clone(),
            written: Some(Written {
                file,
                hasher: Sha256::new(),
                len_bytes: 0,
            }),
            held: Vec::new(),
            len_bytes: 0,
        })
    }

    fn not_put(&self, error: io::Error) -> BlobError {
        failure(&self.place, "putting", error.into())
    }
}

impl Incoming {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// When they cannot be written; then no more are taken.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.held.extend_from_slice(bytes);
        self.len_bytes += bytes.len() as u64;
        match self.held.len() < HELD_BYTES {
            true => Ok(()),
            false => self.flush().await,
        }
    }

    /// Has all that came written, for whoever reads [`Incoming::path`].
    ///
    /// # Errors
    /// As [`Incoming::write`].
    pub async fn flush(&mut self) -> Result<(), BlobError> {
        let broken = || io::Error::other("an earlier write failed");
        let written = self.written.take();
        let mut written = written.ok_or_else(|| self.blobs.not_put(broken()))?;
        let held = std::mem::take(&mut self.held);
        let done = blocking(move || {
            written.file.write_all(&held)?;
            written.hasher.update(&held);
            written.len_bytes += held.len() as u64;
            Ok(written)
        });
        self.written = Some(done.await.map_err(|error| self.blobs.not_put(error))?);
        Ok(())
    }

    /// The bytes that came.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The bytes that are written.
    pub fn written_bytes(&self) -> u64 {
        self.written.as_ref().map_or(0, |written| written.len_bytes)
    }

    /// A file that has the bytes which are written. It goes when they have become a blob or were dropped; who has it open keeps it.
    pub fn path(&self) -> Option<PathBuf> {
        let written = self.written.as_ref()?;
        Some(written.file.path().to_owned())
    }

    /// Makes the bytes be the blob of this digest; returns when they are durable.
    ///
    /// # Errors
    /// [`BlobError::Other`] for other bytes; then nothing of them stays.
    pub async fn keep(mut self, digest: &Digest) -> Result<(), BlobError> {
        self.flush().await?;
        let blobs = self.blobs.clone();
        let Some(written) = self.written.take() else {
            return Err(blobs.not_put(io::Error::other("it is gone")));
        };
        let actual = Digest::from(written.hasher);
        if actual != *digest {
            return Err(BlobError::Other {
                digest: *digest,
                actual,
                len_bytes: written.len_bytes,
            });
        }
        let file = written.file;
        let Some(directory) = blobs.directory.clone() else {
            let bytes = blocking(move || fs::read(file.path())).await;
            let bytes = bytes.map_err(|error| blobs.not_put(error))?;
            return blobs.put(bytes).await.map(drop);
        };
        let to = directory.join(FsPath::new(path_of(digest).as_ref()));
        let _putting = blobs.deleting.read().await;
        let moved = blocking(move || {
            file.as_file().sync_all()?;
            file.persist(&to).map_err(|error| error.error)?;
            let shard = to.parent().unwrap_or(&to);
            File::open(shard)?.sync_all()
        });
        moved.await.map_err(|error| blobs.not_put(error))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}
