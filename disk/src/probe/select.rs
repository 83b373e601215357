//! Picks one disk by what is said of it.

use std::path::{Path, PathBuf};

use super::names::{self, Name, Wanted};
use super::{Disk, Include, System, describe, list, look_at_content};

/// Names that an error quotes.
const MAX_NAMES: usize = 20;

/// Why no disk was picked.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    #[error("disks cannot be listed: {0}")]
    List(#[from] std::io::Error),
    #[error("no disk is {hint}; there are: {there}")]
    NoneMatches { hint: String, there: String },
    #[error("{count} disks are {hint}: {matching}; say more, such as serial=…")]
    SeveralMatch {
        hint: String,
        count: usize,
        matching: String,
    },
    #[error(
        "{hint} is the name of {count} devices: {devices}; say which by a name that only one has: {better}"
    )]
    Ambiguous {
        hint: String,
        count: usize,
        devices: String,
        better: String,
    },
    #[error("no disk or partition is {hint}; {folder} has: {names}; the disks are: {there}")]
    NoSuchName {
        hint: String,
        folder: &'static str,
        names: String,
        there: String,
    },
    #[error("{disk} has no partition {number}; it has: {there}")]
    NoSuchPartition {
        disk: PathBuf,
        number: u32,
        there: String,
    },
    #[error("disk hint {hint:?} is not understood at {part:?}: {what}")]
    Malformed {
        hint: String,
        part: String,
        what: String,
    },
}

impl SelectError {
    /// Whether a device that appears in a moment may be what was asked for.
    pub fn may_pass(&self) -> bool {
        match self {
            SelectError::List(_)
            | SelectError::NoneMatches { .. }
            | SelectError::NoSuchName { .. }
            | SelectError::NoSuchPartition { .. } => true,
            SelectError::Ambiguous { .. }
            | SelectError::Malformed { .. }
            | SelectError::SeveralMatch { .. } => false,
        }
    }
}

/// The device path for what is said of a disk or a partition.
///
/// It may be a persistent name (`/dev/disk/by-…/…`, `UUID=`, `LABEL=`, `PARTUUID=`, `PARTLABEL=`, `ID=`), which is
/// looked up in sysfs and superblocks, whether there is such a link or not; an existing path; the name of a
/// partition; or a hint for [`select`], to which `-partN` may be added for the disk's partition N.
///
/// # Errors
/// [`SelectError::Ambiguous`] for a name that two devices have; see [`select`] for the rest.
pub fn resolve(system: &System, hint: &str) -> Result<PathBuf, SelectError> {
    let hint = hint.trim();
    if let Some(wanted) = Wanted::parse(hint) {
        return by_name(system, hint, &wanted);
    }
    if hint.starts_with('/') && Path::new(hint).exists() {
        return Ok(PathBuf::from(hint));
    }
    let mut disks = list(system, Include::DisksOnly)?;
    if asks_for_content(hint) {
        look_at_content(&mut disks);
    }
    if let Some(partition) = disks
        .iter()
        .flat_map(|disk| &disk.partitions)
        .find(|p| p.path == Path::new(hint) || p.name == hint)
    {
        return Ok(partition.path.clone());
    }
    match (select(&disks, hint), partition_of(hint)) {
        (Ok(disk), _) => Ok(disk.path.clone()),
        (Err(SelectError::NoneMatches { .. } | SelectError::Malformed { .. }), Some((disk, number))) => {
            partition(select(&disks, disk)?, number)
        }
        (Err(e), _) => Err(e),
    }
}

/// `serial=abc-part3`: partition 3 of the disk `serial=abc`.
fn partition_of(hint: &str) -> Option<(&str, u32)> {
    let (disk, number) = hint.rsplit_once("-part")?;
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    Some((disk, number.parse().ok().filter(|_| digits)?))
}

