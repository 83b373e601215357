//! Puts the stages of a write together, and decides which of their errors counts.

use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc as async_mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::byte_source::ByteSource;
use super::coding::Coding;
use super::decode::{self, DecodeError, Decoded, Limits};
use super::digest::{Digests, NoDigest};
use super::feed::{Feed, FeedReader};
use super::marks::Marks;
use super::qcow2::{self, NotRead, Qcow2};
use super::resume::{self, Found, Notes, Origin, Ready};
use super::running_digest::{Midstate, RunningDigest};
use super::source::{Sibling, Source, sibling_digest};
use super::target::Target;
use super::writer::{Block, BlockPool, Demand, END_BYTES, Finished, Medium, Verdict, Writer};
use super::{Progress, WriteError, WriteRequest, Written, digest};

const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Chunks in a channel; a chunk of an HTTP body has at most some 400 KiB.
pub(super) const CHUNKS: usize = 16;
/// Blocks between decoder and writer; the pool bounds them.
const BLOCKS: usize = 4;

pub(super) async fn write(
    request: &WriteRequest,
    given: Option<Box<dyn ByteSource>>,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
    stop: CancellationToken,
) -> Result<Written, WriteError> {
    write_on(request, Sizes::default(), Target::open, given, on_progress, stop).await
}

/// In what pieces is worked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Of a block; as much as a partition table takes at least, by which an image is judged.
    pub(super) block_bytes: usize,
    /// Of each end of the disk that is held back; a block is as large at least.
    pub(super) end_bytes: u64,
    /// After so many bytes it is noted on the disk how far a write has come, where that is wanted.
    pub(super) mark_bytes: u64,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes {
            block_bytes: Block::BYTES,
            end_bytes: END_BYTES,
            mark_bytes: 64 << 20,
        }
    }
}

/// The same on what `open` gives, once the request is known to be a good one.
pub(super) async fn write_on<M: Medium + Send + 'static>(
    request: &WriteRequest,
    sizes: Sizes,
    open: impl FnOnce(&Path) -> Result<M, WriteError>,
    given: Option<Box<dyn ByteSource>>,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
    stop: CancellationToken,
) -> Result<Written, WriteError> {
    let counters = Arc::new(Counters::default());
    // Cancelled when this future is dropped, too.
    let stop = stop.child_token();
    let _dropped = stop.clone().drop_guard();
    let work = write_counted(request, sizes, open, given, &counters, &stop);
    telling(work, || on_progress(counters.progress())).await
}

/// Does the work, and tells how far it is meanwhile and at its end.
pub(super) async fn telling<T>(work: impl Future<Output = T>, tell: impl Fn()) -> T {
    tokio::pin!(work);
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            result = &mut work => {
                tell();
                return result;
            }
            _ = ticks.tick() => tell(),
        }
    }
}

#[derive(Default)]
struct Counters {
    downloaded: AtomicU64,
    download: AtomicU64,
    written: Arc<AtomicU64>,
    image: Arc<AtomicU64>,
    read_back: Arc<AtomicU64>,
}

impl Counters {
    fn progress(&self) -> Progress {
        Progress {
            downloaded_bytes: self.downloaded.load(Ordering::Relaxed),
            download_bytes: self.download.load(Ordering::Relaxed),
            written_bytes: self.written.load(Ordering::Relaxed),
            image_bytes: self.image.load(Ordering::Relaxed),
            read_back_bytes: self.read_back.load(Ordering::Relaxed),
        }
    }
}

