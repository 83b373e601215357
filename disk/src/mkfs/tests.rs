use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;
use crate::testing::{LoopDevice, output};

const MIB: u64 = 1 << 20;

fn device(len: u64) -> LoopDevice {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(len).unwrap();
    LoopDevice::over(file, 512, &[])
}

fn request(device: &Path, fs_type: &str, label: Option<&str>, options: Option<&str>) -> MkfsRequest {
    MkfsRequest {
        device: device.to_owned(),
        filesystem: Filesystem::parse(fs_type, label, None, options).unwrap(),
        // mkfs.btrfs refuses a UUID that another device has.
        seed: device.display().to_string(),
        only_empty: false,
        touched: Arc::default(),
    }
}

fn program(request: &MkfsRequest) -> Command {
    let name = request.device.to_str().unwrap();
    let mut command = Command::new(request.filesystem.fs_type.program());
    command.args(request.filesystem.arguments(request.id_in_making(), name));
    command
}

/// losetup of another test may hold a device that is in use already, for a moment: it takes the first that seemed free.
fn patient<T>(mut what: impl FnMut() -> Result<T, MkfsError>) -> T {
    for _ in 0..100 {
        match what() {
            Err(error) if error.reason() == "DiskBusy" => std::thread::sleep(Duration::from_millis(50)),
            done => return done.unwrap(),
        }
    }
    what().unwrap()
}

/// What others say of it: whole, and without a fault.
fn checked(request: &MkfsRequest) -> bool {
    let (program, arguments): (&str, &[&str]) = match request.filesystem.fs_type {
        FsType::Btrfs => ("btrfs", &["check", "--readonly"]),
        FsType::Ext2 | FsType::Ext3 | FsType::Ext4 => ("e2fsck", &["-f", "-n"]),
        FsType::Swap => ("swaplabel", &[]),
        FsType::Vfat => ("fsck.fat", &["-n"]),
        FsType::Xfs => ("xfs_repair", &["-n"]),
    };
    let ran = Command::new(program)
        .args(arguments)
        .arg(&request.device)
        .output()
        .unwrap();
    ran.status.success()
}

#[track_caller]
fn made(request: &MkfsRequest) -> Made {
    assert_eq!(look(request).unwrap(), None);
    clear(request).unwrap();
    output(&mut program(request));
    finish(request).unwrap()
}

#[test]
fn each_type_is_made_and_found_again_and_others_read_it_the_same() {
    for (fs_type, len, label, options) in [
        ("btrfs", 128, Some("pool"), None),
        ("ext2", 16, Some("sixteen letters!"), None),
        ("ext3", 16, None, None),
        ("ext4", 16, Some("root"), None),
        (
            "ext4",
            16,
            Some("plain"),
            Some("[\"-O\", \"^has_journal,^extents,^64bit,^flex_bg\"]"),
        ),
        ("swap", 16, Some("swap"), None),
        ("vfat", 16, Some("EFI"), None),
        ("vfat", 64, Some("EFI 32"), Some("[\"-F\", 32]")),
        ("xfs", 320, Some("data"), None),
    ] {
        let device = device(len * MIB);
        output(
            Command::new("mkswap")
                .args(["-q", "-p", "65536"])
                .arg(device.path()),
        );
        let request = request(device.path(), fs_type, label, options);
        let made = made(&request);
        assert_eq!(patient(|| look(&request)), Some(made.clone()), "{fs_type}");
        let said = output(
            Command::new("blkid")
                .args(["-p", "-o", "export"])
                .arg(device.path()),
        );
        assert!(
            said.contains(&format!("\nUUID={}\n", made.uuid)),
            "{fs_type}: {said}"
        );
        assert_eq!(made.label.as_deref(), label, "{fs_type}");
        assert!(checked(&request), "{fs_type}");
        assert!(
            made.size_bytes > 0 && made.size_bytes <= len * MIB,
            "{fs_type}: {made:?}"
        );
        // Another seed is another filesystem, and so is another label.
        let other = MkfsRequest {
            seed: "another".to_owned(),
            ..request.clone()
        };
        assert_eq!(patient(|| look(&other)), None, "{fs_type}");
        let mut other = request.clone();
        other.filesystem.label = Some("OTHER".to_owned());
        assert_eq!(patient(|| look(&other)), None, "{fs_type}");
    }
}