fn partition(disk: &Disk, number: u32) -> Result<PathBuf, SelectError> {
    let found = disk
        .partitions
        .iter()
        .find(|partition| partition.number == number);
    found.map(|partition| partition.path.clone()).ok_or_else(|| {
        let there: Vec<String> = disk
            .partitions
            .iter()
            .map(|p| p.path.display().to_string())
            .collect();
        SelectError::NoSuchPartition {
            disk: disk.path.clone(),
            number,
            there: if there.is_empty() {
                "none".to_owned()
            } else {
                there.join(", ")
            },
        }
    })
}

fn by_name(system: &System, hint: &str, wanted: &Wanted) -> Result<PathBuf, SelectError> {
    let names = names::names(system)?;
    let mut devices: Vec<&Path> = names
        .iter()
        .filter(|name| wanted.is(name))
        .map(|name| name.device.as_path())
        .collect();
    devices.sort();
    devices.dedup();
    match devices.as_slice() {
        [only] => Ok(only.to_path_buf()),
        // Somebody's udev knows more, such as volumes of LVM by their names.
        [] if hint.starts_with('/') && Path::new(hint).exists() => Ok(PathBuf::from(hint)),
        [] => Err(SelectError::NoSuchName {
            hint: hint.to_owned(),
            folder: wanted.by.folder(),
            names: listed(names.iter().filter(|name| name.by == wanted.by)),
            there: describe(&list(system, Include::DisksOnly)?),
        }),
        several => {
            let unique = names.iter().filter(|name| {
                several.contains(&name.device.as_path())
                    && matches!(name.by, names::By::Id | names::By::Partuuid | names::By::Path)
                    && names
                        .iter()
                        .filter(|other| other.by == name.by && other.name == name.name)
                        .count()
                        == 1
            });
            Err(SelectError::Ambiguous {
                hint: hint.to_owned(),
                count: several.len(),
                devices: several
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect::<Vec<_>>()
                    .join(" and "),
                better: listed(unique),
            })
        }
    }
}

/// `by-uuid/… (/dev/vda3), …`.
fn listed<'a>(names: impl Iterator<Item = &'a Name>) -> String {
    let mut listed: Vec<String> = names
        .map(|name| format!("{}/{} ({})", name.by.folder(), name.name, name.device.display()))
        .collect();
    if listed.is_empty() {
        return "nothing".to_owned();
    }
    if listed.len() > MAX_NAMES {
        listed.truncate(MAX_NAMES);
        listed.push("…".to_owned());
    }
    listed.join(", ")
}

/// The one disk that a hint is about.
///
/// A hint is a device path (`/dev/vda`, `/dev/disk/by-id/…`), a bare name, serial, WWN or by-id name, or conditions
/// separated by commas that must all hold: `name=`, `serial=`, `wwn=`, `model=` (its beginning with `*` behind it), `id=`,
/// `path=` (a name by path), `pci=` (the address of its controller), `transport=`, `rotational=true|false`,
/// `removable=true|false`, `empty=true|false` (of disks that were [looked at](look_at_content)), `size=`, `size>=`, `size<=`
/// with K, M, G, T (powers of 1024) or KB, MB, GB, TB (of 1000). `pick=smallest` and `pick=largest` take one of those that
/// meet the others.
///
/// # Errors
/// A hint that fits none or several is refused with the list of the disks.
pub fn select<'a>(disks: &'a [Disk], hint: &str) -> Result<&'a Disk, SelectError> {
    let conditions: Vec<Condition> = hint
        .split(',')
        .map(|part| condition(hint, part))
        .collect::<Result<_, _>>()?;
    let mut matching: Vec<&Disk> = disks
        .iter()
        .filter(|disk| conditions.iter().all(|condition| condition.holds(disk)))
        .collect();
    for condition in &conditions {
        let Condition::Pick(pick) = condition else {
            continue;
        };
        let sizes = matching.iter().map(|disk| disk.size_bytes);
        let wanted = match pick {
            Pick::Largest => sizes.max(),
            Pick::Smallest => sizes.min(),
        };
        matching.retain(|disk| Some(disk.size_bytes) == wanted);
    }
    match matching.as_slice() {
        [only] => Ok(only),
        [] => Err(SelectError::NoneMatches {
            hint: hint.to_owned(),
            there: describe(disks),
        }),
        several => Err(SelectError::SeveralMatch {
            hint: hint.to_owned(),
            count: several.len(),
            matching: describe(&several.iter().map(|disk| (*disk).clone()).collect::<Vec<_>>()),
        }),
    }
}