async fn write_counted<M: Medium + Send + 'static>(
    request: &WriteRequest,
    sizes: Sizes,
    open: impl FnOnce(&Path) -> Result<M, WriteError>,
    source: Option<Box<dyn ByteSource>>,
    counters: &Counters,
    stop: &CancellationToken,
) -> Result<Written, WriteError> {
    let given = request
        .sha256
        .as_deref()
        .map(|given| digest::parse(given, "the request"))
        .transpose()?;
    let target = open(&request.target)?;
    let mut warnings = Vec::new();
    let expected = match given {
        Some(expected) => Some(expected),
        None => match or_stopped(stop, 0, sibling_digest(request)).await? {
            Sibling::Digest(digest) => Some(digest),
            other => {
                let why = match other {
                    Sibling::SomethingElse(what) => format!("is no digest file: {what}"),
                    _ => "is not to be had".to_owned(),
                };
                warnings.push(format!(
                    "the image was not verified: no SHA-256 was given and {}.sha256 {why}",
                    request.url
                ));
                None
            }
        },
    };
    let mut source = match source {
        Some(given) => Source::given(given, request.url.to_string()),
        None => Source::open(request, expected.is_some()).await?,
    };
    let first = or_stopped(stop, 0, source.first(qcow2::HEADER_BYTES)).await?;
    counters
        .download
        .store(source.total().unwrap_or(0), Ordering::Relaxed);

    let codings = source.codings();
    if !codings.is_empty() {
        warnings.push(format!(
            "the server sends the image with Content-Encoding {}, which was undone",
            super::coding::names(&codings)
        ));
    }
    let bad_image = |called: Option<&str>, what: String| WriteError::BadImage {
        url: request.url.to_string(),
        what: match called {
            Some(called) => format!("{what} (the server calls it {called})"),
            None => what,
        },
    };
    let qcow2 = match &first {
        Some(first) if qcow2::is_meant(first, request.compression) => {
            if !codings.is_empty() {
                let what = "the server sends a qcow2 file with a Content-Encoding, so that no parts of it can be asked for. Have it sent as it is; nothing was written";
                return Err(bad_image(None, what.to_owned()));
            }
            let read = async { Ok(qcow2::read(&source, first).await) };
            match or_stopped(stop, 0, read).await? {
                Ok(file) => Some(file),
                Err(NotRead::Bad(what)) => {
                    return Err(bad_image(None, format!("{what}; nothing was written")));
                }
                Err(NotRead::Transfer(err)) => return Err(err),
            }
        }
        _ => None,
    };
    let ready = match &request.resume {
        None => Ready::afresh(target, first),
        Some(run) => {
            let origin = Origin {
                run,
                url: request.url.as_str(),
                expected: expected.as_deref(),
                said: request.compression,
                is_qcow2: qcow2.is_some(),
                sizes,
            };
            let written = &counters.written;
            resume::look(&origin, &mut source, target, first, written, stop, &mut warnings).await?
        }
    };
    let (found_bytes, not_fetched_bytes) = (ready.found_bytes(), ready.not_fetched_bytes);
    let first = ready.first;
    let begin = Begin {
        target: ready.target,
        qcow2,
        notes: ready.notes,
        found: ready.found,
        expects_digest: expected.is_some(),
    };
    let stages = Stages::start(request, sizes, begin, &source, counters, stop)?;
    let (fed, digest, decoded, finished) = stages.run(&mut source, first, &expected, counters, stop).await?;

    // The earliest stage that failed by itself names the reason; the others have only seen it give up.
    match fed {
        Ok(()) | Err(FeedError::StagesGone) => {}
        Err(FeedError::Source(err)) => return Err(err),
    }
    let finished = finished.map_err(|err| match err {
        WriteError::BadImage { what, .. } => bad_image(source.is_called_text(), what),
        err => err,
    })?;
    if let (Some(expected), Ok(digests)) = (&expected, &digest)
        && !digests.contain(expected)
    {
        let (expected, actual) = (expected.clone(), digests.file.clone());
        return Err(WriteError::WrongDigest {
            url: request.url.to_string(),
            expected,
            actual,
        });
    }
    match decoded {
        Ok(decoded) => warnings.extend(decoded.warnings),
        Err(DecodeError::Image(what)) => return Err(bad_image(source.is_called_text(), what)),
        Err(DecodeError::GivenUp) => {}
    }
    if let Err(NoDigest::BadCoding(what)) = digest {
        return Err(bad_image(None, what));
    }
    if stop.is_cancelled() && finished.is_none() {
        return Err(WriteError::Stopped { at: source.at() });
    }
    let (Some(finished), Ok(digests)) = (finished, digest) else {
        return Err(WriteError::Thread {
            what: "a stage ended without a reason".to_owned(),
        });
    };
    warnings.extend(finished.warnings);
    Ok(Written {
        downloaded_bytes: source.at() - not_fetched_bytes,
        image_bytes: finished.image_bytes,
        sha256: digests.file,
        verified: expected.is_some(),
        resumes: source.resumes(),
        found_bytes,
        skipped_bytes: finished.skipped_bytes,
        read_back_bytes: counters.read_back.load(Ordering::Relaxed),
        fitted: finished.fitted,
        kernel: finished.kernel,
        warnings,
    })
}

