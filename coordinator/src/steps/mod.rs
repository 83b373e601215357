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
//! workflow/<id>                            engine::Head, see below
//! workflow-definition/<id>                 the definition; never changes
//! execution/<id>/<task:05>/<instance:05>/<item:05>   engine::Execution, as of the head
//! items/<id>/<task:05>/<instance:05>       the list of a forEach
//! event/<id>/<number:010>                  engine::Event
//! label/<namespace>/<key>/<value>/<id>     a workflow is found by its labels; `:` for the slash of a key
//! machine-work/<machine>                   engine::Machine, by the machine's name (a worker that no machine has: by itself)
//! machine-queue/<machine>                  its engine::machine::Queue, unless empty; never changes without machine-work
//! timer/<at:013>/<id>                      when the workflow is due; one row a workflow
//! outbox/<id>/<event number:010>/<n:03>    what its decision wants of others; carried in this order
//! ```
//!
//! Stamps of events are above all that their commit has read: of the workflows that it loaded, of whose outbox row it carries, and of the
//! machines, which keep the highest that was decided about them.
//!
//! The events are the truth. Head and executions are written when something has changed by which a workflow is found,
//! listed or followed, at the latest after [`step::UNWRITTEN_EVENTS`]: between those, a report writes its events alone,
//! and whoever loads the workflow applies what came after the head. What a step was decided from is then not told by the
//! head's revision alone: its first event has to be one that is not there.

mod agents;
mod cache;
mod carry;
mod deadlock;
pub mod load;
pub mod rows;
mod step;
mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use ephemeral::Manifest;
use serde::de::IgnoredAny;
use serde_json::Value;
use store::{Commit, Precondition, Revision, Store, StoreError};
use workflow::engine::{
    self, AttemptId, Command, Creation, Dispatch, Head, Now, Outcome, Refusal, Stamp, UnixMillis, Workflow,
};
use workflow::language::ImagePolicy;

use crate::data::{Changed, versions};
use crate::database::{self, View, detached};
use crate::error::Error;
use crate::making;
use crate::once::{Came, Done, Once};
use cache::Cache;
use load::{Known, KnownMachine};
use rows::About;
use step::{Step, Touched};

/// Something happened; [`Coordinator::prepare`] says what it leads to.
#[derive(Clone, Debug)]
pub enum Input {
    Create(Box<NewWorkflow>),
    /// What people want of a workflow. Not [`Command::Create`].
    Command {
        workflow: String,
        command: Command,
    },
    /// The same, with a key: it takes effect once.
    Asked {
        workflow: String,
        command: Command,
        once: Once,
    },
    /// The machine's agent opened a stream. Reports that it owes come after this, then [`Input::Work`].
    Attach {
        /// The machine's name.
        machine: String,
        boot_id: String,
        /// The attempt that the agent says it runs.
        running: Option<AttemptId>,
        /// The newest attempts that the agent knows of in this boot, the one that it runs included.
        knows: BTreeSet<AttemptId>,
    },
    /// An agent says how far an attempt is.
    Report(Box<Report>),
    /// The agent is there: hand out what is next, if the machine is free and something is.
    Work {
        machine: String,
        epoch: u64,
    },
    /// What the agent was to be told to run could not be put together: the attempt has failed before it has begun. Only for
    /// one that the agent has not been given.
    Withheld {
        machine: String,
        epoch: u64,
        attempt: AttemptId,
        /// A word.
        reason: String,
        message: String,
    },
    /// The timer row of that time is due.
    Timer {
        workflow: String,
        at: UnixMillis,
    },
    /// Takes a row of an outbox to those it is for. Rows of a workflow are taken in order, so when there is an earlier one
    /// that is taken, and `then` says to go on.
    Carry {
        key: String,
    },
    /// Nothing was heard of the machine for so long that its attempt is lost. Only time counts in which it could have been heard.
    Silent {
        machine: String,
        for_ms: u64,
    },
    /// A machine of [`Coordinator::suspects`] is to be looked at again.
    Blocked {
        machine: String,
    },
    /// A person says that the machine's disk is good, whatever workflows have left on it.
    BootDisk {
        machine: String,
    },
}

