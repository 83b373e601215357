//! The built-in action `partition`, by the real agent on loop devices; other people's tools read what it made.

mod fake;
mod image;

use std::path::Path;
use std::process::Command;

use fake::{Agent, FakeServer, Stream, action};
use image::{LoopDisk, run};
use proto::v1;
use proto::v1::report::Outcome;
use serde_json::Value;

const LAYOUT: &str = r#"[
    {"name": "efi", "size": "8MiB", "type": "efi"},
    {"name": "data", "size": "50%", "type": "linux"},
    {"name": "root", "size": "rest", "type": "root-x86-64", "uuid": "11111111-2222-4333-8444-555555555555"}
]"#;

struct World {
    _server: FakeServer,
    stream: Stream,
    folder: tempfile::TempDir,
    _agent: Agent,
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().expect("folder");
        let mut server = FakeServer::start().await;
        let agent = Agent::start(&server, folder.path());
        let (stream, _) = server.accept().await;
        stream.welcome_of(5).await;
        World {
            _server: server,
            stream,
            folder,
            _agent: agent,
        }
    }

    /// A loop device of 64 MiB that shows its partitions.
    fn disk(&self, name: &str) -> LoopDisk {
        let file = self.folder.path().join(name);
        std::fs::File::create(&file)
            .and_then(|file| file.set_len(64 << 20))
            .expect("file");
        let mut losetup = Command::new("losetup");
        let device = run(losetup.args(["--find", "--show", "--partscan"]).arg(&file));
        LoopDisk {
            device: device.trim().to_owned(),
        }
    }

    async fn partition(&mut self, attempt_id: &str, variables: &[(&str, &str)]) -> Outcome {
        let run = v1::RunAction {
            workflow_id: "w".into(),
            task: "install".into(),
            action: "partition".into(),
            ..action(attempt_id, "partition", variables)
        };
        self.stream.end_of(&run).await
    }
}

#[track_caller]
fn succeeded(outcome: Outcome) -> (v1::Succeeded, Value) {
    match outcome {
        Outcome::Succeeded(done) => {
            let outputs = serde_json::from_str(&done.outputs_json).expect("JSON");
            (done, outputs)
        }
        other => panic!("no success: {other:?}"),
    }
}

#[track_caller]
fn failed(outcome: Outcome, reason: &str, words: &[&str]) {
    match outcome {
        Outcome::Failed(failed) if failed.reason == reason => {
            assert!(failed.disks_untouched, "{failed:?}");
            for word in words {
                assert!(failed.message.contains(word), "{}", failed.message);
            }
        }
        other => panic!("no {reason}: {other:?}"),
    }
}

