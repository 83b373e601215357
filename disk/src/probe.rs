//! Which disks there are, by sysfs; no udev is needed, and a made-up tree will do.
//!
//! Source: Documentation/ABI/stable/sysfs-block; names by id as in systemd's 60-persistent-storage.rules.

mod links;
pub mod names;
mod select;
#[cfg(test)]
mod tests;
mod usage;
mod ways;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::signatures;
pub use links::refresh as refresh_links;
pub use names::{Content, Contents, contents};
pub use select::{SelectError, resolve, select};
pub use usage::{Use, User, users, uses};

/// Where the kernel shows itself.
#[derive(Clone, Debug)]
pub struct System {
    pub sys: PathBuf,
    pub proc: PathBuf,
    pub dev: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        System {
            sys: "/sys".into(),
            proc: "/proc".into(),
            dev: "/dev".into(),
        }
    }
}

/// Which block devices are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// Loop, RAM, zram, device-mapper, floppy and optical ones too.
    Everything,
    /// What an operating system can be installed on.
    DisksOnly,
}

/// A block device that is no partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Disk {
    /// As in /sys/block, `!` for `/`.
    pub name: String,
    /// In /dev.
    pub path: PathBuf,
    /// In /dev: other ways to the same disk. Whatever is done to it is done by `path` alone.
    pub other_paths: Vec<PathBuf>,
    pub size_bytes: u64,
    pub sector_bytes: u64,
    /// What the disk writes at once; never less than `sector_bytes`.
    pub physical_sector_bytes: u64,
    pub model: Option<String>,
    pub serial: Option<String>,
    /// World-wide name, with its `0x`, `naa.`, `eui.` or `uuid.` as the kernel shows it.
    pub wwn: Option<String>,
    /// `virtio`, `nvme`, `ata`, `scsi`, `usb`, `mmc`; `None`: something else.
    pub transport: Option<String>,
    pub rotational: bool,
    pub removable: bool,
    pub read_only: bool,
    pub partitions: Vec<Partition>,
    /// Names that udev would make in /dev/disk/by-id.
    pub ids: Vec<String>,
    /// Names that udev would make in /dev/disk/by-path.
    pub paths: Vec<String>,
    /// The kernel's count of disks that ever appeared, this one's number; since Linux 5.15.
    pub sequence: Option<u64>,
    /// Who uses the disk or a partition of it; empty: nobody.
    pub users: Vec<String>,
    /// Whether it has no partition and no signature of anything; `None`: it was not looked at. See [`look_at_content`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty: Option<bool>,
}

/// A partition that the kernel knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Partition {
    pub name: String,
    pub path: PathBuf,
    pub number: u32,
    /// As in `st_rdev`.
    pub device: u64,
    pub start_bytes: u64,
    pub size_bytes: u64,
}

/// The partitions that a disk's directory in sysfs shows now.
pub(crate) fn partitions_of(dir: &Path) -> Vec<Partition> {
    partitions(&System::default(), dir)
}

/// Lists block devices, by name; disks ([`Include::DisksOnly`]) once each, in however many ways they are reached.
///
/// # Errors
/// Only if there is no `/sys/block`; a device that vanishes meanwhile is left out.
pub fn list(system: &System, include: Include) -> io::Result<Vec<Disk>> {
    let mut disks = Vec::new();
    for entry in fs::read_dir(system.sys.join("block"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if include == Include::DisksOnly && is_no_disk(&name) {
            continue;
        }
        if let Some(disk) = read_disk(system, &entry.path(), name) {
            // A card reader without a card, an unused loop device.
            if disk.size_bytes > 0 {
                disks.push(disk);
            }
        }
    }
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(match include {
        Include::Everything => disks,
        Include::DisksOnly => ways::one_of_each(system, disks),
    })
}

/// Says of each disk whether it is empty. Reads some sectors of each; one that cannot be read is taken for not empty. Blocks.
pub fn look_at_content(disks: &mut [Disk]) {
    for disk in disks {
        let is_free = disk.partitions.is_empty() && disk.users.is_empty();
        disk.empty = Some(is_free && has_nothing(disk).unwrap_or(false));
    }
}

fn has_nothing(disk: &Disk) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;

    let file = names::open(&disk.path)?;
    let read = |at: u64, len: usize| {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    };
    Ok(signatures::find(disk.size_bytes, read)?.is_empty())
}

/// All disks in a line, for error messages: `/dev/vda (10 GiB, virtio, serial abc), …`.
pub fn describe(disks: &[Disk]) -> String {
    if disks.is_empty() {
        return "no disks at all".to_owned();
    }
    let lines: Vec<String> = disks.iter().map(describe_one).collect();
    lines.join(", ")
}

