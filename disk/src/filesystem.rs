//! What filesystem is on a device, and growing it to the device's size.

mod detect;
mod resize;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(crate) use detect::NEEDED_BYTES as START_BYTES;
pub use detect::{Filesystem, Kind, detect};

use crate::mount::{MountError, MountGuard, MsFlags};

/// The kernel resizes no smaller one. Source: fs/btrfs/ioctl.c, `btrfs_ioctl_resize`.
const BTRFS_LEAST_BYTES: u64 = 256 << 20;

/// Why a filesystem could not be looked at or grown.
#[derive(Debug, thiserror::Error)]
pub enum FilesystemError {
    #[error("{device}: {what} failed: {source}")]
    Io {
        device: PathBuf,
        what: &'static str,
        source: io::Error,
    },
    #[error("no filesystem that is known is on {device}")]
    Unknown { device: PathBuf },
    #[error("{kind} on {device} cannot be grown here, only ext2, ext3, ext4, xfs and btrfs can")]
    CannotGrow { device: PathBuf, kind: &'static str },
    #[error("the kernel does not grow the filesystem on {device} to {size_bytes} B: {source}")]
    Refused {
        device: PathBuf,
        size_bytes: u64,
        source: io::Error,
    },
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// A filesystem's size before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resized {
    pub before_bytes: u64,
    pub after_bytes: u64,
}

/// What is on a device or in an image file; `None`: nothing that is known.
///
/// # Errors
/// [`FilesystemError::Io`].
pub fn detect_on(device: &Path) -> Result<Option<Filesystem>, FilesystemError> {
    let io = |what| {
        move |source| FilesystemError::Io {
            device: device.to_owned(),
            what,
            source,
        }
    };
    let file = File::open(device).map_err(io("opening"))?;
    let mut start = vec![0; detect::NEEDED_BYTES];
    let mut filled = 0;
    while let Some(rest) = start.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64).map_err(io("reading"))? {
            0 => break,
            len => filled += len,
        }
    }
    start.truncate(filled);
    Ok(detect(&start))
}

/// Grows the filesystem on a device to the device's size: mounts it aside, asks the kernel, unmounts. One that fills its device is not
/// mounted.
///
/// Works for ext2 to ext4, XFS and btrfs of one device, with the kernel's driver of each, which must be there or be loaded. The kernel may
/// stop some blocks short, where the last group would be too small for its own tables.
///
/// # Errors
/// See [`FilesystemError`]; the filesystem stays valid at its old size.
pub fn grow(device: &Path) -> Result<Resized, FilesystemError> {
    let found = detect_on(device)?.ok_or_else(|| FilesystemError::Unknown {
        device: device.to_owned(),
    })?;
    let (fs_type, options) = match found.kind {
        Kind::Ext2 | Kind::Ext3 | Kind::Ext4 => ("ext4", None),
        // A copy of a mounted one has its UUID.
        Kind::Xfs => ("xfs", Some("nouuid")),
        Kind::Btrfs => ("btrfs", None),
        kind => {
            return Err(FilesystemError::CannotGrow {
                device: device.to_owned(),
                kind: kind.name(),
            });
        }
    };
    let io = |what| {
        move |source| FilesystemError::Io {
            device: device.to_owned(),
            what,
            source,
        }
    };
    let size = File::open(device)
        .and_then(|file| crate::device::size_bytes(&file))
        .map_err(io("asking for its size"))?;
    if found.kind == Kind::Btrfs && size < BTRFS_LEAST_BYTES {
        return Err(FilesystemError::CannotGrow {
            device: device.to_owned(),
            kind: "a btrfs of less than 256 MiB",
        });
    }
    let blocks = size / found.block_bytes.max(1024);
    let size_bytes = blocks * found.block_bytes.max(1024);
    if found.size_bytes >= size_bytes {
        return Ok(Resized {
            before_bytes: found.size_bytes,
            after_bytes: found.size_bytes,
        });
    }
    let aside = Aside::new().map_err(io("making a directory to mount it on"))?;
    let flags = MsFlags::MS_NOATIME | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID;
    let mounted = MountGuard::mount_with(device, &aside.0, fs_type, flags, options)?;
    let grown = File::open(&aside.0).and_then(|folder| match found.kind {
        Kind::Xfs => resize::xfs(&folder, blocks, detect::xfs_most_inodes_percent(device)?),
        Kind::Btrfs => resize::btrfs(&folder),
        _ => resize::ext4(&folder, blocks),
    });
    grown.map_err(|source| FilesystemError::Refused {
        device: device.to_owned(),
        size_bytes,
        source,
    })?;
    mounted.unmount()?;
    let after = detect_on(device)?.map_or(0, |found| found.size_bytes);
    Ok(Resized {
        before_bytes: found.size_bytes,
        after_bytes: after,
    })
}

/// An empty directory of its own, gone with its value.
struct Aside(PathBuf);

impl Aside {
    fn new() -> io::Result<Aside> {
        let mut number = 0;
        loop {
            let path = std::env::temp_dir().join(format!("farrier-grow-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Aside(path)),
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
                Err(err) => return Err(err),
            }
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Fails only while something is mounted there, which was logged.
        let _ = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::testing::{LoopDevice, has_sys_resource, output};

    #[test]
    fn an_ext4_grows_to_its_device_and_stays_clean() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(32 << 20).unwrap();
        output(
            Command::new("mke2fs")
                .args(["-q", "-F", "-t", "ext4", "-b", "4096"])
                .arg(file.path()),
        );
        file.as_file().set_len(200 << 20).unwrap();
        let device = LoopDevice::over(file, 512, &[]);
        if !has_sys_resource() {
            // The kernel refuses whatever is asked; then nothing must have changed and nothing be mounted.
            let err = grow(device.path()).unwrap_err();
            assert!(
                matches!(&err, FilesystemError::Refused { source, .. } if source.raw_os_error() == Some(libc::EPERM)),
                "{err}"
            );
            assert_eq!(detect_on(device.path()).unwrap().unwrap().size_bytes, 32 << 20);
            output(Command::new("e2fsck").args(["-f", "-n"]).arg(device.path()));
            assert!(
                crate::probe::users(&crate::probe::System::default(), device.number())
                    .unwrap()
                    .is_empty()
            );
            return;
        }
        let resized = grow(device.path()).unwrap();
        assert_eq!(
            resized,
            Resized {
                before_bytes: 32 << 20,
                after_bytes: 200 << 20
            }
        );
        output(Command::new("e2fsck").args(["-f", "-n"]).arg(device.path()));
        assert_eq!(
            grow(device.path()).unwrap().after_bytes,
            200 << 20,
            "a second time changes nothing"
        );
    }

    #[test]
    fn what_is_no_ext4_is_refused() {
        let device = LoopDevice::filled(8 << 20, 512);
        assert!(matches!(
            grow(device.path()).unwrap_err(),
            FilesystemError::Unknown { .. }
        ));
        output(Command::new("mkswap").arg("-q").arg(device.path()));
        let err = grow(device.path()).unwrap_err();
        assert!(
            err.to_string().contains("swap") && matches!(err, FilesystemError::CannotGrow { .. }),
            "{err}"
        );
    }
}
