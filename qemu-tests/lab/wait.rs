//! Waiting for something to be seen, with a deadline and the last status instead of sleeps.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// What one look at a condition found.
#[derive(Debug)]
pub enum Look<T> {
    /// It holds.
    Done(T),
    /// Not yet; says how far it is.
    NotYet(String),
    /// It can no longer come to hold; says why.
    Never(String),
}

impl<T> Look<T> {
    /// `NotYet` with anything that can be shown.
    pub fn not_yet(status: impl Display) -> Self {
        Look::NotYet(status.to_string())
    }

    /// `Never` with anything that can be shown.
    pub fn never(why: impl Display) -> Self {
        Look::Never(why.to_string())
    }
}

/// Why a wait ended without what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// It became impossible.
    #[error("waited for {what}, which can no longer happen: {why}")]
    Never { what: String, why: String },
    /// The deadline passed.
    #[error("waited {waited_s} s for {what}; last status: {last}")]
    TooLate {
        what: String,
        waited_s: u64,
        last: String,
    },
}

/// Looks every 50 ms until `look` says `Done`, `Never`, or `deadline` has passed since the call.
///
/// # Errors
/// [`WaitError`], with the status that the last look gave.
pub fn wait_until<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Look<T>,
) -> Result<T, WaitError> {
    let started = Instant::now();
    loop {
        let last = match look() {
            Look::Done(found) => return Ok(found),
            Look::Never(why) => {
                return Err(WaitError::Never {
                    what: what.to_owned(),
                    why,
                });
            }
            Look::NotYet(status) => status,
        };
        if started.elapsed() >= deadline {
            return Err(WaitError::TooLate {
                what: what.to_owned(),
                waited_s: deadline.as_secs(),
                last,
            });
        }
        thread::sleep(INTERVAL);
    }
}

const INTERVAL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_was_found() {
        let mut looks = 0;
        let found = wait_until("the third look", Duration::from_secs(60), || {
            looks += 1;
            if looks == 3 {
                Look::Done(looks)
            } else {
                Look::not_yet(looks)
            }
        });
        assert_eq!(found.unwrap(), 3);
    }

    #[test]
    fn a_passed_deadline_shows_the_last_status() {
        let error = wait_until::<()>("a login", Duration::ZERO, || Look::not_yet("at the boot loader"));
        let message = error.unwrap_err().to_string();
        assert_eq!(message, "waited 0 s for a login; last status: at the boot loader");
    }

    #[test]
    fn stops_at_once_when_it_cannot_happen_any_more() {
        let error = wait_until::<()>("a login", Duration::from_secs(3600), || {
            Look::never("QEMU is gone")
        });
        assert!(
            error
                .unwrap_err()
                .to_string()
                .ends_with("can no longer happen: QEMU is gone")
        );
    }
}