fn describe_one(disk: &Disk) -> String {
    let mut facts = vec![human_bytes(disk.size_bytes)];
    facts.extend(disk.transport.clone());
    facts.extend(disk.model.clone());
    facts.extend(disk.serial.as_ref().map(|serial| format!("serial {serial}")));
    facts.extend(disk.wwn.as_ref().map(|wwn| format!("wwn {wwn}")));
    if disk.rotational {
        facts.push("rotational".to_owned());
    }
    if !disk.other_paths.is_empty() {
        let others: Vec<String> = disk
            .other_paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        facts.push(format!("also {}", others.join(" and ")));
    }
    if disk.read_only {
        facts.push("read-only".to_owned());
    }
    if !disk.users.is_empty() {
        facts.push(format!("in use: {}", disk.users.join(" and ")));
    }
    facts.extend(
        disk.empty
            .map(|empty| if empty { "empty" } else { "not empty" }.to_owned()),
    );
    format!("{} ({})", disk.path.display(), facts.join(", "))
}

fn human_bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    match UNITS.iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*size);
            if tenths.is_multiple_of(10) {
                format!("{} {unit}", tenths / 10)
            } else {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            }
        }
        None => format!("{bytes} B"),
    }
}

fn is_no_disk(name: &str) -> bool {
    const PREFIXES: [&str; 8] = ["dm-", "fd", "loop", "md", "nbd", "ram", "sr", "zram"];
    PREFIXES.iter().any(|prefix| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    })
    // eMMC boot and replay-protected areas are devices of their own.
    || (name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb")))
}

fn read_disk(system: &System, dir: &Path, name: String) -> Option<Disk> {
    let size_bytes = number(dir, "size")?.checked_mul(512)?;
    let real = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let transport = transport(&name, &real.to_string_lossy());
    let sector_bytes = number(dir, "queue/logical_block_size").unwrap_or(512);
    let mut disk = Disk {
        path: device_path(system, &name),
        other_paths: Vec::new(),
        size_bytes,
        sector_bytes,
        physical_sector_bytes: number(dir, "queue/physical_block_size")
            .map_or(sector_bytes, |bytes| bytes.max(sector_bytes)),
        model: text(dir, "device/model"),
        serial: serial(dir),
        wwn: text(dir, "wwid").or_else(|| text(dir, "device/wwid")),
        transport: transport.map(str::to_owned),
        rotational: number(dir, "queue/rotational") == Some(1),
        removable: number(dir, "removable") == Some(1),
        read_only: number(dir, "ro") == Some(1),
        partitions: partitions(system, dir),
        ids: Vec::new(),
        paths: names::paths(&system.sys, &name, dir),
        sequence: number(dir, "diskseq"),
        users: text(dir, "dev")
            .and_then(|numbers| usage::parse_device(&numbers))
            .map(|device| users(system, device).unwrap_or_default())
            .unwrap_or_default(),
        empty: None,
        name,
    };
    disk.ids = names::ids(&disk, dir);
    Some(disk)
}

fn partitions(system: &System, dir: &Path) -> Vec<Partition> {
    let mut partitions: Vec<Partition> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            let number_of = number(&path, "partition")?;
            Some(Partition {
                path: device_path(system, &name),
                name,
                number: u32::try_from(number_of).ok()?,
                device: usage::parse_device(&text(&path, "dev")?)?,
                start_bytes: number(&path, "start")?.checked_mul(512)?,
                size_bytes: number(&path, "size")?.checked_mul(512)?,
            })
        })
        .collect();
    partitions.sort_by_key(|partition| partition.number);
    partitions
}

/// sysfs writes `!` for the `/` in names such as `cciss/c0d0`.
fn device_path(system: &System, name: &str) -> PathBuf {
    system.dev.join(name.replace('!', "/"))
}

fn serial(dir: &Path) -> Option<String> {
    // virtio has it at the disk, NVMe and MMC at the device; SCSI and ATA only in a binary page (SPC-4 7.8.15).
    text(dir, "serial")
        .or_else(|| text(dir, "device/serial"))
        .or_else(|| {
            let page = fs::read(dir.join("device/vpd_pg80")).ok()?;
            let len = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
            clean(&String::from_utf8_lossy(
                page.get(4..)?.get(..len).or_else(|| page.get(4..))?,
            ))
        })
}

fn transport(name: &str, real: &str) -> Option<&'static str> {
    let has = |part: &str| real.contains(part);
    if has("/usb") {
        Some("usb")
    } else if name.starts_with("nvme") {
        Some("nvme")
    } else if name.starts_with("mmcblk") {
        Some("mmc")
    } else if name.starts_with("vd") {
        Some("virtio")
    } else if has("/ata") {
        Some("ata")
    } else if has("/host") || name.starts_with("sd") {
        Some("scsi")
    } else {
        None
    }
}

fn number(dir: &Path, file: &str) -> Option<u64> {
    text(dir, file)?.parse().ok()
}

fn text(dir: &Path, file: &str) -> Option<String> {
    clean(&fs::read_to_string(dir.join(file)).ok()?)
}

/// Without the padding that ATA and SCSI strings have; `None` if nothing is left.
fn clean(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}
