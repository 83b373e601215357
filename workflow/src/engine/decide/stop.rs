//! The end of a workflow: by itself, early, or by somebody's wish.

use serde_json::Map;

use super::super::MAX_STEPS;
use super::super::command::{Effect, Refusal};
use super::super::event::EventKind;
use super::super::ids::{AttemptId, ExecutionId};
use super::super::state::{ChildRequest, Cleanup, Execution, StepState, TaskState, Waiting, WorkflowState};
use super::super::uses::claimed;
use super::draft::Draft;
use super::outcome;
use super::outputs::too_many_of_workflow;
use super::scope::scope;
use crate::expression::evaluate;

impl Draft<'_> {
    pub(super) fn cancel(&mut self, by: &str, reason: &str) -> Result<(), Refusal> {
        self.refuse_ended()?;
        if self.workflow.head.ending.is_none() {
            if !by.is_empty() {
                self.push(EventKind::CancelAsked {
                    by: by.to_owned(),
                    reason: reason.to_owned(),
                });
            }
            self.stop(WorkflowState::Cancelled, reason.to_owned());
        }
        Ok(())
    }

    pub(super) fn deadlock(&mut self, machine: &str, with: &str) -> Result<(), Refusal> {
        self.refuse_not_root()?;
        if !self.workflow.head.state.is_final() && self.workflow.head.ending.is_none() {
            let message = format!(
                "deadlock: machine {machine} is held by workflow {with}, which waits for a machine that this one holds"
            );
            self.stop(WorkflowState::Failed, message);
        }
        Ok(())
    }

    pub(super) fn refuse_not_root(&self) -> Result<(), Refusal> {
        match &self.workflow.head.parent {
            Some(parent) => Err(Refusal::NotTheRoot {
                id: self.workflow.head.id.clone(),
                root: parent.root.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Ends the workflow, now or when what is under way has stopped.
    pub(super) fn stop(&mut self, state: WorkflowState, message: String) {
        let (mut state, mut message) = (state, message);
        if state != WorkflowState::Success
            && let Some(fixed) = self.fixed_by_failure()
        {
            // The extra run of a failed action does not change how the workflow ends.
            (state, message) = fixed;
        }
        let open = self.open_executions();
        let waits = |id: &ExecutionId| self.workflow.execution(*id).is_some_and(is_busy);
        let begun = self
            .workflow
            .head
            .tasks
            .iter()
            .filter(|task| is_begun(task))
            .count();
        // An event and a row of each execution, an event of each task and of the workflow.
        let fits = open.len() <= MAX_STEPS && self.fits(2 * open.len() + begun + 1);
        if !fits || self.is_cut_short() || open.iter().any(waits) {
            self.push(EventKind::Stopping { state, message });
            return;
        }
        for id in open {
            self.stop_one(id, "");
        }
        self.end_tasks(false);
        self.end(state, message);
    }

    /// In 0.1, where tasks run one after the other, a failed action that has its extra run fixes the outcome.
    fn fixed_by_failure(&self) -> Option<(WorkflowState, String)> {
        if self.workflow.definition.has_expressions() {
            return None;
        }
        self.open_executions().into_iter().find_map(|id| {
            let execution = self.workflow.execution(id)?;
            let failed = execution.actions.iter().find(|action| action.cleanup.is_some())?;
            let state = match failed.state {
                StepState::Timeout => WorkflowState::Timeout,
                _ => WorkflowState::Failed,
            };
            Some((state, outcome::of_execution(&self.workflow, execution)))
        })
    }

    /// While it is ENDING or CANCELLING: stops what is left, and ends. True: something went on.
    pub(super) fn stop_rest(&mut self) -> bool {
        let Some(ending) = self.workflow.head.ending.clone() else {
            return false;
        };
        let mut went_on = false;
        let mut is_left = false;
        for id in self.open_executions() {
            if self.is_asked(id) {
                is_left = true;
                continue;
            }
            if !self.takes_a_step() {
                return went_on;
            }
            self.stop_one(id, &ending.message);
            went_on = true;
            let is_over = |execution: &Execution| execution.state.is_final();
            is_left |= !self.workflow.execution(id).is_some_and(is_over);
        }
        if !is_left && self.end_tasks(true) {
            self.end(ending.state, ending.message);
        }
        went_on
    }

    /// Asked to stop, and not stopped yet.
    fn is_asked(&self, id: ExecutionId) -> bool {
        self.workflow.execution(id).is_some_and(|execution| {
            let attempt = execution.under_way();
            attempt.is_some_and(|(_, action)| action.stopping.is_some() && !action.leaving)
                || execution.child_asked == Some(ChildRequest::Cancel)
                    && execution.waiting == Some(Waiting::Children)
        })
    }

    /// Ends an execution, or asks what it has under way to stop.
    fn stop_one(&mut self, id: ExecutionId, reason: &str) {
        let Some(execution) = self.workflow.execution(id) else {
            return;
        };
        if let Some((index, action)) = execution.under_way().filter(|(_, action)| !action.leaving) {
            let attempt = AttemptId {
                workflow: self.workflow.head.id.clone(),
                execution: id,
                action: index,
                attempt: action.attempts,
            };
            let worker = execution.worker.clone();
            self.ask_to_stop(worker, attempt, StepState::Cancelled, reason);
            return;
        }
        if execution.waiting == Some(Waiting::Children) {
            self.ask_child(id, ChildRequest::Cancel, Some(StepState::Cancelled), reason);
            return;
        }
        if execution.waiting == Some(Waiting::Machine) {
            self.unwant(id);
        }
        if !self.ends_without_extra_run(id) {
            self.end_execution(id, StepState::Cancelled, None, Map::new());
        }
    }

    /// Ends an execution of which only the extra run of a failed action is left: that does not come any more, and how the
    /// action ended stands. False: it is none.
    pub(super) fn ends_without_extra_run(&mut self, id: ExecutionId) -> bool {
        let failed = self.workflow.execution(id).and_then(|execution| {
            let action = execution.actions.iter().find(|action| action.cleanup.is_some())?;
            (action.cleanup != Some(Cleanup::UnderWay)).then(|| action.clone())
        });
        let Some(action) = failed else {
            return false;
        };
        let end = if action.state == StepState::Timeout {
            StepState::Timeout
        } else {
            StepState::Failed
        };
        let failure = super::super::event::Failure::new(&action.reason, action.message);
        self.end_execution(id, end, Some(failure), Map::new());
        true
    }

    /// Ends a workflow whose tasks are all over.
    pub(super) fn end_if_done(&mut self) {
        let head = &self.workflow.head;
        if head.state.is_final() || !head.tasks.iter().all(|task| task.state.is_final()) {
            return;
        }
        let (state, message) = outcome::of_workflow(&self.workflow);
        self.end(state, message);
    }

    /// Ends tasks whose executions are all over, as far as there is room if it is `bounded`. False: some are left.
    fn end_tasks(&mut self, bounded: bool) -> bool {
        for task in 0..self.workflow.head.tasks.len() {
            let Some(progress) = self.workflow.head.tasks.get(task) else {
                continue;
            };
            if is_begun(progress) && progress.ended >= progress.items {
                let instance = progress.instance;
                if bounded && !self.has_room() {
                    return false;
                }
                let (state, error) = outcome::of_task(&self.workflow, task);
                let outputs = self.workflow.executions_of(task).next();
                let outputs = outputs.map(|execution| execution.outputs.clone().into());
                self.push(EventKind::TaskEnded {
                    task,
                    instance,
                    state,
                    condition: None,
                    error,
                    outputs: outputs.unwrap_or_default(),
                });
            }
        }
        true
    }

    /// Nothing of it is under way.
    fn end(&mut self, state: WorkflowState, message: String) {
        let (mut state, mut message, mut outputs) = (state, message, Map::new());
        if state == WorkflowState::Success && !self.workflow.definition.outputs.is_empty() {
            let scope = scope(&self.workflow, None);
            for (name, expression) in &self.workflow.definition.outputs {
                match evaluate(expression, &scope) {
                    Ok(value) => {
                        outputs.insert(name.clone(), value);
                    }
                    Err(error) => {
                        (state, message) = (WorkflowState::Failed, format!("output {name:?}: {error}"));
                        outputs.clear();
                        break;
                    }
                }
            }
            if let Some(why) = too_many_of_workflow(&outputs) {
                (state, message) = (WorkflowState::Failed, why);
                outputs.clear();
            }
        }
        self.push(EventKind::Ended {
            state,
            message: message.clone(),
            outputs: outputs.clone(),
        });
        if let Some(parent) = self.workflow.head.parent.clone() {
            self.effects.push(Effect::EndChild {
                parent,
                child: self.workflow.head.id.clone(),
                run: self.workflow.head.run,
                state,
                message,
                outputs,
                workers: claimed(&self.workflow).into_iter().collect(),
            });
        }
    }
}

fn is_begun(task: &TaskState) -> bool {
    task.state != StepState::Idle && !task.state.is_final()
}

/// Something of it has to stop before it can end.
fn is_busy(execution: &Execution) -> bool {
    let attempt = execution.under_way();
    attempt.is_some_and(|(_, action)| !action.leaving) || execution.waiting == Some(Waiting::Children)
}
