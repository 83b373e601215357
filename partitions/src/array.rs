//! Linux software RAID as templates declare it: level, members, name, and how its metadata lies.

use std::fmt;

use serde_json::Value;

use crate::size::Size;
use crate::{FieldProblem, options};

/// Members of one array, devices of one volume group.
pub const MAX_DEVICES: usize = 128;
/// A name or a path among them.
const MAX_DEVICE_BYTES: usize = 4096;
/// `set_name` of the superblock: home host, a colon, the name. Source: linux/raid/md_p.h, `struct mdp_superblock_1`.
const MAX_SET_NAME_BYTES: usize = 32;

/// How the members make the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Raid0,
    Raid1,
    Raid5,
    Raid6,
    Raid10,
}

impl Level {
    const ALL: [Level; 5] = [
        Level::Raid0,
        Level::Raid1,
        Level::Raid5,
        Level::Raid6,
        Level::Raid10,
    ];

    /// As md numbers it.
    pub fn number(self) -> u32 {
        match self {
            Level::Raid0 => 0,
            Level::Raid1 => 1,
            Level::Raid5 => 5,
            Level::Raid6 => 6,
            Level::Raid10 => 10,
        }
    }

    fn least_members(self) -> usize {
        match self {
            Level::Raid0 | Level::Raid1 | Level::Raid10 => 2,
            Level::Raid5 => 3,
            Level::Raid6 => 4,
        }
    }

    /// The module of the kernel that has it.
    pub fn module(self) -> &'static str {
        match self {
            Level::Raid0 => "raid0",
            Level::Raid1 => "raid1",
            Level::Raid5 | Level::Raid6 => "raid456",
            Level::Raid10 => "raid10",
        }
    }
}

/// Where the superblock lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// At the end: firmware and boot loaders see the content from the first byte.
    V1_0,
    /// 4 KiB from the start.
    V1_2,
}

impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Metadata::V1_0 => "1.0",
            Metadata::V1_2 => "1.2",
        })
    }
}

/// An array as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    pub level: Level,
    /// Disks or partitions as a template names them, in their order.
    pub devices: Vec<String>,
    /// Below /dev/md.
    pub name: String,
    /// Of the system that is to assemble it; `any`: each.
    pub homehost: String,
    pub metadata: Metadata,
    pub has_bitmap: bool,
    /// A power of two of 4 KiB at least; `None`: as mdadm chooses it.
    pub chunk_kib: Option<u64>,
}

/// What an array is declared by, as a template has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ArrayFields<'a> {
    pub level: Option<&'a str>,
    /// A JSON list.
    pub devices: Option<&'a str>,
    pub name: Option<&'a str>,
    pub homehost: Option<&'a str>,
    pub metadata: Option<&'a str>,
    pub bitmap: Option<&'a str>,
    pub chunk: Option<&'a str>,
}

