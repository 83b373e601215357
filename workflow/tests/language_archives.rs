//! What `archive2disk` is to unpack, in templates of both versions: what it would refuse is said before anything runs.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::Value;
use workflow::language::{Devices, render};

/// The problems of an action in line 7 of version 1, or of an environment in version 0.1.
fn problems(text: &str) -> Vec<String> {
    let devices = Devices {
        devices: BTreeMap::from([("device_1".into(), "52:54:00:77:00:0b".into())]),
        hardware: Value::Null,
    };
    let found = render(text, &devices).err().unwrap_or_default();
    found
        .iter()
        .map(|problem| {
            let finding = &problem.finding;
            format!("{}: {}", finding.place.line, finding.message)
        })
        .collect()
}

#[track_caller]
fn check(input: &str, words: &[&str]) {
    let version_1 = format!(
        "version: \"1\"\nname: w\ninputs: {{path: /}}\ntasks:\n- {{name: t, worker: w, actions: [\n  {{name: a, image: \
         archive2disk, input: {{\n{input}}}}}]}}\n"
    );
    let version_0 = format!(
        "version: \"0.1\"\nname: w\nid: x\ntasks:\n- {{name: t, worker: \"{{{{.device_1}}}}\", actions: [\n  {{name: a, timeout: 9, image: \
         quay.io/tinkerbell/actions/archive2disk:v1, environment: {{\n{}}}}}]}}\n",
        input.to_uppercase()
    );
    for text in [version_1, version_0] {
        let said = problems(&text);
        assert_eq!(said.len(), words.len(), "{text}: {said:?}");
        for (said, word) in said.iter().zip(words) {
            assert!(
                said.starts_with("7: ") && said.to_uppercase().contains(&word.to_uppercase()),
                "{said}"
            );
        }
    }
}

#[test]
fn a_checksum_and_a_path_that_are_none_are_told_at_their_place() {
    let good = format!("tarfile_checksum: \"sha256:{}\", dest_path: /a", "0".repeat(64));
    check(&good, &[]);
    check("dest_path: etc", &["DEST_PATH \"etc\" is not absolute"]);
    check("dest_path: /a/../b", &["has a part \"..\""]);
    check(
        "tarfile_checksum: \"md5:00\"",
        &["TARFILE_CHECKSUM \"md5:00\" is no checksum"],
    );
    check(
        "tarfile_checksum: \"sha512:00\", dest_path: x",
        &["is no checksum", "is not absolute"],
    );
}

#[test]
fn what_an_expression_gives_is_not_judged_before_it_is_known() {
    let text = "version: \"1\"\nname: w\ninputs: {path: x}\ntasks:\n- {name: t, worker: w, actions: [{name: a, image: archive2disk, \
                input: {dest_path: \"${{ inputs.path }}\"}}]}\n";
    assert_eq!(problems(text), [""; 0]);
}