/// By any of the ways to it.
fn is_named(disk: &Disk, name: &str) -> bool {
    let mut others = disk.other_paths.iter().filter_map(|path| path.file_name());
    disk.name == name || others.any(|other| other == name)
}

enum Condition {
    Any(String),
    Empty(bool),
    Id(String),
    Model(String),
    Name(String),
    Path(String),
    Pci(String),
    Pick(Pick),
    Removable(bool),
    Rotational(bool),
    Serial(String),
    Size(Relation, u64),
    Transport(String),
    Wwn(String),
}

/// Which one of several.
#[derive(Clone, Copy)]
enum Pick {
    Largest,
    Smallest,
}

/// Whether disks have to be read to be chosen among.
fn asks_for_content(hint: &str) -> bool {
    hint.split(',')
        .any(|part| matches!(condition(hint, part), Ok(Condition::Empty(_))))
}

#[derive(Clone, Copy)]
enum Relation {
    AtLeast,
    AtMost,
    Equal,
}

impl Condition {
    fn holds(&self, disk: &Disk) -> bool {
        let is =
            |have: &Option<String>, want: &str| have.as_deref().is_some_and(|h| h.eq_ignore_ascii_case(want));
        match self {
            Condition::Any(word) => {
                is_named(disk, word)
                    || is(&disk.serial, word)
                    || is_wwn(disk, word)
                    || disk.ids.iter().any(|id| id == word)
            }
            Condition::Id(id) => disk.ids.iter().any(|have| have == id),
            Condition::Empty(want) => disk.empty == Some(*want),
            Condition::Model(model) => match model.strip_suffix('*') {
                Some(begin) => disk.model.as_ref().is_some_and(|have| {
                    have.get(..begin.len())
                        .is_some_and(|have| have.eq_ignore_ascii_case(begin))
                }),
                None => is(&disk.model, model),
            },
            Condition::Name(name) => is_named(disk, name),
            Condition::Path(path) => match path.strip_prefix("/dev/disk/by-id/") {
                Some(id) => disk.ids.iter().any(|have| have == id),
                None if !path.starts_with('/') => disk.paths.iter().any(|have| have == path),
                None => std::iter::once(&disk.path)
                    .chain(&disk.other_paths)
                    .any(|one| one == Path::new(path)),
            },
            Condition::Pci(address) => disk.paths.iter().any(|path| {
                let behind = path
                    .strip_prefix("pci-")
                    .and_then(|path| path.strip_prefix(address.as_str()));
                behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('-'))
            }),
            // It is for all that meet the other conditions together.
            Condition::Pick(_) => true,
            Condition::Removable(want) => disk.removable == *want,
            Condition::Rotational(want) => disk.rotational == *want,
            Condition::Serial(serial) => is(&disk.serial, serial),
            Condition::Size(relation, bytes) => match relation {
                Relation::AtLeast => disk.size_bytes >= *bytes,
                Relation::AtMost => disk.size_bytes <= *bytes,
                Relation::Equal => disk.size_bytes == *bytes,
            },
            Condition::Transport(transport) => is(&disk.transport, transport),
            Condition::Wwn(wwn) => is_wwn(disk, wwn),
        }
    }
}

/// Compares without the different prefixes that tools show.
fn is_wwn(disk: &Disk, want: &str) -> bool {
    fn bare(wwn: &str) -> String {
        let wwn = wwn.to_ascii_lowercase();
        let wwn = wwn.strip_prefix("wwn-").unwrap_or(&wwn);
        ["naa.", "eui.", "uuid.", "0x"]
            .iter()
            .find_map(|p| wwn.strip_prefix(p))
            .unwrap_or(wwn)
            .to_owned()
    }
    disk.wwn.as_deref().is_some_and(|wwn| bare(wwn) == bare(want))
}

