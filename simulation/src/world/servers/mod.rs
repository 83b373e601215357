//! The servers' side: what the production shell does around the coordinator, step by step on the agenda.
//!
//! A job is one input on its way: prepared, committed some time later (others come in between), then answered. A crash
//! takes all jobs and sessions; what they had committed stays.

mod archiving;
mod jobs;
mod sessions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use coordinator::archive;
use coordinator::machines;
use coordinator::{Coordinator, Input, Limits, Plan};
use proto::v1;
use serde_json::{Map, Value};
use store::{Commit, Operation, Revision, Store};
use workflow::engine::{self, AttemptId, Command};

use super::people::Ticket;
use super::{Happening, World};
use crate::Breakage;
use crate::dice::Dice;
use crate::network::StreamId;
use archiving::{Archiving, BringingBack};
pub(crate) use sessions::outcome;

/// Of the servers' clocks at the beginning.
const EPOCH_MS: u64 = 1_800_000_000_000;
/// A machine that was not heard of for so long has lost its attempt.
const SILENCE_MS: u64 = 300_000;
/// How often timers and silences are looked at, whatever is due.
const LOOK_MS: u64 = 60_000;

pub(crate) struct Server {
    /// Raised by every start.
    pub(crate) life: u64,
    coordinator: Option<Coordinator>,
    limits: Limits,
    started_at: u64,
    /// When silences were looked for last.
    looked_at: u64,
    /// What its clock is off, in milliseconds.
    pub(crate) clock_off: i64,
    sessions: BTreeMap<StreamId, Session>,
    timers: BTreeSet<(u64, String)>,
    /// Workflows that may wait for a system that answers.
    asks: BTreeSet<String>,
    jobs: BTreeMap<u64, Job>,
    last_job: u64,
    archiving: BTreeMap<u64, Archiving>,
    bringing_back: BTreeMap<u64, BringingBack>,
    /// When a machine was heard last, by name.
    heard: BTreeMap<String, u64>,
    /// Armed faults.
    pub(crate) crashes_before_commit: bool,
    pub(crate) crashes_after_commit: bool,
}

/// One agent's stream.
struct Session {
    machine: String,
    boot_id: String,
    /// Since the attach was committed.
    epoch: Option<u64>,
    asks: VecDeque<Ask>,
    busy: bool,
    /// What the agent said it runs, or what was pushed in this stream.
    pushed: Option<AttemptId>,
    stopped: Option<AttemptId>,
    /// What the agent had been given and not ended when it attached.
    given: BTreeSet<AttemptId>,
}

/// What an agent wants, or what is to be looked at for it.
#[derive(Clone, Debug)]
enum Ask {
    Hello(Box<v1::Hello>),
    /// A report that came with the Hello.
    Owed(Box<v1::Report>),
    Report(Box<v1::Report>),
    Work,
    /// The attempt cannot be handed out.
    Withhold(AttemptId),
}

struct Job {
    input: Input,
    origin: Origin,
    plan: Option<Plan>,
    /// Its plan is durable as that; the server is still to see it.
    durable: Option<Revision>,
    tries: u32,
}

#[derive(Clone, Debug)]
enum Origin {
    Stream(StreamId, Ask),
    Person(Ticket),
    /// A timer, an outbox row, a silence: it is done again until it is done.
    Own,
}

