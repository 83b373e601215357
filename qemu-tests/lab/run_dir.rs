//! The lab's private directory: a tmpfs that only its namespace sees, gone with it.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use nix::mount::{MsFlags, mount};

use crate::lab::namespace;

/// A directory in memory for sockets, logs, keys and firmware variables. Never for disks.
#[derive(Clone, Debug)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Mounts a tmpfs of at most 1 GiB over /dev/shm, which nothing else in the lab's namespace uses.
    ///
    /// # Errors
    /// Outside the lab's namespaces, and when the kernel refuses the mount.
    pub fn mount() -> anyhow::Result<RunDir> {
        ensure!(
            namespace::inside(),
            "the lab's directory is only mounted inside the lab's own namespaces"
        );
        let place = Path::new("/dev/shm");
        mount(
            Some("farrier-lab"),
            place,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some("size=1g,mode=0700"),
        )
        .with_context(|| format!("mounting a private tmpfs on {}", place.display()))?;
        Ok(RunDir(place.to_owned()))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A directory below it, made when it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn sub(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }
}
