//! One agent's session: its reports in, its work out, one thing at a time.
//!
//! Order at the beginning: the reports that were not acknowledged, then "attached" to the workflow, and only then a
//! push. A push is repeated in a new stream when the agent does not run it: an agent runs an attempt id once.

mod inventory;
mod printed;
mod work;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::{Stream, StreamExt};
use proto::v1::{
    AgentMessage, AttemptState, Hello, JournalEntry, Report, ReportsAcknowledged, ServerMessage, Welcome,
    agent_message, report, server_message,
};
use redaction::Secrets;
use tokio::sync::mpsc::{self, error::TrySendError};
use tonic::Status;
use workflow::engine::{AttemptId, ExecutionId, Outcome};

use super::admission::Admitted;
use super::registry::{Handle, Registered};
use super::{Agent, Death, Message, agent_key, outcome};
use crate::bounds::cut;
use crate::clock;
use crate::control::ControlPlane;
use crate::grpc::with_causes;
use crate::tasks::caught;
use crate::timeline::{self, Entry};
use crate::workflows::logs::Lines;
use coordinator::Error;
use coordinator::database::Batch;
use coordinator::{Answer, Input, Orders};
use inventory::Told;
use printed::{Known, Logs};

pub(super) struct Session {
    control: ControlPlane,
    handle: Arc<Handle>,
    _registered: Registered,
    boot: Option<String>,
    peer: String,
    hello: Hello,
    outbound: mpsc::Sender<Box<Message>>,
    /// Of our attach; 0 before it.
    epoch: u64,
    /// What the agent runs, as far as we know: what it said, then what we pushed.
    running: Option<AttemptId>,
    stopping: Option<AttemptId>,
    idle: Option<String>,
    /// The attempt that was last asked about, and whether it is this machine's.
    known: Option<Known>,
    logs: Option<Logs>,
    /// What the agent has been given, and has not ended as far as we know, by its first words.
    given: BTreeSet<AttemptId>,
    /// The attempt that was last handed out or asked about, and what is to be hidden in what comes of it.
    secrets: Option<(AttemptId, Secrets)>,
    /// The last death of an agent of this machine that is known.
    death: Option<Death>,
}

/// Bytes that are kept of why an earlier agent died.
const MAX_DEATH_BYTES: usize = 1000;
/// Notices of one Hello that are kept, each as long.
const MAX_NOTICES: usize = 32;

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
        End::Told(Status::unavailable(redaction::redacted(&with_causes(&error))))
    }
}

