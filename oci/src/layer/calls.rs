//! What is asked of the kernel about one name in an open folder.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

/// A folder that hides what lower layers have in it.
pub(crate) const OPAQUE: (&str, &[u8]) = ("trusted.overlay.opaque", b"y");

/// What is there by this name, itself and not what it leads to.
pub(super) fn look(fd: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok(Some(there)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn open_folder(fd: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(fd, name, flags, Mode::empty())
}

/// Lets a folder hide what lower layers have in it.
pub(super) fn hide(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    set_attribute(folder, OPAQUE.0.as_bytes(), OPAQUE.1)
}

pub(super) fn hide_below(fd: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let folder = open_folder(fd, name)?;
    hide(folder.as_fd())
}

pub(super) fn make_whiteout(fd: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    rustix::fs::mknodat(fd, name, FileType::CharacterDevice, Mode::empty(), 0)
}

pub(super) fn set_attribute(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    rustix::fs::fsetxattr(fd, OsStr::from_bytes(name), value, XattrFlags::empty())
}

pub(super) fn is_folder(there: &Stat) -> bool {
    FileType::from_raw_mode(there.st_mode) == FileType::Directory
}

pub(super) fn is_whiteout(there: &Stat) -> bool {
    FileType::from_raw_mode(there.st_mode) == FileType::CharacterDevice && there.st_rdev == 0
}

pub(super) fn is_a_device(there: &Stat) -> bool {
    matches!(
        FileType::from_raw_mode(there.st_mode),
        FileType::CharacterDevice | FileType::BlockDevice
    )
}

/// A name in an open folder, for calls that take no descriptor beside a name.
pub(super) fn within(fd: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(fd.as_raw_fd().to_string())
        .join(name)
}

pub(super) fn times((tv_sec, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

pub(super) fn modified(there: &Stat) -> Timespec {
    Timespec {
        tv_sec: there.st_mtime,
        tv_nsec: there.st_mtime_nsec.try_into().unwrap_or_default(),
    }
}

pub(super) fn give_time_back(fd: BorrowedFd<'_>, modified: Timespec) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: modified,
        last_modification: modified,
    };
    rustix::fs::futimens(fd, &times)
}
