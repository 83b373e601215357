//! Erases a disk, and reads back that it is erased.
//!
//! Whatever the method, the ends of the disk are zeroed first, so that a disk whose erasure was stopped boots nothing; then the
//! disk erases itself, or is overwritten; then both ends and some blocks are read back, and have to be what the method promises. Run
//! again, it begins at the start; what a disk was doing for an earlier run is waited for first.

mod command;
mod method;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use command::{AtaSecurityCommand, Commands, Kernel, Sanitizing};
pub use method::{AtaSecurity, Says, choose, described, lacks};
pub use partitions::{Erasure, FieldProblem, MAX_SAMPLES, Method, SAMPLES, Standard};
use sha2::{Digest, Sha256};

use crate::ends::FIRST_BYTES;
use crate::image::WriteError;
use crate::image::target::{ALIGN, Target};
use crate::image::writer::Medium;
use crate::partition::{apply, ends_of, is_partition};

const SAMPLE_BYTES: u64 = 1 << 20;
/// What is written at once.
const BLOCK_BYTES: usize = 4 << 20;
/// What the kernel is asked for at once: stopping waits for it.
const RANGE_BYTES: u64 = 1 << 30;
const POLL: Duration = Duration::from_secs(1);
/// How often a disk may not say where its sanitizing is, one time after the other.
const MOST_SILENCE: u32 = 120;

/// What is to be erased, and how.
#[derive(Clone, Debug)]
pub struct WipeRequest {
    /// A disk, a partition, or a regular file.
    pub disk: PathBuf,
    /// As [`crate::probe::Disk`] has it: which commands the disk may have.
    pub transport: Option<String>,
    pub erasure: Erasure,
    /// Which blocks are read back.
    pub seed: u64,
    /// Set before the first byte of the disk changes.
    pub touched: Arc<AtomicBool>,
}

/// A disk that is erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wiped {
    pub method: Method,
    pub size_bytes: u64,
    /// Blocks that were read back, beside both ends.
    pub samples: u32,
    pub standard: Standard,
    /// Why it is another method than was asked for.
    pub note: Option<String>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub stage: &'static str,
    pub done: u64,
    pub total: u64,
}

/// Why a disk is not erased.
#[derive(Debug, thiserror::Error)]
pub enum WipeError {
    #[error(transparent)]
    Disk(#[from] WriteError),
    #[error("{disk} has not {method}: {why}; nothing was written. It has {has}")]
    MethodMissing {
        disk: PathBuf,
        method: Method,
        why: String,
        has: String,
    },
    #[error(
        "{disk} was not erased by {method}: {why}. Its ends are zeroed, and it boots nothing; name METHOD: overwrite, or run it again"
    )]
    Failed {
        disk: PathBuf,
        method: Method,
        why: String,
    },
    #[error(
        "{disk} is locked with a password that this action has not set: unlock it first; nothing was written"
    )]
    Locked { disk: PathBuf },
    #[error(
        "{disk} says that {method} is done, and at byte {at} {what}: do not trust it with {method}; name METHOD: overwrite, or destroy the disk"
    )]
    NotErased {
        disk: PathBuf,
        method: Method,
        at: u64,
        what: &'static str,
    },
    #[error("stopped at byte {at}: the ends of {disk} are zeroed, and it boots nothing")]
    Stopped { disk: PathBuf, at: u64 },
}

impl WipeError {
    /// One word for what went wrong; stable, for programs to compare.
    pub fn reason(&self) -> &'static str {
        match self {
            WipeError::Disk(error) => error.reason(),
            WipeError::MethodMissing { .. } => "MethodMissing",
            WipeError::Failed { .. } => "WipeFailed",
            WipeError::Locked { .. } => "DiskLocked",
            WipeError::NotErased { .. } => "NotErased",
            WipeError::Stopped { .. } => "Stopped",
        }
    }
}

