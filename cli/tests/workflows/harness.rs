//! A server, the command line that asks it, and a machine's agent whose actions end as a test says.

use std::process::Output;
use std::time::{Duration, Instant};

use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::report::Outcome;
use proto::v1::{
    AgentMessage, Failed, HardwareInventory, Hello, LogLines, Progress, Report, RunAction, Seen, Sight,
    Started, Succeeded, agent_message, server_message,
};
use server::Config;
use store::{MemoryStore, StoreHandle};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::servers::InProcess;
pub(crate) use crate::servers::{command, farrier};

/// Two actions on one machine.
pub(crate) const TEMPLATE: &str = "\
version: \"0.1\"
name: debian
tasks:
  - name: install
    worker: \"{{.device_1}}\"
    actions:
      - {name: write-image, image: image2disk, timeout: 900}
      - {name: configure, image: cexec, timeout: 60}
";

pub(crate) const MAC: &str = "52:54:00:77:00:0b";
const MACHINE: &str = "machine: node1\nmac: 52:54:00:77:00:0b\naddress: 10.77.0.11/24\n";
pub(crate) const DEVICE: &str = "device_1=52:54:00:77:00:0b";
pub(crate) const WITHIN: Duration = Duration::from_secs(20);

/// A server with a machine and a template, and the machine's agent.
pub(crate) async fn prepared(template: &str) -> (String, Agent) {
    let store = StoreHandle::new(MemoryStore::new());
    prepared_on(store, Config::default(), template).await
}

pub(crate) async fn prepared_on(store: StoreHandle, config: Config, template: &str) -> (String, Agent) {
    let InProcess {
        control,
        grpc,
        api: address,
        ..
    } = InProcess::start(store, config).await;
    let dir = tempfile::TempDir::new().expect("directory");
    for (command, file) in [("machine apply", MACHINE), ("template create", template)] {
        let path = dir.path().join("file.yaml");
        std::fs::write(&path, file).expect("write");
        let path = path.display().to_string();
        let args: Vec<&str> = command.split(' ').chain(["-f", &path]).collect();
        let (address, args) = (
            address.clone(),
            args.iter().map(ToString::to_string).collect::<Vec<_>>(),
        );
        let ran = tokio::task::spawn_blocking(move || {
            farrier(&address, &args.iter().map(String::as_str).collect::<Vec<_>>())
        });
        text(&ran.await.expect("it runs"));
    }
    let mac = MAC.parse().expect("a MAC");
    let token = control.boot_token(mac, "boot").await.expect("a token");
    let agent = Agent::attach(&grpc.to_string(), token).await;
    (address, agent)
}

pub(crate) struct Agent {
    to: mpsc::Sender<AgentMessage>,
    from: tonic::Streaming<proto::v1::ServerMessage>,
    sequence: u64,
}

impl Agent {
    async fn attach(address: &str, token: String) -> Self {
        let mut client = AgentServiceClient::connect(format!("http://{address}"))
            .await
            .expect("connect");
        let (to, messages) = mpsc::channel(16);
        let hello = Hello {
            mac: MAC.into(),
            boot_id: "one".into(),
            boot_token: token,
            agent_version: "test".into(),
            ..Hello::default()
        };
        send(&to, agent_message::Kind::Hello(hello)).await;
        let from = client
            .attach(ReceiverStream::new(messages))
            .await
            .expect("attached");
        Self {
            to,
            from: from.into_inner(),
            sequence: 0,
        }
    }

    /// The next action.
    pub(crate) async fn run(&mut self) -> RunAction {
        loop {
            let message = tokio::time::timeout(WITHIN, self.from.message())
                .await
                .expect("in time");
            let message = message.expect("an open stream").expect("an open stream");
            if let Some(server_message::Kind::Run(run)) = message.kind {
                return run;
            }
        }
    }

    pub(crate) async fn report(&mut self, run: &RunAction, outcome: Outcome) {
        self.sequence += 1;
        let report = Report {
            sequence: self.sequence,
            attempt_id: run.attempt_id.clone(),
            outcome: Some(outcome),
            ..Report::default()
        };
        send(&self.to, agent_message::Kind::Report(report)).await;
    }

    pub(crate) async fn succeeds(&mut self, run: &RunAction, done: Succeeded) {
        self.report(run, Outcome::Started(Started {})).await;
        self.report(run, Outcome::Succeeded(done)).await;
    }

    pub(crate) async fn fails(&mut self, run: &RunAction, reason: &str, message: &str) {
        self.report(run, Outcome::Started(Started {})).await;
        let failed = Failed {
            disks_untouched: false,
            reason: reason.into(),
            message: message.into(),
            exit_code: 3,
        };
        self.report(run, Outcome::Failed(failed)).await;
    }

    pub(crate) async fn progress(&self, run: &RunAction, done_bytes: u64, total_bytes: u64) {
        let progress = Progress {
            attempt_id: run.attempt_id.clone(),
            done_bytes,
            total_bytes,
            rate_bytes_per_s: 10 << 20,
            stage: "download".into(),
        };
        send(&self.to, agent_message::Kind::Progress(progress)).await;
    }

    /// What its machine is made of.
    pub(crate) async fn tells(&self, inventory: HardwareInventory) {
        send(&self.to, agent_message::Kind::Inventory(Box::new(inventory))).await;
    }

    /// Answers the next look at its machine.
    pub(crate) async fn shows(&mut self, text: &str) -> Sight {
        loop {
            let message = tokio::time::timeout(WITHIN, self.from.message()).await;
            let message = message
                .expect("in time")
                .expect("an open stream")
                .expect("an open stream");
            if let Some(server_message::Kind::Look(look)) = message.kind {
                let seen = Seen {
                    id: look.id,
                    text: text.into(),
                    ..Seen::default()
                };
                send(&self.to, agent_message::Kind::Seen(seen)).await;
                return look.sight();
            }
        }
    }

    pub(crate) async fn log(&self, run: &RunAction, lines: &[&str]) {
        let lines = LogLines {
            attempt_id: run.attempt_id.clone(),
            lines: lines.iter().map(ToString::to_string).collect(),
            ..LogLines::default()
        };
        send(&self.to, agent_message::Kind::Log(lines)).await;
    }
}

async fn send(to: &mpsc::Sender<AgentMessage>, kind: agent_message::Kind) {
    to.send(AgentMessage { kind: Some(kind) })
        .await
        .expect("an open stream");
}

pub(crate) fn wait_until(address: &str, args: &[&str], is: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + WITHIN;
    loop {
        let said = text(&farrier(address, args));
        if is(&said) {
            return;
        }
        assert!(Instant::now() < deadline, "{args:?} says at last: {said}");
    }
}

/// What it printed; it must have succeeded.
#[track_caller]
pub(crate) fn text(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
