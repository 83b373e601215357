//! The ephemeral data on their way from machine to machine.

use ephemeral::Digest;
use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::put_data_request::Kind;
use proto::v1::{
    DataAccess, DataChanges, DataChunk, DataFile, GetDataRequest, PutDataRequest, Succeeded,
    WorkflowDataRequest, report,
};
use server::Config;
use store::blobs::Blobs;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::harness::*;

const OTHER_MAC: &str = "52:54:00:77:00:0c";
const OTHER_MACHINE: &str = "machine: node2\nmac: 52:54:00:77:00:0c\naddress: 10.77.0.12/24\n";
const HAND_OVER: &str = r#"
version: "0.1"
name: hand-over
tasks:
  - name: make
    worker: "{{.device_1}}"
    actions:
      - {name: make, image: cexec}
  - name: use
    worker: "52:54:00:77:00:0c"
    actions:
      - {name: use, image: cexec}
  - name: again
    worker: "{{.device_1}}"
    actions:
      - {name: again, image: cexec}
"#;

/// A server whose blobs outlive it, with two machines.
async fn start(dir: &TempDir) -> Server {
    let config = Config {
        blobs: Blobs::open(dir.path().join("blobs")).expect("blobs"),
        ..Config::default()
    };
    let server = Server::start(dir, config).await;
    server.apply(MACHINE).await.expect("machine");
    server.apply(OTHER_MACHINE).await.expect("machine");
    server
}

/// An agent and what it shows to get data.
struct Node {
    agent: Agent,
    access: DataAccess,
}

async fn node(server: &Server, mac: &str, boot: &str) -> Node {
    let mut hello = hello(boot);
    hello.mac = mac.into();
    let token = server
        .control
        .boot_token(mac.parse().expect("MAC"), boot)
        .await
        .expect("token");
    hello.boot_token = token.clone();
    let access = DataAccess {
        mac: mac.into(),
        boot_id: boot.into(),
        boot_token: token,
        ..DataAccess::default()
    };
    let agent = server.attach(hello).await.expect("attach");
    Node { agent, access }
}

impl Node {
    /// The next action begins; gives its id and the version that it is given.
    async fn begins(&mut self) -> (String, u64) {
        let run = self.agent.run().await;
        self.access.attempt_id = run.attempt_id.clone();
        self.agent.report(&run.attempt_id, started()).await;
        (run.attempt_id, run.data_version)
    }

    async fn succeeds(&mut self, attempt: &str, changes: DataChanges) {
        let done = Succeeded {
            data_changes: Some(changes),
            ..Succeeded::default()
        };
        self.agent.report(attempt, report::Outcome::Succeeded(done)).await;
    }

    /// Paths and contents of a version.
    async fn get(&self, server: &Server, version: u64) -> Result<Vec<(String, Vec<u8>)>, Status> {
        let request = GetDataRequest {
            access: Some(self.access.clone()),
            version,
        };
        let mut chunks = client(server).await.get_data(request).await?.into_inner();
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            files.extend(chunk.file.map(|file| (file.path, Vec::new())));
            files.last_mut().expect("a file").1.extend(chunk.content);
        }
        Ok(files)
    }

    async fn put(&self, server: &Server, content: &[u8]) -> Result<Vec<String>, Status> {
        let chunk = DataChunk {
            file: Some(file("x", content, false)),
            content: content.to_vec(),
        };
        let messages = [Kind::Access(self.access.clone()), Kind::Chunk(chunk)];
        let messages = messages.map(|kind| PutDataRequest { kind: Some(kind) });
        let answer = client(server)
            .await
            .put_data(tokio_stream::iter(messages))
            .await?;
        Ok(answer.into_inner().sha256)
    }
}

async fn client(server: &Server) -> AgentServiceClient<tonic::transport::Channel> {
    AgentServiceClient::connect(format!("http://{}", server.address))
        .await
        .expect("connect")
}

fn file(path: &str, content: &[u8], inline: bool) -> DataFile {
    DataFile {
        path: path.into(),
        size_bytes: content.len() as u64,
        sha256: Digest::of(content).to_string(),
        executable: false,
        content: if inline { content.to_vec() } else { Vec::new() },
    }
}

