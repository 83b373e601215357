//! Power cuts and errors by the thousand: the real stages write to a simulated disk, and what goes wrong follows from a seed.
//!
//! `FARRIER_SEED=1234` runs that seed alone, and tells what happens; `FARRIER_SEEDS=100000` runs so many of them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

use bytes::Bytes;

use super::super::pipeline::{self, Sizes};
use super::*;
use crate::gpt;
use crate::testing::simulated::{Fault, Seed, Simulated};

const KIB: usize = 1 << 10;
const SEEDS: usize = 10_000;
/// Both ends, and as much again as there is in an image's body, and some that stays as it was.
const DISK_BYTES: usize = 2 * END + 320 * KIB;
/// What is held back of each end: not 1 MiB, which costs time.
const END: usize = 64 * KIB;
const BLOCK_BYTES: usize = 96 * KIB;
/// A run that nothing goes wrong in has to come within so many.
const RUNS: usize = 3;

/// A server in memory.
struct Memory {
    packed: Bytes,
    at: usize,
    chunk_bytes: usize,
    /// Here the transfer breaks.
    breaks_at: Option<usize>,
}

impl ByteSource for Memory {
    fn next(&mut self) -> InTime<'_, Option<Bytes>> {
        Box::pin(async move {
            let to = (self.at + self.chunk_bytes).min(self.packed.len());
            if self.breaks_at.is_some_and(|at| to >= at) {
                return Err(NotFetched {
                    reason: "Broken",
                    message: "the server is gone".to_owned(),
                });
            }
            let chunk = self.packed.slice(self.at..to);
            self.at = to;
            Ok((!chunk.is_empty()).then_some(chunk))
        })
    }

    fn part(&self, range: Range<u64>) -> InTime<'_, Vec<u8>> {
        let part = self.packed[range.start as usize..range.end as usize].to_vec();
        Box::pin(async move { Ok(part) })
    }

    fn go_to(&mut self, at: u64) -> bool {
        self.at = at as usize;
        true
    }

    fn total_bytes(&self) -> u64 {
        self.packed.len() as u64
    }

    fn resumes(&self) -> u32 {
        0
    }
}

type Systems = Mutex<HashMap<(usize, u8, usize, bool), Vec<u8>>>;

/// [`build`], once.
fn system(len: usize, fill: u8, sector: usize, has_gpt: bool) -> Vec<u8> {
    static BUILT: LazyLock<Systems> = LazyLock::new(Systems::default);
    let mut built = BUILT.lock().unwrap();
    let one = built.entry((len, fill, sector, has_gpt));
    one.or_insert_with(|| build(len, fill, sector, has_gpt)).clone()
}

/// An image with a GUID partition table, or an MBR's; told from others by every byte of its partition.
fn build(len: usize, fill: u8, sector: usize, has_gpt: bool) -> Vec<u8> {
    let mut disk = vec![0; len];
    let first = END / sector;
    if has_gpt {
        let mut device = std::io::Cursor::new(&mut disk);
        let mut table = gptman::GPT::new_from(&mut device, sector as u64, [fill; 16]).unwrap();
        table[1] = gptman::GPTPartitionEntry {
            partition_type_guid: [0x11; 16],
            unique_partition_guid: [fill; 16],
            starting_lba: first as u64,
            ending_lba: table.header.last_usable_lba,
            attribute_bits: 0,
            partition_name: "root".into(),
        };
        table.write_into(&mut device).unwrap();
        gptman::GPT::write_protective_mbr_into(&mut device, sector as u64).unwrap();
    } else {
        let entry = (0x83, first as u32, ((len - END) / sector) as u32);
        disk[..512].copy_from_slice(&crate::testing::mbr_sector(&[entry]));
    }
    let end = if has_gpt { len - 40 * KIB } else { len };
    // In pieces that differ, with a hole between them.
    for (nth, piece) in disk[END..end].chunks_mut(8 * KIB).enumerate() {
        if nth % 5 != 3 {
            piece.fill(fill ^ (nth as u8) << 2);
        }
    }
    disk[..400].fill(fill);
    disk[40 * KIB..60 * KIB].fill(fill);
    disk
}

/// What one seed has.
struct Case {
    old: Vec<u8>,
    image: Vec<u8>,
    packed: Bytes,
    sector: usize,
    digest: String,
    chunk_bytes: usize,
    verify: Verify,
    /// Whether a run goes on where another was cut off, and how often it notes how far it is.
    resumes: bool,
    mark_bytes: usize,
}

