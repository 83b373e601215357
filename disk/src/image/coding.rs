//! Content codings of HTTP, undone: what is written and digested is the file, however a server has coded it.
//!
//! Source: RFC 9110 section 8.4; the list is in the order in which the codings were applied.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::{Arc, Mutex};

use reqwest::header::{CONTENT_ENCODING, HeaderMap, TRANSFER_ENCODING};
use sha2::{Digest, Sha256};

use super::Compression;
use super::decode::{Limits, Members, in_words};

/// A coding that can be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Deflate,
    Gzip,
    Zstd,
}

/// More than this is nobody's intention.
const MOST: usize = 4;

/// The codings of a body, in the order in which they were applied; `None`: the header is not there.
///
/// # Errors
/// In words: one that is not known, or too many.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<Vec<Coding>>, String> {
    if !headers.contains_key(CONTENT_ENCODING) {
        return Ok(None);
    }
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = value.to_str().unwrap_or("not text");
        for token in value.split(',').map(str::trim).filter(|token| !token.is_empty()) {
            match token.to_ascii_lowercase().as_str() {
                "identity" => {}
                "gzip" | "x-gzip" => codings.push(Coding::Gzip),
                "deflate" => codings.push(Coding::Deflate),
                "zstd" => codings.push(Coding::Zstd),
                _ => {
                    return Err(format!(
                        "the server sends it with Content-Encoding {token:?}, which is none of identity, gzip, deflate and zstd, although identity was asked for"
                    ));
                }
            }
        }
    }
    if codings.len() > MOST {
        return Err(format!("the server has coded it {} times", codings.len()));
    }
    Ok(Some(codings))
}

/// Whether the body is cut in chunks and nothing else.
///
/// # Errors
/// In words: it has a transfer coding that was not asked for (RFC 9112 section 7.4), which nobody has undone.
pub(super) fn is_chunked(headers: &HeaderMap) -> Result<bool, String> {
    let mut is_chunked = false;
    for value in headers.get_all(TRANSFER_ENCODING) {
        for token in value.to_str().unwrap_or("not text").split(',').map(str::trim) {
            match token.to_ascii_lowercase().as_str() {
                "chunked" => is_chunked = true,
                "" | "identity" => {}
                _ => {
                    return Err(format!(
                        "the server sends it with Transfer-Encoding {token:?}, which was not asked for"
                    ));
                }
            }
        }
    }
    Ok(is_chunked)
}

/// As a header has it.
pub(super) fn names(codings: &[Coding]) -> String {
    let name = |coding: &Coding| match coding {
        Coding::Deflate => "deflate",
        Coding::Gzip => "gzip",
        Coding::Zstd => "zstd",
    };
    match codings {
        [] => "identity".to_owned(),
        some => some.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}

/// A body with its codings undone.
pub(super) struct Undone<'a> {
    body: Box<dyn BufRead + Send + 'a>,
    sent: Arc<Mutex<Sha256>>,
    codings: Vec<Coding>,
    limits: Limits,
}

impl<'a> Undone<'a> {
    pub(super) fn new(
        codings: &[Coding],
        body: impl Read + Send + 'a,
        limits: Limits,
    ) -> io::Result<Undone<'a>> {
        let sent = Arc::new(Mutex::new(Sha256::new()));
        let digested = Digested {
            body,
            digest: Arc::clone(&sent),
        };
        let mut body: Box<dyn BufRead + Send + 'a> = Box::new(BufReader::new(digested));
        // The last one applied comes first.
        for coding in codings.iter().rev() {
            body = match coding {
                Coding::Deflate => Box::new(BufReader::new(Deflated::new(body)?)),
                Coding::Gzip => Box::new(BufReader::new(Members::new(Compression::Gzip, body, limits)?)),
                Coding::Zstd => Box::new(BufReader::new(Members::new(Compression::Zstd, body, limits)?)),
            };
        }
        Ok(Undone {
            body,
            sent,
            codings: codings.to_vec(),
            limits,
        })
    }

    /// Of the bytes as they were sent, so far.
    pub(super) fn sent_digest(&self) -> Sha256 {
        // Poisoned only by a panic, which ends the write by itself.
        self.sent
            .lock()
            .map_or_else(|poisoned| poisoned.into_inner().clone(), |digest| digest.clone())
    }

    /// An error of reading it.
    pub(super) fn in_words(&self, err: &io::Error) -> String {
        in_words_of(&self.codings, self.limits, err)
    }
}

