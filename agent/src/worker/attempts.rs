//! The attempts of this boot: which were given, and how each ended. Pure.
//!
//! None is ever taken out, so that none runs twice. What their reports carry is kept up to a bound.

use std::collections::{HashMap, VecDeque};

use prost::Message;
use proto::v1;
use v1::AttemptState;
use v1::report::Outcome;

/// Entries in a Hello.
const MAX_ENTRIES: usize = 256;
/// A report up to this size is kept as long as the boot lasts.
const SMALL_BYTES: usize = 8 << 10;
/// All larger reports together; then the oldest keep only their words.
const MAX_LARGE_BYTES: usize = 4 << 20;

/// Every attempt that this boot was given.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    known: HashMap<String, Attempt>,
    /// Those with a large report and its size, oldest first.
    large: VecDeque<(String, usize)>,
    large_bytes: usize,
}

#[derive(Debug)]
struct Attempt {
    /// In the order in which they were given.
    number: usize,
    /// Of the last report about it.
    sequence: u64,
    /// `None` while it waits or runs.
    end: Option<v1::Report>,
}

impl Attempts {
    /// It was given. A second time changes nothing.
    pub(super) fn given(&mut self, attempt_id: &str) {
        let number = self.known.len();
        let new = || Attempt {
            number,
            sequence: 0,
            end: None,
        };
        self.known.entry(attempt_id.to_owned()).or_insert_with(new);
    }

    /// A report about it was made; every one but `Started` is its end.
    pub(super) fn reported(&mut self, report: &v1::Report) {
        self.given(&report.attempt_id);
        let Some(attempt) = self.known.get_mut(&report.attempt_id) else {
            return;
        };
        attempt.sequence = report.sequence;
        if matches!(report.outcome, Some(Outcome::Started(_))) {
            return;
        }
        attempt.end = Some(report.clone());
        let bytes = report.encoded_len();
        if bytes > SMALL_BYTES {
            self.large.push_back((report.attempt_id.clone(), bytes));
            self.large_bytes += bytes;
        }
        while self.large_bytes > MAX_LARGE_BYTES
            && let Some((attempt_id, bytes)) = self.large.pop_front()
        {
            self.large_bytes -= bytes;
            let end = self.known.get_mut(&attempt_id).and_then(|a| a.end.as_mut());
            if let Some(report) = end {
                cut_down(report);
            }
        }
    }

    pub(super) fn is_known(&self, attempt_id: &str) -> bool {
        self.known.contains_key(attempt_id)
    }

    /// The report of its end; `None` when it has not ended.
    pub(super) fn end_of(&self, attempt_id: &str) -> Option<&v1::Report> {
        self.known.get(attempt_id)?.end.as_ref()
    }

    /// What a Hello says of them.
    pub(super) fn entries(&self, running: Option<&str>) -> Vec<v1::JournalEntry> {
        let mut newest: Vec<(&String, &Attempt)> = self.known.iter().collect();
        newest.sort_unstable_by_key(|(_, attempt)| attempt.number);
        let skipped = newest.len().saturating_sub(MAX_ENTRIES);
        let entry = |(id, attempt): (&String, &Attempt)| v1::JournalEntry {
            attempt_id: id.clone(),
            state: attempt.state(running == Some(id)).into(),
            sequence: attempt.sequence,
        };
        newest.into_iter().skip(skipped).map(entry).collect()
    }

    /// A report for each that has one: its end, or that it started.
    pub(super) fn reports(&self) -> impl Iterator<Item = v1::Report> {
        self.known
            .iter()
            .filter(|(_, attempt)| attempt.sequence > 0)
            .map(|(id, attempt)| {
                attempt.end.clone().unwrap_or_else(|| v1::Report {
                    sequence: attempt.sequence,
                    attempt_id: id.clone(),
                    outcome: Some(Outcome::Started(v1::Started {})),
                    ..v1::Report::default()
                })
            })
    }
}

impl Attempt {
    fn state(&self, is_running: bool) -> AttemptState {
        match self.end.as_ref().and_then(|report| report.outcome.as_ref()) {
            Some(Outcome::Failed(_)) => AttemptState::Failed,
            Some(Outcome::Leaving(_)) => AttemptState::Leaving,
            Some(Outcome::Stopped(_)) => AttemptState::Stopped,
            Some(Outcome::Succeeded(_)) => AttemptState::Succeeded,
            Some(Outcome::TimedOut(_)) => AttemptState::TimedOut,
            Some(Outcome::Started(_)) | None if is_running => AttemptState::Running,
            Some(Outcome::Started(_)) | None => AttemptState::Waiting,
        }
    }
}

/// Success without what it gave would be a lie to a server that asks again, so it is told apart.
fn cut_down(report: &mut v1::Report) {
    if let Some(Outcome::Succeeded(succeeded)) = &report.outcome {
        let message = format!(
            "it succeeded, and its report was acknowledged long ago; what it gave is not kept any more: {}",
            succeeded.message
        );
        report.outcome = Some(Outcome::Failed(v1::Failed {
            reason: "NotKept".to_owned(),
            message,
            exit_code: 0,
            disks_untouched: false,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn succeeded(n: u64, outputs: usize) -> v1::Report {
        v1::Report {
            sequence: n + 1,
            attempt_id: format!("w/{n}"),
            outcome: Some(Outcome::Succeeded(v1::Succeeded {
                outputs_json: "x".repeat(outputs),
                ..v1::Succeeded::default()
            })),
            ..v1::Report::default()
        }
    }

    #[test]
    fn a_hello_has_the_newest_attempts_in_order_with_their_states() {
        let mut attempts = Attempts::default();
        for n in 0..300 {
            attempts.reported(&succeeded(n, 0));
        }
        attempts.given("running");
        attempts.given("waiting");
        attempts.given("w/299");
        let entries = attempts.entries(Some("running"));
        assert_eq!(entries.len(), MAX_ENTRIES);
        let states: Vec<(&str, AttemptState)> = entries
            .iter()
            .map(|entry| (entry.attempt_id.as_str(), entry.state()))
            .collect();
        assert_eq!(
            states.get(MAX_ENTRIES - 3..),
            Some(
                &[
                    ("w/299", AttemptState::Succeeded),
                    ("running", AttemptState::Running),
                    ("waiting", AttemptState::Waiting),
                ][..]
            )
        );
        assert!(attempts.is_known("w/0"));
    }

    #[test]
    fn what_large_reports_carry_is_kept_up_to_a_bound_and_never_left_out_silently() {
        let mut attempts = Attempts::default();
        attempts.reported(&succeeded(0, 10));
        for n in 1..=40 {
            attempts.reported(&succeeded(n, 200 << 10));
        }
        let outcome = |id: &str| attempts.end_of(id).and_then(|report| report.outcome.clone());
        assert!(matches!(outcome("w/0"), Some(Outcome::Succeeded(_))));
        assert!(matches!(outcome("w/1"), Some(Outcome::Failed(f)) if f.reason == "NotKept"));
        assert!(matches!(outcome("w/40"), Some(Outcome::Succeeded(s)) if s.outputs_json.len() == 200 << 10));
        let bytes: usize = attempts.reports().map(|report| report.encoded_len()).sum();
        assert!(bytes < MAX_LARGE_BYTES + (64 << 10), "{bytes}");
    }
}
