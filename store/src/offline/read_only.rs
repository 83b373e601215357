//! A redb file that is opened, repaired and checked without a byte of it being changed.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{BackendError, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend};

use super::{FILE, OfflineError};
use crate::redb::format::{self, Found, KEYS, REVISION, first};
use crate::redb::{Failure, caught, corrupt, engine_failure, open_error};
use crate::{KeyValue, Revision, StoreError};

const BLOCK_BYTES: u64 = 4096;
/// Rows read at a time.
const PAGE: usize = 500;

/// The store of a data directory; locked, so that no server opens it meanwhile.
///
/// The engine may panic on a damaged file, wherever it is asked something: that becomes [`StoreError::Corrupt`].
pub(super) struct ReadOnly {
    path: PathBuf,
    /// `None` only while it is dropped.
    database: Option<Database>,
    format: Format,
}

#[derive(Clone, Copy)]
enum Format {
    /// Rows have no checksums of their own.
    First,
    Current,
}

impl ReadOnly {
    pub(super) fn open(data: &Path) -> Result<ReadOnly, OfflineError> {
        let path = data.join(FILE);
        let file = OpenOptions::new()
            .read(true)
            // Locks need it.
            .write(true)
            .open(&path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => OfflineError::NotFound { path: path.clone() },
                _ => OfflineError::io("open", &path, error),
            })?;
        let open = || {
            let database = Database::builder()
                .set_cache_size(64 * 1024 * 1024)
                .create_with_backend(Overlay::new(file)?)
                .map_err(|error| open_error(&path, error))?;
            let format = match format::found(&database).map_err(|failure| engine_failure(&path, failure))? {
                Found::Current => Format::Current,
                Found::First => Format::First,
                Found::Empty => return Err(corrupt(&path, "it has no table of keys".into())),
                Found::Newer(version) => {
                    return Err(StoreError::Newer {
                        path: path.clone(),
                        version,
                    });
                }
            };
            Ok((database, format))
        };
        let opened = caught(open).unwrap_or_else(|panic| Err(corrupt(&path, panic)));
        let (database, format) = opened?;
        Ok(ReadOnly {
            database: Some(database),
            path,
            format,
        })
    }

    /// The engine's own check of every page: what is wrong, or `None`.
    pub(super) fn integrity(&mut self) -> Option<String> {
        let database = self.database.as_mut()?;
        match caught(|| database.check_integrity()) {
            Ok(Ok(true)) => None,
            Ok(Ok(false)) => Some("its allocator or a commit slot does not agree with its pages".into()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(panic),
        }
    }

    pub(super) fn revision(&self) -> Result<Revision, StoreError> {
        self.read(|database| {
            let read = database.begin_read()?;
            match self.format {
                Format::Current => format::revision(&read.open_table(REVISION)?),
                Format::First => {
                    let table = read.open_table(first::REVISION)?;
                    Ok(table.get(())?.map_or(0, |row| row.value()))
                }
            }
        })
    }

    pub(super) fn count(&self) -> Result<u64, StoreError> {
        self.read(|database| {
            let read = database.begin_read()?;
            Ok(match self.format {
                Format::Current => read.open_table(KEYS)?.len()?,
                Format::First => read.open_table(first::KEYS)?.len()?,
            })
        })
    }

    /// Calls `each` for every row, in the order of keys: with [`StoreError::Damaged`] in place of one whose checksum
    /// does not match.
    pub(super) fn walk(
        &self,
        mut each: impl FnMut(Result<&KeyValue, StoreError>) -> Result<(), OfflineError>,
    ) -> Result<(), OfflineError> {
        let mut after: Option<Bytes> = None;
        loop {
            let page = self.page(after.as_deref())?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(key_of(last).clone());
            for row in &page {
                each(row.as_ref().map_err(|key| self.damaged(key)))?;
            }
        }
    }

    /// The next rows after this key; of a damaged one only its key.
    pub(super) fn page(&self, after: Option<&[u8]>) -> Result<Vec<Result<KeyValue, Bytes>>, StoreError> {
        let page = self.read(|database| {
            let read = database.begin_read()?;
            match self.format {
                Format::Current => rows_after(&read.open_table(KEYS)?, after, format::row),
                Format::First => {
                    rows_after(&read.open_table(first::KEYS)?, after, |key, (modified, value)| {
                        Ok(format::unverified(key, modified, value))
                    })
                }
            }
        })?;
        // Where pages are damaged, rows may come twice, or without end.
        let keys = page.iter().map(|row| &key_of(row)[..]);
        if after.into_iter().chain(keys).is_sorted_by(|one, next| one < next) {
            Ok(page)
        } else {
            Err(corrupt(&self.path, "its keys are out of order".into()))
        }
    }

    pub(super) fn damaged(&self, key: &Bytes) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            key: key.clone(),
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Database) -> Result<T, Failure>) -> Result<T, StoreError> {
        let database = self.database.as_ref().expect("it is there until it is dropped");
        match caught(|| read(database)) {
            Ok(answer) => answer.map_err(|failure| engine_failure(&self.path, failure)),
            Err(panic) => Err(corrupt(&self.path, panic)),
        }
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let database = self.database.take();
        // Closing writes to memory only, and so does not matter; but it may panic as all else.
        let _ = caught(|| drop(database));
    }
}

