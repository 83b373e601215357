//! Attempts: handed out, reported, lost, tried again.

use serde_json::Map;

use super::super::MAX_LOST_ATTEMPTS;
use super::super::command::{Command, Refusal};
use super::super::event::{EventKind, Failure, Loss, Outcome};
use super::super::ids::{AttemptId, ExecutionId};
use super::super::state::{ActionState, Cleanup, Execution, StepState, Waiting};
use super::answers::told_of_answers;
use super::draft::Draft;
use crate::language::Retry;

impl Draft<'_> {
    pub(super) fn dispatch(
        &mut self,
        id: ExecutionId,
        worker: &str,
        boot_id: &str,
        epoch: u64,
    ) -> Result<(), Refusal> {
        let execution = self.workflow.execution(id).filter(|execution| {
            self.is_going()
                && execution.worker == worker
                && execution.waiting == Some(Waiting::Machine)
                && execution.pause.is_none()
                && self.held_by_policy(execution).is_none()
                && self.is_latest(id)
        });
        let ready = execution.and_then(|execution| {
            let action = execution.next_action()?;
            let number = execution.actions.get(action)?.attempts.checked_add(1)?;
            Some((action, number))
        });
        let (action, attempt) = ready.ok_or_else(|| Refusal::NotReady {
            id: self.workflow.head.id.clone(),
            execution: id,
        })?;
        self.push(EventKind::Dispatched {
            attempt: AttemptId {
                workflow: self.workflow.head.id.clone(),
                execution: id,
                action,
                attempt,
            },
            worker: worker.to_owned(),
            boot_id: boot_id.to_owned(),
            epoch,
            data_version: self.workflow.head.data_version,
        });
        Ok(())
    }

    pub(super) fn is_latest(&self, id: ExecutionId) -> bool {
        let task = self.workflow.head.tasks.get(id.task);
        task.is_some_and(|task| task.instance == id.instance && !task.state.is_final())
    }

    /// The action of an attempt that there was.
    fn attempted(&self, attempt: &AttemptId) -> Result<&ActionState, Refusal> {
        let action = self
            .workflow
            .execution(attempt.execution)
            .filter(|_| attempt.workflow == self.workflow.head.id)
            .and_then(|execution| execution.actions.get(attempt.action))
            .filter(|action| (1..=action.attempts).contains(&attempt.attempt));
        action.ok_or_else(|| Refusal::UnknownAttempt {
            id: self.workflow.head.id.clone(),
            attempt: attempt.to_string(),
        })
    }

    /// Whether the attempt's end is still awaited.
    fn is_awaited(&self, attempt: &AttemptId, action: &ActionState) -> bool {
        let execution = self.workflow.execution(attempt.execution);
        execution.is_some_and(|execution| !execution.state.is_final())
            && self.is_latest(attempt.execution)
            && !self.workflow.head.state.is_final()
            && action.attempts == attempt.attempt
            && action.is_under_way()
    }

    pub(super) fn report(&mut self, attempt: &AttemptId, outcome: &Outcome) -> Result<(), Refusal> {
        let action = self.attempted(attempt)?;
        if !self.is_awaited(attempt, action) {
            if action.attempts != attempt.attempt || !is_known(action, outcome) {
                self.push(EventKind::Late {
                    attempt: attempt.clone(),
                    outcome: outcome.clone(),
                });
            }
            return Ok(());
        }
        let is_repeated = match outcome {
            Outcome::Started => action.state == StepState::Running || action.cleanup.is_some(),
            Outcome::Leaving { .. } => action.leaving,
            _ => false,
        };
        if is_repeated {
            return Ok(());
        }
        let asked = action.stopping;
        self.push(EventKind::Reported {
            attempt: attempt.clone(),
            outcome: self.with_room(outcome),
        });
        self.settle(attempt.execution, asked);
        Ok(())
    }

    pub(super) fn returned(&mut self, attempt: &AttemptId, boot_id: &str) -> Result<(), Refusal> {
        let action = self.attempted(attempt)?;
        if !self.is_awaited(attempt, action) {
            return Ok(());
        }
        if !action.leaving {
            let boot_id = boot_id.to_owned();
            return self.lost(attempt, &Loss::OtherBoot { boot_id });
        }
        let asked = action.stopping;
        self.push(EventKind::Returned {
            attempt: attempt.clone(),
            boot_id: boot_id.to_owned(),
        });
        self.settle(attempt.execution, asked);
        Ok(())
    }

    pub(super) fn lost(&mut self, attempt: &AttemptId, why: &Loss) -> Result<(), Refusal> {
        let action = self.attempted(attempt)?;
        if !self.is_awaited(attempt, action) {
            return Ok(());
        }
        let asked = action.stopping;
        self.push(EventKind::Lost {
            attempt: attempt.clone(),
            why: why.clone(),
        });
        self.settle(attempt.execution, asked);
        Ok(())
    }

    /// Goes on with an execution whose attempt may be over. `asked`: it was to be stopped, and what that meant.
    pub(super) fn settle(&mut self, id: ExecutionId, asked: Option<StepState>) {
        let Some(execution) = self.workflow.execution(id) else {
            return;
        };
        let ending = self.workflow.head.ending.is_some();
        if let Some((_, action)) = execution.under_way() {
            if action.leaving && (ending || asked.is_some() || execution.skip.is_some()) {
                // A machine that leaves has stopped, too.
                self.stopped(id, asked.unwrap_or(StepState::Cancelled));
            }
            return;
        }
        let Some(index) = execution.next_action() else {
            self.end_execution(id, StepState::Success, None, Map::new());
            return;
        };
        let Some(action) = execution.actions.get(index).cloned() else {
            return;
        };
        match action.state {
            // Whatever came of it: it is not wanted any more.
            _ if execution.skip.is_some() => self.stopped(id, StepState::Skipped),
            _ if asked.is_some() && action.cleanup.is_none() => {
                self.stopped(id, asked.unwrap_or(StepState::Cancelled));
            }
            StepState::Idle if ending => self.end_execution(id, StepState::Cancelled, None, Map::new()),
            StepState::Idle => self.want(id),
            state => {
                let failure = failure_of(&action);
                let end = if state == StepState::Timeout {
                    StepState::Timeout
                } else if state == StepState::Cancelled && ending {
                    StepState::Cancelled
                } else {
                    StepState::Failed
                };
                if ending || action.cleanup == Some(Cleanup::Done) {
                    self.end_execution(id, end, Some(failure), Map::new());
                } else if !self.try_again(id, Some(index), &action, end, &failure)
                    && !self.try_task_again(id, end, &failure)
                {
                    if action.cleanup == Some(Cleanup::Due) {
                        self.want(id);
                    } else {
                        self.end_execution(id, end, Some(failure), Map::new());
                    }
                }
            }
        }
    }

    /// What was to be stopped has stopped.
    pub(super) fn stopped(&mut self, id: ExecutionId, then: StepState) {
        if let Some(failure) = self.skipped(id) {
            self.end_execution(id, StepState::Skipped, Some(failure), Map::new());
        } else if then == StepState::Timeout {
            self.timed_out(id);
        } else {
            self.end_execution(id, then, None, Map::new());
        }
    }

    /// The task's time is over, and nothing of it is under way.
    pub(super) fn timed_out(&mut self, id: ExecutionId) {
        let task = self.workflow.definition.tasks.get(id.task);
        let seconds = task.map_or(0, |task| task.timeout_s);
        let mut message = format!("its timeout of {seconds} s has passed");
        let waits = |execution: &&Execution| execution.waiting == Some(Waiting::Answer);
        if let Some(execution) = self.workflow.execution(id).filter(waits) {
            message = format!("{message}; {}", told_of_answers(&self.workflow, execution));
        }
        let failure = Failure::new("Timeout", message);
        if self.workflow.head.ending.is_some() || !self.try_task_again(id, StepState::Timeout, &failure) {
            self.end_execution(id, StepState::Timeout, Some(failure), Map::new());
        }
    }

    fn try_again(
        &mut self,
        id: ExecutionId,
        index: Option<usize>,
        action: &ActionState,
        state: StepState,
        failure: &Failure,
    ) -> bool {
        let definition = self.workflow.definition.clone();
        let defined = definition.tasks.get(id.task);
        let defined = defined.and_then(|task| task.actions.get(index?));
        let delay = match defined.and_then(|action| action.retry.as_ref()) {
            Some(retry) if applies(retry, state, failure) && action.tries < retry.attempts => {
                delay_ms(retry, action.tries)
            }
            None if failure.reason == "Lost" && action.tries < MAX_LOST_ATTEMPTS => 0,
            _ => return false,
        };
        self.delay(id, index, delay);
        true
    }

    /// Runs a whole task (of one item) again, where its `retry` says so.
    pub(super) fn try_task_again(&mut self, id: ExecutionId, state: StepState, failure: &Failure) -> bool {
        let definition = self.workflow.definition.clone();
        let retry = definition.tasks.get(id.task).and_then(|task| task.retry.as_ref());
        let tries = self.workflow.execution(id).map_or(0, |execution| execution.tries);
        let Some(retry) = retry.filter(|retry| applies(retry, state, failure) && tries < retry.attempts)
        else {
            return false;
        };
        self.delay(id, None, delay_ms(retry, tries));
        true
    }

    fn delay(&mut self, id: ExecutionId, action: Option<usize>, delay_ms: u64) {
        let now = self.now.max(self.workflow.head.last_at);
        self.push(EventKind::Delayed {
            execution: id,
            action,
            due: now.saturating_add(delay_ms),
        });
        let Some(execution) = self.workflow.execution(id) else {
            return;
        };
        if execution.waiting == Some(Waiting::Machine) {
            self.want(id);
        } else if delay_ms == 0 && !self.is_paused() && execution.pause.is_none() {
            self.resume(id);
        }
    }
}

