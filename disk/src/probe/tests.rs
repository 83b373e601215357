//! A made-up sysfs.

use std::os::unix::fs::symlink;

use super::*;

fn put(root: &Path, path: &str, content: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// virtio, NVMe, SATA with two partitions, a USB stick, and what is no disk.
fn machine() -> (tempfile::TempDir, System) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let devices = [
        ("devices/pci0/virtio1/block/vda", "vda", "254:0", 20 << 30),
        ("devices/pci0/nvme/nvme0/nvme0n1", "nvme0n1", "259:0", 400 << 30),
        (
            "devices/pci0/ata1/host0/target0/0:0:0:0/block/sda",
            "sda",
            "8:0",
            2 << 40,
        ),
        ("devices/pci0/usb1/1-1/host6/block/sdb", "sdb", "8:16", 8 << 30),
        ("devices/virtual/block/loop0", "loop0", "7:0", 1 << 20),
        ("devices/pci0/mmc0/mmcblk0boot0", "mmcblk0boot0", "179:8", 4 << 20),
        ("devices/pci0/usb1/1-2/host7/block/sdc", "sdc", "8:32", 0_u64),
    ];
    for (path, name, number, size) in devices {
        let path = format!("sys/{path}");
        put(root, &format!("{path}/dev"), format!("{number}\n").as_bytes());
        put(
            root,
            &format!("{path}/size"),
            format!("{}\n", size / 512).as_bytes(),
        );
        put(root, &format!("{path}/queue/logical_block_size"), b"512\n");
        put(
            root,
            &format!("{path}/queue/rotational"),
            if name == "sda" { b"1\n" } else { b"0\n" },
        );
        put(
            root,
            &format!("{path}/removable"),
            if name == "sdb" { b"1\n" } else { b"0\n" },
        );
        if name == "sda" {
            put(root, &format!("{path}/queue/physical_block_size"), b"4096\n");
        }
        put(root, &format!("{path}/ro"), b"0\n");
        for dir in ["sys/block", "sys/dev/block"] {
            let link = root
                .join(dir)
                .join(if dir == "sys/block" { name } else { number });
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(root.join(&path), link).unwrap();
        }
    }
    put(root, "sys/block/vda/serial", b"disk-one\n");
    put(
        root,
        "sys/block/nvme0n1/device/model",
        b"Fast SSD 1                    \n",
    );
    put(root, "sys/block/nvme0n1/device/serial", b"S1\n");
    put(root, "sys/block/nvme0n1/wwid", b"eui.0025385b71b0f9a2\n");
    put(root, "sys/block/nvme0n1/queue/logical_block_size", b"4096\n");
    put(root, "sys/block/sda/device/model", b"WDC WD20\n");
    put(root, "sys/block/sda/device/wwid", b"naa.50014ee2b5e4f0a1\n");
    put(
        root,
        "sys/block/sda/device/vpd_pg80",
        b"\x00\x80\x00\x08  WD-123trailing",
    );
    for (number, start) in [(1, 2048), (2, 4096)] {
        put(
            root,
            &format!("sys/block/sda/sda{number}/partition"),
            format!("{number}\n").as_bytes(),
        );
        put(
            root,
            &format!("sys/block/sda/sda{number}/dev"),
            format!("8:{number}\n").as_bytes(),
        );
        put(
            root,
            &format!("sys/block/sda/sda{number}/start"),
            format!("{start}\n").as_bytes(),
        );
        put(root, &format!("sys/block/sda/sda{number}/size"), b"2048\n");
        symlink(
            root.join(format!("sys/block/sda/sda{number}")),
            root.join(format!("sys/dev/block/8:{number}")),
        )
        .unwrap();
    }
    fs::create_dir_all(root.join("sys/block/sda/sda2/holders/md0")).unwrap();
    put(
        root,
        "proc/self/mountinfo",
        b"22 1 8:1 / /boot rw,relatime shared:1 - ext4 /dev/made-up rw\n30 1 0:24 / /run rw - tmpfs tmpfs rw\n",
    );
    let system = System {
        sys: root.join("sys"),
        proc: root.join("proc"),
        dev: "/dev".into(),
    };
    (dir, system)
}

