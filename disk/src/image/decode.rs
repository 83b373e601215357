//! The decoder stage: bytes as downloaded in, aligned blocks of the image out.

use std::io::{self, BufRead, Cursor, Read};
use std::sync::mpsc;

use liblzma::bufread::XzDecoder;
use liblzma::stream::{MtStreamBuilder, Stream};

use super::Compression;
use super::feed::FeedReader;
use super::writer::{Block, BlockPool, Piece};

/// Largest zstd window that is accepted: 2^27 = 128 MiB, what `zstd --long` makes.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// What an xz decoder may take; `xz -9` needs 65 MiB.
const XZ_MEMORY_BYTES: u64 = 256 << 20;
/// Above this, xz decodes with fewer threads.
const XZ_THREADING_BYTES: u64 = 128 << 20;
/// Enough for every magic number, a zstd frame header (18 bytes) and an lz4 one (19).
const PREFIX_BYTES: usize = 64;

/// Why the decoder stopped.
#[derive(Debug)]
pub(super) enum DecodeError {
    /// A stage before or after gave up; its own error counts.
    GivenUp,
    /// In words.
    Image(String),
}

/// Decodes until the feed ends.
///
/// `download_bytes` is the length of the whole download if known: that is the size of a raw image.
pub(super) fn run(
    feed: &mut FeedReader,
    said: Compression,
    download_bytes: Option<u64>,
    pool: &BlockPool,
    to: &mpsc::SyncSender<Piece>,
) -> Result<(), DecodeError> {
    let prefix = feed.take_prefix(PREFIX_BYTES).map_err(|_| DecodeError::GivenUp)?;
    let packing = packing(said, &prefix)?;
    let size = image_bytes(packing, &prefix, download_bytes);
    to.send(Piece::Size(size)).map_err(|_| DecodeError::GivenUp)?;
    let input = Cursor::new(prefix).chain(feed);
    let mut decoder = decoder(packing, input).map_err(|err| DecodeError::Image(err.to_string()))?;
    loop {
        let mut block = pool.take().ok_or(DecodeError::GivenUp)?;
        let filled = fill(decoder.as_mut(), &mut block).map_err(|err| explain(packing, &err))?;
        block.truncate(filled);
        let last = filled < Block::BYTES;
        if filled > 0 {
            to.send(Piece::Block(block)).map_err(|_| DecodeError::GivenUp)?;
        }
        if last {
            return to.send(Piece::End).map_err(|_| DecodeError::GivenUp);
        }
    }
}

fn fill(decoder: &mut (dyn Read + '_), block: &mut Block) -> io::Result<usize> {
    let into = block.as_mut_slice();
    let mut filled = 0;
    while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match decoder.read(rest) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(filled)
}

fn explain(packing: Compression, err: &io::Error) -> DecodeError {
    match err.kind() {
        io::ErrorKind::BrokenPipe => DecodeError::GivenUp,
        io::ErrorKind::UnexpectedEof => DecodeError::Image(format!("{} data ends too early", name(packing))),
        _ => DecodeError::Image(format!("{} data is corrupt: {err}", name(packing))),
    }
}

/// What the image is packed with, by its first bytes; what was said must agree with them.
///
/// Source: RFC 8878 section 3.1.1 (zstd), RFC 1952 section 2.3.1 (gzip), the xz file format section 2.1.1.1,
/// bzip2's `BZh1`-`BZh9`, the LZ4 frame format.
fn packing(said: Compression, prefix: &[u8]) -> Result<Compression, DecodeError> {
    let found = detect(prefix);
    match (said, found) {
        (Compression::None, _) => Ok(Compression::None),
        (Compression::Detect, found) => Ok(found),
        (said, found) if said == found => Ok(said),
        (said, found) => Err(DecodeError::Image(format!(
            "it is said to be {}, but its first bytes are those of {}",
            name(said),
            name(found)
        ))),
    }
}

fn detect(prefix: &[u8]) -> Compression {
    match prefix {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // Skippable frames come before the data of pzstd and of seekable zstd.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [0x1f, 0x8b, 0x08, ..] => Compression::Gzip,
        [0xfd, b'7', b'z', b'X', b'Z', 0x00, ..] => Compression::Xz,
        [
            b'B',
            b'Z',
            b'h',
            b'1'..=b'9',
            0x31,
            0x41,
            0x59,
            0x26,
            0x53,
            0x59,
            ..,
        ] => Compression::Bzip2,
        // The digits after "BZh" and the end-of-stream magic: an empty image.
        [
            b'B',
            b'Z',
            b'h',
            b'1'..=b'9',
            0x17,
            0x72,
            0x45,
            0x38,
            0x50,
            0x90,
            ..,
        ] => Compression::Bzip2,
        [0x04, 0x22, 0x4d, 0x18, ..] => Compression::Lz4,
        _ => Compression::None,
    }
}

/// The size of the unpacked image as far as the first bytes tell it.
fn image_bytes(packing: Compression, prefix: &[u8], download_bytes: Option<u64>) -> Option<u64> {
    match packing {
        Compression::None => download_bytes,
        Compression::Zstd => zstd::zstd_safe::get_frame_content_size(prefix).ok().flatten(),
        // The content size follows the two flag bytes when bit 3 of the first is set.
        Compression::Lz4 => match (prefix.get(4), prefix.get(6..14)) {
            (Some(flags), Some(size)) if flags & 0x08 != 0 => Some(u64::from_le_bytes(size.try_into().ok()?)),
            _ => None,
        },
        _ => None,
    }
}

fn decoder<'a>(packing: Compression, input: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match packing {
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Compression::Detect | Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Lz4 => Box::new(Lz4Frames::new(input)),
        Compression::Xz => Box::new(XzStreams::new(input)?),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

fn name(packing: Compression) -> &'static str {
    match packing {
        Compression::Bzip2 => "bzip2",
        Compression::Detect | Compression::None => "a raw image",
        Compression::Gzip => "gzip",
        Compression::Lz4 => "lz4",
        Compression::Xz => "xz",
        Compression::Zstd => "zstd",
    }
}

