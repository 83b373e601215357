//! The files of a folder as a manifest with contents, and back. Follows no symbolic link and opens nothing that is
//! not a regular file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ephemeral::{DataPath, Digest, MAX_BYTES, MAX_FILES, Manifest, TooLarge};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::{DataError, SecondName};

/// Entries that are looked at, folders included: a folder with more is too much whatever is in it.
const MAX_ENTRIES: usize = 4 * MAX_FILES;

/// Files with their contents, all of them within the limits.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tree {
    pub(crate) files: BTreeMap<DataPath, Content>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Content {
    pub(crate) file: ephemeral::File,
    pub(crate) bytes: Vec<u8>,
}

impl Content {
    pub(crate) fn new(bytes: Vec<u8>, executable: bool) -> Content {
        let file = ephemeral::File {
            sha256: Digest::of(&bytes),
            size_bytes: bytes.len() as u64,
            executable,
        };
        Content { file, bytes }
    }
}

impl Tree {
    pub(crate) fn manifest(&self) -> Manifest {
        let files = self.files.iter();
        Manifest::of(files.map(|(path, content)| (path.clone(), content.file)))
    }

    /// Reads a folder, but for its second name in it. Blocks. Nothing is read before the sizes of all files are known to be
    /// within the limits.
    ///
    /// # Errors
    /// `DataTooLarge`; `DataNotRegular`: something is neither folder nor regular file; `DataBadName`; `DataUnreadable`.
    pub(crate) fn read(folder: &Path, second_name: Option<&SecondName>) -> Result<Tree, DataError> {
        let found = find(folder, second_name)?;
        let mut tree = Tree::default();
        let mut bytes_left = MAX_BYTES;
        for path in found {
            let content =
                read_file(folder, &path, bytes_left).map_err(|e| unreadable(Path::new(path.as_str()), &e))?;
            // It may have grown since.
            bytes_left = bytes_left.checked_sub(content.file.size_bytes).ok_or_else(|| {
                too_large(TooLarge::Bytes {
                    bytes: MAX_BYTES - bytes_left + content.file.size_bytes,
                    files: tree.files.len() + 1,
                })
            })?;
            tree.files.insert(path, content);
        }
        Ok(tree)
    }

    /// Writes all files into an empty folder. Blocks.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        for (path, content) in &self.files {
            let at = folder.join(path.as_str());
            if let Some(parent) = at.parent() {
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(parent)?;
            }
            let mode = if content.file.executable { 0o755 } else { 0o644 };
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&at)?;
            file.write_all(&content.bytes)?;
            // Whatever the umask is.
            file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }
}

/// The size of what is in a folder, where that is too much to be kept.
pub(crate) fn excess(folder: &Path, second_name: Option<&SecondName>) -> Option<DataError> {
    find(folder, second_name)
        .err()
        .filter(|e| e.reason == "DataTooLarge")
}

/// Opens a regular file below a folder for reading: no link is followed, nothing is waited for.
pub(crate) fn open_regular(folder: &Path, path: &Path) -> io::Result<File> {
    let root = File::open(folder)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let file = loop {
        match openat2(&root, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => break File::from(other?),
        }
    };
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

/// All files below a folder, whose sizes are within the limits together.
fn find(folder: &Path, second_name: Option<&SecondName>) -> Result<Vec<DataPath>, DataError> {
    let mut found = Vec::new();
    let mut bytes = 0_u64;
    let mut entries = 0;
    let mut folders = vec![PathBuf::new()];
    while let Some(at) = folders.pop() {
        let listing = std::fs::read_dir(folder.join(&at)).map_err(|e| unreadable(&at, &e))?;
        for entry in listing {
            let entry = entry.map_err(|e| unreadable(&at, &e))?;
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(too_large(TooLarge::Files { files: entries }));
            }
            let path = at.join(entry.file_name());
            if let Some(own) = second_name.filter(|own| own.is(path.as_os_str())) {
                own.judge(&entry.path())?;
                continue;
            }
            // Of the entry itself, not of what a link leads to.
            let metadata = entry.metadata().map_err(|e| unreadable(&path, &e))?;
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_file() {
                bytes = bytes.saturating_add(metadata.len());
                found.push(data_path(&path)?);
            } else {
                return Err(DataError::new(
                    "DataNotRegular",
                    format!(
                        "/workflow/{} is {}; only regular files are handed over: put a file in its place, or delete it",
                        path.display(),
                        kind(&metadata)
                    ),
                ));
            }
        }
    }
    let files = found.len();
    if bytes > MAX_BYTES {
        Err(too_large(TooLarge::Bytes { bytes, files }))
    } else if files > MAX_FILES {
        Err(too_large(TooLarge::Files { files }))
    } else {
        Ok(found)
    }
}

