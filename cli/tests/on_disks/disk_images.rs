//! docs/how-to/disk-images.md: what the page says of a cloud image, with a qcow2 made here; and a golden image from cleaning to the disk.

use std::fs;

use crate::page::all_blocks;
use crate::world::World;
use crate::{LoopDisk, begin, boots, system};

const PAGE: &str = "disk-images.md";
const CLOUD_IMAGE: &str = "noble-server-cloudimg-amd64.img";

/// What a system has that has run, and a copy of it must not have.
const OWN: [&str; 7] = [
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "root/.ssh/authorized_keys",
    "var/lib/dhcp/dhclient.leases",
    "var/log/journal/1/system.journal",
];

/// A partition table and a filesystem with this tree, 48 MiB.
const RAW: &str = "\
truncate -s 48M golden.raw
echo 'start=1MiB, type=linux' | sfdisk --quiet --label gpt golden.raw
mke2fs -q -F -t ext4 -d tree -E offset=1048576 golden.raw 44M
";

pub(crate) fn a_cloud_image_and_a_golden_image_are_written(world: &World) {
    begin(world);
    let tree = world.at("tree");
    system::install(world, &tree, &[]);
    for file in OWN {
        let path = tree.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "its own").unwrap();
    }
    fs::write(tree.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::write(tree.join("etc/motd"), "golden\n").unwrap();
    // What the page types in the system; its shell and programs.
    fs::copy("/bin/busybox", tree.join("usr/bin/busybox")).unwrap();
    world.types("for name in sh rm; do ln -s busybox tree/usr/bin/$name; done");

    let [cloud, golden] = all_blocks(PAGE, "yaml template");
    let [put, write, convert, install] = all_blocks(PAGE, "sh");
    let [clean] = all_blocks(PAGE, "sh clean");
    let disk = world.at("disk");
    fs::File::create(&disk).unwrap().set_len(128 << 20).unwrap();
    let disk = LoopDisk::of(world, &disk);
    let on_disk = |text: &str| text.replace("/dev/sda", &disk.device);

    // The cloud image.
    world.types(RAW);
    world.types(&format!("qemu-img convert -O qcow2 golden.raw {CLOUD_IMAGE}"));
    world.types(&put);
    world.writes("cloud-image.yaml", &cloud);
    boots(world);
    let said = world.types(&on_disk(&write));
    // What the page shows of it.
    let [log] = all_blocks(PAGE, "text log");
    for line in log.lines() {
        let words = line.split('…').map(|part| on_disk(part.trim()));
        for words in words {
            assert!(
                said.contains(&words),
                "{words:?} is on the page and not in\n{said}"
            );
        }
    }
    let read = |path: &str| world.types(&format!("debugfs -R 'cat {path}' {}p1", disk.device));
    assert_eq!(read("/etc/motd"), "golden\n");
    assert_eq!(read("/etc/machine-id").len(), 33, "nothing cleaned this one");

    // The golden one.
    world.writes("clean", &clean);
    world.types("cp clean tree/clean; chroot tree /bin/sh -euc '. /clean'; rm tree/clean");
    for file in OWN {
        assert!(!tree.join(file).exists(), "{file} stays");
    }
    assert_eq!(fs::read_to_string(tree.join("etc/machine-id")).unwrap(), "");
    fs::write(tree.join("etc/motd"), "cleaned\n").unwrap();
    world.types(&format!("rm golden.raw\n{RAW}"));
    let shown = world.types(&convert);
    assert!(shown.contains("file format: qcow2"), "{shown}");
    assert!(
        fs::metadata(world.at("golden.qcow2")).unwrap().len() < 8 << 20,
        "it has what is used, packed"
    );
    // The kernel grows a filesystem for who has this right, which root of a container may lack: that part is tested in QEMU.
    let grows = may_grow();
    let golden = match grows {
        true => golden,
        false => golden.replace("GROW_ROOT: \"true\"", "GROW_ROOT: \"false\""),
    };
    world.writes("golden.yaml", &golden);
    boots(world);
    world.types(&on_disk(&install));
    assert_eq!(read("/etc/motd"), "cleaned\n");
    // As large as the disk, 128 MiB, less what the table takes.
    let size = world.types(&format!("blockdev --getsize64 {}p1", disk.device));
    let size: u64 = size.trim().parse().unwrap();
    assert_eq!(size > 120 << 20, grows, "{size}");
}

/// Whether the kernel grows a mounted ext4 for us: CAP_SYS_RESOURCE, bit 24 (capabilities(7)).
fn may_grow() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << 24) != 0
}
