//! Counts what a response sends and tells the timeline when it ends, however it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::{fs, io};

use bytes::Bytes;
use futures_util::Stream;
use macaddr::MacAddr6;
use tokio::io::{AsyncReadExt, AsyncSeekExt, Take};
use tokio_util::io::ReaderStream;

use crate::context::{Context, Told};
use crate::timeline::Stage;

/// A part of a file as a response body. A file that turns out shorter breaks the connection: never a short download
/// that looks whole.
pub(crate) struct FileBody {
    stream: ReaderStream<Take<tokio::fs::File>>,
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

impl FileBody {
    /// Reads `tally.total_bytes` from `start` on.
    pub(crate) async fn new(file: fs::File, start: u64, tally: Tally) -> io::Result<Self> {
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(CHUNK_BYTES);
        file.seek(io::SeekFrom::Start(start)).await?;
        let stream = ReaderStream::with_capacity(file.take(tally.total_bytes), CHUNK_BYTES);
        Ok(Self { stream, tally })
    }
}

impl Stream for FileBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let chunk = std::task::ready!(Pin::new(&mut self.stream).poll_next(task));
        Poll::Ready(match chunk {
            Some(Ok(chunk)) => {
                self.tally.sent_bytes += chunk.len() as u64;
                Some(Ok(chunk))
            }
            None if self.tally.sent_bytes < self.tally.total_bytes => Some(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter",
            ))),
            other => other,
        })
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
const CHUNK_BYTES: usize = 256 * 1024;
