//! What an evaluation has taken so far, and where it ends.
//!
//! Everything that takes time or memory is counted when it is done, and before it is: nodes, elements, and the bytes of what
//! is made, compared or searched. Nothing is given back when a value is dropped, so what is in memory at any moment is
//! less than what was counted.

use super::Stop;
use super::value::{Map, Value};

/// Parts of the expression that are evaluated, and elements that loops go over.
pub const MAX_STEPS: u64 = 1_000_000;
/// Bytes that are made, compared or searched.
pub const MAX_BYTES: u64 = 64 << 20;

#[derive(Debug, Default)]
pub(super) struct Meter {
    steps: u64,
    bytes: u64,
}

impl Meter {
    pub(super) fn step(&mut self) -> Result<(), Stop> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(Stop::Bound(format!(
                "it would take more than {MAX_STEPS} steps: loop over fewer elements, or take it apart with `set`"
            )));
        }
        Ok(())
    }

    pub(super) fn bytes(&mut self, bytes: usize) -> Result<(), Stop> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.bytes > MAX_BYTES {
            return Err(Stop::Bound(format!(
                "it would copy or compare more than {MAX_BYTES} bytes: use smaller values"
            )));
        }
        Ok(())
    }

    /// Elements of a list that is made.
    pub(super) fn elements(&mut self, count: usize) -> Result<(), Stop> {
        self.bytes(count.saturating_mul(size_of::<Value<'_>>()))
    }

    /// The keys of a map, which are put in order.
    pub(super) fn keys(&mut self, map: &Map<'_>) -> Result<(), Stop> {
        self.elements(map.len())?;
        self.bytes(map.bytes_of_keys())
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> (u64, u64) {
        (self.steps, self.bytes)
    }
}
