//! What a template declares, read from JSON with every problem named.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::kind::Kind;
use crate::plan::MBR_END_BYTES;
use crate::size::{Size, shown};
use crate::{ALIGN_BYTES, Guid};

/// Entries of a GUID partition table. Source: UEFI specification 2.10 section 5.3: 16 KiB of them.
pub const MAX_PARTITIONS_GPT: usize = 128;
/// Entries of an MBR; logical partitions are not made.
pub const MAX_PARTITIONS_MBR: usize = 4;
/// UTF-16 units of a name. Source: UEFI specification 2.10 table 5.6.
pub const MAX_NAME_UNITS: usize = 36;
/// Bytes of a layout as JSON.
pub const MAX_TEXT_BYTES: usize = 64 << 10;

/// Which table a disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Gpt,
    Mbr,
}

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Gpt => "gpt",
            Scheme::Mbr => "mbr",
        }
    }
}

/// A mark of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    /// Systemd's: a filesystem is grown when it is mounted.
    GrowFs,
    /// BIOS boot loaders start from it; the active partition of an MBR.
    LegacyBoot,
    /// It is not mounted by itself.
    NoAuto,
    ReadOnly,
    /// The machine needs it; tools are not to delete it.
    Required,
}

impl Attribute {
    const ALL: [(&'static str, Attribute); 5] = [
        ("grow-fs", Attribute::GrowFs),
        ("legacy-boot", Attribute::LegacyBoot),
        ("no-auto", Attribute::NoAuto),
        ("read-only", Attribute::ReadOnly),
        ("required", Attribute::Required),
    ];

    /// The bit in a GUID partition table.
    ///
    /// Source: UEFI specification 2.10 table 5.8; the Discoverable Partitions Specification.
    pub fn gpt_bit(self) -> u64 {
        match self {
            Attribute::Required => 1,
            Attribute::LegacyBoot => 1 << 2,
            Attribute::GrowFs => 1 << 59,
            Attribute::ReadOnly => 1 << 60,
            Attribute::NoAuto => 1 << 63,
        }
    }
}

/// A table as it is declared: something that a disk can have, if it is large enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub scheme: Scheme,
    /// In the order of their numbers and places, from 1.
    pub partitions: Vec<Declared>,
}

/// One partition as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Of a GUID partition table the label; of an MBR nothing that is on the disk.
    pub name: Option<String>,
    pub size: Size,
    pub kind: Kind,
    pub uuid: Option<Guid>,
    pub attributes: BTreeSet<Attribute>,
}

/// What is wrong with a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Of the partition in the list, from 0; `None`: it is of all of them.
    pub partition: Option<usize>,
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Layout {
    /// From the words of a template: `gpt` or `mbr`, and a list of partitions.
    ///
    /// # Errors
    /// Every problem, in the order of the partitions.
    pub fn read(table: Option<&str>, partitions: &Value) -> Result<Layout, Vec<Problem>> {
        let mut problems = Vec::new();
        let of_all = |message: String| Problem {
            partition: None,
            message,
        };
        let scheme = match table {
            None | Some("gpt") => Scheme::Gpt,
            Some("mbr") => Scheme::Mbr,
            Some(other) => {
                problems.push(of_all(format!("table {other:?} is neither gpt nor mbr")));
                Scheme::Gpt
            }
        };
        let Value::Array(items) = partitions else {
            problems.push(of_all(
                "partitions is no list: write one, such as [{name: root, size: rest, type: linux}]"
                    .to_owned(),
            ));
            return Err(problems);
        };
        let most = match scheme {
            Scheme::Gpt => MAX_PARTITIONS_GPT,
            Scheme::Mbr => MAX_PARTITIONS_MBR,
        };
        if items.is_empty() {
            problems.push(of_all("partitions is empty: declare one at least".to_owned()));
        }
        if items.len() > most {
            let cure = match scheme {
                Scheme::Gpt => "",
                Scheme::Mbr => "; a table gpt has up to 128",
            };
            problems.push(of_all(format!(
                "there are {} partitions, and a table {} has {most} at most{cure}",
                items.len(),
                scheme.name()
            )));
            return Err(problems);
        }
        let mut declared = Vec::new();
        for (at, item) in items.iter().enumerate() {
            match read_one(scheme, item) {
                Ok(one) => declared.push(one),
                Err(messages) => problems.extend(messages.into_iter().map(|message| Problem {
                    partition: Some(at),
                    message: format!("partition {}: {message}", label(at, item)),
                })),
            }
        }
        if problems.is_empty() {
            problems.extend(together(scheme, &declared));
        }
        match problems.is_empty() {
            true => Ok(Layout {
                scheme,
                partitions: declared,
            }),
            false => Err(problems),
        }
    }

    /// The same from the text of a variable.
    ///
    /// # Errors
    /// [`Layout::read`]'s, and that it is no JSON or too long.
    pub fn parse(table: Option<&str>, text: &str) -> Result<Layout, Vec<Problem>> {
        let one = |message: String| {
            vec![Problem {
                partition: None,
                message,
            }]
        };
        if text.len() > MAX_TEXT_BYTES {
            return Err(one(format!(
                "partitions has {} B as JSON, {MAX_TEXT_BYTES} B at most",
                text.len()
            )));
        }
        let value: Value = serde_json::from_str(text).map_err(|e| {
            one(format!(
                "partitions is no JSON ({e}): in a template of version 1 write them as a list in the action's input"
            ))
        })?;
        Layout::read(table, &value)
    }
}