#[test]
fn disks_are_listed_with_what_sysfs_tells_of_them() {
    let (_dir, system) = machine();
    let disks = list(&system, Include::DisksOnly).unwrap();
    let names: Vec<_> = disks.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["nvme0n1", "sda", "sdb", "vda"]);
    let [nvme, sata, usb, virtio] = disks.as_slice() else {
        unreachable!()
    };

    assert_eq!(
        (virtio.size_bytes, virtio.path.as_path()),
        (20 << 30, Path::new("/dev/vda"))
    );
    assert_eq!(
        (virtio.transport.as_deref(), virtio.ids.as_slice()),
        (Some("virtio"), ["virtio-disk-one".to_owned()].as_slice())
    );
    assert_eq!(
        (
            nvme.model.as_deref(),
            nvme.sector_bytes,
            nvme.physical_sector_bytes
        ),
        (Some("Fast SSD 1"), 4096, 4096)
    );
    assert_eq!((sata.sector_bytes, sata.physical_sector_bytes), (512, 4096));
    assert_eq!(nvme.ids, ["nvme-Fast_SSD_1_S1", "nvme-eui.0025385b71b0f9a2"]);
    assert_eq!((sata.serial.as_deref(), sata.rotational), (Some("WD-123"), true));
    assert_eq!(sata.ids, ["ata-WDC_WD20_WD-123", "wwn-0x50014ee2b5e4f0a1"]);
    assert_eq!(
        sata.partitions
            .iter()
            .map(|p| (p.number, p.start_bytes))
            .collect::<Vec<_>>(),
        [(1, 1 << 20), (2, 2 << 20)]
    );
    assert_eq!(sata.users, ["sda1 is mounted at /boot", "sda2 is part of md0"]);
    assert!(usb.removable && usb.transport.as_deref() == Some("usb") && usb.users.is_empty());
    assert!(
        list(&system, Include::Everything)
            .unwrap()
            .iter()
            .any(|disk| disk.name == "loop0")
    );
}

#[test]
fn a_partition_of_a_used_disk_has_only_its_own_users() {
    let (_dir, system) = machine();
    assert_eq!(
        users(&system, libc::makedev(8, 2)).unwrap(),
        ["sda2 is part of md0"]
    );
    assert_eq!(
        users(&system, libc::makedev(8, 16)).unwrap(),
        Vec::<String>::new()
    );
}

#[test]
fn a_hint_is_resolved_against_the_machine() {
    let (_dir, system) = machine();
    for (hint, path) in [
        ("/dev/disk/by-id/wwn-0x50014ee2b5e4f0a1", "/dev/sda"),
        ("/dev/sda2", "/dev/sda2"),
        ("transport=nvme", "/dev/nvme0n1"),
        ("rotational=no,removable=no,size<=100G", "/dev/vda"),
    ] {
        assert_eq!(resolve(&system, hint).unwrap(), Path::new(path), "{hint}");
    }
    let err = resolve(&system, "/dev/xvda").unwrap_err().to_string();
    assert!(
        err.contains("/dev/vda (20 GiB, virtio, serial disk-one)"),
        "{err}"
    );
}

#[test]
fn sizes_are_shown_for_people() {
    for (bytes, text) in [
        (700, "700 B"),
        (1536, "1.5 KiB"),
        (20 << 30, "20 GiB"),
        (3 << 39, "1.5 TiB"),
    ] {
        assert_eq!(human_bytes(bytes), text);
    }
}

