//! What an agent is told to do: pushed, stopped, or why it waits.

use proto::v1::{Idle, RunAction, StopAction, server_message};
use workflow::engine::{self, AttemptId, Command, Workflow};

use super::{End, Session};
use crate::database::Batch;
use crate::workflows::next;
use crate::workflows::step::Step;

impl Session {
    /// Finds what the machine should do, and has it done.
    pub(super) async fn advance(&mut self) -> Result<(), End> {
        if self.agent.leaving {
            return Ok(());
        }
        loop {
            let workers = self.handle.workers.clone();
            let open = self
                .control
                .inner
                .db
                .with(move |view| next::open(view, &workers))
                .await?;
            let Some(id) = open else {
                return self.nothing_to_do().await;
            };
            let mut state = None;
            for worker in self.handle.workers.clone() {
                let (boot_id, running) = (self.agent.boot_id.clone(), self.running.clone());
                let command = Command::Attached {
                    worker,
                    boot_id,
                    running,
                };
                match self.control.command(&id, &command, Batch::default()).await? {
                    Step::Done(workflow) => state = Some(*workflow),
                    // Deleted, or ended, in this moment.
                    Step::Refused(_) => {}
                }
            }
            match state {
                Some(state) if !state.state.is_final() => return self.work(&state).await,
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }

    /// Pushes and stops what the workflow says.
    async fn work(&mut self, state: &Workflow) -> Result<(), End> {
        let mut waits = None;
        for worker in self.handle.workers.clone() {
            if let Some((attempt, reason)) = engine::stop_due(state, &worker)
                && self.stopping.as_ref() != Some(&attempt)
            {
                self.stopping = Some(attempt.clone());
                let stop = StopAction {
                    attempt_id: attempt.0,
                    reason,
                };
                return self.send(server_message::Kind::Stop(stop)).await;
            }
            if let Some(dispatch) = engine::dispatch(state, &worker) {
                return if self.is_pushed(state, &dispatch.attempt) {
                    Ok(())
                } else {
                    self.push(dispatch).await
                };
            }
            if state.definition.tasks.iter().any(|task| task.worker == worker) {
                waits = Some(engine::explain(state, &worker));
            }
        }
        match waits {
            Some(reason) => self.idle(reason).await,
            None => Ok(()),
        }
    }

    fn is_pushed(&self, state: &Workflow, attempt: &AttemptId) -> bool {
        let leaving = attempt.parts().is_some_and(|parts| {
            let action = state
                .tasks
                .get(parts.task)
                .and_then(|task| task.actions.get(parts.action));
            action.is_some_and(|action| action.leaving)
        });
        leaving || self.running.as_ref() == Some(attempt)
    }

    async fn push(&mut self, dispatch: engine::Dispatch) -> Result<(), End> {
        tracing::info!(machine = self.machine.name, attempt = %dispatch.attempt, image = dispatch.image, "action pushed");
        let index = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let run = RunAction {
            attempt_id: dispatch.attempt.0.clone(),
            workflow_id: dispatch.workflow_id,
            workflow_name: dispatch.workflow_name,
            task: dispatch.task,
            action: dispatch.action,
            image: dispatch.image,
            command: dispatch.command,
            volumes: dispatch.volumes,
            environment: dispatch.environment.into_iter().collect(),
            timeout_s: dispatch.timeout_s,
            pid: dispatch.pid,
            network: dispatch.network,
            action_index: index(dispatch.action_index),
            action_count: index(dispatch.action_count),
        };
        self.running = Some(dispatch.attempt);
        self.idle = None;
        self.send(server_message::Kind::Run(run)).await
    }

    async fn nothing_to_do(&mut self) -> Result<(), End> {
        let workers = self.handle.workers.clone();
        let last = self
            .control
            .inner
            .db
            .with(move |view| next::last(view, &workers))
            .await?;
        let reason = match last {
            None => "no workflow for this machine".to_owned(),
            Some(last) if last.message.is_empty() => {
                format!("the last workflow {} is {}", last.id, last.state)
            }
            Some(last) => format!(
                "the last workflow {} is {}: {}",
                last.id, last.state, last.message
            ),
        };
        self.idle(reason).await
    }

    /// Says why there is nothing to do, once.
    async fn idle(&mut self, reason: String) -> Result<(), End> {
        if self.running.is_some() || self.idle.as_ref() == Some(&reason) {
            return Ok(());
        }
        self.idle = Some(reason.clone());
        self.send(server_message::Kind::Idle(Idle { reason })).await
    }
}
