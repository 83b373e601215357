//! Names out of what lies on a disk: its partition table and its filesystems.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::{By, Name, encoded};
use crate::filesystem::{self, Kind};
use crate::gpt;
use crate::mbr;
use crate::probe::{Disk, Partition, System};

/// As far as a partition table of the usual size and the superblocks reach.
const START_BYTES: usize = 68 << 10;
/// Of Linux software RAID. Source: kernel include/uapi/linux/raid/md_p.h.
const MD_MAGIC: [u8; 4] = 0xa92b_4efc_u32.to_le_bytes();

pub(super) fn add(system: &System, disk: &Disk, names: &mut Vec<Name>) {
    if disk.partitions.is_empty() {
        add_filesystem(system, &disk.name, &disk.path, disk.size_bytes, names);
        return;
    }
    let start = open(&disk.path).and_then(|file| read(&file, 0, START_BYTES));
    let table = Table::of(&start.unwrap_or_default(), disk.sector_bytes);
    for partition in &disk.partitions {
        let (uuid, label) = table.names_of(partition);
        let device = &partition.path;
        names.extend(uuid.map(|name| named(By::Partuuid, name, device)));
        names.extend(label.map(|label| named(By::Partlabel, encoded(&label), device)));
        add_filesystem(system, &partition.name, device, partition.size_bytes, names);
    }
}

fn add_filesystem(system: &System, name: &str, device: &Path, size_bytes: u64, names: &mut Vec<Name>) {
    let Some(found) = found_on(device, size_bytes) else {
        return;
    };
    // Of what a mirror or a multipath device is made of, the parts look like the whole.
    let held = std::fs::read_dir(system.sys.join("class/block").join(name).join("holders"))
        .is_ok_and(|mut holders| holders.next().is_some());
    // libblkid's "usage" of a volume group's parts is RAID, and those have no links.
    if found.kind == Kind::Lvm2 || (held && found.kind != Kind::Luks) {
        return;
    }
    names.extend(found.uuid.map(|uuid| named(By::Uuid, encoded(&uuid), device)));
    names.extend(found.label.map(|label| named(By::Label, encoded(&label), device)));
}

/// What lies on a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// `gpt` or `dos`, as blkid calls it; `None`: no table that is known.
    pub table: Option<&'static str>,
    /// On the disk as a whole, where it has no partitions.
    pub whole: Option<Content>,
    /// By the number of the partition.
    pub partitions: BTreeMap<u32, Content>,
}

/// What lies on a disk or a partition, as blkid tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub kind: &'static str,
    pub label: Option<String>,
    pub uuid: Option<String>,
}

/// Looks at the table and the superblocks of a disk; what cannot be read is as what is not there. Blocks.
pub fn contents(disk: &Disk) -> Contents {
    let start = open(&disk.path).and_then(|file| read(&file, 0, START_BYTES));
    let start = start.unwrap_or_default();
    let table = if gpt::parse(&start, disk.sector_bytes).is_ok() {
        Some("gpt")
    } else if mbr::parse(&start).is_some_and(|partitions| !partitions.is_empty()) {
        Some("dos")
    } else {
        None
    };
    let whole = match disk.partitions.is_empty() {
        true => content(&disk.path, disk.size_bytes),
        false => None,
    };
    let of_partition = |partition: &Partition| {
        let content = content(&partition.path, partition.size_bytes)?;
        Some((partition.number, content))
    };
    Contents {
        // A filesystem's boot sector may look like a table.
        table: table.filter(|_| whole.is_none()),
        whole,
        partitions: disk.partitions.iter().filter_map(of_partition).collect(),
    }
}

fn content(device: &Path, size_bytes: u64) -> Option<Content> {
    let file = open(device).ok()?;
    if is_raid_member(&file, size_bytes) {
        return Some(Content {
            kind: "linux_raid_member",
            label: None,
            uuid: None,
        });
    }
    let found = filesystem::detect(&read(&file, 0, START_BYTES).ok()?)?;
    Some(Content {
        kind: found.kind.name(),
        label: found.label,
        uuid: found.uuid,
    })
}

fn named(by: By, name: String, device: &Path) -> Name {
    Name {
        by,
        name,
        device: device.to_owned(),
    }
}

fn found_on(device: &Path, size_bytes: u64) -> Option<filesystem::Filesystem> {
    let file = open(device).ok()?;
    if is_raid_member(&file, size_bytes) {
        return None;
    }
    filesystem::detect(&read(&file, 0, START_BYTES).ok()?)
}

/// Opens for reading without what an earlier reading left in memory: a partition and its disk have each their own.
pub(crate) fn open(device: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(device)?;
    // SAFETY: the descriptor is open; the call changes no memory of ours.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    Ok(file)
}

/// Up to so many bytes; fewer at the end.
fn read(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Whether a superblock of any version lies where md looks for it: at the start, at 4 KiB, or near the end.
fn is_raid_member(file: &File, size_bytes: u64) -> bool {
    let sectors = size_bytes / 512;
    let places = [
        Some(0),
        Some(4096),
        sectors.checked_sub(16).map(|sector| (sector & !7) * 512),
        (size_bytes & !0xffff).checked_sub(0x1_0000),
    ];
    places
        .into_iter()
        .flatten()
        .any(|at| read(file, at, 4).is_ok_and(|magic| magic == MD_MAGIC))
}

/// A disk's partition table, as far as names come from it.
enum Table {
    Gpt(gpt::Table),
    /// With the disk's signature.
    Mbr(u32),
    None,
}

impl Table {
    fn of(start: &[u8], sector_bytes: u64) -> Table {
        if let Ok(table) = gpt::parse(start, sector_bytes) {
            return Table::Gpt(table);
        }
        let signature = start.get(440..444).and_then(|bytes| bytes.first_chunk::<4>());
        match (start.get(510..512), signature) {
            (Some([0x55, 0xaa]), Some(signature)) if *signature != [0; 4] => {
                Table::Mbr(u32::from_le_bytes(*signature))
            }
            _ => Table::None,
        }
    }

    /// The partition's UUID, and its label. The kernel may still show another table than the disk has.
    fn names_of(&self, partition: &Partition) -> (Option<String>, Option<String>) {
        match self {
            Table::Gpt(table) => {
                let entry = table.entries.iter().find(|entry| {
                    entry.number == partition.number
                        && entry.first_lba.checked_mul(table.sector_size) == Some(partition.start_bytes)
                });
                (entry.map(gpt::Entry::uuid), entry.and_then(gpt::Entry::label))
            }
            Table::Mbr(signature) => (Some(format!("{signature:08x}-{:02x}", partition.number)), None),
            Table::None => (None, None),
        }
    }
}
