//! The servers' side: what the production shell does around the coordinator, step by step on the agenda.
//!
//! A job is one input on its way: prepared, committed some time later (others come in between), then answered. A crash
//! takes all jobs and sessions; what they had committed stays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ephemeral::{Changes, File};
use proto::v1;
use serde_json::Value;
use server::coordinator::{Answer, Assignment, Changed, Coordinator, Input, Limits, Next, Orders, Plan};
use server::machines;
use store::{Commit, Operation, Store, StoreError};
use v1::agent_message::Kind as ToServer;
use v1::report::Outcome as Reported;
use v1::server_message::Kind as FromServer;
use workflow::engine::{AttemptId, Outcome};

use super::people::Ticket;
use super::{Happening, World};
use crate::Breakage;
use crate::dice::Dice;
use crate::network::{StreamId, Way};

/// Of the servers' clocks at the beginning.
const EPOCH_MS: u64 = 1_800_000_000_000;
/// A machine that was not heard of for so long has lost its attempt.
const SILENCE_MS: u64 = 300_000;
/// How often timers and silences are looked at, whatever is due.
const LOOK_MS: u64 = 60_000;
/// A commit that meets conflicts for ever would be a server that stands still.
const MAX_TRIES: u32 = 1000;

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
    jobs: BTreeMap<u64, Job>,
    last_job: u64,
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
}

/// What an agent wants, or what is to be looked at for it.
#[derive(Clone, Debug)]
enum Ask {
    Hello(Box<v1::Hello>),
    /// A report that came with the Hello.
    Owed(Box<v1::Report>),
    Report(Box<v1::Report>),
    Work,
}

