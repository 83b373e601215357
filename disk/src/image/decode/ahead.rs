//! A reader that can be looked into.

use std::io::{self, BufRead, Read};

/// What is packed, where a decoder can be put on it and taken off again.
pub(super) struct Ahead<'a> {
    input: Box<dyn BufRead + Send + 'a>,
    /// Taken from the input and not yet read: bytes that were looked at over the end of one of its chunks.
    held: Vec<u8>,
    /// How much was read, looking apart.
    position: u64,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(input: Box<dyn BufRead + Send + 'a>) -> Ahead<'a> {
        Ahead {
            input,
            held: Vec::new(),
            position: 0,
        }
    }

    /// Where in the input the next byte is.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes, which stay: at least so many, but at the end of the input.
    pub(super) fn peek(&mut self, len: usize) -> io::Result<&[u8]> {
        while self.held.len() < len {
            let more = self.input.fill_buf()?;
            if more.is_empty() {
                break;
            }
            let taken = more.len().min(len - self.held.len());
            self.held.extend_from_slice(more.get(..taken).unwrap_or_default());
            self.input.consume(taken);
        }
        Ok(&self.held)
    }

    /// Drops so many bytes, fewer at the end of the input; how many.
    pub(super) fn skip(&mut self, len: u64) -> io::Result<u64> {
        let mut skipped = 0;
        while skipped < len {
            let here = self.fill_buf()?.len();
            if here == 0 {
                break;
            }
            let now = usize::try_from(len - skipped).unwrap_or(usize::MAX).min(here);
            self.consume(now);
            skipped += now as u64;
        }
        Ok(skipped)
    }
}

impl BufRead for Ahead<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.held.is_empty() {
            return self.input.fill_buf();
        }
        Ok(&self.held)
    }

    fn consume(&mut self, amount: usize) {
        if self.held.is_empty() {
            self.input.consume(amount);
            self.position += amount as u64;
        } else {
            let amount = amount.min(self.held.len());
            self.held.drain(..amount);
            self.position += amount as u64;
        }
    }
}

impl Read for Ahead<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let len = from.len().min(into.len());
        into[..len].copy_from_slice(&from[..len]);
        self.consume(len);
        Ok(len)
    }
}
