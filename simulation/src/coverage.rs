//! How often each thing happened: a world in which something never happens proves nothing about it.

use std::collections::BTreeMap;
use std::fmt;

use workflow::engine::EventKind;

/// Counts, by what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    pub events: BTreeMap<&'static str, u64>,
    pub faults: BTreeMap<&'static str, u64>,
    pub commands: BTreeMap<&'static str, u64>,
    pub steps: u64,
    pub workflows: u64,
    pub ended: BTreeMap<&'static str, u64>,
}

impl Coverage {
    pub fn fault(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    pub fn command(&mut self, name: &'static str) {
        *self.commands.entry(name).or_default() += 1;
    }

    pub fn event(&mut self, kind: &EventKind) {
        *self.events.entry(kind.name()).or_default() += 1;
    }

    pub fn add(&mut self, other: &Coverage) {
        self.steps += other.steps;
        self.workflows += other.workflows;
        for (to, from) in [
            (&mut self.events, &other.events),
            (&mut self.faults, &other.faults),
            (&mut self.commands, &other.commands),
            (&mut self.ended, &other.ended),
        ] {
            for (name, count) in from {
                *to.entry(name).or_default() += count;
            }
        }
    }

    /// What of `names` was never seen.
    pub fn missing(seen: &BTreeMap<&'static str, u64>, names: &[&'static str]) -> Vec<&'static str> {
        names
            .iter()
            .copied()
            .filter(|name| !seen.contains_key(name))
            .collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("events", &self.events, EVENTS),
            ("faults", &self.faults, FAULTS),
            ("commands of people", &self.commands, &[][..]),
            ("ends of workflows", &self.ended, &[][..]),
        ];
        for (title, seen, all) in parts {
            writeln!(out, "{title}")?;
            for (name, count) in seen {
                writeln!(out, "  {name:<34} {count:>12}")?;
            }
            for name in Coverage::missing(seen, all) {
                writeln!(out, "  {name:<34} {:>12}", "never")?;
            }
        }
        Ok(())
    }
}

/// All kinds of events.
pub const EVENTS: &[&str] = &[
    "created",
    "start_moved",
    "begun",
    "asked",
    "task_started",
    "execution_made",
    "decided",
    "dispatched",
    "reported",
    "stop_asked",
    "lost",
    "returned",
    "late",
    "unanswered",
    "delayed",
    "labelled",
    "resumed",
    "child_asked",
    "child_ended",
    "execution_ended",
    "wave_opened",
    "task_ended",
    "went_back",
    "pause_asked",
    "paused",
    "unpaused",
    "skip_asked",
    "item_reopened",
    "tasks_reopened",
    "policy_set",
    "action_asked",
    "task_paused",
    "task_resumed",
    "cancel_asked",
    "stopping",
    "ended",
    "run_opened",
];

/// All that goes wrong in a world.
pub const FAULTS: &[&str] = &[
    "agent: worker dies",
    "archive: a conflict",
    "archive: archived",
    "archive: bringing back is broken off",
    "archive: brought back",
    "archive: not yet",
    "clock: jumps backwards",
    "clock: jumps forwards",
    "disk: a commit fails",
    "disk: a commit happens and fails",
    "disk: snapshots expire",
    "follower: comes too late",
    "follower: its stream breaks",
    "machine: power is cut",
    "machine: vanishes",
    "network: a half-open stream",
    "network: a machine is cut off",
    "network: a message of an old stream",
    "network: a report comes twice",
    "network: a stream breaks",
    "network: a stream stalls",
    "network: an answer is lost",
    "server: a conflict",
    "server: an action is withheld",
    "server: values are detached",
    "server: crashes",
    "server: crashes after a commit",
    "server: crashes before a commit",
    "server: power is cut",
    "server: sees a commit late",
    "server: stale stream",
];
