//! The machines' side: boots, streams, and actions that end one way or another.

use agent::actions::Told;
use agent::worker::core::{Event, Leaving, Order};
use coordinator::database;
use ephemeral::Digest;
use proto::v1;
use serde_json::Value;
use v1::agent_message::Kind as ToServer;
use v1::report::Outcome;
use v1::server_message::Kind as FromServer;

use super::{Happening, World, secret_of};
use crate::Breakage;
use crate::dice::Dice;
use crate::machine::{Boot, Flaws, Power, Running};
use crate::network::{StreamId, Way};

/// An agent tries again after at most this.
const LONGEST_PAUSE_MS: u64 = 5_000;
/// Whoever is not told that the other end is gone finds out by keep-alives.
const KEEP_ALIVE_MS: u64 = 20_000;

impl World {
    pub(super) fn power_on(&mut self, machine: usize, most_ms: u64) {
        if self.machines[machine].power == Power::Off {
            self.machines[machine].power = Power::Starting;
            let after = 20_000 + self.dice.span(most_ms);
            self.plan(after, Happening::Boots { machine });
        }
    }

    /// Everything of the boot is gone, and nobody is told.
    pub(super) fn power_off(&mut self, machine: usize) {
        let Some(boot) = self.machines[machine].stop() else {
            return;
        };
        self.checks.ends_running(&self.machines[machine].mac);
        if let Some(stream) = boot.stream {
            self.agent_end_vanishes(stream);
        }
    }

    pub(super) fn boots(&mut self, machine: usize) {
        if self.machines[machine].power != Power::Starting {
            return;
        }
        self.asks_what_to_boot(machine);
        let flaws = self.flaws();
        self.machines[machine].start(flaws);
        let name = self.machines[machine].name.clone();
        self.say(format!("machine {name} has booted ({})", self.boot_name(machine)));
        self.connect_later(machine, 200);
    }

    /// As its firmware does; in here it boots the agent in any case.
    fn asks_what_to_boot(&mut self, machine: usize) {
        let mac = self.machines[machine].mac.clone();
        let Ok(known) = mac.parse() else { return };
        let read = database::read(&*self.disk, |view| {
            let Some(netboot) = coordinator::netboot::of(view, known)? else {
                return Ok(None);
            };
            let last = coordinator::netboot::last(view, &netboot.machine.index_names())?;
            Ok(Some((netboot, last)))
        });
        match read {
            Ok(Some((netboot, last))) => {
                let outcome = self.checks.boots(&mac, &netboot, last.as_ref());
                self.must(outcome);
            }
            Ok(None) => self.break_down(format!("machine {mac} is a stranger")),
            Err(error) => self.break_down(format!("what machine {mac} boots cannot be said: {error}")),
        }
    }

    pub(super) fn flaws(&self) -> Flaws {
        Flaws {
            forgets_journal: self.settings.breakage == Some(Breakage::AgentForgetsJournal),
            keeps_boot_id: self.settings.breakage == Some(Breakage::BootKeepsItsId),
        }
    }

    fn boot_name(&self, machine: usize) -> String {
        self.machines[machine]
            .boot
            .as_ref()
            .map(|boot| boot.id.clone())
            .unwrap_or_default()
    }

    /// The boot, if it is still the same.
    fn boot(&mut self, machine: usize, id: &str) -> Option<&mut Boot> {
        self.machines[machine].boot.as_mut().filter(|boot| boot.id == id)
    }

    pub(super) fn connect_later(&mut self, machine: usize, most_ms: u64) {
        let cut_off = self.machines[machine].cut_off_until.saturating_sub(self.now);
        let after = cut_off + self.dice.span(most_ms);
        let Some(boot) = &mut self.machines[machine].boot else {
            return;
        };
        boot.connections += 1;
        let (boot, connection) = (boot.id.clone(), boot.connections);
        self.plan(
            after,
            Happening::Connects {
                machine,
                boot,
                connection,
            },
        );
    }

    pub(super) fn connects(&mut self, machine: usize, id: &str, connection: u64) {
        let server = self.dice.index(self.servers.len());
        let latency = match self.dice.below(10) {
            0 => 5_000,
            1..=3 => 200,
            _ => 5,
        };
        let reachable = self.servers[server].is_up() && self.machines[machine].cut_off_until <= self.now;
        let Some(boot) = self
            .boot(machine, id)
            .filter(|boot| boot.connections == connection)
        else {
            return;
        };
        if !reachable {
            self.connect_later(machine, LONGEST_PAUSE_MS);
            return;
        }
        let greeting = boot.core.hello();
        let life = self.servers[server].life;
        let stream = self.network.open(machine, id, server, life, latency);
        if let Some(boot) = self.boot(machine, id) {
            boot.stream = Some(stream);
        }
        let name = self.machines[machine].name.clone();
        self.say(format!(
            "machine {name} opens stream {stream} to server {server}, {} reports owed, running {:?}",
            greeting.unacknowledged.len(),
            greeting.running
        ));
        if !greeting.unacknowledged.is_empty() {
            self.coverage.fault("network: a report comes twice");
        }
        let hello = v1::Hello {
            mac: self.machines[machine].mac.clone(),
            boot_id: id.to_owned(),
            running_attempt: greeting.running,
            unacknowledged: greeting.unacknowledged,
            journal: greeting.journal,
            last_epoch: greeting.last_epoch,
            ..v1::Hello::default()
        };
        self.send_up(stream, ToServer::Hello(hello));
    }

