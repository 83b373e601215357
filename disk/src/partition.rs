//! Gives a disk the partition table that a template declares.
//!
//! A disk that has it already is not written to. Otherwise: the old table goes first, then every signature where something
//! would look for one, then the new table comes, in an order in which no firmware takes half of it ([`table`]). What
//! is in use, or does not fit, is refused before the first write. The kernel is told, and its view is checked.

mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use partitions::{Layout, Plan, PlanError, Problem, Scheme};
use table::Table;

use crate::ends::{Ends, Step};
use crate::image::WriteError;
use crate::image::target::{ALIGN, Target};
use crate::image::writer::{END_BYTES, Medium};
use crate::publish::{self, KernelView};
use crate::signatures::{self, Signature};
use crate::{ends, probe};

/// How long a device node may take after the kernel shows a partition.
const NODE_WITHIN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

/// What is to be done to which disk.
#[derive(Clone, Debug)]
pub struct PartitionRequest {
    /// A block device, or a regular file, whose size is then the size of the disk.
    pub disk: PathBuf,
    pub layout: Layout,
    /// GUIDs that are not declared are made of it: the same seed gives the same ones.
    pub seed: String,
    /// Whether a disk that has something on it is refused.
    pub only_empty: bool,
    /// Set before the first byte of the disk changes.
    pub touched: Arc<AtomicBool>,
}

/// The disk as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitioned {
    /// Whether anything was written: the disk had another table, or none.
    pub changed: bool,
    /// Of a GUID partition table its GUID, of an MBR the disk's signature as 8 hexadecimal digits.
    pub table_uuid: String,
    pub partitions: Vec<Made>,
    /// What was on the disk, and is gone.
    pub removed: Vec<Signature>,
    pub kernel: KernelView,
}

/// A partition that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub number: u32,
    pub name: Option<String>,
    /// In /dev; `None`: the kernel shows no partitions of this disk.
    pub path: Option<PathBuf>,
    pub start_bytes: u64,
    pub size_bytes: u64,
    /// PARTUUID.
    pub uuid: String,
}

/// Why a disk was not given its table.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    #[error(transparent)]
    Disk(#[from] WriteError),
    #[error("the partitions do not go onto {disk}: {source}; nothing was written")]
    DoesNotFit { disk: PathBuf, source: PlanError },
    #[error("{disk} is a partition: name the whole disk; nothing was written")]
    IsPartition { disk: PathBuf },
    #[error("no device node {node} appeared within {} s: the kernel shows the partition, and nothing makes nodes in /dev", NODE_WITHIN.as_secs())]
    NoNode { node: PathBuf },
    #[error(
        "{disk} is not empty: it has {there}; nothing was written. Leave ONLY_EMPTY out to have it overwritten, or choose \
         another disk"
    )]
    NotEmpty { disk: PathBuf, there: String },
}

impl PartitionError {
    /// One word for what went wrong; stable, for programs to compare.
    pub fn reason(&self) -> &'static str {
        match self {
            PartitionError::Disk(error) => error.reason(),
            PartitionError::DoesNotFit { .. } => "DiskTooSmall",
            PartitionError::IsPartition { .. } => "NotADisk",
            PartitionError::NoNode { .. } => "KernelRefused",
            PartitionError::NotEmpty { .. } => "DiskNotEmpty",
        }
    }
}

/// Makes the table of a disk the declared one. Blocks, for seconds at most.
///
/// # Errors
/// See [`PartitionError`]. Without `touched` the disk is as it was; with it, it has the old table, the new one or none,
/// and the same request again ends with the new one.
pub fn partition(request: &PartitionRequest) -> Result<Partitioned, PartitionError> {
    if is_partition(&request.disk) {
        let disk = request.disk.clone();
        return Err(PartitionError::IsPartition { disk });
    }
    let mut target = match Target::open(&request.disk) {
        Ok(target) => target,
        Err(busy @ WriteError::Busy { .. }) => return in_use(request)?.ok_or_else(|| busy.into()),
        Err(other) => return Err(other.into()),
    };
    let mut done = carry_out(&mut target, request)?;
    // Exclusive no longer: what looks at new partitions may do so.
    drop(target);
    if done.kernel == KernelView::Current {
        add_paths(&request.disk, &mut done)?;
    }
    Ok(done)
}

