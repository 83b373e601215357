//! Notes on a disk of how far a write has come: any bytes, and slots with a right check.

use disk::image::outside;

pub(crate) fn run(bytes: &[u8]) {
    let Some((&how, slots)) = bytes.split_first() else {
        return;
    };
    // What has a right check is what the parser has to bear beyond it.
    if let Some(image_at) = outside::journal(slots, how & 1 == 1) {
        assert!(outside::journal(slots, how & 1 == 1) == Some(image_at));
    }
}
