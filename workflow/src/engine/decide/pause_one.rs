//! One thing of a workflow is held, and goes on: a pause of a task, or of one item of a `forEach`.
//!
//! It is to that thing what a pause is to the workflow: nothing of it begins, its clock stands still, what is under way runs
//! to the end of its action. What both hold goes on when both are lifted.

use super::super::MAX_PAUSED_AHEAD;
use super::super::command::Refusal;
use super::super::event::EventKind;
use super::super::ids::ExecutionId;
use super::super::state::{ChildRequest, Waiting};
use super::draft::Draft;
use super::thing::{Thing, refuse_long};

impl Draft<'_> {
    pub(super) fn pause_one(
        &mut self,
        task: &str,
        item: Option<usize>,
        (by, reason): (&str, &str),
    ) -> Result<(), Refusal> {
        self.refuse_over()?;
        refuse_long(reason)?;
        let (index, execution) = match self.thing(task, item, "pause")? {
            Thing::Execution(id) => (id.task, Some(id)),
            Thing::Ahead { task, .. } | Thing::Begun { task, .. } => (task, None),
        };
        let is_held = match execution {
            Some(id) => self.is_held_already(id, task, item)?,
            None => self.is_held_before(index, task, item)?,
        };
        if is_held {
            return Ok(());
        }
        self.push(EventKind::TaskPaused {
            task: index,
            item,
            execution,
            by: by.to_owned(),
            reason: reason.to_owned(),
        });
        let waiting = execution.and_then(|id| {
            let execution = self.workflow.execution(id)?;
            Some((id, execution.waiting?, execution.child_asked))
        });
        match waiting {
            // A machine that still thinks that it is ready is refused when it asks for it.
            Some((id, Waiting::Machine, _)) => self.unwant(id),
            Some((id, Waiting::Children, None | Some(ChildRequest::Unpause))) => {
                self.ask_child(id, ChildRequest::Pause, None, "its task is paused");
            }
            _ => {}
        }
        Ok(())
    }

    /// Of one that was made.
    fn is_held_already(&self, id: ExecutionId, task: &str, item: Option<usize>) -> Result<bool, Refusal> {
        let Some(execution) = self.workflow.execution(id) else {
            return Ok(true);
        };
        if execution.state.is_final() {
            return Err(self.nothing_left(task, item, execution.state, "pause"));
        }
        if execution.skip.is_some() {
            let why = "is SKIPPED when what it has under way has stopped: nothing of it is left to pause";
            return Err(self.not_of_task(task, item, why.to_owned()));
        }
        Ok(execution.pause.is_some())
    }

    /// Of a task, or an item, that was not made.
    fn is_held_before(&self, index: usize, task: &str, item: Option<usize>) -> Result<bool, Refusal> {
        let Some(state) = self.workflow.head.tasks.get(index) else {
            return Ok(true);
        };
        if state.state.is_final() {
            return Err(self.nothing_left(task, item, state.state, "pause"));
        }
        let refused = |why: String| Err(self.not_of_task(task, item, why));
        let (is_held, is_skipped) = match item {
            None => (state.pause.is_some(), state.skip.is_some()),
            Some(item) => (
                state.pauses.contains_key(&item),
                state.skips.contains_key(&item) || state.skip.is_some(),
            ),
        };
        if is_skipped {
            return refused("is SKIPPED when its turn comes: nothing of it is left to pause".to_owned());
        }
        if is_held {
            return Ok(true);
        }
        if item.is_none() && state.items > 0 && state.made >= state.items {
            return refused(format!(
                "goes over {} items, which have all begun: name one of them, such as {task}[0]",
                state.items
            ));
        }
        if item.is_some() && state.pauses.len() >= MAX_PAUSED_AHEAD {
            return refused(format!(
                "has {MAX_PAUSED_AHEAD} items that are paused before their turn, which is the most: pause {task}, which \
                 starts no further item then"
            ));
        }
        Ok(false)
    }

    pub(super) fn unpause_one(&mut self, task: &str, item: Option<usize>, by: &str) -> Result<(), Refusal> {
        self.refuse_over()?;
        let (index, execution) = match self.thing(task, item, "resume")? {
            Thing::Execution(id) => (id.task, Some(id)),
            Thing::Ahead { task, .. } | Thing::Begun { task, .. } => (task, None),
        };
        let state = self.workflow.head.tasks.get(index);
        let is_held = match execution {
            Some(id) => {
                let execution = self.workflow.execution(id);
                execution.is_some_and(|execution| execution.pause.is_some())
            }
            None => state.is_some_and(|state| match item {
                None => state.pause.is_some(),
                Some(item) => state.pauses.contains_key(&item),
            }),
        };
        if !is_held {
            let id = &self.workflow.head.id;
            let cure = if item.is_some() && state.is_some_and(|state| state.pause.is_some()) {
                format!("; its task is, which starts no further item: farrier workflow resume {id} {task}")
            } else if self.is_paused() {
                format!("; the workflow is: farrier workflow resume {id}")
            } else {
                String::new()
            };
            return Err(self.not_of_task(task, item, format!("is not paused{cure}")));
        }
        self.push(EventKind::TaskResumed {
            task: index,
            item,
            execution,
            by: by.to_owned(),
        });
        if !self.is_paused() {
            // One that was due goes on with that; it slept no more.
            let asleep = execution.filter(|id| self.sleeps(*id));
            self.act_on_due();
            if let Some(id) = asleep.filter(|id| self.is_going() && self.sleeps(*id)) {
                self.wake_one(id);
            }
        }
        Ok(())
    }

    /// Whether an execution that nothing holds any more waits to be woken.
    fn sleeps(&self, id: ExecutionId) -> bool {
        let execution = self.workflow.execution(id);
        execution.is_some_and(|execution| match execution.waiting {
            Some(Waiting::Machine | Waiting::Resume) => true,
            Some(Waiting::Approval) => !execution.is_asked(),
            Some(Waiting::Children) => execution.child_asked == Some(ChildRequest::Pause),
            Some(Waiting::Time | Waiting::Answer) | None => false,
        })
    }

    /// Whether one that is to be made now is held.
    pub(super) fn is_held_ahead(&self, id: ExecutionId) -> bool {
        let state = self.workflow.head.tasks.get(id.task);
        state.is_some_and(|state| state.pauses.contains_key(&id.item))
    }
}
