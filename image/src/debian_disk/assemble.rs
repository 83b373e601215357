//! Puts the disk together: partition table, BIOS boot code, EFI system partition, root filesystem.
//!
//! Source: UEFI Specification 2.10, chapter 5 (GPT) and section 3.5.1.1 (removable media boot path).

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use gptman::{GPT, GPTPartitionEntry};

use crate::apt::Archive;
use crate::command;
use crate::debian_disk::DiskImageError;
use crate::debian_disk::recipe::{EPOCH_S, ESP_LABEL, GRUB_MODULES_BIOS, GRUB_MODULES_UEFI, GRUB_PREFIX};
use crate::files::{self, About};
use crate::grub::{self, BiosBoot, Grub, Image, Platform};
use crate::progress::Report;

/// What starts the system, on either firmware.
pub(super) struct BootLoaders {
    bios: BiosBoot,
    uefi: Vec<u8>,
}

impl BootLoaders {
    pub(super) fn make(archive: &mut Archive, report: &mut Report<'_>) -> Result<Self, DiskImageError> {
        let grub = Grub::fetch(archive, report)?;
        let room = BIOS.sectors * SECTOR;
        let image = Image {
            platform: Platform::Uefi,
            prefix: GRUB_PREFIX,
            memdisk: None,
            modules: GRUB_MODULES_UEFI,
        };
        Ok(Self {
            bios: grub::install_bios(&grub, GRUB_PREFIX, GRUB_MODULES_BIOS, BIOS.start, room)?,
            uefi: grub.make(&image)?,
        })
    }
}

/// Puts the disk together and returns its file, which is sparse.
pub(super) fn disk(root: &Path, boot: &BootLoaders, work: &Path) -> Result<PathBuf, DiskImageError> {
    let esp = efi_system_partition(&boot.uefi, work)?;
    let root_bytes = fs::metadata(root).about("look at", root)?.len();
    let root_sectors = root_bytes.div_ceil(SECTOR);
    // The backup table takes 33 sectors; the end is aligned because some tools expect whole MiB.
    let end = (ROOT_START + root_sectors + 33).next_multiple_of(2048);

    let path = work.join("disk.raw");
    let mut disk = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .about("create", &path)?;
    disk.set_len(end * SECTOR).about("size", &path)?;
    partition_table(&mut disk, root_sectors)?;
    write_at(&mut disk, 0, &boot.bios.boot_code).about("write", &path)?;
    write_at(&mut disk, BIOS.start * SECTOR, &boot.bios.core).about("write", &path)?;
    for (source, start) in [(esp.as_path(), ESP.start), (root, ROOT_START)] {
        let file = File::open(source).about("open", source)?;
        copy_sparsely(file, &mut disk, start * SECTOR).about("write", &path)?;
        fs::remove_file(source).about("remove", source)?;
    }
    disk.sync_all().about("write", &path)?;
    Ok(path)
}

/// A FAT filesystem with GRUB at the removable path.
fn efi_system_partition(loader: &[u8], work: &Path) -> Result<PathBuf, DiskImageError> {
    let (image, file) = (work.join("esp.fat"), work.join("BOOTX64.EFI"));
    files::write(&file, loader)?;
    let disk = File::create(&image).about("create", &image)?;
    disk.set_len(ESP.sectors * SECTOR).about("size", &image)?;
    let run = |program: &str, arguments: &[&str], package| {
        let mut command = Command::new(program);
        // mtools takes times and its own defaults from the environment.
        command
            .env("SOURCE_DATE_EPOCH", EPOCH_S.to_string())
            .env("TZ", "UTC")
            .env("MTOOLSRC", "/dev/null");
        command::run(command.args(arguments), package).map_err(|source| DiskImageError::Command {
            action: "make the EFI system partition".to_string(),
            source,
        })
    };
    let (at, from) = (image.to_string_lossy(), file.to_string_lossy());
    run(
        "mkfs.vfat",
        &["--invariant", "-F", "32", "-s", "1", "-n", ESP_LABEL, &at],
        "dosfstools",
    )?;
    run("mmd", &["-i", &at, "::/EFI", "::/EFI/BOOT"], "mtools")?;
    run("mcopy", &["-i", &at, &from, "::/EFI/BOOT/BOOTX64.EFI"], "mtools")?;
    Ok(image)
}

