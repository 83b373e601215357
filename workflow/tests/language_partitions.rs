//! Partitions in templates of both versions: what no disk can have is said with its place, before anything runs.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use workflow::language::{Devices, Rendered, native, render};

fn rendered(text: &str) -> Result<Rendered, Vec<String>> {
    let devices = Devices {
        devices: BTreeMap::from([("device_1".into(), "52:54:00:77:00:0b".into())]),
        hardware: Value::Null,
    };
    render(text, &devices).map_err(|problems| {
        let found = problems.iter().map(|problem| &problem.finding);
        found
            .map(|finding| {
                format!(
                    "{}, {}: {}",
                    finding.place.line, finding.place.column, finding.message
                )
            })
            .collect()
    })
}

/// The problems of an action of version 1, whose input begins in line 7.
#[track_caller]
fn check(input: &str, want: &[&str]) {
    let text = format!(
        "version: \"1\"\nname: w\ninputs: {{size: 1GiB, table: gpt}}\ntasks:\n- {{name: t, worker: w, actions: [\n  {{name: a, \
         image: partition, input: {{dest_disk: /dev/vda,\n{input}}}}}]}}\n"
    );
    assert_eq!(rendered(&text).err().unwrap_or_default(), want, "{input}");
}

#[test]
fn a_list_of_partitions_is_told_to_the_action_as_json() {
    let native = native("partition").unwrap();
    let input =
        json!({"dest_disk": "/dev/vda", "partitions": [{"name": "a", "size": "rest", "type": "linux"}]});
    let set = native.set_by(input.as_object().unwrap()).unwrap();
    assert_eq!(
        set["PARTITIONS"],
        r#"[{"name":"a","size":"rest","type":"linux"}]"#
    );
    let wrong = native
        .set_by(json!({"partitions": {}, "table": []}).as_object().unwrap())
        .unwrap_err();
    let said: Vec<&str> = wrong.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(
        said,
        [
            "partitions is a map: partition takes a list there",
            "table is a list: partition takes a text, a number, true or false there",
        ]
    );
}

#[test]
fn what_no_disk_can_have_is_told_at_its_partition() {
    check("partitions: [{size: rest, type: linux}]", &[]);
    check(
        "partitions: [{size: 60%, type: linux},\n {size: 10G, type: linux}, {size: rest, type: ext3}]",
        &[
            "8, 2: partition 2: size \"10G\" is none: write 512MiB, 20GiB, 1TiB, 50% (a whole number of 1 to 100), or rest",
            "8, 28: partition 3: type \"ext3\" is not known: it is one of bios-boot, efi, home, linux, luks, lvm, \
             microsoft-data, microsoft-reserved, prep, raid, root-arm64, root-x86-64, srv, swap, tmp, usr-arm64, usr-x86-64, \
             var, xbootldr, zfs, or a GUID",
        ],
    );
    check(
        "partitions: [{size: 60%, type: linux}, {size: 50%, type: linux}]",
        &["7, 13: the sizes in percent come to 110%: 100% at most"],
    );
    check(
        "partitions: [{size: rest, type: linux},\n {size: rest, type: linux}]",
        &["8, 2: partitions 1 and 2 both have size rest: give one of them a size"],
    );
    check(
        "table: mbr, partitions: [{size: 3TiB, type: linux}]",
        &["7, 25: the partitions come to 3TiB, and an MBR reaches 2TiB: have table gpt"],
    );
    let many = vec!["{size: 1MiB, type: linux}"; 129].join(", ");
    check(
        &format!("partitions: [{many}]"),
        &["7, 13: there are 129 partitions, and a table gpt has 128 at most"],
    );
    check(
        "partition: [{size: rest, type: linux}]",
        &["7, 1: \"partition\" is no variable of partition; did you mean \"partitions\"?"],
    );
}

#[test]
fn what_an_expression_gives_is_not_known_yet() {
    check("partitions: [{size: '${{ inputs.size }}', type: ext3}]", &[]);
    check(
        "table: '${{ inputs.table }}', partitions: [{size: 10G, type: ext3}]",
        &[],
    );
}

#[test]
fn a_template_of_the_old_version_has_them_as_json_and_is_told_the_same() {
    let of = |partitions: &str| {
        let text = format!(
            "version: \"0.1\"\nname: w\ntasks:\n- name: t\n  worker: \"{{{{.device_1}}}}\"\n  actions:\n  - name: a\n    image: \
             partition\n    timeout: 60\n    environment:\n      DEST_DISK: /dev/vda\n      PARTITIONS: '{partitions}'\n"
        );
        rendered(&text).err().unwrap_or_default()
    };
    assert_eq!(of(r#"[{"size": "rest", "type": "linux"}]"#), [""; 0]);
    assert_eq!(
        of(r#"[{"size": "rest"}]"#),
        ["12, 19: partition 1: type is missing"]
    );
    assert_eq!(
        of("[{size: rest}]"),
        [
            "12, 19: partitions is no JSON (key must be a string at line 1 column 3): in a template of version 1 write them as a \
             list in the action's input"
        ]
    );
}
