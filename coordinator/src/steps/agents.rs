//! What a machine's agent says, and what time without a word from it means.

use std::collections::BTreeSet;

use store::Commit;
use workflow::engine::machine::Attached;
use workflow::engine::{
    self, AttemptId, Command, Event, EventKind, Loss, Now, Outcome, StepState, WorkflowState,
};

use super::load::Known;
use super::step::Step;
use super::{Answer, Assignment, Coordinator, Next, Orders, Plan, Report};
use crate::data::{Changed, Trouble, versions};
use crate::error::Error;
use crate::last::Last;
use crate::machines::names::orphan;
use crate::machines::namespace_of;
use crate::namespaces::Reach;

/// Operations of one claim that is taken over or let go.
const OF_CLAIM: usize = 3;

impl Coordinator {
    pub(super) fn attach(
        &self,
        now: Now,
        machine: &str,
        boot_id: &str,
        running: Option<&AttemptId>,
        knows: &BTreeSet<AttemptId>,
    ) -> Result<Plan, Error> {
        let mut step = Step::new(self, now);
        step.hand(machine)?;
        self.take_over(&mut step, machine)?;
        let forgotten = self.forgotten(&mut step, machine, boot_id, knows)?;
        let work = step.machine(machine)?;
        let lost = match (work.attach(boot_id), forgotten) {
            (Attached::Unchanged, Some(attempt)) => {
                // Whoever remembers nothing counts its reports from 1 again.
                work.sequence = 0;
                work.lost(&attempt);
                work.stop(&attempt, "the agent has lost its memory of it");
                let why = Loss::Forgotten;
                Some((attempt.workflow.clone(), Command::Lost { attempt, why }))
            }
            (Attached::Unchanged | Attached::FenceDown, _) => None,
            (Attached::Returned(attempt), _) => {
                let boot_id = boot_id.to_owned();
                Some((attempt.workflow.clone(), Command::Returned { attempt, boot_id }))
            }
            (Attached::OtherBoot(attempt), _) => {
                let why = Loss::OtherBoot {
                    boot_id: boot_id.to_owned(),
                };
                Some((attempt.workflow.clone(), Command::Lost { attempt, why }))
            }
        };
        if let Some((workflow, command)) = lost
            && let Err(refusal) = step.command(&workflow, &command)?
        {
            tracing::warn!(machine, workflow, %refusal, "what an attach means for a workflow was refused");
        }
        let work = step.machine(machine)?;
        let mut assignment = assignment(work, None);
        let current = work.current.as_ref().map(|current| &current.attempt);
        if let Some(running) = running.filter(|running| current != Some(*running)) {
            assignment.orders = Orders::Stop {
                attempt: running.clone(),
                reason: "it is not what this machine is to run".into(),
            };
        }
        step.plan(Answer::Machine(assignment))
    }

    /// The attempt of this boot that the agent has said it started, and does not know of any more. To hand it out again, as is
    /// done with one whose start was never reported, would run it twice.
    fn forgotten(
        &self,
        step: &mut Step<'_>,
        machine: &str,
        boot_id: &str,
        knows: &BTreeSet<AttemptId>,
    ) -> Result<Option<AttemptId>, Error> {
        let work = step.machine(machine)?;
        let current = work.current.as_ref().filter(|current| {
            current.boot_id == boot_id
                && !current.lost
                && !current.leaving
                && !knows.contains(&current.attempt)
        });
        let Some(attempt) = current.map(|current| current.attempt.clone()) else {
            return Ok(None);
        };
        let workflow = step.workflow(&attempt.workflow)?;
        let has_started = workflow.as_deref().is_some_and(|workflow| {
            let execution = workflow.execution(attempt.execution);
            let action = execution.and_then(|execution| execution.actions.get(attempt.action));
            action.is_some_and(|action| {
                action.attempts == attempt.attempt && action.state == StepState::Running
            })
        });
        Ok(has_started.then_some(attempt))
    }

