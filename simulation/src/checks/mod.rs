//! What must hold, whatever happens: looked at after every step, from outside of what is looked at.
//!
//! It sees what is committed (the events, as they come), what machines really do, and what somebody was told. It shares
//! no code with the engine, but for [`replay`](workflow::engine::replay), which is what it tests.

mod data;
mod disks;
mod history;
mod stored;

use std::collections::{BTreeMap, BTreeSet};

use coordinator::last::Last;
use coordinator::netboot::{Netboot, Next};
use proto::v1;
use store::{Commit, Operation, Snapshot, StoreError};
use workflow::engine::{AttemptId, Event, EventKind, Outcome, Stamp, WorkflowState};
use workflow::language::Boots;

use crate::archives::Archives;
use crate::coverage::Coverage;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::world::{SOMEBODY, outcome};
use data::Data;
use disks::Disks;
pub(crate) use history::History;

#[derive(Default)]
pub(crate) struct Checks {
    histories: BTreeMap<String, History>,
    /// Events so far.
    pub(crate) seen: u64,
    open: BTreeSet<String>,
    /// Every attempt that ever started anywhere, and where.
    runs: BTreeMap<String, Run>,
    /// What runs now, by the machine's MAC.
    running: BTreeMap<String, String>,
    /// The last attempt that was handed out, by the machine's MAC.
    handed: BTreeMap<String, String>,
    /// Of the last attempt that was handed out, by the machine's MAC.
    stamps: BTreeMap<String, Stamp>,
    /// Reports that agents were told are durable: by boot, up to which sequence.
    acknowledged: BTreeMap<String, u64>,
    /// The same, for good: workflow, attempt, word.
    kept: BTreeSet<(String, String, &'static str)>,
    /// In which commit what somebody asked of a workflow took effect, by workflow and person.
    took_effect: BTreeMap<(String, String), u64>,
    /// Commits so far.
    commits: u64,
    /// Events that somebody was told about: by workflow, up to which number.
    promised: BTreeMap<String, u64>,
    /// Every event in the order in which they were committed, and stamped within a commit: of which workflow, its number and its word.
    order: Vec<(String, u64, String)>,
    data: Data,
    disks: Disks,
    /// What no row may have.
    secret: String,
}

/// Where an attempt ran.
struct Run {
    machine: String,
    boot: String,
}

impl Checks {
    pub(crate) fn new(secret: String) -> Checks {
        Checks {
            secret,
            ..Checks::default()
        }
    }

    /// Judges a commit.
    ///
    /// # Errors
    /// What it breaks, in words.
    pub(crate) fn committed(
        &mut self,
        commit: &Commit,
        disk: &Disk,
        coverage: &mut Coverage,
        mut tell: impl FnMut(String),
    ) -> Result<(), String> {
        let puts = || {
            commit.operations.iter().filter_map(|operation| match operation {
                Operation::Append { log: key, value } | Operation::Put { key, value } => Some((key, value)),
                _ => None,
            })
        };
        let mut order = Vec::new();
        for (key, value) in puts() {
            // Rows are JSON.
            if std::str::from_utf8(value).is_ok_and(|value| value.contains(&self.secret)) {
                let key = String::from_utf8_lossy(key);
                return Err(format!("{key} has the value of a secret"));
            }
        }
        self.data.begin(puts());
        self.commits += 1;
        for (key, value) in puts() {
            let Some(id) = stored::event_of(key) else {
                continue;
            };
            let event = stored::event_in(disk, key, value)?;
            if self.is_back(&id, &event) {
                continue;
            }
            coverage.event(&event.kind);
            self.seen += 1;
            tell(in_words(&id, &event));
            let told = |what: String| {
                format!(
                    "workflow {id}, event {} ({}): {what}",
                    event.number,
                    event.kind.name()
                )
            };
            self.takes_effect_once(&id, &event.kind).map_err(told)?;
            self.take(&id, &event).map_err(told)?;
            order.push((event.stamp(), (id, event.number, word_of(&event.kind).to_owned())));
        }
        order.sort_by_key(|(stamp, _)| *stamp);
        self.order.extend(order.into_iter().map(|(_, place)| place));
        Ok(())
    }

