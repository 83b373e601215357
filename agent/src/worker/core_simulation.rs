//! A worker against a server over streams that break, lose, delay, duplicate and reorder, with workers that die and
//! servers that are stale; many seeds, no clock.

use std::collections::{BTreeMap, BTreeSet};

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

/// The server's side of the contract: applies a sequence once, pushes one attempt at a time, stops some.
#[derive(Default)]
struct Server {
    applied: u64,
    epoch: u64,
    /// Ends that were told, by attempt.
    outcomes: BTreeMap<String, Vec<Outcome>>,
    started: BTreeMap<String, u32>,
    stops: BTreeSet<String>,
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
        assert!(report.epoch <= self.epoch, "from the future: {report:?}");
        self.applied = report.sequence;
        match report.outcome.clone().expect("an outcome") {
            Outcome::Started(_) => *self.started.entry(report.attempt_id.clone()).or_default() += 1,
            end => self
                .outcomes
                .entry(report.attempt_id.clone())
                .or_default()
                .push(end),
        }
        if self.outcomes.contains_key(&self.current()) {
            self.next += 1;
        }
    }

    fn current(&self) -> String {
        id(self.next)
    }

    fn push(&self) -> Option<FromServer> {
        let run = v1::RunAction {
            attempt_id: self.current(),
            ..v1::RunAction::default()
        };
        (self.next < self.attempts).then_some(FromServer::Run(run))
    }

    fn stop(&mut self, attempt_id: String) -> FromServer {
        self.stops.insert(attempt_id.clone());
        FromServer::Stop(v1::StopAction {
            attempt_id,
            reason: "cancelled".to_owned(),
            grace_s: 1,
        })
    }

    fn acknowledgement(&self) -> FromServer {
        FromServer::Acknowledged(v1::ReportsAcknowledged {
            sequence: self.applied,
        })
    }
}

fn id(n: u32) -> String {
    format!("w/0/1/0/{n}/1")
}

struct World {
    dice: Dice,
    server: Server,
    core: Core,
    /// What the worker has recorded: it outlives it.
    journal: Vec<v1::Report>,
    up: VecDeque<ToServer>,
    down: VecDeque<FromServer>,
    connected: bool,
    /// At the other end is a server that another one has taken over from.
    stale: bool,
    running: Option<String>,
    /// It was asked to stop.
    asked: bool,
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
            journal: Vec::new(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            connected: false,
            stale: false,
            running: None,
            asked: false,
            runs: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        match self.dice.roll(16) {
            0 if self.connected => self.lose_stream(),
            0 | 1 if !self.connected => self.connect(),
            2..=4 => self.deliver_up(),
            5..=7 => self.deliver_down(),
            8 if self.connected => {
                let push = self.server.push();
                self.down.extend(push);
            }
            9 => {
                if let Some(attempt_id) = self.running.take() {
                    let outcome = self.end_of(&attempt_id);
                    self.handle(Event::Action(Told::Ended { attempt_id, outcome }));
                }
            }
            10 => self.handle(Event::Action(Told::Line("a line".to_owned()))),
            // A stop: for what runs, for what is over, for what was not even pushed.
            12 if self.connected => {
                let n = self.server.next.saturating_sub(1) + self.dice.roll(3) as u32;
                if n < self.server.attempts {
                    let stop = self.server.stop(id(n));
                    self.down.push_back(stop);
                }
            }
            // Two messages change places.
            13 if self.down.len() > 1 => {
                let at = self.dice.roll(self.down.len() as u64 - 1) as usize;
                // The Welcome is the first of its stream: nothing goes before it.
                if !matches!(self.down.get(at), Some(FromServer::Welcome(_))) {
                    self.down.swap(at, at + 1);
                }
            }
            14 if self.dice.roll(4) == 0 => self.kill_worker(),
            _ => self.handle(Event::Tick),
        }
    }

    /// Outputs that name their attempt, so that none is told of another.
    fn end_of(&mut self, attempt_id: &str) -> Outcome {
        if self.asked && self.dice.roll(3) > 0 {
            return Outcome::Stopped(v1::Stopped::default());
        }
        Outcome::Succeeded(v1::Succeeded {
            outputs_json: format!("{{\"attempt\":\"{attempt_id}\"}}"),
            ..v1::Succeeded::default()
        })
    }

    fn handle(&mut self, event: Event) {
        let orders = self.core.handle(SystemTime::UNIX_EPOCH, event);
        self.obey(orders);
    }

