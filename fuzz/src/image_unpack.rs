//! Packed images: members of gzip, xz, zstd, bzip2 and lz4, one behind the other, and what stands behind the last.

use disk::image::outside;

/// More is a bomb, and unpacking it would be all that is done.
const AT_MOST: u64 = 1 << 20;

pub(crate) fn run(bytes: &[u8]) {
    match outside::unpack(bytes, AT_MOST) {
        Ok((unpacked, ignored)) => assert!(unpacked <= AT_MOST && ignored <= bytes.len() as u64),
        Err(words) => assert!(!words.is_empty()),
    }
}