/// One disk in two ways (sdd, sde), and beside it disks that only look alike: another serial number, no name of its own, on USB.
fn with_two_ways() -> (tempfile::TempDir, System) {
    let (dir, system) = machine();
    let root = dir.path();
    let page = |serial: &str| [&[0, 0x80, 0, serial.len() as u8], serial.as_bytes()].concat();
    for (number, (name, wwn, serial, host)) in [
        ("sdd", "naa.5000c50015ea71ac\n", "ONE", "pci0/host8"),
        ("sde", "naa.5000c50015ea71ac\n", "ONE", "pci0/host9"),
        ("sdf", "naa.5000c50015ea71ac\n", "TWO", "pci0/host9"),
        ("sdg", "t10.ATA     DISK\n", "ONE", "pci0/host9"),
        ("sdh", "t10.ATA     DISK\n", "ONE", "pci0/host9"),
        ("sdi", "naa.5000c50015ea71ad\n", "ONE", "usb1/host9"),
        ("sdj", "naa.5000c50015ea71ad\n", "ONE", "usb1/host9"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("sys/devices/{host}/block/{name}");
        let device = format!("9:{number}");
        put(root, &format!("{path}/dev"), device.as_bytes());
        put(root, &format!("{path}/size"), b"4096\n");
        put(root, &format!("{path}/device/wwid"), wwn.as_bytes());
        put(root, &format!("{path}/device/vpd_pg80"), &page(serial));
        symlink(root.join(&path), root.join("sys/block").join(name)).unwrap();
        symlink(root.join(&path), root.join("sys/dev/block").join(device)).unwrap();
    }
    (dir, system)
}

#[test]
fn a_disk_that_is_reached_in_two_ways_is_one() {
    let (dir, system) = with_two_ways();
    let disks = list(&system, Include::DisksOnly).unwrap();
    let ways: Vec<(&str, usize)> = disks
        .iter()
        .filter(|disk| disk.name.as_str() > "sdc" && disk.name.starts_with("sd"))
        .map(|disk| (disk.name.as_str(), disk.other_paths.len()))
        .collect();
    assert_eq!(
        ways,
        [
            ("sdd", 1),
            ("sdf", 0),
            ("sdg", 0),
            ("sdh", 0),
            ("sdi", 0),
            ("sdj", 0)
        ]
    );
    // By whatever it is named, it is the same.
    for hint in ["wwn=naa.5000c50015ea71ac,serial=ONE", "sdd", "sde", "name=sde"] {
        assert_eq!(resolve(&system, hint).unwrap(), Path::new("/dev/sdd"), "{hint}");
    }
    let name = "ID=wwn-0x5000c50015ea71ac";
    let devices = match resolve(&system, name) {
        Err(SelectError::Ambiguous { devices, .. }) => devices,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        devices, "/dev/sdd and /dev/sdf",
        "the third has the same name, and is another disk"
    );
    let described = describe(&disks);
    assert!(
        described.contains("/dev/sdd (2 MiB, scsi, serial ONE, wwn naa.5000c50015ea71ac, also /dev/sde)"),
        "{described}"
    );
    // Who uses it in one way uses it in the other.
    put(dir.path(), "sys/block/sde/holders/dm-0/dm/name", b"vg-root\n");
    for device in ["9:0", "9:1"] {
        let device = usage::parse_device(device).unwrap();
        assert_eq!(users(&system, device).unwrap(), ["sde is part of vg-root (dm-0)"]);
    }
    assert_eq!(
        users(&system, usage::parse_device("9:2").unwrap()).unwrap(),
        [""; 0]
    );
    let disks = list(&system, Include::DisksOnly).unwrap();
    let first = disks.iter().find(|disk| disk.name == "sdd").unwrap();
    assert_eq!(first.users, ["sde is part of vg-root (dm-0)"]);
}

#[test]
fn a_disk_is_empty_that_has_no_partition_no_signature_and_no_user() {
    let dir = tempfile::tempdir().unwrap();
    let disk = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut content = vec![0; 4 << 20];
        change(&mut content);
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        Disk {
            name: name.to_owned(),
            path,
            size_bytes: 4 << 20,
            ..Disk::default()
        }
    };
    let mut disks = vec![
        disk("zeros", &|_| {}),
        // Content without any form is nothing that somebody would find again.
        disk("noise", &|content| content[8192..9000].fill(7)),
        disk("ext4", &|content| {
            content[0x438..0x43a].copy_from_slice(&[0x53, 0xef])
        }),
        disk("raid", &|content| {
            let at = content.len() - 8192;
            content[at..at + 4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
        }),
        disk("table", &|content| {
            content[510..512].copy_from_slice(&[0x55, 0xaa])
        }),
        Disk {
            users: vec!["it is part of md0".to_owned()],
            ..disk("used", &|_| {})
        },
        Disk {
            partitions: vec![Partition::default()],
            ..disk("partitioned", &|_| {})
        },
        Disk {
            path: dir.path().join("gone"),
            ..Disk::default()
        },
    ];
    look_at_content(&mut disks);
    let empty: Vec<Option<bool>> = disks.iter().map(|disk| disk.empty).collect();
    let [yes, no] = [Some(true), Some(false)];
    assert_eq!(empty, [yes, yes, no, no, no, no, no, no]);
    assert_eq!(select(&disks[1..], "empty=true").unwrap().name, "noise");
}
