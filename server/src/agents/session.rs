//! One agent's session: its reports in, its work out, one thing at a time.
//!
//! Order at the beginning: the reports that were not acknowledged, then "attached" to the workflow, and only then a
//! push. A push is repeated in a new stream when the agent does not run it: an agent runs an attempt id once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{Stream, StreamExt};
use proto::v1::{
    ActionProgress, AgentMessage, Hello, Idle, Report, ReportsAcknowledged, RunAction, ServerMessage,
    StopAction, Welcome, agent_message, server_message,
};
use tokio::sync::mpsc;
use tonic::Status;
use workflow::engine::{self, AttemptId, Command, Outcome, Workflow};

use super::admission::Admitted;
use super::registry::Handle;
use super::{Agent, outcome};
use crate::clock;
use crate::control::ControlPlane;
use crate::database::Batch;
use crate::error::Error;
use crate::machines::{Machine, mac_text};
use crate::timeline::Entry;
use crate::workflows::logs::{Lines, Progress};
use crate::workflows::next;
use crate::workflows::step::Step;

/// Lines wait this long for more, to be written together.
const LOG_DELAY: Duration = Duration::from_millis(100);
/// Bytes of lines that are written at once.
const LOG_BYTES: usize = 64 * 1024;

pub(super) struct Session {
    control: ControlPlane,
    machine: Machine,
    handle: Arc<Handle>,
    boot: Option<String>,
    peer: String,
    hello: Hello,
    outbound: mpsc::Sender<Result<ServerMessage, Status>>,
    agent: Agent,
    /// What the agent runs, as far as we know: what it said, then what we pushed.
    running: Option<AttemptId>,
    stopping: Option<AttemptId>,
    idle: Option<String>,
    /// The attempt that was last asked about, and whether it is this machine's.
    known: Option<Known>,
    logs: Option<Logs>,
}

struct Known {
    attempt: AttemptId,
    /// Names of its task and action, when it is this machine's.
    ours: Option<(String, String)>,
}

struct Logs {
    attempt: AttemptId,
    lines: Vec<Lines>,
    bytes: usize,
}

/// Why a session ends.
enum End {
    /// The agent is gone.
    Gone(String),
    /// We end it, and say why.
    Told(Status),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        // The agent keeps what was not acknowledged and comes again.
        tracing::error!(error = &error as &dyn std::error::Error, "agent session ends");
        End::Told(Status::unavailable(error.to_string()))
    }
}

impl Session {
    pub(super) fn new(
        control: ControlPlane,
        admitted: Admitted,
        hello: Hello,
        outbound: mpsc::Sender<Result<ServerMessage, Status>>,
    ) -> Self {
        let running = Some(hello.running_attempt.clone())
            .filter(|running| !running.is_empty())
            .map(AttemptId);
        let Admitted {
            machine,
            handle,
            boot,
            peer,
        } = admitted;
        Self {
            control,
            machine,
            handle,
            boot,
            peer,
            hello,
            outbound,
            agent: Agent::default(),
            running,
            stopping: None,
            idle: None,
            known: None,
            logs: None,
        }
    }

