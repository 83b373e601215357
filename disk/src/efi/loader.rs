//! The partition that a boot entry names, as firmware finds it.

use std::path::{Path, PathBuf};

use partitions::Guid;

use super::device_path::HardDrive;
use crate::gpt::{self, Entry};
use crate::image::WriteError;
use crate::image::target::Target;
use crate::image::writer::{END_BYTES, Medium};
use crate::partition;
use crate::probe::{self, Include, System};

/// "EFI system partition". Source: UEFI specification 2.10, section 5.3.3.
const EFI_SYSTEM: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

/// A partition of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub disk: PathBuf,
    /// In /dev; `None`: the kernel shows no partitions of this disk.
    pub path: Option<PathBuf>,
    pub drive: HardDrive,
    /// Whether the table says that it is firmware's.
    pub is_efi: bool,
}

/// Why there is no such partition.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error(transparent)]
    Disk(#[from] WriteError),
    #[error(
        "{device} is partition {is} and not {asked}: leave PARTITION out, or name the disk; nothing was written"
    )]
    OtherNumber { device: PathBuf, is: u32, asked: u32 },
    #[error(
        "{disk} has no GUID partition table that is whole, and firmware finds a loader by one: partition the disk, or name another one; \
         nothing was written"
    )]
    NoTable { disk: PathBuf },
    #[error("{disk} has no partition {number}; nothing was written")]
    NoSuchPartition { disk: PathBuf, number: u32 },
    #[error("{disk} has {count} partitions of type efi: say which (PARTITION); nothing was written")]
    NotOne { disk: PathBuf, count: usize },
}

impl PlaceError {
    /// One word for what went wrong; stable, for programs to compare.
    pub fn reason(&self) -> &'static str {
        match self {
            PlaceError::Disk(error) => error.reason(),
            PlaceError::OtherNumber { .. } => "BadVariable",
            PlaceError::NoTable { .. } => "NoTable",
            PlaceError::NoSuchPartition { .. } | PlaceError::NotOne { .. } => "NoSuchPartition",
        }
    }
}

/// The partition that a device is, or that has this number on it; without one, the only one of type efi. Writes nothing. Blocks.
///
/// # Errors
/// See [`PlaceError`].
pub fn place(device: &Path, number: Option<u32>) -> Result<Place, PlaceError> {
    let disks = probe::list(&System::default(), Include::Everything).unwrap_or_default();
    let real = std::fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    let (disk, number) = match partition::is_partition(&real) {
        false => (real, number),
        true => {
            let of = disks.iter().find_map(|disk| {
                let one = disk.partitions.iter().find(|one| one.path == real)?;
                Some((disk.path.clone(), one.number))
            });
            let (disk, is) = of.unwrap_or((real, 0));
            match number {
                Some(asked) if asked != is => {
                    let device = device.to_owned();
                    return Err(PlaceError::OtherNumber { device, is, asked });
                }
                _ => (disk, Some(is)),
            }
        }
    };
    let target = Target::open_to_read(&disk)?;
    let head = partition::read(&target, 0, END_BYTES.min(target.size()))?;
    let table = gpt::parse(&head, target.sector_size().unwrap_or(512)).ok();
    let table = table.ok_or_else(|| PlaceError::NoTable { disk: disk.clone() })?;
    let entry = chosen(&disk, &table.entries, number)?;
    let shown = disks.iter().find(|one| one.path == disk);
    let shown = shown.and_then(|one| one.partitions.iter().find(|part| part.number == entry.number));
    Ok(Place {
        path: shown.map(|part| part.path.clone()),
        disk,
        drive: HardDrive {
            partition: entry.number,
            start: entry.first_lba,
            sectors: (entry.last_lba + 1).saturating_sub(entry.first_lba),
            guid: Guid(entry.unique_guid),
        },
        is_efi: is_efi(entry),
    })
}

fn chosen<'a>(disk: &Path, entries: &'a [Entry], number: Option<u32>) -> Result<&'a Entry, PlaceError> {
    let disk = || disk.to_owned();
    if let Some(number) = number {
        let found = entries.iter().find(|entry| entry.number == number);
        return found.ok_or_else(|| PlaceError::NoSuchPartition { disk: disk(), number });
    }
    let mut all = entries.iter().filter(|entry| is_efi(entry));
    match (all.next(), all.count()) {
        (Some(one), 0) => Ok(one),
        (first, more) => Err(PlaceError::NotOne {
            disk: disk(),
            count: more + usize::from(first.is_some()),
        }),
    }
}

fn is_efi(entry: &Entry) -> bool {
    Guid(entry.type_guid).to_string() == EFI_SYSTEM
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::testing::LoopDevice;

    #[test]
    fn a_partition_is_found_by_its_number_or_by_its_type() {
        for sector in [512, 4096] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.as_file_mut().set_len(64 << 20).unwrap();
            let device = LoopDevice::over(file, sector, &[]);
            let sgdisk = |arguments: &[&str]| {
                let ran = Command::new("sgdisk")
                    .args(arguments)
                    .arg(device.path())
                    .output()
                    .unwrap();
                assert!(ran.status.success(), "{ran:?}");
            };
            assert_eq!(place(device.path(), None).unwrap_err().reason(), "NoTable");
            sgdisk(&["--new=1:8M:+4M", "--new=2:16M:+8M", "--typecode=2:ef00"]);
            let guid = "0c6a3a52-6f0f-4a55-9d5b-2f0d6f0b0001";
            sgdisk(&[&format!("--partition-guid=2:{guid}")]);
            let found = place(device.path(), None).unwrap();
            assert!(found.is_efi);
            assert_eq!(
                (found.drive.partition, found.drive.guid),
                (2, guid.parse().unwrap())
            );
            let sector = u64::from(sector);
            assert_eq!(
                (found.drive.start * sector, found.drive.sectors * sector),
                (16 << 20, 8 << 20)
            );
            assert!(!place(device.path(), Some(1)).unwrap().is_efi);
            let error = place(device.path(), Some(3)).unwrap_err();
            assert!(error.to_string().contains("has no partition 3"), "{error}");
            sgdisk(&["--typecode=1:ef00"]);
            let error = place(device.path(), None).unwrap_err();
            assert!(error.to_string().contains("2 partitions of type efi"), "{error}");
        }
    }
}