    pub(super) fn report(&self, now: Now, report: &Report) -> Result<Plan, Error> {
        let Report {
            machine,
            boot_id,
            epoch,
            sequence,
            attempt,
            outcome,
            data,
            untouched,
        } = report;
        let (data, untouched) = (data.as_ref(), *untouched);
        let outcome = outcome.as_ref();
        let mut step = Step::new(self, now);
        let work = step.hand(machine)?;
        if work.boot_id != *boot_id || work.epoch != *epoch {
            return step.plan(Answer::Stale);
        }
        if *sequence <= work.sequence {
            let assignment = assignment(work, None);
            return step.plan(Answer::Machine(assignment));
        }
        work.sequence = *sequence;
        let is_current = work
            .current
            .as_ref()
            .is_some_and(|current| current.attempt == *attempt);
        let leaves = matches!(outcome, Some(Outcome::Leaving { .. }));
        match outcome {
            Some(Outcome::Leaving { .. }) => work.left(attempt, false),
            Some(Outcome::Started) | None => {}
            Some(_) => work.ended(attempt),
        }
        match outcome {
            // Whoever leaves has done what it was to do.
            Some(Outcome::Succeeded { .. } | Outcome::Leaving { .. }) => work.disks.end(attempt, true, false),
            Some(Outcome::Started) | None => {}
            Some(_) => work.disks.end(attempt, false, untouched),
        }
        let mut ignored = None;
        match outcome {
            None => ignored = Some("it says nothing that this version knows".to_owned()),
            Some(_) if !is_current && !step.is_on(machine, attempt)? => {
                ignored = Some("it is not an attempt of this machine's".to_owned());
            }
            Some(outcome) => {
                let (outcome, merged) = self.with_data(&step, attempt, outcome, data)?;
                let attempt = attempt.clone();
                let id = attempt.workflow.clone();
                match step.command(&id, &Command::Report { attempt, outcome })? {
                    Ok(events) if events.iter().any(succeeded) => step.batch.take_in(&merged),
                    Ok(_) => {}
                    Err(refusal) => ignored = Some(refusal.to_string()),
                }
            }
        }
        if leaves && !self.is_under_way(&step, attempt)? {
            step.machine(machine)?.left(attempt, true);
        }
        step.hand_out(machine, Some(&attempt.workflow))?;
        let assignment = assignment(step.machine(machine)?, ignored);
        self.check_blocked(&mut step, machine)?;
        step.plan(Answer::Machine(assignment))
    }

    /// Nothing was pushed, so that nothing is fenced: the machine is free for what comes next.
    pub(super) fn withheld(
        &self,
        now: Now,
        machine: &str,
        epoch: u64,
        attempt: &AttemptId,
        (reason, message): (&str, &str),
    ) -> Result<Plan, Error> {
        let mut step = Step::new(self, now);
        let work = step.hand(machine)?;
        if work.epoch != epoch {
            return step.plan(Answer::Stale);
        }
        let is_current = work
            .current
            .as_ref()
            .is_some_and(|current| current.attempt == *attempt && !current.lost && !current.leaving);
        if is_current {
            work.ended(attempt);
            work.disks.end(attempt, false, true);
            let outcome = Outcome::Failed {
                reason: reason.to_owned(),
                message: message.to_owned(),
                exit_code: 0,
            };
            let id = attempt.workflow.clone();
            let attempt = attempt.clone();
            if let Err(refusal) = step.command(&id, &Command::Report { attempt, outcome })? {
                tracing::warn!(machine, workflow = id, %refusal, "the end of an attempt that was not pushed was refused");
            }
        }
        step.hand_out(machine, Some(&attempt.workflow))?;
        let assignment = assignment(step.machine(machine)?, None);
        self.check_blocked(&mut step, machine)?;
        step.plan(Answer::Machine(assignment))
    }

