//! A server that can be stopped and started again on the same store, and an agent that does what a test says.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use access::{Authority, PinnedChannel, Secret, Token};
use futures_util::TryStreamExt;
use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::control_service_client::ControlServiceClient;
use proto::v1::{
    self, AgentMessage, ApplyMachinesRequest, BootLogEntry, BootLogRequest, BootMachineDiskRequest,
    CancelWorkflowRequest, CreateNamespaceRequest, CreateTokenRequest, CreateWorkflowRequest,
    DeleteWorkflowRequest, ExplainWorkflowRequest, Failed, GetWorkflowRequest, Hello, Leaving, LogLines,
    PauseTaskRequest, PauseWorkflowRequest, PutTemplateRequest, Report, ResumeTaskRequest,
    ResumeWorkflowRequest, RetryWorkflowRequest, RunAction, ServerMessage, SkipTaskRequest, Started,
    StopAction, Stopped, Succeeded, Workflow, WorkflowEvent, WorkflowEventsRequest, agent_message, report,
    server_message,
};
use server::{Config, ControlPlane, Listeners};
use store::{
    Commit, KeyValue, MemoryStore, Operation, RedbStore, Revision, Snapshot, Store, StoreError, StoreHandle,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

/// What is waited for comes; a machine whose cores are all taken is slow.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);
pub(crate) const MAC: &str = "52:54:00:77:00:0b";
pub(crate) const MACHINE: &str = "machine: node1\nmac: 52:54:00:77:00:0b\naddress: 10.77.0.11/24\n";

/// Two actions; the second is the last.
pub(crate) const TWO_ACTIONS: &str = r#"
version: "0.1"
name: two
global_timeout: 600
tasks:
  - name: install
    worker: "{{.device_1}}"
    environment:
      COLOUR: red
    actions:
      - name: write
        image: image2disk
        timeout: 300
        environment:
          DEST_DISK: /dev/vda
      - name: restart
        image: reboot
        timeout: 60
"#;

pub(crate) type Client = ControlServiceClient<PinnedChannel>;

pub(crate) struct Server {
    pub(crate) control: ControlPlane,
    /// Where agents find it.
    pub(crate) address: SocketAddr,
    /// Where people do.
    pub(crate) api: SocketAddr,
    /// Of role admin.
    pub(crate) token: Token,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Server {
    /// Opens the store in `dir`; waits for an earlier server of the same test to let go of it.
    pub(crate) async fn start(dir: &TempDir, config: Config) -> Self {
        let store = open(&dir.path().join("farrier.redb")).await;
        Self::over(StoreHandle::new(store), config).await
    }

    pub(crate) async fn over(store: StoreHandle, config: Config) -> Self {
        let dir = TempDir::new().expect("directory");
        let authority = Authority::open(&dir.path().join("authority.pem")).expect("authority");
        let pin = authority.pin();
        let config = Config {
            authority: pin,
            ..config
        };
        let control = ControlPlane::open(store, config).await.expect("open");
        let secret = Secret::new([7; access::SECRET_BYTES]);
        let token = Token { pin, secret };
        control.keep_first_token(&token).await.expect("token");
        let listeners = Listeners {
            agents: TcpListener::bind("127.0.0.1:0").await.expect("bind"),
            people: TcpListener::bind("127.0.0.1:0").await.expect("bind"),
            identity: authority.identity().expect("identity"),
        };
        let address = listeners.agents.local_addr().expect("address");
        let api = listeners.people.local_addr().expect("address");
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn({
            let control = control.clone();
            async move {
                control
                    .serve(listeners, async {
                        // A dropped sender stops it too.
                        let _ = stopped.await;
                    })
                    .await
                    .expect("serve");
            }
        });
        Self {
            control,
            address,
            api,
            token,
            stop,
            serving,
        }
    }

    /// With a machine and a template, on a store of its own.
    pub(crate) async fn with_machine() -> (Self, TempDir) {
        Self::with_machine_and(Config::default()).await
    }

    pub(crate) async fn with_machine_and(config: Config) -> (Self, TempDir) {
        let dir = TempDir::new().expect("directory");
        let server = Self::start(&dir, config).await;
        server.apply(MACHINE).await.expect("machine");
        server.put(TWO_ACTIONS).await.expect("template");
        (server, dir)
    }

    pub(crate) async fn stop(self) {
        let Self {
            control,
            stop,
            serving,
            ..
        } = self;
        drop(stop);
        drop(control);
        serving.await.expect("serving");
    }

    /// Attaches as the agent of a netboot: with the token of its boot, unless the test has given one.
    pub(crate) async fn attach(&self, mut hello: Hello) -> Result<Agent, Status> {
        if hello.boot_token.is_empty() {
            let mac = hello.mac.parse().expect("MAC");
            let boot = format!("boot of {}", hello.boot_id);
            hello.boot_token = self.control.boot_token(mac, &boot).await.expect("token");
        }
        Agent::attach(self.address, hello).await
    }

    pub(crate) async fn client(&self) -> Client {
        self.client_with(&self.token)
    }

    pub(crate) fn client_with(&self, token: &Token) -> Client {
        ControlServiceClient::new(access::channel(&self.api.to_string(), token, None).expect("an address"))
            // As the command line does: a workflow has as much in it as it has.
            .max_decoding_message_size(usize::MAX)
    }

    /// A client with a token of its own.
    pub(crate) async fn person(&self, name: &str, groups: &[&str], role: &str) -> Client {
        let request = CreateTokenRequest {
            name: name.into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            role: role.into(),
            expires_in_s: 0,
            ..CreateTokenRequest::default()
        };
        let made = self.client().await.create_token(request).await.expect("a token");
        self.client_with(&made.into_inner().text.parse().expect("a token"))
    }

    /// Makes a namespace.
    pub(crate) async fn namespace(&self, name: &str) {
        let request = CreateNamespaceRequest {
            name: name.into(),
            ..CreateNamespaceRequest::default()
        };
        self.client()
            .await
            .create_namespace(request)
            .await
            .expect("a namespace");
    }

    /// A client with a token for some namespaces.
    pub(crate) async fn scoped(&self, name: &str, role: &str, namespaces: &[&str]) -> Client {
        let request = CreateTokenRequest {
            name: name.into(),
            role: role.into(),
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
            ..CreateTokenRequest::default()
        };
        let made = self.client().await.create_token(request).await.expect("a token");
        self.client_with(&made.into_inner().text.parse().expect("a token"))
    }

    /// What was created, what was updated, and warnings.
    pub(crate) async fn apply(&self, yaml: &str) -> Result<(Vec<String>, Vec<String>, Vec<String>), Status> {
        let request = ApplyMachinesRequest {
            yaml: yaml.into(),
            source: "machines.yaml".into(),
            ..ApplyMachinesRequest::default()
        };
        let applied = self.client().await.apply_machines(request).await?.into_inner();
        Ok((applied.created, applied.updated, applied.warnings))
    }

    pub(crate) async fn put(&self, text: &str) -> Result<(), Status> {
        let request = PutTemplateRequest {
            name: String::new(),
            text: text.into(),
            ..PutTemplateRequest::default()
        };
        self.client().await.put_template(request).await.map(drop)
    }

    pub(crate) async fn create(&self, template: &str, device: &str) -> Result<Workflow, Status> {
        self.make(CreateWorkflowRequest {
            template: template.into(),
            devices: [("device_1".to_owned(), device.to_owned())].into(),
            ..CreateWorkflowRequest::default()
        })
        .await
    }

    /// Of a template that is not stored.
    pub(crate) async fn create_of(&self, text: &str) -> Workflow {
        let request = CreateWorkflowRequest {
            text: text.into(),
            ..CreateWorkflowRequest::default()
        };
        self.make(request).await.expect("workflow")
    }

    pub(crate) async fn make(&self, request: CreateWorkflowRequest) -> Result<Workflow, Status> {
        let answer = self.client().await.create_workflow(request).await?;
        Ok(answer.into_inner().workflow.expect("workflow"))
    }

    pub(crate) async fn workflow(&self, id: &str) -> Workflow {
        let request = GetWorkflowRequest { id: id.into() };
        self.client()
            .await
            .get_workflow(request)
            .await
            .expect("workflow")
            .into_inner()
    }

    pub(crate) async fn cancel(&self, id: &str, reason: &str) -> Result<Workflow, Status> {
        let request = CancelWorkflowRequest {
            id: id.into(),
            reason: reason.into(),
            ..CancelWorkflowRequest::default()
        };
        let answer = self.client().await.cancel_workflow(request).await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn pause(&self, id: &str, reason: &str) -> Result<Workflow, Status> {
        let request = PauseWorkflowRequest {
            id: id.into(),
            reason: reason.into(),
            ..PauseWorkflowRequest::default()
        };
        let answer = self.client().await.pause_workflow(request).await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn resume(&self, id: &str) -> Result<Workflow, Status> {
        let request = ResumeWorkflowRequest {
            id: id.into(),
            ..ResumeWorkflowRequest::default()
        };
        let answer = self.client().await.resume_workflow(request).await?;
        Ok(answer.into_inner())
    }

    /// `task`: as the command line has it.
    pub(crate) async fn pause_task(&self, id: &str, task: &str, reason: &str) -> Result<Workflow, Status> {
        let request = PauseTaskRequest {
            id: id.into(),
            task: task.into(),
            reason: reason.into(),
            ..PauseTaskRequest::default()
        };
        let answer = self.client().await.pause_task(request).await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn resume_task(&self, id: &str, task: &str) -> Result<Workflow, Status> {
        let request = ResumeTaskRequest {
            id: id.into(),
            task: task.into(),
            ..ResumeTaskRequest::default()
        };
        let answer = self.client().await.resume_task(request).await?;
        Ok(answer.into_inner())
    }

    /// `task`: as the command line has it.
    pub(crate) async fn skip(&self, id: &str, task: &str, reason: &str) -> Result<Workflow, Status> {
        let request = SkipTaskRequest {
            id: id.into(),
            task: task.into(),
            reason: reason.into(),
            ..SkipTaskRequest::default()
        };
        let answer = self.client().await.skip_task(request).await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn retry(&self, id: &str) -> Result<Workflow, Status> {
        let request = RetryWorkflowRequest {
            id: id.into(),
            ..RetryWorkflowRequest::default()
        };
        let answer = self.client().await.retry_workflow(request).await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn boot_disk(&self, machine: &str) -> Result<v1::Machine, Status> {
        let name_or_mac = machine.to_owned();
        let mut client = self.client().await;
        let answer = client
            .boot_machine_disk(BootMachineDiskRequest { name_or_mac })
            .await;
        answer.map(Response::into_inner)
    }

    pub(crate) async fn delete(&self, id: &str) -> Result<(), Status> {
        let request = DeleteWorkflowRequest {
            id: id.into(),
            ..DeleteWorkflowRequest::default()
        };
        self.client().await.delete_workflow(request).await.map(drop)
    }

    /// Waits until the workflow is in this state.
    pub(crate) async fn reaches(&self, id: &str, state: &str) -> Workflow {
        let mut workflow = self.workflow(id).await;
        let deadline = Instant::now() + WITHIN;
        while workflow.state != state {
            if Instant::now() > deadline {
                let lines = self.explained(id).await.join("\n");
                panic!("still {}, not {state}:\n{lines}\n{workflow:?}", workflow.state);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            workflow = self.workflow(id).await;
        }
        workflow
    }

    /// What it waits for, in the words of `farrier workflow explain`.
    async fn explained(&self, id: &str) -> Vec<String> {
        let request = ExplainWorkflowRequest {
            id: id.into(),
            task: String::new(),
        };
        let answer = self.client().await.explain_workflow(request).await;
        answer.map_or_else(
            |status| vec![status.to_string()],
            |answer| answer.into_inner().lines,
        )
    }

    /// Waits until the workflow looks as is wanted.
    pub(crate) async fn until(&self, id: &str, wanted: impl Fn(&Workflow) -> bool) -> Workflow {
        let deadline = Instant::now() + WITHIN;
        loop {
            let workflow = self.workflow(id).await;
            if wanted(&workflow) {
                return workflow;
            }
            assert!(Instant::now() < deadline, "not yet: {workflow:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the boot timeline has an entry that is wanted.
    pub(crate) async fn boot_log(&self, of: &str, wanted: impl Fn(&BootLogEntry) -> bool) -> BootLogEntry {
        let request = BootLogRequest {
            name_or_mac: of.into(),
            follow: true,
            all: false,
            ..BootLogRequest::default()
        };
        let mut entries = self
            .client()
            .await
            .boot_log(request)
            .await
            .expect("boot log")
            .into_inner();
        let found = async {
            loop {
                let entry = entries.message().await.expect("entry").expect("an open stream");
                if wanted(&entry) {
                    return entry;
                }
            }
        };
        tokio::time::timeout(WITHIN, found)
            .await
            .expect("the entry in time")
    }

    /// A workflow's events.
    pub(crate) async fn history(&self, id: &str) -> Vec<WorkflowEvent> {
        let request = WorkflowEventsRequest {
            id: id.into(),
            ..WorkflowEventsRequest::default()
        };
        let events = self.client().await.workflow_events(request).await;
        let events = events.expect("events").into_inner();
        events.try_collect().await.expect("events")
    }

    /// The kinds of a workflow's events.
    pub(crate) async fn events(&self, id: &str) -> Vec<String> {
        let history = self.history(id).await;
        history.into_iter().map(|event| event.kind).collect()
    }
}

/// Polls until it holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !holds() {
        assert!(Instant::now() < deadline, "still waiting for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn open(path: &Path) -> RedbStore {
    let deadline = Instant::now() + WITHIN;
    loop {
        match RedbStore::open(path) {
            Ok(store) => return store,
            Err(StoreError::Locked { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("store: {error}"),
        }
    }
}

/// A store that does what is rare when a test says so: fails, as one does whose disk is full; is faster than somebody
/// who read from it.
#[derive(Default)]
pub(crate) struct Failing {
    store: MemoryStore,
    refuses_events: AtomicBool,
    before_deletion: Mutex<Option<Commit>>,
    /// Reading a key that begins so panics, so often.
    defect: Arc<Defect>,
    commits_panic: AtomicBool,
}

impl Failing {
    pub(crate) fn refuses_events(&self, refuses: bool) {
        self.refuses_events.store(refuses, Ordering::SeqCst);
    }

    /// The next reads of keys that begin with `prefix` panic, `times` times.
    pub(crate) fn panics_at(&self, prefix: &str, times: usize) {
        *self.defect.0.lock().expect("not poisoned") = Some((prefix.into(), times));
    }

    /// True: so often it panicked as it was told to.
    pub(crate) fn has_panicked(&self) -> bool {
        matches!(*self.defect.0.lock().expect("not poisoned"), Some((_, 0)))
    }

    /// The thread that writes breaks down at the next commit.
    pub(crate) fn breaks_its_writer(&self) {
        self.commits_panic.store(true, Ordering::SeqCst);
    }

    /// What somebody else commits between the reads and the commit of the next deletion of a workflow.
    pub(crate) fn comes_before_deletion(&self, commit: Commit) {
        *self.before_deletion.lock().expect("not poisoned") = Some(commit);
    }
}

/// Which key's reading panics, and how often it still does.
#[derive(Default)]
struct Defect(Mutex<Option<(String, usize)>>);

impl Defect {
    fn may_panic(&self, key: &[u8]) {
        let is_it = {
            let mut defect = self.0.lock().expect("not poisoned");
            match &mut *defect {
                Some((prefix, times)) if *times > 0 && key.starts_with(prefix.as_bytes()) => {
                    *times -= 1;
                    true
                }
                _ => false,
            }
        };
        assert!(!is_it, "a defect, made for the test");
    }
}

/// A snapshot of a [`Failing`].
struct FailingSnapshot {
    snapshot: Arc<dyn Snapshot>,
    defect: Arc<Defect>,
}

impl Snapshot for FailingSnapshot {
    fn revision(&self) -> Result<Revision, StoreError> {
        self.snapshot.revision()
    }

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.defect.may_panic(key);
        self.snapshot.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.snapshot.range(from, to, limit)
    }
}

impl Store for Failing {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.defect.may_panic(key);
        self.store.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.store.range(from, to, limit)
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(Arc::new(FailingSnapshot {
            snapshot: self.store.snapshot()?,
            defect: self.defect.clone(),
        }))
    }

    fn commit(&self, commit: &Commit) -> Result<Revision, StoreError> {
        let panics = self.commits_panic.load(Ordering::SeqCst);
        assert!(!panics, "a defect, made for the test");
        let is_event = |operation: &Operation| matches!(operation, Operation::Put { key, .. } if key.starts_with(b"event/"));
        if self.refuses_events.load(Ordering::SeqCst) && commit.operations.iter().any(is_event) {
            return Err(StoreError::Backend {
                message: "no space left on device".into(),
                source: None,
            });
        }
        let is_deletion = |operation: &Operation| matches!(operation, Operation::Delete { key } if key.starts_with(b"workflow/"));
        if commit.operations.iter().any(is_deletion)
            && let Some(first) = self.before_deletion.lock().expect("not poisoned").take()
        {
            self.store.commit(&first)?;
        }
        self.store.commit(commit)
    }
}

/// An agent that a test moves.
pub(crate) struct Agent {
    to: mpsc::Sender<AgentMessage>,
    from: Streaming<ServerMessage>,
    pub(crate) sequence: u64,
}

pub(crate) fn hello(boot_id: &str) -> Hello {
    Hello {
        mac: MAC.into(),
        boot_id: boot_id.into(),
        agent_version: "test".into(),
        ..Hello::default()
    }
}

impl Agent {
    pub(crate) async fn attach(address: SocketAddr, hello: Hello) -> Result<Self, Status> {
        let mut client = AgentServiceClient::connect(format!("http://{address}"))
            .await
            .expect("connect");
        let (to, messages) = mpsc::channel(16);
        let sequence = hello
            .unacknowledged
            .iter()
            .map(|report| report.sequence)
            .max()
            .unwrap_or(0);
        let first = AgentMessage {
            kind: Some(agent_message::Kind::Hello(hello)),
        };
        to.send(first).await.expect("an open stream");
        let from = client.attach(ReceiverStream::new(messages)).await?.into_inner();
        Ok(Self { to, from, sequence })
    }

    /// The next message, whenever it comes, or the status that the stream ended with.
    pub(crate) async fn received(&mut self) -> Result<server_message::Kind, Status> {
        let message = self.from.message().await?;
        let message = message.ok_or_else(|| Status::unknown("the stream ended without a status"))?;
        Ok(message.kind.expect("a kind"))
    }

    /// The next message, or the status that the stream ended with.
    pub(crate) async fn next(&mut self) -> Result<server_message::Kind, Status> {
        tokio::time::timeout(WITHIN, self.received())
            .await
            .expect("a message in time")
    }

    /// The next action; whatever comes before it is passed over.
    pub(crate) async fn run(&mut self) -> RunAction {
        loop {
            if let server_message::Kind::Run(run) = self.next().await.expect("an open stream") {
                return run;
            }
        }
    }

    /// Why there is nothing to do; no action may come before it.
    pub(crate) async fn idle(&mut self) -> String {
        loop {
            match self.next().await.expect("an open stream") {
                server_message::Kind::Idle(idle) => return idle.reason,
                server_message::Kind::Run(run) => panic!("an action came: {}", run.attempt_id),
                _ => {}
            }
        }
    }

    /// What it is to stop; no action may come before it.
    pub(crate) async fn stop(&mut self) -> StopAction {
        loop {
            match self.next().await.expect("an open stream") {
                server_message::Kind::Stop(stop) => return stop,
                server_message::Kind::Run(run) => panic!("an action came: {}", run.attempt_id),
                _ => {}
            }
        }
    }

    /// Waits until everything that was reported is durable; no action may come before it.
    pub(crate) async fn acknowledged(&mut self) {
        loop {
            match self.next().await.expect("an open stream") {
                server_message::Kind::Acknowledged(done) if done.sequence >= self.sequence => return,
                server_message::Kind::Run(run) => panic!("an action came: {}", run.attempt_id),
                _ => {}
            }
        }
    }

    pub(crate) async fn report(&mut self, attempt: &str, outcome: report::Outcome) {
        self.sequence += 1;
        self.send(agent_message::Kind::Report(report(
            self.sequence,
            attempt,
            outcome,
        )))
        .await;
    }

    pub(crate) async fn log(&self, attempt: &str, first_line: u64, lines: &[&str]) {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        let log = LogLines {
            attempt_id: attempt.into(),
            first_line,
            lines,
            dropped: 0,
        };
        self.send(agent_message::Kind::Log(log)).await;
    }

    pub(crate) async fn send(&self, kind: agent_message::Kind) {
        self.to
            .send(AgentMessage { kind: Some(kind) })
            .await
            .expect("an open stream");
    }
}

pub(crate) fn report(sequence: u64, attempt: &str, outcome: report::Outcome) -> Report {
    Report {
        sequence,
        attempt_id: attempt.into(),
        at: None,
        outcome: Some(outcome),
        ..Report::default()
    }
}

pub(crate) fn started() -> report::Outcome {
    report::Outcome::Started(Started {})
}

pub(crate) fn succeeded() -> report::Outcome {
    report::Outcome::Succeeded(Succeeded {
        message: "done".into(),
        bytes: 7,
        ..Succeeded::default()
    })
}

pub(crate) fn failed() -> report::Outcome {
    report::Outcome::Failed(Failed {
        disks_untouched: false,
        reason: "WrongDigest".into(),
        message: "digest differs".into(),
        exit_code: 1,
    })
}

pub(crate) fn leaving() -> report::Outcome {
    report::Outcome::Leaving(Leaving { how: "reboot".into() })
}

pub(crate) fn stopped(message: &str) -> report::Outcome {
    report::Outcome::Stopped(Stopped {
        disks_untouched: false,
        message: message.into(),
    })
}

/// Brings an image to the server's registry.
pub(crate) async fn an_image(server: &Server) {
    let config = br#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let digest = store::blobs::Digest::of(config);
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"sha256:{digest}","size":{}}},"layers":[]}}"#,
        config.len()
    );
    let mut client = server.client().await;
    for content in [config.as_slice(), manifest.as_bytes()] {
        let blob = proto::v1::PutImageBlobRequest {
            sha256: store::blobs::Digest::of(content).to_string(),
            content: content.to_vec(),
        };
        client
            .put_image_blob(tokio_stream::iter([blob]))
            .await
            .expect("content");
    }
    let image = proto::v1::PutImageRequest {
        name: "tools/flash:v1".into(),
        sha256: store::blobs::Digest::of(manifest.as_bytes()).to_string(),
    };
    client.put_image(image).await.expect("image");
}