    pub(crate) fn order(&self) -> &[(String, u64, String)] {
        &self.order
    }

    /// Everybody asks for one thing: there are no events of it but those of one commit. Sub-workflows are told by those above them.
    fn takes_effect_once(&mut self, id: &str, kind: &EventKind) -> Result<(), String> {
        let Some(by) = kind.by().filter(|by| by.starts_with(SOMEBODY)) else {
            return Ok(());
        };
        let commit = self.commits;
        let first = self.took_effect.entry((id.to_owned(), by.to_owned()));
        match *first.or_insert(commit) == commit {
            true => Ok(()),
            false => Err(format!("what {by} asked for took effect twice")),
        }
    }

    /// It was committed before, and comes back out of an archive.
    fn is_back(&self, id: &str, event: &Event) -> bool {
        let events = self.histories.get(id).map(|history| &history.events);
        events.is_some_and(|events| {
            events
                .binary_search_by_key(&event.number, |seen| seen.number)
                .is_ok_and(|at| events[at] == *event)
        })
    }

    fn take(&mut self, id: &str, event: &Event) -> Result<(), String> {
        if let EventKind::Dispatched { attempt, worker, .. } = &event.kind {
            self.handed_out(&attempt.to_string(), worker)?;
        }
        self.is_stamped_above(id, event)?;
        let history = self.histories.entry(id.to_owned()).or_default();
        history.take(event)?;
        if let EventKind::Reported {
            attempt,
            outcome: Outcome::Succeeded { data_version, .. },
        } = &event.kind
        {
            self.data
                .succeeded(history.root(), &attempt.to_string(), *data_version)?;
        }
        match history.ended {
            Some(_) => self.open.remove(id),
            None => self.open.insert(id.to_owned()),
        };
        Ok(())
    }

    /// What comes of something in another workflow has a higher stamp: on the same machine, and between a workflow and its
    /// sub-workflows.
    fn is_stamped_above(&mut self, id: &str, event: &Event) -> Result<(), String> {
        let cause = match &event.kind {
            EventKind::Dispatched { worker, .. } => self.stamps.insert(worker.clone(), event.stamp()),
            EventKind::Created {
                parent: Some(parent), ..
            } => self.last_of(&parent.workflow, |kind| kind.child() == Some(id)),
            EventKind::ChildEnded {
                execution,
                run: Some(_),
                ..
            } => {
                let history = self.histories.get(id);
                let of = |event: &&Event| event.kind.execution() == Some(*execution);
                let events = history.iter().flat_map(|history| history.events.iter().rev());
                let child = events.filter(of).find_map(|event| event.kind.child());
                child.and_then(|child| self.last_of(child, |kind| matches!(kind, EventKind::Ended { .. })))
            }
            _ => None,
        };
        match cause {
            Some(cause) if cause >= event.stamp() => {
                Err(format!("it is stamped {}, and came of {cause}", event.stamp()))
            }
            _ => Ok(()),
        }
    }

    /// The stamp of a workflow's last event of that kind.
    fn last_of(&self, id: &str, which: impl Fn(&EventKind) -> bool) -> Option<Stamp> {
        let events = &self.histories.get(id)?.events;
        events
            .iter()
            .rev()
            .find(|event| which(&event.kind))
            .map(Event::stamp)
    }

    /// The fence: while an attempt may run on a machine, no other is handed to it.
    fn handed_out(&mut self, attempt: &str, worker: &str) -> Result<(), String> {
        self.disks.handed(worker);
        if let Some(running) = self.running.get(worker) {
            return Err(format!(
                "attempt {attempt} is handed to {worker}, which runs {running}"
            ));
        }
        if let Some(before) = self.handed.insert(worker.to_owned(), attempt.to_owned())
            && let Some(seen) = self.seen(&before)
            && !seen.over
            && let Some(now) = self.seen_boot(attempt)
            && now == seen.boot_id
        {
            return Err(format!(
                "attempt {attempt} is handed to {worker}, which has not said that {before} has stopped"
            ));
        }
        Ok(())
    }

    fn seen(&self, attempt: &str) -> Option<&history::AttemptSeen> {
        let id: workflow::engine::AttemptId = attempt.parse().ok()?;
        self.histories.get(&id.workflow)?.attempts.get(&id)
    }

