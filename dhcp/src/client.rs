//! The agent's DHCP client, as a pure state machine.
//!
//! The caller owns the socket and the clock: it sends what [`Action::Send`] holds, hands packets to
//! [`Client::on_packet`], and calls [`Client::on_timeout`] at [`Client::next_deadline`]. It may be called earlier or
//! more often than needed. Retransmissions begin after one second instead of RFC 2131's four: a machine that boots has
//! somebody waiting. Source: RFC 2131 sections 3.1, 4.1 and 4.4.

mod lease;
mod message;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use macaddr::MacAddr6;

pub use lease::LeaseInfo;
use lease::Timers;

use crate::{MessageType, Op, Packet, codec};

/// How long the first answer is waited for; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(16);

/// REQUESTs sent for one OFFER before it is given up.
const REQUEST_TRIES: u32 = 4;

/// RFC 2131 section 4.4.5: renewals are not repeated faster than this.
const RENEWAL_WAIT: Duration = Duration::from_secs(60);

/// REQUESTs sent for an address that is held, after the link was away.
const REBOOT_TRIES: u32 = 4;

/// RFC 2131 section 3.1.5: how long to wait after a DECLINE.
const DECLINE_WAIT: Duration = Duration::from_secs(10);

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Configure the interface: a lease was got, or renewed (with whatever changed).
    Bound(Box<LeaseInfo>),
    /// Take the address off the interface: the lease is gone. The client starts over by itself.
    Lost { why: String },
    /// Send a packet from port 68 to port 67.
    Send {
        bytes: Vec<u8>,
        destination: Destination,
    },
}

/// Where a client's packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// 255.255.255.255, from 0.0.0.0 or from the leased address.
    Broadcast,
    /// The server, from the leased address.
    Unicast(Ipv4Addr),
}

/// One interface's DHCP client.
#[derive(Clone, Debug)]
pub struct Client {
    mac: MacAddr6,
    random: Random,
    state: State,
    /// `None`: nothing to do before a packet comes (a lease for ever).
    deadline: Option<Instant>,
    /// NAKs in a row: keeps two quarrelling servers from being flooded.
    naks: u32,
}

/// RFC 2131 figure 5. INIT-REBOOT and REBOOTING are one: the agent remembers nothing between boots, and is in them when its link
/// was away.
#[derive(Clone, Debug)]
enum State {
    Init,
    Selecting {
        exchange: Exchange,
    },
    Requesting {
        exchange: Exchange,
        offered: Ipv4Addr,
        server: Ipv4Addr,
    },
    Bound {
        held: Held,
    },
    Renewing {
        exchange: Exchange,
        held: Held,
    },
    Rebinding {
        exchange: Exchange,
        held: Held,
    },
    Rebooting {
        exchange: Exchange,
        held: Held,
    },
}

/// Messages with one transaction id.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    xid: u32,
    /// When the exchange began: option `secs` counts from here.
    began: Instant,
    /// When the message in question was first sent: leases count from here.
    first_sent: Instant,
    tries: u32,
}

/// A lease that is held.
#[derive(Clone, Copy, Debug)]
struct Held {
    address: Ipv4Addr,
    server: Ipv4Addr,
    timers: Timers,
}

impl Client {
    /// Returns a client that sends its first DISCOVER at `now`, from [`Client::on_timeout`].
    ///
    /// `seed` makes transaction ids and jitter; give each boot its own.
    pub fn new(mac: MacAddr6, seed: u64, now: Instant) -> Client {
        Client {
            mac,
            random: Random(seed),
            state: State::Init,
            deadline: Some(now),
            naks: 0,
        }
    }

