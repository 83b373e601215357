//! Sessions: an agent's stream, as the production session serves it.

use std::collections::{BTreeSet, VecDeque};

use coordinator::{Assignment, Changed, Input, Orders};
use ephemeral::{Changes, File};
use proto::v1;
use v1::agent_message::Kind as ToServer;
use v1::report::Outcome as Reported;
use v1::server_message::Kind as FromServer;
use workflow::engine::{AttemptId, Outcome};

use super::{Ask, Origin, Session};
use crate::Breakage;
use crate::network::{StreamId, Way};
use crate::world::{Happening, World, secret_of};

impl World {
    pub(in crate::world) fn arrives_at_server(&mut self, stream: StreamId) {
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
                    busy: false,
                    pushed: None,
                    stopped: None,
                    given: BTreeSet::new(),
                    asks: VecDeque::from([Ask::Hello(Box::new(hello))]),
                };
                this.sessions.insert(stream, session);
            }
            ToServer::Report(report) => {
                if let Some(session) = this.sessions.get_mut(&stream) {
                    session.asks.push_back(Ask::Report(Box::new(report)));
                }
            }
            ToServer::Log(_)
            | ToServer::Progress(_)
            | ToServer::Heartbeat(_)
            | ToServer::Inventory(_)
            | ToServer::Seen(_) => {}
        }
        self.serve(server, stream);
        if self.network.is_over(stream, Way::Up) {
            self.server_notices_end(stream);
        }
    }

    pub(in crate::world) fn server_notices_end(&mut self, stream: StreamId) {
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
    pub(super) fn serve(&mut self, server: usize, stream: StreamId) {
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
        let hides = self.settings.breakage != Some(Breakage::SecretsAreKept);
        let secret = hides.then(|| secret_of(self.settings.seed));
        let input = match &ask {
            Ask::Hello(hello) => Some(Input::Attach {
                machine,
                boot_id: hello.boot_id.clone(),
                running: hello.running_attempt.parse().ok(),
                knows: knows(hello),
            }),
            Ask::Owed(report) | Ask::Report(report) => report_input(machine, session, report, secret),
            Ask::Work => session.epoch.map(|epoch| Input::Work { machine, epoch }),
            Ask::Withhold(attempt) => session.epoch.map(|epoch| Input::Withheld {
                machine,
                epoch,
                attempt: attempt.clone(),
                reason: "SecretMissing".to_owned(),
                message: "there is no secret TOKEN".to_owned(),
            }),
        };
        match input {
            Some(input) => {
                session.busy = true;
                self.start_job(server, input, Origin::Stream(stream, ask));
            }
            None => self.break_down(format!("an ask that is none: {ask:?}")),
        }
    }

    /// Says to the agent what its ask came to.
    pub(super) fn tell(&mut self, server: usize, stream: StreamId, ask: &Ask, assignment: Assignment) {
        let Some(session) = self.servers[server].sessions.get_mut(&stream) else {
            return;
        };
        let machine = session.machine.clone();
        match ask {
            Ask::Hello(hello) => {
                session.epoch = Some(assignment.epoch);
                session.pushed = hello.running_attempt.parse().ok();
                session.given = given(hello, assignment.sequence);
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
            Ask::Work | Ask::Withhold(_) => self.give_orders(server, stream, assignment.orders),
        }
    }

    pub(super) fn acknowledge(
        &mut self,
        server: usize,
        stream: StreamId,
        report: &v1::Report,
        sequence: u64,
    ) {
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

    pub(super) fn give_orders(&mut self, server: usize, stream: StreamId, orders: Orders) {
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

    pub(super) fn push(&mut self, server: usize, stream: StreamId, attempt: &AttemptId) {
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
        // Somebody has taken the secret away.
        let is_missing = !dispatch.secrets.is_empty() && !self.quiet && self.dice.percent(4);
        let value = (!is_missing).then(|| ("TOKEN".to_owned(), secret_of(self.settings.seed)));
        let Ok(handed) = dispatch.hand_out(&value.into_iter().collect()) else {
            return self.withhold(server, stream, attempt);
        };
        let run = v1::RunAction {
            attempt_id: attempt.to_string(),
            workflow_id: attempt.workflow.clone(),
            workflow_name: dispatch.workflow_name,
            namespace: dispatch.namespace,
            labels: dispatch.labels.into_iter().collect(),
            task: dispatch.task,
            action: dispatch.action,
            image: dispatch.image,
            command: handed.command,
            environment: handed.environment.into_iter().collect(),
            input_json: handed.input_json,
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

    /// As the production session does: what the agent has already it goes on with.
    fn withhold(&mut self, server: usize, stream: StreamId, attempt: &AttemptId) {
        let Some(session) = self.servers[server].sessions.get_mut(&stream) else {
            return;
        };
        if session.given.contains(attempt) {
            session.pushed = Some(attempt.clone());
            return;
        }
        // Before all else that the agent wants.
        session.asks.push_front(Ask::Withhold(attempt.clone()));
        self.coverage.fault("server: an action is withheld");
        self.say(format!("attempt {attempt} cannot be handed out"));
        self.serve(server, stream);
    }

    /// The root's newest, as the production session has it.
    pub(super) fn data_version(&self, server: usize, attempt: &AttemptId) -> u64 {
        let root = self
            .workflow(&attempt.workflow)
            .map(|workflow| workflow.root().to_owned());
        let coordinator = self.servers[server].coordinator.as_ref();
        let version = root
            .zip(coordinator)
            .map(|(root, coordinator)| coordinator.data_version(&root));
        version.and_then(Result::ok).unwrap_or_default()
    }

    pub(super) fn reboots(&self, attempt: &AttemptId) -> bool {
        let action = self.workflow(&attempt.workflow).and_then(|workflow| {
            let task = workflow.definition.tasks.get(attempt.execution.task)?;
            task.actions.get(attempt.action).map(|action| action.reboots)
        });
        action.unwrap_or_default()
    }

    pub(super) fn send_down(&mut self, stream: StreamId, message: FromServer) {
        if self.loses_a_message() {
            return;
        }
        if let Some(at) = self.network.send_down(stream, message, self.now, &mut self.dice) {
            self.plan(at - self.now, Happening::ArrivesAtAgent(stream));
        }
    }
}

/// As the agents' sessions of the server read it.
fn knows(hello: &v1::Hello) -> BTreeSet<AttemptId> {
    let entries = hello.journal.iter().map(|entry| &entry.attempt_id);
    let owed = hello.unacknowledged.iter().map(|report| &report.attempt_id);
    let all = entries.chain(owed).chain([&hello.running_attempt]);
    all.filter_map(|id| id.parse().ok()).collect()
}

/// As the agents' sessions of the server read it.
fn given(hello: &v1::Hello, sequence: u64) -> BTreeSet<AttemptId> {
    let is_open = |entry: &&v1::JournalEntry| {
        let state = entry.state();
        matches!(state, v1::AttemptState::Waiting | v1::AttemptState::Running) || entry.sequence > sequence
    };
    let open = hello.journal.iter().filter(is_open);
    open.filter_map(|entry| entry.attempt_id.parse().ok()).collect()
}

/// The value of `secret` in it is not kept.
fn report_input(
    machine: String,
    session: &Session,
    report: &v1::Report,
    secret: Option<String>,
) -> Option<Input> {
    let mut report = report.clone();
    let words = match &mut report.outcome {
        Some(Reported::Succeeded(succeeded)) => Some(&mut succeeded.message),
        Some(Reported::Failed(failed)) => Some(&mut failed.message),
        _ => None,
    };
    if let Some((words, secret)) = words.zip(secret) {
        *words = words.replace(&secret, "***");
    }
    Some(Input::Report(Box::new(coordinator::Report {
        machine,
        boot_id: session.boot_id.clone(),
        epoch: session.epoch?,
        sequence: report.sequence,
        attempt: report.attempt_id.parse().ok()?,
        outcome: report.outcome.as_ref().map(outcome),
        data: changed(&report),
        untouched: report
            .outcome
            .as_ref()
            .is_some_and(Reported::left_disks_untouched),
    })))
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
