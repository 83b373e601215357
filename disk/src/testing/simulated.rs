//! A disk in memory with a write cache, from which the power goes: what was not synced is lost, comes in another order or
//! is torn at a sector. Reads, writes and syncs fail on demand. All of it follows from a seed.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::image::WriteError;
use crate::image::writer::Medium;
use crate::publish::KernelView;

/// Numbers that follow from a seed: SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Of `0..bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Everything fails from then on, and a part of what was not synced is lost.
    PowerGoes,
    /// A read fails, once.
    ReadFails,
    /// A sync fails, once; what it was to save is lost in part.
    SyncFails,
    /// A write fails, once, having been done in part.
    WriteFails,
}

struct Disk {
    /// What survives.
    settled: Vec<u8>,
    /// What is read while there is power.
    shown: Vec<u8>,
    /// Whole sectors that were written since the last sync, in this order.
    cached: Vec<(usize, Vec<u8>)>,
    sector_bytes: usize,
    can_zero: bool,
    /// After so many operations of its kind, this happens.
    fault: Option<(usize, Fault)>,
    has_power: bool,
    seed: Seed,
}

/// A disk that outlives whoever writes to it: clones are the same one.
#[derive(Clone)]
pub(crate) struct Simulated {
    disk: Arc<Mutex<Disk>>,
    size: usize,
    sector_bytes: usize,
}

impl Simulated {
    pub(crate) fn new(content: Vec<u8>, sector_bytes: usize, seed: Seed) -> Simulated {
        let size = content.len();
        let disk = Disk {
            shown: content.clone(),
            settled: content,
            cached: Vec::new(),
            sector_bytes,
            can_zero: true,
            fault: None,
            has_power: true,
            seed,
        };
        Simulated {
            disk: Arc::new(Mutex::new(disk)),
            size,
            sector_bytes,
        }
    }

    /// Has power again, and in `after` operations goes wrong in this way.
    pub(crate) fn switch_on(&self, fault: Option<(usize, Fault)>) {
        let mut disk = self.lock();
        disk.has_power = true;
        disk.fault = fault;
        disk.can_zero = disk.seed.below(2) == 0;
    }

    /// The power goes, if it is not gone; what is on the disk then.
    pub(crate) fn cut(&self) -> Vec<u8> {
        let mut disk = self.lock();
        disk.lose_power();
        disk.settled.clone()
    }

