//! The files of an archive by their names, wherever they lie. No name leads out of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use oci::layer::{LayerError, What, list, unpacked};

use super::{BadArchive, shown};

/// An image has some hundred files in an archive.
const ENTRIES_LIMIT: usize = 100_000;
const LINKS_LIMIT: usize = 8;

pub(super) struct Files {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Folder,
    Archive {
        file: Arc<File>,
        entries: BTreeMap<String, Entry>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    File {
        at: u64,
        size_bytes: u64,
    },
    /// The name of another entry.
    Link(String),
}

impl Files {
    pub(super) fn open(path: &Path, unpacked_bytes: u64) -> Result<Files, BadArchive> {
        let io = |source| BadArchive::Io {
            path: shown(path),
            source,
        };
        if fs::metadata(path).map_err(io)?.is_dir() {
            return Ok(Files {
                path: path.to_owned(),
                kind: Kind::Folder,
            });
        }
        let mut file = File::open(path).map_err(io)?;
        let mut first = [0; 4];
        let read = file.read(&mut first).map_err(io)?;
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        if oci::layer::packing_of(first.get(..read).unwrap_or_default()) != "tar" {
            let plain = tempfile::tempfile().map_err(io)?;
            file = unpack(file, plain, path, unpacked_bytes)?;
        }
        let len_bytes = file.metadata().map_err(io)?.len();
        let listed = list(
            BufReader::with_capacity(256 << 10, &file),
            len_bytes,
            ENTRIES_LIMIT,
        );
        let mut entries = BTreeMap::new();
        for entry in listed.map_err(|error| no_archive(path, error))? {
            let refused = |why: &str| BadArchive::Entry {
                path: shown(path),
                entry: String::from_utf8_lossy(&entry.path).chars().take(200).collect(),
                why: why.to_owned(),
            };
            let name = plain_name(&entry.path).map_err(refused)?;
            let found = match &entry.what {
                What::Directory => continue,
                What::File { at, size_bytes } => Entry::File {
                    at: *at,
                    size_bytes: *size_bytes,
                },
                What::Link { target, is_hard } => {
                    let leads = "it is a link that leads out of the archive";
                    let from = if *is_hard { "" } else { &name };
                    Entry::Link(target_of(from, target).ok_or_else(|| refused(leads))?)
                }
                What::Other(kind) => {
                    return Err(refused(&format!("it is {kind}, which no archive of images has")));
                }
            };
            if let Some(other) = entries.insert(name, found.clone())
                && other != found
            {
                return Err(refused(
                    "another entry has the same name: readers would see two images",
                ));
            }
        }
        Ok(Files {
            path: path.to_owned(),
            kind: Kind::Archive {
                file: Arc::new(file),
                entries,
            },
        })
    }

    pub(super) fn path(&self) -> String {
        shown(&self.path)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.size_bytes(name).is_some()
    }

    /// `None`: there is no such file.
    pub(super) fn size_bytes(&self, name: &str) -> Option<u64> {
        match &self.kind {
            Kind::Folder => {
                let file = self.in_folder(name)?;
                Some(fs::symlink_metadata(file).ok()?.len())
            }
            Kind::Archive { entries, .. } => span(entries, name).map(|(_, size_bytes)| size_bytes),
        }
    }

    /// All of a file that has so many bytes at most.
    pub(super) fn small(&self, name: &str, limit_bytes: u64) -> Result<Bytes, BadArchive> {
        let size_bytes = self.size_bytes(name).unwrap_or_default();
        if size_bytes > limit_bytes {
            let why = format!("it has {size_bytes} B; {limit_bytes} B are read at most");
            return Err(super::refused(self, name, why));
        }
        let mut bytes = Vec::new();
        let read = self.open_entry(name)?.take(limit_bytes).read_to_end(&mut bytes);
        read.map_err(|error| self.io(error))?;
        Ok(bytes.into())
    }

    pub(super) fn open_entry(&self, name: &str) -> Result<Box<dyn Read + Send>, BadArchive> {
        let missing = || BadArchive::Missing {
            path: self.path(),
            entry: name.to_owned(),
            by: "it".to_owned(),
        };
        match &self.kind {
            Kind::Folder => {
                let file = self.in_folder(name).ok_or_else(missing)?;
                Ok(Box::new(File::open(file).map_err(|error| self.io(error))?))
            }
            Kind::Archive { file, entries } => {
                let (at, left) = span(entries, name).ok_or_else(missing)?;
                Ok(Box::new(Span {
                    file: file.clone(),
                    at,
                    left,
                }))
            }
        }
    }

