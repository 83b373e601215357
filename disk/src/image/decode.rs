//! The decoder stage: bytes as downloaded in, aligned blocks of the image out.

mod ahead;
mod members;
mod zstd_frame;

use std::io::{self, Cursor, Read};
use std::sync::mpsc;

pub(super) use members::{Members, Part};

use super::Compression;
use super::feed::{Feed, FeedReader};
use super::marks::{Mark, Marks};
use super::writer::{Block, BlockPool, Piece};

/// Enough for every magic number, a zstd frame header (18 bytes) and an lz4 one (19).
pub(super) const PREFIX_BYTES: usize = 64;

/// Why the decoder stopped.
#[derive(Debug)]
pub(super) enum DecodeError {
    /// A stage before or after gave up; its own error counts.
    GivenUp,
    /// In words.
    Image(String),
}

/// How much memory a decoder may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) zstd_window_log: u32,
    pub(super) xz_bytes: u64,
}

impl Limits {
    /// What every machine is taken to have room for: the window of `zstd --long`, and more than `xz -9` needs (65 MiB).
    const LEAST: Limits = Limits {
        zstd_window_log: 27,
        xz_bytes: 256 << 20,
    };
    /// ZSTD_WINDOWLOG_MAX_64.
    const ZSTD_WINDOW_LOG_MOST: u32 = 31;

    /// Half of the memory that is available now, if that is more than the least.
    pub(super) fn of_this_machine() -> Limits {
        let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Limits::of_memory(available_bytes(&info).unwrap_or(0))
    }

    pub(super) fn of_memory(available_bytes: u64) -> Limits {
        let half = available_bytes / 2;
        let log = half.checked_ilog2().unwrap_or(0);
        Limits {
            zstd_window_log: log.clamp(Self::LEAST.zstd_window_log, Self::ZSTD_WINDOW_LOG_MOST),
            xz_bytes: half.max(Self::LEAST.xz_bytes),
        }
    }
}

/// Source: proc_meminfo(5).
fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// How a packed file is, and what was not looked for in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) warnings: Vec<String>,
}

/// Where a decoder begins that goes on in the middle of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GoOn {
    pub(super) packing: Compression,
    /// What of the image was there already.
    pub(super) image_at: u64,
    /// Where in the file the next member begins, and the feed.
    pub(super) member_at: u64,
    pub(super) size: Option<u64>,
}

/// Decodes until the feed ends.
///
/// `file_bytes` is the length of the whole file if known: that is the size of a raw image. With `marks`, the places are told
/// where a later decoder can go on.
pub(super) fn run(
    feed: &mut FeedReader<impl FnMut() -> Option<Feed> + Send>,
    said: Compression,
    file_bytes: Option<u64>,
    limits: Limits,
    pool: &BlockPool,
    to: &mpsc::SyncSender<Piece>,
    marks: Option<&Marks>,
) -> Result<Decoded, DecodeError> {
    let prefix = feed.take_prefix(PREFIX_BYTES).map_err(|_| DecodeError::GivenUp)?;
    let packing = packing(said, &prefix)?;
    let size = image_bytes(packing, &prefix, file_bytes);
    to.send(Piece::Size(size)).map_err(|_| DecodeError::GivenUp)?;
    let input = Cursor::new(prefix).chain(feed);
    let mut decoding = Decoding {
        packing,
        limits,
        members: Members::new(packing, Box::new(input), limits)
            .map_err(|err| explain(packing, limits, &err))?,
        image_at: 0,
        input_at: 0,
        marked: None,
    };
    decoding.run(pool, to, marks)
}

/// Decodes from a place on that an earlier decoder told of.
pub(super) fn go_on(
    feed: &mut FeedReader<impl FnMut() -> Option<Feed> + Send>,
    from: GoOn,
    limits: Limits,
    pool: &BlockPool,
    to: &mpsc::SyncSender<Piece>,
    marks: &Marks,
) -> Result<Decoded, DecodeError> {
    to.send(Piece::Size(from.size))
        .map_err(|_| DecodeError::GivenUp)?;
    let packing = from.packing;
    let words = |err: io::Error| explain(packing, limits, &err);
    let mut decoding = Decoding {
        packing,
        limits,
        members: Members::new(packing, Box::new(feed), limits).map_err(words)?,
        image_at: from.image_at,
        input_at: from.member_at,
        marked: Some((from.image_at, from.member_at)),
    };
    decoding.run(pool, to, Some(marks))
}