/// What an agent says of an attempt.
#[derive(Clone, Debug)]
pub struct Report {
    /// The machine's name.
    pub machine: String,
    pub boot_id: String,
    /// Of the attach that this stream began with.
    pub epoch: u64,
    /// Counted by the agent within its boot, from 1.
    pub sequence: u64,
    pub attempt: AttemptId,
    /// `None`: it says nothing that this version knows.
    pub outcome: Option<Outcome>,
    /// What a success changed in the ephemeral data; its contents are durable.
    pub data: Option<Changed>,
    /// Of one that did not end well: the agent says that it changed no disk.
    pub untouched: bool,
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
    /// To be durable before `commit`, in this order: pieces of values that are too large for it. They change nothing by
    /// themselves.
    pub first: Vec<Commit>,
    /// No operations: nothing to commit, the answer holds as it is.
    pub commit: Commit,
    pub answer: Answer,
    /// To be done after the commit. All but [`Next::Changed`] and [`Next::Wake`] are in the store, too.
    pub then: Vec<Next>,
    /// A stamp that was read too late: what is to be committed has one that is not above it.
    late: Option<Stamp>,
    touched: Touched,
}

#[derive(Clone, Debug)]
pub enum Answer {
    /// After Create, Command and Timer: the state after it.
    Workflow(Arc<Workflow>),
    /// The engine would not; nothing changes.
    Refused(Refusal),
    /// After Asked: the same took effect before, and came to this. Nothing changes.
    Before(Done),
    /// After Attach, Report, Work and Withheld.
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
    /// A root was made, or has ended just now: the log says so.
    Turned {
        root: String,
        name: String,
        state: &'static str,
        has_ended: bool,
    },
    /// A root has ended: it is to be archived, when nobody needs it any more.
    Ended { root: String },
    /// [`Input::Timer`] at this time.
    Timer { at: UnixMillis, workflow: String },
    /// It may wait for a system that answers: [`engine::questions`] says whom to ask, again and again, as long as
    /// [`engine::waits_for_answers`] does.
    Ask { workflow: String },
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
    /// Operations of a commit, at least [`Limits::LEAST_OPERATIONS`]. What does not fit is done by steps that follow.
    pub commit_operations: usize,
    /// Bytes of a commit. Values that are too large for it are written before it, in pieces.
    pub commit_bytes: usize,
    /// Of a value that is never taken out of its row.
    pub in_row_bytes: usize,
}

/// See the module.
pub struct Coordinator {
    store: Arc<dyn Store>,
    limits: Limits,
    /// For sub-workflows; who makes others has the same.
    images: ImagePolicy,
    workflows: Cache<Known>,
    machines: Cache<KnownMachine>,
    /// The namespaces of records, with what wrote the record; see [`Coordinator::namespace_of`].
    namespaces: Cache<(Revision, Arc<str>)>,
    /// Machines whose silence matters; see [`Coordinator::busy`].
    busy: Mutex<BTreeSet<String>>,
    /// See [`Coordinator::suspects`].
    suspects: Mutex<BTreeSet<String>>,
}

impl Limits {
    /// What the smallest step takes: an agent's report, or a row that is carried, with all that they touch.
    pub const LEAST_OPERATIONS: usize = 48;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workflows: 4_096,
            machines: 16_384,
            inline_machines: 8,
            commit_operations: store::MAX_OPERATIONS,
            commit_bytes: store::MAX_COMMIT_BYTES,
            in_row_bytes: detached::IN_ROW_BYTES,
        }
    }
}

/// Times that a step is prepared again after another commit came first.
const TRIES: usize = 64;

impl Coordinator {
    pub fn new(store: Arc<dyn Store>, limits: Limits) -> Self {
        Self {
            store,
            workflows: Cache::new(limits.workflows),
            machines: Cache::new(limits.machines),
            namespaces: Cache::new(limits.machines),
            busy: Mutex::default(),
            suspects: Mutex::default(),
            limits,
            images: ImagePolicy::default(),
        }
    }

