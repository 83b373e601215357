//! Workflows that have ended: archived, read, brought back, deleted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::netboot::Next;
use futures_util::TryStreamExt;
use proto::v1::{
    DataChanges, DataFile, ExplainWorkflowRequest, GetWorkflowRequest, ListWorkflowsRequest, Succeeded,
    WorkflowDataRequest, WorkflowEventsRequest, WorkflowLogsRequest, report,
};
use server::Config;
use store::blobs::Blobs;
use store::{Commit, MemoryStore, Operation, Store, StoreHandle};
use tonic::Code;

use crate::harness::*;

const NEVER: Duration = Duration::from_secs(3600);

/// A store and blobs that outlive their servers.
#[derive(Clone)]
pub(crate) struct Kept {
    store: Arc<MemoryStore>,
    blobs: Blobs,
}

impl Kept {
    pub(crate) fn new() -> Self {
        Self {
            store: Arc::default(),
            blobs: Blobs::in_memory(),
        }
    }

    pub(crate) async fn server(&self, archive_after: Duration) -> Server {
        self.serve(Config {
            archive_after,
            ..Config::default()
        })
        .await
    }

    async fn serve(&self, config: Config) -> Server {
        let config = Config {
            blobs: self.blobs.clone(),
            ..config
        };
        Server::over(StoreHandle::shared(self.store.clone()), config).await
    }

    pub(crate) fn store(&self) -> &MemoryStore {
        &self.store
    }

    /// Keys that have something to do with a workflow.
    pub(crate) fn keys(&self, id: &str) -> Vec<String> {
        let all = self.store.range(b"\0", b"\xff", usize::MAX).expect("rows");
        let keys = all
            .iter()
            .map(|row| String::from_utf8_lossy(&row.key).into_owned());
        keys.filter(|key| key.contains(id)).collect()
    }

    pub(crate) async fn is_archived(&self, id: &str) {
        let key = format!("archived/{id}");
        until(&format!("{id} to be archived"), || {
            self.store.get(key.as_bytes()).expect("row").is_some()
        })
        .await;
    }

    async fn blob_count(&self) -> usize {
        let all: Vec<_> = self.blobs.list().try_collect().await.expect("blobs");
        all.len()
    }
}

/// All that a person can ask of a workflow.
pub(crate) async fn all_of(server: &Server, id: &str) -> Vec<String> {
    let mut client = server.client().await;
    let mut answers = vec![format!("{:?}", server.workflow(id).await)];
    let explain = ExplainWorkflowRequest {
        id: id.into(),
        task: String::new(),
    };
    let explained = client.explain_workflow(explain).await.expect("explained");
    answers.push(format!("{:?}", explained.into_inner()));
    let events = WorkflowEventsRequest {
        id: id.into(),
        from: 2,
        follow: true,
    };
    let events = client.workflow_events(events).await.expect("events").into_inner();
    let events: Vec<_> = events.try_collect().await.expect("events");
    answers.extend(events.iter().map(|event| format!("{event:?}")));
    let logs = WorkflowLogsRequest {
        id: id.into(),
        follow: true,
        ..WorkflowLogsRequest::default()
    };
    let logs = client.workflow_logs(logs).await.expect("logs").into_inner();
    let logs: Vec<_> = logs.try_collect().await.expect("logs");
    assert!(!logs.is_empty());
    answers.extend(logs.iter().map(|line| format!("{line:?}")));
    let data = WorkflowDataRequest {
        id: id.into(),
        version: 0,
        path: String::new(),
    };
    let data = client.workflow_data(data).await.expect("data").into_inner();
    let data: Vec<_> = data.try_collect().await.expect("data");
    assert_eq!(data.len(), 2);
    answers.extend(data.iter().map(|file| format!("{file:?}")));
    let refused = server.cancel(id, "").await.expect_err("it has ended");
    answers.push(format!("{:?} {}", refused.code(), refused.message()));
    answers
}

fn with_data() -> report::Outcome {
    let file = |path: &str, content: &[u8]| DataFile {
        path: path.into(),
        size_bytes: content.len() as u64,
        sha256: ephemeral::Digest::of(content).to_string(),
        executable: false,
        content: content.to_vec(),
    };
    report::Outcome::Succeeded(Succeeded {
        data_changes: Some(DataChanges {
            base_version: 0,
            put: vec![file("a", b"one"), file("b/c", b"\xfftwo")],
            deleted: vec![],
        }),
        ..Succeeded::default()
    })
}

