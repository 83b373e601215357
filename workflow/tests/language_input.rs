//! `input` of an action: what becomes of it, and what is said of one that is of no use.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use workflow::language::{Devices, MAX_INPUT_BYTES, Rendered, render};

fn rendered(text: &str) -> Result<Rendered, Vec<String>> {
    let devices = BTreeMap::from([("device_1".into(), "52:54:00:77:00:0b".into())]);
    let devices = Devices {
        devices,
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

/// With one action of that image, whose fields begin in line 7.
fn of_action(image: &str, fields: &str) -> Result<Rendered, Vec<String>> {
    rendered(&format!(
        "version: \"1\"\nname: w\ninputs: {{n: 1, list: [a]}}\ntasks:\n- {{name: t, worker: w, actions: [\n  {{name: a, image: \
         {image},\n{fields}}}]}}\n"
    ))
}

#[track_caller]
fn check(image: &str, fields: &str, want: &[&str]) {
    assert_eq!(
        of_action(image, fields).err().unwrap_or_default(),
        want,
        "{fields}"
    );
}

#[test]
fn it_is_data_of_any_kind_as_yaml_says() {
    let fields = "input: {text: a, count: 2, share: 0.5, yes: true, none: null, mode: 0644, n: '${{ inputs.n + 1 }}', deep: {list: \
                  [1, {a: '${{ inputs.list }}'}]}}";
    let action = of_action("alpine", fields).unwrap().definition.tasks[0].actions[0].clone();
    assert_eq!(
        Value::Object(action.input),
        json!({
            "text": "a", "count": 2, "share": 0.5, "yes": true, "none": null, "mode": "0644",
            "n": "${{ inputs.n + 1 }}", "deep": {"list": [1, {"a": "${{ inputs.list }}"}]},
        })
    );
}

#[test]
fn it_is_of_version_1() {
    let text = "version: \"0.1\"\nname: w\ntasks:\n- {name: t, worker: w, actions: [{name: a, image: cexec, input: {a: 1}}]}\n";
    let old = rendered(text).unwrap();
    assert!(old.definition.tasks[0].actions[0].input.is_empty());
    assert_eq!(old.warnings.len(), 1);
    assert!(old.warnings[0].finding.message.contains("in version \"1\" only"));
}

#[test]
fn expressions_in_it_are_checked_at_any_depth() {
    check(
        "alpine",
        "input: {a: [{b: '${{ inputs.m }}'}], c: '${{ }}', '${{ inputs.n }}': 1}",
        &[
            "7, 29: inputs has no \"m\"; did you mean \"n\"?",
            "7, 42: this ${{ }} is empty: write a CEL expression in it",
            "7, 51: the key \"${{ inputs.n }}\" is not looked through for ${{ }}: write it out",
        ],
    );
    check(
        "alpine",
        "input: [a]",
        &["7, 8: input must be a map (key: value), not a list"],
    );
    check(
        "alpine",
        "input:",
        &["7, 6: input is empty: give it a value or leave it out"],
    );
}

#[test]
fn a_field_that_a_built_in_action_has_no_use_for_is_refused() {
    check(
        "image2disk",
        "input: {img_url: 'http://h/a', dest_dsk: /dev/vda, sha256: [a]}",
        &[
            "7, 32: \"dest_dsk\" is no variable of image2disk; did you mean \"dest_disk\"?",
            "7, 52: sha256 is a list: image2disk takes a text, a number, true or false there",
        ],
    );
    check(
        "quay.io/tinkerbell/actions/reboot:v1",
        "input: {when: now}",
        &["7, 9: \"when\" is no variable of reboot, which takes none: leave it out"],
    );
    check(
        "registry.example/x/writefile, runtime: native",
        "input: {mode: 0o644, contents: 1.50, uid: 0, gid: 00}",
        &[
            "7, 15: mode 0o644 is the number 420, and writefile is told that: put it in quotes to have it as it is written",
            "7, 32: contents 1.50 is the number 1.5, and writefile is told that: put it in quotes to have it as it is written",
        ],
    );
    // Of a command all fields are its own; of somebody else's image, too.
    check("cexec", "input: {users: [ann], block_device: /dev/vda1}", &[]);
    check("exec", "input: {users: [ann], cmd_line: lsblk, write: true}", &[]);
    check("alpine", "input: {dest_dsk: [a]}", &[]);
    check("'${{ \"reboot\" }}'", "input: {when: now}", &[]);
    // What an expression gives is not known yet.
    check("writefile", "input: {contents: '${{ inputs.list }}'}", &[]);
}

#[test]
fn what_stands_in_the_input_does_not_stand_in_the_environment() {
    check(
        "cexec",
        "input: {chroot: true, users: 1}, environment: {CHROOT: 'y', users: '2'}",
        &[
            "7, 9: chroot stands in the input of action \"a\" and, as CHROOT, in its environment: leave one out",
        ],
    );
    check(
        "image2disk",
        "input: {HTTP_PROXY: 'http://a'}, environment: {http_proxy: 'http://b'}",
        &[
            "7, 9: HTTP_PROXY stands in the input of action \"a\" and, as http_proxy, in its environment: leave one out",
        ],
    );
}

#[test]
fn secrets_stand_in_its_texts_but_not_in_what_names_a_disk() {
    let good = of_action(
        "cexec",
        "input: {a: [1, {b: 'x${{ secrets.PW }}'}], cmd_line: '${{ secrets.B }}'}",
    )
    .unwrap();
    let named: Vec<String> = good
        .secrets
        .iter()
        .map(|secret| {
            let place = secret.place.finding.place;
            format!("{} at {}, {}", secret.name, place.line, place.column)
        })
        .collect();
    assert_eq!(named, ["PW at 7, 22", "B at 7, 55"]);
    check(
        "image2disk",
        "input: {dest_disk: '${{ secrets.D }}'}",
        &[
            "7, 21: dest_disk says which disk is written, and that is recorded: write it out, or make it an input",
        ],
    );
}

#[test]
fn it_has_a_bound_that_is_told_before_the_run() {
    // `{"a":""}` and the text; what JSON escapes counts as it is written.
    let text = |bytes: usize| "\\\"".repeat((bytes - 8) / 2);
    let fields = |bytes: usize| format!("input: {{a: \"{}\"}}", text(bytes));
    assert!(of_action("alpine", &fields(MAX_INPUT_BYTES - 2000)).is_ok());
    let anchors = |copies: usize| {
        let words: String = (1..copies).map(|_| ", *a").collect();
        format!("input: {{a: [&a \"{}\"{words}]}}", "x".repeat(997))
    };
    // `{"a":[` and `]}`, and 1,000 B for each with its comma.
    let (most, over) = (MAX_INPUT_BYTES / 1000, MAX_INPUT_BYTES / 1000 + 1);
    assert!(of_action("alpine", &anchors(most)).is_ok());
    let bytes = over * 1000 + 7;
    check(
        "alpine",
        &anchors(over),
        &[&format!(
            "7, 8: the input of action \"a\" comes to {bytes} B as JSON, 262144 B at most: hand larger data on in /workflow"
        )],
    );
}

#[test]
fn what_oci2disk_takes_of_upstreams_variables_is_said_at_its_place() {
    let image = "quay.io/tinkerbell/actions/oci2disk:latest";
    let upstreams = "environment: {IMG_URL: 'lab:5000/ubuntu:1804.raw.gz', DEST_DISK: /dev/sda, SKIP_VERIFY: false, COMPRESSED: true}";
    for fields in [
        upstreams,
        "environment: {IMG_URL: 'oci://lab/x'}",
        "input: {img_url: '${{ inputs.list[0] }}'}",
    ] {
        check(image, fields, &[]);
    }
    check(
        image,
        "environment: {SKIP_VERIFY: 'true'},\ninput: {img_url: 'https://h/i.raw'}",
        &[
            "7, 28: SKIP_VERIFY: a registry whose certificate is not checked is not asked; give its authority by CA_CERTIFICATES",
            "8, 18: IMG_URL \"https://h/i.raw\" is a URL, and oci2disk takes what a registry calls the image, such as \
             registry.example/images/debian:13; for a URL use image2disk",
        ],
    );
}

#[test]
fn what_qemuimg2disk_takes_of_upstreams_variables_is_said_at_its_place() {
    let upstreams = "environment: {IMG_URL: http://h/i.qcow2, DEST_DISK: /dev/sda, FORMAT: host_device}";
    let later = "input: {extra_args: '${{ inputs.list[0] }}'}";
    for fields in [upstreams, later, "input: {extra_args: ''}"] {
        check("quay.io/tinkerbell/actions/qemuimg2disk:latest", fields, &[]);
    }
    check(
        "qemuimg2disk",
        "environment: {FORMAT: qcow2},\ninput: {extra_args: -W -m 8}",
        &[
            "7, 23: FORMAT \"qcow2\": what qemuimg2disk writes to a disk is raw; leave FORMAT out",
            "8, 21: EXTRA_ARGS \"-W -m 8\" is for qemu-img, which is not run: the agent writes the image itself; leave EXTRA_ARGS out",
        ],
    );
}
