//! A whole run on a disk that records, on one that loses power at every point, and on loop devices.

use std::os::unix::fs::FileExt;
use std::process::Command;

use serde_json::{Value, json};

use super::*;
use crate::gpt;
use crate::testing::recorder::{Read, Recorder, cuts, table_of};
use crate::testing::{LoopDevice, mbr_sector, output};

const MIB: usize = 1 << 20;

fn request(table: &str, partitions: Value) -> PartitionRequest {
    PartitionRequest {
        disk: "/dev/recorder".into(),
        layout: Layout::read(Some(table), &partitions).unwrap(),
        seed: "a workflow".to_owned(),
        only_empty: false,
        touched: Arc::default(),
    }
}

fn two(table: &str) -> PartitionRequest {
    request(
        table,
        json!([
            {"name": "efi", "size": "1MiB", "type": "efi", "attributes": ["legacy-boot"]},
            {"name": "root", "size": "rest", "type": "linux"},
        ]),
    )
}

/// A disk of 5 MiB with an old table, and something by which its content is known.
fn old_disk(sector_bytes: u64) -> Vec<u8> {
    let mut old = Recorder::over(vec![0; 5 * MIB], sector_bytes);
    let one = request("gpt", json!([{"name": "old", "size": "rest", "type": "lvm"}]));
    carry_out(&mut old, &one).unwrap();
    let mut disk = old.content;
    disk[MIB..4 * MIB].fill(0x11);
    // Boot code, in the first sector and behind the table.
    disk[..400].fill(0x11);
    disk[64 << 10..80 << 10].fill(0x11);
    // An ext4 and an md 1.2 where the new partitions will begin, an LVM label on the disk as a whole.
    disk[MIB + 0x438..MIB + 0x43a].copy_from_slice(&[0x53, 0xef]);
    disk[2 * MIB + 4096..2 * MIB + 4100].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
    disk
}

#[test]
fn a_second_run_writes_nothing_at_all() {
    for (table, sector) in [("gpt", 512), ("gpt", 4096), ("mbr", 512), ("mbr", 4096)] {
        let mut disk = Recorder::over(old_disk(sector), sector);
        let first = carry_out(&mut disk, &two(table)).unwrap();
        assert!(first.changed && !first.removed.is_empty());
        let mut again = Recorder::over(disk.content.clone(), sector);
        // Boot code that was installed since is left, too.
        again.content[..440].fill(0x90);
        // Another workflow would make other GUIDs: those that are there are as good.
        let request = PartitionRequest {
            seed: "another".to_owned(),
            ..two(table)
        };
        let second = carry_out(&mut again, &request).unwrap();
        assert!(
            again.steps.is_empty(),
            "{table} {sector}: {} steps",
            again.steps.len()
        );
        assert!(!request.touched.load(Ordering::Relaxed));
        assert_eq!(
            second,
            Partitioned {
                changed: false,
                removed: Vec::new(),
                ..first
            }
        );
    }
}

#[test]
fn a_table_that_differs_in_anything_declared_is_made_anew() {
    let mut disk = Recorder::over(old_disk(512), 512);
    carry_out(&mut disk, &two("gpt")).unwrap();
    let made = disk.content;
    let differs = |what: &str, partitions: Value, damage: &[usize]| {
        let mut disk = Recorder::over(made.clone(), 512);
        for at in damage {
            disk.content[*at] ^= 1;
        }
        assert!(
            carry_out(&mut disk, &request("gpt", partitions)).unwrap().changed,
            "{what}"
        );
    };
    let efi = json!({"name": "efi", "size": "1MiB", "type": "efi", "attributes": ["legacy-boot"]});
    let root = json!({"name": "root", "size": "rest", "type": "linux"});
    let with = |of: &Value, field: &str, value: Value| {
        let mut one = of.clone();
        one[field] = value;
        one
    };
    differs("name", json!([efi, with(&root, "name", json!("data"))]), &[]);
    differs("size", json!([with(&efi, "size", json!("2MiB")), root]), &[]);
    differs("type", json!([efi, with(&root, "type", json!("swap"))]), &[]);
    differs(
        "attributes",
        json!([with(&efi, "attributes", json!([])), root]),
        &[],
    );
    let uuid = json!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    differs("uuid", json!([efi, with(&root, "uuid", uuid)]), &[]);
    differs(
        "number of partitions",
        json!([with(&efi, "size", json!("rest"))]),
        &[],
    );
    let same = json!([efi, root]);
    differs("the primary header", same.clone(), &[512 + 60]);
    differs("the backup's header", same.clone(), &[5 * MIB - 512 + 60]);
    differs(
        "the backup's entries",
        same.clone(),
        &[5 * MIB - 512 - 16384 + 56],
    );
    differs("the protective MBR", same, &[446 + 4]);
}

