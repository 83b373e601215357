//! What time brings: waits that are over, delays, timeouts.

use serde_json::Map;

use super::super::UnixMillis;
use super::super::command::Effect;
use super::super::event::{EventKind, Failure};
use super::super::ids::{AttemptId, ExecutionId};
use super::super::state::{ChildRequest, Execution, Head, StepState, Waiting, Workflow, WorkflowState};
use super::draft::{Draft, open_executions};
use crate::language::{Control, Retry, Task};

/// When something of the workflow is due. A pause stops all clocks, that of one thing its own; what became due in it is due
/// after it.
pub(in super::super) fn next_due_of(workflow: &Workflow) -> Option<UnixMillis> {
    if !has_clocks(&workflow.head) {
        return None;
    }
    if workflow.head.start_at.is_some() {
        return workflow.head.start_at;
    }
    let executions = timed_executions(workflow).filter_map(|execution| due_of(workflow, execution));
    executions.chain(global_due(workflow)).min()
}

pub(super) fn has_clocks(head: &Head) -> bool {
    matches!(head.state, WorkflowState::Pending | WorkflowState::Running)
}

fn global_due(workflow: &Workflow) -> Option<UnixMillis> {
    let seconds = workflow.definition.global_timeout_s;
    let started = workflow.head.started_at.filter(|_| seconds > 0)?;
    Some(after(started, seconds, workflow.head.paused_ms))
}

fn after(started: UnixMillis, seconds: u64, paused_ms: u64) -> UnixMillis {
    started
        .saturating_add(seconds.saturating_mul(1000))
        .saturating_add(paused_ms)
}

/// Open executions of tasks that can have anything due.
fn timed_executions(workflow: &Workflow) -> impl Iterator<Item = &Execution> {
    let is_timed = |task: &Task| {
        let delays = |retry: &Option<Retry>| retry.as_ref().is_some_and(|retry| retry.delay_ms > 0);
        task.timeout_s > 0
            || task.approve.as_ref().is_some_and(|approve| approve.timeout_s > 0)
            || delays(&task.retry)
            || task.actions.iter().any(|action| delays(&action.retry))
            || matches!(task.control, Some(Control::Wait(_) | Control::Until(_)))
            || task.actions.is_empty() && task.retry.is_some()
    };
    let tasks: Vec<bool> = workflow.definition.tasks.iter().map(is_timed).collect();
    let any = tasks.iter().any(|&timed| timed);
    open_executions(workflow)
        .take(if any { usize::MAX } else { 0 })
        .filter(move |execution| tasks.get(execution.id.task).copied().unwrap_or(false))
}

fn due_of(workflow: &Workflow, execution: &Execution) -> Option<UnixMillis> {
    let own = execution.due.filter(|_| execution.pause.is_none());
    own.into_iter().chain(timeout_of(workflow, execution)).min()
}

/// Of the whole task; None once it is being stopped for it, while somebody holds it, and while it asks for an action.
pub(in super::super) fn timeout_of(workflow: &Workflow, execution: &Execution) -> Option<UnixMillis> {
    let seconds = workflow.definition.tasks.get(execution.id.task)?.timeout_s;
    let is_stopping = execution.stopping.is_some()
        || execution
            .under_way()
            .is_some_and(|(_, action)| action.stopping.is_some());
    let is_running = !is_stopping && execution.stopped_clock.is_none();
    let started = execution.started_at.filter(|_| seconds > 0 && is_running)?;
    let paused_ms = workflow.head.paused_ms.saturating_sub(execution.paused_before_ms);
    Some(after(
        started,
        seconds,
        paused_ms.saturating_add(execution.own_paused_ms),
    ))
}

