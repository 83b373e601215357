//! The target of a write: what it is, whether it may be written, and how.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};

use super::WriteError;
use super::writer::{Block, Medium};
use crate::publish::{self, KernelView};
use crate::{device, probe};

/// Direct I/O goes in multiples of this, whatever the disk's own sectors are.
pub(crate) const ALIGN: usize = 4096;

/// A disk that nothing else uses, opened for writing.
pub(crate) struct Target {
    path: PathBuf,
    /// Through the page cache; exclusive if a block device, so that nothing mounts it meanwhile.
    file: File,
    /// Past the page cache, for what is aligned.
    direct: Option<File>,
    size: u64,
    /// `None`: a regular file.
    sector_size: Option<u64>,
    can_zero: bool,
    /// Whether anything was written.
    touched: bool,
}

impl Target {
    /// Opens the target, having checked that it is there, is a disk and is not in use. Writes nothing.
    pub(crate) fn open(path: &Path) -> Result<Target, WriteError> {
        let meta = std::fs::metadata(path).map_err(|err| match err.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => missing(path),
            _ => open_error(path, err),
        })?;
        if meta.file_type().is_block_device() {
            Self::open_device(path, meta.rdev())
        } else if meta.is_file() {
            Self::open_file(path, meta.len())
        } else {
            let what = "neither a block device nor a regular file".to_owned();
            Err(WriteError::NotADisk {
                disk: path.to_owned(),
                what,
            })
        }
    }

    /// Opens a block device that something else may use. Nothing can be written to it.
    pub(crate) fn open_to_read(path: &Path) -> Result<Target, WriteError> {
        let file = File::open(path).map_err(|err| open_error(path, err))?;
        let size = device::size_bytes(&file).map_err(|err| open_error(path, err))?;
        let sector_size = device::sector_size(&file).map_err(|err| open_error(path, err))?;
        Ok(Target {
            path: path.to_owned(),
            file,
            direct: None,
            size,
            sector_size: Some(sector_size),
            can_zero: false,
            touched: false,
        })
    }

    fn open_device(path: &Path, device: u64) -> Result<Target, WriteError> {
        let busy = |by: String| WriteError::Busy {
            disk: path.to_owned(),
            by,
        };
        let users = probe::users(&probe::System::default(), device).map_err(|err| open_error(path, err))?;
        if !users.is_empty() {
            return Err(busy(users.join(", ")));
        }
        // For reading first: a disk that is read-only is to be told so, whatever opening it for writing says.
        let read_only = File::open(path).and_then(|file| device::is_read_only(&file));
        if matches!(read_only, Ok(true)) {
            return Err(read_only_error(path));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_EXCL | libc::O_CLOEXEC)
            .open(path)
            .map_err(|err| match err.raw_os_error() {
                Some(libc::EBUSY) => busy("something else has it open exclusively".to_owned()),
                _ => open_error(path, err),
            })?;
        let size = device::size_bytes(&file).map_err(|err| open_error(path, err))?;
        if size == 0 {
            return Err(WriteError::NotADisk {
                disk: path.to_owned(),
                what: "there is no medium in it".to_owned(),
            });
        }
        let sector_size = device::sector_size(&file).map_err(|err| open_error(path, err))?;
        let direct = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT | libc::O_CLOEXEC)
            .open(path);
        let direct = direct.ok().filter(|_| sector_size <= ALIGN as u64);
        Ok(Target {
            path: path.to_owned(),
            file,
            direct,
            size,
            sector_size: Some(sector_size),
            can_zero: true,
            touched: false,
        })
    }

    fn open_file(path: &Path, size: u64) -> Result<Target, WriteError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|err| open_error(path, err))?;
        Ok(Target {
            path: path.to_owned(),
            file,
            direct: None,
            size,
            sector_size: None,
            can_zero: true,
            touched: false,
        })
    }

    fn error(&self, what: &'static str, offset: u64, source: io::Error) -> WriteError {
        match source.raw_os_error() {
            // The kernel says EPERM of a disk that became read-only.
            Some(libc::EROFS | libc::EPERM) => WriteError::ReadOnly {
                disk: self.path.clone(),
                touched: self.touched,
            },
            _ => WriteError::Device {
                disk: self.path.clone(),
                what,
                offset,
                source,
            },
        }
    }
}

impl Medium for Target {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn sector_size(&self) -> Option<u64> {
        self.sector_size
    }

