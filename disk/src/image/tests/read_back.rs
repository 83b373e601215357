//! What was written is read from the disk again: what happens when it is the same, when it is not, and when nobody waits.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use super::super::writer::{Block, Demand, Finished, Medium, Piece, Verdict, Writer};
use super::power::system;
use super::*;
use crate::testing::LoopDevice;
use crate::testing::recorder::Recorder;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn all_but_the_ends_is_read_back_and_counted() {
    let content = sample(9 * MIB + 700);
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.zst");
    std::fs::write(&image, zstd::encode_all(content.as_slice(), 1).unwrap()).unwrap();
    for sector_bytes in [512, 4096] {
        let device = LoopDevice::filled(12 * MIB, sector_bytes);
        let mut request = WriteRequest::new(Url::from_file_path(&image).unwrap(), device.path());
        request.content = Content::Any;
        assert_eq!(write_quietly(&request).await.unwrap().read_back_bytes, 0);
        request.verify = Verify::ReadBack;
        let seen = Arc::new(AtomicU64::new(0));
        let last = Arc::clone(&seen);
        let report = move |progress: Progress| last.store(progress.read_back_bytes, Ordering::Relaxed);
        let written = write(&request, report, CancellationToken::new()).await.unwrap();
        // The first MiB is held back, and compared whoever asks.
        let wanted = (content.len() - MIB) as u64;
        assert_eq!(
            (written.read_back_bytes, seen.load(Ordering::Relaxed)),
            (wanted, wanted)
        );
        assert!(device.content().starts_with(&content));
    }
}

/// A disk that does not keep what it was given.
struct Forgetful<'a> {
    disk: &'a mut Recorder,
    /// A bit of this byte is another one when it is read.
    at: Option<usize>,
    /// Cancelled by the first reading of what was written.
    stop: Option<CancellationToken>,
}

impl Medium for Forgetful<'_> {
    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn sector_size(&self) -> Option<u64> {
        self.disk.sector_size()
    }

    fn can_zero(&self) -> bool {
        self.disk.can_zero()
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        self.disk.write(offset, bytes)
    }

    fn write_buffered(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        self.disk.write_buffered(offset, bytes)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<bool, WriteError> {
        self.disk.zero(range)
    }

    fn sync(&mut self) -> Result<(), WriteError> {
        self.disk.sync()
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.disk.read(offset, len)
    }

    fn read_into(&self, offset: u64, block: &mut Block) -> io::Result<()> {
        self.disk.read_into(offset, block)?;
        if let Some(stop) = &self.stop {
            stop.cancel();
        }
        let byte = self.at.and_then(|at| at.checked_sub(offset as usize));
        if let Some(byte) = byte.and_then(|at| block.as_mut_slice().get_mut(at)) {
            *byte ^= 0x10;
        }
        Ok(())
    }

    fn claim_partitions(&mut self) -> Result<KernelView, WriteError> {
        self.disk.claim_partitions()
    }

    fn publish(&mut self) -> Result<KernelView, WriteError> {
        self.disk.publish()
    }
}

/// Writes a system whose last half is zero; what came of it, and what is on the disk.
fn written(at: Option<usize>, stops: bool) -> (Result<Option<Finished>, WriteError>, Vec<u8>) {
    let mut image = system(6 * MIB, 0x22, 512);
    image[3 * MIB..5 * MIB].fill(0);
    let (pieces, from) = mpsc::channel();
    pieces.send(Piece::Size(Some(image.len() as u64))).unwrap();
    for part in image.chunks(Block::BYTES) {
        let mut block = Block::new();
        block.as_mut_slice()[..part.len()].copy_from_slice(part);
        block.truncate(part.len());
        pieces.send(Piece::Block(block)).unwrap();
    }
    pieces.send(Piece::End).unwrap();
    let (empties, _returned) = mpsc::channel();
    let (verdict, spoken) = mpsc::channel();
    verdict.send(Verdict::Right).unwrap();
    let mut recorder = Recorder::shown(system(8 * MIB, 0x11, 512), 512);
    let stop = CancellationToken::new();
    let disk = Forgetful {
        disk: &mut recorder,
        at,
        stop: stops.then(|| stop.clone()),
    };
    let demand = Demand {
        url: "http://x/y".to_owned(),
        content: Content::Disk,
        grow: Grow::Nothing,
        verify: Verify::ReadBack,
        block_bytes: Block::BYTES,
        end_bytes: MIB as u64,
        notes: None,
        touched: Arc::default(),
        read_back: Arc::default(),
        stop,
    };
    let result = Writer::new(disk, demand, Arc::default(), Arc::default()).run(&from, &empties, &spoken);
    (result, recorder.content)
}

fn boots(disk: &[u8]) -> bool {
    disk[510..512] == [0x55, 0xaa]
        || disk[512..520] == *b"EFI PART"
        || disk[disk.len() - 512..].starts_with(b"EFI PART")
}

#[test]
fn a_disk_that_has_other_bytes_does_not_boot_and_the_place_is_told() {
    let (result, disk) = written(None, false);
    assert!(result.unwrap().is_some() && boots(&disk));
    // In data, in what was made to be zeros, and in its last byte.
    for (at, block) in [(2 * MIB, MIB), (4 * MIB + 5, 4 * MIB), (6 * MIB - 1, 4 * MIB)] {
        let (result, disk) = written(Some(at), false);
        let err = result.unwrap_err();
        assert!(
            matches!(&err, WriteError::ReadBackDiffers { offset, .. } if *offset == block as u64),
            "{err}"
        );
        assert!(!boots(&disk), "{at}");
    }
}

#[test]
fn a_stop_ends_the_reading_and_the_disk_does_not_boot() {
    let (result, disk) = written(None, true);
    assert!(result.unwrap().is_none() && !boots(&disk));
}