/// Erases a disk. Blocks, for hours; `stop` is asked between blocks, and not while the disk erases itself.
///
/// # Errors
/// See [`WipeError`]. Without `touched` the disk is as it was; with it, it boots nothing.
pub fn wipe(
    request: &WipeRequest,
    report: &mut dyn FnMut(Step),
    stop: &dyn Fn() -> bool,
) -> Result<Wiped, WipeError> {
    let mut target = Target::open(&request.disk)?;
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&request.disk);
    let device = device.map_err(|source| device_error(&target, "opening", 0, source))?;
    let transport = match is_partition(&request.disk) {
        // The disk's commands would take the other partitions, too.
        true => None,
        false => request.transport.clone(),
    };
    let mut commands = Kernel::new(device, transport);
    carry_out(&mut target, &mut commands, request, report, stop)
}

fn carry_out<M: Medium>(
    disk: &mut M,
    commands: &mut dyn Commands,
    request: &WipeRequest,
    report: &mut dyn FnMut(Step),
    stop: &dyn Fn() -> bool,
) -> Result<Wiped, WipeError> {
    let says = commands
        .says()
        .unwrap_or_else(|e| Says::Nothing(format!("it does not say what it can: {e}")));
    let path = disk.path().to_owned();
    let mut method = choose(request.erasure.method, &says).map_err(|why| WipeError::MethodMissing {
        disk: path.clone(),
        method: request.erasure.method.unwrap_or(Method::Overwrite),
        why,
        has: described(&says),
    })?;
    let failed = |why: String| WipeError::Failed {
        disk: path.clone(),
        method,
        why,
    };
    disk.claim_partitions()?;
    match &says {
        Says::Ata(identify) if AtaSecurity::read(identify).locked => {
            let unlocked = commands.ata(AtaSecurityCommand::Unlock, POLL * 30);
            unlocked.map_err(|_| WipeError::Locked { disk: path.clone() })?;
        }
        // Of an earlier run, or of somebody else: nothing can be read or written meanwhile.
        Says::Nvme { .. } if matches!(method, Method::SanitizeBlock | Method::SanitizeCrypto) => {
            if let Some(Sanitizing::Running(_)) = sanitizing(commands) {
                sanitized(commands, report).map_err(failed)?;
            }
        }
        _ => {}
    }
    let places = places(disk.size(), request.erasure.samples, request.seed);
    let before = match method.leaves_zeros() {
        true => BTreeMap::new(),
        false => digests(disk, &places)?,
    };
    if stop() {
        return Err(WipeError::Stopped { disk: path, at: 0 });
    }

    request.touched.store(true, Ordering::Relaxed);
    let sector = disk.sector_size().unwrap_or(512);
    let ends = ends_of(disk.size(), sector);
    let first = read(disk, 0, (FIRST_BYTES as u64).min(disk.size()));
    let erase = ends.erase(first.ok().as_deref());
    apply(disk, &erase)?;
    disk.take_away_partitions()?;
    let middle = (ends.head.end, ends.tail.start);
    let mut note = None;
    match method {
        Method::SanitizeBlock | Method::SanitizeCrypto => {
            let action = if method == Method::SanitizeBlock { 2 } else { 4 };
            commands.sanitize(action).map_err(|e| failed(e.to_string()))?;
            sanitized(commands, report).map_err(failed)?;
        }
        Method::Format => commands.format(1).map_err(|e| failed(e.to_string()))?,
        Method::FormatCrypto => commands.format(2).map_err(|e| failed(e.to_string()))?,
        Method::AtaErase | Method::AtaEnhancedErase => {
            ata_erase(commands, method == Method::AtaEnhancedErase).map_err(failed)?;
        }
        Method::Overwrite => overwrite(disk, middle, report, stop)?,
        Method::ZeroOut | Method::Discard => {
            let is_done = in_ranges(disk, commands, (method, middle), report, stop)?;
            let why = match is_done {
                Err(e) => Some(format!("{method} failed: {e}")),
                Ok(()) => not_zeros(disk, &places)?
                    .map(|at| format!("after {method} byte {at} does not read as zeros")),
            };
            if let Some(why) = why {
                overwrite(disk, middle, report, stop)?;
                note = Some(format!("{why}: the disk was overwritten"));
                method = Method::Overwrite;
            }
        }
    }
    if method.is_of_disk() {
        // What the disk has left there is not said; whoever looks for a table is to find none.
        apply(disk, &erase)?;
        disk.take_away_partitions()?;
    }
    disk.sync()?;
    report(Step {
        stage: "read back",
        done: 0,
        total: disk.size(),
    });
    let not_erased = |at, what| WipeError::NotErased {
        disk: path.clone(),
        method,
        at,
        what,
    };
    let both = [
        (0, ends.head.end),
        (ends.tail.start, ends.tail.end - ends.tail.start),
    ];
    if let Some(at) = not_zeros(disk, &BTreeSet::from(both))? {
        return Err(not_erased(at, "no zeros are read"));
    }
    if method.leaves_zeros() {
        if let Some(at) = not_zeros(disk, &places)? {
            return Err(not_erased(at, "no zeros are read"));
        }
    } else {
        for (at, after) in digests(disk, &places)? {
            if after.is_some() && before.get(&at) == Some(&after) {
                return Err(not_erased(at, "what was there before is read"));
            }
        }
    }
    Ok(Wiped {
        method,
        size_bytes: disk.size(),
        samples: u32::try_from(places.len()).unwrap_or(u32::MAX),
        standard: method.standard(),
        note,
    })
}