#[test]
fn guids_are_of_the_seed_and_the_number() {
    let made = |seed: &str| {
        let request = PartitionRequest {
            seed: seed.to_owned(),
            ..two("gpt")
        };
        let done = carry_out(&mut Recorder::over(vec![0; 5 * MIB], 512), &request).unwrap();
        let mut all: Vec<String> = done.partitions.iter().map(|one| one.uuid.clone()).collect();
        all.push(done.table_uuid);
        all
    };
    let (a, b) = (made("a"), made("b"));
    assert_eq!(a, made("a"));
    assert!(a.iter().all(|one| !b.contains(one)), "{a:?} {b:?}");
    assert!(a[0] != a[1] && a[1] != a[2], "{a:?}");
}

#[test]
fn whatever_part_of_the_writes_comes_the_old_table_is_read_or_none_or_the_new_and_a_second_run_ends_it() {
    for (table, sector) in [("gpt", 512), ("gpt", 4096), ("mbr", 512), ("mbr", 4096)] {
        let old = old_disk(sector);
        let mut disk = Recorder::over(old.clone(), sector);
        carry_out(&mut disk, &two(table)).unwrap();
        let (old_table, new_table) = (table_of(&old, sector), table_of(&disk.content, sector));
        let rest = if table == "gpt" { 2 << 20 } else { 3 << 20 };
        assert_eq!(
            new_table,
            Read::Partitions(vec![(1 << 20, 1 << 20), (2 << 20, rest)])
        );
        let mut seen = [false; 3];
        let mut runs = 0;
        let checked = cuts(&disk.steps, &old, sector as usize, |cut, when| {
            let read = table_of(cut, sector);
            let known = [&old_table, &Read::Nothing, &new_table];
            let which = known.iter().position(|known| **known == read);
            let which = which.unwrap_or_else(|| panic!("{table} {sector}, {when}: {read:?}"));
            seen[which] = true;
            // The protective MBR comes last, and goes first; a primary copy comes when its backup is there.
            let part = |of: &[u8]| (of[512..MIB].to_vec(), of[4 * MIB..].to_vec());
            let is_whole = part(cut) == part(&disk.content);
            if cut[510..512] == [0x55, 0xaa] {
                assert!(
                    is_whole || part(cut) == part(&old),
                    "{when}: firmware would look for a table"
                );
            }
            if table == "gpt" && which == 2 && gpt::parse(&cut[..MIB], sector).is_ok() {
                assert!(
                    cut[4 * MIB..] == disk.content[4 * MIB..],
                    "{when}: the primary came before its backup"
                );
            }
            // It takes a while.
            runs += 1;
            if runs % 3 == 0 {
                let mut again = Recorder::over(cut.to_vec(), sector);
                carry_out(&mut again, &two(table)).unwrap();
                assert_eq!(table_of(&again.content, sector), new_table, "{when}");
                assert!(part(&again.content) == part(&disk.content), "{when}: both copies");
                let left = find_all(&again, &two(table).layout.plan(5 << 20, sector).unwrap()).unwrap();
                let foreign = left.iter().filter(|one| !matches!(one.kind, "gpt" | "dos"));
                assert_eq!(foreign.count(), 0, "{when}: {left:?}");
            }
        });
        assert!(checked > 20, "{table} {sector}: {checked}");
        assert_eq!(seen, [true; 3], "{table} {sector}");
    }
}

