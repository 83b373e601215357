//! What is known of a volume group by what lvm reports, before and after it works on its devices.
//!
//! INVARIANT: a group counts as made when lvm shows one of its name that has these devices, all of them and no other. Devices of which some
//! are of no group yet carry the UUIDs that this action gives: they were half made, and are made anew.

use std::path::{Path, PathBuf};

pub use partitions::{Volume, VolumeGroup, VolumeGroupFields};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::image::WriteError;
use crate::members::{self, MemberError, is_same};

/// The label, the metadata (1 MiB each by default), and room for something.
const LEAST_BYTES: u64 = 8 << 20;
/// What lvm may report.
const MAX_REPORT_BYTES: usize = 4 << 20;

/// Given to each command of lvm: what it is to read of no file, and to wait for from no udev.
pub const CONFIG: &str = "backup{backup=0 archive=0} devices{use_devicesfile=0 hints=\"none\" obtain_device_list_from_udev=0 \
                          external_device_info_source=\"none\"} activation{udev_sync=0 udev_rules=0 monitoring=0} \
                          global{event_activation=0}";

/// A physical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Physical {
    pub path: PathBuf,
    pub uuid: String,
    /// Empty: of none.
    pub group: String,
}

/// A volume group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub uuid: String,
    extent_bytes: u64,
    extents: u64,
    free: u64,
    missing: u64,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logical {
    pub group: String,
    pub name: String,
    bytes: u64,
    is_active: bool,
}

/// All that lvm knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub physical: Vec<Physical>,
    pub groups: Vec<Group>,
    pub logical: Vec<Logical>,
}

/// What is asked of lvm for a part of a [`Report`].
pub const QUESTIONS: [[&str; 3]; 3] = [
    ["pvs", "pv", "pv_name,pv_uuid,vg_name"],
    [
        "vgs",
        "vg",
        "vg_name,vg_uuid,vg_extent_size,vg_extent_count,vg_free_count,vg_missing_pv_count",
    ],
    ["lvs", "lv", "vg_name,lv_name,lv_size,lv_active"],
];

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The group is there; these volumes are missing, with their extents.
    Complete {
        uuid: String,
        missing: Vec<(String, u64)>,
        /// Whether some that are there are not active.
        sleeps: bool,
    },
    Make,
}

/// Why there is no group as declared.
#[derive(Debug, thiserror::Error)]
pub enum LvmError {
    #[error(transparent)]
    Disk(#[from] WriteError),
    #[error(transparent)]
    Member(#[from] MemberError),
    #[error("what `lvm {command}` reports cannot be read: {why}; nothing was written")]
    Report { command: String, why: String },
    #[error(
        "the volume group {name} is there already, and has other devices ({devices}): give those, another NAME, or change it with \
         vgextend and vgreduce; nothing was written"
    )]
    NameTaken { name: String, devices: String },
    #[error(
        "{device} is a part of the volume group {group}, which has other devices too ({others}): overwriting one of them would \
         wreck it. Wipe them first, or remove it with vgreduce; nothing was written"
    )]
    OtherMembers {
        device: PathBuf,
        group: String,
        others: String,
    },
    #[error(
        "volume {volume} is there with {have_bytes} B, and {want_bytes} B are declared: grow it with lvextend, or declare less; \
         nothing was written"
    )]
    TooSmallVolume {
        volume: String,
        have_bytes: u64,
        want_bytes: u64,
    },
    #[error(
        "the volume group {name} has no room for volume {volume} ({size}): {left_bytes} B are left of {have_bytes} B; nothing was written"
    )]
    NoRoom {
        name: String,
        volume: String,
        size: String,
        left_bytes: u64,
        have_bytes: u64,
    },
    #[error("lvm ended well, and {missing}: this lvm does something else than is expected of it")]
    NotMade { missing: String },
}