/// Whether an outcome says nothing new of an action that is over: a report that was sent again.
fn is_known(action: &ActionState, outcome: &Outcome) -> bool {
    let is_tried_again = matches!(action.state, StepState::Idle | StepState::Delayed);
    // Of a lost attempt everything is news; a lost extra run leaves the action's reason as it was.
    let is_lost_extra_run = action.cleanup.is_some() && action.boot_id.is_none();
    if action.reason == "Lost" || is_lost_extra_run {
        return false;
    }
    match outcome {
        Outcome::Started => true,
        // A last action that leaves has succeeded with that.
        Outcome::Succeeded { .. } | Outcome::Leaving { .. } => action.state == StepState::Success,
        Outcome::Failed { reason, .. } => {
            (action.state == StepState::Failed || is_tried_again) && action.reason == *reason
        }
        Outcome::TimedOut { .. } => {
            action.state == StepState::Timeout || is_tried_again && action.reason == "Timeout"
        }
        Outcome::Stopped { .. } => {
            action.state == StepState::Cancelled || is_tried_again && action.reason == "Stopped"
        }
    }
}

fn failure_of(action: &ActionState) -> Failure {
    let reason = match (action.reason.as_str(), action.state) {
        ("", StepState::Timeout) => "Timeout",
        ("", _) => "Failed",
        (reason, _) => reason,
    };
    Failure::new(reason, action.message.clone())
}

