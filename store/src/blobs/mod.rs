//! Blobs: bytes too large for a key's value, named by their digest.
//!
//! A blob never changes, so it needs no precondition: it is put first, and the commit that names it comes after. One
//! that no commit names is garbage, which the owner of the references finds with [`Blobs::list`] and removes with
//! [`Blobs::delete_unused`]. What is read is always verified against its name.
//!
//! Files are `sha256/<first two digits>/<digest>` below the directory. A file that is being written has `#` and a
//! number behind its name; such are removed when the directory is opened, which one process does at a time (the one that
//! holds the store's lock). One that comes piece by piece ([`Incoming`]) is in `incoming/` until it is whole; so are they.

use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, stream::BoxStream};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use sha2::{Digest as _, Sha256};
use tokio::sync::RwLock;

mod digest;
mod directory;
mod incoming;

pub use digest::{Digest, DigestError};
pub use incoming::Incoming;

/// The largest blob that is held whole: put and got in one piece.
pub const MAX_BLOB_BYTES: u64 = 256 * 1024 * 1024;
/// Below this are the blobs.
const BLOBS: &str = "sha256";
/// Below this is what comes piece by piece.
const INCOMING: &str = "incoming";

/// A store of blobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    objects: Arc<dyn ObjectStore>,
    /// Where this is, for messages.
    place: Arc<str>,
    /// Where files are, if they are files.
    directory: Option<Arc<FsPath>>,
    /// Held for writing while something is deleted as unused, for reading while something is put: what was just put
    /// is never taken for old.
    deleting: Arc<RwLock<()>>,
}

/// What is known of a blob without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    pub digest: Digest,
    pub len_bytes: u64,
    /// When it was put, the last time.
    pub put_at: SystemTime,
}