    fn seen_boot(&self, attempt: &str) -> Option<String> {
        self.seen(attempt).map(|seen| seen.boot_id.clone())
    }

    /// A machine, which is of this namespace, begins to run an attempt.
    ///
    /// # Errors
    /// It has run before, something else runs, or it is of another namespace.
    pub(crate) fn starts(
        &mut self,
        machine: &str,
        boot: &str,
        attempt: &str,
        namespace: &str,
    ) -> Result<(), String> {
        let workflow = attempt.split('/').next().unwrap_or_default();
        let history = self.histories.get(workflow);
        if let Some(whose) = history
            .map(History::namespace)
            .filter(|whose| *whose != namespace)
        {
            return Err(format!(
                "attempt {attempt} of namespace {whose} runs on {machine}, which is of namespace {namespace}"
            ));
        }
        if let Some(running) = self.running.insert(machine.to_owned(), attempt.to_owned()) {
            return Err(format!(
                "machine {machine} starts {attempt} while it runs {running}"
            ));
        }
        let run = Run {
            machine: machine.to_owned(),
            boot: boot.to_owned(),
        };
        if let Some(before) = self.runs.insert(attempt.to_owned(), run) {
            return Err(format!(
                "attempt {attempt} runs on {machine} ({boot}) after it ran on {} ({})",
                before.machine, before.boot
            ));
        }
        match self.seen(attempt) {
            None => Err(format!(
                "attempt {attempt} runs on {machine} without having been handed out"
            )),
            Some(seen) if seen.worker != machine => Err(format!(
                "attempt {attempt} runs on {machine}, and was handed to {}",
                seen.worker
            )),
            Some(_) => Ok(()),
        }
    }

    /// A success says what it changed in the ephemeral data.
    pub(crate) fn brings(&mut self, attempt: &str, changes: Option<&v1::DataChanges>) {
        self.data.brings(attempt, changes);
    }

    /// The machine begins to overwrite its disk.
    pub(crate) fn begins_disk(&mut self, machine: &str, attempt: &str) {
        self.disks.begins(machine, attempt);
    }

    /// It has ended that.
    pub(crate) fn ends_disk(&mut self, machine: &str, said: &v1::report::Outcome) {
        use v1::report::Outcome::*;
        let (well, untouched) = match said {
            Succeeded(_) | Leaving(_) => (true, false),
            Failed(v1::Failed { disks_untouched, .. })
            | TimedOut(v1::TimedOut { disks_untouched, .. })
            | Stopped(v1::Stopped { disks_untouched, .. }) => (false, *disks_untouched),
            Started(_) => return,
        };
        self.disks.ends(machine, well, untouched);
    }

    /// A machine is told what it boots; `last` has ended there last.
    ///
    /// # Errors
    /// Its disk is half written; it is not what the template of what has succeeded last says; or nothing was done and it is
    /// something else than before.
    pub(crate) fn boots(
        &mut self,
        machine: &str,
        netboot: &Netboot,
        last: Option<&Last>,
    ) -> Result<(), String> {
        // Whoever made a workflow that ended with SUCCESS decided what of it may fail. What a person skipped in the middle nobody
        // had decided.
        let histories = &self.histories;
        let is_good = |attempt: &str| {
            let attempt: Option<AttemptId> = attempt.parse().ok();
            let root = attempt.and_then(|attempt| {
                let history = histories.get(&attempt.workflow)?;
                histories
                    .get(history.root())
                    .filter(|_| !was_skipped(histories, &attempt))
            });
            root.is_some_and(|root| root.ended == Some(WorkflowState::Success))
        };
        let open = netboot.needed_by.is_some();
        if open && netboot.next != Next::Agent {
            return Err(format!(
                "machine {machine} is needed and told to boot {:?}",
                netboot.next
            ));
        }
        let says = last
            .filter(|last| !open && last.state == WorkflowState::Success)
            .and_then(|last| histories.get(&last.id)?.boots());
        let is_held = netboot.next == Next::Agent && netboot.reason.contains("half written");
        let wanted = match says {
            Some(Boots::Agent) => Some(Next::Agent),
            Some(Boots::Local) if !is_held => Some(Next::LocalDisk),
            _ => None,
        };
        if let Some(wanted) = wanted
            && netboot.next != wanted
        {
            return Err(format!(
                "machine {machine} is told to boot {:?} ({}), and what has succeeded there last has a template that says {wanted:?}",
                netboot.next, netboot.reason
            ));
        }
        let last = last.map(|last| last.id.as_str());
        self.disks.told(machine, (&netboot.next, last), open, is_good)
    }

