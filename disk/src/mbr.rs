//! MBR partition tables: read with bounds, logical partitions too; made anew, without those.
//!
//! Source: UEFI specification 2.10, section 5.2; the numbers of logical partitions as in Linux block/partitions/msdos.c.

use std::io;

/// A partition in use. Sectors are the disk's own logical ones, whatever their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// 1 to 4, as in the table; logical ones from 5.
    pub number: u32,
    pub kind: u8,
    pub first_sector: u64,
    pub sectors: u64,
}

impl Partition {
    /// Whether it only holds logical partitions.
    pub fn is_extended(&self) -> bool {
        EXTENDED.contains(&self.kind)
    }

    /// Whether it only says that there is a GUID partition table.
    pub fn is_protective(&self) -> bool {
        self.kind == PROTECTIVE
    }

    /// The first sector behind it.
    pub fn end_sector(&self) -> u64 {
        self.first_sector + self.sectors
    }
}

/// Where the four entries are in the first sector.
pub const ENTRIES: std::ops::Range<usize> = 446..510;
/// The type of the entry that covers a disk with a GUID partition table.
pub const PROTECTIVE: u8 = 0xee;
/// DOS, Windows and Linux.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// As the kernel: what is longer is taken for a ring.
const LONGEST_CHAIN: usize = 100;

/// Whether the first sector ends with 0x55 0xAA, without which no firmware starts it.
pub fn has_boot_signature(start: &[u8]) -> bool {
    start.get(510..512) == Some(&[0x55, 0xaa])
}

/// The partitions that a first sector names; `None` if it is no MBR.
///
/// Boot code of a filesystem may end with the signature too; then the four entries are not ones, which their first
/// bytes tell.
pub fn parse(start: &[u8]) -> Option<Vec<Partition>> {
    if !has_boot_signature(start) {
        return None;
    }
    let entries = start.get(ENTRIES)?;
    if !entries
        .chunks_exact(16)
        .all(|entry| matches!(entry.first(), Some(0 | 0x80)))
    {
        return None;
    }
    let slots = entries.chunks_exact(16).zip(1..);
    Some(slots.filter_map(|(bytes, number)| entry(bytes, number)).collect())
}

/// The logical partitions in the extended ones of a table.
///
/// `read` gives the first 512 bytes of a sector.
///
/// # Errors
/// Those of `read`.
pub fn logical(
    primary: &[Partition],
    mut read: impl FnMut(u64) -> io::Result<[u8; 512]>,
) -> io::Result<Vec<Partition>> {
    let mut found = Vec::new();
    for extended in primary.iter().filter(|partition| partition.is_extended()) {
        let mut at = extended.first_sector;
        for _ in 0..LONGEST_CHAIN {
            // A link that leads nowhere ends the chain.
            let Some(entries) = parse(&read(at)?) else { break };
            for entry in entries.iter().filter(|entry| !entry.is_extended()) {
                let moved = Partition {
                    number: 5 + u32::try_from(found.len()).unwrap_or(u32::MAX - 5),
                    first_sector: at + entry.first_sector,
                    ..*entry
                };
                if moved.end_sector() <= extended.end_sector() {
                    found.push(moved);
                }
            }
            let Some(next) = entries.iter().find(|entry| entry.is_extended()) else {
                break;
            };
            at = extended.first_sector + next.first_sector;
            if at >= extended.end_sector() {
                break;
            }
        }
    }
    Ok(found)
}

/// An entry to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw {
    pub is_active: bool,
    pub kind: u8,
    pub first_sector: u32,
    pub sectors: u32,
}

/// The disk's signature in a first sector, out of which the kernel makes PARTUUIDs.
///
/// Source: UEFI specification 2.10 table 5.1.
pub const DISK_SIGNATURE: std::ops::Range<usize> = 440..444;

