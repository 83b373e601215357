//! Effects of one workflow on others and on machines: taken in the order in which it decided on them, some time later.

use workflow::engine::{Command, Creation, Effect, ExecutionId, WorkflowState};

use crate::driver::Driver;
use crate::model::{End, Letter, Letters, sub_name};
use crate::plan::{MACHINES, Outputs, machine_name};

/// Sender and receiver.
pub(crate) type Way = (String, String);

impl Driver {
    pub(crate) fn take_effect(&mut self, name: &str, effect: Effect) {
        let to = match &effect {
            Effect::StartChild { id, parent, .. } => {
                let ExecutionId { task, item, .. } = parent.execution;
                let number = self.born.entry((name.to_owned(), task, item)).or_default();
                *number += 1;
                let sub = sub_name(name, task, item, *number);
                self.names.insert(id.clone(), sub.clone());
                sub
            }
            Effect::CancelChild { id, .. }
            | Effect::PauseChild { id, .. }
            | Effect::UnpauseChild { id, .. }
            | Effect::RetryChild { id, .. } => self.names[id].clone(),
            Effect::EndChild { parent, .. } => self.names[&parent.workflow].clone(),
            Effect::Ask {
                task,
                instance,
                selector,
                ..
            } => {
                let one = self.workflows.get_mut(name).expect("it asks");
                one.asking.insert(*task, (*instance, selector.clone()));
                return;
            }
            Effect::ReleaseMany { workers, root } => {
                for worker in workers.clone() {
                    let root = root.clone();
                    self.take_effect(name, Effect::Release { worker, root });
                }
                return;
            }
            Effect::SkippedMany { workers, root } => {
                for worker in workers.clone() {
                    let root = root.clone();
                    self.take_effect(name, Effect::Skipped { worker, root });
                }
                return;
            }
            Effect::Claim { worker, .. }
            | Effect::Release { worker, .. }
            | Effect::Want { worker, .. }
            | Effect::Unwant { worker, .. }
            | Effect::Skipped { worker, .. }
            | Effect::Stop { worker, .. } => {
                let worker = worker.clone();
                if !self.comes_late() && !self.is_behind(name, &worker) {
                    return self.carry_to_machine(effect);
                }
                worker
            }
        };
        let rows = self.outbox.entry(name.to_owned()).or_default();
        rows.push_back((to, effect));
    }

    /// Whether an effect on a machine is not taken at once, as where a step touches too many.
    fn comes_late(&mut self) -> bool {
        self.turns = self.turns.wrapping_add(1);
        let mixed = self.late.wrapping_mul(self.turns).wrapping_mul(0x9e37_79b9);
        mixed >> 30 == 1
    }

    /// What the workflow said before of the same machine comes first.
    fn is_behind(&self, name: &str, worker: &str) -> bool {
        let rows = self.outbox.get(name).into_iter().flatten();
        rows.clone().any(|(to, _)| to == worker)
    }

    /// Whether a machine has been told all that there is for it.
    pub(crate) fn is_told_all(&self, machine: usize) -> bool {
        let worker = machine_name(machine);
        !self.outbox.keys().any(|name| self.is_behind(name, &worker))
    }

    pub(crate) fn is_behind_any(&self) -> bool {
        (0..MACHINES).any(|machine| !self.is_told_all(machine))
    }

    /// What is next of each workflow that has something under way.
    pub(crate) fn heads(&self) -> impl Iterator<Item = &Effect> {
        self.outbox.values().map(|rows| &rows[0].1)
    }

    /// What is under way, as the model has it.
    pub(crate) fn letters(&self) -> Letters {
        let letter = |effect: &Effect| {
            Some(match effect {
                Effect::StartChild {
                    template,
                    inputs,
                    labels,
                    policy,
                    ..
                } => Letter::Start {
                    labels: labels.clone(),
                    steps: !policy.is_empty(),
                    template: template.clone(),
                    given: inputs["given"].as_u64().expect("a number"),
                },
                Effect::CancelChild { .. } => Letter::Cancel,
                Effect::PauseChild { .. } => Letter::Pause,
                Effect::UnpauseChild { .. } => Letter::Unpause,
                Effect::RetryChild { .. } => Letter::Again,
                Effect::EndChild {
                    run, state, outputs, ..
                } => Letter::Ended {
                    run: Some(*run),
                    end: match state {
                        WorkflowState::Cancelled => End::Cancelled,
                        WorkflowState::Failed => End::Failed,
                        WorkflowState::Success => End::Success,
                        WorkflowState::Timeout => End::Timeout,
                        state => panic!("no workflow ends as {state}"),
                    },
                    outputs: read_outputs(outputs),
                },
                _ => return None,
            })
        };
        let mut letters = Letters::new();
        for (from, rows) in &self.outbox {
            for (to, effect) in rows {
                if let Some(letter) = letter(effect) {
                    let way = (from.clone(), to.clone());
                    letters.entry(way).or_default().push_back(letter);
                }
            }
        }
        letters
    }

