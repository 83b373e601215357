//! A server that is restarted ends nobody who follows it: each goes on from where it was, misses nothing and gets nothing
//! twice. A real `farrier serve`, killed or stopped and started anew on the same port and data.

#![allow(clippy::unwrap_used, reason = "tests")]

mod servers;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::signal::Signal;
use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::report::Outcome;
use proto::v1::{
    AgentMessage, AttemptState, Hello, JournalEntry, LogLines, Report, RunAction, Started, Succeeded,
    agent_message, server_message,
};
use servers::Serve;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const WITHIN: Duration = Duration::from_secs(60);
const MACS: [&str; 2] = ["52:54:00:77:00:0b", "52:54:00:77:00:0c"];
const TEMPLATE: &str = "\
version: \"0.1\"
name: look
tasks:
  - name: look
    worker: \"52:54:00:77:00:0b\"
    actions:
      - {name: first, image: cexec, timeout: 60}
";

#[test]
fn whoever_follows_outlives_a_server_that_is_killed() {
    check(Signal::SIGKILL);
}

#[test]
fn whoever_follows_outlives_a_server_that_is_stopped() {
    check(Signal::SIGTERM);
}

fn check(signal: Signal) {
    let dir = tempfile::TempDir::new().unwrap();
    let mut server = Server::start(dir.path());
    for (number, mac) in MACS.iter().enumerate() {
        // Nobody netboots it: its agent needs no token.
        let machine = format!(
            "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {{name: node{number}}}\nspec:\n  interfaces:\n    \
             - dhcp: {{mac: \"{mac}\"}}\n      netboot: {{allowPXE: false, allowWorkflow: true}}\n"
        );
        let file = dir.path().join("machine.yaml");
        std::fs::write(&file, machine).unwrap();
        server.ok(&["machine", "apply", "-f", file.to_str().unwrap()]);
    }
    let file = dir.path().join("template.yaml");
    std::fs::write(&file, TEMPLATE).unwrap();
    let id = server.ok(&["workflow", "create", "-q", "-f", file.to_str().unwrap()]);
    let id = id.trim();

    let mut logs = server.follow(&["workflow", "logs", "-f", id]);
    let mut events = server.follow(&["workflow", "events", "-f", "-o", "json", id]);
    let mut told = server.follow(&[
        "events",
        "-f",
        "--since",
        "oldest",
        "--workflow",
        id,
        "-o",
        "json",
    ]);
    let mut boots = server.follow(&["machine", "boot-log", "-f", "-o", "json", "node0"]);
    let mut watch = server.follow(&["workflow", "watch", id]);
    let mut wait = server.follow(&["workflow", "wait", id, "--timeout", "60s"]);
    let mut run = server.follow(&["run", "node1", "cexec"]);

    let runtime = Runtime::new().unwrap();
    let mut agents: Vec<Agent> = MACS
        .iter()
        .map(|mac| runtime.block_on(Agent::attach(&server.0.grpc, mac, None)))
        .collect();
    let runs: Vec<RunAction> = agents
        .iter_mut()
        .map(|agent| runtime.block_on(agent.begin()))
        .collect();
    for (agent, run) in agents.iter().zip(&runs) {
        runtime.block_on(agent.log(run, 0, &["one", "two"]));
    }
    assert_eq!(logs.lines(3), ["--- look/first on node0", "one", "two"]);
    assert_eq!(run.lines(2), ["one", "two"]);
    // Created, three of the task's beginning, dispatched, started.
    let mut seen = events.lines(5);
    let mut booted = boots.lines(1);

    server.end(signal);
    drop(agents);
    server = server.again();
    let mut agents: Vec<Agent> = MACS
        .iter()
        .zip(&runs)
        .map(|(mac, run)| runtime.block_on(Agent::attach(&server.0.grpc, mac, Some(run))))
        .collect();
    for (agent, run) in agents.iter_mut().zip(&runs) {
        // What it sent last it sends again, as it may have been lost.
        runtime.block_on(agent.log(run, 1, &["two", "three"]));
        runtime.block_on(agent.end(run));
    }

    assert_eq!(logs.rest(), (Some(0), vec!["three".to_owned()]));
    assert_eq!(run.rest(), (Some(0), vec!["three".to_owned()]));
    let (code, more) = events.rest();
    seen.extend(more);
    assert_eq!(code, Some(0));
    let numbers: Vec<u64> = seen
        .iter()
        .map(|line| json(line)["number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(json(seen.last().unwrap())["kind"], "ended");
    // It never ends, and has the same: each once.
    let told: Vec<u64> = told
        .lines(numbers.len())
        .iter()
        .map(|line| json(line)["number"].as_u64().unwrap())
        .collect();
    assert_eq!(told, numbers);
    let (code, drawn) = watch.rest();
    // What changed, and then how it ended.
    assert!(
        code == Some(0) && drawn.iter().any(|line| line == "SUCCESS"),
        "{drawn:?}"
    );
    assert_eq!(wait.rest(), (Some(0), vec![format!("workflow {id} is SUCCESS")]));
    // It never ends: until the second attach is told of.
    let attached = |lines: &[String]| lines.iter().filter(|line| json(line)["what"] == "ATTACH").count();
    while attached(&booted) < 2 {
        booted.extend(boots.lines(1));
    }
    let distinct: BTreeSet<&String> = booted.iter().collect();
    assert_eq!(
        (distinct.len(), attached(&booted)),
        (booted.len(), 2),
        "{booted:#?}"
    );
    // One of `run`, one of ours: nothing was made twice.
    let list = server.ok(&["workflow", "list", "-o", "json"]);
    assert_eq!(json(&list).as_array().unwrap().len(), 2, "{list}");
}

#[test]
fn who_waits_goes_on_waiting_as_long_as_it_takes() {
    let dir = tempfile::TempDir::new().unwrap();
    let mut server = Server::start(dir.path());
    let file = dir.path().join("template.yaml");
    // Longer than a server may take for an answer when it is back.
    std::fs::write(
        &file,
        "version: '1'\nname: later\ntasks: [{name: later, wait: 8s}]\n",
    )
    .unwrap();
    let id = server.ok(&["workflow", "create", "-q", "-f", file.to_str().unwrap()]);
    let id = id.trim();
    let mut wait = server.follow(&["workflow", "wait", id]);
    let mut limited = server.follow(&["workflow", "wait", id, "--timeout", "60s"]);
    let mut events = server.follow(&["workflow", "events", "-f", id]);
    assert_eq!(events.lines(1).len(), 1);
    // Who waits prints nothing by which it is seen to be there.
    server.0.has_clients(3);
    server.ok(&["workflow", "list"]);
    server.end(Signal::SIGKILL);
    let _server = server.again();
    assert_eq!(wait.rest(), (Some(0), vec![format!("workflow {id} is SUCCESS")]));
    assert_eq!(
        limited.rest(),
        (Some(0), vec![format!("workflow {id} is SUCCESS")])
    );
    assert_eq!(events.rest().0, Some(0));
}

#[test]
fn who_waits_for_a_server_that_stays_away_is_told_when_its_time_is_over() {
    let dir = tempfile::TempDir::new().unwrap();
    let mut server = Server::start(dir.path());
    let file = dir.path().join("template.yaml");
    std::fs::write(
        &file,
        "version: '1'\nname: later\ntasks: [{name: later, wait: 1d}]\n",
    )
    .unwrap();
    let id = server.ok(&["workflow", "create", "-q", "-f", file.to_str().unwrap()]);
    let mut wait = server
        .0
        .command(&["workflow", "wait", id.trim(), "--timeout", "3s"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    server.0.has_clients(1);
    server.ok(&["workflow", "list"]);
    server.end(Signal::SIGKILL);
    let mut said = String::new();
    wait.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(wait.wait().unwrap().code(), Some(4), "{said}");
    let gone = format!("farrier: the server at {} is gone: ", server.0.api);
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with(&gone) && lines[0].ends_with("; asking again"),
        "{said}"
    );
    assert!(lines[1].starts_with(&gone), "{said}");
    // It was never there for who comes now: that is told at once.
    let mut late = server.follow(&["workflow", "logs", "-f", id.trim()]);
    assert_eq!(late.rest(), (Some(4), Vec::new()));
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// A server on ports that it gets again.
struct Server(Serve);

impl Server {
    fn start(data: &Path) -> Server {
        Server(Serve::start(data))
    }

    fn again(self) -> Server {
        Server(self.0.again())
    }

    fn end(&mut self, signal: Signal) {
        self.0.end(signal);
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        self.0.run(args)
    }

    fn follow(&self, args: &[&str]) -> Follower {
        let mut child = self.0.command(args).stderr(Stdio::inherit()).spawn().unwrap();
        let (to, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines() {
                if to.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        Follower {
            child,
            lines,
            what: format!("{args:?}"),
        }
    }
}

/// A command that follows, and what it prints.
struct Follower {
    child: Child,
    lines: Receiver<String>,
    what: String,
}

impl Follower {
    #[track_caller]
    fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            match self.lines.recv_timeout(WITHIN) {
                Ok(line) => lines.push(line),
                Err(error) => panic!("{}: {error} after {lines:?}", self.what),
            }
        }
        lines
    }

    /// Its exit code and what it printed until its end.
    #[track_caller]
    fn rest(&mut self) -> (Option<i32>, Vec<String>) {
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(WITHIN) {
                Ok(line) => lines.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("{}: {error} after {lines:?}", self.what),
            }
        }
        let status: ExitStatus = self.child.wait().unwrap();
        (status.code(), lines)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A machine's agent, over one stream.
struct Agent {
    to: mpsc::Sender<AgentMessage>,
    from: tonic::Streaming<proto::v1::ServerMessage>,
}

impl Agent {
    async fn attach(address: &str, mac: &str, running: Option<&RunAction>) -> Agent {
        let mut client = AgentServiceClient::connect(format!("http://{address}"))
            .await
            .unwrap();
        let (to, messages) = mpsc::channel(16);
        let entry = |run: &RunAction| JournalEntry {
            attempt_id: run.attempt_id.clone(),
            state: AttemptState::Running.into(),
            sequence: 1,
        };
        let hello = Hello {
            mac: mac.into(),
            boot_id: "one".into(),
            agent_version: "test".into(),
            running_attempt: running.map(|run| run.attempt_id.clone()).unwrap_or_default(),
            journal: running.map(entry).into_iter().collect(),
            ..Hello::default()
        };
        to.send(AgentMessage {
            kind: Some(agent_message::Kind::Hello(hello)),
        })
        .await
        .unwrap();
        let from = client
            .attach(ReceiverStream::new(messages))
            .await
            .unwrap()
            .into_inner();
        Agent { to, from }
    }

    async fn begin(&mut self) -> RunAction {
        loop {
            let message = tokio::time::timeout(WITHIN, self.from.message()).await.unwrap();
            if let Some(server_message::Kind::Run(run)) = message.unwrap().unwrap().kind {
                self.report(&run, 1, Outcome::Started(Started {})).await;
                return run;
            }
        }
    }

    async fn end(&mut self, run: &RunAction) {
        self.report(run, 2, Outcome::Succeeded(Succeeded::default()))
            .await;
    }

    async fn report(&self, run: &RunAction, sequence: u64, outcome: Outcome) {
        let report = Report {
            sequence,
            attempt_id: run.attempt_id.clone(),
            outcome: Some(outcome),
            ..Report::default()
        };
        self.say(agent_message::Kind::Report(report)).await;
    }

    async fn log(&self, run: &RunAction, first_line: u64, lines: &[&str]) {
        let lines = LogLines {
            attempt_id: run.attempt_id.clone(),
            first_line,
            lines: lines.iter().map(ToString::to_string).collect(),
            ..LogLines::default()
        };
        self.say(agent_message::Kind::Log(lines)).await;
    }

    async fn say(&self, kind: agent_message::Kind) {
        self.to.send(AgentMessage { kind: Some(kind) }).await.unwrap();
    }
}