    pub(super) fn io(&self, source: io::Error) -> BadArchive {
        BadArchive::Io {
            path: self.path(),
            source,
        }
    }

    /// A file below the folder, by a way without links.
    fn in_folder(&self, name: &str) -> Option<PathBuf> {
        let mut path = self.path.clone();
        let name = plain_name(name.as_bytes()).ok()?;
        let mut parts = name.split('/').peekable();
        while let Some(part) = parts.next() {
            path.push(part);
            let kind = fs::symlink_metadata(&path).ok()?.file_type();
            let is_right = match parts.peek() {
                Some(_) => kind.is_dir(),
                None => kind.is_file(),
            };
            if !is_right {
                return None;
            }
        }
        Some(path)
    }
}

/// Where a file lies, through the links that lead to it.
fn span(entries: &BTreeMap<String, Entry>, name: &str) -> Option<(u64, u64)> {
    let mut name = name;
    for _ in 0..LINKS_LIMIT {
        match entries.get(name)? {
            Entry::File { at, size_bytes } => return Some((*at, *size_bytes)),
            Entry::Link(target) => name = target,
        }
    }
    None
}

/// A part of a file.
struct Span {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Span {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let into = into.get_mut(..most).unwrap_or_default();
        let read = self.file.read_at(into, self.at)?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

fn unpack(packed: File, mut plain: File, path: &Path, limit_bytes: u64) -> Result<File, BadArchive> {
    let io = |source| BadArchive::Io {
        path: shown(path),
        source,
    };
    let bad = |error: io::Error| BadArchive::NoArchive {
        path: shown(path),
        what: format!("what packs it is damaged: {error}"),
    };
    let mut from = unpacked(BufReader::with_capacity(256 << 10, packed)).map_err(bad)?;
    let mut piece = vec![0; 256 << 10];
    let mut len_bytes = 0;
    loop {
        let read = from.read(&mut piece).map_err(bad)?;
        let Some(some) = piece.get(..read).filter(|some| !some.is_empty()) else {
            break;
        };
        len_bytes += read as u64;
        if len_bytes > limit_bytes {
            return Err(BadArchive::NoArchive {
                path: shown(path),
                what: format!("without its packing it has more than {limit_bytes} B"),
            });
        }
        plain.write_all(some).map_err(io)?;
    }
    plain.seek(SeekFrom::Start(0)).map_err(io)?;
    Ok(plain)
}

fn no_archive(path: &Path, error: LayerError) -> BadArchive {
    let what = match error {
        LayerError::BadArchive { at, what } => format!("at byte {at}, {what}"),
        LayerError::TooMuch { of, limit, cure } => format!("it has more than {limit} {of}; {cure}"),
        LayerError::Hostile { path, why } => format!("its entry {path} is refused: {why}"),
        other => other.to_string(),
    };
    BadArchive::NoArchive {
        path: shown(path),
        what,
    }
}

/// A name without what does not count in it.
///
/// # Errors
/// In words: a name that leads elsewhere.
fn plain_name(path: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(path).map_err(|_| "its name is no text")?;
    if text.starts_with('/') {
        return Err("its name begins with a slash");
    }
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.contains(&"..") {
        return Err("its name has a part \"..\"");
    }
    if text.contains('\0') {
        return Err("its name has a zero byte");
    }
    Ok(parts.join("/"))
}

/// The entry that a link in the folder of `from` leads to; none: it leads out of the archive.
fn target_of(from: &str, target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok()?;
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_another_entry_or_nowhere() {
        for (from, target, to) in [
            ("a/layer.tar", "../b/layer.tar", Some("b/layer.tar")),
            ("a/layer.tar", "./layer2.tar", Some("a/layer2.tar")),
            ("layer.tar", "b", Some("b")),
            ("", "b/c", Some("b/c")),
            ("a/layer.tar", "../../b", None),
            ("a", "/etc/shadow", None),
        ] {
            assert_eq!(
                target_of(from, target.as_bytes()).as_deref(),
                to,
                "{from} -> {target}"
            );
        }
    }

    #[test]
    fn names_are_plain() {
        assert_eq!(plain_name(b"./blobs//sha256/x").as_deref(), Ok("blobs/sha256/x"));
        for bad in [&b"/etc/passwd"[..], b"a/../b", b"..", b"a\0b", b"\xff"] {
            assert!(plain_name(bad).is_err(), "{bad:?}");
        }
    }
}
