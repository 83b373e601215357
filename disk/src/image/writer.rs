//! The writer stage: blocks of the image in, a disk out, both of its ends last.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use tokio_util::sync::CancellationToken;

use super::journal::{self, Checkpoint};
use super::judge::{self, Case, Judgement};
use super::marks::Mark;
use super::read_back::{Compared, ReadBack};
use super::resume::{self, Notes};
use super::running_digest::{Midstate, RunningDigest};
use super::target::ALIGN;
use super::{Content, Verify, WriteError};
use crate::ends::{Ends, FIRST_BYTES, Step};
use crate::gpt::{Backup, Fitted, Grow};
use crate::publish::KernelView;

/// How much of each end of the disk is zeroed first and written last: room for MBR, boot code and a GPT with 4 KiB
/// sectors (6 sectors, 24 KiB), with a wide margin.
pub(crate) const END_BYTES: u64 = 1 << 20;
/// Runs of zeros are looked for in pieces of this size.
const SEGMENT_BYTES: usize = 1 << 20;
/// Blocks in flight; two fill and two drain.
const BLOCKS: usize = 4;

/// What the decoder hands over. A channel that closes before `End` means: it gave up.
pub(super) enum Piece {
    /// The size of the image as far as its first bytes tell it; comes first.
    Size(Option<u64>),
    Block(Block),
    /// The first bytes of an image whose content comes in another order, to judge it by: they come again. After it come holes, then blocks
    /// with their places.
    Start(Vec<u8>),
    /// What is zero; in `Start`'s way.
    Hole(Range<u64>),
    /// A block that begins at byte `at`; in `Start`'s way.
    Placed {
        at: u64,
        block: Block,
    },
    /// A place where a later write can go on; all blocks before it have come.
    Mark(Mark),
    End,
}

/// A page-aligned buffer, as direct I/O needs it.
pub(crate) struct Block {
    /// INVARIANT: never grown, so that its address stays; `start <= ALIGN` and `start + len <= bytes.len()`.
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Block {
    pub(super) const BYTES: usize = 4 << 20;

    pub(super) fn new() -> Self {
        Block::of(Self::BYTES)
    }

    /// One that holds so many bytes.
    fn of(len: usize) -> Self {
        let bytes = vec![0; len + ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN).min(ALIGN);
        Block { bytes, start, len }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = len.min(self.len);
    }

    /// Makes it one of `len` bytes, of those at most that it was made with; what is in it may be anything then.
    pub(super) fn resize(&mut self, len: usize) {
        self.len = len.min(self.bytes.len() - ALIGN);
    }
}

/// Blocks that are free to be filled.
pub(super) struct BlockPool {
    empties: mpsc::Receiver<Block>,
    block_bytes: usize,
}

impl BlockPool {
    /// The pool, and where the writer gives blocks back.
    pub(super) fn new(block_bytes: usize) -> (BlockPool, mpsc::Sender<Block>) {
        let (give, empties) = mpsc::channel();
        for _ in 0..BLOCKS {
            // The receiver is alive: it is returned below.
            let _ = give.send(Block::of(block_bytes));
        }
        let pool = BlockPool { empties, block_bytes };
        (pool, give)
    }