/// An error of making or reading [`Undone`].
pub(super) fn in_words_of(codings: &[Coding], limits: Limits, err: &io::Error) -> String {
    let packing = match codings.last() {
        Some(Coding::Zstd) => Compression::Zstd,
        _ => Compression::Gzip,
    };
    let why = match codings {
        [Coding::Gzip | Coding::Zstd] => in_words(packing, limits, err),
        _ => err.to_string(),
    };
    format!(
        "the server says Content-Encoding {}, and it is not: {why}",
        names(codings)
    )
}

impl Read for Undone<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.body.read(into)
    }
}

struct Digested<R> {
    body: R,
    digest: Arc<Mutex<Sha256>>,
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.body.read(into)?;
        if let (Ok(mut digest), Some(bytes)) = (self.digest.lock(), into.get(..len)) {
            digest.update(bytes);
        }
        Ok(len)
    }
}

/// `deflate` is zlib's format; some servers send what is in it alone, as RFC 9110 section 8.4.1.2 notes.
enum Deflated<'a> {
    Bare(flate2::bufread::DeflateDecoder<Box<dyn BufRead + Send + 'a>>),
    Zlib(flate2::bufread::ZlibDecoder<Box<dyn BufRead + Send + 'a>>),
}

impl<'a> Deflated<'a> {
    fn new(mut body: Box<dyn BufRead + Send + 'a>) -> io::Result<Deflated<'a>> {
        // RFC 1950 section 2.2: the method is 8, and the two bytes are a multiple of 31.
        let is_zlib = match body.fill_buf()? {
            [method, flags, ..] => {
                method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31)
            }
            _ => true,
        };
        Ok(if is_zlib {
            Deflated::Zlib(flate2::bufread::ZlibDecoder::new(body))
        } else {
            Deflated::Bare(flate2::bufread::DeflateDecoder::new(body))
        })
    }
}

impl Read for Deflated<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let (len, rest) = match self {
            Deflated::Bare(decoder) => (decoder.read(into)?, decoder.get_mut()),
            Deflated::Zlib(decoder) => (decoder.read(into)?, decoder.get_mut()),
        };
        if len == 0 && io::copy(rest, &mut io::sink())? > 0 {
            return Err(io::Error::other("something stands behind its end"));
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(values: &[&'static str]) -> Result<Option<Vec<Coding>>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, value.parse().unwrap());
        }
        of(&headers)
    }

    #[test]
    fn a_list_of_codings_is_read_in_any_case_and_over_several_lines() {
        assert_eq!(said(&[]), Ok(None));
        for none in ["identity", "", " , Identity"] {
            assert_eq!(said(&[none]), Ok(Some(vec![])), "{none}");
        }
        assert_eq!(
            said(&["deflate, X-GZip", "zstd"]),
            Ok(Some(vec![Coding::Deflate, Coding::Gzip, Coding::Zstd]))
        );
        for unknown in ["br", "compress", "gzip;q=1", "aes128gcm"] {
            assert!(said(&[unknown]).unwrap_err().contains(unknown), "{unknown}");
        }
        assert!(said(&["gzip, gzip, gzip, gzip, gzip"]).is_err());
    }

    #[test]
    fn a_transfer_coding_that_was_not_asked_for_is_refused() {
        let mut headers = HeaderMap::new();
        assert_eq!(is_chunked(&headers), Ok(false));
        headers.insert(TRANSFER_ENCODING, "chunked".parse().unwrap());
        assert_eq!(is_chunked(&headers), Ok(true));
        headers.insert(TRANSFER_ENCODING, "gzip, chunked".parse().unwrap());
        assert!(is_chunked(&headers).unwrap_err().contains("gzip"));
    }
}
