//! Messages of the stream between agent and server: what is decoded can be sent again, and whatever a server says, the
//! agent's core neither panics nor runs two actions at once.
//!
//! The first message is the one to decode; those after it, each with its length (two bytes) before it, are said to a core.

use std::time::{Duration, SystemTime};

use agent::worker::core::{Core, Event, Order};
use prost::Message;
use proto::v1::{AgentMessage, ServerMessage};

pub(crate) fn run(bytes: &[u8]) {
    if let Ok(message) = AgentMessage::decode(bytes) {
        let again = AgentMessage::decode(&*message.encode_to_vec());
        // Numbers that are none (NaN) differ from themselves.
        assert_eq!(
            format!("{again:?}"),
            format!("{:?}", Ok::<_, prost::DecodeError>(message))
        );
    }
    let mut now = SystemTime::UNIX_EPOCH;
    let (mut core, _) = Core::resume(Vec::new(), now);
    let mut rest = bytes;
    while let Some((message, after)) = split(rest) {
        rest = after;
        now += Duration::from_secs(1);
        let event = match ServerMessage::decode(message) {
            Ok(ServerMessage { kind: Some(said) }) => Event::Received(said),
            Ok(_) => Event::StreamLost,
            Err(_) => Event::Tick,
        };
        let was_running = !core.running().is_empty();
        let orders = core.handle(now, event);
        let starts = orders
            .iter()
            .filter(|order| matches!(order, Order::Start(_)))
            .count();
        assert!(starts <= usize::from(!was_running), "{orders:?}");
        let _ = (core.hello(), core.reports(), core.epoch());
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    Some(rest.split_at(rest.len().min(u16::from_le_bytes(*len).into())))
}
