//! Recognises filesystems and their like by their superblocks.
//!
//! Source: the on-disk formats as libblkid reads them; every field is bounded.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// As far as the farthest superblock that is looked for (btrfs).
pub(crate) const NEEDED_BYTES: usize = (64 + 4) << 10;

/// What kind of content a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Btrfs,
    Exfat,
    Ext2,
    Ext3,
    Ext4,
    F2fs,
    Iso9660,
    Luks,
    Lvm2,
    Ntfs,
    Swap,
    Vfat,
    Xfs,
}

impl Kind {
    /// As `blkid` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Btrfs => "btrfs",
            Kind::Exfat => "exfat",
            Kind::Ext2 => "ext2",
            Kind::Ext3 => "ext3",
            Kind::Ext4 => "ext4",
            Kind::F2fs => "f2fs",
            Kind::Iso9660 => "iso9660",
            Kind::Luks => "crypto_LUKS",
            Kind::Lvm2 => "LVM2_member",
            Kind::Ntfs => "ntfs",
            Kind::Swap => "swap",
            Kind::Vfat => "vfat",
            Kind::Xfs => "xfs",
        }
    }
}

/// What is on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filesystem {
    pub kind: Kind,
    pub label: Option<String>,
    /// As `blkid` writes it.
    pub uuid: Option<String>,
    /// 0: not told.
    pub block_bytes: u64,
    /// 0: not told.
    pub size_bytes: u64,
}

/// Looks at the first bytes of a device; 68 KiB are enough.
pub fn detect(start: &[u8]) -> Option<Filesystem> {
    [
        luks, lvm2, xfs, btrfs, swap, ext, f2fs, exfat, ntfs, vfat, iso9660,
    ]
    .into_iter()
    .find_map(|look| look(start))
}

fn ext(start: &[u8]) -> Option<Filesystem> {
    let block = start.get(1024..2048)?;
    if le16(block, 0x38)? != 0xef53 {
        return None;
    }
    let (compatible, incompatible, read_only) = (le32(block, 0x5c)?, le32(block, 0x60)?, le32(block, 0x64)?);
    // has_journal; what ext3 can mount; what it can mount read-only: see ext4(5).
    let kind = if incompatible & !0x16 != 0 || read_only & !0x07 != 0 {
        Kind::Ext4
    } else if compatible & 0x04 != 0 {
        Kind::Ext3
    } else {
        Kind::Ext2
    };
    let block_bytes = 1024_u64
        .checked_shl(le32(block, 0x18)?)
        .filter(|bytes| (1024..=65536).contains(bytes))?;
    // The upper half counts only with the 64bit feature.
    let upper = if incompatible & 0x80 != 0 {
        u64::from(le32(block, 0x150)?)
    } else {
        0
    };
    let blocks = u64::from(le32(block, 0x04)?) | upper << 32;
    Some(Filesystem {
        kind,
        label: text(block, 0x78, 16),
        uuid: uuid(block, 0x68),
        block_bytes,
        size_bytes: blocks.saturating_mul(block_bytes),
    })
}

fn xfs(start: &[u8]) -> Option<Filesystem> {
    if !start.starts_with(b"XFSB") {
        return None;
    }
    let block_bytes = u64::from(u32::from_be_bytes(array(start, 4)?));
    let blocks = u64::from_be_bytes(array(start, 8)?);
    Some(Filesystem {
        kind: Kind::Xfs,
        label: text(start, 108, 12),
        uuid: uuid(start, 32),
        block_bytes,
        size_bytes: blocks.saturating_mul(block_bytes),
    })
}

/// How much of an XFS may be inodes, in percent: what is mounted and grown is to keep it.
///
/// Source: fs/xfs/libxfs/xfs_format.h, `sb_imax_pct` of `struct xfs_dsb`.
pub(super) fn xfs_most_inodes_percent(device: &Path) -> io::Result<u32> {
    let mut percent = [0];
    File::open(device)?.read_exact_at(&mut percent, 127)?;
    Ok(u32::from(percent[0]))
}

fn btrfs(start: &[u8]) -> Option<Filesystem> {
    let block = start.get(0x10000..0x11000)?;
    if block.get(0x40..0x48)? != b"_BHRfS_M" {
        return None;
    }
    Some(Filesystem {
        kind: Kind::Btrfs,
        label: text(block, 0x12b, 256),
        uuid: uuid(block, 0x20),
        block_bytes: u64::from(le32(block, 0x90)?),
        size_bytes: u64::from_le_bytes(array(block, 0x70)?),
    })
}

