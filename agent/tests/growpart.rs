//! The built-in action `growpart`, by the real agent on loop devices; other people's tools read what it left.

mod fake;
mod image;
mod world;

use std::process::Command;

use image::{LoopDisk, run};
use world::{World, failed, succeeded};

#[tokio::test]
async fn a_partition_and_its_filesystem_grow_once_and_what_cannot_grow_is_refused_in_words() {
    let mut world = World::new().await;
    let file = world.folder.path().join("disk");
    std::fs::File::create(&file)
        .and_then(|file| file.set_len(640 << 20))
        .expect("file");
    let partitions = ["--new=1:1M:+300M", "--new=2:400M:+16M", "--typecode=2:8200"];
    run(Command::new("sgdisk").args(partitions).arg(&file));
    let disk = LoopDisk::partitioned(&file);
    let device = disk.device.as_str();
    // This kernel may not know the table.
    run(Command::new("partx").args(["--update", device]));
    let root = format!("{device}p1");
    run(Command::new("mkfs.btrfs").args(["-q", &root]));
    let with = |partition| [("DEST_DISK", device), ("PARTITION", partition)];
    failed(
        world.run("growpart", "w/1", &with("p2")).await,
        "BadVariable",
        &["partition \"p2\" is none", "1 to 1024"],
    );
    failed(
        world.run("growpart", "w/2", &with("7")).await,
        "NoSuchPartition",
        &["partition 7 does not exist", "nothing was written"],
    );

    // Without a number the last Linux filesystem: the swap space behind it stays.
    let (done, outputs) = succeeded(world.run("growpart", "w/3", &[("DEST_DISK", device)]).await);
    assert!(
        done.message.contains("418381824 B now, 103809024 B more"),
        "{}",
        done.message
    );
    assert_eq!(
        (&outputs["changed"], &outputs["path"]),
        (&true.into(), &root.as_str().into())
    );
    let filesystem = outputs["filesystem_bytes"].as_u64().expect("number");
    assert_eq!(filesystem, 399 << 20);
    run(Command::new("btrfs").args(["check", "--readonly", &root]));
    let said = run(Command::new("sgdisk").args(["--verify", device]));
    assert!(said.contains("No problems found"), "{said}");

    // Once more, as after a lost report.
    let before = std::fs::read(world.folder.path().join("disk")).expect("content");
    let (done, again) = succeeded(world.run("growpart", "w/4", &[("DEST_DISK", &root)]).await);
    assert!(
        done.message.contains("already, 418381824 B: nothing was written"),
        "{}",
        done.message
    );
    assert_eq!(again["changed"], false);
    assert!(std::fs::read(world.folder.path().join("disk")).expect("content") == before);

    let (_, swap) = succeeded(world.run("growpart", "w/5", &with("2")).await);
    assert_eq!(
        (&swap["changed"], &swap["filesystem_bytes"]),
        (&true.into(), &serde_json::Value::Null)
    );
}
