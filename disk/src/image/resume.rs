//! Going on where an earlier write of the same image, by the same run, was cut off.
//!
//! Nothing is believed that is not compared: what lies on the disk is read back, and with the beginning of the image, which is fetched
//! again, it has to have the digest that was noted. Then the transfer goes on from the noted place, and the digest of the file
//! from the state that it had there.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use tokio_util::sync::CancellationToken;

use super::decode::{self, GoOn, Limits, Members, Part};
use super::journal::{self, Checkpoint, Subject, Unusable};
use super::pipeline::{Sizes, died, or_stopped, spawn};
use super::running_digest::{Midstate, RunningDigest};
use super::source::Source;
use super::target::ALIGN;
use super::writer::{Block, Medium};
use super::{Compression, WriteError};

/// Of the disk's end, beside the journal, is for a backup table: 5 sectors of 4 KiB, with a margin.
const TABLE_BYTES: u64 = 40 << 10;

/// What was found on the disk.
pub(super) struct Found {
    pub(super) checkpoint: Checkpoint,
    pub(super) decoder: GoOn,
    /// The beginning of the image.
    pub(super) first: Vec<u8>,
    /// Of the image, as far as it is there.
    pub(super) digest: RunningDigest,
}

/// What a writer needs to note how far it has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notes {
    pub(super) subject: Subject,
    /// Where the journal is.
    pub(super) at: u64,
}

/// What the bytes of an image have to come from for a later write to go on with them.
pub(super) struct Origin<'a> {
    pub(super) run: &'a str,
    pub(super) url: &'a str,
    pub(super) expected: Option<&'a str>,
    pub(super) said: Compression,
    pub(super) is_qcow2: bool,
    pub(super) sizes: Sizes,
}

/// What a write begins with.
pub(super) struct Ready<M> {
    pub(super) target: M,
    /// The first bytes for the stages.
    pub(super) first: Option<Bytes>,
    /// `None`: nothing is noted.
    pub(super) notes: Option<Notes>,
    pub(super) found: Option<Found>,
    /// How much less of the file is fetched than its length.
    pub(super) not_fetched_bytes: u64,
}

impl<M> Ready<M> {
    /// One that begins at the start.
    pub(super) fn afresh(target: M, first: Option<Bytes>) -> Ready<M> {
        Ready {
            target,
            first,
            notes: None,
            found: None,
            not_fetched_bytes: 0,
        }
    }

    /// How much of the image is on the disk.
    pub(super) fn found_bytes(&self) -> u64 {
        let found = self.found.as_ref();
        found.map_or(0, |found| found.checkpoint.image_at)
    }
}

/// Looks whether an earlier write left something, and has `source` go on there; `written` counts what is compared.
///
/// # Errors
/// Of the transfer; [`WriteError::Stopped`]. That nothing is there is none: `warnings` says why.
pub(super) async fn look<M: Medium + Send + 'static>(
    origin: &Origin<'_>,
    source: &mut Source,
    target: M,
    first: Option<Bytes>,
    written: &Arc<AtomicU64>,
    stop: &CancellationToken,
    warnings: &mut Vec<String>,
) -> Result<Ready<M>, WriteError> {
    let sizes = origin.sizes;
    let mut ready = Ready::afresh(target, first);
    let notes = match notes(origin, source, &ready.target, sizes.end_bytes) {
        Ok(notes) => notes,
        Err(why) => {
            warnings.push(format!("a write that is cut off starts again: {why}"));
            return Ok(ready);
        }
    };
    ready.notes = Some(notes);
    let checkpoint = match noted(&notes, &ready.target, sizes.block_bytes) {
        Ok(checkpoint) => checkpoint,
        Err(why) => {
            warnings.extend(why.map(|why| format!("the write started again: {why}")));
            return Ok(ready);
        }
    };
    let first = ready.first.take().unwrap_or_default();
    let file = or_stopped(stop, 0, beginning(source, first, sizes.block_bytes)).await?;
    ready.first = Some(file.clone());
    let (said, total, target) = (origin.said, source.total(), ready.target);
    let (stopped, written) = (stop.clone(), Arc::clone(written));
    let compared = spawn("image-compare", move || {
        let tell = |at| {
            written.store(at, Ordering::Relaxed);
            !stopped.is_cancelled()
        };
        let compared = compare(checkpoint, &file, total, said, &target, sizes, tell);
        written.store(0, Ordering::Relaxed);
        (compared, target)
    })?;
    let (compared, target) = compared.await.map_err(died)?;
    ready.target = target;
    if stop.is_cancelled() {
        // Before the notes are erased.
        return Err(WriteError::Stopped { at: source.at() });
    }
    match compared {
        Err(why) => warnings.push(format!("the write started again: {why}")),
        Ok(found) => {
            let (fetched, goes_on) = (source.at(), found.checkpoint.file.at());
            if source.go_to(goes_on).await? {
                ready.not_fetched_bytes = goes_on.saturating_sub(fetched);
                ready.first = Some(Bytes::new());
                ready.found = Some(found);
            } else {
                let why = "what fetches the image cannot begin in the middle of it";
                warnings.push(format!("the write started again: {why}"));
            }
        }
    }
    Ok(ready)
}

