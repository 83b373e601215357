//! Debian packages, from the `ar` archive outside to the tar archive inside: whatever is in one, nothing is written outside
//! the directory that it is unpacked into.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use tempfile::TempDir;

pub(crate) fn run(bytes: &[u8]) {
    unpack(bytes);
    // Behind a good outer archive, so that what lies in it is reached.
    let mut package = b"!<arch>\n".to_vec();
    let header = format!(
        "{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
        "data.tar",
        0,
        0,
        0,
        100_644,
        bytes.len()
    );
    package.extend(header.bytes());
    package.extend(sealed(bytes));
    unpack(&package);
}

fn unpack(package: &[u8]) {
    let directory = in_memory();
    let deb = directory.path().join("package.deb");
    let into = directory.path().join("deep/inside/into");
    fs::create_dir_all(&into).expect("memory has room");
    fs::write(&deb, package).expect("memory has room");
    let unpacked = image::deb::unpack(&deb, &into, |_| true);
    for path in unpacked.iter().flatten() {
        assert!(
            into.join(path).symlink_metadata().is_ok(),
            "{path} is said to be there"
        );
    }
    let _ = image::deb::read_file(&deb, "boot/vmlinuz");
    assert_eq!(names(directory.path()), ["deep", "package.deb"]);
    assert_eq!(names(&directory.path().join("deep")), ["inside"]);
    assert_eq!(names(&directory.path().join("deep/inside")), ["into"]);
}

/// A directory of which nothing reaches a disk.
pub(crate) fn in_memory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    tempfile::Builder::new()
        .prefix("farrier-fuzz-")
        .tempdir_in(place)
        .expect("there is room")
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is there").flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A tar archive with the checksums of its headers made right, as long as they follow each other.
pub(crate) fn sealed(archive: &[u8]) -> Vec<u8> {
    let mut sealed = archive.to_vec();
    let mut at = 0;
    while let Some(block) = sealed
        .get(at..at + 512)
        .and_then(|block| block.first_chunk::<512>())
    {
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        let size = header.entry_size().unwrap_or(0);
        let mut place = Cursor::new(&mut sealed[at..]);
        place.write_all(header.as_bytes()).expect("it is as long");
        let Some(next) = usize::try_from(size)
            .ok()
            .and_then(|size| size.checked_next_multiple_of(512)?.checked_add(at + 512))
        else {
            break;
        };
        at = next;
        if at > sealed.len() {
            break;
        }
    }
    sealed
}
