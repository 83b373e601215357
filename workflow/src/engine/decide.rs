//! What a command leads to.

use std::borrow::Cow;

use super::apply::{apply, may_retry};
use super::command::{Command, Refusal};
use super::dispatch::next_timer;
use super::event::{AttemptId, Event, EventKind, Outcome};
use super::state::{ActionState, Cleanup, Position, StepState, Workflow, WorkflowState};
use super::{MAX_ATTEMPTS, UnixMillis};

/// The events that `command` leads to. `state` is `None` only for [`Command::Create`].
///
/// No events: the command changes nothing (a repeated report, somebody else's turn). The caller stores the events
/// together with the state that [`apply`] makes of them.
pub fn decide(state: Option<&Workflow>, command: &Command, now: UnixMillis) -> Result<Vec<Event>, Refusal> {
    let workflow = match (state, command) {
        (
            None,
            Command::Create {
                id,
                name,
                template,
                definition,
            },
        ) => {
            return Ok(create(id, name, template, definition, now));
        }
        (Some(workflow), Command::Create { .. }) => {
            return Err(Refusal::Exists {
                id: workflow.id.clone(),
            });
        }
        (None, _) => return Err(Refusal::Missing),
        (Some(workflow), _) => workflow,
    };
    let mut history = History {
        state: Cow::Borrowed(workflow),
        events: Vec::new(),
        now,
    };
    match command {
        Command::Create { .. } => {}
        Command::Attached {
            worker,
            boot_id,
            running,
        } => history.attached(worker, boot_id, running.as_ref()),
        Command::Report { attempt, outcome } => history.report(attempt, outcome)?,
        Command::Timer => history.timer(),
        Command::Cancel { reason } => history.cancel(reason)?,
    }
    Ok(history.events)
}

fn create(
    id: &str,
    name: &str,
    template: &str,
    definition: &crate::language::Definition,
    now: UnixMillis,
) -> Vec<Event> {
    let kind = EventKind::Created {
        id: id.into(),
        name: name.into(),
        template: template.into(),
        definition: Box::new(definition.clone()),
    };
    let created = Event {
        number: 1,
        at: now,
        kind,
    };
    let state = apply(None, &created);
    let mut history = History {
        state: Cow::Owned(state),
        events: vec![created],
        now,
    };
    history.end_if_done();
    history.events
}

/// The events so far, and the state after them.
struct History<'a> {
    state: Cow<'a, Workflow>,
    events: Vec<Event>,
    now: UnixMillis,
}

