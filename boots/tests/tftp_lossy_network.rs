//! The TFTP engine against a client over a simulated network that loses, duplicates and delays packets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use boots::tftp::packet::Request;
use boots::tftp::terms::Terms;
use boots::tftp::transfer::{Action, End, Transfer, wire_number};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_file_arrives_intact_or_the_transfer_ends(
        size in 0usize..40_000,
        block_bytes in 8u16..1500,
        window in 1u16..=80,
        faults in proptest::collection::vec(0u8..100, 64),
        loss in 0u8..30,
        duplication in 0u8..30,
        delay in 0u8..30,
    ) {
        let content: Vec<u8> = (0..size).map(|i| (i * 7 + i / 251) as u8).collect();
        let mut run = Run::new(&content, block_bytes, window, Faults { dice: faults, at: 0, loss, duplication, delay, duplicated: 0 });
        let end = run.finish();
        prop_assert!(
            end.is_some(),
            "the transfer never ended: {} blocks sent, the client waits for {}",
            run.blocks_sent,
            run.client.next
        );
        if end == Some(End::Complete) {
            prop_assert_eq!(&run.client.received, &content);
        }
        if loss == 0 && delay == 0 {
            prop_assert_eq!(end, Some(End::Complete));
            // The Sorcerer's Apprentice would send every block twice after one duplicated packet. One that was
            // duplicated costs nothing without windows; with them the client acknowledges inside the window, which
            // cannot be told from a loss, and the window is sent again, once.
            let again = match window {
                1 => 0,
                _ => run.faults.duplicated * u64::from(window),
            };
            prop_assert!(run.blocks_sent <= run.blocks_needed() + again);
        }
    }
}

struct Run {
    content: Vec<u8>,
    block_bytes: usize,
    transfer: Transfer,
    client: Client,
    wire: BTreeMap<(Instant, u64), Datagram>,
    sequence: u64,
    now: Instant,
    faults: Faults,
    blocks_sent: u64,
    end: Option<End>,
}

enum Datagram {
    ToClient(Vec<u8>),
    ToServer(Vec<u8>),
}

impl Run {
    fn new(content: &[u8], block_bytes: u16, window: u16, faults: Faults) -> Self {
        let options = vec![
            ("blksize".into(), block_bytes.to_string()),
            ("windowsize".into(), window.to_string()),
        ];
        let request = Request {
            file: "f".into(),
            mode: "octet".into(),
            options,
        };
        let terms = Terms::negotiate(&request, content.len() as u64);
        let client = Client::new(terms.block_bytes, terms.window);
        let now = Instant::now();
        let (transfer, actions) = Transfer::start(now, terms, content.len() as u64);
        let mut run = Self {
            content: content.to_vec(),
            block_bytes: transfer.terms().block_bytes.into(),
            transfer,
            client,
            wire: BTreeMap::new(),
            sequence: 0,
            now,
            faults,
            blocks_sent: 0,
            end: None,
        };
        run.perform(actions);
        run
    }

    fn blocks_needed(&self) -> u64 {
        (self.content.len() / self.block_bytes + 1) as u64
    }

    fn finish(&mut self) -> Option<End> {
        // A round trip of 1.4 s against a timer of 1 s sends each window many times, and still gets there.
        for _ in 0..2_000_000 {
            if self.end.is_some() {
                return self.end.clone();
            }
            let deadline = self.transfer.deadline();
            match self.wire.first_key_value().map(|(&(at, _), _)| at) {
                Some(at) if at <= deadline => {
                    self.now = at;
                    let Some((_, datagram)) = self.wire.pop_first() else {
                        continue;
                    };
                    match datagram {
                        Datagram::ToClient(bytes) => {
                            for answer in self.client.on_packet(&bytes) {
                                self.send(Datagram::ToServer(answer));
                            }
                        }
                        Datagram::ToServer(bytes) => {
                            let actions = self.transfer.on_packet(self.now, &bytes);
                            self.perform(actions);
                        }
                    }
                }
                _ => {
                    self.now = deadline;
                    let actions = self.transfer.on_deadline(deadline);
                    assert!(!actions.is_empty(), "a deadline that does nothing would spin");
                    self.perform(actions);
                }
            }
        }
        None
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::SendOack => self.send(Datagram::ToClient(vec![0, 6])),
                Action::SendBlocks { first, count } => {
                    assert!(count <= 64);
                    for block in first..first + count {
                        self.blocks_sent += 1;
                        let (start, len) = self.transfer.span(block);
                        let start = start as usize;
                        let mut packet = vec![0, 3];
                        packet.extend(wire_number(block).to_be_bytes());
                        packet.extend(&self.content[start..start + len]);
                        self.send(Datagram::ToClient(packet));
                    }
                }
                Action::End(end) => self.end = Some(end),
            }
        }
    }

    fn send(&mut self, datagram: Datagram) {
        let copies = self.faults.copies();
        for _ in 0..copies {
            let at = self.now + self.faults.latency();
            self.sequence += 1;
            let copy = match &datagram {
                Datagram::ToClient(bytes) => Datagram::ToClient(bytes.clone()),
                Datagram::ToServer(bytes) => Datagram::ToServer(bytes.clone()),
            };
            self.wire.insert((at, self.sequence), copy);
        }
    }
}

/// A reading client as RFC 7440 describes it, without a timer of its own: the server's must do.
struct Client {
    block_bytes: usize,
    window: u16,
    next: u64,
    in_window: u16,
    received: Vec<u8>,
    done: bool,
}

impl Client {
    fn new(block_bytes: u16, window: u16) -> Self {
        Self {
            block_bytes: block_bytes.into(),
            window,
            next: 1,
            in_window: 0,
            received: Vec::new(),
            done: false,
        }
    }

    fn on_packet(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        if bytes[1] == 6 {
            return if self.next == 1 { vec![ack(0)] } else { vec![] };
        }
        let number = u16::from_be_bytes([bytes[2], bytes[3]]);
        if number != wire_number(self.next) || self.done {
            self.in_window = 0;
            return vec![ack(wire_number(self.next - 1))];
        }
        self.received.extend(&bytes[4..]);
        self.next += 1;
        self.in_window += 1;
        self.done = bytes.len() - 4 < self.block_bytes;
        if self.done || self.in_window == self.window {
            self.in_window = 0;
            return vec![ack(number)];
        }
        vec![]
    }
}

fn ack(block: u16) -> Vec<u8> {
    [&[0, 4][..], &block.to_be_bytes()].concat()
}

struct Faults {
    dice: Vec<u8>,
    at: usize,
    loss: u8,
    duplication: u8,
    delay: u8,
    duplicated: u64,
}

impl Faults {
    fn copies(&mut self) -> u8 {
        if self.roll() < self.loss {
            0
        } else if self.roll() < self.duplication {
            self.duplicated += 1;
            2
        } else {
            1
        }
    }

    fn latency(&mut self) -> Duration {
        Duration::from_millis(if self.roll() < self.delay { 700 } else { 5 })
    }

    fn roll(&mut self) -> u8 {
        self.at += 1;
        // The dice repeat; a stride keeps loss, duplication and delay apart.
        self.dice[(self.at * 13 + self.at / self.dice.len()) % self.dice.len()]
    }
}
