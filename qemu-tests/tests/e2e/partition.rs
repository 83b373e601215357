//! A netbooted machine's disk gets the partition table that a template declares, and filesystems on it; once.

use std::process::Command;
use std::time::Duration;

use proto::v1::Workflow;
use qemu_tests::lab::documents::DISK;
use qemu_tests::lab::machine::{Blueprint, Machine};

use crate::image::ext4;
use crate::scene::{Scene, scene};

const MIB: u64 = 1 << 20;
const DISK_MIB: u64 = 192;
const WITHIN: Duration = Duration::from_secs(200);

#[test]
fn a_disk_is_partitioned_and_used_and_left_alone_the_second_time() {
    scene(|scene| {
        // With sectors of 4096 bytes: the headers are elsewhere than with 512.
        let blueprint = Blueprint::numbered(1)
            .memory_mib(512)
            .disk(DISK_MIB * MIB)
            .sector_bytes(4096);
        let mut machine = scene.world.machine(blueprint).unwrap();
        // An older filesystem begins where the second partition will.
        let mut old = vec![0; usize::try_from(33 * MIB).unwrap()];
        old.extend(ext4("old", &[]));
        machine.disk(0).fill(&mut old.as_slice()).unwrap();
        scene.stays_in_memory(&machine, "");
        machine.power_on().unwrap();

        let first = run(scene, &machine);
        let lines = lines(scene, &first);
        let said = |words: &str| lines.iter().any(|line| line.contains(words));
        for words in [
            "removed: ext4 at byte ",
            "partition 2 (root): 104857600 B from byte 34603008",
            "/dev/vda2",
        ] {
            assert!(said(words), "{words}: {lines:#?}");
        }
        let bytes = machine
            .disk(0)
            .read(0, usize::try_from(DISK_MIB * MIB).unwrap())
            .unwrap();

        let second = run(scene, &machine);
        let state = |name: &str| {
            let task = second.tasks.iter().find(|task| task.name == name);
            task.map(|task| task.state.clone()).unwrap_or_default()
        };
        assert_eq!(
            (state("disk"), state("filesystems")),
            ("SUCCESS".into(), "SKIPPED".into())
        );
        machine.power_cut();
        let after = machine.disk(0).read(0, bytes.len()).unwrap();
        assert!(bytes == after, "the second run has written");

        // What others say of it. sgdisk takes a plain file for one of 512-byte sectors.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("root");
        let root = &bytes[usize::try_from(33 * MIB).unwrap()..];
        std::fs::write(&file, &root[..usize::try_from(100 * MIB).unwrap()]).unwrap();
        let checked = Command::new("e2fsck").args(["-fn"]).arg(&file).output().unwrap();
        assert!(checked.status.success(), "{checked:?}");
        let sector = 4096;
        // swap's signature, at the end of its first page.
        assert_eq!(
            &bytes[usize::try_from(MIB).unwrap() + 4096 - 10..][..10],
            b"SWAPSPACE2"
        );
        // UEFI 2.10, section 5.3.2: in the second sector, and in the last.
        assert_eq!(&bytes[sector..sector + 8], b"EFI PART");
        assert_eq!(&bytes[bytes.len() - sector..][..8], b"EFI PART");
    });
}

fn run(scene: &Scene, machine: &Machine) -> Workflow {
    let mac = machine.mac();
    let text = format!(
        r#"
version: "1"
name: partitioned
tasks:
  - name: disk
    worker: "{mac}"
    actions:
      - name: partition
        image: partition
        timeout: 60
        input:
          dest_disk: {DISK}
          partitions:
            - {{name: swap, size: 32MiB, type: swap}}
            - {{name: root, size: 100MiB, type: root-x86-64}}
            - {{name: spare, size: rest, type: linux}}
  - name: filesystems
    when: tasks.disk.outputs.changed
    worker: "{mac}"
    actions:
      - name: make
        image: cexec
        timeout: 180
        environment:
          BLOCK_DEVICE: /dev/null
          FS_TYPE: tmpfs
          CMD_LINE: >-
            mkswap ${{{{ tasks.disk.outputs.paths.swap }}}};
            mkfs.ext4 -q -F ${{{{ tasks.disk.outputs.paths.root }}}}
"#
    );
    let workflow = scene.world.api.run_template(&text).unwrap();
    let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
    done.unwrap_or_else(|error| panic!("{error:#}: {:#?}", lines(scene, &workflow)))
}

fn lines(scene: &Scene, workflow: &Workflow) -> Vec<String> {
    let logs = scene.world.api.logs(&workflow.id).unwrap();
    logs.into_iter().map(|line| line.text).collect()
}
