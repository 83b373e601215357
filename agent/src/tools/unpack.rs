//! Unpacks the archive of programs below a folder, within a bound of bytes.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

use drivers::newc::Archive;

/// `S_IFMT` and what it may say here (inode(7)).
const FORMAT: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// `PATH_MAX`.
const MOST_LINK_BYTES: u64 = 4096;

/// Unpacks a packed archive into `folder`, which is empty.
///
/// # Errors
/// What the archive or the filesystem gives, and [`ErrorKind::InvalidData`] for more than `most_bytes`, and for what is no file, folder or
/// link.
pub(super) fn unpack(packed: &[u8], folder: &Path, most_bytes: u64) -> io::Result<()> {
    let mut archive = Archive::new(zstd::Decoder::with_buffer(packed)?);
    let mut left_bytes = most_bytes;
    // Nothing is written through a link: what a path leads through was made here, as a folder.
    let mut folders = HashSet::from([String::new()]);
    while let Some(entry) = archive.next_entry()? {
        let place = folder.join(&entry.path);
        left_bytes = left_bytes
            .checked_sub(entry.bytes)
            .ok_or_else(|| invalid(format!("it has more than {most_bytes} B")))?;
        let (parent, _) = entry.path.rsplit_once('/').unwrap_or_default();
        if !folders.contains(parent) {
            return Err(invalid(format!("{} lies in no folder of it", entry.path)));
        }
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", entry.path));
        let permissions = entry.mode & 0o777;
        match entry.mode & FORMAT {
            FOLDER => {
                fs::DirBuilder::new()
                    .mode(permissions)
                    .create(&place)
                    .map_err(named)?;
                folders.insert(entry.path.clone());
            }
            FILE => {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(permissions)
                    .open(&place)
                    .map_err(named)?;
                io::copy(&mut archive.content(), &mut file).map_err(named)?;
            }
            LINK if entry.bytes <= MOST_LINK_BYTES => {
                let mut target = String::new();
                archive.content().read_to_string(&mut target).map_err(named)?;
                symlink(target, &place).map_err(named)?;
            }
            _ => {
                return Err(invalid(format!("{} is no file, folder or link", entry.path)));
            }
        }
    }
    Ok(())
}

fn invalid(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Mode, path, content.
    type Entry<'a> = (u32, &'a str, &'a str);

    fn packed(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (mode, path, content) in entries.iter().chain(&[(0, "TRAILER!!!", "")]) {
            let (size, name_len) = (content.len(), path.len() + 1);
            let zeros = "0".repeat(8);
            let head = format!(
                "070701{zeros}{mode:08x}{}{size:08x}{}{name_len:08x}{zeros}",
                zeros.repeat(4),
                zeros.repeat(4)
            );
            bytes.extend(head.bytes());
            bytes.extend(path.bytes().chain([0]));
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes.extend(content.bytes());
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        zstd::encode_all(&bytes[..], 1).expect("packed")
    }

    #[test]
    fn files_folders_and_links_are_made_with_their_modes() {
        let folder = tempfile::tempdir().expect("folder");
        let archive = packed(&[
            (0o040_755, "sbin", ""),
            (0o100_755, "sbin/mke2fs", "program"),
            (0o120_777, "sbin/mkfs.ext4", "mke2fs"),
            (0o100_644, "sbin/text", "text"),
        ]);
        unpack(&archive, folder.path(), 1 << 20).expect("unpacked");
        let path = folder.path().join("sbin/mkfs.ext4");
        assert_eq!(fs::read_to_string(&path).expect("read"), "program");
        let mode = |name: &str| {
            let metadata = fs::metadata(folder.path().join(name)).expect("metadata");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!((mode("sbin/mke2fs"), mode("sbin/text")), (0o755, 0o644));
    }

    #[test]
    fn what_is_too_much_or_leads_elsewhere_or_is_a_device_is_refused() {
        for (entries, want) in [
            (
                &[(0o100_644, "a", "12345"), (0o100_644, "b", "6789")][..],
                "more than 8 B",
            ),
            (&[(0o100_644, "../a", "1")], "leads elsewhere"),
            (&[(0o020_666, "null", "")], "null is no file, folder or link"),
            // Nothing is written through a link.
            (&[(0o120_777, "a", "/tmp"), (0o100_644, "a", "1")], "a: "),
            (
                &[(0o120_777, "a", "/tmp"), (0o100_644, "a/b", "1")],
                "a/b lies in no folder of it",
            ),
        ] {
            let folder = tempfile::tempdir().expect("folder");
            let error = unpack(&packed(entries), folder.path(), 8).expect_err(want);
            assert!(error.to_string().contains(want), "{want}: {error}");
        }
    }
}
