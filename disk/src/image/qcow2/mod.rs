//! qcow2 files, written as they come: their tables are read first, by ranges, and say where each cluster goes.
//!
//! So the file comes once and in its order, its digest is taken as of every other, and no more than some clusters of it are in
//! memory. The tables come by again with the rest, and have to be what they were: who vouches for the file vouches for
//! them.

mod clusters;
mod header;
mod stream;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

pub(super) use clusters::Clusters;
use clusters::{Collector, Content, Extent};
use header::MAGIC;
pub(super) use header::{HEADER_BYTES, Header};
pub(super) use stream::decode;
use unpack::Unpacker;

use super::source::Source;
use super::writer::Block;
use super::{Compression, WriteError};

/// Second-level tables that lie together are read together, so many bytes at once.
const READ_BYTES: u64 = 1 << 20;

/// Whether what begins so is to be written as a qcow2 file.
pub(super) fn is_meant(first: &[u8], said: Compression) -> bool {
    first.starts_with(MAGIC) && matches!(said, Compression::Detect | Compression::None)
}

/// A file whose tables were read.
pub(super) struct Qcow2 {
    pub(super) header: Header,
    pub(super) clusters: Clusters,
    /// The first bytes of the disk that is in it, as many as an image is judged by.
    pub(super) start: Vec<u8>,
}

impl Qcow2 {
    /// What is worth knowing of it.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.header.snapshots > 0 {
            warnings.push(format!(
                "the qcow2 file has {} snapshots beside the disk, which were left out",
                self.header.snapshots
            ));
        }
        warnings
    }
}

/// A file of which parts can be read.
pub(super) trait Parts {
    /// Its length, where it is known.
    fn total(&self) -> Option<u64>;
    /// Bytes of it. `range` does not begin with the first, and ends within the length that is known.
    async fn part(&self, range: Range<u64>) -> Result<Vec<u8>, WriteError>;
}

impl Parts for Source {
    fn total(&self) -> Option<u64> {
        Source::total(self)
    }

    async fn part(&self, range: Range<u64>) -> Result<Vec<u8>, WriteError> {
        Source::part(self, range).await
    }
}

/// Why the tables could not be read.
pub(super) enum NotRead {
    /// In words.
    Bad(String),
    Transfer(WriteError),
}

impl From<WriteError> for NotRead {
    fn from(err: WriteError) -> NotRead {
        NotRead::Transfer(err)
    }
}

impl From<String> for NotRead {
    fn from(what: String) -> NotRead {
        NotRead::Bad(what)
    }
}

/// Reads the tables of the file that begins with `first`, [`HEADER_BYTES`] at least.
pub(super) async fn read(file: &impl Parts, first: &Bytes) -> Result<Qcow2, NotRead> {
    let header = Header::parse(first)?;
    let mut collector = Collector::new(&header, file.total());
    let len = header.l1_entries as u64 * 8;
    let first_level = match len {
        0 => Vec::new(),
        len => {
            let bytes = part(file, header.l1_at, len).await?;
            collector.first_level(&bytes)?
        }
    };
    let cluster_bytes = header.cluster_bytes();
    let mut rest = first_level.as_slice();
    while let Some(at) = rest.first() {
        let Some(at) = *at else {
            collector.second_level(None)?;
            rest = &rest[1..];
            continue;
        };
        let together = rest
            .iter()
            .take(usize::try_from(READ_BYTES / cluster_bytes).unwrap_or(1).max(1))
            .zip(0..)
            .take_while(|(table, number)| **table == Some(at + number * cluster_bytes))
            .count();
        let bytes = part(file, at, together as u64 * cluster_bytes).await?;
        let step = usize::try_from(cluster_bytes).unwrap_or(usize::MAX);
        for (table, number) in bytes.chunks(step).zip(0..) {
            collector.second_level(Some((at + number * cluster_bytes, table)))?;
        }
        rest = rest.get(together..).unwrap_or_default();
    }
    let clusters = collector.finish()?;
    let start = start(file, &header, &clusters).await?;
    Ok(Qcow2 {
        header,
        clusters,
        start,
    })
}

/// The first bytes of the disk.
async fn start(file: &impl Parts, header: &Header, clusters: &Clusters) -> Result<Vec<u8>, NotRead> {
    let len = header.size_bytes.min(Block::BYTES as u64);
    let mut start = vec![0; usize::try_from(len).unwrap_or(Block::BYTES)];
    let mut unpacker = Unpacker::new(header);
    // In the order of the disk, which reads the file mostly forwards.
    let wanted: BTreeMap<u64, &Extent> = clusters
        .extents
        .iter()
        .filter(|extent| extent.content != Content::Table && extent.disk_at < len)
        .map(|extent| (extent.disk_at, extent))
        .collect();
    for extent in wanted.into_values() {
        let into = usize::try_from(extent.disk_at)
            .ok()
            .and_then(|at| start.get_mut(at..))
            .unwrap_or_default();
        let there = match extent.content {
            Content::Packed => {
                let packed = part(file, extent.at, extent.len).await?;
                unpacker.unpack(&packed)?.to_vec()
            }
            _ => part(file, extent.at, extent.len.min(into.len() as u64)).await?,
        };
        let len = into.len().min(there.len());
        into[..len].copy_from_slice(&there[..len]);
    }
    Ok(start)
}

async fn part(file: &impl Parts, at: u64, len: u64) -> Result<Vec<u8>, NotRead> {
    let end = at.saturating_add(len);
    if file.total().is_some_and(|total| end > total) {
        return Err(NotRead::Bad(format!(
            "the qcow2 file ends before byte {end}, where it has to have a table or a cluster: it is not whole"
        )));
    }
    Ok(file.part(at..end).await?)
}
