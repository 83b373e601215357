//! Variables of upstream's that would have no effect here, or another one: told before anything runs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use yaml::{Entry, Fields, Kind};

use super::Native;
use super::fields::Check;

/// What is wrong with a value, in words.
type Judge = fn(&str) -> Option<String>;

impl<'a> Check<'a> {
    /// Refuses what would have no effect, or another one, where it is no expression.
    pub(super) fn conversion(
        &mut self,
        fields: &Fields<'a>,
        native: &Native,
        input: &Map<String, Value>,
        environment: &BTreeMap<String, String>,
    ) {
        let judged: &[(&str, Judge)] = match native.name {
            "oci2disk" => &[("IMG_URL", of_a_registry), ("SKIP_VERIFY", certificates)],
            "qemuimg2disk" => &[("EXTRA_ARGS", arguments), ("FORMAT", format)],
            _ => return,
        };
        let Ok(set) = native.set_by(input) else { return };
        for &(name, judge) in judged {
            let of_input = set.get(name).map(String::as_str);
            let value = of_input.or_else(|| environment.get(name).map(String::as_str));
            let known = value.filter(|text| !text.is_empty() && !text.contains("${{"));
            let Some(message) = known.and_then(judge) else {
                continue;
            };
            let named = |entry: &&Entry| entry.name.eq_ignore_ascii_case(name);
            let entry = fields.map("input").iter().find(named);
            let entry = entry.or_else(|| fields.map("environment").iter().find(named));
            let at = entry.map_or_else(|| fields.at("environment"), |entry| entry.node.at);
            self.problem(at, Kind::Value, message);
        }
    }
}

fn arguments(args: &str) -> Option<String> {
    Some(format!(
        "EXTRA_ARGS {args:?} is for qemu-img, which is not run: the agent writes the image itself; leave EXTRA_ARGS out"
    ))
}

fn format(format: &str) -> Option<String> {
    let is_raw = matches!(format, "host_device" | "raw");
    (!is_raw)
        .then(|| format!("FORMAT {format:?}: what qemuimg2disk writes to a disk is raw; leave FORMAT out"))
}

fn of_a_registry(name: &str) -> Option<String> {
    let is_url = ["http://", "https://", "file://"]
        .iter()
        .any(|scheme| name.starts_with(scheme));
    is_url.then(|| {
        format!(
            "IMG_URL {name:?} is a URL, and oci2disk takes what a registry calls the image, such as registry.example/images/debian:13; \
             for a URL use image2disk"
        )
    })
}

fn certificates(value: &str) -> Option<String> {
    // As the agent reads a switch.
    let is_on = matches!(value, "1" | "t" | "T" | "TRUE" | "true" | "True");
    is_on.then(|| {
        "SKIP_VERIFY: a registry whose certificate is not checked is not asked; give its authority by CA_CERTIFICATES".to_owned()
    })
}