    /// The broken network: a stream that goes on without a message that was put into it.
    pub(super) fn loses_a_message(&mut self) -> bool {
        self.settings.breakage == Some(Breakage::LossyStreams) && self.dice.one_in(20)
    }

    pub(super) fn send_up(&mut self, stream: StreamId, message: ToServer) {
        if self.loses_a_message() {
            return;
        }
        if let Some(at) = self.network.send_up(stream, message, self.now, &mut self.dice) {
            self.plan(at - self.now, Happening::ArrivesAtServer(stream));
        }
    }

    pub(super) fn arrives_at_agent(&mut self, stream: StreamId) {
        let Some(message) = self.network.take_down(stream) else {
            return;
        };
        let Some((machine, id)) = self
            .network
            .get(stream)
            .map(|stream| (stream.machine, stream.boot_id.clone()))
        else {
            return;
        };
        let now = self.now;
        let name = self.machines[machine].name.clone();
        let Some(boot) = self.boot(machine, &id).filter(|boot| boot.stream == Some(stream)) else {
            return;
        };
        if let FromServer::Acknowledged(acknowledged) = &message {
            let owed: Vec<v1::Report> = boot
                .journal()
                .iter()
                .filter(|report| report.sequence <= acknowledged.sequence)
                .cloned()
                .collect();
            let outcome = self.checks.acknowledged(&id, &owed);
            self.must(outcome);
        }
        self.say(format!("machine {name} hears {}", heard(&message)));
        let Some(boot) = self.boot(machine, &id) else {
            return;
        };
        let orders = boot.handle(now, Event::Received(message));
        self.obey(machine, orders);
        if self.network.is_over(stream, Way::Down) {
            self.agent_notices_end(stream);
        }
    }

    pub(super) fn obey(&mut self, machine: usize, orders: Vec<Order>) {
        for order in orders {
            let Some(boot) = &mut self.machines[machine].boot else {
                return;
            };
            match order {
                Order::Detach => {
                    if let Some(stream) = boot.stream.take() {
                        self.say("the agent leaves a stale server");
                        self.agent_ends_stream(stream);
                        self.connect_later(machine, LONGEST_PAUSE_MS);
                    }
                }
                Order::Leave(how) => {
                    self.leaves(machine, how);
                    return;
                }
                Order::Look(_) | Order::Record(_) | Order::Say(_) => {}
                Order::Send(message) => {
                    if let Some(stream) = boot.stream {
                        self.send_up(stream, message);
                    }
                }
                Order::Start(run) => self.start_action(machine, &run),
                Order::Stop { grace, .. } => self.stop_action(machine, grace.as_millis()),
            }
        }
    }

    fn leaves(&mut self, machine: usize, how: Leaving) {
        let name = self.machines[machine].name.clone();
        self.say(format!("machine {name} leaves: {how:?}"));
        self.power_off(machine);
        // After a power-off somebody comes by and switches it on.
        let most = if how == Leaving::Reboot { 60_000 } else { 600_000 };
        self.power_on(machine, most);
    }

    fn start_action(&mut self, machine: usize, run: &v1::RunAction) {
        let (name, mac) = (
            self.machines[machine].name.clone(),
            self.machines[machine].mac.clone(),
        );
        self.say(format!(
            "machine {name} starts {} ({})",
            run.attempt_id, run.image
        ));
        let outcome = is_told(run, &secret_of(self.settings.seed));
        self.must(outcome);
        let ms = match self.dice.below(20) {
            0 => self.dice.between(60_000, 3_600_000),
            1..=5 => self.dice.between(1_000, 120_000),
            _ => self.dice.span(20_000),
        };
        let limit = match run.timeout_s {
            0 => u64::MAX,
            seconds => seconds.saturating_mul(1000),
        };
        let Some(boot) = &mut self.machines[machine].boot else {
            return;
        };
        boot.runs += 1;
        let (id, run_number) = (boot.id.clone(), boot.runs);
        boot.running = Some(Running {
            attempt: run.attempt_id.clone(),
            run: run_number,
            stopping: false,
            reboots: run.reboots,
            image: run.image.clone(),
            data_version: run.data_version,
            says: run.environment.get("SAYS").cloned().unwrap_or_default(),
            outlasts_limit: ms > limit,
        });
        self.may_move_unasked(machine);
        let outcome = self
            .checks
            .starts(&mac, &id, &run.attempt_id, &self.namespace_of(machine));
        self.must(outcome);
        if run.image == "image2disk" {
            self.checks.begins_disk(&mac, &run.attempt_id);
        }
        self.plan(
            ms.min(limit),
            Happening::ActionEnds {
                machine,
                boot: id,
                run: run_number,
                stopped: false,
            },
        );
    }

