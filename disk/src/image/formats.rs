//! What first bytes are those of: formats that are no disk image, and filesystems that may stand for one.
//!
//! Source: the formats' own documents, and file(1)'s magic for those without.

use crate::{filesystem, mbr};

/// Something that is no disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) what: &'static str,
    pub(super) cure: Option<&'static str>,
}

const CONVERT: Option<&str> = Some("convert it with `qemu-img convert -O raw`");
const UNPACK: Option<&str> = Some("give the image that is in it");
const UNPACK_ONCE: Option<&str> = Some("pack the image once only");
const UNPACK_OTHER: Option<&str> = Some("pack the image with zstd, xz, gzip, bzip2 or lz4");
const NO_CURE: Option<&str> = None;

/// What begins with these bytes is this, whatever else is in it.
const MAGIC: [(&[u8], &str, Option<&str>); 37] = [
    (
        b"QFI\xfb",
        "a packed qcow2 file",
        Some(
            "give the file that is in it: a qcow2 file is written as it is, and may have its clusters compressed",
        ),
    ),
    (b"KDMV", "a VMDK file", CONVERT),
    (b"COWD", "a VMDK file", CONVERT),
    (b"# Disk DescriptorFile", "a VMDK file", CONVERT),
    (b"conectix", "a VHD file", CONVERT),
    (b"vhdxfile", "a VHDX file", CONVERT),
    (b"WithoutFreeSpace", "a Parallels disk", CONVERT),
    (b"WithouFreSpacExt", "a Parallels disk", CONVERT),
    (b"QED\0", "a QED file", CONVERT),
    (b"OOOM", "a COW file", CONVERT),
    (b"MSWIM\0\0\0", "a Windows image (WIM)", NO_CURE),
    (b"EVF\x09\x0d\x0a\xff\0", "an EnCase image", CONVERT),
    (
        b"\x3a\xff\x26\xed",
        "an Android sparse image",
        Some("convert it with `simg2img`"),
    ),
    (b"PK\x03\x04", "a zip archive", UNPACK),
    (b"PK\x05\x06", "a zip archive", UNPACK),
    (b"PK\x07\x08", "a zip archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!\x1a\x07", "a rar archive", UNPACK),
    (b"MSCF\0\0\0\0", "a cabinet archive", UNPACK),
    (b"xar!", "a xar archive", UNPACK),
    (b"!<arch>\n", "an ar archive", UNPACK),
    (b"070701", "a cpio archive", UNPACK),
    (b"070702", "a cpio archive", UNPACK),
    (b"070707", "a cpio archive", UNPACK),
    (b"\xed\xab\xee\xdb", "an RPM package", UNPACK),
    (b"\x1f\x8b\x08", "packed twice, with gzip inside", UNPACK_ONCE),
    (b"\x28\xb5\x2f\xfd", "packed twice, with zstd inside", UNPACK_ONCE),
    (b"\xfd7zXZ\0", "packed twice, with xz inside", UNPACK_ONCE),
    (b"\x04\x22\x4d\x18", "packed twice, with lz4 inside", UNPACK_ONCE),
    (b"LZIP", "packed with lzip", UNPACK_OTHER),
    (b"\x89LZO\0\r\n\x1a\n", "packed with lzop", UNPACK_OTHER),
    (b"\x1f\x9d", "packed with compress", UNPACK_OTHER),
    (b"\x02\x21\x4c\x18", "packed with an old lz4", UNPACK_OTHER),
    (b"\x7fELF", "an ELF program", NO_CURE),
    (b"%PDF-", "a PDF document", NO_CURE),
    (
        b"hsqs",
        "a squashfs",
        Some("give a whole disk, or set RAW to any"),
    ),
    (b"#!", "a script", NO_CURE),
];

/// What is no disk image although it may have a boot signature; `None`: nothing that is known.
pub(super) fn recognise(first: &[u8]) -> Option<Held> {
    let held = |what, cure| Some(Held { what, cure });
    if let Some((_, what, cure)) = MAGIC.iter().find(|(magic, ..)| first.starts_with(magic)) {
        return held(what, *cure);
    }
    let at = |from: usize, magic: &[u8]| first.get(from..).is_some_and(|bytes| bytes.starts_with(magic));
    let is_bzip2 =
        at(0, b"BZh") && (at(4, &[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]) || at(4, &[0x17, 0x72, 0x45]));
    let signed = mbr::has_boot_signature(first);
    if at(0x40, &[0x7f, 0x10, 0xda, 0xbe]) {
        held("a VDI file", CONVERT)
    } else if is_bzip2 {
        held("packed twice, with bzip2 inside", UNPACK_ONCE)
    } else if is_tar(first) || (at(257, b"ustar") && !signed) {
        held("a tar archive", UNPACK)
    } else if signed && at(0x202, b"HdrS") {
        held("a Linux kernel", NO_CURE)
    } else if is_web_page(first) {
        held("a web page", Some("look at the URL with a browser"))
    } else if is_iso9660(first) && !signed {
        held(
            "an ISO 9660 CD image without a boot sector for disks",
            Some("use a hybrid one (`isohybrid`)"),
        )
    } else {
        None
    }
}