impl Draft<'_> {
    /// Does what is due.
    pub(super) fn act_on_due(&mut self) {
        if !has_clocks(&self.workflow.head) || self.is_before_its_time() {
            return;
        }
        let now = self.now;
        if global_due(&self.workflow).is_some_and(|due| due <= now) {
            let seconds = self.workflow.definition.global_timeout_s;
            let message = format!("its global timeout of {seconds} s has passed");
            self.stop(WorkflowState::Timeout, message);
            return;
        }
        let due: Vec<ExecutionId> = timed_executions(&self.workflow)
            .filter(|execution| self.is_due(execution))
            .map(|execution| execution.id)
            .collect();
        for id in due {
            if !self.is_going() || !self.takes_a_step() {
                return;
            }
            self.act_on(id);
        }
    }

    fn is_due(&self, execution: &Execution) -> bool {
        let task = self.workflow.definition.tasks.get(execution.id.task);
        let is_until = task.is_some_and(|task| matches!(task.control, Some(Control::Until(_))));
        // One that is to be tried again waits like others.
        let by_wall = is_until && execution.waiting == Some(Waiting::Time);
        let now = if by_wall { self.wall } else { self.now };
        execution.pause.is_none() && execution.due.is_some_and(|due| due <= now)
            || timeout_of(&self.workflow, execution).is_some_and(|due| due <= self.now)
    }

    fn act_on(&mut self, id: ExecutionId) {
        let Some(execution) = self.workflow.execution(id) else {
            return;
        };
        let now = self.now;
        if timeout_of(&self.workflow, execution).is_some_and(|due| due <= now) {
            self.time_out(id);
            return;
        }
        match (execution.state, execution.waiting) {
            (StepState::Delayed, _) => self.resume(id),
            (_, Some(Waiting::Approval)) => {
                let task = self.workflow.definition.tasks.get(id.task);
                let seconds = task
                    .and_then(|task| task.approve.as_ref())
                    .map_or(0, |approve| approve.timeout_s);
                let failure = Failure::new("Timeout", format!("nobody decided within {seconds} s"));
                self.end_execution(id, StepState::Timeout, Some(failure), Map::new());
            }
            (_, Some(Waiting::Time)) => self.end_execution(id, StepState::Success, None, Map::new()),
            _ => {}
        }
    }

    /// The task has taken too long: what is under way is stopped first.
    fn time_out(&mut self, id: ExecutionId) {
        let Some(execution) = self.workflow.execution(id) else {
            return;
        };
        let task = self.workflow.definition.tasks.get(id.task);
        let seconds = task.map_or(0, |task| task.timeout_s);
        let reason = format!("the task's timeout of {seconds} s has passed");
        match execution.under_way() {
            // A machine that leaves has stopped already.
            Some((_, action)) if action.leaving => self.timed_out(id),
            Some((index, action)) => {
                let attempt = AttemptId {
                    workflow: self.workflow.head.id.clone(),
                    execution: id,
                    action: index,
                    attempt: action.attempts,
                };
                let worker = execution.worker.clone();
                self.ask_to_stop(worker, attempt, StepState::Timeout, &reason);
            }
            None if execution.waiting == Some(Waiting::Children) => {
                self.ask_child(id, ChildRequest::Cancel, Some(StepState::Timeout), &reason);
            }
            None => {
                if execution.waiting == Some(Waiting::Machine) {
                    self.unwant(id);
                }
                if !self.ends_without_extra_run(id) {
                    self.timed_out(id);
                }
            }
        }
    }

    pub(super) fn ask_to_stop(&mut self, worker: String, attempt: AttemptId, then: StepState, reason: &str) {
        self.push(EventKind::StopAsked {
            attempt: attempt.clone(),
            then,
            reason: reason.to_owned(),
        });
        self.effects.push(Effect::Stop {
            worker,
            attempt,
            reason: reason.to_owned(),
        });
    }

    /// A delay is over.
    pub(super) fn resume(&mut self, id: ExecutionId) {
        let definition = self.workflow.definition.clone();
        let Some(defined) = definition.tasks.get(id.task) else {
            return;
        };
        let execution = self.workflow.execution(id);
        let filled = execution.and_then(|execution| execution.filled.clone());
        match self.plan(id, defined, filled.as_deref()) {
            Ok(plan) => {
                self.push(EventKind::Resumed {
                    execution: id,
                    waiting: plan.waiting(),
                    due: plan.due(),
                    child: plan.child(),
                });
                self.carry_out(id, plan);
            }
            Err(failure) => self.end_execution(id, StepState::Failed, Some(failure), Map::new()),
        }
    }
}
