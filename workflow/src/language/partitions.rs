//! The partitions that the action `partition` is to make: what no disk can have is said before anything runs.

use std::collections::BTreeMap;

use partitions::Layout;
use serde_json::{Map, Value};
use yaml::{Entry, Fields, Kind, What};

use super::Native;
use super::fields::Check;

impl<'a> Check<'a> {
    /// Looks at the partitions that an action declares, in its input or its environment. What expressions make of them is not
    /// known yet: the agent looks at that, before it writes.
    pub(super) fn partitions(
        &mut self,
        fields: &Fields<'a>,
        native: &Native,
        input: &Map<String, Value>,
        environment: &BTreeMap<String, String>,
    ) {
        if native.name != "partition" {
            return;
        }
        let Ok(set) = native.set_by(input) else { return };
        let value = |name: &str| {
            let of_input = set.get(name).map(String::as_str);
            let given = of_input.or_else(|| environment.get(name).map(String::as_str));
            given.filter(|value| !value.is_empty())
        };
        let (table, Some(partitions)) = (value("TABLE"), value("PARTITIONS")) else {
            return;
        };
        if [table, Some(partitions)]
            .into_iter()
            .flatten()
            .any(|text| text.contains("${{"))
        {
            return;
        }
        let Err(problems) = Layout::parse(table, partitions) else {
            return;
        };
        let named = |entry: &&Entry| entry.name.eq_ignore_ascii_case("PARTITIONS");
        let entry = fields.map("input").iter().find(named);
        let entry = entry.or_else(|| fields.map("environment").iter().find(named));
        for problem in problems {
            let item = problem
                .partition
                .and_then(|at| match entry.map(|entry| &entry.node.what) {
                    Some(What::List(items)) => items.get(at).map(|item| item.at),
                    _ => None,
                });
            let of_all = entry.map_or_else(|| fields.at("input"), |entry| entry.node.at);
            self.problem(item.unwrap_or(of_all), Kind::Value, problem.message);
        }
    }
}