impl LvmError {
    /// One word for what went wrong; stable, for programs to compare.
    pub fn reason(&self) -> &'static str {
        match self {
            LvmError::Disk(error) => error.reason(),
            LvmError::Member(error) => error.reason(),
            LvmError::Report { .. } => "BadReport",
            LvmError::NameTaken { .. } => "NameTaken",
            LvmError::OtherMembers { .. } => "OtherMembers",
            LvmError::TooSmallVolume { .. } => "VolumeTooSmall",
            LvmError::NoRoom { .. } => "NoRoom",
            LvmError::NotMade { .. } => "NotMade",
        }
    }
}

/// The UUID that a device is given: the same seed gives the same one. As lvm writes it: 32 letters and digits in groups.
pub fn uuid_of(seed: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(seed.as_bytes()).into();
    let digits: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let mut rest = digits.as_str();
    let groups = [6, 4, 4, 4, 4, 4, 6].map(|length| {
        let (group, behind) = rest.split_at(length);
        rest = behind;
        group
    });
    groups.join("-")
}

/// One row of an answer.
struct Row {
    command: &'static str,
    fields: Value,
}

/// The rows of the answer to a question.
fn rows(question: usize, answer: &[u8]) -> Result<impl Iterator<Item = Row>, LvmError> {
    let [command, kind, _] = QUESTIONS.get(question).copied().unwrap_or_default();
    if answer.len() > MAX_REPORT_BYTES {
        let why = format!("it has {} B, {MAX_REPORT_BYTES} B at most", answer.len());
        return Err(unread(command, why));
    }
    let mut whole: Value =
        serde_json::from_slice(answer).map_err(|error| unread(command, error.to_string()))?;
    match whole.pointer_mut(&format!("/report/0/{kind}")).map(Value::take) {
        Some(Value::Array(rows)) => Ok(rows.into_iter().map(move |fields| Row { command, fields })),
        _ => Err(unread(command, format!("it has no list of {kind}"))),
    }
}

fn unread(command: &str, why: String) -> LvmError {
    LvmError::Report {
        command: command.to_owned(),
        why,
    }
}

impl Row {
    fn text(&self, name: &str) -> Result<&str, LvmError> {
        let text = self.fields.get(name).and_then(Value::as_str);
        text.ok_or_else(|| unread(self.command, format!("{name} is no text")))
    }

    /// lvm writes numbers as texts, and as numbers in its newer form.
    fn number(&self, name: &str) -> Result<u64, LvmError> {
        let number = match self.fields.get(name) {
            Some(Value::String(text)) => text.parse().ok(),
            value => value.and_then(Value::as_u64),
        };
        number.ok_or_else(|| unread(self.command, format!("{name} is no number")))
    }
}

impl Report {
    /// Of the answers to [`QUESTIONS`], in their order. Pure.
    ///
    /// # Errors
    /// One is none of lvm.
    pub fn read(answers: [&[u8]; 3]) -> Result<Report, LvmError> {
        let [physical, groups, logical] = answers;
        let physical = rows(0, physical)?.map(|row| {
            Ok(Physical {
                path: row.text("pv_name")?.into(),
                uuid: row.text("pv_uuid")?.to_owned(),
                group: row.text("vg_name")?.to_owned(),
            })
        });
        let groups = rows(1, groups)?.map(|row| {
            Ok(Group {
                name: row.text("vg_name")?.to_owned(),
                uuid: row.text("vg_uuid")?.to_owned(),
                extent_bytes: row.number("vg_extent_size")?,
                extents: row.number("vg_extent_count")?,
                free: row.number("vg_free_count")?,
                missing: row.number("vg_missing_pv_count")?,
            })
        });
        let logical = rows(2, logical)?.map(|row| {
            Ok(Logical {
                group: row.text("vg_name")?.to_owned(),
                name: row.text("lv_name")?.to_owned(),
                bytes: row.number("lv_size")?,
                is_active: row.text("lv_active")? == "active",
            })
        });
        Ok(Report {
            physical: physical.collect::<Result<_, LvmError>>()?,
            groups: groups.collect::<Result<_, LvmError>>()?,
            logical: logical.collect::<Result<_, LvmError>>()?,
        })
    }

