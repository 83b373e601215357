//! What the server itself asks of systems that are to answer (`answers`), for whoever has sockets.
//!
//! It follows from the state, and is nowhere else: who loads a workflow again asks again.

use super::decide::{questions_of, waits_for_answers as waits};
use super::ids::ExecutionId;
use super::state::Workflow;
use crate::language::AnswersBy;

/// Whom to ask what. The answer is [`Command::Answered`](super::Command::Answered).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub execution: ExecutionId,
    pub by: AnswersBy,
    /// An IP address, or the name of a host.
    pub address: String,
    pub port: u16,
    /// Of HTTP.
    pub path: String,
    /// Of HTTP; 0: any from 200 to 299.
    pub status: u16,
    /// What came instead the last time, as it was recorded.
    pub seen: String,
    /// Something else than that is recorded; after [`MAX_UNANSWERED`](super::MAX_UNANSWERED) times it is not any more.
    pub is_noted: bool,
}

/// What is to be asked now, again and again, until it is no more here. Nothing during a pause.
pub fn questions(workflow: &Workflow) -> Vec<Question> {
    questions_of(workflow)
}

/// Whether some task waits for an answer, though it may be paused.
pub fn waits_for_answers(workflow: &Workflow) -> bool {
    waits(workflow)
}
