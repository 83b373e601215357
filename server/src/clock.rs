//! Server time, and time as it is on the wire.
//!
//! Server time is what the clock on the wall showed when the server started, and the time that has passed since: it never
//! jumps. What is relative (waits, delays, timeouts) goes by it while the server is up, whatever is done to the clock.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use prost_types::Timestamp;
use workflow::engine::{Now, UnixMillis};

/// Less is no step of the clock, but two clocks that are read one after the other.
const STEP_MS: u64 = 1_000;

/// When the server started: time since the machine did, and what the clock showed.
static STARTED: LazyLock<(Duration, UnixMillis)> = LazyLock::new(|| (elapsed(), wall()));

/// Server time.
pub(crate) fn now() -> UnixMillis {
    let (elapsed_then, wall_then) = *STARTED;
    let passed = elapsed().saturating_sub(elapsed_then).as_millis();
    wall_then.saturating_add(UnixMillis::try_from(passed).unwrap_or(UnixMillis::MAX))
}

/// What the clock showed when the server started.
pub(crate) fn started() -> UnixMillis {
    STARTED.1
}

/// What the clock on the wall shows.
pub(crate) fn wall() -> UnixMillis {
    millis(SystemTime::now())
}

/// Server time, and how far it was set back or forward since the server started.
pub(crate) fn both() -> Now {
    let at = now();
    let ahead_ms = i64::try_from(i128::from(wall()) - i128::from(at)).unwrap_or(0);
    let wall_ahead_ms = if ahead_ms.unsigned_abs() < STEP_MS {
        0
    } else {
        ahead_ms
    };
    Now {
        at,
        wall_ahead_ms,
        after: None,
    }
}

/// Time that passes also while the machine is suspended. Source: clock_gettime(2), CLOCK_BOOTTIME.
fn elapsed() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Milliseconds since 1970; 0 for times before.
pub(crate) fn millis(at: SystemTime) -> UnixMillis {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UnixMillis::try_from(since.as_millis()).unwrap_or(UnixMillis::MAX)
}

pub(crate) fn timestamp(at: UnixMillis) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(at / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from((at % 1000) * 1_000_000).unwrap_or(0),
    }
}

/// Milliseconds since 1970; 0 for times before.
pub(crate) fn unix_millis(at: Timestamp) -> UnixMillis {
    let millis = at
        .seconds
        .saturating_mul(1000)
        .saturating_add(i64::from(at.nanos / 1_000_000));
    UnixMillis::try_from(millis).unwrap_or(0)
}
