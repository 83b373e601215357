//! Agents: who may attach, the session of each, and what it is told.
//!
//! One task a session ([`session`]) does everything for its machine, in order; the next session of the same machine
//! begins when that task has ended. What arrives is committed before it is acknowledged.

mod admission;
pub(crate) mod registry;
mod session;

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use macaddr::MacAddr6;
use proto::v1::{AgentMessage, Hello, ServerMessage, agent_message, report};
use serde::{Deserialize, Serialize};
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

/// What is remembered of a machine's agent, over restarts of ours.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Agent {
    /// As its kernel has it.
    pub(crate) boot_id: String,
    /// Raised by every attach.
    pub(crate) epoch: u64,
    /// The last report of this boot that was applied.
    pub(crate) sequence: u64,
    pub(crate) version: String,
    pub(crate) last_seen: UnixMillis,
    /// This boot said that it reboots or powers off: it gets no more work.
    pub(crate) leaving: bool,
}

/// What streams to an agent.
pub(crate) type Outbound = ReceiverStream<Result<ServerMessage, Status>>;

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
        let (outbound, messages) = mpsc::channel(OUTBOUND);
        let session = session::Session::new(self.clone(), admitted, hello, outbound);
        self.keep(tokio::spawn(session.run(inbound)));
        Ok(ReceiverStream::new(messages))
    }

    pub(crate) async fn agent(&self, mac: MacAddr6) -> Result<Option<Agent>, crate::error::Error> {
        let key = format!("agent/{}", crate::machines::mac_text(mac));
        Ok(self.inner.db.get::<Agent>(key).await?.map(|agent| agent.value))
    }
}

/// Bytes of a report's words that are kept. They stay in the workflow's state, which every commit writes.
const MAX_WORDS_BYTES: usize = 4 * 1024;

/// What an agent says of an attempt, in the engine's words. `None` for an outcome of a later version.
fn outcome(outcome: Option<report::Outcome>) -> Option<Outcome> {
    let words = |mut text: String| {
        cut(&mut text, MAX_WORDS_BYTES, " [farrier: cut]");
        text
    };
    Some(match outcome? {
        report::Outcome::Started(_) => Outcome::Started,
        report::Outcome::Succeeded(done) => Outcome::Succeeded {
            message: words(done.message),
            bytes: done.bytes,
        },
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
