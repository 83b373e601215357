//! What a machine has written to its disk, as QEMU's blklogwrites records it.
//!
//! Source: Linux Documentation/admin-guide/device-mapper/log-writes.rst and drivers/md/dm-log-writes.c.

use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;
/// Of the log, as QEMU makes it.
const SECTOR: usize = 512;

/// What the disk was told to do.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Flush,
    Write { at: usize, bytes: Vec<u8> },
}

impl Request {
    pub(crate) fn apply(&self, disk: &mut [u8]) {
        if let Request::Write { at, bytes } = self {
            disk[*at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
}

/// All requests of a log, in their order. A discard promises nothing of what is read afterwards and is left out.
pub(crate) fn read(log: &Path) -> Vec<Request> {
    let log = std::fs::read(log).unwrap();
    let word = |at: usize| u64::from_le_bytes(log[at..at + 8].try_into().unwrap());
    assert_eq!(word(0), MAGIC, "no log of writes");
    let (entries, sector_bytes) = (word(16), u64::from(log[24]) | u64::from(log[25]) << 8);
    assert_eq!(sector_bytes as usize, SECTOR);
    let mut requests = Vec::new();
    let mut at = SECTOR;
    for _ in 0..entries {
        let (sector, sectors, flags) = (word(at) as usize, word(at + 8) as usize, word(at + 16));
        at += SECTOR;
        if flags & FLUSH != 0 {
            requests.push(Request::Flush);
        }
        if flags & DISCARD == 0 && sectors > 0 {
            let bytes = log[at..at + sectors * SECTOR].to_vec();
            at += bytes.len();
            requests.push(Request::Write {
                at: sector * SECTOR,
                bytes,
            });
        }
    }
    requests
}
