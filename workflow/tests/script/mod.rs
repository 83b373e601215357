//! Workflows driven by lines of text.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test program uses its part of it"
)]

use std::collections::BTreeMap;

use workflow::engine::{
    self, AttemptId, Command, Event, EventKind, Outcome, Refusal, Workflow, WorkflowState,
};
use workflow::language::{Action, Definition, Task};

pub const WORKER: &str = "a";

pub fn action(name: &str) -> Action {
    Action {
        name: name.into(),
        image: "quay.io/tinkerbell/actions/writefile:latest".into(),
        timeout_s: 0,
        command: vec!["original".into()],
        on_timeout: vec![],
        on_failure: vec![],
        volumes: vec![],
        environment: BTreeMap::new(),
        pid: String::new(),
        network: String::new(),
    }
}

/// Actions `one` and `two` on worker `a`, then `three` on `b`.
pub fn two_tasks() -> Definition {
    let task = |name: &str, worker: &str, actions: &[&str]| Task {
        name: name.into(),
        worker: worker.into(),
        volumes: vec![],
        environment: BTreeMap::new(),
        actions: actions.iter().map(|name| action(name)).collect(),
    };
    Definition {
        version: "0.1".into(),
        name: "install".into(),
        id: String::new(),
        global_timeout_s: 0,
        tasks: vec![
            task("first", "a", &["one", "two"]),
            task("second", "b", &["three"]),
        ],
    }
}

/// A workflow `w` with its history.
pub struct Script {
    state: Workflow,
    pub events: Vec<Event>,
    pub now: u64,
}

impl Script {
    pub fn new(definition: Definition) -> Script {
        let create = Command::Create {
            id: "w".into(),
            name: "install".into(),
            template: "install".into(),
            definition: Box::new(definition),
        };
        let events = engine::decide(None, &create, 1_000).unwrap();
        Script {
            state: engine::replay(&events).unwrap(),
            events,
            now: 2_000,
        }
    }

    pub fn state(&self) -> &Workflow {
        &self.state
    }

    pub fn decide(&mut self, command: &Command) -> Result<Vec<Event>, Refusal> {
        let events = engine::decide(Some(&self.state), command, self.now)?;
        for event in &events {
            self.state = engine::apply(Some(self.state.clone()), event);
            assert_eq!(self.state.last_event, event.number, "{event:?} was not taken");
        }
        self.events.extend(events.clone());
        Ok(events)
    }

    /// Runs one command and compares the events that it led to.
    #[track_caller]
    pub fn check(&mut self, line: &str, want: &str) {
        let events = self.decide(&command(line)).unwrap();
        let lines: Vec<String> = events.iter().map(print).collect();
        assert_eq!(lines.join("\n"), want, "after {line:?}");
        assert_eq!(engine::replay(&self.events).unwrap(), self.state);
    }

    pub fn run(&mut self, lines: &str) {
        for line in lines.split(';') {
            self.decide(&command(line.trim())).unwrap();
        }
    }

    #[track_caller]
    pub fn expect_state(&self, state: WorkflowState, message: &str) {
        assert_eq!((self.state.state, self.state.message.as_str()), (state, message));
        assert!(self.state.ended_at.is_some() && self.state.ending.is_none());
    }

    pub fn current(&self, worker: &str) -> Option<String> {
        engine::current_attempt(&self.state, worker).map(|(attempt, _, _)| attempt.0)
    }

    pub fn dispatch(&self, worker: &str) -> engine::Dispatch {
        engine::dispatch(&self.state, worker).unwrap()
    }
}

pub fn command(line: &str) -> Command {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["attached", worker, boot] => Command::Attached {
            worker: worker.into(),
            boot_id: boot.into(),
            running: None,
        },
        ["attached", worker, boot, running] => Command::Attached {
            worker: worker.into(),
            boot_id: boot.into(),
            running: Some(AttemptId(running.into())),
        },
        ["report", attempt, outcome] => Command::Report {
            attempt: AttemptId(attempt.into()),
            outcome: self::outcome(outcome),
        },
        ["cancel"] => Command::Cancel {
            reason: "wrong machine".into(),
        },
        ["timer"] => Command::Timer,
        _ => panic!("no command: {line}"),
    }
}

pub fn outcome(word: &str) -> Outcome {
    match word {
        "started" => Outcome::Started,
        "succeeded" => Outcome::Succeeded {
            message: "wrote it".into(),
            bytes: 7,
        },
        "failed" => Outcome::Failed {
            reason: "WrongDigest".into(),
            message: "digest is a, expected b".into(),
            exit_code: 1,
        },
        "timed_out" => Outcome::TimedOut {
            message: "after 5 s".into(),
        },
        "leaving" => Outcome::Leaving { how: "reboot".into() },
        "stopped" => Outcome::Stopped {
            message: "SIGTERM".into(),
        },
        _ => panic!("no outcome: {word}"),
    }
}

fn print(event: &Event) -> String {
    let attempt = event
        .kind
        .attempt()
        .map(|attempt| format!(" {attempt}"))
        .unwrap_or_default();
    let detail = match &event.kind {
        EventKind::Reported { outcome, .. } | EventKind::Late { outcome, .. } => {
            format!(" {}", outcome.name())
        }
        EventKind::Lost { retried: true, .. } => " retried".into(),
        EventKind::Stopping { state, .. } | EventKind::Ended { state, .. } => format!(" {state}"),
        _ => String::new(),
    };
    format!("{} {}{attempt}{detail}", event.number, event.kind.name())
}
