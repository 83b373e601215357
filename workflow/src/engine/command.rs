//! What is asked of a workflow, and why it may be refused.

use super::event::{AttemptId, Outcome};
use super::state::WorkflowState;
use crate::language::Definition;

/// What somebody wants of a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Create {
        id: String,
        name: String,
        template: String,
        definition: Box<Definition>,
    },
    /// The machine (worker id) is attached with this boot and runs `running` (an attempt id), or nothing.
    /// Gives a dispatch if it is this machine's turn; marks an attempt of an earlier boot LOST.
    ///
    /// Its unacknowledged reports must have been put in before. While it runs something else than this workflow's
    /// own attempt, nothing is dispatched to it.
    Attached {
        worker: String,
        boot_id: String,
        running: Option<AttemptId>,
    },
    Report {
        attempt: AttemptId,
        outcome: Outcome,
    },
    /// A timer is due: global timeout.
    Timer,
    /// Starts nothing any more, not even `on-failure`. CANCELLED at once when nothing is under way, else as soon as
    /// that has stopped or is lost.
    Cancel {
        reason: String,
    },
}

/// Why a command was refused; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("workflow {id} exists already")]
    Exists { id: String },
    #[error("there is no such workflow")]
    Missing,
    #[error("workflow {id} has ended: it is {state}")]
    Ended { id: String, state: WorkflowState },
    #[error("workflow {id} has no attempt {attempt}")]
    UnknownAttempt { id: String, attempt: String },
}
