//! A whole run on a disk that records, on one that loses power at every point, and on loop devices.

use std::process::Command;

use super::*;
use crate::testing::recorder::{Read, Recorder, cuts, table_of};
use crate::testing::{LoopDevice, gpt_image, has_sys_resource, output};

const MIB: u64 = 1 << 20;

/// A disk with the table of a smaller one: partition 1 of 1 MiB from 1 MiB, and partition 3 behind it up to 4 MiB.
fn small_on_large(sector: u64, mib: u64) -> Vec<u8> {
    let mut disk = std::fs::read(gpt_image(5 * MIB, sector).path()).unwrap();
    disk[usize::try_from(2 * MIB).unwrap()..usize::try_from(4 * MIB).unwrap()].fill(0x11);
    disk.resize(usize::try_from(mib * MIB).unwrap(), 0);
    disk
}

fn grow(disk: &mut Recorder, number: Option<u32>) -> Result<Grown, GrowpartError> {
    carry_out(disk, number, &AtomicBool::new(false)).map(|(grown, _)| grown)
}

#[test]
fn the_last_partition_is_grown_to_the_end_once_and_a_second_run_writes_nothing() {
    for sector in [512, 4096] {
        let mut disk = Recorder::over(small_on_large(sector, 9), sector);
        let grown = grow(&mut disk, None).unwrap();
        assert_eq!((grown.number, grown.size_bytes), (3, 6 * MIB), "{sector}");
        assert_eq!((grown.changed, grown.added_bytes > 0), (true, true));
        assert_eq!(
            table_of(&disk.content, sector),
            Read::Partitions(vec![(MIB, MIB), (2 * MIB, 6 * MIB)])
        );
        let content = 2 * MIB as usize..4 * MIB as usize;
        assert!(disk.content[content].iter().all(|byte| *byte == 0x11));
        let mut again = Recorder::over(disk.content, sector);
        let grown = grow(&mut again, Some(3)).unwrap();
        assert_eq!(
            (grown.changed, grown.added_bytes, grown.size_bytes),
            (false, 0, 6 * MIB)
        );
        assert!(again.steps.is_empty(), "{sector}");
    }
}

#[test]
fn a_partition_grows_up_to_the_one_behind_it() {
    let mut disk = Recorder::over(small_on_large(512, 9), 512);
    // The second one begins later: the hole is 1 MiB.
    let mut image = std::io::Cursor::new(disk.content.clone());
    let mut table = gptman::GPT::find_from(&mut image).unwrap();
    table[3].starting_lba += MIB / 512;
    table.write_into(&mut image).unwrap();
    disk.content = image.into_inner();
    let grown = grow(&mut disk, Some(1)).unwrap();
    assert_eq!(
        (grown.number, grown.size_bytes, grown.added_bytes),
        (1, 2 * MIB, MIB)
    );
    let Read::Partitions(there) = table_of(&disk.content, 512) else {
        panic!("no table")
    };
    assert_eq!(there[0], (MIB, 2 * MIB));
    assert_eq!(there[1].0, 3 * MIB);
    let grown = grow(&mut disk, Some(1)).unwrap();
    assert_eq!((grown.changed, grown.added_bytes), (false, 0));
}

/// Whenever the power goes, the partition is where it was, as large as it was or as it is to be; and the next run ends it.
#[test]
fn a_cut_at_any_sector_leaves_the_old_table_or_the_new_one_and_the_next_run_ends_it() {
    for sector in [512, 4096] {
        let old = small_on_large(sector, 9);
        let was = table_of(&old, sector);
        let mut disk = Recorder::over(old.clone(), sector);
        grow(&mut disk, None).unwrap();
        let (is, done) = (table_of(&disk.content, sector), disk.content);
        let size = usize::try_from(sector).unwrap();
        let checked = cuts(&disk.steps, &old, size, |cut, name| {
            let read = table_of(cut, sector);
            assert!(read == was || read == is, "{sector} {name}: {read:?}");
            let mut again = Recorder::over(cut.to_vec(), sector);
            grow(&mut again, None).unwrap_or_else(|e| panic!("{sector} {name}: {e}"));
            assert!(again.content == done, "{sector} {name}");
        });
        assert!(checked > 8, "{checked}");
    }
}

