//! After an image is on a disk: its table fitted to the disk, the kernel told, its root grown.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::stat::{Mode, SFlag, mknod};

use crate::filesystem::{self, FilesystemError, Resized};
use crate::gpt::{self, Fitted, GptError, Grow, Table};
use crate::{device, probe};

/// What was done.
#[derive(Debug)]
pub struct Outcome {
    pub fitted: Fitted,
    pub kernel: KernelView,
    /// Of the partition that was asked for.
    pub filesystem: Option<Resized>,
}

/// Whether the kernel shows the partitions as the table has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelView {
    Current,
    /// Why not. The table on the disk is right nevertheless; a reboot will show it.
    Stale(String),
}

/// Why a disk could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    #[error("{disk}: {source}")]
    Gpt { disk: PathBuf, source: GptError },
    #[error("{disk}: {what} failed: {source}")]
    Io {
        disk: PathBuf,
        what: &'static str,
        source: io::Error,
    },
    #[error("{disk}: the kernel does not show partition {number}, so its filesystem was not grown: {why}")]
    NotShown { disk: PathBuf, number: u32, why: String },
    #[error(transparent)]
    Filesystem(#[from] FilesystemError),
}

/// How long another process (udev) may keep the disk from being read anew.
const BUSY_FOR: Duration = Duration::from_secs(5);

/// Moves the backup table to the disk's end, grows the partition and the filesystem in it. Blocks; seconds at most.
///
/// # Errors
/// [`GrowError::Gpt`] with [`GptError::NoTable`] for an image without a GPT. If only the filesystem fails, table and
/// partition are grown and the disk boots.
pub fn grow(disk: &Path, which: Grow) -> Result<Outcome, GrowError> {
    let io = |what| {
        move |source| GrowError::Io {
            disk: disk.to_owned(),
            what,
            source,
        }
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(disk)
        .map_err(io("opening"))?;
    let fitted = gpt::fit(&file, which).map_err(|source| GrowError::Gpt {
        disk: disk.to_owned(),
        source,
    })?;
    let kernel = publish(&file, &fitted.table).map_err(io("telling the kernel of its partitions"))?;
    let filesystem = match &fitted.partition {
        None => None,
        Some(partition) => {
            let number = partition.number;
            let node = Node::of_partition(&file, number).map_err(io("making a partition's device node"))?;
            let not_shown = |why| GrowError::NotShown {
                disk: disk.to_owned(),
                number,
                why,
            };
            let node = match (node, &kernel) {
                (Some(node), _) => node,
                (None, KernelView::Stale(why)) => return Err(not_shown(why.clone())),
                (None, KernelView::Current) => return Err(not_shown("it has no number in sysfs".to_owned())),
            };
            Some(filesystem::grow(&node.path)?)
        }
    };
    Ok(Outcome {
        fitted,
        kernel,
        filesystem,
    })
}

/// Makes the kernel show the partitions of a table.
///
/// Asks it to read the table; what it then does not show, or shows otherwise, it is told one by one, which works
/// without GPT support in the kernel too.
///
/// # Errors
/// Only if the disk itself cannot be asked; a kernel that will not is [`KernelView::Stale`].
pub fn publish(disk: &File, table: &Table) -> io::Result<KernelView> {
    let meta = disk.metadata()?;
    if !std::os::unix::fs::FileTypeExt::is_block_device(&meta.file_type()) {
        return Ok(KernelView::Stale("it is no block device".to_owned()));
    }
    let deadline = Instant::now() + BUSY_FOR;
    let reread = loop {
        match device::reread_partitions(disk) {
            Err(err) if err.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(100));
            }
            result => break result,
        }
    };
    if let Err(err) = correct(disk, &sysfs(&meta), table) {
        let reread = reread
            .err()
            .map(|err| format!(" after a failed reread: {err}"))
            .unwrap_or_default();
        return Ok(KernelView::Stale(format!("{err}{reread}")));
    }
    Ok(KernelView::Current)
}