impl Session {
    pub(super) fn new(
        control: ControlPlane,
        admitted: Admitted,
        hello: Hello,
        outbound: mpsc::Sender<Box<Message>>,
    ) -> Self {
        // What it says in another form than ours is nothing that it got from us.
        let running = hello.running_attempt.parse().ok();
        let Admitted {
            registered,
            boot,
            peer,
        } = admitted;
        Self {
            control,
            handle: registered.handle().clone(),
            _registered: registered,
            boot,
            peer,
            hello,
            outbound,
            epoch: 0,
            running,
            stopping: None,
            idle: None,
            known: None,
            logs: None,
            given: BTreeSet::new(),
            secrets: None,
            death: None,
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
            Ok(turn) => {
                let served = caught("an agent's session", Box::pin(self.serve(inbound))).await;
                (served.unwrap_or_else(broke_down), Some(turn))
            }
            Err(end) => (end, None),
        };
        let why = match &end {
            End::Gone(why) => why.clone(),
            End::Told(status) => status.message().to_owned(),
        };
        if let End::Told(status) = end {
            // It may not be reading any more.
            let _ = self.outbound.try_send(Box::new(Err(status)));
        }
        if let Err(error) = Box::pin(self.leave(&why)).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "end of an agent session cannot be stored"
            );
        }
    }

    /// Does one thing after the other, and none of them half: only waiting is broken off.
    ///
    /// What is done is boxed, as a future has room for the largest of its parts all the time, and most agents wait.
    async fn serve<S>(&mut self, mut inbound: S) -> End
    where
        S: Stream<Item = Result<AgentMessage, Status>> + Send + Unpin + 'static,
    {
        let handle = self.handle.clone();
        self.heard();
        if let Err(end) = Box::pin(self.begin()).await {
            return end;
        }
        loop {
            let due = self.logs.as_ref().map(|logs| logs.due);
            let flush = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now));
            let done = tokio::select! {
                message = inbound.next() => match message {
                    Some(Ok(message)) => Box::pin(self.receive(message)).await,
                    Some(Err(status)) => Err(End::Gone(format!("the stream broke: {}", status.message()))),
                    None => Err(End::Gone("the agent ended the stream".into())),
                },
                () = handle.poked.notified() => Box::pin(self.look_for_work()).await,
                look = handle.looks.next() => Box::pin(self.send(server_message::Kind::Look(look))).await,
                () = flush, if due.is_some() => Box::pin(self.flush_logs()).await,
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
                replaced()
            }
            () = self.control.stopped() => End::Told(Status::unavailable("the server is stopping: attach again")),
        }
    }

    /// Welcome, the reports that are owed, then work.
    async fn begin(&mut self) -> Result<(), End> {
        let attach = Input::Attach {
            machine: self.handle.machine.clone(),
            boot_id: self.hello.boot_id.clone(),
            running: self.running.clone(),
            knows: self.knows(),
        };
        let assignment = match self.control.step(&attach).await? {
            Answer::Machine(assignment) => assignment,
            _ => return Err(replaced()),
        };
        self.epoch = assignment.epoch;
        self.learn_of_deaths().await?;
        self.remember().await?;
        let interval = self.control.inner.config.heartbeat_interval;
        self.send(server_message::Kind::Welcome(Welcome {
            machine: self.handle.machine.clone(),
            epoch: self.epoch,
            now: Some(clock::timestamp(clock::wall())),
            heartbeat_interval_s: u32::try_from(interval.as_secs()).unwrap_or(u32::MAX).max(1),
        }))
        .await?;
        if let Orders::Stop { .. } = assignment.orders {
            self.follow(assignment.orders).await?;
        }
        // A session may last for weeks: it keeps no more of the Hello than it needs.
        let brief = self.hello.inventory.take();
        for mut notice in std::mem::take(&mut self.hello.notices)
            .into_iter()
            .take(MAX_NOTICES)
        {
            cut(&mut notice, MAX_DEATH_BYTES, " [farrier: cut]");
            self.note("NOTICE", notice, timeline::Outcome::Note);
        }
        self.given = given(&std::mem::take(&mut self.hello.journal), assignment.sequence);
        let mut owed = std::mem::take(&mut self.hello.unacknowledged);
        owed.sort_by_key(|report| report.sequence);
        for report in owed {
            self.report(report).await?;
        }
        self.look_for_work().await?;
        // Work goes first.
        match brief {
            Some(brief) => Ok(self.keep_inventory(brief, Told::InBrief).await?),
            None => Ok(()),
        }
    }

    /// What the agent tells of earlier ones is noted; else what was known of them stays known.
    async fn learn_of_deaths(&mut self) -> Result<(), Error> {
        let mut why = std::mem::take(&mut self.hello.last_death);
        if why.is_empty() {
            let known = self
                .control
                .inner
                .db
                .get::<Agent>(agent_key(self.handle.mac))
                .await?;
            self.death = known.and_then(|known| known.value.death);
            return Ok(());
        }
        cut(&mut why, MAX_DEATH_BYTES, " [farrier: cut]");
        let why = redaction::redacted(&why).into_owned();
        self.note("DIED", why.clone(), timeline::Outcome::Failed);
        self.death = Some(Death {
            at: clock::wall(),
            why,
        });
        Ok(())
    }

    /// Every attempt that the agent's first words are about.
    fn knows(&self) -> BTreeSet<AttemptId> {
        let entries = self.hello.journal.iter().map(|entry| &entry.attempt_id);
        let owed = self.hello.unacknowledged.iter().map(|report| &report.attempt_id);
        let said = entries.chain(owed).filter_map(|id| id.parse().ok());
        said.chain(self.running.clone()).collect()
    }

    async fn receive(&mut self, message: AgentMessage) -> Result<(), End> {
        self.heard();
        match message.kind {
            Some(agent_message::Kind::Report(report)) => {
                let orders = self.report(report).await?;
                self.follow(orders).await
            }
            Some(agent_message::Kind::Log(log)) => {
                let bytes = log.lines.iter().map(String::len).sum();
                let lines = Lines {
                    first: log.first_line,
                    lines: log.lines,
                    dropped: log.dropped,
                };
                match log.attempt_id.parse() {
                    Ok(attempt) => self.log(attempt, lines, bytes).await,
                    Err(_) => Ok(()),
                }
            }
            Some(agent_message::Kind::Progress(progress)) => self.progress(progress).await,
            Some(agent_message::Kind::Heartbeat(_)) => Ok(()),
            Some(agent_message::Kind::Inventory(inventory)) => {
                Ok(self.keep_inventory(inventory, Told::Whole).await?)
            }
            Some(agent_message::Kind::Seen(seen)) => {
                self.handle.looks.answered(seen);
                Ok(())
            }
            Some(agent_message::Kind::Hello(_)) => Err(End::Told(Status::invalid_argument(
                "Hello may only be said once in a stream",
            ))),
            // A message of a later version.
            None => Ok(()),
        }
    }

    /// Applies a report once, and acknowledges it when that is durable.
    async fn report(&mut self, mut report: Report) -> Result<Orders, End> {
        self.flush_logs().await?;
        let changes = match &mut report.outcome {
            Some(report::Outcome::Succeeded(done)) => done.data_changes.take(),
            _ => None,
        };
        // Another server's words: it is acknowledged like one of a workflow that is not there.
        let attempt = report.attempt_id.parse().unwrap_or_else(|_| nobodys());
        let untouched = report
            .outcome
            .as_ref()
            .is_some_and(report::Outcome::left_disks_untouched);
        let outcome = outcome(report.outcome, self.secrets_of(&attempt).await?);
        let (outcome, data) = self.control.keep_data(outcome, changes).await?;
        let ends = !matches!(outcome, None | Some(Outcome::Started));
        let ends_running = ends && self.running.as_ref() == Some(&attempt);
        let input = Input::Report(Box::new(coordinator::Report {
            machine: self.handle.machine.clone(),
            boot_id: self.hello.boot_id.clone(),
            epoch: self.epoch,
            sequence: report.sequence,
            attempt,
            outcome,
            data,
            untouched,
        }));
        let Answer::Machine(assignment) = self.control.step(&input).await? else {
            return Err(replaced());
        };
        if ends {
            self.handle.is_over(&report.attempt_id);
        }
        if ends_running {
            self.running = None;
            self.control.inner.offers.withdraw(&self.handle.machine);
        }
        if let Some(why) = assignment.ignored {
            self.note_ignored(&report.attempt_id, &why);
        }
        self.send(server_message::Kind::Acknowledged(ReportsAcknowledged {
            sequence: assignment.sequence,
        }))
        .await?;
        Ok(assignment.orders)
    }

    /// What is to be hidden in what comes of an attempt. The agent has hidden it; an old one has not.
    async fn secrets_of(&mut self, attempt: &AttemptId) -> Result<&Secrets, Error> {
        let known = self.secrets.take().filter(|(of, _)| of == attempt);
        let known = match known {
            Some(known) => known,
            None => (attempt.clone(), self.control.secrets_of(attempt).await?),
        };
        Ok(&self.secrets.insert(known).1)
    }

    /// A report that can change nothing is acknowledged all the same, or it would come for ever.
    fn note_ignored(&self, attempt: &str, why: &str) {
        tracing::warn!(
            machine = self.handle.machine,
            attempt,
            why,
            "report without effect"
        );
        self.note(
            "REPORT",
            format!("a report of attempt {attempt:.80} has no effect: {why}"),
            timeline::Outcome::Ignored,
        );
    }

    async fn send(&self, kind: server_message::Kind) -> Result<(), End> {
        let gone = || End::Gone("the agent does not listen any more".into());
        let message = match self
            .outbound
            .try_send(Box::new(Ok(ServerMessage { kind: Some(kind) })))
        {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(gone()),
            Err(TrySendError::Full(message)) => message,
        };
        tokio::select! {
            sent = self.outbound.send(message) => sent.map_err(|_| gone()),
            end = self.ended() => Err(end),
        }
    }

    /// What is shown of the agent when it is not attached.
    async fn remember(&self) -> Result<(), Error> {
        let agent = Agent {
            version: self.hello.agent_version.clone(),
            last_seen: self.handle.last_heard(),
            death: self.death.clone(),
        };
        let mut batch = Batch::default();
        batch.put(agent_key(self.handle.mac), &agent);
        self.control.inner.db.commit(batch).await?;
        Ok(())
    }

    fn heard(&self) {
        self.handle.heard();
        self.control.inner.silence.heard(&self.handle.machine);
    }

    async fn leave(&mut self, why: &str) -> Result<(), Error> {
        tracing::info!(machine = self.handle.machine, why, "agent detached");
        self.note("DETACH", format!("{}: {why}", self.peer), timeline::Outcome::Note);
        if let Some(logs) = self.logs.take() {
            self.control.append_log(&logs.attempt, logs.lines).await?;
        }
        if self.epoch > 0 {
            self.remember().await?;
        }
        Ok(())
    }

    fn note(&self, what: &str, detail: String, outcome: timeline::Outcome) {
        self.control.record(Entry {
            at: SystemTime::now(),
            mac: Some(self.handle.mac),
            boot: self.boot.clone(),
            stage: timeline::Stage::Agent,
            what: what.into(),
            detail,
            bytes: 0,
            outcome,
        });
    }
}

/// What the agent has and will report the end of, or has reported in what is not durable here: up to `sequence` it is.
fn given(journal: &[JournalEntry], sequence: u64) -> BTreeSet<AttemptId> {
    let is_open = |entry: &&JournalEntry| {
        matches!(entry.state(), AttemptState::Waiting | AttemptState::Running) || entry.sequence > sequence
    };
    let open = journal.iter().filter(is_open);
    open.filter_map(|entry| entry.attempt_id.parse().ok()).collect()
}

fn broke_down() -> End {
    End::Told(Status::unavailable(
        "the session broke down, which is a defect of the server (its log says where): attach again",
    ))
}

fn replaced() -> End {
    End::Told(Status::aborted(
        "a newer stream of this machine replaced this one",
    ))
}

/// Of no workflow.
fn nobodys() -> AttemptId {
    AttemptId {
        workflow: String::new(),
        execution: ExecutionId {
            task: 0,
            instance: 0,
            item: 0,
        },
        action: 0,
        attempt: 0,
    }
}
