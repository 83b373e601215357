//! The engine: what a command does to a workflow. [`decide()`] gives events, [`apply()`] folds them into state.
//!
//! Replaying a workflow's events gives its state, bit for bit. Nothing here reads a clock: callers pass `now`.
//! Everything is total: no state, command or event leads to a panic. Everything that is evaluated is evaluated in
//! [`decide()`] and stands in the event with its result.
//!
//! Two aggregates: the [`Workflow`] and the [`Machine`]. A caller loads the one that a command is about (and, when an
//! agent speaks, the machine with it), decides, applies the [`Effect`]s that are for the machine at hand, and stores
//! events, changed parts, machine and the other effects in one commit. Effects are then carried to those they are for.

mod apply;
mod boots_next;
mod command;
mod decide;
mod disks;
mod dispatch;
mod event;
mod explain;
mod graph;
mod ids;
pub mod machine;
mod question;
mod secrets;
mod size;
mod state;
mod told;
mod uses;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use apply::{ReplayError, apply, replay};
pub use boots_next::{BootsNext, boots_next};
pub use command::{Command, Creation, Decision, Effect, Refusal, Seen};
pub use decide::{decide, decide_within};
pub use disks::{BY_HAND, DiskUse, Disks, Hold, is_switched_on, listed};
pub use dispatch::{Dispatch, dispatch, next_due};
pub use event::{Evaluated, Event, EventKind, Failure, Loss, Outcome, time_of};
pub use explain::{explain, warnings, worker_shown};
pub use ids::{AttemptId, BadId, ExecutionId};
pub use machine::Machine;
pub use question::{Question, questions, waits_for_answers};
pub use secrets::{Handed, MAX_HANDED_BYTES, SecretHole, SecretProblem, SecretText, secret_names};
pub use state::{
    ActionState, ApprovalDecision, Asks, ChildRequest, Cleanup, Ending, Execution, Filled, Head,
    Intervention, LastRound, MadeFrom, OwnPause, Parent, Said, StepState, StoppedClock, TaskState, Waiting,
    Workflow, WorkflowState,
};
pub use told::TOLD_KINDS;

/// Milliseconds since the Unix epoch.
pub type UnixMillis = u64;

/// What a hybrid logical clock shows: it sorts across workflows as causes do. What was read before something was decided is
/// below that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    pub at: UnixMillis,
    /// Counts what is of one millisecond.
    pub tick: u32,
}

/// Of one length: it sorts as a text, too.
impl fmt::Display for Stamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:013}.{:010}", self.at, self.tick)
    }
}

/// When something is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Server time: it goes by elapsed time alone. Waits, delays, timeouts and stamps go by it.
    pub at: UnixMillis,
    /// What the clock on the wall shows beyond that, where it was set since the server started. `until` goes by that clock.
    pub wall_ahead_ms: i64,
    /// Stamps have to be above this one: it was read.
    pub after: Option<Stamp>,
}

impl Now {
    /// What the clock on the wall shows.
    pub fn wall(self) -> UnixMillis {
        self.at.saturating_add_signed(self.wall_ahead_ms)
    }

    /// The next stamp; above `last` and all that was read, whatever the clock does.
    pub(crate) fn stamp(self, last: Option<Stamp>) -> Stamp {
        match last.max(self.after) {
            Some(last) if last.at >= self.at => Stamp {
                at: last.at,
                tick: last.tick.saturating_add(1),
            },
            _ => Stamp { at: self.at, tick: 0 },
        }
    }
}

impl From<UnixMillis> for Now {
    fn from(at: UnixMillis) -> Self {
        Self {
            at,
            wall_ahead_ms: 0,
            after: None,
        }
    }
}

/// Tries of an action that was lost, where it has no `retry` of its own.
pub const MAX_LOST_ATTEMPTS: u32 = 3;
/// Task executions in one workflow.
pub const MAX_EXECUTIONS: usize = 10_000;
/// Items of one task that are skipped before their turn: they stand in the workflow's head.
pub const MAX_SKIPPED_AHEAD: usize = 256;
/// Items of one task that are held before their turn.
pub const MAX_PAUSED_AHEAD: usize = 256;
/// Why a person skips or holds one thing.
pub const MAX_REASON_BYTES: usize = 1024;
/// Times that it is recorded of an execution what came instead of the answer that it waits for.
pub const MAX_UNANSWERED: u32 = 16;
/// Executions that one decision makes, stops or ends; then it asks to be continued.
pub const MAX_STEPS: usize = 32;
/// Rows (events, executions and lists) that one decision writes where nobody says otherwise; then it asks to be continued.
pub const MAX_ROWS: usize = 96;
/// A `forEach` list, as JSON.
pub const MAX_ITEMS_BYTES: usize = 1 << 20;
/// Outputs of tasks and values of `set` in one run of a workflow, together, as JSON; and those of the workflow itself.
pub const MAX_OUTPUTS_BYTES: usize = 4 << 20;
/// Texts of one task execution with expressions filled in, as JSON.
pub const MAX_FILLED_BYTES: usize = 1 << 20;
