//! The disk or partition that an action names, and mounting it.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use disk::filesystem;
use disk::mount::{MountGuard, MsFlags};
use disk::partition;
use disk::probe::{self, Include, System};
use disk::signatures::Signature;

use nix::mount::{MntFlags, umount2};

use super::{Failure, Feed};
use crate::hardware;

/// A partition of an image written a moment ago shows up when the kernel has read the new table.
const APPEARS_WITHIN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

/// The device path for what a template says (`/dev/vda1`, `UUID=…`, a serial, `size>=100G`); waits for the drivers of this machine's disks,
/// and for it to appear.
///
/// # Errors
/// `NoSuchDisk`, with the list of the disks that there are; at once where waiting does not help.
pub(super) async fn resolve(hint: &str) -> Result<PathBuf, Failure> {
    hardware::is_settled().await;
    let deadline = Instant::now() + APPEARS_WITHIN;
    loop {
        let asked = hint.to_owned();
        // Superblocks are read: on a disk that is ill that takes its time.
        let found = blocking(move || Ok(probe::resolve(&System::default(), &asked))).await?;
        match found {
            Ok(path) => return Ok(path),
            Err(e) if !e.may_pass() || Instant::now() >= deadline => {
                return Err(Failure::new("NoSuchDisk", e.to_string()));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// A filesystem mounted on a folder of its own; the folder goes with it.
pub(super) struct Mounted {
    guard: Option<MountGuard>,
    folder: PathBuf,
}

impl Mounted {
    /// Mounts on a new folder in `mounts`. Blocks until it is mounted.
    pub(super) fn mount(mounts: &Path, device: &Path, fs_type: &str) -> Result<Mounted, Failure> {
        Mounted::mount_with(mounts, device, fs_type, None)
    }

    /// [`Mounted::mount`] with options that the filesystem understands.
    pub(super) fn mount_with(
        mounts: &Path,
        device: &Path,
        fs_type: &str,
        options: Option<&str>,
    ) -> Result<Mounted, Failure> {
        Mounted::mount_all(mounts, device, fs_type, MsFlags::empty(), options)
    }

    /// [`Mounted::mount`] with flags of mount(2).
    pub(super) fn mount_flags(
        mounts: &Path,
        device: &Path,
        fs_type: &str,
        flags: MsFlags,
    ) -> Result<Mounted, Failure> {
        Mounted::mount_all(mounts, device, fs_type, flags, None)
    }

    fn mount_all(
        mounts: &Path,
        device: &Path,
        fs_type: &str,
        flags: MsFlags,
        options: Option<&str>,
    ) -> Result<Mounted, Failure> {
        let folder = mounts.join(crate::entropy::name());
        std::fs::create_dir_all(&folder).map_err(|e| {
            Failure::new(
                "MountFailed",
                format!("no folder {} to mount on: {e}", folder.display()),
            )
        })?;
        match MountGuard::mount_with(device, &folder, fs_type, flags, options) {
            Ok(guard) => Ok(Mounted {
                guard: Some(guard),
                folder,
            }),
            Err(e) => {
                let _ = std::fs::remove_dir(&folder);
                // Of which the kernel says only "permission denied".
                let read_only =
                    std::fs::File::open(device).and_then(|file| disk::device::is_read_only(&file));
                let why = match read_only {
                    Ok(true) => format!("{} is read-only", device.display()),
                    _ => format!("is {fs_type} what is on {}?", device.display()),
                };
                Err(Failure::new("MountFailed", format!("{e}; {why}")))
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// Unmounts; what was written is on the disk then. Blocks.
    pub(super) fn unmount(mut self) -> Result<(), Failure> {
        match self.guard.take().map(MountGuard::unmount) {
            Some(Err(e)) => Err(Failure::new("UnmountFailed", e.to_string())),
            _ => Ok(()),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.guard.take());
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Unmounts what a worker that was killed left mounted, so that its disks are free again.
pub fn clear_mounts(mounts: &Path) {
    let Ok(entries) = std::fs::read_dir(mounts) else {
        return;
    };
    for entry in entries.flatten() {
        super::container::end_left(&entry.path());
        // Where nothing is mounted, only the folder is left.
        let _ = umount2(&entry.path(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        let _ = std::fs::remove_dir(entry.path());
    }
}

/// The type of a filesystem as mount(2) calls it: the given one, or for `auto` what is on the device. Blocks.
///
/// # Errors
/// `MountFailed`: nothing that is known is on it, or it cannot be read.
pub(super) fn filesystem(device: &Path, given: &str) -> Result<String, Failure> {
    if given != "auto" {
        return Ok(given.to_owned());
    }
    match filesystem::detect_on(device) {
        Ok(Some(found)) => Ok(found.kind.name().to_owned()),
        Ok(None) => Err(Failure::new(
            "MountFailed",
            format!(
                "no filesystem that is known is on {}: name another partition, or FS_TYPE",
                device.display()
            ),
        )),
        Err(e) => Err(Failure::new("MountFailed", e.to_string())),
    }
}

/// What tells this disk or partition from others, of this machine and of others, as far as the disk says so.
pub(super) fn identity(path: &Path) -> String {
    let disks = probe::list(&System::default(), Include::Everything).unwrap_or_default();
    let found = disks.into_iter().find_map(|disk| {
        let partition = disk.partitions.iter().find(|partition| partition.path == path);
        let number = partition.map(|partition| partition.number);
        (disk.path == path || number.is_some()).then(|| (disk.wwn.or(disk.serial), number.unwrap_or(0)))
    });
    match found {
        Some((Some(of_disk), number)) => format!("{of_disk}\0{number}"),
        _ => path.display().to_string(),
    }
}

/// Tells what signatures were taken away from a disk.
pub(super) async fn say_removed(removed: &[Signature], feed: &Feed) {
    if !removed.is_empty() {
        feed.line(format!("removed: {}", partition::listed(removed)))
            .await;
    }
}

/// Runs blocking work beside the worker's thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = beside(Box::new(move || Ok(Box::new(work()?) as Given))).await?;
    match done.downcast() {
        Ok(done) => Ok(*done),
        Err(_) => Err(fault("its work gave something else")),
    }
}

type Given = Box<dyn Any + Send>;

/// One type for all work: the runtime's code for a task is compiled once, and not for each of some forty closures.
async fn beside(work: Box<dyn FnOnce() -> Result<Given, Failure> + Send>) -> Result<Given, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(fault(&e.to_string())),
    }
}

fn fault(why: &str) -> Failure {
    Failure::new("AgentFault", format!("the agent itself failed: {why}"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn said(command: &mut Command) -> String {
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn a_disk_that_is_read_only_is_told_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        std::fs::File::create(&file).unwrap().set_len(4 << 20).unwrap();
        said(Command::new("mke2fs").args(["-q", "-F"]).arg(&file));
        let device = said(
            Command::new("losetup")
                .args(["--find", "--show", "--read-only"])
                .arg(&file),
        );
        let mounted = Mounted::mount(folder.path(), Path::new(&device), "ext2");
        let failure = mounted.map(|_| ()).unwrap_err();
        said(Command::new("losetup").arg("--detach").arg(&device));
        assert_eq!(failure.reason, "MountFailed");
        assert!(
            failure.message.contains(&format!("{device} is read-only")),
            "{}",
            failure.message
        );
    }
}
