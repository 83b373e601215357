//! One step while it is being put together: what was loaded, and what it becomes. In the end it is one [`commit`].

mod commit;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use store::Revision;
use workflow::engine::{
    self, AttemptId, Command, Decision, DiskUse, Effect, Event, EventKind, ExecutionId, Head, Now, Outcome,
    Refusal, Stamp, Workflow, decide_within,
};

use super::load::{Found, Known, KnownMachine, Unwritten, machine_of};
use super::rows::{self, About, ForMachine, Row};
use super::{Coordinator, Next};
use crate::database::{Batch, View};
use crate::error::Error;
use crate::last::Last;
use crate::machines::parse_mac;

/// Events after which the head is written, and what has changed with it: so many are applied to a workflow that is loaded.
pub(super) const UNWRITTEN_EVENTS: u64 = 32;
/// Operations that a workflow takes beside its events, executions and lists: its head, its definition, its timer (the old
/// one and the new), its outbox, and the executions that were not written with their events.
const OF_WORKFLOW: usize = 9;
/// Operations on what a machine has and who waits for it.
const OF_MACHINE: usize = 2;
/// Operations of an effect on a machine, the machine's own included.
const OF_EFFECT: usize = 6;
/// The row by which all events of the commit have their place among others.
const OF_ORDER: usize = 1;
/// Left for what a caller adds to the commit: a version of the data, the text of a workflow, a row that is carried.
const FOR_CALLER: usize = 8;
/// What handing out takes at most: the attempt, what follows from it, and the machine.
const OF_DISPATCH: usize = 12;

