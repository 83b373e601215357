//! The built-in action `mkfs`, by the real agent on loop devices; other people's tools read what it made.

mod fake;
mod image;
mod world;

use std::process::Command;

use fake::action;
use image::{LoopDisk, run};
use proto::v1::report::Outcome;
use world::{World, failed, succeeded};

#[tokio::test]
async fn a_partition_has_its_filesystem_once_and_what_is_on_it_stays() {
    let mut world = World::new().await;
    let disk = world.disk("disk", 64);
    let layout = r#"[{"name": "efi", "size": "8MiB", "type": "efi"}, {"name": "root", "size": "rest", "type": "linux"}]"#;
    let partitioned = action(
        "w/1",
        "partition",
        &[("DEST_DISK", &disk.device), ("PARTITIONS", layout)],
    );
    let outcome = world.stream.end_of(&partitioned).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");

    let root = format!("{}p2", disk.device);
    let variables = [
        ("DEST_DISK", root.as_str()),
        ("FS_TYPE", "ext4"),
        ("LABEL", "root"),
        ("OPTIONS", r#"["-m", 1]"#),
        ("ONLY_EMPTY", "true"),
    ];
    let (done, outputs) = succeeded(world.run("mkfs", "w/2", &variables).await);
    assert!(done.message.contains("has a new ext4 of"), "{}", done.message);
    assert_eq!(outputs["changed"], true);
    assert_eq!(outputs["path"], root.as_str());
    let said = run(Command::new("blkid").args(["-p", "-o", "export", &root]));
    let uuid = outputs["uuid"].as_str().expect("text");
    for word in ["TYPE=ext4", "LABEL=root", uuid] {
        assert!(said.contains(word), "{word}: {said}");
    }
    run(Command::new("e2fsck").args(["-f", "-n", &root]));

    let write = action(
        "w/3",
        "writefile",
        &[
            ("DEST_DISK", &root),
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

    // Once more, as after a lost report.
    let (done, again) = succeeded(world.run("mkfs", "w/4", &variables).await);
    assert!(
        done.message.contains("already: nothing was written"),
        "{}",
        done.message
    );
    assert_eq!(again["changed"], false);
    assert_eq!(again["uuid"], outputs["uuid"]);
    let named = LoopDisk { device: root.clone() };
    assert!(named.names().contains(&"hello".to_owned()));
    std::mem::forget(named);

    let efi = format!("{}p1", disk.device);
    let variables = [
        ("DEST_DISK", efi.as_str()),
        ("FS_TYPE", "vfat"),
        ("LABEL", "EFI"),
        ("UUID", "7c3a-91e0"),
    ];
    let (_, outputs) = succeeded(world.run("mkfs", "w/5", &variables).await);
    assert_eq!(outputs["uuid"], "7C3A-91E0");
    run(Command::new("fsck.fat").args(["-n", &efi]));
    let (_, again) = succeeded(world.run("mkfs", "w/6", &variables).await);
    assert_eq!(again["changed"], false);
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_in_words_and_the_device_is_as_it_was() {
    let mut world = World::new().await;
    let disk = world.disk("disk", 16);
    let device = disk.device.as_str();
    let with = |fs_type| [("DEST_DISK", device), ("FS_TYPE", fs_type)];
    run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", device]));
    let before = std::fs::read(world.folder.path().join("disk")).expect("content");
    failed(
        world.run("mkfs", "w/1", &[("DEST_DISK", device)]).await,
        "MissingVariable",
        &["FS_TYPE"],
    );
    failed(
        world.run("mkfs", "w/2", &with("ntfs")).await,
        "BadVariable",
        &["\"ntfs\" cannot be made"],
    );
    failed(
        world.run("mkfs", "w/3", &with("xfs")).await,
        "DiskTooSmall",
        &["16777216 B", "314572800 B at least", "nothing was written"],
    );
    let [a, b] = with("ext4");
    // What the program alone knows, it is asked before anything is written.
    failed(
        world
            .run(
                "mkfs",
                "w/4",
                &[a, b, ("OPTIONS", r#"["-O", "no_such_feature"]"#)],
            )
            .await,
        "ExitCode",
        &["no_such_feature", "nothing was written"],
    );
    failed(
        world.run("mkfs", "w/5", &[a, b, ("ONLY_EMPTY", "true")]).await,
        "DiskNotEmpty",
        &["ext4 at byte 1080", "Leave ONLY_EMPTY out"],
    );
    assert!(std::fs::read(world.folder.path().join("disk")).expect("content") == before);
    let mounted = world.folder.path().join("mounted");
    std::fs::create_dir(&mounted).expect("folder");
    run(Command::new("mount").args(["-o", "ro", device]).arg(&mounted));
    let outcome = world.run("mkfs", "w/6", &with("ext4")).await;
    run(Command::new("umount").arg(&mounted));
    failed(outcome, "DiskBusy", &["is mounted at"]);
}

#[tokio::test]
async fn swap_and_xfs_and_btrfs_go_onto_whole_disks() {
    let mut world = World::new().await;
    for (attempt, fs_type, mib) in [("w/1", "swap", 16), ("w/2", "xfs", 320), ("w/3", "btrfs", 128)] {
        let disk = world.disk(fs_type, mib);
        // What was there is gone, its partitions too.
        run(Command::new("sgdisk").args(["--clear", "--new=1:0:0", &disk.device]));
        let variables = [
            ("DEST_DISK", disk.device.as_str()),
            ("FS_TYPE", fs_type),
            ("LABEL", "one"),
        ];
        let (_, outputs) = succeeded(world.run("mkfs", attempt, &variables).await);
        let said =
            run(Command::new("wipefs").args(["--noheadings", "--output", "TYPE,LABEL,UUID", &disk.device]));
        let words: Vec<&str> = said
            .split([' ', ',', '\n'])
            .filter(|word| !word.is_empty())
            .collect();
        assert_eq!(words, [fs_type, "one", outputs["uuid"].as_str().expect("text")]);
    }
}
