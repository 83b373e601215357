//! The built-in action `wipe`, by the real agent on loop devices.

mod fake;
mod image;
mod world;

use std::process::Command;

use image::{LoopDisk, run};
use world::{World, failed, succeeded};

#[tokio::test]
async fn a_partition_and_then_the_disk_are_erased_and_the_outputs_say_how() {
    let mut world = World::new().await;
    let file = world.folder.path().join("disk");
    // Without a zero.
    std::fs::write(&file, vec![0xa5; 24 << 20]).expect("file");
    let disk = LoopDisk::partitioned(&file);
    let layout = r#"[{"size": "8MiB", "type": "linux"}, {"size": "rest", "type": "linux"}]"#;
    let variables = [("DEST_DISK", disk.device.as_str()), ("PARTITIONS", layout)];
    succeeded(world.run("partition", "w/0", &variables).await);
    let content = || std::fs::read(&file).expect("content");
    let first = format!("{}p1", disk.device);

    // What cannot be is refused, and nothing is written.
    let before = content();
    for (attempt, device, method, reason, words) in [
        (
            "w/1",
            "serial=nobody",
            "auto",
            "NoSuchDisk",
            "no disk is serial=nobody",
        ),
        (
            "w/2",
            disk.device.as_str(),
            "shred",
            "BadVariable",
            "\"shred\" is not known",
        ),
        (
            "w/3",
            disk.device.as_str(),
            "format",
            "MethodMissing",
            "It has overwrite, zero-out, discard",
        ),
    ] {
        let variables = [("DEST_DISK", device), ("METHOD", method)];
        failed(world.run("wipe", attempt, &variables).await, reason, &[words]);
    }
    assert!(content() == before);

    // A partition alone: what is beside it stays.
    let (_, outputs) = succeeded(world.run("wipe", "w/4", &[("DEST_DISK", &first)]).await);
    assert_eq!(outputs["size_bytes"], 8 << 20);
    let after = content();
    assert!(after[1 << 20..9 << 20].iter().all(|byte| *byte == 0));
    assert!(after[..1 << 20] == before[..1 << 20] && after[9 << 20..] == before[9 << 20..]);

    // The whole of it; its partitions are gone for the kernel, too.
    let variables = [("DEST_DISK", disk.device.as_str()), ("SAMPLES", "4")];
    let (_, outputs) = succeeded(world.run("wipe", "w/5", &variables).await);
    assert_eq!(
        [&outputs["method"], &outputs["standard"], &outputs["disk"]],
        ["overwrite", "clear", &disk.device]
    );
    assert_eq!(
        (&outputs["samples"], &outputs["size_bytes"]),
        (&4.into(), &(24 << 20).into())
    );
    assert!(outputs["seconds"].is_u64());
    assert!(content().iter().all(|byte| *byte == 0));
    assert!(!std::path::Path::new(&first.replace("/dev/", "/sys/class/block/")).exists());
}

#[tokio::test]
async fn what_uses_the_disk_is_stopped_where_that_is_asked_for() {
    let mut world = World::new().await;
    let disk = world.disk("disk", 16);
    let device = disk.device.as_str();
    run(Command::new("mke2fs").args(["-q", "-F", device]));
    let at = world.folder.path().join("at");
    std::fs::create_dir(&at).expect("folder");
    run(Command::new("mount").arg(device).arg(&at));
    let variables = [("DEST_DISK", device), ("METHOD", "overwrite")];
    let stops = [&variables[..], &[("STOP_USERS", "true")]].concat();
    let mounted = format!("is mounted at {}", at.display());
    failed(
        world.run("wipe", "w/1", &variables).await,
        "DiskBusy",
        &[&mounted],
    );
    // What somebody has open is not torn away.
    let open = std::fs::File::create(at.join("file")).expect("file");
    let unmounting = format!("unmounting {} failed", at.display());
    failed(world.run("wipe", "w/2", &stops).await, "DiskBusy", &[&unmounting]);
    drop(open);
    succeeded(world.run("wipe", "w/3", &stops).await);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(at.to_str().expect("text")), "{mounts}");
}
