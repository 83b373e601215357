//! File operations whose errors name the file and what was being done to it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// A file or directory could not be used.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {}", path.display())]
pub struct FileError {
    /// What was tried: `read`, `write`, `create`.
    pub action: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Gives an [`io::Result`] the name of the file it is about.
pub(crate) trait About<T> {
    fn about(self, action: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T> About<T> for io::Result<T> {
    fn about(self, action: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError {
            action,
            path: path.to_path_buf(),
            source,
        })
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).about("read", path)
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), FileError> {
    fs::write(path, content).about("write", path)
}

pub(crate) fn create_directory(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).about("create directory", path)
}

/// Waits until no other build writes to the directory; others wait until what this gives is dropped.
pub(crate) fn lock(directory: &Path) -> Result<Flock<File>, FileError> {
    let path = directory.join(".lock");
    let file = File::create(&path).about("create", &path)?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| io::Error::from(error))
        .about("lock", &path)
}
