//! Roots that wait for each other's machines.
//!
//! A root is stuck when nothing of it can go on: it has no attempt, no time, no approval and no message on its way, and each
//! machine that it is ready for is held by another root that is stuck. Of stuck roots that wait for each other in a circle
//! the youngest fails: everybody else goes on with what it held.
//!
//! A root of which one branch waits in such a circle is not stuck while another branch goes on: that may give the machine
//! free. When it did not, nobody but time says so: [`Coordinator::suspects`] are looked at again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use workflow::engine::{Execution, StepState, Waiting, Workflow, WorkflowState};

use super::Coordinator;
use super::load::machine_of;
use super::rows::Row;
use super::step::Step;
use crate::error::Error;

/// Roots, and what each waits for.
type Roots = BTreeMap<String, Waits>;

#[derive(Default)]
struct Waits {
    /// Something of it goes on, or will without anybody's machine.
    is_active: bool,
    /// Idle machines that it is ready for and others hold: with their holder.
    held_by: BTreeMap<String, String>,
}

impl Coordinator {
    /// Machines that are kept from somebody in a circle of waits of which something still goes on: each is to be looked at
    /// again with [`super::Input::Blocked`], every second or so. Agents that attach find what a server forgot.
    pub fn suspects(&self) -> Vec<String> {
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        suspects.iter().cloned().collect()
    }

    /// A machine that is idle although somebody is ready for it may have closed a circle: by a wait that began, or by the
    /// end of what its holder ran here.
    pub(super) fn check_blocked(&self, step: &mut Step<'_>, machine: &str) -> Result<(), Error> {
        let work = step.machine(machine)?;
        let is_blocked = work.current.is_none() && !work.wants.is_empty() && work.next().is_none();
        let is_suspect = is_blocked && self.look_for_deadlock(step, machine)?;
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        if is_suspect {
            suspects.insert(machine.to_owned());
        } else if !suspects.is_empty() {
            suspects.remove(machine);
        }
        Ok(())
    }

    /// Writes a row for the youngest root of a deadlock that a wait for this machine is part of. True: there is a circle.
    fn look_for_deadlock(&self, step: &mut Step<'_>, machine: &str) -> Result<bool, Error> {
        let wants = step.machine(machine)?.wants.iter();
        let waiting: BTreeSet<String> = wants.map(|want| want.root.clone()).collect();
        let roots = self.roots(step, waiting)?;
        if !roots.keys().any(|root| reaches(&roots, root, root)) {
            return Ok(false);
        }
        let stuck = stuck(&roots);
        let in_circles = stuck.iter().filter(|root| reaches(&roots, root, root));
        // Ids are in the order of time.
        let Some((youngest, (machine, holder))) = in_circles
            .filter_map(|root| Some((root, first_wait(&roots, &stuck, root)?)))
            .next_back()
        else {
            return Ok(true);
        };
        tracing::warn!(machine, root = youngest, "a deadlock");
        let row = Row::Deadlock {
            machine: machine.clone(),
            with: holder.clone(),
        };
        step.deadlock_row(youngest, &row);
        Ok(true)
    }

    /// Whether `root` is still stuck in a circle.
    pub(super) fn is_deadlocked(&self, step: &mut Step<'_>, root: &str) -> Result<bool, Error> {
        let roots = self.roots(step, BTreeSet::from([root.to_owned()]))?;
        Ok(stuck(&roots).contains(root) && reaches(&roots, root, root))
    }

    /// These roots, and all that they wait for.
    fn roots(&self, step: &mut Step<'_>, of: BTreeSet<String>) -> Result<Roots, Error> {
        let mut roots = Roots::new();
        let mut open = of;
        while let Some(root) = open.pop_first() {
            if let Entry::Vacant(vacant) = roots.entry(root) {
                let waits = self.waits(step, vacant.key())?;
                open.extend(waits.held_by.values().cloned());
                vacant.insert(waits);
            }
        }
        Ok(roots)
    }