    pub(super) async fn run<S>(mut self, inbound: S)
    where
        S: Stream<Item = Result<AgentMessage, Status>> + Send + Unpin + 'static,
    {
        let handle = self.handle.clone();
        // The fence: until the earlier session of this machine has ended, nothing of this one happens.
        let turn = tokio::select! {
            turn = handle.turn() => Ok(turn),
            end = self.ended() => Err(end),
        };
        let (end, _turn) = match turn {
            Ok(turn) => (self.serve(inbound).await, Some(turn)),
            Err(end) => (end, None),
        };
        let why = match &end {
            End::Gone(why) => why.clone(),
            End::Told(status) => status.message().to_owned(),
        };
        if let End::Told(status) = end {
            // It may not be reading any more.
            let _ = self.outbound.try_send(Err(status));
        }
        if let Err(error) = self.leave(&why).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "end of an agent session cannot be stored"
            );
        }
        self.control.inner.agents.forget(&handle);
    }

    /// Does one thing after the other, and none of them half: only waiting is broken off.
    async fn serve<S>(&mut self, mut inbound: S) -> End
    where
        S: Stream<Item = Result<AgentMessage, Status>> + Send + Unpin + 'static,
    {
        let handle = self.handle.clone();
        if let Err(end) = self.begin().await {
            return end;
        }
        loop {
            let done = tokio::select! {
                message = inbound.next() => match message {
                    Some(Ok(message)) => self.receive(message).await,
                    Some(Err(status)) => Err(End::Gone(format!("the stream broke: {}", status.message()))),
                    None => Err(End::Gone("the agent ended the stream".into())),
                },
                () = handle.poked.notified() => self.advance().await,
                () = tokio::time::sleep(LOG_DELAY), if self.logs.is_some() => self.flush_logs().await,
                end = self.ended() => Err(end),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Waits until somebody wants this session to end.
    async fn ended(&self) -> End {
        tokio::select! {
            () = self.handle.replaced.notified() => {
                End::Told(Status::aborted("a newer stream of this machine replaced this one"))
            }
            () = self.control.stopped() => End::Told(Status::unavailable("the server is stopping: attach again")),
        }
    }

    /// Welcome, the reports that are owed, then work.
    async fn begin(&mut self) -> Result<(), End> {
        let before = self.control.agent(self.handle.mac).await?.unwrap_or_default();
        let same_boot = before.boot_id == self.hello.boot_id;
        self.agent = Agent {
            boot_id: self.hello.boot_id.clone(),
            epoch: before.epoch + 1,
            sequence: if same_boot { before.sequence } else { 0 },
            version: self.hello.agent_version.clone(),
            last_seen: clock::now(),
            leaving: same_boot && before.leaving,
        };
        self.control.inner.db.commit(self.remembered()).await?;
        let interval = self.control.inner.config.heartbeat_interval;
        self.send(server_message::Kind::Welcome(Welcome {
            machine: self.machine.name.clone(),
            epoch: self.agent.epoch,
            now: Some(clock::timestamp(clock::now())),
            heartbeat_interval_s: u32::try_from(interval.as_secs()).unwrap_or(u32::MAX).max(1),
        }))
        .await?;
        let mut owed = std::mem::take(&mut self.hello.unacknowledged);
        owed.sort_by_key(|report| report.sequence);
        for report in owed {
            self.report(report).await?;
        }
        self.advance().await
    }

    async fn receive(&mut self, message: AgentMessage) -> Result<(), End> {
        self.handle.heard();
        match message.kind {
            Some(agent_message::Kind::Report(report)) => {
                self.report(report).await?;
                self.advance().await
            }
            Some(agent_message::Kind::Log(log)) => {
                let bytes = log.lines.iter().map(String::len).sum();
                let lines = Lines {
                    first: log.first_line,
                    lines: log.lines,
                    dropped: log.dropped,
                };
                self.log(AttemptId(log.attempt_id), lines, bytes).await
            }
            Some(agent_message::Kind::Progress(progress)) => self.progress(progress).await,
            Some(agent_message::Kind::Heartbeat(_)) => Ok(()),
            Some(agent_message::Kind::Hello(_)) => Err(End::Told(Status::invalid_argument(
                "Hello may only be said once in a stream",
            ))),
            // A message of a later version.
            None => Ok(()),
        }
    }

    /// Applies a report once, and acknowledges it when that is durable.
    async fn report(&mut self, report: Report) -> Result<(), End> {
        self.flush_logs().await?;
        let attempt = AttemptId(report.attempt_id);
        if report.sequence > self.agent.sequence {
            self.agent.sequence = report.sequence;
            match outcome(report.outcome) {
                Some(outcome) => self.apply(&attempt, outcome).await?,
                None => {
                    self.ignore(&attempt, "it says nothing that this version knows")
                        .await?
                }
            }
        }
        self.send(server_message::Kind::Acknowledged(ReportsAcknowledged {
            sequence: self.agent.sequence,
        }))
        .await
    }

    async fn apply(&mut self, attempt: &AttemptId, outcome: Outcome) -> Result<(), End> {
        let ends = !matches!(outcome, Outcome::Started);
        if matches!(outcome, Outcome::Leaving { .. }) {
            self.agent.leaving = true;
        }
        if ends && self.running.as_ref() == Some(attempt) {
            self.running = None;
        }
        let workflow = attempt.parts().map(|parts| parts.workflow.to_owned());
        let (Some(id), Some(_)) = (workflow, self.ours(attempt).await?) else {
            return self
                .ignore(attempt, "it is not an attempt of this machine's")
                .await;
        };
        let command = Command::Report {
            attempt: attempt.clone(),
            outcome,
        };
        // What the agent record says of the report and what the report does are one commit.
        match self.control.command(&id, &command, self.remembered()).await? {
            Step::Done(_) => Ok(()),
            Step::Refused(refusal) => self.ignore(attempt, &refusal.to_string()).await,
        }
    }

    /// A report that can change nothing is acknowledged all the same, or it would come for ever.
    async fn ignore(&mut self, attempt: &AttemptId, why: &str) -> Result<(), End> {
        self.control.inner.db.commit(self.remembered()).await?;
        tracing::warn!(machine = self.machine.name, %attempt, why, "report without effect");
        self.note(
            "REPORT",
            format!("a report of attempt {attempt:.80} has no effect: {why}"),
            "ignored",
        );
        Ok(())
    }

    /// Finds what the machine should do, and has it done.
    async fn advance(&mut self) -> Result<(), End> {
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

    async fn log(&mut self, attempt: AttemptId, lines: Lines, bytes: usize) -> Result<(), End> {
        if self.logs.as_ref().is_some_and(|logs| logs.attempt != attempt) {
            self.flush_logs().await?;
        }
        if self.ours(&attempt).await?.is_none() {
            return Ok(());
        }
        let logs = self.logs.get_or_insert(Logs {
            attempt,
            lines: Vec::new(),
            bytes: 0,
        });
        logs.lines.push(lines);
        logs.bytes += bytes;
        if logs.bytes >= LOG_BYTES {
            self.flush_logs().await
        } else {
            Ok(())
        }
    }

    async fn flush_logs(&mut self) -> Result<(), End> {
        if let Some(logs) = self.logs.take() {
            self.control.append_log(&logs.attempt, logs.lines).await?;
        }
        Ok(())
    }

    async fn progress(&mut self, progress: proto::v1::Progress) -> Result<(), End> {
        let attempt = AttemptId(progress.attempt_id);
        let Some((task, action)) = self.ours(&attempt).await? else {
            return Ok(());
        };
        let workflow = attempt
            .parts()
            .map(|parts| parts.workflow.to_owned())
            .unwrap_or_default();
        let message = ActionProgress {
            task,
            action,
            attempt_id: attempt.0,
            done_bytes: progress.done_bytes,
            total_bytes: progress.total_bytes,
            rate_bytes_per_s: progress.rate_bytes_per_s,
            stage: progress.stage,
        };
        // Nobody may be watching.
        let _ = self.control.inner.progress.send(Progress { workflow, message });
        Ok(())
    }

    /// The names of an attempt's task and action, if it is of a task of this machine's.
    async fn ours(&mut self, attempt: &AttemptId) -> Result<Option<(String, String)>, Error> {
        if let Some(known) = self.known.as_ref().filter(|known| known.attempt == *attempt) {
            return Ok(known.ours.clone());
        }
        let ours = match attempt.parts() {
            None => None,
            Some(parts) => match self.control.workflow(parts.workflow).await {
                Err(Error::NotFound(_)) => None,
                Err(error) => return Err(error),
                Ok((workflow, _)) => workflow
                    .definition
                    .tasks
                    .get(parts.task)
                    .filter(|task| self.handle.workers.contains(&task.worker))
                    .and_then(|task| Some((task.name.clone(), task.actions.get(parts.action)?.name.clone()))),
            },
        };
        self.known = Some(Known {
            attempt: attempt.clone(),
            ours: ours.clone(),
        });
        Ok(ours)
    }

    async fn send(&self, kind: server_message::Kind) -> Result<(), End> {
        tokio::select! {
            sent = self.outbound.send(Ok(ServerMessage { kind: Some(kind) })) => {
                sent.map_err(|_| End::Gone("the agent does not listen any more".into()))
            }
            end = self.ended() => Err(end),
        }
    }

    /// The agent's record, to be written with what it is about.
    fn remembered(&self) -> Batch {
        let mut batch = Batch::default();
        batch.put(format!("agent/{}", mac_text(self.handle.mac)), &self.agent);
        batch
    }

    async fn leave(&mut self, why: &str) -> Result<(), Error> {
        tracing::info!(machine = self.machine.name, why, "agent detached");
        self.note("DETACH", format!("{}: {why}", self.peer), "note");
        if let Some(logs) = self.logs.take() {
            self.control.append_log(&logs.attempt, logs.lines).await?;
        }
        if self.agent.epoch > 0 {
            self.agent.last_seen = self.handle.last_heard();
            self.control.inner.db.commit(self.remembered()).await?;
        }
        Ok(())
    }

    fn note(&self, what: &str, detail: String, outcome: &'static str) {
        self.control.record(Entry {
            at: SystemTime::now(),
            mac: Some(self.handle.mac),
            boot: self.boot.clone(),
            stage: "agent",
            what: what.into(),
            detail,
            bytes: 0,
            outcome,
        });
    }
}
