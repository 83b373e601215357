//! What goes wrong, and the end of it.

use super::{Happening, World};
use crate::disk::Misbehaviour;
use crate::machine::Power;
use crate::network::{StreamId, Way};

impl World {
    /// One fault, and the next some time later: often enough to meet, rarely enough that work gets done.
    pub(super) fn fault(&mut self) {
        if self.quiet {
            return;
        }
        let after = 1_000 + self.dice.span(self.pace.faults_ms);
        self.plan(after, Happening::Fault);
        match self.dice.below(19) {
            0 => self.fault_of_server("server: crashes"),
            1 => self.arm_server(),
            2 => self.cut_server_power(),
            3 => self.fault_of_disk(Misbehaviour::Fails, "disk: a commit fails"),
            4 => self.fault_of_disk(Misbehaviour::HappensAndFails, "disk: a commit happens and fails"),
            5 | 6 => self.clock_jumps(),
            7 => self.cut_machine_power(30_000, "machine: power is cut"),
            8 => self.cut_machine_power(1_200_000, "machine: vanishes"),
            9 | 10 => self.worker_is_killed(),
            11 => self.cut_off(),
            12 | 13 => self.stream_breaks(),
            14 => self.stream_is_half_open(),
            15 => self.snapshots_expire(),
            _ => self.stream_stalls(),
        }
    }

    fn note(&mut self, fault: &'static str, of: &str) {
        self.coverage.fault(fault);
        self.say(format!("FAULT {fault} {of}"));
    }

