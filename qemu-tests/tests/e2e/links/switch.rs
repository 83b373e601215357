//! A switch with LACP and VLANs: a second machine with the boot image's own kernel, whose first process is a script.
//!
//! Its first card is on the lab's bridge; the others are the ports of one LACP channel. Untagged frames and those of VLAN 100 go
//! to the bridge and come from it. A port whose other end speaks no LACP works alone, as with LACP fallback.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use qemu_tests::lab::machine::{Blueprint, Machine};

use crate::scene::{Scene, path_from};

const WITHIN: Duration = Duration::from_secs(120);
/// Of the package busybox-static.
const BUSYBOX: &str = "/bin/busybox";

const SCRIPT: &str = r#"#!/bin/busybox sh
bb=/bin/busybox
$bb mkdir -p /proc /sys /dev
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs dev /dev
exec >/dev/ttyS0 2>&1
for module in virtio_pci virtio_net stp llc 8021q bonding; do /init -q -- $module || echo "no $module"; done
$bb insmod /bridge.ko
net=/sys/class/net
echo +bond0 > $net/bonding_masters
echo 802.3ad > $net/bond0/bonding/mode
echo 100 > $net/bond0/bonding/miimon
echo fast > $net/bond0/bonding/lacp_rate
echo +eth1 > $net/bond0/bonding/slaves
echo +eth2 > $net/bond0/bonding/slaves
$bb ip link set bond0 up
$bb ip link add link bond0 name bond0.100 type vlan id 100
$bb brctl addbr br0
for port in eth0 bond0 bond0.100; do
  $bb ip link set $port up
  $bb brctl addif br0 $port
done
$bb ip link set br0 up
echo "switch: $($bb cat $net/bond0/address) is ready"
while true; do $bb sleep 3600; done
"#;

/// Starts it, and gives its address as an LACP partner; `ports` are the ends of the cables: here, there.
pub(super) fn start(scene: &Scene, ports: [(u16, u16); 2]) -> (Machine, String) {
    let boot_dir = path_from("FARRIER_LAB_DIR").join(super::PROFILE);
    let initramfs = initramfs(&boot_dir, &scene.world.run_dir.sub("switch-files").unwrap());
    let mut blueprint = Blueprint::new("switch")
        .memory_mib(384)
        .kernel(
            &boot_dir.join("vmlinuz"),
            &initramfs,
            "console=ttyS0 rdinit=/switch panic=10 ipv6.disable=1",
        )
        .nic("52:54:00:88:00:01");
    for (number, (here, there)) in ports.into_iter().enumerate() {
        blueprint = blueprint.cabled_nic(&format!("52:54:00:88:00:{:02x}", number + 2), here, there);
    }
    let mut switch = scene.world.stranger(blueprint).unwrap();
    switch.power_on().unwrap();
    let ready = switch.wait_for_serial(" is ready", WITHIN).unwrap();
    let (_, words) = ready.split_once("switch: ").unwrap();
    let address = words.split(' ').next().unwrap().to_owned();
    (switch, address)
}

/// The script and its tools, then what machines are sent.
fn initramfs(boot_dir: &Path, folder: &Path) -> PathBuf {
    let root = folder.join("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
    fs::write(root.join("switch"), SCRIPT).unwrap();
    fs::set_permissions(root.join("switch"), fs::Permissions::from_mode(0o755)).unwrap();
    let bridge = "cpio -i --quiet --to-stdout '*/net/bridge/bridge.ko*' < \"$1/modules.cpio\" > bridge.ko.xz && xz -dc bridge.ko.xz > \
                  root/bridge.ko";
    let pack = "cd root && find . | cpio -o --quiet -H newc > ../initramfs";
    for script in [bridge, pack] {
        let mut shell = Command::new("sh");
        shell
            .args(["-ec", script, "sh"])
            .arg(boot_dir)
            .current_dir(folder);
        assert!(shell.status().unwrap().success(), "{script}");
    }
    let mut archive = fs::read(folder.join("initramfs")).unwrap();
    for name in ["initramfs.img", "drivers-bonding.img"] {
        // The kernel looks for the next archive at a multiple of 4 bytes.
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(fs::read(boot_dir.join(name)).unwrap());
    }
    fs::write(folder.join("initramfs"), archive).unwrap();
    folder.join("initramfs")
}
