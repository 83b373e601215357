//! The built-in action `partition`, by the real agent on loop devices; other people's tools read what it made.

mod fake;
mod image;
mod world;

use std::path::Path;
use std::process::Command;

use fake::action;
use image::run;
use proto::v1::report::Outcome;
use world::{World, failed, succeeded};

const LAYOUT: &str = r#"[
    {"name": "efi", "size": "8MiB", "type": "efi"},
    {"name": "data", "size": "50%", "type": "linux"},
    {"name": "root", "size": "rest", "type": "root-x86-64", "uuid": "11111111-2222-4333-8444-555555555555"}
]"#;

#[tokio::test]
async fn a_disk_has_the_declared_table_and_the_outputs_say_where_its_partitions_are() {
    let mut world = World::new().await;
    let disk = world.disk("disk", 64);
    // Something that is to be told of.
    run(Command::new("mkswap").arg(&disk.device));
    let variables = [("DEST_DISK", disk.device.as_str()), ("PARTITIONS", LAYOUT)];
    let (done, outputs) = succeeded(world.run("partition", "w/1", &variables).await);
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
    let (done, again) = succeeded(world.run("partition", "w/3", &variables).await);
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
    let disk = world.disk("disk", 64);
    let device = disk.device.as_str();
    let with = |partitions| [("DEST_DISK", device), ("PARTITIONS", partitions)];
    failed(
        world.run("partition", "w/1", &[("DEST_DISK", device)]).await,
        "MissingVariable",
        &["PARTITIONS"],
    );
    failed(
        world
            .run(
                "partition",
                "w/2",
                &with(r#"[{"size": "10G", "type": "linux"}, {"size": "rest"}]"#),
            )
            .await,
        "BadVariable",
        &["partition 1: size \"10G\"", "partition 2: type is missing"],
    );
    failed(
        world.run("partition", "w/3", &with("- size: rest")).await,
        "BadVariable",
        &["no JSON", "in the action's input"],
    );
    failed(
        world
            .run(
                "partition",
                "w/4",
                &with(r#"[{"size": "1GiB", "type": "linux"}]"#),
            )
            .await,
        "DiskTooSmall",
        &["need 1GiB", "has 62MiB for them", "nothing was written"],
    );
    run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", device]));
    let before = std::fs::read(world.folder.path().join("disk")).expect("content");
    let [a, b] = with(LAYOUT);
    failed(
        world
            .run("partition", "w/5", &[a, b, ("ONLY_EMPTY", "true")])
            .await,
        "DiskNotEmpty",
        &["ext4 at byte 1080", "Leave ONLY_EMPTY out"],
    );
    let mounted = world.folder.path().join("mounted");
    std::fs::create_dir(&mounted).expect("folder");
    run(Command::new("mount").args(["-o", "ro", device]).arg(&mounted));
    let outcome = world.run("partition", "w/6", &with(LAYOUT)).await;
    run(Command::new("umount").arg(&mounted));
    failed(outcome, "DiskBusy", &["is mounted at"]);
    failed(
        world
            .run("partition", "w/7", &[("DEST_DISK", "serial=nobody"), b])
            .await,
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
    let (_, outputs) = succeeded(world.run("partition", "w/1", &variables).await);
    assert_eq!(outputs["paths"], serde_json::json!({}));
    let dump = run(Command::new("sfdisk").arg("--dump").arg(Path::new(&file)));
    assert!(dump.contains("label: dos"), "{dump}");
    assert!(dump.contains("size=       32768, type=83, bootable"), "{dump}");
    assert!(dump.contains("type=8e"), "{dump}");
}