impl Server {
    pub(crate) fn new(dice: &mut Dice) -> Server {
        // Small caches, so that what is in them and what is not both happen.
        let limits = match dice.one_in(2) {
            true => Limits::default(),
            false => Limits {
                workflows: 2,
                machines: 2,
                inline_machines: dice.index(3),
                ..Limits::default()
            },
        };
        // As if every step did much.
        let limits = match dice.one_in(3) {
            true => Limits {
                commit_operations: Limits::LEAST_OPERATIONS,
                ..limits
            },
            false => limits,
        };
        // As if much stood in every workflow.
        let limits = match dice.one_in(3) {
            true => Limits {
                commit_bytes: 2_000,
                in_row_bytes: 200,
                ..limits
            },
            false => limits,
        };
        Server {
            life: 0,
            coordinator: None,
            limits,
            started_at: 0,
            looked_at: 0,
            clock_off: 0,
            sessions: BTreeMap::new(),
            timers: BTreeSet::new(),
            asks: BTreeSet::new(),
            jobs: BTreeMap::new(),
            last_job: 0,
            archiving: BTreeMap::new(),
            bringing_back: BTreeMap::new(),
            heard: BTreeMap::new(),
            crashes_before_commit: false,
            crashes_after_commit: false,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.coordinator.is_some()
    }
}

impl World {
    /// What is in the store before anybody does anything: the machines' records, and templates for sub-workflows.
    pub(super) fn set_up_store(&mut self) {
        let mut rows: Vec<(String, Value)> = Vec::new();
        for (number, machine) in self.machines.iter().enumerate() {
            let labels = [("rack".to_owned(), format!("r{}", number % 3))];
            let record = machines::Machine {
                name: machine.name.clone(),
                namespace: self.first_namespace(number).to_owned(),
                interfaces: machine
                    .mac
                    .parse()
                    .map(|mac| machines::Interface {
                        mac,
                        lease: None,
                        vlan_id: None,
                        may_netboot: true,
                        script: None,
                    })
                    .into_iter()
                    .collect(),
                disks: vec!["/dev/vda".to_owned()],
                labels: labels.into_iter().collect(),
                agent_id: None,
                policy: machines::Policy::Agent,
                kernel_params: Vec::new(),
                consoles: Vec::new(),
                hardware: Value::Null,
                document: Value::Null,
                created_at: EPOCH_MS,
                updated_at: EPOCH_MS,
            };
            rows.push((format!("machine/{}", machine.name), json(&record)));
            rows.push((format!("mac/{}", machine.mac), json(&machine.name)));
        }
        rows.extend(super::people::templates());
        rows.push(super::namespaces::row());
        for rows in rows.chunks(100) {
            let put = |(key, value): &(String, Value)| Operation::Put {
                key: key.clone().into(),
                value: value.to_string().into(),
            };
            let commit = Commit {
                operations: rows.iter().map(put).collect(),
                ..Commit::default()
            };
            let outcome = self
                .disk
                .commit(&commit)
                .map(|_| ())
                .map_err(|error| error.to_string());
            self.must(outcome);
        }
    }

    /// What the server's clock shows.
    pub(super) fn server_clock(&self, server: usize) -> u64 {
        (EPOCH_MS + self.now).saturating_add_signed(self.servers[server].clock_off)
    }

    pub(super) fn server_starts(&mut self, server: usize) {
        if self.servers[server].is_up() {
            return;
        }
        let coordinator = Coordinator::new(self.disk.clone(), self.servers[server].limits.clone());
        let left = match self.settings.breakage {
            Some(Breakage::ServerForgetsWhatIsLeft) => Ok(Vec::new()),
            _ => coordinator.recover(),
        };
        let now = self.now;
        let this = &mut self.servers[server];
        this.life += 1;
        this.started_at = now;
        this.looked_at = now;
        this.coordinator = Some(coordinator);
        this.heard.clear();
        let life = this.life;
        self.say(format!("server {server} starts, life {life}"));
        match left {
            Ok(left) => self.then(server, left),
            Err(error) => self.break_down(format!("recovery fails: {error}")),
        }
        self.plan(LOOK_MS, Happening::Looks { server, life });
    }

    /// Everything that it had in memory is gone.
    pub(super) fn server_crashes(&mut self, server: usize) {
        let this = &mut self.servers[server];
        if this.coordinator.take().is_none() {
            return;
        }
        let sessions = std::mem::take(&mut this.sessions);
        let jobs = std::mem::take(&mut this.jobs);
        let archiving = std::mem::take(&mut this.archiving);
        let bringing_back = std::mem::take(&mut this.bringing_back);
        this.timers.clear();
        this.asks.clear();
        this.crashes_before_commit = false;
        this.crashes_after_commit = false;
        for job in jobs.into_values() {
            // A commit may have been on its way to the disk.
            if let Some(plan) = &job.plan
                && job.durable.is_none()
                && self.dice.one_in(2)
            {
                let before = plan.first.iter();
                let mut commits = before.chain([&plan.commit]);
                let _ = commits.try_for_each(|commit| self.disk.commit(commit).map(drop));
            }
            if let Origin::Person(ticket) = job.origin {
                self.people.unanswered(ticket);
            }
        }
        for archiving in archiving.into_values() {
            if self.dice.one_in(2) {
                let _ = self.disk.commit(&archiving.commit);
            }
        }
        for bringing in bringing_back.into_values() {
            if let Origin::Person(ticket) = bringing.origin {
                self.people.unanswered(ticket);
            }
        }
        for stream in sessions.into_keys() {
            match self.dice.one_in(4) {
                true => self.server_end_vanishes(stream),
                false => self.server_ends_stream(stream),
            }
        }
        let after = 1 + self.dice.span(120_000);
        self.plan(after, Happening::ServerStarts { server });
    }