struct Job {
    input: Input,
    origin: Origin,
    plan: Option<Plan>,
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
            },
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
            jobs: BTreeMap::new(),
            last_job: 0,
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
        this.timers.clear();
        this.crashes_before_commit = false;
        this.crashes_after_commit = false;
        for job in jobs.into_values() {
            // A commit may have been on its way to the disk.
            if let Some(plan) = &job.plan
                && self.dice.one_in(2)
            {
                let _ = self.disk.commit(&plan.commit);
            }
            if let Origin::Person(ticket) = job.origin {
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

    pub(super) fn arrives_at_server(&mut self, stream: StreamId) {
        let Some(message) = self.network.take_up(stream) else {
            return;
        };
        let Some((server, life, machine, agent_open)) = self.network.get(stream).map(|stream| {
            (
                stream.server,
                stream.server_life,
                stream.machine,
                stream.agent_open,
            )
        }) else {
            return;
        };
        if self.servers[server].life != life || !self.servers[server].is_up() {
            self.server_end_vanishes(stream);
            return;
        }
        if !agent_open {
            self.coverage.fault("network: a message of an old stream");
        }
        let name = self.machines[machine].name.clone();
        let now = self.now;
        let this = &mut self.servers[server];
        this.heard.insert(name.clone(), now);
        match message {
            ToServer::Hello(hello) => {
                let session = Session {
                    machine: name.clone(),
                    boot_id: hello.boot_id.clone(),
                    epoch: None,
                    asks: VecDeque::from([Ask::Hello(Box::new(hello))]),
                    busy: false,
                    pushed: None,
                    stopped: None,
                };
                this.sessions.insert(stream, session);
            }
            ToServer::Report(report) => {
                if let Some(session) = this.sessions.get_mut(&stream) {
                    session.asks.push_back(Ask::Report(Box::new(report)));
                }
            }
            ToServer::Log(_) | ToServer::Progress(_) | ToServer::Heartbeat(_) => {}
        }
        self.serve(server, stream);
        if self.network.is_over(stream, Way::Up) {
            self.server_notices_end(stream);
        }
    }

    pub(super) fn server_notices_end(&mut self, stream: StreamId) {
        let Some(server) = self.network.get(stream).map(|stream| stream.server) else {
            return;
        };
        if !self.network.is_over(stream, Way::Up) {
            self.plan(1_000, Happening::ServerNoticesEnd(stream));
            return;
        }
        // What was received is done to its end, as in a session whose stream has broken.
        if self.servers[server]
            .sessions
            .get(&stream)
            .is_some_and(|session| session.busy || !session.asks.is_empty())
        {
            self.plan(1_000, Happening::ServerNoticesEnd(stream));
            return;
        }
        self.servers[server].sessions.remove(&stream);
        self.network.server_closes(stream);
    }

    /// Has the session's next ask done, if it has one and does nothing now.
    fn serve(&mut self, server: usize, stream: StreamId) {
        let Some(session) = self.servers[server]
            .sessions
            .get_mut(&stream)
            .filter(|session| !session.busy)
        else {
            return;
        };
        let Some(ask) = session.asks.pop_front() else {
            return;
        };
        let machine = session.machine.clone();
        let input = match &ask {
            Ask::Hello(hello) => Some(Input::Attach {
                machine,
                boot_id: hello.boot_id.clone(),
                running: hello.running_attempt.parse().ok(),
            }),
            Ask::Owed(report) | Ask::Report(report) => report_input(machine, session, report),
            Ask::Work => session.epoch.map(|epoch| Input::Work { machine, epoch }),
        };
        match input {
            Some(input) => {
                session.busy = true;
                self.start_job(server, input, Origin::Stream(stream, ask));
            }
            None => self.break_down(format!("an ask that is none: {ask:?}")),
        }
    }

    fn start_job(&mut self, server: usize, input: Input, origin: Origin) {
        let this = &mut self.servers[server];
        this.last_job += 1;
        let number = this.last_job;
        let job = Job {
            input,
            origin,
            plan: None,
            tries: 0,
        };
        this.jobs.insert(number, job);
        self.prepare(server, number);
    }

    fn prepare(&mut self, server: usize, number: u64) {
        if self.was_made_before(server, number) {
            return;
        }
        let now = self.server_clock(server);
        let this = &mut self.servers[server];
        let (Some(coordinator), Some(job)) = (&this.coordinator, this.jobs.get_mut(&number)) else {
            return;
        };
        job.tries += 1;
        if job.tries > MAX_TRIES {
            let input = format!("{:?}", job.input);
            self.break_down(format!(
                "after {MAX_TRIES} tries there is still a conflict: {input}"
            ));
            return;
        }
        let input = job.input.clone();
        match coordinator.prepare(now, &input) {
            Err(error) => self.break_down(format!("{input:?} cannot be prepared: {error}")),
            Ok(plan) if plan.commit.operations.is_empty() => self.finish(server, number, plan),
            Ok(plan) => {
                let life = this.life;
                job.plan = Some(plan);
                self.answer_too_early(server, number);
                let after = match self.dice.below(20) {
                    0 => self.dice.span(5_000),
                    _ => self.dice.span(10),
                };
                self.plan(
                    after,
                    Happening::Commits {
                        server,
                        life,
                        job: number,
                    },
                );
            }
        }
    }

    /// Somebody asks a second time for a workflow that is there: the key of the first request says which it is.
    fn was_made_before(&mut self, server: usize, number: u64) -> bool {
        let Some(job) = self.servers[server].jobs.get(&number) else {
            return false;
        };
        let (Input::Create(new), Origin::Person(ticket)) = (&job.input, &job.origin) else {
            return false;
        };
        let (ticket, key) = (*ticket, super::people::idempotency_key(&new.creation.name));
        let found = self.disk.get(key.as_bytes()).ok().flatten();
        let Some(id) = found.and_then(|row| String::from_utf8(row.value.to_vec()).ok()) else {
            return false;
        };
        self.servers[server].jobs.remove(&number);
        match self.workflow(&id) {
            Some(workflow) => self.answered(ticket, Answer::Workflow(workflow)),
            None => self.break_down(format!("workflow {id} was made for {key}, and is not there")),
        }
        true
    }

    /// The broken server: it acknowledges what is not committed yet.
    fn answer_too_early(&mut self, server: usize, number: u64) {
        if self.settings.breakage != Some(Breakage::AnswersBeforeCommit) {
            return;
        }
        if let Some(Job {
            origin: Origin::Stream(stream, Ask::Owed(report) | Ask::Report(report)),
            ..
        }) = self.servers[server].jobs.get(&number)
        {
            let (stream, sequence) = (*stream, report.sequence);
            self.send_down(
                stream,
                FromServer::Acknowledged(v1::ReportsAcknowledged { sequence }),
            );
        }
    }

    pub(super) fn commits(&mut self, server: usize, life: u64, number: u64) {
        let this = &mut self.servers[server];
        if this.life != life || !this.is_up() {
            return;
        }
        if std::mem::take(&mut this.crashes_before_commit) {
            self.say(format!("server {server} crashes before a commit"));
            self.coverage.fault("server: crashes before a commit");
            self.servers[server]
                .jobs
                .remove(&number)
                .into_iter()
                .for_each(|job| {
                    if let Origin::Person(ticket) = job.origin {
                        self.people.unanswered(ticket);
                    }
                });
            self.server_crashes(server);
            return;
        }
        let Some(plan) = this.jobs.get_mut(&number).and_then(|job| job.plan.take()) else {
            return;
        };
        let mut commit = plan.commit.clone();
        if self.settings.breakage == Some(Breakage::IgnoresConflicts) {
            commit.preconditions.clear();
        }
        match self.disk.commit(&commit) {
            Ok(_) if std::mem::take(&mut this.crashes_after_commit) => {
                self.say(format!("server {server} crashes after a commit"));
                self.coverage.fault("server: crashes after a commit");
                self.server_crashes(server);
            }
            Ok(revision) => {
                if let Some(coordinator) = &this.coordinator {
                    coordinator.committed(&plan, revision);
                }
                self.finish(server, number, plan);
            }
            Err(error) if error.is_conflict() => {
                if let Some(coordinator) = &this.coordinator {
                    coordinator.forget(&plan);
                }
                self.coverage.fault("server: a conflict");
                self.prepare(server, number);
            }
            Err(error) => {
                if let Some(coordinator) = &this.coordinator {
                    coordinator.forget(&plan);
                }
                if !matches!(error, StoreError::Backend { .. }) {
                    self.break_down(format!("a commit that no store takes: {error}"));
                }
                self.say(format!("server {server} cannot commit: {error}"));
                self.fail(server, number);
                // It may have happened: what follows from it finds out, or finds nothing to do.
                self.then(server, plan.then);
            }
        }
    }

    /// The disk failed: nobody knows whether it happened.
    fn fail(&mut self, server: usize, number: u64) {
        let life = self.servers[server].life;
        let Some(origin) = self.servers[server]
            .jobs
            .get(&number)
            .map(|job| job.origin.clone())
        else {
            return;
        };
        match origin {
            Origin::Own => {
                let after = 1_000 + self.dice.span(5_000);
                self.plan(
                    after,
                    Happening::TriesAgain {
                        server,
                        life,
                        job: number,
                    },
                );
            }
            Origin::Person(ticket) => {
                self.servers[server].jobs.remove(&number);
                self.people.unanswered(ticket);
            }
            Origin::Stream(stream, _) => {
                // The agent keeps what was not acknowledged and comes again.
                self.servers[server].jobs.remove(&number);
                self.end_session(server, stream);
            }
        }
    }

    pub(super) fn tries_again(&mut self, server: usize, life: u64, number: u64) {
        if self.servers[server].life == life {
            self.prepare(server, number);
        }
    }

    fn end_session(&mut self, server: usize, stream: StreamId) {
        self.servers[server].sessions.remove(&stream);
        self.server_ends_stream(stream);
    }

    /// It is durable: answer, and go on with what follows from it.
    fn finish(&mut self, server: usize, number: u64, plan: Plan) {
        let Some(job) = self.servers[server].jobs.remove(&number) else {
            return;
        };
        self.then(server, plan.then);
        match job.origin {
            Origin::Own => {}
            Origin::Person(ticket) => self.answered(ticket, plan.answer),
            Origin::Stream(stream, ask) => {
                if let Some(session) = self.servers[server].sessions.get_mut(&stream) {
                    session.busy = false;
                }
                match plan.answer {
                    Answer::Machine(assignment) => self.tell(server, stream, &ask, assignment),
                    Answer::Stale => {
                        self.coverage.fault("server: stale stream");
                        self.end_session(server, stream);
                    }
                    other => self.break_down(format!("a machine that asks {ask:?} is told {other:?}")),
                }
                self.serve(server, stream);
            }
        }
    }

    fn then(&mut self, server: usize, nexts: Vec<Next>) {
        for next in nexts {
            match next {
                Next::Carry(key) => self.start_job(server, Input::Carry { key }, Origin::Own),
                Next::Timer { at, workflow } => {
                    let after = at.saturating_sub(self.server_clock(server));
                    let life = self.servers[server].life;
                    self.servers[server].timers.insert((at, workflow));
                    self.plan(after, Happening::Looks { server, life });
                }
                Next::Wake(machine) => self.wake(server, &machine),
                Next::Changed { .. } => {}
            }
        }
    }

    fn wake(&mut self, server: usize, machine: &str) {
        let sessions = &mut self.servers[server].sessions;
        let attached = sessions
            .iter_mut()
            .filter(|(_, session)| session.machine == machine && session.epoch.is_some())
            .filter(|(_, session)| !session.asks.iter().any(|ask| matches!(ask, Ask::Work)));
        let streams: Vec<StreamId> = attached
            .map(|(stream, session)| {
                session.asks.push_back(Ask::Work);
                *stream
            })
            .collect();
        for stream in streams {
            self.serve(server, stream);
        }
    }

    /// Says to the agent what its ask came to.
    fn tell(&mut self, server: usize, stream: StreamId, ask: &Ask, assignment: Assignment) {
        let Some(session) = self.servers[server].sessions.get_mut(&stream) else {
            return;
        };
        let machine = session.machine.clone();
        match ask {
            Ask::Hello(hello) => {
                session.epoch = Some(assignment.epoch);
                session.pushed = hello.running_attempt.parse().ok();
                let mut owed = hello.unacknowledged.clone();
                owed.sort_by_key(|report| report.sequence);
                let mut asks: VecDeque<Ask> = owed
                    .into_iter()
                    .map(|report| Ask::Owed(Box::new(report)))
                    .collect();
                asks.push_back(Ask::Work);
                asks.append(&mut session.asks);
                session.asks = asks;
                let welcome = v1::Welcome {
                    machine,
                    epoch: assignment.epoch,
                    now: None,
                    heartbeat_interval_s: 10,
                };
                self.send_down(stream, FromServer::Welcome(welcome));
                if let Orders::Stop { .. } = assignment.orders {
                    self.give_orders(server, stream, assignment.orders);
                }
            }
            Ask::Owed(report) => self.acknowledge(server, stream, report, assignment.sequence),
            Ask::Report(report) => {
                self.acknowledge(server, stream, report, assignment.sequence);
                self.give_orders(server, stream, assignment.orders);
            }
            Ask::Work => self.give_orders(server, stream, assignment.orders),
        }
    }

    fn acknowledge(&mut self, server: usize, stream: StreamId, report: &v1::Report, sequence: u64) {
        let ends = !matches!(report.outcome, None | Some(Reported::Started(_)));
        if ends && let Some(session) = self.servers[server].sessions.get_mut(&stream) {
            session
                .pushed
                .take_if(|pushed| pushed.to_string() == report.attempt_id);
        }
        self.send_down(
            stream,
            FromServer::Acknowledged(v1::ReportsAcknowledged { sequence }),
        );
    }

    fn give_orders(&mut self, server: usize, stream: StreamId, orders: Orders) {
        let Some(session) = self.servers[server].sessions.get_mut(&stream) else {
            return;
        };
        match orders {
            // What it runs or still has to end comes first: its report brings the orders again.
            Orders::Run(attempt) if session.pushed.is_none() => self.push(server, stream, &attempt),
            Orders::Stop { attempt, reason } if session.stopped.as_ref() != Some(&attempt) => {
                session.stopped = Some(attempt.clone());
                let stop = v1::StopAction {
                    attempt_id: attempt.to_string(),
                    reason,
                    grace_s: 10,
                };
                self.send_down(stream, FromServer::Stop(stop));
            }
            Orders::Run(_) | Orders::Stop { .. } | Orders::Leave | Orders::Wait => {}
        }
    }

    fn push(&mut self, server: usize, stream: StreamId, attempt: &AttemptId) {
        let found = self.servers[server]
            .coordinator
            .as_ref()
            .map(|coordinator| coordinator.dispatch(attempt));
        let dispatch = match found {
            Some(Ok(Some(dispatch))) => dispatch,
            // It has ended in the meantime.
            Some(Ok(None)) | None => return,
            Some(Err(error)) => return self.break_down(format!("attempt {attempt} cannot be read: {error}")),
        };
        let run = v1::RunAction {
            attempt_id: attempt.to_string(),
            workflow_id: attempt.workflow.clone(),
            workflow_name: dispatch.workflow_name,
            task: dispatch.task,
            action: dispatch.action,
            image: dispatch.image,
            command: dispatch.command,
            timeout_s: dispatch.timeout_s,
            reboots: self.reboots(attempt),
            data_version: self.data_version(server, attempt),
            ..v1::RunAction::default()
        };
        if let Some(session) = self.servers[server].sessions.get_mut(&stream) {
            session.pushed = Some(attempt.clone());
        }
        self.send_down(stream, FromServer::Run(run));
    }

    /// The root's newest, as the production session has it.
    fn data_version(&self, server: usize, attempt: &AttemptId) -> u64 {
        let root = self
            .workflow(&attempt.workflow)
            .map(|workflow| workflow.root().to_owned());
        let coordinator = self.servers[server].coordinator.as_ref();
        let version = root
            .zip(coordinator)
            .map(|(root, coordinator)| coordinator.data_version(&root));
        version.and_then(Result::ok).unwrap_or_default()
    }

    fn reboots(&self, attempt: &AttemptId) -> bool {
        let action = self.workflow(&attempt.workflow).and_then(|workflow| {
            let task = workflow.definition.tasks.get(attempt.execution.task)?;
            task.actions.get(attempt.action).map(|action| action.reboots)
        });
        action.unwrap_or_default()
    }

    fn send_down(&mut self, stream: StreamId, message: FromServer) {
        if self.loses_a_message() {
            return;
        }
        if let Some(at) = self.network.send_down(stream, message, self.now, &mut self.dice) {
            self.plan(at - self.now, Happening::ArrivesAtAgent(stream));
        }
    }

    pub(super) fn server_looks(&mut self, server: usize, life: u64) {
        if self.servers[server].life != life || !self.servers[server].is_up() {
            return;
        }
        self.fire_timers(server);
        if self.now.saturating_sub(self.servers[server].looked_at) >= LOOK_MS {
            self.servers[server].looked_at = self.now;
            self.look_for_silence(server);
            self.plan(LOOK_MS, Happening::Looks { server, life });
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

    /// A person's request reaches a server; false: none is up.
    pub(super) fn ask_server(&mut self, input: Input, ticket: Ticket) -> bool {
        let Some(server) = (0..self.servers.len()).find(|server| self.servers[*server].is_up()) else {
            return false;
        };
        self.start_job(server, input, Origin::Person(ticket));
        true
    }

    /// What a server that is up knows of a workflow.
    pub(super) fn workflow(&self, id: &str) -> Option<Arc<workflow::engine::Workflow>> {
        let up = self
            .servers
            .iter()
            .find_map(|server| server.coordinator.as_ref())?;
        up.workflow(id).ok().flatten()
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

fn report_input(machine: String, session: &Session, report: &v1::Report) -> Option<Input> {
    Some(Input::Report {
        machine,
        boot_id: session.boot_id.clone(),
        epoch: session.epoch?,
        sequence: report.sequence,
        attempt: report.attempt_id.parse().ok()?,
        outcome: report.outcome.as_ref().map(outcome),
        data: changed(report),
    })
}

/// What a report brings, its contents taken for kept.
fn changed(report: &v1::Report) -> Option<Changed> {
    let Some(Reported::Succeeded(succeeded)) = &report.outcome else {
        return None;
    };
    let changes = succeeded.data_changes.as_ref()?;
    let put = changes.put.iter().filter_map(|file| {
        let known = File {
            sha256: file.sha256.parse().ok()?,
            size_bytes: file.size_bytes,
            executable: file.executable,
        };
        Some((file.path.parse().ok()?, known))
    });
    Some(Changed {
        base_version: changes.base_version,
        changes: Changes {
            put: put.collect(),
            deleted: changes
                .deleted
                .iter()
                .filter_map(|path| path.parse().ok())
                .collect(),
        },
    })
}

/// As the agents' sessions of the server read it.
pub(crate) fn outcome(reported: &Reported) -> Outcome {
    match reported.clone() {
        Reported::Started(_) => Outcome::Started,
        Reported::Succeeded(succeeded) => Outcome::Succeeded {
            message: succeeded.message,
            bytes: succeeded.bytes,
            outputs: serde_json::from_str(&succeeded.outputs_json).unwrap_or_default(),
            data_version: None,
        },
        Reported::Failed(failed) => Outcome::Failed {
            reason: failed.reason,
            message: failed.message,
            exit_code: failed.exit_code,
        },
        Reported::TimedOut(timed_out) => Outcome::TimedOut {
            message: timed_out.message,
        },
        Reported::Leaving(leaving) => Outcome::Leaving { how: leaving.how },
        Reported::Stopped(stopped) => Outcome::Stopped {
            message: stopped.message,
        },
    }
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
