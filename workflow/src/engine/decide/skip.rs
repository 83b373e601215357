//! One thing of a workflow is not to be done: a person skips it.

use super::super::command::{Effect, Refusal};
use super::super::event::{EventKind, Failure};
use super::super::ids::{AttemptId, ExecutionId};
use super::super::state::{ChildRequest, Said, StepState, Waiting};
use super::super::{MAX_REASON_BYTES, MAX_SKIPPED_AHEAD};
use super::draft::Draft;

/// What is meant by a task's name, or `NAME[item]`.
enum Thing {
    Execution(ExecutionId),
    /// No execution was made for it.
    Ahead {
        task: usize,
        item: Option<usize>,
    },
}

impl Draft<'_> {
    pub(super) fn skip(
        &mut self,
        task: &str,
        item: Option<usize>,
        (by, reason): (&str, &str),
    ) -> Result<(), Refusal> {
        self.refuse_ended()?;
        if self.is_stopping() {
            return Err(self.wrong_state("it ends as soon as what is under way has stopped"));
        }
        if reason.len() > MAX_REASON_BYTES {
            return Err(Refusal::LongReason {
                bytes: reason.len(),
                most: MAX_REASON_BYTES,
            });
        }
        let asked = |task, item, execution| EventKind::SkipAsked {
            task,
            item,
            execution,
            by: by.to_owned(),
            reason: reason.to_owned(),
        };
        match self.thing(task, item)? {
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
        let has_begun = execution.actions.iter().any(|action| action.attempts > 0);
        if has_begun && !execution.worker.is_empty() {
            self.effects.push(Effect::Skipped {
                worker: execution.worker.clone(),
                root: self.workflow.root().to_owned(),
            });
        }
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

    fn thing(&self, task: &str, item: Option<usize>) -> Result<Thing, Refusal> {
        let definition = &self.workflow.definition;
        let Some(index) = definition.task_named(task) else {
            let names = definition.tasks.iter().map(|task| task.name.as_str());
            return Err(Refusal::NoSuchTask {
                id: self.workflow.head.id.clone(),
                task: task.to_owned(),
                there_are: names.collect::<Vec<_>>().join(", "),
            });
        };
        let (Some(defined), Some(state)) = (definition.tasks.get(index), self.workflow.head.tasks.get(index))
        else {
            return Ok(Thing::Ahead { task: index, item });
        };
        let refused = |why: String| Err(self.not_of_task(task, None, why));
        let is_idle = state.state == StepState::Idle;
        if defined.for_each.is_none() && item.is_some() {
            return refused(format!("has no forEach, so that it has no items: say {task}"));
        }
        if defined.for_each.is_some() && !is_idle {
            let Some(item) = item else {
                if state.state.is_final() {
                    return Ok(Thing::Ahead { task: index, item });
                }
                return refused(format!(
                    "has begun and goes over {} items: name one of them, such as {task}[0]",
                    state.items
                ));
            };
            if item >= state.items {
                return refused(match state.items {
                    0 => "has no items".to_owned(),
                    items => format!(
                        "has {items} items, 0 to {}, and no item {item}",
                        items.saturating_sub(1)
                    ),
                });
            }
        }
        if is_idle && item.is_some() {
            return refused(format!(
                "has not begun, so that its items are not known: skip all of it ({task}), or wait until it has begun"
            ));
        }
        let id = ExecutionId {
            task: index,
            instance: state.instance,
            item: item.unwrap_or(0),
        };
        // One that is to run again has executions of an earlier instance.
        match self.workflow.execution(id).filter(|_| !is_idle) {
            Some(_) => Ok(Thing::Execution(id)),
            None => Ok(Thing::Ahead { task: index, item }),
        }
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
        let cure = match state {
            StepState::Failed | StepState::Timeout | StepState::Cancelled => {
                "; when the workflow has ended, farrier workflow retry does it again"
            }
            _ => "",
        };
        let why = format!("is {state} already: nothing of it is left to skip{cure}");
        Err(self.not_of_task(task, item, why))
    }

    fn not_of_task(&self, task: &str, item: Option<usize>, why: String) -> Refusal {
        Refusal::NotOfTask {
            id: self.workflow.head.id.clone(),
            task: super::approvals::named(task, item),
            why,
        }
    }
}
