//! What the worker knows, without sockets, clocks or processes: events in, orders out.
//!
//! Keeps the promises of the agent's side: an attempt id is run at most once within a boot, every report is
//! delivered at least once and in order, every stop is answered, a machine leaves only after its leaving was
//! acknowledged, a server whose epoch has passed is not obeyed. Streams may break anywhere, messages may come twice
//! and in another order. Who calls this owns the stream, the journal file and the action.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use prost::Message;
use proto::v1;
use v1::agent_message::Kind as ToServer;
use v1::report::Outcome;
use v1::server_message::Kind as FromServer;

use super::attempts::Attempts;
use super::logs::LogBuffer;
use crate::actions::{GRACE, Told};

/// What begins a line that says what the machine waits for.
pub const WAITING: &str = "waiting: ";
/// A server that pushes more attempts than this at a busy machine is not followed.
const MAX_WAITING: usize = 16;
/// Reports in a Hello; what is over it follows the Welcome.
const MAX_HELLO_BYTES: usize = 2 << 20;
/// Nobody waits longer for an action that was asked to end.
const LONGEST_GRACE: Duration = Duration::from_secs(3600);

/// What happened.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, handled at once")]
pub enum Event {
    /// The running action said something, or ended.
    Action(Told),
    /// The server said something.
    Received(FromServer),
    /// The stream is gone.
    StreamLost,
    /// Time to send what was collected.
    Tick,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a few at a time, obeyed at once")]
pub enum Order {
    /// End the stream and open another: the server at its other end is stale.
    Detach,
    /// Leave now: reboot or power off.
    Leave(Leaving),
    /// Tell what is seen there now.
    Look(v1::Look),
    /// Put this report into the journal before anything that follows.
    Record(v1::Report),
    /// Say this on the console.
    Say(String),
    /// Put this into the stream.
    Send(ToServer),
    /// Start the action.
    Start(v1::RunAction),
    /// Stop the running action; its end is an event like any other. May come again with another grace: the one that
    /// is over first counts.
    Stop { grace: Duration, reason: String },
}

/// What a new stream begins with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Greeting {
    /// Empty when idle.
    pub running: String,
    pub unacknowledged: Vec<v1::Report>,
    pub journal: Vec<v1::JournalEntry>,
    pub last_epoch: u64,
}

/// How the machine leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Into the kernel that an action has loaded.
    Kexec,
    PowerOff,
    Reboot,
}

/// The state of one boot.
#[derive(Debug, Default)]
pub struct Core {
    attempts: Attempts,
    running: Option<String>,
    waiting: VecDeque<v1::RunAction>,
    unacknowledged: VecDeque<v1::Report>,
    last_sequence: u64,
    /// Reports up to this one went with the Hello of the present stream.
    said_in_hello: u64,
    /// A Welcome came in the present stream; nothing that comes before it is for us.
    attached: bool,
    /// The highest of this boot.
    epoch: u64,
    leaving: Option<(u64, Leaving)>,
    logs: LogBuffer,
    progress: Option<v1::Progress>,
}

impl Core {
    /// Takes up the journal of an earlier worker of the same boot.
    ///
    /// An attempt that was started and not ended died with that worker: it is reported as failed, not run again.
    /// A leaving that was reported is still waited for, so that the machine leaves once it is acknowledged.
    pub fn resume(journal: Vec<v1::Report>, now: SystemTime) -> (Core, Vec<Order>) {
        let mut core = Core::default();
        let mut unfinished: Option<String> = None;
        for report in journal {
            core.last_sequence = core.last_sequence.max(report.sequence);
            core.epoch = core.epoch.max(report.epoch);
            core.attempts.reported(&report);
            if matches!(report.outcome, Some(Outcome::Started(_))) {
                unfinished = Some(report.attempt_id.clone());
            } else {
                unfinished = unfinished.filter(|id| *id != report.attempt_id);
                let how = report.outcome.as_ref().and_then(leaving_of);
                core.leaving = how.map(|how| (report.sequence, how)).or(core.leaving);
            }
            core.unacknowledged.push_back(report);
        }
        let mut orders = Vec::new();
        if let Some(attempt_id) = unfinished {
            core.running = Some(attempt_id.clone());
            let failed = v1::Failed {
                disks_untouched: false,
                reason: "WorkerDied".to_owned(),
                message: "the agent's worker died while the action ran; it is not run a second time"
                    .to_owned(),
                exit_code: 0,
            };
            core.end(attempt_id, Outcome::Failed(failed), now, &mut orders);
        }
        (core, orders)
    }

