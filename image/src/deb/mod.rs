//! Unpacks chosen files of a Debian package, without dpkg and without running any of its scripts.
//!
//! Files, directories, symbolic links and hard links are handled; owners, devices and times are not.
//!
//! Source: `deb(5)`.

mod ar;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};

pub use ar::ArError;

use crate::files::{About, FileError};

/// Why a package could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The outer archive is damaged.
    #[error("{} is not a Debian package", deb.display())]
    Archive {
        deb: PathBuf,
        #[source]
        source: ArError,
    },
    /// The package's own archive cannot be read to its end.
    #[error("the content of {} cannot be read", deb.display())]
    Content {
        deb: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A member's path is absolute or climbs out of the package.
    #[error("{} holds the path {path:?}, which leads out of the package", deb.display())]
    Escapes { deb: PathBuf, path: String },
    /// What was unpacked could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The package has none of the files it was opened for.
    #[error("{} has no {wanted}", deb.display())]
    Missing { deb: PathBuf, wanted: String },
    /// The content is compressed with something that Debian does not use.
    #[error("{} has no data.tar, or one compressed with something else than gzip, xz or zstd", deb.display())]
    NoData { deb: PathBuf },
}

/// Unpacks the files of `deb` for which `wanted` is true below the directory `into`.
///
/// Paths are relative and plain, such as `boot/vmlinuz-6.1.0-1-amd64`. Symbolic links are made after everything
/// else, so that no later file of the package is written through one. Returns the paths of files and links.
///
/// # Errors
/// [`DebError`] for a damaged package, a path that leads out of it, and a write that fails.
pub fn unpack(deb: &Path, into: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, DebError> {
    let mut unpacked = Vec::new();
    let mut links = BTreeMap::new();
    for_each_member(deb, |path, member| {
        if !wanted(path) {
            return Ok(());
        }
        let target = into.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).about("create directory", parent)?;
        }
        match member {
            Member::Directory => fs::create_dir_all(&target).about("create directory", &target)?,
            Member::File { executable, content } => {
                write_file(&target, executable, content)?;
                unpacked.push(path.to_string());
            }
            Member::HardLink { to } => {
                let source = into.join(&to);
                fs::copy(&source, &target).about("copy", &source)?;
                unpacked.push(path.to_string());
            }
            Member::Symlink { to } => {
                links.insert(path.to_string(), to);
            }
        }
        Ok(())
    })?;
    for (path, to) in links {
        let target = into.join(&path);
        symlink(to, &target).about("link", &target)?;
        unpacked.push(path);
    }
    Ok(unpacked)
}

/// Returns the content of the one file `path` of the package.
///
/// # Errors
/// As [`unpack`]; [`DebError::Missing`] if there is no such file.
pub fn read_file(deb: &Path, path: &str) -> Result<Vec<u8>, DebError> {
    let mut found = None;
    for_each_member(deb, |at, member| {
        if let (true, Member::File { content, .. }) = (at == path, member) {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).about("read", Path::new(path))?;
            found = Some(bytes);
        }
        Ok(())
    })?;
    found.ok_or_else(|| DebError::Missing {
        deb: deb.to_path_buf(),
        wanted: path.to_string(),
    })
}

enum Member<'a> {
    Directory,
    File {
        executable: bool,
        content: &'a mut dyn Read,
    },
    HardLink {
        to: String,
    },
    Symlink {
        to: PathBuf,
    },
}

