//! Simulated agents: real gRPC streams, a connection each, and actions that end at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::report::Outcome;
use proto::v1::{
    AgentMessage, Heartbeat, Hello, Report, ServerMessage, Started, Succeeded, agent_message, server_message,
};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};

use crate::lab::display::Display;

/// Messages of one agent on their way.
const IN_FLIGHT: usize = 16;
/// Connections that are being made at the same time.
const CONNECTING: usize = 64;
/// The agents of an earlier run are still there for the server.
const REPLACED_WITHIN: Duration = Duration::from_secs(20);

/// What the agents saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Reports that were acknowledged.
    pub(super) reports: AtomicU64,
    /// Actions whose end was acknowledged.
    pub(super) actions: AtomicU64,
    /// From a report on its way to its acknowledgement, in µs.
    pub(super) acknowledged_us: Mutex<Vec<u32>>,
    /// From the end of an action to the next one, in µs.
    pub(super) next_action_us: Mutex<Vec<u32>>,
}

/// A crowd of agents, attached until it is dropped.
pub(super) struct Crowd {
    pub(super) seen: Arc<Seen>,
    tasks: JoinSet<anyhow::Result<()>>,
}

/// How agents behave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Between the actions of one agent; none: at once.
    pub(super) pace: Option<Duration>,
    pub(super) heartbeat: Duration,
}

impl Crowd {
    /// Attaches agents with these MACs, each of a new boot; returns when all of them are welcome.
    pub(super) async fn attach(server: &str, macs: Vec<String>, manner: Manner) -> anyhow::Result<Crowd> {
        // Of the boot before, the server would take the first reports for repeated ones.
        let boot = uuid::Uuid::now_v7();
        let seen = Arc::new(Seen::default());
        let (welcomed, mut welcome) = watch::channel(0_usize);
        let welcomed = Arc::new(welcomed);
        let connecting = Arc::new(tokio::sync::Semaphore::new(CONNECTING));
        let count = macs.len();
        let mut tasks = JoinSet::new();
        for (number, mac) in macs.into_iter().enumerate() {
            let agent = Agent {
                boot_id: format!("{boot}-of-{mac}"),
                mac,
                manner,
                number,
                count,
                seen: seen.clone(),
            };
            let (server, connecting, welcomed) = (server.to_owned(), connecting.clone(), welcomed.clone());
            tasks.spawn(async move {
                let turn = connecting.acquire_owned().await?;
                let endpoint = Endpoint::from_shared(format!("http://{server}"))?.tcp_nodelay(true);
                let channel = endpoint.connect().await.context("connecting an agent")?;
                agent
                    .run(channel, || {
                        drop(turn);
                        welcomed.send_modify(|count| *count += 1);
                    })
                    .await
            });
        }
        let all = welcome.wait_for(|&welcomed| welcomed == count);
        tokio::select! {
            all = all => { all.context("the agents are gone")?; }
            Some(ended) = tasks.join_next() => {
                ended??;
                anyhow::bail!("an agent's stream ended");
            }
        }
        Ok(Crowd { seen, tasks })
    }

    /// Waits until so many actions are done; fails when an agent's stream breaks.
    pub(super) async fn done(&mut self, actions: u64, display: &Display) -> anyhow::Result<()> {
        let task = display.task("actions");
        let mut look = interval(Duration::from_millis(5));
        loop {
            let done = self.seen.actions.load(Ordering::Relaxed);
            if done >= actions {
                return Ok(());
            }
            task.at(&format!("{done} of {actions}"));
            tokio::select! {
                _ = look.tick() => {}
                Some(ended) = self.tasks.join_next() => {
                    ended??;
                    anyhow::bail!("an agent's stream ended before its work");
                }
            }
        }
    }
}

struct Agent {
    boot_id: String,
    mac: String,
    manner: Manner,
    number: usize,
    count: usize,
    seen: Arc<Seen>,
}

