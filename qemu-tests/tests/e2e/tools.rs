//! Programs that actions run in the agent's own world: they come out of the boot image's archive when one is first asked for.

use std::fs;
use std::process::Command;
use std::time::Duration;

use qemu_tests::lab::api;
use qemu_tests::lab::machine::Blueprint;

use crate::image::ext4;
use crate::scene::{path_from, scene};

const WITHIN: Duration = Duration::from_secs(300);
const MIB: u64 = 1 << 20;
/// mkfs.xfs makes no filesystem below 300 MiB (mkfs.xfs(8)).
const XFS_MIB: u64 = 304;

/// All programs of the list run; what they make is on the disk as its own documentation says.
const COMMANDS: &str = "sgdisk --clear --new=1:0:+304M --new=2:0:+32M --new=3:0:+8M /dev/vdb; mkfs.xfs -q -f /dev/vdb1; \
    mkfs.ext4 -q /dev/vdb2; mkswap /dev/vdb3; mkfs.vfat --help; mkfs.btrfs --version; mdadm --version; lvm version; \
    cryptsetup --version; nvme version; efibootmgr --version; kexec --version; ipmitool -V";

#[test]
fn programs_are_fetched_when_an_action_first_needs_one_and_another_archive_is_refused() {
    scene(|scene| {
        let boot_dir = scene.own_boot_dir();
        let archive = boot_dir.join("tools.img");
        let whole = fs::read(&archive).unwrap();
        let blueprint = Blueprint::numbered(1)
            .memory_mib(512)
            .disk(8 * MIB)
            .disk((XFS_MIB + 64) * MIB);
        let mut machine = scene.world.machine(blueprint).unwrap();
        machine.disk(0).fill(&mut ext4("data", &[]).as_slice()).unwrap();

        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        fs::write(&archive, changed).unwrap();
        let verify = || {
            let mut farrier = Command::new(path_from("FARRIER_BIN"));
            let ran = farrier.args(["image", "verify"]).arg(&boot_dir).output().unwrap();
            let said = [ran.stdout, ran.stderr].concat();
            (ran.status.code(), String::from_utf8_lossy(&said).into_owned())
        };
        let (code, said) = verify();
        assert!(
            code == Some(1) && said.contains("tools.img has the SHA-256"),
            "{said}"
        );
        let workflow = scene.workflow(&machine, &[cexec("sgdisk --version")]);
        machine.power_on().unwrap();
        let message = scene.failure_of(&workflow);
        assert!(
            message.starts_with("ToolsDiffer sgdisk is not used:") && message.contains("has the SHA-256"),
            "{message}"
        );
        fs::write(&archive, &whole).unwrap();
        assert_eq!(verify().0, Some(0), "{}", verify().1);

        // The same machine, in the same boot.
        let workflow = scene.workflow(&machine, &[cexec(COMMANDS), cexec("sgdisk --verify /dev/vdb")]);
        let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
        let logs = scene.world.api.logs(&workflow.id).unwrap();
        let lines: Vec<&str> = logs.iter().map(|line| line.text.as_str()).collect();
        let done = done.unwrap_or_else(|error| panic!("{error:#}: {lines:#?}"));
        for (words, of) in [
            ("programs of the boot image are at /usr", "the agent"),
            ("mkfs.btrfs, part of btrfs-progs", "mkfs.btrfs --version"),
            ("mdadm - v", "mdadm --version"),
            ("LVM version:", "lvm version"),
            ("cryptsetup 2.", "cryptsetup --version"),
            ("nvme version", "nvme version"),
            ("version 18", "efibootmgr --version"),
            ("kexec-tools", "kexec --version"),
            ("ipmitool version", "ipmitool -V"),
            ("No problems found", "sgdisk --verify"),
        ] {
            assert!(
                lines.iter().any(|line| line.contains(words)),
                "{of}: {words}: {lines:#?}"
            );
        }
        let fetched = scene.world.api.boot_log(machine.mac()).unwrap();
        let fetches = fetched.iter().filter(|entry| {
            entry.what.contains("/boot/tools.img") || entry.detail.contains("/boot/tools.img")
        });
        assert_eq!(fetches.count(), 2, "{fetched:#?} {}", api::describe(&done));

        let mut disk = |at: u64, bytes: usize| machine.disk(1).read(at, bytes).unwrap();
        // UEFI 2.10, 5.3.2: the header is in the second sector.
        assert_eq!(disk(512, 8), b"EFI PART");
        // xfs(5), ext4 "Super Block" at 1024 with its magic at 0x38, swap's at the end of the first page.
        assert_eq!(disk(MIB, 4), b"XFSB");
        assert_eq!(disk((1 + XFS_MIB) * MIB + 1024 + 0x38, 2), [0x53, 0xef]);
        assert_eq!(disk((1 + XFS_MIB + 32) * MIB + 4096 - 10, 10), b"SWAPSPACE2");
    });
}

/// A command in the agent's own world, with the first disk's filesystem mounted beside it.
fn cexec(commands: &str) -> String {
    format!(
        "      - name: tools-{}\n        image: cexec\n        timeout: 280\n        environment:\n          BLOCK_DEVICE: /dev/vda\n          \
         FS_TYPE: ext4\n          CMD_LINE: \"{commands}\"\n",
        uuid::Uuid::new_v4().simple()
    )
}
