//! Giving machines back: as soon as nothing that is left of the root can use them, see decision 006.

use std::collections::BTreeSet;

use super::super::MAX_STEPS;
use super::super::command::Effect;
use super::super::ids::ExecutionId;
use super::super::state::StepState;
use super::super::uses::{claimed, may_use, may_use_any};
use super::draft::Draft;

impl Draft<'_> {
    /// Tells the machine that the execution is ready for it; not during a pause, of the workflow or of the execution.
    pub(super) fn want(&mut self, id: ExecutionId) {
        if self.is_paused() {
            return;
        }
        let execution = self.workflow.execution(id).filter(|one| one.pause.is_none());
        // What is to be asked for first, or refused, is seen to before the decision ends.
        if let Some(execution) = execution.filter(|one| self.held_by_policy(one).is_none()) {
            self.effects.push(Effect::Want {
                worker: execution.worker.clone(),
                root: self.workflow.root().to_owned(),
                workflow: self.workflow.head.id.clone(),
                execution: id,
            });
        }
    }

    pub(super) fn unwant(&mut self, id: ExecutionId) {
        if let Some(execution) = self.workflow.execution(id) {
            self.effects.push(Effect::Unwant {
                worker: execution.worker.clone(),
                workflow: self.workflow.head.id.clone(),
                execution: id,
            });
        }
    }

    /// What this decision has freed. A sub-workflow frees nothing: its root does, when it has ended.
    pub(super) fn release(&mut self) {
        // One that has not begun has claimed nothing.
        if self.workflow.head.parent.is_some() || self.workflow.head.start_at.is_some() {
            return;
        }
        let is_over = self.workflow.head.state.is_final();
        let was_over = self.before.is_some_and(|before| before.head.state.is_final());
        // A run that was opened and has ended in one decision gives back what it claimed in it.
        let is_new_run = self
            .before
            .is_some_and(|before| before.head.run != self.workflow.head.run);
        if may_use_any(&self.workflow) || (is_over && was_over && !is_new_run) {
            return;
        }
        let held_all = self.before.is_none_or(may_use_any) || (is_new_run && is_over);
        if self.touched.is_empty() && !self.closed && !is_over && !held_all {
            return;
        }
        let mut workers: BTreeSet<String> = if held_all {
            claimed(&self.workflow)
        } else {
            std::mem::take(&mut self.touched)
        };
        if let Some(before) = self.before.filter(|_| (is_over || self.closed) && !held_all) {
            // Tasks that had not begun, items or a loop that were left do not run any more.
            let named = claimed(before).into_iter();
            workers.extend(named.filter(|worker| may_use(before, worker, None)));
        }
        workers.extend(self.effects.iter().filter_map(|effect| match effect {
            Effect::Claim { worker, .. } => Some(worker.clone()),
            _ => None,
        }));
        workers.retain(|worker| !worker.is_empty() && !may_use(&self.workflow, worker, None));
        let root = self.workflow.head.id.clone();
        let workers: Vec<String> = workers.into_iter().collect();
        if workers.len() > MAX_STEPS {
            self.effects.push(Effect::ReleaseMany { workers, root });
            return;
        }
        for worker in workers {
            let root = root.clone();
            self.effects.push(Effect::Release { worker, root });
        }
    }

    /// Whether tasks may be started and executions made.
    pub(super) fn is_going(&self) -> bool {
        let head = &self.workflow.head;
        !head.state.is_final() && head.ending.is_none() && head.paused_at.is_none()
    }

    pub(super) fn task_state(&self, task: usize) -> StepState {
        self.workflow
            .head
            .tasks
            .get(task)
            .map_or(StepState::Idle, |task| task.state)
    }
}
