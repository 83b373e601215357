//! Stores that earlier versions of Farrier wrote are read by this one, and what this one writes can be read by them.
//!
//! `rows/format-1` is an export of a store with every kind of row that there is, and `rows/format-1.txt` what a server says
//! of it. They are never edited: a field of a row is added with a default, or there is a new format
//! (docs/decisions/014-row-formats.md). `FARRIER_BLESS=1` writes both anew, before their format is released.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coordinator::database::{detached, formats};
use coordinator::{Coordinator, Input, Limits, NewWorkflow};
use futures_util::TryStreamExt;
use proto::v1::{
    BlockDevice, BootLogRequest, BootStage, CreateWebhookRequest, CreateWorkflowRequest, HardwareInventory,
    Hello, LabelWorkflowRequest, ListMachinesRequest, ListSecretsRequest, ListTemplatesRequest,
    ListTokensRequest, ListWorkflowsRequest, LldpNeighbour, MemoryModule, NetworkInterface, Partition,
    PciDevice, PutTemplateRequest, SetSecretRequest, Succeeded, Template, WorkflowDataRequest,
    WorkflowLogsRequest, agent_message, report,
};
use serde_json::Value;
use server::Config;
use store::blobs::Blobs;
use store::offline::{self, Import, Target};
use store::{Commit, KeyValue, RedbStore, Store, StoreHandle};
use tempfile::TempDir;
use tonic::Streaming;
use workflow::engine::Creation;
use workflow::language::{Devices, render};

use crate::archive::ended;
use crate::harness::*;

const NEVER: Duration = Duration::from_secs(100 * 24 * 3600);
const MANY_MAC: &str = "52:54:00:77:00:20";
const MANY: &str =
    "machine: many\nmac: 52:54:00:77:00:20\naddress: 10.77.0.32/24\nagent_id: rack7\nlabels: {rack: r7}\n";
const INNER: &str = r#"
version: "1"
name: inner
tasks:
  - name: only
    worker: "52:54:00:77:00:20"
    actions: [{name: a, image: cexec}]
"#;
/// Sub-workflows, a list, a person who is waited for longer than anybody reads this, outputs.
const OUTER: &str = r#"
version: "1"
name: outer
inputs:
  colour: {default: red}
outputs: {colour: inputs.colour}
tasks:
  - name: each
    forEach: '["one", "two"]'
    worker: "52:54:00:77:00:20"
    actions: [{name: a, image: cexec, environment: {ITEM: "${{ item }}"}, input: {item: "${{ item }}"}}]
  - name: inner
    workflow: inner
  - name: ask
    needs: [each, inner]
    approve: {message: go on?, timeout: 36500d}
"#;
/// For machines that there are not.
const LEFT: &str = r#"
version: "1"
name: left
tasks:
  - name: one
    worker: "52:54:00:77:00:31"
    actions: [{name: a, image: cexec}]
"#;

/// A data directory.
struct Kept(TempDir);

impl Kept {
    fn new() -> Self {
        Self(TempDir::new().expect("directory"))
    }

    fn open(&self) -> Arc<dyn Store> {
        Arc::new(RedbStore::open(self.0.path().join(offline::FILE)).expect("nobody else has it open"))
    }

    async fn server(&self, store: &Arc<dyn Store>, archive_after: Duration) -> Server {
        let config = Config {
            archive_after,
            blobs: Blobs::open(self.0.path().join(offline::BLOBS)).expect("blobs"),
            ..Config::default()
        };
        Server::over(StoreHandle::shared(store.clone()), config).await
    }
}

fn rows(store: &dyn Store) -> Vec<KeyValue> {
    store.range(b"\0", b"\xff", usize::MAX).expect("rows")
}

fn kind(row: &KeyValue) -> String {
    let key = String::from_utf8_lossy(&row.key).into_owned();
    key.split('/').next().unwrap_or_default().to_owned()
}

