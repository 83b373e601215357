//! One step while it is being put together: what was loaded, what it becomes, and in the end one commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use store::{MAX_OPERATIONS, Revision};
use workflow::engine::{
    self, AttemptId, Command, Decision, Effect, Event, EventKind, ExecutionId, Refusal, UnixMillis, Workflow,
    decide, next_due,
};

use super::load::{Known, KnownMachine, Unwritten, machine_of};
use super::rows::{self, About, ForMachine, Row};
use super::{Answer, Coordinator, Limits, Next, Plan};
use crate::database::{Batch, detached};
use crate::error::Error;
use crate::workflows::last::Last;

/// Operations of a commit that rows of an outbox may fill; the rest is for what a caller adds.
const ROOM: usize = MAX_OPERATIONS - 8;
/// Events after which the head is written, and what has changed with it: so many are applied to a workflow that is loaded.
pub(super) const UNWRITTEN_EVENTS: u64 = 32;
/// Executions that may wait for that; they are in the commit of another step then.
const UNWRITTEN_EXECUTIONS: usize = 4;
/// Workflows that may refuse something in one step: each is one precondition of its commit.
const MOST_REFUSED: usize = MAX_OPERATIONS / 2;

pub(super) struct Step<'a> {
    pub(super) coordinator: &'a Coordinator,
    pub(super) now: UnixMillis,
    workflows: BTreeMap<String, Change>,
    /// Those that refused something, as they were then.
    refused: BTreeMap<String, Known>,
    machines: BTreeMap<String, (KnownMachine, engine::Machine)>,
    /// The machine whose agent this is about: its caller looks for work itself.
    at_hand: Option<String>,
    pub(super) batch: Batch,
    pub(super) then: Vec<Next>,
    /// Outbox rows that this step carries.
    carried: Vec<String>,
    added: Vec<(String, About)>,
}

/// A workflow, before and after.
struct Change {
    before: Option<Known>,
    after: Arc<Workflow>,
    events: Vec<Event>,
    changed: BTreeSet<ExecutionId>,
    expanded: BTreeSet<(usize, u32)>,
    rows: Vec<Row>,
}

/// What a plan does to what is in memory.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) workflows: Vec<TouchedWorkflow>,
    pub(super) machines: Vec<TouchedMachine>,
    /// Rows of outboxes that are gone.
    pub(super) carried: Vec<String>,
    /// Rows of outboxes that are new beside those of workflows.
    pub(super) added: Vec<(String, About)>,
}

#[derive(Debug)]
pub(super) struct TouchedMachine {
    pub(super) machine: String,
    /// What it was made from.
    pub(super) before: Option<Revision>,
    /// Where it is written.
    pub(super) after: Option<engine::Machine>,
}

#[derive(Debug)]
pub(super) struct TouchedWorkflow {
    pub(super) id: String,
    /// What it was made from.
    pub(super) before: Option<Revision>,
    /// Where it is written.
    pub(super) after: Option<Arc<Workflow>>,
    /// Of its head, where that is not written with it.
    pub(super) head: Option<Revision>,
    pub(super) unwritten: Unwritten,
    /// New rows of its outbox.
    pub(super) rows: BTreeMap<String, About>,
}

impl<'a> Step<'a> {
    pub(super) fn new(coordinator: &'a Coordinator, now: UnixMillis) -> Self {
        Self {
            coordinator,
            now,
            workflows: BTreeMap::new(),
            refused: BTreeMap::new(),
            machines: BTreeMap::new(),
            at_hand: None,
            batch: Batch::default(),
            then: Vec::new(),
            carried: Vec::new(),
            added: Vec::new(),
        }
    }

    /// The machine whose agent speaks.
    pub(super) fn hand(&mut self, machine: &str) -> Result<&mut engine::Machine, Error> {
        self.at_hand = Some(machine.to_owned());
        self.machine(machine)
    }

    pub(super) fn machine(&mut self, machine: &str) -> Result<&mut engine::Machine, Error> {
        if !self.machines.contains_key(machine) {
            let known = self.coordinator.known_machine(machine)?;
            let work = known.work.clone();
            self.machines.insert(machine.to_owned(), (known, work));
        }
        let (_, work) = self.machines.get_mut(machine).expect("it was just put there");
        Ok(work)
    }