    pub(super) fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Waits for a free block; `None` when the writer is gone.
    pub(super) fn take(&self) -> Option<Block> {
        let mut block = self.empties.recv().ok()?;
        block.resize(self.block_bytes);
        Some(block)
    }
}

/// What is written to, and tells the kernel of its partitions.
pub(crate) trait Medium {
    fn path(&self) -> &Path;
    fn size(&self) -> u64;
    /// Logical sectors; `None` for a regular file, which has none.
    fn sector_size(&self) -> Option<u64>;
    /// Whether [`Medium::zero`] has a chance; turns false when the kernel has refused once.
    fn can_zero(&self) -> bool;
    /// Writes past the page cache what is aligned, the rest through it.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError>;
    fn write_buffered(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError>;
    /// Makes a range read as zeros; true if the disk did so without the zeros being sent to it.
    fn zero(&mut self, range: Range<u64>) -> Result<bool, WriteError>;
    /// Returns when everything written so far is on stable storage.
    fn sync(&mut self) -> Result<(), WriteError>;
    /// What the disk has there.
    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// Fills the block with what the disk has there, not with what the kernel has kept.
    fn read_into(&self, offset: u64, block: &mut Block) -> io::Result<()> {
        let bytes = self.read(offset, block.as_slice().len())?;
        block.as_mut_slice().copy_from_slice(&bytes);
        Ok(())
    }
    /// Makes sure that nothing has a partition open, so that the kernel will take a new table.
    fn claim_partitions(&mut self) -> Result<KernelView, WriteError>;
    /// Tells the kernel of the table that is there now.
    fn publish(&mut self) -> Result<KernelView, WriteError>;

    /// Where the table is gone: the kernel lets go of the old partitions, so that nothing that it kept of them is written over
    /// what comes now.
    fn take_away_partitions(&mut self) -> Result<(), WriteError> {
        match self.publish() {
            Ok(_) => Ok(()),
            Err(WriteError::KernelRefused { disk, source }) => Err(WriteError::Device {
                disk,
                what: "taking away the old partitions of",
                offset: 0,
                source,
            }),
            Err(err) => Err(err),
        }
    }
}

/// What the image is to be.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    pub(super) url: String,
    pub(super) content: Content,
    pub(super) grow: Grow,
    pub(super) verify: Verify,
    /// How large a block is that is not the last one.
    pub(super) block_bytes: usize,
    /// How much of each end of the disk is held back: [`END_BYTES`].
    pub(super) end_bytes: u64,
    /// Where it is noted how far the write has come.
    pub(super) notes: Option<Notes>,
    /// Set before the first write.
    pub(super) touched: Arc<AtomicBool>,
    /// How much was read back.
    pub(super) read_back: Arc<AtomicU64>,
    /// Looked at where nothing else says that the write was given up.
    pub(super) stop: CancellationToken,
}

/// What is said of all that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the image.
    Right,
    /// Its digest is another one.
    Wrong,
}

/// What the writer has done.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) image_bytes: u64,
    pub(super) skipped_bytes: u64,
    pub(super) fitted: Option<Fitted>,
    pub(super) kernel: KernelView,
    pub(super) warnings: Vec<String>,
}

pub(super) struct Writer<M: Medium> {
    target: M,
    demand: Demand,
    /// How much has come; the offset of the next byte.
    at: u64,
    /// Kept back until the verdict: the image's first bytes, and those for the disk's last ones.
    head: Vec<u8>,
    tail: Vec<u8>,
    /// Zeros seen and not yet given to the disk.
    zeros: Range<u64>,
    skipped_bytes: u64,
    /// What is to be compared at the end.
    read_back: Option<ReadBack>,
    /// What is noted of the write, where it is.
    noting: Option<Noting>,
    written: Arc<AtomicU64>,
    /// The size that is expected, for the progress; 0: unknown.
    expected: Arc<AtomicU64>,
}

/// How far a write has come, for the journal.
struct Noting {
    notes: Notes,
    /// Of the image up to where it is.
    digest: RunningDigest,
    /// Of the next checkpoint.
    sequence: u64,
    /// How much of the image an earlier write left, and the image's beginning, until that is judged.
    found: Option<(u64, Vec<u8>)>,
}

impl<M: Medium> Writer<M> {
    /// One that goes on behind what was found on the disk.
    pub(super) fn going_on(mut self, found: &Checkpoint, digest: RunningDigest, first: Vec<u8>) -> Self {
        if let Some(noting) = &mut self.noting {
            noting.digest = digest;
            noting.sequence = found.sequence + 1;
            noting.found = Some((found.image_at, first));
        }
        self
    }

    pub(super) fn new(target: M, demand: Demand, written: Arc<AtomicU64>, expected: Arc<AtomicU64>) -> Self {
        Writer {
            target,
            read_back: (demand.verify == Verify::ReadBack).then(ReadBack::default),
            noting: demand.notes.map(|notes| Noting {
                notes,
                digest: RunningDigest::from(Midstate::START),
                sequence: 0,
                found: None,
            }),
            demand,
            at: 0,
            head: Vec::new(),
            tail: Vec::new(),
            zeros: 0..0,
            skipped_bytes: 0,
            written,
            expected,
        }
    }