fn applies(retry: &Retry, state: StepState, failure: &Failure) -> bool {
    let kind = match state {
        _ if failure.reason == "Lost" => "lost",
        StepState::Timeout => "timeout",
        _ => "failed",
    };
    retry.on.is_empty() || retry.on.iter().any(|on| *on == kind || *on == failure.reason)
}

/// Before the try after `tries`.
fn delay_ms(retry: &Retry, tries: u32) -> u64 {
    let bound = match retry.max_delay_ms {
        0 => u64::MAX,
        most => most,
    };
    let mut delay = retry.delay_ms;
    for _ in 1..tries.min(10_000) {
        let next = u128::from(delay) * u128::from(retry.backoff_percent) / 100;
        let next = u64::try_from(next).unwrap_or(u64::MAX);
        if next == delay || delay >= bound {
            break;
        }
        delay = next;
    }
    delay.min(bound)
}

impl Command {
    /// The attempt that it is about.
    pub fn attempt(&self) -> Option<&AttemptId> {
        match self {
            Command::Report { attempt, .. }
            | Command::Returned { attempt, .. }
            | Command::Lost { attempt, .. } => Some(attempt),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_their_bound() {
        let retry = |delay_ms, backoff_percent, max_delay_ms| Retry {
            attempts: 9,
            delay_ms,
            backoff_percent,
            max_delay_ms,
            on: vec![],
        };
        let delays = |retry: Retry| -> Vec<u64> { (1..6).map(|tries| delay_ms(&retry, tries)).collect() };
        assert_eq!(delays(retry(0, 200, 0)), [0; 5]);
        assert_eq!(delays(retry(10, 100, 0)), [10; 5]);
        assert_eq!(delays(retry(10, 200, 0)), [10, 20, 40, 80, 160]);
        assert_eq!(delays(retry(10, 200, 50)), [10, 20, 40, 50, 50]);
        assert_eq!(delays(retry(100, 50, 50)), [50; 5]);
        assert_eq!(delays(retry(100, 50, 0)), [100, 50, 25, 12, 6]);
        assert_eq!(delay_ms(&retry(u64::MAX, 200, 0), u32::MAX), u64::MAX);
    }
}
