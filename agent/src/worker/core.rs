//! What the worker knows, without sockets, clocks or processes: events in, orders out.
//!
//! Keeps the promises of the agent's side: an attempt id is run at most once within a boot, every report is
//! delivered at least once and in order, a machine leaves only after its leaving was acknowledged. Streams may
//! break anywhere, messages may come twice. Who calls this owns the stream, the journal file and the action.

use std::collections::{HashMap, VecDeque};
use std::time::SystemTime;

use proto::v1;
use v1::agent_message::Kind as ToServer;
use v1::report::Outcome;
use v1::server_message::Kind as FromServer;

use super::logs::LogBuffer;

/// A server that pushes more attempts than this at a busy machine is not followed.
const MAX_WAITING: usize = 16;

/// What happened.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, handled at once")]
pub enum Event {
    /// The running action ended; `Started` is not an end.
    Ended { attempt_id: String, outcome: Outcome },
    /// The running action printed a line.
    Line(String),
    /// The running action got on.
    Progress(v1::Progress),
    /// The server said something.
    Received(FromServer),
    /// The stream is gone.
    StreamLost,
    /// Time to send what was collected.
    Tick,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Leave now: reboot or power off.
    Leave(Leaving),
    /// Put this report into the journal before anything that follows.
    Record(v1::Report),
    /// Say this on the console.
    Say(String),
    /// Put this into the stream.
    Send(ToServer),
    /// Start the action.
    Start(v1::RunAction),
    /// Stop the running action; its end is an event like any other.
    Stop { reason: String },
}

/// How the machine leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    PowerOff,
    Reboot,
}