struct Decoding<'a> {
    packing: Compression,
    limits: Limits,
    members: Members<'a>,
    /// How much of the image was unpacked.
    image_at: u64,
    /// Where in the file the input of the members begins.
    input_at: u64,
    /// The last place that was told, in the image and in the file.
    marked: Option<(u64, u64)>,
}

/// Why a block ends.
enum BlockEnd {
    Full,
    Input {
        at: u64,
    },
    /// At a member of the file that begins here, and it is time to tell of it.
    Mark {
        at: u64,
    },
}

impl Decoding<'_> {
    fn run(
        &mut self,
        pool: &BlockPool,
        to: &mpsc::SyncSender<Piece>,
        marks: Option<&Marks>,
    ) -> Result<Decoded, DecodeError> {
        let mut empty = None;
        let mut places = 0;
        let mut warnings = Vec::new();
        loop {
            let mut block = match empty.take() {
                Some(block) => block,
                None => pool.take().ok_or(DecodeError::GivenUp)?,
            };
            // One that begins elsewhere is shorter, so that the next one is where direct I/O wants it.
            let len = pool.block_bytes();
            let over = usize::try_from(self.image_at % len as u64).unwrap_or(0);
            block.resize(len - over);
            let end = self.fill(&mut block, len, marks);
            let end = end.map_err(|err| explain(self.packing, self.limits, &err))?;
            if block.as_slice().is_empty() {
                empty = Some(block);
            } else {
                to.send(Piece::Block(block)).map_err(|_| DecodeError::GivenUp)?;
            }
            let place = match end {
                BlockEnd::Full if self.packing == Compression::None => Some(self.image_at),
                BlockEnd::Full => None,
                BlockEnd::Input { at } | BlockEnd::Mark { at } => Some(at),
            };
            let is_end = matches!(end, BlockEnd::Input { .. });
            if let (Some(marks), Some(place)) = (marks, place)
                && (is_end || self.is_due(place, len, marks))
                && let Some(file) = marks.before(place)
            {
                let mark = Mark {
                    image_at: self.image_at,
                    file,
                };
                to.send(Piece::Mark(mark)).map_err(|_| DecodeError::GivenUp)?;
                let was_due = self.is_due(place, len, marks);
                self.marked = Some((self.image_at, place));
                if is_end && places == 0 && was_due {
                    warnings.push(format!(
                        "a write that is cut off starts again: the file is one piece of {}. One that goes on needs several (pzstd, bgzip, pbzip2), or an image that is not packed",
                        name(self.packing)
                    ));
                }
                places += 1;
            }
            if is_end {
                to.send(Piece::End).map_err(|_| DecodeError::GivenUp)?;
                warnings.extend(trailer(self.packing, self.members.ignored_bytes()));
                return Ok(Decoded { warnings });
            }
        }
    }

    /// Whether another place is to be told. None is in the first block, which an image is judged by.
    fn is_due(&self, place: u64, block_bytes: usize, marks: &Marks) -> bool {
        let (image_at, file_at) = self.marked.unwrap_or_default();
        let has_come = (self.image_at - image_at).max(place - file_at);
        self.image_at >= block_bytes as u64 && has_come >= marks.every_bytes
    }

    fn fill(&mut self, block: &mut Block, block_bytes: usize, marks: Option<&Marks>) -> io::Result<BlockEnd> {
        let into = block.as_mut_slice();
        let mut filled = 0;
        let end = loop {
            let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) else {
                break BlockEnd::Full;
            };
            match self.members.read_part(rest) {
                Ok(Part::Bytes(len)) => {
                    filled += len;
                    self.image_at += len as u64;
                }
                Ok(Part::Member(at)) => {
                    let at = self.input_at + at;
                    if marks.is_some_and(|marks| self.is_due(at, block_bytes, marks)) {
                        break BlockEnd::Mark { at };
                    }
                }
                Ok(Part::End(at)) => {
                    break BlockEnd::Input {
                        at: self.input_at + at,
                    };
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        };
        block.truncate(filled);
        Ok(end)
    }
}

/// What is said of bytes behind the last member.
pub(super) fn trailer(packing: Compression, ignored_bytes: u64) -> Option<String> {
    (ignored_bytes > 0).then(|| {
        format!(
            "{ignored_bytes} B behind the end of the {} data were left out",
            name(packing)
        )
    })
}

