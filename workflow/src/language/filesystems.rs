//! The filesystem that the action `mkfs` is to make: what its program would refuse is said before anything runs.

use std::collections::BTreeMap;

use partitions::Filesystem;
use serde_json::{Map, Value};
use yaml::{Entry, Fields, Kind};

use super::Native;
use super::fields::Check;

impl<'a> Check<'a> {
    /// Looks at the filesystem that an action declares, in its input or its environment. What expressions make of it is not
    /// known yet: the agent looks at that, before it writes.
    pub(super) fn filesystem(
        &mut self,
        fields: &Fields<'a>,
        native: &Native,
        input: &Map<String, Value>,
        environment: &BTreeMap<String, String>,
    ) {
        if native.name != "mkfs" {
            return;
        }
        let Ok(set) = native.set_by(input) else { return };
        let value = |name: &str| {
            let of_input = set.get(name).map(String::as_str);
            let given = of_input.or_else(|| environment.get(name).map(String::as_str));
            given.filter(|value| !value.is_empty())
        };
        let is_known = |text: &&str| !text.contains("${{");
        let Some(fs_type) = value("FS_TYPE").filter(is_known) else {
            return;
        };
        let [label, uuid, options] = ["LABEL", "UUID", "OPTIONS"].map(|name| value(name).filter(is_known));
        for problem in Filesystem::parse(fs_type, label, uuid, options)
            .err()
            .into_iter()
            .flatten()
        {
            let named = |entry: &&Entry| entry.name.eq_ignore_ascii_case(problem.variable);
            let entry = fields.map("input").iter().find(named);
            let entry = entry.or_else(|| fields.map("environment").iter().find(named));
            let at = entry.map_or_else(|| fields.at("input"), |entry| entry.node.at);
            self.problem(at, Kind::Value, problem.message);
        }
    }
}
