//! One connection: it holds a place, and ends when its peer says or takes nothing for too long.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::{Bounds, Place};

/// The first bytes that every client sends: see [`Bounds::speaks_within`].
const FIRST_BYTES: usize = 24;

/// A connection in its place.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    heard_bytes: usize,
    /// Until it has spoken.
    silent: Option<Pin<Box<Sleep>>>,
    /// While it takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    reads_within: Duration,
    _place: Place<IpAddr>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr, place: Place<IpAddr>, bounds: &Bounds) -> Self {
        Self {
            stream,
            peer,
            heard_bytes: 0,
            silent: Some(Box::pin(tokio::time::sleep(bounds.speaks_within))),
            stalled: None,
            reads_within: bounds.reads_within,
            _place: place,
        }
    }

    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The socket, for its options.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What writing gave, or the end of a peer that has taken nothing for too long.
    fn written<T>(&mut self, task: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stalled = None;
            return done;
        }
        let within = self.reads_within;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(within)));
        ready!(stalled.as_mut().poll(task));
        let why = format!("its peer has taken nothing for {within:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(task, buffer);
        if let Some(silent) = &mut self.silent {
            if done.is_pending() {
                ready!(silent.as_mut().poll(task));
                let why = "its peer has connected and said nothing";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
            self.heard_bytes += buffer.filled().len() - before;
            if self.heard_bytes >= FIRST_BYTES {
                self.silent = None;
            }
        }
        done
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(task, bytes);
        self.written(task, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(task, slices);
        self.written(task, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
