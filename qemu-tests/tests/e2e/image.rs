//! Disk images made in no time: a boot sector that speaks on the serial line and noise behind it, or a filesystem.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// What the boot sector says.
pub(crate) const BOOTED: &str = "the installed disk has booted";

/// An image below the images directory.
pub(crate) struct TestImage {
    pub(crate) name: String,
    pub(crate) sha256: String,
    pub(crate) raw_bytes: u64,
}

impl TestImage {
    /// `raw_bytes` of disk, zstd-compressed. The noise does not compress, so this is what goes over the wire.
    pub(crate) fn create(images: &Path, name: &str, raw_bytes: usize) -> TestImage {
        let mut raw = noise(raw_bytes);
        raw[..512].copy_from_slice(&boot_sector());
        // In one go, as `zstd FILE` does it, so that the content size is in the frame.
        let compressed = zstd::bulk::compress(&raw, 1).unwrap();
        let path = images.join(name);
        fs::write(&path, compressed).unwrap();
        let sha256 = ::image::sha256_of_file(&path).unwrap();
        TestImage {
            name: name.to_owned(),
            sha256,
            raw_bytes: raw_bytes as u64,
        }
    }
}

/// An ext4 of 8 MiB in blocks of 4 KiB, which disks of any sectors take, with the files of these names and contents.
pub(crate) fn ext4(label: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let file = temporary(&vec![0; 8 << 20]);
    let content = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(content.path().join(name), bytes).unwrap();
    }
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-L", label, "-d"])
        .args([content.path(), file.path()])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    fs::read(file.path()).unwrap()
}

/// What a file of an ext4 has in it.
pub(crate) fn file_in(partition: &[u8], name: &str) -> Vec<u8> {
    let file = temporary(partition);
    let read = Command::new("debugfs")
        .args(["-R", &format!("cat /{name}")])
        .arg(file.path())
        .output();
    read.unwrap().stdout
}

/// What `/note` holds in an ext4: see [`crate::scene::write_note`].
pub(crate) fn note_in(partition: &[u8]) -> String {
    String::from_utf8(file_in(partition, "note")).unwrap()
}

/// A file with this in it.
pub(crate) fn temporary(content: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

/// 16-bit code: writes [`BOOTED`] to the first serial port and halts.
fn boot_sector() -> [u8; 512] {
    const CODE: [u8; 22] = [
        0xfa, // cli
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x16, 0x7c, // mov si, 0x7c16: the text
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xfc, // cld
        0xac, // lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x03, // jz halt
        0xee, // out dx, al
        0xeb, 0xf8, // jmp lodsb
        0xf4, // halt: hlt
        0xf4,
    ];
    let mut sector = [0; 512];
    sector[..CODE.len()].copy_from_slice(&CODE);
    let text = format!("{BOOTED}\r\n");
    sector[CODE.len()..CODE.len() + text.len()].copy_from_slice(text.as_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// Bytes of xorshift64, the same for every run.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut bytes: Vec<u8> = words.take(length.div_ceil(8)).flatten().collect();
    bytes.truncate(length);
    bytes
}
