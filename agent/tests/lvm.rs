//! The built-in action `lvm`, by the real agent and Debian's lvm on loop devices. Volumes need a kernel with device-mapper: they are
//! made in a guest, by the end-to-end tests.

mod fake;
mod image;
mod world;

use std::process::Command;

use image::run;
use world::{World, failed, succeeded};

fn content(world: &World, name: &str) -> Vec<u8> {
    std::fs::read(world.folder.path().join(name)).expect("content")
}

#[tokio::test]
async fn a_group_is_made_once_and_no_group_is_wrecked_that_has_other_devices() {
    let mut world = World::new().await;
    let (one, two, small) = (
        world.disk("one", 32),
        world.disk("two", 32),
        world.disk("small", 4),
    );
    let (one, two, small) = (one.device.as_str(), two.device.as_str(), small.device.as_str());
    // Of this process alone: groups of the host are not meant.
    let name = format!("farrier-test-{}", std::process::id());
    let other = format!("farrier-other-{}", std::process::id());
    let both = serde_json::json!([one, two]).to_string();
    let first = serde_json::json!([one]).to_string();
    let group = ("NAME", name.as_str());
    let devices = ("DEVICES", both.as_str());

    // What cannot be is refused before anything is written.
    let before = (content(&world, "one"), content(&world, "two"));
    let with_small = serde_json::json!([one, small]).to_string();
    for (attempt, variables, reason, words) in [
        ("w/1", vec![group], "MissingVariable", "DEVICES"),
        (
            "w/2",
            vec![("NAME", "a/b"), devices],
            "BadVariable",
            "is none of LVM",
        ),
        (
            "w/3",
            vec![group, ("DEVICES", &with_small)],
            "DiskTooSmall",
            "needs 8388608 B at least",
        ),
        (
            "w/5",
            vec![group, devices, ("VOLUMES", r#"[{"name": "a", "size": "1GiB"}]"#)],
            "NoRoom",
            "has no room for volume a (1GiB): 58720256 B are left of 58720256 B; nothing was written",
        ),
    ] {
        failed(world.run("lvm", attempt, &variables).await, reason, &[words]);
    }
    assert!(before == (content(&world, "one"), content(&world, "two")));

    run(Command::new("mkswap").arg(two));
    let outcome = world
        .run("lvm", "w/6", &[group, devices, ("ONLY_EMPTY", "true")])
        .await;
    failed(outcome, "DiskNotEmpty", &["swap at byte 4086"]);

    let (said, outputs) = succeeded(world.run("lvm", "w/7", &[group, devices]).await);
    assert_eq!(
        said.message,
        format!("{name} is a new volume group of {one}, {two}")
    );
    assert_eq!(outputs["changed"], true);
    let shown = run(Command::new("lvm").args(["vgs", "--noheadings", "-o", "vg_uuid,pv_count", &name]));
    assert_eq!(
        shown.split_whitespace().collect::<Vec<_>>(),
        [outputs["uuid"].as_str().expect("uuid"), "2"]
    );

    // Once more, and by another action: it is there.
    let made = (content(&world, "one"), content(&world, "two"));
    let (said, outputs) = succeeded(world.run("lvm", "x/8", &[group, devices]).await);
    assert!(
        said.message.ends_with(" already: nothing was written"),
        "{said:?}"
    );
    assert_eq!(outputs["changed"], false);
    // Part of it is not another group's, nor is all of it of fewer devices.
    for (attempt, name, devices, reason, words) in [
        ("w/9", name.as_str(), first.as_str(), "NameTaken", two),
        ("w/10", other.as_str(), &first, "OtherMembers", two),
    ] {
        let outcome = world
            .run("lvm", attempt, &[("NAME", name), ("DEVICES", devices)])
            .await;
        failed(outcome, reason, &[words, "nothing was written"]);
    }
    assert!(made == (content(&world, "one"), content(&world, "two")));

    // Who names all of its devices means them.
    let (said, _) = succeeded(world.run("lvm", "w/11", &[("NAME", &other), devices]).await);
    assert_eq!(
        said.message,
        format!("{other} is a new volume group of {one}, {two}")
    );
    run(Command::new("lvm").args(["vgremove", "-ff", "-y", &other]));
}

#[tokio::test]
async fn one_that_was_stopped_between_two_labels_is_made_whole() {
    let mut world = World::new().await;
    let (one, two) = (world.disk("one", 32), world.disk("two", 32));
    let (one, two) = (one.device.as_str(), two.device.as_str());
    let name = format!("farrier-half-{}", std::process::id());
    let both = serde_json::json!([one, two]).to_string();
    let careful = [
        ("NAME", name.as_str()),
        ("DEVICES", both.as_str()),
        ("ONLY_EMPTY", "true"),
    ];
    succeeded(world.run("lvm", "w/1", &careful).await);
    // As it was after the first pvcreate: a label of this action's on one device, and nothing of a group.
    let label = run(Command::new("lvm").args(["pvs", "--noheadings", "-o", "pv_uuid", one]));
    run(Command::new("lvm").args(["vgremove", "-ff", "-y", &name]));
    run(Command::new("lvm").args(["pvremove", "-ff", "-y", two]));
    let (said, _) = succeeded(world.run("lvm", "w/2", &careful).await);
    assert_eq!(
        said.message,
        format!("{name} is a new volume group of {one}, {two}")
    );
    let again = run(Command::new("lvm").args(["pvs", "--noheadings", "-o", "pv_uuid", one]));
    assert_eq!(again, label);
    // Another action's label is somebody's.
    run(Command::new("lvm").args(["vgremove", "-ff", "-y", &name]));
    run(Command::new("lvm").args(["pvremove", "-ff", "-y", one]));
    run(Command::new("lvm").args(["pvcreate", "-ff", "-y", one]));
    let outcome = world.run("lvm", "w/3", &careful).await;
    failed(outcome, "DiskNotEmpty", &["LVM"]);
}
