//! What is refused before the first write because it would be of no use on this disk, and what is not.

use super::server::{Server, Site};
use super::*;
use crate::testing::{LoopDevice, gpt_image, mbr_sector};

const MIB: usize = 1 << 20;

/// The start of a disk with an MBR, as long as it is said.
fn mbr_image(len: usize, entries: &[(u8, u32, u32)]) -> Vec<u8> {
    let mut image = vec![0; len];
    image[..512].copy_from_slice(&mbr_sector(entries));
    image
}

fn with(len: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut image = vec![0; len];
    for (at, bytes) in parts {
        image[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    image
}

/// An ISO 9660 volume descriptor, behind what a hybrid has in front of it.
fn iso(start: &[u8]) -> Vec<u8> {
    let mut image = with(2 * MIB, &[(0x8001, b"CD001")]);
    image[..start.len()].copy_from_slice(start);
    image
}

#[tokio::test]
async fn whether_the_disk_was_touched_is_known() {
    let device = LoopDevice::filled(8 << 20, 512);
    let good = mbr_image(4 * MIB, &[(0x83, 2048, 2048)]);
    for (image, digest, touches) in [
        (with(2 * MIB, &[(0, b"PK\x03\x04")]), None, false),
        (good.clone(), Some("0".repeat(64)), true),
        (good, None, true),
    ] {
        let server = Server::start(Site::new(zstd::encode_all(&image[..], 1).unwrap())).await;
        let mut request = WriteRequest::new(server.url(), device.path());
        request.sha256 = digest;
        let written = write_quietly(&request).await;
        let touched = request.touched.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(touched, touches, "{written:?}");
    }
}

async fn write_to(device: &LoopDevice, content: &[u8], demand: Content) -> Result<Written, WriteError> {
    let server = Server::start(Site::new(zstd::encode_all(content, 1).unwrap())).await;
    let mut request = WriteRequest::new(server.url(), device.path());
    request.content = demand;
    write_quietly(&request).await
}

#[tokio::test]
async fn an_image_for_other_sectors_is_refused_untouched() {
    let gpt = |sector| std::fs::read(gpt_image(16 * MIB as u64, sector).path()).unwrap();
    // 1 MiB to 3 MiB, in each unit; a FAT's boot sector at its beginning tells which.
    let mut mbr_of_4096 = mbr_image(4 * MIB, &[(0x0c, 256, 512)]);
    mbr_of_4096[MIB + 510..MIB + 512].copy_from_slice(&[0x55, 0xaa]);
    let fat: &[(usize, &[u8])] = &[(11, &[0, 2]), (54, b"FAT16   "), (510, &[0x55, 0xaa])];
    let ext4_of_1024: &[(usize, &[u8])] = &[(1024 + 0x38, &[0x53, 0xef])];
    let xfs: &[(usize, &[u8])] = &[
        (0, b"XFSB"),
        (4, &4096_u32.to_be_bytes()),
        (102, &512_u16.to_be_bytes()),
    ];
    for (name, image, made_for, disk_has) in [
        ("GPT", gpt(512), 512, 4096),
        ("GPT", gpt(4096), 4096, 512),
        ("MBR", mbr_image(4 * MIB, &[(0x83, 2048, 2048)]), 512, 4096),
        ("MBR", mbr_of_4096, 4096, 512),
        ("hybrid ISO", iso(&mbr_sector(&[(0x17, 64, 2000)])), 512, 4096),
        ("FAT", with(2 * MIB, fat), 512, 4096),
        ("ext4", with(2 * MIB, ext4_of_1024), 1024, 4096),
        ("XFS", with(2 * MIB, xfs), 512, 4096),
    ] {
        let device = LoopDevice::filled(20 * MIB, disk_has);
        let err = write_to(&device, &image, Content::Disk).await.unwrap_err();
        let text = err.to_string();
        assert_eq!(err.reason(), "WrongSectorSize", "{name}: {text}");
        for word in [
            format!("of {made_for} B"),
            format!("of {disk_has} B"),
            "nothing was written".to_owned(),
        ] {
            assert!(text.contains(&word), "{name}: {text}");
        }
        assert!(device.content().iter().all(|byte| *byte == 0xa5), "{name}");
    }
}

#[tokio::test]
async fn an_image_for_the_disks_own_sectors_is_written() {
    for sector in [512, 4096] {
        let gpt = std::fs::read(gpt_image(16 * MIB as u64, u64::from(sector)).path()).unwrap();
        let start = u32::try_from(MIB).unwrap() / sector;
        let mut mbr = mbr_image(4 * MIB, &[(0x0c, start, start)]);
        mbr[MIB + 510..MIB + 512].copy_from_slice(&[0x55, 0xaa]);
        for image in [gpt, mbr] {
            let device = LoopDevice::filled(20 * MIB, sector);
            write_to(&device, &image, Content::Disk).await.unwrap();
            assert_eq!(device.content()[MIB..4 * MIB], image[MIB..4 * MIB]);
        }
    }
}

#[tokio::test]
async fn what_is_no_disk_image_is_refused_untouched_unless_any_content_will_do() {
    let zip = with(2 * MIB, &[(0, b"PK\x03\x04")]);
    let signed = |mut image: Vec<u8>| {
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        image
    };
    for (word, image) in [
        ("zip", zip.clone()),
        ("zip", signed(zip)),
        ("7z", with(2 * MIB, &[(0, b"7z\xbc\xaf\x27\x1c")])),
        ("rar", with(2 * MIB, &[(0, b"Rar!\x1a\x07\x01\0")])),
        ("VDI", with(2 * MIB, &[(0x40, &[0x7f, 0x10, 0xda, 0xbe])])),
        ("VHD", with(2 * MIB, &[(0, b"conectix")])),
        ("VHDX", with(2 * MIB, &[(0, b"vhdxfile")])),
        ("VMDK", with(2 * MIB, &[(0, b"KDMV")])),
        ("squashfs", with(2 * MIB, &[(0, b"hsqs")])),
        ("cpio", with(2 * MIB, &[(0, b"070701")])),
        ("packed twice", with(2 * MIB, &[(0, b"\x1f\x8b\x08")])),
        ("packed twice", with(2 * MIB, &[(0, b"\xfd7zXZ\0")])),
        ("kernel", signed(with(2 * MIB, &[(0x202, b"HdrS")]))),
        ("ISO 9660", iso(&[])),
        ("web page", b"<!DOCTYPE html><p>log in first".to_vec()),
        ("web page", b"\n{\"error\": \"not found\"}".to_vec()),
        ("only zeros", vec![0; 2 * MIB]),
        ("no boot signature", vec![7; 2 * MIB]),
        ("no boot signature", b"short".to_vec()),
        ("GUID partition table", mbr_image(2 * MIB, &[(0xee, 1, 4095)])),
    ] {
        let device = LoopDevice::filled(8 * MIB, 512);
        let err = write_to(&device, &image, Content::Disk).await.unwrap_err();
        let text = err.to_string();
        assert!(
            err.reason() == "BadImage" && text.contains(word) && text.contains("nothing was written"),
            "{word}: {text}"
        );
        assert!(device.content().iter().all(|byte| *byte == 0xa5), "{word}");
        write_to(&device, &image, Content::Any).await.unwrap();
        assert!(device.content().starts_with(&image), "{word}");
    }
}

#[tokio::test]
async fn what_has_a_boot_signature_or_a_known_filesystem_is_a_disk_image() {
    for (name, image) in [
        ("MBR", mbr_image(2 * MIB, &[(0x83, 2048, 2048)])),
        ("hybrid ISO", iso(&mbr_sector(&[(0x17, 64, 2000)]))),
        ("LUKS", with(2 * MIB, &[(0, b"LUKS\xba\xbe\x00\x02")])),
        ("btrfs", with(2 * MIB, &[(0x10040, b"_BHRfS_M")])),
        ("RAID", with(2 * MIB, &[(4096, &0xa92b_4efc_u32.to_le_bytes())])),
        ("a boot sector alone", mbr_sector(&[]).to_vec()),
    ] {
        let device = LoopDevice::filled(8 * MIB, 512);
        let written = write_to(&device, &image, Content::Disk).await;
        assert!(written.is_ok(), "{name}: {written:?}");
    }
}

#[tokio::test]
async fn a_table_that_firmware_does_not_take_is_refused_untouched() {
    let mut image = std::fs::read(gpt_image(16 * MIB as u64, 512).path()).unwrap();
    image[512 + 60] ^= 1;
    let device = LoopDevice::filled(20 * MIB, 512);
    let err = write_to(&device, &image, Content::Disk).await.unwrap_err();
    assert!(
        err.reason() == "BadImage" && err.to_string().contains("checksum of the header"),
        "{err}"
    );
    assert!(device.content().iter().all(|byte| *byte == 0xa5));
}

#[tokio::test]
async fn partitions_beyond_the_disk_are_refused_untouched() {
    for image in [
        mbr_image(2 * MIB, &[(0x83, 2048, 2048), (0x83, 4096, 20 * 2048)]),
        mbr_image(2 * MIB, &[(0x05, 4096, 20 * 2048)]),
        // With room for its partitions, but none for the backup table behind them.
        std::fs::read(gpt_image(9 * MIB as u64, 512).path()).unwrap()[..2 * MIB].to_vec(),
    ] {
        let device = LoopDevice::filled(8 * MIB, 512);
        let server = Server::start(Site::new(image)).await;
        let err = write_quietly(&WriteRequest::new(server.url(), device.path()))
            .await
            .unwrap_err();
        assert_eq!(err.reason(), "DiskTooSmall", "{err}");
        assert!(device.content().iter().all(|byte| *byte == 0xa5));
    }
}

#[tokio::test]
async fn a_root_that_cannot_be_grown_is_said_before_anything_is_written() {
    let no_linux = {
        let mut image = std::fs::read(gpt_image(16 * MIB as u64, 512).path()).unwrap();
        let table = gptman::GPT::read_from(&mut std::io::Cursor::new(&image), 512);
        let mut table = table.unwrap();
        table.remove(3).unwrap();
        table.write_into(&mut std::io::Cursor::new(&mut image)).unwrap();
        image
    };
    let good = std::fs::read(gpt_image(16 * MIB as u64, 512).path()).unwrap();
    for (image, args, word) in [
        (
            mbr_image(4 * MIB, &[(0x83, 2048, 2048)]),
            vec!["--partscan"],
            "no GUID partition table",
        ),
        (no_linux, vec!["--partscan"], "no Linux filesystem"),
        (good, vec![], "shows no partitions"),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![0xa5; 20 * MIB]).unwrap();
        let device = LoopDevice::over(file, 512, &args);
        let server = Server::start(Site::new(image)).await;
        let mut request = WriteRequest::new(server.url(), device.path());
        request.grow = Grow::LastLinux;
        let err = write_quietly(&request).await.unwrap_err();
        assert!(
            err.reason() == "CannotGrow" && err.to_string().contains(word),
            "{err}"
        );
        assert!(device.content().iter().all(|byte| *byte == 0xa5), "{word}");
    }
}

#[tokio::test]
async fn a_read_only_disk_is_told_before_anything_is_fetched() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![0xa5; 4 * MIB]).unwrap();
    let device = LoopDevice::over(file, 512, &["--read-only"]);
    let server = Server::start(Site::new(sample(MIB))).await;
    let err = write_quietly(&WriteRequest::new(server.url(), device.path()))
        .await
        .unwrap_err();
    assert!(
        err.reason() == "DiskReadOnly" && err.to_string().contains("is read-only, nothing was written"),
        "{err}"
    );
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn after_a_write_the_kernel_shows_the_partitions_of_the_image_and_no_others() {
    let shown = |device: &LoopDevice| -> Vec<(u32, u64, u64)> {
        let disks = crate::probe::list(
            &crate::probe::System::default(),
            crate::probe::Include::Everything,
        );
        let disks = disks.unwrap();
        let disk = disks.iter().find(|disk| disk.path == device.path()).unwrap();
        disk.partitions
            .iter()
            .map(|partition| (partition.number, partition.start_bytes, partition.size_bytes))
            .collect()
    };
    let mib = MIB as u64;
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(20 * mib).unwrap();
    let device = LoopDevice::over(disk, 512, &["--partscan"]);
    let gpt = std::fs::read(gpt_image(16 * mib, 512).path()).unwrap();
    write_to(&device, &gpt, Content::Disk).await.unwrap();
    assert_eq!(shown(&device), [(1, mib, mib), (3, 2 * mib, 13 * mib)]);
    let mbr = mbr_image(4 * MIB, &[(0x83, 4096, 2048)]);
    let written = write_to(&device, &mbr, Content::Disk).await.unwrap();
    assert_eq!(written.kernel, KernelView::Current);
    assert_eq!(shown(&device), [(1, 2 * mib, mib)]);
    write_to(&device, &sample(2 * MIB), Content::Disk).await.unwrap();
    assert_eq!(shown(&device), []);

    // One that fails half-way leaves none of the old ones behind.
    write_to(&device, &gpt, Content::Disk).await.unwrap();
    let server = Server::start(Site::new(gpt)).await;
    let mut request = WriteRequest::new(server.url(), device.path());
    request.sha256 = Some("0".repeat(64));
    assert_eq!(write_quietly(&request).await.unwrap_err().reason(), "WrongDigest");
    assert_eq!(shown(&device), []);
}

#[tokio::test]
async fn a_disk_whose_partition_is_open_is_refused_untouched() {
    let image = gpt_image(16 * MIB as u64, 512);
    let before = std::fs::read(image.path()).unwrap();
    let device = LoopDevice::over(image, 512, &["--partscan"]);
    let disk = std::fs::File::options()
        .read(true)
        .write(true)
        .open(device.path())
        .unwrap();
    crate::publish::publish(&disk).unwrap();
    let node = crate::grow::Node::of_partition(&disk, 1).unwrap().unwrap();
    let held = std::fs::File::open(node.path()).unwrap();
    drop(disk);
    let err = write_to(&device, &before, Content::Disk).await.unwrap_err();
    assert!(
        err.reason() == "DiskBusy" && err.to_string().contains("partition of it open"),
        "{err}"
    );
    assert_eq!(device.content(), before);
    drop(held);
}