    /// Writes until the pieces end, waits for the verdict, then writes the ends.
    ///
    /// `None`: an earlier stage gave up, or the verdict was never spoken; the ends are zero then, if anything was
    /// written at all.
    pub(super) fn run(
        mut self,
        pieces: &mpsc::Receiver<Piece>,
        empties: &mpsc::Sender<Block>,
        verdict: &mpsc::Receiver<Verdict>,
    ) -> Result<Option<Finished>, WriteError> {
        let mut size = None;
        let mut judgement = None;
        let mut judged_by = None;
        loop {
            match pieces.recv() {
                Ok(Piece::Size(known)) => {
                    size = known;
                    if let Some(judged) = self.take_up(size)? {
                        judgement = Some(judged);
                    }
                }
                Ok(Piece::Block(block)) => {
                    if judgement.is_none() {
                        judgement = Some(self.begin(block.as_slice(), size)?);
                    }
                    self.accept(block.as_slice())?;
                    // The decoder may have ended and dropped the pool.
                    let _ = empties.send(block);
                }
                Ok(Piece::Start(first)) => {
                    judgement = Some(self.begin(&first, size)?);
                    self.lay_out(size.unwrap_or(0))?;
                    judged_by = Some(first);
                }
                Ok(Piece::Hole(hole)) => self.hole(hole)?,
                Ok(Piece::Placed { at, block }) => {
                    self.place(at, block.as_slice())?;
                    let _ = empties.send(block);
                }
                Ok(Piece::Mark(mark)) => self.note(mark)?,
                Ok(Piece::End) => break,
                Err(mpsc::RecvError) => return Ok(None),
            }
        }
        let Some(judgement) = judgement else {
            return Err(WriteError::BadImage {
                url: self.demand.url.clone(),
                what: "it is empty; nothing was written".to_owned(),
            });
        };
        self.flush_zeros()?;
        self.target.sync()?;
        if judged_by.is_some_and(|first| !first.starts_with(&self.head)) {
            return Err(WriteError::BadImage {
                url: self.demand.url.clone(),
                what: "it begins in another way than before the transfer".to_owned(),
            });
        }
        match verdict.recv() {
            Ok(Verdict::Right) => {}
            Ok(Verdict::Wrong) => {
                self.forget()?;
                return Ok(None);
            }
            Err(mpsc::RecvError) => return Ok(None),
        }
        if let Some(read_back) = self.read_back.take() {
            let Demand {
                read_back: done,
                stop,
                ..
            } = &self.demand;
            if read_back.compare(&self.target, done, stop)? == Compared::Stopped {
                return Ok(None);
            }
        }
        let Judgement {
            table,
            mut warnings,
            partitions_end,
        } = judgement;
        let (fitted, backup) = match table {
            Some(table) => {
                // The image's first bytes, with the table in them.
                let known = table.start.len().min(self.head.len());
                let (start, rest) = (table.start.get(..known), self.head.get(known..));
                self.head = [start.unwrap_or_default(), rest.unwrap_or_default()].concat();
                (Some(table.fitted), Some(table.backup))
            }
            None => (None, None),
        };
        self.write_ends(backup)?;
        let kernel = self.target.publish()?;
        if let Some(needed) = partitions_end.filter(|end| *end > self.at) {
            warnings.push(format!(
                "the image ends at byte {}, its last partition at byte {needed}",
                self.at
            ));
        }
        Ok(Some(Finished {
            image_bytes: self.at,
            skipped_bytes: self.skipped_bytes,
            fitted,
            kernel,
            warnings,
        }))
    }

    /// Judges an image by its first bytes, and takes the old one away.
    fn begin(&mut self, first: &[u8], size: Option<u64>) -> Result<Judgement, WriteError> {
        let judgement = self.judge(first, size)?;
        self.demand.touched.store(true, Ordering::Relaxed);
        self.erase_ends()?;
        self.expected.store(size.unwrap_or(0), Ordering::Relaxed);
        Ok(judgement)
    }

