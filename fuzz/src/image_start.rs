//! The first bytes of a disk image, on which it depends whether it is written: what is let through lies on the disk.
//!
//! The first byte chooses the disk, the rest are the image's.

use disk::gpt::Grow;
use disk::image::outside;

const MIB: u64 = 1 << 20;

pub(crate) fn run(bytes: &[u8]) {
    let Some((&disk, first)) = bytes.split_first() else {
        return;
    };
    let disk_bytes = [MIB, 64 * MIB, 1 << 40, u64::MAX][usize::from(disk & 3)];
    let sector_bytes = [None, Some(512), Some(4096)][usize::from(disk >> 2 & 3) % 3];
    let grow = if disk & 0x10 == 0 {
        Grow::Nothing
    } else {
        Grow::LastLinux
    };
    let size = (disk & 0x20 != 0).then_some(first.len() as u64);
    for first in [first.to_vec(), crate::gpt_parse::sealed(first)] {
        match outside::judge(&first, size, disk_bytes, sector_bytes, grow) {
            Ok((_, end)) => assert!(end.is_none_or(|end| end <= disk_bytes), "{end:?} of {disk_bytes}"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
