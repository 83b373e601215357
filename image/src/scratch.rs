//! Folders that a build works in. They go when the build ends, also when somebody ends the process.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

static FOLDERS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Removes the folders of all builds of this process: for whoever is told to end, and ends with it.
pub fn remove_scratch() {
    let folders = std::mem::take(&mut *FOLDERS.lock().unwrap_or_else(PoisonError::into_inner));
    for folder in folders {
        // What a program of the build still writes there it writes for nobody.
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// An empty folder, removed with its content when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(Option<TempDir>);

impl Scratch {
    pub(crate) fn make(prefix: &str, parent: &Path) -> io::Result<Scratch> {
        // Made and noted in one, so that nobody ends the process in between.
        let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
        folders.insert(folder.path().to_owned());
        Ok(Scratch(Some(folder)))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.as_ref().map_or(Path::new(""), TempDir::path)
    }

    /// It becomes something else under another name.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.forget();
        self.0.take().map(TempDir::keep).unwrap_or_default()
    }

    fn forget(&self) {
        let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        folders.remove(self.path());
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.forget();
    }
}