    /// What a new stream begins with.
    pub fn hello(&mut self) -> Greeting {
        self.attached = false;
        self.said_in_hello = 0;
        self.logs.rewind();
        let mut bytes = 0;
        let mut unacknowledged = Vec::new();
        for report in &self.unacknowledged {
            bytes += report.encoded_len();
            if bytes > MAX_HELLO_BYTES && !unacknowledged.is_empty() {
                break;
            }
            self.said_in_hello = report.sequence;
            unacknowledged.push(report.clone());
        }
        Greeting {
            running: self.running.clone().unwrap_or_default(),
            unacknowledged,
            journal: self.attempts.entries(self.running.as_deref()),
            last_epoch: self.epoch,
        }
    }

    /// All that the next worker of this boot has to know, for a journal that has grown too long.
    pub fn reports(&self) -> Vec<v1::Report> {
        let all = self.attempts.reports().chain(self.unacknowledged.iter().cloned());
        let by_sequence: BTreeMap<u64, v1::Report> = all.map(|report| (report.sequence, report)).collect();
        by_sequence.into_values().collect()
    }

    /// Of the last Welcome; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The running attempt's id, empty when idle.
    pub fn running(&self) -> &str {
        self.running.as_deref().unwrap_or_default()
    }

    pub fn handle(&mut self, now: SystemTime, event: Event) -> Vec<Order> {
        let mut orders = Vec::new();
        match event {
            Event::Action(Told::Ended { attempt_id, outcome }) => {
                if self.running.as_deref() == Some(&attempt_id) {
                    self.end(attempt_id, outcome, now, &mut orders);
                    self.start_next(now, &mut orders);
                }
            }
            Event::Action(Told::Line(line)) => self.logs.push(line),
            Event::Action(Told::Progress(progress)) => self.progress = Some(progress),
            Event::Received(message) => self.receive(message, now, &mut orders),
            Event::StreamLost => self.attached = false,
            Event::Tick => self.flush(&mut orders),
        }
        orders
    }

    fn receive(&mut self, message: FromServer, now: SystemTime, orders: &mut Vec<Order>) {
        if !self.attached && !matches!(message, FromServer::Welcome(_)) {
            return;
        }
        match message {
            FromServer::Welcome(welcome) => self.receive_welcome(&welcome, orders),
            FromServer::Run(run) => self.receive_run(run, now, orders),
            FromServer::Stop(stop) => self.receive_stop(stop, now, orders),
            FromServer::Acknowledged(acknowledged) => {
                self.unacknowledged
                    .retain(|report| report.sequence > acknowledged.sequence);
                if let Some((sequence, how)) = self.leaving
                    && acknowledged.sequence >= sequence
                {
                    orders.push(Order::Leave(how));
                }
            }
            FromServer::Look(look) => orders.push(Order::Look(look)),
            FromServer::Idle(idle) => orders.push(Order::Say(format!("{WAITING}{}", idle.reason))),
        }
    }

    fn receive_welcome(&mut self, welcome: &v1::Welcome, orders: &mut Vec<Order>) {
        if welcome.epoch < self.epoch {
            self.attached = false;
            orders.push(Order::Say(format!(
                "the server's epoch {} has passed, {} was seen in this boot: another server is asked",
                welcome.epoch, self.epoch
            )));
            orders.push(Order::Detach);
            return;
        }
        self.epoch = welcome.epoch;
        if std::mem::replace(&mut self.attached, true) {
            // It came twice.
            return;
        }
        self.flush_lines(orders);
        let missed = self
            .unacknowledged
            .iter()
            .filter(|r| r.sequence > self.said_in_hello);
        orders.extend(missed.map(|r| self.sent(r)));
    }

