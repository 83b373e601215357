//! What is on a disk after an image, in every moment of its write, and what the kernel shows of it.

use std::process::Command;
use std::time::Duration;

use qemu_tests::lab::documents::DISK;
use qemu_tests::lab::machine::Blueprint;

use crate::image::{ext4, note_in, temporary};
use crate::scene::{scene, write_image, write_note};
use crate::write_log::{self, Request};

const MIB: usize = 1 << 20;

#[test]
fn an_image_for_other_sectors_is_refused_and_its_disk_is_as_it_was() {
    scene(|scene| {
        std::fs::write(scene.images.join("system.raw"), gpt_system(0x22, 8 * MIB)).unwrap();
        let blueprint = Blueprint::numbered(1)
            .memory_mib(512)
            .disk(16 << 20)
            .sector_bytes(4096);
        let mut machine = scene.world.machine(blueprint).unwrap();
        let before = vec![0xa5; 16 * MIB];
        machine.disk(0).fill(&mut before.as_slice()).unwrap();
        machine.power_on().unwrap();
        let workflow = scene.workflow(&machine, &[write_image(&scene.url("system.raw"), DISK, &[])]);
        let message = scene.failure_of(&workflow);
        assert!(
            message.contains("WrongSectorSize") && message.contains("512 B") && message.contains("4096 B"),
            "{message}"
        );
        assert!(
            machine.disk(0).read(0, before.len()).unwrap() == before,
            "something was written"
        );
    });
}

#[test]
fn at_every_moment_of_a_write_the_disk_boots_a_whole_system_or_none_and_then_has_its_partitions() {
    scene(|scene| {
        // Both systems have a partition 1 with a filesystem, at different places.
        let mut old = gpt_system(0x11, 48 * MIB);
        old[MIB..9 * MIB].copy_from_slice(&ext4("old", &[]));
        let new = gpt_system(0x22, 32 * MIB);
        std::fs::write(scene.images.join("new.raw"), &new).unwrap();
        std::fs::write(scene.images.join("mbr.raw"), mbr_system()).unwrap();
        let mut convert = Command::new("qemu-img");
        convert.args([
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            "-c",
            "mbr.raw",
            "mbr.qcow2",
        ]);
        assert!(convert.current_dir(&scene.images).status().unwrap().success());
        let blueprint = Blueprint::numbered(1)
            .memory_mib(512)
            .disk(48 << 20)
            .records_writes();
        let mut machine = scene.world.machine(blueprint).unwrap();
        machine.disk(0).fill(&mut old.as_slice()).unwrap();
        machine.power_on().unwrap();

        let write_new = write_image(&scene.url("new.raw"), DISK, &[]);
        let workflow = scene.workflow(&machine, &[write_new]);
        succeeds(scene, &workflow.id);
        let requests = write_log::read(&machine.write_log());
        let after = machine.disk(0).read(0, old.len()).unwrap();
        assert!(
            after[MIB..31 * MIB] == new[MIB..31 * MIB],
            "the image is not on the disk"
        );
        boots_whole_or_not_at_all(&old, &after, &requests);

        // The table before is a GPT; the one after is an MBR with its partitions elsewhere, and comes as a qcow2 file.
        let actions = [
            write_image(&scene.url("mbr.qcow2"), DISK, &[]),
            write_note("/dev/vda1", "one"),
            write_note("/dev/vda5", "five"),
        ];
        let workflow = scene.workflow(&machine, &actions);
        succeeds(scene, &workflow.id);
        for (content, from) in [("one", 12 * MIB), ("five", 22 * MIB)] {
            let partition = machine.disk(0).read(from as u64, 8 * MIB).unwrap();
            assert_eq!(note_in(&partition), content);
        }
    });
}

fn succeeds(scene: &crate::scene::Scene, workflow: &str) {
    let api = &scene.world.api;
    api.wait_for_workflow(workflow, "SUCCESS", Duration::from_secs(300))
        .unwrap();
}

/// Cuts the power behind every request, and with every single request of those since the last flush lost or done alone.
fn boots_whole_or_not_at_all(old: &[u8], new: &[u8], requests: &[Request]) {
    let mut settled = old.to_vec();
    let mut checked = 0;
    let mut check = |disk: &[u8], what: &str| {
        checked += 1;
        if disk[510..512] == [0x55, 0xaa] {
            assert!(disk == old || disk == new, "{what}: the disk boots half a system");
        }
    };
    for (number, group) in requests
        .split(|request| matches!(request, Request::Flush))
        .enumerate()
    {
        for chosen in 0..group.len() {
            for (name, keeps) in [
                (
                    "alone",
                    Box::new(move |other| other == chosen) as Box<dyn Fn(usize) -> bool>,
                ),
                ("and all before it", Box::new(move |other| other <= chosen)),
                ("missing", Box::new(move |other| other != chosen)),
            ] {
                let mut disk = settled.clone();
                for (other, request) in group.iter().enumerate() {
                    if keeps(other) {
                        request.apply(&mut disk);
                    }
                }
                check(&disk, &format!("group {number}, request {chosen} {name}"));
            }
        }
        for request in group {
            request.apply(&mut settled);
        }
    }
    assert!(settled == new, "the log is not of all that was written");
    assert!(checked > 20, "{checked} moments");
    // The last write is of the first 4 KiB, alone between two flushes.
    let writes = |group: &[Request]| {
        group
            .iter()
            .filter(|r| matches!(r, Request::Write { .. }))
            .count()
    };
    let last = requests
        .split(|request| matches!(request, Request::Flush))
        .rfind(|group| writes(group) > 0)
        .unwrap();
    assert!(
        matches!(last, [Request::Write { at: 0, bytes }] if bytes.len() == 4096),
        "{} writes in the last group",
        last.len()
    );
}

/// A disk with boot code and a GPT, and one partition full of the same byte.
fn gpt_system(fill: u8, len: usize) -> Vec<u8> {
    let file = temporary(&vec![0; len]);
    let made = Command::new("sgdisk")
        .args(["--new=1:2048:0", "--typecode=1:8300"])
        .arg(file.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let mut disk = std::fs::read(file.path()).unwrap();
    disk[..440].fill(fill);
    disk[64 << 10..MIB].fill(fill);
    disk[MIB..len - MIB].fill(fill);
    disk
}

/// Partition 1 at 12 MiB, and 5 at 22 MiB in an extended one, with an ext4 of 8 MiB each.
fn mbr_system() -> Vec<u8> {
    let mut disk = vec![0; 31 * MIB];
    let mib = 2048_u32;
    put_table(
        &mut disk,
        0,
        &[(0x83, 12 * mib, 8 * mib), (0x05, 21 * mib, 10 * mib)],
    );
    put_table(&mut disk, 21 * MIB, &[(0x83, mib, 8 * mib)]);
    disk[12 * MIB..20 * MIB].copy_from_slice(&ext4("one", &[]));
    disk[22 * MIB..30 * MIB].copy_from_slice(&ext4("five", &[]));
    disk
}

fn put_table(disk: &mut [u8], at: usize, entries: &[(u8, u32, u32)]) {
    for ((kind, first, sectors), entry) in entries.iter().zip(disk[at + 446..at + 510].chunks_exact_mut(16)) {
        entry[4] = *kind;
        entry[8..12].copy_from_slice(&first.to_le_bytes());
        entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    }
    disk[at + 510..at + 512].copy_from_slice(&[0x55, 0xaa]);
}
