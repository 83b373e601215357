//! Disks by their persistent names: in actions, in /dev/disk of the in-memory system, and as the udev of the installed
//! system makes them afterwards on the same hardware.

use std::collections::BTreeSet;
use std::time::Duration;

use ::image::Profile;
use ::image::apt::Suite;
use qemu_tests::lab::api;
use qemu_tests::lab::documents::{DISK, ServedImage, install_debian};
use qemu_tests::lab::machine::Blueprint;
use qemu_tests::lab::wait::{Look, wait_until};

use crate::scene::{path_from, scene};

const WITHIN: Duration = Duration::from_secs(300);

/// Prints every link as `by-id/x -> vda`, and checks what a command in an image counts on.
const LOOK: &str = r#"
set -eu
trap 'echo "line $LINENO fails: $BASH_COMMAND"' ERR
test -z "$(ls /run | grep -v -e lock -e farrier)"
cd /dev/disk
for link in by-*/*; do echo "link $link -> $(basename "$(readlink -f "$link")")"; done
for device in /dev/vda1 /dev/vda2 /dev/vda3; do
  for pair in UUID:by-uuid LABEL:by-label PARTUUID:by-partuuid; do
    value=$(blkid -p -s "${pair%%:*}" -o value "$device" || true)
    part=$(blkid -p -s "PART_ENTRY_UUID" -o value "$device" || true)
    [ "${pair%%:*}" = PARTUUID ] && value=$part
    [ -z "$value" ] || [ "$(readlink -f "/dev/disk/${pair##*:}/$value")" = "$device" ] || { echo "blkid has $pair=$value of $device"; exit 4; }
  done
done
root=$(findmnt -n -o SOURCE /)
# What grub-mkconfig looks for before it writes root=UUID=.
test -e "/dev/disk/by-uuid/$(blkid -s UUID -o value "$root")"
bash -c 'read -r line < <(echo substituted) && test "$line" = substituted'
test -c /dev/ptmx && test -d /dev/pts && test -d /dev/shm && test -e /dev/stdin
mkfs.ext4 -q -L "made here" /dev/vdb
i=0; until test -e '/dev/disk/by-label/made\x20here'; do i=$((i+1)); test $i -lt 100; sleep 0.1; done
echo looked
"#;

#[test]
fn disks_have_the_names_in_memory_that_the_installed_system_gives_them() {
    scene(|scene| {
        let debian = path_from("FARRIER_LAB_DIR")
            .join("images")
            .join(::image::debian_disk::file_name(&Suite::default(), Profile::Lab));
        scene.serve_file(&debian, "debian.raw.zst");
        let sha256 = ::image::sha256_of_file(&debian).unwrap();
        let blueprint = Blueprint::numbered(1)
            .disk(3 << 30)
            .disk(64 << 20)
            .qemu(&OTHER_DISKS);
        let mut machine = scene.world.machine(blueprint).unwrap();
        let image = ServedImage {
            file: "debian.raw.zst",
            sha256: &sha256,
        };
        let key = scene.world.key.clone();
        let template = install_debian(
            "names",
            machine.name(),
            machine.mac(),
            machine.address(),
            &machine.disk_device(),
            &image,
            key.public(),
        );
        // Every action by another name of the same disk or partition.
        let uuid = format!("UUID={}", ::image::debian_disk::ROOT_UUID);
        let names = [
            uuid.as_str(),
            "{{ formatPartition \"/dev/disk/by-id/virtio-farrier-lab-0\" 3 }}",
            "serial=farrier-lab-0-part3",
            "ID=virtio-farrier-lab-0-part3",
        ];
        let root = format!("{DISK}3");
        let mut parts = template.split(&root);
        let mut template = parts.next().unwrap().to_owned();
        for (part, name) in parts.zip(names.iter().cycle()) {
            template.push_str(&format!("'{name}'{part}"));
        }
        let template = template.replace(
            &format!("DEST_DISK: {DISK}\n"),
            "DEST_DISK: /dev/disk/by-id/virtio-farrier-lab-0\n",
        );
        let look: String = LOOK.lines().map(|line| format!("            {line}\n")).collect();
        let template = template.replace(
            "      - name: reboot\n",
            &format!(
                "      - name: look\n        image: cexec\n        timeout: 120\n        environment:\n          BLOCK_DEVICE: \
                 {uuid}\n          FS_TYPE: ext4\n          CHROOT: \"y\"\n          UPDATE_RESOLV_CONF: \"true\"\n          \
                 DEFAULT_INTERPRETER: /bin/bash -c\n          CMD_LINE: |\n{look}      - name: reboot\n"
            ),
        );
        let stored = scene.world.api.put_template(&template).unwrap();
        let workflow = scene
            .world
            .api
            .create_workflow(&stored.name, &[("device_1", machine.mac())])
            .unwrap();
        machine.power_on().unwrap();
        let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
        let done = done.unwrap_or_else(|e| {
            let logs = scene.world.api.logs(&workflow.id).unwrap();
            panic!("{e:#}: {logs:?}")
        });
        let logs = scene.world.api.logs(&workflow.id).unwrap();
        let ours: BTreeSet<String> = logs
            .iter()
            .filter_map(|line| line.text.strip_prefix("link ").map(str::to_owned))
            .collect();
        assert!(ours.len() > 25, "{ours:?} {}", api::describe(&done));

        // From version 257 on udev has folders below by-path, too, with the names of a disk's partitions: these are not made.
        let listing = "cd /dev/disk; for link in by-*/*; do test -d $link || echo \"$link -> $(basename $(readlink -f $link))\"; done";
        let udevs = wait_until("a login", WITHIN, || match key.run(machine.address(), listing) {
            Ok(text) => Look::Done(text.lines().map(str::to_owned).collect::<BTreeSet<String>>()),
            Err(error) => Look::not_yet(format!("{error:#}")),
        })
        .unwrap();
        // Links are compared as far as both have the folder: this udev is older than by-diskseq's partitions. What was
        // made on the other disk after the listing is its own.
        let of = |names: &BTreeSet<String>| -> BTreeSet<String> {
            let kept = names
                .iter()
                .filter(|name| !name.starts_with("by-diskseq/") && !name.contains("sr0"));
            kept.filter(|name| !name.starts_with("by-uuid/") || !name.ends_with("vdb"))
                .filter(|name| !name.contains("made"))
                // Which of two disks of one controller comes first is chance.
                .map(|name| name.replace("-> sda", "-> sd").replace("-> sdb", "-> sd"))
                .collect()
        };
        let missing: Vec<String> = of(&udevs).difference(&of(&ours)).cloned().collect();
        assert!(
            missing.is_empty(),
            "udev has, and Farrier has not: {missing:?}; it has {ours:?}"
        );
    });
}

/// One disk on each kind of bus that the kernel of the lab knows; nothing on them stays.
const OTHER_DISKS: [&str; 14] = [
    "-drive",
    "if=none,id=nv,format=raw,file.driver=null-co,file.size=64M,file.read-zeroes=on",
    "-device",
    "nvme,drive=nv,serial=NVME 1",
    "-device",
    "virtio-scsi-pci,id=scsi",
    "-drive",
    "if=none,id=sc,format=raw,file.driver=null-co,file.size=64M,file.read-zeroes=on",
    "-device",
    "scsi-hd,bus=scsi.0,drive=sc,serial=SCSI1",
    "-drive",
    "if=none,id=ww,format=raw,file.driver=null-co,file.size=64M,file.read-zeroes=on",
    "-device",
    "scsi-hd,bus=scsi.0,scsi-id=3,drive=ww,serial=SCSI2,wwn=0x5000c50015ea71ac",
];