/// A store with every kind of row.
async fn written() -> Kept {
    let kept = Kept::new();
    let store = kept.open();
    // One that is archived.
    let server = kept.server(&store, NEVER).await;
    server.apply(MANY).await.expect("machine");
    let archived = ended(&server, leaving(), "SUCCESS").await;
    server.stop().await;
    let server = kept.server(&store, Duration::ZERO).await;
    let key = format!("archived/{archived}");
    until("the archive", || {
        store.get(key.as_bytes()).expect("readable").is_some()
    })
    .await;
    server.stop().await;

    // One that has ended, with a log and data; and one of sub-workflows, on which a person is waited for.
    let server = kept.server(&store, NEVER).await;
    let webhook = CreateWebhookRequest {
        name: "ops".into(),
        // Nobody is there.
        url: "http://127.0.0.1:9/".into(),
        on: vec!["ended".into()],
        ..CreateWebhookRequest::default()
    };
    server
        .client()
        .await
        .create_webhook(webhook)
        .await
        .expect("webhook");
    an_image(&server).await;
    ended(&server, failed(), "FAILED").await;
    until("a delivery", || {
        let rows = store
            .range(b"webhook-delivery/", b"webhook-delivery0", 1)
            .expect("readable");
        rows.first()
            .is_some_and(|row| String::from_utf8_lossy(&row.value).contains("no connection"))
    })
    .await;
    server.put(INNER).await.expect("template");
    server.put(OUTER).await.expect("template");
    // An older version of it is kept.
    server
        .put(&format!("{OUTER}# changed\n"))
        .await
        .expect("template");
    server.put(OUTER).await.expect("template");
    let outer = CreateWorkflowRequest {
        template: "outer".into(),
        idempotency_key: "once".into(),
        labels: [("example.com/rack".to_owned(), "r7".to_owned())].into(),
        ..CreateWorkflowRequest::default()
    };
    let outer = server.make(outer).await.expect("workflow").id;
    let mut client = server.client().await;
    client.label_workflow(with_key(&outer)).await.expect("labelled");
    let many = Hello {
        mac: MANY_MAC.into(),
        ..hello("boot of many")
    };
    let mut agent = server.attach(many).await.expect("attach");
    let inventory = HardwareInventory {
        serial: "SN-1".into(),
        cpus: 8,
        disks: vec![BlockDevice {
            name: "/dev/vda".into(),
            partitions: vec![Partition::default()],
            ..BlockDevice::default()
        }],
        interfaces: vec![NetworkInterface {
            neighbour: Some(LldpNeighbour::default()),
            ..NetworkInterface::default()
        }],
        memory_modules: vec![MemoryModule::default()],
        pci_devices: vec![PciDevice::default()],
        gpus: vec![PciDevice::default()],
        left_out: vec!["1 more of disks".into()],
        ..HardwareInventory::default()
    };
    agent
        .send(agent_message::Kind::Inventory(Box::new(inventory)))
        .await;
    for _ in 0..3 {
        let run = agent.run().await;
        let done = Succeeded {
            outputs_json: r#"{"seen": 1}"#.into(),
            ..Succeeded::default()
        };
        agent
            .report(&run.attempt_id, report::Outcome::Succeeded(done))
            .await;
    }
    let asks = |workflow: &proto::v1::Workflow| {
        let mut executions = workflow.tasks[2].executions.iter();
        executions.any(|execution| execution.waiting == "approval")
    };
    server.until(&outer, asks).await;
    // One keeps the machine for itself, and the next one waits.
    server.create_of(INNER).await;
    agent.run().await;
    server.create_of(INNER).await;
    drop(agent);
    server
        .boot_log("many", |entry| entry.stage() == BootStage::Agent)
        .await;
    server.person("ann", &["ops"], "operator").await;
    let secret = SetSecretRequest {
        name: "PW".into(),
        value: "correct horse".into(),
        ..SetSecretRequest::default()
    };
    server.client().await.set_secret(secret).await.expect("a secret");
    // Another namespace, with something in it of each kind that has one.
    server.namespace("blue").await;
    let secret = SetSecretRequest {
        name: "PW".into(),
        value: "another horse".into(),
        namespace: "blue".into(),
    };
    client.set_secret(secret).await.expect("a secret");
    let machine = "machine: blue1\nnamespace: blue\nmac: 52:54:00:77:00:b1\n";
    server.apply(machine).await.expect("machine");
    let template = PutTemplateRequest {
        text: INNER.into(),
        namespace: "blue".into(),
        ..PutTemplateRequest::default()
    };
    client.put_template(template).await.expect("template");
    server.scoped("bob", "viewer", &["blue"]).await;
    server.stop().await;
    leave_work(&*store, &store);
    kept
}

