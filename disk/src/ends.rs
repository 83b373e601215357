//! The two ends of a disk: in which order they are erased, and written.
//!
//! INVARIANT: whatever part of the writes between two syncs has reached the disk when the power goes, its first sector
//! is all zeros, or everything that it leads to is there, old or new. So the first sector goes first and comes last, and
//! alone: a sector is the unit that every disk writes whole, 4096 bytes are one on some disks only. The rest of the first
//! 4 KiB (a GPT's header, with 512-byte sectors) and the backup table at the disk's end, which firmware may fall back
//! to, are there only while all behind them is.

use std::ops::Range;

/// The page that the kernel writes at once, and the largest sector there is.
pub(crate) const FIRST_BYTES: usize = 4096;

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Write {
        at: u64,
        bytes: Vec<u8>,
    },
    /// Everything before it is on stable storage before anything after it.
    Sync,
}

/// Where the ends are, and how large a sector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) head: Range<u64>,
    pub(crate) tail: Range<u64>,
    pub(crate) sector_bytes: usize,
}

impl Ends {
    /// Makes zeros of both. `first` is what is on the disk at its start; `None`: that cannot be read.
    pub(crate) fn erase(&self, first: Option<&[u8]>) -> Vec<Step> {
        let first_bytes = self.first_bytes(self.head.end);
        let mut steps = Vec::new();
        let rest = first.and_then(|first| self.without_first_sector(first));
        let has_rest = rest.is_some();
        steps.push(match rest {
            Some(bytes) => Step::Write { at: 0, bytes },
            None => zeros(0..first_bytes as u64),
        });
        steps.push(Step::Sync);
        if has_rest {
            steps.push(zeros(0..first_bytes as u64));
        }
        if !self.tail.is_empty() {
            steps.push(zeros(self.tail.clone()));
        }
        if has_rest || !self.tail.is_empty() {
            steps.push(Step::Sync);
        }
        if self.head.end > first_bytes as u64 {
            steps.extend([zeros(first_bytes as u64..self.head.end), Step::Sync]);
        }
        steps
    }

    /// Writes both; each may be shorter than its end.
    pub(crate) fn write(&self, head: &[u8], tail: &[u8]) -> Vec<Step> {
        let (first, rest) = head.split_at(self.first_bytes(head.len() as u64));
        let mut steps = Vec::new();
        if !rest.is_empty() {
            let bytes = rest.to_vec();
            let at = first.len() as u64;
            steps.extend([Step::Write { at, bytes }, Step::Sync]);
        }
        let without = self.without_first_sector(first);
        if !tail.is_empty() {
            let bytes = tail.to_vec();
            let at = self.tail.start;
            steps.push(Step::Write { at, bytes });
        }
        if let Some(bytes) = &without {
            let bytes = bytes.clone();
            steps.push(Step::Write { at: 0, bytes });
        }
        if !tail.is_empty() || without.is_some() {
            steps.push(Step::Sync);
        }
        let bytes = first.to_vec();
        steps.extend([Step::Write { at: 0, bytes }, Step::Sync]);
        steps
    }

    fn first_bytes(&self, of: u64) -> usize {
        usize::try_from(of).unwrap_or(FIRST_BYTES).min(FIRST_BYTES)
    }

    /// The same with zeros for the first sector; `None` if there is nothing else in it.
    fn without_first_sector(&self, first: &[u8]) -> Option<Vec<u8>> {
        let sector = self.sector_bytes.min(first.len());
        let rest = first.get(sector..)?;
        if rest.iter().all(|byte| *byte == 0) {
            return None;
        }
        Some([&vec![0; sector], rest].concat())
    }
}

fn zeros(range: Range<u64>) -> Step {
    let len = usize::try_from(range.end - range.start).unwrap_or(0);
    Step::Write {
        at: range.start,
        bytes: vec![0; len],
    }
}