/// The state of one boot.
#[derive(Debug, Default)]
pub struct Core {
    /// Every attempt of this boot; `None` while it waits or runs, its last report afterwards.
    journal: HashMap<String, Option<v1::Report>>,
    running: Option<String>,
    waiting: VecDeque<v1::RunAction>,
    unacknowledged: VecDeque<v1::Report>,
    last_sequence: u64,
    /// Reports up to this one went with the Hello of the present stream.
    said_in_hello: u64,
    attached: bool,
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
            if matches!(report.outcome, Some(Outcome::Started(_))) {
                unfinished = Some(report.attempt_id.clone());
                core.journal.insert(report.attempt_id.clone(), None);
            } else {
                unfinished = unfinished.filter(|id| *id != report.attempt_id);
                core.leaving = report
                    .outcome
                    .as_ref()
                    .and_then(leaving_of)
                    .map(|how| (report.sequence, how));
                core.journal
                    .insert(report.attempt_id.clone(), Some(report.clone()));
            }
            core.unacknowledged.push_back(report);
        }
        let mut orders = Vec::new();
        if let Some(attempt_id) = unfinished {
            core.running = Some(attempt_id.clone());
            let failed = v1::Failed {
                reason: "WorkerDied".to_owned(),
                message: "the agent's worker died while the action ran; it is not run a second time"
                    .to_owned(),
                exit_code: 0,
            };
            core.end(attempt_id, Outcome::Failed(failed), now, &mut orders);
        }
        (core, orders)
    }

    /// What a new stream begins with: the running attempt and the reports not yet acknowledged.
    pub fn hello(&mut self) -> (String, Vec<v1::Report>) {
        self.attached = false;
        self.said_in_hello = self.last_sequence;
        self.logs.rewind();
        (
            self.running.clone().unwrap_or_default(),
            self.unacknowledged.iter().cloned().collect(),
        )
    }

    /// The running attempt's id, empty when idle.
    pub fn running(&self) -> &str {
        self.running.as_deref().unwrap_or_default()
    }

    pub fn handle(&mut self, now: SystemTime, event: Event) -> Vec<Order> {
        let mut orders = Vec::new();
        match event {
            Event::Ended { attempt_id, outcome } => {
                if self.running.as_deref() == Some(&attempt_id) {
                    self.end(attempt_id, outcome, now, &mut orders);
                    self.start_next(now, &mut orders);
                }
            }
            Event::Line(line) => self.logs.push(line),
            Event::Progress(progress) => self.progress = Some(progress),
            Event::Received(message) => self.receive(message, now, &mut orders),
            Event::StreamLost => self.attached = false,
            Event::Tick => self.flush(&mut orders),
        }
        orders
    }

    fn receive(&mut self, message: FromServer, now: SystemTime, orders: &mut Vec<Order>) {
        match message {
            FromServer::Welcome(_) => {
                self.attached = true;
                self.flush_lines(orders);
                let missed = self
                    .unacknowledged
                    .iter()
                    .filter(|r| r.sequence > self.said_in_hello);
                orders.extend(missed.map(|r| Order::Send(ToServer::Report(r.clone()))));
            }
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
            FromServer::Idle(idle) => orders.push(Order::Say(format!("waiting: {}", idle.reason))),
        }
    }

    fn receive_run(&mut self, run: v1::RunAction, now: SystemTime, orders: &mut Vec<Order>) {
        if let Some(known) = self.journal.get(&run.attempt_id) {
            // Pushed again: the server does not know yet how it ended. A report that it has acknowledged gets a
            // new sequence, as it applies each sequence only once.
            match known.clone() {
                None => {}
                Some(report) if self.unacknowledged.iter().any(|r| r.sequence == report.sequence) => {
                    orders.push(Order::Send(ToServer::Report(report)));
                }
                Some(report) => {
                    if let Some(outcome) = report.outcome {
                        self.report(report.attempt_id, outcome, now, orders);
                    }
                }
            }
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
        self.journal.insert(run.attempt_id.clone(), None);
        self.waiting.push_back(run);
        self.start_next(now, orders);
    }

    fn receive_stop(&mut self, stop: v1::StopAction, now: SystemTime, orders: &mut Vec<Order>) {
        if self.running.as_deref() == Some(&stop.attempt_id) {
            orders.push(Order::Stop { reason: stop.reason });
        } else if let Some(at) = self
            .waiting
            .iter()
            .position(|run| run.attempt_id == stop.attempt_id)
        {
            self.waiting.remove(at);
            let stopped = v1::Stopped {
                message: format!("stopped before it started: {}", stop.reason),
            };
            self.report(stop.attempt_id, Outcome::Stopped(stopped), now, orders);
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
            attempt_id: attempt_id.clone(),
            at: Some(now.into()),
            outcome: Some(outcome),
            epoch: 0,
        };
        if !matches!(report.outcome, Some(Outcome::Started(_))) {
            self.journal.insert(attempt_id, Some(report.clone()));
        }
        self.unacknowledged.push_back(report.clone());
        orders.push(Order::Record(report.clone()));
        if self.attached {
            orders.push(Order::Send(ToServer::Report(report)));
        }
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
        core.handle(NOW, Event::Received(FromServer::Welcome(v1::Welcome::default())));
        core
    }

    fn ended(id: &str, outcome: Outcome) -> Event {
        Event::Ended {
            attempt_id: id.to_owned(),
            outcome,
        }
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
        let acknowledged = v1::ReportsAcknowledged { sequence: 2 };
        core.handle(NOW, Event::Received(FromServer::Acknowledged(acknowledged)));
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
        let early = Event::Received(FromServer::Acknowledged(v1::ReportsAcknowledged { sequence: 1 }));
        assert!(core.handle(NOW, early).is_empty());
        core.handle(NOW, Event::StreamLost);
        assert_eq!(core.hello().1.len(), 1);
        let acknowledged = Event::Received(FromServer::Acknowledged(v1::ReportsAcknowledged { sequence: 2 }));
        assert_eq!(core.handle(NOW, acknowledged), [Order::Leave(Leaving::Reboot)]);
    }

    #[test]
    fn a_second_attempt_waits_for_the_first_and_can_be_stopped_before_it_starts() {
        let mut core = attached();
        core.handle(NOW, run("a"));
        assert_eq!(starts(&core.handle(NOW, run("b"))), 0);
        assert_eq!(starts(&core.handle(NOW, run("c"))), 0);
        let stop = v1::StopAction {
            attempt_id: "b".to_owned(),
            reason: "cancelled".to_owned(),
            grace_s: 0,
        };
        core.handle(NOW, Event::Received(FromServer::Stop(stop)));
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
        assert_eq!(
            core.hello().1.iter().map(|r| r.sequence).collect::<Vec<_>>(),
            [7, 8]
        );
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
        assert_eq!(core.hello().1.len(), 2);
        core.handle(NOW, Event::Received(FromServer::Welcome(v1::Welcome::default())));
        assert_eq!(starts(&core.handle(NOW, run("b"))), 0, "it is on its way out");
        let acknowledged = Event::Received(FromServer::Acknowledged(v1::ReportsAcknowledged { sequence: 2 }));
        assert_eq!(core.handle(NOW, acknowledged), [Order::Leave(Leaving::PowerOff)]);
    }

    #[test]
    fn log_lines_go_before_the_end_and_wait_for_a_stream() {
        let mut core = attached();
        core.handle(NOW, run("a"));
        core.handle(NOW, Event::StreamLost);
        core.handle(NOW, Event::Line("hello".to_owned()));
        assert!(core.handle(NOW, Event::Tick).is_empty());
        core.hello();
        // It ends between the Hello and the Welcome.
        core.handle(NOW, ended("a", Outcome::Succeeded(v1::Succeeded::default())));
        let orders = core.handle(NOW, Event::Received(FromServer::Welcome(v1::Welcome::default())));
        assert_eq!(sent(&orders), [2]);
        assert!(
            matches!(&orders[0], Order::Send(ToServer::Log(log)) if log.lines == ["hello"]),
            "{orders:?}"
        );
    }
}