fn sanitizing(commands: &mut dyn Commands) -> Option<Sanitizing> {
    commands
        .sanitize_log()
        .ok()
        .and_then(|log| Sanitizing::read(&log))
}

/// Waits until the disk says that it is sanitized.
fn sanitized(commands: &mut dyn Commands, report: &mut dyn FnMut(Step)) -> Result<(), String> {
    let (mut silent, mut at) = (0, 0);
    loop {
        match sanitizing(commands) {
            Some(Sanitizing::Done) => return Ok(()),
            Some(Sanitizing::Failed) => {
                let percent = u32::from(at) * 100 / 65536;
                return Err(format!("its sanitizing has failed, {percent} % of it were done"));
            }
            Some(Sanitizing::Running(progress)) => {
                (silent, at) = (0, progress);
                report(Step {
                    stage: "sanitize",
                    done: u64::from(progress),
                    total: 65536,
                });
            }
            Some(Sanitizing::Never) | None => silent += 1,
        }
        if silent == MOST_SILENCE {
            return Err("it does not say how far its sanitizing is".to_owned());
        }
        commands.wait(POLL);
    }
}

/// Source: ACS-3, section 4.20 (Security feature set). The erase takes the password away with all else.
fn ata_erase(commands: &mut dyn Commands, enhanced: bool) -> Result<(), String> {
    let state = |commands: &mut dyn Commands| {
        let identify = commands.identify_ata();
        identify
            .map(|identify| AtaSecurity::read(&identify))
            .map_err(|e| e.to_string())
    };
    let short = POLL * 30;
    let before = state(commands)?;
    let minutes = match enhanced {
        true => before.enhanced_minutes,
        false => before.minutes,
    };
    // Twice what it says, and an hour; half a day where it does not say, or says more than it can count.
    let within = match minutes {
        0 | 510.. => Duration::from_secs(48 * 3600),
        minutes => Duration::from_secs(u64::from(minutes) * 120 + 3600),
    };
    let mut erase = || {
        if !before.enabled {
            commands.ata(AtaSecurityCommand::SetPassword, short)?;
        }
        commands.ata(AtaSecurityCommand::ErasePrepare, short)?;
        commands.ata(AtaSecurityCommand::EraseUnit { enhanced }, within)
    };
    let erased = erase().map_err(|e| e.to_string());
    if state(commands)?.enabled {
        let _ = commands.ata(AtaSecurityCommand::DisablePassword, short);
        let left = match state(commands)?.enabled {
            true => ", and its password is still set: run the action again",
            false => "",
        };
        let why = erased
            .err()
            .unwrap_or_else(|| "it says that it has erased, and has kept its password".to_owned());
        return Err(format!("{why}{left}"));
    }
    erased
}

