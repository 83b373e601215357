//! The built-in action `seed`, by the real agent on loop devices; other people's tools read what it made.

mod fake;
mod image;
mod world;

use std::fs;
use std::process::Command;

use image::{LoopDisk, run};
use world::{World, failed, succeeded};

const CLOUD: &str = "#cloud-config\nhostname: node1\n";
const FOLDER: &str = "/var/lib/cloud/seed/nocloud";

/// A filesystem with a folder and some files.
fn system(world: &World, name: &str, files: &[&str]) -> LoopDisk {
    let folder = world.folder.path().join(format!("{name}.d"));
    fs::create_dir(&folder).expect("folder");
    for file in files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().expect("folder")).expect("folder");
        fs::write(path, "old\n").expect("file");
    }
    LoopDisk::with(&folder, &world.folder.path().join(name))
}

/// What debugfs, which mounts nothing, reads there.
fn read(disk: &LoopDisk, command: &str) -> String {
    run(Command::new("debugfs").args(["-R", command, &disk.device]))
}

#[tokio::test]
async fn files_for_cloud_init_are_written_once_and_old_ones_go() {
    let mut world = World::new().await;
    // An earlier seed had a network, and an earlier attempt was cut off.
    let old = [
        "etc/cloud/cloud.cfg",
        "var/lib/cloud/seed/nocloud/network-config",
        "var/lib/cloud/seed/nocloud/.user-data.farrier",
        "var/lib/cloud/seed/nocloud/of-others",
    ];
    let disk = system(&world, "root", &old);
    let variables = [
        ("DEST_DISK", disk.device.as_str()),
        ("USER_DATA", CLOUD),
        ("META_DATA", "local-hostname: node1\n"),
        ("INSTANCE_ID", "i-7"),
    ];
    let (done, outputs) = succeeded(world.run("seed", "w/1", &variables).await);
    assert!(done.message.contains(FOLDER), "{}", done.message);
    assert_eq!(
        (&outputs["changed"], &outputs["folder"], &outputs["datasource"]),
        (&true.into(), &FOLDER.into(), &"nocloud".into())
    );
    let content = |name: &str| read(&disk, &format!("cat {FOLDER}/{name}"));
    assert_eq!(content("user-data"), CLOUD);
    assert_eq!(
        content("meta-data"),
        "instance-id: \"i-7\"\nlocal-hostname: node1\n"
    );
    let listed = read(&disk, &format!("ls -p {FOLDER}"));
    for name in ["network-config", "farrier"] {
        assert!(!listed.contains(name), "{listed}");
    }
    assert!(listed.contains("/100600/0/0/user-data/"), "{listed}");
    assert!(listed.contains("of-others"), "{listed}");

    // Once more, as after a lost report.
    let (done, again) = succeeded(world.run("seed", "w/2", &variables).await);
    assert!(
        done.message.contains("already: nothing was written"),
        "{}",
        done.message
    );
    assert_eq!(again["changed"], false);

    // Without an id it is the machine's, or the workflow's where that has none: never an empty one.
    let [disk_of, user_data, ..] = variables;
    let (_, third) = succeeded(world.run("seed", "w/3", &[disk_of, user_data]).await);
    assert_eq!(third["changed"], true);
    let id = content("meta-data");
    let id = id
        .strip_prefix("instance-id: \"")
        .and_then(|rest| rest.strip_suffix("\"\n"));
    assert!(id.is_some_and(|id| !id.is_empty()), "{id:?}");
}

