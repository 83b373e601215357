//! The server's and the client's core against each other over a network that loses, repeats, delays and reorders.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use dhcp::client::{Action, Client};
use dhcp::server::{self, Answer, Destination, ServerFacts, classify, reply};
use dhcp::{Packet, decode};

use crate::packets::{ADDRESS, MAC, Random, SERVER, answer};

const OTHER_SERVER: ServerFacts = ServerFacts {
    address: Ipv4Addr::new(10, 77, 0, 5),
    prefix: 24,
};
const OTHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);

enum Way {
    ToClient,
    ToServers,
}

struct Network {
    random: Random,
    now: Instant,
    /// Percent of packets that are lost, and that come twice.
    loss: u64,
    repeats: u64,
    /// The longest a packet may take, which is also what reorders packets.
    delay_ms: u64,
    flying: Vec<(Instant, Way, Vec<u8>)>,
    servers: Vec<(ServerFacts, Answer)>,
    client: Client,
    bound_to: Option<Ipv4Addr>,
    leases: u32,
    losses: Vec<String>,
    sent: u32,
}

impl Network {
    fn new(seed: u64, servers: Vec<(ServerFacts, Answer)>) -> Network {
        let now = Instant::now();
        Network {
            random: Random(seed),
            now,
            loss: 30,
            repeats: 20,
            delay_ms: 1500,
            flying: Vec::new(),
            servers,
            client: Client::new(MAC, seed, now),
            bound_to: None,
            leases: 0,
            losses: Vec::new(),
            sent: 0,
        }
    }

    fn send(&mut self, way: fn() -> Way, bytes: Vec<u8>) {
        if self.random.below(100) < self.loss {
            return;
        }
        let copies = if self.random.below(100) < self.repeats {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let delay = Duration::from_millis(1 + self.random.below(self.delay_ms));
            self.flying.push((self.now + delay, way(), bytes.clone()));
        }
    }

    /// Lets the next thing happen: a packet arrives or the client's time comes.
    fn step(&mut self) {
        let packet = self.flying.iter().map(|(at, ..)| *at).min();
        let next = packet
            .into_iter()
            .chain(self.client.next_deadline())
            .min()
            .expect("a client never stops for ever");
        assert!(next >= self.now, "time runs backwards");
        self.now = next;
        let actions = if packet == Some(next) {
            let at = self.flying.iter().position(|(at, ..)| *at == next).unwrap();
            let (_, way, bytes) = self.flying.swap_remove(at);
            match way {
                Way::ToClient => self.client.on_packet(next, &bytes),
                Way::ToServers => return self.servers_take(&bytes),
            }
        } else {
            let actions = self.client.on_timeout(next);
            assert!(self.client.next_deadline() > Some(next), "the client would spin");
            actions
        };
        for action in actions {
            match action {
                Action::Send { bytes, .. } => {
                    self.sent += 1;
                    self.send(|| Way::ToServers, bytes);
                }
                Action::Bound(lease) => {
                    self.leases += 1;
                    self.bound_to = Some(lease.address);
                }
                Action::Lost { why } => {
                    self.bound_to = None;
                    self.losses.push(why);
                }
            }
        }
    }

    fn servers_take(&mut self, bytes: &[u8]) {
        let request = classify(&decode(bytes).unwrap());
        let replies: Vec<server::Action> = self
            .servers
            .iter()
            .map(|(facts, answer)| reply(&request, answer, facts))
            .collect();
        for action in replies {
            if let server::Action::Send { bytes, .. } = action {
                self.send(|| Way::ToClient, bytes);
            }
        }
    }

    /// Runs until something holds; fails when that takes longer than `limit` of simulated time.
    #[track_caller]
    fn run_until(&mut self, limit: Duration, done: impl Fn(&Network) -> bool) {
        let deadline = self.now + limit;
        while !done(self) {
            assert!(
                self.now < deadline,
                "not after {limit:?}: {} sent, {} leases",
                self.sent,
                self.leases
            );
            self.step();
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn always_ends_bound_whatever_the_network_does() {
    for seed in 0..300 {
        let mut network = Network::new(seed, vec![(SERVER, answer("snponly.efi"))]);
        network.run_until(HOUR, |network| network.bound_to == Some(ADDRESS));
        assert!(network.losses.is_empty(), "seed {seed}");
    }
}

#[test]
fn leases_are_kept_over_days_on_a_bad_network() {
    for seed in 0..30 {
        let mut reservation = answer("snponly.efi");
        reservation.lease.lease_time = HOUR;
        let mut network = Network::new(seed, vec![(SERVER, reservation)]);
        network.loss = 10;
        let start = network.now;
        network.run_until(3 * 24 * HOUR, |network| network.now > start + 2 * 24 * HOUR);
        assert!(
            network.bound_to == Some(ADDRESS) && network.losses.is_empty(),
            "seed {seed}: {:?}",
            network.losses
        );
        assert!(
            (48..400).contains(&network.sent),
            "seed {seed}: {} packets in 48 leases",
            network.sent
        );
    }
}

#[test]
fn two_servers_do_not_confuse_the_client() {
    let mut chosen = Vec::new();
    for seed in 0..100 {
        let mut other = answer("other.efi");
        other.lease.address = OTHER_ADDRESS;
        let mut network = Network::new(seed, vec![(SERVER, answer("snponly.efi")), (OTHER_SERVER, other)]);
        network.run_until(HOUR, |network| network.bound_to.is_some());
        chosen.extend(network.bound_to);
    }
    assert!(chosen.contains(&ADDRESS) && chosen.contains(&OTHER_ADDRESS));
}

#[test]
fn a_changed_reservation_reaches_the_client_at_its_next_renewal() {
    let mut reservation = answer("snponly.efi");
    reservation.lease.lease_time = HOUR;
    let mut network = Network::new(7, vec![(SERVER, reservation)]);
    network.run_until(HOUR, |network| network.bound_to == Some(ADDRESS));
    network.servers[0].1.lease.address = OTHER_ADDRESS;
    network.run_until(2 * HOUR, |network| network.bound_to == Some(OTHER_ADDRESS));
    assert_eq!(
        network.losses,
        ["10.77.0.1 refused 10.77.0.11: 10.77.0.11 is not this machine's address, 10.77.0.99 is"]
    );
}

#[test]
fn a_lease_ends_without_a_server_and_comes_back_with_it() {
    let mut reservation = answer("snponly.efi");
    reservation.lease.lease_time = HOUR;
    let mut network = Network::new(3, vec![(SERVER, reservation)]);
    network.run_until(HOUR, |network| network.bound_to.is_some());
    let servers = std::mem::take(&mut network.servers);
    network.run_until(2 * HOUR, |network| network.bound_to.is_none());
    assert_eq!(
        network.losses,
        ["the lease of 10.77.0.11 ran out without an answer"]
    );
    network.servers = servers;
    network.run_until(HOUR, |network| network.bound_to.is_some());
}

#[test]
fn destinations_fit_what_the_client_can_take() {
    let now = Instant::now();
    let mut client = Client::new(MAC, 1, now);
    let [Action::Send { bytes, .. }] = &client.on_timeout(now)[..] else {
        panic!("no DISCOVER")
    };
    let discover: Packet = decode(bytes).unwrap();
    assert!(!discover.broadcast);
    let server::Action::Send { destination, .. } = reply(&classify(&discover), &answer("x"), &SERVER) else {
        panic!("no OFFER")
    };
    assert_eq!(
        destination,
        Destination::Direct {
            ip: ADDRESS,
            mac: MAC
        }
    );
}