    /// A workflow as it is at this point of the step.
    pub(super) fn workflow(&self, id: &str) -> Result<Option<Arc<Workflow>>, Error> {
        if let Some(change) = self.workflows.get(id) {
            return Ok(Some(change.after.clone()));
        }
        Ok(self.coordinator.known(id)?.map(|known| known.workflow))
    }

    /// Whether rows of its outbox are still to be carried, but for those that this step carries.
    pub(super) fn has_something_to_tell(&self, id: &str) -> Result<bool, Error> {
        if let Some(change) = self.workflows.get(id)
            && !change.rows.is_empty()
        {
            return Ok(true);
        }
        let known = self.coordinator.known(id)?;
        let mut pending = known.iter().flat_map(|known| known.pending.keys());
        Ok(pending.any(|key| !self.carried.contains(key)))
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.workflows.contains_key(id)
    }

    /// Does a command to a workflow, and its effects as far as they are for machines within reach.
    pub(super) fn command(
        &mut self,
        id: &str,
        command: &Command,
    ) -> Result<Result<Vec<Event>, Refusal>, Error> {
        let known = match self.workflows.get(id) {
            Some(_) => None,
            None => self.coordinator.known(id)?,
        };
        let present = self.workflows.get(id).map(|change| change.after.clone());
        let present = present.or_else(|| known.as_ref().map(|known| known.workflow.clone()));
        let Decision {
            events,
            workflow,
            changed,
            expanded,
            effects,
            more,
        } = match decide(present.as_deref(), command, self.now) {
            Ok(decision) => decision,
            Err(refusal) => {
                if let Some(known) = known {
                    self.refused.entry(id.to_owned()).or_insert(known);
                }
                return Ok(Err(refusal));
            }
        };
        let after = Arc::new(workflow);
        let change = self.workflows.entry(id.to_owned()).or_insert_with(|| Change {
            before: known,
            after: after.clone(),
            events: Vec::new(),
            changed: BTreeSet::new(),
            expanded: BTreeSet::new(),
            rows: Vec::new(),
        });
        change.after = after;
        change.events.extend(events.iter().cloned());
        change.changed.extend(changed);
        change.expanded.extend(expanded);
        for effect in effects {
            self.effect(id, effect)?;
        }
        if more {
            self.row(id, Row::Continue);
        }
        Ok(Ok(events))
    }

    /// Hands the execution that is next on a machine out; false when nothing was. Only one of the workflow `only`, if given.
    pub(super) fn hand_out(&mut self, machine: &str, only: Option<&str>) -> Result<bool, Error> {
        loop {
            let work = self.machine(machine)?;
            let Some(want) = work.next().cloned() else {
                return Ok(false);
            };
            if only.is_some_and(|only| only != want.workflow) {
                return Ok(false);
            }
            let (boot_id, epoch) = (work.boot_id.clone(), work.epoch);
            // With more that is out of date the machine is woken again.
            if self.is_cut_short(&want.workflow) || self.refused.len() >= MOST_REFUSED {
                return Ok(false);
            }
            let worker = self
                .workflow(&want.workflow)?
                .and_then(|workflow| Some(workflow.execution(want.execution)?.worker.clone()));
            let command = Command::Dispatch {
                execution: want.execution,
                worker: worker.unwrap_or_default(),
                boot_id,
                epoch,
            };
            let events = match self.command(&want.workflow, &command)? {
                Ok(events) => events,
                Err(refusal) => {
                    tracing::debug!(machine, workflow = want.workflow, %refusal, "a want was out of date");
                    Vec::new()
                }
            };
            let attempt = events.into_iter().find_map(|event| match event.kind {
                EventKind::Dispatched { attempt, .. } => Some(attempt),
                _ => None,
            });
            let work = self.machine(machine)?;
            match attempt {
                Some(attempt) => {
                    work.dispatched(&want.root, attempt);
                    return Ok(true);
                }
                None => work.unwant(&want.workflow, want.execution),
            }
        }
    }