    fn members(&self, group: &str) -> Vec<&Path> {
        let of = self.physical.iter().filter(|one| one.group == group);
        of.map(|one| one.path.as_path()).collect()
    }

    /// The physical volume that is on a device.
    pub fn on(&self, device: &Path) -> Option<&Physical> {
        self.physical.iter().find(|one| is_same(&one.path, device))
    }
}

/// What is to be done, by what lvm reports. Reads which device a name is, and nothing else.
///
/// A volume that is larger than declared is as declared: it was grown. So is one of size `rest`, however large it is.
///
/// # Errors
/// It cannot be done without wrecking something that nobody named, or there is no room.
pub fn next(declared: &VolumeGroup, devices: &[PathBuf], report: &Report) -> Result<Next, LvmError> {
    let is_named = |path: &Path| devices.iter().any(|device| is_same(device, path));
    let listed = |paths: &[&Path]| {
        let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        shown.join(", ")
    };
    let mut named = report.groups.iter().filter(|group| group.name == declared.name);
    if let Some(group) = named.next() {
        let members = report.members(&group.name);
        let are_those = members.len() == devices.len()
            && members.iter().all(|member| is_named(member))
            && group.missing == 0;
        if !are_those || named.next().is_some() {
            let mut shown = listed(&members);
            if group.missing > 0 {
                shown += &format!(" and {} that are not here", group.missing);
            }
            return Err(LvmError::NameTaken {
                name: declared.name.clone(),
                devices: shown,
            });
        }
        return volumes(declared, group, report);
    }
    for device in devices {
        let Some(here) = report.on(device).filter(|here| !here.group.is_empty()) else {
            continue;
        };
        let others: Vec<&Path> = report.members(&here.group);
        let others: Vec<&Path> = others.into_iter().filter(|path| !is_named(path)).collect();
        let group = report.groups.iter().find(|group| group.name == here.group);
        let missing = group.map_or(0, |group| group.missing);
        if !others.is_empty() || missing > 0 {
            let mut shown = listed(&others);
            if missing > 0 {
                shown += &format!(" {missing} that are not here");
            }
            return Err(LvmError::OtherMembers {
                device: device.clone(),
                group: here.group.clone(),
                others: shown.trim_start().to_owned(),
            });
        }
    }
    Ok(Next::Make)
}

/// Which volumes are missing of a group that is there.
fn volumes(declared: &VolumeGroup, group: &Group, report: &Report) -> Result<Next, LvmError> {
    let extent_bytes = group.extent_bytes;
    let bytes = |extents: u64| extents.saturating_mul(extent_bytes);
    let there = |name: &str| {
        let mut of = report.logical.iter().filter(|one| one.group == group.name);
        of.find(|one| one.name == name)
    };
    let (mut left, mut missing, mut sleeps) = (group.free, Vec::new(), false);
    // One that takes the rest is planned when the others have theirs.
    let (rest, sized): (Vec<&Volume>, Vec<&Volume>) = declared
        .volumes
        .iter()
        .partition(|volume| volume.size == partitions::Size::Rest);
    for volume in sized.into_iter().chain(rest) {
        let wanted = volume.extents(extent_bytes, group.extents, left);
        match (there(&volume.name), wanted) {
            (Some(found), _) => {
                sleeps |= !found.is_active;
                let want = match volume.size {
                    partitions::Size::Rest => 0,
                    _ => volume
                        .extents(extent_bytes, group.extents, group.extents)
                        .map_or(u64::MAX, bytes),
                };
                if found.bytes < want {
                    return Err(LvmError::TooSmallVolume {
                        volume: volume.name.clone(),
                        have_bytes: found.bytes,
                        want_bytes: want,
                    });
                }
            }
            (None, Some(extents)) => {
                left -= extents;
                missing.push((volume.name.clone(), extents));
            }
            (None, None) => {
                return Err(LvmError::NoRoom {
                    name: group.name.clone(),
                    volume: volume.name.clone(),
                    size: volume.size.to_string(),
                    left_bytes: bytes(left),
                    have_bytes: bytes(group.extents),
                });
            }
        }
    }
    Ok(Next::Complete {
        uuid: group.uuid.clone(),
        missing,
        sleeps,
    })
}

