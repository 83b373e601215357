//! Before a store is opened it is read whole: a server does not start on one that `farrier store check` finds damaged.
//!
//! It takes about a quarter of a second for a hundred thousand rows, see docs/decisions/010. Nothing is changed by it.

use std::path::Path;
use std::time::{Duration, Instant};

use store::offline::{self, Progress};

use crate::failure::{Failure, chain};

/// Who waits is told how far it is, this often.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// Of one that is larger it is told when it begins, too: the engine's own check does not say how far it is.
const LARGE_BYTES: u64 = 256 << 20;

/// Reads all of the store in `data_dir`; one that is not there is sound.
pub(super) fn run(data_dir: &Path) -> Result<(), Failure> {
    let bytes = std::fs::metadata(data_dir.join(offline::FILE)).map_or(0, |file| file.len());
    if bytes >= LARGE_BYTES {
        tracing::info!(bytes, "checking the store; --no-store-check starts without");
    }
    let mut told = Instant::now();
    let checked = offline::verify(data_dir, &mut |Progress { done, total, .. }| {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tracing::info!(keys = done, of = total, "checking the store");
        }
    });
    checked.map_err(|error| Failure::Failed(chain(&error)))
}
