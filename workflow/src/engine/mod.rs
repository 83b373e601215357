//! The engine: what a command does to a workflow. [`decide()`] gives events, [`apply()`] folds them into state.
//!
//! Replaying a workflow's events gives its state, bit for bit. Nothing here reads a clock: callers pass `now`.
//! Everything is total: no state, command or event leads to a panic.
//!
//! How a caller drives it: [`Command::Create`] makes a workflow. Whenever a machine attaches, and after each of its
//! reports while it stays attached, [`Command::Attached`] says with which boot and what it runs; that gives the next
//! dispatch when it is its turn. [`dispatch()`] is then what to push, and [`stop_due`] what to stop. Reports come in as
//! [`Command::Report`], due timers ([`next_timer`]) as [`Command::Timer`].

mod apply;
mod boots_next;
mod command;
mod decide;
mod dispatch;
mod event;
mod state;

pub use apply::{ReplayError, apply, replay};
pub use boots_next::{BootsNext, Seen, boots_next};
pub use command::{Command, Refusal};
pub use decide::decide;
pub use dispatch::{Dispatch, current_attempt, dispatch, explain, next_timer, stop_due};
pub use event::{AttemptId, AttemptParts, Event, EventKind, Outcome};
pub use state::{ActionState, Cleanup, Ending, StepState, TaskState, Workflow, WorkflowState};

/// Milliseconds since the Unix epoch.
pub type UnixMillis = u64;

/// Tries of an action whose machine keeps coming back with another boot; then it has FAILED.
pub const MAX_ATTEMPTS: u32 = 3;
