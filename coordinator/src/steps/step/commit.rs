//! A step as one commit: what it changed, the rows that it leaves for others, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use workflow::engine::{self, ExecutionId, next_due};

use super::super::load::Unwritten;
use super::super::rows::{self, About, Row};
use super::super::{Answer, Next, Plan};
use super::{Change, Step, Touched, TouchedMachine, TouchedWorkflow, UNWRITTEN_EVENTS};
use crate::database::detached;
use crate::error::Error;
use crate::order;

/// Executions that may wait for the head to be written; they are in the commit of another step then.
const UNWRITTEN_EXECUTIONS: usize = 4;

impl Step<'_> {
    /// What it comes to, as one commit.
    pub(in super::super) fn plan(mut self, answer: Answer) -> Result<Plan, Error> {
        let mut touched = Touched {
            carried: std::mem::take(&mut self.carried),
            added: std::mem::take(&mut self.added),
            ..Touched::default()
        };
        let late = self.late();
        let newest = self.seen.get().max(self.issued.map(|(_, last)| last));
        let machines = std::mem::take(&mut self.machines);
        for (name, (known, mut work)) in machines {
            let changed = work != known.work;
            let key = rows::machine_work(&name);
            // What is in memory may be older than the workflow that it was read beside: a stop that finds nothing to stop there
            // has not come too late, but too early.
            if changed || self.told.contains(&name) {
                self.batch.expect(&key, known.modified);
            }
            if changed {
                work.stamp = work.stamp.max(newest.unwrap_or_default());
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
        let workflows = std::mem::take(&mut self.workflows);
        for (id, change) in &workflows {
            self.write(id, change);
        }
        self.write_order(&workflows);
        // Rows of outboxes are what can be put off: where they do not all fit, each outbox gets one that has them all.
        let rows: usize = workflows.values().map(|change| change.rows.len()).sum();
        let fit = self.batch.len() + rows <= self.coordinator.limits.commit_operations;
        for (id, change) in workflows {
            let unwritten = change.unwritten();
            let rows = self.write_rows(&id, &change, fit);
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
        let mut commit = self.batch.into_commit();
        let first = detached::detach(&*self.coordinator.store, &mut commit, &self.coordinator.limits)?;
        Ok(Plan {
            first,
            commit,
            answer,
            then: self.then,
            late,
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

    fn write(&mut self, id: &str, change: &Change) {
        let after = &change.after;
        if let Some(first) = change.events.first() {
            let key = rows::head(id);
            self.batch
                .expect(&key, change.before.as_ref().map(|before| before.head));
            self.batch.absent(rows::event(id, first.number));
            for event in &change.events {
                self.batch.put(rows::event(id, event.number), event);
            }
            if change.unwritten().is_none() {
                self.batch.put(key, &after.head);
                self.write_executions(id, change);
            }
            if change.before.is_none() {
                self.batch.put(rows::definition(id), &*after.definition);
            }
            self.write_labels(change);
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
            if engine::waits_for_answers(after) {
                let workflow = id.to_owned();
                self.then.push(Next::Ask { workflow });
            }
            let was_final = change
                .before
                .as_ref()
                .map(|before| before.workflow.head.state.is_final());
            if after.head.parent.is_none()
                && (was_final.is_none() || was_final == Some(false) && after.head.state.is_final())
            {
                self.then.push(Next::Turned {
                    root: id.to_owned(),
                    name: after.head.name.clone(),
                    state: after.head.state.as_str(),
                    has_ended: after.head.state.is_final(),
                });
            }
            if after.head.state.is_final() && after.head.parent.is_none() {
                self.then.push(Next::Ended { root: id.to_owned() });
            }
        }
    }

    /// The place of its events among all others.
    fn write_order(&mut self, workflows: &BTreeMap<String, Change>) {
        let written = workflows.values();
        let written = written.map(|change| (&change.after.head, change.events.as_slice()));
        if let Some(row) = order::Row::of(written) {
            self.batch.append(order::LOG, &row);
        }
    }

    /// Rows of labels that it has not any more, and of those that are new.
    fn write_labels(&mut self, change: &Change) {
        let before = change.before.as_ref().map(|before| &before.workflow.head);
        let after = &change.after.head;
        if before.is_some_and(|before| before.labels == after.labels) {
            return;
        }
        let before: BTreeSet<String> = before.into_iter().flat_map(rows::labels).collect();
        let after: BTreeSet<String> = rows::labels(after).collect();
        before.difference(&after).for_each(|row| self.batch.delete(row));
        after.difference(&before).for_each(|row| self.batch.put(row, &()));
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

    /// Gives the new rows of its outbox; one, unless they all `fit`.
    fn write_rows(&mut self, id: &str, change: &Change, fit: bool) -> BTreeMap<String, About> {
        let mut rows = change.rows.clone();
        if !fit && rows.len() > 1 {
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
}
