//! What an agent is told to do: pushed, stopped, or why it waits.

use proto::v1::{self, Idle, RunAction, StopAction, server_message};
use redaction::Secrets;
use workflow::engine::{self, AttemptId};
use workflow::language::{Resources, Runtime, refused_in_words};

use super::{End, Session, replaced};
use crate::clock;
use crate::secrets::Withheld;
use coordinator::{Answer, Coordinator, Input, Orders};

impl Session {
    /// Finds what the machine should do, and has it done.
    pub(super) async fn look_for_work(&mut self) -> Result<(), End> {
        let input = Input::Work {
            machine: self.handle.machine.clone(),
            epoch: self.epoch,
        };
        match self.control.step(&input).await? {
            Answer::Machine(assignment) => self.follow(assignment.orders).await,
            _ => Err(replaced()),
        }
    }

    pub(super) async fn follow(&mut self, orders: Orders) -> Result<(), End> {
        let mut next = Some(orders);
        while let Some(orders) = next {
            next = self.follow_one(orders).await?;
        }
        Ok(())
    }

    /// Gives the orders that come in place of one that could not be followed.
    async fn follow_one(&mut self, orders: Orders) -> Result<Option<Orders>, End> {
        match orders {
            // It runs that, or still has something else to end: its report brings the orders again.
            Orders::Run(_) if self.running.is_some() => Ok(None),
            Orders::Run(attempt) => match self.dispatch(&attempt).await? {
                Some(dispatch) => self.push(dispatch).await,
                // Its workflow has moved on meanwhile, and there is a poke for that.
                None => Ok(None),
            },
            Orders::Stop { attempt, .. } if self.stopping.as_ref() == Some(&attempt) => Ok(None),
            Orders::Stop { attempt, reason } => {
                let attempt_id = attempt.to_string();
                self.stopping = Some(attempt);
                let grace = self.control.inner.config.stop_grace.as_secs();
                let stop = StopAction {
                    attempt_id,
                    reason,
                    grace_s: u32::try_from(grace).unwrap_or(u32::MAX),
                };
                self.send(server_message::Kind::Stop(stop)).await.map(|()| None)
            }
            Orders::Leave => Ok(None),
            Orders::Wait => self.idle().await.map(|()| None),
        }
    }

    /// What to push for an attempt; `None` when it is not under way.
    async fn dispatch(&self, attempt: &AttemptId) -> Result<Option<engine::Dispatch>, End> {
        let workflow = self.control.workflow_in_store(&attempt.workflow).await?;
        Ok(workflow.and_then(|workflow| engine::dispatch(&workflow, attempt)))
    }

    /// Nothing is pushed: the attempt is over, and there are other orders.
    async fn withhold(&mut self, attempt: AttemptId, withheld: Withheld) -> Result<Option<Orders>, End> {
        let Withheld { reason, message } = withheld;
        tracing::warn!(machine = self.handle.machine, %attempt, reason, why = message, "action not pushed");
        if self.given.contains(&attempt) {
            // The agent has it from an earlier stream, and will report how it ends.
            self.running = Some(attempt);
            return Ok(None);
        }
        let input = Input::Withheld {
            machine: self.handle.machine.clone(),
            epoch: self.epoch,
            attempt,
            reason: reason.to_owned(),
            message,
        };
        match self.control.step(&input).await? {
            Answer::Machine(assignment) => Ok(Some(assignment.orders)),
            _ => Err(replaced()),
        }
    }