/// `2 ("root")`
fn label(at: usize, item: &Value) -> String {
    match item.get("name").and_then(Value::as_str) {
        Some(name) => format!("{} ({:?})", at + 1, name.chars().take(64).collect::<String>()),
        None => (at + 1).to_string(),
    }
}

const FIELDS: [&str; 5] = ["attributes", "name", "size", "type", "uuid"];

fn read_one(scheme: Scheme, item: &Value) -> Result<Declared, Vec<String>> {
    let Value::Object(fields) = item else {
        return Err(vec![
            "it is no map: write {name: root, size: rest, type: linux}".to_owned(),
        ]);
    };
    let mut wrong: Vec<String> = fields
        .keys()
        .filter(|field| !FIELDS.contains(&field.as_str()))
        .map(|field| format!("{field:?} is no field: there are {}", FIELDS.join(", ")))
        .collect();
    let size = needed(fields, "size").and_then(|text| Size::parse(text).map_err(|e| e.to_string()));
    let kind = needed(fields, "type").and_then(|text| match scheme {
        Scheme::Gpt => Kind::of_gpt(text),
        Scheme::Mbr => Kind::of_mbr(text),
    });
    let name = text(fields, "name").and_then(|name| match name {
        Some(name) => good_name(name).map(|()| Some(name.to_owned())),
        None => Ok(None),
    });
    let uuid = text(fields, "uuid").and_then(|uuid| match (uuid, scheme) {
        (None, _) => Ok(None),
        (Some(_), Scheme::Mbr) => {
            Err("uuid cannot be given: partitions of an MBR have none of their own".to_owned())
        }
        (Some(uuid), Scheme::Gpt) => match uuid.parse() {
            Ok(Guid::ZERO) => Err("uuid 0 means that there is none: leave it out".to_owned()),
            Ok(guid) => Ok(Some(guid)),
            Err(e) => Err(format!("uuid {e}")),
        },
    });
    let attributes = attributes(scheme, fields.get("attributes"));
    match (size, kind, name, uuid, attributes) {
        (Ok(size), Ok(kind), Ok(name), Ok(uuid), Ok(attributes)) if wrong.is_empty() => Ok(Declared {
            name,
            size,
            kind,
            uuid,
            attributes,
        }),
        (size, kind, name, uuid, attributes) => {
            wrong.extend(size.err());
            wrong.extend(kind.err());
            wrong.extend(name.err());
            wrong.extend(uuid.err());
            wrong.extend(attributes.err());
            Err(wrong)
        }
    }
}

fn text<'a>(fields: &'a Map<String, Value>, field: &str) -> Result<Option<&'a str>, String> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("{field} {} is no text: put it in quotes", cut(other))),
    }
}

fn needed<'a>(fields: &'a Map<String, Value>, field: &str) -> Result<&'a str, String> {
    text(fields, field)?.ok_or_else(|| format!("{field} is missing"))
}

fn cut(value: &Value) -> String {
    value.to_string().chars().take(64).collect()
}

fn good_name(name: &str) -> Result<(), String> {
    let units = name.encode_utf16().count();
    if units == 0 || name.trim() != name {
        return Err(format!(
            "name {name:?} is empty, or begins or ends with a blank: leave it out, or change it"
        ));
    }
    if units > MAX_NAME_UNITS {
        return Err(format!(
            "its name has {units} letters, {MAX_NAME_UNITS} at most (of UTF-16)"
        ));
    }
    match name.chars().any(char::is_control) {
        true => Err(format!("name {name:?} has control characters: leave them out")),
        false => Ok(()),
    }
}