/// The signature lies at the end of the first page of whatever machine made it.
fn swap(start: &[u8]) -> Option<Filesystem> {
    let page = [4096_usize, 8192, 16384, 65536].into_iter().find(|page| {
        start
            .get(page - 10..*page)
            .is_some_and(|signature| signature == b"SWAPSPACE2")
    })?;
    let pages = u64::from(le32(start, 1024 + 4)?) + 1;
    Some(Filesystem {
        kind: Kind::Swap,
        label: text(start, 1024 + 28, 16),
        uuid: uuid(start, 1024 + 12),
        block_bytes: page as u64,
        size_bytes: pages.saturating_mul(page as u64),
    })
}

fn vfat(start: &[u8]) -> Option<Filesystem> {
    if start.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    let (label, serial) = if start.get(82..90)? == b"FAT32   " {
        (71, 67)
    } else if matches!(start.get(54..62)?, b"FAT16   " | b"FAT12   ") {
        (43, 39)
    } else {
        return None;
    };
    let sector = u64::from(le16(start, 11)?);
    let sectors = match le16(start, 19)? {
        0 => u64::from(le32(start, 32)?),
        small => u64::from(small),
    };
    let serial = le32(start, serial)?;
    Some(Filesystem {
        kind: Kind::Vfat,
        label: text(start, label, 11).filter(|label| label != "NO NAME"),
        uuid: Some(format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)),
        block_bytes: sector * u64::from(*start.get(13)?),
        size_bytes: sector * sectors,
    })
}

fn f2fs(start: &[u8]) -> Option<Filesystem> {
    let block = start.get(1024..1024 + 1200)?;
    if le32(block, 0)? != 0xf2f5_2010 {
        return None;
    }
    let block_bytes = 1_u64
        .checked_shl(le32(block, 16)?)
        .filter(|bytes| *bytes <= 1 << 16)?;
    let units = block.get(124..124 + 1024)?.chunks_exact(2);
    let units: Vec<u16> = units.map(|two| le16(two, 0)).collect::<Option<_>>()?;
    let label = String::from_utf16_lossy(units.split(|unit| *unit == 0).next()?);
    Some(Filesystem {
        kind: Kind::F2fs,
        label: Some(label.trim().to_owned()).filter(|label| !label.is_empty()),
        uuid: uuid(block, 108),
        block_bytes,
        size_bytes: u64::from_le_bytes(array(block, 36)?).saturating_mul(block_bytes),
    })
}

/// Its label lies in the root folder, out of reach. Source: exFAT file system specification, section 3.1.
fn exfat(start: &[u8]) -> Option<Filesystem> {
    if start.get(3..11)? != b"EXFAT   " || start.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    let shift = |at: usize, most: u8| start.get(at).copied().filter(|bits| *bits <= most);
    let sector = 1_u64 << shift(108, 12)?;
    let serial = le32(start, 100)?;
    Some(Filesystem {
        kind: Kind::Exfat,
        label: None,
        uuid: Some(format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)),
        block_bytes: sector << shift(109, 25)?,
        size_bytes: u64::from_le_bytes(array(start, 72)?).saturating_mul(sector),
    })
}

/// Its label lies in a file of its own, out of reach.
fn ntfs(start: &[u8]) -> Option<Filesystem> {
    if start.get(3..11)? != b"NTFS    " || start.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    let sector = u64::from(le16(start, 11)?);
    Some(Filesystem {
        kind: Kind::Ntfs,
        label: None,
        uuid: Some(format!("{:016X}", u64::from_le_bytes(array(start, 72)?))),
        block_bytes: sector * u64::from(*start.get(13)?),
        size_bytes: u64::from_le_bytes(array(start, 40)?).saturating_mul(sector),
    })
}

/// The first volume descriptor; its date is what libblkid takes for a UUID. Source: ECMA-119 8.4.
fn iso9660(start: &[u8]) -> Option<Filesystem> {
    let block = start.get(0x8000..0x8800)?;
    if block.get(..6)? != b"\x01CD001" {
        return None;
    }
    let date = |at: usize| {
        let digits = block.get(at..at + 16)?;
        let told = digits.iter().all(u8::is_ascii_digit) && digits.iter().any(|digit| *digit != b'0');
        let text = std::str::from_utf8(digits).ok().filter(|_| told)?;
        let mut parts = vec![text.get(..4)?];
        for from in (4..16).step_by(2) {
            parts.push(text.get(from..from + 2)?);
        }
        Some(parts.join("-"))
    };
    let block_bytes = u64::from(le16(block, 128)?);
    Some(Filesystem {
        kind: Kind::Iso9660,
        label: text(block, 40, 32),
        // When it was changed, else when it was made.
        uuid: date(830).or_else(|| date(813)),
        block_bytes,
        size_bytes: u64::from(le32(block, 80)?) * block_bytes,
    })
}

