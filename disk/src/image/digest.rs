//! The digest stage, and where the digest to compare with comes from.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use bytes::Bytes;
use sha2::Digest;
use tokio::sync::mpsc as async_mpsc;

use super::WriteError;
use super::coding::{self, Coding, Undone};
use super::decode::Limits;
use super::feed::{Feed, FeedReader};
use super::marks::Marks;
use super::running_digest::RunningDigest;

/// What was coded is handed on in pieces of this size.
const CHUNK_BYTES: usize = 256 << 10;

/// What was digested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digests {
    /// Of the file.
    pub(super) file: String,
    /// Of the bytes that were sent, where the server had coded them.
    pub(super) sent: Option<String>,
}

impl Digests {
    /// Whether somebody who gave this digest meant these bytes.
    ///
    /// Servers say `Content-Encoding: gzip` of files that *are* gzip too; who has digested such a file gives the digest
    /// of what is sent.
    pub(super) fn contain(&self, expected: &str) -> bool {
        self.file == expected || self.sent.as_deref() == Some(expected)
    }
}

/// Why there is no digest.
#[derive(Debug)]
pub(super) enum NoDigest {
    /// The codings of the body cannot be undone; in words.
    BadCoding(String),
    /// The transfer was given up, or the write.
    GivenUp,
}

/// Undoes the codings of the body, and digests everything on its way to the decoder, behind what `start` has digested.
///
/// When the decoder is gone, so is the write, unless `digest_rest` says that the digest is still of interest.
pub(super) fn run(
    mut from: async_mpsc::Receiver<Feed>,
    to: &mpsc::SyncSender<Feed>,
    codings: &[Coding],
    digest_rest: &AtomicBool,
    marks: Option<&Marks>,
    start: RunningDigest,
) -> Result<Digests, NoDigest> {
    let mut digest = start;
    let mut forward = |bytes: Bytes| {
        if let Some(marks) = marks {
            marks.sent(&digest, &bytes);
        }
        // The decoder goes first: it is the slower one.
        if to.send(Feed::Data(bytes.clone())).is_err() && !digest_rest.load(Ordering::Acquire) {
            return Err(NoDigest::GivenUp);
        }
        digest.update(&bytes);
        Ok(())
    };
    let mut sent = None;
    if codings.is_empty() {
        while let Feed::Data(bytes) = from.blocking_recv().ok_or(NoDigest::GivenUp)? {
            forward(bytes)?;
        }
    } else {
        let limits = Limits::of_this_machine();
        let body = FeedReader::new(|| from.blocking_recv());
        let mut undone = Undone::new(codings, body, limits)
            .map_err(|err| NoDigest::of(&err, coding::in_words_of(codings, limits, &err)))?;
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            match undone.read(&mut chunk) {
                Ok(0) => break,
                Ok(len) => {
                    chunk.truncate(len);
                    forward(chunk.into())?;
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(NoDigest::of(&err, undone.in_words(&err))),
            }
        }
        sent = Some(hex(&undone.sent_digest().finalize()));
    }
    if to.send(Feed::End).is_err() && !digest_rest.load(Ordering::Acquire) {
        return Err(NoDigest::GivenUp);
    }
    let file = hex(&digest.finish());
    Ok(Digests { file, sent })
}

impl NoDigest {
    fn of(err: &io::Error, words: String) -> NoDigest {
        match err.kind() {
            io::ErrorKind::BrokenPipe => NoDigest::GivenUp,
            _ => NoDigest::BadCoding(words),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Reads a digest as a user writes it: 64 hex digits, any case, `sha256:` before them or not.
pub(super) fn parse(given: &str, from: &str) -> Result<String, WriteError> {
    let lower = given.trim().to_ascii_lowercase();
    let digits = lower.strip_prefix("sha256:").unwrap_or(&lower).trim_start();
    if is_digest(digits) {
        return Ok(digits.to_owned());
    }
    let given = given.chars().take(100).collect();
    Err(WriteError::MalformedDigest {
        from: from.to_owned(),
        given,
    })
}

/// Reads the content of a `.sha256` file: bare digits, `sha256sum` lines, or BSD's `SHA256 (name) = digits`.
///
/// Of several lines the one that names `file_name` counts; a single line counts whatever it names.
pub(super) fn parse_file(content: &str, file_name: &str, from: &str) -> Result<String, WriteError> {
    let lines: Vec<&str> = content
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .collect();
    let line = match lines.as_slice() {
        [only] => Some(*only),
        several => several.iter().copied().find(|line| names(line, file_name)),
    };
    let line = line.unwrap_or_default();
    let digits = match line.rsplit_once(" = ") {
        Some((name, digits)) if name.starts_with("SHA256") => digits,
        _ => line.split_whitespace().next().unwrap_or_default(),
    };
    parse(digits, from).map_err(|_| WriteError::MalformedDigest {
        from: from.to_owned(),
        given: content.chars().take(100).collect(),
    })
}

fn names(line: &str, file_name: &str) -> bool {
    let bsd = line
        .split_once('(')
        .and_then(|(_, rest)| rest.rsplit_once(')'))
        .map(|(name, _)| name);
    let gnu = line
        .split_once(char::is_whitespace)
        .map(|(_, name)| name.trim_start().trim_start_matches('*'));
    [bsd, gnu]
        .into_iter()
        .flatten()
        .any(|name| name.rsplit('/').next() == Some(file_name))
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_digest_is_taken_with_and_without_its_prefix_and_in_any_case() {
        assert_eq!(parse(DIGITS, "x").unwrap(), DIGITS);
        assert_eq!(
            parse(&format!("sha256:{}\n", DIGITS.to_uppercase()), "x").unwrap(),
            DIGITS
        );
        assert_eq!(parse(&format!(" SHA256: {DIGITS}"), "x").unwrap(), DIGITS);
        assert_eq!(parse("abc", "SHA256").unwrap_err().reason(), "MalformedDigest");
    }

    #[test]
    fn a_digest_file_is_read_in_every_usual_form() {
        let other = "0".repeat(64);
        for content in [
            DIGITS.to_owned(),
            format!("{DIGITS}  disk.img.zst\n"),
            format!("{DIGITS} *somewhere/else.img\n"),
            format!("SHA256 (disk.img.zst) = {DIGITS}\n"),
            format!("{other}  other.img\n{DIGITS} *./disk.img.zst\n"),
            format!("SHA256 (other.img) = {other}\nSHA256 (disk.img.zst) = {DIGITS}\n"),
        ] {
            assert_eq!(
                parse_file(&content, "disk.img.zst", "x").unwrap(),
                DIGITS,
                "{content}"
            );
        }
    }

    #[test]
    fn a_digest_file_of_something_else_is_refused() {
        let other = "0".repeat(64);
        for content in ["", "<html>", &format!("{other} a\n{other} b\n"), &DIGITS[..63]] {
            assert_eq!(
                parse_file(content, "disk.img", "x").unwrap_err().reason(),
                "MalformedDigest",
                "{content}"
            );
        }
    }
}
