//! What `mkfs`, `luks`, `lvm` and `raid` are to make, `wipe` to erase, `growpart` to grow, `seed` to write and `bootentry` to boot: what would be refused is said before anything runs.

use std::collections::BTreeMap;

use partitions::{
    Array, ArrayFields, BootEntry, BootEntryFields, Erasure, Filesystem, Luks, Seed, SeedFields, VolumeGroup,
    VolumeGroupFields, partition_number,
};
use serde_json::{Map, Value};
use yaml::{Entry, Fields, Kind};

use super::Native;
use super::fields::Check;

impl<'a> Check<'a> {
    /// Looks at what an action declares, in its input or its environment. What expressions make of it is not
    /// known yet: the agent looks at that, before it writes.
    pub(super) fn filesystem(
        &mut self,
        fields: &Fields<'a>,
        native: &Native,
        input: &Map<String, Value>,
        environment: &BTreeMap<String, String>,
    ) {
        if !matches!(
            native.name,
            "bootentry" | "growpart" | "luks" | "lvm" | "mkfs" | "raid" | "seed" | "wipe"
        ) {
            return;
        }
        let Ok(set) = native.set_by(input) else { return };
        let value = |name: &str| {
            let of_input = set.get(name).map(String::as_str);
            let given = of_input.or_else(|| environment.get(name).map(String::as_str));
            given.filter(|value| !value.is_empty())
        };
        let is_known = |text: &&str| !text.contains("${{");
        let known = |name: &str| value(name).filter(is_known);
        let problems = match (native.name, known("FS_TYPE")) {
            ("bootentry", _) => BootEntry::parse(&BootEntryFields {
                arguments: known("ARGUMENTS"),
                label: known("LABEL"),
                loader: known("LOADER"),
                next: known("NEXT"),
                order: known("ORDER"),
                partition: known("PARTITION"),
                remove: known("REMOVE"),
            })
            .err(),
            ("growpart", _) => partition_number(known("PARTITION")).err(),
            ("luks", _) => {
                let [name, label, uuid, options] = ["NAME", "LABEL", "UUID", "OPTIONS"].map(known);
                Luks::parse(name, label, uuid, options).err()
            }
            ("lvm", _) => VolumeGroup::parse(&VolumeGroupFields {
                name: known("NAME"),
                devices: known("DEVICES"),
                volumes: known("VOLUMES"),
            })
            .err(),
            ("raid", _) => Array::parse(&ArrayFields {
                level: known("LEVEL"),
                devices: known("DEVICES"),
                name: known("NAME"),
                homehost: known("HOMEHOST"),
                metadata: known("METADATA"),
                bitmap: known("BITMAP"),
                chunk: known("CHUNK"),
            })
            .err(),
            // Without them the rest says nothing.
            ("seed", _)
                if ["DATASOURCE", "FORM"]
                    .iter()
                    .any(|name| value(name) != known(name)) =>
            {
                return;
            }
            ("seed", _) => Seed::parse(&SeedFields {
                datasource: known("DATASOURCE"),
                form: known("FORM"),
                dest_path: value("DEST_PATH"),
                fs_type: value("FS_TYPE"),
                instance_id: known("INSTANCE_ID"),
                meta_data: known("META_DATA"),
                network_config: known("NETWORK_CONFIG"),
                only_empty: value("ONLY_EMPTY"),
                user_data: known("USER_DATA"),
                vendor_data: known("VENDOR_DATA"),
            })
            .err(),
            ("wipe", _) => Erasure::parse(known("METHOD"), known("SAMPLES")).err(),
            (_, Some(fs_type)) => {
                let [label, uuid, options] = ["LABEL", "UUID", "OPTIONS"].map(known);
                Filesystem::parse(fs_type, label, uuid, options).err()
            }
            (_, None) => return,
        };
        for problem in problems.into_iter().flatten() {
            let named = |entry: &&Entry| entry.name.eq_ignore_ascii_case(problem.variable);
            let entry = fields.map("input").iter().find(named);
            let entry = entry.or_else(|| fields.map("environment").iter().find(named));
            let at = entry.map_or_else(|| fields.at("input"), |entry| entry.node.at);
            self.problem(at, Kind::Value, problem.message);
        }
    }
}