/// A header whose checksum is right: boot code may hold the word `ustar`, and old archives have it not.
///
/// Source: POSIX pax, "ustar Interchange Format": octal, over the header with blanks in its own place.
fn is_tar(first: &[u8]) -> bool {
    let Some((header, field)) = first.get(..512).zip(first.get(148..156)) else {
        return false;
    };
    let digits: String = field
        .iter()
        .map(|byte| char::from(*byte))
        .skip_while(|letter| *letter == ' ')
        .take_while(char::is_ascii_digit)
        .collect();
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    let own: u64 = field.iter().map(|byte| u64::from(*byte)).sum();
    u64::from_str_radix(&digits, 8) == Ok(sum - own + 8 * u64::from(b' '))
}

/// Whether it is HTML, XML or JSON text rather than what was asked for.
pub(super) fn is_web_page(first: &[u8]) -> bool {
    let text = first.get(..256).unwrap_or(first);
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = text.trim_ascii_start().to_ascii_lowercase();
    let begins: [&[u8]; 7] = [
        b"<!doctype",
        b"<html",
        b"<head",
        b"<?xml",
        b"<!--",
        b"{\"",
        b"<error",
    ];
    begins.iter().any(|begin| text.starts_with(begin))
}

/// Whether there is a CD's volume descriptor.
pub(super) fn is_iso9660(start: &[u8]) -> bool {
    start.get(0x8001..0x8006) == Some(b"CD001")
}

/// A filesystem, or what holds some, that makes sense on a device without a partition table.
pub(super) fn is_known_filesystem(start: &[u8]) -> bool {
    let at = |from: usize, magic: &[u8]| start.get(from..).is_some_and(|bytes| bytes.starts_with(magic));
    filesystem::detect(start).is_some()
        // Linux RAID 1.1 and 1.2, F2FS, bcachefs, EROFS, ReiserFS.
        || at(0, &0xa92b_4efc_u32.to_le_bytes())
        || at(4096, &0xa92b_4efc_u32.to_le_bytes())
        || at(1024, &0xf2f5_2010_u32.to_le_bytes())
        || at(4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81")
        || at(1024, &0xe0f5_e1e2_u32.to_le_bytes())
        || at(0x10034, b"ReIsEr")
}

/// The largest device sectors with which a filesystem without a partition table can be mounted, where it has a limit.
///
/// Source: Linux fs/fat/inode.c, fs/exfat/super.c, fs/ext4/super.c and fs/xfs/xfs_buf.c, which refuse larger ones.
pub(super) fn largest_sector(start: &[u8]) -> Option<u64> {
    use filesystem::Kind;
    let le16 = |at: usize| {
        let two = start.get(at..)?.first_chunk::<2>()?;
        Some(u64::from(u16::from_le_bytes(*two)))
    };
    let found = filesystem::detect(start);
    match found.map(|found| (found.kind, found.block_bytes)) {
        Some((Kind::Vfat, _)) => le16(11),
        Some((Kind::Ext2 | Kind::Ext3 | Kind::Ext4, block_bytes)) => Some(block_bytes),
        Some((Kind::Xfs, _)) => start
            .get(102..)?
            .first_chunk::<2>()
            .map(|two| u64::from(u16::from_be_bytes(*two))),
        None if start.get(3..11) == Some(b"EXFAT   ") => 1_u64.checked_shl(u32::from(*start.get(108)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::testing::{mbr_sector, output};

    #[test]
    fn a_tar_is_told_by_its_checksum_and_boot_code_with_its_word_is_none() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("disk.img"), [7; 1000]).unwrap();
        for format in ["ustar", "v7", "pax", "gnu"] {
            let tar = dir.path().join("image.tar");
            output(
                Command::new("tar")
                    .arg(format!("--format={format}"))
                    .arg("-C")
                    .arg(dir.path())
                    .arg("-cf")
                    .arg(&tar)
                    .arg("disk.img"),
            );
            let mut bytes = std::fs::read(&tar).unwrap();
            assert_eq!(recognise(&bytes).unwrap().what, "a tar archive", "{format}");
            // With a signature in the header's padding, and its checksum right again.
            let field = std::str::from_utf8(&bytes[148..154]).unwrap().to_owned();
            let sum = u32::from_str_radix(field.trim_matches([' ', '\0']), 8).unwrap() + 0x55 + 0xaa;
            bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
            bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            assert_eq!(
                recognise(&bytes).unwrap().what,
                "a tar archive",
                "{format}, signed"
            );
        }
        let mut boot = mbr_sector(&[(0x83, 2048, 2048)]);
        boot[257..262].copy_from_slice(b"ustar");
        assert_eq!(recognise(&boot), None);
    }

    #[test]
    fn the_magic_of_no_format_hides_another() {
        for (number, (magic, ..)) in MAGIC.iter().enumerate() {
            let first = MAGIC.iter().position(|(other, ..)| magic.starts_with(other));
            assert_eq!(first, Some(number));
        }
    }
}
