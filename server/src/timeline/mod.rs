//! The boot timeline: what happened while a machine booted, in order, and what was answered and why.
//!
//! One bounded ring a machine, and one for strangers. Recording never waits ([`ControlPlane::record`]); a task of
//! its own writes in batches. Rings are read, and followed, by anybody.

pub(crate) mod read;
pub(crate) mod writer;

use std::time::SystemTime;

use macaddr::MacAddr6;
pub use proto::v1::{BootOutcome as Outcome, BootStage as Stage};
use serde::{Deserialize, Serialize};
use workflow::engine::UnixMillis;

use crate::clock;
use crate::control::ControlPlane;
use coordinator::machines::mac_text;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: SystemTime,
    /// Whose it was, where that is known. Entries of MACs that no machine has share one ring.
    pub mac: Option<MacAddr6>,
    /// The boot that it belongs to.
    pub boot: Option<String>,
    /// Which part of the boot saw it.
    pub stage: Stage,
    /// What came in.
    pub what: String,
    /// What was answered and why.
    pub detail: String,
    /// Bytes sent, for transfers.
    pub bytes: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// An [`Entry`] in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) at: UnixMillis,
    pub(crate) mac: String,
    pub(crate) boot: String,
    #[serde(with = "stage_word")]
    pub(crate) stage: Stage,
    pub(crate) what: String,
    pub(crate) detail: String,
    pub(crate) bytes: u64,
    #[serde(with = "outcome_word")]
    pub(crate) outcome: Outcome,
}

/// Where an entry stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) ring: String,
    /// Within the ring.
    pub(crate) number: u64,
    pub(crate) entry: Written,
}

/// The ring of entries whose machine is not known.
pub(crate) const STRANGERS: &str = "strangers";

impl ControlPlane {
    /// Takes an entry. Never waits; when entries come faster than they can be written some are dropped and counted.
    pub fn record(&self, entry: Entry) {
        self.inner.timeline.record(entry);
    }
}

/// Bytes of a text in an entry. Part of it comes from whoever sends a request: what waits in the queue, and what is
/// written in one commit, must not be theirs to choose.
const MAX_TEXT_BYTES: usize = 1024;

impl Entry {
    fn into_written(self) -> Written {
        Written {
            at: clock::millis(self.at),
            mac: self.mac.map(mac_text).unwrap_or_default(),
            boot: self.boot.unwrap_or_default(),
            stage: self.stage,
            what: self.what,
            detail: self.detail,
            bytes: self.bytes,
            outcome: self.outcome,
        }
    }
}

/// In a row an enum of the contract is its word.
macro_rules! word_in_rows {
    ($module:ident, $kind:ty) => {
        mod $module {
            use super::*;

            pub(super) fn serialize<S: serde::Serializer>(value: &$kind, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(value.word())
            }

            pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<$kind, D::Error> {
                Ok(<$kind>::of_word(&String::deserialize(from)?))
            }
        }
    };
}

word_in_rows!(stage_word, Stage);
word_in_rows!(outcome_word, Outcome);
