//! Disks that are reached in several ways: by two cables, ports or switches. The kernel shows each way as a disk of its own.
//!
//! What counts is what the disk says of itself, so that nothing has to be set up: the same world-wide name, serial number and size.
//! NVMe is not looked at: its driver shows one disk however many ways there are (`nvme_core.multipath`).
//! Source: SPC-4 section 7.8.6 (designators of a logical unit); Documentation/ABI/stable/sysfs-block.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Disk, System, number, serial, text, transport, usage};

/// What two ways to one disk have in common, and two disks have not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    wwn: String,
    serial: Option<String>,
    size_bytes: u64,
}

/// Of a folder in /sys/block; `None`: the disk has no name that is its own in all the world.
fn identity(dir: &Path, name: &str) -> Option<Identity> {
    let real = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    // Cases on USB give every disk the same names.
    if transport(name, &real.to_string_lossy()) != Some("scsi") {
        return None;
    }
    let wwn = text(dir, "wwid").or_else(|| text(dir, "device/wwid"))?;
    // Names of other kinds (`t10.`) are what their makers like.
    let is_unique = ["naa.", "eui.", "uuid."].iter().any(|kind| wwn.starts_with(kind));
    is_unique.then_some(Identity {
        wwn,
        serial: serial(dir),
        size_bytes: number(dir, "size")?.checked_mul(512)?,
    })
}

/// Each disk once, by the first of its ways, with the others in `other_paths`. It is used by whoever uses it in any way.
pub(super) fn one_of_each(system: &System, disks: Vec<Disk>) -> Vec<Disk> {
    let mut met: Vec<(Disk, Option<Identity>)> = Vec::new();
    for disk in disks {
        let own = identity(&system.sys.join("block").join(&disk.name), &disk.name);
        let same = met.iter_mut().find(|(_, other)| own.is_some() && *other == own);
        match same {
            Some((first, _)) => {
                first.other_paths.push(disk.path);
                let more = disk.users.into_iter();
                let more: Vec<String> = more.filter(|user| !first.users.contains(user)).collect();
                first.users.extend(more);
            }
            None => met.push((disk, own)),
        }
    }
    met.into_iter().map(|(disk, _)| disk).collect()
}

/// Numbers, as in `st_rdev`, of the other ways to the disk that this device is, or is a partition of.
pub(super) fn others(system: &System, device: u64) -> Vec<u64> {
    let folder = system.sys.join("dev/block").join(usage::text(device));
    let folder = fs::canonicalize(&folder).unwrap_or(folder);
    let whole: PathBuf = match (folder.join("partition").exists(), folder.parent()) {
        (true, Some(parent)) => parent.to_owned(),
        _ => folder,
    };
    let name_of = |dir: &Path| dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(own) = identity(&whole, &name_of(&whole)) else {
        return Vec::new();
    };
    let entries = fs::read_dir(system.sys.join("block"))
        .into_iter()
        .flatten()
        .flatten();
    let dirs = entries.map(|entry| entry.path());
    dirs.filter(|dir| name_of(dir) != name_of(&whole))
        .filter(|dir| identity(dir, &name_of(dir)).as_ref() == Some(&own))
        .filter_map(|dir| usage::parse_device(&text(&dir, "dev")?))
        .collect()
}
