//! Folders in another filesystem to mount something on; those that were not there before go afterwards.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Holds nothing open: the filesystem can be unmounted.
#[derive(Debug)]
pub(super) struct MountPoints {
    root: PathBuf,
    /// Below the root, outermost first.
    made: Vec<PathBuf>,
}

impl MountPoints {
    /// Makes what is missing of these folders, paths from `root` on. No link in the filesystem leads out of it.
    ///
    /// # Errors
    /// The filesystem is read-only or full, or something else is in the place of a folder.
    pub(super) fn make(root: &Path, folders: &[&str]) -> io::Result<MountPoints> {
        let mut points = MountPoints {
            root: root.to_owned(),
            made: Vec::new(),
        };
        for folder in folders {
            let mut at = PathBuf::new();
            for name in Path::new(folder) {
                let parent = open_folder(root, &at)?;
                at.push(name);
                match mkdirat(&parent, name, Mode::from_bits_retain(0o755)) {
                    Ok(()) => points.made.push(at.clone()),
                    Err(Errno::EEXIST) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            open_folder(root, &at)?;
        }
        Ok(points)
    }
}

impl Drop for MountPoints {
    fn drop(&mut self) {
        for folder in self.made.iter().rev() {
            let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
                continue;
            };
            // What somebody has put something into by now stays.
            if let Ok(parent) = open_folder(&self.root, parent) {
                let _ = unlinkat(&parent, name, UnlinkatFlags::RemoveDir);
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