fn key_of(row: &Result<KeyValue, Bytes>) -> &Bytes {
    match row {
        Ok(row) => &row.key,
        Err(key) => key,
    }
}

/// The next rows of a table after this key.
fn rows_after<V: redb::Value + 'static>(
    table: &impl ReadableTable<&'static [u8], V>,
    after: Option<&[u8]>,
    row_of: impl Fn(&[u8], V::SelfType<'_>) -> Result<KeyValue, Failure>,
) -> Result<Vec<Result<KeyValue, Bytes>>, Failure> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut rows = Vec::new();
    for row in table.range::<&[u8]>((from, Bound::Unbounded))?.take(PAGE) {
        let (key, value) = row?;
        rows.push(match row_of(key.value(), value.value()) {
            Ok(row) => Ok(row),
            Err(Failure::Damaged { key }) => Err(key),
            Err(failure) => return Err(failure),
        });
    }
    Ok(rows)
}

/// Reads from a file; keeps what is written in memory.
#[derive(Debug)]
struct Overlay {
    file: FileBackend,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    blocks: HashMap<u64, Vec<u8>>,
    len: u64,
    /// What the file has below this is still valid.
    from_file: u64,
}

impl Overlay {
    fn new(file: File) -> Result<Overlay, StoreError> {
        let file = FileBackend::new(file).map_err(|error| open_error(Path::new(FILE), error))?;
        let written = Written {
            blocks: HashMap::new(),
            len: 0,
            from_file: 0,
        };
        let overlay = Overlay {
            file,
            written: Mutex::new(written),
        };
        let len = overlay
            .file
            .len()
            .map_err(|error| engine_failure(Path::new(FILE), redb::Error::from(error).into()))?;
        {
            let mut written = overlay.lock();
            (written.len, written.from_file) = (len, len);
        }
        Ok(overlay)
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A whole block as it is now.
    fn block(&self, written: &Written, number: u64) -> io::Result<Vec<u8>> {
        if let Some(block) = written.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; BLOCK_BYTES as usize];
        let start = number * BLOCK_BYTES;
        let have = written.from_file.saturating_sub(start).min(BLOCK_BYTES);
        let have = usize::try_from(have).unwrap_or(0);
        if let Some(part) = block.get_mut(..have).filter(|part| !part.is_empty()) {
            self.file.read(start, part)?;
        }
        Ok(block)
    }

    /// Calls `each` with every block's number, where in it the range begins, and where in the range it begins.
    fn blocks_of(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
        let block_bytes = BLOCK_BYTES as usize;
        let mut at = 0;
        std::iter::from_fn(move || {
            if at >= len {
                return None;
            }
            let place = offset + at as u64;
            let within = (place % BLOCK_BYTES) as usize;
            let end = len.min(at + block_bytes - within);
            let range = at..end;
            at = end;
            Some((place / BLOCK_BYTES, within, range))
        })
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.lock();
        if offset.saturating_add(out.len() as u64) > written.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, range) in Overlay::blocks_of(offset, out.len()) {
            let block = self.block(&written, number)?;
            let len = range.len();
            out[range].copy_from_slice(&block[within..within + len]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.lock();
        if len < written.len {
            written.from_file = written.from_file.min(len);
            let last = self.block(&written, len / BLOCK_BYTES)?;
            written.blocks.retain(|number, _| *number < len / BLOCK_BYTES);
            let mut last = last;
            last[(len % BLOCK_BYTES) as usize..].fill(0);
            written.blocks.insert(len / BLOCK_BYTES, last);
        }
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.lock();
        for (number, within, range) in Overlay::blocks_of(offset, data.len()) {
            let mut block = self.block(&written, number)?;
            let len = range.len();
            block[within..within + len].copy_from_slice(&data[range]);
            written.blocks.insert(number, block);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