fn changes(base_version: u64, put: Vec<DataFile>, deleted: &[&str]) -> DataChanges {
    DataChanges {
        base_version,
        put,
        deleted: deleted.iter().map(|path| (*path).to_owned()).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_machine_leaves_another_gets_over_a_restart_of_the_server() {
    let dir = TempDir::new().expect("directory");
    let server = start(&dir).await;
    server.put(HAND_OVER).await.expect("template");
    let id = server.create("hand-over", MAC).await.expect("workflow").id;
    let mut one = node(&server, MAC, "k1").await;
    let (attempt, version) = one.begins().await;
    assert_eq!(version, 0);
    let large = vec![7; 600_000];
    let stored = one.put(&server, &large).await.expect("stored");
    assert_eq!(stored, [Digest::of(&large).to_string()]);
    let made = vec![file("a/token", b"secret", true), file("large", &large, false)];
    one.succeeds(&attempt, changes(0, made, &[])).await;
    one.agent.acknowledged().await;
    let sequence = one.agent.sequence;
    server.stop().await;

    let server = start(&dir).await;
    let mut two = node(&server, OTHER_MAC, "k2").await;
    let (attempt, version) = two.begins().await;
    assert_eq!(version, 1);
    let got = two.get(&server, version).await.expect("data");
    assert_eq!(
        got,
        [
            ("a/token".to_owned(), b"secret".to_vec()),
            ("large".to_owned(), large)
        ]
    );
    let request = WorkflowDataRequest {
        id: id.clone(),
        version: 0,
        path: "a/token".into(),
    };
    let shown = server.client().await.workflow_data(request).await.expect("data");
    let shown = shown
        .into_inner()
        .message()
        .await
        .expect("a file")
        .expect("a file");
    assert_eq!(
        (shown.version, shown.path.as_str(), &*shown.content),
        (1, "a/token", &b"secret"[..])
    );
    let request = WorkflowDataRequest {
        id: id.clone(),
        version: 7,
        path: String::new(),
    };
    let mut none = server
        .client()
        .await
        .workflow_data(request)
        .await
        .expect("a stream")
        .into_inner();
    assert_eq!(
        none.message().await.expect_err("no such version").code(),
        tonic::Code::NotFound
    );
    // Who is not handed the attempt gets nothing: another machine, another boot, without the token.
    let refused = |change: fn(&mut DataAccess)| {
        let mut access = two.access.clone();
        change(&mut access);
        access
    };
    for access in [
        refused(|access| access.mac = MAC.into()),
        refused(|access| access.boot_id = "k3".into()),
        refused(|access| access.boot_token.clear()),
        refused(|access| access.boot_token = "0".repeat(64)),
        refused(|access| access.attempt_id = access.attempt_id.replace("/1/1", "/2/1")),
        refused(|access| access.attempt_id.clear()),
    ] {
        let request = GetDataRequest {
            access: Some(access.clone()),
            version,
        };
        let status = client(&server)
            .await
            .get_data(request)
            .await
            .expect_err("refused");
        assert_eq!(status.code(), Code::PermissionDenied, "{access:?}: {status}");
    }
    let missing = two.get(&server, 2).await.expect_err("no such version");
    assert_eq!(missing.code(), Code::NotFound);
    two.succeeds(&attempt, changes(1, vec![file("b", b"", true)], &["large"]))
        .await;
    two.agent.acknowledged().await;
    // It is over: nothing more for it.
    let over = two.get(&server, 1).await.expect_err("over");
    assert_eq!(over.code(), Code::PermissionDenied);

    let mut one = node(&server, MAC, "k1").await;
    // The same boot goes on counting.
    one.agent.sequence = sequence;
    let (attempt, version) = one.begins().await;
    assert_eq!(version, 2);
    let got = one.get(&server, version).await.expect("data");
    assert_eq!(
        got,
        [
            ("a/token".to_owned(), b"secret".to_vec()),
            ("b".to_owned(), vec![])
        ]
    );
    one.agent.report(&attempt, succeeded()).await;
    server.reaches(&id, "SUCCESS").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_cannot_be_taken_fail_the_action_in_words() {
    let dir = TempDir::new().expect("directory");
    let server = start(&dir).await;
    server.put(HAND_OVER).await.expect("template");
    let mut one = node(&server, MAC, "k1").await;
    let huge = |path: &str| DataFile {
        size_bytes: 6 << 20,
        ..file(path, b"", false)
    };
    let nonsense = changes(0, vec![file("../etc/passwd", b"x", true)], &[]);
    let never_stored = changes(0, vec![file("x", b"never stored", false)], &[]);
    let from_the_future = changes(9, vec![], &["x"]);
    for (changes, reason, words) in [
        (nonsense, "DataRefused", "../etc/passwd"),
        (never_stored, "DataRefused", "is not on the server"),
        (
            changes(0, vec![huge("x")], &[]),
            "DataRefused",
            "is not on the server",
        ),
        (from_the_future, "DataRefused", "version 9"),
    ] {
        let id = server.create("hand-over", MAC).await.expect("workflow").id;
        let (attempt, _) = one.begins().await;
        one.succeeds(&attempt, changes).await;
        let workflow = server.reaches(&id, "FAILED").await;
        assert!(
            workflow.message.contains(reason) && workflow.message.contains(words),
            "{}",
            workflow.message
        );
    }
    // Each is small enough, both are not: the machine that is later has failed.
    let id = server.create("hand-over", MAC).await.expect("workflow").id;
    let (attempt, _) = one.begins().await;
    let half = vec![1; 6 << 20];
    for piece in half.chunks(1 << 20) {
        one.put(&server, piece).await.expect("stored");
    }
    let files = |of: &str| {
        (0..6)
            .map(|n| file(&format!("{of}/{n}"), &half[..1 << 20], false))
            .collect()
    };
    one.succeeds(&attempt, changes(0, files("one"), &[])).await;
    let mut two = node(&server, OTHER_MAC, "k2").await;
    let (attempt, version) = two.begins().await;
    assert_eq!(version, 1);
    two.succeeds(&attempt, changes(1, files("two"), &[])).await;
    let workflow = server.reaches(&id, "FAILED").await;
    assert!(
        workflow
            .message
            .contains("12582912 B in 12 files; at most 10485760 B"),
        "{}",
        workflow.message
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sub_workflows_share_the_data_of_their_root() {
    let dir = TempDir::new().expect("directory");
    let server = start(&dir).await;
    let child = "version: \"1\"\nname: child\ntasks:\n  - name: inner\n    worker: 52:54:00:77:00:0c\n    actions:\n      \
                 - {name: inner, image: cexec}\n";
    let parent = "version: \"1\"\nname: parent\ntasks:\n  - name: before\n    worker: 52:54:00:77:00:0b\n    actions:\n      \
                  - {name: before, image: cexec}\n  - name: sub\n    workflow: child\n  - name: after\n    worker: \
                  52:54:00:77:00:0b\n    actions:\n      - {name: after, image: cexec, reboots: true}\n";
    server.put(child).await.expect("template");
    server.put(parent).await.expect("template");
    let id = server.create("parent", MAC).await.expect("workflow").id;
    let mut one = node(&server, MAC, "k1").await;
    let mut two = node(&server, OTHER_MAC, "k2").await;
    let (attempt, _) = one.begins().await;
    one.succeeds(&attempt, changes(0, vec![file("a", b"1", true)], &[]))
        .await;
    let (attempt, version) = two.begins().await;
    assert!(!attempt.starts_with(&id), "a workflow of its own: {attempt}");
    assert_eq!(two.get(&server, version).await.expect("data").len(), 1);
    two.succeeds(&attempt, changes(version, vec![file("b", b"2", true)], &[]))
        .await;
    let run = one.agent.run().await;
    assert!(run.reboots);
    one.access.attempt_id = run.attempt_id;
    assert_eq!(one.get(&server, run.data_version).await.expect("data").len(), 2);
}
