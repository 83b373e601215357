//! Attempts: how they end, what is tried again, and what ends with them.

use super::{At, End, Flow, Letter, Model, Told};
use crate::plan::{Again, Work};

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Failed,
    /// Failed, with the reason "Special".
    Special,
    Lost,
    /// As it was asked to.
    Stopped,
    /// A sub-workflow that a person cancelled.
    SubCancelled,
    SubFailed,
    Succeeded,
    TimedOut,
}

impl Model {
    pub(crate) fn ended(&mut self, task: usize, item: usize, outcome: Outcome) {
        if matches!(self.flow, Flow::Stopping(_)) {
            self.tasks[task].items[item].at = At::Over(self.end_while_stopping(task, item, outcome));
        } else if self.is_skipped_with(task, item, outcome) {
            self.over(task, item, End::Skipped);
        } else if let Some(how) = self.tasks[task].items[item].cleaning.take() {
            self.give_up(task, item, how);
        } else if self.tasks[task].items[item].timed_out && !self.is_last_done(task, item, outcome) {
            self.give_up(task, item, Outcome::TimedOut);
        } else if outcome == Outcome::Succeeded {
            self.next_action(task, item);
        } else {
            self.failed(task, item, outcome);
        }
        self.look();
    }

    /// Whether a person's skip counts: it does unless that was the end of its last action, and a good one.
    fn is_skipped_with(&self, task: usize, item: usize, outcome: Outcome) -> bool {
        let one = &self.tasks[task].items[item];
        one.skipped && (one.is_cleaning() || !self.is_last_done(task, item, outcome))
    }

    /// Whether that was the end of the last action, and a good one: the task is done, whatever was asked of it meanwhile.
    fn is_last_done(&self, task: usize, item: usize, outcome: Outcome) -> bool {
        let Work::Actions(_, doings) = &self.plan.tasks[task].work else {
            unreachable!("only actions end")
        };
        outcome == Outcome::Succeeded && self.tasks[task].items[item].action + 1 == doings.len()
    }

    /// The time of its task has passed.
    pub(super) fn time_out(&mut self, task: usize, item: usize) {
        let one = &mut self.tasks[task].items[item];
        match (one.at, one.cleaning) {
            (At::Away, _) => one.timed_out = true,
            (At::Sub { .. }, _) => {
                one.timed_out = true;
                self.tell_sub(task, item, Told::Cancel, Letter::Cancel);
            }
            // The extra run changes nothing of how its action ended, and neither does that it comes too late.
            (_, Some(how)) => self.give_up(task, item, how),
            _ => self.give_up(task, item, Outcome::TimedOut),
        }
    }

    pub(super) fn next_action(&mut self, task: usize, item: usize) {
        let Work::Actions(_, doings) = &self.plan.tasks[task].work else {
            unreachable!("only actions are handed out")
        };
        let one = &mut self.tasks[task].items[item];
        one.tries = 0;
        if one.action + 1 == doings.len() {
            one.at = At::Over(End::Success);
        } else {
            one.action += 1;
            one.at = At::Ready;
        }
    }

    pub(super) fn failed(&mut self, task: usize, item: usize, how: Outcome) {
        let Work::Actions(_, doings) = &self.plan.tasks[task].work else {
            unreachable!("only actions fail")
        };
        let one = &mut self.tasks[task].items[item];
        let doing = &doings[one.action];
        let delay = match &doing.again {
            Some(again) => again.before_try(how, one.tries + 1),
            // Lost attempts are made again by themselves: three in all.
            None => (how == Outcome::Lost && one.tries < 3).then_some(0),
        };
        if let Some(delay) = delay {
            one.at = self.now.delayed(delay);
            return;
        }
        let cleans = match how {
            Outcome::Failed | Outcome::Special => doing.on_failure,
            Outcome::TimedOut => doing.on_timeout,
            _ => false,
        };
        // The extra run comes after the last attempt, when the task is not tried again either.
        let whole = self.plan.tasks[task].again.as_ref();
        let is_last = whole.is_none_or(|again| again.before_try(how, one.task_tries + 1).is_none());
        if cleans && is_last {
            one.cleaning = Some(how);
            one.at = At::Ready;
        } else {
            self.give_up(task, item, how);
        }
    }

    /// The action has failed for good: perhaps the whole task is tried again.
    pub(super) fn give_up(&mut self, task: usize, item: usize, how: Outcome) {
        let one = &mut self.tasks[task].items[item];
        let again = self.plan.tasks[task].again.as_ref();
        if let Some(delay) = again.and_then(|again| again.before_try(how, one.task_tries + 1)) {
            one.task_tries += 1;
            one.action = 0;
            one.tries = 0;
            one.timed_out = false;
            one.budget = None;
            one.at = At::Delayed {
                due: self.now + delay,
            };
            // A pause holds it back.
            if delay == 0
                && (self.flow == Flow::Running && !self.tasks[task].items[item].held
                    || matches!(self.plan.tasks[task].work, Work::Actions(..)))
            {
                self.try_now(task, item);
            }
            return;
        }
        let end = if how == Outcome::TimedOut {
            End::Timeout
        } else {
            End::Failed
        };
        self.over(task, item, end);
    }

    /// A delay is over.
    pub(super) fn try_now(&mut self, task: usize, item: usize) {
        match self.plan.tasks[task].work {
            Work::Workflow { .. } => self.begin_sub(task, item),
            _ => self.tasks[task].items[item].at = At::Ready,
        }
    }

    pub(super) fn over(&mut self, task: usize, item: usize, end: End) {
        self.tasks[task].items[item].at = At::Over(end);
    }

    /// What was done before it was asked to stop is done; an extra run changes nothing of how its action ended.
    pub(super) fn end_while_stopping(&self, task: usize, item: usize, outcome: Outcome) -> End {
        let one = &self.tasks[task].items[item];
        match (one.cleaning, outcome) {
            _ if self.is_skipped_with(task, item, outcome) => End::Skipped,
            (Some(Outcome::TimedOut), _) => End::Timeout,
            (Some(_), _) => End::Failed,
            (None, _) if self.is_last_done(task, item, outcome) => End::Success,
            (None, _) if one.timed_out => End::Timeout,
            (None, _) => End::Cancelled,
        }
    }
}

trait Clock {
    fn delayed(self, delay: u64) -> At;
}

impl Clock for u64 {
    fn delayed(self, delay: u64) -> At {
        match delay {
            0 => At::Ready,
            delay => At::Delayed { due: self + delay },
        }
    }
}

impl Again {
    /// The delay before a try, if there is to be one after this failure.
    pub(super) fn before_try(&self, how: Outcome, number: u32) -> Option<u64> {
        let names: &[&str] = match how {
            Outcome::Failed => &["failed", "Other"],
            Outcome::Special => &["failed", "Special"],
            Outcome::Lost => &["lost"],
            Outcome::SubCancelled => &["failed", "Cancelled"],
            Outcome::SubFailed => &["failed", "Workflow"],
            Outcome::TimedOut => &["timeout"],
            Outcome::Stopped | Outcome::Succeeded => &[],
        };
        let wanted = self.on.is_empty() || self.on.iter().any(|on| names.contains(on));
        if !wanted || number > self.attempts {
            return None;
        }
        let mut delay = self.delay;
        for _ in 2..number {
            delay = if self.doubles { delay * 2 } else { delay };
        }
        Some(if self.longest > 0 {
            delay.min(self.longest)
        } else {
            delay
        })
    }
}