/// Where the notes of this write go.
///
/// # Errors
/// Why a write that is cut off starts again, in words.
fn notes(origin: &Origin, source: &Source, disk: &impl Medium, end_bytes: u64) -> Result<Notes, String> {
    if origin.is_qcow2 {
        return Err("a qcow2 file is written in its own order".to_owned());
    }
    if !source.codings().is_empty() {
        return Err("the server sends it with a Content-Encoding".to_owned());
    }
    let Some(total) = source.total() else {
        return Err("the server does not tell its length".to_owned());
    };
    let tag = source.vouched();
    if tag.is_none() && origin.expected.is_none() {
        return Err(
            "there is neither a SHA-256 nor a strong ETag that tells it from another image".to_owned(),
        );
    }
    let at = tail_at(disk.size(), end_bytes);
    if disk.size().saturating_sub(at) < journal::BYTES as u64 + TABLE_BYTES {
        return Err("the disk is too small to note on it how far the write has come".to_owned());
    }
    let subject = Subject::of([
        origin.run.as_bytes(),
        origin.url.as_bytes(),
        origin.expected.unwrap_or_default().as_bytes(),
        tag.unwrap_or_default().as_bytes(),
        &total.to_le_bytes(),
        &disk.size().to_le_bytes(),
        &disk.sector_size().unwrap_or(0).to_le_bytes(),
        &end_bytes.to_le_bytes(),
    ]);
    Ok(Notes { subject, at })
}

/// Where the end of the disk begins that is held back.
pub(super) fn tail_at(disk_bytes: u64, end_bytes: u64) -> u64 {
    let start = disk_bytes.saturating_sub(end_bytes) / ALIGN as u64 * ALIGN as u64;
    start.max(end_bytes.min(disk_bytes))
}

/// The last place that was noted on the disk.
///
/// # Errors
/// Why the write starts at the beginning, in words; `None`: there is nothing to say, as nothing was noted.
fn noted(notes: &Notes, disk: &impl Medium, block_bytes: usize) -> Result<Checkpoint, Option<String>> {
    let read = disk.read(notes.at, journal::BYTES);
    let read = read.map_err(|err| Some(format!("how far an earlier write came cannot be read: {err}")))?;
    let found = journal::latest(&read, &notes.subject).map_err(|why| match why {
        Unusable::Nothing => None,
        Unusable::Damaged => Some("what an earlier write noted on the disk is damaged".to_owned()),
        Unusable::OfAnother => Some(
            "what an earlier write noted on the disk is of another run, or of another image: by URL, checksum, ETag or length"
                .to_owned(),
        ),
        Unusable::Version(version) => Some(format!(
            "what an earlier write noted on the disk has version {version}, which this agent does not know"
        )),
    })?;
    // The body of the image lies before the end that is held back.
    if found.image_at < block_bytes as u64 || found.image_at > notes.at {
        return Err(Some(
            "what an earlier write noted on the disk makes no sense".to_owned(),
        ));
    }
    Ok(found)
}

/// The beginning of the file, as much of it as a block of the image is packed into: what does not pack gets longer by little, and lz4
/// unpacks 4 MiB at once.
async fn beginning(source: &mut Source, first: Bytes, block_bytes: usize) -> Result<Bytes, WriteError> {
    let wanted = 2 * block_bytes + block_bytes / 8;
    let mut collected = BytesMut::from(&*first);
    while collected.len() < wanted
        && let Some(more) = source.next().await?
    {
        collected.extend_from_slice(&more);
    }
    Ok(collected.freeze())
}

/// Compares what is on the disk with what was noted of it. Blocks while it reads; `tell` gets how much was read.
///
/// # Errors
/// Why the write starts at the beginning, in words.
fn compare(
    checkpoint: Checkpoint,
    file: &[u8],
    file_bytes: Option<u64>,
    said: Compression,
    disk: &impl Medium,
    sizes: Sizes,
    mut tell: impl FnMut(u64) -> bool,
) -> Result<Found, String> {
    let Sizes {
        block_bytes,
        end_bytes,
        ..
    } = sizes;
    let limits = Limits::of_this_machine();
    let cannot = || "the beginning of the image is another one now".to_owned();
    let packing =
        decode::packing(said, file.get(..decode::PREFIX_BYTES).unwrap_or(file)).map_err(|_| cannot())?;
    let mut first = vec![0; block_bytes];
    let mut filled = 0;
    let mut members = Members::new(packing, Box::new(Cursor::new(file)), limits).map_err(|_| cannot())?;
    while filled < first.len() {
        match members.read_part(first.get_mut(filled..).unwrap_or_default()) {
            Ok(Part::Bytes(len)) => filled += len,
            Ok(Part::Member(_)) => {}
            Ok(Part::End(_)) | Err(_) => return Err(cannot()),
        }
    }
    let head = usize::try_from(end_bytes).unwrap_or(usize::MAX).min(block_bytes);
    let mut digest = RunningDigest::from(Midstate::START);
    digest.update(first.get(..head).unwrap_or_default());
    let mut at = head as u64;
    let mut block = Block::new();
    while at < checkpoint.image_at {
        let len = (checkpoint.image_at - at).min(Block::BYTES as u64);
        block.resize(usize::try_from(len).unwrap_or(Block::BYTES));
        disk.read_into(at, &mut block)
            .map_err(|err| format!("the disk cannot be read at byte {at}: {err}"))?;
        digest.update(block.as_slice());
        at += len;
        if !tell(at) {
            return Err("it was stopped".to_owned());
        }
    }
    if digest.clone().finish() != checkpoint.image {
        return Err("the disk does not have what an earlier write noted of it".to_owned());
    }
    let prefix = file.get(..decode::PREFIX_BYTES).unwrap_or(file);
    Ok(Found {
        decoder: GoOn {
            packing,
            image_at: checkpoint.image_at,
            member_at: checkpoint.file.at(),
            size: decode::image_bytes(packing, prefix, file_bytes),
        },
        checkpoint,
        first,
        digest,
    })
}
