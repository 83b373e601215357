//! Which files there are, how two states differ, and what a merge of a difference gives.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{DataPath, Digest, MAX_BYTES, MAX_FILES};

/// A regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    pub sha256: Digest,
    pub size_bytes: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// The files of one version. Its JSON is canonical: paths in order, nothing optional written out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Manifest {
    files: BTreeMap<DataPath, File>,
}

/// What an attempt changed, file by file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New files, and files whose content or mode is another.
    pub put: BTreeMap<DataPath, File>,
    pub deleted: BTreeSet<DataPath>,
}

/// More than a workflow may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    #[error(
        "the workflow's data in /workflow would be {bytes} B in {files} files; at most {MAX_BYTES} B are kept for a \
         workflow: write less, or delete what no later action needs"
    )]
    Bytes { bytes: u64, files: usize },
    #[error(
        "the workflow's data in /workflow would be {files} files; at most {MAX_FILES} are kept for a workflow: pack \
         them into an archive, or delete what no later action needs"
    )]
    Files { files: usize },
}

impl Manifest {
    /// The manifest of these files, whether or not it is within the limits. Of two files with the same path the
    /// later one counts; so it does where one path is a folder of the other.
    pub fn of(files: impl IntoIterator<Item = (DataPath, File)>) -> Manifest {
        let mut manifest = Manifest::default();
        for (path, file) in files {
            manifest.put(path, file);
        }
        manifest
    }

    /// In order of their paths.
    pub fn files(&self) -> impl Iterator<Item = (&DataPath, &File)> {
        self.files.iter()
    }

    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Bytes of all contents.
    pub fn bytes(&self) -> u64 {
        self.files
            .values()
            .fold(0, |sum, file| sum.saturating_add(file.size_bytes))
    }

    /// # Errors
    /// It is more than a workflow may keep.
    pub fn check(&self) -> Result<(), TooLarge> {
        let (files, bytes) = (self.len(), self.bytes());
        if bytes > MAX_BYTES {
            Err(TooLarge::Bytes { bytes, files })
        } else if files > MAX_FILES {
            Err(TooLarge::Files { files })
        } else {
            Ok(())
        }
    }

    /// What leads from this manifest to `later`.
    pub fn changes_to(&self, later: &Manifest) -> Changes {
        let is_other = |(path, file): &(&DataPath, &File)| self.files.get(*path) != Some(file);
        Changes {
            put: later
                .files
                .iter()
                .filter(is_other)
                .map(|(path, file)| (path.clone(), *file))
                .collect(),
            deleted: self
                .files
                .keys()
                .filter(|path| !later.files.contains_key(*path))
                .cloned()
                .collect(),
        }
    }

    /// The next version: this one with an attempt's changes, which count file by file over what others changed since
    /// the version that the attempt was given.
    ///
    /// Where one attempt made a file of a path that is a folder for another, the later merge counts.
    ///
    /// # Errors
    /// It would be more than a workflow may keep; nothing of it is merged then.
    pub fn merge(&self, changes: &Changes) -> Result<Manifest, TooLarge> {
        let mut merged = self.clone();
        for path in &changes.deleted {
            merged.files.remove(path);
        }
        for (path, file) in &changes.put {
            merged.put(path.clone(), *file);
        }
        merged.check()?;
        Ok(merged)
    }

    /// A path is a file or a folder, never both.
    fn put(&mut self, path: DataPath, file: File) {
        for parent in path.parents() {
            self.files.remove(parent);
        }
        let below = format!("{path}/");
        let inside: Vec<DataPath> = self
            .files
            .range::<str, _>((
                std::ops::Bound::Excluded(below.as_str()),
                std::ops::Bound::Unbounded,
            ))
            .map(|(other, _)| other)
            .take_while(|other| other.as_str().starts_with(&below))
            .cloned()
            .collect();
        for other in inside {
            self.files.remove(&other);
        }
        self.files.insert(path, file);
    }
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.deleted.is_empty()
    }
}