    /// What the machine ran is over, or gone with its boot.
    pub(crate) fn ends_running(&mut self, machine: &str) {
        self.running.remove(machine);
    }

    /// An agent is told that its reports are durable.
    ///
    /// # Errors
    /// One is not in the events.
    pub(crate) fn acknowledged(&mut self, boot: &str, reports: &[v1::Report]) -> Result<(), String> {
        let known = self.acknowledged.get(boot).copied().unwrap_or(0);
        for report in reports.iter().filter(|report| report.sequence > known) {
            let Some(said) = &report.outcome else {
                continue;
            };
            let word = outcome(said).name();
            let workflow = report.attempt_id.split('/').next().unwrap_or_default();
            if !self.seen(&report.attempt_id).is_some_and(|seen| seen.has(word)) {
                return Err(format!(
                    "report {} of {boot} ({}: {word}) is acknowledged and in no event",
                    report.sequence, report.attempt_id
                ));
            }
            self.kept
                .insert((workflow.to_owned(), report.attempt_id.clone(), word));
            self.acknowledged.insert(boot.to_owned(), report.sequence);
        }
        Ok(())
    }

    /// Somebody was told of the workflow's events up to this one.
    ///
    /// # Errors
    /// They are not there.
    pub(crate) fn promised(&mut self, id: &str, last_event: u64) -> Result<(), String> {
        let promised = self.promised.entry(id.to_owned()).or_default();
        *promised = last_event.max(*promised);
        let there = self
            .histories
            .get(id)
            .map_or(0, |history| history.events.len() as u64);
        match there < last_event {
            true => Err(format!(
                "workflow {id} is answered with event {last_event}, and has {there}"
            )),
            false => Ok(()),
        }
    }

    /// Whether the store still has everything that was acknowledged and answered.
    ///
    /// # Errors
    /// What is lost.
    pub(crate) fn promises(&mut self, disk: &Disk, archives: &Archives) -> Result<(), String> {
        let ids: Vec<String> = self.histories.keys().cloned().collect();
        for id in ids {
            let mut history = History::default();
            let unpacked = archives.unpacked(disk, &id)?;
            for event in stored::events(unpacked.as_ref().unwrap_or(disk), &id)? {
                history
                    .take(&event)
                    .map_err(|what| format!("workflow {id}: {what}"))?;
            }
            let there = history.events.len() as u64;
            if there < self.promised.get(&id).copied().unwrap_or(0) {
                return Err(format!(
                    "workflow {id}: events that were answered for are lost, {there} are left"
                ));
            }
            match (there, history.ended) {
                (0, _) | (_, Some(_)) => self.open.remove(&id),
                (_, None) => self.open.insert(id.clone()),
            };
            self.histories.insert(id, history);
        }
        for (workflow, attempt, word) in &self.kept {
            if !self.seen(attempt).is_some_and(|seen| seen.has(word)) {
                return Err(format!(
                    "workflow {workflow}: the acknowledged report that {attempt} {word} is lost"
                ));
            }
        }
        Ok(())
    }

    /// Whether the workflow's events give what is stored of it, byte for byte.
    ///
    /// # Errors
    /// What is different.
    pub(crate) fn replays(&self, disk: &Disk, archives: &Archives, id: &str) -> Result<(), String> {
        let unpacked = archives.unpacked(disk, id)?;
        // What it is found by stays in the store when it is archived.
        let index = disk;
        let disk = unpacked.as_ref().unwrap_or(disk);
        let events = stored::events(disk, id)?;
        stored::is_found_by_its_labels(index, id, &events)?;
        let seen = self
            .histories
            .get(id)
            .map(|history| history.events.as_slice())
            .unwrap_or_default();
        if events != seen {
            return Err(format!(
                "workflow {id}: its stored events are not those that were committed"
            ));
        }
        stored::replays(disk, id, &events)
    }

