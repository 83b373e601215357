//! Jobs: an input on its way through the coordinator and the disk.

use coordinator::{Answer, Input, Next, Plan};
use proto::v1;
use store::{Commit, Operation, Store, StoreError};
use v1::server_message::Kind as FromServer;
use workflow::engine::Refusal;

use super::{Ask, Job, Origin};
use crate::Breakage;
use crate::archives::Archives;
use crate::network::StreamId;
use crate::world::{Happening, World, people};

/// A commit that meets conflicts for ever would be a server that stands still.
const MAX_TRIES: u32 = 1000;

/// Takes the place in the order out of a commit.
fn without_order(commit: &mut Commit) -> Commit {
    let is_place = |operation: &mut Operation| matches!(operation, Operation::Append { .. });
    Commit {
        operations: commit.operations.extract_if(.., is_place).collect(),
        ..Commit::default()
    }
}

impl World {
    pub(super) fn start_job(&mut self, server: usize, input: Input, origin: Origin) {
        let this = &mut self.servers[server];
        this.last_job += 1;
        let number = this.last_job;
        let job = Job {
            input,
            origin,
            plan: None,
            durable: None,
            tries: 0,
        };
        this.jobs.insert(number, job);
        self.prepare(server, number);
    }

    pub(super) fn prepare(&mut self, server: usize, number: u64) {
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
            Err(coordinator::Error::Archived(id)) => {
                if let Some(job) = self.servers[server].jobs.remove(&number) {
                    self.bring_back(server, &id, job.input, job.origin);
                }
            }
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
    pub(super) fn was_made_before(&mut self, server: usize, number: u64) -> bool {
        let Some(job) = self.servers[server].jobs.get(&number) else {
            return false;
        };
        let (Input::Create(new), Origin::Person(ticket)) = (&job.input, &job.origin) else {
            return false;
        };
        let (ticket, key) = (*ticket, people::idempotency_key(&new.creation.name));
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
    pub(super) fn answer_too_early(&mut self, server: usize, number: u64) {
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

    pub(in crate::world) fn commits(&mut self, server: usize, life: u64, number: u64) {
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
        if !plan.first.is_empty() {
            self.coverage.fault("server: values are detached");
        }
        let mut commit = plan.commit.clone();
        let operations = commit.operations.len().max(commit.preconditions.len());
        let most = this.limits.commit_operations;
        if operations > most {
            self.break_down(format!(
                "a commit of {operations} operations where {most} are the most"
            ));
            return;
        }
        if self.settings.breakage == Some(Breakage::IgnoresConflicts) {
            commit.preconditions.clear();
        }
        let order_of_its_own = match self.settings.breakage {
            Some(Breakage::OrderIsWrittenLater) => without_order(&mut commit),
            _ => Commit::default(),
        };
        let this = &mut self.servers[server];
        let first = plan.first.iter();
        let pieces = first.map(|commit| self.disk.commit(commit)).find(Result::is_err);
        match pieces.unwrap_or_else(|| self.disk.commit(&commit)) {
            Ok(_) if std::mem::take(&mut this.crashes_after_commit) => {
                self.say(format!("server {server} crashes after a commit"));
                self.coverage.fault("server: crashes after a commit");
                self.server_crashes(server);
            }
            Ok(revision) => {
                if !order_of_its_own.operations.is_empty() {
                    let _ = self.disk.commit(&order_of_its_own);
                }
                if let Some(job) = this.jobs.get_mut(&number) {
                    job.plan = Some(plan);
                    job.durable = Some(revision);
                }
                if self.dice.one_in(10) {
                    self.coverage.fault("server: sees a commit late");
                    let after = 1 + self.dice.span(20);
                    let job = number;
                    self.plan(after, Happening::SeesCommit { server, life, job });
                } else {
                    self.sees_commit(server, life, number);
                }
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

    /// A commit is durable a moment before the server knows of it.
    pub(in crate::world) fn sees_commit(&mut self, server: usize, life: u64, number: u64) {
        let this = &mut self.servers[server];
        if this.life != life || !this.is_up() {
            return;
        }
        let Some(job) = this.jobs.get_mut(&number) else {
            return;
        };
        if let (Some(coordinator), Some(plan), Some(revision)) =
            (&this.coordinator, job.plan.take(), job.durable.take())
        {
            coordinator.committed(&plan, revision);
            self.finish(server, number, plan);
        }
    }

    /// The disk failed: nobody knows whether it happened.
    pub(super) fn fail(&mut self, server: usize, number: u64) {
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

    pub(in crate::world) fn tries_again(&mut self, server: usize, life: u64, number: u64) {
        if self.servers[server].life == life {
            self.prepare(server, number);
        }
    }

    pub(super) fn end_session(&mut self, server: usize, stream: StreamId) {
        self.servers[server].sessions.remove(&stream);
        self.server_ends_stream(stream);
    }

    /// It is durable: answer, and go on with what follows from it.
    pub(super) fn finish(&mut self, server: usize, number: u64, plan: Plan) {
        let Some(job) = self.servers[server].jobs.remove(&number) else {
            return;
        };
        self.then(server, plan.then);
        if let (
            Answer::Refused(Refusal::Missing),
            Origin::Person(_),
            Input::Asked { workflow, .. } | Input::Command { workflow, .. },
        ) = (&plan.answer, &job.origin, &job.input)
            && matches!(Archives::of(&self.disk, workflow), Ok(Some(_)))
        {
            let id = workflow.clone();
            return self.bring_back(server, &id, job.input, job.origin);
        }
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

    pub(super) fn then(&mut self, server: usize, nexts: Vec<Next>) {
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
                Next::Ended { root } => self.will_archive(server, root),
                Next::Ask { workflow } => self.will_ask(server, workflow),
                Next::Changed { .. } | Next::Turned { .. } => {}
            }
        }
    }

    pub(in crate::world) fn wake(&mut self, server: usize, machine: &str) {
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
}