    fn stop_action(&mut self, machine: usize, grace_ms: u128) {
        let most = u64::try_from(grace_ms).unwrap_or(u64::MAX).max(1);
        let after = self.dice.span(most);
        let Some(boot) = &mut self.machines[machine].boot else {
            return;
        };
        let id = boot.id.clone();
        let Some(running) = boot.running.as_mut().filter(|running| !running.stopping) else {
            return;
        };
        running.stopping = true;
        let run = running.run;
        self.plan(
            after,
            Happening::ActionEnds {
                machine,
                boot: id,
                run,
                stopped: true,
            },
        );
    }

    pub(super) fn action_ends(&mut self, machine: usize, id: &str, run: u64, stopped: bool) {
        let now = self.now;
        let Some(boot) = self.boot(machine, id) else {
            return;
        };
        let Some(running) = boot.running.take_if(|running| running.run == run) else {
            return;
        };
        let outcome = match stopped {
            true => Outcome::Stopped(v1::Stopped {
                message: "stopped".to_owned(),
                disks_untouched: self.dice.one_in(3),
            }),
            false => self.outcome(&running),
        };
        let name = self.machines[machine].name.clone();
        self.say(format!(
            "machine {name} ends {}: {}",
            running.attempt,
            word(&outcome)
        ));
        self.checks.ends_running(&self.machines[machine].mac);
        if running.image == "image2disk" {
            self.checks.ends_disk(&self.machines[machine].mac, &outcome);
        }
        let attempt_id = running.attempt;
        if let Outcome::Succeeded(succeeded) = &outcome {
            self.checks.brings(&attempt_id, succeeded.data_changes.as_ref());
        }
        let Some(boot) = self.boot(machine, id) else {
            return;
        };
        let mut orders = boot.handle(now, Event::Action(Told::Line("a line of output".to_owned())));
        orders.extend(boot.handle(now, Event::Action(Told::Ended { attempt_id, outcome })));
        self.obey(machine, orders);
    }

    fn outcome(&mut self, running: &Running) -> Outcome {
        if running.outlasts_limit {
            return Outcome::TimedOut(v1::TimedOut {
                message: "it took too long".to_owned(),
                disks_untouched: false,
            });
        }
        // Towards the end everything works, so that what is retried comes to an end.
        let fails = if self.quiet { 5 } else { 20 };
        if self.dice.percent(fails) {
            let reason = *self.dice.pick(&["ExitCode", "WrongDigest", "Custom"]);
            return Outcome::Failed(v1::Failed {
                reason: reason.to_owned(),
                message: format!("it did not work {}", running.says),
                exit_code: 1,
                disks_untouched: self.dice.one_in(3),
            });
        }
        let how = match running.image.as_str() {
            "poweroff" => "poweroff",
            "kexec" => "kexec",
            _ if running.reboots || running.image == "reboot" => "reboot",
            _ => "",
        };
        if !how.is_empty() {
            return Outcome::Leaving(v1::Leaving { how: how.to_owned() });
        }
        let outputs_json = match self.dice.below(3) {
            0 => String::new(),
            n => format!("{{\"n\": {n}, \"text\": \"t\"}}"),
        };
        Outcome::Succeeded(v1::Succeeded {
            message: format!("done {}", running.says),
            bytes: self.dice.below(1 << 30),
            outputs_json,
            data_changes: self.dice.one_in(3).then(|| data_changes(&mut self.dice, running)),
        })
    }

    /// The agent ends the stream; the server is told when all that was sent before has arrived.
    pub(super) fn agent_ends_stream(&mut self, stream: StreamId) {
        self.network.agent_closes(stream);
        let after = self.dice.span(LONGEST_PAUSE_MS);
        self.plan(after, Happening::ServerNoticesEnd(stream));
    }

    /// The agent's end is gone without a word: the server finds out by keep-alives, or by the next attach.
    pub(super) fn agent_end_vanishes(&mut self, stream: StreamId) {
        self.network.agent_closes(stream);
        let after = KEEP_ALIVE_MS + self.dice.span(KEEP_ALIVE_MS);
        self.plan(after, Happening::ServerNoticesEnd(stream));
    }