fn condition(hint: &str, part: &str) -> Result<Condition, SelectError> {
    let malformed = |what: &str| SelectError::Malformed {
        hint: hint.to_owned(),
        part: part.to_owned(),
        what: what.to_owned(),
    };
    let part = part.trim();
    if part.is_empty() {
        return Err(malformed("it is empty"));
    }
    if part.starts_with('/') {
        return Ok(Condition::Path(part.to_owned()));
    }
    let Some((key, value)) = part.split_once('=') else {
        return Ok(Condition::Any(part.to_owned()));
    };
    let (key, relation) = match key.as_bytes().last() {
        Some(b'>') => (&key[..key.len() - 1], Relation::AtLeast),
        Some(b'<') => (&key[..key.len() - 1], Relation::AtMost),
        _ => (key, Relation::Equal),
    };
    let value = value.trim().to_owned();
    let truth = || match value.as_str() {
        "1" | "true" | "yes" => Ok(true),
        "0" | "false" | "no" => Ok(false),
        _ => Err(malformed("it must be true or false")),
    };
    match (key.trim(), relation) {
        ("size", relation) => {
            let bytes =
                bytes(&value).ok_or_else(|| malformed("a size is a number with K, M, G or T after it"))?;
            Ok(Condition::Size(relation, bytes))
        }
        (_, Relation::AtLeast | Relation::AtMost) => Err(malformed("only a size is more or less")),
        ("empty", _) => Ok(Condition::Empty(truth()?)),
        ("id" | "by-id", _) => Ok(Condition::Id(value)),
        ("model", _) => Ok(Condition::Model(value)),
        ("name", _) => Ok(Condition::Name(value)),
        ("path" | "by-path", _) if value.starts_with('/') => {
            Err(malformed("it is a name in /dev/disk/by-path, without the folder"))
        }
        ("path" | "by-path", _) => Ok(Condition::Path(value)),
        ("pci", _) => Ok(Condition::Pci(value.to_ascii_lowercase())),
        ("pick", _) => match value.as_str() {
            "largest" => Ok(Condition::Pick(Pick::Largest)),
            "smallest" => Ok(Condition::Pick(Pick::Smallest)),
            _ => Err(malformed("it must be smallest or largest")),
        },
        ("removable", _) => Ok(Condition::Removable(truth()?)),
        ("rotational", _) => Ok(Condition::Rotational(truth()?)),
        ("serial", _) => Ok(Condition::Serial(value)),
        ("transport" | "type", _) => Ok(Condition::Transport(value)),
        ("wwn" | "wwid", _) => Ok(Condition::Wwn(value)),
        _ => Err(malformed(
            "known are empty, id, model, name, path, pci, pick, removable, rotational, serial, size, transport and wwn",
        )),
    }
}

