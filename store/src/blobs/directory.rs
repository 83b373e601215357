//! The directory of blobs: made durably, and rid of what a crash left.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{BLOBS, INCOMING};

/// Makes the directory and all that are below it, and removes files that were never finished.
///
/// All directories are there and synced before the first put: object_store syncs those that it makes, but two puts
/// at the same time may both need one, and the second would not wait for the first one's sync.
pub(super) fn prepare(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let blobs = directory.join(BLOBS);
    for shard in 0..=255_u8 {
        let shard = blobs.join(format!("{shard:02x}"));
        if shard.is_dir() {
            remove_unfinished(&shard)?;
        } else {
            fs::create_dir_all(&shard)?;
        }
    }
    let incoming = directory.join(INCOMING);
    fs::create_dir_all(&incoming)?;
    for entry in fs::read_dir(&incoming)? {
        fs::remove_file(entry?.path())?;
    }
    File::open(&blobs)?.sync_all()?;
    File::open(directory)?.sync_all()?;
    let directory = directory.canonicalize()?;
    if let Some(parent) = directory.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn remove_unfinished(shard: &Path) -> io::Result<()> {
    for entry in fs::read_dir(shard)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((digest, number)) = name.to_str().and_then(|name| name.split_once('#')) else {
            continue;
        };
        if digest.parse::<super::Digest>().is_ok() && number.bytes().all(|digit| digit.is_ascii_digit()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