/// Both of the kernel's methods, in pieces between which it can be stopped.
fn in_ranges<M: Medium>(
    disk: &M,
    commands: &mut dyn Commands,
    (method, (from, until)): (Method, (u64, u64)),
    report: &mut dyn FnMut(Step),
    stop: &dyn Fn() -> bool,
) -> Result<io::Result<()>, WipeError> {
    let mut at = from;
    while at < until {
        if stop() {
            let disk = disk.path().to_owned();
            return Err(WipeError::Stopped { disk, at });
        }
        let len = (until - at).min(RANGE_BYTES);
        let done = match method {
            Method::Discard => commands.discard(at, len),
            _ => commands.zero_out(at, len),
        };
        if let Err(e) = done {
            return Ok(Err(e));
        }
        at += len;
        report(Step {
            stage: method.name(),
            done: at,
            total: until,
        });
    }
    Ok(Ok(()))
}

fn overwrite<M: Medium>(
    disk: &mut M,
    (from, until): (u64, u64),
    report: &mut dyn FnMut(Step),
    stop: &dyn Fn() -> bool,
) -> Result<(), WipeError> {
    let bytes = vec![0; BLOCK_BYTES + ALIGN];
    let start = bytes.as_ptr().align_offset(ALIGN).min(ALIGN);
    let zeros = bytes.get(start..start + BLOCK_BYTES).unwrap_or_default();
    let mut at = from;
    while at < until {
        if stop() {
            let disk = disk.path().to_owned();
            return Err(WipeError::Stopped { disk, at });
        }
        let len = (until - at).min(BLOCK_BYTES as u64);
        let block = zeros
            .get(..usize::try_from(len).unwrap_or(BLOCK_BYTES))
            .unwrap_or(zeros);
        disk.write(at, block)?;
        at += len;
        report(Step {
            stage: Method::Overwrite.name(),
            done: at,
            total: until,
        });
    }
    Ok(())
}

/// Blocks of 1 MiB between the ends: where they are, and how long.
fn places(size: u64, samples: u32, seed: u64) -> BTreeSet<(u64, u64)> {
    let blocks = size.div_ceil(SAMPLE_BYTES);
    let place = |block: u64| {
        (
            block * SAMPLE_BYTES,
            SAMPLE_BYTES.min(size - block * SAMPLE_BYTES),
        )
    };
    // The first and the last are read in any case.
    let between = 1..blocks.saturating_sub(1).max(1);
    let count = between.end - between.start;
    if count <= u64::from(samples) {
        return between.map(place).collect();
    }
    let mut chosen = BTreeSet::new();
    let mut state = seed;
    while chosen.len() < usize::try_from(samples).unwrap_or(usize::MAX) {
        // Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014 (SplitMix64).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chosen.insert(place(between.start + (mixed ^ (mixed >> 31)) % count));
    }
    chosen
}

/// What each block holds; `None`: the same sector all over, as a disk leaves it that erases with a pattern.
fn digests<M: Medium>(
    disk: &M,
    places: &BTreeSet<(u64, u64)>,
) -> Result<BTreeMap<u64, Option<[u8; 32]>>, WipeError> {
    let mut found = BTreeMap::new();
    for &(at, len) in places {
        let bytes = read(disk, at, len)?;
        let mut sectors = bytes.chunks(512);
        let first = sectors.next().unwrap_or_default();
        let is_uniform = sectors.all(|sector| first.starts_with(sector));
        found.insert(at, (!is_uniform).then(|| Sha256::digest(&bytes).into()));
    }
    Ok(found)
}

/// The first byte that is not 0 in these places.
fn not_zeros<M: Medium>(disk: &M, places: &BTreeSet<(u64, u64)>) -> Result<Option<u64>, WipeError> {
    for &(at, len) in places {
        if let Some(place) = read(disk, at, len)?.iter().position(|byte| *byte != 0) {
            return Ok(Some(at + place as u64));
        }
    }
    Ok(None)
}

fn read<M: Medium>(disk: &M, at: u64, len: u64) -> Result<Vec<u8>, WipeError> {
    let bytes = disk.read(at, usize::try_from(len).unwrap_or(0));
    bytes.map_err(|source| device_error(disk, "reading", at, source))
}

fn device_error<M: Medium>(disk: &M, what: &'static str, offset: u64, source: io::Error) -> WipeError {
    WipeError::Disk(WriteError::Device {
        disk: disk.path().to_owned(),
        what,
        offset,
        source,
    })
}
