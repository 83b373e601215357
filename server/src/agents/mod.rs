//! Agents: who may attach, the session of each, and what it is told.
//!
//! One task a session ([`session`]) does everything for its machine, in order; the next session of the same machine
//! begins when that task has ended. What arrives is committed before it is acknowledged.

mod admission;
mod data;
pub(crate) mod registry;
mod session;

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use macaddr::MacAddr6;
use proto::v1::{AgentMessage, Hello, ServerMessage, agent_message, report};
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
/// An agent says who it is at once.
const HELLO_WITHIN: Duration = Duration::from_secs(20);

/// What is remembered of a machine's agent, over restarts of ours. What it runs is the coordinator's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Agent {
    pub(crate) version: String,
    pub(crate) last_seen: UnixMillis,
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
        let first = tokio::time::timeout(HELLO_WITHIN, inbound.next());
        let first = first
            .await
            .map_err(|_| Status::deadline_exceeded("no Hello came: an agent says it first"))?;
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
        self.keep(tokio::spawn(session.run(inbound)));
        Ok(ReceiverStream::new(messages).map(|message| *message))
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
fn described(hello: &Hello) -> String {
    let Some(inventory) = &hello.inventory else {
        return String::new();
    };
    let disks: Vec<String> = inventory
        .disks
        .iter()
        .map(|disk| format!("{} {} MB", disk.name, disk.size_bytes / 1_000_000))
        .collect();
    format!(
        "; {} CPUs, {} MiB, {}, disks: {}",
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