#[tokio::test]
async fn a_disk_has_the_declared_table_and_the_outputs_say_where_its_partitions_are() {
    let mut world = World::new().await;
    let disk = world.disk("disk");
    // Something that is to be told of.
    run(Command::new("mkswap").arg(&disk.device));
    let variables = [("DEST_DISK", disk.device.as_str()), ("PARTITIONS", LAYOUT)];
    let (done, outputs) = succeeded(world.partition("w/1", &variables).await);
    assert!(
        done.message.contains("has a new gpt table with 3 partitions now"),
        "{}",
        done.message
    );
    assert_eq!(outputs["changed"], true);
    assert_eq!(outputs["removed"][0]["kind"], "swap");
    let path = format!("{}p3", disk.device);
    assert_eq!(outputs["paths"]["root"], path.as_str());
    assert_eq!(
        outputs["partitions"][2]["uuid"],
        "11111111-2222-4333-8444-555555555555"
    );
    let said = run(Command::new("sgdisk").arg("--verify").arg(&disk.device));
    assert!(said.contains("No problems found"), "{said}");
    let dump = run(Command::new("sfdisk").arg("--dump").arg(&disk.device));
    for word in [
        "name=\"efi\"",
        "name=\"data\"",
        "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    ] {
        assert!(dump.contains(word), "{word}: {dump}");
    }

    // A later action finds the partition by what this one gave.
    run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", &path]));
    let write = action(
        "w/2",
        "writefile",
        &[
            ("DEST_DISK", &path),
            ("FS_TYPE", "ext4"),
            ("DEST_PATH", "/hello"),
            ("CONTENTS", "hello"),
            ("UID", "0"),
            ("GID", "0"),
            ("MODE", "0644"),
            ("DIRMODE", "0755"),
        ],
    );
    let outcome = world.stream.end_of(&write).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");

    // Once more, as after a lost report: nothing is written, and the file is still there.
    let before = std::fs::read(world.folder.path().join("disk")).expect("content");
    let (done, again) = succeeded(world.partition("w/3", &variables).await);
    assert!(
        done.message.contains("already: nothing was written"),
        "{}",
        done.message
    );
    assert_eq!(again["changed"], false);
    assert_eq!(
        (&again["paths"], &again["partitions"], &again["table_uuid"]),
        (&outputs["paths"], &outputs["partitions"], &outputs["table_uuid"])
    );
    assert!(std::fs::read(world.folder.path().join("disk")).expect("content") == before);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_in_words_and_the_disk_is_as_it_was() {
    let mut world = World::new().await;
    let disk = world.disk("disk");
    let device = disk.device.as_str();
    let with = |partitions| [("DEST_DISK", device), ("PARTITIONS", partitions)];
    failed(
        world.partition("w/1", &[("DEST_DISK", device)]).await,
        "MissingVariable",
        &["PARTITIONS"],
    );
    failed(
        world
            .partition(
                "w/2",
                &with(r#"[{"size": "10G", "type": "linux"}, {"size": "rest"}]"#),
            )
            .await,
        "BadVariable",
        &["partition 1: size \"10G\"", "partition 2: type is missing"],
    );
    failed(
        world.partition("w/3", &with("- size: rest")).await,
        "BadVariable",
        &["no JSON", "in the action's input"],
    );
    failed(
        world
            .partition("w/4", &with(r#"[{"size": "1GiB", "type": "linux"}]"#))
            .await,
        "DiskTooSmall",
        &["need 1GiB", "has 62MiB for them", "nothing was written"],
    );
    run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", device]));
    let before = std::fs::read(world.folder.path().join("disk")).expect("content");
    let [a, b] = with(LAYOUT);
    failed(
        world.partition("w/5", &[a, b, ("ONLY_EMPTY", "true")]).await,
        "DiskNotEmpty",
        &["ext4 at byte 1080", "Leave ONLY_EMPTY out"],
    );
    let mounted = world.folder.path().join("mounted");
    std::fs::create_dir(&mounted).expect("folder");
    run(Command::new("mount").args(["-o", "ro", device]).arg(&mounted));
    let outcome = world.partition("w/6", &with(LAYOUT)).await;
    run(Command::new("umount").arg(&mounted));
    failed(outcome, "DiskBusy", &["is mounted at"]);
    failed(
        world.partition("w/7", &[("DEST_DISK", "serial=nobody"), b]).await,
        "NoSuchDisk",
        &["no disk is serial=nobody"],
    );
    let after = std::fs::read(world.folder.path().join("disk")).expect("content");
    assert!(after[..1024] == before[..1024] && after[2048..1 << 20] == before[2048..1 << 20]);
}

#[tokio::test]
async fn an_mbr_goes_onto_a_file_whose_partitions_the_kernel_does_not_show() {
    let mut world = World::new().await;
    let file = world.folder.path().join("image");
    std::fs::File::create(&file)
        .and_then(|file| file.set_len(64 << 20))
        .expect("file");
    let name = file.to_str().expect("UTF-8").to_owned();
    let variables = [
        ("DEST_DISK", name.as_str()),
        ("TABLE", "mbr"),
        (
            "PARTITIONS",
            r#"[{"name": "boot", "size": "16MiB", "type": "linux", "attributes": ["legacy-boot"]}, {"size": "rest", "type": "lvm"}]"#,
        ),
    ];
    let (_, outputs) = succeeded(world.partition("w/1", &variables).await);
    assert_eq!(outputs["paths"], serde_json::json!({}));
    let dump = run(Command::new("sfdisk").arg("--dump").arg(Path::new(&file)));
    assert!(dump.contains("label: dos"), "{dump}");
    assert!(dump.contains("size=       32768, type=83, bootable"), "{dump}");
    assert!(dump.contains("type=8e"), "{dump}");
}