    /// A decision on the workflow was as long as one may be: another in the same step would not fit into its commit. The
    /// machine is woken, and its work handed out by a step of its own.
    fn is_cut_short(&self, id: &str) -> bool {
        let change = self.workflows.get(id);
        change.is_some_and(|change| change.rows.iter().any(|row| matches!(row, Row::Continue)))
    }

    /// Whether an attempt's execution is on this machine.
    pub(super) fn is_on(&self, machine: &str, attempt: &AttemptId) -> Result<bool, Error> {
        let Some(workflow) = self.workflow(&attempt.workflow)? else {
            return Ok(false);
        };
        let Some(execution) = workflow.execution(attempt.execution) else {
            return Ok(false);
        };
        Ok(machine_of(&self.coordinator.view, &execution.worker)? == machine)
    }

    pub(super) fn row(&mut self, id: &str, row: Row) {
        if let Some(change) = self.workflows.get_mut(id) {
            change.rows.push(row);
        }
    }

    /// This row of an outbox is done with the step.
    pub(super) fn carried(&mut self, key: &str, modified: Revision) {
        self.batch.unchanged(key, modified);
        self.batch.delete(key);
        self.carried.push(key.to_owned());
    }

    /// Rows that were one because they did not fit into a commit become rows of their own, at most so many at a time.
    pub(super) fn apart(&mut self, key: &str, mut rows: Vec<Row>, most: usize) {
        let rest = rows.split_off(rows.len().min(most));
        let rest = (!rest.is_empty()).then_some(Row::Several { rows: rest });
        for (n, row) in rows.into_iter().chain(rest).enumerate() {
            let key = format!("{key}/{n:05}");
            self.batch.put(&key, &row);
            if n == 0 {
                self.then.push(Next::Carry(key.clone()));
            }
            self.added.push((key, row.about()));
        }
    }

    pub(super) fn deadlock_row(&mut self, root: &str, row: &Row) {
        let key = rows::deadlock_row(root);
        self.batch.put(&key, row);
        self.added.push((key.clone(), row.about()));
        self.then.push(Next::Carry(key));
    }

    fn effect(&mut self, id: &str, effect: Effect) -> Result<(), Error> {
        if let Effect::ReleaseMany { workers, root } = effect {
            for worker in workers {
                let root = root.clone();
                self.effect(id, Effect::Release { worker, root })?;
            }
            return Ok(());
        }
        let Some(worker) = rows::worker(&effect) else {
            self.row(id, Row::Other { effect });
            return Ok(());
        };
        let machine = machine_of(&self.coordinator.view, worker)?;
        let change = self.workflows.get(id).expect("a workflow whose effect this is");
        let releases = matches!(effect, Effect::Release { .. });
        let last = releases.then(|| Last::of(&change.after, worker));
        let item = ForMachine { effect, last };
        // What was said before of the same machine comes first.
        let behind = change.is_behind(&machine, &self.carried);
        let within = self.machines.contains_key(&machine)
            || self.machines.len() < self.coordinator.limits.inline_machines;
        if !behind && within {
            return self.apply(&machine, item);
        }
        let change = self.workflows.get_mut(id).expect("it was there");
        if let Some(Row::Machine {
            machine: last,
            effects,
        }) = change.rows.last_mut()
            && *last == machine
        {
            effects.push(item);
            return Ok(());
        }
        let effects = vec![item];
        change.rows.push(Row::Machine { machine, effects });
        Ok(())
    }