/// A workflow whose first action succeeded with lines and files, and whose second has `ended` like this.
pub(crate) async fn ended(server: &Server, end: report::Outcome, state: &str) -> String {
    server.apply(MACHINE).await.expect("machine");
    server.put(TWO_ACTIONS).await.expect("template");
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello(&format!("boot {id}"))).await.expect("attach");
    let write = agent.run().await;
    agent.report(&write.attempt_id, started()).await;
    agent.log(&write.attempt_id, 0, &["first", "second \u{e9}"]).await;
    agent.report(&write.attempt_id, with_data()).await;
    let restart = agent.run().await;
    agent.log(&restart.attempt_id, 0, &["third"]).await;
    agent.report(&restart.attempt_id, end).await;
    server.reaches(&id, state).await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_workflow_is_one_row_and_reads_as_before() {
    let kept = Kept::new();
    let server = kept.server(NEVER).await;
    let id = ended(&server, leaving(), "SUCCESS").await;
    let before = all_of(&server, &id).await;
    assert!(kept.keys(&id).len() > 10, "{:?}", kept.keys(&id));
    server.stop().await;

    // What had ended when the server stopped is found when it starts.
    let server = kept.server(Duration::ZERO).await;
    kept.is_archived(&id).await;
    let want = [format!("archived/{id}"), format!("of/node1/{id}")];
    assert_eq!(kept.keys(&id), want);
    let after = all_of(&server, &id).await;
    assert_eq!(after, before);
    let refused = server.retry(&id).await;
    assert_eq!(
        refused.expect_err("it succeeded").code(),
        Code::FailedPrecondition
    );
    assert_eq!(kept.keys(&id), want, "a refused retry brings nothing back");
    let mac = MAC.parse().expect("MAC");
    assert_eq!(
        server.control.boots_next(mac).await.expect("known").0,
        Next::LocalDisk
    );
    // The contents of its data are in the archive, and garbage beside it.
    assert_eq!(kept.blob_count().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_brings_an_archived_workflow_back_with_its_data() {
    let kept = Kept::new();
    let server = kept.server(Duration::ZERO).await;
    let id = ended(&server, failed(), "FAILED").await;
    kept.is_archived(&id).await;
    for content in [&b"one"[..], b"\xfftwo"] {
        // What only the archive has is put back.
        let digest = store::blobs::Digest::of(content);
        assert!(kept.blobs.exists(&digest).await.expect("a look"));
        kept.blobs.delete(&digest).await.expect("deleted");
    }
    let again = server.retry(&id).await.expect("retried");
    assert_eq!((again.run, again.state.as_str()), (2, "PENDING"));
    assert!(!kept.keys(&id).contains(&format!("archived/{id}")));
    let mut agent = server.attach(hello("k2")).await.expect("attach");
    // The failed task begins again, with the data of the first run.
    let write = agent.run().await;
    assert_eq!(
        (write.attempt_id, write.data_version),
        (format!("{id}/0/2/0/0/1"), 1)
    );
    agent.report(&format!("{id}/0/2/0/0/1"), succeeded()).await;
    let restart = agent.run().await;
    agent.report(&restart.attempt_id, leaving()).await;
    let done = server.reaches(&id, "SUCCESS").await;
    assert_eq!(done.run, 2);
    kept.is_archived(&id).await;
    all_of(&server, &id).await;
    assert!(server.events(&id).await.contains(&"run_opened".to_owned()));
}

/// Lines of one attempt that fill a blob of an archive, and some of the next.
fn more_than_a_blob() -> Vec<String> {
    const BLOB_BYTES: usize = 16 << 20;
    const LINE_BYTES: usize = 16 << 10;
    let padding = "x".repeat(LINE_BYTES - 16);
    let count = BLOB_BYTES / LINE_BYTES + 100;
    (0..count).map(|n| format!("line {n:010} {padding}")).collect()
}

/// The texts of a workflow's log lines.
async fn log_of(server: &Server, id: &str) -> Vec<String> {
    let request = WorkflowLogsRequest {
        id: id.into(),
        follow: false,
        ..WorkflowLogsRequest::default()
    };
    let lines = server.client().await.workflow_logs(request).await;
    let lines = lines.expect("logs").into_inner();
    lines.map_ok(|line| line.text).try_collect().await.expect("logs")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_several_blobs_is_read_brought_back_and_deleted_whole() {
    let kept = Kept::new();
    let config = |archive_after| Config {
        archive_after,
        log_bytes: 64 << 20,
        ..Config::default()
    };
    let server = kept.serve(config(NEVER)).await;
    server.apply(MACHINE).await.expect("machine");
    server.put(TWO_ACTIONS).await.expect("template");
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let write = agent.run().await;
    let lines = more_than_a_blob();
    for (first, lines) in (0..).step_by(64).zip(lines.chunks(64)) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        agent.log(&write.attempt_id, first, &lines).await;
    }
    agent.report(&write.attempt_id, with_data()).await;
    let restart = agent.run().await;
    agent.log(&restart.attempt_id, 0, &["the last"]).await;
    agent.report(&restart.attempt_id, failed()).await;
    server.reaches(&id, "FAILED").await;
    let before = all_of(&server, &id).await;
    let log = log_of(&server, &id).await;
    let want = || lines.iter().map(String::as_str).chain(["the last"]);
    assert!(log.iter().eq(want()), "{} lines", log.len());
    server.stop().await;

    let server = kept.serve(config(Duration::ZERO)).await;
    kept.is_archived(&id).await;
    // Of its rows, and the contents of its data.
    assert_eq!(kept.blob_count().await, 2 + 2);
    // Too much to be shown.
    assert!(all_of(&server, &id).await == before);

    server.retry(&id).await.expect("retried");
    assert!(!kept.keys(&id).contains(&format!("archived/{id}")));
    // Those of the archive are gone.
    assert_eq!(kept.blob_count().await, 2);
    assert!(log_of(&server, &id).await == log);
    let mut agent = server.attach(hello("k2")).await.expect("attach");
    let write = agent.run().await;
    assert_eq!(write.data_version, 1);
    agent.report(&write.attempt_id, failed()).await;
    server.reaches(&id, "FAILED").await;
    kept.is_archived(&id).await;
    assert_eq!(kept.blob_count().await, 2 + 2);
    assert!(log_of(&server, &id).await == log);

    server.delete(&id).await.expect("deleted");
    assert_eq!(kept.keys(&id), [""; 0]);
    assert_eq!(kept.blob_count().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_workflow_leaves_nothing_archived_or_not() {
    for archive_after in [Duration::ZERO, NEVER] {
        let kept = Kept::new();
        let server = kept.server(archive_after).await;
        let first = ended(&server, leaving(), "SUCCESS").await;
        let second = ended(&server, failed(), "FAILED").await;
        let mac = MAC.parse().expect("MAC");
        let boots = async |want: Next| {
            assert_eq!(server.control.boots_next(mac).await.expect("known").0, want);
        };
        if archive_after.is_zero() {
            kept.is_archived(&first).await;
            kept.is_archived(&second).await;
        }
        boots(Next::Agent).await;
        let mut client = server.client().await;
        server.delete(&second).await.expect("deleted");
        assert_eq!(kept.keys(&second), [""; 0]);
        // What it left on the disk is there all the same.
        boots(Next::Agent).await;
        server.boot_disk("node1").await.expect("a person says so");
        boots(Next::LocalDisk).await;
        server.delete(&first).await.expect("deleted");
        assert_eq!(kept.keys(&first), [""; 0]);
        let gone = client
            .get_workflow(GetWorkflowRequest { id: first.clone() })
            .await
            .expect_err("gone");
        assert_eq!(gone.code(), Code::NotFound);
        if archive_after.is_zero() {
            // Of the contents of data only, which both shared.
            assert_eq!(kept.blob_count().await, 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_workflows_are_deleted_and_machines_boot_as_before() {
    let kept = Kept::new();
    // A piece of a workflow that was to be made in 2023, and was not.
    let orphan = "01890a5d-ac96-774b-bcce-b302099a8057";
    let put = Operation::Put {
        key: format!("detached/{orphan}/d/00000").into(),
        value: "1".into(),
    };
    let commit = Commit {
        operations: vec![put],
        ..Commit::default()
    };
    kept.store.commit(&commit).expect("a commit");
    let server = kept
        .serve(Config {
            archive_after: Duration::ZERO,
            keep_ended: Some(Duration::from_secs(1)),
            ..Config::default()
        })
        .await;
    let old = ended(&server, failed(), "FAILED").await;
    let last = ended(&server, leaving(), "SUCCESS").await;
    let waiting = server.create("two", MAC).await.expect("workflow").id;
    until("the old one to be deleted", || kept.keys(&old).is_empty()).await;
    until("the orphan to be deleted", || kept.keys(orphan).is_empty()).await;
    // Younger than the old one, and as old as that was then: a machine's last one is kept.
    kept.is_archived(&last).await;
    let third = "machine: other\nmac: 52:54:00:77:00:0c\n";
    server.apply(third).await.expect("machine");
    for _ in 0..2 {
        let other = server
            .create("two", "52:54:00:77:00:0c")
            .await
            .expect("workflow")
            .id;
        server.cancel(&other, "").await.expect("cancelled");
    }
    let list = || ListWorkflowsRequest {
        machine: "other".into(),
        ..ListWorkflowsRequest::default()
    };
    let mut client = server.client().await;
    let deadline = Instant::now() + WITHIN;
    while client
        .list_workflows(list())
        .await
        .expect("list")
        .into_inner()
        .workflows
        .len()
        == 2
    {
        assert!(Instant::now() < deadline, "the first of two is not deleted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let all = client
        .list_workflows(ListWorkflowsRequest::default())
        .await
        .expect("list");
    let ids: Vec<_> = all.into_inner().workflows.into_iter().map(|one| one.id).collect();
    assert_eq!(ids[..2], [last.clone(), waiting.clone()]);
    assert_eq!(ids.len(), 3);
    server.delete(&waiting).await.expect("deleted");
    let mac = MAC.parse().expect("MAC");
    let (next, reason) = server.control.boots_next(mac).await.expect("known");
    assert_eq!(next, Next::LocalDisk);
    assert!(reason.contains(&last), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_archived_ones_in_their_place_page_by_page() {
    let kept = Kept::new();
    let server = kept.server(Duration::ZERO).await;
    let mut made = Vec::new();
    for n in 0..5 {
        if n % 2 == 0 {
            let id = ended(&server, leaving(), "SUCCESS").await;
            kept.is_archived(&id).await;
            made.push(id);
        } else {
            // Nobody attaches, so it waits, and the next does.
            let other = format!("machine: other{n}\nmac: 52:54:00:77:01:0{n}\n");
            server.apply(&other).await.expect("machine");
            let id = server.create("two", &format!("52:54:00:77:01:0{n}")).await;
            made.push(id.expect("workflow").id);
        }
    }
    let mut client = server.client().await;
    let mut listed = Vec::new();
    let mut request = ListWorkflowsRequest {
        limit: 2,
        ..ListWorkflowsRequest::default()
    };
    loop {
        let page = client
            .list_workflows(request.clone())
            .await
            .expect("list")
            .into_inner();
        assert!(page.workflows.len() <= 2);
        for workflow in page.workflows {
            assert_eq!(workflow.tasks[0].name, "install");
            assert!(workflow.tasks[0].worker.starts_with("52:54:00:77:0"));
            listed.push(workflow.id);
        }
        request.after = page.next;
        if request.after.is_empty() {
            break;
        }
    }
    assert_eq!(listed, made);
    let mut ids = async |machine: &str, unfinished| {
        let request = ListWorkflowsRequest {
            machine: machine.into(),
            unfinished,
            ..ListWorkflowsRequest::default()
        };
        let all = client.list_workflows(request).await.expect("list").into_inner();
        assert_eq!(all.next, "");
        all.workflows.into_iter().map(|one| one.id).collect::<Vec<_>>()
    };
    assert_eq!(ids("", true).await, [made[1].clone(), made[3].clone()]);
    assert_eq!(
        ids("node1", false).await,
        [made[0].clone(), made[2].clone(), made[4].clone()]
    );
    assert_eq!(ids("node1", true).await, [""; 0]);
    assert_eq!(ids("other3", true).await, [made[3].clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_workflow_misses_nothing_when_it_is_archived() {
    let kept = Kept::new();
    let server = kept.server(Duration::ZERO).await;
    server.apply(MACHINE).await.expect("machine");
    server.put(TWO_ACTIONS).await.expect("template");
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    for _ in 0..20 {
        let id = server.create("two", MAC).await.expect("workflow").id;
        let events = WorkflowEventsRequest {
            id: id.clone(),
            from: 0,
            follow: true,
        };
        let mut client = server.client().await;
        let events = client.workflow_events(events).await.expect("events").into_inner();
        let events = tokio::spawn(events.try_collect::<Vec<_>>());
        let logs = WorkflowLogsRequest {
            id: id.clone(),
            follow: true,
            ..WorkflowLogsRequest::default()
        };
        let logs = client.workflow_logs(logs).await.expect("logs").into_inner();
        let logs = tokio::spawn(logs.try_collect::<Vec<_>>());
        let write = agent.run().await;
        let lines: Vec<String> = (0..300).map(|n| format!("line {n}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        agent.log(&write.attempt_id, 0, &lines).await;
        agent.report(&write.attempt_id, failed()).await;
        let events = events.await.expect("a task").expect("events");
        let numbers: Vec<u64> = events.iter().map(|event| event.number).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        assert_eq!(events.last().map(|event| event.kind.as_str()), Some("ended"));
        let logs = logs.await.expect("a task").expect("logs");
        let texts: Vec<&str> = logs.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, lines);
        kept.is_archived(&id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_whose_attempt_was_lost_stays_until_its_machine_is_heard_of() {
    let kept = Kept::new();
    let server = kept
        .serve(Config {
            archive_after: Duration::ZERO,
            lost_after: Duration::from_millis(50),
            ..Config::default()
        })
        .await;
    server.apply(MACHINE).await.expect("machine");
    server.put(TWO_ACTIONS).await.expect("template");
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let write = agent.run().await;
    agent.report(&write.attempt_id, started()).await;
    agent.acknowledged().await;
    let sequence = agent.sequence;
    drop(agent);
    server.cancel(&id, "").await.expect("cancelled");
    server.reaches(&id, "CANCELLED").await;
    // Another one is archived meanwhile, so this one was looked at.
    server
        .apply("machine: other\nmac: 52:54:00:77:00:0c\n")
        .await
        .expect("machine");
    let other = server
        .create("two", "52:54:00:77:00:0c")
        .await
        .expect("workflow")
        .id;
    server.cancel(&other, "").await.expect("cancelled");
    kept.is_archived(&other).await;
    assert!(!kept.keys(&id).contains(&format!("archived/{id}")));
    // Its late report is recorded.
    let mut late = hello("k1");
    late.unacknowledged = vec![report(sequence + 1, &write.attempt_id, succeeded())];
    let mut agent = server.attach(late).await.expect("attach");
    agent.acknowledged().await;
    assert!(
        server.events(&id).await.contains(&"late".to_owned()),
        "{:?}",
        server.events(&id).await
    );
    kept.is_archived(&id).await;
    // Lines that come later still are nobody's.
    agent.log(&write.attempt_id, 0, &["too late"]).await;
    agent
        .send(proto::v1::agent_message::Kind::Heartbeat(
            proto::v1::Heartbeat::default(),
        ))
        .await;
    let next = server.create("two", MAC).await.expect("workflow").id;
    assert!(agent.run().await.attempt_id.starts_with(&next));
    assert!(
        kept.keys(&id).iter().all(|key| !key.starts_with("log")),
        "{:?}",
        kept.keys(&id)
    );
}

const OUTER: &str = r#"
version: "1"
name: outer
tasks:
  - {name: inner, workflow: inner, retry: {attempts: 2}}
"#;

const INNER: &str = r#"
version: "1"
name: inner
tasks:
  - {name: a, worker: "52:54:00:77:00:0b", actions: [{name: x, image: cexec}]}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn sub_workflows_are_archived_with_their_root_and_come_back_with_it() {
    let kept = Kept::new();
    let server = kept.server(Duration::ZERO).await;
    server.apply(MACHINE).await.expect("machine");
    server.put(INNER).await.expect("template");
    server.put(OUTER).await.expect("template");
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let root = server.create("outer", MAC).await.expect("workflow").id;
    let mut subs = Vec::new();
    for _ in 0..2 {
        let run = agent.run().await;
        agent.report(&run.attempt_id, failed()).await;
        subs.push(run.workflow_id);
    }
    assert_ne!(subs[0], subs[1]);
    server.reaches(&root, "FAILED").await;
    kept.is_archived(&root).await;
    for sub in &subs {
        // Before the root.
        assert_eq!(
            kept.keys(sub),
            [
                format!("archived/{sub}"),
                format!("of/node1/{sub}"),
                format!("sub/{root}/{sub}")
            ]
        );
        assert_eq!(server.workflow(sub).await.state, "FAILED");
        let refused = server.delete(sub).await.expect_err("a part");
        assert!(
            refused
                .message()
                .contains(&format!("is a part of workflow {root}"))
        );
    }
    server.retry(&root).await.expect("retried");
    let run = agent.run().await;
    agent.report(&run.attempt_id, succeeded()).await;
    server.reaches(&root, "SUCCESS").await;
    kept.is_archived(&root).await;
    server.delete(&root).await.expect("deleted");
    for id in subs.iter().chain([&root, &run.workflow_id]) {
        assert_eq!(kept.keys(id), [""; 0]);
    }
    assert_eq!(kept.blob_count().await, 0);
}
