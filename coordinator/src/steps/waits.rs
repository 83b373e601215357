//! Why a machine has nothing to do, in words.

use std::collections::BTreeSet;

use workflow::engine::{self, StepState, UnixMillis, Waiting, Workflow};
use workflow::language::Task;

use super::Coordinator;
use super::load::machine_of;
use crate::database;
use crate::error::Error;
use crate::machines::names::of_orphan;
use crate::namespaces::Reach;
use crate::netboot;

impl Coordinator {
    /// Why there is nothing to do for a machine, in words.
    pub fn waits_for(&self, machine: &str, now: UnixMillis) -> Result<String, Error> {
        database::until_read(|| self.try_waits_for(machine, now))
    }

    fn try_waits_for(&self, machine: &str, now: UnixMillis) -> Result<String, Error> {
        let work = self.machine(machine)?;
        if let Some(current) = &work.current {
            let lost = if current.lost {
                ", which was given up as lost,"
            } else {
                ""
            };
            return Ok(format!("attempt {}{lost} has not ended", current.attempt));
        }
        let Some(root) = work.holder() else {
            return self.nothing_to_do(machine);
        };
        let Some(workflow) = self.workflow(root)? else {
            return self.nothing_to_do(machine);
        };
        let why = self.explained(&workflow, machine, now)?;
        Ok(format!("workflow {root} is {}: {why}", workflow.head.state))
    }

    /// For each machine that executions of the workflow (of one task, if given) are ready for: why it does not run them.
    pub fn queues(&self, workflow: &Workflow, task: Option<usize>) -> Result<Vec<String>, Error> {
        database::until_read(|| self.try_queues(workflow, task))
    }

    fn try_queues(&self, workflow: &Workflow, task: Option<usize>) -> Result<Vec<String>, Error> {
        let view = self.view()?;
        let mut machines = BTreeSet::new();
        for execution in workflow.executions.values() {
            let is_held = execution.state.is_final() || execution.pause.is_some();
            let waits = execution.waiting == Some(Waiting::Machine) && !is_held;
            if waits && task.is_none_or(|task| task == execution.id.task) {
                machines.insert(machine_of(&view, &workflow.head.namespace, &execution.worker)?);
            }
        }
        let mut lines = Vec::new();
        for machine in machines {
            if let Some((worker, namespace)) = of_orphan(&machine) {
                lines.push(format!(
                    "machine {worker}: no machine of namespace {namespace:?} is called so: add it with `farrier machine apply -n \
                     {namespace}`"
                ));
                continue;
            }
            let work = self.machine(&machine)?;
            let mut reasons = Vec::new();
            if let Some(current) = &work.current {
                let lost = if current.lost {
                    ", which was given up as lost and has not provably stopped"
                } else {
                    ""
                };
                reasons.push(format!("it has attempt {}{lost}", current.attempt));
            } else if work.leaving {
                reasons.push("it is rebooting".to_owned());
            } else if work.boot_id.is_empty() {
                reasons.push("its agent has never attached".to_owned());
            }
            let before = work
                .claims
                .iter()
                .take_while(|claim| claim.root != workflow.root());
            let before: Vec<&str> = before.map(|claim| claim.root.as_str()).collect();
            if !before.is_empty() {
                reasons.push(format!("before this come the workflows {}", before.join(", ")));
            }
            if reasons.is_empty() {
                reasons.push("it is free: it waits for its agent".to_owned());
            }
            lines.push(format!("machine {machine}: {}", reasons.join("; ")));
        }
        Ok(lines)
    }

    /// What the first of the workflow's tasks on this machine that has not ended waits for.
    fn explained(&self, workflow: &Workflow, machine: &str, now: UnixMillis) -> Result<String, Error> {
        let view = self.view()?;
        for (defined, task) in workflow.definition.tasks.iter().zip(&workflow.head.tasks) {
            let is_here = !defined.worker.is_empty()
                && machine_of(&view, &workflow.head.namespace, &defined.worker)? == machine;
            if !is_here || task.state.is_final() {
                continue;
            }
            if task.state == StepState::Idle
                && let Some(needed) = needed(workflow, defined)
            {
                return Ok(needed);
            }
            return Ok(engine::explain(workflow, Some(&defined.name), now).join("; "));
        }
        Ok(engine::explain(workflow, None, now).join("; "))
    }

    fn nothing_to_do(&self, machine: &str) -> Result<String, Error> {
        let view = self.view()?;
        let names = match crate::machines::named(&view, &Reach::everything(), machine)? {
            Some(record) => record.index_names(),
            None => vec![machine.to_owned()],
        };
        Ok(match netboot::last(&view, &names)? {
            None => "no workflow for this machine".to_owned(),
            Some(last) if last.message.is_empty() => {
                format!("the last workflow {} is {}", last.id, last.state)
            }
            Some(last) => format!(
                "the last workflow {} is {}: {}",
                last.id, last.state, last.message
            ),
        })
    }
}

/// The tasks that a task waits for, and where they run.
fn needed(workflow: &Workflow, task: &Task) -> Option<String> {
    let is_open = |index: &usize| {
        let state = workflow.head.tasks.get(*index);
        state.is_some_and(|state| !state.state.is_final())
    };
    let open = task.needs.iter().filter(|index| is_open(index));
    let words = open
        .filter_map(|index| workflow.definition.tasks.get(*index))
        .map(|task| match task.worker.as_str() {
            "" => format!("task {:?}", task.name),
            worker => format!("task {:?} on {worker}", task.name),
        });
    let words: Vec<String> = words.collect();
    (!words.is_empty()).then(|| format!("task {:?} waits for {}", task.name, words.join(", ")))
}