fn attributes(scheme: Scheme, value: Option<&Value>) -> Result<BTreeSet<Attribute>, String> {
    let names = || Attribute::ALL.map(|(name, _)| name).join(", ");
    let items = match value {
        None | Some(Value::Null) => return Ok(BTreeSet::new()),
        Some(Value::Array(items)) => items,
        Some(other) => {
            return Err(format!(
                "attributes {} is no list: write [legacy-boot]",
                cut(other)
            ));
        }
    };
    let mut attributes = BTreeSet::new();
    for item in items {
        let known = Attribute::ALL
            .iter()
            .find(|(name, _)| item.as_str() == Some(*name));
        let Some((_, attribute)) = known else {
            return Err(format!(
                "attribute {} is not known: there are {}",
                cut(item),
                names()
            ));
        };
        if scheme == Scheme::Mbr && *attribute != Attribute::LegacyBoot {
            return Err(format!(
                "attribute {} is not there in an MBR: it has legacy-boot alone",
                cut(item)
            ));
        }
        attributes.insert(*attribute);
    }
    Ok(attributes)
}

/// What is wrong with partitions that are right alone.
fn together(scheme: Scheme, declared: &[Declared]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut say = |partition: Option<usize>, message: String| problems.push(Problem { partition, message });
    let mut names = BTreeSet::new();
    let mut uuids: Vec<Guid> = Vec::new();
    for (at, one) in declared.iter().enumerate() {
        if let Some(name) = &one.name
            && !names.insert(name)
        {
            say(
                Some(at),
                format!(
                    "partition {}: a partition before it has the name {name:?}, too",
                    at + 1
                ),
            );
        }
        if let Some(uuid) = one.uuid {
            if uuids.contains(&uuid) {
                say(
                    Some(at),
                    format!(
                        "partition {}: a partition before it has the uuid {uuid}, too",
                        at + 1
                    ),
                );
            }
            uuids.push(uuid);
        }
    }
    let rests: Vec<usize> = (0..declared.len())
        .filter(|at| declared[*at].size == Size::Rest)
        .collect();
    if let [first, second, ..] = rests[..] {
        say(
            Some(second),
            format!(
                "partitions {} and {} both have size rest: give one of them a size",
                first + 1,
                second + 1
            ),
        );
    }
    let percent: u64 = declared
        .iter()
        .map(|one| match one.size {
            Size::Percent(percent) => u64::from(percent),
            Size::Bytes(_) | Size::Rest => 0,
        })
        .sum();
    let fixed = declared.iter().fold(0_u64, |sum, one| match one.size {
        Size::Bytes(bytes) => sum.saturating_add(bytes.div_ceil(ALIGN_BYTES).saturating_mul(ALIGN_BYTES)),
        Size::Percent(_) | Size::Rest => sum,
    });
    if percent > 100 {
        say(
            None,
            format!("the sizes in percent come to {percent}%: 100% at most"),
        );
    } else if percent == 100 && (fixed > 0 || !rests.is_empty()) {
        say(
            None,
            "the sizes in percent come to 100%, which leaves nothing for the other partitions".to_owned(),
        );
    }
    if scheme == Scheme::Mbr && fixed >= MBR_END_BYTES {
        say(
            None,
            format!(
                "the partitions come to {}, and an MBR reaches 2TiB: have table gpt",
                shown(fixed)
            ),
        );
    }
    let active = declared
        .iter()
        .filter(|one| one.attributes.contains(&Attribute::LegacyBoot));
    if scheme == Scheme::Mbr && active.count() > 1 {
        say(
            None,
            "several partitions have the attribute legacy-boot, and an MBR has one active partition"
                .to_owned(),
        );
    }
    problems
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(table: &str, partitions: Value, want: &[&str]) {
        let problems = Layout::read(Some(table), &partitions).err().unwrap_or_default();
        let said: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(said, want, "{partitions}");
    }

    #[test]
    fn a_layout_is_read_as_it_is_declared() {
        let layout = Layout::parse(
            None,
            r#"[{"name": "efi", "size": "512MiB", "type": "efi", "attributes": ["required", "no-auto"]},
                {"name": "root", "size": "rest", "type": "root-x86-64", "uuid": "C12A7328-f81f-11d2-ba4b-00a0c93ec93b"}]"#,
        )
        .unwrap();
        assert_eq!(layout.scheme, Scheme::Gpt);
        assert_eq!(layout.partitions[0].size, Size::Bytes(512 << 20));
        let bits = layout.partitions[0].attributes.iter().map(|one| one.gpt_bit());
        assert_eq!(bits.sum::<u64>(), 1 | 1 << 63);
        assert_eq!(
            layout.partitions[1].uuid.unwrap().to_string(),
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
        );
    }

    #[test]
    fn every_problem_of_a_partition_is_named_with_its_number() {
        check(
            "gpt",
            json!([{"name": "a", "size": "10G", "type": "ext4", "label": 1}, 7, {"size": 5, "uuid": "x", "attributes": ["boot"]}]),
            &[
                "partition 1 (\"a\"): \"label\" is no field: there are attributes, name, size, type, uuid",
                "partition 1 (\"a\"): size \"10G\" is none: write 512MiB, 20GiB, 1TiB, 50% (a whole number of 1 to 100), or rest",
                "partition 1 (\"a\"): type \"ext4\" is not known: it is one of bios-boot, efi, home, linux, luks, lvm, \
                 microsoft-data, microsoft-reserved, prep, raid, root-arm64, root-x86-64, srv, swap, tmp, usr-arm64, \
                 usr-x86-64, var, xbootldr, zfs, or a GUID",
                "partition 2: it is no map: write {name: root, size: rest, type: linux}",
                "partition 3: size 5 is no text: put it in quotes",
                "partition 3: type is missing",
                "partition 3: uuid \"x\" is no GUID: write 32 hexadecimal digits in groups of 8-4-4-4-12",
                "partition 3: attribute \"boot\" is not known: there are grow-fs, legacy-boot, no-auto, read-only, required",
            ],
        );
    }

    #[test]
    fn what_no_disk_can_have_is_refused() {
        let sized = |size: &str| json!({"size": size, "type": "linux"});
        check(
            "gpt",
            json!([sized("60%"), sized("50%")]),
            &["the sizes in percent come to 110%: 100% at most"],
        );
        check(
            "gpt",
            json!([sized("100%"), sized("1MiB")]),
            &["the sizes in percent come to 100%, which leaves nothing for the other partitions"],
        );
        check("gpt", json!([sized("50%"), sized("50%")]), &[]);
        check(
            "gpt",
            json!([sized("rest"), sized("1GiB"), sized("rest")]),
            &["partitions 1 and 3 both have size rest: give one of them a size"],
        );
        check(
            "gpt",
            json!(vec![sized("1MiB"); 129]),
            &["there are 129 partitions, and a table gpt has 128 at most"],
        );
        check("gpt", json!(vec![sized("1MiB"); 128]), &[]);
        check(
            "mbr",
            json!(vec![sized("1MiB"); 5]),
            &["there are 5 partitions, and a table mbr has 4 at most; a table gpt has up to 128"],
        );
        check(
            "mbr",
            json!([sized("1TiB"), sized("1TiB")]),
            &["the partitions come to 2TiB, and an MBR reaches 2TiB: have table gpt"],
        );
        check(
            "bsd",
            json!([]),
            &[
                "table \"bsd\" is neither gpt nor mbr",
                "partitions is empty: declare one at least",
            ],
        );
        check(
            "gpt",
            json!({"size": "rest"}),
            &["partitions is no list: write one, such as [{name: root, size: rest, type: linux}]"],
        );
    }

    #[test]
    fn names_have_the_length_that_a_table_has_room_for_and_are_of_one_partition() {
        let named = |name: &str| json!({"name": name, "size": "1MiB", "type": "linux"});
        check("gpt", json!([named(&"ä".repeat(36))]), &[]);
        let long = "😀".repeat(19);
        check(
            "gpt",
            json!([named(&long)]),
            &[&format!(
                "partition 1 ({long:?}): its name has 38 letters, 36 at most (of UTF-16)"
            )],
        );
        check(
            "gpt",
            json!([named("a"), named("a")]),
            &["partition 2: a partition before it has the name \"a\", too"],
        );
        for wrong in ["", " a", "a\n"] {
            assert!(Layout::read(None, &json!([named(wrong)])).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_layout_has_a_bound_of_bytes() {
        let padded = |len: usize| {
            let mut text = r#"[{"size": "rest", "type": "linux"}]"#.to_owned();
            text.push_str(&" ".repeat(len - text.len()));
            text
        };
        assert!(Layout::parse(None, &padded(MAX_TEXT_BYTES)).is_ok());
        let problems = Layout::parse(None, &padded(MAX_TEXT_BYTES + 1)).unwrap_err();
        assert_eq!(
            problems[0].message,
            "partitions has 65537 B as JSON, 65536 B at most"
        );
    }

    #[test]
    fn an_mbr_has_neither_uuids_nor_the_marks_of_a_gpt() {
        check(
            "mbr",
            json!([{"size": "rest", "type": "linux", "uuid": "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "attributes": ["no-auto"]}]),
            &[
                "partition 1: uuid cannot be given: partitions of an MBR have none of their own",
                "partition 1: attribute \"no-auto\" is not there in an MBR: it has legacy-boot alone",
            ],
        );
        let active = json!({"size": "1GiB", "type": "linux", "attributes": ["legacy-boot"]});
        check(
            "mbr",
            json!([active, active]),
            &["several partitions have the attribute legacy-boot, and an MBR has one active partition"],
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[{\"a-z:,%0-9MGTiB \\]}]{0,80}") {
            let _ = Layout::parse(Some("mbr"), &text);
            let _ = Layout::read(None, &json!([{"size": &text, "type": &text, "name": &text, "uuid": &text}]));
        }
    }
}
