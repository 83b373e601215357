//! Attempts: handed out, reported, lost, late.

use std::collections::BTreeSet;

use workflow::engine::{AttemptId, ExecutionId, Loss, Outcome, StepState};

use super::History;

/// An attempt, as the events have it.
pub(crate) struct AttemptSeen {
    pub(crate) worker: String,
    pub(crate) boot_id: String,
    /// The agent said how it ended (in time or late), or that the machine leaves with it.
    pub(crate) over: bool,
    /// Given up.
    pub(crate) lost: bool,
    started: bool,
    leaving: bool,
    /// It may be the extra run of `on-failure` or `on-timeout`, whose start is not told.
    may_be_extra: bool,
    /// What was reported, by [`Outcome::name`].
    reported: BTreeSet<&'static str>,
}

impl AttemptSeen {
    /// Whether the events say that the agent reported this.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.reported.contains(word) || (word == "started" && self.may_be_extra)
    }
}

impl History {
    pub(super) fn dispatched(&mut self, id: &AttemptId, worker: &str, boot_id: &str) -> Result<(), String> {
        self.starts_things("an attempt is handed out")?;
        let task = self.definition.tasks.get(id.execution.task);
        let asks = task.is_some_and(|task| task.approve.is_some());
        let action = task.and_then(|task| task.actions.get(id.action));
        let has_extra =
            action.is_some_and(|action| !action.on_failure.is_empty() || !action.on_timeout.is_empty());
        let may_be_extra = id.attempt > 1 && has_extra;
        self.needs_are_over(id.execution.task)?;
        self.has_left(id.execution, StepState::Idle)?;
        self.not_held(id.execution, "is handed out")?;
        let steps = self.steps;
        let execution = self.open(id.execution)?;
        if steps && !execution.released.contains(&id.action) && !may_be_extra {
            return Err(format!(
                "attempt {id} is handed out, and nobody has released its action"
            ));
        }
        if execution.asks.is_some() {
            return Err(format!("attempt {id} is handed out while somebody is asked"));
        }
        if asks && !execution.approved {
            return Err(format!("attempt {id} is handed out before the task was approved"));
        }
        if execution.worker != worker {
            return Err(format!(
                "attempt {id} is handed to {worker}, its worker is {}",
                execution.worker
            ));
        }
        if let Some(other) = &execution.under_way {
            return Err(format!("attempt {id} is handed out while {other} is under way"));
        }
        if let Some(before) = (0..id.action).find(|action| !execution.done.contains(action)) {
            return Err(format!(
                "attempt {id} is handed out before action {before} is done"
            ));
        }
        let last = execution.last.insert(id.action, id.attempt).unwrap_or(0);
        if id.attempt != last + 1 {
            return Err(format!("attempt {id} follows attempt {last}"));
        }
        execution.done.retain(|action| *action < id.action);
        execution.under_way = Some(id.clone());
        let seen = AttemptSeen {
            worker: worker.to_owned(),
            boot_id: boot_id.to_owned(),
            over: false,
            lost: false,
            started: false,
            leaving: false,
            may_be_extra,
            reported: BTreeSet::new(),
        };
        match self.attempts.insert(id.clone(), seen) {
            Some(_) => Err(format!("attempt {id} is handed out twice")),
            None => Ok(()),
        }
    }

    pub(super) fn is_under_way(&self, id: &AttemptId, what: &str) -> Result<(), String> {
        let execution = self.executions.get(&id.execution);
        match execution.is_some_and(|execution| execution.under_way.as_ref() == Some(id)) {
            true => Ok(()),
            false => Err(format!("attempt {id} is {what}, and is not under way")),
        }
    }

    pub(super) fn attempt(&mut self, id: &AttemptId) -> Result<&mut AttemptSeen, String> {
        self.attempts
            .get_mut(id)
            .ok_or_else(|| format!("attempt {id} was never handed out"))
    }

    pub(super) fn reported(&mut self, id: &AttemptId, outcome: &Outcome) -> Result<(), String> {
        self.is_under_way(id, "reported")?;
        let attempt = self.attempt(id)?;
        attempt.reported.insert(outcome.name());
        if matches!(outcome, Outcome::Started) {
            return match std::mem::replace(&mut attempt.started, true) {
                true => Err(format!("attempt {id} started twice")),
                false => Ok(()),
            };
        }
        attempt.over = true;
        attempt.leaving = matches!(outcome, Outcome::Leaving { .. });
        let execution = self.open(id.execution)?;
        match outcome {
            // Under way until the machine is back; for the last thing on a machine leaving is enough.
            Outcome::Leaving { .. } => return Ok(()),
            Outcome::Succeeded { .. } => drop(execution.done.insert(id.action)),
            _ => {}
        }
        execution.under_way = None;
        Ok(())
    }

    /// A machine that has left with the last action of its task, or with an extra run, or that nobody waits for any more
    /// since the execution ends as `state`: the attempt is over.
    pub(super) fn has_left(&mut self, id: ExecutionId, state: StepState) -> Result<(), String> {
        let actions = self
            .definition
            .tasks
            .get(id.task)
            .map_or(0, |task| task.actions.len());
        let Some(attempt) = self.open(id)?.under_way.clone() else {
            return Ok(());
        };
        let is_last = attempt.action + 1 == actions;
        let seen = self.attempt(&attempt)?;
        let nobody_waits = state.is_final() && state != StepState::Success;
        if seen.leaving && (is_last || seen.may_be_extra || nobody_waits) {
            let execution = self.open(id)?;
            execution.under_way = None;
            if is_last {
                execution.done.insert(attempt.action);
            }
        }
        Ok(())
    }

    pub(super) fn lost(&mut self, id: &AttemptId, why: &Loss) -> Result<(), String> {
        self.is_under_way(id, "lost")?;
        let attempt = self.attempt(id)?;
        attempt.lost = true;
        match why {
            Loss::OtherBoot { boot_id } if *boot_id == attempt.boot_id => {
                return Err(format!("attempt {id} is lost by another boot, which is its own"));
            }
            // The boot that it was handed to says that it never got it.
            Loss::Forgotten => attempt.over = true,
            Loss::OtherBoot { .. } | Loss::Silence { .. } => {}
        }
        self.open(id.execution)?.under_way = None;
        Ok(())
    }

    pub(super) fn returned(&mut self, id: &AttemptId, boot_id: &str) -> Result<(), String> {
        self.is_under_way(id, "back")?;
        let attempt = self.attempt(id)?;
        if !attempt.leaving || attempt.boot_id == boot_id {
            return Err(format!("attempt {id} is done by a return without having left"));
        }
        let execution = self.open(id.execution)?;
        execution.under_way = None;
        execution.done.insert(id.action);
        Ok(())
    }

    pub(super) fn late(&mut self, id: &AttemptId, outcome: &Outcome) -> Result<(), String> {
        if self.is_under_way(id, "late").is_ok() && !self.attempt(id)?.over {
            return Err(format!("the report of attempt {id} is late, and it is under way"));
        }
        let attempt = self.attempt(id)?;
        attempt.reported.insert(outcome.name());
        attempt.over |= !matches!(outcome, Outcome::Started);
        Ok(())
    }
}
