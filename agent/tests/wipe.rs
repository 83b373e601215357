//! The built-in action `wipe`, by the real agent on loop devices.

mod fake;
mod image;

use std::process::Command;

use fake::{Agent, FakeServer, action};
use image::{LoopDisk, run};
use proto::v1::report::Outcome;
use serde_json::Value;

/// A loop device of 24 MiB that shows its partitions, without a zero.
fn disk(file: &std::path::Path) -> LoopDisk {
    std::fs::write(file, vec![0xa5; 24 << 20]).expect("file");
    let device = run(Command::new("losetup")
        .args(["--find", "--show", "--partscan"])
        .arg(file));
    LoopDisk {
        device: device.trim().to_owned(),
    }
}

#[tokio::test]
async fn a_partition_and_then_the_disk_are_erased_and_the_outputs_say_how() {
    let folder = tempfile::tempdir().expect("folder");
    let mut server = FakeServer::start().await;
    let _agent = Agent::start(&server, folder.path());
    let (mut stream, _) = server.accept().await;
    stream.welcome_of(5).await;
    let file = folder.path().join("disk");
    let disk = disk(&file);
    let layout = r#"[{"size": "8MiB", "type": "linux"}, {"size": "rest", "type": "linux"}]"#;
    let variables = [("DEST_DISK", disk.device.as_str()), ("PARTITIONS", layout)];
    let outcome = stream.end_of(&action("w/0", "partition", &variables)).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
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
        let asked = action(attempt, "wipe", &[("DEST_DISK", device), ("METHOD", method)]);
        match stream.end_of(&asked).await {
            Outcome::Failed(failed) => {
                assert!(failed.reason == reason && failed.disks_untouched, "{failed:?}");
                assert!(failed.message.contains(words), "{failed:?}");
            }
            other => panic!("no failure: {other:?}"),
        }
    }
    assert!(content() == before);

    // A partition alone: what is beside it stays.
    let outcome = stream
        .end_of(&action("w/4", "wipe", &[("DEST_DISK", &first)]))
        .await;
    let Outcome::Succeeded(done) = outcome else {
        panic!("{outcome:?}")
    };
    let outputs: Value = serde_json::from_str(&done.outputs_json).expect("JSON");
    assert_eq!(outputs["size_bytes"], 8 << 20);
    let after = content();
    assert!(after[1 << 20..9 << 20].iter().all(|byte| *byte == 0));
    assert!(after[..1 << 20] == before[..1 << 20] && after[9 << 20..] == before[9 << 20..]);

    // The whole of it; its partitions are gone for the kernel, too.
    let asked = action("w/5", "wipe", &[("DEST_DISK", &disk.device), ("SAMPLES", "4")]);
    let outcome = stream.end_of(&asked).await;
    let Outcome::Succeeded(done) = outcome else {
        panic!("{outcome:?}")
    };
    let outputs: Value = serde_json::from_str(&done.outputs_json).expect("JSON");
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
