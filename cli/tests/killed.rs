//! A real `farrier serve` killed with SIGKILL two hundred times under load (`FARRIER_KILLS`: how often): nothing that it acknowledged is lost, and
//! nothing runs twice. The agents are the production state machine with actions that end at once.

#![allow(clippy::unwrap_used, reason = "tests")]

mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use access::{PinnedChannel, Token};
use agent::actions::Told;
use agent::worker::core::{Core, Event, Order};
use nix::sys::signal::Signal;
use proto::v1::agent_message::Kind as ToServer;
use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::control_service_client::ControlServiceClient;
use proto::v1::report::Outcome;
use proto::v1::server_message::Kind as FromServer;
use proto::v1::{
    AgentMessage, ApplyMachinesRequest, CreateWorkflowRequest, GetMachineRequest, GetWorkflowRequest, Hello,
    ListWorkflowsRequest, PutTemplateRequest, Succeeded, WorkflowEventsRequest,
};
use servers::Serve;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const MACHINES: usize = 16;
const ACTIONS: usize = 5;
/// Reports acknowledged between two kills, at least: a server that never gets on would pass otherwise.
const PROGRESS: u64 = 3;
const WITHIN: Duration = Duration::from_secs(60);
/// For one answer: the port of a server that was killed may have become another service's.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// `FARRIER_KILLS`, or enough for every day.
fn kills() -> u64 {
    let asked = std::env::var("FARRIER_KILLS").ok();
    asked.map_or(200, |text| text.parse().unwrap())
}