/// A first sector without boot code, with up to four entries.
///
/// Heads and cylinders say "beyond what they reach", as the specification asks for of larger disks.
pub fn encode(signature: u32, entries: &[Raw]) -> [u8; 512] {
    let mut sector = [0; 512];
    sector[DISK_SIGNATURE].copy_from_slice(&signature.to_le_bytes());
    for (entry, into) in entries.iter().zip(sector[ENTRIES].chunks_exact_mut(16)) {
        into[0] = if entry.is_active { 0x80 } else { 0 };
        // The protective one begins at head 0, track 0, sector 2: UEFI table 5.4.
        into[1..4].copy_from_slice(match entry.kind {
            PROTECTIVE => &[0x00, 0x02, 0x00],
            _ => &[0xfe, 0xff, 0xff],
        });
        into[4] = entry.kind;
        into[5..8].copy_from_slice(match entry.kind {
            PROTECTIVE => &[0xff, 0xff, 0xff],
            _ => &[0xfe, 0xff, 0xff],
        });
        into[8..12].copy_from_slice(&entry.first_sector.to_le_bytes());
        into[12..16].copy_from_slice(&entry.sectors.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// Whether two first sectors name the same partitions: boot code, the disk's signature, heads and cylinders do not count.
pub fn has_same_entries(one: &[u8], other: &[u8]) -> bool {
    let counts = |sector: &[u8]| -> Option<Vec<u8>> {
        let entries = sector.get(ENTRIES).filter(|_| has_boot_signature(sector))?;
        let counting = entries
            .iter()
            .enumerate()
            .filter(|(at, _)| !matches!(at % 16, 1..=3 | 5..=7));
        Some(counting.map(|(_, byte)| *byte).collect())
    };
    let one = counts(one);
    one.is_some() && one == counts(other)
}

fn entry(bytes: &[u8], number: u32) -> Option<Partition> {
    let word = |at: usize| {
        let four = bytes.get(at..)?.first_chunk::<4>()?;
        Some(u64::from(u32::from_le_bytes(*four)))
    };
    let partition = Partition {
        number,
        kind: *bytes.get(4)?,
        first_sector: word(8)?,
        sectors: word(12)?,
    };
    (partition.sectors > 0).then_some(partition)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::mbr_sector;

    /// Two primary partitions, the second of them extended, with two logical ones in it.
    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 16 << 20];
        let mut put = |sector: usize, entries: &[(u8, u32, u32)]| {
            disk[sector * 512..][..512].copy_from_slice(&mbr_sector(entries));
        };
        put(0, &[(0x0c, 2048, 2048), (0, 0, 0), (0x05, 8192, 20000)]);
        put(8192, &[(0x83, 2048, 2048), (0x05, 4096, 6144)]);
        put(8192 + 4096, &[(0x82, 2048, 4096)]);
        disk
    }

    fn all(disk: &[u8]) -> Vec<(u32, u64, u64)> {
        let primary = parse(disk).unwrap();
        let at = |sector: u64| {
            let from = usize::try_from(sector).unwrap() * 512;
            disk.get(from..)
                .and_then(|rest| rest.first_chunk::<512>())
                .copied()
                .ok_or_else(|| io::Error::other("beyond"))
        };
        let logical = logical(&primary, at).unwrap();
        primary
            .iter()
            .filter(|partition| !partition.is_extended())
            .chain(&logical)
            .map(|partition| (partition.number, partition.first_sector, partition.sectors))
            .collect()
    }

    #[test]
    fn primary_and_logical_partitions_have_the_numbers_of_the_kernel() {
        assert_eq!(
            all(&disk()),
            [(1, 2048, 2048), (5, 10240, 2048), (6, 14336, 4096)]
        );
    }

    #[test]
    fn what_is_no_table_has_no_partitions() {
        assert_eq!(parse(&[0; 512]), None);
        assert_eq!(parse(&[]), None);
        let mut fat = [0; 512];
        fat[446..460].copy_from_slice(b"Press any key ");
        fat[510..].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(parse(&fat), None);
        fat[446..460].fill(0);
        assert_eq!(parse(&fat), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_run_for_ever(noise in proptest::collection::vec(any::<u8>(), 512)) {
            let mut sector: [u8; 512] = noise.try_into().unwrap();
            for entry in sector[ENTRIES].chunks_exact_mut(16) {
                entry[0] = 0;
            }
            sector[446 + 4] = 0x0f;
            sector[510..].copy_from_slice(&[0x55, 0xaa]);
            let primary = parse(&sector).unwrap();
            let _ = logical(&primary, |_| Ok(sector));
        }
    }
}
