//! Puts what an installed system reads at its first boot onto a partition of its own, as an ISO 9660.
//!
//! INVARIANT: one that was half written is none: the volume descriptors go first and come last. The same files make the same bytes, so that
//! a second run knows its own work and writes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use partitions::{Datasource, Form, MAX_SEED_TEXT_BYTES, Seed, SeedFields};

use crate::clear;
use crate::image::WriteError;
use crate::image::target::Target;
use crate::image::writer::Medium;
use crate::iso9660;
use crate::partition::{is_partition, listed, read, reads_back};
use crate::signatures::Signature;

/// What is to be written, and where.
#[derive(Clone, Debug)]
pub struct SeedRequest {
    /// A partition, a disk without a partition table, or a regular file.
    pub device: PathBuf,
    pub label: &'static str,
    /// Paths without a leading slash, and contents.
    pub files: Vec<(&'static str, String)>,
    /// Whether a device that has something on it is refused.
    pub only_empty: bool,
    /// Set before the first byte of the device changes.
    pub touched: Arc<AtomicBool>,
}

/// The device as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeded {
    /// Whether anything was written.
    pub changed: bool,
    pub size_bytes: u64,
    /// What was on the device, and is gone.
    pub removed: Vec<Signature>,
}

/// Why a seed was not written.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    #[error(transparent)]
    Disk(#[from] WriteError),
    #[error(
        "{device} has a partition table ({there}), which would be lost: name one of its partitions; nothing was written"
    )]
    IsWholeDisk { device: PathBuf, there: String },
    #[error(
        "{device} has sectors of {sector_bytes} B, and Linux mounts no ISO 9660 there, whose blocks have {} B: leave FORM out for files in the \
         installed system; nothing was written",
        iso9660::SECTOR_BYTES
    )]
    LargeSectors { device: PathBuf, sector_bytes: u64 },
    #[error(
        "{device} is not empty: it has {there}; nothing was written. Leave ONLY_EMPTY out to have it overwritten, or choose \
         another one"
    )]
    NotEmpty { device: PathBuf, there: String },
    #[error("{device} has {have_bytes} B, and the seed needs {need_bytes} B; nothing was written")]
    TooSmall {
        device: PathBuf,
        have_bytes: u64,
        need_bytes: u64,
    },
}

impl SeedError {
    /// One word for what went wrong; stable, for programs to compare.
    pub fn reason(&self) -> &'static str {
        match self {
            SeedError::Disk(error) => error.reason(),
            SeedError::IsWholeDisk { .. } => "NotADisk",
            SeedError::LargeSectors { .. } => "LargeSectors",
            SeedError::NotEmpty { .. } => "DiskNotEmpty",
            SeedError::TooSmall { .. } => "DiskTooSmall",
        }
    }
}

/// Writes the seed, unless it is there. Blocks.
///
/// # Errors
/// See [`SeedError`]. Without `touched` the device is as it was; with it, it has no seed that counts.
pub fn seed(request: &SeedRequest) -> Result<Seeded, SeedError> {
    let files: Vec<(&str, &[u8])> = request
        .files
        .iter()
        .map(|(path, content)| (*path, content.as_bytes()))
        .collect();
    let volume = iso9660::volume(request.label, &files);
    let size_bytes = volume.len() as u64;
    let mut target = Target::open(&request.device)?;
    let device = || request.device.clone();
    if let Some(sector_bytes) = target
        .sector_size()
        .filter(|size| *size > iso9660::SECTOR_BYTES as u64)
    {
        let device = device();
        return Err(SeedError::LargeSectors { device, sector_bytes });
    }
    if target.size() < size_bytes {
        return Err(SeedError::TooSmall {
            device: device(),
            have_bytes: target.size(),
            need_bytes: size_bytes,
        });
    }
    if read(&target, 0, size_bytes)? == volume {
        return Ok(Seeded {
            changed: false,
            size_bytes,
            removed: Vec::new(),
        });
    }
    let there = clear::all(&target)?;
    if has_table(&there) && !is_partition(&request.device) {
        return Err(SeedError::IsWholeDisk {
            device: device(),
            there: listed(&there),
        });
    }
    if request.only_empty && !there.is_empty() {
        return Err(SeedError::NotEmpty {
            device: device(),
            there: listed(&there),
        });
    }
    let removed = clear::clear_on(&mut target, &request.touched)?;
    request.touched.store(true, Ordering::Relaxed);
    write(&mut target, &volume)?;
    reads_back(&target, 0, &volume)?;
    Ok(Seeded {
        changed: true,
        size_bytes,
        removed,
    })
}

/// Boot code of a FAT or NTFS ends as a table does.
fn has_table(there: &[Signature]) -> bool {
    let has = |kinds: &[&str]| there.iter().any(|one| kinds.contains(&one.kind));
    has(&["gpt"]) || has(&["dos"]) && !has(&["exfat", "ntfs", "vfat"])
}