    /// Goes on behind what an earlier write left, if it left something.
    fn take_up(&mut self, size: Option<u64>) -> Result<Option<Judgement>, WriteError> {
        let found = self.noting.as_ref().and_then(|noting| noting.found.clone());
        let Some((image_at, first)) = found else {
            return Ok(None);
        };
        let judgement = self.begin(&first, size)?;
        if let Some(noting) = &mut self.noting {
            noting.found = None;
        }
        let (head, _) = split_until(&first, 0, self.head_range().end);
        self.head.extend_from_slice(head);
        self.at = image_at;
        self.written.store(image_at, Ordering::Relaxed);
        Ok(Some(judgement))
    }

    /// Notes that a later write can go on at `mark`, once all before it is on stable storage.
    fn note(&mut self, mark: Mark) -> Result<(), WriteError> {
        let body = self.head_range().end..=self.tail_range().start;
        // What lies in the ends is not on the disk.
        if self.noting.is_none() || mark.image_at != self.at || !body.contains(&self.at) {
            return Ok(());
        }
        self.flush_zeros()?;
        self.target.sync()?;
        let Some(noting) = &mut self.noting else {
            return Ok(());
        };
        let checkpoint = Checkpoint {
            sequence: noting.sequence,
            image_at: mark.image_at,
            file: mark.file,
            image: noting.digest.clone().finish(),
        };
        noting.sequence += 1;
        let slot = checkpoint.encode(&noting.notes.subject);
        self.target
            .write_buffered(noting.notes.at + checkpoint.offset(), &slot)?;
        self.target.sync()
    }

    /// Some of the image is not what it has to be: nothing goes on with it.
    fn forget(&mut self) -> Result<(), WriteError> {
        let Some(noting) = &self.noting else { return Ok(()) };
        self.target
            .write_buffered(noting.notes.at, &vec![0; journal::BYTES])?;
        self.target.sync()
    }

    /// Makes ready for blocks in any order of an image of `size` bytes.
    fn lay_out(&mut self, size: u64) -> Result<(), WriteError> {
        if size > self.target.size() {
            return Err(self.does_not_fit(size, true, true));
        }
        self.at = size;
        let len =
            |range: Range<u64>| usize::try_from(range.end.min(size).saturating_sub(range.start)).unwrap_or(0);
        self.head = vec![0; len(self.head_range())];
        self.tail = vec![0; len(self.tail_range())];
        Ok(())
    }

    /// A hole that was laid out.
    fn hole(&mut self, hole: Range<u64>) -> Result<(), WriteError> {
        let (head, tail) = (self.head_range(), self.tail_range());
        let body = hole.start.max(head.end)..hole.end.min(tail.start);
        if !body.is_empty() {
            if let Some(read_back) = &mut self.read_back {
                read_back.zeros(body.clone());
            }
            self.collect_zeros(body)?;
        }
        self.written.fetch_add(hole.end - hole.start, Ordering::Relaxed);
        Ok(())
    }

