//! A server that does exactly what a test tells it, and the real agent as an ordinary process against it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use proto::v1::report::Outcome;
use proto::v1::{self, agent_message, server_message};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// A test that waits longer than this has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A server on loopback; every stream that the agent opens is handed to the test.
pub(crate) struct FakeServer {
    pub(crate) address: String,
    streams: mpsc::Receiver<Stream>,
    refuse: Arc<Mutex<Option<Status>>>,
    data: Arc<Mutex<Data>>,
}

struct Service {
    streams: mpsc::Sender<Stream>,
    refuse: Arc<Mutex<Option<Status>>>,
    data: Arc<Mutex<Data>>,
}

/// The ephemeral data of the one workflow that there is.
#[derive(Default)]
pub(crate) struct Data {
    /// What is answered for a version: chunks.
    pub(crate) versions: HashMap<u64, Vec<v1::DataChunk>>,
    /// Contents that were stored, by digest.
    pub(crate) stored: HashMap<String, Vec<u8>>,
    pub(crate) accesses: Vec<v1::DataAccess>,
    /// What is said of the registry of every image.
    pub(crate) pull_settings: v1::PullSettings,
    /// Of who asked for it.
    pub(crate) nonces: Vec<Vec<u8>>,
    /// So often the server is away first.
    pub(crate) away: u32,
}

impl Data {
    fn ask(&mut self, access: Option<v1::DataAccess>) -> Result<(), Status> {
        if self.away > 0 {
            self.away -= 1;
            return Err(Status::unavailable("restart"));
        }
        self.accesses.extend(access);
        Ok(())
    }
}

/// One stream, open until it is dropped.
pub(crate) struct Stream {
    inbound: Streaming<v1::AgentMessage>,
    outbound: mpsc::Sender<Result<v1::ServerMessage, Status>>,
    /// Lines that came while something else was waited for, as `number text`.
    pub(crate) lines: Vec<String>,
    /// What images the agent keeps, as it told it last.
    pub(crate) store: Option<v1::ImageStore>,
}

impl FakeServer {
    pub(crate) async fn start() -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("address").to_string();
        let (sender, streams) = mpsc::channel(4);
        let refuse = Arc::default();
        let data = Arc::default();
        let service = Service {
            streams: sender,
            refuse: Arc::clone(&refuse),
            data: Arc::clone(&data),
        };
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(AgentServiceServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        FakeServer {
            address,
            streams,
            refuse,
            data,
        }
    }

    pub(crate) fn data(&self) -> std::sync::MutexGuard<'_, Data> {
        self.data.lock().expect("lock")
    }

    /// Every attach from now on ends with this.
    pub(crate) fn refuse(&self, status: Status) {
        *self.refuse.lock().expect("lock") = Some(status);
    }

    /// The next stream and the Hello in it.
    pub(crate) async fn accept(&mut self) -> (Stream, v1::Hello) {
        let next = tokio::time::timeout(DEADLINE, self.streams.recv()).await;
        let mut stream = next.expect("an attach in time").expect("a stream");
        let hello = match stream.next().await {
            agent_message::Kind::Hello(hello) => hello,
            other => panic!("not a Hello: {other:?}"),
        };
        (stream, hello)
    }
}

#[tonic::async_trait]
impl AgentService for Service {
    type AttachStream = ReceiverStream<Result<v1::ServerMessage, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        if let Some(status) = self.refuse.lock().expect("lock").clone() {
            return Err(status);
        }
        let (outbound, receiver) = mpsc::channel(32);
        let stream = Stream {
            inbound: request.into_inner(),
            outbound,
            lines: Vec::new(),
            store: None,
        };
        let _ = self.streams.send(stream).await;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type GetDataStream = ReceiverStream<Result<v1::DataChunk, Status>>;

