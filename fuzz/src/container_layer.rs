//! Layers of container images: whatever an archive says, nothing is made outside of the layer's folder, and nothing that room was
//! not asked for before.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci::Digest;
use oci::layer::{Bounds, Expected, Room, unpack};

use crate::deb::{in_memory, names, sealed};

pub(crate) fn run(bytes: &[u8]) {
    unpacked(bytes);
    // With right sums, so that what stands behind a header is reached.
    unpacked(&sealed(bytes));
}

/// Counts what is asked for, and has a MiB.
struct Counted(u64);

impl Room for Counted {
    fn take(&mut self, bytes: u64) -> bool {
        let all = self.0.saturating_add(bytes);
        let there_is = all <= 1 << 20;
        if there_is {
            self.0 = all;
        }
        there_is
    }
}

fn unpacked(blob: &[u8]) {
    let directory = in_memory();
    let into = directory.path().join("deep/inside/into");
    fs::create_dir_all(&into).expect("memory has room");
    fs::write(directory.path().join("file"), "untouched").expect("memory has room");
    let expected = Expected {
        blob: Digest::of(blob),
        // True of what is not packed; all else is made until its end, and refused there.
        archive: Digest::of(blob),
    };
    let bounds = Bounds {
        archive_bytes: 4 << 20,
        entries: 1_000,
    };
    let mut room = Counted(0);
    let unpacked = unpack(blob, &into, &expected, bounds, &mut room);
    if let Ok(unpacked) = unpacked {
        assert_eq!(unpacked.held_bytes, room.0);
        assert!(unpacked.implied.is_sorted());
    }
    let mut blocks = BTreeMap::new();
    measure(&into, &mut blocks);
    let takes: u64 = blocks.values().sum::<u64>() * 512;
    assert!(
        takes <= room.0,
        "{takes} B are taken, {} B were asked for",
        room.0
    );
    assert_eq!(names(directory.path()), ["deep", "file"]);
    assert_eq!(names(&directory.path().join("deep")), ["inside"]);
    assert_eq!(names(&directory.path().join("deep/inside")), ["into"]);
    let file = fs::read_to_string(directory.path().join("file"));
    assert_eq!(file.expect("it is there"), "untouched");
}

/// The blocks of each file, by inode.
fn measure(folder: &Path, blocks: &mut BTreeMap<u64, u64>) {
    for entry in fs::read_dir(folder).expect("it is there").flatten() {
        let meta = entry.path().symlink_metadata().expect("it is there");
        if meta.is_dir() {
            measure(&entry.path(), blocks);
        } else if meta.is_file() {
            blocks.insert(meta.ino(), meta.blocks());
        }
    }
}
