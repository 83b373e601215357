//! LVM volume groups as templates declare them: the devices that they are made of, and their volumes.

use serde_json::{Map, Value};

use crate::array::{device_list, short};
use crate::size::Size;
use crate::{FieldProblem, options};

/// Volumes of one group.
pub const MAX_VOLUMES: usize = 128;
/// A group's name and a volume's, each hyphen doubled, are one name of the device mapper, of 127 B at most.
const MAX_NAME_BYTES: usize = 31;
/// Parts of names that LVM keeps for itself. Source: lvm(8), "VALID NAMES".
const KEPT: [&str; 12] = [
    "_cdata", "_cmeta", "_corig", "_mlog", "_mimage", "_pmspare", "_rimage", "_rmeta", "_tdata", "_tmeta",
    "_vdata", "_vorigin",
];

/// A volume group as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeGroup {
    pub name: String,
    /// Disks or partitions as a template names them.
    pub devices: Vec<String>,
    pub volumes: Vec<Volume>,
}

/// One of its volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    /// A part in percent is one of the whole group.
    pub size: Size,
}

/// What a group is declared by, as a template has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct VolumeGroupFields<'a> {
    pub name: Option<&'a str>,
    /// A JSON list of texts.
    pub devices: Option<&'a str>,
    /// A JSON list of mappings with `name` and `size`.
    pub volumes: Option<&'a str>,
}

impl VolumeGroup {
    /// What is not said is not looked at, and counts as empty.
    ///
    /// # Errors
    /// Every problem.
    pub fn parse(fields: &VolumeGroupFields<'_>) -> Result<VolumeGroup, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut say = |variable, message| problems.push(FieldProblem { variable, message });
        if let Some(why) = fields.name.and_then(|name| wrong_name("name", name)) {
            say("NAME", why);
        }
        let devices = fields.devices.map(device_list).unwrap_or(Ok(Vec::new()));
        let devices = devices.unwrap_or_else(|message| {
            say("DEVICES", message);
            Vec::new()
        });
        let volumes = fields.volumes.map(volume_list).unwrap_or(Ok(Vec::new()));
        let volumes = volumes.unwrap_or_else(|messages| {
            messages.into_iter().for_each(|message| say("VOLUMES", message));
            Vec::new()
        });
        match problems.is_empty() {
            true => Ok(VolumeGroup {
                name: fields.name.unwrap_or_default().to_owned(),
                devices,
                volumes,
            }),
            false => Err(problems),
        }
    }
}

impl Volume {
    /// Extents that it is to have of a group of so many, of which others leave it so many: rounded up from bytes, down from percent.
    ///
    /// `None`: none is left for it.
    pub fn extents(&self, extent_bytes: u64, of_group: u64, left: u64) -> Option<u64> {
        let extents = match self.size {
            Size::Bytes(bytes) => bytes.div_ceil(extent_bytes.max(1)),
            Size::Percent(percent) => u64::try_from(u128::from(of_group) * u128::from(percent) / 100).ok()?,
            Size::Rest => left,
        };
        (1..=left).contains(&extents).then_some(extents)
    }
}

fn volume_list(text: &str) -> Result<Vec<Volume>, Vec<String>> {
    if text.len() > options::MAX_OPTIONS_BYTES {
        let (len, most) = (text.len(), options::MAX_OPTIONS_BYTES);
        return Err(vec![format!("volumes has {len} B as JSON, {most} B at most")]);
    }
    let items: Vec<Map<String, Value>> = serde_json::from_str(text).map_err(|_| {
        vec![
            "volumes is no list of mappings: write one, such as [{name: root, size: 20GiB}]; in an environment, as JSON"
                .to_owned(),
        ]
    })?;
    if items.len() > MAX_VOLUMES {
        return Err(vec![format!(
            "volumes has {}, and there may be {MAX_VOLUMES}",
            items.len()
        )]);
    }
    let (mut volumes, mut wrong) = (Vec::<Volume>::new(), Vec::new());
    for (number, item) in items.iter().enumerate() {
        match volume(item) {
            Ok(volume) => {
                if volumes.iter().any(|other| other.name == volume.name) {
                    wrong.push(format!("volumes has {:?} twice", volume.name));
                }
                volumes.push(volume);
            }
            Err(why) => wrong.push(format!("volume {}: {why}", number + 1)),
        }
    }
    if volumes.iter().filter(|volume| volume.size == Size::Rest).count() > 1 {
        wrong.push("volumes has two of size rest: one takes what the others leave".to_owned());
    }
    let percent: u32 = volumes
        .iter()
        .map(|volume| match volume.size {
            Size::Percent(percent) => u32::from(percent),
            _ => 0,
        })
        .sum();
    if percent > 100 {
        wrong.push(format!("volumes are {percent}% of the group together"));
    }
    match wrong.is_empty() {
        true => Ok(volumes),
        false => Err(wrong),
    }
}

