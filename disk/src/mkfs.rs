//! What is done on a disk or partition before and after a program makes a filesystem there.
//!
//! [`look`] refuses what cannot be, and finds what is there already; [`clear()`] takes away what was there before; then the
//! program runs, which is somebody else's to start; [`finish`] makes it count and reads it back.
//!
//! INVARIANT: [`complete`] says yes only to a filesystem whose program came to its end. ext2 to ext4, XFS, btrfs and swap say so
//! themselves: their programs write what they are recognised by last. mkfs.fat begins with it, and so makes a FAT with
//! another serial number, which [`finish`] puts right in one sector.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use partitions::{FieldProblem, Filesystem, FsId, FsType};
use sha2::{Digest, Sha256};

use crate::clear::{self, all, cannot_read};
use crate::filesystem::{self, Kind, START_BYTES};
use crate::image::WriteError;
use crate::image::target::Target;
use crate::image::writer::Medium;
use crate::partition::listed;
use crate::signatures::Signature;

/// `sb_inprogress`, which mkfs.xfs clears last. Source: fs/xfs/libxfs/xfs_format.h, `struct xfs_dsb`.
const XFS_IN_PROGRESS: usize = 126;
/// Of a boot sector. Source: Microsoft FAT specification, section 3.
const FAT_SECTOR_BYTES: usize = 11;
const FAT32_BACKUP: usize = 50;
const FAT32_TYPE: std::ops::Range<usize> = 82..90;
const FAT32_SERIAL: usize = 67;
const FAT_SERIAL: usize = 39;

/// What is to be made, and where.
#[derive(Clone, Debug)]
pub struct MkfsRequest {
    /// A disk, a partition, or a regular file.
    pub device: PathBuf,
    pub filesystem: Filesystem,
    /// A UUID that is not declared is made of it: the same seed gives the same one.
    pub seed: String,
    /// Whether a device that has something on it is refused.
    pub only_empty: bool,
    /// Set before the first byte of the device changes.
    pub touched: Arc<AtomicBool>,
}

/// A filesystem that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// As `blkid` writes it.
    pub uuid: String,
    pub label: Option<String>,
    pub size_bytes: u64,
}

/// Why a filesystem was not made.
#[derive(Debug, thiserror::Error)]
pub enum MkfsError {
    #[error(transparent)]
    Disk(#[from] WriteError),
    #[error(
        "{device} is not empty: it has {there}; nothing was written. Leave ONLY_EMPTY out to have it overwritten, or choose \
         another one"
    )]
    NotEmpty { device: PathBuf, there: String },
    #[error(
        "{program} ended well, and {device} has {there} now: this {program} does something else than is expected of it"
    )]
    NotMade {
        device: PathBuf,
        program: &'static str,
        there: String,
    },
    #[error("{device} has {have_bytes} B, and {fs_type} needs {need_bytes} B at least; nothing was written")]
    TooSmall {
        device: PathBuf,
        fs_type: &'static str,
        have_bytes: u64,
        need_bytes: u64,
    },
    #[error(
        "{device} has {have_bytes} B, and vfat reaches {most_bytes} B with its sectors; nothing was written. Choose another type"
    )]
    TooLarge {
        device: PathBuf,
        have_bytes: u64,
        most_bytes: u64,
    },
}

impl MkfsError {
    /// One word for what went wrong; stable, for programs to compare.
    pub fn reason(&self) -> &'static str {
        match self {
            MkfsError::Disk(error) => error.reason(),
            MkfsError::NotEmpty { .. } => "DiskNotEmpty",
            MkfsError::NotMade { .. } => "NotMade",
            MkfsError::TooSmall { .. } => "DiskTooSmall",
            MkfsError::TooLarge { .. } => "DiskTooLarge",
        }
    }
}

impl MkfsRequest {
    /// What the filesystem is known by in the end.
    pub fn id(&self) -> FsId {
        let made = || {
            let digest: [u8; 32] = Sha256::digest(self.seed.as_bytes()).into();
            let [bytes, _] = *digest.as_chunks::<16>().0 else {
                return [0; 16];
            };
            bytes
        };
        let of = self.filesystem.fs_type;
        self.filesystem.id.unwrap_or_else(|| FsId::of_digest(of, made()))
    }

    /// What its program is to give it: of a FAT another one, by which one that is half made is known.
    pub fn id_in_making(&self) -> FsId {
        match self.id() {
            FsId::Serial(number) => FsId::Serial(in_making(number)),
            guid => guid,
        }
    }
}

fn in_making(serial: u32) -> u32 {
    match serial ^ 0x5a5a_5a5a {
        0 => u32::MAX,
        other => other,
    }
}

/// Whether the filesystem is there already. Writes nothing. Blocks.
///
/// # Errors
/// See [`MkfsError`]: the device is none that it can be made on.
pub fn look(request: &MkfsRequest) -> Result<Option<Made>, MkfsError> {
    let target = Target::open(&request.device)?;
    look_at(&target, request)
}

fn look_at<M: Medium>(target: &M, request: &MkfsRequest) -> Result<Option<Made>, MkfsError> {
    fits(target, request)?;
    let start = start(target)?;
    if let Some(made) = complete(&start, &request.filesystem, request.id()) {
        return Ok(Some(made));
    }
    if request.only_empty {
        let ours = [request.id(), request.id_in_making()].map(|id| id.to_string());
        let found = filesystem::detect(&start);
        let is_ours = found.is_some_and(|found| found.uuid.is_some_and(|uuid| ours.contains(&uuid)));
        let there = all(target)?;
        if !is_ours && !there.is_empty() {
            let device = request.device.clone();
            let there = listed(&there);
            return Err(MkfsError::NotEmpty { device, there });
        }
    }
    Ok(None)
}

