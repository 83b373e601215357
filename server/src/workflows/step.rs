//! Steps of the coordinator on the runtime: in turn, committed with others in one sync, and what follows from them.

use std::time::Duration;

use store::{Commit, Revision};
use workflow::engine::Command;

use super::timers::Timer;
use crate::clock;
use crate::control::{Change, ControlPlane};
use crate::database::off_the_runtime;
use crate::tasks::broken_off;
use coordinator::Error;
use coordinator::steps::rows::contended;
use coordinator::{Answer, Coordinator, Input, Next, Plan};

/// After this many conflicts a step lets others go first.
const EAGER_TRIES: usize = 8;

impl ControlPlane {
    /// Does a step. What it answers is durable. Must not be broken off: see [`ControlPlane::step_to_its_end`].
    pub(crate) async fn step(&self, input: &Input) -> Result<Answer, Error> {
        let (answer, then) = self.step_and_then(input).await?;
        for next in then {
            self.follow_up(next);
        }
        Ok(answer)
    }

    /// A step for a caller that may go away while it is under way.
    pub(crate) async fn step_to_its_end(&self, input: Input) -> Result<Answer, Error> {
        let control = self.clone();
        tokio::spawn(async move { control.step(&input).await })
            .await
            .map_err(|error| broken_off(&error))?
    }

    pub(crate) async fn step_and_then(&self, input: &Input) -> Result<(Answer, Vec<Next>), Error> {
        // The store's preconditions make steps safe; that those of one workflow wait for each other makes them cheap.
        let mut turn = match whose(input) {
            Some(id) => Some(self.workflow_turn(id).lock().await),
            None => None,
        };
        let coordinator = &self.inner.coordinator;
        let mut tries = 0;
        loop {
            tries += 1;
            let mut plan = self.prepare(input).await?;
            let commit = std::mem::take(&mut plan.commit);
            if commit.operations.is_empty() {
                let Plan { answer, then, .. } = plan;
                return Ok((answer, then));
            }
            let first = std::mem::take(&mut plan.first);
            match self.commit_after(first, commit).await {
                Ok(revision) => {
                    coordinator.committed(&plan, revision);
                    let Plan { answer, then, .. } = plan;
                    return Ok((answer, then));
                }
                Err(error) => {
                    coordinator.forget(&plan);
                    if !error
                        .store()
                        .is_some_and(|error| input.may_try_again(error, tries))
                    {
                        // A failed commit may have happened: what follows from it finds out, or finds nothing to do.
                        if !error.is_conflict() {
                            let then = plan.then.into_iter();
                            then.filter(|next| !matches!(next, Next::Turned { .. }))
                                .for_each(|next| self.follow_up(next));
                        }
                        return Err(error);
                    }
                    // A rack's agents ask for work at once, of a workflow that only their plans know: from here on they
                    // wait for each other, too, or the last ones would lose until they gave up.
                    if let Some(id) = error.store().and_then(contended)
                        && turn.is_none()
                    {
                        turn = Some(self.workflow_turn(id).lock().await);
                    }
                }
            }
            if tries > EAGER_TRIES {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// What takes more than a few short reads is done on a thread that may block.
    async fn prepare(&self, input: &Input) -> Result<Plan, Error> {
        let coordinator = &self.inner.coordinator;
        if coordinator.is_prepared_soon(input) {
            return coordinator.prepare(clock::both(), input);
        }
        let input = input.clone();
        self.ask_coordinator(move |coordinator| coordinator.prepare(clock::both(), &input))
            .await
    }

    /// Asks the coordinator for what it may have to read, on a thread that may block.
    pub(crate) async fn ask_coordinator<T, F>(&self, ask: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Coordinator) -> Result<T, Error> + Send + 'static,
    {
        let inner = self.inner.clone();
        off_the_runtime(move || ask(&inner.coordinator)).await
    }

    /// `commit`, when what is to be durable before it is.
    async fn commit_after(&self, first: Vec<Commit>, commit: Commit) -> Result<Revision, Error> {
        for piece in first {
            self.inner.db.commit_of(piece).await?;
        }
        self.inner.db.commit_of(commit).await
    }

    pub(crate) fn follow_up(&self, next: Next) {
        match next {
            Next::Changed { workflow } => self.changed(Change::Workflow(workflow)),
            Next::Turned {
                root,
                name,
                state,
                has_ended: false,
            } => tracing::info!(workflow = root, name, state, "a workflow is made"),
            Next::Turned {
                root, name, state, ..
            } => tracing::info!(workflow = root, name, state, "a workflow has ended"),
            Next::Wake(machine) => self.inner.agents.poke(&machine),
            // Nobody receives any more when we stop: it is found in the store again.
            Next::Carry(key) => drop(self.inner.wants.outboxes.send(key)),
            Next::Ended { root } => drop(self.inner.wants.ended.send(root)),
            Next::Ask { workflow } => drop(self.inner.wants.answers.send(workflow)),
            Next::Timer { at, workflow } => drop(self.inner.wants.timers.send(Timer { at, workflow })),
        }
    }

    pub(crate) fn workflow_turn(&self, id: &str) -> &tokio::sync::Mutex<()> {
        self.inner.workflow_turns.of(id)
    }

    /// Of whoever archives what is of this root, brings it back or deletes it. Taken before the turns of its workflows.
    pub(crate) fn archive_turn(&self, root: &str) -> &tokio::sync::Mutex<()> {
        self.inner.archive_turns.of(root)
    }
}

/// The workflow that a step is about, as far as that is known before.
fn whose(input: &Input) -> Option<&str> {
    match input {
        Input::Create(new) => Some(&new.creation.id),
        Input::Asked {
            workflow, command, ..
        }
        | Input::Command { workflow, command } => match command {
            Command::Create(_) => None,
            _ => Some(workflow),
        },
        Input::Timer { workflow, .. } => Some(workflow),
        Input::Report(report) => Some(&report.attempt.workflow),
        Input::Withheld { attempt, .. } => Some(&attempt.workflow),
        Input::Attach { .. }
        | Input::BootDisk { .. }
        | Input::Work { .. }
        | Input::Carry { .. }
        | Input::Silent { .. }
        | Input::Blocked { .. } => None,
    }
}
