//! The production loop without sockets, tasks and clocks: load, let the engine decide, say what to commit.
//!
//! Synchronous over a [`Store`]. Whoever drives it ([`Coordinator::prepare`], commit, [`Coordinator::committed`]) owns
//! time and order: the server's sessions, timers and carrier do, and so does the simulation.
//!
//! One commit a step. It has the events, what they changed of the workflow, the machine at hand, the timer row, and an
//! outbox row for each effect on others. Preconditions on the workflow's head and on the machine's value make it safe:
//! on a conflict nothing has happened, [`Coordinator::forget`] and prepare again. A step that was committed and not
//! answered is found again by [`Coordinator::recover`].
//!
//! Keys, beside those of `database`:
//!
//! ```text
//! workflow/<id>                            engine::Head
//! workflow-definition/<id>                 the definition; never changes
//! execution/<id>/<task:05>/<instance:05>/<item:05>   engine::Execution
//! items/<id>/<task:05>/<instance:05>       the list of a forEach
//! event/<id>/<number:010>                  engine::Event
//! machine-work/<machine>                   engine::Machine, by the machine's name (a worker that no machine has: by itself)
//! timer/<at:013>/<id>                      when the workflow is due; one row a workflow
//! outbox/<id>/<event number:010>/<n:03>    what its decision wants of others; carried in this order
//! ```

use std::sync::Arc;

use store::{Commit, Revision, Store};
use workflow::engine::{AttemptId, Command, Creation, Dispatch, Outcome, Refusal, UnixMillis, Workflow};

use crate::error::Error;

/// Something happened; [`Coordinator::prepare`] says what it leads to.
#[derive(Clone, Debug)]
pub enum Input {
    Create(Box<NewWorkflow>),
    /// What people want of a workflow. Not [`Command::Create`].
    Command { workflow: String, command: Command },
    /// The machine's agent opened a stream. Reports that it owes come after this, then [`Input::Work`].
    Attach {
        /// The machine's name.
        machine: String,
        boot_id: String,
        /// The attempt that the agent says it runs.
        running: Option<AttemptId>,
    },
    Report {
        machine: String,
        boot_id: String,
        /// Of the attach that this stream began with.
        epoch: u64,
        /// Counted by the agent within its boot, from 1.
        sequence: u64,
        attempt: AttemptId,
        outcome: Outcome,
    },
    /// The agent is there: hand out what is next, if the machine is free and something is.
    Work { machine: String, epoch: u64 },
    /// The timer row of that time is due.
    Timer { workflow: String, at: UnixMillis },
    /// Takes a row of an outbox to those it is for. Rows of a workflow are taken in order, so when there is an earlier one
    /// that is taken, and `then` says to go on.
    Carry { key: String },
    /// Nothing was heard of the machine for so long that its attempt is lost. Only time counts in which it could have been heard.
    Silent { machine: String, for_ms: u64 },
}

/// A workflow to be made.
#[derive(Clone, Debug, Default)]
pub struct NewWorkflow {
    /// `machines` (facts of static workers) is filled in by the coordinator.
    pub creation: Creation,
    /// Written, and checked, in the same commit.
    pub extra: Commit,
}

/// What a step comes to. Nothing has happened before `commit` is durable; no answer is given before that.
#[derive(Debug)]
pub struct Plan {
    /// No operations: nothing to commit, the answer holds as it is.
    pub commit: Commit,
    pub answer: Answer,
    /// To be done after the commit. All but [`Next::Changed`] and [`Next::Wake`] are in the store, too.
    pub then: Vec<Next>,
}

#[derive(Clone, Debug)]
pub enum Answer {
    /// After Create, Command and Timer: the state after it.
    Workflow(Arc<Workflow>),
    /// The engine would not; nothing changes.
    Refused(Refusal),
    /// After Attach, Report and Work.
    Machine(Assignment),
    /// A newer stream of the machine has attached: this one is to end. Nothing changes, nothing is acknowledged.
    Stale,
    /// Nothing to tell.
    Done,
}

/// What a machine's agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub epoch: u64,
    /// Reports of this boot up to this one are durable.
    pub sequence: u64,
    /// Why the report has no effect, when it has none.
    pub ignored: Option<String>,
    pub orders: Orders,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Orders {
    /// Run this (see [`Coordinator::dispatch`]), unless it runs already, or has run.
    Run(AttemptId),
    /// Stop this.
    Stop { attempt: AttemptId, reason: String },
    /// The machine has said that it reboots or powers off.
    Leave,
    /// Nothing now; see [`Coordinator::waits_for`].
    Wait,
}

/// What is to be done after a step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Next {
    /// [`Input::Carry`] this row.
    Carry(String),
    /// The workflow changed: tell who follows it.
    Changed { workflow: String },
    /// [`Input::Timer`] at this time.
    Timer { at: UnixMillis, workflow: String },
    /// There may be something for this machine: [`Input::Work`], if it is attached.
    Wake(String),
}

/// What may be set.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Workflows kept in memory.
    pub workflows: usize,
    /// Machines kept in memory.
    pub machines: usize,
    /// Other machines that a step writes itself; what is for more of them goes by the outbox.
    pub inline_machines: usize,
}

/// See the module.
pub struct Coordinator {
    store: Arc<dyn Store>,
    limits: Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workflows: 4_096,
            machines: 16_384,
            inline_machines: 8,
        }
    }
}

impl Coordinator {
    pub fn new(store: Arc<dyn Store>, limits: Limits) -> Self {
        Self { store, limits }
    }

    /// Loads and decides; writes nothing.
    ///
    /// # Errors
    /// When the store fails, or holds what this version cannot read. Nothing has changed then.
    pub fn prepare(&self, now: UnixMillis, input: &Input) -> Result<Plan, Error> {
        let _ = (now, input, &self.store, &self.limits);
        unimplemented!()
    }

    /// The plan's commit is durable as `revision`.
    pub fn committed(&self, plan: &Plan, revision: Revision) {
        let _ = (plan, revision);
    }

    /// The plan's commit met a conflict, or it is not known whether it happened.
    pub fn forget(&self, plan: &Plan) {
        let _ = plan;
    }

    /// All three in one, with as many tries as it takes.
    ///
    /// # Errors
    /// As [`Coordinator::prepare`], and when the commit fails for another reason than a conflict.
    pub fn step(&self, now: UnixMillis, input: &Input) -> Result<(Answer, Vec<Next>), Error> {
        let _ = (now, input);
        unimplemented!()
    }

    /// What was left to do when the server stopped: every outbox and every timer.
    pub fn recover(&self) -> Result<Vec<Next>, Error> {
        unimplemented!()
    }

    /// A workflow as it was committed last.
    pub fn workflow(&self, id: &str) -> Result<Option<Arc<Workflow>>, Error> {
        let _ = id;
        unimplemented!()
    }

    /// Who holds a machine and what it runs.
    pub fn machine(&self, machine: &str) -> Result<workflow::engine::Machine, Error> {
        let _ = machine;
        unimplemented!()
    }

    /// What to push for an attempt; `None` when it is not under way.
    pub fn dispatch(&self, attempt: &AttemptId) -> Result<Option<Dispatch>, Error> {
        let _ = attempt;
        unimplemented!()
    }

    /// Why there is nothing to do for a machine, in words.
    pub fn waits_for(&self, machine: &str, now: UnixMillis) -> Result<String, Error> {
        let _ = (machine, now);
        unimplemented!()
    }
}
