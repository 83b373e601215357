//! After an image is on a disk and the kernel shows its partitions: the filesystem of the root grown.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, mknod};

use crate::filesystem::{self, FilesystemError, Resized};
use crate::{probe, publish};

/// Why the filesystem of a partition was not grown.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    #[error("{disk}: {what} failed: {source}")]
    Io {
        disk: PathBuf,
        what: &'static str,
        source: io::Error,
    },
    #[error("{disk}: the kernel does not show partition {number}")]
    NotShown { disk: PathBuf, number: u32 },
    #[error(transparent)]
    Filesystem(#[from] FilesystemError),
}

/// Grows the filesystem in a partition to the partition's size. Blocks; seconds at most.
///
/// # Errors
/// See [`GrowError`]; table and partition are as they were, and the disk boots.
pub fn grow_filesystem(disk: &Path, number: u32) -> Result<Resized, GrowError> {
    let io = |what| {
        move |source| GrowError::Io {
            disk: disk.to_owned(),
            what,
            source,
        }
    };
    let file = File::open(disk).map_err(io("opening"))?;
    let node = Node::of_partition(&file, number)
        .map_err(io("making a partition's device node"))?
        .ok_or_else(|| GrowError::NotShown {
            disk: disk.to_owned(),
            number,
        })?;
    Ok(filesystem::grow(&node.path)?)
}

/// A device node for a partition: the one in /dev, or, where nothing makes those, one of its own.
pub(crate) struct Node {
    path: PathBuf,
    own: bool,
}

impl Node {
    /// `None`: the kernel does not show the partition.
    pub(crate) fn of_partition(disk: &File, number: u32) -> io::Result<Option<Node>> {
        let shown = probe::partitions_of(&publish::sysfs(disk)?);
        let Some(partition) = shown.into_iter().find(|partition| partition.number == number) else {
            return Ok(None);
        };
        if publish::is_node(&partition.path, partition.device) {
            return Ok(Some(Node {
                path: partition.path,
                own: false,
            }));
        }
        let path = std::env::temp_dir().join(format!("farrier-{}-{}", partition.name, std::process::id()));
        mknod(
            &path,
            SFlag::S_IFBLK,
            Mode::S_IRUSR | Mode::S_IWUSR,
            partition.device,
        )?;
        Ok(Some(Node { path, own: true }))
    }

    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.own {
            // In an in-memory system that goes with it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::process::Command;

    use super::*;
    use crate::gpt::Grow;
    use crate::image::{WriteRequest, write};
    use crate::testing::{LoopDevice, gpt_image, has_sys_resource, output};

    const MIB: u64 = 1 << 20;

    /// An image with an ext4 in its partition 3.
    fn image_with_root() -> tempfile::NamedTempFile {
        let image = gpt_image(64 * MIB, 512);
        let root = tempfile::NamedTempFile::new().unwrap();
        root.as_file().set_len(61 * MIB).unwrap();
        output(
            Command::new("mke2fs")
                .args(["-q", "-F", "-t", "ext4", "-L", "root"])
                .arg(root.path()),
        );
        image
            .as_file()
            .write_all_at(&fs::read(root.path()).unwrap(), 2 * MIB)
            .unwrap();
        image
    }

    #[tokio::test]
    async fn a_disk_larger_than_its_image_is_used_up_to_its_end() {
        let image = image_with_root();
        let disk = tempfile::NamedTempFile::new().unwrap();
        disk.as_file().set_len(256 * MIB).unwrap();
        let device = LoopDevice::over(disk, 512, &["--partscan"]);
        let url = url::Url::from_file_path(image.path()).unwrap();
        let mut request = WriteRequest::new(url, device.path());
        request.grow = Grow::LastLinux;
        let written = write(&request, |_| {}, Default::default()).await.unwrap();
        assert_eq!(written.kernel, publish::KernelView::Current);
        let partition = written.fitted.unwrap().partition.unwrap();
        assert_eq!((partition.number, partition.size_bytes), (3, 253 * MIB));
        if has_sys_resource() {
            let filesystem = grow_filesystem(device.path(), 3).unwrap();
            assert_eq!(
                (filesystem.before_bytes, filesystem.after_bytes),
                (61 * MIB, 253 * MIB)
            );
        } else {
            // The filesystem comes last, so everything else is done when the kernel refuses to grow it.
            let err = grow_filesystem(device.path(), 3).unwrap_err();
            assert!(
                matches!(err, GrowError::Filesystem(FilesystemError::Refused { .. })),
                "{err}"
            );
        }
        let said = output(Command::new("sgdisk").arg("--verify").arg(device.path()));
        assert!(said.contains("No problems found"), "{said}");
        // The kernel shows it as the table has it, and it is a filesystem still.
        let shown = probe::list(&probe::System::default(), probe::Include::Everything).unwrap();
        let disk = shown.iter().find(|disk| disk.path == device.path()).unwrap();
        let sizes: Vec<_> = disk
            .partitions
            .iter()
            .map(|p| (p.number, p.start_bytes, p.size_bytes))
            .collect();
        assert_eq!(sizes, [(1, MIB, MIB), (3, 2 * MIB, 253 * MIB)]);
        let copy = tempfile::NamedTempFile::new().unwrap();
        fs::write(copy.path(), &device.content()[2 << 20..255 << 20]).unwrap();
        output(Command::new("e2fsck").args(["-f", "-n"]).arg(copy.path()));
    }

    #[test]
    fn a_partition_that_is_not_shown_is_said() {
        let device = LoopDevice::filled(4 << 20, 512);
        let err = grow_filesystem(device.path(), 3).unwrap_err();
        assert!(matches!(err, GrowError::NotShown { number: 3, .. }), "{err}");
    }
}