/// What was asked with a key.
fn with_key(id: &str) -> LabelWorkflowRequest {
    LabelWorkflowRequest {
        id: id.to_owned(),
        set: [("asked".to_owned(), "once".to_owned())].into(),
        idempotency_key: "label".into(),
        ..LabelWorkflowRequest::default()
    }
}

/// What a server leaves that is killed: something to be told to a machine. And a value that did not fit into its commit.
fn leave_work(rows: &dyn Store, store: &Arc<dyn Store>) {
    let limits = Limits {
        inline_machines: 0,
        ..Limits::default()
    };
    let definition = render(LEFT, &Devices::default()).expect("a template").definition;
    let id = uuid::Uuid::now_v7().to_string();
    let new = NewWorkflow {
        creation: Creation {
            id: id.clone(),
            namespace: "default".into(),
            name: "left".into(),
            definition,
            ..Creation::default()
        },
        extra: Commit::default(),
    };
    let coordinator = Coordinator::new(store.clone(), limits);
    let plan = coordinator.prepare(1_800_000_000_000_u64, &Input::Create(Box::new(new)));
    rows.commit(&plan.expect("a plan").commit).expect("a commit");

    let key = format!("workflow-definition/{id}");
    let row = rows.get(key.as_bytes()).expect("readable").expect("there");
    let mut batch = coordinator::database::Batch::default();
    batch.put_as_it_is(row.key, row.value);
    let mut commit = batch.into_commit();
    let small = Limits {
        commit_bytes: 0,
        in_row_bytes: 200,
        ..Limits::default()
    };
    for piece in detached::detach(rows, &mut commit, &small).expect("readable") {
        rows.commit(&piece).expect("a commit");
    }
    rows.commit(&commit).expect("a commit");
}

/// What a server says of what is stored, as long as nobody does anything: of each row what it is about, and not what answers
/// have beside that.
async fn said(server: &Server) -> Vec<String> {
    let mut client = server.client().await;
    let mut said = Vec::new();
    let machines = client
        .list_machines(ListMachinesRequest::default())
        .await
        .expect("machines");
    for machine in machines.into_inner().machines {
        said.push(format!(
            "machine {}: {:?} {:?} {:?} runs {:?}, boots {} ({}), heard {:?}",
            machine.name,
            machine.macs,
            machine.addresses,
            machine.labels,
            machine.running_workflow,
            machine.boots_next,
            machine.boots_next_reason,
            machine.last_seen,
        ));
        if let Some(inventory) = machine.inventory {
            said.push(format!(
                "  told at {:?} that it is {:?} with {} CPUs and {:?}",
                machine.inventory_at, inventory.serial, inventory.cpus, inventory.disks
            ));
        }
    }
    let tokens = client
        .list_tokens(ListTokensRequest::default())
        .await
        .expect("tokens");
    // Another is made by every server of these tests.
    let mut tokens = tokens.into_inner().tokens.into_iter();
    for name in ["ann", "bob"] {
        let found = tokens.find(|token| token.name == name).expect("a token");
        said.push(format!(
            "person {}: {:?} {} of {:?} by {:?} at {:?}",
            found.name, found.groups, found.role, found.namespaces, found.created_by, found.created_at
        ));
    }
    let every = ListSecretsRequest {
        all_namespaces: true,
        ..ListSecretsRequest::default()
    };
    let secrets = client.list_secrets(every).await;
    let secrets = secrets.expect("secrets").into_inner().secrets.into_iter();
    said.extend(secrets.map(|secret| {
        format!(
            "secret {} of {} by {:?} at {:?}",
            secret.name, secret.namespace, secret.set_by, secret.updated_at
        )
    }));
    let mac = MANY_MAC.parse().expect("a MAC");
    let token = server
        .control
        .boot_token(mac, "boot of boot of many")
        .await
        .expect("a token");
    said.push(format!("token {token}"));
    let templates = client
        .list_templates(ListTemplatesRequest {
            all_namespaces: true,
            ..ListTemplatesRequest::default()
        })
        .await
        .expect("templates");
    let templates = templates.into_inner().templates.into_iter();
    said.extend(templates.map(|template| {
        let Template {
            id,
            namespace,
            name,
            text,
            ..
        } = template;
        format!("template {id} {namespace} {name}: {text:?}")
    }));
    let list = ListWorkflowsRequest::default();
    let workflows = client.list_workflows(list).await.expect("workflows");
    for listed in workflows.into_inner().workflows {
        said.push(format!("listed {} {} {}", listed.id, listed.name, listed.state));
        said.extend(said_of(server, &listed.id).await);
    }
    let again = CreateWorkflowRequest {
        template: "outer".into(),
        idempotency_key: "once".into(),
        labels: [("example.com/rack".to_owned(), "r7".to_owned())].into(),
        ..CreateWorkflowRequest::default()
    };
    let again = server.make(again).await.expect("the same").id;
    said.push(format!("the same again is {again}"));
    let labelled = client
        .label_workflow(with_key(&again))
        .await
        .expect("done before");
    said.push(format!(
        "labelled again it is at event {}",
        labelled.into_inner().last_event
    ));
    for name in ["node1", "many"] {
        let log = BootLogRequest {
            name_or_mac: name.into(),
            ..BootLogRequest::default()
        };
        let entries = all(client.boot_log(log).await.expect("boot log").into_inner()).await;
        said.extend(entries.iter().map(|entry| {
            format!(
                "boot of {name}: {} {} {:?}",
                word(entry.stage()),
                entry.what,
                entry.at
            )
        }));
    }
    said
}

