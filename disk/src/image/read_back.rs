//! What was written is read from the disk again and compared, before the disk may boot.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::WriteError;
use super::writer::{Block, Medium, is_zero};

/// Blocks on their way from the disk to the digest.
const BLOCKS: usize = 3;

/// What the disk has to have, in parts of a block at most.
#[derive(Debug, Default)]
pub(super) struct ReadBack {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    range: Range<u64>,
    content: Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Data([u8; 32]),
    Zeros,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    Same,
    Stopped,
}

impl ReadBack {
    /// These bytes were written at `at`; one block of them at most.
    pub(super) fn data(&mut self, at: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.parts.push(Part {
                range: at..at + bytes.len() as u64,
                content: Content::Data(Sha256::digest(bytes).into()),
            });
        }
    }

    /// This was made to be zeros.
    pub(super) fn zeros(&mut self, range: Range<u64>) {
        self.parts.push(Part {
            range,
            content: Content::Zeros,
        });
    }

    /// Reads all of it from `medium`, in the order of the disk; counts the bytes in `done`.
    ///
    /// # Errors
    /// [`WriteError::ReadBackDiffers`], [`WriteError::Device`].
    pub(super) fn compare(
        mut self,
        medium: &impl Medium,
        done: &AtomicU64,
        stop: &CancellationToken,
    ) -> Result<Compared, WriteError> {
        self.parts.sort_unstable_by_key(|part| part.range.start);
        let (give, read) = mpsc::sync_channel::<(u64, Content, Block)>(BLOCKS);
        let (give_back, empties) = mpsc::channel();
        for _ in 0..BLOCKS {
            // The receiver is alive.
            let _ = give_back.send(Block::new());
        }
        std::thread::scope(|scope| {
            // The disk reads on while a block is digested.
            let compared = scope.spawn(move || {
                for (at, content, block) in read {
                    let is_same = match content {
                        Content::Data(digest) => <[u8; 32]>::from(Sha256::digest(block.as_slice())) == digest,
                        Content::Zeros => is_zero(block.as_slice()),
                    };
                    if !is_same {
                        return Some((at, block.as_slice().len() as u64));
                    }
                    done.fetch_add(block.as_slice().len() as u64, Ordering::Relaxed);
                    let _ = give_back.send(block);
                }
                None
            });
            let ended = self.read_all(medium, &give, &empties, stop);
            drop(give);
            match compared.join() {
                Ok(Some((offset, len))) => Err(WriteError::ReadBackDiffers {
                    disk: medium.path().to_owned(),
                    offset,
                    len,
                }),
                Ok(None) => ended,
                Err(_) => Err(WriteError::Thread {
                    what: "comparing what was read back panicked".to_owned(),
                }),
            }
        })
    }

    fn read_all(
        &self,
        medium: &impl Medium,
        give: &mpsc::SyncSender<(u64, Content, Block)>,
        empties: &mpsc::Receiver<Block>,
        stop: &CancellationToken,
    ) -> Result<Compared, WriteError> {
        for part in &self.parts {
            let mut at = part.range.start;
            while at < part.range.end {
                if stop.is_cancelled() {
                    return Ok(Compared::Stopped);
                }
                // Nobody gives one back who has found a difference, which counts.
                let Ok(mut block) = empties.recv() else {
                    return Ok(Compared::Same);
                };
                let len = (part.range.end - at).min(Block::BYTES as u64);
                block.resize(usize::try_from(len).unwrap_or(Block::BYTES));
                medium
                    .read_into(at, &mut block)
                    .map_err(|source| WriteError::Device {
                        disk: medium.path().to_owned(),
                        what: "reading back what was written to",
                        offset: at,
                        source,
                    })?;
                if give.send((at, part.content, block)).is_err() {
                    return Ok(Compared::Same);
                }
                at += len;
            }
        }
        Ok(Compared::Same)
    }
}