    /// The same with rules for the images of sub-workflows.
    #[must_use]
    pub fn with_images(self, images: ImagePolicy) -> Self {
        Self { images, ..self }
    }

    /// Loads and decides; writes nothing.
    ///
    /// # Errors
    /// When the store fails, or holds what this version cannot read. [`Error::Archived`]: that workflow is to be brought back
    /// first. Nothing has changed then.
    pub fn prepare(&self, now: impl Into<Now>, input: &Input) -> Result<Plan, Error> {
        let mut now = now.into();
        loop {
            let plan = database::until_read(|| self.try_prepare(now, input))?;
            match plan.late {
                None => return Ok(plan),
                // Only after the clock went back while no server was there: once more, above all that was read.
                late => now.after = now.after.max(late),
            }
        }
    }

    fn try_prepare(&self, now: Now, input: &Input) -> Result<Plan, Error> {
        match input {
            Input::Create(new) => self.create(now, new),
            Input::Command { workflow, command } => self.command(now, workflow, command),
            Input::Asked {
                workflow,
                command,
                once,
            } => self.asked(now, workflow, command, once),
            Input::Attach {
                machine,
                boot_id,
                running,
                knows,
            } => self.attach(now, machine, boot_id, running.as_ref(), knows),
            Input::Report(report) => self.report(now, report),
            Input::Work { machine, epoch } => self.work(now, machine, *epoch),
            Input::Withheld {
                machine,
                epoch,
                attempt,
                reason,
                message,
            } => self.withheld(now, machine, *epoch, attempt, (reason, message)),
            Input::Timer { workflow, at } => self.timer(now, workflow, *at),
            Input::Carry { key } => self.carry(now, key),
            Input::Silent { machine, for_ms } => self.silent(now, machine, *for_ms),
            Input::Blocked { machine } => {
                let mut step = Step::new(self, now);
                self.check_blocked(&mut step, machine)?;
                step.plan(Answer::Done)
            }
            Input::BootDisk { machine } => self.boot_disk(now, machine),
        }
    }

    /// The plan's commit is durable as `revision`.
    pub fn committed(&self, plan: &Plan, revision: Revision) {
        let Touched {
            workflows,
            machines,
            carried,
            added,
        } = &plan.touched;
        for key in carried {
            let Some(id) = rows::whose(key) else { continue };
            let mut is_behind = false;
            self.workflows
                .update(id, |known| is_behind = known.pending.remove(key).is_none());
            if is_behind {
                // The row was carried before the commit that made it was seen here, which would put it back for ever.
                self.workflows.remove(id);
            }
        }
        for (key, about) in added {
            if let Some(id) = rows::whose(key) {
                self.workflows
                    .update(id, |known| drop(known.pending.insert(key.clone(), about.clone())));
            }
        }
        for touched in workflows {
            let is_there = self.workflows.update(&touched.id, |known| {
                if known.modified < revision {
                    known.pending.extend(touched.rows.clone());
                }
                if let Some(after) = touched.after.as_ref().filter(|_| known.modified < revision) {
                    known.workflow = after.clone();
                    known.modified = revision;
                    known.head = touched.head.unwrap_or(revision);
                    known.unwritten.clone_from(&touched.unwritten);
                }
            });
            if let (false, None, Some(after)) = (is_there, touched.before, &touched.after) {
                let known = Known {
                    workflow: after.clone(),
                    modified: revision,
                    head: revision,
                    unwritten: touched.unwritten.clone(),
                    pending: touched.rows.clone(),
                };
                self.workflows.put(&touched.id, known);
            }
        }
        for touched in machines {
            let Some(work) = &touched.after else { continue };
            self.note_busy(&touched.machine, work);
            let known = KnownMachine {
                work: work.clone(),
                modified: Some(revision),
            };
            self.machines
                .put_newer(&touched.machine, known, |there| there.modified < Some(revision));
        }
    }