    /// The outcome with the version that its data become, and the rows of that; a failure where they are refused.
    fn with_data(
        &self,
        step: &Step<'_>,
        attempt: &AttemptId,
        outcome: &Outcome,
        data: Option<&Changed>,
    ) -> Result<(Outcome, Commit), Error> {
        let mut outcome = outcome.clone();
        let (Outcome::Succeeded { data_version, .. }, Some(data)) = (&mut outcome, data) else {
            return Ok((outcome, Commit::default()));
        };
        let Some(workflow) = step.workflow(&attempt.workflow)? else {
            return Ok((outcome, Commit::default()));
        };
        // A late report changes nothing.
        if !self.is_under_way(step, attempt)? {
            return Ok((outcome, Commit::default()));
        }
        match versions::merge(step.view()?.rows(), workflow.root(), data) {
            Ok(merged) => {
                *data_version = Some(merged.version);
                Ok((outcome, merged.commit))
            }
            Err(Trouble::Refused(refused)) => Ok((refused.into_outcome(), Commit::default())),
            Err(other) => Err(other.into()),
        }
    }

    pub(super) fn work(&self, now: Now, machine: &str, epoch: u64) -> Result<Plan, Error> {
        let mut step = Step::new(self, now);
        if step.hand(machine)?.epoch != epoch {
            return step.plan(Answer::Stale);
        }
        while !step.hand_out(machine, None)? {
            if !step.has_room(OF_CLAIM) {
                step.then.push(Next::Wake(machine.to_owned()));
                break;
            }
            if !self.take_over(&mut step, machine)? && !self.let_go(&mut step, machine)? {
                break;
            }
        }
        let assignment = assignment(step.machine(machine)?, None);
        self.check_blocked(&mut step, machine)?;
        step.plan(Answer::Machine(assignment))
    }

    pub(super) fn silent(&self, now: Now, machine: &str, for_ms: u64) -> Result<Plan, Error> {
        let mut step = Step::new(self, now);
        let work = step.machine(machine)?;
        let current = work.current.as_ref().filter(|_| may_be_lost(work));
        let Some(attempt) = current.map(|current| current.attempt.clone()) else {
            self.note_busy(machine, work);
            return step.plan(Answer::Done);
        };
        work.lost(&attempt);
        // When the agent is heard again it still runs.
        work.stop(
            &attempt,
            "it was given up as lost while the machine was out of contact",
        );
        let workflow = attempt.workflow.clone();
        let why = Loss::Silence { for_ms };
        if let Err(refusal) = step.command(&workflow, &Command::Lost { attempt, why })? {
            tracing::warn!(machine, workflow, %refusal, "the loss of an attempt was refused");
        }
        step.plan(Answer::Done)
    }

    /// # Errors
    /// [`Error::Refused`] while a workflow needs the machine.
    pub(super) fn boot_disk(&self, now: Now, machine: &str) -> Result<Plan, Error> {
        let mut step = Step::new(self, now);
        let work = step.machine(machine)?;
        if let Some(root) = work.holder() {
            return Err(Error::Refused(format!(
                "machine {machine:?} has workflow {root}, which has not ended: wait for it, or cancel it with `farrier \
                 workflow cancel {root}`"
            )));
        }
        work.disks.boot_by_hand();
        let key = format!("last/{machine}");
        if let Some(last) = step.view()?.get::<Last>(&key)?
            && last.value.boots().is_some()
        {
            step.batch.unchanged(&key, last.modified);
            step.batch.put(key, &last.value.without_boots());
        }
        step.plan(Answer::Done)
    }

