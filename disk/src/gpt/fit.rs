//! Fits a partition table to the disk that it is to lie on, before it is written there.

use std::io::{self, Cursor, Seek, SeekFrom, Write};

use gptman::{GPTHeader, GPTPartitionEntry};

use super::parse::{self, Entry, Table};
use crate::mbr;

/// Which partition grows up to the end of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grow {
    /// The last Linux filesystem on the disk.
    LastLinux,
    Nothing,
    Number(u32),
    /// Not to the end of the disk where another partition lies behind it: up to that.
    UpToNext(u32),
}

/// What was done to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// As it is now.
    pub table: Table,
    /// Whether the backup table was elsewhere before.
    pub backup_moved: bool,
    /// The partition that was asked for, with its present size.
    pub partition: Option<Grown>,
}

/// A partition that reaches the end of the disk, or the partition behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grown {
    pub number: u32,
    pub start_bytes: u64,
    pub size_bytes: u64,
    /// 0: it had that size before.
    pub added_bytes: u64,
}

/// The backup table, which ends where the disk ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Where on the disk its first byte goes.
    pub at: u64,
    /// The entries, then the header.
    pub bytes: Vec<u8>,
}

/// Why a table could not be fitted.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    #[error("the disk has no usable GUID partition table: {why}")]
    NoTable { why: &'static str },
    #[error("partition {number} does not exist; there are {there:?}")]
    NoSuchPartition { number: u32, there: Vec<u32> },
    #[error("there is no Linux filesystem partition to grow among {there:?}")]
    NoLinuxPartition { there: Vec<u32> },
    #[error("partition {number} cannot grow: partition {behind} lies behind it")]
    NotLast { number: u32, behind: u32 },
    #[error("the table needs a disk of {need_bytes} B, this one has {have_bytes} B")]
    DoesNotFit { need_bytes: u64, have_bytes: u64 },
    #[error("partition table: {0}")]
    Table(#[from] gptman::Error),
}

/// Where partitions end, so that tools and encryption do not complain.
const ALIGN_BYTES: u64 = 1 << 20;

/// Fits the primary table in the first bytes of an image to a disk, grows a partition, and makes the backup table.
///
/// `start` must hold all entries; header, entries and protective MBR in it are changed, nothing else. Boot code, boot
/// flags and the entries of hybrid MBRs stay.
///
/// # Errors
/// See [`GptError`]; `start` is as it was then.
pub fn fit(start: &mut [u8], disk_bytes: u64, sector: u64, grow: Grow) -> Result<(Fitted, Backup), GptError> {
    let before = parse::parse(start, sector).map_err(|bad| GptError::NoTable { why: bad.why })?;
    let lbas = disk_bytes / sector;
    let entries_sectors = (u64::from(before.entry_count) * 128).div_ceil(sector);
    let need_bytes = before
        .partitions_end_bytes()
        .saturating_add((entries_sectors + 1) * sector);
    let last_usable_lba = lbas.saturating_sub(entries_sectors + 2);
    if need_bytes > lbas * sector || last_usable_lba <= before.first_usable_lba {
        return Err(GptError::DoesNotFit {
            need_bytes,
            have_bytes: disk_bytes,
        });
    }
    let mut fitted = start.to_vec();
    let mut device = Cursor::new(fitted.as_mut_slice());
    device.set_position(sector);
    let mut primary = GPTHeader::read_from(&mut device)?;
    // `parse` has checked what gptman takes on trust: entry size, number of entries, checksums.
    let mut entries = primary.read_partitions(&mut device, sector)?;

    let partition = chosen(&before, grow)?.map(|(entry, behind_lba)| {
        let end_lba = behind_lba.unwrap_or(last_usable_lba + 1);
        grow_entry(&entry, &mut entries, end_lba, sector)
    });
    primary.backup_lba = lbas - 1;
    primary.last_usable_lba = last_usable_lba;
    let mut backup = primary.clone();
    backup.primary_lba = primary.backup_lba;
    backup.backup_lba = primary.primary_lba;
    backup.partition_entry_lba = last_usable_lba + 1;

    primary.write_into(&mut device, sector, &entries)?;
    let at = backup.partition_entry_lba * sector;
    let len = usize::try_from((entries_sectors + 1) * sector).unwrap_or(0);
    let mut place = Place {
        at,
        bytes: vec![0; len],
        position: 0,
    };
    backup.write_into(&mut place, sector, &entries)?;
    fit_protective_mbr(&mut fitted, lbas);

    let table = parse::parse(&fitted, sector).map_err(|bad| GptError::NoTable { why: bad.why })?;
    start.copy_from_slice(&fitted);
    Ok((
        Fitted {
            backup_moved: before.backup_lba != table.backup_lba,
            table,
            partition,
        },
        Backup {
            at,
            bytes: place.bytes,
        },
    ))
}

/// A part of the disk in memory, written to with the disk's own offsets.
struct Place {
    at: u64,
    bytes: Vec<u8>,
    position: usize,
}

impl Write for Place {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let mut into = self.bytes.get_mut(self.position..).unwrap_or_default();
        let len = into.write(from)?;
        self.position += len;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Place {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let inside = match to {
            SeekFrom::Start(offset) => offset.checked_sub(self.at),
            SeekFrom::Current(_) | SeekFrom::End(_) => None,
        };
        let inside = inside.and_then(|offset| usize::try_from(offset).ok());
        self.position = inside.ok_or_else(|| io::Error::other("outside of the backup table"))?;
        Ok(self.at + self.position as u64)
    }
}

/// The partition that grows, and where the one behind it begins.
fn chosen(table: &Table, grow: Grow) -> Result<Option<(Entry, Option<u64>)>, GptError> {
    let there = || table.entries.iter().map(|entry| entry.number).collect();
    let entry = match grow {
        Grow::Nothing => return Ok(None),
        Grow::Number(number) | Grow::UpToNext(number) => table
            .entries
            .iter()
            .find(|entry| entry.number == number)
            .ok_or_else(|| GptError::NoSuchPartition {
                number,
                there: there(),
            })?,
        Grow::LastLinux => table
            .entries
            .iter()
            .filter(|entry| entry.is_linux())
            .max_by_key(|entry| entry.first_lba)
            .ok_or_else(|| GptError::NoLinuxPartition { there: there() })?,
    };
    let behind = table
        .entries
        .iter()
        .filter(|other| other.first_lba > entry.first_lba)
        .min_by_key(|other| other.first_lba);
    match behind {
        Some(behind) if !matches!(grow, Grow::UpToNext(_)) => Err(GptError::NotLast {
            number: entry.number,
            behind: behind.number,
        }),
        behind => Ok(Some((*entry, behind.map(|behind| behind.first_lba)))),
    }
}

/// `end_lba` is the first sector that the partition cannot have.
fn grow_entry(entry: &Entry, entries: &mut [GPTPartitionEntry], end_lba: u64, sector: u64) -> Grown {
    let align = ALIGN_BYTES / sector;
    let aligned_end = end_lba / align * align;
    let last_lba = entry.last_lba.max(aligned_end.saturating_sub(1));
    if let Some(raw) = entries.get_mut(entry.number as usize - 1) {
        raw.ending_lba = last_lba;
    }
    Grown {
        number: entry.number,
        start_bytes: entry.first_lba * sector,
        size_bytes: (last_lba + 1 - entry.first_lba) * sector,
        added_bytes: (last_lba - entry.last_lba) * sector,
    }
}

/// Lets the protective entry cover the whole disk.
///
/// Source: UEFI 2.10 table 5.4: the size is capped at 0xffffffff.
fn fit_protective_mbr(start: &mut [u8], lbas: u64) {
    if !mbr::has_boot_signature(start) {
        return;
    }
    let covered = u32::try_from(lbas - 1).unwrap_or(u32::MAX).to_le_bytes();
    for entry in start
        .get_mut(mbr::ENTRIES)
        .unwrap_or_default()
        .chunks_exact_mut(16)
    {
        if entry[4] == mbr::PROTECTIVE && entry[8..12] == [1, 0, 0, 0] {
            entry[12..16].copy_from_slice(&covered);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::process::Command;

    use super::*;
    use crate::testing::{LoopDevice, gpt_image, output};

    const MIB: u64 = 1 << 20;

    fn start_of(image: &tempfile::NamedTempFile) -> Vec<u8> {
        let mut start = std::fs::read(image.path()).unwrap();
        start.truncate(MIB as usize);
        start
    }

    /// `sgdisk --verify` looks at block devices with their own sector size.
    fn verify(device: &LoopDevice) {
        let said = output(Command::new("sgdisk").arg("--verify").arg(device.path()));
        assert!(said.contains("No problems found"), "{said}");
    }

    #[test]
    fn a_table_from_a_smaller_disk_is_fitted_and_its_last_partition_grown() {
        let disk_bytes = 129 * MIB + 4096;
        for sector in [512, 4096] {
            let image = gpt_image(64 * MIB, sector);
            let mut start = start_of(&image);
            let (fitted, backup) = fit(&mut start, disk_bytes, sector, Grow::LastLinux).unwrap();
            assert!(fitted.backup_moved, "{sector}");
            assert_eq!(fitted.table.disk_bytes(), disk_bytes);
            assert_eq!(backup.at + backup.bytes.len() as u64, disk_bytes);
            let grown = fitted.partition.unwrap();
            assert_eq!((grown.number, grown.start_bytes), (3, 2 * MIB));
            assert_eq!(
                grown.start_bytes + grown.size_bytes,
                128 * MIB,
                "ends on a MiB, before the backup table"
            );
            assert!(grown.added_bytes > 60 * MIB);
            let covered = u32::try_from(disk_bytes / sector - 1).unwrap();
            assert_eq!(start[446 + 12..462], covered.to_le_bytes());

            image.as_file().set_len(disk_bytes).unwrap();
            let device = LoopDevice::over(image, u32::try_from(sector).unwrap(), &[]);
            let disk = File::options().write(true).open(device.path()).unwrap();
            disk.write_all_at(&start, 0).unwrap();
            disk.write_all_at(&backup.bytes, backup.at).unwrap();
            drop(disk);
            verify(&device);

            let before = start.clone();
            let (again, same) = fit(&mut start, disk_bytes, sector, Grow::Number(3)).unwrap();
            assert!(!again.backup_moved && again.partition.unwrap().added_bytes == 0);
            assert_eq!((start, same), (before, backup));
        }
    }

    #[test]
    fn only_the_last_partition_grows() {
        let before = start_of(&gpt_image(64 * MIB, 512));
        let mut start = before.clone();
        assert!(matches!(
            fit(&mut start, 64 * MIB, 512, Grow::Number(1)).unwrap_err(),
            GptError::NotLast { number: 1, behind: 3 }
        ));
        assert!(matches!(
            fit(&mut start, 64 * MIB, 512, Grow::Number(2)).unwrap_err(),
            GptError::NoSuchPartition { number: 2, .. }
        ));
        assert_eq!(start, before);
    }

    #[test]
    fn a_table_larger_than_its_disk_or_none_at_all_is_refused_untouched() {
        let before = start_of(&gpt_image(64 * MIB, 512));
        let mut start = before.clone();
        assert!(matches!(
            fit(&mut start, 50 * MIB, 512, Grow::Nothing).unwrap_err(),
            GptError::DoesNotFit { .. }
        ));
        assert_eq!(start, before);
        for len in [0, 100, 512, 4 << 20] {
            let err = fit(&mut vec![0; len], 64 * MIB, 512, Grow::Nothing).unwrap_err();
            assert!(matches!(err, GptError::NoTable { .. }), "{len}");
        }
    }

    #[test]
    fn a_forged_table_that_ends_where_numbers_end_is_refused_untouched() {
        let mut start = start_of(&gpt_image(16 * MIB, 512));
        let backup = (1_u64 << 55) - 2;
        // The last partition's end, then the header's two: backup table and last usable sector.
        for (at, lba) in [
            (1024 + 2 * 128 + 40, backup - 1),
            (512 + 32, backup),
            (512 + 48, backup - 1),
        ] {
            start[at..at + 8].copy_from_slice(&lba.to_le_bytes());
        }
        let entries = parse::crc32(&start[1024..1024 + 128 * 128]);
        start[512 + 88..512 + 92].copy_from_slice(&entries.to_le_bytes());
        start[512 + 16..512 + 20].fill(0);
        let header = parse::crc32(&start[512..512 + 92]);
        start[512 + 16..512 + 20].copy_from_slice(&header.to_le_bytes());
        let before = start.clone();
        assert!(parse::parse(&start, 512).is_ok());
        let err = fit(&mut start, 16 * MIB, 512, Grow::LastLinux).unwrap_err();
        assert!(matches!(err, GptError::DoesNotFit { .. }), "{err}");
        assert_eq!(start, before);
    }
}
