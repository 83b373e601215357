//! A primary table made again of the backup at the end of the disk: what a loss of power in the middle of its writing leaves.
//!
//! Source: UEFI specification 2.10, section 5.3.2 (the backup is used when the primary one is damaged).

use super::parse::{self, ENTRY_BYTES, HEADER_BYTES, SIGNATURE, Table, crc32};

/// Puts the backup's header and entries where the primary ones belong, in the first bytes of the disk, which must have room for them.
/// `tail` are the last bytes of the disk, from byte `tail_at`. `None`: there is no whole backup there; `start` is as it was then.
pub fn restore(start: &mut [u8], tail: &[u8], tail_at: u64, sector: u64) -> Option<Table> {
    let size = usize::try_from(sector)
        .ok()
        .filter(|size| *size >= HEADER_BYTES)?;
    let last_at = tail.len().checked_sub(size)?;
    let last_lba = tail_at.checked_add(last_at as u64)? / sector;
    let header = tail.get(last_at..)?.get(..HEADER_BYTES)?;
    let u32_of = |at: usize| Some(u32::from_le_bytes(*header.get(at..)?.first_chunk::<4>()?));
    let u64_of = |at: usize| Some(u64::from_le_bytes(*header.get(at..)?.first_chunk::<8>()?));
    let mut zeroed = header.to_vec();
    zeroed.get_mut(16..20)?.fill(0);
    let is_whole = header.starts_with(SIGNATURE)
        && u32_of(12)? as usize == HEADER_BYTES
        && crc32(&zeroed) == u32_of(16)?
        && u64_of(24)? == last_lba;
    if !is_whole || u32_of(84)? as usize != ENTRY_BYTES {
        return None;
    }
    let from = u64_of(72)?.checked_mul(sector)?.checked_sub(tail_at)?;
    let from = usize::try_from(from).ok()?;
    let len = usize::try_from(u32_of(80)?).ok()?.checked_mul(ENTRY_BYTES)?;
    let entries = tail.get(from..from.checked_add(len)?)?;

    let mut made = start.to_vec();
    let mut put = |at: usize, bytes: &[u8]| -> Option<()> {
        made.get_mut(at..at.checked_add(bytes.len())?)?
            .copy_from_slice(bytes);
        Some(())
    };
    // The primary one: at sector 1, its entries at 2, the other one at the end.
    for (at, lba) in [(24, 1), (32, last_lba), (72, 2)] {
        zeroed.get_mut(at..at + 8)?.copy_from_slice(&lba.to_le_bytes());
    }
    let sum = crc32(&zeroed);
    zeroed.get_mut(16..20)?.copy_from_slice(&sum.to_le_bytes());
    put(size, &vec![0; size])?;
    put(size, &zeroed)?;
    put(size.checked_mul(2)?, entries)?;
    let table = parse::parse(&made, sector).ok()?;
    start.copy_from_slice(&made);
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::gpt_image;

    const MIB: usize = 1 << 20;

    #[test]
    fn a_damaged_primary_table_is_made_again_of_the_backup() {
        for sector in [512, 4096] {
            let disk = std::fs::read(gpt_image(16 << 20, sector as u64).path()).unwrap();
            let (head, tail) = (&disk[..MIB], &disk[15 * MIB..]);
            for damaged in [sector..2 * sector, 2 * sector..2 * sector + 128, 0..MIB] {
                let mut start = head.to_vec();
                start[damaged].fill(0);
                let table = restore(&mut start, tail, 15 << 20, sector as u64).unwrap();
                assert_eq!(table, parse::parse(head, sector as u64).unwrap(), "{sector}");
                assert!(start[sector..MIB] == head[sector..MIB], "{sector}");
            }
        }
    }

    #[test]
    fn a_backup_that_is_not_whole_or_of_another_disk_is_not_taken() {
        let disk = std::fs::read(gpt_image(16 << 20, 512).path()).unwrap();
        let start = vec![0; MIB];
        for at in [
            disk.len() - 500,
            disk.len() - 512 + 20,
            disk.len() - 33 * 512 + 40,
        ] {
            let mut tail = disk[15 * MIB..].to_vec();
            tail[at - 15 * MIB] ^= 1;
            let mut made = start.clone();
            assert_eq!(restore(&mut made, &tail, 15 << 20, 512), None, "{at}");
            assert!(made == start);
        }
        // The disk ends elsewhere.
        assert_eq!(
            restore(&mut start.clone(), &disk[15 * MIB..], 20 << 20, 512),
            None
        );
        assert_eq!(restore(&mut [0; 100], &disk[15 * MIB..], 15 << 20, 512), None);
    }
}
