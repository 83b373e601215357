//! The templates of `examples/` are good, and come to what they say.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, json};
use workflow::language::{Amount, Control, Definition, Devices, check, inputs, render};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// A definition, without a warning and with inputs that need not be given.
#[track_caller]
fn definition(name: &str) -> Definition {
    let devices = [
        ("device_1", "52:54:00:77:00:0b"),
        ("device_2", "52:54:00:77:00:0c"),
    ];
    let devices = Devices {
        devices: BTreeMap::from(devices.map(|(name, mac)| (name.into(), mac.into()))),
        hardware: json!({"metadata": {"name": "node1"}, "spec": {"disks": [{"device": "/dev/vda"}]}}),
    };
    let text = read(name);
    assert_eq!(check(&text), Ok(vec![]), "{name}");
    let rendered = render(&text, &devices).unwrap_or_else(|problems| {
        panic!(
            "{name}: {}",
            problems.iter().map(|p| format!("{p}\n")).collect::<String>()
        )
    });
    assert_eq!(rendered.warnings, [], "{name}");
    inputs(&rendered.definition, &Map::new()).unwrap();
    rendered.definition
}

fn names(definition: &Definition) -> Vec<&str> {
    definition.tasks.iter().map(|task| task.name.as_str()).collect()
}

#[test]
fn every_example_is_named_like_its_file_and_says_what_it_does_and_how() {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stem = name.strip_suffix(".yaml").unwrap().to_owned();
        assert_eq!(definition(&name).name, stem);
        let text = read(&name);
        let header: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        assert!(header.len() >= 4, "{name}");
        for command in [
            format!("#   farrier template create -f examples/{name}"),
            format!("#   farrier workflow create -t {stem}"),
        ] {
            assert!(
                header.iter().any(|line| line.starts_with(&command)),
                "{name}: {command}"
            );
        }
        found.push(stem);
    }
    found.sort();
    assert_eq!(
        found,
        [
            "debian",
            "debian-answers",
            "nightly-rollout",
            "partitioned",
            "rack-bring-up",
            "two-machines-handover",
            "wipe"
        ]
    );
}

#[test]
fn debian_writes_the_machine_s_own_disk_and_name() {
    let debian = definition("debian.yaml");
    assert_eq!(debian.version, "0.1");
    let actions = &debian.tasks[0].actions;
    assert_eq!(actions[0].environment["DEST_DISK"], "/dev/vda");
    assert_eq!(actions[1].environment["DEST_DISK"], "/dev/vda3");
    assert_eq!(actions[1].environment["CONTENTS"], "node1\n");
}

#[test]
fn partitioned_makes_filesystems_where_the_table_is_new() {
    let partitioned = definition("partitioned.yaml");
    assert_eq!(names(&partitioned), ["disk", "filesystems"]);
    let partition = &partitioned.tasks[0].actions[0];
    let native = partition.native().unwrap();
    let set = native.set_by(&partition.input).unwrap();
    let layout = partitions::Layout::parse(set.get("TABLE").map(String::as_str), &set["PARTITIONS"]).unwrap();
    let plan = layout.plan(20 << 30, 512).unwrap();
    let names: Vec<&str> = plan
        .partitions
        .iter()
        .filter_map(|one| one.name.as_deref())
        .collect();
    assert_eq!(names, ["efi", "swap", "root"]);
    assert!(plan.partitions[2].size_bytes > 15 << 30);
    let make = &partitioned.tasks[1].actions[0].environment["CMD_LINE"];
    for name in names {
        assert!(
            make.contains(&format!("tasks.disk.outputs.paths.{name}")),
            "{make}"
        );
    }
}

#[test]
fn wipe_asks_before_it_writes() {
    let wipe = definition("wipe.yaml");
    assert_eq!(names(&wipe), ["sure", "wipe"]);
    let approve = wipe.tasks[0].approve.as_ref().unwrap();
    assert_eq!(approve.message, "wipe ${{ inputs.disk }} of 52:54:00:77:00:0b?");
    assert_eq!(wipe.tasks[1].needs, [0]);
    assert_eq!(wipe.tasks[1].worker, "52:54:00:77:00:0b");
}

#[test]
fn the_handover_goes_from_the_first_machine_to_the_second() {
    let handover = definition("two-machines-handover.yaml");
    assert_eq!(names(&handover), ["give", "take", "note"]);
    let workers: Vec<&str> = handover.tasks.iter().map(|task| task.worker.as_str()).collect();
    assert_eq!(workers, ["52:54:00:77:00:0b", "52:54:00:77:00:0c", ""]);
    assert_eq!(handover.tasks[2].needs, [0, 1]);
    let set = BTreeMap::from([("handed_over".into(), "tasks.give.outputs.bytes".into())]);
    assert_eq!(handover.tasks[2].control, Some(Control::Set(set)));
    assert_eq!(handover.outputs["bytes"], "vars.handed_over");
}

#[test]
fn the_rack_goes_in_waves_behind_a_canary_and_an_approval() {
    let rack = definition("rack-bring-up.yaml");
    assert_eq!(names(&rack), ["canary", "look", "rest", "start-canary"]);
    assert!(rack.tasks[1].approve.is_some());
    let rest = rack.tasks[2].for_each.as_ref().unwrap();
    assert_eq!(rest.list, "machines(\"rack == 'r7' && canary != 'yes'\")");
    assert_eq!(
        rest.waves,
        [Amount::Count(1), Amount::Percent(10), Amount::Percent(100)]
    );
    assert_eq!(rest.max_failures, Some(Amount::Percent(5)));
    assert_eq!(rack.tasks[2].actions[..1], rack.tasks[0].actions);
    assert_eq!(rack.tasks[2].actions[1..], rack.tasks[3].actions);
}

#[test]
fn debian_is_done_when_ssh_answers() {
    let debian = definition("debian-answers.yaml");
    assert_eq!(names(&debian), ["install", "up"]);
    let up = &debian.tasks[1];
    assert_eq!((up.timeout_s, up.worker.as_str()), (900, "52:54:00:77:00:0b"));
    let Some(Control::Answers(answers)) = &up.control else {
        panic!("{up:?}")
    };
    assert_eq!(
        (answers.by.name(), answers.port, answers.address.as_str()),
        ("SSH", 22, "")
    );
}

#[test]
fn the_nightly_rollout_waits_for_the_evening_and_has_its_bounds_from_inputs() {
    let nightly = definition("nightly-rollout.yaml");
    assert_eq!(names(&nightly), ["evening", "rollout"]);
    let rollout = nightly.tasks[1].for_each.as_ref().unwrap();
    assert_eq!(
        (rollout.min_items, rollout.max_failures),
        (1, Some(Amount::Percent(5)))
    );
    assert_eq!(
        rollout.waves,
        [Amount::Count(1), Amount::Percent(10), Amount::Percent(100)]
    );
    assert_eq!(nightly.tasks[1].timeout_s, 3600);
}