    fn some_server(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..self.servers.len())
            .filter(|server| self.servers[*server].is_up())
            .collect();
        (!up.is_empty()).then(|| *self.dice.pick(&up))
    }

    fn some_machine(&mut self) -> Option<usize> {
        let on = |machine: &usize| self.machines[*machine].power == Power::On;
        let on: Vec<usize> = (0..self.machines.len()).filter(on).collect();
        if on.is_empty() {
            return None;
        }
        // One that does something is the better victim.
        let busy = |machine: &usize| {
            self.machines[*machine]
                .boot
                .as_ref()
                .is_some_and(|boot| boot.running.is_some())
        };
        let busy: Vec<usize> = on.iter().copied().filter(busy).collect();
        match busy.is_empty() || self.dice.one_in(4) {
            true => Some(*self.dice.pick(&on)),
            false => Some(*self.dice.pick(&busy)),
        }
    }

    fn some_stream(&mut self) -> Option<StreamId> {
        let whole = self.network.whole();
        (!whole.is_empty()).then(|| *self.dice.pick(&whole))
    }

    fn fault_of_server(&mut self, fault: &'static str) {
        if let Some(server) = self.some_server() {
            self.note(fault, &server.to_string());
            self.server_crashes(server);
        }
    }

    /// The next commit is its last.
    fn arm_server(&mut self) {
        let before = self.dice.one_in(2);
        if let Some(server) = self.some_server() {
            match before {
                true => self.servers[server].crashes_before_commit = true,
                false => self.servers[server].crashes_after_commit = true,
            }
        }
    }

    /// All servers share the disk, and its power.
    fn cut_server_power(&mut self) {
        self.note("server: power is cut", "");
        for server in 0..self.servers.len() {
            self.server_crashes(server);
        }
        let keep = self.dice.index(self.disk.unsynced() + 1);
        let lost = self.disk.power_cut(keep);
        if lost > 0 {
            self.say(format!("the disk has lost {lost} commits"));
            let outcome = self.checks.promises(&self.disk, &self.archives);
            self.must(outcome);
        }
    }

    fn fault_of_disk(&mut self, misbehaviour: Misbehaviour, fault: &'static str) {
        self.note(fault, "");
        self.disk.misbehave(Some(misbehaviour));
    }

    fn snapshots_expire(&mut self) {
        self.note("disk: snapshots expire", "");
        let at_read = 1 + self.dice.span(9);
        self.disk.expire_snapshots(at_read);
    }

    fn clock_jumps(&mut self) {
        let server = self.dice.index(self.servers.len());
        let by = i64::try_from(self.dice.span(7_200_000)).unwrap_or_default();
        let (by, fault) = match self.dice.one_in(2) {
            true => (by, "clock: jumps forwards"),
            false => (-by, "clock: jumps backwards"),
        };
        self.note(fault, &format!("of server {server} by {by} ms"));
        self.servers[server].clock_off += by;
        let life = self.servers[server].life;
        self.plan(0, Happening::Looks { server, life });
    }

    fn cut_machine_power(&mut self, most_ms: u64, fault: &'static str) {
        if let Some(machine) = self.some_machine() {
            self.note(fault, &self.machines[machine].name.clone());
            self.power_off(machine);
            self.power_on(machine, most_ms);
        }
    }

    fn worker_is_killed(&mut self) {
        if let Some(machine) = self.some_machine() {
            self.note("agent: worker dies", &self.machines[machine].name.clone());
            self.worker_dies(machine);
        }
    }

    /// Both ends believe in the stream, and nothing gets through; the agent gives up first, most of the time.
    fn cut_off(&mut self) {
        let Some(machine) = self.some_machine() else {
            return;
        };
        self.note(
            "network: a machine is cut off",
            &self.machines[machine].name.clone(),
        );
        // Short enough to come back in time, or long enough to be given up with what still runs there.
        let for_ms = match self.dice.one_in(2) {
            true => self.dice.span(300_000),
            false => self.dice.between(300_000, 1_200_000),
        };
        self.machines[machine].cut_off_until = self.now + for_ms;
        let stream = self.machines[machine].boot.as_ref().and_then(|boot| boot.stream);
        if let Some(stream) = stream {
            self.network.drop_up(stream);
            self.network.drop_down(stream);
            self.break_stream(stream, 40_000, 40_000);
        }
    }

    fn stream_breaks(&mut self) {
        let Some(stream) = self.some_stream() else {
            return;
        };
        self.note("network: a stream breaks", &stream.to_string());
        if self.dice.one_in(2) {
            self.network.drop_up(stream);
        }
        if self.dice.one_in(2) {
            self.network.drop_down(stream);
        }
        self.break_stream(stream, 5_000, 5_000);
    }

    /// One end is told long before the other.
    fn stream_is_half_open(&mut self) {
        let Some(stream) = self.some_stream() else {
            return;
        };
        self.note("network: a half-open stream", &stream.to_string());
        self.network.drop_down(stream);
        match self.dice.one_in(2) {
            true => self.break_stream(stream, 100, 60_000),
            false => self.break_stream(stream, 60_000, 100),
        }
    }

    /// Both ends are told, each some time; what was on its way and is not lost still arrives.
    fn break_stream(&mut self, stream: StreamId, agent_ms: u64, server_ms: u64) {
        self.network.both_close(stream);
        let (agent, server) = (self.dice.span(agent_ms), self.dice.span(server_ms));
        self.plan(agent, Happening::AgentNoticesEnd(stream));
        self.plan(server, Happening::ServerNoticesEnd(stream));
    }

    fn stream_stalls(&mut self) {
        let Some(stream) = self.some_stream() else {
            return;
        };
        let way = if self.dice.one_in(2) { Way::Up } else { Way::Down };
        self.note("network: a stream stalls", &stream.to_string());
        let until = self.now + self.dice.span(60_000);
        self.network.stall(stream, way, until);
    }

    /// From here on nothing goes wrong, and whatever is broken is mended.
    pub(super) fn calm_down(&mut self) {
        if self.broken.is_some() {
            return;
        }
        self.quiet = true;
        self.say("from here on nothing goes wrong any more");
        self.disk.misbehave(None);
        self.disk.expire_snapshots(0);
        for server in 0..self.servers.len() {
            self.servers[server].crashes_before_commit = false;
            self.servers[server].crashes_after_commit = false;
        }
        for machine in 0..self.machines.len() {
            self.machines[machine].cut_off_until = self.now;
        }
    }
}