#[test]
fn kills_under_load_lose_nothing_and_run_nothing_twice() {
    let dir = tempfile::TempDir::new().unwrap();
    let boot = dir.path().join("boot");
    std::fs::create_dir(&boot).unwrap();
    // What the netboot services look for; nothing is booted here.
    for file in [
        "vmlinuz",
        "initramfs.img",
        "snponly.efi",
        "undionly.kpxe",
        "local-boot.efi",
    ] {
        std::fs::write(boot.join(file), file).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let load = Arc::new(Load::default());
    let mut serve = start(dir.path(), &load);
    runtime.block_on(prepare(&load));
    let stopping = Arc::new(AtomicBool::new(false));
    for number in 0..MACHINES {
        runtime.spawn(SimulatedAgent::new(number, load.clone()).run());
    }
    let maker = runtime.spawn(make_workflows(load.clone(), stopping.clone()));

    for kill in 0..kills() {
        let before = load.acknowledged.load(Ordering::SeqCst);
        let deadline = Instant::now() + WITHIN;
        // Where exactly it is hit differs from kill to kill.
        let wanted = before + PROGRESS + kill % 17;
        while load.acknowledged.load(Ordering::SeqCst) < wanted {
            if Instant::now() > deadline {
                runtime.block_on(describe(&load));
                panic!("no progress after kill {kill}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        serve.end(Signal::SIGKILL);
        serve = start(dir.path(), &load);
    }
    stopping.store(true, Ordering::SeqCst);
    let ids = runtime.block_on(maker).unwrap();
    runtime.block_on(check(&load, &ids));
    runtime.block_on(all_are_archived(dir.path(), &ids));
}

/// What the agents and the maker of workflows know.
#[derive(Default)]
struct Load {
    server: Mutex<Option<Known>>,
    acknowledged: AtomicU64,
    /// Ends of attempts that the server has acknowledged.
    ends: Mutex<BTreeSet<String>>,
    /// How often each attempt was started.
    starts: Mutex<BTreeMap<String, u32>>,
}

/// Where the server is now.
struct Known {
    grpc: String,
    api: String,
    token: Token,
}

impl Load {
    fn agents(&self) -> String {
        format!("http://{}", self.server.lock().unwrap().as_ref().unwrap().grpc)
    }

    fn control(&self) -> ControlServiceClient<PinnedChannel> {
        let server = self.server.lock().unwrap();
        let Known { api, token, .. } = server.as_ref().unwrap();
        ControlServiceClient::new(access::channel(api, token, None).unwrap())
    }
}

fn start(dir: &Path, load: &Load) -> Serve {
    let mut command = servers::serve(dir);
    // It is killed while it archives, too.
    command.args(["--archive-after", "0"]);
    let serve = Serve::started(command, dir);
    *load.server.lock().unwrap() = Some(Known {
        grpc: serve.grpc.clone(),
        api: serve.api.clone(),
        token: serve.token(),
    });
    serve
}

async fn prepare(load: &Load) {
    let mut control = load.control();
    let machines: Vec<String> = (0..MACHINES)
        .map(|number| {
            format!(
                "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {{name: m{number}}}\nspec:\n  interfaces:\n    \
                 - dhcp: {{mac: \"{}\"}}\n      netboot: {{allowPXE: false, allowWorkflow: true}}\n",
                mac(number)
            )
        })
        .collect();
    let request = ApplyMachinesRequest {
        yaml: machines.join("---\n"),
        source: "test".into(),
        ..ApplyMachinesRequest::default()
    };
    control.apply_machines(request).await.unwrap();
    let actions: String = (0..ACTIONS)
        .map(|number| format!("      - {{name: a{number}, image: cexec, timeout: 60}}\n"))
        .collect();
    let text = format!(
        "version: \"0.1\"\nname: load\ntasks:\n  - name: work\n    worker: \"{{{{.device_1}}}}\"\n    actions:\n{actions}"
    );
    control
        .put_template(PutTemplateRequest {
            name: String::new(),
            text,
            ..PutTemplateRequest::default()
        })
        .await
        .unwrap();
}

fn mac(number: usize) -> String {
    format!("52:54:00:77:01:{number:02x}")
}

/// Makes workflow after workflow until it is told to stop; gives the ids. What it has asked for it asks for until it is
/// answered, also when it is to stop: the server may have made it already, and its agent may be at work. A key makes
/// asking again harmless.
async fn make_workflows(load: Arc<Load>, stopping: Arc<AtomicBool>) -> Vec<String> {
    const PAUSE: Duration = Duration::from_millis(2);
    let mut ids = Vec::new();
    while !stopping.load(Ordering::SeqCst) {
        // A few are open at any time, so that there is load and the machines' queues are used.
        if open(&load, &ids) > MACHINES * ACTIONS * 3 {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let request = CreateWorkflowRequest {
            template: "load".into(),
            devices: [("device_1".to_owned(), mac(ids.len() % MACHINES))].into(),
            idempotency_key: format!("key-{}", ids.len()),
            ..CreateWorkflowRequest::default()
        };
        let deadline = Instant::now() + WITHIN;
        let made = loop {
            let made = tokio::time::timeout(ANSWER_WITHIN, async {
                let mut control = load.control();
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(
                    control.create_workflow(request.clone()).await?,
                )
            });
            let made = made.await;
            if let Ok(Ok(made)) = made {
                break made.into_inner().workflow.unwrap();
            }
            assert!(Instant::now() < deadline, "no workflow is made: {made:?}");
            tokio::time::sleep(PAUSE).await;
        };
        ids.push(made.id);
    }
    ids
}

/// Actions that have not ended.
fn open(load: &Load, ids: &[String]) -> usize {
    (ids.len() * ACTIONS).saturating_sub(load.ends.lock().unwrap().len())
}

/// One machine's agent over all streams of one boot.
struct SimulatedAgent {
    number: usize,
    load: Arc<Load>,
    core: Core,
    /// Ends that were sent and not acknowledged: sequence and attempt.
    sent: BTreeMap<u64, Option<String>>,
}

impl SimulatedAgent {
    fn new(number: usize, load: Arc<Load>) -> SimulatedAgent {
        let core = Core::default();
        SimulatedAgent {
            number,
            load,
            core,
            sent: BTreeMap::new(),
        }
    }

    async fn run(mut self) {
        loop {
            // Whatever ends the stream, the next begins with all that was not acknowledged.
            let _ = self.attach().await;
            self.core.handle(SystemTime::now(), Event::StreamLost);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    async fn attach(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let connected = AgentServiceClient::connect(self.load.agents());
        let mut client = tokio::time::timeout(ANSWER_WITHIN, connected).await??;
        let (to, messages) = mpsc::channel(64);
        let greeting = self.core.hello();
        let hello = Hello {
            mac: mac(self.number),
            boot_id: format!("boot-{}", self.number),
            agent_version: "test".into(),
            running_attempt: greeting.running,
            unacknowledged: greeting.unacknowledged,
            journal: greeting.journal,
            last_epoch: greeting.last_epoch,
            ..Hello::default()
        };
        to.send(AgentMessage {
            kind: Some(ToServer::Hello(hello)),
        })
        .await?;
        let attached = client.attach(ReceiverStream::new(messages));
        let mut from = tokio::time::timeout(ANSWER_WITHIN, attached).await??.into_inner();
        while let Some(message) = from.message().await? {
            let Some(kind) = message.kind else { continue };
            if let FromServer::Acknowledged(acknowledged) = &kind {
                self.acknowledged(acknowledged.sequence);
            }
            let mut orders = self.core.handle(SystemTime::now(), Event::Received(kind));
            // What is to be started is started also where the stream broke before that: the core takes it for running.
            let mut is_broken = false;
            while !orders.is_empty() {
                let mut next = Vec::new();
                for order in orders {
                    match order {
                        Order::Record(report) => {
                            let end = !matches!(report.outcome, Some(Outcome::Started(_)));
                            self.sent
                                .insert(report.sequence, end.then_some(report.attempt_id));
                        }
                        Order::Send(kind) => {
                            is_broken |= to.send(AgentMessage { kind: Some(kind) }).await.is_err();
                        }
                        Order::Start(run) => {
                            *self
                                .load
                                .starts
                                .lock()
                                .unwrap()
                                .entry(run.attempt_id.clone())
                                .or_default() += 1;
                            let outcome = Outcome::Succeeded(Succeeded::default());
                            let ended = Event::Action(Told::Ended {
                                attempt_id: run.attempt_id,
                                outcome,
                            });
                            next.extend(self.core.handle(SystemTime::now(), ended));
                        }
                        Order::Detach | Order::Leave(_) => return Ok(()),
                        Order::Look(_) | Order::Say(_) | Order::Stop { .. } => {}
                    }
                }
                orders = next;
            }
            if is_broken {
                return Ok(());
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self, sequence: u64) {
        let rest = self.sent.split_off(&(sequence + 1));
        let done = std::mem::replace(&mut self.sent, rest);
        self.load
            .acknowledged
            .fetch_add(done.len() as u64, Ordering::SeqCst);
        self.load
            .ends
            .lock()
            .unwrap()
            .extend(done.into_values().flatten());
    }
}

/// What was checked was in archives, or is now: servers were killed while they archived.
async fn all_are_archived(data: &Path, ids: &[String]) {
    let archives = || {
        let shards = std::fs::read_dir(data.join("blobs/sha256")).unwrap();
        let blobs = shards.flat_map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap());
        blobs.count()
    };
    let deadline = Instant::now() + WITHIN;
    while archives() < ids.len() {
        assert!(
            Instant::now() < deadline,
            "{} of {} are archived",
            archives(),
            ids.len()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What there is to do and why it is not done, for whoever reads a failure.
async fn describe(load: &Load) {
    let mut control = load.control();
    let workflows = control
        .list_workflows(ListWorkflowsRequest::default())
        .await
        .unwrap()
        .into_inner();
    for workflow in workflows
        .workflows
        .iter()
        .filter(|workflow| workflow.state != "SUCCESS")
    {
        println!(
            "{} {} on {}",
            workflow.id, workflow.state, workflow.tasks[0].worker
        );
    }
    for number in 0..MACHINES {
        let machine = control
            .get_machine(GetMachineRequest {
                name_or_mac: mac(number),
            })
            .await
            .unwrap()
            .into_inner();
        println!(
            "{}: attached {}, attempt {:?} (lost: {}), queue {:?}",
            machine.name, machine.attached, machine.running_attempt, machine.attempt_lost, machine.queue
        );
    }
}

/// The server is up for good: everything ends, once, and is all there.
async fn check(load: &Load, ids: &[String]) {
    let mut control = load.control();
    assert_eq!(
        ids.iter().collect::<BTreeSet<_>>().len(),
        ids.len(),
        "a key gave a workflow twice"
    );
    assert_eq!(
        all_workflows(&mut control).await,
        ids.iter().cloned().collect::<BTreeSet<_>>(),
        "what the server has is not what was made"
    );
    let deadline = Instant::now() + WITHIN;
    let mut reported = BTreeMap::<String, u32>::new();
    for id in ids {
        loop {
            let workflow = control
                .get_workflow(GetWorkflowRequest { id: id.clone() })
                .await
                .unwrap()
                .into_inner();
            if workflow.state == "SUCCESS" {
                break;
            }
            assert!(Instant::now() < deadline, "{workflow:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let request = WorkflowEventsRequest {
            id: id.clone(),
            from: 0,
            follow: false,
        };
        let mut events = control.workflow_events(request).await.unwrap().into_inner();
        let mut number = 0;
        while let Some(event) = events.message().await.unwrap() {
            number += 1;
            assert_eq!(event.number, number, "events of {id} have a hole");
            let json: serde_json::Value = serde_json::from_str(&event.json).unwrap();
            if json["kind"] == "reported" && json["outcome"]["kind"] == "succeeded" {
                *reported
                    .entry(json["attempt"].as_str().unwrap().to_owned())
                    .or_default() += 1;
            }
        }
    }
    let starts = load.starts.lock().unwrap();
    let twice: Vec<_> = starts.iter().filter(|(_, starts)| **starts > 1).collect();
    assert!(twice.is_empty(), "started more than once: {twice:?}");
    assert!(
        starts.keys().all(|attempt| attempt.ends_with("/1")),
        "an action had a second attempt"
    );
    for end in load.ends.lock().unwrap().iter() {
        assert_eq!(
            reported.get(end),
            Some(&1),
            "the acknowledged end of {end} is not in the events, or twice"
        );
    }
    assert_eq!(reported.len(), ids.len() * ACTIONS);
    assert!(
        reported.values().all(|count| *count == 1),
        "an end was applied twice"
    );
    println!(
        "{} kills, {} workflows, {} reports acknowledged",
        kills(),
        ids.len(),
        load.acknowledged.load(Ordering::SeqCst)
    );
}

async fn all_workflows(control: &mut ControlServiceClient<PinnedChannel>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut request = ListWorkflowsRequest::default();
    loop {
        let page = control
            .list_workflows(request.clone())
            .await
            .unwrap()
            .into_inner();
        all.extend(page.workflows.into_iter().map(|workflow| workflow.id));
        if page.next.is_empty() {
            return all;
        }
        request.after = page.next;
    }
}
