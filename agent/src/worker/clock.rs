//! The machine's clock, from the server: TLS and file dates need one, and a netbooted machine may have none.

use std::time::{Duration, SystemTime};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use prost_types::Timestamp;

/// Smaller differences are the way of the message, not the clock.
const TOLERATED: Duration = Duration::from_secs(2);

/// Sets the system clock to the server's when it is off; returns what to say about it.
pub(super) fn follow(server: Timestamp) -> Option<String> {
    let wanted = SystemTime::try_from(server).ok()?;
    let off = off_by(SystemTime::now(), wanted)?;
    let since_epoch = wanted.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(
        match clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(since_epoch)) {
            Ok(()) => format!("clock set from the server: it was off by {} s", off.as_secs()),
            Err(e) => format!("clock is off by {} s and cannot be set: {e}", off.as_secs()),
        },
    )
}

fn off_by(here: SystemTime, there: SystemTime) -> Option<Duration> {
    let off = here.duration_since(there).unwrap_or_else(|e| e.duration());
    (off > TOLERATED).then_some(off)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_differences_are_left_alone_in_both_directions() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(off_by(now, now + Duration::from_secs(1)), None);
        assert_eq!(
            off_by(now, now + Duration::from_secs(9)),
            Some(Duration::from_secs(9))
        );
        assert_eq!(
            off_by(now, now - Duration::from_secs(9)),
            Some(Duration::from_secs(9))
        );
    }
}
