//! What comes from an image server, given to one of its readers alone: no disk and no network.
//!
//! For the fuzz targets. A write goes through the same functions; whoever wants one calls [`super::write`].

use std::io::{self, Read};
use std::path::Path;

use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue};

use super::decode::{self, Limits, Members};
use super::judge::{self, Case};
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
