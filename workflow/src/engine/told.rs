//! What people and programs are told that an event is.

use super::event::EventKind;

/// Every word that [`EventKind::told_as`] gives, in alphabetical order: by these events are chosen.
pub const TOLD_KINDS: [&str; 42] = [
    "action_asked",
    "asked",
    "begun",
    "cancel_asked",
    "child_asked",
    "child_ended",
    "created",
    "decided",
    "delayed",
    "dispatched",
    "ended",
    "execution_ended",
    "execution_made",
    "failed",
    "item_reopened",
    "labelled",
    "late",
    "leaving",
    "lost",
    "pause_asked",
    "paused",
    "policy_set",
    "resumed",
    "returned",
    "run_opened",
    "skip_asked",
    "start_moved",
    "started",
    "stop_asked",
    "stopped",
    "stopping",
    "succeeded",
    "task_ended",
    "task_paused",
    "task_resumed",
    "task_started",
    "tasks_reopened",
    "timed_out",
    "unanswered",
    "unpaused",
    "wave_opened",
    "went_back",
];

impl EventKind {
    /// The word that people and programs are told: a report goes by its outcome.
    pub fn told_as(&self) -> &'static str {
        match self {
            EventKind::Reported { outcome, .. } => outcome.name(),
            other => other.name(),
        }
    }
}
