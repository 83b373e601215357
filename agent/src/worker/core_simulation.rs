//! A worker against a server over streams that break, lose, delay and duplicate; many seeds, no clock.

use std::collections::BTreeMap;

use super::*;

/// xorshift64*: the simulation needs variety, not secrecy.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

/// The server's side of the contract: applies a sequence once, pushes one attempt at a time.
#[derive(Default)]
struct Server {
    applied: u64,
    outcomes: BTreeMap<String, u32>,
    started: BTreeMap<String, u32>,
    next: u32,
    attempts: u32,
}

impl Server {
    fn apply(&mut self, report: &v1::Report) {
        if report.sequence <= self.applied {
            return;
        }
        assert_eq!(
            report.sequence,
            self.applied + 1,
            "a report was lost or overtaken"
        );
        self.applied = report.sequence;
        match report.outcome {
            Some(Outcome::Started(_)) => *self.started.entry(report.attempt_id.clone()).or_default() += 1,
            _ => *self.outcomes.entry(report.attempt_id.clone()).or_default() += 1,
        }
        if self.outcomes.contains_key(&self.current()) {
            self.next += 1;
        }
    }

    fn current(&self) -> String {
        format!("w/0/{}/1", self.next)
    }

    fn push(&self) -> Option<FromServer> {
        let run = v1::RunAction {
            attempt_id: self.current(),
            ..v1::RunAction::default()
        };
        (self.next < self.attempts).then_some(FromServer::Run(run))
    }

    fn acknowledgement(&self) -> FromServer {
        FromServer::Acknowledged(v1::ReportsAcknowledged {
            sequence: self.applied,
        })
    }
}

struct World {
    dice: Dice,
    server: Server,
    core: Core,
    up: VecDeque<ToServer>,
    down: VecDeque<FromServer>,
    connected: bool,
    running: Option<String>,
    runs: BTreeMap<String, u32>,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            dice: Dice(seed * 2 + 1),
            server: Server {
                attempts: 12,
                ..Server::default()
            },
            core: Core::default(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            connected: false,
            running: None,
            runs: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        match self.dice.roll(12) {
            0 if self.connected => self.lose_stream(),
            0 | 1 if !self.connected => self.connect(),
            2..=4 => self.deliver_up(),
            5..=7 => self.deliver_down(),
            8 => self
                .down
                .extend(self.connected.then(|| self.server.push()).flatten()),
            9 => {
                if let Some(attempt_id) = self.running.take() {
                    let outcome = Outcome::Succeeded(v1::Succeeded::default());
                    self.handle(Event::Ended { attempt_id, outcome });
                }
            }
            10 => self.handle(Event::Line("a line".to_owned())),
            _ => self.handle(Event::Tick),
        }
    }

    fn handle(&mut self, event: Event) {
        for order in self.core.handle(SystemTime::UNIX_EPOCH, event) {
            match order {
                Order::Send(message) if self.connected => self.up.push_back(message),
                Order::Send(_) => panic!("sent without a stream"),
                Order::Start(run) => {
                    assert_eq!(self.running, None, "two attempts at a time");
                    *self.runs.entry(run.attempt_id.clone()).or_default() += 1;
                    self.running = Some(run.attempt_id);
                }
                Order::Leave(_) | Order::Record(_) | Order::Say(_) | Order::Stop { .. } => {}
            }
        }
    }

    fn lose_stream(&mut self) {
        self.connected = false;
        self.up.clear();
        self.down.clear();
        self.handle(Event::StreamLost);
    }

    fn connect(&mut self) {
        self.connected = true;
        let (running, unacknowledged) = self.core.hello();
        for report in &unacknowledged {
            self.server.apply(report);
        }
        self.down.push_back(FromServer::Welcome(v1::Welcome::default()));
        self.down.push_back(self.server.acknowledgement());
        if running != self.server.current() {
            self.down.extend(self.server.push());
        }
    }

    fn deliver_up(&mut self) {
        if let Some(ToServer::Report(report)) = self.up.pop_front() {
            self.server.apply(&report);
            // Acknowledgements may be late, and come twice; pushes too.
            if self.dice.roll(3) > 0 {
                self.down.push_back(self.server.acknowledgement());
            }
            self.down.extend(self.server.push());
        }
    }

    fn deliver_down(&mut self) {
        if let Some(message) = self.down.pop_front() {
            if self.dice.roll(4) == 0 {
                self.handle(Event::Received(message.clone()));
            }
            self.handle(Event::Received(message));
        }
    }
}

#[test]
fn every_attempt_runs_once_and_every_report_arrives() {
    for seed in 0..400 {
        let mut world = World::new(seed);
        let mut steps = 0;
        while world.server.next < world.server.attempts {
            world.step();
            steps += 1;
            assert!(
                steps < 200_000,
                "seed {seed}: stuck at attempt {}",
                world.server.next
            );
        }
        for n in 0..world.server.attempts {
            let id = format!("w/0/{n}/1");
            assert_eq!(world.runs.get(&id), Some(&1), "seed {seed}: runs of {id}");
            assert_eq!(
                world.server.started.get(&id),
                Some(&1),
                "seed {seed}: starts of {id}"
            );
            assert!(
                world.server.outcomes.contains_key(&id),
                "seed {seed}: outcome of {id}"
            );
        }
    }
}