/// What the stages begin with.
struct Begin<M> {
    target: M,
    qcow2: Option<Qcow2>,
    notes: Option<Notes>,
    found: Option<Found>,
    expects_digest: bool,
}

/// The threads, and the ends of their channels that this task holds.
struct Stages {
    feed: async_mpsc::Sender<Feed>,
    verdict: mpsc::Sender<Verdict>,
    digest: oneshot::Receiver<Result<Digests, NoDigest>>,
    decoded: oneshot::Receiver<Result<Decoded, DecodeError>>,
    finished: oneshot::Receiver<Result<Option<Finished>, WriteError>>,
}

/// Why not everything was fed.
pub(super) enum FeedError {
    Source(WriteError),
    /// A stage failed; its error counts.
    StagesGone,
}

type Outcome = (
    Result<(), FeedError>,
    Result<Digests, NoDigest>,
    Result<Decoded, DecodeError>,
    Result<Option<Finished>, WriteError>,
);

impl Stages {
    fn start<M: Medium + Send + 'static>(
        request: &WriteRequest,
        sizes: Sizes,
        begin: Begin<M>,
        source: &Source,
        counters: &Counters,
        stop: &CancellationToken,
    ) -> Result<Stages, WriteError> {
        let (feed, to_digest) = async_mpsc::channel(CHUNKS);
        let (to_decode, from_digest) = mpsc::sync_channel(CHUNKS);
        let (pieces, from_decode) = mpsc::sync_channel(BLOCKS);
        let (verdict, await_verdict) = mpsc::channel();
        let (pool, empties) = BlockPool::new(sizes.block_bytes);
        // When the image is bad, the digest tells whether it is so on the server or became so on the way.
        let digest_rest = Arc::new(AtomicBool::new(false));

        let rest = Arc::clone(&digest_rest);
        let codings: Vec<Coding> = source.codings();
        let Begin {
            target,
            qcow2,
            notes,
            found,
            expects_digest,
        } = begin;
        let start = match &found {
            Some(found) => found.checkpoint.file.clone(),
            None => RunningDigest::from(Midstate::START),
        };
        let marks = notes.map(|_| Arc::new(Marks::new(sizes.mark_bytes, &start)));
        let go_on = found.as_ref().map(|found| found.decoder);
        let left = marks.clone();
        // The length of what is sent, which is that of the file if it is not coded.
        let file_bytes = source.total().filter(|_| codings.is_empty());
        let digest = spawn("image-hash", move || {
            digest::run(to_digest, &to_decode, &codings, &rest, left.as_deref(), start)
        })?;
        let compression = request.compression;
        let decoded = spawn("image-decode", move || {
            let of_feed = marks.clone();
            let mut feed = FeedReader::new(move || {
                let next = from_digest.recv().ok();
                if let (Some(marks), Some(Feed::Data(bytes))) = (&of_feed, &next) {
                    marks.taken(bytes.len());
                }
                next
            });
            let limits = Limits::of_this_machine();
            let marks = marks.as_deref();
            let decoded = match (qcow2, go_on.zip(marks)) {
                (Some(file), _) => qcow2::decode(&mut feed, file, &pool, &pieces),
                (None, Some((from, marks))) => decode::go_on(&mut feed, from, limits, &pool, &pieces, marks),
                (None, None) => {
                    decode::run(&mut feed, compression, file_bytes, limits, &pool, &pieces, marks)
                }
            };
            if matches!(decoded, Err(DecodeError::Image(_))) {
                // Before the feed is dropped, which is what the digest stage sees.
                digest_rest.store(expects_digest, Ordering::Release);
            }
            decoded
        })?;
        let writer = Writer::new(
            target,
            Demand {
                url: request.url.to_string(),
                content: request.content,
                grow: request.grow,
                verify: request.verify,
                block_bytes: sizes.block_bytes,
                end_bytes: sizes.end_bytes,
                notes,
                touched: Arc::clone(&request.touched),
                read_back: Arc::clone(&counters.read_back),
                stop: stop.clone(),
            },
            Arc::clone(&counters.written),
            Arc::clone(&counters.image),
        );
        let writer = match found {
            Some(found) => writer.going_on(&found.checkpoint, found.digest, found.first),
            None => writer,
        };
        let finished = spawn("image-write", move || {
            writer.run(&from_decode, &empties, &await_verdict)
        })?;
        Ok(Stages {
            feed,
            verdict,
            digest,
            decoded,
            finished,
        })
    }

    /// Feeds the stages, speaks the verdict and waits until every thread has ended.
    async fn run(
        self,
        source: &mut Source,
        first: Option<Bytes>,
        expected: &Option<String>,
        counters: &Counters,
        stop: &CancellationToken,
    ) -> Result<Outcome, WriteError> {
        let fed = feed_into(source, first, &self.feed, &counters.downloaded, stop).await;
        drop(self.feed);
        let digest = self.digest.await.map_err(died)?;
        let decoded = self.decoded.await.map_err(died)?;
        let good = match (&digest, expected) {
            (Err(_), _) => false,
            (Ok(_), None) => true,
            (Ok(digests), Some(expected)) => digests.contain(expected),
        };
        if fed.is_ok() && decoded.is_ok() && digest.is_ok() && !stop.is_cancelled() {
            // If the writer has failed, its own error tells.
            let _ = self
                .verdict
                .send(if good { Verdict::Right } else { Verdict::Wrong });
        }
        drop(self.verdict);
        let finished = self.finished.await.map_err(died)?;
        Ok((fed, digest, decoded, finished))
    }
}

