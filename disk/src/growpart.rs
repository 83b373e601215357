//! Grows a partition up to the end of its disk or to the partition behind it, and the filesystem in it.
//!
//! The backup of the table comes first, at the end of the disk, then the primary one, each on stable storage before the next: when the
//! power goes in between, one of the two is whole, and the next run makes the other one of it. A disk that is as it should be is not
//! written to, and a filesystem that fills its partition is not mounted.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use partitions::{FieldProblem, partition_number};

use crate::filesystem::{FilesystemError, Resized};
use crate::gpt::{self, Backup, Fitted, GptError, Grow};
use crate::grow::{self, GrowError};
use crate::image::WriteError;
use crate::image::target::Target;
use crate::image::writer::Medium;
use crate::partition;
use crate::probe::{self, Include, System};
use crate::publish::KernelView;

/// Which partition is to grow.
#[derive(Clone, Debug)]
pub struct GrowpartRequest {
    /// The partition, or its disk, or a regular file with a table.
    pub device: PathBuf,
    /// Of the partition, where a disk is named; `None`: the last Linux filesystem on it.
    pub number: Option<u32>,
    /// Whether the filesystem stays as it is.
    pub partition_only: bool,
    /// Set before the first byte of the disk changes.
    pub touched: Arc<AtomicBool>,
}

/// The partition as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grown {
    pub disk: PathBuf,
    /// In /dev; `None`: the kernel shows no partitions of this disk.
    pub path: Option<PathBuf>,
    pub number: u32,
    pub size_bytes: u64,
    /// What it has more than before.
    pub added_bytes: u64,
    /// Whether anything was written: partition, backup of the table, or filesystem.
    pub changed: bool,
    pub filesystem: Filesystem,
}

/// What was done to the filesystem in the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// It fills the partition, as far as its kind allows.
    Filling(Resized),
    /// It was not asked for, or nothing is there that could be grown: in words.
    Left(String),
}

/// Why a partition was not grown.
#[derive(Debug, thiserror::Error)]
pub enum GrowpartError {
    #[error(transparent)]
    Disk(#[from] WriteError),
    #[error("the partition is grown, its filesystem is not: {0}")]
    Filesystem(#[from] GrowError),
    #[error("{disk}: {source}; nothing was written")]
    Table { disk: PathBuf, source: GptError },
    #[error(
        "{device} is partition {is} and not {asked}: leave PARTITION out, or name the disk; nothing was written"
    )]
    OtherNumber { device: PathBuf, is: u32, asked: u32 },
}

impl GrowpartError {
    /// One word for what went wrong; stable, for programs to compare.
    pub fn reason(&self) -> &'static str {
        match self {
            GrowpartError::Disk(error) => error.reason(),
            GrowpartError::Filesystem(_) => "FilesystemNotGrown",
            GrowpartError::OtherNumber { .. } => "BadVariable",
            GrowpartError::Table { source, .. } => match source {
                GptError::NoTable { .. } | GptError::Table(_) => "NoTable",
                GptError::DoesNotFit { .. } => "DiskTooSmall",
                GptError::NoSuchPartition { .. } | GptError::NoLinuxPartition { .. } => "NoSuchPartition",
                GptError::NotLast { .. } => "CannotGrow",
            },
        }
    }
}

/// Grows the partition, then its filesystem. Blocks, for seconds.
///
/// # Errors
/// See [`GrowpartError`]. Without `touched` the disk is as it was; with it, the same request again ends what this one began.
pub fn growpart(request: &GrowpartRequest) -> Result<Grown, GrowpartError> {
    let (disk, number) = place(&request.device, request.number)?;
    let mut target = Target::open(&disk)?;
    let (mut grown, kernel) = carry_out(&mut target, number, &request.touched)?;
    // Exclusive no longer: the partition is to be mounted.
    drop(target);
    if kernel == KernelView::Never {
        grown.filesystem = Filesystem::Left("the kernel shows no partitions of this disk".to_owned());
        return Ok(grown);
    }
    let shown = disks().into_iter().find(|one| one.path == disk);
    let partitions = shown.map(|disk| disk.partitions).unwrap_or_default();
    let partition = partitions.into_iter().find(|one| one.number == grown.number);
    grown.path = partition.map(|one| one.path);
    if request.partition_only {
        return Ok(grown);
    }
    request.touched.store(true, Ordering::Relaxed);
    match grow::grow_filesystem(&disk, grown.number) {
        Ok(resized) => {
            grown.changed |= resized.before_bytes != resized.after_bytes;
            grown.filesystem = Filesystem::Filling(resized);
        }
        Err(GrowError::Filesystem(
            left @ (FilesystemError::CannotGrow { .. } | FilesystemError::Unknown { .. }),
        )) => grown.filesystem = Filesystem::Left(left.to_string()),
        Err(error) => return Err(error.into()),
    }
    Ok(grown)
}

