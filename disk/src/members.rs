//! Disks and partitions that become members of one thing: of an array, of a volume group.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::clear;
use crate::image::WriteError;
use crate::image::target::Target;
use crate::image::writer::Medium;
use crate::partition::listed;
use crate::probe::{self, System};

/// Why a device becomes no member. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    #[error(transparent)]
    Disk(#[from] WriteError),
    #[error(
        "{device} is not empty: it has {there}; nothing was written. Leave ONLY_EMPTY out to have it overwritten, or choose \
         another one"
    )]
    NotEmpty { device: PathBuf, there: String },
    #[error("{device} has {have_bytes} B, and a member needs {least_bytes} B at least; nothing was written")]
    TooSmall {
        device: PathBuf,
        have_bytes: u64,
        least_bytes: u64,
    },
    #[error(
        "{one} and {other} are one disk, or one is a partition of the other: each member is a device of its own; nothing was written"
    )]
    SameDisk { one: PathBuf, other: PathBuf },
}

impl MemberError {
    /// One word for what went wrong; stable, for programs to compare.
    pub fn reason(&self) -> &'static str {
        match self {
            MemberError::Disk(error) => error.reason(),
            MemberError::NotEmpty { .. } => "DiskNotEmpty",
            MemberError::SameDisk { .. } => "SameDisk",
            MemberError::TooSmall { .. } => "DiskTooSmall",
        }
    }
}

/// Refuses members that cannot be overwritten. `is_ours` says of each whether what is on it is this very thing, half made: with
/// `only_empty` that may be overwritten, and nothing else. Gives the bytes of each. Writes nothing. Blocks.
///
/// # Errors
/// See [`MemberError`].
pub fn may_be_overwritten(
    members: &[PathBuf],
    is_ours: &[bool],
    only_empty: bool,
    least_bytes: u64,
) -> Result<Vec<u64>, MemberError> {
    // All are held at once: one that is named twice, or is a partition of another one, is found by that.
    let mut held: Vec<Target> = Vec::new();
    for (number, device) in members.iter().enumerate() {
        let same = |other: &&PathBuf| is_same_disk(device, other);
        if let Some(other) = members.iter().take(number).find(same) {
            let (one, other) = (other.clone(), device.clone());
            return Err(MemberError::SameDisk { one, other });
        }
        let target = Target::open(device)?;
        let have_bytes = target.size();
        if have_bytes < least_bytes {
            return Err(MemberError::TooSmall {
                device: device.clone(),
                have_bytes,
                least_bytes,
            });
        }
        let is_ours = is_ours.get(number).copied().unwrap_or_default();
        let signatures = clear::all(&target)?;
        if only_empty && !is_ours && !signatures.is_empty() {
            let device = device.clone();
            let there = listed(&signatures);
            return Err(MemberError::NotEmpty { device, there });
        }
        held.push(target);
    }
    Ok(held.iter().map(Medium::size).collect())
}

/// The same device, by whatever name.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let number = |path: &Path| {
        fs::metadata(path)
            .map(|meta| (meta.dev(), meta.rdev(), meta.ino()))
            .ok()
    };
    match (number(one), number(other)) {
        (Some((_, a, _)), Some((_, b, _))) if a != 0 => a == b,
        (Some(a), Some(b)) => a == b,
        _ => one == other,
    }
}

/// The same device, or a disk and a partition of it.
fn is_same_disk(one: &Path, other: &Path) -> bool {
    let disks = probe::list(&System::default(), probe::Include::Everything).unwrap_or_default();
    let is_part = |whole: &Path, part: &Path| {
        let disk = disks.iter().find(|disk| is_same(&disk.path, whole));
        disk.is_some_and(|disk| disk.partitions.iter().any(|one| is_same(&one.path, part)))
    };
    is_same(one, other) || is_part(one, other) || is_part(other, one)
}
