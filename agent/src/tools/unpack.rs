//! Unpacks the archive of programs below a folder, within a bound of bytes.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use drivers::newc::Archive;

/// `S_IFMT` and what it may say here (inode(7)).
const FORMAT: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// `PATH_MAX`.
const MOST_LINK_BYTES: u64 = 4096;

/// Unpacks a packed archive into `folder`. Where another archive of the same boot image was unpacked before, files that both have stay as
/// they are: they are of the same packages. When it fails, nothing of this archive is left.
///
/// # Errors
/// What the archive or the filesystem gives, and [`ErrorKind::InvalidData`] for more than `most_bytes`, and for what is no file, folder or
/// link.
pub(super) fn unpack(packed: &[u8], folder: &Path, most_bytes: u64) -> io::Result<()> {
    let mut made = Vec::new();
    let unpacked = unpack_into(packed, folder, most_bytes, &mut made);
    if unpacked.is_err() {
        // Files before the folders that they lie in.
        for place in made.iter().rev() {
            let _ = fs::remove_file(place).or_else(|_| fs::remove_dir(place));
        }
    }
    unpacked
}

fn unpack_into(packed: &[u8], folder: &Path, most_bytes: u64, made: &mut Vec<PathBuf>) -> io::Result<()> {
    // What this archive has made already, it does not have twice.
    let is_anothers = |place: &Path, made: &[PathBuf]| {
        fs::symlink_metadata(place).is_ok_and(|there| there.is_file() || there.is_symlink())
            && !made.iter().any(|own| own == place)
    };
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
                if !fs::symlink_metadata(&place).is_ok_and(|there| there.is_dir()) {
                    fs::DirBuilder::new()
                        .mode(permissions)
                        .create(&place)
                        .map_err(named)?;
                    made.push(place);
                }
                folders.insert(entry.path.clone());
            }
            FILE | LINK if is_anothers(&place, made) => {}
            FILE => {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(permissions)
                    .open(&place)
                    .map_err(named)?;
                made.push(place);
                io::copy(&mut archive.content(), &mut file).map_err(named)?;
            }
            LINK if entry.bytes <= MOST_LINK_BYTES => {
                let mut target = String::new();
                archive.content().read_to_string(&mut target).map_err(named)?;
                symlink(target, &place).map_err(named)?;
                made.push(place);
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
    fn a_second_archive_comes_beside_the_first_and_is_gone_when_it_fails() {
        let folder = tempfile::tempdir().expect("folder");
        let text = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        let first = packed(&[
            (0o040_755, "lib", ""),
            (0o100_755, "lib/libc.so.6", "C"),
            (0o120_777, "lib/ld.so", "libc.so.6"),
        ]);
        unpack(&first, folder.path(), 64).expect("unpacked");
        let second = packed(&[
            (0o040_755, "lib", ""),
            (0o100_755, "lib/libc.so.6", "C"),
            (0o120_777, "lib/ld.so", "libc.so.6"),
            (0o040_755, "sbin", ""),
            (0o100_755, "sbin/runc", "runc"),
            (0o100_755, "sbin/containerd", "much"),
        ]);
        let error = unpack(&second, folder.path(), 17).expect_err("too much");
        assert!(error.to_string().contains("more than 17 B"), "{error}");
        assert!(!folder.path().join("sbin").exists() && text("lib/ld.so").is_some());
        unpack(&second, folder.path(), 64).expect("unpacked");
        assert_eq!(text("sbin/runc").as_deref(), Some("runc"));
        assert_eq!(text("lib/ld.so").as_deref(), Some("C"));
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