fn fits<M: Medium>(target: &M, request: &MkfsRequest) -> Result<(), MkfsError> {
    let (of, have_bytes) = (&request.filesystem, target.size());
    let device = request.device.clone();
    let need_bytes = of.fs_type.least_bytes();
    // With options its program knows better: a smaller journal, one copy of everything.
    if of.options.is_empty() && have_bytes < need_bytes {
        return Err(MkfsError::TooSmall {
            device,
            fs_type: of.fs_type.name(),
            have_bytes,
            need_bytes,
        });
    }
    // The sectors of a FAT are counted with 32 bits.
    let most_bytes = target.sector_size().unwrap_or(512) * u64::from(u32::MAX);
    if of.fs_type == FsType::Vfat && of.options.is_empty() && have_bytes > most_bytes {
        return Err(MkfsError::TooLarge {
            device,
            have_bytes,
            most_bytes,
        });
    }
    Ok(())
}

/// Takes away every signature that is there, of a whole disk its partitions with them. Blocks.
///
/// # Errors
/// See [`MkfsError`]. Without `touched` the device is as it was.
pub fn clear(request: &MkfsRequest) -> Result<Vec<Signature>, MkfsError> {
    let mut target = Target::open(&request.device)?;
    fits(&target, request)?;
    Ok(clear::clear_on(&mut target, &request.touched)?)
}

/// After the program has ended well: makes the filesystem count, on stable storage, and reads it back. Blocks.
///
/// # Errors
/// See [`MkfsError`]; the device has no filesystem that counts then.
pub fn finish(request: &MkfsRequest) -> Result<Made, MkfsError> {
    let mut target = Target::open(&request.device)?;
    target.sync()?;
    if let FsId::Serial(serial) = request.id() {
        set_serial(&mut target, serial)?;
    }
    let start = start(&target)?;
    complete(&start, &request.filesystem, request.id()).ok_or_else(|| {
        let there = filesystem::detect(&start).map(|found| {
            let uuid = found.uuid.unwrap_or_default();
            let label = found.label.unwrap_or_default();
            format!("{} with label {label:?} and uuid {uuid:?}", found.kind.name())
        });
        MkfsError::NotMade {
            device: request.device.clone(),
            program: request.filesystem.fs_type.program(),
            there: there.unwrap_or_else(|| "nothing that is known".to_owned()),
        }
    })
}

/// The backup first: while the boot sector has the other number, the filesystem does not count.
fn set_serial<M: Medium>(target: &mut M, serial: u32) -> Result<(), MkfsError> {
    let start = start(target)?;
    let at = match start.get(FAT32_TYPE) {
        Some(b"FAT32   ") => FAT32_SERIAL,
        _ => FAT_SERIAL,
    };
    let number = |at: usize| {
        let bytes = start.get(at..).and_then(|rest| rest.first_chunk::<2>());
        usize::from(bytes.map_or(0, |bytes| u16::from_le_bytes(*bytes)))
    };
    let backup = match at {
        FAT32_SERIAL => number(FAT32_BACKUP) * number(FAT_SECTOR_BYTES),
        _ => 0,
    };
    let before = in_making(serial).to_le_bytes();
    let places = [Some(backup).filter(|place| *place > 0), Some(0)];
    for place in places.into_iter().flatten() {
        let Some(sector) = start.get(place..place + 512) else {
            continue;
        };
        let mut sector = sector.to_vec();
        // What is no FAT that was made here stays as it is, and is refused when it is read back.
        if let Some(bytes) = sector.get_mut(at..at + 4).filter(|bytes| **bytes == before) {
            bytes.copy_from_slice(&serial.to_le_bytes());
            target.write_buffered(place as u64, &sector)?;
            target.sync()?;
        }
    }
    Ok(())
}

/// The filesystem, if it is the declared one and whole.
fn complete(start: &[u8], declared: &Filesystem, id: FsId) -> Option<Made> {
    let found = filesystem::detect(start)?;
    let is_ext = |kind| matches!(kind, Kind::Ext2 | Kind::Ext3 | Kind::Ext4);
    let wanted = match declared.fs_type {
        FsType::Btrfs => Kind::Btrfs,
        FsType::Ext2 => Kind::Ext2,
        FsType::Ext3 => Kind::Ext3,
        FsType::Ext4 => Kind::Ext4,
        FsType::Swap => Kind::Swap,
        FsType::Vfat => Kind::Vfat,
        FsType::Xfs => Kind::Xfs,
    };
    // Which of the three it is, its features say, and options may choose those.
    let is_kind =
        found.kind == wanted || !declared.options.is_empty() && is_ext(wanted) && is_ext(found.kind);
    let is_id = found.uuid.as_ref() == Some(&id.to_string());
    let is_label = declared.label.is_none() || declared.label == found.label;
    let is_whole = found.kind != Kind::Xfs || start.get(XFS_IN_PROGRESS) == Some(&0);
    (is_kind && is_id && is_label && is_whole).then(|| Made {
        uuid: id.to_string(),
        label: found.label,
        size_bytes: found.size_bytes,
    })
}

fn start<M: Medium>(target: &M) -> Result<Vec<u8>, WriteError> {
    let len = usize::try_from(target.size())
        .unwrap_or(usize::MAX)
        .min(START_BYTES);
    target.read(0, len).map_err(|source| cannot_read(target, source))
}