    fn receive_run(&mut self, run: v1::RunAction, now: SystemTime, orders: &mut Vec<Order>) {
        if self.attempts.is_known(&run.attempt_id) {
            // Pushed again: the server does not know yet how it ended.
            self.tell_end(&run.attempt_id, now, orders);
            return;
        }
        if self.leaving.is_some() {
            orders.push(Order::Say(format!(
                "action {} is not started: this machine is leaving",
                run.action
            )));
            return;
        }
        if self.waiting.len() >= MAX_WAITING {
            orders.push(Order::Say(format!(
                "action {} is not started: too many are waiting",
                run.action
            )));
            return;
        }
        self.attempts.given(&run.attempt_id);
        self.waiting.push_back(run);
        self.start_next(now, orders);
    }

    fn receive_stop(&mut self, stop: v1::StopAction, now: SystemTime, orders: &mut Vec<Order>) {
        if self.running.as_deref() == Some(&stop.attempt_id) {
            let grace = match stop.grace_s {
                0 => GRACE,
                seconds => Duration::from_secs(u64::from(seconds)).min(LONGEST_GRACE),
            };
            let reason = stop.reason;
            orders.push(Order::Stop { grace, reason });
            return;
        }
        if self.attempts.end_of(&stop.attempt_id).is_some() {
            self.tell_end(&stop.attempt_id, now, orders);
            return;
        }
        // Behind another one, or the stop has overtaken its start: it never starts.
        self.waiting.retain(|run| run.attempt_id != stop.attempt_id);
        let message = format!("never started: {}", stop.reason);
        let stopped = Outcome::Stopped(v1::Stopped {
            message,
            disks_untouched: true,
        });
        self.report(stop.attempt_id, stopped, now, orders);
    }

    /// Answers with how an attempt ended, if it has. A report that the server has acknowledged gets a new sequence,
    /// as it applies each sequence only once.
    fn tell_end(&mut self, attempt_id: &str, now: SystemTime, orders: &mut Vec<Order>) {
        let Some(end) = self.attempts.end_of(attempt_id) else {
            return;
        };
        if let Some(report) = self.unacknowledged.iter().find(|r| r.sequence == end.sequence) {
            orders.push(self.sent(report));
        } else if let Some(outcome) = end.outcome.clone() {
            self.report(attempt_id.to_owned(), outcome, now, orders);
        }
    }

    fn start_next(&mut self, now: SystemTime, orders: &mut Vec<Order>) {
        if self.running.is_some() || self.leaving.is_some() {
            return;
        }
        let Some(run) = self.waiting.pop_front() else {
            return;
        };
        self.running = Some(run.attempt_id.clone());
        self.logs.begin(&run.attempt_id);
        self.report(
            run.attempt_id.clone(),
            Outcome::Started(v1::Started {}),
            now,
            orders,
        );
        orders.push(Order::Start(run));
    }

    fn end(&mut self, attempt_id: String, outcome: Outcome, now: SystemTime, orders: &mut Vec<Order>) {
        // What it printed goes before how it ended.
        self.flush_lines(orders);
        self.progress = None;
        self.running = None;
        let how = leaving_of(&outcome);
        self.report(attempt_id, outcome, now, orders);
        self.leaving = how.map(|how| (self.last_sequence, how)).or(self.leaving);
    }

    fn report(&mut self, attempt_id: String, outcome: Outcome, now: SystemTime, orders: &mut Vec<Order>) {
        self.last_sequence += 1;
        let report = v1::Report {
            sequence: self.last_sequence,
            attempt_id,
            at: Some(now.into()),
            outcome: Some(outcome),
            epoch: self.epoch,
        };
        self.attempts.reported(&report);
        orders.push(Order::Record(report.clone()));
        if self.attached {
            orders.push(self.sent(&report));
        }
        self.unacknowledged.push_back(report);
    }

    /// As part of the present stream.
    fn sent(&self, report: &v1::Report) -> Order {
        let epoch = self.epoch;
        Order::Send(ToServer::Report(v1::Report {
            epoch,
            ..report.clone()
        }))
    }

    fn flush_lines(&mut self, orders: &mut Vec<Order>) {
        if self.attached {
            let lines = std::iter::from_fn(|| self.logs.take());
            orders.extend(lines.map(|lines| Order::Send(ToServer::Log(lines))));
        }
    }

    fn flush(&mut self, orders: &mut Vec<Order>) {
        if self.attached {
            orders.extend(self.logs.take().map(|lines| Order::Send(ToServer::Log(lines))));
            orders.extend(
                self.progress
                    .take()
                    .map(|progress| Order::Send(ToServer::Progress(progress))),
            );
        }
    }
}