impl History<'_> {
    fn push(&mut self, kind: EventKind) {
        let event = Event {
            number: self.state.last_event.saturating_add(1),
            at: self.now,
            kind,
        };
        self.state = Cow::Owned(apply(Some(self.state.clone().into_owned()), &event));
        self.events.push(event);
    }

    /// The action that the workflow has come to, its position and the attempt it is in.
    fn current(&self) -> Option<(Position, &ActionState, AttemptId)> {
        let position = self.state.position()?;
        let action = self.state.action_state(position)?;
        Some((
            position,
            action,
            AttemptId::new(&self.state.id, position, action.attempts),
        ))
    }

    fn attached(&mut self, worker: &str, boot_id: &str, running: Option<&AttemptId>) {
        if self.state.state.is_final() || !self.is_turn_of(worker) {
            return;
        }
        if let Some((_, action, attempt)) = self.current().filter(|(_, action, _)| action.is_under_way()) {
            if action.boot_id.as_deref() != Some(boot_id) {
                self.came_back(attempt, boot_id);
            } else if self.state.ending.is_some() && running != Some(&attempt) {
                // It was to be stopped, and this boot does not run it: nothing is left to wait for.
                self.end_as_fixed();
            }
        }
        // What came back may have brought the workflow to a task of another machine, or to its end.
        if self.state.state.is_final() || !self.is_turn_of(worker) || running.is_some() {
            return;
        }
        if let Some((position, action, _)) = self.current().filter(|(_, action, _)| action.is_due()) {
            let attempt = AttemptId::new(&self.state.id, position, action.attempts.saturating_add(1));
            self.push(EventKind::Dispatched {
                attempt,
                worker: worker.into(),
                boot_id: boot_id.into(),
            });
        }
    }

    /// The machine has another boot than the one that the attempt under way was handed to.
    fn came_back(&mut self, attempt: AttemptId, boot_id: &str) {
        let Some((position, action, _)) = self.current() else {
            return;
        };
        let stopping = self.state.ending.is_some();
        if action.leaving && action.cleanup.is_none() {
            self.push(EventKind::Returned {
                attempt,
                boot_id: boot_id.into(),
            });
        } else {
            let retried = !stopping && may_retry(action);
            self.push(EventKind::Lost {
                attempt,
                boot_id: boot_id.into(),
                retried,
            });
        }
        if stopping {
            self.end_as_fixed();
        } else {
            self.end_if_failed(position);
            self.end_if_done();
        }
    }

    fn report(&mut self, attempt: &AttemptId, outcome: &Outcome) -> Result<(), Refusal> {
        let unknown = || Refusal::UnknownAttempt {
            id: self.state.id.clone(),
            attempt: attempt.to_string(),
        };
        let parts = attempt
            .parts()
            .filter(|parts| parts.workflow == self.state.id)
            .ok_or_else(unknown)?;
        let position = parts.position();
        let action = self
            .state
            .action_state(position)
            .filter(|action| parts.attempt <= action.attempts)
            .ok_or_else(unknown)?;
        let is_last_try = parts.attempt == action.attempts;
        if self.state.state.is_final() || !is_last_try || !action.is_under_way() {
            if !is_last_try || !is_known(action, outcome) {
                self.push(EventKind::Late {
                    attempt: attempt.clone(),
                    outcome: outcome.clone(),
                });
            }
            return Ok(());
        }
        let is_repeated = match outcome {
            Outcome::Started => action.state == StepState::Running,
            Outcome::Leaving { .. } => action.leaving,
            _ => false,
        };
        if is_repeated || (*outcome == Outcome::Started && action.cleanup.is_some()) {
            return Ok(());
        }
        self.push(EventKind::Reported {
            attempt: attempt.clone(),
            outcome: outcome.clone(),
        });
        let is_over = *outcome != Outcome::Started;
        if self.state.ending.is_some() {
            // A machine that leaves has stopped, too.
            if is_over {
                self.end_as_fixed();
            }
        } else {
            self.end_if_failed(position);
            self.end_if_done();
        }
        Ok(())
    }

    fn timer(&mut self) {
        if next_timer(&self.state).is_some_and(|due| due <= self.now) {
            let seconds = self.state.definition.global_timeout_s;
            let message = format!("its global timeout of {seconds} s has passed");
            self.stop(WorkflowState::Timeout, message);
        }
    }

    fn cancel(&mut self, reason: &str) -> Result<(), Refusal> {
        if self.state.state.is_final() {
            return Err(Refusal::Ended {
                id: self.state.id.clone(),
                state: self.state.state,
            });
        }
        if self.state.ending.is_none() {
            self.stop(WorkflowState::Cancelled, reason.to_owned());
        }
        Ok(())
    }

    /// Ends the workflow, now or when what is under way has stopped.
    fn stop(&mut self, state: WorkflowState, message: String) {
        let (mut state, mut message, mut wait) = (state, message, false);
        if let Some((position, action, _)) = self.current() {
            if let Some(fixed) = failure(&self.state, position, action) {
                // The extra run of a failed action does not change how the workflow ends.
                (state, message) = fixed;
            }
            wait = action.is_under_way() && !action.leaving;
        }
        self.push(if wait {
            EventKind::Stopping { state, message }
        } else {
            EventKind::Ended { state, message }
        });
    }

    fn end_as_fixed(&mut self) {
        if let Some(ending) = self.state.ending.clone() {
            self.push(EventKind::Ended {
                state: ending.state,
                message: ending.message,
            });
        }
    }

    /// Ends the workflow with the failure of its action, when no extra run is left to do.
    fn end_if_failed(&mut self, position: Position) {
        let Some(action) = self.state.action_state(position) else {
            return;
        };
        if matches!(action.cleanup, Some(Cleanup::Due | Cleanup::UnderWay)) {
            return;
        }
        if let Some((state, message)) = failure(&self.state, position, action) {
            self.push(EventKind::Ended { state, message });
        }
    }

    fn end_if_done(&mut self) {
        if !self.state.state.is_final() && self.state.position().is_none() {
            self.push(EventKind::Ended {
                state: WorkflowState::Success,
                message: String::new(),
            });
        }
    }

    fn is_turn_of(&self, worker: &str) -> bool {
        let at = self
            .state
            .position()
            .and_then(|position| self.state.defined(position));
        at.is_some_and(|(task, _)| task.worker == worker)
    }
}

/// Whether an outcome says nothing new of an action that has ended: a report that was sent again.
fn is_known(action: &ActionState, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Started => true,
        // A last action that leaves has succeeded with that.
        Outcome::Succeeded { .. } | Outcome::Leaving { .. } => action.state == StepState::Success,
        Outcome::Failed { .. } => action.state == StepState::Failed,
        Outcome::TimedOut { .. } => action.state == StepState::Timeout,
        Outcome::Stopped { .. } => action.state == StepState::Cancelled,
    }
}

/// How a failed action ends its workflow, in words.
fn failure(workflow: &Workflow, position: Position, action: &ActionState) -> Option<(WorkflowState, String)> {
    let (task, defined) = workflow.defined(position)?;
    let place = format!("action {:?} of task {:?}", defined.name, task.name);
    let (state, what) = match action.state {
        StepState::Failed if action.reason == "Lost" => {
            let tries = action.attempts.min(MAX_ATTEMPTS);
            return Some((
                WorkflowState::Failed,
                format!("{place} was lost {tries} times: {}", action.message),
            ));
        }
        StepState::Failed => (WorkflowState::Failed, "failed"),
        StepState::Timeout => (WorkflowState::Timeout, "timed out"),
        StepState::Cancelled => (WorkflowState::Failed, "was stopped on the machine"),
        _ => return None,
    };
    let reason = match action.reason.as_str() {
        "" | "Timeout" | "Stopped" => String::new(),
        reason => format!(" ({reason})"),
    };
    let colon = if action.message.is_empty() { "" } else { ": " };
    Some((state, format!("{place} {what}{reason}{colon}{}", action.message)))
}