fn word(stage: BootStage) -> String {
    let name = stage.as_str_name().trim_start_matches("BOOT_STAGE_");
    name.to_lowercase()
}

async fn said_of(server: &Server, id: &str) -> Vec<String> {
    let mut client = server.client().await;
    let workflow = server.workflow(id).await;
    let mut said = vec![format!(
        "workflow {id} {} from {:?} is {}: inputs {}, outputs {}, ended {:?}, of {:?}",
        workflow.name,
        workflow.template,
        workflow.state,
        workflow.inputs_json,
        workflow.outputs_json,
        workflow.ended_at,
        workflow.definition_yaml,
    )];
    for task in &workflow.tasks {
        said.push(format!(
            "  task {} is {}, {} of {} made",
            task.name, task.state, task.made, task.items
        ));
        for execution in &task.executions {
            let actions: Vec<String> = execution
                .actions
                .iter()
                .map(|action| format!("{} is {} ({:?})", action.name, action.state, action.message))
                .collect();
            said.push(format!(
                "    {} on {:?} for {:?} is {}, waits for {:?}, below it {:?}: {actions:?}",
                execution.id,
                execution.worker,
                execution.item_json,
                execution.state,
                execution.waiting,
                execution.child,
            ));
        }
    }
    let events = server.history(id).await.into_iter();
    said.extend(events.map(|event| {
        format!(
            "  event {} {} of {:?}: {:?}",
            event.number, event.kind, event.task, event.at
        )
    }));
    let log = WorkflowLogsRequest {
        id: id.to_owned(),
        follow: false,
        ..WorkflowLogsRequest::default()
    };
    let log = all(client.workflow_logs(log).await.expect("logs").into_inner()).await;
    said.extend(
        log.iter()
            .map(|line| format!("  line {} of {}: {:?}", line.line, line.action, line.text)),
    );
    let data = WorkflowDataRequest {
        id: id.to_owned(),
        ..WorkflowDataRequest::default()
    };
    let data = all(client.workflow_data(data).await.expect("data").into_inner()).await;
    said.extend(data.iter().map(|file| {
        format!(
            "  file {} of version {}: {:?}",
            file.path, file.version, file.content
        )
    }));
    said
}

async fn all<T>(stream: Streaming<T>) -> Vec<T> {
    stream.try_collect().await.expect("an open stream")
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control/rows")
}