    /// What a root, with the workflows below it, waits for.
    fn waits(&self, step: &mut Step<'_>, root: &str) -> Result<Waits, Error> {
        let mut waits = Waits::default();
        let mut below = vec![root.to_owned()];
        while let Some(id) = below.pop() {
            let Some(workflow) = step.workflow(&id)? else {
                waits.is_active = true;
                continue;
            };
            // One that ends, or is paused by a person, gives free what it holds, or goes on, without anybody's machine; so
            // does what is still to be told. What is below it may wait all the same: a sub-workflow is resumed by itself.
            waits.is_active |= !goes_on(&workflow) || step.has_something_to_tell(&id)?;
            let open = workflow.executions.values();
            for execution in open.filter(|execution| !execution.state.is_final()) {
                match (execution.waiting, &execution.child) {
                    // What a person holds waits for that person.
                    (Some(Waiting::Machine), _) if execution.pause.is_none() => {
                        self.add_wait(step, root, (&workflow.head.namespace, execution), &mut waits)?
                    }
                    (Some(Waiting::Children), Some(child)) => below.push(child.clone()),
                    _ => waits.is_active = true,
                }
            }
        }
        Ok(waits)
    }

    fn add_wait(
        &self,
        step: &mut Step<'_>,
        root: &str,
        (namespace, execution): (&str, &Execution),
        waits: &mut Waits,
    ) -> Result<(), Error> {
        let machine = machine_of(step.view()?, namespace, &execution.worker)?;
        let work = step.machine(&machine)?;
        let holder = work.holder().filter(|holder| *holder != root);
        let wants = |of: &str| work.wants.iter().any(|want| want.root == of);
        match holder {
            // Neither has its holder anything for it, nor does it run anything.
            Some(holder) if work.current.is_none() && !wants(holder) => {
                let holder = holder.to_owned();
                waits.held_by.insert(machine, holder);
            }
            _ => waits.is_active = true,
        }
        Ok(())
    }
}

/// Whether what a workflow does next is up to its executions.
fn goes_on(workflow: &Workflow) -> bool {
    let head = &workflow.head;
    matches!(head.state, WorkflowState::Pending | WorkflowState::Running)
        && head.paused_at.is_none()
        && !head
            .tasks
            .iter()
            .any(|task| task.asking.is_some() && task.state == StepState::Idle)
}

/// Roots that can only go on when another one of them does.
fn stuck(roots: &Roots) -> BTreeSet<String> {
    let idle = |(_, waits): &(&String, &Waits)| !waits.is_active && !waits.held_by.is_empty();
    let mut stuck: BTreeSet<String> = roots.iter().filter(idle).map(|(root, _)| root.clone()).collect();
    loop {
        let before = stuck.len();
        let still = stuck.clone();
        let is_stuck = |root: &String| {
            let waits = roots.get(root).into_iter();
            waits
                .flat_map(|waits| waits.held_by.values())
                .all(|holder| still.contains(holder))
        };
        stuck.retain(is_stuck);
        if stuck.len() == before {
            return stuck;
        }
    }
}

/// Whether `from` waits for `to`, directly or not.
fn reaches(roots: &Roots, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(root) = open.pop() {
        let waits = roots.get(root).into_iter();
        for holder in waits.flat_map(|waits| waits.held_by.values()) {
            if holder == to {
                return true;
            }
            if seen.insert(holder.as_str()) {
                open.push(holder);
            }
        }
    }
    false
}

/// A machine that a stuck root waits for, and a stuck root that holds it and waits for the first.
fn first_wait<'r>(
    roots: &'r Roots,
    stuck: &BTreeSet<String>,
    root: &str,
) -> Option<(&'r String, &'r String)> {
    let waits = roots.get(root)?.held_by.iter();
    let mut in_circle = waits.filter(|(_, holder)| stuck.contains(*holder) && reaches(roots, holder, root));
    in_circle.next()
}