pub(crate) fn is_partition(path: &Path) -> bool {
    let device = std::fs::metadata(path).ok();
    let device = device.filter(|meta| meta.file_type().is_block_device());
    device.is_some_and(|meta| {
        let (major, minor) = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
        Path::new(&format!("/sys/dev/block/{major}:{minor}/partition")).exists()
    })
}

/// Of a disk that something uses: where it has this table, and the kernel shows it, nothing is to be written, and the use is no hindrance.
fn in_use(request: &PartitionRequest) -> Result<Option<Partitioned>, PartitionError> {
    let looked = look(&Target::open_to_read(&request.disk)?, request)?;
    let Some(table) = looked.already else {
        return Ok(None);
    };
    let mut done = done(&looked.plan, &table, KernelView::Current, None);
    add_paths(&request.disk, &mut done)?;
    let is_shown = done.partitions.iter().all(|one| one.path.is_some());
    Ok(is_shown.then_some(done))
}

/// What a disk is to have, and what it has.
struct Looked {
    plan: Plan,
    ends: Ends,
    head: Vec<u8>,
    already: Option<Table>,
}

fn look<M: Medium>(disk: &M, request: &PartitionRequest) -> Result<Looked, PartitionError> {
    let sector = disk.sector_size().unwrap_or(512);
    let plan = request
        .layout
        .plan(disk.size(), sector)
        .map_err(|source| PartitionError::DoesNotFit {
            disk: disk.path().to_owned(),
            source,
        })?;
    let ends = ends_of(disk.size(), sector);
    let head = read(disk, ends.head.start, ends.head.end - ends.head.start)?;
    let tail = read(disk, ends.tail.start, ends.tail.end - ends.tail.start)?;
    let already = Table::already(&plan, &head, (ends.tail.start, &tail), &request.seed);
    Ok(Looked {
        plan,
        ends,
        head,
        already,
    })
}

fn carry_out<M: Medium>(disk: &mut M, request: &PartitionRequest) -> Result<Partitioned, PartitionError> {
    let Looked {
        plan,
        ends,
        head,
        already,
    } = look(disk, request)?;
    if let Some(table) = already {
        let kernel = disk.publish()?;
        return Ok(done(&plan, &table, kernel, None));
    }
    let table = Table::new(&plan, &request.seed);
    let there = find_all(disk, &plan)?;
    if request.only_empty {
        only_empty(disk, &table, &there)?;
    }
    disk.claim_partitions()?;

    request.touched.store(true, Ordering::Relaxed);
    let first = head.get(..ends::FIRST_BYTES.min(head.len()));
    apply(disk, &ends.erase(first))?;
    disk.take_away_partitions()?;
    for one in &there {
        let len = usize::try_from(one.erase_until - one.erase_from).unwrap_or(0);
        disk.write_buffered(one.erase_from, &vec![0; len])?;
    }
    disk.sync()?;
    let steps = table.steps();
    apply(disk, &steps)?;
    for step in &steps {
        if let Step::Write { at, bytes } = step {
            reads_back(disk, *at, bytes)?;
        }
    }
    let kernel = disk.publish()?;
    Ok(done(&plan, &table, kernel, Some(there)))
}

pub(crate) fn ends_of(size: u64, sector: u64) -> Ends {
    let head = 0..END_BYTES.min(size);
    let start = size.saturating_sub(END_BYTES) / ALIGN as u64 * ALIGN as u64;
    Ends {
        tail: start.max(head.end)..size,
        head,
        sector_bytes: usize::try_from(sector).unwrap_or(ends::FIRST_BYTES),
    }
}

pub(crate) fn apply<M: Medium>(disk: &mut M, steps: &[Step]) -> Result<(), WriteError> {
    for step in steps {
        match step {
            Step::Write { at, bytes } => disk.write_buffered(*at, bytes)?,
            Step::Sync => disk.sync()?,
        }
    }
    Ok(())
}