    /// A block of an image that was laid out.
    fn place(&mut self, at: u64, block: &[u8]) -> Result<(), WriteError> {
        if at + block.len() as u64 > self.at {
            return Err(self.does_not_fit(at + block.len() as u64, false, true));
        }
        let (head, rest) = split_until(block, at, self.head_range().end);
        let after = at + head.len() as u64;
        let (body, tail) = split_until(rest, after, self.tail_range().start);
        overwrite(&mut self.head, at, head);
        self.write_body(after, body)?;
        let tail_at = (after + body.len() as u64).saturating_sub(self.tail_range().start);
        overwrite(&mut self.tail, tail_at, tail);
        self.written.fetch_add(block.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Refuses what makes no sense on this disk, before anything is written.
    fn judge(&mut self, first: &[u8], size: Option<u64>) -> Result<Judgement, WriteError> {
        let judgement = judge::judge(&Case {
            url: &self.demand.url,
            first,
            is_whole: first.len() < self.demand.block_bytes,
            size,
            disk: self.target.path(),
            disk_bytes: self.target.size(),
            sector_bytes: self.target.sector_size(),
            content: self.demand.content,
            grow: self.demand.grow,
        })?;
        let view = self.target.claim_partitions()?;
        if view == KernelView::Never && self.demand.grow != Grow::Nothing {
            return Err(WriteError::CannotGrow {
                url: self.demand.url.clone(),
                why: format!(
                    "the kernel shows no partitions of {}",
                    self.target.path().display()
                ),
            });
        }
        Ok(judgement)
    }

    /// The old system does not boot any more, and its partitions are gone.
    fn erase_ends(&mut self) -> Result<(), WriteError> {
        let mut ends = self.ends();
        if self.noting.as_ref().is_some_and(|noting| noting.found.is_some()) {
            // A write that is cut off twice goes on as well.
            ends.tail.start += journal::BYTES as u64;
        }
        let first = usize::try_from(ends.head.end)
            .unwrap_or(FIRST_BYTES)
            .min(FIRST_BYTES);
        let first = self.target.read(0, first).ok();
        self.carry_out(&ends.erase(first.as_deref()))?;
        self.target.take_away_partitions()
    }

    fn carry_out(&mut self, steps: &[Step]) -> Result<(), WriteError> {
        for step in steps {
            match step {
                Step::Write { at, bytes } => self.target.write_buffered(*at, bytes)?,
                Step::Sync => self.target.sync()?,
            }
        }
        Ok(())
    }

    fn accept(&mut self, block: &[u8]) -> Result<(), WriteError> {
        if let Some(noting) = &mut self.noting {
            noting.digest.update(block);
        }
        let end = self.at + block.len() as u64;
        if end > self.target.size() {
            return Err(self.does_not_fit(end.max(self.target.size() + 1) - 1, false, true));
        }
        let (head, rest) = split_until(block, self.at, self.head_range().end);
        self.head.extend_from_slice(head);
        let at = self.at + head.len() as u64;
        let (body, tail) = split_until(rest, at, self.tail_range().start);
        self.write_body(at, body)?;
        self.tail.extend_from_slice(tail);
        self.at = end;
        self.written.store(end, Ordering::Relaxed);
        // The size came from the first frame of several, or was a lie: better none than one that is passed.
        if end > self.expected.load(Ordering::Relaxed) {
            self.expected.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes data, in pieces as long as possible, and collects zeros.
    fn write_body(&mut self, at: u64, body: &[u8]) -> Result<(), WriteError> {
        if let Some(read_back) = &mut self.read_back {
            read_back.data(at, body);
        }
        if !self.target.can_zero() || !at.is_multiple_of(ALIGN as u64) {
            return self.target.write(at, body);
        }
        let mut data = 0..0;
        let mut offset = 0;
        for segment in body.chunks(SEGMENT_BYTES) {
            let next = offset + segment.len();
            // Only whole segments are aligned at both ends.
            if segment.len() == SEGMENT_BYTES && is_zero(segment) {
                self.write_slice(at, body, &data)?;
                data = next..next;
                self.collect_zeros(at + offset as u64..at + next as u64)?;
            } else {
                data.end = next;
            }
            offset = next;
        }
        self.write_slice(at, body, &data)
    }

    fn write_slice(&mut self, at: u64, body: &[u8], range: &Range<usize>) -> Result<(), WriteError> {
        match body.get(range.clone()) {
            Some(bytes) if !bytes.is_empty() => self.target.write(at + range.start as u64, bytes),
            _ => Ok(()),
        }
    }

    fn collect_zeros(&mut self, range: Range<u64>) -> Result<(), WriteError> {
        if self.zeros.end != range.start {
            self.flush_zeros()?;
            self.zeros = range;
        } else {
            self.zeros.end = range.end;
        }
        Ok(())
    }

    fn flush_zeros(&mut self) -> Result<(), WriteError> {
        let range = std::mem::replace(&mut self.zeros, 0..0);
        if range.is_empty() {
            return Ok(());
        }
        if self.target.zero(range.clone())? {
            self.skipped_bytes += range.end - range.start;
        }
        Ok(())
    }

    fn write_ends(&mut self, backup: Option<Backup>) -> Result<(), WriteError> {
        let mut ends = self.ends();
        let (mut head, mut tail) = (std::mem::take(&mut self.head), std::mem::take(&mut self.tail));
        if let Some(backup) = backup {
            overlay(&mut head, &ends.head, &backup);
            overlay(&mut tail, &ends.tail, &backup);
        }
        let journal = self.noting.as_ref().map(|noting| noting.notes.at);
        let mut is_beside = self.at <= ends.tail.start;
        if journal.is_some() {
            let len = tail.len().max(journal::BYTES);
            tail.extend_from_slice(&vec![0; len - tail.len()]);
            is_beside &= tail.iter().take(journal::BYTES).all(|byte| *byte == 0);
            if is_beside {
                tail.drain(..journal::BYTES);
                ends.tail.start += journal::BYTES as u64;
            }
        }
        self.carry_out(&ends.write(&head, &tail))?;
        if let Some(at) = journal.filter(|_| is_beside) {
            // Until here a cut costs nothing: the image is whole, and leaves this place alone.
            self.target.write_buffered(at, &vec![0; journal::BYTES])?;
            self.target.sync()?;
        }
        self.reads_back(ends.tail.start, &tail)?;
        self.reads_back(0, &head)
    }

    fn reads_back(&self, at: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let error = |source| WriteError::Device {
            disk: self.target.path().to_owned(),
            what: "reading back what was written to",
            offset: at,
            source,
        };
        if self.target.read(at, bytes.len()).map_err(error)? != bytes {
            return Err(error(io::Error::other("the disk holds something else")));
        }
        Ok(())
    }

    fn ends(&self) -> Ends {
        let sector_bytes = self.target.sector_size().unwrap_or(512);
        Ends {
            head: self.head_range(),
            tail: self.tail_range(),
            sector_bytes: usize::try_from(sector_bytes).unwrap_or(FIRST_BYTES),
        }
    }

    fn head_range(&self) -> Range<u64> {
        0..self.demand.end_bytes.min(self.target.size())
    }

    fn tail_range(&self) -> Range<u64> {
        let size = self.target.size();
        resume::tail_at(size, self.demand.end_bytes)..size
    }

    fn does_not_fit(&self, need_bytes: u64, known: bool, touched: bool) -> WriteError {
        let disk = self.target.path().to_owned();
        WriteError::DoesNotFit {
            disk,
            need_bytes,
            known,
            have_bytes: self.target.size(),
            touched,
        }
    }
}

/// Puts what of the backup table lies in `range` into the bytes that begin it.
fn overlay(bytes: &mut Vec<u8>, range: &Range<u64>, backup: &Backup) {
    let end = backup.at + backup.bytes.len() as u64;
    let (from, to) = (backup.at.max(range.start), end.min(range.end));
    let inside = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    if from >= to {
        return;
    }
    let (start, stop) = (inside(from - range.start), inside(to - range.start));
    bytes.extend_from_slice(&vec![0; stop.saturating_sub(bytes.len())]);
    let part = backup.bytes.get(inside(from - backup.at)..inside(to - backup.at));
    if let (Some(into), Some(part)) = (bytes.get_mut(start..stop), part) {
        into.copy_from_slice(part);
    }
}

/// Puts `bytes` into `into`, from `at` on.
fn overwrite(into: &mut [u8], at: u64, bytes: &[u8]) {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    if let Some(place) = into.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
        place.copy_from_slice(bytes);
    }
}

/// Splits `bytes`, whose first is at `at`, before the offset `until`.
fn split_until(bytes: &[u8], at: u64, until: u64) -> (&[u8], &[u8]) {
    let len = usize::try_from(until.saturating_sub(at)).unwrap_or(usize::MAX);
    bytes.split_at(len.min(bytes.len()))
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    // memcmp(3), which is fast however this crate is compiled.
    bytes
        .chunks(ZEROS.len())
        .all(|chunk| Some(chunk) == ZEROS.get(..chunk.len()))
}
