//! A mount that is undone when it goes out of scope.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

pub use nix::mount::MsFlags;

/// An unmount is tried this often: what a child process left open may take a moment to go.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Why a mount or an unmount failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("mounting {device} on {at} as {fstype} failed: {cause}")]
    Mount {
        device: PathBuf,
        at: PathBuf,
        fstype: String,
        cause: io::Error,
    },
    #[error("unmounting {at} failed: {cause}")]
    Unmount { at: PathBuf, cause: io::Error },
}

/// Something mounted; unmounted on drop, where a failure is only logged: call [`MountGuard::unmount`].
#[derive(Debug)]
pub struct MountGuard {
    at: Option<PathBuf>,
}

impl MountGuard {
    /// Mounts `source`; `target` must exist. Blocks until done.
    ///
    /// `fstype` is as in mount(2); for a bind mount it is ignored.
    ///
    /// # Errors
    /// [`MountError::Mount`].
    pub fn mount(
        source: &Path,
        target: &Path,
        fstype: &str,
        flags: MsFlags,
    ) -> Result<MountGuard, MountError> {
        Self::mount_with(source, target, fstype, flags, None)
    }

    /// [`MountGuard::mount`] with options that the filesystem understands (`data` in mount(2)).
    ///
    /// # Errors
    /// [`MountError::Mount`].
    pub fn mount_with(
        source: &Path,
        target: &Path,
        fstype: &str,
        flags: MsFlags,
        options: Option<&str>,
    ) -> Result<MountGuard, MountError> {
        nix::mount::mount(Some(source), target, Some(fstype), flags, options).map_err(|err| {
            MountError::Mount {
                device: source.to_owned(),
                at: target.to_owned(),
                fstype: fstype.to_owned(),
                cause: err.into(),
            }
        })?;
        Ok(MountGuard {
            at: Some(target.to_owned()),
        })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.at.as_deref().unwrap_or(Path::new(""))
    }

    /// Unmounts and says whether that worked; what was written is on the disk then. Blocks up to 2 s while it is busy.
    ///
    /// # Errors
    /// [`MountError::Unmount`]; it stays mounted.
    pub fn unmount(mut self) -> Result<(), MountError> {
        match self.at.take() {
            Some(at) => unmount(&at),
            None => Ok(()),
        }
    }

    /// Leaves it mounted; the path.
    pub fn keep(mut self) -> PathBuf {
        self.at.take().unwrap_or_default()
    }
}

impl Drop for MountGuard {
    fn drop(&mut self) {
        if let Some(Err(err)) = self.at.take().map(|at| unmount(&at)) {
            tracing::warn!("{err}");
        }
    }
}

fn unmount(at: &Path) -> Result<(), MountError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match umount2(at, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => return Ok(()),
            Err(Errno::EBUSY) if tries < TRIES => thread::sleep(PAUSE),
            Err(Errno::EINTR) => {}
            Err(err) => {
                return Err(MountError::Unmount {
                    at: at.to_owned(),
                    cause: err.into(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_mounted(at: &Path) -> bool {
        std::fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .contains(&format!(" {} ", at.display()))
    }

    #[test]
    fn a_mount_goes_with_its_guard() {
        let dir = tempfile::tempdir().unwrap();
        let tmpfs = Path::new("tmpfs");
        let guard =
            MountGuard::mount_with(tmpfs, dir.path(), "tmpfs", MsFlags::empty(), Some("size=1m")).unwrap();
        assert!(is_mounted(guard.path()));
        drop(guard);
        assert!(!is_mounted(dir.path()));
    }

    #[test]
    fn an_unmount_waits_for_what_is_open_and_says_when_it_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let guard = MountGuard::mount(Path::new("tmpfs"), dir.path(), "tmpfs", MsFlags::empty()).unwrap();
        let open = std::fs::File::create(dir.path().join("file")).unwrap();
        let err = guard.unmount().unwrap_err();
        assert!(err.to_string().contains("busy"), "{err}");
        assert!(is_mounted(dir.path()));
        drop(open);
        unmount(dir.path()).unwrap();
        assert!(!is_mounted(dir.path()));
    }

    #[test]
    fn a_mount_that_fails_names_everything() {
        let dir = tempfile::tempdir().unwrap();
        let err =
            MountGuard::mount(Path::new("/dev/nothing"), dir.path(), "ext4", MsFlags::empty()).unwrap_err();
        let text = err.to_string();
        assert!(
            text.contains("/dev/nothing") && text.contains("ext4") && text.contains("No such"),
            "{text}"
        );
    }
}
