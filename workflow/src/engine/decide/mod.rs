//! What a command leads to.
//!
//! Each command has its own beginning; all go on with [`Draft::go_on`], which does whatever the state now calls for:
//! starts tasks, makes executions, ends what is over.

mod answers;
mod approvals;
mod attempts;
mod children;
mod claims;
mod create;
pub(super) mod draft;
mod executions;
mod fill;
mod goto;
mod label;
mod outcome;
mod outputs;
mod pause;
mod pause_one;
mod policy;
mod retry;
mod retry_one;
mod scope;
mod skip;
mod start;
mod stop;
mod tasks;
mod thing;
mod timers;

pub(super) use answers::{questions_of, told_of_answers, waits_for_answers};
pub(super) use timers::{next_due_of, timeout_of};

use tasks::Told;

use super::command::{Command, Decision, Refusal};
use super::state::{Workflow, WorkflowState};
use super::{MAX_ROWS, Now, UnixMillis};
use draft::Draft;

/// What `command` leads to. `workflow` is `None` only for [`Command::Create`].
///
/// No events: the command changes nothing (a repeated report). The caller stores everything of the decision in one commit.
pub fn decide(workflow: Option<&Workflow>, command: &Command, now: UnixMillis) -> Result<Decision, Refusal> {
    decide_within(workflow, command, now.into(), MAX_ROWS)
}

/// The same for a caller that has room for so many rows (events, executions and lists) in its commit. What the command
/// itself does is always done, and a step of what follows from it where there is nothing else:
/// What does not fit comes with [`Command::Continue`].
pub fn decide_within(
    workflow: Option<&Workflow>,
    command: &Command,
    now: Now,
    most_rows: usize,
) -> Result<Decision, Refusal> {
    let before = match (workflow, command) {
        (None, Command::Create(creation)) => {
            let mut draft = create::create(creation, now, most_rows);
            draft.go_on();
            return Ok(draft.finish());
        }
        (Some(workflow), Command::Create(_)) => {
            return Err(Refusal::Exists {
                id: workflow.head.id.clone(),
            });
        }
        (None, _) => return Err(Refusal::Missing),
        (Some(workflow), _) => workflow,
    };
    let mut draft = Draft::new(Some(before), before.clone(), now, Vec::new(), most_rows);
    match command {
        Command::Create(_) => {}
        Command::Continue => draft.act_on_due(),
        Command::Dispatch {
            execution,
            worker,
            boot_id,
            epoch,
        } => draft.dispatch(*execution, worker, boot_id, *epoch)?,
        Command::Report { attempt, outcome } => draft.report(attempt, outcome)?,
        Command::Returned { attempt, boot_id } => draft.returned(attempt, boot_id)?,
        Command::Lost { attempt, why } => draft.lost(attempt, why)?,
        Command::Timer => draft.act_on_due(),
        Command::Answered { execution, seen } => draft.answered(*execution, seen),
        Command::Answer {
            task,
            instance,
            selector,
            machines,
            unknown,
        } => draft.answer(
            *task,
            *instance,
            &Told {
                selector,
                machines,
                unknown,
            },
        ),
        Command::NoAnswer {
            task,
            instance,
            selector,
            machine,
            why,
        } => draft.no_answer(*task, *instance, selector, machine, why),
        Command::ChildEnded {
            execution,
            child,
            run,
            state,
            message,
            outputs,
            workers,
        } => draft.child_ended(*execution, child, *run, (*state, message, outputs), workers),
        Command::Pause { by, reason } => draft.pause(by, reason)?,
        Command::Unpause { by } => draft.unpause(by)?,
        Command::Label { set, remove, by } => draft.label(set, remove, by)?,
        Command::Start { at, by } => draft.start(*at, by)?,
        Command::Cancel { by, reason } => draft.cancel(by, reason)?,
        Command::Retry { by } => draft.retry(by)?,
        Command::RetryChild { by } => draft.open_run_again(by)?,
        Command::Decide {
            task,
            item,
            approved,
            by,
            groups,
            comment,
        } => draft.decided(task, *item, *approved, (by, groups, comment))?,
        Command::Skip {
            task,
            item,
            by,
            reason,
        } => draft.skip(task, *item, (by, reason))?,
        Command::PauseOne {
            task,
            item,
            by,
            reason,
        } => draft.pause_one(task, *item, (by, reason))?,
        Command::UnpauseOne { task, item, by } => draft.unpause_one(task, *item, by)?,
        Command::RetryOne { task, item, by } => draft.retry_one(task, *item, by)?,
        Command::SetPolicy { policy, by } => draft.set_policy(policy, by)?,
        Command::Deadlock { machine, with } => draft.deadlock(machine, with)?,
    }
    draft.go_on();
    Ok(draft.finish())
}

impl Draft<'_> {
    /// Does what the state calls for, until nothing is left to do now or the decision is long enough.
    fn go_on(&mut self) {
        loop {
            let head = &self.workflow.head;
            // Before its time it can be paused and ended, and nothing else.
            let is_later = head.start_at.is_some() && head.ending.is_none() && !self.is_paused();
            if head.state.is_final() || is_later {
                break;
            }
            let went_on = if head.ending.is_some() {
                self.stop_rest()
            } else if self.is_paused() {
                self.settle_pause()
            } else {
                self.wake() | self.police() | self.advance_tasks()
            };
            // An answer during a pause may have been the end of the last task; that of the workflow waits.
            if self.workflow.head.ending.is_none() && !self.is_paused() && !self.is_cut_short() {
                self.end_if_done();
            }
            if !went_on || self.is_cut_short() {
                break;
            }
        }
        self.release();
    }

    fn refuse_ended(&self) -> Result<(), Refusal> {
        let head = &self.workflow.head;
        if head.state.is_final() {
            return Err(Refusal::Ended {
                id: head.id.clone(),
                state: head.state,
            });
        }
        Ok(())
    }

    fn wrong_state(&self, cure: &'static str) -> Refusal {
        Refusal::WrongState {
            id: self.workflow.head.id.clone(),
            state: self.workflow.head.state,
            cure,
        }
    }

    fn is_stopping(&self) -> bool {
        matches!(
            self.workflow.head.state,
            WorkflowState::Ending | WorkflowState::Cancelling
        )
    }
}
