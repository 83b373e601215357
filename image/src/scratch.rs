//! Folders that a build works in. They go when the build ends, also when somebody ends the process.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

/// `None`: they are removed, and the process ends.
static FOLDERS: Mutex<Option<BTreeSet<PathBuf>>> = Mutex::new(Some(BTreeSet::new()));

/// Times that a folder is removed again into which somebody has written meanwhile.
const TRIES: u32 = 50;
const BETWEEN: Duration = Duration::from_millis(10);

/// Removes the folders of all builds of this process: for whoever is told to end, and ends with it. Builds make none after that.
pub fn remove_scratch() {
    let folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).take();
    for folder in folders.unwrap_or_default() {
        // A program of the build may still write there: it writes for nobody.
        for _ in 0..TRIES {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => std::thread::sleep(BETWEEN),
                _ => break,
            }
        }
    }
}

/// An empty folder, removed with its content when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(Option<TempDir>);

impl Scratch {
    pub(crate) fn make(prefix: &str, parent: &Path) -> io::Result<Scratch> {
        // Made and noted in one, so that nobody ends the process in between.
        let mut noted = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(folders) = noted.as_mut() else {
            drop(noted);
            // The process ends at any moment, and not with what this build would say of itself.
            loop {
                std::thread::park();
            }
        };
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
        if let Some(folders) = folders.as_mut() {
            folders.remove(self.path());
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.forget();
    }
}
