//! Making a store out of an export.
//!
//! Everything is written under another name and verified first; then the store's file gets its name in one step. So
//! a damaged export, a full filesystem or a power cut leaves what was there; and of a damaged export nothing stays.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::Database;
use sha2::{Digest as _, Sha256};

use super::manifest::{self, MANIFEST, MAX_MANIFEST_BYTES, ROWS, Summary, digest_of_blobs};
use super::read_only::ReadOnly;
use super::{BLOBS, FILE, OfflineError, Progress, runtime};
use crate::blobs::{Blobs, Digest, MAX_BLOB_BYTES, file_of};
use crate::formats::Reader;
use crate::redb::format::{self, KEYS, REVISION};
use crate::redb::{Failure, engine_failure, open_error};
use crate::{KeyValue, StoreError, rows};

/// Rows in one transaction.
const ROWS_PER_TRANSACTION: usize = 5000;

/// Where an export comes from.
pub enum Import<'a> {
    Directory(&'a Path),
    /// A tar archive.
    Tar(&'a mut dyn Read),
}

/// Makes the store in `data` out of an export, with the revisions that the keys had.
///
/// Rows stay in the formats that they are in: the server brings them up to date. `reader` is who it will be.
///
/// With `replace`, a store that is there is replaced and its blobs stay, those that nothing names as garbage.
///
/// # Errors
/// [`OfflineError::TargetInUse`] when there is a store and not `replace`; [`StoreError::Locked`] when a server has it
/// open; [`OfflineError::Damaged`] when the export is not what was written; [`OfflineError::Newer`] when `reader` cannot read
/// it.
pub fn import(
    from: Import<'_>,
    data: &Path,
    replace: bool,
    reader: Reader,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, OfflineError> {
    let path = data.join(FILE);
    if !replace && (path.exists() || has_files(&data.join(BLOBS))) {
        return Err(OfflineError::TargetInUse { path: data.into() });
    }
    fs::create_dir_all(data).map_err(|error| OfflineError::io("make directory", data, error))?;
    // Held to the end: no server starts on what is about to be replaced.
    let _held = hold(data)?;
    let mut importing = Importing::new(data, reader, progress)?;
    let read = match from {
        Import::Directory(directory) => importing.directory(directory),
        Import::Tar(read) => importing.tar(read),
    };
    let read = read.and_then(|()| importing.finish());
    let undo = importing.close();
    let done = read.and_then(|summary| {
        fs::rename(unfinished(data), &path)
            .and_then(|()| File::open(data)?.sync_all())
            .map_err(|error| OfflineError::io("write", &path, error))?;
        Ok(summary)
    });
    if done.is_err() {
        undo.run();
    }
    done
}

/// Opens a store that is there, for its lock; one that cannot be opened is not in the way.
fn hold(data: &Path) -> Result<Option<ReadOnly>, OfflineError> {
    match ReadOnly::open(data) {
        Ok(store) => Ok(Some(store)),
        Err(error @ OfflineError::Store(StoreError::Locked { .. })) => Err(error),
        Err(_) => Ok(None),
    }
}

fn unfinished(data: &Path) -> PathBuf {
    data.join(format!("{FILE}.import"))
}

fn has_files(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() { has_files(&path) } else { true }
    })
}

struct Importing<'a> {
    database: Database,
    blobs: Blobs,
    runtime: tokio::runtime::Runtime,
    path: PathBuf,
    reader: Reader,
    progress: &'a mut dyn FnMut(Progress),
    manifest: Option<Summary>,
    rows: Option<Rows>,
    digests: Vec<Digest>,
    /// Blobs that were not there before.
    new_blobs: Vec<Digest>,
    blobs_bytes: u64,
}

/// What is to go when nothing was imported.
struct Undo {
    path: PathBuf,
    blobs: Blobs,
    new_blobs: Vec<Digest>,
    runtime: tokio::runtime::Runtime,
}

impl Undo {
    /// What cannot be removed is in nobody's way: the next import removes it, or the server, as garbage.
    fn run(self) {
        let _ = fs::remove_file(&self.path);
        for digest in &self.new_blobs {
            let _ = self.runtime.block_on(self.blobs.delete(digest));
        }
    }
}

