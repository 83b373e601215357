//! A netbooted machine's disks are erased, one by its own command, and one of them is used again: partition, filesystem, archive, and the
//! kernel that came with it.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ::image::cpio::{Node, Tree};
use qemu_tests::lab::devices::DiskController;
use qemu_tests::lab::documents::DISK;
use qemu_tests::lab::machine::Blueprint;

use crate::image::{ext4, note_in};
use crate::scene::scene;

const MIB: u64 = 1 << 20;
const WITHIN: Duration = Duration::from_secs(240);

/// What the kernel's own init says, with the command line that it has.
const STARTED: &str = "started by kexec: console=ttyS0,115200 panic=-1 who=grub";

/// Kernel, initial RAM disks and what GRUB would start, as an installed system has them.
fn system(root: &Path, kernel: &Path) {
    let boot = root.join("boot");
    std::fs::create_dir_all(boot.join("grub")).unwrap();
    std::fs::copy(kernel, boot.join("vmlinuz")).unwrap();
    let init = "#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\n\
                /bin/busybox echo \"started by kexec: $(/bin/busybox cat /proc/cmdline)\"\n/bin/busybox poweroff -f\n";
    let mut first = Tree::default();
    first.add("proc", Node::Directory { permissions: 0o755 }).unwrap();
    first.add("dev", Node::Directory { permissions: 0o755 }).unwrap();
    let (permissions, major, minor) = (0o600, 5, 1);
    let console = Node::CharacterDevice {
        permissions,
        major,
        minor,
    };
    first.add("dev/console", console).unwrap();
    let program = |content: Vec<u8>| Node::File {
        permissions: 0o755,
        content,
    };
    first.add("init", program(init.as_bytes().to_vec())).unwrap();
    let mut second = Tree::default();
    second.add("bin", Node::Directory { permissions: 0o755 }).unwrap();
    second
        .add("bin/busybox", program(std::fs::read("/bin/busybox").unwrap()))
        .unwrap();
    for (tree, name) in [(first, "init.img"), (second, "busybox.img")] {
        tree.write_to(File::create(boot.join(name)).unwrap()).unwrap();
    }
    let menu = "set default=\"1\"\n\
                menuentry 'Other' {\n linux /boot/none\n}\n\
                menuentry 'Small' --class small {\n linux /boot/vmlinuz console=ttyS0,115200 panic=-1 who=grub\n \
                initrd /boot/init.img /boot/busybox.img\n}\n";
    std::fs::write(boot.join("grub/grub.cfg"), menu).unwrap();
}

#[test]
fn disks_are_erased_each_by_what_it_can_and_one_gets_a_filesystem_with_an_archive() {
    scene(|scene| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("note"), "from the archive").unwrap();
        system(
            folder.path(),
            &scene.world.server.paths().boot_dir.join("vmlinuz"),
        );
        let tar = Command::new("tar")
            .args(["--owner=0", "--group=0", "-czf"])
            .arg(scene.images.join("tree.tar.gz"))
            .args(["-C", folder.path().to_str().unwrap(), "."])
            .status()
            .unwrap();
        assert!(tar.success());
        let blueprint = Blueprint::numbered(1).memory_mib(512).disk(96 * MIB).disk_on(
            DiskController::Nvme,
            512,
            64 * MIB,
        );
        let mut machine = scene.world.machine(blueprint).unwrap();
        let secret = vec![0x5e; usize::try_from(48 * MIB).unwrap()];
        let mut old = secret.clone();
        old[..usize::try_from(8 * MIB).unwrap()].copy_from_slice(&ext4("old", &[]));
        for disk in [0, 1] {
            machine.disk(disk).fill(&mut old.as_slice()).unwrap();
        }
        machine.power_on().unwrap();

        let (mac, url) = (machine.mac().to_owned(), scene.url("tree.tar.gz"));
        let text = format!(
            r#"
version: "1"
name: again
tasks:
  - name: erase
    worker: "{mac}"
    actions:
      - {{name: fast, image: wipe, timeout: 60, input: {{dest_disk: transport=nvme, samples: 16}}}}
      - {{name: slow, image: wipe, timeout: 120, input: {{dest_disk: {DISK}, samples: 16}}}}
  - name: disk
    worker: "{mac}"
    actions:
      - name: partition
        image: partition
        timeout: 60
        input: {{dest_disk: {DISK}, partitions: [{{name: root, size: 40MiB, type: linux}}]}}
  - name: root
    worker: "{mac}"
    actions:
      - name: make
        image: mkfs
        timeout: 120
        input: {{dest_disk: "${{{{ tasks.disk.outputs.paths.root }}}}", fs_type: ext4, label: root}}
      - name: unpack
        image: archive2disk
        timeout: 60
        environment:
          ARCHIVE_URL: {url}
          INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION: "true"
          DEST_DISK: "${{{{ tasks.disk.outputs.paths.root }}}}"
          FS_TYPE: ext4
          DEST_PATH: /
      - name: start
        image: quay.io/tinkerbell/actions/kexec
        timeout: 60
        environment: {{BLOCK_DEVICE: "${{{{ tasks.disk.outputs.paths.root }}}}", FS_TYPE: ext4}}
"#
        );
        let api = &scene.world.api;
        let workflow = api.run_template(&text).unwrap();
        let lines = || -> Vec<String> {
            let logs = api.logs(&workflow.id).unwrap();
            logs.into_iter().map(|line| line.text).collect()
        };
        let done = api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
        done.unwrap_or_else(|error| panic!("{error:#}: {:#?}", lines()));
        let lines = lines();
        // Both initial RAM disks were there, and what GRUB would have said.
        machine.wait_for_serial(STARTED, Duration::from_secs(60)).unwrap();
        machine.wait_until_off(Duration::from_secs(60)).unwrap();
        for words in [
            "/dev/nvme0n1 is erased by format",
            "/dev/vda is erased by overwrite",
            "loaded /boot/vmlinuz with /boot/init.img, /boot/busybox.img; ",
        ] {
            assert!(
                lines.iter().any(|line| line.starts_with(words)),
                "{words}: {lines:#?}"
            );
        }
        machine.power_cut();
        for (disk, mib) in [(0, 96), (1, 64)] {
            let content = machine
                .disk(disk)
                .read(0, usize::try_from(mib * MIB).unwrap())
                .unwrap();
            let there = content
                .chunks(4096)
                .filter(|page| *page == &secret[..4096])
                .count();
            assert_eq!(there, 0, "pages of disk {disk} are as they were");
            if disk == 0 {
                let root = usize::try_from(MIB).unwrap()..usize::try_from(41 * MIB).unwrap();
                assert_eq!(note_in(&content[root]), "from the archive");
            }
        }
    });
}
