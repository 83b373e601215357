//! Persistent names: what udev would have in /dev/disk, for disks and partitions, out of sysfs and superblocks.
//!
//! Names are looked up anew each time, so they are never older than the disks themselves.
//! Source: systemd's 60-persistent-storage.rules, and its path_id, scsi_id, ata_id and usb_id.

mod content;
mod ids;
mod path;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use super::{Disk, Include, System, list};

pub(super) use content::open;
pub use content::{Content, Contents, contents};
pub(super) use ids::ids;
pub(super) use path::paths;

/// The folder of [`DIRECTORY`] that a name stands in, sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    Diskseq,
    Id,
    Label,
    Partlabel,
    Partuuid,
    Path,
    Uuid,
}

/// Where these names are found on every installed system.
pub(super) const DIRECTORY: &str = "/dev/disk";

impl By {
    pub const ALL: [By; 7] = [
        By::Diskseq,
        By::Id,
        By::Label,
        By::Partlabel,
        By::Partuuid,
        By::Path,
        By::Uuid,
    ];

    /// `by-uuid`.
    pub fn folder(self) -> &'static str {
        match self {
            By::Diskseq => "by-diskseq",
            By::Id => "by-id",
            By::Label => "by-label",
            By::Partlabel => "by-partlabel",
            By::Partuuid => "by-partuuid",
            By::Path => "by-path",
            By::Uuid => "by-uuid",
        }
    }

    /// The word before `=` in fstab(5).
    fn tag(self) -> Option<&'static str> {
        match self {
            By::Id => Some("ID"),
            By::Label => Some("LABEL"),
            By::Partlabel => Some("PARTLABEL"),
            By::Partuuid => Some("PARTUUID"),
            By::Uuid => Some("UUID"),
            By::Diskseq | By::Path => None,
        }
    }
}

/// One name of a disk or a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub by: By,
    /// As the link is called; no slash in it.
    pub name: String,
    /// In /dev.
    pub device: PathBuf,
}

/// Every persistent name that there is, sorted. Two devices may have the same one.
///
/// Opens each disk and partition to read its superblock; one that cannot be read has only its other names.
///
/// # Errors
/// Only if there is no `/sys/block`.
pub fn names(system: &System) -> std::io::Result<Vec<Name>> {
    let mut names = Vec::new();
    let disks = list(system, Include::DisksOnly)?;
    let other_ways: Vec<&Path> = disks
        .iter()
        .flat_map(|disk| disk.other_paths.iter().map(PathBuf::as_path))
        .collect();
    for disk in list(system, Include::Everything)? {
        if other_ways.contains(&disk.path.as_path()) {
            // What is the disk's, and not the way's, leads to the first way.
            let mut of_the_way = Vec::new();
            of_hardware(&disk, &mut of_the_way);
            of_the_way.retain(|name| matches!(name.by, By::Path | By::Diskseq));
            names.append(&mut of_the_way);
            continue;
        }
        if super::is_no_disk(&disk.name) {
            // What lies on an array or a volume is named like what lies on a disk.
            if disk.name.starts_with("md") || disk.name.starts_with("dm-") {
                content::add(system, &disk, &mut names);
            }
            continue;
        }
        of_hardware(&disk, &mut names);
        content::add(system, &disk, &mut names);
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// What its hardware gives a disk, and with `-partN` its partitions.
fn of_hardware(disk: &Disk, names: &mut Vec<Name>) {
    let ids = disk.ids.iter().map(|id| (By::Id, id.clone()));
    let paths = disk.paths.iter().map(|path| (By::Path, path.clone()));
    let sequence = disk.sequence.map(|number| (By::Diskseq, number.to_string()));
    for (by, name) in ids.chain(paths).chain(sequence) {
        names.extend(disk.partitions.iter().map(|partition| Name {
            by,
            name: format!("{name}-part{}", partition.number),
            device: partition.path.clone(),
        }));
        names.push(Name {
            by,
            name,
            device: disk.path.clone(),
        });
    }
}

/// What is asked for by a path in /dev/disk, or by a tag as in fstab(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) by: By,
    name: String,
}

impl Wanted {
    /// `/dev/disk/by-label/my\x20data`, `UUID=…`, `PARTLABEL="EFI System Partition"`; `None`: something else.
    pub(super) fn parse(hint: &str) -> Option<Wanted> {
        if let Ok(below) = Path::new(hint).strip_prefix(DIRECTORY) {
            let (folder, name) = below.to_str()?.split_once('/')?;
            let by = By::ALL.into_iter().find(|by| by.folder() == folder)?;
            return Some(Wanted {
                by,
                name: name.to_owned(),
            });
        }
        let (tag, value) = hint.split_once('=')?;
        let by = By::ALL.into_iter().find(|by| by.tag() == Some(tag.trim()))?;
        let value = value.trim();
        let bare = value
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(value);
        Some(Wanted {
            by,
            name: encoded(bare),
        })
    }

    /// A name in its own letters counts, too: blanks in a label are easily left as they are.
    pub(super) fn is(&self, name: &Name) -> bool {
        let same = |wanted: &str| match self.by {
            By::Partuuid | By::Uuid => name.name.eq_ignore_ascii_case(wanted),
            _ => name.name == wanted,
        };
        name.by == self.by && (same(&self.name) || same(&encoded(&self.name)))
    }
}

/// What udev lets stand in a link's name.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) || !c.is_ascii()
}

/// As in the links by-label and by-partlabel: other letters as `\x20`. Source: libblkid's blkid_encode_string.
fn encoded(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if is_plain(c) {
            name.push(c);
        } else {
            name.push_str(&format!("\\x{:02x}", u32::from(c)));
        }
    }
    name
}

/// As in the links by-id: blanks between words and every other letter become an underscore.
fn replaced(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join("_");
    joined
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect()
}
