//! Sends a part of a file, counts it, and tells the timeline when it ends, however it ends.

use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::{fs, io};

use bytes::Bytes;
use futures_util::Stream;
use macaddr::MacAddr6;
use tokio::task::JoinHandle;

use crate::context::{Context, Told};
use crate::timeline::Stage;

/// A part of a file as a response body. A file that turns out shorter breaks the connection: never a short download
/// that looks whole.
///
/// It reads when it is asked for more, and then one chunk: a peer that takes nothing costs one chunk and the socket's buffer.
pub(crate) struct FileBody {
    file: Arc<fs::File>,
    next: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    downloads: Download,
    tally: Tally,
}

/// What is told at the end.
pub(crate) struct Tally {
    pub(crate) context: Arc<Context>,
    pub(crate) mac: Option<MacAddr6>,
    pub(crate) what: String,
    /// "200", "206 bytes 5-9".
    pub(crate) status: String,
    pub(crate) total_bytes: u64,
    pub(crate) sent_bytes: u64,
}

/// How many downloads there are now: the more, the smaller their chunks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Downloads(Arc<AtomicUsize>);

/// One of them, until it is dropped.
struct Download(Arc<AtomicUsize>);

impl Downloads {
    fn begin(&self) -> Download {
        self.0.fetch_add(1, Ordering::Relaxed);
        Download(self.0.clone())
    }
}

impl Download {
    fn chunk_bytes(&self) -> usize {
        let share = ALL_CHUNKS_BYTES / self.0.load(Ordering::Relaxed).max(1);
        share.clamp(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FileBody {
    /// Reads `tally.total_bytes` from `start` on.
    pub(crate) fn new(file: fs::File, start: u64, downloads: &Downloads, tally: Tally) -> Self {
        Self {
            file: Arc::new(file),
            next: start,
            reading: None,
            downloads: downloads.begin(),
            tally,
        }
    }

    fn read(&self, left: u64) -> JoinHandle<io::Result<Bytes>> {
        let (file, at) = (self.file.clone(), self.next);
        let len = usize::try_from(left).unwrap_or(usize::MAX);
        let len = len.min(self.downloads.chunk_bytes());
        tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; len];
            file.read_exact_at(&mut chunk, at)
                .map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => {
                        io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter")
                    }
                    _ => error,
                })?;
            Ok(Bytes::from(chunk))
        })
    }
}

impl Stream for FileBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let left = self.tally.total_bytes - self.tally.sent_bytes;
        if left == 0 {
            return Poll::Ready(None);
        }
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => self.read(left),
        };
        let Poll::Ready(read) = Pin::new(&mut reading).poll(task) else {
            self.reading = Some(reading);
            return Poll::Pending;
        };
        let read = read.map_err(io::Error::other).flatten();
        if let Ok(chunk) = &read {
            self.next += chunk.len() as u64;
            self.tally.sent_bytes += chunk.len() as u64;
        }
        Poll::Ready(Some(read))
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let Self {
            status,
            sent_bytes,
            total_bytes,
            ..
        } = self;
        let told = if sent_bytes == total_bytes {
            Told::answered(status.clone())
        } else {
            Told::failed(format!(
                "{status}: stopped after {sent_bytes} of {total_bytes} bytes"
            ))
        };
        self.context.record(
            Stage::Http,
            self.mac,
            std::mem::take(&mut self.what),
            told.bytes(self.sent_bytes),
        );
    }
}

/// Measured: at 256 KiB a chunk costs half the CPU of 64 KiB.
const MAX_CHUNK_BYTES: usize = 256 * 1024;
/// Of each of very many downloads.
const MIN_CHUNK_BYTES: usize = 16 * 1024;
/// What the chunks of all downloads take together, as long as the least chunk is not more.
const ALL_CHUNKS_BYTES: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_downloads_the_smaller_their_chunks() {
        let downloads = Downloads::default();
        let first = downloads.begin();
        assert_eq!(first.chunk_bytes(), MAX_CHUNK_BYTES);
        let many: Vec<_> = (0..255).map(|_| downloads.begin()).collect();
        assert_eq!(first.chunk_bytes(), 64 * 1024);
        let more: Vec<_> = (0..10_000).map(|_| downloads.begin()).collect();
        assert_eq!(first.chunk_bytes(), MIN_CHUNK_BYTES);
        drop((many, more));
        assert_eq!(first.chunk_bytes(), MAX_CHUNK_BYTES);
    }
}