/// Adds, resizes and removes until the kernel's partitions are the table's.
fn correct(disk: &File, sysfs: &Path, table: &Table) -> io::Result<()> {
    let shown = probe::partitions_of(sysfs);
    for partition in &shown {
        let wanted = table
            .entries
            .iter()
            .find(|entry| entry.number == partition.number);
        if wanted.is_none_or(|entry| entry.first_lba * table.sector_size != partition.start_bytes) {
            device::remove_partition(disk, partition.number)?;
        }
    }
    for entry in &table.entries {
        let start = entry.first_lba * table.sector_size;
        let len = (entry.last_lba + 1 - entry.first_lba) * table.sector_size;
        match shown
            .iter()
            .find(|partition| partition.number == entry.number && partition.start_bytes == start)
        {
            Some(partition) if partition.size_bytes == len => {}
            Some(_) => device::resize_partition(disk, entry.number, start, len)?,
            None => device::add_partition(disk, entry.number, start, len)?,
        }
    }
    Ok(())
}

fn sysfs(meta: &fs::Metadata) -> PathBuf {
    let number = meta.rdev();
    PathBuf::from(format!(
        "/sys/dev/block/{}:{}",
        libc::major(number),
        libc::minor(number)
    ))
}

/// A device node for a partition: the one in /dev, or, where nothing makes those, one of its own.
struct Node {
    path: PathBuf,
    own: bool,
}

impl Node {
    /// `None`: the kernel does not show the partition.
    fn of_partition(disk: &File, number: u32) -> io::Result<Option<Node>> {
        let shown = probe::partitions_of(&sysfs(&disk.metadata()?));
        let Some(partition) = shown.into_iter().find(|partition| partition.number == number) else {
            return Ok(None);
        };
        let is_it = fs::metadata(&partition.path).is_ok_and(|meta| meta.rdev() == partition.device);
        if is_it {
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

    #[test]
    fn a_disk_larger_than_its_image_is_used_up_to_its_end() {
        let image = image_with_root();
        image.as_file().set_len(256 * MIB).unwrap();
        let device = LoopDevice::over(image, 512, &["--partscan"]);
        if has_sys_resource() {
            let outcome = grow(device.path(), Grow::LastLinux).unwrap();
            assert_eq!(outcome.kernel, KernelView::Current);
            let partition = outcome.fitted.partition.unwrap();
            assert_eq!((partition.number, partition.size_bytes), (3, 253 * MIB));
            let filesystem = outcome.filesystem.unwrap();
            assert_eq!(
                (filesystem.before_bytes, filesystem.after_bytes),
                (61 * MIB, 253 * MIB)
            );
        } else {
            // The filesystem comes last, so everything else is done when the kernel refuses to grow it.
            let err = grow(device.path(), Grow::LastLinux).unwrap_err();
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
    fn a_kernel_that_shows_no_partitions_is_said_and_the_table_is_right_nevertheless() {
        let image = image_with_root();
        image.as_file().set_len(128 * MIB).unwrap();
        let outcome = grow(image.path(), Grow::Nothing).unwrap();
        assert!(matches!(outcome.kernel, KernelView::Stale(_)), "{outcome:?}");
        assert!(outcome.fitted.backup_moved && outcome.filesystem.is_none());
        let err = grow(image.path(), Grow::LastLinux).unwrap_err();
        assert!(matches!(err, GrowError::NotShown { number: 3, .. }), "{err}");
        let said = output(Command::new("sgdisk").arg("--verify").arg(image.path()));
        assert!(said.contains("No problems found"), "{said}");
    }

    #[test]
    fn an_image_without_a_table_is_refused() {
        let device = LoopDevice::filled(4 << 20, 512);
        let err = grow(device.path(), Grow::Nothing).unwrap_err();
        assert!(
            matches!(
                err,
                GrowError::Gpt {
                    source: GptError::NoTable { .. },
                    ..
                }
            ),
            "{err}"
        );
    }
}
