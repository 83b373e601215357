//! What the tests of several modules need: loop devices and images with partition tables.

pub(crate) mod recorder;
pub(crate) mod simulated;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::NamedTempFile;

/// A loop device over a file of its own; detached on drop.
pub(crate) struct LoopDevice {
    path: PathBuf,
    file: NamedTempFile,
}

impl LoopDevice {
    /// `len` bytes of 0xA5.
    pub(crate) fn filled(len: usize, sector_bytes: u32) -> LoopDevice {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(&vec![0xa5; len]).unwrap();
        Self::over(file, sector_bytes, &[])
    }

    /// `args` are losetup's.
    pub(crate) fn over(file: NamedTempFile, sector_bytes: u32, args: &[&str]) -> LoopDevice {
        let shown = output(
            Command::new("losetup")
                .args(["--find", "--show", "--sector-size", &sector_bytes.to_string()])
                .args(args)
                .arg(file.path()),
        );
        LoopDevice {
            path: PathBuf::from(shown.trim()),
            file,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// As in `st_rdev`.
    pub(crate) fn number(&self) -> u64 {
        std::os::unix::fs::MetadataExt::rdev(&std::fs::metadata(&self.path).unwrap())
    }

    /// What is on it, from the file behind it.
    pub(crate) fn content(&self) -> Vec<u8> {
        std::fs::File::open(&self.path).unwrap().sync_all().unwrap();
        std::fs::read(self.file.path()).unwrap()
    }

    pub(crate) fn format_ext4(&self) {
        output(
            Command::new("mke2fs")
                .args(["-q", "-F", "-t", "ext4"])
                .arg(&self.path),
        );
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

/// An image of this size with an ESP of 1 MiB (number 1) and a Linux root behind it (number 3) up to the end.
pub(crate) fn gpt_image(len: u64, sector_bytes: u64) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(len).unwrap();
    let mut device = file.as_file();
    let mut gpt = gptman::GPT::new_from(&mut device, sector_bytes, [0x11; 16]).unwrap();
    let mib = (1 << 20) / sector_bytes;
    let end = (gpt.header.last_usable_lba + 1) / mib * mib - 1;
    let esp = [
        0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
    ];
    let root = [
        0xe3, 0xbc, 0x68, 0x4f, 0xcd, 0xe8, 0xb1, 0x4d, 0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7, 0x09,
    ];
    for (number, kind, from, to) in [(1, esp, mib, 2 * mib - 1), (3, root, 2 * mib, end)] {
        gpt[number] = gptman::GPTPartitionEntry {
            partition_type_guid: kind,
            unique_partition_guid: [number as u8; 16],
            starting_lba: from,
            ending_lba: to,
            attribute_bits: 0,
            partition_name: if number == 1 { "EFI System" } else { "root" }.into(),
        };
    }
    gpt.write_into(&mut device).unwrap();
    gptman::GPT::write_protective_mbr_into(&mut device, sector_bytes).unwrap();
    file
}

/// A first sector with these entries: type, first sector, sectors.
pub(crate) fn mbr_sector(entries: &[(u8, u32, u32)]) -> [u8; 512] {
    let mut sector = [0; 512];
    for ((kind, first, sectors), entry) in entries.iter().zip(sector[446..510].chunks_exact_mut(16)) {
        entry[4] = *kind;
        entry[8..12].copy_from_slice(&first.to_le_bytes());
        entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// Runs it to a good end; what it prints.
pub(crate) fn output(command: &mut Command) -> String {
    let ran = command.output().unwrap();
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(
        ran.status.success(),
        "{command:?}: {text}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    text
}

/// Whether this process may grow a mounted ext4; root in a container or a restricted machine may not.
pub(crate) fn has_sys_resource() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .unwrap();
    // CAP_SYS_RESOURCE: capabilities(7), linux/capability.h.
    u64::from_str_radix(effective.trim(), 16).unwrap() & (1 << 24) != 0
}
