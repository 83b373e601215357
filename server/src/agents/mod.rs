//! Agents: who may attach, the session of each, and what it is told.
//!
//! One task a session ([`session`]) does everything for its machine, in order; the next session of the same machine
//! begins when that task has ended. What arrives is committed before it is acknowledged.

mod admission;
mod credential;
mod data;
mod looks;
pub(crate) mod pull;
pub(crate) mod registry;
mod session;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use connections::{Place, peer_of};
use futures_util::{Stream, StreamExt, stream};
use macaddr::MacAddr6;
use proto::v1::{AgentMessage, HardwareInventory, ServerMessage, agent_message, report};
use redaction::Secrets;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use workflow::engine::{Outcome, UnixMillis};

use crate::bounds::cut;
use crate::control::ControlPlane;

/// Messages that may wait for an agent to read them.
const OUTBOUND: usize = 64;

/// What is remembered of a machine's agent, over restarts of ours. What it runs is the coordinator's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Agent {
    pub(crate) version: String,
    pub(crate) last_seen: UnixMillis,
    /// The last of its agents, or of its kernels, that died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) death: Option<Death>,
}

/// Why an agent died, as the next one has told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Death {
    /// When it was told.
    pub(crate) at: UnixMillis,
    pub(crate) why: String,
}

/// What streams to an agent.
pub(crate) type Outbound = stream::Map<ReceiverStream<Box<Message>>, fn(Box<Message>) -> Message>;

type Message = Result<ServerMessage, Status>;

impl ControlPlane {
    /// Takes a new stream: hears its Hello, admits or refuses it, and starts its session.
    pub(crate) async fn attach_agent<S>(
        &self,
        mut inbound: S,
        peer: Option<SocketAddr>,
    ) -> Result<Outbound, Status>
    where
        S: Stream<Item = Result<AgentMessage, Status>> + Send + Unpin + 'static,
    {
        let place = self.before_hello(peer)?;
        let first = tokio::time::timeout(self.inner.config.limits.hello_within, inbound.next());
        let first = first
            .await
            .map_err(|_| Status::deadline_exceeded("no Hello came: an agent says it first"))?;
        drop(place);
        let Some(agent_message::Kind::Hello(hello)) = first.transpose()?.and_then(|message| message.kind)
        else {
            return Err(Status::invalid_argument(
                "the first message of a stream must be Hello",
            ));
        };
        let admitted = self.admit(&hello, peer).await?;
        // Boxed: a channel has room for 32 messages from its beginning on, and most agents are idle.
        let (outbound, messages) = mpsc::channel(OUTBOUND);
        let session = session::Session::new(self.clone(), admitted, hello, outbound);
        self.inner.tasks.keep(session.run(inbound));
        Ok(ReceiverStream::new(messages).map(|message| *message))
    }

    /// A place for a stream that has not said who it is.
    fn before_hello(&self, peer: Option<SocketAddr>) -> Result<Place<IpAddr>, Status> {
        let peer = peer_of(peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip()));
        let limits = &self.inner.config.limits;
        let most = if peer.is_loopback() {
            limits.unspoken_per_loopback
        } else {
            limits.unspoken_per_peer
        };
        let place = self.inner.unspoken.take(peer, most);
        place.map_err(|full| {
            if let Some(unsaid) = self.inner.unspoken_said().now() {
                tracing::warn!(%peer, unsaid, "a stream of an agent is refused before it says Hello: {full}");
            }
            Status::resource_exhausted(format!(
                "too many streams of {peer} have not said Hello: {full}; say it, or come again in some seconds"
            ))
        })
    }
}

/// What attached last with this MAC.
pub(crate) fn agent_key(mac: MacAddr6) -> String {
    format!("agent/{}", coordinator::machines::mac_text(mac))
}

/// Bytes of a report's words that are kept. They stay in the workflow's state, which every commit writes.
const MAX_WORDS_BYTES: usize = 4 * 1024;
/// As the agent takes from an action.
const MAX_OUTPUTS_BYTES: usize = 256 * 1024;

/// What an agent says of an attempt, in the engine's words and without its secrets. `None` for an outcome of a later version.
fn outcome(outcome: Option<report::Outcome>, secrets: &Secrets) -> Option<Outcome> {
    let words = |text: String| {
        // Before it is cut: half a value is not known for one.
        let mut text = secrets.hidden(&text).into_owned();
        cut(&mut text, MAX_WORDS_BYTES, " [farrier: cut]");
        text
    };
    Some(match outcome? {
        report::Outcome::Started(_) => Outcome::Started,
        report::Outcome::Succeeded(done) => {
            let outputs = match outputs(&done.outputs_json) {
                Ok(mut outputs) => {
                    secrets.hide_in_object(&mut outputs);
                    outputs
                }
                Err(problem) => {
                    return Some(Outcome::Failed {
                        reason: "BadOutput".into(),
                        message: words(problem),
                        exit_code: 0,
                    });
                }
            };
            Outcome::Succeeded {
                message: words(done.message),
                bytes: done.bytes,
                outputs,
                data_version: None,
            }
        }
        report::Outcome::Failed(failed) => Outcome::Failed {
            reason: words(failed.reason),
            message: words(failed.message),
            exit_code: failed.exit_code,
        },
        report::Outcome::TimedOut(late) => Outcome::TimedOut {
            message: words(late.message),
        },
        report::Outcome::Leaving(leaving) => Outcome::Leaving {
            how: words(leaving.how),
        },
        report::Outcome::Stopped(stopped) => Outcome::Stopped {
            message: words(stopped.message),
        },
    })
}

