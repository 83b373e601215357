//! One thing that failed is done again: a task, or one item of a `forEach`.

use super::super::command::{Effect, Refusal};
use super::super::event::EventKind;
use super::super::graph::with_dependents;
use super::super::ids::ExecutionId;
use super::super::state::{StepState, Waiting, WorkflowState};
use super::create::claims;
use super::draft::Draft;
use super::thing::Thing;

impl Draft<'_> {
    pub(super) fn retry_one(&mut self, task: &str, item: Option<usize>, by: &str) -> Result<(), Refusal> {
        if self.is_stopping() {
            return Err(self.wrong_state("it ends as soon as what is under way has stopped"));
        }
        if self.is_paused() {
            return Err(self.wrong_state("resume it first"));
        }
        let state = self.workflow.head.state;
        if state == WorkflowState::Success {
            return Err(self.wrong_state(
                "nothing of it failed that was not made good; create a new workflow to do it again",
            ));
        }
        if state.is_final() {
            self.refuse_not_root()?;
        }
        match self.thing(task, item, "retry")? {
            Thing::Execution(id) if item.is_some() && !self.task_state(id.task).is_final() => {
                self.reopen_item(id, task, by)
            }
            Thing::Execution(id) => self.reopen_task(id.task, (task, item), by),
            Thing::Ahead { task: index, .. } | Thing::Begun { task: index, .. } => {
                self.reopen_task(index, (task, item), by)
            }
        }
    }

    /// One item of a `forEach` that goes on.
    fn reopen_item(&mut self, id: ExecutionId, task: &str, by: &str) -> Result<(), Refusal> {
        let Some(execution) = self.workflow.execution(id) else {
            return Ok(());
        };
        let refused = |why: String| Err(self.not_of_task(task, Some(id.item), why));
        let state = execution.state;
        if !matches!(state, StepState::Failed | StepState::Timeout) {
            return refused(format!("is {state}: only what failed is done again"));
        }
        if execution
            .error
            .as_ref()
            .is_some_and(|error| error.reason == "Expression")
        {
            let id = &self.workflow.head.id;
            return refused(format!(
                "failed as an expression has no value, and those of a task are worked out once: when the workflow has ended, \
                 farrier workflow retry {id} works them out again"
            ));
        }
        self.push(EventKind::ItemReopened {
            execution: id,
            by: by.to_owned(),
        });
        let approve = self
            .workflow
            .definition
            .tasks
            .get(id.task)
            .and_then(|task| task.approve.as_ref());
        let asks = self
            .workflow
            .execution(id)
            .is_some_and(|execution| execution.decision.is_none());
        match approve.filter(|_| asks) {
            Some(approve) => {
                let due = (approve.timeout_s > 0)
                    .then(|| self.now.saturating_add(approve.timeout_s.saturating_mul(1000)));
                self.push(EventKind::Resumed {
                    execution: id,
                    waiting: Waiting::Approval,
                    due,
                    child: None,
                });
            }
            None => self.resume(id),
        }
        Ok(())
    }

    /// A task that is over, with what depends on it.
    fn reopen_task(
        &mut self,
        index: usize,
        (task, item): (&str, Option<usize>),
        by: &str,
    ) -> Result<(), Refusal> {
        let id = self.workflow.head.id.clone();
        let state = self.task_state(index);
        let is_over = self.workflow.head.state.is_final();
        if item.is_some() && state.is_final() {
            let why = format!(
                "is over with its task: farrier workflow retry {id} {task} does again what of it did not succeed"
            );
            return Err(self.not_of_task(task, item, why));
        }
        if state == StepState::Cancelled {
            let why = format!(
                "is {state}: it had not ended when the workflow was stopped, and farrier workflow retry {id} goes on with all of \
                 that"
            );
            return Err(self.not_of_task(task, item, why));
        }
        if !matches!(state, StepState::Failed | StepState::Timeout) {
            return Err(self.not_of_task(task, item, format!("is {state}: only what failed is done again")));
        }
        let definition = self.workflow.definition.clone();
        // What had not ended when the workflow was stopped comes with it: nobody has seen it fail.
        let is_stopped = |other: &usize| {
            let mut executions = self.workflow.executions_of(*other);
            let is_over = self.task_state(*other).is_final();
            self.task_state(*other) == StepState::Cancelled
                || is_over && executions.any(|execution| execution.state == StepState::Cancelled)
        };
        let stopped = (0..definition.tasks.len()).filter(is_stopped);
        let mut tasks = with_dependents(&definition, stopped.chain([index]).collect());
        if !is_over {
            let has_begun = |other: usize| {
                let asks = self
                    .workflow
                    .head
                    .tasks
                    .get(other)
                    .is_some_and(|state| state.asking.is_some());
                asks || !matches!(self.task_state(other), StepState::Idle | StepState::Skipped)
            };
            let begun = tasks
                .iter()
                .copied()
                .find(|&other| other != index && has_begun(other));
            if let Some(begun) = begun {
                let name = definition.tasks.get(begun).map_or("", |task| &task.name);
                let why = format!(
                    "is {state}, and task {name:?}, which depends on it, is {} already: when the workflow has ended, farrier \
                     workflow retry {id} {task} runs both again",
                    self.task_state(begun)
                );
                return Err(self.not_of_task(task, item, why));
            }
            tasks.retain(|&other| self.task_state(other).is_final());
        }
        let tasks: Vec<usize> = tasks.into_iter().collect();
        self.push(match is_over {
            true => EventKind::RunOpened {
                run: self.workflow.head.run.saturating_add(1),
                by: by.to_owned(),
                tasks,
            },
            false => EventKind::TasksReopened {
                by: by.to_owned(),
                tasks,
            },
        });
        // Only what is to be done now.
        let is_left = |worker: &str| {
            let mut tasks = definition.tasks.iter().zip(&self.workflow.head.tasks);
            tasks.any(|(task, state)| !state.state.is_final() && task.worker == worker)
        };
        let mut claims = claims(&self.workflow);
        claims.retain(|claim| matches!(claim, Effect::Claim { worker, .. } if is_left(worker)));
        self.effects.extend(claims);
        Ok(())
    }
}
