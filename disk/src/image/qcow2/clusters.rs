//! Where the clusters of a qcow2 file are, in the order of the file.
//!
//! Pure. Source: QEMU, docs/interop/qcow2.rst, "Cluster mapping".

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::header::Header;

/// Bits 9 to 55 of an entry.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;
/// Compressed clusters are told in sectors of this size.
const SECTOR_BYTES: u64 = 512;
/// 4 million runs of clusters, some 128 MiB of memory: compressed, 256 GiB in clusters of 64 KiB.
const MOST_EXTENTS: usize = 4 << 20;

/// What lies in a piece of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// For the disk, as it is.
    Data,
    /// One cluster for the disk, packed.
    Packed,
    /// A table, which was read before: its digest is that of this number.
    Table,
}

/// A piece of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// In the file, in bytes.
    pub(super) at: u64,
    pub(super) len: u64,
    /// Where on the disk it goes, in bytes; of a table, its number.
    pub(super) disk_at: u64,
    pub(super) content: Content,
}

/// Everything that is in a file.
#[derive(Debug, Default)]
pub(in crate::image) struct Clusters {
    /// In the order of the file; none overlaps the one before.
    pub(super) extents: Vec<Extent>,
    /// What of the disk is in no cluster, and zero.
    pub(super) holes: Vec<Range<u64>>,
    /// Of tables, by their number.
    pub(super) digests: Vec<[u8; 32]>,
}

/// Collects it: first-level table, then the second-level ones in their order.
pub(super) struct Collector<'a> {
    header: &'a Header,
    /// The length of the file, where it is known.
    file_bytes: Option<u64>,
    found: Clusters,
    /// How much of the disk was looked up.
    disk_at: u64,
}

impl<'a> Collector<'a> {
    pub(super) fn new(header: &'a Header, file_bytes: Option<u64>) -> Collector<'a> {
        Collector {
            header,
            file_bytes,
            found: Clusters::default(),
            disk_at: 0,
        }
    }

    /// Where the second-level tables are; `None`: there is none, and all that it would be for is zero.
    pub(super) fn first_level(&mut self, bytes: &[u8]) -> Result<Vec<Option<u64>>, String> {
        self.table(self.header.l1_at, bytes)?;
        let tables = entries(bytes).take(self.header.l1_entries);
        tables
            .map(|entry| match entry & OFFSET {
                0 => Ok(None),
                at if self.header.is_cluster(at) => Ok(Some(at)),
                at => Err(format!(
                    "its qcow2 tables say a table at byte {at}, where none can be"
                )),
            })
            .collect()
    }

    /// The next second-level table: where it is and what is in it. `None`: there is none.
    pub(super) fn second_level(&mut self, table: Option<(u64, &[u8])>) -> Result<(), String> {
        let end = (self.disk_at + self.header.l2_covers_bytes()).min(self.header.size_bytes);
        let Some((at, bytes)) = table else {
            let hole = self.disk_at..end;
            self.disk_at = end;
            self.hole(hole);
            return Ok(());
        };
        self.table(at, bytes)?;
        for entry in entries(bytes) {
            if self.disk_at >= end {
                break;
            }
            let len = self.header.cluster_bytes().min(end - self.disk_at);
            self.cluster(entry, len)?;
            self.disk_at += len;
        }
        Ok(())
    }

    fn cluster(&mut self, entry: u64, len: u64) -> Result<(), String> {
        let disk_at = self.disk_at;
        if entry & COMPRESSED != 0 {
            let bits = 62 - (self.header.cluster_bits - 8);
            let at = entry & ((1 << bits) - 1);
            let sectors = (entry & (COMPRESSED - 1)) >> bits;
            let len = (sectors + 1) * SECTOR_BYTES - at % SECTOR_BYTES;
            return self.push(Extent {
                at,
                len,
                disk_at,
                content: Content::Packed,
            });
        }
        let at = entry & OFFSET;
        if at == 0 || (self.header.has_zero_flag && entry & ZERO != 0) {
            self.hole(disk_at..disk_at + len);
            return Ok(());
        }
        if !self.header.is_cluster(at) {
            return Err(format!(
                "its qcow2 tables say a cluster at byte {at}, where none can be"
            ));
        }
        // Whole runs are written at once.
        if let Some(last) = self.found.extents.last_mut()
            && last.content == Content::Data
            && last.at + last.len == at
            && last.disk_at + last.len == disk_at
        {
            last.len += len;
            return Ok(());
        }
        self.push(Extent {
            at,
            len,
            disk_at,
            content: Content::Data,
        })
    }

    fn table(&mut self, at: u64, bytes: &[u8]) -> Result<(), String> {
        let number = self.found.digests.len() as u64;
        self.found.digests.push(Sha256::digest(bytes).into());
        self.push(Extent {
            at,
            len: bytes.len() as u64,
            disk_at: number,
            content: Content::Table,
        })
    }

    fn push(&mut self, extent: Extent) -> Result<(), String> {
        if self.found.extents.len() >= MOST_EXTENTS {
            return Err(format!(
                "the qcow2 file has more than {MOST_EXTENTS} runs of clusters. Make it with larger ones: `qemu-img convert -O qcow2 -o cluster_size=2M`"
            ));
        }
        self.found.extents.push(extent);
        Ok(())
    }

    fn hole(&mut self, range: Range<u64>) {
        match self.found.holes.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ if range.is_empty() => {}
            _ => self.found.holes.push(range),
        }
    }

    /// Puts it into the order of the file.
    ///
    /// # Errors
    /// In words: pieces lie in each other, or beyond the end.
    pub(super) fn finish(self) -> Result<Clusters, String> {
        let Collector {
            mut found,
            file_bytes,
            ..
        } = self;
        found.extents.sort_unstable_by_key(|extent| extent.at);
        for index in 0..found.extents.len() {
            let next = found.extents.get(index + 1).map(|extent| extent.at);
            let Some(extent) = found.extents.get_mut(index) else {
                break;
            };
            let end = extent.at.saturating_add(extent.len);
            if let Some(next) = next.filter(|next| *next < end) {
                // Packed clusters are told in whole sectors, and the next one begins where the content of this one ends.
                if extent.content != Content::Packed || next == extent.at || end - next >= SECTOR_BYTES {
                    return Err(format!(
                        "its qcow2 tables say two clusters at byte {next}. Check it with `qemu-img check`"
                    ));
                }
                extent.len = next - extent.at;
            }
            if let Some(file_bytes) = file_bytes
                && extent.at.saturating_add(extent.len) > file_bytes
            {
                if extent.content != Content::Packed || extent.at >= file_bytes {
                    return Err(format!(
                        "the qcow2 file has {file_bytes} B, and a cluster at byte {}: it is not whole",
                        extent.at
                    ));
                }
                extent.len = file_bytes - extent.at;
            }
        }
        Ok(found)
    }
}

fn entries(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let (entries, _) = bytes.as_chunks::<8>();
    entries.iter().map(|entry| u64::from_be_bytes(*entry))
}