/// Why blobs did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("blob {digest} is not in {place}")]
    NotFound { digest: Digest, place: String },
    /// What is stored is not what was put. Putting the same content again heals it.
    #[error("blob {digest} in {place} is damaged: its content has digest {actual}; restore it from a backup")]
    Damaged {
        digest: Digest,
        actual: Digest,
        place: String,
    },
    #[error("blob is larger than the limit of {MAX_BLOB_BYTES} B")]
    TooLarge,
    /// What came piece by piece is not what was said: nothing of it is kept.
    #[error("blob {digest} came with {len_bytes} B whose digest is {actual}")]
    Other {
        digest: Digest,
        actual: Digest,
        len_bytes: u64,
    },
    /// The filesystem is full, or a quota is.
    #[error("no room for a blob in {place}: free some, or make the filesystem larger")]
    Full {
        place: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(transparent)]
    BadName(#[from] DigestError),
    #[error("blobs in {place}: {doing} failed")]
    Backend {
        place: String,
        doing: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Blobs {
    /// Opens the blobs in `directory`, making it when there is none, and removes what a crash left half written. Blocks.
    ///
    /// The caller sees to it that no other process has the directory open.
    pub fn open(directory: impl AsRef<FsPath>) -> Result<Blobs, BlobError> {
        let directory = directory.as_ref();
        let failed = |source: io::Error| failure(&directory.to_string_lossy(), "opening", source.into());
        directory::prepare(directory).map_err(failed)?;
        Blobs::open_as_it_is(directory)
    }

    /// Opens the blobs in `directory`, which is there, without making or removing anything: for reading only.
    pub fn open_as_it_is(directory: impl AsRef<FsPath>) -> Result<Blobs, BlobError> {
        let place = directory.as_ref().to_string_lossy();
        // Without `with_fsync` object_store renames without syncing, and a power cut would take what we acknowledged.
        // With it, the file is synced before the rename and the directory after.
        let objects = LocalFileSystem::new_with_prefix(directory.as_ref())
            .map_err(|error| failure(&place, "opening", error.into()))?
            .with_fsync(true);
        Ok(Blobs {
            directory: Some(directory.as_ref().into()),
            ..Blobs::with_objects(Arc::new(objects), &place)
        })
    }

    /// Blobs in memory, for tests.
    pub fn in_memory() -> Blobs {
        Blobs::with_objects(Arc::new(InMemory::new()), "(memory)")
    }

    /// Blobs in an object store of the caller's; `place` names it in messages.
    ///
    /// A put must be durable when the object store says that it is done.
    pub fn with_objects(objects: Arc<dyn ObjectStore>, place: &str) -> Blobs {
        Blobs {
            objects,
            place: place.into(),
            directory: None,
            deleting: Arc::default(),
        }
    }

    /// Keeps these bytes; returns when they are durable.
    ///
    /// A content that is there already is written again: that makes it young for garbage collection, waits for the
    /// durability of a put that is still going on, and heals a damaged file.
    pub async fn put(&self, bytes: impl Into<Bytes>) -> Result<Digest, BlobError> {
        let bytes = bytes.into();
        if bytes.len() as u64 > MAX_BLOB_BYTES {
            return Err(BlobError::TooLarge);
        }
        let digest = Digest::of(&bytes);
        let _putting = self.deleting.read().await;
        self.objects
            .put(&path_of(&digest), PutPayload::from_bytes(bytes))
            .await
            .map_err(|error| failure(&self.place, "putting", error.into()))?;
        Ok(digest)
    }

    /// The whole blob, verified, in memory.
    pub async fn get(&self, digest: &Digest) -> Result<Bytes, BlobError> {
        let found = self.find(digest).await?;
        if found.meta.size > MAX_BLOB_BYTES {
            return Err(BlobError::TooLarge);
        }
        let bytes = found
            .bytes()
            .await
            .map_err(|error| self.not_read(digest, error))?;
        self.verify(digest, Digest::of(&bytes))?;
        Ok(bytes)
    }

    /// A blob's length, and its content in chunks.
    ///
    /// The last chunk comes only when the whole was verified; before it, or in its place, the stream yields
    /// [`BlobError::Damaged`] and ends. So who has all the bytes has the right ones.
    pub async fn read(
        &self,
        digest: &Digest,
    ) -> Result<(u64, BoxStream<'static, Result<Bytes, BlobError>>), BlobError> {
        self.read_from(digest, 0).await
    }

    /// As [`Blobs::read`], from byte `from` on: what is before it is read as well, as the whole is verified.
    pub async fn read_from(
        &self,
        digest: &Digest,
        from: u64,
    ) -> Result<(u64, BoxStream<'static, Result<Bytes, BlobError>>), BlobError> {
        let found = self.find(digest).await?;
        let len_bytes = found.meta.size;
        let reading = Reading {
            blobs: self.clone(),
            digest: *digest,
            chunks: found.into_stream(),
            hasher: Some(Sha256::new()),
            left_out: from,
            held_back: None,
        };
        let chunks = futures_util::stream::unfold(reading, |mut reading| async move {
            Some((reading.next().await?, reading))
        });
        Ok((len_bytes, chunks.boxed()))
    }

    /// What is known of a blob; `None` when it is not there.
    pub async fn head(&self, digest: &Digest) -> Result<Option<BlobInfo>, BlobError> {
        match self.objects.head(&path_of(digest)).await {
            Ok(meta) => Ok(Some(BlobInfo {
                digest: *digest,
                len_bytes: meta.size,
                put_at: meta.last_modified.into(),
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failure(&self.place, "looking up", error.into())),
        }
    }

    /// Whether a blob is there. Does not read it.
    pub async fn exists(&self, digest: &Digest) -> Result<bool, BlobError> {
        Ok(self.head(digest).await?.is_some())
    }

    /// All blobs, in no order. Files that are no blobs are left out, and left alone.
    pub fn list(&self) -> BoxStream<'static, Result<BlobInfo, BlobError>> {
        let place = self.place.clone();
        self.objects
            .list(Some(&Path::from(BLOBS)))
            .filter_map(move |found| {
                let listed = match found {
                    Ok(meta) => digest_of(&meta.location).map(|digest| {
                        Ok(BlobInfo {
                            digest,
                            len_bytes: meta.size,
                            put_at: meta.last_modified.into(),
                        })
                    }),
                    Err(error) => Some(Err(failure(&place, "listing", error.into()))),
                };
                std::future::ready(listed)
            })
            .boxed()
    }

    /// Removes a blob; one that is not there is no error. A power cut may bring it back, as garbage.
    pub async fn delete(&self, digest: &Digest) -> Result<(), BlobError> {
        match self.objects.delete(&path_of(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failure(&self.place, "deleting", error.into())),
        }
    }

    /// Removes a blob that was last put before `before`; says whether it did.
    ///
    /// For garbage collection. `before` leaves time for what is between a put and the commit that names the blob: an
    /// hour before one began to look for references, say. A blob that is put again meanwhile is young, and stays.
    pub async fn delete_unused(&self, digest: &Digest, before: SystemTime) -> Result<bool, BlobError> {
        let _no_puts = self.deleting.write().await;
        let old = self.head(digest).await?.is_some_and(|info| info.put_at < before);
        if old {
            self.delete(digest).await?;
        }
        Ok(old)
    }

    async fn find(&self, digest: &Digest) -> Result<object_store::GetResult, BlobError> {
        let found = self.objects.get(&path_of(digest)).await;
        found.map_err(|error| self.not_read(digest, error))
    }

    fn not_read(&self, digest: &Digest, error: object_store::Error) -> BlobError {
        match error {
            object_store::Error::NotFound { .. } => BlobError::NotFound {
                digest: *digest,
                place: self.place.to_string(),
            },
            error => failure(&self.place, "reading", error.into()),
        }
    }

    fn verify(&self, digest: &Digest, actual: Digest) -> Result<(), BlobError> {
        if actual == *digest {
            return Ok(());
        }
        Err(BlobError::Damaged {
            digest: *digest,
            actual,
            place: self.place.to_string(),
        })
    }
}

/// A blob on its way out.
struct Reading {
    blobs: Blobs,
    digest: Digest,
    chunks: BoxStream<'static, object_store::Result<Bytes>>,
    /// `None` at the end.
    hasher: Option<Sha256>,
    /// Bytes that are verified and not wanted.
    left_out: u64,
    held_back: Option<Bytes>,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Bytes, BlobError>> {
        loop {
            let hasher = self.hasher.as_mut()?;
            match self.chunks.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(mut chunk)) => {
                    hasher.update(&chunk);
                    let left_out = usize::try_from(self.left_out)
                        .unwrap_or(usize::MAX)
                        .min(chunk.len());
                    self.left_out -= left_out as u64;
                    chunk.advance(left_out);
                    if chunk.is_empty() {
                        continue;
                    }
                    if let Some(earlier) = self.held_back.replace(chunk) {
                        return Some(Ok(earlier));
                    }
                }
                Some(Err(error)) => {
                    self.hasher = None;
                    return Some(Err(self.blobs.not_read(&self.digest, error)));
                }
                None => {
                    let actual = Digest::from(self.hasher.take()?);
                    return match self.blobs.verify(&self.digest, actual) {
                        Ok(()) => self.held_back.take().map(Ok),
                        Err(error) => Some(Err(error)),
                    };
                }
            }
        }
    }
}

fn path_of(digest: &Digest) -> Path {
    let name = digest.to_string();
    Path::from_iter([BLOBS, &name[..2], &name])
}

fn digest_of(path: &Path) -> Option<Digest> {
    let digest = path.filename()?.parse().ok()?;
    (path_of(&digest) == *path).then_some(digest)
}

fn failure(place: &str, doing: &'static str, source: Box<dyn std::error::Error + Send + Sync>) -> BlobError {
    let place = place.to_owned();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*source);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && crate::is_full(error)
        {
            return BlobError::Full { place, source };
        }
        cause = error.source();
    }
    BlobError::Backend { place, doing, source }
}

/// The file of a blob below the directory that [`Blobs::open`] was given.
pub fn file_of(digest: &Digest) -> PathBuf {
    PathBuf::from(path_of(digest).as_ref())
}
