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
    /// The status was the same for too long.
    #[error("waited {waited_s} s for {what}; for {quiet_s} s its status was: {last}")]
    StandsStill {
        what: String,
        waited_s: u64,
        quiet_s: u64,
        last: String,
    },
}

/// Looks every 50 ms until `look` says `Done`, `Never`, or `deadline` has passed since the call.
///
/// # Errors
/// [`WaitError`], with the status that the last look gave.
pub fn wait_until<T>(what: &str, deadline: Duration, look: impl FnMut() -> Look<T>) -> Result<T, WaitError> {
    wait_while_it_moves(what, deadline, deadline, look)
}

/// As [`wait_until`], for what a busy host makes slow without harm: ends when the status has not changed for `quiet`, and in any case
/// after `deadline`.
///
/// # Errors
/// [`WaitError`], with the status that the last look gave.
pub fn wait_while_it_moves<T>(
    what: &str,
    quiet: Duration,
    deadline: Duration,
    mut look: impl FnMut() -> Look<T>,
) -> Result<T, WaitError> {
    let started = Instant::now();
    let (mut status, mut since) = (String::new(), started);
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
        if last != status {
            (status, since) = (last, Instant::now());
        }
        if started.elapsed() >= deadline {
            return Err(WaitError::TooLate {
                what: what.to_owned(),
                waited_s: deadline.as_secs(),
                last: status,
            });
        }
        if since.elapsed() >= quiet {
            return Err(WaitError::StandsStill {
                what: what.to_owned(),
                waited_s: started.elapsed().as_secs(),
                quiet_s: quiet.as_secs(),
                last: status,
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
    fn what_moves_is_waited_for_longer_than_what_stands_still() {
        let mut looks = 0;
        let found = wait_while_it_moves("the fourth look", INTERVAL / 2, Duration::from_secs(60), || {
            looks += 1;
            if looks == 4 {
                Look::Done(looks)
            } else {
                Look::not_yet(looks)
            }
        });
        assert_eq!(found.unwrap(), 4);
        let error = wait_while_it_moves::<()>("a login", Duration::ZERO, Duration::from_secs(60), || {
            Look::not_yet("at the boot loader")
        });
        let message = error.unwrap_err().to_string();
        assert_eq!(
            message,
            "waited 0 s for a login; for 0 s its status was: at the boot loader"
        );
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