fn volume(item: &Map<String, Value>) -> Result<Volume, String> {
    if let Some(other) = item.keys().find(|key| !["name", "size"].contains(&key.as_str())) {
        return Err(format!(
            "{:?} is no field of it: it has name and size",
            short(other)
        ));
    }
    let text = |key: &str| match item.get(key) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(format!("{key} is no text")),
        None => Err(format!("it has no {key}")),
    };
    let (name, size) = (text("name")?, text("size")?);
    if let Some(why) = wrong_name("name", name) {
        return Err(why);
    }
    if name.starts_with("snapshot")
        || name.starts_with("pvmove")
        || KEPT.iter().any(|kept| name.contains(kept))
    {
        return Err(format!("name {name:?} is one that LVM keeps for itself"));
    }
    let size = Size::parse(size).map_err(|bad| bad.to_string())?;
    Ok(Volume {
        name: name.to_owned(),
        size,
    })
}

fn wrong_name(what: &str, name: &str) -> Option<String> {
    let is_plain = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte))
        && name.len() <= MAX_NAME_BYTES;
    (!is_plain).then(|| {
        format!(
            "{what} {:?} is none of LVM: write letters, digits, \".\", \"_\", \"-\" and \"+\", a letter first, {MAX_NAME_BYTES} B at most",
            short(name)
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(name: &str, devices: &str, volumes: &str) -> String {
        let fields = VolumeGroupFields {
            name: Some(name),
            devices: Some(devices),
            volumes: Some(volumes),
        };
        match VolumeGroup::parse(&fields) {
            Ok(group) => format!("{group:?}"),
            Err(problems) => {
                let all: Vec<String> = problems
                    .into_iter()
                    .map(|problem| format!("{}: {}", problem.variable, problem.message))
                    .collect();
                all.join("\n")
            }
        }
    }

    #[test]
    fn a_group_is_read_with_every_problem_named() {
        let good = said(
            "vg0",
            r#"["/dev/vda2"]"#,
            r#"[{"name": "root", "size": "20GiB"}, {"name": "data", "size": "rest"}]"#,
        );
        assert!(good.contains("root") && good.contains("Rest"), "{good}");
        assert_eq!(
            said(
                "0vg",
                "[]",
                r#"[{"name": "a", "size": "1"}, {"name": "b_tdata", "size": "1GiB"}, {"name": "c", "size": "60%", "x": 1}, {"size": "1GiB"}]"#
            ),
            "NAME: name \"0vg\" is none of LVM: write letters, digits, \".\", \"_\", \"-\" and \"+\", a letter first, 31 B at most\n\
             DEVICES: devices has 0, and there may be 1 to 128\n\
             VOLUMES: volume 1: size \"1\" is none: write 512MiB, 20GiB, 1TiB, 50% (a whole number of 1 to 100), or rest\n\
             VOLUMES: volume 2: name \"b_tdata\" is one that LVM keeps for itself\n\
             VOLUMES: volume 3: \"x\" is no field of it: it has name and size\n\
             VOLUMES: volume 4: it has no name"
        );
        assert_eq!(
            said(
                "v",
                r#"["a"]"#,
                r#"[{"name": "a", "size": "60%"}, {"name": "a", "size": "60%"}]"#
            ),
            "VOLUMES: volumes has \"a\" twice\nVOLUMES: volumes are 120% of the group together"
        );
        assert_eq!(
            said(
                "v",
                r#"["a"]"#,
                r#"[{"name": "a", "size": "rest"}, {"name": "b", "size": "rest"}]"#
            ),
            "VOLUMES: volumes has two of size rest: one takes what the others leave"
        );
    }

    #[test]
    fn volumes_have_a_bound() {
        let many: Vec<String> = (0..129)
            .map(|number| format!(r#"{{"name": "v{number}", "size": "4MiB"}}"#))
            .collect();
        let list = |count: usize| format!("[{}]", many[..count].join(","));
        assert!(said("v", r#"["a"]"#, &list(128)).starts_with("VolumeGroup"));
        assert_eq!(
            said("v", r#"["a"]"#, &list(129)),
            "VOLUMES: volumes has 129, and there may be 128"
        );
        let long = format!("[{}]", " ".repeat(options::MAX_OPTIONS_BYTES));
        assert_eq!(
            said("v", r#"["a"]"#, &long),
            "VOLUMES: volumes has 16386 B as JSON, 16384 B at most"
        );
    }

    #[test]
    fn extents_are_of_the_group_and_within_what_is_left() {
        let volume = |size| Volume {
            name: "a".to_owned(),
            size,
        };
        let mib = 1 << 20;
        assert_eq!(volume(Size::Bytes(5 * mib)).extents(4 * mib, 100, 100), Some(2));
        assert_eq!(volume(Size::Percent(33)).extents(4 * mib, 10, 10), Some(3));
        assert_eq!(volume(Size::Percent(5)).extents(4 * mib, 10, 10), None);
        assert_eq!(volume(Size::Rest).extents(4 * mib, 10, 7), Some(7));
        assert_eq!(volume(Size::Rest).extents(4 * mib, 10, 0), None);
        assert_eq!(volume(Size::Bytes(5 * mib)).extents(4 * mib, 100, 1), None);
        assert_eq!(
            volume(Size::Percent(100)).extents(0, u64::MAX, u64::MAX),
            Some(u64::MAX)
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(name in ".{0,40}", devices in ".{0,80}", volumes in ".{0,80}") {
            said(&name, &devices, &volumes);
        }
    }
}
