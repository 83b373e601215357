//! A disk in memory that records what is done to it, and what of that is there when the power goes at any point.

use std::io;
use std::ops::Range;
use std::path::Path;

use crate::ends::Step;
use crate::gpt;
use crate::image::WriteError;
use crate::image::writer::Medium;
use crate::mbr;
use crate::publish::KernelView;

const MIB: usize = 1 << 20;

/// A disk in memory that records what is done to it.
pub(crate) struct Recorder {
    pub(crate) content: Vec<u8>,
    pub(crate) sector_bytes: u64,
    pub(crate) steps: Vec<Step>,
    kernel: KernelView,
}

impl Recorder {
    /// One whose partitions the kernel never shows.
    pub(crate) fn over(content: Vec<u8>, sector_bytes: u64) -> Recorder {
        Recorder {
            content,
            sector_bytes,
            steps: Vec::new(),
            kernel: KernelView::Never,
        }
    }

    /// One whose partitions the kernel shows, and that makes zeros by itself.
    pub(crate) fn shown(content: Vec<u8>, sector_bytes: u64) -> Recorder {
        Recorder {
            kernel: KernelView::Current,
            ..Recorder::over(content, sector_bytes)
        }
    }
}

impl Medium for Recorder {
    fn path(&self) -> &Path {
        Path::new("/dev/recorder")
    }

    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    fn sector_size(&self) -> Option<u64> {
        Some(self.sector_bytes)
    }

    fn can_zero(&self) -> bool {
        self.kernel == KernelView::Current
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let at = offset as usize;
        self.content[at..at + bytes.len()].copy_from_slice(bytes);
        self.steps.push(Step::Write {
            at: offset,
            bytes: bytes.to_vec(),
        });
        Ok(())
    }

    fn write_buffered(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        self.write(offset, bytes)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<bool, WriteError> {
        self.write(range.start, &vec![0; (range.end - range.start) as usize])?;
        Ok(true)
    }

    fn sync(&mut self) -> Result<(), WriteError> {
        self.steps.push(Step::Sync);
        Ok(())
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let from = offset as usize;
        self.content
            .get(from..from + len)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| io::Error::other("beyond the end"))
    }

    fn claim_partitions(&mut self) -> Result<KernelView, WriteError> {
        Ok(self.kernel)
    }

    fn publish(&mut self) -> Result<KernelView, WriteError> {
        Ok(self.kernel)
    }
}

/// For a writer that keeps its disk: a test looks at it afterwards.
impl Medium for &mut Recorder {
    fn path(&self) -> &Path {
        Recorder::path(self)
    }

    fn size(&self) -> u64 {
        Recorder::size(self)
    }

    fn sector_size(&self) -> Option<u64> {
        Recorder::sector_size(self)
    }

    fn can_zero(&self) -> bool {
        Recorder::can_zero(self)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        Recorder::write(self, offset, bytes)
    }

    fn write_buffered(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        Recorder::write_buffered(self, offset, bytes)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<bool, WriteError> {
        Recorder::zero(self, range)
    }

    fn sync(&mut self) -> Result<(), WriteError> {
        Recorder::sync(self)
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        Recorder::read(self, offset, len)
    }

    fn claim_partitions(&mut self) -> Result<KernelView, WriteError> {
        Recorder::claim_partitions(self)
    }

    fn publish(&mut self) -> Result<KernelView, WriteError> {
        Recorder::publish(self)
    }
}

/// What firmware and kernels take for the table of a disk: the primary copy, else the backup; an MBR where that is asked
/// for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Nothing,
    Partitions(Vec<(u64, u64)>),
}

pub(crate) fn table_of(disk: &[u8], sector: u64) -> Read {
    if let Ok(table) = gpt::parse(&disk[..MIB], sector) {
        return Read::Partitions(
            table
                .entries
                .iter()
                .map(|entry| {
                    (
                        entry.first_lba * sector,
                        (entry.last_lba + 1 - entry.first_lba) * sector,
                    )
                })
                .collect(),
        );
    }
    // The backup as an independent reader takes it, with its checksums.
    if let Ok(table) = gptman::GPT::read_from(&mut io::Cursor::new(disk), sector) {
        let used = table.iter().filter(|(_, entry)| entry.is_used());
        return Read::Partitions(
            used.map(|(_, entry)| {
                let sectors = entry.ending_lba + 1 - entry.starting_lba;
                (entry.starting_lba * sector, sectors * sector)
            })
            .collect(),
        );
    }
    match mbr::parse(disk) {
        Some(partitions)
            if !partitions.is_empty() && !partitions.iter().any(mbr::Partition::is_protective) =>
        {
            Read::Partitions(
                partitions
                    .iter()
                    .map(|one| (one.first_sector * sector, one.sectors * sector))
                    .collect(),
            )
        }
        _ => Read::Nothing,
    }
}

type Subset = Box<dyn Fn(usize) -> bool>;

/// Of few sectors every subset; of many each alone, those up to it, those from it, and all but it.
fn subsets(sectors: usize) -> Vec<(String, Subset)> {
    if sectors <= 6 {
        let of = |bits: usize| {
            let keeps: Subset = Box::new(move |nth| bits & (1 << nth) != 0);
            (format!("the sectors {bits:#b}"), keeps)
        };
        return (0..1 << sectors).map(of).collect();
    }
    let chosen = (0..sectors).filter(|nth| *nth < 40 || nth % 97 == 0 || nth + 40 > sectors);
    let of = |nth: usize| -> [(String, Subset); 4] {
        [
            (format!("only sector {nth}"), Box::new(move |other| other == nth)),
            (format!("up to sector {nth}"), Box::new(move |other| other <= nth)),
            (format!("from sector {nth}"), Box::new(move |other| other >= nth)),
            (
                format!("all but sector {nth}"),
                Box::new(move |other| other != nth),
            ),
        ]
    };
    chosen.flat_map(of).collect()
}

/// Every sector of a group between two syncs may have come, or not.
pub(crate) fn cuts(
    steps: &[Step],
    old: &[u8],
    sector_bytes: usize,
    mut check: impl FnMut(&[u8], String),
) -> usize {
    let mut settled = old.to_vec();
    let mut checked = 0;
    for (number, group) in steps.split(|step| *step == Step::Sync).enumerate() {
        let mut sectors: Vec<(usize, &[u8])> = Vec::new();
        for step in group {
            let Step::Write { at, bytes } = step else { continue };
            let mut from = *at as usize;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let len = (sector_bytes - from % sector_bytes).min(rest.len());
                let (part, more) = rest.split_at(len);
                sectors.push((from, part));
                (from, rest) = (from + len, more);
            }
        }
        // What changes nothing cannot be missed.
        sectors.retain(|(at, part)| settled[*at..*at + part.len()] != **part);
        for (name, keeps) in subsets(sectors.len()) {
            let mut disk = settled.clone();
            for (other, (at, part)) in sectors.iter().enumerate() {
                if keeps(other) {
                    disk[*at..at + part.len()].copy_from_slice(part);
                }
            }
            check(&disk, format!("group {number}, {name}"));
            checked += 1;
        }
        for (at, part) in sectors {
            settled[at..at + part.len()].copy_from_slice(part);
        }
    }
    checked
}
