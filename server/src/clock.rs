//! Time as it is stored and as it is on the wire.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;
use workflow::engine::UnixMillis;

pub(crate) fn now() -> UnixMillis {
    millis(SystemTime::now())
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
