//! Signatures by which something else would take a disk or a partition for its own: filesystems, RAID members, volumes,
//! tables.
//!
//! More than [`crate::filesystem::detect`] knows, as nothing is read out of them: a place and some bytes each. What is
//! looked for is what udev's rules, mdadm, LVM, cryptsetup, ZFS and the kernel assemble or mount by themselves.
//! Source: the formats' own headers, as libblkid looks for them; md(4), Linux drivers/md/md.c (`super_90_load`,
//! `super_1_load`); OpenZFS `vdev_label.c`; LUKS2 On-Disk Format Specification 1.1.3, section 2.1.

use std::collections::BTreeSet;
use std::io;

/// A signature that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature {
    /// Of its first byte on the device.
    pub at: u64,
    /// As `blkid` calls what has it.
    pub kind: &'static str,
    /// What is to be zeroed so that it is gone: whole sectors of 512 bytes, from here…
    pub erase_from: u64,
    /// … up to here.
    pub erase_until: u64,
}

#[derive(Clone, Copy)]
enum Place {
    Start(u64),
    /// Bytes before the end of the last whole sector of 512 bytes.
    End(u64),
    /// md 0.90: 64 KiB before the end, rounded down to 64 KiB.
    Md090,
    /// md 1.0: 8 KiB before the end, rounded down to 4 KiB.
    Md10,
}

struct Known {
    kind: &'static str,
    place: Place,
    magic: &'static [u8],
}

const fn known(kind: &'static str, place: Place, magic: &'static [u8]) -> Known {
    Known { kind, place, magic }
}

const MD: &[u8] = &0xa92b_4efc_u32.to_le_bytes();
const MD_BE: &[u8] = &0xa92b_4efc_u32.to_be_bytes();
const LUKS: &[u8] = b"LUKS\xba\xbe";
const LUKS_SECOND: &[u8] = b"SKUL\xba\xbe";
const BTRFS: &[u8] = b"_BHRfS_M";
const F2FS: &[u8] = &0xf2f5_2010_u32.to_le_bytes();
const STRATIS: &[u8] = b"!Stra0tis\x86\xff\x02^\x41rh";
const BCACHE: &[u8] = &[
    0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81,
];
const BCACHEFS: &[u8] = &[
    0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef,
];

use Place::{End, Md10, Md090, Start};

const KNOWN: &[Known] = &[
    known("crypto_LUKS", Start(0), LUKS),
    known("crypto_LUKS", Start(0x4000), LUKS_SECOND),
    known("crypto_LUKS", Start(0x8000), LUKS_SECOND),
    known("crypto_LUKS", Start(0x1_0000), LUKS_SECOND),
    known("crypto_LUKS", Start(0x2_0000), LUKS_SECOND),
    known("crypto_LUKS", Start(0x4_0000), LUKS_SECOND),
    known("crypto_LUKS", Start(0x8_0000), LUKS_SECOND),
    known("crypto_LUKS", Start(0x10_0000), LUKS_SECOND),
    known("crypto_LUKS", Start(0x20_0000), LUKS_SECOND),
    known("crypto_LUKS", Start(0x40_0000), LUKS_SECOND),
    known("LVM2_member", Start(24), b"LVM2 001"),
    known("LVM2_member", Start(512 + 24), b"LVM2 001"),
    known("LVM2_member", Start(1024 + 24), b"LVM2 001"),
    known("LVM2_member", Start(1536 + 24), b"LVM2 001"),
    known("linux_raid_member", Start(0), MD),
    known("linux_raid_member", Start(4096), MD),
    known("linux_raid_member", Md10, MD),
    known("linux_raid_member", Md090, MD),
    known("linux_raid_member", Md090, MD_BE),
    known("isw_raid_member", End(1024), b"Intel Raid ISM Cfg Sig. "),
    known("isw_raid_member", End(8192), b"Intel Raid ISM Cfg Sig. "),
    known("ddf_raid_member", End(512), &[0xde, 0x11, 0xde, 0x11]),
    known("ddf_raid_member", End(512), &[0x11, 0xde, 0x11, 0xde]),
    known("ext4", Start(0x438), &[0x53, 0xef]),
    known("xfs", Start(0), b"XFSB"),
    known("btrfs", Start(0x1_0040), BTRFS),
    known("btrfs", Start((64 << 20) + 0x40), BTRFS),
    known("btrfs", Start((256 << 30) + 0x40), BTRFS),
    known("bcache", Start(4096 + 24), BCACHE),
    known("bcachefs", Start(4096 + 24), BCACHEFS),
    known("f2fs", Start(1024), F2FS),
    known("f2fs", Start(4096 + 1024), F2FS),
    known("erofs", Start(1024), &0xe0f5_e1e2_u32.to_le_bytes()),
    known("squashfs", Start(0), b"hsqs"),
    known("iso9660", Start(0x8001), b"CD001"),
    known("udf", Start(0x8001), b"BEA01"),
    known("ntfs", Start(3), b"NTFS    "),
    known("exfat", Start(3), b"EXFAT   "),
    known("BitLocker", Start(3), b"-FVE-FS-"),
    known("vfat", Start(82), b"FAT32   "),
    known("vfat", Start(54), b"FAT16   "),
    known("vfat", Start(54), b"FAT12   "),
    known("vfat", Start(54), b"FAT     "),
    known("swap", Start(4096 - 10), b"SWAPSPACE2"),
    known("swap", Start(8192 - 10), b"SWAPSPACE2"),
    known("swap", Start(16384 - 10), b"SWAPSPACE2"),
    known("swap", Start(32768 - 10), b"SWAPSPACE2"),
    known("swap", Start(65536 - 10), b"SWAPSPACE2"),
    known("swsuspend", Start(4096 - 10), b"S1SUSPEND"),
    known("swsuspend", Start(4096 - 10), b"S2SUSPEND"),
    known("swsuspend", Start(4096 - 10), b"LINHIB0001"),
    known("stratis", Start(512 + 4), STRATIS),
    known("stratis", Start(9 * 512 + 4), STRATIS),
    known("ceph_bluestore", Start(0), b"bluestore block device"),
    known("drbd", End(4096 - 60), &[0x83, 0x74, 0x02, 0x6b]),
    known("drbd", End(4096 - 60), &[0x83, 0x74, 0x02, 0x6c]),
    known("gpt", Start(512), b"EFI PART"),
    known("gpt", Start(4096), b"EFI PART"),
    known("gpt", End(512), b"EFI PART"),
    known("gpt", End(4096), b"EFI PART"),
    // Boot code of a filesystem that has gone, too: whoever reads 0x55AA looks for partitions.
    known("dos", Start(510), &[0x55, 0xaa]),
];

