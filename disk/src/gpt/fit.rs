//! Fits a partition table to the disk it now lies on.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};

use gptman::{GPTHeader, GPTPartitionEntry};

use super::parse::{self, Entry, Table};
use crate::device;

/// Which partition grows up to the end of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grow {
    /// The last Linux filesystem on the disk.
    LastLinux,
    Nothing,
    Number(u32),
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

/// A partition that reaches the end of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grown {
    pub number: u32,
    pub start_bytes: u64,
    pub size_bytes: u64,
    /// 0: it had that size before.
    pub added_bytes: u64,
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
    #[error("the table that was written reads back differently: {what}")]
    ReadBack { what: &'static str },
    #[error("partition table: {what} failed: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error("partition table: {0}")]
    Table(#[from] gptman::Error),
}

/// What precedes the first partition, with a margin.
const START_BYTES: u64 = 1 << 20;
/// Where partitions end, so that tools and encryption do not complain.
const ALIGN_BYTES: u64 = 1 << 20;
const MBR_ENTRIES: std::ops::Range<usize> = 446..510;
const PROTECTIVE: u8 = 0xee;

/// Moves the backup table to the disk's end, grows a partition, and reads both tables back.
///
/// `disk` is a block device or an image file, open for reading and writing. The backup is written and synced before
/// the primary, so a power cut in between leaves a table that is valid. The kernel is told nothing: see
/// [`crate::grow::publish`].
///
/// # Errors
/// With [`GptError::NoTable`], [`GptError::DoesNotFit`] and the three about partitions nothing was written.
pub fn fit(disk: &File, grow: Grow) -> Result<Fitted, GptError> {
    let size = size_bytes(disk)?;
    let before = read_table(disk, size)?;
    let sector = before.sector_size;
    let lbas = size / sector;

    let entries_sectors = (u64::from(before.entry_count) * 128).div_ceil(sector);
    let need_bytes = before
        .partitions_end_bytes()
        .saturating_add((entries_sectors + 1) * sector);
    let last_usable_lba = lbas.saturating_sub(entries_sectors + 2);
    if need_bytes > lbas * sector || last_usable_lba <= before.first_usable_lba {
        return Err(GptError::DoesNotFit {
            need_bytes,
            have_bytes: size,
        });
    }

    let mut device = disk;
    io::Seek::seek(&mut device, io::SeekFrom::Start(sector)).map_err(io_error("seeking"))?;
    let mut primary = GPTHeader::read_from(&mut device)?;
    // `parse` has checked what gptman takes on trust: entry size, number of entries, checksums.
    let mut entries = primary.read_partitions(&mut device, sector)?;

    let partition =
        chosen(&before, grow)?.map(|entry| grow_entry(&entry, &mut entries, last_usable_lba, sector));
    primary.backup_lba = lbas - 1;
    primary.last_usable_lba = last_usable_lba;
    let mut backup = primary.clone();
    backup.primary_lba = primary.backup_lba;
    backup.backup_lba = primary.primary_lba;
    backup.partition_entry_lba = last_usable_lba + 1;

    backup.write_into(&mut device, sector, &entries)?;
    disk.sync_all().map_err(io_error("syncing"))?;
    primary.write_into(&mut device, sector, &entries)?;
    fit_protective_mbr(disk, lbas)?;
    disk.sync_all().map_err(io_error("syncing"))?;

    let table = read_back(disk, size, &backup)?;
    Ok(Fitted {
        backup_moved: before.backup_lba != table.backup_lba,
        table,
        partition,
    })
}

/// Reads the primary table of a disk.
///
/// # Errors
/// [`GptError::NoTable`] or [`GptError::Io`].
pub fn read_table(disk: &File, size: u64) -> Result<Table, GptError> {
    let mut start = vec![0; usize::try_from(START_BYTES.min(size)).unwrap_or(0)];
    disk.read_exact_at(&mut start, 0).map_err(io_error("reading"))?;
    let meta = disk.metadata().map_err(io_error("stat"))?;
    if meta.file_type().is_block_device() {
        let sector = device::sector_size(disk).map_err(io_error("asking for the sector size"))?;
        return parse::parse(&start, sector).map_err(|why| GptError::NoTable { why });
    }
    parse::parse(&start, 512)
        .or_else(|why| parse::parse(&start, 4096).map_err(|_| why))
        .map_err(|why| GptError::NoTable { why })
}

/// The size of a block device or a regular file.
fn size_bytes(disk: &File) -> Result<u64, GptError> {
    let meta = disk.metadata().map_err(io_error("stat"))?;
    if meta.file_type().is_block_device() {
        device::size_bytes(disk).map_err(io_error("asking for the size"))
    } else {
        Ok(meta.len())
    }
}

fn chosen(table: &Table, grow: Grow) -> Result<Option<Entry>, GptError> {
    let there = || table.entries.iter().map(|entry| entry.number).collect();
    let entry = match grow {
        Grow::Nothing => return Ok(None),
        Grow::Number(number) => table
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
    match table
        .entries
        .iter()
        .find(|other| other.first_lba > entry.first_lba)
    {
        Some(behind) => Err(GptError::NotLast {
            number: entry.number,
            behind: behind.number,
        }),
        None => Ok(Some(*entry)),
    }
}

fn grow_entry(entry: &Entry, entries: &mut [GPTPartitionEntry], last_usable_lba: u64, sector: u64) -> Grown {
    let align = ALIGN_BYTES / sector;
    let aligned_end = (last_usable_lba + 1) / align * align;
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

/// Lets the protective entry cover the whole disk; keeps boot code, boot flags and entries of hybrid MBRs.
///
/// Source: UEFI 2.10 table 5.4: the size is capped at 0xffffffff.
fn fit_protective_mbr(disk: &File, lbas: u64) -> Result<(), GptError> {
    let mut sector = [0; 512];
    disk.read_exact_at(&mut sector, 0)
        .map_err(io_error("reading the protective MBR"))?;
    if sector[510..] != [0x55, 0xaa] {
        return Ok(());
    }
    let covered = u32::try_from(lbas - 1).unwrap_or(u32::MAX).to_le_bytes();
    for entry in sector[MBR_ENTRIES].chunks_exact_mut(16) {
        if entry[4] == PROTECTIVE && entry[8..12] == [1, 0, 0, 0] {
            entry[12..16].copy_from_slice(&covered);
        }
    }
    disk.write_all_at(&sector, 0)
        .map_err(io_error("writing the protective MBR"))
}

fn read_back(disk: &File, size: u64, backup: &GPTHeader) -> Result<Table, GptError> {
    // What is clean leaves the page cache, so that the disk itself answers.
    let _ = nix::fcntl::posix_fadvise(disk, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    let table = read_table(disk, size).map_err(|err| match err {
        GptError::NoTable { why } => GptError::ReadBack { what: why },
        err => err,
    })?;
    if table.backup_lba != backup.primary_lba || table.last_usable_lba != backup.last_usable_lba {
        return Err(GptError::ReadBack {
            what: "the primary header is not the one that was written",
        });
    }
    let mut device = disk;
    io::Seek::seek(
        &mut device,
        io::SeekFrom::Start(table.backup_lba * table.sector_size),
    )
    .map_err(io_error("seeking"))?;
    if GPTHeader::read_from(&mut device)? != *backup {
        return Err(GptError::ReadBack {
            what: "the backup header is not the one that was written",
        });
    }
    let mut entries = [
        vec![0; table.entry_count as usize * 128],
        vec![0; table.entry_count as usize * 128],
    ];
    for (entries, lba) in entries
        .iter_mut()
        .zip([table.entries_lba, backup.partition_entry_lba])
    {
        disk.read_exact_at(entries, lba * table.sector_size)
            .map_err(io_error("reading back"))?;
    }
    if entries[0] != entries[1] {
        return Err(GptError::ReadBack {
            what: "the backup's entries differ from the primary's",
        });
    }
    Ok(table)
}

fn io_error(what: &'static str) -> impl Fn(io::Error) -> GptError {
    move |source| GptError::Io { what, source }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::testing::{LoopDevice, gpt_image, output};

    const MIB: u64 = 1 << 20;

    /// `sgdisk --verify` looks at block devices with their own sector size.
    fn verify(device: &LoopDevice) {
        let said = output(Command::new("sgdisk").arg("--verify").arg(device.path()));
        assert!(said.contains("No problems found"), "{said}");
    }

    #[test]
    fn a_table_from_a_smaller_disk_is_fitted_and_its_last_partition_grown() {
        for sector in [512, 4096] {
            let image = gpt_image(64 * MIB, sector);
            image.as_file().set_len(129 * MIB + 4096).unwrap();
            let device = LoopDevice::over(image, u32::try_from(sector).unwrap(), &[]);
            let disk = File::options()
                .read(true)
                .write(true)
                .open(device.path())
                .unwrap();
            let fitted = fit(&disk, Grow::LastLinux).unwrap();
            assert!(fitted.backup_moved, "{sector}");
            assert_eq!(fitted.table.disk_bytes(), 129 * MIB + 4096);
            let grown = fitted.partition.unwrap();
            assert_eq!((grown.number, grown.start_bytes), (3, 2 * MIB));
            assert_eq!(
                grown.start_bytes + grown.size_bytes,
                128 * MIB,
                "ends on a MiB, before the backup table"
            );
            assert!(grown.added_bytes > 60 * MIB);
            verify(&device);
            let mbr = &device.content()[446..462];
            let covered = u32::try_from((129 * MIB + 4096) / sector - 1).unwrap();
            assert_eq!(mbr[12..16], covered.to_le_bytes());

            let again = fit(&disk, Grow::Number(3)).unwrap();
            assert!(!again.backup_moved && again.partition.unwrap().added_bytes == 0);
            verify(&device);
        }
    }

    #[test]
    fn only_the_last_partition_grows() {
        let image = gpt_image(64 * MIB, 512);
        let before = std::fs::read(image.path()).unwrap();
        assert!(matches!(
            fit(image.as_file(), Grow::Number(1)).unwrap_err(),
            GptError::NotLast { number: 1, behind: 3 }
        ));
        assert!(matches!(
            fit(image.as_file(), Grow::Number(2)).unwrap_err(),
            GptError::NoSuchPartition { number: 2, .. }
        ));
        assert_eq!(std::fs::read(image.path()).unwrap(), before);
    }

    #[test]
    fn a_table_larger_than_its_disk_or_none_at_all_is_refused_untouched() {
        let image = gpt_image(64 * MIB, 512);
        image.as_file().set_len(50 * MIB).unwrap();
        let before = std::fs::read(image.path()).unwrap();
        assert!(matches!(
            fit(image.as_file(), Grow::Nothing).unwrap_err(),
            GptError::DoesNotFit { .. }
        ));
        assert_eq!(std::fs::read(image.path()).unwrap(), before);
        for len in [0, 100, 512, 4 * MIB] {
            let empty = tempfile::tempfile().unwrap();
            empty.set_len(len).unwrap();
            assert!(
                matches!(fit(&empty, Grow::Nothing).unwrap_err(), GptError::NoTable { .. }),
                "{len}"
            );
        }
    }

    #[test]
    fn a_forged_table_that_ends_where_numbers_end_is_refused_untouched() {
        let image = gpt_image(16 * MIB, 512);
        let mut start = std::fs::read(image.path()).unwrap()[..MIB as usize].to_vec();
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
        image.as_file().write_all_at(&start, 0).unwrap();
        let before = std::fs::read(image.path()).unwrap();
        assert!(parse::parse(&start, 512).is_ok());
        let err = fit(image.as_file(), Grow::LastLinux).unwrap_err();
        assert!(matches!(err, GptError::DoesNotFit { .. }), "{err}");
        assert_eq!(std::fs::read(image.path()).unwrap(), before);
    }
}
