//! Looking into a machine: its disks, its kernel's log, its screen, and a command that only reads; and a machine that has gone silent.

use std::process::Output;
use std::time::Duration;

use proto::v1::report::Outcome;
use proto::v1::{BlockDevice, HardwareInventory, Partition, Sight, Started, Succeeded};
use serde_json::{Value, json};
use server::Config;
use store::{MemoryStore, StoreHandle};
use tokio::runtime::Runtime;

use crate::harness::*;

fn disk() -> BlockDevice {
    let partition = |number, filesystem: &str, label: &str| Partition {
        number,
        filesystem: filesystem.into(),
        label: label.into(),
        ..Partition::default()
    };
    BlockDevice {
        name: "/dev/nvme0n1".into(),
        size_bytes: 960_197_124_096,
        model: "Fast SSD 1".into(),
        serial: "S1X".into(),
        transport: "nvme".into(),
        partition_table: "gpt".into(),
        partitions: vec![partition(1, "vfat", "EFI"), partition(2, "ext4", "root")],
        ..BlockDevice::default()
    }
}

/// What it says on standard error; it must have failed with this code.
#[track_caller]
fn refused(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

#[test]
fn the_disks_of_a_machine_are_listed_with_what_is_on_them() {
    let runtime = Runtime::new().expect("runtime");
    let (address, agent) = runtime.block_on(prepared(TEMPLATE));
    let disks = |more: &[&str]| farrier(&address, &[&["machine", "disks"], more].concat());
    let said = refused(&disks(&["node1"]), 1);
    assert!(
        said.contains("no agent of machine node1 has told what it is made of"),
        "{said}"
    );
    runtime.block_on(agent.tells(HardwareInventory {
        cpus: 4,
        disks: vec![disk()],
        ..HardwareInventory::default()
    }));
    let json = ["machine", "get", "node1", "-o", "json"];
    wait_until(&address, &json, |said| said.contains("nvme0n1"));
    let shown = disks(&["node1"]);
    let said = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert!(said.starts_with("machine node1: as told 20"), "{said}");
    let shown = text(&shown);
    let lines: Vec<Vec<&str>> = shown
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(
        lines[0],
        ["MACHINE", "DISK", "SIZE", "TRANSPORT", "MODEL", "SERIAL", "ON IT"]
    );
    assert_eq!(
        lines[1],
        [
            "node1",
            "/dev/nvme0n1",
            "894.2 GiB",
            "nvme",
            "Fast SSD 1",
            "S1X",
            "gpt, 2 partitions: 1 vfat \"EFI\", 2 ext4 \"root\""
        ]
    );
    let value: Value = serde_json::from_str(&text(&disks(&["node1", "-o", "json"]))).expect("JSON");
    assert_eq!(value[0]["machine"], "node1");
    assert_eq!(value[0]["serial"], "S1X");
    assert_eq!(value[0]["partitions"][1]["filesystem"], "ext4");
    // One that there is not keeps the other from nothing.
    let both = disks(&["node9", "node1", "-o", "name"]);
    assert_eq!(String::from_utf8_lossy(&both.stdout), "/dev/nvme0n1\n");
    assert!(refused(&both, 3).contains("node9"));
    drop(agent);
    let asked = ["machine", "get", "node1", "-o", "json"];
    wait_until(&address, &asked, |said| said.contains("\"attached\": false"));
    let said = String::from_utf8_lossy(&disks(&["node1"]).stderr).into_owned();
    assert!(said.contains("no agent is attached now"), "{said}");
}

#[test]
fn the_kernels_log_and_the_screen_are_shown_and_without_an_agent_it_is_said() {
    let runtime = Runtime::new().expect("runtime");
    let (address, mut agent) = runtime.block_on(prepared(TEMPLATE));
    let mut look = |args: &'static [&'static str], shows: &str| {
        let to = address.clone();
        let asked = runtime.spawn_blocking(move || farrier(&to, args));
        let sight = runtime.block_on(agent.shows(shows));
        (sight, runtime.block_on(asked).expect("it runs"))
    };
    let log = "[    0.0] Linux\n[    1.0] eth0: up\u{1b}[2J\n[    2.0] vda: vda1";
    let (sight, output) = look(&["machine", "dmesg", "node1", "--tail", "2"], log);
    assert_eq!(sight, Sight::KernelLog);
    let shown = text(&output);
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(shown.contains("eth0: up") && !shown.contains('\u{1b}'), "{shown}");
    assert!(shown.ends_with("[    2.0] vda: vda1\n"), "{shown}");
    let (_, output) = look(&["machine", "dmesg", "node1", "-o", "json"], log);
    let value: Value = serde_json::from_str(&text(&output)).expect("JSON");
    assert_eq!(
        (&value["name"], &value["is_cut"]),
        (&json!("node1"), &json!(false))
    );
    assert_eq!(value["lines"][0], "[    0.0] Linux");
    let (sight, output) = look(
        &["machine", "screen", "node1"],
        "Farrier 0.1.0   up 3 s   \nMachine   node1\n  \n",
    );
    assert_eq!(sight, Sight::Screen);
    assert_eq!(text(&output), "Farrier 0.1.0   up 3 s\nMachine   node1\n");
    drop(agent);
    let asked = ["machine", "get", "node1", "-o", "json"];
    wait_until(&address, &asked, |said| said.contains("\"attached\": false"));
    let said = refused(&farrier(&address, &["machine", "screen", "node1"]), 1);
    assert!(
        said.starts_with("farrier: no agent of machine node1 is attached; the last was heard at 20"),
        "{said}"
    );
    assert!(said.contains("`farrier machine boot-log node1`"), "{said}");
    refused(&farrier(&address, &["machine", "dmesg", "node9"]), 3);
}