    /// Work that was kept under one of the machine's workers while there was no such machine, as much of it as fits into
    /// the step. True: there was some.
    fn take_over(&self, step: &mut Step<'_>, machine: &str) -> Result<bool, Error> {
        let mut was_some = false;
        let Some(record) = crate::machines::named(step.view()?, &Reach::everything(), machine)? else {
            return Ok(was_some);
        };
        for worker in record.words() {
            let worker = orphan(&record.namespace, &worker);
            if worker == machine || namespace_of(step.view()?, &worker)?.is_some() {
                continue;
            }
            if self.known_machine(&worker)?.work == engine::Machine::default() {
                continue;
            }
            while step.has_room(OF_CLAIM) {
                let orphan = step.machine(&worker)?;
                let Some(root) = orphan.holder().map(str::to_owned) else {
                    *orphan = engine::Machine::default();
                    break;
                };
                was_some = true;
                let wants = orphan.wants.iter().filter(|want| want.root == root);
                let wants: Vec<_> = wants.cloned().collect();
                orphan.release(&root);
                let work = step.machine(machine)?;
                work.claim(&root);
                for want in wants {
                    work.want(&want.root, &want.workflow, want.execution);
                }
                step.batch.delete(format!("open/{worker}/{root}"));
                step.batch.put(format!("open/{machine}/{root}"), &());
                step.batch.put(format!("of/{machine}/{root}"), &());
            }
        }
        // It has not moved since the step read which names are its own.
        if was_some && let Some((modified, _)) = self.record_of(step.view()?, machine)? {
            step.batch.unchanged(format!("machine/{machine}"), modified);
        }
        Ok(was_some)
    }

    /// Releases a machine that is held for a root which has ended or is gone. True: there was one.
    fn let_go(&self, step: &mut Step<'_>, machine: &str) -> Result<bool, Error> {
        let work = step.machine(machine)?;
        if work.current.is_some() || work.leaving {
            return Ok(false);
        }
        let Some(root) = work.holder().map(str::to_owned) else {
            return Ok(false);
        };
        let known = self.known(&root)?;
        // A row of its outbox may say so.
        let may_come = |known: &Known| !known.workflow.head.state.is_final() || !known.pending.is_empty();
        if step.has(&root) || known.as_ref().is_some_and(may_come) {
            return Ok(false);
        }
        let last = known.map(|known| Last::of(&known.workflow, ""));
        let ended = last.as_ref().map_or(WorkflowState::Cancelled, |last| last.state);
        let work = step.machine(machine)?;
        work.release(&root);
        work.disks.release(&root, ended, true);
        step.batch.delete(format!("open/{machine}/{root}"));
        if let Some(last) = last {
            step.batch.put(format!("last/{machine}"), &last);
        }
        Ok(true)
    }

    fn is_under_way(&self, step: &Step<'_>, attempt: &AttemptId) -> Result<bool, Error> {
        let Some(workflow) = step.workflow(&attempt.workflow)? else {
            return Ok(false);
        };
        let action = workflow
            .execution(attempt.execution)
            .and_then(|execution| execution.actions.get(attempt.action));
        Ok(action.is_some_and(|action| action.attempts == attempt.attempt && action.is_under_way()))
    }
}

/// Its attempt is under way, as far as its workflow knows. A machine that said that it reboots is out of contact for as long
/// as its firmware takes.
pub(super) fn may_be_lost(work: &engine::Machine) -> bool {
    let current = work.current.as_ref();
    current.is_some_and(|current| !current.lost && !current.leaving)
}

fn succeeded(event: &Event) -> bool {
    let EventKind::Reported { outcome, .. } = &event.kind else {
        return false;
    };
    matches!(outcome, Outcome::Succeeded { .. })
}

fn assignment(work: &engine::Machine, ignored: Option<String>) -> Assignment {
    let orders = match &work.current {
        Some(current) if current.leaving => Orders::Leave,
        Some(current) => match &current.stop {
            Some(reason) => Orders::Stop {
                attempt: current.attempt.clone(),
                reason: reason.clone(),
            },
            None => Orders::Run(current.attempt.clone()),
        },
        None if work.leaving => Orders::Leave,
        None => Orders::Wait,
    };
    Assignment {
        epoch: work.epoch,
        sequence: work.sequence,
        ignored,
        orders,
    }
}