fn disks() -> Vec<probe::Disk> {
    probe::list(&System::default(), Include::Everything).unwrap_or_default()
}

/// The disk, and the number of the partition on it, as far as it is said.
fn place(device: &Path, number: Option<u32>) -> Result<(PathBuf, Option<u32>), GrowpartError> {
    if !partition::is_partition(device) {
        return Ok((device.to_owned(), number));
    }
    let real = std::fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    let of = disks().into_iter().find_map(|disk| {
        let one = disk.partitions.iter().find(|one| one.path == real)?;
        Some((disk.path.clone(), one.number))
    });
    let Some((disk, is)) = of else {
        return Ok((device.to_owned(), number));
    };
    match number {
        Some(asked) if asked != is => Err(GrowpartError::OtherNumber {
            device: device.to_owned(),
            is,
            asked,
        }),
        _ => Ok((disk, Some(is))),
    }
}

fn carry_out<M: Medium>(
    disk: &mut M,
    number: Option<u32>,
    touched: &AtomicBool,
) -> Result<(Grown, KernelView), GrowpartError> {
    let sectors: &[u64] = match disk.sector_size() {
        Some(512) | None => &[512, 4096],
        Some(_) => &[4096],
    };
    let ends = partition::ends_of(disk.size(), 512);
    let head = partition::read(disk, ends.head.start, ends.head.end - ends.head.start)?;
    let tail = partition::read(disk, ends.tail.start, ends.tail.end - ends.tail.start)?;
    let plan = plan(disk.size(), &head, (&tail, ends.tail.start), sectors, number);
    let plan = plan.map_err(|source| GrowpartError::Table {
        disk: disk.path().to_owned(),
        source,
    })?;
    if plan.changes {
        disk.claim_partitions()?;
        touched.store(true, Ordering::Relaxed);
        let (at, bytes) = (plan.backup.at, &plan.backup.bytes);
        disk.write_buffered(at, bytes)?;
        disk.sync()?;
        partition::reads_back(disk, at, bytes)?;
        disk.write_buffered(0, &plan.head)?;
        disk.sync()?;
        partition::reads_back(disk, 0, &plan.head)?;
    }
    let kernel = disk.publish()?;
    let partition = plan.fitted.partition;
    let grown = Grown {
        disk: disk.path().to_owned(),
        path: None,
        number: partition.map_or(0, |one| one.number),
        size_bytes: partition.map_or(0, |one| one.size_bytes),
        added_bytes: partition.map_or(0, |one| one.added_bytes),
        changed: plan.changes,
        filesystem: Filesystem::Left("only the partition was asked for".to_owned()),
    };
    Ok((grown, kernel))
}

/// What is to be written.
struct Plan {
    fitted: Fitted,
    head: Vec<u8>,
    backup: Backup,
    changes: bool,
}

/// Pure. `tail` are the last bytes of the disk, and where they begin.
fn plan(
    disk_bytes: u64,
    head: &[u8],
    tail: (&[u8], u64),
    sectors: &[u64],
    number: Option<u32>,
) -> Result<Plan, GptError> {
    let mut last = GptError::NoTable {
        why: "it has no sectors of 512 or 4096 bytes",
    };
    for sector in sectors {
        // Whatever is wrong with the primary one: a whole backup at the very end says that there was one.
        let mut start = head.to_vec();
        let table = match gpt::parse(head, *sector) {
            Ok(table) => table,
            Err(bad) => match gpt::restore(&mut start, tail.0, tail.1, *sector) {
                Some(table) => table,
                None => {
                    last = GptError::NoTable { why: bad.why };
                    continue;
                }
            },
        };
        let grow = match number {
            Some(number) => Grow::UpToNext(number),
            None => Grow::UpToNext(last_linux(&table)?),
        };
        let (fitted, backup) = gpt::fit(&mut start, disk_bytes, *sector, grow)?;
        // What lies behind the table is of nobody's business here: boot code, a partition.
        let len = usize::try_from(fitted.table.first_usable_lba.saturating_mul(*sector));
        start.truncate(len.unwrap_or(usize::MAX));
        let at = backup.at.checked_sub(tail.1);
        let at = at.and_then(|at| usize::try_from(at).ok());
        let has_backup =
            at.and_then(|at| tail.0.get(at..)?.get(..backup.bytes.len())) == Some(backup.bytes.as_slice());
        return Ok(Plan {
            changes: !head.starts_with(&start) || !has_backup,
            fitted,
            head: start,
            backup,
        });
    }
    Err(last)
}

fn last_linux(table: &gpt::Table) -> Result<u32, GptError> {
    let linux = table.entries.iter().filter(|entry| entry.is_linux());
    let last = linux.max_by_key(|entry| entry.first_lba);
    last.map(|entry| entry.number)
        .ok_or_else(|| GptError::NoLinuxPartition {
            there: table.entries.iter().map(|entry| entry.number).collect(),
        })
}