    fn can_zero(&self) -> bool {
        self.can_zero
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let Some(direct) = self.direct.as_ref().filter(|_| is_aligned(offset, bytes)) else {
            return self.write_buffered(offset, bytes);
        };
        let (aligned, rest) = bytes.split_at(bytes.len() / ALIGN * ALIGN);
        match direct.write_all_at(aligned, offset) {
            Ok(()) => {}
            Err(err) if err.raw_os_error() == Some(libc::EINVAL) => {
                // A driver that wants a larger alignment than ours, or a write that the disk cut short.
                tracing::warn!(disk = %self.path.display(), "no direct I/O: {err}");
                self.direct = None;
                return self.write_buffered(offset, bytes);
            }
            Err(err) => return Err(self.error("write to", offset, err)),
        }
        if rest.is_empty() {
            Ok(())
        } else {
            self.write_buffered(offset + aligned.len() as u64, rest)
        }
    }

    fn write_buffered(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(|err| self.error("write to", offset, err))?;
        self.touched = true;
        Ok(())
    }

    /// Punching a hole is, on a block device, the kernel's "zero out, but only if the disk can do it by itself"
    /// (block/fops.c, `blkdev_fallocate`); where it cannot, zeros are written.
    fn zero(&mut self, range: Range<u64>) -> Result<bool, WriteError> {
        if self.can_zero {
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            let offset = i64::try_from(range.start).unwrap_or(i64::MAX);
            let len = i64::try_from(range.end - range.start).unwrap_or(i64::MAX);
            match fallocate(self.file.as_fd(), flags, offset, len) {
                Ok(()) => return Ok(true),
                Err(err) => tracing::debug!(disk = %self.path.display(), "zeros are written: {err}"),
            }
            self.can_zero = false;
        }
        let zeros = vec![0; 1 << 20];
        let mut at = range.start;
        while at < range.end {
            let len = usize::try_from(range.end - at)
                .unwrap_or(usize::MAX)
                .min(zeros.len());
            self.write_buffered(at, &zeros[..len])?;
            at += len as u64;
        }
        Ok(false)
    }

    fn sync(&mut self) -> Result<(), WriteError> {
        let synced = self.file.sync_all();
        synced.map_err(|err| self.error("sync of", 0, err))
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        // What is clean leaves the page cache, so that the disk itself answers.
        let _ = posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn read_into(&self, offset: u64, block: &mut Block) -> io::Result<()> {
        let into = block.as_mut_slice();
        let is_whole = into.len().is_multiple_of(ALIGN) && offset.is_multiple_of(ALIGN as u64);
        if let Some(direct) = self.direct.as_ref().filter(|_| is_whole)
            && direct.read_exact_at(into, offset).is_ok()
        {
            return Ok(());
        }
        let bytes = self.read(offset, into.len())?;
        into.copy_from_slice(&bytes);
        Ok(())
    }

    fn claim_partitions(&mut self) -> Result<KernelView, WriteError> {
        publish::reread(&self.file).map_err(|err| match err.raw_os_error() {
            Some(libc::EBUSY) => WriteError::Busy {
                disk: self.path.clone(),
                by: "something has a partition of it open".to_owned(),
            },
            _ => self.error("reading the partition table of", 0, err),
        })
    }

    fn publish(&mut self) -> Result<KernelView, WriteError> {
        publish::publish(&self.file).map_err(|source| WriteError::KernelRefused {
            disk: self.path.clone(),
            source,
        })
    }
}

fn is_aligned(offset: u64, bytes: &[u8]) -> bool {
    offset.is_multiple_of(ALIGN as u64) && bytes.as_ptr().align_offset(ALIGN) == 0 && bytes.len() >= ALIGN
}

fn missing(path: &Path) -> WriteError {
    let disks = probe::list(&probe::System::default(), probe::Include::DisksOnly).unwrap_or_default();
    WriteError::TargetMissing {
        disk: path.to_owned(),
        there: probe::describe(&disks),
    }
}

fn open_error(disk: &Path, source: io::Error) -> WriteError {
    match source.raw_os_error() {
        Some(libc::EROFS) => read_only_error(disk),
        _ => WriteError::Device {
            disk: disk.to_owned(),
            what: "opening",
            offset: 0,
            source,
        },
    }
}

fn read_only_error(disk: &Path) -> WriteError {
    WriteError::ReadOnly {
        disk: disk.to_owned(),
        touched: false,
    }
}
