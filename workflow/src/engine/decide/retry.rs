//! The next run of a workflow that failed.

use std::collections::BTreeSet;

use super::super::command::{Effect, Refusal};
use super::super::event::EventKind;
use super::super::graph::with_dependents;
use super::super::state::WorkflowState;
use super::create::claims;
use super::draft::Draft;
use super::scope::is_unhandled;

impl Draft<'_> {
    pub(super) fn retry(&mut self, by: &str) -> Result<(), Refusal> {
        self.refuse_not_root()?;
        self.open_run_again(by)
    }

    /// What failed, and all that depends on it, runs again; what succeeded beside it stays.
    pub(super) fn open_run_again(&mut self, by: &str) -> Result<(), Refusal> {
        let head = &self.workflow.head;
        if !head.state.is_final() {
            return Err(self.wrong_state("a workflow is retried when it has ended; cancel it first"));
        }
        if head.state == WorkflowState::Success {
            return Err(self.wrong_state("nothing of it failed; create a new workflow to do it again"));
        }
        let tasks = head.tasks.iter().enumerate();
        let failed: BTreeSet<usize> = tasks
            .filter(|(_, state)| is_unhandled(state))
            .map(|(index, _)| index)
            .collect();
        let tasks = with_dependents(&self.workflow.definition, failed);
        self.push(EventKind::RunOpened {
            run: head.run.saturating_add(1),
            by: by.to_owned(),
            tasks: tasks.into_iter().collect(),
        });
        // Only what this run uses.
        let definition = self.workflow.definition.clone();
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
