//! Opens files below a directory and never outside it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// A regular file, open for reading.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) fingerprint: Fingerprint,
}

/// Changes when the file does, also when its size stays and its time of modification is set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint {
    pub(crate) size_bytes: u64,
    pub(crate) modified_ns: i128,
    /// When the kernel last saw it changed (ctime): nobody can set that.
    pub(crate) changed_ns: i128,
    device: u64,
    inode: u64,
}

impl Fingerprint {
    /// Whether the last change is so long ago that the next one has another time.
    pub(crate) fn is_older_than(&self, age: Duration) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let age_ns = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX) - self.changed_ns;
        age_ns > i128::try_from(age.as_nanos()).unwrap_or(i128::MAX)
    }

    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            size_bytes: metadata.len(),
            modified_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
            changed_ns: i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec()),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// Opens `relative` below `root`. Symbolic links are followed as long as they stay below it; the kernel sees to that
/// (RESOLVE_BENEATH, Linux 5.6), so nothing can be swapped in between. Blocks.
///
/// # Errors
/// `NotFound` for whatever is not a regular file below `root`.
pub(crate) fn open_below(root: &Path, relative: &str) -> io::Result<Opened> {
    let plain = !relative.is_empty()
        && relative.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !relative.contains('\0');
    if !plain {
        return Err(io::ErrorKind::NotFound.into());
    }
    let directory = File::open(root)?;
    // O_NONBLOCK: a FIFO would block the open.
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(openat2(&directory, relative, how).map_err(|errno| match errno {
        nix::Error::EXDEV | nix::Error::ELOOP | nix::Error::ENAMETOOLONG => io::ErrorKind::NotFound.into(),
        other => io::Error::from(other),
    })?);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let fingerprint = Fingerprint::of(&file)?;
    Ok(Opened { file, fingerprint })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn opens_below_and_nowhere_else() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("a")).unwrap();
        std::fs::write(root.path().join("a/file"), "content").unwrap();
        symlink("a/file", root.path().join("inside")).unwrap();
        symlink(outside.path().join("secret"), root.path().join("absolute")).unwrap();
        let name = outside.path().file_name().unwrap().to_str().unwrap();
        symlink(format!("../{name}/secret"), root.path().join("climbing")).unwrap();
        nix::unistd::mkfifo(&root.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();

        for good in ["a/file", "inside"] {
            assert_eq!(
                open_below(root.path(), good).unwrap().fingerprint.size_bytes,
                7,
                "{good}"
            );
        }
        let climbing = format!("../{name}/secret");
        for bad in [
            "absolute",
            "climbing",
            &climbing,
            "a/../a/file",
            "/etc/passwd",
            "",
            ".",
            "a",
            "a//file",
            "fifo",
            "a\0b",
            "no",
        ] {
            let error = open_below(root.path(), bad).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{bad}");
        }
    }
}
