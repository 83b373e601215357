//! How far a pull is, for whoever looks.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Counts of a pull, which go on while others read them.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    total_bytes: AtomicU64,
    layers: AtomicU32,
    total_layers: AtomicU32,
    resumes: AtomicU32,
}

/// How far a pull is at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Of layers, as they come; layers that were here count as come.
    pub bytes: u64,
    pub total_bytes: u64,
    pub layers: u32,
    /// 0 as long as the manifest is not here.
    pub total_layers: u32,
    /// How often a transfer broke and went on.
    pub resumes: u32,
}

impl Progress {
    /// How far it is now.
    pub fn seen(&self) -> Seen {
        Seen {
            bytes: self.bytes.load(Ordering::Relaxed),
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
            layers: self.layers.load(Ordering::Relaxed),
            total_layers: self.total_layers.load(Ordering::Relaxed),
            resumes: self.resumes.load(Ordering::Relaxed),
        }
    }

    /// Another registry is asked, or the first: nothing has come yet.
    pub(crate) fn begin(&self, total_bytes: u64, total_layers: u32) {
        self.bytes.store(0, Ordering::Relaxed);
        self.layers.store(0, Ordering::Relaxed);
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
        self.total_layers.store(total_layers, Ordering::Relaxed);
    }

    /// So many bytes of layers have come, or were here.
    pub fn came(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// One more layer is here.
    pub fn layer_is_here(&self) {
        self.layers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn resumed(&self) {
        self.resumes.fetch_add(1, Ordering::Relaxed);
    }
}