/// Feeds the stages with all that comes; `downloaded` counts it.
pub(super) async fn feed_into(
    source: &mut Source,
    first: Option<Bytes>,
    to: &async_mpsc::Sender<Feed>,
    downloaded: &AtomicU64,
    stop: &CancellationToken,
) -> Result<(), FeedError> {
    let mut next = first;
    while let Some(bytes) = next {
        downloaded.store(source.at(), Ordering::Relaxed);
        to.send(Feed::Data(bytes))
            .await
            .map_err(|_| FeedError::StagesGone)?;
        let at = source.at();
        next = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(FeedError::Source(WriteError::Stopped { at })),
            () = to.closed() => return Err(FeedError::StagesGone),
            next = source.next() => next.map_err(FeedError::Source)?,
        };
    }
    to.send(Feed::End).await.map_err(|_| FeedError::StagesGone)
}

pub(super) async fn or_stopped<T>(
    stop: &CancellationToken,
    at: u64,
    work: impl Future<Output = Result<T, WriteError>>,
) -> Result<T, WriteError> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(WriteError::Stopped { at }),
        result = work => result,
    }
}

pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    stage: impl FnOnce() -> T + Send + 'static,
) -> Result<oneshot::Receiver<T>, WriteError> {
    let (done, wait) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Nobody waits any more when the write was dropped.
            let _ = done.send(stage());
        })
        .map_err(|err| WriteError::Thread {
            what: format!("thread {name} could not be started: {err}"),
        })?;
    Ok(wait)
}

pub(super) fn died(_: oneshot::error::RecvError) -> WriteError {
    WriteError::Thread {
        what: "a stage panicked".to_owned(),
    }
}