/// A label of ZFS: there are two at the start, and two at the end.
const ZFS_LABEL_BYTES: u64 = 256 << 10;
/// The second half of a label is a ring of uberblocks, each 1 KiB at least.
const ZFS_RING_BYTES: usize = 128 << 10;
const ZFS_MAGIC: u64 = 0x00ba_b10c;

/// Every signature on a device of that size, by place. `read` gives so many bytes from an offset within it.
///
/// # Errors
/// Those of `read`.
pub fn find(
    device_bytes: u64,
    mut read: impl FnMut(u64, usize) -> io::Result<Vec<u8>>,
) -> io::Result<BTreeSet<Signature>> {
    let mut found = BTreeSet::new();
    let end = device_bytes / 512 * 512;
    for known in KNOWN {
        let at = match known.place {
            Start(at) => Some(at),
            End(before) => end.checked_sub(before),
            Md090 => (device_bytes & !0xffff).checked_sub(0x1_0000),
            Md10 => (device_bytes / 512)
                .checked_sub(16)
                .map(|sector| (sector & !7) * 512),
        };
        let len = known.magic.len();
        let Some(at) = at.filter(|at| at.saturating_add(len as u64) <= end) else {
            continue;
        };
        if read(at, len)? == known.magic {
            found.insert(Signature {
                at,
                kind: known.kind,
                erase_from: at / 512 * 512,
                erase_until: (at + len as u64).div_ceil(512) * 512,
            });
        }
    }
    let whole = device_bytes / ZFS_LABEL_BYTES * ZFS_LABEL_BYTES;
    if whole >= 4 * ZFS_LABEL_BYTES {
        let labels = [0, 1, 2, 3].map(|number| match number {
            0 | 1 => number * ZFS_LABEL_BYTES,
            _ => whole - (4 - number) * ZFS_LABEL_BYTES,
        });
        for at in labels {
            let ring = read(at + ZFS_LABEL_BYTES / 2, ZFS_RING_BYTES)?;
            let is_uberblock = |block: &[u8]| {
                let magic = block.first_chunk::<8>().copied().unwrap_or_default();
                u64::from_le_bytes(magic) == ZFS_MAGIC || u64::from_be_bytes(magic) == ZFS_MAGIC
            };
            if ring.chunks(1024).any(is_uberblock) {
                found.insert(Signature {
                    at,
                    kind: "zfs_member",
                    erase_from: at,
                    erase_until: at + ZFS_LABEL_BYTES,
                });
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::testing::output;

    const MIB: usize = 1 << 20;

    fn within(disk: &[u8]) -> BTreeSet<Signature> {
        find(disk.len() as u64, |at, len| {
            let from = usize::try_from(at).unwrap();
            Ok(disk[from..from + len].to_vec())
        })
        .unwrap()
    }

    fn kinds(disk: &[u8]) -> Vec<&'static str> {
        let mut kinds: Vec<&str> = within(disk).iter().map(|one| one.kind).collect();
        kinds.dedup();
        kinds
    }

    /// What blkid's prober says of a file, every signature of it.
    fn wipefs(file: &Path) -> String {
        output(
            Command::new("wipefs")
                .args(["--noheadings", "--output", "TYPE,OFFSET"])
                .arg(file),
        )
    }

    /// Makes it with somebody's own tool, finds it, erases what was found; nothing is left for blkid then.
    #[track_caller]
    fn made_found_erased(kind: &str, len: usize, tool: &[&str]) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(len as u64).unwrap();
        output(Command::new(tool[0]).args(&tool[1..]).arg(file.path()));
        let before = wipefs(file.path());
        assert!(before.contains(kind), "{tool:?}: {before}");
        let mut disk = std::fs::read(file.path()).unwrap();
        assert!(
            kinds(&disk).contains(&kind),
            "{tool:?}: {:?}, blkid: {before}",
            within(&disk)
        );
        for one in within(&disk) {
            disk[one.erase_from as usize..one.erase_until as usize].fill(0);
        }
        assert_eq!(within(&disk), BTreeSet::new(), "{tool:?}");
        std::fs::write(file.path(), disk).unwrap();
        assert_eq!(wipefs(file.path()), "", "{tool:?}");
    }

    #[test]
    fn what_tools_make_is_found_and_gone_for_blkid_when_it_is_erased() {
        made_found_erased("ext4", 16 * MIB, &["mke2fs", "-q", "-F", "-t", "ext4"]);
        made_found_erased("vfat", 16 * MIB, &["mkfs.vfat"]);
        made_found_erased("vfat", 64 * MIB, &["mkfs.vfat", "-F", "32"]);
        made_found_erased("swap", 16 * MIB, &["mkswap"]);
        made_found_erased("swap", 16 * MIB, &["mkswap", "-p", "65536"]);
        made_found_erased("xfs", 320 * MIB, &["mkfs.xfs", "-q"]);
        made_found_erased("btrfs", 128 * MIB, &["mkfs.btrfs", "-q"]);
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(key.path(), "secret").unwrap();
        let key = key.path().to_str().unwrap();
        for version in ["luks1", "luks2"] {
            made_found_erased(
                "crypto_LUKS",
                32 * MIB,
                &[
                    "cryptsetup",
                    "luksFormat",
                    "-q",
                    "--type",
                    version,
                    "--pbkdf",
                    "pbkdf2",
                    "--pbkdf-force-iterations",
                    "1000",
                    "--key-file",
                    key,
                ],
            );
        }
        made_found_erased("gpt", 16 * MIB, &["sgdisk", "--clear", "--new=1:0:0"]);
    }

    /// Bytes as their specifications have them, where there is no tool or it needs the kernel.
    #[test]
    fn members_of_arrays_and_pools_are_found_at_both_ends_by_their_formats() {
        let len = 9 * MIB + 3 * 4096 + 512;
        let check = |at: usize, magic: &[u8], kind: &str| {
            let mut disk = vec![0; len];
            disk[at..at + magic.len()].copy_from_slice(magic);
            assert_eq!(kinds(&disk), [kind], "{at}");
        };
        let md = 0xa92b_4efc_u32.to_le_bytes();
        check(0, &md, "linux_raid_member");
        check(4096, &md, "linux_raid_member");
        // 0.90: 64 KiB before the end, rounded down; 1.0: 8 KiB, to 4 KiB.
        check(9 * MIB - (64 << 10), &md, "linux_raid_member");
        check(9 * MIB + 4096, &md, "linux_raid_member");
        check(len - 1024, b"Intel Raid ISM Cfg Sig. ", "isw_raid_member");
        check(len - 512, &[0xde, 0x11, 0xde, 0x11], "ddf_raid_member");
        check(512 + 24, b"LVM2 001", "LVM2_member");
        let uberblock = ZFS_MAGIC.to_le_bytes();
        for label in [0, 256 << 10, 9 * MIB - (512 << 10), 9 * MIB - (256 << 10)] {
            check(label + (128 << 10) + 3 * 1024, &uberblock, "zfs_member");
        }
    }

    /// blkid agrees about where: its own prober reads the same bytes.
    #[test]
    fn blkid_takes_the_same_places_for_md() {
        let len = 9 * MIB + 3 * 4096 + 512;
        for (at, minor) in [(0_usize, 1_u64), (4096, 2), (9 * MIB + 4096, 0)] {
            let mut disk = vec![0; len];
            let mut put = |offset: usize, bytes: &[u8]| {
                disk[at + offset..at + offset + bytes.len()].copy_from_slice(bytes)
            };
            put(0, &0xa92b_4efc_u32.to_le_bytes());
            put(4, &1_u32.to_le_bytes());
            put(16, &[7; 16]);
            put(144, &((at / 512) as u64).to_le_bytes());
            // Source: calc_sb_1_csum in Linux drivers/md/md.c.
            let words = disk[at..at + 256].chunks_exact(4);
            let sum: u64 = words
                .map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap())))
                .sum();
            let sum = (sum & 0xffff_ffff) + (sum >> 32);
            disk[at + 216..at + 220].copy_from_slice(&(sum as u32).to_le_bytes());
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &disk).unwrap();
            let said = wipefs(file.path());
            assert!(
                said.contains("linux_raid_member") && said.contains(&format!("{at:#x}")),
                "1.{minor}: {said}"
            );
            assert_eq!(kinds(&disk), ["linux_raid_member"], "1.{minor}");
        }
    }

    #[test]
    fn a_device_of_no_size_has_none() {
        for len in [0, 1, 511, 512, 4096, 65536] {
            assert_eq!(within(&vec![0; len]), BTreeSet::new());
        }
    }
}
