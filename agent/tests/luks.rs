//! The built-in action `luks`, by the real agent on loop devices. Where the kernel has no device-mapper, it gets as far as the header.

mod fake;
mod image;
mod world;

use std::process::Command;

use image::run;
use proto::v1::report::Outcome;
use world::{World, failed};

const QUICK: (&str, &str) = (
    "OPTIONS",
    r#"["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", 1000]"#,
);

#[tokio::test]
async fn a_device_is_encrypted_with_the_key_and_what_cannot_be_is_refused_in_words() {
    let mut world = World::new().await;
    let disk = world.disk("disk", 24);
    let device = disk.device.as_str();
    let small = world.disk("small", 8);
    let dest = ("DEST_DISK", device);
    let name = ("NAME", "farrier-test-crypt");
    let pass = ("PASSPHRASE", "correct horse");
    for (attempt, variables, reason, words) in [
        (
            "w/1",
            vec![dest, name],
            "MissingVariable",
            "neither environment variable PASSPHRASE nor KEY",
        ),
        (
            "w/2",
            vec![dest, name, pass, ("KEY", "AAAA")],
            "BadVariable",
            "both set",
        ),
        (
            "w/3",
            vec![dest, name, ("KEY", "no base64!")],
            "BadVariable",
            "KEY is no base64",
        ),
        (
            "w/4",
            vec![dest, name, ("PASSPHRASE", "a\n")],
            "BadVariable",
            "a line break",
        ),
        (
            "w/5",
            vec![dest, ("NAME", "a/b"), pass],
            "BadVariable",
            "is none of a mapping",
        ),
        (
            "w/6",
            vec![("DEST_DISK", small.device.as_str()), name, pass],
            "DiskTooSmall",
            "LUKS needs 17825792 B",
        ),
    ] {
        failed(world.run("luks", attempt, &variables).await, reason, &[words]);
    }
    run(Command::new("mkswap").arg(device));
    let careful = [dest, name, pass, QUICK, ("ONLY_EMPTY", "true")];
    let outcome = world.run("luks", "w/7", &careful).await;
    failed(outcome, "DiskNotEmpty", &["swap at byte 4086"]);

    let has_mapper = std::fs::read_to_string("/proc/misc").is_ok_and(|misc| misc.contains("device-mapper"));
    let outcome = world
        .run("luks", "w/8", &[dest, name, pass, QUICK, ("LABEL", "safe")])
        .await;
    match outcome {
        Outcome::Succeeded(_) if has_mapper => {
            run(Command::new("cryptsetup").args(["close", name.1]));
        }
        Outcome::Failed(failed) if !has_mapper => {
            // The header is there; opening is what the kernel cannot.
            assert_eq!(failed.reason, "ExitCode", "{failed:?}");
            assert!(failed.message.contains(" open --type luks2 "), "{failed:?}");
            assert!(
                !failed.message.contains(pass.1) && !failed.disks_untouched,
                "{failed:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    let key = world.folder.path().join("key");
    std::fs::write(&key, pass.1).expect("key");
    let opens = |key: &std::path::Path| {
        let mut trial = Command::new("cryptsetup");
        trial
            .args(["open", "--test-passphrase", "--key-file"])
            .arg(key)
            .arg(device);
        trial.status().expect("runs").success()
    };
    assert!(opens(&key));
    let dump = run(Command::new("cryptsetup").args(["luksDump", device]));
    assert!(dump.contains("Label:         \tsafe"), "{dump}");

    // What this action has made is not made again with another key, and whoever names it with one of their own loses nothing by that.
    let before = std::fs::read(world.folder.path().join("disk")).expect("content");
    let other = [dest, name, ("PASSPHRASE", "battery staple"), QUICK];
    let outcome = world.run("luks", "w/9", &other).await;
    failed(
        outcome,
        "OtherKey",
        &["this key does not open it", "nothing was written"],
    );
    assert!(std::fs::read(world.folder.path().join("disk")).expect("content") == before);
}