/// Refuses devices that cannot be overwritten, and volumes that have no room on them. `uuids` are what the devices would get: what has
/// them is half made. Writes nothing. Blocks.
///
/// # Errors
/// See [`LvmError`].
pub fn may_be_made(
    declared: &VolumeGroup,
    devices: &[PathBuf],
    uuids: &[String],
    report: &Report,
    only_empty: bool,
) -> Result<(), LvmError> {
    let is_ours: Vec<bool> = devices
        .iter()
        .zip(uuids)
        .map(|(device, uuid)| report.on(device).is_some_and(|here| here.uuid == *uuid))
        .collect();
    let sizes = members::may_be_overwritten(devices, &is_ours, only_empty, LEAST_BYTES)?;
    // As vgcreate lays it out, or one extent less of each: label and metadata have the first MiB. What has room here has room there.
    let extents = sizes
        .iter()
        .map(|bytes| (bytes / EXTENT_BYTES).saturating_sub(1))
        .sum();
    let planned = Group {
        name: declared.name.clone(),
        uuid: String::new(),
        extent_bytes: EXTENT_BYTES,
        extents,
        free: extents,
        missing: 0,
    };
    volumes(declared, &planned, &Report::default()).map(drop)
}

/// Of the groups that are made here. Source: vgcreate(8), "--physicalextentsize".
pub const EXTENT_BYTES: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const PVS: &str = r#"{"report": [{"pv": [
        {"pv_name":"/dev/vda2", "pv_uuid":"aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaaa", "vg_name":"vg0"},
        {"pv_name":"/dev/vdb", "pv_uuid":"b", "vg_name":"vg0"},
        {"pv_name":"/dev/vdc", "pv_uuid":"c", "vg_name":""}]}], "log": []}"#;
    const VGS: &str = r#"{"report": [{"vg": [{"vg_name":"vg0", "vg_uuid":"U", "vg_extent_size":"4194304",
        "vg_extent_count":"100", "vg_free_count":"70", "vg_missing_pv_count":"0"}]}]}"#;
    const LVS: &str = r#"{"report": [{"lv": [{"vg_name":"vg0", "lv_name":"root", "lv_size":"125829120", "lv_active":"active"}]}]}"#;

    fn report() -> Report {
        Report::read([PVS.as_bytes(), VGS.as_bytes(), LVS.as_bytes()]).unwrap()
    }

    fn declared(name: &str, volumes: &[(&str, &str)]) -> VolumeGroup {
        let volumes: Vec<serde_json::Value> = volumes
            .iter()
            .map(|(name, size)| serde_json::json!({"name": name, "size": size}))
            .collect();
        VolumeGroup::parse(&VolumeGroupFields {
            name: Some(name),
            devices: Some(r#"["a"]"#),
            volumes: Some(&serde_json::to_string(&volumes).unwrap()),
        })
        .unwrap()
    }

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn a_group_that_is_there_is_left_or_completed() {
        let both = paths(&["/dev/vdb", "/dev/vda2"]);
        let of = |volumes: &[(&str, &str)]| next(&declared("vg0", volumes), &both, &report());
        let complete = |missing: &[(&str, u64)]| Next::Complete {
            uuid: "U".to_owned(),
            missing: missing
                .iter()
                .map(|(name, extents)| ((*name).to_owned(), *extents))
                .collect(),
            sleeps: false,
        };
        // 30 extents of 4 MiB; it may have been grown.
        assert_eq!(of(&[("root", "120MiB")]).unwrap(), complete(&[]));
        assert_eq!(of(&[("root", "30%")]).unwrap(), complete(&[]));
        assert_eq!(of(&[("root", "10MiB")]).unwrap(), complete(&[]));
        assert_eq!(of(&[("root", "rest")]).unwrap(), complete(&[]));
        assert_eq!(
            of(&[("data", "rest"), ("root", "120MiB"), ("log", "10%")]).unwrap(),
            complete(&[("log", 10), ("data", 60)])
        );
        assert_eq!(of(&[("root", "121MiB")]).unwrap_err().reason(), "VolumeTooSmall");
        assert_eq!(of(&[("data", "284MiB")]).unwrap_err().reason(), "NoRoom");
        assert_eq!(
            of(&[("data", "280MiB"), ("more", "rest")])
                .unwrap_err()
                .to_string(),
            "the volume group vg0 has no room for volume more (rest): 0 B are left of 419430400 B; nothing was written"
        );
        let mut asleep = report();
        asleep.logical[0].is_active = false;
        let next = next(&declared("vg0", &[("root", "1MiB")]), &both, &asleep).unwrap();
        assert!(matches!(next, Next::Complete { sleeps: true, .. }), "{next:?}");
    }

    #[test]
    fn what_would_wreck_a_group_that_nobody_named_is_refused() {
        let of = |name: &str, devices: &[&str]| next(&declared(name, &[]), &paths(devices), &report());
        let reason = |name: &str, devices: &[&str]| of(name, devices).map_err(|e| e.reason());
        // Of the declared name, and of other devices.
        assert_eq!(reason("vg0", &["/dev/vda2"]), Err("NameTaken"));
        assert_eq!(reason("vg0", &["/dev/vdc"]), Err("NameTaken"));
        assert_eq!(
            reason("vg0", &["/dev/vda2", "/dev/vdb", "/dev/vdc"]),
            Err("NameTaken")
        );
        // A part of another group, and all of it.
        assert_eq!(reason("new", &["/dev/vda2", "/dev/vdc"]), Err("OtherMembers"));
        assert_eq!(reason("new", &["/dev/vda2", "/dev/vdb"]), Ok(Next::Make));
        assert_eq!(reason("new", &["/dev/vdc"]), Ok(Next::Make));
        assert_eq!(reason("new", &["/dev/vdz"]), Ok(Next::Make));
        // Devices of it are away.
        let mut away = report();
        away.groups[0].missing = 1;
        let both = paths(&["/dev/vda2", "/dev/vdb"]);
        assert_eq!(
            next(&declared("vg0", &[]), &both, &away).unwrap_err().to_string(),
            "the volume group vg0 is there already, and has other devices (/dev/vda2, /dev/vdb and 1 that are not here): give those, \
             another NAME, or change it with vgextend and vgreduce; nothing was written"
        );
        assert_eq!(
            next(&declared("new", &[]), &both, &away).unwrap_err().reason(),
            "OtherMembers"
        );
        // Two groups of one name: whose volumes are meant is not known.
        let mut twice = report();
        twice.groups.push(twice.groups[0].clone());
        assert_eq!(
            next(&declared("vg0", &[]), &both, &twice).unwrap_err().reason(),
            "NameTaken"
        );
    }

    #[test]
    fn what_is_no_report_is_told_with_its_command() {
        let read = |answer: &str| Report::read([PVS.as_bytes(), answer.as_bytes(), LVS.as_bytes()]);
        for answer in [
            "",
            "{}",
            r#"{"report": []}"#,
            r#"{"report": [{"vg": [{"vg_name": "a"}]}]}"#,
            r#"{"report": [{"vg": [{"vg_name":"a", "vg_uuid":"U", "vg_extent_size":"x", "vg_extent_count":"1", "vg_free_count":"1", "vg_missing_pv_count":"0"}]}]}"#,
        ] {
            let error = read(answer).unwrap_err();
            assert_eq!(error.reason(), "BadReport");
            assert!(error.to_string().contains("`lvm vgs`"), "{error}");
        }
        // The newer form.
        assert!(read(&VGS.replace(r#""100""#, "100")).is_ok());
    }

    #[test]
    fn a_uuid_is_of_its_seed_and_grouped_as_lvm_writes_it() {
        let uuid = uuid_of("a");
        assert_eq!(uuid, uuid_of("a"));
        assert_ne!(uuid, uuid_of("b"));
        let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(groups, [6, 4, 4, 4, 4, 4, 6]);
    }
}