    /// Puts these bytes there behind everybody's back.
    pub(crate) fn spoil(&self, at: usize, bytes: &[u8]) {
        let mut disk = self.lock();
        disk.settled[at..at + bytes.len()].copy_from_slice(bytes);
        disk.shown[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    fn failed(&self, what: &'static str, offset: u64, why: &str) -> WriteError {
        WriteError::Device {
            disk: self.path().to_owned(),
            what,
            offset,
            source: io::Error::other(why.to_owned()),
        }
    }
}

impl Disk {
    /// Counts an operation; whether this is the one that fails.
    fn fails(&mut self, kinds: &[Fault]) -> Option<Fault> {
        let (after, fault) = self.fault?;
        if fault != Fault::PowerGoes && !kinds.contains(&fault) {
            return None;
        }
        if after > 0 {
            self.fault = Some((after - 1, fault));
            return None;
        }
        self.fault = None;
        Some(fault)
    }

    fn cache(&mut self, at: usize, bytes: &[u8]) {
        self.shown[at..at + bytes.len()].copy_from_slice(bytes);
        let from = at / self.sector_bytes * self.sector_bytes;
        let to = (at + bytes.len())
            .next_multiple_of(self.sector_bytes)
            .min(self.shown.len());
        let sectors = self.shown[from..to].to_vec();
        self.cached.push((from, sectors));
    }

    fn settle(&mut self, at: usize, bytes: &[u8]) {
        self.settled[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn lose_power(&mut self) {
        if self.has_power {
            self.settle_a_part();
            self.has_power = false;
        }
    }

    /// Some of what is cached comes to the disk, by one of the ways that disks have.
    fn settle_a_part(&mut self) {
        let mut cached = std::mem::take(&mut self.cached);
        let sector = self.sector_bytes;
        match self.seed.below(6) {
            0 => {}
            1 => {
                for (at, bytes) in &cached {
                    self.settle(*at, bytes);
                }
            }
            // Up to a moment, in which a write was on its way.
            2 => {
                let whole = self.seed.below(cached.len() + 1);
                for (at, bytes) in &cached[..whole] {
                    self.settle(*at, bytes);
                }
                if let Some((at, bytes)) = cached.get(whole) {
                    let torn = self.seed.below(bytes.len() / sector + 1) * sector;
                    self.settle(*at, &bytes[..torn.min(bytes.len())]);
                }
            }
            // Each or not, in their order.
            3 => {
                for (at, bytes) in &cached {
                    if self.seed.below(2) == 0 {
                        self.settle(*at, bytes);
                    }
                }
            }
            // Each in part, in any order: an older one over a newer one too.
            4 => {
                for nth in (1..cached.len()).rev() {
                    let other = self.seed.below(nth + 1);
                    cached.swap(nth, other);
                }
                for (at, bytes) in &cached {
                    let torn = self.seed.below(bytes.len() / sector + 2) * sector;
                    self.settle(*at, &bytes[..torn.min(bytes.len())]);
                }
            }
            // Each sector or not.
            _ => {
                for (at, bytes) in &cached {
                    let mut coins = 0;
                    for (nth, part) in bytes.chunks(sector).enumerate() {
                        if nth % 64 == 0 {
                            coins = self.seed.next();
                        }
                        if coins >> (nth % 64) & 1 == 0 {
                            self.settle(at + nth * sector, part);
                        }
                    }
                }
            }
        }
        self.shown.clone_from(&self.settled);
    }
}

impl Medium for Simulated {
    fn path(&self) -> &Path {
        Path::new("/dev/simulated")
    }

    fn size(&self) -> u64 {
        self.size as u64
    }

    fn sector_size(&self) -> Option<u64> {
        Some(self.sector_bytes as u64)
    }

    fn can_zero(&self) -> bool {
        self.lock().can_zero
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let mut disk = self.lock();
        let fault = disk.fails(&[Fault::WriteFails]);
        if !disk.has_power {
            return Err(self.failed("write to", offset, "no power"));
        }
        let at = offset as usize;
        match fault {
            None => {
                disk.cache(at, bytes);
                return Ok(());
            }
            Some(Fault::PowerGoes) => {
                disk.cache(at, bytes);
                disk.lose_power();
            }
            Some(_) => {
                let torn = disk.seed.below(bytes.len() / self.sector_bytes + 1) * self.sector_bytes;
                disk.cache(at, &bytes[..torn.min(bytes.len())]);
            }
        }
        Err(self.failed("write to", offset, "the disk says no"))
    }

    fn write_buffered(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        self.write(offset, bytes)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<bool, WriteError> {
        self.write(range.start, &vec![0; (range.end - range.start) as usize])?;
        Ok(true)
    }

    fn sync(&mut self) -> Result<(), WriteError> {
        let mut disk = self.lock();
        let fault = disk.fails(&[Fault::SyncFails]);
        if !disk.has_power {
            return Err(self.failed("sync of", 0, "no power"));
        }
        match fault {
            None => {
                for (at, bytes) in std::mem::take(&mut disk.cached) {
                    disk.settle(at, &bytes);
                }
                return Ok(());
            }
            Some(Fault::PowerGoes) => disk.lose_power(),
            // The kernel forgets what it could not write.
            Some(_) => disk.settle_a_part(),
        }
        Err(self.failed("sync of", 0, "the disk says no"))
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut disk = self.lock();
        let fault = disk.fails(&[Fault::ReadFails]);
        if fault == Some(Fault::PowerGoes) {
            disk.lose_power();
        }
        if fault.is_some() || !disk.has_power {
            return Err(io::Error::other("the disk does not answer"));
        }
        let from = offset as usize;
        let there = disk.shown.get(from..from + len).map(<[u8]>::to_vec);
        there.ok_or_else(|| io::Error::other("beyond the end"))
    }

    fn claim_partitions(&mut self) -> Result<KernelView, WriteError> {
        Ok(KernelView::Current)
    }

    fn publish(&mut self) -> Result<KernelView, WriteError> {
        Ok(KernelView::Current)
    }
}
