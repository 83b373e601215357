//! Streams between agents and servers: ordered each way, late by any time, broken anywhere.
//!
//! What one end has put in before it broke may still arrive after the machine has opened the next stream, and an end
//! that was not told that the other is gone goes on speaking into the void: that is how messages overtake each other
//! and come twice where every single stream keeps its order.

use std::collections::{BTreeMap, VecDeque};

use proto::v1;
use v1::agent_message::Kind as ToServer;
use v1::server_message::Kind as FromServer;

use crate::dice::Dice;

pub(crate) type StreamId = u64;

/// All streams that one end at least believes in.
#[derive(Default)]
pub(crate) struct Network {
    streams: BTreeMap<StreamId, Stream>,
    last: StreamId,
}

/// A stream of one boot of one machine to one life of one server.
pub(crate) struct Stream {
    pub(crate) machine: usize,
    pub(crate) boot_id: String,
    pub(crate) server: usize,
    pub(crate) server_life: u64,
    up: Pipe<ToServer>,
    down: Pipe<FromServer>,
    pub(crate) agent_open: bool,
    pub(crate) server_open: bool,
    /// Milliseconds that a message takes, at most.
    latency: u64,
}

/// One direction.
struct Pipe<T> {
    messages: VecDeque<T>,
    /// Nothing arrives before this.
    not_before: u64,
    /// The sender ended it; known to the receiver once all messages are through.
    closed: bool,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Up,
    Down,
}

impl Network {
    pub(crate) fn open(
        &mut self,
        machine: usize,
        boot_id: &str,
        server: usize,
        server_life: u64,
        latency: u64,
    ) -> StreamId {
        self.last += 1;
        let stream = Stream {
            machine,
            boot_id: boot_id.to_owned(),
            server,
            server_life,
            up: Pipe::default(),
            down: Pipe::default(),
            agent_open: true,
            server_open: true,
            latency,
        };
        self.streams.insert(self.last, stream);
        self.last
    }

    pub(crate) fn get(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(&id)
    }

    /// Puts a message in; gives when it arrives.
    pub(crate) fn send_up(
        &mut self,
        id: StreamId,
        message: ToServer,
        now: u64,
        dice: &mut Dice,
    ) -> Option<u64> {
        let stream = self
            .streams
            .get_mut(&id)
            .filter(|stream| stream.agent_open && !stream.up.closed)?;
        Some(stream.up.put(message, now, stream.latency, dice))
    }

    /// Puts a message in; gives when it arrives.
    pub(crate) fn send_down(
        &mut self,
        id: StreamId,
        message: FromServer,
        now: u64,
        dice: &mut Dice,
    ) -> Option<u64> {
        let stream = self
            .streams
            .get_mut(&id)
            .filter(|stream| stream.server_open && !stream.down.closed)?;
        Some(stream.down.put(message, now, stream.latency, dice))
    }

    /// The next message that arrives at the server.
    pub(crate) fn take_up(&mut self, id: StreamId) -> Option<ToServer> {
        let stream = self.streams.get_mut(&id).filter(|stream| stream.server_open)?;
        stream.up.messages.pop_front()
    }

    /// The next message that arrives at the agent.
    pub(crate) fn take_down(&mut self, id: StreamId) -> Option<FromServer> {
        let stream = self.streams.get_mut(&id).filter(|stream| stream.agent_open)?;
        stream.down.messages.pop_front()
    }

    /// Nothing gets through for a while, then everything does, in order.
    pub(crate) fn stall(&mut self, id: StreamId, way: Way, until: u64) {
        if let Some(stream) = self.streams.get_mut(&id) {
            let not_before = match way {
                Way::Up => &mut stream.up.not_before,
                Way::Down => &mut stream.down.not_before,
            };
            *not_before = (*not_before).max(until);
        }
    }

    /// The agent's end is gone: what it had sent is still on its way, what was sent to it is lost.
    pub(crate) fn agent_closes(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.agent_open = false;
            stream.up.closed = true;
            stream.down.messages.clear();
        }
        self.forget(id);
    }

    /// The server's end is gone.
    pub(crate) fn server_closes(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.server_open = false;
            stream.down.closed = true;
            stream.up.messages.clear();
        }
        self.forget(id);
    }

    /// The stream is broken, and neither end knows: what is said from here on gets nowhere.
    pub(crate) fn both_close(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.up.closed = true;
            stream.down.closed = true;
        }
    }

    /// What is on its way to the server is lost.
    pub(crate) fn drop_up(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.up.messages.clear();
        }
    }

    /// What is on its way to the agent is lost.
    pub(crate) fn drop_down(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.down.messages.clear();
        }
    }

    /// Whether the receiver can know by now that the sender ended it.
    pub(crate) fn is_over(&self, id: StreamId, way: Way) -> bool {
        self.streams.get(&id).is_none_or(|stream| match way {
            Way::Up => stream.up.closed && stream.up.messages.is_empty(),
            Way::Down => stream.down.closed && stream.down.messages.is_empty(),
        })
    }

    /// Streams whose server end is open, in order of their opening.
    pub(crate) fn of_server(&self, server: usize) -> Vec<StreamId> {
        let open = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.server_open && stream.server == server);
        open.map(|(id, _)| *id).collect()
    }

    /// Streams that both ends believe in.
    pub(crate) fn whole(&self) -> Vec<StreamId> {
        let whole = self.streams.iter().filter(|(_, stream)| stream.is_whole());
        whole.map(|(id, _)| *id).collect()
    }

    pub(crate) fn is_whole(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(Stream::is_whole)
    }

    fn forget(&mut self, id: StreamId) {
        if self
            .streams
            .get(&id)
            .is_some_and(|stream| !stream.agent_open && !stream.server_open)
        {
            self.streams.remove(&id);
        }
    }
}

impl Stream {
    fn is_whole(&self) -> bool {
        self.server_open && self.agent_open && !self.up.closed && !self.down.closed
    }
}

impl<T> Default for Pipe<T> {
    fn default() -> Pipe<T> {
        Pipe {
            messages: VecDeque::new(),
            not_before: 0,
            closed: false,
        }
    }
}

impl<T> Pipe<T> {
    fn put(&mut self, message: T, now: u64, latency: u64, dice: &mut Dice) -> u64 {
        self.messages.push_back(message);
        self.not_before = self.not_before.max(now + dice.span(latency));
        self.not_before
    }
}
