//! Reads cpio archives in the `newc` format: initramfs of boot images, to say what is in them.
//!
//! An initramfs may be several archives one after the other, with zeros in between; later ones add to the earlier ones.
//!
//! Source: Linux `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::files::{self, FileError};

/// An archive of a boot image directory, unpacked where it is packed; `Ok(None)`: it is none, or damaged.
///
/// # Errors
/// [`FileError`] if the file cannot be read.
pub(crate) fn unpacked(archive: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let packed = files::read(archive)?;
    if packed.starts_with(MAGIC) {
        return Ok(Some(packed));
    }
    let mut archive = Vec::new();
    let unpacked = zstd::Decoder::new(&packed[..])
        .and_then(|decoder| decoder.take(SIZE_LIMIT).read_to_end(&mut archive));
    Ok(unpacked.is_ok().then_some(archive))
}

/// The initramfs of a boot image directory.
pub(crate) fn file_in(boot_dir: &Path) -> PathBuf {
    boot_dir.join("initramfs.img")
}

/// Path and content of every entry, in order; `None` if it is damaged.
pub(crate) fn entries(archive: &[u8]) -> Option<Vec<(String, &[u8])>> {
    let places = places(archive)?.into_iter();
    Some(places.map(|(path, _, content)| (path, content)).collect())
}

/// Path, place of the content in the archive, and content of every entry, in order; `None` if it is damaged.
pub(crate) fn places(archive: &[u8]) -> Option<Vec<(String, u64, &[u8])>> {
    let mut found = Vec::new();
    let mut at = 0_usize;
    loop {
        let header = archive.get(at..at.checked_add(HEADER_LEN)?)?;
        if !header.starts_with(MAGIC) {
            return None;
        }
        let number = |field: usize| {
            let digits = header.get(6 + field * 8..14 + field * 8)?;
            usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let (size, name_len) = (number(6)?, number(11)?);
        let name_at = at + HEADER_LEN;
        let name = archive.get(name_at..name_at.checked_add(name_len.checked_sub(1)?)?)?;
        let content_at = (name_at + name_len).next_multiple_of(4);
        let content = archive.get(content_at..content_at.checked_add(size)?)?;
        at = (content_at + size).next_multiple_of(4);
        if name != b"TRAILER!!!" {
            found.push((
                String::from_utf8_lossy(name).into_owned(),
                content_at as u64,
                content,
            ));
            continue;
        }
        let rest = archive.get(at..).unwrap_or_default();
        let Some(zeros) = rest.iter().position(|byte| *byte != 0) else {
            return Some(found);
        };
        // As the kernel has it: a next one begins at a multiple of four.
        if !zeros.is_multiple_of(4) {
            return None;
        }
        at += zeros;
    }
}

const MAGIC: &[u8] = b"070701";
const HEADER_LEN: usize = 110;
/// No initramfs is near this size.
const SIZE_LIMIT: u64 = 2 << 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio::{Node, Tree};

    fn archive(path: &str, content: &str) -> Vec<u8> {
        let mut tree = Tree::default();
        let content = content.as_bytes().to_vec();
        let permissions = 0o644;
        tree.add(path, Node::File { permissions, content }).unwrap();
        let mut archive = Vec::new();
        tree.write_to(&mut archive).unwrap();
        archive
    }

    #[test]
    fn archives_that_follow_each_other_are_read_as_one() {
        let both = [archive("a", "one"), vec![0; 8], archive("init", "two")].concat();
        let entries = entries(&both).unwrap();
        assert_eq!(
            entries,
            [("a".to_owned(), &b"one"[..]), ("init".to_owned(), &b"two"[..])]
        );
    }

    #[test]
    fn an_entry_is_where_its_place_says() {
        let both = [archive("a", "one"), archive("lib/b.ko.xz", "second")].concat();
        for (path, at, content) in places(&both).unwrap() {
            let at = usize::try_from(at).unwrap();
            assert_eq!(&both[at..at + content.len()], content, "{path}");
        }
    }

    #[test]
    fn what_follows_an_archive_and_is_none_is_told() {
        for more in [&b"text"[..], b"\x00070701", b"\0\0\0\x00070701"] {
            assert_eq!(entries(&[archive("a", "one"), more.to_vec()].concat()), None);
        }
    }
}
