//! What boots tells about every packet and request: the boot timeline.

use std::time::SystemTime;

use macaddr::MacAddr6;

use crate::inventory::BootId;

/// One thing that happened in a machine's boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was received or answered.
    pub at: SystemTime,
    /// Whose it was, where that is known.
    pub mac: Option<MacAddr6>,
    /// The boot that it belongs to; `None` for strangers and outside a boot.
    pub boot: Option<BootId>,
    /// Which service saw it.
    pub stage: Stage,
    /// What came in ("DISCOVER", "GET /agent/vmlinuz").
    pub what: String,
    /// What was answered and why; names what was odd about it.
    pub detail: String,
    /// Bytes sent, for transfers.
    pub bytes: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// The service that an [`Entry`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Dhcp,
    Http,
    RouterAdvertisement,
    Tftp,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Answered,
    Failed,
    Ignored,
    Note,
    Refused,
}

/// Takes entries. Must not block: an implementation queues, within a bound, and writes in batches.
pub trait Timeline: Send + Sync + 'static {
    /// Takes one entry.
    fn record(&self, entry: Entry);
}