fn explain(packing: Compression, limits: Limits, err: &io::Error) -> DecodeError {
    match err.kind() {
        io::ErrorKind::BrokenPipe => DecodeError::GivenUp,
        _ => DecodeError::Image(in_words(packing, limits, err)),
    }
}

/// An error of [`Members`].
pub(super) fn in_words(packing: Compression, limits: Limits, err: &io::Error) -> String {
    let cause = err.get_ref();
    if err.kind() == io::ErrorKind::UnexpectedEof {
        format!("{} data ends too early", name(packing))
    } else if let Some(window) = cause.and_then(|cause| cause.downcast_ref::<zstd_frame::WindowTooLarge>()) {
        window.to_string()
    } else if matches!(
        cause.and_then(|cause| cause.downcast_ref()),
        Some(liblzma::stream::Error::MemLimit)
    ) {
        format!(
            "to unpack its xz data takes more than the {} B that this machine has room for: pack it with a smaller dictionary, such as that of `xz -9` (64 MiB)",
            limits.xz_bytes
        )
    } else {
        format!("{} data is corrupt: {err}", name(packing))
    }
}

/// What the image is packed with, by its first bytes; what was said must agree with them.
///
/// Source: RFC 8878 section 3.1.1 (zstd), RFC 1952 section 2.3.1 (gzip), the xz file format section 2.1.1.1,
/// bzip2's `BZh1`-`BZh9`, the LZ4 frame format.
pub(super) fn packing(said: Compression, prefix: &[u8]) -> Result<Compression, DecodeError> {
    let found = packing_of(prefix);
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

pub(super) fn packing_of(prefix: &[u8]) -> Compression {
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
pub(super) fn image_bytes(packing: Compression, prefix: &[u8], file_bytes: Option<u64>) -> Option<u64> {
    match packing {
        Compression::None => file_bytes,
        // Of a skippable frame, which is no content, the library says 0.
        Compression::Zstd if !prefix.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) => None,
        Compression::Zstd => zstd::zstd_safe::get_frame_content_size(prefix).ok().flatten(),
        // The content size follows the two flag bytes when bit 3 of the first is set.
        Compression::Lz4 => match (prefix.get(4), prefix.get(6..14)) {
            (Some(flags), Some(size)) if flags & 0x08 != 0 => Some(u64::from_le_bytes(size.try_into().ok()?)),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn name(packing: Compression) -> &'static str {
    match packing {
        Compression::Bzip2 => "bzip2",
        Compression::Detect | Compression::None => "a raw image",
        Compression::Gzip => "gzip",
        Compression::Lz4 => "lz4",
        Compression::Xz => "xz",
        Compression::Zstd => "zstd",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_memory_that_is_there_bounds_a_decoder_but_never_below_the_least() {
        let log = |available| Limits::of_memory(available).zstd_window_log;
        assert_eq!(
            [log(0), log(300 << 20), log(1 << 30), log(64 << 30)],
            [27, 27, 29, 31]
        );
        assert_eq!(Limits::of_memory(4 << 30).xz_bytes, 2 << 30);
        assert_eq!(
            available_bytes("MemFree: 1 kB\nMemAvailable:    2048 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(available_bytes("MemAvailable: lots\n"), None);
    }

    fn refused(bytes: &[u8], packing: Compression) -> String {
        let limits = Limits::LEAST;
        let members = Members::new(packing, Box::new(Cursor::new(bytes.to_vec())), limits);
        let read = members.and_then(|mut members| members.read_to_end(&mut Vec::new()));
        in_words(packing, limits, &read.unwrap_err())
    }

    #[test]
    fn a_decoder_that_wants_too_much_memory_is_told_with_window_limit_and_flag() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.window_log(30).unwrap();
        std::io::Write::write_all(&mut encoder, &[7; 5000]).unwrap();
        let said = refused(&encoder.finish().unwrap(), Compression::Zstd);
        for word in ["1073741824 B", "--long=30", "134217728 B", "--long=27"] {
            assert!(said.contains(word), "{said}");
        }

        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(1 << 30);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32);
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream.unwrap());
        std::io::Write::write_all(&mut encoder, &[7; 5000]).unwrap();
        let said = refused(&encoder.finish().unwrap(), Compression::Xz);
        assert!(
            said.contains("268435456 B") && said.contains("dictionary"),
            "{said}"
        );
    }
}