impl Agent {
    /// Its stream, both ways. The server may not have noticed yet that the agents of the run before are gone.
    async fn attach(
        &self,
        channel: Channel,
    ) -> anyhow::Result<(mpsc::Sender<AgentMessage>, Streaming<ServerMessage>)> {
        let deadline = Instant::now() + REPLACED_WITHIN;
        loop {
            let (to, messages) = mpsc::channel(IN_FLIGHT);
            let hello = Hello {
                mac: self.mac.clone(),
                boot_id: self.boot_id.clone(),
                agent_version: "bench".into(),
                ..Hello::default()
            };
            send(&to, agent_message::Kind::Hello(hello)).await?;
            let attached = AgentServiceClient::new(channel.clone())
                .attach(ReceiverStream::new(messages))
                .await;
            match attached {
                Ok(from) => return Ok((to, from.into_inner())),
                Err(status) if status.code() == Code::PermissionDenied && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(status) => {
                    return Err(status).with_context(|| format!("attaching {}", self.mac));
                }
            }
        }
    }

    async fn run(self, channel: Channel, on_welcome: impl FnOnce()) -> anyhow::Result<()> {
        let (to, mut from) = self.attach(channel).await?;
        let mut on_welcome = Some(on_welcome);
        let mut heartbeat = interval(self.manner.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut sequence, mut epoch) = (0, 0);
        let mut on_their_way: Vec<(u64, bool, Instant)> = Vec::new();
        let mut ended_at: Option<Instant> = None;
        // Agents begin one after the other within their pace, not all at once.
        let mut due = Instant::now()
            + self
                .manner
                .pace
                .unwrap_or_default()
                .mul_f64(self.number as f64 / self.count.max(1) as f64);
        loop {
            let message = tokio::select! {
                message = from.message() => message?,
                _ = heartbeat.tick() => {
                    send(&to, agent_message::Kind::Heartbeat(Heartbeat::default())).await?;
                    continue;
                }
            };
            let Some(message) = message else { return Ok(()) };
            match message.kind {
                Some(server_message::Kind::Welcome(welcome)) => {
                    epoch = welcome.epoch;
                    if let Some(on_welcome) = on_welcome.take() {
                        on_welcome();
                    }
                }
                Some(server_message::Kind::Acknowledged(acknowledged)) => {
                    let now = Instant::now();
                    let (done, rest) = on_their_way
                        .into_iter()
                        .partition::<Vec<_>, _>(|(sequence, ..)| *sequence <= acknowledged.sequence);
                    on_their_way = rest;
                    self.seen.reports.fetch_add(done.len() as u64, Ordering::Relaxed);
                    let ends = done.iter().filter(|(_, is_end, _)| *is_end).count();
                    self.seen.actions.fetch_add(ends as u64, Ordering::Relaxed);
                    let took = done.iter().map(|(_, _, at)| microseconds(now - *at));
                    self.seen.acknowledged_us.lock().await.extend(took);
                }
                Some(server_message::Kind::Run(run)) => {
                    if let Some(ended_at) = ended_at.take() {
                        self.seen
                            .next_action_us
                            .lock()
                            .await
                            .push(microseconds(ended_at.elapsed()));
                    }
                    if let Some(pace) = self.manner.pace {
                        sleep_until(due.into()).await;
                        due += pace;
                    }
                    for outcome in [
                        Outcome::Started(Started {}),
                        Outcome::Succeeded(Succeeded::default()),
                    ] {
                        sequence += 1;
                        let is_end = matches!(outcome, Outcome::Succeeded(_));
                        on_their_way.push((sequence, is_end, Instant::now()));
                        let report = Report {
                            sequence,
                            attempt_id: run.attempt_id.clone(),
                            outcome: Some(outcome),
                            epoch,
                            ..Report::default()
                        };
                        send(&to, agent_message::Kind::Report(report)).await?;
                    }
                    ended_at = Some(Instant::now());
                }
                _ => {}
            }
        }
    }
}

async fn send(to: &mpsc::Sender<AgentMessage>, kind: agent_message::Kind) -> anyhow::Result<()> {
    to.send(AgentMessage { kind: Some(kind) })
        .await
        .context("the stream is gone")
}

fn microseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
