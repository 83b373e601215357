//! What was on a device before something new comes: found, listed, and taken away.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::image::WriteError;
use crate::image::target::Target;
use crate::image::writer::Medium;
use crate::signatures::{self, Signature};

/// The signatures on a device that nothing else uses, and its size in bytes. Writes nothing. Blocks.
///
/// # Errors
/// See [`WriteError`]: the device is none, is held, or cannot be read.
pub fn there(device: &Path) -> Result<(Vec<Signature>, u64), WriteError> {
    let target = Target::open(device)?;
    Ok((all(&target)?, target.size()))
}

/// Takes away every signature that is there, of a whole disk its partitions with them. Blocks.
///
/// # Errors
/// See [`WriteError`]. Without `touched` the device is as it was.
pub fn clear(device: &Path, touched: &AtomicBool) -> Result<Vec<Signature>, WriteError> {
    clear_on(&mut Target::open(device)?, touched)
}

pub(crate) fn clear_on<M: Medium>(
    target: &mut M,
    touched: &AtomicBool,
) -> Result<Vec<Signature>, WriteError> {
    let there = all(target)?;
    target.claim_partitions()?;
    touched.store(true, Ordering::Relaxed);
    for one in &there {
        let len = usize::try_from(one.erase_until - one.erase_from).unwrap_or(0);
        target.write_buffered(one.erase_from, &vec![0; len])?;
    }
    target.sync()?;
    target.take_away_partitions()?;
    Ok(there)
}

pub(crate) fn all<M: Medium>(target: &M) -> Result<Vec<Signature>, WriteError> {
    let found = signatures::find(target.size(), |at, len| target.read(at, len));
    let found = found.map_err(|source| cannot_read(target, source))?;
    Ok(found.into_iter().collect())
}

pub(crate) fn cannot_read<M: Medium>(target: &M, source: std::io::Error) -> WriteError {
    WriteError::Device {
        disk: target.path().to_owned(),
        what: "reading",
        offset: 0,
        source,
    }
}