    async fn push(&mut self, dispatch: engine::Dispatch) -> Result<Option<Orders>, End> {
        if let Some(withheld) = self.image_refused(&dispatch).or_else(|| bad_wait(&dispatch)) {
            return self.withhold(dispatch.attempt, withheld).await;
        }
        let (handed, values) = match self.control.hand_out(&dispatch).await? {
            Ok(handed) => handed,
            Err(withheld) => return self.withhold(dispatch.attempt, withheld).await,
        };
        let offered = self
            .control
            .offer_pull(&self.handle.machine, &dispatch, &handed.environment)
            .await?;
        let (login, has_pull_settings) = match offered {
            Ok(offered) => offered,
            Err(withheld) => return self.withhold(dispatch.attempt, withheld).await,
        };
        let hidden = values.values().map(AsRef::as_ref);
        let hidden = hidden.chain(login.as_ref().map(|login| login.password.as_str()));
        self.secrets = Some((dispatch.attempt.clone(), Secrets::new(hidden)));
        tracing::info!(machine = self.handle.machine, attempt = %dispatch.attempt, image = dispatch.image, "action pushed");
        let workflow = self.control.workflow_in_store(&dispatch.attempt.workflow).await?;
        // The root's newest, which its other workflows have made too: one short read.
        let data_version = match &workflow {
            Some(workflow) => self.control.inner.coordinator.data_version(workflow.root())?,
            None => dispatch.data_version,
        };
        let reboots = workflow.is_some_and(|workflow| {
            let task = workflow.definition.tasks.get(dispatch.attempt.execution.task);
            let action = task.and_then(|task| task.actions.get(dispatch.attempt.action));
            action.is_some_and(|action| action.reboots)
        });
        let index = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let run = RunAction {
            attempt_id: dispatch.attempt.to_string(),
            workflow_id: dispatch.attempt.workflow.clone(),
            workflow_name: dispatch.workflow_name,
            namespace: dispatch.namespace,
            labels: dispatch.labels.into_iter().collect(),
            task: dispatch.task,
            action: dispatch.action,
            image: dispatch.image,
            native: dispatch.native.map_or("", |native| native.name).to_owned(),
            has_pull_settings,
            runtime: runtime(dispatch.runtime),
            last: dispatch.leaves_before_s.map(|wait_s| v1::Last { wait_s }),
            command: handed.command,
            volumes: dispatch.volumes,
            environment: handed.environment.into_iter().collect(),
            timeout_s: dispatch.timeout_s,
            pid: dispatch.pid,
            network: dispatch.network,
            confined: dispatch.confined,
            resources: resources(dispatch.resources),
            action_index: index(dispatch.action_index),
            action_count: index(dispatch.action_count),
            data_version,
            reboots,
            input_json: handed.input_json,
            secrets: values.values().map(|value| value.as_ref().to_owned()).collect(),
        };
        self.running = Some(dispatch.attempt);
        self.idle = None;
        self.send(server_message::Kind::Run(run)).await.map(|()| None)
    }

    /// Whether the server's rules keep an image from its machine: one that an expression has filled in, or of a workflow that was made
    /// under other rules.
    fn image_refused(&self, dispatch: &engine::Dispatch) -> Option<Withheld> {
        if dispatch.native.is_some() {
            return None;
        }
        let refused = self
            .control
            .inner
            .config
            .image_policy
            .check(&dispatch.image)
            .err()?;
        Some(Withheld {
            reason: "ImageRefused",
            message: refused_in_words(&dispatch.task, &dispatch.action, &refused),
        })
    }

    /// Says why there is nothing to do, once.
    async fn idle(&mut self) -> Result<(), End> {
        if self.running.is_some() {
            return Ok(());
        }
        let machine = self.handle.machine.clone();
        let waits = move |coordinator: &Coordinator| coordinator.waits_for(&machine, clock::now());
        let reason = self.control.ask_coordinator(waits).await?;
        if self.idle.as_ref() == Some(&reason) {
            return Ok(());
        }
        self.idle = Some(reason.clone());
        self.send(server_message::Kind::Idle(Idle { reason })).await
    }
}

/// A time to wait that an expression has filled in, and that is none.
fn bad_wait(dispatch: &engine::Dispatch) -> Option<Withheld> {
    let bad = dispatch.bad_wait.as_ref()?;
    Some(Withheld {
        reason: "BadAction",
        message: format!("task {:?}: {bad}", dispatch.task),
    })
}

/// Empty where the machine's agent says who runs containers.
fn runtime(said: Option<Runtime>) -> String {
    match said {
        Some(runtime @ (Runtime::Containerd | Runtime::Namespaces)) => runtime.name().to_owned(),
        Some(Runtime::Image | Runtime::Native) | None => String::new(),
    }
}

/// Absent where nothing is limited.
fn resources(limits: Resources) -> Option<v1::Resources> {
    (limits != Resources::default()).then_some(v1::Resources {
        memory_bytes: limits.memory_bytes,
        cpu_millis: limits.cpu_millis,
        pids: limits.pids,
    })
}
