//! The room that a layer takes while it is unpacked.

use std::sync::Arc;

use super::{Cache, State};
use crate::layer::Room;

/// So much is taken at once where it is free: files are many and small.
const STEP_BYTES: u64 = 1 << 20;

/// Room that is taken for a layer; what is not used up is given back.
#[derive(Debug)]
pub(crate) struct Reservation {
    cache: Arc<Cache>,
    reserved_bytes: u64,
    used_bytes: u64,
}

impl Reservation {
    pub(crate) fn new(cache: &Arc<Cache>) -> Reservation {
        Reservation {
            cache: Arc::clone(cache),
            reserved_bytes: 0,
            used_bytes: 0,
        }
    }

    /// From now on the layer itself counts.
    pub(super) fn becomes_a_layer(mut self, state: &mut State) {
        state.reserved_bytes -= self.reserved_bytes;
        self.reserved_bytes = 0;
    }
}

impl Room for Reservation {
    fn take(&mut self, bytes: u64) -> bool {
        self.used_bytes = self.used_bytes.saturating_add(bytes);
        let missing = self.used_bytes.saturating_sub(self.reserved_bytes);
        if missing == 0 {
            return true;
        }
        let reserved = self.cache.make_room(missing, STEP_BYTES);
        self.reserved_bytes += reserved.unwrap_or(0);
        reserved.is_some()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.reserved_bytes > 0 {
            self.cache.state().reserved_bytes -= self.reserved_bytes;
        }
    }
}
