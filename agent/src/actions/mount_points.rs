//! Places in another filesystem to mount something on; those that were not there before go afterwards.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, UtimensatFlags, fstat, fstatat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::image_root::is_there;

/// Holds nothing open: the filesystem can be unmounted.
#[derive(Debug)]
pub(super) struct MountPoints {
    root: PathBuf,
    /// Below the root, outermost first.
    made: Vec<Made>,
}

/// One folder or empty file, and when its folder was changed before.
#[derive(Debug)]
struct Made {
    at: PathBuf,
    kind: Kind,
    times: [TimeSpec; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

impl MountPoints {
    /// Makes what is missing of these folders, paths from `root` on. No link in the filesystem leads out of it.
    ///
    /// # Errors
    /// The filesystem is read-only or full, or something else is in the place of a folder.
    pub(super) fn make(root: &Path, folders: &[&str]) -> io::Result<MountPoints> {
        let mut points = MountPoints::none(root);
        for folder in folders {
            let mut at = PathBuf::new();
            for name in Path::new(folder) {
                let parent = open_folder(root, &at)?;
                at.push(name);
                let times = times_of(&parent)?;
                match mkdirat(&parent, name, Mode::from_bits_retain(0o755)) {
                    Ok(()) => points.made.push(Made {
                        at: at.clone(),
                        kind: Kind::Folder,
                        times,
                    }),
                    Err(Errno::EEXIST) => {}
                    // It need not be written to where it is there already.
                    Err(Errno::EROFS) if open_folder(root, &at).is_ok() => {}
                    Err(e) => return Err(e.into()),
                }
            }
            open_folder(root, &at)?;
        }
        Ok(points)
    }

    /// Makes an empty file, and its folder, where there is nothing of that name, not even a link.
    ///
    /// # Errors
    /// As [`MountPoints::make`].
    pub(super) fn make_file(root: &Path, folder: &str, name: &str) -> io::Result<MountPoints> {
        let mut points = MountPoints::make(root, &[folder])?;
        let parent = open_folder(root, Path::new(folder))?;
        if is_there(&parent, name) {
            return Ok(points);
        }
        let times = times_of(&parent)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&parent, name, flags, Mode::from_bits_retain(0o644))?;
        points.made.push(Made {
            at: Path::new(folder).join(name),
            kind: Kind::File,
            times,
        });
        Ok(points)
    }

    fn none(root: &Path) -> MountPoints {
        MountPoints {
            root: root.to_owned(),
            made: Vec::new(),
        }
    }
}

/// When a folder was read and changed.
fn times_of(folder: &OwnedFd) -> io::Result<[TimeSpec; 2]> {
    let stat = fstat(folder)?;
    Ok([
        TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
    ])
}

impl Drop for MountPoints {
    fn drop(&mut self) {
        for made in self.made.iter().rev() {
            let (Some(parent), Some(name)) = (made.at.parent(), made.at.file_name()) else {
                continue;
            };
            let Ok(parent) = open_folder(&self.root, parent) else {
                continue;
            };
            // What somebody has put something into by now stays.
            let gone = match made.kind {
                Kind::Folder => unlinkat(&parent, name, UnlinkatFlags::RemoveDir),
                Kind::File => match fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                    Ok(stat) if stat.st_size == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFREG => {
                        unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir)
                    }
                    _ => continue,
                },
            };
            if gone.is_ok() {
                let [read, changed] = &made.times;
                let path = format!("/proc/self/fd/{}", parent.as_raw_fd());
                let _ = utimensat(
                    AT_FDCWD,
                    path.as_str(),
                    read,
                    changed,
                    UtimensatFlags::FollowSymlink,
                );
            }
        }
    }
}

/// A folder as a process with this root would find it, for its path only.
pub(super) fn open_folder(root: &Path, below: &Path) -> io::Result<OwnedFd> {
    let root = File::open(root)?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let below = if below.as_os_str().is_empty() {
        Path::new(".")
    } else {
        below
    };
    loop {
        match openat2(&root, below, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_was_missing_is_made_and_goes_again() {
        let root = tempfile::tempdir().expect("folder");
        std::fs::create_dir(root.path().join("run")).expect("folder");
        let points = MountPoints::make(root.path(), &["workflow", "run/farrier"]).expect("made");
        assert!(root.path().join("run/farrier").is_dir() && root.path().join("workflow").is_dir());
        drop(points);
        assert!(!root.path().join("workflow").exists() && !root.path().join("run/farrier").exists());
        assert!(root.path().join("run").is_dir(), "it was there before");
    }

    #[test]
    fn no_link_leads_out_and_a_file_is_no_folder() {
        let outside = tempfile::tempdir().expect("folder");
        let root = tempfile::tempdir().expect("folder");
        symlink(outside.path(), root.path().join("run")).expect("link");
        assert!(MountPoints::make(root.path(), &["workflow", "run/farrier"]).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).expect("folder").count(), 0);
        assert!(
            !root.path().join("workflow").exists(),
            "what was made before the error goes too"
        );
        std::fs::write(root.path().join("workflow"), "").expect("file");
        assert!(MountPoints::make(root.path(), &["workflow"]).is_err());
    }
}
