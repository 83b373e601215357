//! Reads a file from a URL for whoever wants its content rather than a disk: downloaded, digested and unpacked as an image is.
//!
//! Threads: the caller's task downloads, `content-hash` digests the bytes as downloaded, `content-read` unpacks them and runs the
//! reader. What the reader has done counts only when [`read`] says so: then all bytes came, and the digest is right.

use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use tokio::sync::mpsc as async_mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::decode::{self, Limits, Members};
use super::digest::{self, NoDigest};
use super::feed::{Feed, FeedReader};
use super::pipeline::{CHUNKS, FeedError, died, feed_into, or_stopped, spawn, telling};
use super::running_digest::{Midstate, RunningDigest};
use super::source::{Sibling, Source, sibling_digest};
use super::{Compression, GIVE_UP_AFTER, Progress, Reach, WriteError, WriteRequest, coding};

/// What to read.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// `http`, `https` or `file`.
    pub url: Url,
    /// As [`WriteRequest::sha256`].
    pub sha256: Option<String>,
    /// As [`WriteRequest::give_up_after`].
    pub give_up_after: std::time::Duration,
    /// For `http` and `https`.
    pub reach: Reach,
    /// What the reader gets.
    pub packing: Packing,
    /// Whether a file without a digest is read.
    pub verify: Verify,
}

/// What a reader gets of a packed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// The file as it is.
    Kept,
    /// What is in it; how it is packed, its first bytes say.
    Undone,
}

/// Whether there has to be a digest of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    Always,
    IfKnown,
}

impl ReadRequest {
    /// Reads `url` as it is: digest from `<url>.sha256` where there is one, [`GIVE_UP_AFTER`].
    pub fn new(url: Url) -> ReadRequest {
        ReadRequest {
            url,
            sha256: None,
            give_up_after: GIVE_UP_AFTER,
            reach: Reach::default(),
            packing: Packing::Kept,
            verify: Verify::IfKnown,
        }
    }
}

/// How a file was read.
#[derive(Debug)]
pub struct ReadContent<T> {
    /// What the reader gives.
    pub of_reader: T,
    pub downloaded_bytes: u64,
    /// Of the file, packed as it is.
    pub sha256: String,
    /// Whether there was a digest to compare with.
    pub verified: bool,
    /// How often the transfer was resumed after a break.
    pub resumes: u32,
    /// What went well but should be known, a line each.
    pub warnings: Vec<String>,
}

/// Why a file was not read, or not for what it is. What the reader has done until then does not count.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// Of the transfer, the digest or the packing.
    #[error(transparent)]
    Content(#[from] WriteError),
    /// There is no digest, and there has to be one. Nothing was downloaded.
    #[error("{url} would not be verified: no SHA-256 was given and {url}.sha256 {why}")]
    NotVerified { url: String, why: String },
    /// The reader's own.
    #[error("{0}")]
    Reader(E),
}

/// The content as the reader gets it.
pub struct Content<'a> {
    /// `None`: not even its beginning could be unpacked.
    members: Option<Members<'a>>,
    packing: Compression,
    size_bytes: Option<u64>,
    limits: Limits,
    read_bytes: Arc<AtomicU64>,
    /// Why it could not be unpacked, in words.
    damage: Arc<Mutex<Option<String>>>,
}

impl Content<'_> {
    /// How it was packed; `tar` and the like are no packing here.
    pub fn packed_with(&self) -> Option<&'static str> {
        match self.packing {
            Compression::Detect | Compression::None => None,
            packing => Some(decode::name(packing)),
        }
    }

    /// How long it is in all, as far as its first bytes and the server tell.
    pub fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }
}

impl Read for Content<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(members) = &mut self.members else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let read = members.read(into);
        match &read {
            Ok(len) => {
                self.read_bytes.fetch_add(*len as u64, Ordering::Relaxed);
            }
            Err(err) if matches!(err.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::Interrupted) => {}
            Err(err) => note(&self.damage, decode::in_words(self.packing, self.limits, err)),
        }
        read
    }
}