/// The object that an action wrote.
fn outputs(json: &str) -> Result<Map<String, Value>, String> {
    if json.is_empty() {
        return Ok(Map::new());
    }
    if json.len() > MAX_OUTPUTS_BYTES {
        return Err(format!(
            "the action wrote {} B of outputs, {MAX_OUTPUTS_BYTES} B are the most: write larger results to /workflow",
            json.len()
        ));
    }
    serde_json::from_str(json)
        .map_err(|error| format!("what the action wrote to $FARRIER_OUTPUT is no JSON object: {error}"))
}

/// What it is, for the timeline.
fn described(inventory: &HardwareInventory) -> String {
    let disks: Vec<String> = inventory
        .disks
        .iter()
        .map(|disk| format!("{} {} MB", disk.name, disk.size_bytes / 1_000_000))
        .collect();
    format!(
        "{} CPUs, {} MiB, {}, disks: {}",
        inventory.cpus,
        inventory.memory_bytes / (1024 * 1024),
        if inventory.firmware.is_empty() {
            "firmware unknown"
        } else {
            &inventory.firmware
        },
        if disks.is_empty() {
            "none".to_owned()
        } else {
            disks.join(", ")
        },
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::v1::{Heartbeat, Hello, Report};
    use store::{MemoryStore, StoreHandle};

    use super::*;
    use crate::Config;

    /// A server that knows one machine, and what its agent says first.
    async fn with_a_machine() -> (ControlPlane, Hello) {
        let store = StoreHandle::new(MemoryStore::new());
        let control = ControlPlane::open(store, Config::default()).await.expect("open");
        let file = coordinator::machines::File {
            text: "machine: node1\nmac: 52:54:00:77:00:0b\nnetboot: never\n".into(),
            source: "m".into(),
            strictness: coordinator::machines::Strictness::Refuses,
        };
        control
            .apply_machines(crate::within::Within::of_admin(), vec![file], Default::default())
            .await
            .expect("machine");
        let hello = Hello {
            mac: "52:54:00:77:00:0b".into(),
            boot_id: "k1".into(),
            ..Hello::default()
        };
        (control, hello)
    }

    /// Thousands of agents are attached and wait: what only happens now and then has no room in their sessions.
    #[tokio::test]
    async fn a_session_that_waits_takes_4_kib_at_most() {
        let (control, hello) = with_a_machine().await;
        let admitted = control.admit(&hello, None).await.expect("admitted");
        let (outbound, _messages) = mpsc::channel(OUTBOUND);
        let session = session::Session::new(control.clone(), admitted, hello, outbound);
        let session = session.run(tokio_stream::pending::<Result<AgentMessage, Status>>());
        let bytes = size_of_val(&session);
        assert!(bytes <= 4096, "{bytes} B");
        drop(session);
        control.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn from_an_agent_that_reads_nothing_no_more_is_taken_than_it_is_answered() {
        let (control, hello) = with_a_machine().await;
        let (to, inbound) = mpsc::channel(1);
        let say = |kind| Ok(AgentMessage { kind: Some(kind) });
        to.send(say(agent_message::Kind::Hello(hello)))
            .await
            .expect("open");
        let outbound = control.attach_agent(ReceiverStream::new(inbound), None).await;
        let outbound = outbound.expect("attached");
        let mut taken = 0;
        let report = |sequence| Report {
            sequence,
            attempt_id: "nobody's".into(),
            outcome: Some(report::Outcome::Started(proto::v1::Started::default())),
            ..Report::default()
        };
        while taken < 10 * OUTBOUND {
            let message = say(agent_message::Kind::Report(report(taken as u64 + 1)));
            let sent = tokio::time::timeout(Duration::from_secs(2), to.send(message));
            if sent.await.is_err() {
                break;
            }
            taken += 1;
        }
        assert!(
            (OUTBOUND - 4..=OUTBOUND + 4).contains(&taken),
            "{taken} were taken"
        );
        // When it reads, all goes on.
        let reading = tokio::spawn(outbound.for_each(|_| std::future::ready(())));
        let heartbeat = say(agent_message::Kind::Heartbeat(Heartbeat::default()));
        let sent = tokio::time::timeout(Duration::from_secs(20), to.send(heartbeat));
        assert!(sent.await.is_ok(), "it goes on");
        control.close().await;
        reading.abort();
    }
}
