//! Roots that wait for each other's machines.
//!
//! A root waits for a machine when one of its executions is ready for it and another root holds it. A root that holds a
//! machine, has nothing ready for it, and waits itself, may close a cycle; the youngest root of the cycle fails then.

use std::collections::BTreeSet;

use workflow::engine::{Waiting, Workflow};

use super::Coordinator;
use super::load::machine_of;
use super::rows::Row;
use super::step::Step;
use crate::error::Error;

/// A machine of a cycle, the root that waits for it, and the one that holds it.
#[derive(Clone, Debug)]
struct Wait {
    machine: String,
    waits: String,
    holds: String,
}

impl Coordinator {
    /// A machine that is idle although somebody is ready for it may have closed a cycle: by a wait that began, or by the
    /// end of what its holder ran here.
    pub(super) fn check_blocked(&self, step: &mut Step<'_>, machine: &str) -> Result<(), Error> {
        let work = step.machine(machine)?;
        if work.current.is_none() && !work.wants.is_empty() && work.next().is_none() {
            self.look_for_deadlock(step, machine)?;
        }
        Ok(())
    }

    /// Writes a row for the youngest root of a cycle that a wait for this machine closes.
    fn look_for_deadlock(&self, step: &mut Step<'_>, machine: &str) -> Result<(), Error> {
        let roots: BTreeSet<String> = step
            .machine(machine)?
            .wants
            .iter()
            .map(|want| want.root.clone())
            .collect();
        for root in roots {
            let Some(cycle) = self.cycle(step, &root, machine)? else {
                continue;
            };
            let Some(youngest) = cycle.iter().max_by(|one, other| one.waits.cmp(&other.waits)) else {
                continue;
            };
            tracing::warn!(machine = youngest.machine, root = youngest.waits, "a deadlock");
            let row = Row::Deadlock {
                machine: youngest.machine.clone(),
                with: youngest.holds.clone(),
            };
            step.deadlock_row(&youngest.waits, &row);
            return Ok(());
        }
        Ok(())
    }

    /// Whether `root` is still in a cycle of waits by this machine.
    pub(super) fn is_deadlocked(
        &self,
        step: &mut Step<'_>,
        root: &str,
        machine: &str,
    ) -> Result<bool, Error> {
        Ok(self.cycle(step, root, machine)?.is_some())
    }

    /// The cycle that begins with `root`, which waits for `machine`.
    fn cycle(&self, step: &mut Step<'_>, root: &str, machine: &str) -> Result<Option<Vec<Wait>>, Error> {
        let Some(first) = wait(step, root, machine)? else {
            return Ok(None);
        };
        let mut open = vec![vec![first]];
        let mut seen = BTreeSet::new();
        while let Some(path) = open.pop() {
            let Some(holds) = path.last().map(|wait| wait.holds.clone()) else {
                continue;
            };
            if holds == root {
                return Ok(Some(path));
            }
            if !seen.insert(holds.clone()) {
                continue;
            }
            for machine in self.wanted(step, &holds)? {
                if let Some(next) = wait(step, &holds, &machine)? {
                    let mut path = path.clone();
                    path.push(next);
                    open.push(path);
                }
            }
        }
        Ok(None)
    }

    /// Machines that executions of the root, and of the workflows below it, are ready for.
    fn wanted(&self, step: &Step<'_>, root: &str) -> Result<BTreeSet<String>, Error> {
        let mut machines = BTreeSet::new();
        let mut below = vec![root.to_owned()];
        while let Some(id) = below.pop() {
            let Some(workflow) = step.workflow(&id)? else {
                continue;
            };
            for worker in waiting_workers(&workflow) {
                machines.insert(machine_of(&self.view, worker)?);
            }
            let running = workflow
                .executions
                .values()
                .filter(|execution| !execution.state.is_final());
            below.extend(running.filter_map(|execution| execution.child.clone()));
        }
        Ok(machines)
    }
}

fn waiting_workers(workflow: &Workflow) -> BTreeSet<&str> {
    workflow
        .executions
        .values()
        .filter(|execution| execution.waiting == Some(Waiting::Machine) && !execution.state.is_final())
        .map(|execution| execution.worker.as_str())
        .collect()
}

/// `root` waits for an idle machine that another root holds.
fn wait(step: &mut Step<'_>, root: &str, machine: &str) -> Result<Option<Wait>, Error> {
    let work = step.machine(machine)?;
    let wants = |of: &str| work.wants.iter().any(|want| want.root == of);
    let Some(holder) = work.holder().filter(|holder| *holder != root) else {
        return Ok(None);
    };
    if work.current.is_some() || !wants(root) || wants(holder) {
        return Ok(None);
    }
    Ok(Some(Wait {
        machine: machine.to_owned(),
        waits: root.to_owned(),
        holds: holder.to_owned(),
    }))
}
