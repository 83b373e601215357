//! Ephemeral data: the files that a workflow's actions hand to each other in `/workflow`, as a value.
//!
//! A [`Manifest`] says which files there are at one version. An attempt is given one; what it left, compared with
//! that, is [`Changes`]; only an attempt that succeeds merges its changes, into whatever the newest version is by
//! then. Files are known by path and by the digest of their content; contents are kept elsewhere.
//!
//! Pure: reads no file, no clock and no network. The agent, which has the files, and the server, which has the
//! versions, reckon with the same rules.

#![forbid(unsafe_code)]

mod digest;
mod manifest;
mod path;

pub use digest::{BadDigest, Digest};
pub use manifest::{Changes, File, Manifest, TooLarge};
pub use path::{BadPath, DataPath};

/// Bytes of all contents in a workflow's ephemeral data.
pub const MAX_BYTES: u64 = 10 << 20;
/// Files in a workflow's ephemeral data. With [`MAX_PATH_BYTES`] it keeps a manifest, and the events beside it, below the limit of a commit.
pub const MAX_FILES: usize = 1_000;
/// Bytes of one path.
pub const MAX_PATH_BYTES: usize = 255;
