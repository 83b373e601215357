//! Streams a disk image onto a block device.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

/// What to write where.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    pub url: Url,
    /// A block device (`/dev/vda`), or a regular file in tests.
    pub target: PathBuf,
    /// How the image is packed; `Detect` goes by the first bytes.
    pub compression: Compression,
    /// SHA-256 of the bytes as downloaded, 64 hex digits; `None`: taken from `<url>.sha256` when that exists.
    pub sha256: Option<String>,
    /// Transient errors (connection, 5xx, short read) are retried this long without a new byte.
    pub give_up_after: Duration,
}

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
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub downloaded_bytes: u64,
    pub image_bytes: u64,
    /// Of the bytes as downloaded.
    pub sha256: String,
    /// How often the transfer was resumed after a break.
    pub resumes: u32,
}
