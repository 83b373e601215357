//! What flows between the stages of a write, and a reader over it.

use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};

/// Bytes as downloaded. A channel that closes before `End` means: the stage before gave up.
#[derive(Debug)]
pub(super) enum Feed {
    Data(Bytes),
    End,
}

/// The message of the error that a stage sees when the one before it gave up.
const GIVEN_UP: &str = "the transfer was given up";

/// Reads what comes down a channel, as one stream of bytes.
///
/// The channel is a function that waits for the next of it; `None` when it was closed.
pub(super) struct FeedReader<F> {
    channel: F,
    current: Bytes,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Broken,
    Ended,
    Open,
}

impl<F: FnMut() -> Option<Feed>> FeedReader<F> {
    pub(super) fn new(channel: F) -> Self {
        FeedReader {
            channel,
            current: Bytes::new(),
            state: State::Open,
        }
    }

    /// Takes up to `len` bytes off the front; fewer only at the end of the stream.
    pub(super) fn take_prefix(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut prefix = Vec::with_capacity(len);
        self.by_ref().take(len as u64).read_to_end(&mut prefix)?;
        Ok(prefix)
    }
}

impl<F: FnMut() -> Option<Feed>> BufRead for FeedReader<F> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && self.state == State::Open {
            match (self.channel)() {
                Some(Feed::Data(bytes)) => self.current = bytes,
                Some(Feed::End) => self.state = State::Ended,
                None => self.state = State::Broken,
            }
        }
        if self.current.is_empty() && self.state == State::Broken {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, GIVEN_UP));
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount.min(self.current.len()));
    }
}

impl<F: FnMut() -> Option<Feed>> Read for FeedReader<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let len = from.len().min(into.len());
        into[..len].copy_from_slice(&from[..len]);
        self.consume(len);
        Ok(len)
    }
}
