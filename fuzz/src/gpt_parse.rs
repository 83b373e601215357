//! What is read from disks and images: partition tables, superblocks and signatures. No input may panic.

use disk::filesystem;
use disk::gpt;
use disk::luks;
use disk::raid::{self, Metadata};

pub(crate) fn run(bytes: &[u8]) {
    look(bytes);
    // With the checksums made right, so that what lies behind them is reached.
    look(&sealed(bytes));
    let _ = filesystem::detect(bytes);
    crate::partition_layout::signatures_of(bytes);
    let header = luks::read_header(bytes);
    assert!(header.is_none_or(|header| header.uuid.len() <= 3 * 40));
    superblock(bytes);
    restored(bytes);
}

/// Of a member of an array, at either place.
fn superblock(bytes: &[u8]) {
    for metadata in [Metadata::V1_0, Metadata::V1_2] {
        for size in [bytes.len() as u64, 1 << 24] {
            let read = raid::read_superblock(bytes, metadata, size);
            assert!(read.is_none_or(|read| read.uuid.len() == 35 && read.name.len() <= 3 * 32));
        }
    }
}

/// A primary table of the backup at the end: it is one that is read, or nothing was changed.
fn restored(bytes: &[u8]) {
    for sector in [512, 4096] {
        let mut start = vec![0; 1 << 16];
        match gpt::restore(&mut start, bytes, 1 << 20, sector) {
            Some(table) => assert_eq!(gpt::parse(&start, sector).ok(), Some(table)),
            None => assert!(start.iter().all(|byte| *byte == 0)),
        }
    }
}

fn look(bytes: &[u8]) {
    if let Some(table) = gpt::find(bytes) {
        assert!(table.disk_bytes() > table.partitions_end_bytes() || table.entries.is_empty());
        let _ = table.entries.iter().filter(|entry| entry.is_linux()).count();
    }
}

/// The same bytes with the checksums of the tables in them made right.
pub(crate) fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    for sector in [512, 4096] {
        let _ = seal(&mut sealed, sector);
    }
    sealed
}

fn seal(bytes: &mut [u8], sector: usize) -> Option<()> {
    let header = bytes.get(sector..sector + 92)?;
    let lba = u64::from_le_bytes(header.get(72..80)?.try_into().ok()?);
    let count = u32::from_le_bytes(header.get(80..84)?.try_into().ok()?);
    let from = usize::try_from(lba).ok()?.checked_mul(sector)?;
    let entries = crc32(bytes.get(from..from.checked_add(usize::try_from(count).ok()?.checked_mul(128)?)?)?);
    let header = bytes.get_mut(sector..sector + 92)?;
    header[88..92].copy_from_slice(&entries.to_le_bytes());
    header[16..20].fill(0);
    let sum = crc32(header);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    Some(())
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
