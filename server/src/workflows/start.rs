//! When a workflow begins that is not to begin at once.

use std::sync::Arc;

use coordinator::Error;
use coordinator::namespaces::Reach;
use coordinator::once::Once;
use workflow::engine::{Command, UnixMillis, Workflow, time_of};

use crate::clock;
use crate::control::ControlPlane;

/// Days ahead: it names a change that was planned, and machines that are there now.
pub(super) const MAX_DAYS: u64 = 366;

/// Whether a workflow may begin then.
///
/// # Errors
/// [`Error::Invalid`] when that is in the past, or too far ahead.
pub(super) fn check(at: UnixMillis, wall: UnixMillis) -> Result<(), Error> {
    let (then, now) = (time_of(at), time_of(wall));
    if at < wall {
        return Err(Error::Invalid(format!(
            "a workflow cannot begin at {then}: it is {now} at the server, so that has passed; leave the time out to begin at once"
        )));
    }
    let max_ms = MAX_DAYS * 24 * 3_600_000;
    if at - wall > max_ms {
        return Err(Error::Invalid(format!(
            "a workflow cannot begin at {then}: it is {now} at the server, and it may begin {MAX_DAYS} days ahead at most; choose \
             an earlier time, and move it with `farrier workflow start ID --at TIME`"
        )));
    }
    Ok(())
}

impl ControlPlane {
    /// Moves the time at which a workflow begins; `None`: it begins now.
    ///
    /// # Errors
    /// As [`check`]; [`Error::Refused`] when it has begun, or ended.
    pub(crate) async fn start_workflow(
        &self,
        reach: &Reach,
        id: &str,
        at: Option<UnixMillis>,
        by: String,
        once: Option<Once>,
    ) -> Result<Arc<Workflow>, Error> {
        // The time may have passed since it was asked for the first time.
        if let Some(once) = &once
            && self.done_before(once).await?.is_some()
        {
            return self.workflow(reach, id).await;
        }
        if let Some(at) = at {
            check(at, clock::wall())?;
        }
        self.ask(reach, id, Command::Start { at, by }, once).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = 1_769_846_400_000;
    const DAY: u64 = 86_400_000;

    #[test]
    fn a_time_is_now_or_later_and_within_a_year() {
        for good in [NOW, NOW + 1, NOW + MAX_DAYS * DAY] {
            check(good, NOW).expect("a time");
        }
        let said = |at| check(at, NOW).expect_err("refused").to_string();
        assert_eq!(
            said(NOW - 1_000),
            "a workflow cannot begin at 2026-01-31T07:59:59Z: it is 2026-01-31T08:00:00Z at the server, so that has passed; leave \
             the time out to begin at once"
        );
        let late = said(NOW + MAX_DAYS * DAY + 1);
        assert!(late.contains("366 days ahead at most"), "{late}");
    }
}