impl Case {
    fn of(seed: &mut Seed) -> Case {
        let has_gpt = seed.below(3) == 0;
        // An MBR counts in sectors of 512 B.
        let sector = [512, 4096][usize::from(has_gpt && seed.below(3) == 0)];
        let len = match seed.below(4) {
            // All of the disk.
            0 => DISK_BYTES,
            _ => END + 64 * KIB * (1 + seed.below(4)),
        };
        let image = system(len, 0x22, sector, has_gpt);
        let packed = packed(&image, seed);
        Case {
            old: system(DISK_BYTES, 0x11, sector, seed.below(2) == 0),
            digest: sha256(&packed),
            packed: packed.into(),
            image,
            sector,
            chunk_bytes: 1 + seed.below(16 * KIB) + seed.below(2) * 64 * KIB,
            resumes: seed.below(4) > 0,
            mark_bytes: 1 + seed.below(48 * KIB),
            verify: [Verify::Download, Verify::ReadBack][usize::from(seed.below(4) == 0)],
        }
    }

    fn request(&self) -> WriteRequest {
        let mut request = WriteRequest::new(Url::parse("http://images/disk").unwrap(), "/dev/simulated");
        request.sha256 = Some(self.digest.clone());
        request.verify = self.verify;
        request.resume = self.resumes.then(|| "a run".to_owned());
        request
    }

    async fn write(&self, disk: &Simulated, source: Memory) -> Result<Written, WriteError> {
        let open = |_: &std::path::Path| Ok(disk.clone());
        let stop = CancellationToken::new();
        let sizes = Sizes {
            block_bytes: BLOCK_BYTES,
            end_bytes: END as u64,
            mark_bytes: self.mark_bytes as u64,
        };
        pipeline::write_on(
            &self.request(),
            sizes,
            open,
            Some(Box::new(source)),
            &|_| {},
            stop,
        )
        .await
    }

    fn source(&self) -> Memory {
        Memory {
            packed: self.packed.clone(),
            at: 0,
            chunk_bytes: self.chunk_bytes,
            breaks_at: None,
        }
    }

    /// Whether this is the image, and zeros or the old bytes where it leaves room, and a table that fits.
    fn is_written(&self, disk: &[u8]) -> bool {
        let sector = self.sector;
        let body = END..self.image.len().min(DISK_BYTES - END);
        let boot = if gpt::parse(&self.image[..END], sector as u64).is_ok() {
            // The table's two copies are those of this disk.
            let is_whole = gpt::parse(&disk[..END], sector as u64).is_ok();
            is_whole
                && disk[DISK_BYTES - sector..].starts_with(b"EFI PART")
                && disk[..446] == self.image[..446]
                && disk[40 * KIB..END] == self.image[40 * KIB..END]
        } else {
            disk[..END] == self.image[..END]
        };
        let tail_at = body.end.max(DISK_BYTES - END);
        let tail = self.image.get(tail_at..).unwrap_or_default();
        let tail_end = tail_at + tail.len().saturating_sub(40 * KIB);
        boot && disk[body.clone()] == self.image[body]
            && disk[tail_at..tail_end] == tail[..tail_end - tail_at]
    }

    /// Whether it boots: never what is wrong.
    fn boots(&self, disk: &[u8], when: &str) -> bool {
        let boots = disk[510..512] == [0x55, 0xaa]
            || gpt::parse(&disk[..END], self.sector as u64).is_ok()
            || disk[DISK_BYTES - self.sector..].starts_with(b"EFI PART");
        if !boots {
            return false;
        }
        // The first sector comes last, and goes first: without it the rest may be there.
        if disk[..self.sector].iter().all(|byte| *byte == 0) {
            let same_data = |whole: &[u8]| {
                let to = whole.len().min(DISK_BYTES - END);
                disk[END..to] == whole[END..to]
            };
            assert!(
                same_data(&self.old) || same_data(&self.image),
                "{when}: a table leads to half a system"
            );
            return true;
        }
        assert!(
            disk == self.old || self.is_written(disk),
            "{when}: it boots half a system"
        );
        true
    }
}

/// Several members where the format has them, so that what is packed is read in parts.
fn packed(image: &[u8], seed: &mut Seed) -> Vec<u8> {
    use std::io::Write as _;
    let way = seed.below(8);
    let part_bytes = [image.len(), 40 * KIB][seed.below(2)];
    let parts = image.chunks(part_bytes);
    match way {
        0..=2 => image.to_vec(),
        3 => parts
            .flat_map(|part| {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(part).unwrap();
                encoder.finish().unwrap()
            })
            .collect(),
        4 if seed.below(8) == 0 => parts
            .flat_map(|part| {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(part).unwrap();
                encoder.finish().unwrap()
            })
            .collect(),
        _ => parts
            .flat_map(|part| zstd::encode_all(part, 1).unwrap())
            .collect(),
    }
}

