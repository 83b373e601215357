//! The writer stage: blocks of the image in, a disk out, both of its ends last.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use super::WriteError;
use super::target::{ALIGN, Target};
use crate::gpt;

/// How much of each end of the disk is zeroed first and written last: room for MBR, boot code and a GPT with 4 KiB
/// sectors (6 sectors, 24 KiB), with a wide margin.
pub(super) const END_BYTES: u64 = 1 << 20;
/// Runs of zeros are looked for in pieces of this size.
const SEGMENT_BYTES: usize = 1 << 20;
/// Blocks in flight; two fill and two drain.
const BLOCKS: usize = 4;

/// What the decoder hands over. A channel that closes before `End` means: it gave up.
pub(super) enum Piece {
    /// The size of the image as far as its first bytes tell it; comes first.
    Size(Option<u64>),
    Block(Block),
    End,
}

/// A page-aligned buffer, as direct I/O needs it.
pub(super) struct Block {
    /// INVARIANT: never grown, so that its address stays; `start + BYTES <= bytes.len()`.
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Block {
    pub(super) const BYTES: usize = 4 << 20;

    fn new() -> Self {
        let bytes = vec![0; Self::BYTES + ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN).min(ALIGN);
        Block {
            bytes,
            start,
            len: Self::BYTES,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = len.min(self.len);
    }
}

/// Blocks that are free to be filled.
pub(super) struct BlockPool(mpsc::Receiver<Block>);

impl BlockPool {
    /// The pool, and where the writer gives blocks back.
    pub(super) fn new() -> (BlockPool, mpsc::Sender<Block>) {
        let (give, take) = mpsc::channel();
        for _ in 0..BLOCKS {
            // The receiver is alive: it is returned below.
            let _ = give.send(Block::new());
        }
        (BlockPool(take), give)
    }

    /// Waits for a free block; `None` when the writer is gone.
    pub(super) fn take(&self) -> Option<Block> {
        self.0.recv().ok()
    }
}

/// What the writer has done.
pub(super) struct Finished {
    pub(super) image_bytes: u64,
    pub(super) skipped_bytes: u64,
    pub(super) warnings: Vec<String>,
}

pub(super) struct Writer {
    target: Target,
    url: String,
    /// How much has come; the offset of the next byte.
    at: u64,
    /// Kept back until the verdict: the image's first bytes, and those for the disk's last ones.
    head: Vec<u8>,
    tail: Vec<u8>,
    /// Zeros seen and not yet given to the disk.
    zeros: Range<u64>,
    skipped_bytes: u64,
    written: Arc<AtomicU64>,
    /// The size that is expected, for the progress; 0: unknown.
    expected: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn new(
        target: Target,
        url: String,
        written: Arc<AtomicU64>,
        expected: Arc<AtomicU64>,
    ) -> Self {
        Writer {
            target,
            url,
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
        verdict: &mpsc::Receiver<()>,
    ) -> Result<Option<Finished>, WriteError> {
        let mut size = None;
        let mut warnings = Vec::new();
        let mut begun = false;
        loop {
            match pieces.recv() {
                Ok(Piece::Size(known)) => size = known,
                Ok(Piece::Block(block)) => {
                    if !begun {
                        warnings = self.check_first(block.as_slice(), size)?;
                        self.erase_ends()?;
                        self.expected.store(size.unwrap_or(0), Ordering::Relaxed);
                        begun = true;
                    }
                    self.accept(block.as_slice())?;
                    // The decoder may have ended and dropped the pool.
                    let _ = empties.send(block);
                }
                Ok(Piece::End) => break,
                Err(mpsc::RecvError) => return Ok(None),
            }
        }
        if !begun {
            return Err(self.bad_image("it is empty".to_owned()));
        }
        self.flush_zeros()?;
        self.target.sync()?;
        if verdict.recv().is_err() {
            return Ok(None);
        }
        self.write_ends()?;
        if let Some(needed) = self.partitions_end().filter(|end| *end > self.at) {
            warnings.push(format!(
                "the image ends at byte {}, its last partition at byte {needed}",
                self.at
            ));
        }
        Ok(Some(Finished {
            image_bytes: self.at,
            skipped_bytes: self.skipped_bytes,
            warnings,
        }))
    }

    /// Refuses what is no disk image or does not fit, before anything is written.
    fn check_first(&self, first: &[u8], size: Option<u64>) -> Result<Vec<String>, WriteError> {
        if let Some(what) = not_a_disk_image(first) {
            return Err(self.bad_image(what.to_owned()));
        }
        let mut warnings = Vec::new();
        let table = gpt::find(first);
        let by_table = table.as_ref().map(|table| match size {
            Some(_) => table.partitions_end_bytes(),
            None => table.disk_bytes(),
        });
        let short = (first.len() < Block::BYTES).then_some(first.len() as u64);
        match size.into_iter().chain(by_table).chain(short).max() {
            Some(need_bytes) if need_bytes > self.target.size() => {
                return Err(self.does_not_fit(need_bytes, true, false));
            }
            Some(_) => {}
            None => warnings.push("the size of the image was not known before it was written".to_owned()),
        }
        if let Some(table) = table.filter(|table| Some(table.sector_size) != self.target.sector_size())
            && let Some(has) = self.target.sector_size()
        {
            warnings.push(format!(
                    "the image is made for {}-byte sectors, {} has {has}-byte ones: its partitions will not be found",
                    table.sector_size,
                    self.target.path().display(),
                ));
        }
        Ok(warnings)
    }

    fn erase_ends(&mut self) -> Result<(), WriteError> {
        for end in [self.head_range(), self.tail_range()] {
            let len = usize::try_from(end.end - end.start).unwrap_or(0);
            self.target.write_buffered(end.start, &vec![0; len])?;
        }
        self.target.sync()
    }

    fn accept(&mut self, block: &[u8]) -> Result<(), WriteError> {
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
        if !self.target.can_zero() {
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
        if self.target.zero(range.clone())? {
            self.skipped_bytes += range.end - range.start;
        }
        Ok(())
    }

    /// The tail first: a disk with only its backup table is one that firmware repairs and boots.
    fn write_ends(&mut self) -> Result<(), WriteError> {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.target.write_buffered(self.tail_range().start, &tail)?;
            self.target.sync()?;
        }
        self.target.write_buffered(0, &self.head)?;
        self.target.sync()
    }

    fn partitions_end(&self) -> Option<u64> {
        gpt::find(&self.head).map(|table| table.partitions_end_bytes())
    }

    fn head_range(&self) -> Range<u64> {
        0..END_BYTES.min(self.target.size())
    }

    fn tail_range(&self) -> Range<u64> {
        let size = self.target.size();
        let start = size.saturating_sub(END_BYTES) / ALIGN as u64 * ALIGN as u64;
        start.max(self.head_range().end)..size
    }

    fn bad_image(&self, what: String) -> WriteError {
        WriteError::BadImage {
            url: self.url.clone(),
            what,
        }
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

/// Splits `bytes`, whose first is at `at`, before the offset `until`.
fn split_until(bytes: &[u8], at: u64, until: u64) -> (&[u8], &[u8]) {
    let len = usize::try_from(until.saturating_sub(at)).unwrap_or(usize::MAX);
    bytes.split_at(len.min(bytes.len()))
}

fn is_zero(bytes: &[u8]) -> bool {
    // Without an early exit in the inner loop it is vectorised.
    bytes
        .chunks(4096)
        .all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

/// What the first bytes are, if they are known not to be those of a disk.
fn not_a_disk_image(first: &[u8]) -> Option<&'static str> {
    let text = first
        .get(..64.min(first.len()))
        .unwrap_or_default()
        .to_ascii_lowercase();
    let text = text.trim_ascii_start();
    if first.starts_with(b"QFI\xfb") {
        Some("it is a qcow2 file; convert it with `qemu-img convert -O raw`")
    } else if first.starts_with(b"KDMV") || first.starts_with(b"# Disk DescriptorFile") {
        Some("it is a VMDK file; convert it with `qemu-img convert -O raw`")
    } else if first.get(257..262) == Some(b"ustar") {
        Some("it is a tar archive, not a disk image")
    } else if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") {
        Some("it is a web page, not a disk image")
    } else {
        None
    }
}

/// The error of an I/O call on the target.
pub(super) fn device_error(
    target: &Target,
    what: &'static str,
    offset: u64,
    source: io::Error,
) -> WriteError {
    WriteError::Device {
        disk: target.path().to_owned(),
        what,
        offset,
        source,
    }
}
