//! Pausing and going on.

use super::super::MAX_STEPS;
use super::super::command::{Effect, Refusal};
use super::super::event::EventKind;
use super::super::ids::ExecutionId;
use super::super::state::{ChildRequest, Execution, StepState, Waiting, WorkflowState};
use super::draft::{Draft, open_executions};

impl Draft<'_> {
    pub(super) fn pause(&mut self, by: &str, reason: &str) -> Result<(), Refusal> {
        self.refuse_ended()?;
        if self.is_stopping() {
            return Err(self.wrong_state("it ends as soon as what is under way has stopped"));
        }
        if self.is_paused() {
            return Ok(());
        }
        self.push(EventKind::PauseAsked {
            by: by.to_owned(),
            reason: reason.to_owned(),
        });
        // A machine that still thinks that one is ready is refused when it asks for it.
        let ready: Vec<ExecutionId> = open_executions(&self.workflow)
            .filter(|execution| execution.waiting == Some(Waiting::Machine) && execution.pause.is_none())
            .map(|execution| execution.id)
            .take(MAX_STEPS)
            .collect();
        for id in ready {
            self.unwant(id);
        }
        Ok(())
    }

    pub(super) fn unpause(&mut self, by: &str) -> Result<(), Refusal> {
        self.refuse_ended()?;
        if !self.is_paused() {
            return Err(self.wrong_state("it is not paused"));
        }
        self.push(EventKind::Unpaused { by: by.to_owned() });
        self.act_on_due();
        Ok(())
    }

    /// While it is PAUSING or PAUSED. True: something went on.
    pub(super) fn settle_pause(&mut self) -> bool {
        let children = self.all(|execution| {
            execution.waiting == Some(Waiting::Children)
                && !matches!(
                    execution.child_asked,
                    Some(ChildRequest::Pause | ChildRequest::Cancel)
                )
        });
        for id in children {
            if !self.takes_a_step() {
                return true;
            }
            self.ask_child(id, ChildRequest::Pause, None, "its parent is paused");
        }
        let is_pausing = self.workflow.head.state == WorkflowState::Pausing;
        if is_pausing && !open_executions(&self.workflow).any(|execution| execution.under_way().is_some()) {
            self.push(EventKind::Paused);
        }
        false
    }

    /// After a pause: what became ready in it, or before it, is told to its machine. True: something went on.
    pub(super) fn wake(&mut self) -> bool {
        let pauses = self.workflow.head.pauses;
        if pauses == 0 {
            return false;
        }
        let asleep = self.all(|execution| match execution.waiting {
            _ if execution.pause.is_some() => false,
            Some(Waiting::Machine) => execution.wanted != pauses,
            Some(Waiting::Approval) => !execution.is_asked(),
            Some(Waiting::Children) => execution.child_asked == Some(ChildRequest::Pause),
            Some(Waiting::Resume) => true,
            Some(Waiting::Time | Waiting::Answer) | None => false,
        });
        let mut went_on = false;
        for id in asleep {
            // One that acts may end the workflow, and with it the others.
            if !self.is_going() {
                return true;
            }
            if !self.takes_a_step() {
                return went_on;
            }
            went_on = true;
            self.wake_one(id);
        }
        went_on
    }

    /// Goes on with an execution that has slept.
    pub(super) fn wake_one(&mut self, id: ExecutionId) {
        let waiting = self
            .workflow
            .execution(id)
            .and_then(|execution| execution.waiting);
        match waiting {
            Some(Waiting::Machine) => {
                self.push(EventKind::Resumed {
                    execution: id,
                    waiting: Waiting::Machine,
                    due: None,
                    child: None,
                });
                self.want(id);
            }
            Some(Waiting::Children) => self.ask_child(id, ChildRequest::Unpause, None, ""),
            _ => self.resume(id),
        }
    }

    fn all(&self, which: impl Fn(&Execution) -> bool) -> Vec<ExecutionId> {
        open_executions(&self.workflow)
            .filter(|execution| which(execution))
            .map(|execution| execution.id)
            .collect()
    }

    /// Passes a request on to the sub-workflow of an execution.
    pub(super) fn ask_child(
        &mut self,
        id: ExecutionId,
        request: ChildRequest,
        then: Option<StepState>,
        reason: &str,
    ) {
        let child = self
            .workflow
            .execution(id)
            .and_then(|execution| execution.child.clone());
        let Some(child) = child else {
            return;
        };
        self.push(EventKind::ChildAsked {
            execution: id,
            request,
            then,
        });
        let by = format!("workflow {}", self.workflow.head.id);
        let reason = reason.to_owned();
        self.effects.push(match request {
            ChildRequest::Pause => Effect::PauseChild {
                id: child,
                by,
                reason,
            },
            ChildRequest::Unpause => Effect::UnpauseChild { id: child, by },
            ChildRequest::Cancel => Effect::CancelChild { id: child, reason },
        });
    }
}