/// All lz4 frames of a stream.
///
/// lz4_flex's decoder takes an end of input between two blocks of a frame for the end of the frame, so the end of
/// the input is made an error that it passes on, and looked for between frames only.
struct Lz4Frames<R: BufRead>(lz4_flex::frame::FrameDecoder<EndIsError<R>>);

impl<R: BufRead> Lz4Frames<R> {
    fn new(input: R) -> Self {
        Lz4Frames(lz4_flex::frame::FrameDecoder::new(EndIsError(input)))
    }
}

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            // 0: the frame has ended, with its end mark.
            match self.0.read(into)? {
                0 if self.0.get_mut().0.fill_buf()?.is_empty() => return Ok(0),
                0 => {}
                len => return Ok(len),
            }
        }
    }
}

struct EndIsError<R>(R);

impl<R: BufRead> Read for EndIsError<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 if !into.is_empty() => Err(io::Error::other("data ends in the middle of a frame")),
            len => Ok(len),
        }
    }
}

/// All xz streams of a file, each decoded by several threads if it has several blocks.
///
/// liblzma's threaded decoder cannot be built for concatenated streams with the crate's builder.
struct XzStreams<R: BufRead> {
    /// `None` only inside `next_stream`, or after an error there.
    current: Option<XzDecoder<R>>,
}

impl<R: BufRead> XzStreams<R> {
    fn new(input: R) -> io::Result<Self> {
        Ok(XzStreams {
            current: Some(XzDecoder::new_stream(input, Self::stream()?)),
        })
    }

    fn stream() -> io::Result<Stream> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8)) as u32;
        let mut builder = MtStreamBuilder::new();
        builder
            .threads(threads)
            .memlimit_threading(XZ_THREADING_BYTES)
            .memlimit_stop(XZ_MEMORY_BYTES);
        Ok(builder.decoder()?)
    }

    /// False at the end of the input. Streams may have zeros between them: xz file format section 2.2.
    fn next_stream(&mut self) -> io::Result<bool> {
        let Some(mut input) = self.current.take().map(XzDecoder::into_inner) else {
            return Ok(false);
        };
        loop {
            let bytes = input.fill_buf()?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            match (bytes.len(), zeros) {
                (0, _) => return Ok(false),
                (_, 0) => break,
                _ => input.consume(zeros),
            }
        }
        self.current = Some(XzDecoder::new_stream(input, Self::stream()?));
        Ok(true)
    }
}

impl<R: BufRead> Read for XzStreams<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while let Some(decoder) = self.current.as_mut() {
            match decoder.read(into)? {
                0 if !self.next_stream()? => return Ok(0),
                0 => {}
                len => return Ok(len),
            }
        }
        Ok(0)
    }
}