#[test]
fn exec_is_handed_out_as_it_was_asked_for() {
    let runtime = Runtime::new().expect("runtime");
    let (address, mut agent) = runtime.block_on(prepared(TEMPLATE));
    let to = address.clone();
    let asked =
        runtime.spawn_blocking(move || farrier(&to, &["run", "node1", "exec", "lsblk", "-o", "NAME,SIZE"]));
    let run = runtime.block_on(agent.run());
    assert_eq!((run.native.as_str(), run.image.as_str()), ("exec", "exec"));
    assert_eq!(run.environment["CMD_LINE"], "lsblk -o NAME,SIZE");
    assert!(!run.environment.contains_key("WRITE"));
    runtime.block_on(async {
        agent.log(&run, &["NAME SIZE"]).await;
        agent.succeeds(&run, Succeeded::default()).await;
    });
    let output = runtime.block_on(asked).expect("it runs");
    assert_eq!(text(&output), "NAME SIZE\n");
}

#[test]
fn health_names_a_machine_whose_agent_has_gone_away_in_the_middle() {
    let config = Config {
        silent_after: Duration::from_secs(1),
        ..Config::default()
    };
    let runtime = Runtime::new().expect("runtime");
    let (address, mut agent) = runtime.block_on(prepared_on(
        StoreHandle::new(MemoryStore::new()),
        config,
        TEMPLATE,
    ));
    let health = || farrier(&address, &["health", "-o", "json"]);
    let json = || -> Value { serde_json::from_slice(&health().stdout).expect("JSON") };
    text(&farrier(
        &address,
        &["workflow", "create", "-t", "debian", "-q", "-r", DEVICE],
    ));
    let run = runtime.block_on(agent.run());
    runtime.block_on(agent.report(&run, Outcome::Started(Started {})));
    wait_until(&address, &["machine", "get", "node1", "-o", "json"], |said| {
        said.contains("RUNNING")
    });
    let about = |value: &Value| {
        let problems = value["problems"].as_array().cloned().unwrap_or_default();
        let problems: Vec<String> = problems.iter().map(Value::to_string).collect();
        problems.into_iter().find(|problem| problem.contains("node1"))
    };
    // The power goes.
    drop(agent);
    let deadline = std::time::Instant::now() + WITHIN;
    let value = loop {
        let value = json();
        if value["machines"] == json!({"silent": 1}) {
            break value;
        }
        assert!(std::time::Instant::now() < deadline, "{value}");
    };
    let problem = about(&value).expect("a problem that names it");
    assert!(problem.contains("is not heard"), "{problem}");
    let output = farrier(&address, &["health"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("Machines:   1: 1 silent"), "{said}");
    assert!(
        said.contains("1 machine with something to run is not heard: node1"),
        "{said}"
    );
    let listed = text(&farrier(
        &address,
        &["machine", "list", "--state", "silent", "-o", "name"],
    ));
    assert_eq!(listed, "node1\n");
}

#[test]
fn a_dry_run_says_what_is_done_to_which_disk_and_makes_nothing() {
    const TEMPLATE: &str = "\
version: '1'
name: debian
inputs: {disk: {type: string, default: /dev/nvme0n1}}
tasks:
  - name: install
    worker: \"{{.device_1}}\"
    actions:
      - {name: write-image, image: image2disk, input: {img_url: 'http://h/debian.raw', dest_disk: '${{ inputs.disk }}'}}
      - {name: host, image: writefile, input: {dest_disk: /dev/nvme0n1p2, dest_path: /etc/hostname, contents: a, fs_type: ext4, uid: 0, gid: 0, mode: '0644', dirmode: '0755'}}
      - {name: erase, image: wipe, input: {dest_disk: 'empty=true,pick=smallest'}}
      - {name: restart, image: reboot}
";
    let runtime = Runtime::new().expect("runtime");
    let (address, agent) = runtime.block_on(prepared(TEMPLATE));
    let create = |more: &[&str]| {
        let args = ["workflow", "create", "-t", "debian", "-r", DEVICE, "--dry-run"];
        farrier(&address, &[&args[..], more].concat())
    };
    let before = text(&create(&[]));
    assert!(
        before.contains("  not known: no agent of machine node1 has told of its disks yet"),
        "{before}"
    );
    runtime.block_on(agent.tells(HardwareInventory {
        disks: vec![disk()],
        ..HardwareInventory::default()
    }));
    wait_until(&address, &["machine", "get", "node1", "-o", "json"], |said| {
        said.contains("nvme0n1")
    });
    let said = text(&create(&[]));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "workflow debian would do this; nothing was made");
    assert_eq!(
        &lines[2..5],
        [
            "install / write-image on node1: /dev/nvme0n1",
            "  the disk is overwritten with http://h/debian.raw: all that is on it is lost",
            "  disk: /dev/nvme0n1, 894.2 GiB, nvme, Fast SSD 1, serial S1X",
        ]
    );
    assert!(
        lines[5].starts_with("  on it now: gpt, 2 partitions: 1 vfat \"EFI\", 2 ext4 \"root\" (told 20"),
        "{said}"
    );
    assert!(
        said.contains("\n  the file /etc/hostname is written into the filesystem; others stay\n"),
        "{said}"
    );
    assert!(
        said.contains("\n  on it now: partition 2: ext4 \"root\", 0 B (told 20"),
        "{said}"
    );
    assert!(
        said.contains("\n  not known: empty=true,pick=smallest is looked for when it runs"),
        "{said}"
    );
    assert!(!said.contains("restart"), "{said}");
    let said = text(&create(&["-i", "disk=/dev/sdz"]));
    assert!(
        said.contains("machine node1 has told of no disk /dev/sdz, but of /dev/nvme0n1"),
        "{said}"
    );
    let value: Value = serde_json::from_str(&text(&create(&["-o", "json"]))).expect("JSON");
    assert_eq!(value["writes"][0]["device"]["serial"], "S1X");
    assert_eq!(value["writes"][1]["partition"], 2);
    // What creation refuses is refused, and nothing was made of any.
    assert_eq!(create(&["-i", "disk=1", "-i", "other=2"]).status.code(), Some(1));
    assert_eq!(text(&farrier(&address, &["workflow", "list", "-o", "name"])), "");
}
