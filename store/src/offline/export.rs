//! Writing everything that a store holds, to a directory or as a tar archive.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use sha2::{Digest as _, Sha256};

use super::check::{Names, examine, in_short, missing_blobs};
use super::manifest::{BLOBS, MANIFEST, ROWS, Summary, digest_of_blobs};
use super::read_only::ReadOnly;
use super::{FILE, OfflineError, Progress, blobs_as_they_are, runtime};
use crate::blobs::{Digest, file_of};
use crate::formats::{self, RowFormats};
use crate::rows;

/// Where an export goes.
pub enum Target<'a> {
    /// A directory that is empty or not there.
    Directory(&'a Path),
    /// A tar archive.
    Tar(&'a mut dyn Write),
}

/// Writes all keys, values and blobs of the store in `data`, which is only read.
///
/// What [`check`](super::check()) finds something wrong with is refused, before anything is written; blobs are verified
/// as they are read. A directory gets its manifest last, so an export that was broken off is none.
///
/// # Errors
/// [`OfflineError::Unsound`] when the store's file is damaged, or something that a row names is missing;
/// [`BlobError::Damaged`](crate::blobs::BlobError::Damaged).
pub fn export(
    data: &Path,
    names: Names<'_>,
    target: Target<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, OfflineError> {
    let mut store = ReadOnly::open(data)?;
    let mut counted = Counted::default();
    let mut stamp = None;
    let mut examined = examine(&mut store, names, &mut |_| {}, &mut |row| {
        counted.add(&rows::to_line(row));
        if row.key == formats::KEY {
            stamp = Some(row.clone());
        }
    });
    let blobs = blobs_as_they_are(data)?;
    let runtime = runtime()?;
    let mut infos = match &blobs {
        Some(blobs) => runtime.block_on(blobs.list().try_collect::<Vec<_>>())?,
        None => Vec::new(),
    };
    infos.sort_by_key(|info| info.digest);
    for info in &infos {
        examined.named.remove(&info.digest);
    }
    examined.problems.extend(missing_blobs(&examined.named));
    if !examined.problems.is_empty() {
        return Err(OfflineError::Unsound {
            path: data.join(FILE),
            message: in_short(&mut examined.problems),
        });
    }
    let summary = Summary {
        revision: examined.revision,
        keys: counted.rows,
        rows_bytes: counted.bytes,
        rows_sha256: counted.hasher.into(),
        blobs: infos.len() as u64,
        blobs_bytes: infos.iter().map(|info| info.len_bytes).sum(),
        blobs_sha256: digest_of_blobs(infos.iter().map(|info| &info.digest)),
        rows: Some(RowFormats::read(stamp.as_ref())?.into()),
    };
    let mut output = Output::new(target)?;
    output.manifest_first(&summary)?;
    let mut done = 0;
    output.rows(&store, &summary, &mut || {
        done += 1;
        progress(Progress {
            what: "keys",
            done,
            total: summary.keys,
        });
    })?;
    if let Some(blobs) = &blobs {
        for (done, info) in infos.iter().enumerate() {
            let content = runtime.block_on(blobs.get(&info.digest))?;
            output.blob(&info.digest, &content)?;
            progress(Progress {
                what: "blobs",
                done: done as u64 + 1,
                total: summary.blobs,
            });
        }
    }
    output.finish(&summary)?;
    Ok(summary)
}

#[derive(Default)]
struct Counted {
    rows: u64,
    bytes: u64,
    hasher: Sha256,
}

impl Counted {
    fn add(&mut self, line: &[u8]) {
        self.rows += 1;
        self.bytes += line.len() as u64;
        self.hasher.update(line);
    }
}

enum Output<'a> {
    Directory(PathBuf),
    Tar(tar::Builder<&'a mut dyn Write>),
}

impl<'a> Output<'a> {
    fn new(target: Target<'a>) -> Result<Output<'a>, OfflineError> {
        match target {
            Target::Tar(write) => Ok(Output::Tar(tar::Builder::new(write))),
            Target::Directory(directory) => {
                fs::create_dir_all(directory)
                    .map_err(|error| OfflineError::io("make directory", directory, error))?;
                let mut entries = fs::read_dir(directory)
                    .map_err(|error| OfflineError::io("read directory", directory, error))?;
                if entries.next().is_some() {
                    return Err(OfflineError::NotEmpty {
                        path: directory.into(),
                    });
                }
                Ok(Output::Directory(directory.into()))
            }
        }
    }

    fn manifest_first(&mut self, summary: &Summary) -> Result<(), OfflineError> {
        match self {
            Output::Directory(_) => Ok(()),
            Output::Tar(tar) => {
                let text = summary.to_manifest();
                append(tar, MANIFEST, text.len() as u64, &mut &text[..])
            }
        }
    }

    fn rows(
        &mut self,
        store: &ReadOnly,
        summary: &Summary,
        done: &mut dyn FnMut(),
    ) -> Result<(), OfflineError> {
        match self {
            Output::Directory(directory) => {
                let path = directory.join(ROWS);
                let failed = |error| OfflineError::io("write", &path, error);
                let mut file = io::BufWriter::new(File::create(&path).map_err(failed)?);
                store.walk(|row| {
                    done();
                    file.write_all(&rows::to_line(row?)).map_err(failed)
                })?;
                let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
                file.sync_all().map_err(failed)
            }
            Output::Tar(tar) => {
                let mut lines = Lines {
                    store,
                    after: None,
                    buffer: Vec::new(),
                    at: 0,
                    done,
                };
                append(tar, ROWS, summary.rows_bytes, &mut lines)
            }
        }
    }

    fn blob(&mut self, digest: &Digest, content: &[u8]) -> Result<(), OfflineError> {
        let name = Path::new(BLOBS).join(file_of(digest));
        match self {
            Output::Directory(directory) => write_file(&directory.join(name), content),
            Output::Tar(tar) => {
                let name = name.to_string_lossy().into_owned();
                append(tar, &name, content.len() as u64, &mut &content[..])
            }
        }
    }

    fn finish(self, summary: &Summary) -> Result<(), OfflineError> {
        match self {
            Output::Directory(directory) => {
                write_file(&directory.join(MANIFEST), &summary.to_manifest())?;
                File::open(&directory)
                    .and_then(|opened| opened.sync_all())
                    .map_err(|error| OfflineError::io("write", &directory, error))
            }
            Output::Tar(mut tar) => tar.finish().map_err(|error| not_written(MANIFEST, error)),
        }
    }
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), OfflineError> {
    let write = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = File::create(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|error| OfflineError::io("write", path, error))
}

fn append(
    tar: &mut tar::Builder<&mut dyn Write>,
    name: &str,
    len: u64,
    content: &mut dyn Read,
) -> Result<(), OfflineError> {
    let mut header = tar::Header::new_gnu();
    header.set_size(len);
    header.set_mode(0o600);
    // No times and no owners: the same store gives the same archive.
    header.set_mtime(0);
    tar.append_data(&mut header, name, content)
        .map_err(|error| not_written(name, error))
}

fn not_written(name: &str, error: io::Error) -> OfflineError {
    OfflineError::io("write to the archive:", Path::new(name), error)
}

/// All rows as one text.
struct Lines<'a> {
    store: &'a ReadOnly,
    after: Option<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
    done: &'a mut dyn FnMut(),
}

impl Read for Lines<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            let page = self.store.page(self.after.as_deref()).map_err(io::Error::other)?;
            self.buffer.clear();
            self.at = 0;
            for row in page {
                let row = row.map_err(|key| io::Error::other(self.store.damaged(&key)))?;
                (self.done)();
                self.buffer.extend_from_slice(&rows::to_line(&row));
                self.after = Some(row.key.to_vec());
            }
        }
        let len = (&self.buffer[self.at..]).read(out)?;
        self.at += len;
        Ok(len)
    }
}