impl Array {
    /// What is not said is not looked at, and counts as its default.
    ///
    /// # Errors
    /// Every problem.
    pub fn parse(fields: &ArrayFields<'_>) -> Result<Array, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut say = |variable, message| problems.push(FieldProblem { variable, message });
        let level = fields.level.map(|text| {
            let found = Level::ALL.into_iter().find(|level| {
                [level.number().to_string(), format!("raid{}", level.number())].contains(&text.to_owned())
            });
            if found.is_none() {
                say(
                    "LEVEL",
                    format!("level {:?} is none: it is 0, 1, 5, 6 or 10", short(text)),
                );
            }
            found.unwrap_or(Level::Raid1)
        });
        let devices = fields.devices.map(device_list);
        if let Some(Err(message)) = &devices {
            say("DEVICES", message.clone());
        }
        if let (Some(level), Some(Ok(devices))) = (level, &devices)
            && devices.len() < level.least_members()
        {
            say(
                "DEVICES",
                format!(
                    "devices has {}, and RAID {} needs {} members at least",
                    devices.len(),
                    level.number(),
                    level.least_members()
                ),
            );
        }
        let homehost = fields.homehost.unwrap_or("any");
        for (variable, what, text) in [
            ("NAME", "name", fields.name),
            ("HOMEHOST", "homehost", Some(homehost)),
        ] {
            if let Some(text) = text.filter(|text| !is_plain(text)) {
                say(
                    variable,
                    format!(
                        "{what} {:?} is none of an array: write letters, digits, \".\", \"_\" and \"-\", a letter first",
                        short(text)
                    ),
                );
            }
        }
        let name = fields.name.unwrap_or_default();
        let set_name_bytes = homehost.len() + 1 + name.len();
        if set_name_bytes > MAX_SET_NAME_BYTES {
            say(
                "NAME",
                format!(
                    "homehost and name have {set_name_bytes} B with the colon between them, and a superblock has room for {MAX_SET_NAME_BYTES} B"
                ),
            );
        }
        let metadata = match fields.metadata {
            None | Some("1.2") => Metadata::V1_2,
            Some("1.0") => Metadata::V1_0,
            Some(text) => {
                say(
                    "METADATA",
                    format!(
                        "metadata {:?} is none that is made here: it is 1.2 or 1.0",
                        short(text)
                    ),
                );
                Metadata::V1_2
            }
        };
        let is_raid0 = level == Some(Level::Raid0);
        let has_bitmap = match fields.bitmap {
            None => !is_raid0,
            Some("none") => false,
            Some("internal") => true,
            Some(text) => {
                say(
                    "BITMAP",
                    format!("bitmap {:?} is none: it is internal or none", short(text)),
                );
                false
            }
        };
        if is_raid0 && has_bitmap {
            say(
                "BITMAP",
                "bitmap internal is of no use to RAID 0, which has nothing to repair".to_owned(),
            );
        }
        let chunk_kib = fields.chunk.and_then(|text| {
            let kib = match Size::parse(text) {
                Ok(Size::Bytes(bytes)) => bytes >> 10,
                _ => 0,
            };
            let is_chunk = (4..=1 << 20).contains(&kib) && kib.is_power_of_two();
            if !is_chunk {
                say(
                    "CHUNK",
                    format!(
                        "chunk {:?} is none: write a power of two from 4KiB to 1024MiB, such as 512KiB",
                        short(text)
                    ),
                );
            }
            Some(kib).filter(|_| is_chunk)
        });
        if fields.chunk.is_some() && level == Some(Level::Raid1) {
            say(
                "CHUNK",
                "chunk is of no use to RAID 1, whose members are all alike".to_owned(),
            );
        }
        match problems.is_empty() {
            true => Ok(Array {
                level: level.unwrap_or(Level::Raid1),
                devices: devices.and_then(Result::ok).unwrap_or_default(),
                name: name.to_owned(),
                homehost: homehost.to_owned(),
                metadata,
                has_bitmap,
                chunk_kib,
            }),
            false => Err(problems),
        }
    }

    /// What the superblock has for a name.
    pub fn set_name(&self) -> String {
        format!("{}:{}", self.homehost, self.name)
    }

    /// The arguments of `mdadm` that make it of these devices; it asks nothing then, and overwrites. `uuid` are 32 hexadecimal digits.
    pub fn create_arguments(&self, uuid: &str, devices: &[String]) -> Vec<String> {
        let mut arguments = vec![
            "--create".to_owned(),
            format!("/dev/md/{}", self.name),
            "--run".to_owned(),
            format!("--level={}", self.level.number()),
            format!("--raid-devices={}", devices.len()),
            format!("--metadata={}", self.metadata),
            format!("--homehost={}", self.homehost),
            format!("--name={}", self.name),
            format!("--uuid={uuid}"),
        ];
        if self.level == Level::Raid5 {
            // Else the last member begins as a spare, and has no place in the array yet when mdadm ends.
            arguments.push("--force".to_owned());
        }
        if self.level != Level::Raid0 {
            let bitmap = if self.has_bitmap { "internal" } else { "none" };
            arguments.push(format!("--bitmap={bitmap}"));
        }
        arguments.extend(self.chunk_kib.map(|kib| format!("--chunk={kib}K")));
        arguments.extend(devices.iter().cloned());
        arguments
    }

    /// The arguments of `mdadm` that put it together of these devices, where it is made.
    pub fn assemble_arguments(&self, uuid: &str, devices: &[String]) -> Vec<String> {
        let mut arguments = vec![
            "--assemble".to_owned(),
            format!("/dev/md/{}", self.name),
            "--run".to_owned(),
            format!("--uuid={uuid}"),
        ];
        arguments.extend(devices.iter().cloned());
        arguments
    }
}

/// A JSON list of names of disks or partitions, none twice.
pub(crate) fn device_list(text: &str) -> Result<Vec<String>, String> {
    if text.len() > options::MAX_OPTIONS_BYTES {
        let (len, most) = (text.len(), options::MAX_OPTIONS_BYTES);
        return Err(format!("devices has {len} B as JSON, {most} B at most"));
    }
    let no_list = || {
        "devices is no list of texts: write one, such as [/dev/vda2, /dev/vdb2]; in an environment, as JSON"
            .to_owned()
    };
    let items: Vec<Value> = serde_json::from_str(text).map_err(|_| no_list())?;
    if items.is_empty() || items.len() > MAX_DEVICES {
        return Err(format!(
            "devices has {}, and there may be 1 to {MAX_DEVICES}",
            items.len()
        ));
    }
    let mut devices: Vec<String> = Vec::new();
    for item in items {
        let Value::String(name) = item else {
            return Err(no_list());
        };
        if name.is_empty() || name.len() > MAX_DEVICE_BYTES {
            return Err(format!(
                "devices has a name of {} B: it has 1 to {MAX_DEVICE_BYTES} B",
                name.len()
            ));
        }
        if devices.contains(&name) {
            return Err(format!("devices has {:?} twice", short(&name)));
        }
        devices.push(name);
    }
    Ok(devices)
}

