//! qcow2 files: header, tables, clusters that lie anywhere, and compressed ones.

use disk::image::outside;

/// A larger disk is not what a mutation is about.
const AT_MOST: u64 = 8 << 20;

pub(crate) fn run(bytes: &[u8]) {
    match outside::qcow2(bytes, AT_MOST) {
        Ok(in_clusters) => assert!(in_clusters <= AT_MOST),
        Err(words) => assert!(!words.is_empty()),
    }
}