/// Signatures of the disk as a whole, and of what will be its partitions, as offsets on the disk.
fn find_all<M: Medium>(disk: &M, plan: &Plan) -> Result<Vec<Signature>, WriteError> {
    let mut all = BTreeSet::new();
    let whole = (0, disk.size());
    let parts = plan
        .partitions
        .iter()
        .map(|one| (one.start_bytes, one.size_bytes));
    for (start, len) in std::iter::once(whole).chain(parts) {
        let found = signatures::find(len, |at, bytes| disk.read(start + at, bytes));
        let found = found.map_err(|source| cannot_read(disk, start, source))?;
        all.extend(found.into_iter().map(|one| Signature {
            at: start + one.at,
            kind: one.kind,
            erase_from: start + one.erase_from,
            erase_until: start + one.erase_until,
        }));
    }
    Ok(all.into_iter().collect())
}

/// What an earlier run of the same request has written is nothing that anybody would miss.
fn only_empty<M: Medium>(disk: &M, table: &Table, there: &[Signature]) -> Result<(), PartitionError> {
    let mut foreign = Vec::new();
    for one in there {
        let is_ours = match table.sector_at(one.at) {
            Some((at, bytes)) => read(disk, at, bytes.len() as u64)? == bytes,
            None => false,
        };
        if !is_ours {
            foreign.push(one);
        }
    }
    match foreign.is_empty() {
        true => Ok(()),
        false => Err(PartitionError::NotEmpty {
            disk: disk.path().to_owned(),
            there: listed(foreign),
        }),
    }
}

/// `ext4 at byte 1080, gpt at byte 512`
pub fn listed<'a>(signatures: impl IntoIterator<Item = &'a Signature>) -> String {
    const MOST: usize = 16;
    let mut words: Vec<String> = signatures
        .into_iter()
        .map(|one| format!("{} at byte {}", one.kind, one.at))
        .collect();
    if words.len() > MOST {
        let more = words.len() - MOST;
        words.truncate(MOST);
        words.push(format!("{more} more"));
    }
    words.join(", ")
}

pub(crate) fn read<M: Medium>(disk: &M, at: u64, len: u64) -> Result<Vec<u8>, WriteError> {
    let len = usize::try_from(len).unwrap_or(0);
    disk.read(at, len).map_err(|source| cannot_read(disk, at, source))
}

fn cannot_read<M: Medium>(disk: &M, at: u64, source: std::io::Error) -> WriteError {
    WriteError::Device {
        disk: disk.path().to_owned(),
        what: "reading",
        offset: at,
        source,
    }
}

pub(crate) fn reads_back<M: Medium>(disk: &M, at: u64, bytes: &[u8]) -> Result<(), WriteError> {
    if read(disk, at, bytes.len() as u64)? == bytes {
        return Ok(());
    }
    Err(WriteError::Device {
        disk: disk.path().to_owned(),
        what: "reading back what was written to",
        offset: at,
        source: std::io::Error::other("the disk holds something else"),
    })
}

fn done(plan: &Plan, table: &Table, kernel: KernelView, removed: Option<Vec<Signature>>) -> Partitioned {
    Partitioned {
        changed: removed.is_some(),
        table_uuid: table.uuid(),
        partitions: plan
            .partitions
            .iter()
            .map(|one| Made {
                number: one.number,
                name: one.name.clone(),
                path: None,
                start_bytes: one.start_bytes,
                size_bytes: one.size_bytes,
                uuid: table.partition_uuid(one.number),
            })
            .collect(),
        removed: removed.unwrap_or_default(),
        kernel,
    }
}

/// Where each partition is in /dev, once it is there.
fn add_paths(disk: &Path, done: &mut Partitioned) -> Result<(), PartitionError> {
    let failed = |source| {
        PartitionError::Disk(WriteError::Device {
            disk: disk.to_owned(),
            what: "looking for the partitions of",
            offset: 0,
            source,
        })
    };
    let file = File::open(disk).map_err(failed)?;
    let shown = probe::partitions_of(&publish::sysfs(&file).map_err(failed)?);
    let deadline = Instant::now() + NODE_WITHIN;
    for made in &mut done.partitions {
        // A kernel that has not taken the newest table shows another one.
        let is_it =
            |shown: &&probe::Partition| shown.number == made.number && shown.start_bytes == made.start_bytes;
        let Some(shown) = shown.iter().find(is_it) else {
            continue;
        };
        while !publish::is_node(&shown.path, shown.device) {
            if Instant::now() >= deadline {
                let node = shown.path.clone();
                return Err(PartitionError::NoNode { node });
            }
            std::thread::sleep(POLL);
        }
        made.path = Some(shown.path.clone());
    }
    Ok(())
}