    async fn get_data(
        &self,
        request: Request<v1::GetDataRequest>,
    ) -> Result<Response<Self::GetDataStream>, Status> {
        let request = request.into_inner();
        let chunks = {
            let mut data = self.data.lock().expect("lock");
            data.ask(request.access)?;
            let chunks = data.versions.get(&request.version).cloned();
            chunks.ok_or_else(|| Status::not_found(format!("version {} is not kept", request.version)))?
        };
        let (sender, receiver) = mpsc::channel(chunks.len().max(1));
        for chunk in chunks {
            let _ = sender.send(Ok(chunk)).await;
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_pull_settings(
        &self,
        request: Request<v1::GetPullSettingsRequest>,
    ) -> Result<Response<v1::PullSettings>, Status> {
        let request = request.into_inner();
        let mut data = self.data.lock().expect("lock");
        data.ask(request.access)?;
        data.nonces.push(request.nonce);
        Ok(Response::new(data.pull_settings.clone()))
    }

    async fn put_data(
        &self,
        request: Request<Streaming<v1::PutDataRequest>>,
    ) -> Result<Response<v1::PutDataResponse>, Status> {
        use v1::put_data_request::Kind;
        let mut requests = request.into_inner();
        let mut contents: Vec<(String, Vec<u8>)> = Vec::new();
        while let Some(request) = requests.message().await? {
            match request.kind {
                Some(Kind::Access(access)) => self.data.lock().expect("lock").ask(Some(access))?,
                Some(Kind::Chunk(chunk)) => {
                    contents.extend(chunk.file.map(|file| (file.sha256, Vec::new())));
                    let (_, content) = contents.last_mut().expect("a file first");
                    content.extend(chunk.content);
                }
                None => return Err(Status::invalid_argument("nothing")),
            }
        }
        let sha256 = contents.iter().map(|(digest, _)| digest.clone()).collect();
        self.data.lock().expect("lock").stored.extend(contents);
        Ok(Response::new(v1::PutDataResponse { sha256 }))
    }
}

impl Stream {
    pub(crate) async fn send(&self, kind: server_message::Kind) {
        let message = v1::ServerMessage { kind: Some(kind) };
        self.outbound.send(Ok(message)).await.expect("the stream is open");
    }

    pub(crate) async fn welcome(&self) {
        self.welcome_of(0).await;
    }

    /// Ends the stream from the server's side.
    pub(crate) fn close(&mut self) {
        // The only sender of what the agent reads.
        self.outbound = mpsc::channel(1).0;
    }

    pub(crate) async fn run(&self, run: &v1::RunAction) {
        self.send(server_message::Kind::Run(run.clone())).await;
    }

    pub(crate) async fn acknowledge(&self, sequence: u64) {
        self.send(server_message::Kind::Acknowledged(v1::ReportsAcknowledged {
            sequence,
        }))
        .await;
    }

    pub(crate) async fn welcome_of(&self, epoch: u64) {
        let welcome = v1::Welcome {
            machine: "m1".to_owned(),
            heartbeat_interval_s: 1,
            epoch,
            ..Default::default()
        };
        self.send(server_message::Kind::Welcome(welcome)).await;
    }

    /// The end of an action, whose start is reported before.
    pub(crate) async fn end_of(&mut self, run: &v1::RunAction) -> Outcome {
        self.run(run).await;
        let started = self.report().await;
        assert!(
            matches!(started.outcome, Some(Outcome::Started(_))),
            "{started:?}"
        );
        self.report().await.outcome.expect("an outcome")
    }

    pub(crate) async fn stop(&self, attempt_id: &str) {
        let stop = v1::StopAction {
            attempt_id: attempt_id.to_owned(),
            reason: "a test".to_owned(),
            grace_s: 1,
        };
        self.send(server_message::Kind::Stop(stop)).await;
    }

    pub(crate) async fn next(&mut self) -> agent_message::Kind {
        loop {
            let message = tokio::time::timeout(DEADLINE, self.inbound.message()).await;
            let message = message
                .expect("a message in time")
                .expect("an open stream")
                .expect("a message");
            if let Some(kind) = message.kind {
                if let agent_message::Kind::Inventory(inventory) = &kind {
                    self.store = inventory.images;
                }
                return kind;
            }
        }
    }

    /// The next report; lines on the way are kept.
    pub(crate) async fn report(&mut self) -> v1::Report {
        loop {
            match self.next().await {
                agent_message::Kind::Report(report) => return report,
                other => self.keep_lines(other),
            }
        }
    }

    /// The next inventory; everything else is passed over.
    pub(crate) async fn inventory(&mut self) -> Box<v1::HardwareInventory> {
        loop {
            if let agent_message::Kind::Inventory(inventory) = self.next().await {
                return inventory;
            }
        }
    }

    /// Waits until the running action has printed this.
    pub(crate) async fn line(&mut self, text: &str) {
        while !self.lines.iter().any(|line| line.ends_with(text)) {
            let message = self.next().await;
            self.keep_lines(message);
        }
    }

    fn keep_lines(&mut self, kind: agent_message::Kind) {
        if let agent_message::Kind::Log(log) = kind {
            let numbered = log.lines.iter().enumerate();
            self.lines
                .extend(numbered.map(|(n, line)| format!("{} {line}", log.first_line + n as u64)));
        }
    }
}

/// The agent's process, killed when it goes out of scope.
pub(crate) struct Agent {
    pub(crate) child: Child,
}

impl Agent {
    pub(crate) fn start(server: &FakeServer, state_dir: &Path) -> Agent {
        Agent::start_with(server, state_dir, &[])
    }

    pub(crate) fn start_with(server: &FakeServer, state_dir: &Path, more: &[&str]) -> Agent {
        let child = Command::new(env!("CARGO_BIN_EXE_farrier-agent"))
            .args([
                "--server",
                &server.address,
                "--mac",
                "52:54:00:77:00:0b",
                "--token",
                "secret",
            ])
            .arg("--state-dir")
            .arg(state_dir)
            .args(more)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(state_dir.join("stderr")).expect("stderr"))
            .spawn()
            .expect("the agent starts");
        Agent { child }
    }

    /// The exit code, when it ends by itself.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        wait_until("the agent's end", || self.child.try_wait().expect("status"))
            .await
            .code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls until there is something, with a deadline.
pub(crate) async fn wait_until<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "no {what} within {DEADLINE:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An action to push.
pub(crate) fn action(attempt_id: &str, image: &str, environment: &[(&str, &str)]) -> v1::RunAction {
    let environment: HashMap<String, String> = environment
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    v1::RunAction {
        attempt_id: attempt_id.to_owned(),
        action: attempt_id.to_owned(),
        image: format!("quay.io/tinkerbell/actions/{image}:v1"),
        native: image.to_owned(),
        environment,
        action_count: 1,
        ..Default::default()
    }
}

/// A shell command as an action: `cexec` beside an empty tmpfs, so that it needs no disk.
pub(crate) fn shell(attempt_id: &str, text: &str) -> v1::RunAction {
    let environment = [
        ("BLOCK_DEVICE", "/dev/null"),
        ("FS_TYPE", "tmpfs"),
        ("DEFAULT_INTERPRETER", "/bin/sh -c"),
        ("CMD_LINE", text),
    ];
    action(attempt_id, "cexec", &environment)
}
