//! The variables of `qemuimg2disk` that are meant for a program of QEMU's, which does not run: told before anything does.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use yaml::{Entry, Fields, Kind};

use super::Native;
use super::fields::Check;

impl<'a> Check<'a> {
    /// Refuses what would have no effect, or another one, where it is no expression.
    pub(super) fn conversion(
        &mut self,
        fields: &Fields<'a>,
        native: &Native,
        input: &Map<String, Value>,
        environment: &BTreeMap<String, String>,
    ) {
        if native.name != "qemuimg2disk" {
            return;
        }
        let Ok(set) = native.set_by(input) else { return };
        for name in ["EXTRA_ARGS", "FORMAT"] {
            let of_input = set.get(name).map(String::as_str);
            let value = of_input.or_else(|| environment.get(name).map(String::as_str));
            let message = match (name, value.unwrap_or_default()) {
                (_, "") | ("FORMAT", "host_device" | "raw") => continue,
                (_, text) if text.contains("${{") => continue,
                ("FORMAT", format) => {
                    format!("FORMAT {format:?}: what qemuimg2disk writes to a disk is raw; leave FORMAT out")
                }
                (_, args) => format!(
                    "EXTRA_ARGS {args:?} is for qemu-img, which is not run: the agent writes the image itself; leave EXTRA_ARGS out"
                ),
            };
            let named = |entry: &&Entry| entry.name.eq_ignore_ascii_case(name);
            let entry = fields.map("input").iter().find(named);
            let entry = entry.or_else(|| fields.map("environment").iter().find(named));
            let at = entry.map_or_else(|| fields.at("environment"), |entry| entry.node.at);
            self.problem(at, Kind::Value, message);
        }
    }
}
