//! Paths inside a mounted filesystem, which lead nowhere else.
//!
//! The kernel resolves them (openat2 with RESOLVE_IN_ROOT): neither `..` nor a symbolic link of the image leads out of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::sys::statvfs::statvfs;
use nix::unistd::{Gid, Uid, fchown};

use super::Failure;

/// How folders are that are made on the way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folders {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) mode: Mode,
}

/// An absolute path without `..`, made relative to the filesystem's root: of a file.
///
/// # Errors
/// `BadVariable`, with the variable and its value.
pub(super) fn file(variable: &str, text: &str) -> Result<PathBuf, Failure> {
    let bad = |why: &str| bad(variable, text, why);
    if text.ends_with('/') && Path::new(text).is_absolute() {
        return Err(bad("names a folder, not a file"));
    }
    let relative = folder(variable, text)?;
    if relative.as_os_str().is_empty() {
        return Err(bad("names no file"));
    }
    Ok(relative)
}

/// The same of a folder, which may be the root: an empty path.
///
/// # Errors
/// `BadVariable`, with the variable and its value.
pub(super) fn folder(variable: &str, text: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(bad(variable, text, "is not absolute"));
    }
    let mut relative = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => relative.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(bad(variable, text, "contains `..`, which is not followed"));
            }
        }
    }
    Ok(relative)
}

fn bad(variable: &str, text: &str, why: &str) -> Failure {
    Failure::new(
        "BadVariable",
        format!("environment variable {variable}={text} {why}"),
    )
}

/// Makes what is missing of the folders, each with that owner and mode; returns the last one.
pub(super) fn make_folders(root: &File, parent: &Path, folders: &Folders) -> io::Result<File> {
    let mut at = PathBuf::from(".");
    let mut folder = open_folder(root, &at)?;
    for name in parent.components() {
        at.push(name);
        let next = match open_folder(root, &at) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let name = Path::new(name.as_os_str());
                if let Some(target) = link(&folder, name) {
                    return Err(leads_nowhere(&at, &target));
                }
                mkdirat(&folder, name, Mode::S_IRWXU)?;
                let made = open_folder(root, &at)?;
                fchown(&made, Some(folders.uid), Some(folders.gid))?;
                fchmod(&made, folders.mode)?;
                folder.sync_all()?;
                made
            }
            other => other?,
        };
        folder = next;
    }
    Ok(folder)
}

/// Where a link leads, as it says.
pub(super) fn link(folder: &File, name: &Path) -> Option<PathBuf> {
    readlinkat(folder, name).ok().map(PathBuf::from)
}

pub(super) fn leads_nowhere(at: &Path, target: &Path) -> io::Error {
    io::Error::other(format!(
        "/{} is a link to {}, which is not there in this filesystem; name a path that is, or remove the link with cexec \
         first",
        at.strip_prefix(".").unwrap_or(at).display(),
        target.display()
    ))
}

fn open_folder(root: &File, path: &Path) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open_inside(root, path, flags, Mode::empty()).map(File::from)
}

pub(super) fn open_inside(root: &File, path: &Path, flags: OFlag, mode: Mode) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags)
        .mode(mode)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    loop {
        match openat2(root.as_fd(), path, how) {
            // A rename raced with the lookup; the manual says to try again.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

/// What the filesystem has free, its own reserve included.
pub(super) fn free_bytes(root: &Path) -> Option<u64> {
    let stat = statvfs(root).ok()?;
    Some(stat.blocks_free().saturating_mul(stat.fragment_size()))
}

/// What the filesystem has free beside its reserve, so that a file of this size goes into it.
pub(super) fn available_bytes(root: &Path) -> Option<u64> {
    let stat = statvfs(root).ok()?;
    Some(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
