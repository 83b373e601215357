//! Images that the caller fetches, from where `http`, `https` and `file` do not lead: registries.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;

/// What a [`ByteSource`] gives in time.
pub type InTime<'a, T> = Pin<Box<dyn Future<Output = Result<T, NotFetched>> + Send + 'a>>;

/// The bytes of an image, of known number and digest.
///
/// Whoever implements it tries again what can be tried again: an error ends the write.
pub trait ByteSource: Send + Sync {
    /// The next bytes, in order; `None` after the last. Cancel safe.
    fn next(&mut self) -> InTime<'_, Option<Bytes>>;

    /// Those of this range, all of which the image has. Cancel safe.
    fn part(&self, range: Range<u64>) -> InTime<'_, Vec<u8>>;

    fn total_bytes(&self) -> u64;

    /// [`ByteSource::next`] goes on at this byte; false where that cannot be.
    fn go_to(&mut self, _at: u64) -> bool {
        false
    }

    /// How often the transfer was resumed after a break.
    fn resumes(&self) -> u32;
}

/// Why bytes did not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFetched {
    /// One word, for programs.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}
