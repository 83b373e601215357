//! Who does something with a workflow waits for its turn: locks for all ids, few of them.

use tokio::sync::Mutex;

/// Locks; ids share them.
pub(crate) struct Turns(Vec<Mutex<()>>);

/// Each is held while a commit waits, so that no more commits than these ever share a sync.
const COUNT: usize = 4096;

impl Default for Turns {
    fn default() -> Self {
        Self((0..COUNT).map(|_| Mutex::default()).collect())
    }
}

impl Turns {
    pub(crate) fn of(&self, id: &str) -> &Mutex<()> {
        // Ids are time-ordered: their last characters are the random ones.
        let sum = id.bytes().rev().take(8).fold(0_usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        self.0.get(sum % COUNT).expect("an index below the length")
    }
}