fn for_each_member(
    deb: &Path,
    mut handle: impl FnMut(&str, Member<'_>) -> Result<(), DebError>,
) -> Result<(), DebError> {
    let content = |source| DebError::Content {
        deb: deb.to_path_buf(),
        source,
    };
    let mut archive = tar::Archive::new(data_of(deb)?);
    for entry in archive.entries().map_err(content)? {
        let mut entry = entry.map_err(content)?;
        let Some(path) = plain(deb, &entry.path_bytes())? else {
            continue;
        };
        let link = entry.link_name_bytes().map(|name| name.into_owned());
        let kind = entry.header().entry_type();
        let member = if kind.is_dir() {
            Member::Directory
        } else if kind.is_symlink() {
            use std::os::unix::ffi::OsStringExt;
            Member::Symlink {
                to: std::ffi::OsString::from_vec(link.unwrap_or_default()).into(),
            }
        } else if kind.is_hard_link() {
            let Some(to) = plain(deb, &link.unwrap_or_default())? else {
                continue;
            };
            Member::HardLink { to }
        } else if kind.is_file() {
            let executable = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
            Member::File {
                executable,
                content: &mut entry,
            }
        } else {
            continue;
        };
        handle(&path, member)?;
    }
    Ok(())
}

/// Returns the path without its leading `./`; `None` for the root itself.
fn plain(deb: &Path, bytes: &[u8]) -> Result<Option<String>, DebError> {
    let escapes = |path: &str| DebError::Escapes {
        deb: deb.to_path_buf(),
        path: path.to_string(),
    };
    let path = std::str::from_utf8(bytes).map_err(|_| escapes(&String::from_utf8_lossy(bytes)))?;
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(|| escapes(path))?),
            Component::ParentDir | Component::Prefix(_) | Component::RootDir => return Err(escapes(path)),
        }
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

/// Opens the package's data.tar, decompressed, and bounded so that a bomb ends in an error.
fn data_of(deb: &Path) -> Result<Bounded<Box<dyn Read>>, DebError> {
    let file = File::open(deb).about("open", deb)?;
    let data = ar::find(file, |name| name.starts_with("data.tar")).map_err(|source| DebError::Archive {
        deb: deb.to_path_buf(),
        source,
    })?;
    let (name, data) = data.ok_or_else(|| DebError::NoData {
        deb: deb.to_path_buf(),
    })?;
    let data = BufReader::with_capacity(256 * 1024, data);
    let content = |source| DebError::Content {
        deb: deb.to_path_buf(),
        source,
    };
    let tar: Box<dyn Read> = match name.as_str() {
        "data.tar" => Box::new(data),
        "data.tar.gz" => Box::new(flate2::read::MultiGzDecoder::new(data)),
        "data.tar.xz" => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_LIMIT, liblzma::stream::CONCATENATED);
            let stream = stream.map_err(|error| content(io::Error::other(error)))?;
            Box::new(liblzma::read::XzDecoder::new_stream(data, stream))
        }
        "data.tar.zst" => Box::new(zstd::Decoder::with_buffer(data).map_err(content)?),
        _ => {
            return Err(DebError::NoData {
                deb: deb.to_path_buf(),
            });
        }
    };
    Ok(Bounded {
        inner: tar,
        left_bytes: CONTENT_LIMIT,
    })
}

struct Bounded<R> {
    inner: R,
    left_bytes: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left_bytes = self.left_bytes.checked_sub(read as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it is larger than {CONTENT_LIMIT} B"),
            )
        })?;
        Ok(read)
    }
}