    fn obey(&mut self, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Detach => {
                    assert!(self.stale, "a good server was left");
                    self.lose_stream();
                }
                Order::Record(report) => self.journal.push(report),
                Order::Send(message) => {
                    assert!(self.connected, "sent without a stream");
                    assert!(!self.stale, "said to a stale server: {message:?}");
                    if let ToServer::Report(report) = &message {
                        assert!(
                            self.journal.iter().any(|r| r.sequence == report.sequence),
                            "sent before it was recorded"
                        );
                    }
                    self.up.push_back(message);
                }
                Order::Start(run) => {
                    assert_eq!(self.running, None, "two attempts at a time");
                    assert!(!self.stale, "started for a stale server");
                    *self.runs.entry(run.attempt_id.clone()).or_default() += 1;
                    self.running = Some(run.attempt_id);
                    self.asked = false;
                }
                Order::Stop { grace, .. } => {
                    assert!(self.running.is_some(), "nothing runs that could be stopped");
                    assert_eq!(grace, Duration::from_secs(1));
                    self.asked = true;
                }
                Order::Leave(_) | Order::Look(_) | Order::Say(_) => {}
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
        let hello = self.core.hello();
        assert_eq!(hello.running, self.running.clone().unwrap_or_default());
        for entry in &hello.journal {
            let is_running = self.running.as_ref() == Some(&entry.attempt_id);
            assert_eq!(
                entry.state() == v1::AttemptState::Running,
                is_running,
                "{entry:?}"
            );
        }
        self.stale = self.server.epoch > 0 && hello.last_epoch == self.server.epoch && self.dice.roll(6) == 0;
        if self.stale {
            // It knows nothing of what came since, and pushes what it likes.
            let epoch = self.server.epoch - 1;
            self.down.push_back(welcome(epoch));
            self.down
                .push_back(FromServer::Acknowledged(v1::ReportsAcknowledged {
                    sequence: u64::MAX,
                }));
            self.down.push_back(FromServer::Run(v1::RunAction {
                attempt_id: "stale".to_owned(),
                ..v1::RunAction::default()
            }));
            return;
        }
        self.server.epoch += 1;
        for report in &hello.unacknowledged {
            self.server.apply(report);
        }
        self.down.push_back(welcome(self.server.epoch));
        self.down.push_back(self.server.acknowledgement());
        if hello.running != self.server.current() {
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

    /// Its action dies with it; another one of the same boot takes up the journal.
    fn kill_worker(&mut self) {
        self.connected = false;
        self.up.clear();
        self.down.clear();
        self.running = None;
        if self.dice.roll(2) == 0 {
            self.journal = self.core.reports();
        }
        let (core, orders) = Core::resume(self.journal.clone(), SystemTime::UNIX_EPOCH);
        self.core = core;
        self.obey(orders);
    }
}

fn welcome(epoch: u64) -> FromServer {
    FromServer::Welcome(v1::Welcome {
        epoch,
        ..v1::Welcome::default()
    })
}

#[test]
fn every_attempt_runs_at_most_once_and_every_report_arrives() {
    let (mut stopped, mut died, mut never_started) = (0, 0, 0);
    for seed in 0..600 {
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
        assert_eq!(world.runs.get("stale"), None, "seed {seed}");
        for n in 0..world.server.attempts {
            let id = id(n);
            let runs = world.runs.get(&id).copied().unwrap_or(0);
            let started = world.server.started.get(&id).copied().unwrap_or(0);
            assert!(runs <= 1, "seed {seed}: runs of {id}");
            assert_eq!(started, runs, "seed {seed}: starts of {id}");
            let ends = world.server.outcomes.get(&id).expect("an outcome");
            // However often it is told, it is the same.
            assert!(
                ends.iter().all(|end| Some(end) == ends.first()),
                "seed {seed}: {id} ended in different ways: {ends:?}"
            );
            match ends.first() {
                Some(Outcome::Succeeded(succeeded)) => {
                    assert!(succeeded.outputs_json.contains(&id), "seed {seed}: {succeeded:?}");
                    assert_eq!(runs, 1, "seed {seed}: {id} succeeded and never ran");
                }
                Some(Outcome::Stopped(_)) => {
                    assert!(
                        world.server.stops.contains(&id),
                        "seed {seed}: nobody stopped {id}"
                    );
                    stopped += 1;
                    never_started += u32::from(runs == 0);
                }
                Some(Outcome::Failed(failed)) => {
                    assert_eq!((failed.reason.as_str(), runs), ("WorkerDied", 1), "seed {seed}");
                    died += 1;
                }
                other => panic!("seed {seed}: {id}: {other:?}"),
            }
        }
    }
    assert!(
        stopped > 100 && died > 100 && never_started > 100,
        "the dice did not fall everywhere: {stopped} {died} {never_started}"
    );
}