#[tokio::test]
async fn a_partition_of_its_own_is_found_by_its_label() {
    let mut world = World::new().await;
    let disk = world.disk("disk", 8);
    run(Command::new("sgdisk").args(["--new=1:1M:+2M", "--new=2:4M:+2M", &disk.device]));
    run(Command::new("partx").args(["--update", &disk.device]));
    let part = format!("{}p2", disk.device);
    let variables = [
        ("DEST_DISK", part.as_str()),
        ("DATASOURCE", "configdrive"),
        ("FORM", "iso9660"),
        ("USER_DATA", CLOUD),
        ("ONLY_EMPTY", "true"),
    ];
    let (_, outputs) = succeeded(world.run("seed", "w/1", &variables).await);
    assert_eq!(
        (&outputs["changed"], &outputs["label"]),
        (&true.into(), &"config-2".into())
    );
    let said = run(Command::new("blkid").args(["-p", "-o", "export", &part]));
    for word in ["TYPE=iso9660", "LABEL=config-2"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let out = world.folder.path().join("user_data");
    let mut xorriso = Command::new("xorriso");
    xorriso.args(["-osirrox", "on", "-indev", &format!("stdio:{part}")]);
    run(xorriso
        .args(["-extract", "/openstack/latest/user_data"])
        .arg(&out));
    assert_eq!(fs::read_to_string(out).expect("file"), CLOUD);
    let (done, again) = succeeded(world.run("seed", "w/2", &variables).await);
    assert!(
        done.message.contains("already: nothing was written"),
        "{}",
        done.message
    );
    assert_eq!(again["changed"], false);

    // The disk itself has the partitions.
    let whole = [
        ("DEST_DISK", disk.device.as_str()),
        ("FORM", "iso9660"),
        ("USER_DATA", CLOUD),
    ];
    failed(
        world.run("seed", "w/3", &whole).await,
        "NotADisk",
        &["name one of its partitions"],
    );
    // One that is in use names what uses it.
    let first = format!("{}p1", disk.device);
    run(Command::new("mke2fs").args(["-q", &first]));
    let mounted = world.folder.path().join("mounted");
    fs::create_dir(&mounted).expect("folder");
    run(Command::new("mount").arg(&first).arg(&mounted));
    let busy = [("DEST_DISK", first.as_str()), whole[1], whole[2]];
    let outcome = world.run("seed", "w/4", &busy).await;
    run(Command::new("umount").arg(&mounted));
    failed(outcome, "DiskBusy", &["is mounted at"]);
}

#[tokio::test]
async fn what_nobody_would_read_is_refused_before_the_first_write() {
    let mut world = World::new().await;
    let none = system(&world, "none", &["etc/hostname"]);
    let off = system(&world, "off", &["etc/cloud/cloud-init.disabled"]);
    let small = system(&world, "small", &["etc/cloud/cloud.cfg"]);
    let filled = world.folder.path().join("filled");
    fs::create_dir(&filled).expect("folder");
    run(Command::new("mount").arg(&small.device).arg(&filled));
    let _ = fs::write(filled.join("ballast"), vec![1; 40 << 20]);
    run(Command::new("umount").arg(&filled));
    // ext4 keeps some hundred KiB for itself of what it says is free.
    let long = format!("#cloud-config\nversion: 2\nlong: {}\n", "x".repeat(250 << 10));
    let on = |disk: &LoopDisk| disk.device.clone();
    let ignition = r#"{"ignition": {"version": "3.4.0"}}"#;
    for (number, (device, more, reason, words)) in [
        (on(&none), vec![], "NoReader", "has no /etc/cloud"),
        (on(&off), vec![], "NoReader", "switches cloud-init off"),
        (
            on(&none),
            vec![("DATASOURCE", "ignition"), ("USER_DATA", ignition)],
            "NoReader",
            "has no /ignition.firstboot",
        ),
        (
            on(&none),
            vec![("USER_DATA", "hostname: node1\n")],
            "BadVariable",
            "cloud-init does not know what it is",
        ),
        (
            on(&none),
            vec![("DATASOURCE", "ignition"), ("USER_DATA", "")],
            "MissingVariable",
            "USER_DATA",
        ),
        (
            on(&small),
            vec![
                ("META_DATA", long.as_str()),
                ("NETWORK_CONFIG", &long),
                ("USER_DATA", &long),
                ("VENDOR_DATA", &long),
            ],
            "FilesystemFull",
            "nothing was written",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut variables = vec![("DEST_DISK", device.as_str()), ("USER_DATA", CLOUD)];
        for (name, value) in &more {
            variables.retain(|(known, _)| known != name);
            variables.push((name, value));
        }
        let outcome = world.run("seed", &format!("w/{number}"), &variables).await;
        failed(outcome, reason, &[words]);
    }
    assert!(!none.names().contains(&"var".to_owned()));

    // Where Ignition runs it is taken, and whoever names the place knows better.
    let boot = system(&world, "boot", &["ignition.firstboot"]);
    let variables = [
        ("DEST_DISK", boot.device.as_str()),
        ("DATASOURCE", "ignition"),
        ("USER_DATA", ignition),
    ];
    let (_, outputs) = succeeded(world.run("seed", "w/10", &variables).await);
    assert_eq!(outputs["folder"], "/ignition");
    assert_eq!(read(&boot, "cat /ignition/config.ign"), ignition);
    let oem = [
        ("DEST_DISK", none.device.as_str()),
        variables[1],
        variables[2],
        ("DEST_PATH", "/"),
    ];
    succeeded(world.run("seed", "w/11", &oem).await);
    assert_eq!(read(&none, "cat /config.ign"), ignition);
}