fn partition_table(disk: &mut File, root_sectors: u64) -> Result<(), gptman::Error> {
    let mut table = GPT::new_from(disk, SECTOR, guid(DISK_GUID))?;
    let root = Partition {
        start: ROOT_START,
        sectors: root_sectors,
        ..ROOT
    };
    for (number, partition) in [BIOS, ESP, root].into_iter().enumerate() {
        let number = number as u32 + 1;
        table[number] = GPTPartitionEntry {
            partition_type_guid: guid(partition.kind),
            unique_partition_guid: guid(DISK_GUID + u128::from(number)),
            starting_lba: partition.start,
            ending_lba: partition.start + partition.sectors - 1,
            attribute_bits: 0,
            partition_name: partition.name.into(),
        };
    }
    GPT::write_protective_mbr_into(disk, SECTOR)?;
    table.write_into(disk)?;
    Ok(())
}

#[derive(Clone, Copy)]
struct Partition {
    name: &'static str,
    kind: u128,
    start: u64,
    sectors: u64,
}

/// The bytes of a GUID on disk: the first three of its five groups are little-endian.
fn guid(value: u128) -> [u8; 16] {
    let mut bytes = value.to_be_bytes();
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

fn write_at(disk: &mut File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    disk.seek(SeekFrom::Start(offset))?;
    disk.write_all(bytes)
}

/// Copies `source` to `offset`, leaving holes where it has only zeros.
fn copy_sparsely(mut source: impl Read, disk: &mut File, offset: u64) -> io::Result<()> {
    disk.seek(SeekFrom::Start(offset))?;
    let mut buffer = vec![0; BLOCK];
    loop {
        let mut filled = 0;
        while let Some(rest @ [_, ..]) = buffer.get_mut(filled..) {
            match source.read(rest)? {
                0 => break,
                read => filled += read,
            }
        }
        match buffer.get(..filled) {
            None | Some([]) => return Ok(()),
            Some(bytes) if bytes.iter().all(|byte| *byte == 0) => {
                disk.seek(SeekFrom::Current(filled as i64))?;
            }
            Some(bytes) => disk.write_all(bytes)?,
        }
    }
}

const SECTOR: u64 = 512;
const BLOCK: usize = 64 * 1024;
const BIOS: Partition = Partition {
    name: "bios",
    kind: 0x21686148_6449_6E6F_744E_656564454649_u128,
    start: 2048,
    sectors: 2048,
};
/// FAT32 begins at 65,525 clusters; 64 MiB of one sector each are well above.
const ESP: Partition = Partition {
    name: "esp",
    kind: 0xC12A7328_F81F_11D2_BA4B_00A0C93EC93B_u128,
    start: 4096,
    sectors: 131_072,
};
const ROOT_START: u64 = ESP.start + ESP.sectors;
/// "Root partition (x86-64)" of the Discoverable Partitions Specification.
const ROOT: Partition = Partition {
    name: "root",
    kind: 0x4F68BCE3_E8CD_4DB1_96E7_FBCAF984B709_u128,
    start: ROOT_START,
    sectors: 0,
};
/// Partitions have this plus their number.
const DISK_GUID: u128 = 0x9D0A1F3E_6B52_4C8B_8F4E_5D2C7A31E400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_reads_back_with_its_backup_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let mut disk = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        disk.set_len(128 << 20).unwrap();
        partition_table(&mut disk, 2048).unwrap();
        let table = GPT::read_from(&mut disk, SECTOR).unwrap();
        assert_eq!(table.header.backup_lba, (128 << 20) / SECTOR - 1);
        assert_eq!(table[3].starting_lba, ROOT_START);
        assert_eq!(table[3].size().unwrap(), 2048);
        assert_eq!(table[1].partition_type_guid, *b"Hah!IdontNeedEFI");
        if let Ok(output) = Command::new("/usr/sbin/sgdisk").arg("-v").arg(&path).output() {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("No problems found"), "{text}");
        }
    }

    #[test]
    fn sparse_copy_keeps_content_and_holes() {
        use std::os::unix::fs::MetadataExt;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let mut disk = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        disk.set_len(8 << 20).unwrap();
        let mut content = vec![0; 4 << 20];
        content[3_000_000] = 7;
        copy_sparsely(&content[..], &mut disk, 1 << 20).unwrap();
        let written = fs::read(&path).unwrap();
        assert_eq!(written.len(), 8 << 20);
        assert_eq!(&written[1 << 20..5 << 20], &content[..]);
        assert!(disk.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}