    /// The server's end is gone without a word.
    pub(super) fn server_end_vanishes(&mut self, stream: StreamId) {
        self.network.server_closes(stream);
        let after = KEEP_ALIVE_MS + self.dice.span(KEEP_ALIVE_MS);
        self.plan(after, Happening::AgentNoticesEnd(stream));
    }

    /// The server ended the stream; the agent hears what was said before.
    pub(super) fn server_ends_stream(&mut self, stream: StreamId) {
        self.network.server_closes(stream);
        let after = self.dice.span(LONGEST_PAUSE_MS);
        self.plan(after, Happening::AgentNoticesEnd(stream));
    }

    pub(super) fn agent_notices_end(&mut self, stream: StreamId) {
        let Some((machine, id)) = self
            .network
            .get(stream)
            .map(|stream| (stream.machine, stream.boot_id.clone()))
        else {
            return;
        };
        if !self.network.is_over(stream, Way::Down) {
            // What is still on its way comes first.
            self.plan(1_000, Happening::AgentNoticesEnd(stream));
            return;
        }
        self.network.agent_closes(stream);
        let now = self.now;
        let Some(boot) = self.boot(machine, &id).filter(|boot| boot.stream == Some(stream)) else {
            return;
        };
        boot.stream = None;
        let orders = boot.handle(now, Event::StreamLost);
        self.say(format!("the agent sees the end of stream {stream}"));
        self.obey(machine, orders);
        self.connect_later(machine, LONGEST_PAUSE_MS);
    }

    /// The worker dies, and the supervisor starts another.
    pub(super) fn worker_dies(&mut self, machine: usize) {
        let (now, flaws) = (self.now, self.flaws());
        let mac = self.machines[machine].mac.clone();
        let Some(boot) = &mut self.machines[machine].boot else {
            return;
        };
        let stream = boot.stream.take();
        let orders = boot.restart_worker(now, flaws);
        self.checks.ends_running(&mac);
        self.obey(machine, orders);
        if let Some(stream) = stream {
            self.agent_ends_stream(stream);
        }
        self.connect_later(machine, LONGEST_PAUSE_MS);
    }
}

/// A file or two of those that there may be, written and deleted.
fn data_changes(dice: &mut Dice, running: &Running) -> v1::DataChanges {
    let (write, delete) = (dice.below(4), dice.below(8));
    let content = format!("{} {}", running.attempt, dice.below(3)).into_bytes();
    let file = v1::DataFile {
        path: format!("folder/file-{write}"),
        size_bytes: content.len() as u64,
        sha256: Digest::of(&content).to_string(),
        executable: false,
        content,
    };
    let deleted = (delete < 4 && delete != write).then(|| format!("folder/file-{delete}"));
    v1::DataChanges {
        base_version: running.data_version,
        put: vec![file],
        deleted: deleted.into_iter().collect(),
    }
}

fn heard(message: &FromServer) -> String {
    match message {
        FromServer::Welcome(welcome) => format!("a welcome, epoch {}", welcome.epoch),
        FromServer::Run(run) => format!("run {}", run.attempt_id),
        FromServer::Stop(stop) => format!("stop {}: {}", stop.attempt_id, stop.reason),
        FromServer::Acknowledged(acknowledged) => format!("acknowledged up to {}", acknowledged.sequence),
        FromServer::Idle(idle) => format!("idle: {}", idle.reason),
        FromServer::Look(look) => format!("look {}", look.id),
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Started(_) => "started",
        Outcome::Succeeded(_) => "succeeded",
        Outcome::Failed(_) => "failed",
        Outcome::TimedOut(_) => "timed out",
        Outcome::Leaving(_) => "leaving",
        Outcome::Stopped(_) => "stopped",
    }
}

/// What an action is given is what its definition says: a built-in one its disk, a command its data, with types and secrets.
fn is_told(run: &v1::RunAction, secret: &str) -> Result<(), String> {
    let attempt = &run.attempt_id;
    if run.image == "image2disk"
        && run
            .environment
            .get("DEST_DISK")
            .is_none_or(|disk| disk != "/dev/vda")
    {
        return Err(format!("attempt {attempt} is not told its disk"));
    }
    if run.image != "work" || run.input_json.is_empty() {
        return Ok(());
    }
    let input: Value = serde_json::from_str(&run.input_json)
        .map_err(|error| format!("the input of attempt {attempt} is no JSON: {error}"))?;
    let has_types = input["run"].is_u64() && input["list"][0].is_string();
    let says = input["list"][1]["says"].as_str();
    if has_types && says == Some(&format!("with {secret}")) {
        return Ok(());
    }
    Err(format!(
        "the input of attempt {attempt} is not what its definition says: {input}"
    ))
}
