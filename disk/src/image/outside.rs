//! What comes from an image server, given to one of its readers alone: no disk and no network.
//!
//! For the fuzz targets. A write goes through the same functions; whoever wants one calls [`super::write`].

use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc;

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue};

use super::decode::{self, DecodeError, Limits, Members};
use super::feed::{Feed, FeedReader};
use super::journal::{self, Subject};
use super::judge::{self, Case};
use super::qcow2::{self, NotRead, Parts};
use super::writer::{Block, BlockPool, Piece};
use super::{Content, WriteError, coding, digest, http};
use crate::gpt::Grow;

/// Whether an image that begins with `first`, and is `size` B long where that is known, may be written to a disk.
///
/// Returns the warnings, and where the last partition would end.
///
/// # Errors
/// What a write of it would be refused with.
pub fn judge(
    first: &[u8],
    size: Option<u64>,
    disk_bytes: u64,
    sector_bytes: Option<u64>,
    grow: Grow,
) -> Result<(Vec<String>, Option<u64>), WriteError> {
    let judgement = judge::judge(&Case {
        url: "http://images/image",
        first,
        is_whole: false,
        size,
        disk: Path::new("/dev/vda"),
        disk_bytes,
        sector_bytes,
        content: Content::Disk,
        grow,
    })?;
    Ok((judgement.warnings, judgement.partitions_end))
}

/// How far an earlier write came, by the notes on a disk; `sealed`: each slot gets a right check first.
pub fn journal(slots: &[u8], sealed: bool) -> Option<u64> {
    let subject = Subject::of([b"fuzz".as_slice()]);
    let read = |slots: &[u8]| journal::latest(slots, &subject).ok().map(|found| found.image_at);
    match sealed {
        true => read(&journal::sealed(slots, &subject)),
        false => read(slots),
    }
}

/// Unpacks `packed` by its first bytes, and throws away what comes; `at_most` bytes of it.
///
/// Returns how many came, and how many behind the last member were left out.
///
/// # Errors
/// In words, as an action tells them.
pub fn unpack(packed: &[u8], at_most: u64) -> Result<(u64, u64), String> {
    let packing = decode::packing_of(packed);
    // What the smallest machine has room for.
    let limits = Limits::of_memory(0);
    let words = |error: io::Error| decode::in_words(packing, limits, &error);
    let mut members = Members::new(packing, Box::new(io::Cursor::new(packed)), limits).map_err(words)?;
    let unpacked = io::copy(&mut members.by_ref().take(at_most), &mut io::sink()).map_err(words)?;
    Ok((unpacked, members.ignored_bytes()))
}

/// Reads a qcow2 file as a write of it does; how many bytes of the disk that is in it are in its clusters.
///
/// A file for a disk of more than `at_most_bytes` is left alone: 0.
///
/// # Errors
/// In words, as an action tells them.
pub fn qcow2(file: &[u8], at_most_bytes: u64) -> Result<u64, String> {
    let header = qcow2::Header::parse(file)?;
    if header.size_bytes() > at_most_bytes {
        return Ok(0);
    }
    let read = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| error.to_string())?
        .block_on(qcow2::read(&Memory(file), &Bytes::copy_from_slice(file)));
    let tables = read.map_err(|error| match error {
        NotRead::Bad(what) => what,
        NotRead::Transfer(error) => error.to_string(),
    })?;
    let (pieces, come) = mpsc::sync_channel(4);
    let (pool, empties) = BlockPool::new(Block::BYTES);
    std::thread::scope(|scope| {
        let taken = scope.spawn(move || {
            let mut bytes = 0;
            for piece in come {
                if let Piece::Placed { at, mut block } = piece {
                    let len = block.as_mut_slice().len() as u64;
                    assert!(at + len <= at_most_bytes, "a block behind the end of the disk");
                    bytes += len;
                    let _ = empties.send(block);
                }
            }
            bytes
        });
        let mut feed = [Feed::Data(Bytes::copy_from_slice(file)), Feed::End].into_iter();
        let mut feed = FeedReader::new(move || feed.next());
        let decoded = qcow2::decode(&mut feed, tables, &pool, &pieces);
        drop(pieces);
        let bytes = taken.join().map_err(|_| "a block was placed wrongly".to_owned());
        match decoded {
            Ok(_) => bytes,
            Err(DecodeError::Image(what)) => bytes.and(Err(what)),
            Err(DecodeError::GivenUp) => Err("the file ends too early".to_owned()),
        }
    })
}

/// A file that is all here.
struct Memory<'a>(&'a [u8]);

impl Parts for Memory<'_> {
    fn total(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }

    async fn part(&self, range: Range<u64>) -> Result<Vec<u8>, WriteError> {
        let inside = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let part = self.0.get(inside(range.start)..inside(range.end));
        part.map(<[u8]>::to_vec).ok_or_else(|| WriteError::Thread {
            what: format!("{range:?} was asked for"),
        })
    }
}

/// What a reply's headers say of its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Body {
    pub length: Option<u64>,
    /// Where the range starts, and how much there is in all.
    pub range: Option<(u64, Option<u64>)>,
}

/// Reads a reply's headers. Lines that are no header are left out, as an HTTP library refuses them.
///
/// # Errors
/// In words: a coding that is not known.
pub fn headers(lines: &str) -> Result<Body, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines.lines().filter_map(|line| line.split_once(':')) {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim().as_bytes())) {
            headers.append(name, value);
        }
    }
    coding::of(&headers)?;
    coding::is_chunked(&headers)?;
    let _ = http::validator(&headers);
    let range = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    Ok(Body {
        length: http::content_length(&headers),
        range: range.and_then(http::content_range),
    })
}

/// The digest that a `.sha256` file names for `file_name`.
///
/// # Errors
/// [`WriteError::MalformedDigest`].
pub fn digest_file(content: &str, file_name: &str) -> Result<String, WriteError> {
    digest::parse_file(content, file_name, "http://images/image.sha256")
}
