//! Reads a cpio archive in the `newc` format as it comes, one entry after the other, without holding any content.
//!
//! Source: Linux `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::io::{self, ErrorKind, Read, Take};

use crate::is_inside;

/// An archive that is being read.
#[derive(Debug)]
pub struct Archive<R> {
    input: R,
    /// Bytes that were taken from the input.
    at: u64,
    /// Bytes of the present entry's content that were not.
    left: u64,
}

/// What an entry is, before its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative, and never out of the folder that it is unpacked in.
    pub path: String,
    /// File type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Of the content: a file's, or the target of a symbolic link.
    pub bytes: u64,
}

impl<R: Read> Archive<R> {
    /// Reads from the beginning of an archive on.
    pub fn new(input: R) -> Archive<R> {
        Archive {
            input,
            at: 0,
            left: 0,
        }
    }

    /// The next entry; what was not read of the one before it is passed over. `None`: the archive has ended.
    ///
    /// # Errors
    /// What the input gives, and [`ErrorKind::InvalidData`] for what is no archive or names a path that leads elsewhere.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let (left, after) = (self.left, self.at + self.left);
        self.skip(left + padding(after))?;
        self.left = 0;
        let mut header = [0; HEADER_LEN];
        self.read(&mut header)?;
        if !header.starts_with(MAGIC) {
            return Err(damaged("an entry does not begin as one of cpio"));
        }
        let mode = field(&header, 1)?;
        let bytes = field(&header, 6)?;
        let name_len = field(&header, 11)?;
        if !(2..=MOST_NAME_BYTES).contains(&name_len) {
            return Err(damaged("a name is empty or too long"));
        }
        let mut name = vec![0; name_len as usize];
        self.read(&mut name)?;
        self.skip(padding(self.at))?;
        let Some((0, name)) = name.split_last() else {
            return Err(damaged("a name has no end"));
        };
        if name == b"TRAILER!!!" {
            return Ok(None);
        }
        let path = String::from_utf8(name.to_vec()).map_err(|_| damaged("a name is no text"))?;
        if !is_inside(&path) {
            return Err(damaged(&format!("{path:?} leads elsewhere")));
        }
        self.left = bytes.into();
        Ok(Some(Entry {
            path,
            mode,
            bytes: self.left,
        }))
    }

    /// The content of the entry that came last, or what is left of it.
    pub fn content(&mut self) -> Content<'_, R> {
        Content {
            input: (&mut self.input).take(self.left),
            at: &mut self.at,
            left: &mut self.left,
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.input.read_exact(into)?;
        self.at += into.len() as u64;
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.input).take(bytes), &mut io::sink())?;
        self.at += skipped;
        if skipped < bytes {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// What is read of one entry.
#[derive(Debug)]
pub struct Content<'a, R> {
    input: Take<&'a mut R>,
    at: &'a mut u64,
    left: &'a mut u64,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        *self.at += read as u64;
        *self.left -= read as u64;
        if read == 0 && *self.left > 0 && !into.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(read)
    }
}

/// Bytes up to the next multiple of four.
fn padding(at: u64) -> u64 {
    at.next_multiple_of(4) - at
}

/// Eight hexadecimal digits.
fn field(header: &[u8; HEADER_LEN], index: usize) -> io::Result<u32> {
    let digits = header.get(6 + index * 8..14 + index * 8);
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    number.ok_or_else(|| damaged("a header has something else than digits"))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the archive is damaged: {what}"))
}

const MAGIC: &[u8] = b"070701";
const HEADER_LEN: usize = 110;
/// `PATH_MAX`.
const MOST_NAME_BYTES: u32 = 4096;

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// An archive of one file and one link, written by GNU cpio where it is installed: `None` where it is not.
    fn by_gnu_cpio() -> Option<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sbin")).unwrap();
        std::fs::write(folder.path().join("sbin/mke2fs"), "program").unwrap();
        std::os::unix::fs::symlink("mke2fs", folder.path().join("sbin/mkfs.ext4")).unwrap();
        let script = "printf 'sbin\nsbin/mke2fs\nsbin/mkfs.ext4\n' | cpio -o -H newc --quiet";
        let ran = Command::new("sh")
            .args(["-c", script])
            .current_dir(folder.path())
            .stderr(Stdio::null())
            .output()
            .unwrap();
        ran.status.success().then_some(ran.stdout)
    }

    fn all(bytes: &[u8]) -> io::Result<Vec<(String, u32, String)>> {
        let mut archive = Archive::new(bytes);
        let mut found = Vec::new();
        while let Some(entry) = archive.next_entry()? {
            let mut content = String::new();
            archive.content().read_to_string(&mut content)?;
            found.push((entry.path, entry.mode & 0o170_000, content));
        }
        Ok(found)
    }

    /// One entry and the end, by hand.
    fn archive(path: &str, content: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, content) in [(path, content), ("TRAILER!!!", "")] {
            let (size, name_len) = (content.len(), path.len() + 1);
            bytes.extend(format!("070701{0:08x}000081ed{0:08x}{0:08x}{0:08x}{0:08x}{size:08x}{0:08x}{0:08x}{0:08x}{0:08x}{name_len:08x}{0:08x}", 0).bytes());
            bytes.extend(path.bytes().chain([0]));
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes.extend(content.bytes());
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn what_gnu_cpio_writes_is_read() {
        let Some(bytes) = by_gnu_cpio() else {
            println!("cpio is not installed here: the archives by hand have to do");
            return;
        };
        let entry = |path: &str, mode, content: &str| (path.to_owned(), mode, content.to_owned());
        assert_eq!(
            all(&bytes).unwrap(),
            [
                entry("sbin", 0o040_000, ""),
                entry("sbin/mke2fs", 0o100_000, "program"),
                entry("sbin/mkfs.ext4", 0o120_000, "mke2fs"),
            ]
        );
    }

    #[test]
    fn content_that_is_not_read_is_passed_over() {
        let one = archive("a", "seven b");
        let mut reader = Archive::new(&one[..]);
        assert_eq!(reader.next_entry().unwrap().unwrap().bytes, 7);
        let mut first = [0; 3];
        reader.content().read_exact(&mut first).unwrap();
        assert_eq!(&first, b"sev");
        assert_eq!(reader.next_entry().unwrap(), None);
    }

    #[test]
    fn paths_that_lead_elsewhere_and_cut_archives_are_refused() {
        for path in ["/etc/passwd", "../x", "a/../b", "a//b", "./a"] {
            let error = all(&archive(path, "x")).unwrap_err();
            assert!(error.to_string().contains("leads elsewhere"), "{path}: {error}");
        }
        let whole = archive("a", "content");
        assert_eq!(all(&whole).unwrap().len(), 1);
        let end = whole.len() - "TRAILER!!!\0".len();
        for len in 0..end {
            assert!(all(&whole[..len]).is_err(), "cut at {len} B");
        }
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] = 0xff;
            let _ = all(&broken);
        }
    }
}
