//! Tells the kernel of the partition table that is on a disk now.
//!
//! Without this the kernel goes on showing the partitions of the table that was there before.
//! Source: block/ioctl.c (BLKRRPART, BLKPG), block/partitions/msdos.c, block/partitions/efi.c.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::{device, gpt, mbr, probe};

/// Whether the kernel shows partitions of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelView {
    /// As the table on it has them; none where it has none.
    Current,
    /// It shows none, whatever is on it: an image file, a partition, a loop device without `--partscan`.
    Never,
}

/// How long another process (udev) may keep the disk from being read anew.
const BUSY_FOR: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);
/// A GPT's entries end before this; so does an MBR.
const START_BYTES: u64 = 1 << 20;

/// Makes the kernel show the partitions of the table that the disk has: GPT, MBR, or none. Blocks.
///
/// Asks it to read the table; what it then does not show, or shows otherwise, it is told one by one, which works for
/// tables that this kernel does not know too.
///
/// # Errors
/// When the kernel refuses: a partition is in use, or one of the table cannot be.
pub fn publish(disk: &File) -> io::Result<KernelView> {
    if reread(disk)? == KernelView::Never {
        return Ok(KernelView::Never);
    }
    let sector = device::sector_size(disk)?;
    let wanted = Wanted::of(disk, sector)?;
    let sysfs = sysfs(disk)?;
    correct(disk, &sysfs, &wanted)?;
    let shown = probe::partitions_of(&sysfs);
    match wanted.partitions.iter().find(|wanted| !wanted.is_among(&shown)) {
        None => Ok(KernelView::Current),
        Some(missing) => Err(io::Error::other(format!(
            "it does not show partition {} as the table has it",
            missing.number
        ))),
    }
}

/// Makes the kernel read the table anew; fails while a partition is open.
///
/// # Errors
/// The kernel's; `EBUSY` only after 5 s of it.
pub fn reread(disk: &File) -> io::Result<KernelView> {
    if !disk.metadata()?.file_type().is_block_device() {
        return Ok(KernelView::Never);
    }
    let deadline = Instant::now() + BUSY_FOR;
    loop {
        match device::reread_partitions(disk) {
            Ok(()) => return Ok(KernelView::Current),
            // What has no partitions by its nature.
            Err(err) if err.raw_os_error() == Some(libc::EINVAL) => return Ok(KernelView::Never),
            Err(err) if err.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
            }
            Err(err) => return Err(err),
        }
    }
}

/// The directory of a block device in sysfs.
pub(crate) fn sysfs(disk: &File) -> io::Result<PathBuf> {
    let number = disk.metadata()?.rdev();
    Ok(PathBuf::from(format!(
        "/sys/dev/block/{}:{}",
        libc::major(number),
        libc::minor(number)
    )))
}

/// What the kernel is to show.
struct Wanted {
    partitions: Vec<Range>,
    /// Whether these are all. With an MBR, a kernel shows what is inside of partitions (BSD's, Minix's) too.
    all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    number: u32,
    start_bytes: u64,
    len_bytes: u64,
}

impl Range {
    fn is_among(&self, shown: &[probe::Partition]) -> bool {
        shown.iter().any(|shown| {
            shown.number == self.number
                && shown.start_bytes == self.start_bytes
                && shown.size_bytes == self.len_bytes
        })
    }
}

impl Wanted {
    fn of(disk: &File, sector: u64) -> io::Result<Wanted> {
        let size = device::size_bytes(disk)?;
        let mut start = vec![0; usize::try_from(START_BYTES.min(size)).unwrap_or(0)];
        disk.read_exact_at(&mut start, 0)?;
        if let Ok(table) = gpt::parse(&start, sector) {
            let partitions = table.entries.iter().map(|entry| Range {
                number: entry.number,
                start_bytes: entry.first_lba * sector,
                len_bytes: (entry.last_lba + 1 - entry.first_lba) * sector,
            });
            return Ok(Wanted {
                partitions: partitions.collect(),
                all: true,
            });
        }
        let primary = mbr::parse(&start).unwrap_or_default();
        let read = |number: u64| {
            let mut bytes = [0; 512];
            disk.read_exact_at(&mut bytes, number.saturating_mul(sector))?;
            Ok(bytes)
        };
        // A chain that leads beyond the disk ends there.
        let logical = mbr::logical(&primary, read).unwrap_or_default();
        let partitions = primary
            .iter()
            .chain(&logical)
            .filter(|partition| !partition.is_extended() && !partition.is_protective())
            .map(|partition| Range {
                number: partition.number,
                start_bytes: partition.first_sector * sector,
                len_bytes: partition.sectors * sector,
            })
            .filter(|range| range.start_bytes + range.len_bytes <= size);
        Ok(Wanted {
            partitions: partitions.collect(),
            all: primary.is_empty(),
        })
    }
}

