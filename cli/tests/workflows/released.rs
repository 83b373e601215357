//! `farrier machine release`: its disks are asked for, erased one after the other, and recorded.

use proto::v1::{BlockDevice, HardwareInventory, Succeeded};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::harness::*;
use crate::terminal::Terminal;

fn disk(name: &str, serial: &str, removable: bool) -> BlockDevice {
    BlockDevice {
        name: name.into(),
        serial: serial.into(),
        size_bytes: 480_103_981_056,
        model: "Disk".into(),
        removable,
        ..BlockDevice::default()
    }
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

#[test]
fn a_machine_is_given_back_with_a_record_of_each_disk() {
    let runtime = Runtime::new().expect("runtime");
    let (address, mut agent) = runtime.block_on(prepared(TEMPLATE));
    let release = ["machine", "release", "node1"];
    let output = farrier(&address, &[&release[..], &["--yes"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("has told of its disks yet"), "{output:?}");

    runtime.block_on(agent.tells(HardwareInventory {
        disks: vec![
            disk("/dev/sda", "A1", false),
            disk("/dev/sdb", "B2", false),
            disk("/dev/sdc", "STICK", true),
        ],
        firmware: "uefi".into(),
        ..HardwareInventory::default()
    }));
    wait_until(&address, &["machine", "get", "node1", "-o", "json"], |said| {
        said.contains("STICK")
    });

    // Nobody can be asked.
    let output = farrier(&address, &release);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).ends_with("all that is on the disks is lost: say --yes"),
        "{output:?}"
    );
    // Somebody who types something else.
    let mut asked = Terminal::with_keyboard(command(&address, &release));
    asked.shows(|all| all.contains("Type the machine's name"), || ());
    assert!(
        asked.seen.contains("/dev/sda  447.1 GiB  A1") && asked.seen.contains("B2"),
        "{}",
        asked.seen
    );
    assert!(
        asked.seen.contains("left, as they can be unplugged: /dev/sdc"),
        "{}",
        asked.seen
    );
    asked.types("y\r");
    asked.shows(|all| all.contains("nothing was done"), || ());
    assert_eq!(asked.child.wait().expect("it ends").code(), Some(1));
    let none: Value =
        serde_json::from_str(&text(&farrier(&address, &["workflow", "list", "-o", "json"]))).expect("JSON");
    assert_eq!(none.as_array().map(Vec::len), Some(0));

    let to = address.clone();
    let released = runtime.spawn_blocking(move || {
        farrier(
            &to,
            &[
                "machine",
                "release",
                "node1",
                "--yes",
                "--timeout",
                "90m",
                "-l",
                "why=sold",
                "-o",
                "json",
            ],
        )
    });
    for (number, serial) in ["A1", "B2"].into_iter().enumerate() {
        let run = runtime.block_on(agent.run());
        assert_eq!(run.native, "wipe");
        let variable = |name: &str| run.environment.get(name).cloned().unwrap_or_default();
        assert_eq!(variable("DEST_DISK"), format!("serial={serial}"));
        assert_eq!(
            (variable("STOP_USERS").as_str(), variable("METHOD").as_str()),
            ("true", "auto")
        );
        let done = Succeeded {
            outputs_json: format!(r#"{{"serial": "{serial}", "method": "overwrite", "number": {number}}}"#),
            ..Succeeded::default()
        };
        runtime.block_on(agent.succeeds(&run, done));
    }
    // Of the firmware's entries those go that start something from a disk.
    let run = runtime.block_on(agent.run());
    assert_eq!(
        (run.native.as_str(), run.environment.get("REMOVE")),
        ("bootentry", None)
    );
    let entries = r#"{"entries": [{"number": 1, "label": "PXE", "path": "MAC(525400)"}, {"number": 2, "label": "debian", "path": "HD(1,GPT,a)/File(x)"}]}"#;
    let done = Succeeded {
        outputs_json: entries.into(),
        ..Succeeded::default()
    };
    runtime.block_on(agent.succeeds(&run, done));
    let run = runtime.block_on(agent.run());
    assert_eq!(
        run.environment.get("REMOVE").map(String::as_str),
        Some(r#"["debian"]"#)
    );
    let done = Succeeded {
        outputs_json: r#"{"removed": [2]}"#.into(),
        ..Succeeded::default()
    };
    runtime.block_on(agent.succeeds(&run, done));
    let output = runtime.block_on(released).expect("it runs");
    let workflow: Value = serde_json::from_str(&text(&output)).expect("JSON");
    assert_eq!(workflow["state"], "SUCCESS");
    assert_eq!(workflow["outputs"]["disks"][1]["serial"], "B2");
    assert_eq!(workflow["outputs"]["disks"][0]["method"], "overwrite");
    assert_eq!(workflow["outputs"]["boot_entries_removed"][0], 2);
    assert_eq!(workflow["labels"]["why"], "sold");
    // It has no system any more.
    let machine = text(&farrier(&address, &["machine", "get", "node1", "-o", "json"]));
    let machine: Value = serde_json::from_str(&machine).expect("JSON");
    assert_eq!(machine["boots_next"], "agent", "{machine}");
}
