//! One frame of zstd, with a window that fits into memory.
//!
//! Source: RFC 8878 section 3.1.1.

use std::io::{self, BufRead, Read};

use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::Limits;
use super::ahead::Ahead;

pub(super) struct ZstdFrame<'a> {
    decoder: Decoder<'static>,
    input: Ahead<'a>,
    ended: bool,
}

/// The window of a frame is larger than what may be taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its zstd window is {window_bytes} B, as `zstd --long={}` makes it, and this machine has room for {limit_bytes} B: pack it with `--long={}` or without --long",
    .window_bytes.checked_next_power_of_two().map_or(u64::BITS, u64::ilog2),
    .limit_bytes.ilog2()
)]
pub(super) struct WindowTooLarge {
    pub(super) window_bytes: u64,
    pub(super) limit_bytes: u64,
}

impl<'a> ZstdFrame<'a> {
    /// `header` is a copy of the frame's first 18 bytes, which are in `input` still.
    pub(super) fn new(header: &[u8], input: Ahead<'a>, limits: Limits) -> io::Result<ZstdFrame<'a>> {
        let limit_bytes = 1_u64 << limits.zstd_window_log;
        if let Some(window_bytes) = window_bytes(header).filter(|window| *window > limit_bytes) {
            return Err(io::Error::other(WindowTooLarge {
                window_bytes,
                limit_bytes,
            }));
        }
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(limits.zstd_window_log))?;
        Ok(ZstdFrame {
            decoder,
            input,
            ended: false,
        })
    }

    pub(super) fn into_input(self) -> Ahead<'a> {
        self.input
    }
}

impl Read for ZstdFrame<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.ended {
            let bytes = self.input.fill_buf()?;
            let is_end = bytes.is_empty();
            let status = self.decoder.run_on_buffers(bytes, into)?;
            self.input.consume(status.bytes_read);
            self.ended = status.remaining == 0;
            if status.bytes_written > 0 {
                return Ok(status.bytes_written);
            }
            if is_end && !self.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(0)
    }
}

/// The window that a frame header asks for: all of the content where it is in a single segment.
fn window_bytes(header: &[u8]) -> Option<u64> {
    let (magic, rest) = header.split_first_chunk::<4>()?;
    if magic != &[0x28, 0xb5, 0x2f, 0xfd] {
        return None;
    }
    let (descriptor, rest) = rest.split_first()?;
    let is_single_segment = descriptor & 0x20 != 0;
    if !is_single_segment {
        let window = u64::from(*rest.first()?);
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * (window & 7));
    }
    let dictionary_bytes = [0, 1, 2, 4].get(usize::from(descriptor & 3))?;
    let size_bytes = [1, 2, 4, 8].get(usize::from(descriptor >> 6))?;
    let field = rest.get(*dictionary_bytes..)?.get(..*size_bytes)?;
    let size = field
        .iter()
        .rev()
        .fold(0, |size, byte| size << 8 | u64::from(*byte));
    Some(if *size_bytes == 2 { size + 256 } else { size })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn header(args: &[&str], content: &[u8]) -> Vec<u8> {
        let mut zstd = Command::new("zstd")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        zstd.stdin.take().unwrap().write_all(content).unwrap();
        zstd.wait_with_output().unwrap().stdout
    }

    #[test]
    fn the_window_is_that_of_the_flag_and_of_a_single_segment_the_content() {
        assert_eq!(window_bytes(&header(&["--long=27"], b"x")), Some(1 << 27));
        assert_eq!(window_bytes(&header(&["--long=30"], b"x")), Some(1 << 30));
        for len in [100_usize, 300, 70_000] {
            let packed = header(&[&format!("--stream-size={len}")], &vec![7; len]);
            assert_eq!(window_bytes(&packed), Some(len as u64));
        }
        assert_eq!(window_bytes(b"\x28\xb5\x2f\xfd"), None);
        assert_eq!(window_bytes(b""), None);
    }

    #[test]
    fn a_window_that_no_number_holds_twice_is_refused_in_words() {
        // A single segment whose content is said to have 2^64-1 bytes.
        let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &[0xff; 20]].concat();
        let input = Ahead::new(Box::new(&frame[..]));
        let refused = ZstdFrame::new(&frame[..18], input, Limits::of_memory(0));
        let words = refused.err().unwrap().to_string();
        assert!(
            words.contains("18446744073709551615 B") && words.contains("--long=64"),
            "{words}"
        );
    }
}