    pub(super) fn server_looks(&mut self, server: usize, life: u64) {
        if self.servers[server].life != life || !self.servers[server].is_up() {
            return;
        }
        self.fire_timers(server);
        if self.now.saturating_sub(self.servers[server].looked_at) >= LOOK_MS {
            self.servers[server].looked_at = self.now;
            self.look_for_silence(server);
            self.look_for_deadlocks(server);
            self.ask_systems(server);
            self.plan(LOOK_MS, Happening::Looks { server, life });
        }
    }

    pub(super) fn will_ask(&mut self, server: usize, workflow: String) {
        self.servers[server].asks.insert(workflow);
    }

    /// Systems that workflows wait for come up at some time, and say one thing or another before.
    fn ask_systems(&mut self, server: usize) {
        for id in self.servers[server].asks.clone() {
            let coordinator = self.servers[server].coordinator.as_ref();
            let found = coordinator.and_then(|coordinator| coordinator.workflow(&id).ok().flatten());
            let Some(found) = found.filter(|found| engine::waits_for_answers(found)) else {
                self.servers[server].asks.remove(&id);
                continue;
            };
            for question in engine::questions(&found) {
                let seen = match self.dice.below(12) {
                    0 => engine::Seen::Answer(Map::from_iter([(
                        "address".to_owned(),
                        json(&question.address),
                    )])),
                    1..=3 => engine::Seen::Else("connection refused".to_owned()),
                    4..=6 => engine::Seen::Else("no answer".to_owned()),
                    _ => continue,
                };
                let command = Command::Answered {
                    execution: question.execution,
                    seen,
                };
                let workflow = id.clone();
                self.start_job(server, Input::Command { workflow, command }, Origin::Own);
            }
        }
    }

    fn fire_timers(&mut self, server: usize) {
        let clock = self.server_clock(server);
        while let Some((at, workflow)) = self.servers[server]
            .timers
            .first()
            .cloned()
            .filter(|(at, _)| *at <= clock)
        {
            self.servers[server].timers.pop_first();
            self.start_job(server, Input::Timer { workflow, at }, Origin::Own);
        }
    }

    /// Machines whose attempt is lost, since nothing was heard of them while something could have been.
    fn look_for_silence(&mut self, server: usize) {
        let now = self.now;
        let listening: Vec<String> = self
            .network
            .of_server(server)
            .into_iter()
            .filter(|stream| self.network.is_whole(*stream))
            .filter_map(|stream| self.servers[server].sessions.get(&stream))
            .map(|session| session.machine.clone())
            .collect();
        for machine in listening {
            self.servers[server].heard.insert(machine, now);
        }
        let busy = self.servers[server]
            .coordinator
            .as_ref()
            .map(Coordinator::busy)
            .unwrap_or_default();
        for machine in busy {
            let this = &self.servers[server];
            let for_ms = now - this.heard.get(&machine).copied().unwrap_or(this.started_at);
            if for_ms >= SILENCE_MS {
                self.start_job(server, Input::Silent { machine, for_ms }, Origin::Own);
            }
        }
    }

    fn look_for_deadlocks(&mut self, server: usize) {
        let coordinator = self.servers[server].coordinator.as_ref();
        let suspects = coordinator.map(Coordinator::suspects).unwrap_or_default();
        for machine in suspects {
            self.start_job(server, Input::Blocked { machine }, Origin::Own);
        }
    }

    /// A person's request reaches a server; false: none is up.
    pub(super) fn ask_server(&mut self, input: Input, ticket: Ticket) -> bool {
        let input = match input {
            Input::Asked {
                workflow, command, ..
            } if self.settings.breakage == Some(Breakage::ServerForgetsKeys) => {
                Input::Command { workflow, command }
            }
            input => input,
        };
        let Some(server) = (0..self.servers.len()).find(|server| self.servers[*server].is_up()) else {
            return false;
        };
        self.start_job(server, input, Origin::Person(ticket));
        true
    }

    /// What a server that is up knows of a workflow, or its archive.
    pub(super) fn workflow(&self, id: &str) -> Option<Arc<workflow::engine::Workflow>> {
        let up = self
            .servers
            .iter()
            .find_map(|server| server.coordinator.as_ref())?;
        if let Some(found) = up.workflow(id).ok().flatten() {
            return Some(found);
        }
        let rows = self.archives.unpacked(&self.disk, id).ok().flatten()?;
        archive::workflow(&rows, id).ok().flatten()
    }

    /// A workflow that has not ended, in words.
    pub(super) fn explained(&self, id: &str) -> String {
        let Some(workflow) = self.workflow(id) else {
            return format!("workflow {id} cannot be read");
        };
        let clock = self.server_clock(0);
        let lines = workflow::engine::explain(&workflow, None, clock);
        format!("workflow {id} is {} ({})", workflow.head.state, lines.join(" | "))
    }
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