#[test]
fn what_cannot_grow_is_refused_and_nothing_is_written() {
    #[track_caller]
    fn refused(content: Vec<u8>, number: Option<u32>, reason: &str, words: &str) {
        let mut disk = Recorder::over(content, 512);
        let error = grow(&mut disk, number).unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains("nothing was written"), "{error}");
        assert!(disk.steps.is_empty());
    }
    let disk = small_on_large(512, 9);
    refused(disk.clone(), Some(2), "NoSuchPartition", "there are [1, 3]");
    refused(
        vec![0; 5 << 20],
        None,
        "NoTable",
        "no usable GUID partition table",
    );
    refused(disk[..3 << 20].to_vec(), None, "DiskTooSmall", "needs a disk of");
    let mut without = disk;
    // The type of partition 3: no Linux filesystem.
    let mut image = std::io::Cursor::new(without.clone());
    let mut table = gptman::GPT::find_from(&mut image).unwrap();
    table[3].partition_type_guid = [0x42; 16];
    table.write_into(&mut image).unwrap();
    without = image.into_inner();
    refused(without, None, "NoSuchPartition", "no Linux filesystem partition");
}

/// Its third partition, which the kernel may show a moment later.
fn root_of(device: &LoopDevice) -> PathBuf {
    let root = PathBuf::from(format!("{}p3", device.path().display()));
    for _ in 0..100 {
        let disk = std::fs::File::open(device.path()).unwrap();
        let shown = crate::publish::publish(&disk);
        if shown.is_ok() && root.exists() {
            return root;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{} is not there", root.display())
}

fn request(device: &Path) -> GrowpartRequest {
    GrowpartRequest {
        device: device.to_owned(),
        number: None,
        partition_only: false,
        touched: Arc::default(),
    }
}

/// By a partition's own name, and for each filesystem that is grown: other people's checkers find no fault.
#[test]
fn filesystems_fill_their_partition_afterwards_and_a_second_run_leaves_every_byte() {
    for (fs_type, mib, check) in [
        ("ext4", 64, ["e2fsck", "-fn"].as_slice()),
        ("xfs", 320, ["xfs_repair", "-n"].as_slice()),
        ("btrfs", 260, ["btrfs", "check"].as_slice()),
    ] {
        // The kernel wants more of a process that grows an ext4.
        if fs_type == "ext4" && !has_sys_resource() {
            continue;
        }
        let image = gpt_image((mib + 4) * MIB, 512);
        image.as_file().set_len(2 * mib * MIB).unwrap();
        let device = LoopDevice::over(image, 512, &["--partscan"]);
        let root = root_of(&device);
        output(Command::new(format!("mkfs.{fs_type}")).arg("-q").arg(&root));
        let grown = growpart(&request(&root)).unwrap();
        assert_eq!(
            (grown.disk.as_path(), grown.number, grown.path.as_ref()),
            (device.path(), 3, Some(&root))
        );
        assert_eq!(grown.size_bytes, (2 * mib - 3) * MIB, "{fs_type}");
        let Filesystem::Filling(resized) = grown.filesystem else {
            panic!("{fs_type}: {:?}", grown.filesystem)
        };
        assert!(resized.before_bytes < grown.size_bytes - 16 * MIB, "{fs_type}");
        assert!(
            resized.after_bytes > grown.size_bytes - 16 * MIB,
            "{fs_type}: {resized:?}"
        );
        let checked = Command::new(check[0]).args(&check[1..]).arg(&root).output();
        let checked = checked.unwrap();
        assert!(checked.status.success(), "{fs_type}: {checked:?}");
        let said = output(Command::new("sgdisk").arg("--verify").arg(device.path()));
        assert!(said.contains("No problems found"), "{said}");
        let before = device.content();
        let again = growpart(&request(&root)).unwrap();
        assert!(!again.changed && again.added_bytes == 0, "{fs_type}: {again:?}");
        assert!(
            device.content() == before,
            "{fs_type}: the second run has written"
        );
    }
}

#[test]
fn what_is_no_filesystem_is_left_and_a_partition_in_use_is_refused() {
    let image = gpt_image(8 * MIB, 512);
    image.as_file().set_len(16 * MIB).unwrap();
    let device = LoopDevice::over(image, 512, &["--partscan"]);
    let root = root_of(&device);
    output(Command::new("mkswap").arg(&root));
    let other = GrowpartRequest {
        number: Some(1),
        ..request(&root)
    };
    let error = growpart(&other).unwrap_err();
    assert!(error.to_string().contains("is partition 3 and not 1"), "{error}");
    let held = std::fs::File::open(&root).unwrap();
    let open = GrowpartRequest {
        partition_only: true,
        ..request(&root)
    };
    let error = growpart(&open).unwrap_err();
    assert_eq!(error.reason(), "DiskBusy", "{error}");
    assert!(!open.touched.load(Ordering::Relaxed));
    drop(held);
    let grown = growpart(&request(&root)).unwrap();
    assert_eq!((grown.changed, grown.size_bytes), (true, 13 * MIB));
    assert!(matches!(grown.filesystem, Filesystem::Left(why) if why.contains("swap")));
}
