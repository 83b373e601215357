//! Times of day as they are given: with a zone, or as the clock here shows them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::duration::duration;

/// `2026-11-29T02:00:00+01:00` (RFC 3339), or `2026-11-29 02:00` by the clock here.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    moment_in(text, TimeZone::system())
}

fn moment_in(text: &str, here: TimeZone) -> Result<Timestamp, String> {
    let text = text.trim();
    let has_time = text.contains(':');
    let zoned = || text.parse::<Timestamp>().ok();
    let civil = || {
        let civil = text.parse::<DateTime>().ok()?;
        Some(civil.to_zoned(here).ok()?.timestamp())
    };
    let found = has_time.then(|| zoned().or_else(civil)).flatten();
    found.ok_or_else(|| {
        format!(
            "{text:?} is no time: write one such as 2026-11-29T02:00:00Z, or \"2026-11-29 02:00\" by the clock here; or say how \
             long from now with --in 2h"
        )
    })
}

/// A time that has been: so long ago, such as `2h` or `7d`, or as [`moment`] reads it.
pub(crate) fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(span) = duration(text) {
        let span = SignedDuration::try_from(span).ok();
        let then = span.and_then(|span| Timestamp::now().checked_sub(span).ok());
        return then.ok_or_else(|| "that is longer than any calendar goes: choose a shorter time".to_owned());
    }
    moment(text).map_err(|_| {
        format!(
            "{text:?} is no time: write how long ago, such as 2h or 7d, or a time such as 2026-11-29T02:00:00Z, or \
             \"2026-11-29 02:00\" by the clock here"
        )
    })
}

/// So long from now.
///
/// # Errors
/// No calendar has it.
pub(crate) fn from_now(span: std::time::Duration) -> Result<Timestamp, String> {
    let span = SignedDuration::try_from(span).ok();
    let then = span.and_then(|span| Timestamp::now().checked_add(span).ok());
    then.ok_or_else(|| "that is longer than any calendar goes: choose a shorter time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_a_zone_or_by_the_clock_here() {
        let here = || TimeZone::fixed(jiff::tz::offset(1));
        let read = |text| moment_in(text, here()).map(|at| at.to_string());
        for text in [
            "2026-11-29T02:00:00+01:00",
            "2026-11-29T01:00:00Z",
            "2026-11-29 02:00",
            "2026-11-29T02:00:00",
        ] {
            assert_eq!(read(text).as_deref(), Ok("2026-11-29T01:00:00Z"), "{text}");
        }
        for text in ["", "soon", "2026-11-29", "2026-13-29 02:00", "02:00", "2h"] {
            let error = read(text).unwrap_err();
            assert!(
                error.contains("is no time") && error.contains("--in 2h"),
                "{error}"
            );
        }
    }

    #[test]
    fn since_is_a_span_or_a_time() {
        let then = since("2h").unwrap();
        let ago = Timestamp::now().duration_since(then).as_secs();
        assert!((7_200..7_260).contains(&ago), "{ago}");
        assert_eq!(
            since("2026-11-29T02:00:00Z").unwrap().to_string(),
            "2026-11-29T02:00:00Z"
        );
        let error = since("yesterday").unwrap_err();
        assert!(error.contains("is no time") && error.contains("7d"), "{error}");
    }

    #[test]
    fn from_now_is_ahead_or_refused() {
        let hour = std::time::Duration::from_secs(3600);
        assert!(from_now(hour).unwrap() > Timestamp::now());
        assert!(from_now(std::time::Duration::MAX).is_err());
    }
}