fn leaving_of(outcome: &Outcome) -> Option<Leaving> {
    match outcome {
        Outcome::Leaving(leaving) if leaving.how == "kexec" => Some(Leaving::Kexec),
        Outcome::Leaving(leaving) if leaving.how == "poweroff" => Some(Leaving::PowerOff),
        Outcome::Leaving(_) => Some(Leaving::Reboot),
        _ => None,
    }
}

#[cfg(test)]
#[path = "core_simulation.rs"]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn run(id: &str) -> Event {
        let run = v1::RunAction {
            attempt_id: id.to_owned(),
            ..v1::RunAction::default()
        };
        Event::Received(FromServer::Run(run))
    }

    fn attached() -> Core {
        let mut core = Core::default();
        core.hello();
        core.handle(NOW, welcome(3));
        core
    }

    fn welcome(epoch: u64) -> Event {
        Event::Received(FromServer::Welcome(v1::Welcome {
            epoch,
            ..v1::Welcome::default()
        }))
    }

    fn stop(id: &str) -> Event {
        Event::Received(FromServer::Stop(v1::StopAction {
            attempt_id: id.to_owned(),
            reason: "cancelled".to_owned(),
            grace_s: 0,
        }))
    }

    fn acknowledged(sequence: u64) -> Event {
        Event::Received(FromServer::Acknowledged(v1::ReportsAcknowledged { sequence }))
    }

    /// The messages of the Stopped reports in the stream.
    fn stopped(orders: &[Order]) -> Vec<&str> {
        orders
            .iter()
            .filter_map(|order| match order {
                Order::Send(ToServer::Report(report)) => match &report.outcome {
                    Some(Outcome::Stopped(stopped)) => Some(stopped.message.as_str()),
                    _ => None,
                },
                _ => None,
            })
            .collect()
    }

    fn ended(id: &str, outcome: Outcome) -> Event {
        Event::Action(Told::Ended {
            attempt_id: id.to_owned(),
            outcome,
        })
    }

    fn starts(orders: &[Order]) -> usize {
        orders.iter().filter(|o| matches!(o, Order::Start(_))).count()
    }

    fn sent(orders: &[Order]) -> Vec<u64> {
        let sequence = |order: &Order| match order {
            Order::Send(ToServer::Report(report)) => Some(report.sequence),
            _ => None,
        };
        orders.iter().filter_map(sequence).collect()
    }

    #[test]
    fn an_id_is_run_once_and_its_report_sent_again() {
        let mut core = attached();
        assert_eq!(starts(&core.handle(NOW, run("a"))), 1);
        assert_eq!(starts(&core.handle(NOW, run("a"))), 0);
        core.handle(NOW, ended("a", Outcome::Succeeded(v1::Succeeded::default())));
        // Not acknowledged: the very report. Acknowledged: the same outcome under a new sequence.
        assert_eq!(sent(&core.handle(NOW, run("a"))), [2]);
        core.handle(NOW, acknowledged(2));
        let orders = core.handle(NOW, run("a"));
        assert_eq!((starts(&orders), sent(&orders)), (0, vec![3]));
    }

    #[test]
    fn the_machine_leaves_only_when_that_was_acknowledged() {
        let mut core = attached();
        core.handle(NOW, run("a"));
        let orders = core.handle(
            NOW,
            ended(
                "a",
                Outcome::Leaving(v1::Leaving {
                    how: "reboot".to_owned(),
                }),
            ),
        );
        assert!(!orders.contains(&Order::Leave(Leaving::Reboot)));
        assert_eq!(starts(&core.handle(NOW, run("b"))), 0);
        assert!(core.handle(NOW, acknowledged(1)).is_empty());
        core.handle(NOW, Event::StreamLost);
        assert_eq!(core.hello().unacknowledged.len(), 1);
        core.handle(NOW, welcome(4));
        assert_eq!(core.handle(NOW, acknowledged(2)), [Order::Leave(Leaving::Reboot)]);
    }

    #[test]
    fn a_second_attempt_waits_for_the_first_and_can_be_stopped_before_it_starts() {
        let mut core = attached();
        core.handle(NOW, run("a"));
        assert_eq!(starts(&core.handle(NOW, run("b"))), 0);
        assert_eq!(starts(&core.handle(NOW, run("c"))), 0);
        assert_eq!(
            stopped(&core.handle(NOW, stop("b"))),
            ["never started: cancelled"]
        );
        let orders = core.handle(NOW, ended("a", Outcome::Succeeded(v1::Succeeded::default())));
        assert!(
            orders
                .iter()
                .any(|o| matches!(o, Order::Start(run) if run.attempt_id == "c"))
        );
    }

    #[test]
    fn a_worker_that_died_in_an_action_reports_it_failed() {
        let started = v1::Report {
            sequence: 7,
            attempt_id: "a".to_owned(),
            at: None,
            outcome: Some(Outcome::Started(v1::Started {})),
            epoch: 0,
        };
        let (mut core, orders) = Core::resume(vec![started], NOW);
        let [Order::Record(report)] = orders.as_slice() else {
            panic!("{orders:?}")
        };
        assert!(matches!(&report.outcome, Some(Outcome::Failed(f)) if f.reason == "WorkerDied"));
        let hello = core.hello();
        let sequences: Vec<u64> = hello.unacknowledged.iter().map(|r| r.sequence).collect();
        assert_eq!(sequences, [7, 8]);
        core.handle(NOW, welcome(0));
        assert_eq!(starts(&core.handle(NOW, run("a"))), 0);
    }

    #[test]
    fn a_worker_that_died_after_it_reported_leaving_is_followed_by_one_that_leaves() {
        let report = |sequence, outcome| v1::Report {
            sequence,
            attempt_id: "a".to_owned(),
            at: None,
            outcome: Some(outcome),
            epoch: 0,
        };
        let leaving = v1::Leaving {
            how: "poweroff".to_owned(),
        };
        let journal = vec![
            report(1, Outcome::Started(v1::Started {})),
            report(2, Outcome::Leaving(leaving)),
        ];
        let (mut core, orders) = Core::resume(journal, NOW);
        assert!(orders.is_empty(), "{orders:?}");
        assert_eq!(core.hello().unacknowledged.len(), 2);
        core.handle(NOW, welcome(0));
        assert_eq!(starts(&core.handle(NOW, run("b"))), 0, "it is on its way out");
        assert_eq!(
            core.handle(NOW, acknowledged(2)),
            [Order::Leave(Leaving::PowerOff)]
        );
    }

    #[test]
    fn log_lines_go_before_the_end_and_wait_for_a_stream() {
        let mut core = attached();
        core.handle(NOW, run("a"));
        core.handle(NOW, Event::StreamLost);
        core.handle(NOW, Event::Action(Told::Line("hello".to_owned())));
        assert!(core.handle(NOW, Event::Tick).is_empty());
        core.hello();
        // It ends between the Hello and the Welcome.
        core.handle(NOW, ended("a", Outcome::Succeeded(v1::Succeeded::default())));
        let orders = core.handle(NOW, welcome(4));
        assert_eq!(sent(&orders), [2]);
        assert!(
            matches!(&orders[0], Order::Send(ToServer::Log(log)) if log.lines == ["hello"]),
            "{orders:?}"
        );
    }

    #[test]
    fn a_stop_is_answered_whatever_has_become_of_the_attempt() {
        let mut core = attached();
        core.handle(NOW, run("a"));
        let asked = core.handle(NOW, stop("a"));
        assert!(
            matches!(asked.as_slice(), [Order::Stop { grace: GRACE, reason }] if reason == "cancelled"),
            "{asked:?}"
        );
        core.handle(NOW, ended("a", Outcome::Succeeded(v1::Succeeded::default())));
        // Over: the same report again, and a new sequence for it once that was acknowledged.
        assert_eq!(sent(&core.handle(NOW, stop("a"))), [2]);
        core.handle(NOW, acknowledged(2));
        assert_eq!(sent(&core.handle(NOW, stop("a"))), [3]);
        // The stop overtook the start: it never starts, however often it is pushed.
        assert_eq!(
            stopped(&core.handle(NOW, stop("b"))),
            ["never started: cancelled"]
        );
        for _ in 0..100 {
            let orders = core.handle(NOW, run("b"));
            assert_eq!((starts(&orders), stopped(&orders).len()), (0, 1));
        }
    }

    #[test]
    fn a_grace_is_what_the_server_says_within_reason() {
        let mut core = attached();
        core.handle(NOW, run("a"));
        for (seconds, want) in [(1, 1), (90, 90), (u32::MAX, 3600)] {
            let stop = v1::StopAction {
                attempt_id: "a".to_owned(),
                grace_s: seconds,
                ..v1::StopAction::default()
            };
            let orders = core.handle(NOW, Event::Received(FromServer::Stop(stop)));
            assert!(
                matches!(orders.as_slice(), [Order::Stop { grace, .. }] if *grace == Duration::from_secs(want)),
                "{orders:?}"
            );
        }
    }

    #[test]
    fn a_server_whose_epoch_has_passed_is_left_and_not_obeyed() {
        let mut core = attached();
        core.handle(NOW, Event::StreamLost);
        assert_eq!(core.hello().last_epoch, 3);
        let orders = core.handle(NOW, welcome(2));
        assert_eq!(orders.last(), Some(&Order::Detach));
        assert!(core.handle(NOW, run("a")).is_empty());
        // Not even before the stream is gone does it get a report.
        core.handle(NOW, Event::StreamLost);
        core.hello();
        core.handle(NOW, welcome(4));
        assert_eq!(starts(&core.handle(NOW, run("a"))), 1);
    }

    #[test]
    fn what_comes_before_the_welcome_is_not_heard() {
        let mut core = Core::default();
        core.hello();
        assert!(core.handle(NOW, run("a")).is_empty());
        assert!(core.hello().journal.is_empty());
    }

    #[test]
    fn a_report_carries_the_epoch_of_the_stream_that_it_is_sent_in() {
        let mut core = attached();
        let epochs = |orders: &[Order]| -> Vec<u64> {
            let reports = orders.iter().filter_map(|order| match order {
                Order::Send(ToServer::Report(report)) => Some(report.epoch),
                _ => None,
            });
            reports.collect()
        };
        assert_eq!(epochs(&core.handle(NOW, run("a"))), [3]);
        core.handle(NOW, Event::StreamLost);
        core.hello();
        core.handle(NOW, ended("a", Outcome::Succeeded(v1::Succeeded::default())));
        assert_eq!(epochs(&core.handle(NOW, welcome(9))), [9]);
    }

    #[test]
    fn the_epoch_outlives_the_worker() {
        let mut core = attached();
        core.handle(NOW, run("a"));
        core.handle(NOW, ended("a", Outcome::Succeeded(v1::Succeeded::default())));
        let (mut core, _) = Core::resume(core.reports(), NOW);
        core.hello();
        assert!(core.handle(NOW, welcome(2)).contains(&Order::Detach));
    }

    #[test]
    fn what_is_too_much_for_a_hello_follows_the_welcome_in_order() {
        let mut core = attached();
        let large = v1::Succeeded {
            outputs_json: "x".repeat(256 << 10),
            ..v1::Succeeded::default()
        };
        for n in 0..12 {
            core.handle(NOW, run(&format!("w/{n}")));
            core.handle(NOW, ended(&format!("w/{n}"), Outcome::Succeeded(large.clone())));
        }
        core.handle(NOW, Event::StreamLost);
        let hello = core.hello();
        let bytes: usize = hello.unacknowledged.iter().map(Message::encoded_len).sum();
        assert!(bytes <= MAX_HELLO_BYTES, "{bytes}");
        assert_eq!(hello.journal.len(), 12);
        let first: Vec<u64> = hello.unacknowledged.iter().map(|r| r.sequence).collect();
        let rest = sent(&core.handle(NOW, welcome(4)));
        let all: Vec<u64> = first.into_iter().chain(rest).collect();
        assert_eq!(all, (1..=24).collect::<Vec<u64>>());
    }

    #[test]
    fn a_leaving_outlives_the_worker_whatever_was_reported_after_it() {
        let mut core = attached();
        core.handle(NOW, run("a"));
        let how = "reboot".to_owned();
        core.handle(NOW, ended("a", Outcome::Leaving(v1::Leaving { how })));
        core.handle(NOW, stop("b"));
        let (mut core, _) = Core::resume(core.reports(), NOW);
        core.hello();
        core.handle(NOW, welcome(3));
        assert_eq!(core.handle(NOW, acknowledged(3)), [Order::Leave(Leaving::Reboot)]);
    }
}
