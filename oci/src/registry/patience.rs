//! How long a registry is waited for, and when it is asked again.

use std::time::{Duration, Instant};

/// How long is waited for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the head of an answer.
    pub answer: Duration,
    /// For the next byte of a body.
    pub stall: Duration,
    /// Without anything new, tries together.
    pub give_up_after: Duration,
    /// The first pause between two tries; each one after it is twice as long, to a bound.
    pub first_pause: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            answer: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            give_up_after: Duration::from_secs(90),
            first_pause: Duration::from_millis(250),
        }
    }
}

const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// A registry that wants to be left alone for longer is away, as far as a machine that waits for it is concerned.
const LONGEST_WISH: Duration = Duration::from_secs(300);

/// Tries of one thing: when the next one is due, and when there is none.
#[derive(Clone, Debug)]
pub(crate) struct Tries {
    patience: Patience,
    /// When something new came last.
    since: Instant,
    pause: Duration,
    pub(crate) count: u32,
}

impl Tries {
    pub(crate) fn new(patience: Patience, now: Instant) -> Tries {
        Tries {
            patience,
            since: now,
            pause: patience.first_pause,
            count: 0,
        }
    }

    /// Something new came: what was before is forgotten.
    pub(crate) fn went_on(&mut self, now: Instant) {
        *self = Tries::new(self.patience, now);
    }

    /// How long nothing new came.
    pub(crate) fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// A try failed: how long to wait before the next one; none if it was tried for long enough.
    ///
    /// `wish` is what the registry asks for (`Retry-After`): it is there, so that the time counts for nothing. `random` is any number:
    /// a rack of machines does not come back in step.
    pub(crate) fn failed(&mut self, now: Instant, wish: Option<Duration>, random: u32) -> Option<Duration> {
        self.count += 1;
        if self.waited(now) >= self.patience.give_up_after || wish.is_some_and(|wish| wish > LONGEST_WISH) {
            return None;
        }
        let half = self.pause / 2;
        let pause = half + half * (random % 1000) / 1000;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        let Some(wish) = wish else {
            return Some(pause);
        };
        self.since = (self.since + wish).min(now + wish);
        Some(wish + pause)
    }
}

/// What `Retry-After` says: seconds, or a date.
///
/// Source: RFC 9110 section 10.2.3.
pub(crate) fn wish(retry_after: &str, now: std::time::SystemTime) -> Option<Duration> {
    let text = retry_after.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const PATIENCE: Patience = Patience {
        answer: Duration::from_secs(1),
        stall: Duration::from_secs(1),
        give_up_after: Duration::from_secs(60),
        first_pause: Duration::from_secs(1),
    };

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn pauses_grow_to_a_bound_and_end_when_nothing_came_for_too_long() {
        let start = Instant::now();
        let mut tries = Tries::new(PATIENCE, start);
        let mut pauses = Vec::new();
        let mut now = start;
        while let Some(pause) = tries.failed(now, None, 999) {
            pauses.push(pause.as_millis());
            now += pause;
        }
        assert_eq!(pauses[..5], [999, 1_999, 3_998, 7_996, 7_996]);
        assert!(tries.waited(now) >= seconds(60));
        assert_eq!(tries.count as usize, pauses.len() + 1);
        tries.went_on(now);
        assert_eq!(tries.failed(now, None, 0), Some(Duration::from_millis(500)));
    }

    #[test]
    fn what_a_registry_asks_for_is_waited_and_counts_for_nothing() {
        let start = Instant::now();
        let mut tries = Tries::new(PATIENCE, start);
        let mut now = start;
        for _ in 0..100 {
            let pause = tries.failed(now, Some(seconds(20)), 0).expect("it is there");
            assert!(pause >= seconds(20) && pause < seconds(25), "{pause:?}");
            now += pause;
            tries.since = tries.since.max(now - seconds(5));
        }
        assert_eq!(tries.failed(now, Some(seconds(301)), 0), None);
    }

    #[test]
    fn a_wish_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + seconds(784_111_767);
        assert_eq!(wish("120", now), Some(seconds(120)));
        assert_eq!(wish(" 0 ", now), Some(seconds(0)));
        assert_eq!(wish("99999999999999999999", now), Some(seconds(u64::MAX)));
        assert_eq!(wish("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(seconds(10)));
        assert_eq!(wish("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(seconds(0)));
        for none in ["", "soon", "-1", "1.5"] {
            assert_eq!(wish(none, now), None, "{none}");
        }
    }
}