pub(super) struct Step<'a> {
    pub(super) coordinator: &'a Coordinator,
    pub(super) now: Now,
    /// The highest stamp that it has read.
    seen: Cell<Option<Stamp>>,
    /// The first and the last stamp of its events.
    issued: Option<(Stamp, Stamp)>,
    /// See [`Step::view`].
    view: OnceCell<View>,
    /// Machines by namespace and worker, as the view has them: a step asks for the same again.
    machine_names: RefCell<BTreeMap<(String, String), String>>,
    workflows: BTreeMap<String, Change>,
    /// Those that refused something, as they were then.
    refused: BTreeMap<String, Known>,
    /// Those that were asked something, and are archived.
    archived: BTreeSet<String>,
    machines: BTreeMap<String, (KnownMachine, engine::Machine)>,
    /// The machine whose agent this is about: its caller looks for work itself.
    at_hand: Option<String>,
    /// Stops of what the machine does not have: the decision that hands it out may have asked for its stop, too.
    early_stops: Vec<(AttemptId, String)>,
    /// Machines that were told something. Where that changes nothing, it counts only for the machine as it was read.
    told: BTreeSet<String>,
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
    pub(super) fn new(coordinator: &'a Coordinator, now: Now) -> Self {
        Self {
            coordinator,
            now,
            seen: Cell::new(None),
            issued: None,
            view: OnceCell::new(),
            machine_names: RefCell::default(),
            workflows: BTreeMap::new(),
            refused: BTreeMap::new(),
            archived: BTreeSet::new(),
            machines: BTreeMap::new(),
            at_hand: None,
            early_stops: Vec::new(),
            told: BTreeSet::new(),
            batch: Batch::default(),
            then: Vec::new(),
            carried: Vec::new(),
            added: Vec::new(),
        }
    }

    /// The store as it was when the step first read from it: all rows but those of workflows and machines. Of these, what is
    /// not in memory has a snapshot of its own, taken when it is needed: one that is missing there is no younger than what
    /// was in memory, and names it.
    pub(super) fn view(&self) -> Result<&View, Error> {
        if let Some(view) = self.view.get() {
            return Ok(view);
        }
        let view = self.coordinator.view()?;
        Ok(self.view.get_or_init(|| view))
    }

    /// The machine whose agent speaks.
    pub(super) fn hand(&mut self, machine: &str) -> Result<&mut engine::Machine, Error> {
        self.at_hand = Some(machine.to_owned());
        self.machine(machine)
    }

    pub(super) fn machine(&mut self, machine: &str) -> Result<&mut engine::Machine, Error> {
        if !self.machines.contains_key(machine) {
            let known = self.coordinator.known_machine(machine)?;
            self.saw(known.work.stamp);
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
        let known = self.coordinator.known(id)?;
        if let Some(known) = &known {
            self.saw(known.workflow.head.stamp());
        }
        Ok(known.map(|known| known.workflow))
    }

    /// What it decides from here on has a stamp above this one.
    fn saw(&self, stamp: Stamp) {
        if stamp != Stamp::default() {
            self.seen.set(self.seen.get().max(Some(stamp)));
        }
    }

    /// A stamp that was read after something had been decided that is not above it.
    fn late(&self) -> Option<Stamp> {
        let (first, _) = self.issued?;
        self.seen.get().filter(|seen| *seen >= first)
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

    /// It refused a command because it is archived.
    pub(super) fn is_archived(&self, id: &str) -> bool {
        self.archived.contains(id)
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
            None => match self.coordinator.find(id)? {
                Found::Here(known) => Some(known),
                Found::Archived => {
                    self.archived.insert(id.to_owned());
                    None
                }
                Found::Nowhere => None,
            },
        };
        if let Some(known) = &known {
            self.saw(known.workflow.head.stamp());
        }
        let now = Now {
            after: self
                .now
                .after
                .max(self.seen.get())
                .max(self.issued.map(|(_, last)| last)),
            ..self.now
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
        } = match decide_within(present.as_deref(), command, now, self.room_for_rows(id, command)) {
            Ok(decision) => decision,
            Err(refusal) => {
                if let Some(known) = known {
                    self.refused.entry(id.to_owned()).or_insert(known);
                }
                return Ok(Err(refusal));
            }
        };
        if let (Some(first), Some(last)) = (events.first(), events.last()) {
            let first = self.issued.map_or(first.stamp(), |(first, _)| first);
            self.issued = Some((first, last.stamp()));
        }
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
            let of_workflow = if self.has(&want.workflow) { 0 } else { OF_WORKFLOW };
            if self.is_cut_short(&want.workflow) || !self.has_room(OF_DISPATCH + of_workflow) {
                return Ok(false);
            }
            let workflow = self.workflow(&want.workflow)?;
            let namespace = workflow.as_ref().map(|workflow| workflow.head.namespace.clone());
            let is_foreign = self.is_foreign(machine, namespace.as_deref())?;
            let worker =
                workflow.and_then(|workflow| Some(workflow.execution(want.execution)?.worker.clone()));
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
            let writes = match (&attempt, self.workflows.get(&want.workflow)) {
                (Some(attempt), Some(change)) => DiskUse::of(&change.after, attempt),
                _ => None,
            };
            let early = std::mem::take(&mut self.early_stops);
            if let (Some(attempt), true) = (&attempt, is_foreign) {
                self.refuse_foreign(machine, attempt)?;
                self.machine(machine)?.unwant(&want.workflow, want.execution);
                continue;
            }
            let work = self.machine(machine)?;
            match attempt {
                Some(attempt) => {
                    if let Some(to) = writes {
                        work.disks.begin(&want.root, &attempt, to);
                    }
                    work.dispatched(&want.root, attempt.clone());
                    for (_, reason) in early.iter().filter(|(early, _)| *early == attempt) {
                        work.stop(&attempt, reason);
                    }
                    return Ok(true);
                }
                None => work.unwant(&want.workflow, want.execution),
            }
        }
    }

    /// See [`Coordinator::machine_in`].
    fn machine_of(&self, namespace: &str, worker: &str) -> Result<String, Error> {
        let key = (namespace.to_owned(), worker.to_owned());
        if let Some(known) = self.machine_names.borrow().get(&key) {
            return Ok(known.clone());
        }
        let machine = self.coordinator.machine_in(self.view()?, namespace, worker)?;
        self.machine_names.borrow_mut().insert(key, machine.clone());
        Ok(machine)
    }

    /// Whether the machine's record is of another namespace than a workflow. It may have moved while what the workflow wants of
    /// it was on its way here.
    fn is_foreign(&self, machine: &str, namespace: Option<&str>) -> Result<bool, Error> {
        // What was found there for a worker is there.
        let is_found = |((of, _), found): (&(String, String), &String)| {
            Some(of.as_str()) == namespace && found == machine
        };
        if self.machine_names.borrow().iter().any(is_found) {
            return Ok(false);
        }
        let whose = self.coordinator.namespace_of(self.view()?, machine)?;
        Ok(matches!((whose.as_deref(), namespace), (Some(whose), Some(namespace)) if whose != namespace))
    }

    /// An attempt that is not handed out, as its machine is of another namespace, has failed without having begun.
    fn refuse_foreign(&mut self, machine: &str, attempt: &AttemptId) -> Result<(), Error> {
        let outcome = Outcome::Failed {
            reason: "OtherNamespace".to_owned(),
            message: format!(
                "machine {machine} is of another namespace: what was to run on it is not handed out"
            ),
            exit_code: 0,
        };
        let id = attempt.workflow.clone();
        let attempt = attempt.clone();
        if let Err(refusal) = self.command(&id, &Command::Report { attempt, outcome })? {
            tracing::warn!(machine, workflow = id, %refusal, "the end of an attempt that was not handed out was refused");
        }
        Ok(())
    }

    /// Whether so many operations more fit into the commit. It has as many preconditions at most.
    pub(super) fn has_room(&self, operations: usize) -> bool {
        operations <= self.room()
    }

    /// Operations that still fit into the commit, beside what its caller adds.
    fn room(&self) -> usize {
        let of_workflows: usize = self.workflows.values().map(Change::operations).sum();
        let operations = self.batch.len() + OF_MACHINE * self.machines.len() + of_workflows;
        let preconditions = self.batch.preconditions() + self.machines.len() + 2 * self.workflows.len();
        let preconditions = preconditions + self.refused.len();
        let most = self.coordinator.limits.commit_operations;
        most.saturating_sub((OF_ORDER + operations).max(preconditions) + FOR_CALLER)
    }

    /// Rows that a decision on this workflow may write, beside those by which it is found.
    fn room_for_rows(&self, id: &str, command: &Command) -> usize {
        let of_workflow = if self.has(id) { 0 } else { OF_WORKFLOW };
        let of_labels = match command {
            Command::Create(creation) => creation.labels.len(),
            // Of another value than before there is a row that goes, too.
            Command::Label { set, remove, .. } => 2 * set.len() + remove.len(),
            _ => 0,
        };
        self.room().saturating_sub(of_workflow + of_labels)
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
        Ok(self.machine_of(&workflow.head.namespace, &execution.worker)? == machine)
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

    /// Rows that were one because they did not fit into a commit become rows of their own, as many as fit now.
    pub(super) fn apart(&mut self, key: &str, mut rows: Vec<Row>) {
        let room = self.room().saturating_sub(1);
        let rest = rows.split_off(rows.len().min(room));
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
        let effect = match effect {
            Effect::ReleaseMany { workers, root } => {
                for worker in workers {
                    let root = root.clone();
                    self.effect(id, Effect::Release { worker, root })?;
                }
                return Ok(());
            }
            Effect::SkippedMany { workers, root } => {
                for worker in workers {
                    let root = root.clone();
                    self.effect(id, Effect::Skipped { worker, root })?;
                }
                return Ok(());
            }
            effect => effect,
        };
        let Some(worker) = rows::worker(&effect) else {
            let effect = Box::new(effect);
            self.row(id, Row::Other { effect });
            return Ok(());
        };
        let change = self.workflows.get(id).expect("a workflow whose effect this is");
        let machine = self.machine_of(&change.after.head.namespace, worker)?;
        if matches!(effect, Effect::Release { .. })
            && is_called_otherwise(self.view()?, &change.after, worker, &machine)?
        {
            return Ok(());
        }
        let releases = matches!(effect, Effect::Release { .. });
        let last = releases.then(|| Last::of(&change.after, worker));
        // What was said before of the same machine comes first.
        let behind = change.is_behind(&machine, worker, &self.carried);
        let item = ForMachine { effect, last };
        let within = self.machines.contains_key(&machine)
            || self.machines.len() < self.coordinator.limits.inline_machines;
        if !behind && within && self.has_room(OF_EFFECT) {
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

    /// The machine that an effect out of the workflow's outbox is for: `machine` if that has the claim of the workflow's root, and
    /// else whatever its worker means now. Until a machine is claimed it may move to another namespace, go, or come to be.
    pub(super) fn whom(&mut self, id: &str, machine: &str, effect: &Effect) -> Result<String, Error> {
        let (Some(worker), Some(workflow)) = (rows::worker(effect), self.workflow(id)?) else {
            return Ok(machine.to_owned());
        };
        let root = workflow.root();
        match self.machine(machine)?.is_claimed_by(root) {
            true => Ok(machine.to_owned()),
            false => self.machine_of(&workflow.head.namespace, worker),
        }
    }

    /// Does to a machine what is for it, and keeps the index of what it boots next.
    pub(super) fn apply(&mut self, machine: &str, item: ForMachine) -> Result<(), Error> {
        let ForMachine { effect, last } = item;
        self.told.insert(machine.to_owned());
        let work = self.machine(machine)?;
        match effect {
            Effect::Claim { root, .. } => {
                let known = work.is_claimed_by(&root);
                work.claim(&root);
                self.open(known, machine, &root, &root)?;
            }
            Effect::Want {
                root,
                workflow,
                execution,
                ..
            } => {
                let known = work.is_claimed_by(&root);
                work.want(&root, &workflow, execution);
                self.open(known, machine, &root, &workflow)?;
            }
            Effect::Release { root, .. } => {
                let known = work.is_claimed_by(&root);
                work.release(&root);
                if let Some(last) = &last {
                    work.disks.release(&root, last.state, last.is_over());
                }
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
            Effect::Skipped { root, .. } => work.disks.skipped(&root),
            Effect::Stop { attempt, reason, .. } => {
                let is_here = work.stop(&attempt, &reason);
                if !is_here {
                    self.early_stops.push((attempt, reason));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, known: bool, machine: &str, root: &str, workflow: &str) -> Result<(), Error> {
        if !known {
            // From here on it does not move. It has not moved since the step found it, either.
            if let Some((modified, _)) = self.coordinator.record_of(self.view()?, machine)? {
                self.batch.unchanged(format!("machine/{machine}"), modified);
            }
            self.batch.put(format!("open/{machine}/{root}"), &());
            self.batch.put(format!("of/{machine}/{root}"), &());
        }
        if workflow != root {
            self.batch.put(format!("of/{machine}/{workflow}"), &());
        }
        Ok(())
    }
}

/// Whether something that has not ended needs the machine by another word than this one: expressions may give its name or
/// its address. Whoever ends last gives it back.
fn is_called_otherwise(view: &View, workflow: &Workflow, worker: &str, machine: &str) -> Result<bool, Error> {
    if workflow.head.state.is_final() {
        return Ok(false);
    }
    let others = workflow.executions.values().filter(|execution| {
        // Two MACs are told apart without looking: a definition has one of a machine.
        let are_macs = parse_mac(worker).is_some() && parse_mac(&execution.worker).is_some();
        !execution.state.is_final() && execution.worker != worker && !execution.worker.is_empty() && !are_macs
    });
    for execution in others {
        if machine_of(view, &workflow.head.namespace, &execution.worker)? == machine {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Change {
    /// Operations that it comes to.
    fn operations(&self) -> usize {
        let labels = |head: &Head| head.labels.len();
        let before = self.before.as_ref().map(|before| &before.workflow.head);
        let of_labels = match before {
            Some(before) if before.labels == self.after.head.labels => 0,
            before => before.map_or(0, labels) + labels(&self.after.head),
        };
        OF_WORKFLOW + of_labels + self.events.len() + self.changed.len() + self.expanded.len()
    }

    /// Something for this machine is still to be carried.
    fn is_behind(&self, machine: &str, worker: &str, carried: &[String]) -> bool {
        let pending = self.before.iter().flat_map(|before| &before.pending);
        let mut pending = pending.filter(|(key, _)| !carried.contains(key));
        pending.any(|(_, about)| about.may_be(machine, worker))
            || self.rows.iter().any(|row| row.about().may_be(machine, worker))
    }
}
