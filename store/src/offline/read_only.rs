//! A redb file that is opened, repaired and checked without a byte of it being changed.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, Database, ReadableDatabase, ReadableTableMetadata, StorageBackend};

use super::{FILE, OfflineError};
use crate::redb::{KEYS, REVISION, corrupt_or_backend, key_value, open_error};
use crate::{KeyValue, Revision, StoreError};

const BLOCK_BYTES: u64 = 4096;
/// Rows read at a time.
const PAGE: usize = 500;

/// The store of a data directory; locked, so that no server opens it meanwhile.
pub(super) struct ReadOnly {
    path: PathBuf,
    database: Database,
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
        let opened = Overlay::new(file).and_then(|backend| {
            let database = Database::builder()
                .set_cache_size(64 * 1024 * 1024)
                .create_with_backend(backend)
                .map_err(|error| open_error(&path, error))?;
            let tables = || -> Result<(), redb::Error> {
                let read = database.begin_read()?;
                read.open_table(KEYS)?;
                read.open_table(REVISION)?;
                Ok(())
            };
            tables().map_err(|error| match error {
                redb::Error::TableDoesNotExist(name) => StoreError::Corrupt {
                    path: path.clone(),
                    message: format!("it has no table {name}"),
                },
                error => corrupt_or_backend(&path, error),
            })?;
            Ok(database)
        });
        Ok(ReadOnly {
            database: opened?,
            path,
        })
    }

    /// redb's own check of every page: what is wrong, or `None`.
    pub(super) fn integrity(&mut self) -> Option<String> {
        match self.database.check_integrity() {
            Ok(true) => None,
            Ok(false) => Some("its allocator or a commit slot does not agree with its pages".into()),
            Err(error) => Some(error.to_string()),
        }
    }

    pub(super) fn revision(&self) -> Result<Revision, StoreError> {
        self.read(|database| {
            let table = database.begin_read()?.open_table(REVISION)?;
            Ok(table.get(())?.map_or(0, |row| row.value()))
        })
    }

    pub(super) fn count(&self) -> Result<u64, StoreError> {
        self.read(|database| Ok(database.begin_read()?.open_table(KEYS)?.len()?))
    }

    /// Calls `each` for every row, in the order of keys.
    pub(super) fn walk(
        &self,
        mut each: impl FnMut(&KeyValue) -> Result<(), OfflineError>,
    ) -> Result<(), OfflineError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.page(after.as_deref())?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.to_vec());
            for row in &page {
                each(row)?;
            }
        }
    }

    /// The next rows after this key.
    pub(super) fn page(&self, after: Option<&[u8]>) -> Result<Vec<KeyValue>, StoreError> {
        self.read(|database| {
            let table = database.begin_read()?.open_table(KEYS)?;
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let mut rows = Vec::new();
            for row in table.range::<&[u8]>((from, Bound::Unbounded))?.take(PAGE) {
                let (key, value) = row?;
                rows.push(key_value(key.value(), value.value()));
            }
            Ok(rows)
        })
    }

    fn read<T>(&self, read: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        read(&self.database).map_err(|error| corrupt_or_backend(&self.path, error))
    }
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
            .map_err(|error| corrupt_or_backend(Path::new(FILE), error.into()))?;
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