fn note(damage: &Mutex<Option<String>>, words: String) {
    if let Ok(mut damage) = damage.lock() {
        damage.get_or_insert(words);
    }
}

/// Downloads a file and has `reader` read it, on a thread of its own.
///
/// What the reader leaves unread after it went well is read for the digest. An error of the content is
/// [`io::ErrorKind::BrokenPipe`] for the reader where the transfer was given up. `on_progress`, `stop` and the runtime are as
/// those of [`super::write`]; when the future *returns*, the reader has ended.
///
/// # Errors
/// [`ReadError`]; that of the transfer, the packing or the digest goes before the reader's own.
pub async fn read<T: Send + 'static, E: Send + 'static>(
    request: &ReadRequest,
    reader: impl FnOnce(&mut Content<'_>) -> Result<T, E> + Send + 'static,
    on_progress: impl Fn(Progress) + Send + Sync,
    stop: CancellationToken,
) -> Result<ReadContent<T>, ReadError<E>> {
    let counters = Counters::default();
    let work = read_counted(request, reader, &counters, &stop);
    telling(work, || on_progress(counters.progress())).await
}

#[derive(Default)]
struct Counters {
    downloaded: AtomicU64,
    download: AtomicU64,
    read: Arc<AtomicU64>,
}

impl Counters {
    fn progress(&self) -> Progress {
        Progress {
            downloaded_bytes: self.downloaded.load(Ordering::Relaxed),
            download_bytes: self.download.load(Ordering::Relaxed),
            written_bytes: self.read.load(Ordering::Relaxed),
            image_bytes: 0,
            read_back_bytes: 0,
        }
    }
}

async fn read_counted<T: Send + 'static, E: Send + 'static>(
    request: &ReadRequest,
    reader: impl FnOnce(&mut Content<'_>) -> Result<T, E> + Send + 'static,
    counters: &Counters,
    stop: &CancellationToken,
) -> Result<ReadContent<T>, ReadError<E>> {
    let url = request.url.to_string();
    // Of a write only where its bytes come from is used.
    let from = WriteRequest {
        sha256: request.sha256.clone(),
        give_up_after: request.give_up_after,
        reach: request.reach.clone(),
        ..WriteRequest::new(request.url.clone(), "")
    };
    let given = request.sha256.as_deref();
    let mut warnings = Vec::new();
    let expected = match given
        .map(|given| digest::parse(given, "the request"))
        .transpose()?
    {
        Some(expected) => Some(expected),
        None => match or_stopped(stop, 0, sibling_digest(&from)).await? {
            Sibling::Digest(digest) => Some(digest),
            other => {
                let why = match other {
                    Sibling::SomethingElse(what) => format!("is no digest file: {what}"),
                    _ => "is not to be had".to_owned(),
                };
                if request.verify == Verify::Always {
                    return Err(ReadError::NotVerified { url, why });
                }
                warnings.push(format!("no SHA-256 of the file was given and {url}.sha256 {why}"));
                None
            }
        },
    };
    let mut source = Source::open(&from, expected.is_some()).await?;
    let first = or_stopped(stop, 0, source.next()).await?;
    let codings = source.codings();
    let total = source.total();
    counters.download.store(total.unwrap_or(0), Ordering::Relaxed);
    if !codings.is_empty() {
        warnings.push(format!(
            "the server sends it with Content-Encoding {}, which was undone",
            coding::names(&codings)
        ));
    }

    let (feed, to_digest) = async_mpsc::channel(CHUNKS);
    let (to_read, from_digest) = mpsc::sync_channel(CHUNKS);
    let digest_rest = Arc::new(AtomicBool::new(false));
    let damage = Arc::new(Mutex::new(None));
    // The length of what is sent, which is that of the file if it is not coded.
    let file_bytes = total.filter(|_| codings.is_empty());
    let rest = Arc::clone(&digest_rest);
    let digest = spawn("content-hash", move || {
        digest::run(
            to_digest,
            &to_read,
            &codings,
            &rest,
            None,
            RunningDigest::from(Midstate::START),
        )
    })?;
    let read = {
        let (damage, read_bytes) = (Arc::clone(&damage), Arc::clone(&counters.read));
        let (packing, expects) = (request.packing, expected.is_some());
        spawn("content-read", move || {
            let mut feed = FeedReader::new(move || from_digest.recv().ok());
            let read = unpack(&mut feed, packing, file_bytes, read_bytes, &damage, reader);
            if damage.lock().is_ok_and(|damage| damage.is_some()) {
                // Before the feed is dropped, which is what the digest stage sees.
                digest_rest.store(expects, Ordering::Release);
            }
            read
        })?
    };
    let fed = feed_into(&mut source, first, &feed, &counters.downloaded, stop).await;
    drop(feed);
    let digest = digest.await.map_err(died)?;
    let read = read.await.map_err(died)?;

    // The earliest stage that failed by itself names the reason; the others have only seen it give up.
    if let Err(FeedError::Source(err)) = fed {
        return Err(err.into());
    }
    if let (Some(expected), Ok(digests)) = (&expected, &digest)
        && !digests.contain(expected)
    {
        let (expected, actual) = (expected.clone(), digests.file.clone());
        return Err(WriteError::WrongDigest {
            url,
            expected,
            actual,
        }
        .into());
    }
    if let Err(NoDigest::BadCoding(what)) = digest {
        return Err(WriteError::BadImage { url, what }.into());
    }
    if let Some(what) = damage.lock().ok().and_then(|mut damage| damage.take()) {
        return Err(WriteError::BadImage { url, what }.into());
    }
    let (of_reader, warning) = read.map_err(ReadError::Reader)?;
    let Ok(digests) = digest else {
        return Err(WriteError::Thread {
            what: "a stage ended without a reason".to_owned(),
        }
        .into());
    };
    warnings.extend(warning);
    Ok(ReadContent {
        of_reader,
        downloaded_bytes: source.at(),
        sha256: digests.file,
        verified: expected.is_some(),
        resumes: source.resumes(),
        warnings,
    })
}

/// Runs the reader on what is in the feed, and reads the rest after it.
fn unpack<T, E>(
    feed: &mut FeedReader<impl FnMut() -> Option<Feed> + Send>,
    packing: Packing,
    file_bytes: Option<u64>,
    read_bytes: Arc<AtomicU64>,
    damage: &Arc<Mutex<Option<String>>>,
    reader: impl FnOnce(&mut Content<'_>) -> Result<T, E>,
) -> Result<(T, Option<String>), E> {
    let limits = Limits::of_this_machine();
    // One that is given up is so for whoever reads on.
    let prefix = feed.take_prefix(decode::PREFIX_BYTES).unwrap_or_default();
    let packing = match packing {
        Packing::Kept => Compression::None,
        Packing::Undone => decode::packing_of(&prefix),
    };
    let size_bytes = decode::image_bytes(packing, &prefix, file_bytes);
    let input = Cursor::new(prefix).chain(feed);
    let members = match Members::new(packing, Box::new(input), limits) {
        Ok(members) => Some(members),
        Err(err) => {
            if err.kind() != io::ErrorKind::BrokenPipe {
                note(damage, decode::in_words(packing, limits, &err));
            }
            None
        }
    };
    let mut content = Content {
        members,
        packing,
        size_bytes,
        limits,
        read_bytes,
        damage: Arc::clone(damage),
    };
    let of_reader = reader(&mut content)?;
    // What is damaged behind that has been noted.
    let _ = io::copy(&mut content, &mut io::sink());
    let ignored_bytes = content.members.map_or(0, |members| members.ignored_bytes());
    let warning = decode::trailer(packing, ignored_bytes);
    Ok((of_reader, warning))
}