fn write_file(target: &Path, executable: bool, content: &mut dyn Read) -> Result<(), FileError> {
    let mode = if executable { 0o755 } else { 0o644 };
    // A file that came twice replaces the first, never what a link of that name points to.
    if target.symlink_metadata().is_ok() {
        fs::remove_file(target).about("replace", target)?;
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(target)
        .about("create", target)?;
    io::copy(content, &mut file).about("write", target)?;
    file.flush().about("write", target)
}

/// More than any package that is unpacked here needs; the largest kernel packages are below 1 GiB.
const CONTENT_LIMIT: u64 = 4 << 30;
/// `xz -9` needs 65 MiB to decompress.
const XZ_MEMORY_LIMIT: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn tar_of(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            // Written by hand, since the crate refuses the paths that these tests are about.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            if kind.is_file() {
                header.set_size(content.len() as u64);
                header.set_cksum();
                builder.append(&header, content.as_bytes()).unwrap();
            } else {
                header.set_size(0);
                header.set_link_name_literal(content).unwrap();
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    fn deb_with(directory: &Path, member: &str, data: &[u8]) -> PathBuf {
        let path = directory.join(format!("{member}.deb"));
        let members = [
            ("debian-binary", &b"2.0\n"[..]),
            ("control.tar.xz", b"odd"),
            (member, data),
        ];
        fs::write(&path, ar::archive_of(&members)).unwrap();
        path
    }

    fn sample() -> Vec<u8> {
        tar_of(&[
            ("./", tar::EntryType::Directory, ""),
            ("./boot/vmlinuz-1", tar::EntryType::Regular, "kernel"),
            ("./boot/vmlinuz", tar::EntryType::Symlink, "vmlinuz-1"),
            ("./boot/again", tar::EntryType::Link, "./boot/vmlinuz-1"),
            ("./usr/share/doc/copyright", tar::EntryType::Regular, "words"),
        ])
    }

    #[test]
    fn unpacks_chosen_files_however_they_are_compressed() {
        let directory = tempfile::tempdir().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&sample()).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&sample()).unwrap();
        for (member, data) in [
            ("data.tar", sample()),
            ("data.tar.gz", gzip.finish().unwrap()),
            ("data.tar.xz", xz.finish().unwrap()),
            ("data.tar.zst", zstd::encode_all(&sample()[..], 1).unwrap()),
        ] {
            let deb = deb_with(directory.path(), member, &data);
            let into = directory.path().join(format!("{member}.d"));
            let unpacked = unpack(&deb, &into, |path| path.starts_with("boot/")).unwrap();
            assert_eq!(
                unpacked,
                ["boot/vmlinuz-1", "boot/again", "boot/vmlinuz"],
                "{member}"
            );
            assert_eq!(fs::read(into.join("boot/vmlinuz")).unwrap(), b"kernel");
            assert_eq!(fs::read(into.join("boot/again")).unwrap(), b"kernel");
            assert!(!into.join("usr").exists());
            assert_eq!(read_file(&deb, "usr/share/doc/copyright").unwrap(), b"words");
        }
    }

    #[test]
    fn paths_that_lead_out_of_the_package_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        for path in ["../out", "./a/../../out", "/etc/out"] {
            let deb = deb_with(
                directory.path(),
                "data.tar",
                &tar_of(&[(path, tar::EntryType::Regular, "x")]),
            );
            let error = unpack(&deb, &directory.path().join("in"), |_| true).unwrap_err();
            assert!(matches!(error, DebError::Escapes { .. }), "{path}: {error}");
        }
    }

    #[test]
    fn no_file_is_written_through_a_link_of_the_package() {
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let data = tar_of(&[
            ("./a", tar::EntryType::Symlink, outside.to_str().unwrap()),
            ("./a/file", tar::EntryType::Regular, "x"),
        ]);
        let deb = deb_with(directory.path(), "data.tar", &data);
        let _ = unpack(&deb, &directory.path().join("in"), |_| true);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn damaged_packages_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let compressed = zstd::encode_all(&sample()[..], 1).unwrap();
        for data in [&compressed[..compressed.len() / 2], b"not zstd"] {
            let deb = deb_with(directory.path(), "data.tar.zst", data);
            let error = unpack(&deb, &directory.path().join("in"), |_| true).unwrap_err();
            assert!(matches!(error, DebError::Content { .. }), "{error}");
        }
        let deb = deb_with(directory.path(), "data.tar.rar", b"");
        assert!(matches!(
            read_file(&deb, "x").unwrap_err(),
            DebError::NoData { .. }
        ));
        let deb = deb_with(directory.path(), "data.tar", &sample());
        assert!(matches!(
            read_file(&deb, "x").unwrap_err(),
            DebError::Missing { .. }
        ));
    }

    #[test]
    fn unpacks_what_dpkg_deb_builds() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        fs::create_dir_all(tree.join("usr/lib")).unwrap();
        let control =
            "Package: sample\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: s\n";
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        fs::write(tree.join("usr/lib/thing"), "content").unwrap();
        let deb = directory.path().join("sample.deb");
        match Command::new("dpkg-deb")
            .args(["--root-owner-group", "-b"])
            .arg(&tree)
            .arg(&deb)
            .output()
        {
            Ok(output) => assert!(output.status.success()),
            Err(_) => return println!("dpkg-deb is not installed here: the packages above have to do"),
        }
        assert_eq!(read_file(&deb, "usr/lib/thing").unwrap(), b"content");
    }
}