    /// Does to a machine what is for it, and keeps the index of what it boots next.
    pub(super) fn apply(&mut self, machine: &str, item: ForMachine) -> Result<(), Error> {
        let ForMachine { effect, last } = item;
        let work = self.machine(machine)?;
        match effect {
            Effect::Claim { root, .. } => {
                let known = work.claims.iter().any(|claim| claim.root == root);
                work.claim(&root);
                self.open(known, machine, &root, &root);
            }
            Effect::Want {
                root,
                workflow,
                execution,
                ..
            } => {
                let known = work.claims.iter().any(|claim| claim.root == root);
                work.want(&root, &workflow, execution);
                self.open(known, machine, &root, &workflow);
            }
            Effect::Release { root, .. } => {
                let known = work.claims.iter().any(|claim| claim.root == root);
                work.release(&root);
                if known {
                    self.batch.delete(format!("open/{machine}/{root}"));
                    if let Some(last) = last {
                        self.batch.put(format!("last/{machine}"), &last);
                    }
                }
            }
            Effect::Unwant {
                workflow, execution, ..
            } => work.unwant(&workflow, execution),
            Effect::Stop { attempt, reason, .. } => {
                work.stop(&attempt, &reason);
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, known: bool, machine: &str, root: &str, workflow: &str) {
        if !known {
            self.batch.put(format!("open/{machine}/{root}"), &());
            self.batch.put(format!("of/{machine}/{root}"), &());
        }
        if workflow != root {
            self.batch.put(format!("of/{machine}/{workflow}"), &());
        }
    }

    /// What it comes to, as one commit.
    pub(super) fn plan(mut self, answer: Answer) -> Result<Plan, Error> {
        let mut touched = Touched {
            carried: std::mem::take(&mut self.carried),
            added: std::mem::take(&mut self.added),
            ..Touched::default()
        };
        let machines = std::mem::take(&mut self.machines);
        for (name, (known, work)) in machines {
            let changed = work != known.work;
            if changed {
                let key = rows::machine_work(&name);
                self.batch.expect(&key, known.modified);
                self.batch.put(key, &work);
                self.write_queue(&name, &known.work, &work);
                self.wake(&name, &known.work, &work);
            }
            touched.machines.push(TouchedMachine {
                machine: name,
                before: known.modified,
                after: changed.then_some(work),
            });
        }
        for (id, change) in std::mem::take(&mut self.workflows) {
            let unwritten = change.unwritten();
            let rows = self.write(&id, &change, unwritten.is_none());
            let written = !change.events.is_empty();
            let before = change.before.as_ref();
            touched.workflows.push(TouchedWorkflow {
                id,
                before: before.map(|before| before.modified),
                head: before.filter(|_| unwritten.is_some()).map(|before| before.head),
                unwritten: unwritten.unwrap_or_default(),
                after: written.then_some(change.after),
                rows,
            });
        }
        for (id, known) in std::mem::take(&mut self.refused) {
            // What is in memory may be older than what asked it, as a commit is seen here a moment after it is durable: a
            // refusal counts when nothing has happened since.
            let next = known.workflow.head.last_event.saturating_add(1);
            self.batch.absent(rows::event(&id, next));
            touched.workflows.push(TouchedWorkflow {
                id,
                before: Some(known.modified),
                head: None,
                unwritten: Unwritten::default(),
                after: None,
                rows: BTreeMap::new(),
            });
        }
        let Limits {
            commit_bytes,
            in_row_bytes,
            ..
        } = self.coordinator.limits;
        let mut commit = self.batch.into_commit();
        let first = detached::detach(&*self.coordinator.store, &mut commit, commit_bytes, in_row_bytes)?;
        Ok(Plan {
            first,
            commit,
            answer,
            then: self.then,
            touched,
        })
    }

    fn write_queue(&mut self, name: &str, before: &engine::Machine, after: &engine::Machine) {
        let (before, after) = (before.queue(), after.queue());
        if before == after {
            return;
        }
        let key = rows::machine_queue(name);
        if after == engine::machine::Queue::default() {
            self.batch.delete(key);
        } else {
            self.batch.put(key, &after);
        }
    }

    fn wake(&mut self, name: &str, before: &engine::Machine, after: &engine::Machine) {
        let stop = |work: &engine::Machine| {
            work.current
                .as_ref()
                .is_some_and(|current| current.stop.is_some())
        };
        // An idle agent is told what it waits for.
        let waits_for_other = (&before.claims, &before.wants) != (&after.claims, &after.wants);
        let news = after.next().is_some() || stop(after) || (after.current.is_none() && waits_for_other);
        let is_at_hand = self.at_hand.as_deref() == Some(name);
        // Kept, and wanted by others: whoever keeps it may wait for them.
        let is_kept = before.current.is_some() && after.current.is_none() && !after.wants.is_empty();
        let news = (news && (!is_at_hand || after.next().is_some())) || is_kept;
        if !after.boot_id.is_empty() && news {
            self.then.push(Next::Wake(name.to_owned()));
        }
    }

    /// Gives the new rows of its outbox.
    fn write(&mut self, id: &str, change: &Change, with_head: bool) -> BTreeMap<String, About> {
        let after = &change.after;
        if let Some(first) = change.events.first() {
            let key = rows::head(id);
            self.batch
                .expect(&key, change.before.as_ref().map(|before| before.head));
            self.batch.absent(rows::event(id, first.number));
            for event in &change.events {
                self.batch.put(rows::event(id, event.number), event);
            }
            if with_head {
                self.batch.put(key, &after.head);
                self.write_executions(id, change);
            }
            if change.before.is_none() {
                self.batch.put(rows::definition(id), &*after.definition);
            }
            for (task, instance) in &change.expanded {
                if let Some(list) = after.items.get(&(*task, *instance)) {
                    self.batch.put(rows::items(id, *task, *instance), &**list);
                }
            }
            let due_before = change
                .before
                .as_ref()
                .and_then(|before| next_due(&before.workflow));
            let due = next_due(after);
            if due != due_before {
                if let Some(at) = due_before {
                    self.batch.delete(rows::timer(at, id));
                }
                if let Some(at) = due {
                    self.batch.put(rows::timer(at, id), &());
                    let workflow = id.to_owned();
                    self.then.push(Next::Timer { at, workflow });
                }
            }
            let workflow = id.to_owned();
            self.then.push(Next::Changed { workflow });
            if after.head.state.is_final() && after.head.parent.is_none() {
                self.then.push(Next::Ended { root: id.to_owned() });
            }
        }
        self.write_rows(id, change)
    }

    /// Those that have changed since the head was written.
    fn write_executions(&mut self, id: &str, change: &Change) {
        let unwritten = change.before.iter();
        let unwritten = unwritten.flat_map(|before| &before.unwritten.executions);
        let changed: BTreeSet<&ExecutionId> = change.changed.iter().chain(unwritten).collect();
        for execution in changed {
            match change.after.executions.get(execution) {
                Some(state) => self.batch.put(rows::execution(id, *execution), &**state),
                None => self.batch.delete(rows::execution(id, *execution)),
            }
        }
    }

    fn write_rows(&mut self, id: &str, change: &Change) -> BTreeMap<String, About> {
        let mut rows = change.rows.clone();
        if rows.len() + self.batch.len() > ROOM && rows.len() > 1 {
            rows = vec![Row::Several { rows }];
        }
        let number = change.after.head.last_event;
        let pending = change.before.iter().flat_map(|before| before.pending.keys());
        let taken = pending
            .filter_map(|key| rows::place(key, id, number))
            .max()
            .map_or(0, |last| last + 1);
        let mut written = BTreeMap::new();
        for (n, row) in rows.iter().enumerate() {
            let key = rows::outbox_row(id, number, taken + n);
            self.batch.put(&key, row);
            if n == 0 {
                self.then.push(Next::Carry(key.clone()));
            }
            written.insert(key, row.about());
        }
        written
    }
}

impl Change {
    /// What is not written with the step's events; `None`: the head is.
    fn unwritten(&self) -> Option<Unwritten> {
        let before = self.before.as_ref()?;
        let head = &self.after.head;
        let mut unwritten = before.unwritten.clone();
        unwritten.events += self.events.len() as u64;
        self.changed.iter().for_each(|id| unwritten.execution(*id));
        let is_seldom = unwritten.events <= UNWRITTEN_EVENTS
            && unwritten.executions.len() <= UNWRITTEN_EXECUTIONS
            && self.rows.is_empty()
            && self.expanded.is_empty();
        (is_seldom && !head.state.is_final() && head.differs_in_last_event_only(&before.workflow.head))
            .then_some(unwritten)
    }

    /// Something for this machine is still to be carried.
    fn is_behind(&self, machine: &str, carried: &[String]) -> bool {
        let pending = self.before.iter().flat_map(|before| &before.pending);
        let mut pending = pending.filter(|(key, _)| !carried.contains(key));
        pending.any(|(_, about)| about.is(machine)) || self.rows.iter().any(|row| row.about().is(machine))
    }
}
