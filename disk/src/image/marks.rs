//! What the digest stage leaves for the decoder: how the file's digest stood where a chunk begins, and the chunk.
//!
//! A place to go on from has to have the digest of exactly the bytes that were unpacked before it. A state that is a little older will
//! not do: what is fetched again in between could be right where what was unpacked was not.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::running_digest::RunningDigest;

/// A decoder has looked so far ahead of where a member begins at most; 18 are a header.
const LOOKED_AHEAD_BYTES: u64 = 32;

/// A place where a write could go on.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) image_at: u64,
    /// Of the file before the next member.
    pub(super) file: RunningDigest,
}

/// Chunks on their way to the decoder, and those that it has just had.
#[derive(Debug)]
pub(super) struct Marks {
    /// After so many bytes of the file, or of the image, another place is noted.
    pub(super) every_bytes: u64,
    chunks: Mutex<Chunks>,
}

#[derive(Debug)]
struct Chunks {
    /// With the digest of all before each.
    kept: VecDeque<(RunningDigest, Bytes)>,
    /// Where the chunk begins that the decoder has now.
    had: u64,
    /// Where it ends.
    has: u64,
}

impl Marks {
    /// For a file whose feed begins where `start` ends.
    pub(super) fn new(every_bytes: u64, start: &RunningDigest) -> Marks {
        let chunks = Chunks {
            kept: VecDeque::from([(start.clone(), Bytes::new())]),
            had: start.at(),
            has: start.at(),
        };
        Marks {
            every_bytes,
            chunks: Mutex::new(chunks),
        }
    }

    /// This chunk is about to go to the decoder; `before` is the digest of all before it.
    pub(super) fn sent(&self, before: &RunningDigest, chunk: &Bytes) {
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.kept.push_back((before.clone(), chunk.clone()));
    }

    /// The decoder has taken another chunk, of this length, and is through with those before, but for what it looked at.
    pub(super) fn taken(&self, len: usize) {
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.had = chunks.has;
        chunks.has += len as u64;
        let had = chunks.had;
        while chunks
            .kept
            .front()
            .is_some_and(|(before, chunk)| before.at() + chunk.len() as u64 + LOOKED_AHEAD_BYTES <= had)
        {
            chunks.kept.pop_front();
        }
    }

    /// The digest of the file before `at`, which is a place in what the decoder has.
    pub(super) fn before(&self, at: u64) -> Option<RunningDigest> {
        let chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.kept.iter().find_map(|(before, chunk)| {
            let into = usize::try_from(at.checked_sub(before.at())?).ok()?;
            let part = chunk.get(..into)?;
            let mut digest = before.clone();
            digest.update(part);
            Some(digest)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::running_digest::Midstate;
    use super::*;

    #[test]
    fn the_digest_before_any_place_that_a_decoder_can_mean_is_exact_and_little_is_kept() {
        let mut digest = RunningDigest::from(Midstate::START);
        let marks = Marks::new(1, &digest);
        let content: Vec<u8> = (0..4000_u32).map(|nth| (nth % 253) as u8).collect();
        let mut at = 0;
        for len in [1, 1, 1, 500, 2, 1000, 1, 1, 1, 1, 20, 900]
            .into_iter()
            .cycle()
            .take(24)
        {
            let chunk = Bytes::copy_from_slice(&content[at..(at + len).min(content.len())]);
            marks.sent(&digest, &chunk);
            digest.update(&chunk);
            marks.taken(chunk.len());
            for place in at.saturating_sub(18)..=at + chunk.len() {
                let mut right = RunningDigest::from(Midstate::START);
                right.update(&content[..place]);
                let found = marks.before(place as u64).map(RunningDigest::finish);
                assert_eq!(found, Some(right.finish()), "{place} at {at}");
            }
            assert!(marks.chunks.lock().unwrap().kept.len() < 40);
            at += chunk.len();
        }
        assert_eq!(marks.before(5), None, "it was given up");
    }
}
