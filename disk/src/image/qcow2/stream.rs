//! The clusters as the file has them, each to its place.

use std::io::{self, BufRead, Read};
use std::sync::mpsc;

use sha2::{Digest, Sha256};

use super::Qcow2;
use super::clusters::{Content, Extent};
use super::unpack::Unpacker;
use crate::image::decode::{DecodeError, Decoded};
use crate::image::feed::{Feed, FeedReader};
use crate::image::writer::{Block, BlockPool, Piece};

/// Hands on what the feed has until it ends.
pub(in crate::image) fn decode(
    feed: &mut FeedReader<impl FnMut() -> Option<Feed> + Send>,
    file: Qcow2,
    pool: &BlockPool,
    to: &mpsc::SyncSender<Piece>,
) -> Result<Decoded, DecodeError> {
    let warnings = file.warnings();
    let Qcow2 {
        header,
        clusters,
        start,
    } = file;
    let send = |piece| to.send(piece).map_err(|_| DecodeError::GivenUp);
    send(Piece::Size(Some(header.size_bytes)))?;
    send(Piece::Start(start))?;
    for hole in clusters.holes {
        send(Piece::Hole(hole))?;
    }
    let mut placing = Placing {
        pool,
        to,
        block: None,
    };
    let mut unpacker = Unpacker::new(&header);
    let mut packed = Vec::new();
    let mut at = 0;
    for extent in &clusters.extents {
        skip(feed, extent.at - at)?;
        at = extent.at + extent.len;
        match extent.content {
            Content::Data => placing.copy(feed, extent, header.size_bytes)?,
            Content::Packed => {
                packed.clear();
                feed.by_ref()
                    .take(extent.len)
                    .read_to_end(&mut packed)
                    .map_err(explain)?;
                let cluster = unpacker.unpack(&packed).map_err(DecodeError::Image)?;
                let len = header.cluster_bytes().min(header.size_bytes - extent.disk_at);
                let len = usize::try_from(len).unwrap_or(cluster.len());
                placing.put(extent.disk_at, cluster.get(..len).unwrap_or(cluster))?;
            }
            Content::Table => {
                let found = digest(feed, extent.len)?;
                let number = usize::try_from(extent.disk_at).unwrap_or(usize::MAX);
                if clusters.digests.get(number) != Some(&found) {
                    return Err(DecodeError::Image(format!(
                        "its table at byte {} is another one than before the transfer",
                        extent.at
                    )));
                }
            }
        }
    }
    placing.flush()?;
    // The digest is of all of it.
    io::copy(feed, &mut io::sink()).map_err(explain)?;
    send(Piece::End)?;
    Ok(Decoded { warnings })
}

/// Puts what comes into blocks, those that follow each other into one.
struct Placing<'a> {
    pool: &'a BlockPool,
    to: &'a mpsc::SyncSender<Piece>,
    /// Where it goes, how much of it is filled, and itself.
    block: Option<(u64, usize, Block)>,
}

impl Placing<'_> {
    fn copy(
        &mut self,
        feed: &mut FeedReader<impl FnMut() -> Option<Feed> + Send>,
        extent: &Extent,
        size_bytes: u64,
    ) -> Result<(), DecodeError> {
        let (mut at, mut left) = (extent.disk_at, extent.len);
        while left > 0 {
            let buffer = feed.fill_buf().map_err(explain)?;
            if buffer.is_empty() {
                return Err(too_short());
            }
            let len = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            // The last cluster may be longer than the disk.
            let for_disk = size_bytes.saturating_sub(at).min(len as u64);
            let for_disk = usize::try_from(for_disk).unwrap_or(len);
            self.put(at, buffer.get(..for_disk).unwrap_or_default())?;
            feed.consume(len);
            at += len as u64;
            left -= len as u64;
        }
        Ok(())
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<(), DecodeError> {
        let (mut at, mut bytes) = (at, bytes);
        while !bytes.is_empty() {
            let follows = self
                .block
                .as_ref()
                .is_some_and(|(start, filled, _)| start + *filled as u64 == at);
            if !follows {
                self.flush()?;
            }
            let (_, filled, block) = match &mut self.block {
                Some(block) => block,
                None => self
                    .block
                    .insert((at, 0, self.pool.take().ok_or(DecodeError::GivenUp)?)),
            };
            let room = block.as_mut_slice().get_mut(*filled..).unwrap_or_default();
            let len = room.len().min(bytes.len());
            let (now, later) = bytes.split_at(len);
            room[..len].copy_from_slice(now);
            let is_full = room.len() == len;
            *filled += len;
            at += len as u64;
            bytes = later;
            if is_full {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DecodeError> {
        let Some((at, filled, mut block)) = self.block.take() else {
            return Ok(());
        };
        block.truncate(filled);
        self.to
            .send(Piece::Placed { at, block })
            .map_err(|_| DecodeError::GivenUp)
    }
}

fn skip(feed: &mut FeedReader<impl FnMut() -> Option<Feed> + Send>, len: u64) -> Result<(), DecodeError> {
    match io::copy(&mut feed.by_ref().take(len), &mut io::sink()).map_err(explain)? {
        skipped if skipped == len => Ok(()),
        _ => Err(too_short()),
    }
}

fn digest(
    feed: &mut FeedReader<impl FnMut() -> Option<Feed> + Send>,
    len: u64,
) -> Result<[u8; 32], DecodeError> {
    let mut digest = Sha256::new();
    let mut left = len;
    while left > 0 {
        let buffer = feed.fill_buf().map_err(explain)?;
        if buffer.is_empty() {
            return Err(too_short());
        }
        let len = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        digest.update(buffer.get(..len).unwrap_or_default());
        feed.consume(len);
        left -= len as u64;
    }
    Ok(digest.finalize().into())
}

fn explain(err: io::Error) -> DecodeError {
    match err.kind() {
        io::ErrorKind::BrokenPipe => DecodeError::GivenUp,
        _ => DecodeError::Image(err.to_string()),
    }
}

fn too_short() -> DecodeError {
    DecodeError::Image("the qcow2 file ends before its last cluster".to_owned())
}