    /// The plan's commit met a conflict, or it is not known whether it happened: what it was made from is loaded again.
    pub fn forget(&self, plan: &Plan) {
        for touched in &plan.touched.workflows {
            self.workflows
                .remove_if(&touched.id, |known| Some(known.modified) == touched.before);
        }
        let rows = plan.touched.carried.iter();
        let rows = rows.chain(plan.touched.added.iter().map(|(key, _)| key));
        for id in rows.filter_map(|key| rows::whose(key)) {
            self.workflows.remove(id);
        }
        for touched in &plan.touched.machines {
            // It may have happened; Silent finds out.
            if let Some(work) = touched.after.as_ref().filter(|work| agents::may_be_lost(work)) {
                self.note_busy(&touched.machine, work);
            }
            self.machines
                .remove_if(&touched.machine, |known| known.modified == touched.before);
        }
    }

    /// A workflow was written by others: it was archived, brought back or deleted.
    pub fn forget_workflow(&self, id: &str) {
        self.workflows.remove(id);
    }

    /// Prepares, commits, and prepares again after a conflict. Blocks.
    ///
    /// # Errors
    /// As [`Coordinator::prepare`], and when the commit fails for another reason than a conflict.
    pub fn step(&self, now: impl Into<Now>, input: &Input) -> Result<(Answer, Vec<Next>), Error> {
        let now = now.into();
        let mut tries = 0;
        loop {
            tries += 1;
            let plan = self.prepare(now, input)?;
            if plan.commit.operations.is_empty() {
                return Ok((plan.answer, plan.then));
            }
            let first = plan.first.iter();
            let done = first.map(|commit| self.store.commit(commit)).find(Result::is_err);
            match done.unwrap_or_else(|| self.store.commit(&plan.commit)) {
                Ok(revision) => {
                    self.committed(&plan, revision);
                    return Ok((plan.answer, plan.then));
                }
                Err(error) => {
                    self.forget(&plan);
                    if !input.may_try_again(&error, tries) {
                        return Err(error.into());
                    }
                }
            }
        }
    }

    /// The store as it is now.
    fn view(&self) -> Result<View, Error> {
        View::now(&*self.store)
    }

    /// What was left to do when the server stopped: every outbox, every timer, and every root that ended.
    pub fn recover(&self) -> Result<Vec<Next>, Error> {
        database::read(&*self.store, |view| self.left(view))
    }

    fn left(&self, view: &View) -> Result<Vec<Next>, Error> {
        for (machine, work) in view.list::<engine::Machine>("machine-work/")? {
            self.note_busy(&machine, &work);
        }
        let timers = view.list::<IgnoredAny>("timer/")?;
        let timers = timers.into_iter().filter_map(|(key, _)| {
            let (at, workflow) = key.split_once('/')?;
            Some((at.parse().ok()?, workflow.to_owned()))
        });
        let timers: Vec<(UnixMillis, String)> = timers.collect();
        let mut asks = Vec::new();
        for (_, workflow) in &timers {
            // Who waits for an answer has a time limit, and so a timer. Nothing is loaded for it, and a definition that this
            // version cannot read is no reason not to start.
            let definition = view.get::<Value>(&rows::definition(workflow))?;
            if definition.is_some_and(|definition| asks_systems(&definition.value)) {
                let workflow = workflow.clone();
                asks.push(Next::Ask { workflow });
            }
        }
        let timers = timers
            .into_iter()
            .map(|(at, workflow)| Next::Timer { at, workflow });
        let mut outboxes = BTreeMap::new();
        for (key, _) in view.list::<IgnoredAny>("outbox/")? {
            if let Some((id, _)) = key.split_once('/') {
                outboxes
                    .entry(id.to_owned())
                    .or_insert_with(|| format!("outbox/{key}"));
            }
        }
        let heads = view.list::<Head>("workflow/")?;
        let heads = heads.into_iter().map(|(_, head)| head);
        let ended = heads.filter(|head| head.state.is_final() && head.parent.is_none());
        let ended = ended.map(|head| Next::Ended { root: head.id });
        let carries = outboxes.into_values().map(Next::Carry);
        Ok(timers.chain(asks).chain(carries).chain(ended).collect())
    }

