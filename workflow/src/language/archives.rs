//! What the action `archive2disk` is to unpack, and where: what it would refuse on the machine is said before anything runs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use yaml::{Entry, Fields, Kind};

use super::Native;
use super::fields::Check;

/// Algorithms of `TARFILE_CHECKSUM`, and how many hexadecimal digits they have.
const ALGORITHMS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

impl<'a> Check<'a> {
    /// Looks at the checksum and the path of an action that unpacks an archive. What expressions make of them is not known yet.
    pub(super) fn archive(
        &mut self,
        fields: &Fields<'a>,
        native: &Native,
        input: &Map<String, Value>,
        environment: &BTreeMap<String, String>,
    ) {
        if native.name != "archive2disk" {
            return;
        }
        let Ok(set) = native.set_by(input) else { return };
        for (variable, judge) in [
            ("TARFILE_CHECKSUM", checksum as fn(&str) -> Option<String>),
            ("DEST_PATH", path),
        ] {
            let of_input = set.get(variable).map(String::as_str);
            let given = of_input.or_else(|| environment.get(variable).map(String::as_str));
            let Some(value) = given.filter(|value| !value.is_empty() && !value.contains("${{")) else {
                continue;
            };
            let Some(why) = judge(value) else { continue };
            let named = |entry: &&Entry| entry.name.eq_ignore_ascii_case(variable);
            let entry = fields.map("input").iter().find(named);
            let entry = entry.or_else(|| fields.map("environment").iter().find(named));
            let at = entry.map_or_else(|| fields.at("environment"), |entry| entry.node.at);
            self.problem(at, Kind::Value, format!("{variable} {value:?} {why}"));
        }
    }
}

fn checksum(text: &str) -> Option<String> {
    let lower = text.trim().to_ascii_lowercase();
    let is_one = ALGORITHMS.iter().any(|(name, digits)| {
        let hex = lower.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
        hex.is_some_and(|hex| hex.len() == *digits && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
    });
    (!is_one).then(|| {
        "is no checksum of an archive: write sha256: and 64 hexadecimal digits, sha384: and 96, or sha512: and 128, of the archive \
         without its packing"
            .to_owned()
    })
}

fn path(text: &str) -> Option<String> {
    if !text.starts_with('/') {
        return Some(
            "is not absolute: write the folder's path from the filesystem's root, as /etc".to_owned(),
        );
    }
    let goes_up = text.split('/').any(|name| name == "..");
    goes_up.then(|| "has a part \"..\", which is not followed: write the path without it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_and_paths_are_judged() {
        assert_eq!(checksum(&format!("SHA256:{}", "0A".repeat(32))), None);
        assert_eq!(checksum(&format!("sha512:{}", "0".repeat(128))), None);
        for bad in [
            "sha256:12",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &"0".repeat(64),
        ] {
            assert!(checksum(bad).is_some(), "{bad}");
        }
        assert_eq!(path("/"), None);
        assert_eq!(path("/a..b/c"), None);
        assert!(path("etc").is_some() && path("/etc/../x").is_some());
    }
}