    pub(crate) fn some_workflow(&self, dice: &mut Dice) -> Option<String> {
        let open = &self.open;
        let of: Vec<&String> = match open.is_empty() || dice.one_in(4) {
            true => self.histories.keys().collect(),
            false => open.iter().collect(),
        };
        (!of.is_empty()).then(|| (*dice.pick(&of)).clone())
    }

    pub(crate) fn workflows(&self) -> Vec<String> {
        self.histories.keys().cloned().collect()
    }

    /// Those that have not ended.
    pub(crate) fn open(&self) -> impl Iterator<Item = &String> {
        self.open.iter()
    }

    /// Its last events, and what the store has of machines, outboxes and timers: for somebody who looks for what is stuck.
    pub(crate) fn inventory(&self, disk: &Disk, id: &str) -> Vec<String> {
        let events = self
            .histories
            .get(id)
            .map(|history| history.events.as_slice())
            .unwrap_or_default();
        let last = events.iter().skip(events.len().saturating_sub(20));
        let mut lines: Vec<String> = last.map(|event| in_words(id, event)).collect();
        for prefix in ["machine-work/", "machine-queue/", "outbox/", "timer/"] {
            for row in all(disk, prefix).unwrap_or_default().into_iter().take(20) {
                let (key, value) = (
                    String::from_utf8_lossy(&row.key),
                    String::from_utf8_lossy(&row.value),
                );
                lines.push(format!("  {key} = {value}"));
            }
        }
        lines
    }

    /// How many there were, and how they ended.
    pub(crate) fn ends(&self) -> (u64, BTreeMap<&'static str, u64>) {
        let mut ends = BTreeMap::new();
        for state in self.histories.values().filter_map(|history| history.ended) {
            *ends.entry(state.as_str()).or_default() += 1;
        }
        (self.histories.len() as u64, ends)
    }

    /// Every workflow was made once, however often it was asked for.
    ///
    /// # Errors
    /// One was made twice.
    pub(crate) fn made_once(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for history in self.histories.values().filter(|history| history.is_root()) {
            if !names.insert(history.name().to_owned()) {
                return Err(format!("workflow {:?} was made twice", history.name()));
            }
        }
        Ok(())
    }
}

/// A report is told by its outcome.
fn word_of(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Reported { outcome, .. } => outcome.name(),
        other => other.name(),
    }
}

/// Whether a person skipped what an attempt was for: it, or a sub-workflow around it that did not succeed all the same.
fn was_skipped(histories: &BTreeMap<String, History>, attempt: &AttemptId) -> bool {
    let mut at = histories
        .get(&attempt.workflow)
        .map(|history| (history, attempt.execution, false));
    while let Some((history, execution, is_good)) = at {
        if !is_good && history.was_skipped(execution) {
            return true;
        }
        let is_good = history.ended == Some(WorkflowState::Success);
        at = history
            .above()
            .and_then(|(id, execution)| Some((histories.get(id)?, execution, is_good)));
    }
    false
}

fn in_words(id: &str, event: &Event) -> String {
    let (kind, name, number) = (&event.kind, event.kind.name(), event.number);
    match (kind.attempt(), kind.execution(), kind.task()) {
        (Some(attempt), _, _) => format!("  event {number} ({name}): attempt {attempt} {kind}"),
        (_, Some(execution), _) => format!("  event {number} ({name}): execution {id}/{execution} {kind}"),
        (_, _, Some(task)) => format!("  event {number} ({name}): task {id}/{task} {kind}"),
        _ => format!("  event {number} ({name}): workflow {id} {kind}"),
    }
}

/// The events' prefix of a workflow is read in pages by [`stored`]; the store must give them all.
pub(crate) fn all(disk: &Disk, prefix: &str) -> Result<Vec<store::KeyValue>, String> {
    let end = store::prefix_end(prefix.as_bytes());
    let rows = disk.as_it_is();
    let read = || {
        let found = rows.range(prefix.as_bytes(), &end, usize::MAX)?.into_iter();
        let whole = found.map(|row| coordinator::database::detached::whole(&rows, row));
        whole.collect::<Result<_, StoreError>>()
    };
    read().map_err(|error| format!("{prefix} cannot be read: {error}"))
}