pub(crate) fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

pub(crate) fn is_plain(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields<'a>(level: &'a str, devices: &'a str) -> ArrayFields<'a> {
        ArrayFields {
            level: Some(level),
            devices: Some(devices),
            name: Some("root"),
            ..ArrayFields::default()
        }
    }

    #[track_caller]
    fn said(fields: &ArrayFields<'_>) -> String {
        let problems = Array::parse(fields).err().unwrap_or_default();
        let words: Vec<String> = problems.iter().map(FieldProblem::to_string).collect();
        words.join("; ")
    }

    #[test]
    fn each_level_has_its_least_number_of_members() {
        let list = |count: usize| {
            let names: Vec<String> = (0..count).map(|number| format!("/dev/vd{number}")).collect();
            serde_json::to_string(&names).unwrap()
        };
        for (level, least) in [("0", 2), ("1", 2), ("raid5", 3), ("6", 4), ("raid10", 2)] {
            assert_eq!(said(&fields(level, &list(least))), "", "{level}");
            let few = said(&fields(level, &list(least - 1)));
            assert!(few.contains(&format!("needs {least} members at least")), "{few}");
        }
        assert!(said(&fields("1", &list(MAX_DEVICES + 1))).contains("1 to 128"));
        assert_eq!(said(&fields("1", &list(MAX_DEVICES))), "");
    }

    #[test]
    fn what_no_array_has_is_refused_with_every_problem() {
        let all = said(&ArrayFields {
            level: Some("4"),
            devices: Some(r#"["/dev/vda", "/dev/vda"]"#),
            name: Some("a/b"),
            homehost: Some("-x"),
            metadata: Some("0.90"),
            bitmap: Some("/boot/bitmap"),
            chunk: Some("100KiB"),
        });
        for words in [
            "level \"4\" is none: it is 0, 1, 5, 6 or 10",
            "devices has \"/dev/vda\" twice",
            "name \"a/b\" is none of an array",
            "homehost \"-x\" is none",
            "metadata \"0.90\" is none that is made here",
            "bitmap \"/boot/bitmap\" is none",
            "chunk \"100KiB\" is none",
        ] {
            assert!(all.contains(words), "{words}: {all}");
        }
        let two = r#"["/dev/vda", "/dev/vdb"]"#;
        let long = ArrayFields {
            homehost: Some("a-host-with-a-long-name"),
            name: Some("a-long-name"),
            ..fields("1", two)
        };
        assert!(said(&long).contains("have 35 B"), "{}", said(&long));
        let bitmap = ArrayFields {
            bitmap: Some("internal"),
            ..fields("0", two)
        };
        assert!(said(&bitmap).contains("of no use to RAID 0"));
        let chunk = ArrayFields {
            chunk: Some("64KiB"),
            ..fields("1", two)
        };
        assert!(said(&chunk).contains("of no use to RAID 1"));
        assert!(said(&fields("1", "/dev/vda")).contains("no list of texts"));
    }

    #[test]
    fn the_arguments_name_every_member_once_and_in_order() {
        let array = Array::parse(&ArrayFields {
            chunk: Some("512KiB"),
            metadata: Some("1.0"),
            ..fields("5", r#"["c", "a", "b"]"#)
        })
        .unwrap();
        let devices = ["/dev/vdc", "/dev/vda", "/dev/vdb"].map(str::to_owned);
        assert_eq!(
            array.create_arguments("0123", &devices).join(" "),
            "--create /dev/md/root --run --level=5 --raid-devices=3 --metadata=1.0 --homehost=any --name=root --uuid=0123 --force \
             --bitmap=internal --chunk=512K /dev/vdc /dev/vda /dev/vdb"
        );
        assert_eq!(
            array.assemble_arguments("0123", &devices).join(" "),
            "--assemble /dev/md/root --run --uuid=0123 /dev/vdc /dev/vda /dev/vdb"
        );
        assert_eq!(array.set_name(), "any:root");
    }

    proptest! {
        #[test]
        fn no_text_panics(level in "[0-9a-z]{0,6}", devices in "\\[(\"[a-z/]{0,6}\",?)*\\]|.*", name in ".{0,40}", chunk in "[0-9KMi]{0,9}B?") {
            let _ = Array::parse(&ArrayFields {
                level: Some(&level),
                devices: Some(&devices),
                name: Some(&name),
                homehost: Some(&name),
                metadata: Some(&level),
                bitmap: Some(&level),
                chunk: Some(&chunk),
            });
        }
    }
}
