//! Who uses a block device.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::System;

/// What uses a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    Mounted {
        at: String,
    },
    Swap,
    /// RAID, LVM, LUKS: another device is made of it.
    PartOf {
        /// As in /sys/block.
        kernel_name: String,
        /// As in `st_rdev`.
        device: u64,
        /// What device-mapper calls it.
        mapped: Option<String>,
    },
}

/// One use, and which device of the family is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// As the kernel calls the device.
    pub of: String,
    pub uses: Use,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = &self.of;
        match &self.uses {
            Use::Mounted { at } => write!(f, "{of} is mounted at {at}"),
            Use::Swap => write!(f, "{of} is swap space"),
            Use::PartOf {
                kernel_name,
                mapped: Some(name),
                ..
            } => write!(f, "{of} is part of {name} ({kernel_name})"),
            Use::PartOf { kernel_name, .. } => write!(f, "{of} is part of {kernel_name}"),
        }
    }
}

/// What uses this device, any partition of it, the same disk in another way to it, or (if it is a partition) the whole of its disk: a phrase each.
///
/// Mounts, swap, and holders (RAID, LVM, LUKS). `device` is as in `st_rdev`. Another exclusive opener is only found
/// by opening.
pub fn users(system: &System, device: u64) -> io::Result<Vec<String>> {
    let all = uses(system, device)?;
    Ok(all.iter().map(ToString::to_string).collect())
}

/// As [`users`], for who is to do something about it.
///
/// # Errors
/// The kernel does not tell of its mounts.
pub fn uses(system: &System, device: u64) -> io::Result<Vec<User>> {
    let mut names = family(system, device);
    for other in super::ways::others(system, device) {
        names.extend(family(system, other));
    }
    let mut users = Vec::new();
    for (number, name) in &names {
        let mut add = |uses| {
            let of = name.clone();
            users.push(User { of, uses });
        };
        for (mounted, at) in mounts(system)? {
            if mounted == *number {
                add(Use::Mounted { at });
            }
        }
        for swap in swaps(system) {
            if swap == *number {
                add(Use::Swap);
            }
        }
        let dir = system.sys.join("dev/block").join(text(*number));
        for holder in fs::read_dir(dir.join("holders")).into_iter().flatten().flatten() {
            add(holder_of(&holder.path()));
        }
    }
    Ok(users)
}

/// The device itself, its partitions, and the disk if it is a partition, with their names.
fn family(system: &System, device: u64) -> BTreeMap<u64, String> {
    let dir = system.sys.join("dev/block").join(text(device));
    let dir = fs::canonicalize(&dir).unwrap_or(dir);
    let mut family = BTreeMap::new();
    family.insert(device, file_name(&dir));
    let mut add = |dir: &Path| {
        let number = fs::read_to_string(dir.join("dev"))
            .ok()
            .and_then(|text| parse_device(&text));
        if let Some(number) = number {
            family.insert(number, file_name(dir));
        }
    };
    if dir.join("partition").exists() {
        dir.parent().into_iter().for_each(&mut add);
    } else {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.path().join("partition").exists() {
                add(&entry.path());
            }
        }
    }
    family
}

/// `md0`; of a device-mapper device what its maker calls it, too: `vg-root (dm-0)`.
fn holder_of(dir: &Path) -> Use {
    let mapped = fs::read_to_string(dir.join("dm/name")).unwrap_or_default();
    let number = fs::read_to_string(dir.join("dev")).unwrap_or_default();
    Use::PartOf {
        kernel_name: file_name(dir),
        device: parse_device(&number).unwrap_or_default(),
        mapped: Some(mapped.trim().to_owned()).filter(|name| !name.is_empty()),
    }
}

fn file_name(dir: &Path) -> String {
    dir.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Mounted devices and where. Btrfs shows a number of its own there, so the source is looked at as well.
///
/// Source: proc_pid_mountinfo(5).
fn mounts(system: &System) -> io::Result<Vec<(u64, String)>> {
    let content = fs::read_to_string(system.proc.join("self/mountinfo"))?;
    let mut mounts = Vec::new();
    for line in content.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let mut fields = before.split(' ').skip(2);
        let (Some(number), _, Some(at)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let source = after.split(' ').nth(1).unwrap_or_default();
        mounts.extend(parse_device(number).map(|number| (number, at.to_owned())));
        mounts.extend(device_of(source).map(|number| (number, at.to_owned())));
    }
    mounts.sort();
    mounts.dedup();
    Ok(mounts)
}

fn swaps(system: &System) -> Vec<u64> {
    let content = fs::read_to_string(system.proc.join("swaps")).unwrap_or_default();
    content
        .lines()
        .skip(1)
        .filter_map(|line| device_of(line.split_whitespace().next()?))
        .collect()
}

fn device_of(path: &str) -> Option<u64> {
    if !path.starts_with('/') {
        return None;
    }
    let meta = fs::metadata(path).ok()?;
    meta.file_type().is_block_device().then(|| meta.rdev())
}

/// `8:1`.
pub(super) fn parse_device(text: &str) -> Option<u64> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(libc::makedev(major.parse().ok()?, minor.parse().ok()?))
}

pub(super) fn text(device: u64) -> String {
    format!("{}:{}", libc::major(device), libc::minor(device))
}
