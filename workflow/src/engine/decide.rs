//! What a command leads to.

use super::UnixMillis;
use super::command::{Command, Decision, Refusal};
use super::state::Workflow;

/// What `command` leads to. `workflow` is `None` only for [`Command::Create`].
///
/// No events: the command changes nothing (a repeated report). The caller stores everything of the decision in one commit.
pub fn decide(workflow: Option<&Workflow>, command: &Command, now: UnixMillis) -> Result<Decision, Refusal> {
    let _ = (workflow, command, now);
    Err(Refusal::Missing)
}
