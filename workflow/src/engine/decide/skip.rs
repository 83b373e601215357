//! One thing of a workflow is not to be done: a person skips it.

use std::collections::BTreeSet;

use super::super::command::{Effect, Refusal};
use super::super::event::{EventKind, Failure};
use super::super::ids::{AttemptId, ExecutionId};
use super::super::state::{ChildRequest, Said, StepState, Waiting};
use super::super::{MAX_SKIPPED_AHEAD, MAX_STEPS};
use super::draft::Draft;
use super::thing::{Thing, refuse_long};

impl Draft<'_> {
    pub(super) fn skip(
        &mut self,
        task: &str,
        item: Option<usize>,
        (by, reason): (&str, &str),
    ) -> Result<(), Refusal> {
        self.refuse_over()?;
        refuse_long(reason)?;
        let asked = |task, item, execution| EventKind::SkipAsked {
            task,
            item,
            execution,
            by: by.to_owned(),
            reason: reason.to_owned(),
        };
        match self.thing(task, item, "skip")? {
            Thing::Begun { items, .. } => {
                let why =
                    format!("has begun and goes over {items} items: name one of them, such as {task}[0]");
                return Err(self.not_of_task(task, None, why));
            }
            Thing::Ahead { task: index, item } => {
                let Some(state) = self.workflow.head.tasks.get(index) else {
                    return Ok(());
                };
                let is_known = match item {
                    None => state.skip.is_some(),
                    Some(item) => state.skips.contains_key(&item),
                };
                if state.state.is_final() {
                    let (state, error) = (state.state, state.error.as_ref());
                    return self.is_over(task, item, state, error);
                }
                if is_known {
                    return Ok(());
                }
                if state.skips.len() >= MAX_SKIPPED_AHEAD && item.is_some() {
                    let why = format!(
                        "has {MAX_SKIPPED_AHEAD} items that were skipped before their turn, which is the most: wait until \
                         some of them had it"
                    );
                    return Err(self.not_of_task(task, item, why));
                }
                let is_asking = state.asking.is_some();
                let failure = Said::new(by, reason).skipped();
                self.push(asked(index, item, None));
                self.tell_of_skip(index, item);
                if is_asking {
                    // Its turn has come.
                    self.end_task(index, StepState::Skipped, None, Some(failure));
                }
            }
            Thing::Execution(id) => {
                let Some(execution) = self.workflow.execution(id) else {
                    return Ok(());
                };
                if execution.state.is_final() {
                    let (state, error) = (execution.state, execution.error.as_ref());
                    return self.is_over(task, item, state, error);
                }
                if execution.skip.is_some() {
                    return Ok(());
                }
                self.push(asked(id.task, item, Some(id)));
                self.skip_one(id);
            }
        }
        Ok(())
    }

    /// Ends an execution that a person does not want, or asks what it has under way to stop.
    fn skip_one(&mut self, id: ExecutionId) {
        let Some(execution) = self.workflow.execution(id) else {
            return;
        };
        // What a sub-workflow leaves is known when it has ended.
        if execution.waiting != Some(Waiting::Children) {
            self.tell_of_skip(id.task, Some(id.item));
        }
        let Some(execution) = self.workflow.execution(id) else {
            return;
        };
        let reason = self
            .skipped(id)
            .map(|failure| failure.message)
            .unwrap_or_default();
        // A machine that leaves has stopped already.
        if let Some((index, action)) = execution.under_way().filter(|(_, action)| !action.leaving) {
            if action.stopping.is_some() {
                return;
            }
            let attempt = AttemptId {
                workflow: self.workflow.head.id.clone(),
                execution: id,
                action: index,
                attempt: action.attempts,
            };
            let worker = execution.worker.clone();
            self.ask_to_stop(worker, attempt, StepState::Skipped, &reason);
        } else if execution.waiting == Some(Waiting::Children) {
            if execution.child_asked != Some(ChildRequest::Cancel) {
                self.ask_child(id, ChildRequest::Cancel, Some(StepState::Skipped), &reason);
            }
        } else {
            if execution.waiting == Some(Waiting::Machine) {
                self.unwant(id);
            }
            self.stopped(id, StepState::Skipped);
        }
    }

    /// Tells the machines on which something of a task (of one item of it) has begun, by itself or in a sub-workflow, that it is
    /// not wanted any more: what it left half written there the end of the root does not make good. Earlier instances count:
    /// whoever skips what a retry would have done again leaves what they left.
    pub(super) fn tell_of_skip(&mut self, task: usize, item: Option<usize>) {
        let first = ExecutionId {
            task,
            instance: 0,
            item: 0,
        };
        let last = ExecutionId {
            instance: u32::MAX,
            item: usize::MAX,
            ..first
        };
        let mut workers = BTreeSet::new();
        for (id, execution) in self.workflow.executions.range(first..=last) {
            if item.is_some_and(|item| item != id.item) {
                continue;
            }
            let has_begun = execution.actions.iter().any(|action| action.attempts > 0);
            workers.extend(has_begun.then(|| execution.worker.clone()));
            workers.extend(execution.child_workers.iter().cloned());
        }
        workers.remove("");
        let root = self.workflow.root().to_owned();
        let workers: Vec<String> = workers.into_iter().collect();
        if workers.len() > MAX_STEPS {
            self.effects.push(Effect::SkippedMany { workers, root });
            return;
        }
        for worker in workers {
            let root = root.clone();
            self.effects.push(Effect::Skipped { worker, root });
        }
    }

    /// Why an execution is SKIPPED as soon as nothing of it is under way. None: nobody has skipped it.
    pub(super) fn skipped(&self, id: ExecutionId) -> Option<Failure> {
        let execution = self.workflow.execution(id)?;
        execution.skip.as_ref().map(Said::skipped)
    }

    /// The same of one that is to be made now.
    pub(super) fn skipped_ahead(&self, id: ExecutionId) -> Option<Failure> {
        let state = self.workflow.head.tasks.get(id.task)?;
        let said = state.skip.as_ref().or_else(|| state.skips.get(&id.item));
        said.map(Said::skipped)
    }

    /// What has ended is not skipped any more. That a person has skipped it already is no error.
    fn is_over(
        &self,
        task: &str,
        item: Option<usize>,
        state: StepState,
        error: Option<&Failure>,
    ) -> Result<(), Refusal> {
        if state == StepState::Skipped && error.is_some_and(|error| error.reason == Said::SKIPPED) {
            return Ok(());
        }
        Err(self.nothing_left(task, item, state, "skip"))
    }
}