fn bytes(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KIB" => 1 << 10,
        "M" | "MIB" => 1 << 20,
        "G" | "GIB" => 1 << 30,
        "T" | "TIB" => 1 << 40,
        "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks() -> Vec<Disk> {
        let disk = |name: &str, gib: u64, rotational: bool, serial: &str| Disk {
            name: name.to_owned(),
            path: PathBuf::from(format!("/dev/{name}")),
            size_bytes: gib << 30,
            rotational,
            serial: Some(serial.to_owned()),
            wwn: Some(format!("naa.5000{serial}")),
            ids: vec![format!("ata-Model_{serial}")],
            transport: Some("ata".to_owned()),
            ..Disk::default()
        };
        vec![
            disk("sda", 100, true, "aa1"),
            disk("sdb", 200, true, "aa2"),
            disk("sdc", 400, false, "aa3"),
        ]
    }

    fn selected(hint: &str) -> String {
        select(&disks(), hint).map_or_else(|err| err.to_string(), |disk| disk.name.clone())
    }

    #[test]
    fn a_disk_is_picked_by_name_path_id_serial_wwn_size_and_kind() {
        for (hint, name) in [
            ("/dev/sda", "sda"),
            ("sdb", "sdb"),
            ("/dev/disk/by-id/ata-Model_aa3", "sdc"),
            ("serial=AA2", "sdb"),
            ("aa2", "sdb"),
            ("wwn=0x5000aa1", "sda"),
            ("size>=300G", "sdc"),
            ("size<=100G", "sda"),
            ("size=200GiB", "sdb"),
            ("rotational=false", "sdc"),
            ("rotational=true, size>=150G", "sdb"),
        ] {
            assert_eq!(selected(hint), name, "{hint}");
        }
    }

    #[test]
    fn a_hint_that_fits_none_or_several_is_refused_with_the_list() {
        let none = selected("/dev/vda");
        assert!(
            none.contains("no disk is /dev/vda") && none.contains("/dev/sdc (400 GiB, ata, serial aa3"),
            "{none}"
        );
        let several = selected("rotational=true");
        assert!(
            several.contains("2 disks") && several.contains("/dev/sdb") && !several.contains("/dev/sdc"),
            "{several}"
        );
    }

    #[test]
    fn one_of_several_is_picked_by_its_size_and_by_being_empty() {
        let mut disks = disks();
        for (disk, (empty, controller, model)) in disks.iter_mut().zip([
            (false, "pci-0000:00:1f.2-ata-1", "Samsung SSD 870"),
            (true, "pci-0000:00:1f.2-ata-2", "SAMSUNG MZ7"),
            (true, "pci-0000:00:1f.20", "ST4000"),
        ]) {
            disk.empty = Some(empty);
            disk.paths = vec![controller.to_owned()];
            disk.model = Some(model.to_owned());
        }
        let selected =
            |hint: &str| select(&disks, hint).map_or_else(|err| err.to_string(), |disk| disk.name.clone());
        for (hint, name) in [
            ("pick=smallest", "sda"),
            ("pick=largest", "sdc"),
            ("size>=150G,pick=smallest", "sdb"),
            ("pick=smallest,size>=150G", "sdb"),
            ("empty=true,pick=smallest", "sdb"),
            ("empty=false", "sda"),
            ("empty=yes,rotational=true", "sdb"),
            ("size>=150G,size<=300G", "sdb"),
            ("path=pci-0000:00:1f.2-ata-2", "sdb"),
            ("pci=0000:00:1f.2,pick=largest", "sdb"),
            ("pci=0000:00:1F.20", "sdc"),
            ("model=samsung*,empty=true", "sdb"),
        ] {
            assert_eq!(selected(hint), name, "{hint}");
        }
        let several = selected("empty=true");
        assert!(
            several.contains("2 disks are empty=true")
                && several.contains("/dev/sdb")
                && several.contains(", empty)"),
            "{several}"
        );
        let none = selected("empty=true,size<=100G");
        assert!(
            none.contains("no disk is") && none.contains("not empty"),
            "{none}"
        );
        for wrong in [
            "pick=first",
            "empty=perhaps",
            "pci>=1",
            "path=/dev/disk/by-path/x",
        ] {
            assert!(
                selected(wrong).contains("not understood"),
                "{wrong}: {}",
                selected(wrong)
            );
        }
        // Two of the same size are two.
        let mut twins = disks.clone();
        twins[2].size_bytes = twins[1].size_bytes;
        let err = select(&twins, "pick=largest").unwrap_err();
        assert!(matches!(err, SelectError::SeveralMatch { count: 2, .. }), "{err}");
        // What was not looked at is neither.
        let mut unknown = disks.clone();
        unknown[1].empty = None;
        assert!(select(&unknown, "empty=true,rotational=true").is_err());
    }

    #[test]
    fn a_hint_that_is_not_understood_is_refused() {
        for hint in [
            "",
            "size>=x",
            "colour=red",
            "rotational=maybe",
            "serial>=3",
            "sda,,",
            "size=99999999999T",
        ] {
            assert!(
                selected(hint).contains("not understood"),
                "{hint}: {}",
                selected(hint)
            );
        }
    }
}