    /// Returns when [`Client::on_timeout`] is to be called; `None`: not before a packet came.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Does what is due at `now`; nothing if it is too early.
    pub fn on_timeout(&mut self, now: Instant) -> Vec<Action> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        match self.state.clone() {
            State::Init => self.discover_anew(now),
            State::Selecting { exchange } => self.discover(exchange, now),
            State::Requesting { exchange, .. } if exchange.tries >= REQUEST_TRIES => self.discover_anew(now),
            State::Requesting {
                exchange,
                offered,
                server,
            } => self.request(exchange, offered, server, now),
            State::Bound { held } => {
                let exchange = Exchange::new(self.random.next(), now);
                self.extend(exchange, held, now)
            }
            State::Renewing { exchange, held } | State::Rebinding { exchange, held } => {
                self.extend(exchange, held, now)
            }
            State::Rebooting { exchange, held } => self.reboot(exchange, held, now),
        }
    }

    /// The link was away and is there again: the machine may be in another network, or be forgotten in this one.
    ///
    /// A lease that is held stays as it is, and its server is asked for it anew; without one the next message goes out at once.
    ///
    /// Source: RFC 2131 sections 3.2, 3.7 and 4.3.2 (INIT-REBOOT).
    pub fn on_link_up(&mut self, now: Instant) -> Vec<Action> {
        match self.state.clone() {
            State::Bound { held }
            | State::Renewing { held, .. }
            | State::Rebinding { held, .. }
            | State::Rebooting { held, .. } => {
                let exchange = Exchange::new(self.random.next(), now);
                self.reboot(exchange, held, now)
            }
            // Whoever has quarrelling servers, or an address in use, waits as before.
            State::Init if self.deadline.is_some_and(|at| now < at) => Vec::new(),
            State::Init | State::Selecting { .. } | State::Requesting { .. } => self.discover_anew(now),
        }
    }

    /// Takes a DHCP packet (UDP payload) that arrived at port 68; what is not for this client is ignored.
    pub fn on_packet(&mut self, now: Instant, bytes: &[u8]) -> Vec<Action> {
        let Ok(packet) = codec::decode(bytes) else {
            return Vec::new();
        };
        if packet.op != Op::Reply || packet.chaddr != self.mac {
            return Vec::new();
        }
        let (Some(kind), Some(from)) = (packet.message_type(), packet.server_id()) else {
            return Vec::new();
        };
        use MessageType::{Ack, Nak, Offer};
        match (self.state.clone(), kind) {
            (State::Selecting { exchange }, Offer) if exchange.xid == packet.xid => {
                if !lease::is_host(packet.yiaddr) {
                    return Vec::new();
                }
                let exchange = Exchange {
                    first_sent: now,
                    tries: 0,
                    ..exchange
                };
                self.request(exchange, packet.yiaddr, from, now)
            }
            // The first OFFER won; only the server that it came from may answer the REQUEST.
            (State::Requesting { exchange, server, .. }, Ack)
                if exchange.xid == packet.xid && server == from =>
            {
                self.bind(exchange, &packet, now)
            }
            (State::Requesting { exchange, server, .. }, Nak)
                if exchange.xid == packet.xid && server == from =>
            {
                let wait = wait(self.naks);
                self.naks += 1;
                self.restart(now + wait);
                Vec::new()
            }
            (
                State::Renewing { exchange, .. }
                | State::Rebinding { exchange, .. }
                | State::Rebooting { exchange, .. },
                Ack,
            ) if exchange.xid == packet.xid => self.bind(exchange, &packet, now),
            (
                State::Renewing { exchange, held }
                | State::Rebinding { exchange, held }
                | State::Rebooting { exchange, held },
                Nak,
            ) if exchange.xid == packet.xid => {
                let said = packet
                    .text(crate::options::code::MESSAGE)
                    .unwrap_or("no reason given");
                let why = format!("{from} refused {}: {said}", held.address);
                self.restart(now);
                vec![Action::Lost { why }]
            }
            _ => Vec::new(),
        }
    }

    /// The caller found that another host uses the leased address: gives it back and starts over later.
    pub fn conflict(&mut self, now: Instant) -> Vec<Action> {
        let (State::Bound { held }
        | State::Renewing { held, .. }
        | State::Rebinding { held, .. }
        | State::Rebooting { held, .. }) = self.state.clone()
        else {
            return Vec::new();
        };
        let xid = Exchange::new(self.random.next(), now).xid;
        let packet = message::decline(self.mac, xid, held.address, held.server);
        self.restart(now + DECLINE_WAIT);
        let mut actions = send(&packet, Destination::Broadcast);
        actions.push(Action::Lost {
            why: format!("{} is in use by another host", held.address),
        });
        actions
    }

    fn discover_anew(&mut self, now: Instant) -> Vec<Action> {
        let exchange = Exchange::new(self.random.next(), now);
        self.discover(exchange, now)
    }

    fn discover(&mut self, mut exchange: Exchange, now: Instant) -> Vec<Action> {
        self.deadline = Some(now + self.random.jitter(wait(exchange.tries)));
        exchange.tries += 1;
        self.state = State::Selecting { exchange };
        let mut packet = message::client_message(MessageType::Discover, self.mac, exchange.xid);
        self.finish(&mut packet, exchange, now);
        send(&packet, Destination::Broadcast)
    }

    fn request(
        &mut self,
        mut exchange: Exchange,
        offered: Ipv4Addr,
        server: Ipv4Addr,
        now: Instant,
    ) -> Vec<Action> {
        self.deadline = Some(now + self.random.jitter(wait(exchange.tries)));
        exchange.tries += 1;
        self.state = State::Requesting {
            exchange,
            offered,
            server,
        };
        let mut packet = message::selecting(self.mac, exchange.xid, offered, server);
        self.finish(&mut packet, exchange, now);
        send(&packet, Destination::Broadcast)
    }

    /// Asks for the address that is held. Without an answer the lease is used for the rest of its time (RFC 2131 section 3.2).
    fn reboot(&mut self, mut exchange: Exchange, held: Held, now: Instant) -> Vec<Action> {
        let is_over = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if exchange.tries >= REBOOT_TRIES || is_over(held.timers.expiry) {
            self.state = State::Bound { held };
            self.deadline = held.timers.renew.map(|renew| renew.max(now));
            // What its timers ask for may be due already.
            return self.on_timeout(now);
        }
        let again = now + self.random.jitter(wait(exchange.tries));
        self.deadline = Some(held.timers.expiry.map_or(again, |expiry| again.min(expiry)));
        exchange.tries += 1;
        self.state = State::Rebooting { exchange, held };
        let mut packet = message::rebooting(self.mac, exchange.xid, held.address);
        self.finish(&mut packet, exchange, now);
        send(&packet, Destination::Broadcast)
    }

    /// Renews (T1 passed), rebinds (T2 passed) or loses (all passed) a lease.
    fn extend(&mut self, exchange: Exchange, held: Held, now: Instant) -> Vec<Action> {
        let Timers {
            renew: _,
            rebind,
            expiry,
        } = held.timers;
        let (Some(rebind), Some(expiry)) = (rebind, expiry) else {
            self.deadline = None;
            return Vec::new();
        };
        if now >= expiry {
            let mut actions = vec![Action::Lost {
                why: format!("the lease of {} ran out without an answer", held.address),
            }];
            actions.extend(self.discover_anew(now));
            return actions;
        }
        let (until, destination, state) = if now < rebind {
            (
                rebind,
                Destination::Unicast(held.server),
                State::Renewing { exchange, held },
            )
        } else {
            (
                expiry,
                Destination::Broadcast,
                State::Rebinding { exchange, held },
            )
        };
        self.state = state;
        let half = until.saturating_duration_since(now) / 2;
        self.deadline = Some(until.min(now + half.max(RENEWAL_WAIT)));
        let mut packet = message::extending(self.mac, exchange.xid, held.address);
        self.finish(&mut packet, exchange, now);
        send(&packet, destination)
    }

    fn bind(&mut self, exchange: Exchange, ack: &Packet, now: Instant) -> Vec<Action> {
        let Some(info) = LeaseInfo::from_ack(ack) else {
            return Vec::new();
        };
        let timers = Timers::new(exchange.first_sent, &info);
        let held = Held {
            address: info.address,
            server: info.server,
            timers,
        };
        self.state = State::Bound { held };
        // Servers may be slow: never a deadline in the past.
        self.deadline = timers.renew.map(|renew| renew.max(now));
        self.naks = 0;
        vec![Action::Bound(Box::new(info))]
    }

    fn restart(&mut self, at: Instant) {
        self.state = State::Init;
        self.deadline = Some(at);
    }

    fn finish(&self, packet: &mut Packet, exchange: Exchange, now: Instant) {
        let seconds = now.saturating_duration_since(exchange.began).as_secs();
        packet.secs = u16::try_from(seconds).unwrap_or(u16::MAX);
    }
}

impl Exchange {
    fn new(random: u64, now: Instant) -> Exchange {
        // The upper half: splitmix's better bits.
        Exchange {
            xid: (random >> 32) as u32,
            began: now,
            first_sent: now,
            tries: 0,
        }
    }
}

fn send(packet: &Packet, destination: Destination) -> Vec<Action> {
    // Only a host name of thousands of bytes could make a client's packet too long to encode.
    codec::encode(packet)
        .map(|bytes| vec![Action::Send { bytes, destination }])
        .unwrap_or_default()
}

/// How long the answer to try number `tries` (from 0) is waited for.
fn wait(tries: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << tries.min(8)).min(LONGEST_WAIT)
}

/// SplitMix64: enough for transaction ids and jitter, and the same in every simulation.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Spreads a wait by an eighth to either side (RFC 2131 section 4.1), so that a rack does not ask in step.
    fn jitter(&mut self, wait: Duration) -> Duration {
        let eighth = wait / 8;
        wait - eighth + eighth * 2 * (self.next() % 1024) as u32 / 1024
    }
}