fn luks(start: &[u8]) -> Option<Filesystem> {
    if !start.starts_with(b"LUKS\xba\xbe") {
        return None;
    }
    let version = u16::from_be_bytes(array(start, 6)?);
    Some(Filesystem {
        kind: Kind::Luks,
        label: if version == 2 { text(start, 24, 48) } else { None },
        uuid: text(start, 168, 40),
        block_bytes: 0,
        size_bytes: 0,
    })
}

/// The label is in one of the first four sectors.
fn lvm2(start: &[u8]) -> Option<Filesystem> {
    let sector = start.chunks_exact(512).take(4).find(|sector| {
        sector.starts_with(b"LABELONE") && sector.get(24..32) == Some(b"LVM2 001".as_slice())
    })?;
    let id = text(sector, 32, 32).filter(|id| id.len() == 32 && id.is_ascii())?;
    let mut uuid = String::new();
    // Groups of 6-4-4-4-4-4-6, as LVM writes it.
    for (place, letter) in id.chars().enumerate() {
        if place >= 6 && place % 4 == 2 && place <= 26 {
            uuid.push('-');
        }
        uuid.push(letter);
    }
    Some(Filesystem {
        kind: Kind::Lvm2,
        label: None,
        uuid: Some(uuid),
        block_bytes: 0,
        size_bytes: 0,
    })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

/// Up to the first NUL, without padding; `None` if empty.
fn text(bytes: &[u8], at: usize, len: usize) -> Option<String> {
    let field = bytes.get(at..at.checked_add(len)?)?;
    let field = field.split(|byte| *byte == 0).next()?;
    let text = String::from_utf8_lossy(field).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn uuid(bytes: &[u8], at: usize) -> Option<String> {
    let raw: [u8; 16] = array(bytes, at)?;
    let hex = format!("{:032x}", u128::from_be_bytes(raw));
    let parts = [
        hex.get(..8)?,
        hex.get(8..12)?,
        hex.get(12..16)?,
        hex.get(16..20)?,
        hex.get(20..)?,
    ];
    (raw != [0; 16]).then(|| parts.join("-"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::output;

    const UUID: &str = "12345678-9abc-def0-1234-56789abcdef0";

    fn made(len: u64, tool: &str, args: &[&str]) -> Filesystem {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(len).unwrap();
        output(Command::new(tool).args(args).arg(file.path()));
        crate::filesystem::detect_on(file.path()).unwrap().unwrap()
    }

    #[test]
    fn what_installers_and_other_systems_bring_is_named_as_blkid_names_it() {
        let mut iso = vec![0; 0x8800];
        iso[0x8000..0x8006].copy_from_slice(b"\x01CD001");
        iso[0x8028..0x8048].copy_from_slice(b"cidata                          ");
        iso[0x8000 + 80..0x8000 + 84].copy_from_slice(&100_u32.to_le_bytes());
        iso[0x8000 + 128..0x8000 + 130].copy_from_slice(&2048_u16.to_le_bytes());
        iso[0x8000 + 813..0x8000 + 829].copy_from_slice(b"2026112815042700");
        let found = detect(&iso).unwrap();
        assert_eq!(
            (
                found.kind,
                found.label.as_deref(),
                found.uuid.as_deref(),
                found.size_bytes
            ),
            (
                Kind::Iso9660,
                Some("cidata"),
                Some("2026-11-28-15-04-27-00"),
                204_800
            )
        );
        let mut windows = vec![0; 4096];
        windows[3..11].copy_from_slice(b"NTFS    ");
        windows[72..80].copy_from_slice(&0x1234_5678_9abc_def0_u64.to_le_bytes());
        windows[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(
            detect(&windows).unwrap().uuid.as_deref(),
            Some("123456789ABCDEF0")
        );
        windows[3..11].copy_from_slice(b"EXFAT   ");
        windows[100..104].copy_from_slice(&0xabcd_0123_u32.to_le_bytes());
        windows[108] = 9;
        let found = detect(&windows).unwrap();
        assert_eq!(
            (found.kind, found.uuid.as_deref()),
            (Kind::Exfat, Some("ABCD-0123"))
        );
        let mut flash = vec![0; 4096];
        flash[1024..1028].copy_from_slice(&0xf2f5_2010_u32.to_le_bytes());
        flash[1040] = 12;
        flash[1024 + 108..1024 + 124]
            .copy_from_slice(&0x1234_5678_9abc_def0_1234_5678_9abc_def0_u128.to_be_bytes());
        flash[1024 + 124] = b'd';
        let found = detect(&flash).unwrap();
        assert_eq!((found.kind, found.label.as_deref()), (Kind::F2fs, Some("d")));
        assert_eq!(found.uuid.as_deref(), Some(UUID));
    }

    #[test]
    fn the_ext_family_is_told_apart_with_label_and_uuid() {
        for (kind, name) in [(Kind::Ext2, "ext2"), (Kind::Ext3, "ext3"), (Kind::Ext4, "ext4")] {
            let found = made(
                16 << 20,
                "mke2fs",
                &["-q", "-F", "-t", name, "-L", "root", "-U", UUID, "-b", "1024"],
            );
            let expected = Filesystem {
                kind,
                label: Some("root".to_owned()),
                uuid: Some(UUID.to_owned()),
                block_bytes: 1024,
                size_bytes: 16 << 20,
            };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn swap_is_told_with_label_and_uuid() {
        let found = made(4 << 20, "mkswap", &["-q", "-L", "swap", "-U", UUID]);
        assert_eq!((found.kind, found.size_bytes), (Kind::Swap, 4 << 20));
        assert_eq!(
            (found.label.as_deref(), found.uuid.as_deref()),
            (Some("swap"), Some(UUID))
        );
    }

    /// Superblocks by hand: their tools are not everywhere.
    fn with(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut start = vec![0; NEEDED_BYTES];
        for (at, bytes) in parts {
            start[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        start
    }

    #[test]
    fn the_others_are_told_by_their_superblocks() {
        let uuid = 0x1234_5678_9abc_def0_1234_5678_9abc_def0_u128.to_be_bytes();
        let xfs = detect(&with(&[
            (0, b"XFSB"),
            (4, &4096_u32.to_be_bytes()),
            (8, &1000_u64.to_be_bytes()),
            (32, &uuid),
            (108, b"data"),
        ]));
        let xfs = xfs.unwrap();
        assert_eq!((xfs.kind, xfs.size_bytes), (Kind::Xfs, 4_096_000));
        assert_eq!(
            (xfs.label.as_deref(), xfs.uuid.as_deref()),
            (Some("data"), Some(UUID))
        );

        let fat = detect(&with(&[
            (11, &512_u16.to_le_bytes()),
            (13, &[8]),
            (32, &2048_u32.to_le_bytes()),
            (67, &[0x78, 0x56, 0x34, 0x12]),
            (71, b"EFI        "),
            (82, b"FAT32   "),
            (510, &[0x55, 0xaa]),
        ]));
        let fat = fat.unwrap();
        assert_eq!((fat.kind, fat.size_bytes), (Kind::Vfat, 1 << 20));
        assert_eq!(
            (fat.label.as_deref(), fat.uuid.as_deref()),
            (Some("EFI"), Some("1234-5678"))
        );

        let btrfs = detect(&with(&[
            (0x10040, b"_BHRfS_M"),
            (0x10020, &uuid),
            (0x1012b, b"pool"),
        ]))
        .unwrap();
        assert_eq!(
            (btrfs.kind, btrfs.label.as_deref(), btrfs.uuid.as_deref()),
            (Kind::Btrfs, Some("pool"), Some(UUID))
        );

        let luks = detect(&with(&[
            (0, b"LUKS\xba\xbe\x00\x02"),
            (24, b"crypt"),
            (168, UUID.as_bytes()),
        ]))
        .unwrap();
        assert_eq!(
            (luks.kind, luks.label.as_deref(), luks.uuid.as_deref()),
            (Kind::Luks, Some("crypt"), Some(UUID))
        );

        let id = b"abcdefGHIJklmnOPQRstuvWXYZ012345";
        let lvm = detect(&with(&[(512, b"LABELONE"), (536, b"LVM2 001"), (544, id)])).unwrap();
        assert_eq!(
            lvm.uuid.as_deref(),
            Some("abcdef-GHIJ-klmn-OPQR-stuv-WXYZ-012345")
        );

        assert_eq!(detect(&with(&[])), None);
        assert_eq!(detect(&[]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            which in 0_usize..11,
            noise in proptest::collection::vec(any::<u8>(), 2048),
            len in 0_usize..=NEEDED_BYTES,
        ) {
            let magic: [(usize, &[u8]); 11] = [
                (1080, &[0x53, 0xef]), (0, b"XFSB"), (510, &[0x55, 0xaa]), (4086, b"SWAPSPACE2"),
                (0x10040, b"_BHRfS_M"), (0, b"LUKS\xba\xbe"), (0, b"LABELONE"), (0x8000, b"\x01CD001"),
                (3, b"EXFAT   "), (3, b"NTFS    "), (1024, &[0x10, 0x20, 0xf5, 0xf2]),
            ];
            let mut start = with(&[(0, &noise), (0x8000, &noise), (0x10000, &noise), (510, &[0x55, 0xaa]), magic[which]]);
            start.truncate(len);
            let _ = detect(&start);
        }
    }
}
