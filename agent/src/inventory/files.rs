//! Small texts of sysfs and proc, with bounds.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use proto::inventory::cleaned;

/// More than any file of sysfs has in it.
const MAX_ATTRIBUTE: u64 = 4 << 10;

/// What is in a file, up to `most` bytes; empty where it can't be read.
pub(super) fn bytes(path: &Path, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What was read before an error stays.
        let _ = file.take(most).read_to_end(&mut bytes);
    }
    bytes
}

/// The first line of a file, fit for an inventory.
pub(super) fn line(path: &Path) -> String {
    let bytes = bytes(path, MAX_ATTRIBUTE);
    let text = String::from_utf8_lossy(&bytes);
    cleaned(text.lines().next().unwrap_or_default())
}

/// The number that a file holds, in whatever base it is written.
pub(super) fn number(path: &Path) -> Option<u64> {
    let text = line(path);
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The last part of what a link leads to.
pub(super) fn link_name(path: &Path) -> String {
    let target = std::fs::read_link(path).unwrap_or_default();
    cleaned(&target.file_name().unwrap_or_default().to_string_lossy())
}

/// Names of what is in a folder, sorted, `most` at most.
pub(super) fn names(folder: &Path, most: usize) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .take(most)
        .collect();
    names.sort();
    names
}