    /// Machines with an attempt that is lost when they are out of contact for too long; complete after
    /// [`Coordinator::recover`].
    pub fn busy(&self) -> Vec<String> {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.iter().cloned().collect()
    }

    fn note_busy(&self, machine: &str, work: &engine::Machine) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if agents::may_be_lost(work) {
            if !busy.contains(machine) {
                busy.insert(machine.to_owned());
            }
        } else {
            busy.remove(machine);
        }
    }

    /// A workflow as it was committed last.
    pub fn workflow(&self, id: &str) -> Result<Option<Arc<Workflow>>, Error> {
        let known = database::until_read(|| self.known(id))?;
        Ok(known.map(|known| known.workflow))
    }

    /// As [`Coordinator::workflow`], if it is in memory: reads nothing.
    pub fn at_hand(&self, id: &str) -> Option<Arc<Workflow>> {
        self.workflows.get(id).map(|known| known.workflow)
    }

    /// Whether [`Coordinator::prepare`] reads only a few short rows for it: what it is about is in memory, and it is not of
    /// a kind that looks at many machines or workflows. Otherwise it may take long.
    pub fn is_prepared_soon(&self, input: &Input) -> bool {
        let is_known = |id: &str| self.workflows.get(id).is_some();
        match input {
            Input::Asked { workflow, .. }
            | Input::Command { workflow, .. }
            | Input::Timer { workflow, .. } => is_known(workflow),
            Input::Report(report) => {
                is_known(&report.attempt.workflow) && self.machines.get(&report.machine).is_some()
            }
            Input::Work { machine, .. } => self.machines.get(machine).is_some_and(|known| {
                let next = known.work.next();
                next.is_none_or(|want| is_known(&want.workflow))
            }),
            // Of what is for others than machines, some is about all machines, or makes a workflow.
            Input::Carry { key } => {
                let known = rows::whose(key).and_then(|id| self.workflows.get(id));
                let first = known.as_ref().and_then(|known| known.pending.values().next());
                matches!(first, Some(About::Machine { name, .. }) if self.machines.get(name).is_some())
            }
            Input::Attach { .. }
            | Input::Blocked { .. }
            | Input::BootDisk { .. }
            | Input::Create(_)
            | Input::Silent { .. }
            | Input::Withheld { .. } => false,
        }
    }

    /// Who holds a machine and what it runs.
    pub fn machine(&self, machine: &str) -> Result<engine::Machine, Error> {
        Ok(database::until_read(|| self.known_machine(machine))?.work)
    }

    /// As [`load::machine_of`].
    pub fn machine_of(&self, namespace: &str, worker: &str) -> Result<String, Error> {
        database::read(&*self.store, |view| load::machine_of(view, namespace, worker))
    }

    /// The newest version of a root workflow's ephemeral data.
    pub fn data_version(&self, root: &str) -> Result<u64, Error> {
        database::read(&*self.store, |view| Ok(versions::newest(view.rows(), root)?))
    }

    /// The files of one version; `None`: it is not kept.
    pub fn data_manifest(&self, root: &str, version: u64) -> Result<Option<Manifest>, Error> {
        database::read(&*self.store, |view| {
            Ok(versions::manifest(view.rows(), root, version)?)
        })
    }

    /// What to push for an attempt; `None` when it is not under way.
    pub fn dispatch(&self, attempt: &AttemptId) -> Result<Option<Dispatch>, Error> {
        let workflow = self.workflow(&attempt.workflow)?;
        Ok(workflow.and_then(|workflow| engine::dispatch(&workflow, attempt)))
    }

    /// Names of the secrets that an attempt was given: they are to be hidden in what comes of it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn secret_names(&self, attempt: &AttemptId) -> Result<BTreeSet<String>, Error> {
        let workflow = self.workflow(&attempt.workflow)?;
        Ok(workflow
            .map(|workflow| engine::secret_names(&workflow, attempt))
            .unwrap_or_default())
    }

    fn create(&self, now: Now, new: &NewWorkflow) -> Result<Plan, Error> {
        let mut creation = new.creation.clone();
        let mut step = Step::new(self, now);
        for (worker, facts) in
            making::facts_of_workers(step.view()?, &creation.namespace, &creation.definition)?
        {
            creation.machines.entry(worker).or_insert(facts);
        }
        let id = creation.id.clone();
        let done = step.command(&id, &Command::Create(Box::new(creation)))?;
        if done.is_ok() {
            step.batch.take_in(&new.extra);
        }
        self.told(step, &id, done)
    }

    fn command(&self, now: Now, id: &str, command: &Command) -> Result<Plan, Error> {
        let mut step = Step::new(self, now);
        let done = step.command(id, command)?;
        self.told(step, id, done)
    }

    /// What it comes to is kept with what it does, also where that is nothing: what others do later must not make it do something.
    fn asked(&self, now: Now, id: &str, command: &Command, once: &Once) -> Result<Plan, Error> {
        let mut step = Step::new(self, now);
        if let Some(done) = once.before(step.view()?)? {
            return step.plan(Answer::Before(done));
        }
        let done = step.command(id, command)?;
        if let (Ok(events), Some(workflow)) = (&done, step.workflow(id)?) {
            let event = workflow.head.last_event;
            if events.is_empty() {
                // As a refusal does, it counts when nothing has happened since.
                step.batch.absent(rows::event(id, event.saturating_add(1)));
            }
            once.note(&mut step.batch, Came::Workflow { event });
        }
        self.told(step, id, done)
    }

    fn timer(&self, now: Now, id: &str, at: UnixMillis) -> Result<Plan, Error> {
        let mut step = Step::new(self, now);
        let before = step.workflow(id)?;
        let due = before.as_ref().and_then(|before| engine::next_due(before));
        if due != Some(at) {
            // It was replaced; a crash cannot leave such a row, another version of the engine can.
            if step.view()?.get::<IgnoredAny>(&rows::timer(at, id))?.is_some() {
                step.batch.delete(rows::timer(at, id));
            }
            return step.plan(Answer::Done);
        }
        let done = step.command(id, &Command::Timer)?;
        let after = step.workflow(id)?;
        if after.is_some_and(|after| engine::next_due(&after) == Some(at)) {
            let workflow = id.to_owned();
            step.then.push(Next::Timer { at, workflow });
        }
        self.told(step, id, done)
    }

    fn told<T>(&self, step: Step<'_>, id: &str, done: Result<T, Refusal>) -> Result<Plan, Error> {
        let answer = match done {
            Err(refusal) => Answer::Refused(refusal),
            Ok(_) => match step.workflow(id)? {
                Some(workflow) => Answer::Workflow(workflow),
                None => Answer::Refused(Refusal::Missing),
            },
        };
        step.plan(answer)
    }
}

/// Whether a task of a definition waits until a system answers, as [`Control::Answers`](workflow::language::Control) is written.
fn asks_systems(definition: &Value) -> bool {
    let tasks = definition.get("tasks").and_then(Value::as_array);
    let mut tasks = tasks.into_iter().flatten();
    tasks.any(|task| task.pointer("/control/answers").is_some())
}

impl Input {
    /// Whether to prepare it again after its commit failed.
    pub fn may_try_again(&self, error: &StoreError, tries: usize) -> bool {
        let StoreError::Conflict { key } = error else {
            return false;
        };
        let is_own = match self {
            // A create whose own preconditions fail has met its idempotency key.
            Input::Create(new) => new
                .extra
                .preconditions
                .iter()
                .any(|precondition| match precondition {
                    Precondition::Absent { key: own } | Precondition::Unchanged { key: own, .. } => {
                        own == key
                    }
                }),
            _ => false,
        };
        !is_own && tries < TRIES
    }
}