#[test]
fn what_was_there_is_listed_and_gone_also_behind_the_first_mib() {
    let mut disk = Recorder::over(old_disk(512), 512);
    let done = carry_out(&mut disk, &two("gpt")).unwrap();
    let said = listed(&done.removed);
    for word in [
        "dos at byte 510",
        "gpt at byte 512",
        &format!("gpt at byte {}", 5 * MIB - 512),
        &format!("ext4 at byte {}", MIB + 0x438),
        &format!("linux_raid_member at byte {}", 2 * MIB + 4096),
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let plan = two("gpt").layout.plan(5 << 20, 512).unwrap();
    let left: Vec<&str> = find_all(&disk, &plan)
        .unwrap()
        .iter()
        .map(|one| one.kind)
        .collect();
    assert_eq!(left, ["dos", "gpt", "gpt"], "the new table's own");
    assert_eq!(
        disk.content[3 * MIB..4 * MIB],
        [0x11; MIB],
        "content is not erased"
    );
}

#[test]
fn a_disk_that_is_to_be_empty_is_refused_with_what_it_has() {
    let only_empty = PartitionRequest {
        only_empty: true,
        ..two("gpt")
    };
    let mut disk = Recorder::over(old_disk(512), 512);
    let err = carry_out(&mut disk, &only_empty).unwrap_err();
    assert_eq!(err.reason(), "DiskNotEmpty");
    assert!(
        err.to_string().contains(&format!("ext4 at byte {}", MIB + 0x438)),
        "{err}"
    );
    assert!(disk.steps.is_empty(), "{} steps", disk.steps.len());
    assert!(!only_empty.touched.load(Ordering::Relaxed));

    // What an earlier run has half done is its own, at every cut.
    let empty = vec![0; 5 * MIB];
    let mut disk = Recorder::over(empty.clone(), 512);
    carry_out(&mut disk, &only_empty).unwrap();
    let checked = cuts(&disk.steps, &empty, 512, |cut, when| {
        let mut again = Recorder::over(cut.to_vec(), 512);
        let done = carry_out(&mut again, &only_empty);
        assert!(done.is_ok(), "{when}: {done:?}");
    });
    assert!(checked > 10, "{checked}");
}

#[test]
fn what_does_not_fit_is_refused_before_the_first_write() {
    let mut disk = Recorder::over(old_disk(512), 512);
    let large = request("gpt", json!([{"size": "1GiB", "type": "linux"}]));
    let err = carry_out(&mut disk, &large).unwrap_err();
    assert_eq!(err.reason(), "DiskTooSmall");
    assert_eq!(
        err.to_string(),
        "the partitions do not go onto /dev/recorder: the partitions need 1GiB, and the disk has 3MiB for them; nothing was written"
    );
    assert!(disk.steps.is_empty(), "{} steps", disk.steps.len());
}

fn on(device: &Path, table: &str) -> PartitionRequest {
    PartitionRequest {
        disk: device.to_owned(),
        ..two(table)
    }
}

fn zeroed(len: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(len).unwrap();
    file
}

#[test]
fn the_kernel_shows_the_partitions_and_other_tools_find_no_fault() {
    for (table, sector) in [("gpt", 512), ("gpt", 4096), ("mbr", 512)] {
        let device = LoopDevice::over(zeroed(64 << 20), sector, &["--partscan"]);
        let done = partition(&on(device.path(), table)).unwrap();
        assert_eq!(done.kernel, KernelView::Current);
        let paths: Vec<PathBuf> = done
            .partitions
            .iter()
            .filter_map(|one| one.path.clone())
            .collect();
        let device_path = device.path().display();
        assert_eq!(
            paths,
            [format!("{device_path}p1"), format!("{device_path}p2")].map(PathBuf::from)
        );
        let size: u64 = output(Command::new("blockdev").arg("--getsize64").arg(&paths[1]))
            .trim()
            .parse()
            .unwrap();
        assert_eq!(size, done.partitions[1].size_bytes);
        if table == "gpt" {
            let said = output(Command::new("sgdisk").arg("--verify").arg(device.path()));
            assert!(said.contains("No problems found"), "{said}");
        }
        let dump = output(Command::new("sfdisk").arg("--dump").arg(device.path()));
        let label = if table == "gpt" {
            "label: gpt"
        } else {
            "label: dos"
        };
        assert!(
            dump.contains(label) && dump.matches("start=").count() == 2,
            "{dump}"
        );
        if table == "mbr" {
            assert!(dump.contains("type=83") && dump.contains("bootable"), "{dump}");
        }
        // blkid reads the same PARTUUID that is told.
        let probed = output(Command::new("blkid").args(["-p", "-o", "full"]).arg(&paths[1]));
        let uuid = &done.partitions[1].uuid;
        assert!(
            probed.contains(&format!("PART_ENTRY_UUID=\"{uuid}\"")),
            "{uuid}: {probed}"
        );

        let again = partition(&on(device.path(), table)).unwrap();
        assert!(!again.changed && again.partitions == done.partitions);
    }
}

#[test]
fn a_disk_in_use_is_refused_with_who_holds_it_and_stays_as_it_is() {
    let device = LoopDevice::over(zeroed(64 << 20), 512, &["--partscan"]);
    let done = partition(&on(device.path(), "gpt")).unwrap();
    let root = done.partitions[1].path.clone().unwrap();
    output(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&root));
    let before = device.content();
    let other = request("gpt", json!([{"size": "rest", "type": "linux"}]));
    let other = PartitionRequest {
        disk: device.path().to_owned(),
        ..other
    };
    let refused = |words: &[&str]| {
        let err = partition(&other).unwrap_err();
        assert_eq!(err.reason(), "DiskBusy", "{err}");
        for word in words {
            assert!(err.to_string().contains(word), "{err}");
        }
        assert!(!other.touched.load(Ordering::Relaxed));
    };

    let folder = tempfile::tempdir().unwrap();
    let mounted =
        crate::mount::MountGuard::mount(&root, folder.path(), "ext4", crate::mount::MsFlags::MS_RDONLY)
            .unwrap();
    refused(&["is mounted at", folder.path().to_str().unwrap()]);
    // What it has already is no reason to touch it, whoever uses it.
    let again = partition(&on(device.path(), "gpt")).unwrap();
    assert!(!again.changed && again.partitions == done.partitions);
    mounted.unmount().unwrap();
    // Somebody has a partition of it open, without having mounted it.
    let held = File::open(&root).unwrap();
    held.read_exact_at(&mut [0; 1], 0).unwrap();
    refused(&["something has a partition of it open"]);
    drop(held);
    assert_eq!(device.content()[..MIB], before[..MIB]);

    let err = partition(&on(&root, "gpt")).unwrap_err();
    assert_eq!(err.reason(), "NotADisk");
    assert!(
        err.to_string().contains("is a partition: name the whole disk"),
        "{err}"
    );

    let done = partition(&other).unwrap();
    assert!(
        done.removed.iter().any(|one| one.kind == "gpt"),
        "{:?}",
        done.removed
    );
    assert_eq!(done.partitions.len(), 1);
}

#[test]
fn swap_space_is_a_use_too() {
    let device = LoopDevice::over(zeroed(64 << 20), 512, &["--partscan"]);
    let done = partition(&on(device.path(), "mbr")).unwrap();
    let root = done.partitions[1].path.clone().unwrap();
    output(Command::new("mkswap").arg(&root));
    output(Command::new("swapon").arg(&root));
    let err = partition(&on(device.path(), "gpt"));
    output(Command::new("swapoff").arg(&root));
    assert!(err.unwrap_err().to_string().contains("is swap space"));
}

/// A disk that had somebody else's table is the disk of a second-hand machine.
#[test]
fn an_mbr_takes_the_place_of_a_gpt_and_the_other_way_round() {
    let mut disk = Recorder::over(old_disk(512), 512);
    carry_out(&mut disk, &two("mbr")).unwrap();
    assert!(!disk.content.windows(8).any(|bytes| bytes == b"EFI PART"));
    disk.content[..512].copy_from_slice(&mbr_sector(&[(0x83, 2048, 2048)]));
    let done = carry_out(&mut disk, &two("gpt")).unwrap();
    assert!(done.changed && gpt::parse(&disk.content[..MIB], 512).is_ok());
}