/// Killed at many moments, whatever is on the device then is made anew, or it is whole.
#[test]
fn what_was_cut_short_does_not_count_and_is_made_anew() {
    for (fs_type, len) in [
        ("btrfs", 128),
        ("ext4", 64),
        ("swap", 16),
        ("vfat", 64),
        ("xfs", 320),
    ] {
        let device = device(len * MIB);
        let request = request(device.path(), fs_type, None, None);
        let mut half = 0;
        for cut in [0, 1, 2, 4, 6, 8, 12, 16, 24, 32] {
            patient(|| clear(&request));
            let mut running = program(&request);
            let mut child = running
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(cut));
            let _ = child.kill();
            let status = child.wait().unwrap();
            match patient(|| look(&request)) {
                Some(_) => assert!(checked(&request), "{fs_type} after {cut} ms"),
                // A FAT whose program has ended waits for its number.
                None => half += u32::from(!status.success()),
            }
        }
        assert!(half > 0, "{fs_type}: no cut has met it");
        patient(|| clear(&request));
        output(&mut program(&request));
        patient(|| finish(&request));
        assert!(checked(&request), "{fs_type}");
    }
}

#[test]
fn a_fat_that_is_half_made_has_another_number_than_it_will_have() {
    for options in ["[\"-F\", \"16\"]", "[\"-F\", \"32\"]"] {
        let device = device(64 * MIB);
        let request = request(device.path(), "vfat", None, Some(options));
        patient(|| clear(&request));
        output(&mut program(&request));
        assert_eq!(patient(|| look(&request)), None, "{options}");
        // It is nobody else's: who asks for an empty one may make it.
        let mut only_empty = request.clone();
        only_empty.only_empty = true;
        assert_eq!(patient(|| look(&only_empty)), None, "{options}");
        patient(|| finish(&request));
        // The backup of the boot sector has the same number.
        assert!(checked(&request), "{options}");
        assert!(patient(|| look(&request)).is_some(), "{options}");
    }
    assert_ne!(in_making(0x5a5a_5a5a), 0);
}

#[test]
fn an_xfs_that_is_in_progress_does_not_count() {
    let device = device(320 * MIB);
    let request = request(device.path(), "xfs", None, None);
    made(&request);
    let mut start = device.content()[..START_BYTES].to_vec();
    assert!(complete(&start, &request.filesystem, request.id()).is_some());
    start[XFS_IN_PROGRESS] = 1;
    assert_eq!(complete(&start, &request.filesystem, request.id()), None);
}

#[test]
fn what_cannot_be_is_refused_and_nothing_is_written() {
    let device = device(MIB);
    output(Command::new("mkswap").arg("-q").arg(device.path()));
    let before = device.content();
    let mut only_empty = request(device.path(), "ext2", None, None);
    only_empty.only_empty = true;
    for (request, reason, words) in [
        (
            request(device.path(), "xfs", None, None),
            "DiskTooSmall",
            "314572800 B at least",
        ),
        (only_empty, "DiskNotEmpty", "swap at byte 4086"),
        (
            request(Path::new("/dev/null"), "ext4", None, None),
            "NotADisk",
            "neither a block device",
        ),
    ] {
        let error = look(&request).unwrap_err();
        assert_eq!(error.reason(), reason);
        assert!(error.to_string().contains(words), "{error}");
        assert!(!request.touched.load(Ordering::Relaxed));
    }
    assert!(device.content() == before);
}

#[test]
fn a_program_that_makes_something_else_is_found_out() {
    let device = device(16 * MIB);
    let request = request(device.path(), "ext4", None, None);
    patient(|| clear(&request));
    output(Command::new("mkswap").arg("-q").arg(device.path()));
    let error = finish(&request).unwrap_err();
    assert!(
        error.to_string().contains("mke2fs ended well") && error.to_string().contains("has swap with"),
        "{error}"
    );
}