/// What an export has, in a data directory.
fn imported(export: &Path) -> Kept {
    let kept = Kept::new();
    let from = Import::Directory(export);
    offline::import(from, kept.0.path(), false, formats::CURRENT.reader(), &mut |_| {})
        .expect("a sound export");
    kept
}

fn is_blessing() -> bool {
    std::env::var_os("FARRIER_BLESS").is_some()
}

async fn bless(kept: &Kept) {
    let export = golden().join("format-1");
    let _ = std::fs::remove_dir_all(&export);
    let data = kept.0.path().to_owned();
    let to = export.clone();
    tokio::task::spawn_blocking(move || {
        let names = &coordinator::archive::named;
        offline::export(&data, names, Target::Directory(&to), &mut |_| {}).expect("exported");
    })
    .await
    .expect("exported");
    let (kept, store) = of_golden().await;
    let server = kept.server(&store, NEVER).await;
    let text = said(&server).await.join("\n") + "\n";
    server.stop().await;
    std::fs::write(golden().join("format-1.txt"), text).expect("written");
}

async fn of_golden() -> (Kept, Arc<dyn Store>) {
    let kept = tokio::task::spawn_blocking(|| imported(&golden().join("format-1")));
    let kept = kept.await.expect("imported");
    let store = kept.open();
    (kept, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_format_1_are_read_as_what_they_were() {
    let (kept, store) = of_golden().await;
    let server = kept.server(&store, NEVER).await;
    let want = std::fs::read_to_string(golden().join("format-1.txt")).expect("what was said");
    let said = said(&server).await;
    for (line, want) in said.iter().zip(want.lines()) {
        assert_eq!(line, want);
    }
    assert_eq!(said.len(), want.lines().count());
    // What was left to be told is told.
    let told = || {
        store
            .get(b"machine-work/52:54:00:77:00:31")
            .expect("readable")
            .is_some()
    };
    until("the machine to be told", told).await;
    let left = store.range(b"outbox/", b"outbox0", 1).expect("readable");
    assert!(left.is_empty(), "{left:?}");
    server.stop().await;
}

/// What servers that read this format look for, they find.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_has_all_that_format_1_has() {
    let kept = written().await;
    if is_blessing() {
        bless(&kept).await;
    }
    let fresh = rows(&*kept.open());
    let golden = rows(&*of_golden().await.1);
    let kinds = |rows: &[KeyValue]| rows.iter().map(kind).collect::<BTreeSet<String>>();
    let known: BTreeSet<String> = formats::KINDS.iter().map(|kind| (*kind).to_owned()).collect();
    assert_eq!(kinds(&fresh), known, "a kind of row is new, or not written here");
    assert_eq!(kinds(&golden), known, "a kind of row has no golden one");
    let (fresh, golden) = (fields(&fresh), fields(&golden));
    for (kind, fields) in &golden {
        let missing: Vec<_> = fields.difference(&fresh[kind]).collect();
        assert!(
            missing.is_empty(),
            "rows of {kind} are written without {missing:?}"
        );
    }
}

/// By kind: the paths of all fields with what they hold, but for those that are null.
fn fields(rows: &[KeyValue]) -> BTreeMap<String, BTreeSet<String>> {
    let mut fields: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        let of = fields.entry(kind(row)).or_default();
        // Pieces of values are none by themselves.
        if let Ok(value) = serde_json::from_slice::<Value>(&row.value) {
            note_fields(&value, String::new(), of);
        }
    }
    fields
}

fn note_fields(value: &Value, path: String, fields: &mut BTreeSet<String>) {
    match value {
        Value::Null => {}
        Value::Bool(_) => drop(fields.insert(format!("{path}: bool"))),
        Value::Number(_) => drop(fields.insert(format!("{path}: number"))),
        Value::String(_) => drop(fields.insert(format!("{path}: text"))),
        Value::Array(values) => values
            .iter()
            .for_each(|value| note_fields(value, format!("{path}[]"), fields)),
        Value::Object(values) => {
            for (name, value) in values {
                note_fields(value, format!("{path}.{name}"), fields);
            }
        }
    }
}