/// Adds, resizes and removes until the kernel's partitions are those.
fn correct(disk: &File, sysfs: &std::path::Path, wanted: &Wanted) -> io::Result<()> {
    let shown = probe::partitions_of(sysfs);
    for partition in &shown {
        let same = wanted
            .partitions
            .iter()
            .find(|range| range.number == partition.number);
        let is_wrong = match same {
            Some(range) => range.start_bytes != partition.start_bytes,
            None => wanted.all,
        };
        if is_wrong {
            device::remove_partition(disk, partition.number)?;
        }
    }
    for range in &wanted.partitions {
        let (start, len) = (range.start_bytes, range.len_bytes);
        match shown
            .iter()
            .find(|partition| partition.number == range.number && partition.start_bytes == start)
        {
            Some(partition) if partition.size_bytes == len => {}
            Some(_) => device::resize_partition(disk, range.number, start, len)?,
            None => device::add_partition(disk, range.number, start, len)?,
        }
    }
    Ok(())
}

/// Whether a device node is the one of this number.
pub(crate) fn is_node(path: &std::path::Path, device: u64) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.rdev() == device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{LoopDevice, gpt_image, mbr_sector};

    const MIB: u64 = 1 << 20;

    fn shown(device: &LoopDevice) -> Vec<(u32, u64, u64)> {
        let file = File::open(device.path()).unwrap();
        probe::partitions_of(&sysfs(&file).unwrap())
            .iter()
            .map(|partition| (partition.number, partition.start_bytes, partition.size_bytes))
            .collect()
    }

    fn open(device: &LoopDevice) -> File {
        File::options()
            .read(true)
            .write(true)
            .open(device.path())
            .unwrap()
    }

    #[test]
    fn the_kernel_shows_the_partitions_of_each_table_in_turn_and_none_of_none() {
        let image = gpt_image(16 * MIB, 512);
        let device = LoopDevice::over(image, 512, &["--partscan"]);
        let disk = open(&device);
        assert_eq!(publish(&disk).unwrap(), KernelView::Current);
        assert_eq!(shown(&device), [(1, MIB, MIB), (3, 2 * MIB, 13 * MIB)]);

        // An MBR in place of the GPT: 1, and 5 in an extended partition.
        disk.write_all_at(&vec![0; MIB as usize], 0).unwrap();
        let primary = mbr_sector(&[(0x83, 4096, 2048), (0x05, 8192, 16384)]);
        disk.write_all_at(&primary, 0).unwrap();
        disk.write_all_at(&mbr_sector(&[(0x83, 2048, 2048)]), 8192 * 512)
            .unwrap();
        assert_eq!(publish(&disk).unwrap(), KernelView::Current);
        let without_extended = |device: &LoopDevice| {
            let mut shown = shown(device);
            shown.retain(|(number, ..)| *number != 2);
            shown
        };
        assert_eq!(without_extended(&device), [(1, 2 * MIB, MIB), (5, 5 * MIB, MIB)]);

        disk.write_all_at(&[0; 512], 0).unwrap();
        assert_eq!(publish(&disk).unwrap(), KernelView::Current);
        assert_eq!(shown(&device), []);
    }

    #[test]
    fn a_kernel_that_refuses_is_an_error() {
        let device = LoopDevice::over(gpt_image(16 * MIB, 512), 512, &["--partscan"]);
        let disk = open(&device);
        publish(&disk).unwrap();
        let file = File::open(device.path()).unwrap();
        let partition = probe::partitions_of(&sysfs(&file).unwrap()).remove(0);
        let node = crate::grow::Node::of_partition(&file, 1).unwrap().unwrap();
        let held = File::open(node.path()).unwrap();
        assert_eq!(held.metadata().unwrap().rdev(), partition.device);
        let err = publish(&disk).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::EBUSY), "{err}");
        drop(held);
        assert_eq!(publish(&disk).unwrap(), KernelView::Current);
    }

    #[test]
    fn what_has_no_partitions_by_its_nature_is_told_nothing() {
        let image = gpt_image(16 * MIB, 512);
        assert_eq!(publish(image.as_file()).unwrap(), KernelView::Never);
        let device = LoopDevice::over(image, 512, &[]);
        assert_eq!(publish(&open(&device)).unwrap(), KernelView::Never);
    }
}