/// The descriptors are zeros while anything else comes.
fn write<M: Medium>(target: &mut M, volume: &[u8]) -> Result<(), WriteError> {
    let (start, rest) = volume.split_at(iso9660::DESCRIPTORS_AT.min(volume.len()));
    let (descriptors, rest) = rest.split_at(iso9660::DESCRIPTORS_BYTES.min(rest.len()));
    let behind = (start.len() + descriptors.len()) as u64;
    target.write_buffered(0, start)?;
    target.write_buffered(start.len() as u64, &vec![0; descriptors.len()])?;
    target.sync()?;
    target.write_buffered(behind, rest)?;
    target.sync()?;
    target.write_buffered(start.len() as u64, descriptors)?;
    target.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem;
    use crate::testing::LoopDevice;
    use crate::testing::recorder::{Recorder, cuts};

    fn request(device: &std::path::Path, user_data: &str) -> SeedRequest {
        SeedRequest {
            device: device.to_owned(),
            label: "cidata",
            files: vec![
                ("meta-data", "instance-id: a\n".to_owned()),
                ("user-data", user_data.to_owned()),
            ],
            only_empty: false,
            touched: Arc::default(),
        }
    }

    #[test]
    fn a_second_run_writes_nothing_and_other_files_replace_the_first() {
        let device = LoopDevice::filled(1 << 20, 512);
        let first = request(device.path(), "#cloud-config\n");
        let done = seed(&first).unwrap();
        assert!(done.changed && first.touched.load(Ordering::Relaxed));
        let found = filesystem::detect_on(device.path()).unwrap().unwrap();
        assert_eq!(
            (found.kind, found.label.as_deref()),
            (filesystem::Kind::Iso9660, Some("cidata"))
        );
        let again = request(device.path(), "#cloud-config\n");
        assert!(!seed(&again).unwrap().changed && !again.touched.load(Ordering::Relaxed));
        let other = seed(&request(device.path(), "#!/bin/sh\n")).unwrap();
        assert!(other.changed);
        assert_eq!(listed(&other.removed), "iso9660 at byte 32769");
        let content = device.content();
        assert!(content.windows(10).any(|bytes| bytes == b"#!/bin/sh\n"));
        assert!(!content.windows(13).any(|bytes| bytes == b"#cloud-config"));
    }

    #[test]
    fn what_nobody_could_read_is_refused_before_the_first_write() {
        let small = LoopDevice::filled(32 << 10, 512);
        let large = LoopDevice::filled(1 << 20, 4096);
        let full = LoopDevice::filled(1 << 20, 512);
        full.format_ext4();
        let only_empty = SeedRequest {
            only_empty: true,
            ..request(full.path(), "")
        };
        let disk = tempfile::NamedTempFile::new().unwrap();
        let mut table = vec![0; 1 << 20];
        table[510..512].copy_from_slice(&[0x55, 0xaa]);
        std::fs::write(disk.path(), &table).unwrap();
        for (request, reason, words) in [
            (
                request(small.path(), ""),
                "DiskTooSmall",
                "has 32768 B, and the seed needs",
            ),
            (request(large.path(), ""), "LargeSectors", "sectors of 4096 B"),
            (only_empty, "DiskNotEmpty", "it has ext4 at byte 1080"),
            (
                request(disk.path(), ""),
                "NotADisk",
                "has a partition table (dos at byte 510)",
            ),
        ] {
            let before = std::fs::read(&request.device).unwrap();
            let error = seed(&request).unwrap_err();
            assert_eq!(error.reason(), reason, "{error}");
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.to_string().contains("nothing was written"), "{error}");
            assert!(!request.touched.load(Ordering::Relaxed));
            assert!(std::fs::read(&request.device).unwrap() == before);
        }
    }

    #[test]
    fn one_that_was_half_written_is_none() {
        let old = iso9660::volume("cidata", &[("meta-data", b"old"), ("user-data", b"old")]);
        let new = iso9660::volume("cidata", &[("meta-data", b"new"), ("user-data", b"new")]);
        assert_eq!(old.len(), new.len());
        let mut disk = Recorder::over(old.clone(), 512);
        write(&mut disk, &new).unwrap();
        let steps = std::mem::take(&mut disk.steps);
        let mut seen = [0; 3];
        cuts(&steps, &old, 512, |content, at| {
            let has = |text: &[u8]| content.windows(3).any(|bytes| bytes == text);
            match filesystem::detect(content) {
                None => seen[0] += 1,
                Some(_) if has(b"old") => {
                    assert!(!has(b"new"), "of both: {at}");
                    seen[1] += 1;
                }
                Some(_) => seen[2] += 1,
            }
        });
        assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    }
}