/// One seed: runs that something goes wrong in, and one that ends well.
async fn run(number: u64, tells: bool, found: &AtomicUsize) {
    let mut seed = Seed(number);
    let case = Case::of(&mut seed);
    let disk = Simulated::new(case.old.clone(), case.sector, Seed(seed.next()));
    // A server sent other bytes before the power went: the run that finds that out forgets them, and the next one ends well.
    let mut was_spoilt = false;
    let mut rounds = RUNS;
    let mut round = 0;
    while round < rounds {
        let is_last = round + 1 >= RUNS;
        let fault = match seed.below(8) {
            0..=3 => Some(Fault::PowerGoes),
            4 => Some(Fault::WriteFails),
            5 => Some(Fault::SyncFails),
            6 => Some(Fault::ReadFails),
            _ => None,
        };
        let fault = fault.map(|fault| (seed.below(24), fault)).filter(|_| !is_last);
        let mut source = case.source();
        let mut is_spoilt = false;
        if !is_last {
            match seed.below(8) {
                0 => source.breaks_at = Some(seed.below(case.packed.len())),
                1 => {
                    let mut packed = case.packed.to_vec();
                    let at = seed.below(packed.len());
                    packed[at] ^= 1 << seed.below(8);
                    source.packed = packed.into();
                    is_spoilt = true;
                }
                _ => {}
            }
        }
        disk.switch_on(fault);
        let result = case.write(&disk, source).await;
        let when = format!("seed {number}, run {round}, {fault:?}, spoilt {is_spoilt}, {result:?}");
        if tells {
            println!("{when}");
        }
        // What is said to be done survives.
        let there = disk.cut();
        match result {
            Ok(written) => {
                assert!(
                    written.verified && written.sha256 == case.digest,
                    "{when}: verified"
                );
                // A run that goes on does not use all that it fetches.
                let used_all = written.found_bytes == 0;
                assert!(!(is_spoilt && used_all), "{when}: other bytes were verified");
                assert!(case.is_written(&there), "{when}: not what was verified is there");
                let journal = &there[DISK_BYTES - END..][..8 * KIB];
                let leaves_it = case.image.len() <= DISK_BYTES - END;
                assert!(
                    !leaves_it || journal.iter().all(|byte| *byte == 0),
                    "{when}: notes are left on the disk"
                );
                found.fetch_add(usize::from(written.found_bytes > 0), Ordering::Relaxed);
            }
            Err(WriteError::WrongDigest { .. }) if was_spoilt && is_last && rounds == RUNS => {
                assert!(!case.boots(&there, &when), "{when}");
                rounds += 1;
            }
            Err(_) => {
                assert!(!is_last, "{when}: it does not end well");
                if !case.boots(&there, &when) && seed.below(6) == 0 {
                    // What is not whole may be anything: another one wrote there, or the disk lost it.
                    let at = END + seed.below(DISK_BYTES - 2 * END - 64);
                    disk.spoil(at, &[0x77; 64]);
                }
            }
        }
        was_spoilt |= is_spoilt;
        round += 1;
    }
}

#[test]
fn ten_thousand_seeds_of_cuts_and_errors_never_boot_what_is_wrong() {
    let asked = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = asked("FARRIER_SEED") {
        return runtime().block_on(run(seed, true, &AtomicUsize::new(0)));
    }
    let count = asked("FARRIER_SEEDS").map_or(SEEDS, |count| count as usize);
    let next = AtomicUsize::new(0);
    let found = AtomicUsize::new(0);
    // The panic of a thread does not say the seed: the message does.
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |n| n.get()) {
            scope.spawn(|| {
                let runtime = runtime();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || !failed.lock().unwrap().is_empty() {
                        return;
                    }
                    let ran =
                        std::panic::AssertUnwindSafe(|| runtime.block_on(run(number as u64, false, &found)));
                    if std::panic::catch_unwind(ran).is_err() {
                        failed.lock().unwrap().push(number);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "FARRIER_SEED={failed:?} fails");
    let found = found.into_inner();
    println!("{found} runs of {count} seeds went on where another was cut off");
    assert!(
        found * 20 > count,
        "only {found} runs went on where another was cut off"
    );
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}