fn read_file(folder: &Path, path: &DataPath, at_most: u64) -> io::Result<Content> {
    let file = open_regular(folder, Path::new(path.as_str()))?;
    let executable = file.metadata()?.permissions().mode() & 0o111 != 0;
    let mut bytes = Vec::new();
    file.take(at_most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(Content::new(bytes, executable))
}

fn data_path(path: &Path) -> Result<DataPath, DataError> {
    let bad = |why: String| {
        DataError::new(
            "DataBadName",
            format!("a file in /workflow cannot be handed over: {why}"),
        )
    };
    let text = std::str::from_utf8(path.as_os_str().as_bytes())
        .map_err(|_| bad(format!("its name {path:?} is not UTF-8; rename it")))?;
    text.parse().map_err(|e: ephemeral::BadPath| bad(e.to_string()))
}

fn kind(metadata: &std::fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

fn too_large(why: TooLarge) -> DataError {
    DataError::new("DataTooLarge", why.to_string())
}

fn unreadable(path: &Path, e: &io::Error) -> DataError {
    DataError::new(
        "DataUnreadable",
        format!("/workflow/{} cannot be read: {e}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(files: &[(&str, &str, bool)]) -> Tree {
        let files = files.iter().map(|(path, text, executable)| {
            let content = Content::new(text.as_bytes().to_vec(), *executable);
            (path.parse().expect("path"), content)
        });
        Tree {
            files: files.collect(),
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let folder = tempfile::tempdir().expect("folder");
        let given = tree(&[("a", "", false), ("b/c/d", "text", true), ("b/e", "ä", false)]);
        given.write(folder.path()).expect("written");
        // An empty folder is no data.
        std::fs::create_dir(folder.path().join("empty")).expect("folder");
        let read = Tree::read(folder.path(), None).expect("read");
        assert_eq!(read, given);
        assert!(read.manifest().changes_to(&given.manifest()).is_empty());
    }

    #[track_caller]
    fn check_refused(make: impl FnOnce(&Path), reason: &str, words: &str) {
        let folder = tempfile::tempdir().expect("folder");
        make(folder.path());
        let error = Tree::read(folder.path(), None).expect_err(reason);
        assert_eq!(error.reason, reason, "{error}");
        assert!(error.message.contains(words), "{error}");
    }

    #[test]
    fn what_is_no_regular_file_is_refused_by_name_and_not_opened() {
        let mode = nix::sys::stat::Mode::S_IRWXU;
        check_refused(
            |at| symlink("/etc/passwd", at.join("x")).expect("link"),
            "DataNotRegular",
            "/workflow/x is a symbolic link",
        );
        check_refused(
            |at| symlink("/etc", at.join("x")).expect("link"),
            "DataNotRegular",
            "a symbolic link",
        );
        check_refused(
            |at| nix::unistd::mkfifo(&at.join("x"), mode).expect("pipe"),
            "DataNotRegular",
            "a named pipe",
        );
        check_refused(
            |at| drop(std::os::unix::net::UnixListener::bind(at.join("x")).expect("socket")),
            "DataNotRegular",
            "a socket",
        );
    }

    #[test]
    fn names_that_cannot_be_handed_over_are_refused() {
        let odd = |name: &'static [u8]| {
            move |at: &Path| {
                let name = std::ffi::OsStr::from_bytes(name);
                std::fs::write(at.join(name), "").expect("file");
            }
        };
        check_refused(odd(b"a\xff"), "DataBadName", "is not UTF-8");
        check_refused(odd(b"a\nb"), "DataBadName", "control character");
    }

    #[test]
    fn the_size_is_judged_before_anything_is_read() {
        // Sparse: reading a terabyte would take for ever.
        let sparse = |bytes: u64| {
            move |at: &Path| {
                let file = File::create(at.join("x")).expect("file");
                file.set_len(bytes).expect("size");
            }
        };
        check_refused(
            sparse(1 << 40),
            "DataTooLarge",
            "1099511627776 B in 1 files; at most 10485760 B",
        );
        check_refused(sparse(MAX_BYTES + 1), "DataTooLarge", "10485761 B");
        let folder = tempfile::tempdir().expect("folder");
        sparse(MAX_BYTES)(folder.path());
        assert_eq!(
            Tree::read(folder.path(), None).expect("fits").manifest().bytes(),
            MAX_BYTES
        );
        check_refused(
            |at| {
                for n in 0..=MAX_FILES {
                    std::fs::write(at.join(n.to_string()), "").expect("file");
                }
            },
            "DataTooLarge",
            "1001 files; at most 1000",
        );
    }

    #[test]
    fn no_link_on_the_way_is_followed() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::create_dir(folder.path().join("real")).expect("folder");
        std::fs::write(folder.path().join("real/x"), "x").expect("file");
        symlink("real", folder.path().join("link")).expect("link");
        assert!(open_regular(folder.path(), Path::new("real/x")).is_ok());
        assert!(open_regular(folder.path(), Path::new("link/x")).is_err());
        assert!(open_regular(folder.path(), Path::new("../x")).is_err());
        assert!(open_regular(folder.path(), Path::new("real")).is_err());
    }
}
