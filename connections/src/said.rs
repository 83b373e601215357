//! Whether to say what happens again and again.

use std::time::{Duration, Instant};

/// Lets one of many equal lines through each [`Said::EVERY`], with how many were not said.
#[derive(Debug, Default)]
pub struct Said {
    last: Option<Instant>,
    unsaid: u64,
}

impl Said {
    pub const EVERY: Duration = Duration::from_secs(10);

    /// `Some`: it is to be said now, and so often it was not.
    pub fn now(&mut self) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < Self::EVERY) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.unsaid))
    }
}
