//! An archive of programs, unpacked: no path leads out of its folder, and no more is read of an entry than it says.

use std::io::{Read, sink};

use drivers::newc::Archive;

pub(crate) fn run(bytes: &[u8]) {
    let mut archive = Archive::new(bytes);
    while let Ok(Some(entry)) = archive.next_entry() {
        assert!(
            !entry.path.starts_with('/') && !entry.path.split('/').any(|part| part == ".."),
            "{entry:?}"
        );
        // Half of it, so that the rest is passed over.
        let half = std::io::copy(&mut archive.content().take(entry.bytes / 2), &mut sink());
        if half.is_ok_and(|half| half != entry.bytes / 2) {
            panic!("{entry:?} has fewer bytes, and no error says so");
        }
    }
}
