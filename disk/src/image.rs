//! Streams a disk image onto a block device.
//!
//! Tasks and threads: the caller's task downloads, `image-hash` digests the bytes as downloaded, `image-decode`
//! unpacks them into aligned blocks, `image-write` puts these on the disk. Channels between them are bounded, so
//! memory stays below some 40 MiB plus the decoder's window.
//!
//! What is half-written never boots: both ends of the disk (first and last MiB, where partition tables and boot
//! code are) are zeroed first, and the image's own ends are written last, the first sector after all others, after the
//! digest matched and everything else is on stable storage. What cannot boot is not begun: the image is judged by its
//! first bytes. The kernel is told of the table whenever there is another one, or none.

mod byte_source;
mod coding;
pub mod content;
mod decode;
mod digest;
mod error;
mod feed;
mod formats;
mod http;
mod journal;
mod judge;
mod marks;
#[doc(hidden)]
pub mod outside;
mod pipeline;
mod qcow2;
mod read_back;
mod redirects;
mod resume;
mod running_digest;
mod source;
pub(crate) mod target;
#[cfg(test)]
mod tests;
pub(crate) mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use url::Url;

pub use byte_source::{ByteSource, InTime, NotFetched};
pub use error::WriteError;
pub use reach::{Proxies, Reach, Roots, Trust};

use crate::gpt::{Fitted, Grow};
use crate::publish::KernelView;

/// How long a transfer may bring no new byte before it fails.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// What to write where.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    /// `http`, `https` or `file`; of [`write_from`], any.
    pub url: Url,
    /// A block device (`/dev/vda`), or a regular file, whose size is then the size of the disk.
    pub target: PathBuf,
    /// How the image is packed; `Detect` goes by the first bytes.
    pub compression: Compression,
    /// SHA-256 of the file, packed as it is, 64 hex digits, `sha256:` before them or not; `None`: taken from
    /// `<url>.sha256` when that exists.
    pub sha256: Option<String>,
    /// Transient errors (connection, 5xx, short read) are retried this long without a new byte.
    pub give_up_after: Duration,
    /// What the image has to be.
    pub content: Content,
    /// Whether the disk is read back.
    pub verify: Verify,
    /// Which partition is to reach to the end of the disk.
    pub grow: Grow,
    /// For `http` and `https`.
    pub reach: Reach,
    /// Where a write may go on that was cut off: the name of the run of a workflow that this is part of, which nobody can have
    /// known before it began. `None`: it begins at the start, and notes nothing on the disk.
    pub resume: Option<String>,
    /// Set before the first byte of the target changes: a write that fails without it has left the target as it was.
    pub touched: Arc<AtomicBool>,
}

impl WriteRequest {
    /// Writes `url` to `target`: packing detected, digest from `<url>.sha256`, [`GIVE_UP_AFTER`].
    pub fn new(url: Url, target: impl Into<PathBuf>) -> Self {
        WriteRequest {
            url,
            target: target.into(),
            compression: Compression::Detect,
            sha256: None,
            give_up_after: GIVE_UP_AFTER,
            content: Content::Disk,
            verify: Verify::Download,
            grow: Grow::Nothing,
            reach: Reach::default(),
            resume: None,
            touched: Arc::default(),
        }
    }
}

/// What is taken for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Any bytes at all that fit on the disk.
    Any,
    /// A boot signature, a GUID partition table or a filesystem that is known, made for the disk's sectors.
    Disk,
}

/// What is compared before the disk may boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The digest of what was downloaded, where one is known; and both ends of the disk.
    Download,
    /// That, and all of the disk that was written, by reading it.
    ReadBack,
}

/// How an image is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Bzip2,
    Detect,
    Gzip,
    Lz4,
    None,
    Xz,
    Zstd,
}

/// Where a write stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub downloaded_bytes: u64,
    /// 0: unknown.
    pub download_bytes: u64,
    pub written_bytes: u64,
    /// The size of the unpacked image, as far as its first bytes tell it; 0: unknown.
    pub image_bytes: u64,
    /// What of the disk was read back and is as it was written.
    pub read_back_bytes: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub downloaded_bytes: u64,
    pub image_bytes: u64,
    /// Of the file, packed as it is.
    pub sha256: String,
    /// Whether there was a digest to compare with.
    pub verified: bool,
    /// How often the transfer was resumed after a break.
    pub resumes: u32,
    /// How much of the image an earlier write had left on the disk, read back and compared; 0: none of it was used.
    pub found_bytes: u64,
    /// How many bytes of zeros were given to the disk as "zero this range" instead of as data.
    pub skipped_bytes: u64,
    /// How much of the disk was read back and compared, beside its ends.
    pub read_back_bytes: u64,
    /// The partition table that was fitted to the disk, where there was one.
    pub fitted: Option<Fitted>,
    /// Whether the kernel shows the new partitions.
    pub kernel: KernelView,
    /// What went well but should be known, a line each.
    pub warnings: Vec<String>,
}

/// Streams the image onto the target.
///
/// `on_progress` is called about five times a second from the calling task and once at the end. After `stop` is
/// cancelled, or the future dropped, at most one more block (4 MiB) is written and the disk does not boot; when the
/// future *returns*, nothing is written any more. Needs a tokio runtime with time and I/O enabled.
///
/// # Errors
/// See [`WriteError`]; [`WriteError::reason`] is a word for machines to read. Where the target is missing, busy,
/// read-only or too small, or the image makes no sense on it, by what is known beforehand, it is left untouched; any later
/// error leaves both its ends zeroed, but for [`WriteError::KernelRefused`].
pub async fn write(
    request: &WriteRequest,
    on_progress: impl Fn(Progress) + Send + Sync + 'static,
    stop: CancellationToken,
) -> Result<Written, WriteError> {
    pipeline::write(request, None, &on_progress, stop).await
}

/// The same of an image that the caller fetches: `request.url` is its name for people, and `request.sha256` has its digest.
///
/// # Errors
/// Those of [`write()`], and [`WriteError::NotFetched`].
pub async fn write_from(
    request: &WriteRequest,
    source: Box<dyn ByteSource>,
    on_progress: impl Fn(Progress) + Send + Sync + 'static,
    stop: CancellationToken,
) -> Result<Written, WriteError> {
    pipeline::write(request, Some(source), &on_progress, stop).await
}