    fn take_head(&mut self, at: usize) -> (Way, Effect) {
        let mut outbox = self.outbox.iter_mut();
        let (from, rows) = outbox.nth(at).expect("something is under way");
        let (to, effect) = rows.pop_front().expect("something is under way");
        let from = from.clone();
        if rows.is_empty() {
            self.outbox.remove(&from);
        }
        ((from, to), effect)
    }

    /// As the server does it: a refusal means that it is done.
    /// Gives the way of what was for a workflow.
    pub(crate) fn carry(&mut self, at: usize) -> Option<Way> {
        let (way, effect) = self.take_head(at);
        let command = match effect {
            Effect::StartChild {
                id,
                parent,
                namespace,
                template,
                name,
                inputs,
                labels,
                policy,
            } => {
                let creation = Creation {
                    labels,
                    id,
                    namespace,
                    name,
                    definition: self.templates[&template].definition(),
                    template,
                    inputs,
                    policy: policy.to_vec(),
                    parent: Some(parent),
                    ..Creation::default()
                };
                self.create(&way.1, creation);
                return Some(way);
            }
            Effect::CancelChild { reason, .. } => Command::Cancel {
                by: String::new(),
                reason,
            },
            Effect::PauseChild { by, reason, .. } => Command::Pause { by, reason },
            Effect::UnpauseChild { by, .. } => Command::Unpause { by },
            Effect::RetryChild { by, .. } => Command::RetryChild { by },
            Effect::EndChild {
                parent,
                child,
                run,
                state,
                message,
                outputs,
                workers,
            } => Command::ChildEnded {
                execution: parent.execution,
                child,
                run: Some(run),
                state,
                message,
                outputs,
                workers,
            },
            other => {
                self.carry_to_machine(other);
                return None;
            }
        };
        let _ = self.tell(&way.1, &command);
        if let Command::ChildEnded { .. } = command {
            self.ends.push((way.1.clone(), command));
        }
        Some(way)
    }

    /// There is no such template.
    pub(crate) fn cannot_start(&mut self, at: usize) -> Way {
        let (way, Effect::StartChild { id, parent, .. }) = self.take_head(at) else {
            panic!("nothing is to be started")
        };
        let command = Command::ChildEnded {
            execution: parent.execution,
            child: id,
            run: None,
            state: WorkflowState::Failed,
            message: "there is no such template".into(),
            outputs: serde_json::Map::new(),
            workers: Vec::new(),
        };
        self.tell(&way.0, &command).expect("its end is taken");
        way
    }

    fn carry_to_machine(&mut self, effect: Effect) {
        match effect {
            Effect::Claim { worker, root } => self.machine(&worker).claim(&root),
            Effect::Release { worker, root } => self.machine(&worker).release(&root),
            Effect::Want {
                worker,
                root,
                workflow,
                execution,
            } => self.machine(&worker).want(&root, &workflow, execution),
            Effect::Unwant {
                worker,
                workflow,
                execution,
            } => self.machine(&worker).unwant(&workflow, execution),
            Effect::Stop {
                worker,
                attempt,
                reason,
            } => {
                self.machine(&worker).stop(&attempt, &reason);
            }
            Effect::Skipped { worker, root } => self.machine(&worker).disks.skipped(&root),
            other => panic!("{other:?} is for no machine"),
        }
    }
}

pub(crate) fn read_outputs(outputs: &serde_json::Map<String, serde_json::Value>) -> Option<Outputs> {
    let number = |name: &str| outputs.get(name)?.as_u64();
    Some(Outputs {
        twice: number("twice")?,
        run: number("run")?,
    })
}