/// What was read of the rows.
struct Rows {
    keys: u64,
    bytes: u64,
    digest: Digest,
}

impl<'a> Importing<'a> {
    fn new(
        data: &Path,
        reader: Reader,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Result<Importing<'a>, OfflineError> {
        let path = unfinished(data);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(OfflineError::io("remove", &path, error));
            }
            _ => {}
        }
        Ok(Importing {
            database: Database::create(&path).map_err(|error| open_error(&path, error))?,
            blobs: Blobs::open(data.join(BLOBS))?,
            runtime: runtime()?,
            path,
            reader,
            progress,
            manifest: None,
            rows: None,
            digests: Vec::new(),
            new_blobs: Vec::new(),
            blobs_bytes: 0,
        })
    }

    fn directory(&mut self, directory: &Path) -> Result<(), OfflineError> {
        for name in [MANIFEST, ROWS] {
            let path = directory.join(name);
            let mut file = File::open(&path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => OfflineError::damaged(format!("{} is missing", path.display())),
                _ => OfflineError::io("open", &path, error),
            })?;
            self.entry(name, &mut file)?;
        }
        let blobs = directory.join(manifest::BLOBS);
        let mut open = if blobs.is_dir() { vec![blobs] } else { Vec::new() };
        while let Some(next) = open.pop() {
            let failed = |error| OfflineError::io("read directory", &next, error);
            for entry in fs::read_dir(&next).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                if path.is_dir() {
                    open.push(path);
                    continue;
                }
                let name = path.strip_prefix(directory).unwrap_or(&path).to_string_lossy();
                let mut file = File::open(&path).map_err(|error| OfflineError::io("open", &path, error))?;
                self.entry(&name, &mut file)?;
            }
        }
        Ok(())
    }

    fn tar(&mut self, read: &mut dyn Read) -> Result<(), OfflineError> {
        let broken = |error: io::Error| OfflineError::damaged(format!("its archive breaks off: {error}"));
        let mut archive = tar::Archive::new(read);
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if !entry.header().entry_type().is_file() {
                return Err(OfflineError::damaged(format!("{name:?} in it is no file")));
            }
            self.entry(&name, &mut entry)?;
        }
        Ok(())
    }

    /// One file of the export.
    fn entry(&mut self, name: &str, content: &mut dyn Read) -> Result<(), OfflineError> {
        if name == MANIFEST && self.manifest.is_none() {
            let text = read_bounded(name, content, MAX_MANIFEST_BYTES)?;
            self.manifest = Some(Summary::from_manifest(&text, self.reader)?);
            return Ok(());
        }
        let Some(manifest) = self.manifest.clone() else {
            return Err(OfflineError::damaged(format!("{name:?} comes before {MANIFEST}")));
        };
        if name == ROWS && self.rows.is_none() {
            self.rows = Some(self.read_rows(content, &manifest)?);
            return Ok(());
        }
        let digest = Path::new(name)
            .strip_prefix(manifest::BLOBS)
            .ok()
            .and_then(|path| {
                let digest: Digest = path.file_name()?.to_str()?.parse().ok()?;
                (file_of(&digest) == path).then_some(digest)
            })
            .ok_or_else(|| OfflineError::damaged(format!("{name:?} does not belong in it")))?;
        self.read_blob(digest, name, content, &manifest)
    }

    fn read_rows(&mut self, content: &mut dyn Read, manifest: &Summary) -> Result<Rows, OfflineError> {
        let mut content = BufReader::with_capacity(1 << 20, content);
        let mut hasher = Sha256::new();
        let mut read = Rows {
            keys: 0,
            bytes: 0,
            digest: Digest::of(b""),
        };
        let mut last_key: Option<Bytes> = None;
        let mut batch: Vec<KeyValue> = Vec::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            (&mut content)
                .take(rows::MAX_LINE_BYTES)
                .read_until(b'\n', &mut line)
                .map_err(|error| OfflineError::damaged(format!("its rows cannot be read: {error}")))?;
            if line.is_empty() {
                break;
            }
            read.keys += 1;
            read.bytes += line.len() as u64;
            hasher.update(&line);
            let text = line
                .strip_suffix(b"\n")
                .ok_or_else(|| OfflineError::damaged(format!("line {} of its rows breaks off", read.keys)))?;
            let row = rows::from_line(text).map_err(|error| {
                OfflineError::damaged(format!("line {} of its rows is no row: {error}", read.keys))
            })?;
            if last_key.as_ref().is_some_and(|last| *last >= row.key) {
                return Err(OfflineError::damaged(format!(
                    "line {} of its rows is out of order",
                    read.keys
                )));
            }
            last_key = Some(row.key.clone());
            batch.push(row);
            if batch.len() == ROWS_PER_TRANSACTION {
                self.write_rows(&batch, None)?;
                batch.clear();
            }
            (self.progress)(Progress {
                what: "keys",
                done: read.keys,
                total: manifest.keys,
            });
        }
        self.write_rows(&batch, Some(manifest.revision))?;
        read.digest = hasher.into();
        Ok(read)
    }

    fn write_rows(&self, batch: &[KeyValue], revision: Option<u64>) -> Result<(), StoreError> {
        let write = || -> Result<(), Failure> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_quick_repair(true);
            format::create(&transaction)?;
            {
                let mut keys = transaction.open_table(KEYS)?;
                for row in batch {
                    let line = format::to_row(&row.key, row.modified, &row.value);
                    keys.insert(&row.key[..], line)?;
                }
                let mut counter = transaction.open_table(REVISION)?;
                if let Some(revision) = revision {
                    counter.insert((), format::counter(revision))?;
                }
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|failure| engine_failure(&self.path, failure))
    }

    fn read_blob(
        &mut self,
        digest: Digest,
        name: &str,
        content: &mut dyn Read,
        manifest: &Summary,
    ) -> Result<(), OfflineError> {
        let content = read_bounded(name, content, MAX_BLOB_BYTES)?;
        let actual = Digest::of(&content);
        if actual != digest {
            return Err(OfflineError::damaged(format!(
                "blob {digest} has digest {actual}"
            )));
        }
        self.blobs_bytes += content.len() as u64;
        if !self.runtime.block_on(self.blobs.exists(&digest))? {
            self.new_blobs.push(digest);
        }
        self.runtime.block_on(self.blobs.put(content))?;
        self.digests.push(digest);
        (self.progress)(Progress {
            what: "blobs",
            done: self.digests.len() as u64,
            total: manifest.blobs,
        });
        Ok(())
    }

    /// Whether all of it was there.
    fn finish(&mut self) -> Result<Summary, OfflineError> {
        let missing = |name| OfflineError::damaged(format!("{name} is missing"));
        let manifest = self.manifest.take().ok_or_else(|| missing(MANIFEST))?;
        let rows = self.rows.take().ok_or_else(|| missing(ROWS))?;
        self.digests.sort_unstable();
        let found = Summary {
            revision: manifest.revision,
            keys: rows.keys,
            rows_bytes: rows.bytes,
            rows_sha256: rows.digest,
            blobs: self.digests.len() as u64,
            blobs_bytes: self.blobs_bytes,
            blobs_sha256: digest_of_blobs(self.digests.iter()),
            rows: manifest.rows.clone(),
        };
        if found != manifest {
            return Err(OfflineError::damaged(format!(
                "it has {} keys with digest {} and {} blobs, but should have {} keys with digest {} and {} blobs",
                found.keys,
                found.rows_sha256,
                found.blobs,
                manifest.keys,
                manifest.rows_sha256,
                manifest.blobs
            )));
        }
        Ok(manifest)
    }

    fn close(self) -> Undo {
        Undo {
            path: self.path,
            blobs: self.blobs,
            new_blobs: self.new_blobs,
            runtime: self.runtime,
        }
    }
}

fn read_bounded(name: &str, content: &mut dyn Read, limit: u64) -> Result<Vec<u8>, OfflineError> {
    let mut bytes = Vec::new();
    content
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| OfflineError::damaged(format!("{name} cannot be read: {error}")))?;
    if bytes.len() as u64 > limit {
        return Err(OfflineError::damaged(format!("{name} is larger than {limit} B")));
    }
    Ok(bytes)
}
