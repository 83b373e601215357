//! Workflows are made of templates and machines that there are.

use std::sync::Arc;

use coordinator::netboot::Next;
use proto::v1::{CreateWorkflowRequest, ListWorkflowsRequest};
use server::Config;
use store::{Commit, Operation, StoreHandle};
use tonic::Code;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_for_a_machine_that_is_not_there_is_refused() {
    let (server, _dir) = Server::with_machine().await;
    let status = server
        .create("two", "52:54:00:77:00:FF")
        .await
        .expect_err("refused");
    let want = "task \"install\": no machine has MAC 52:54:00:77:00:ff: add it with `farrier machine apply`";
    assert_eq!((status.code(), status.message()), (Code::NotFound, want));
    let status = server.create("three", MAC).await.expect_err("refused");
    assert_eq!(
        status.message(),
        "no template has name or id \"three\": see `farrier template list`"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_variable_is_refused_with_the_templates_line() {
    let (server, _dir) = Server::with_machine().await;
    let request = CreateWorkflowRequest {
        template: "two".into(),
        ..CreateWorkflowRequest::default()
    };
    let status = server.make(request).await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("line 7"), "{}", status.message());
    assert!(status.message().contains("device_1"), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_idempotency_key_gives_the_same_workflow() {
    let (server, _dir) = Server::with_machine().await;
    let mut client = server.client().await;
    let mut request = CreateWorkflowRequest {
        template: "two".into(),
        devices: [("device_1".to_owned(), MAC.to_owned())].into(),
        idempotency_key: "order-1".into(),
        ..CreateWorkflowRequest::default()
    };
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(server.make(request.clone()).await.expect("workflow").id);
    }
    assert_eq!(ids[0], ids[1]);
    request.name = "another".into();
    let status = server.make(request).await.expect_err("refused");
    assert_eq!(status.code(), Code::AlreadyExists);
    let all = client
        .list_workflows(ListWorkflowsRequest {
            machine: "node1".into(),
            ..ListWorkflowsRequest::default()
        })
        .await
        .expect("list");
    assert_eq!(all.into_inner().workflows.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_workflow_is_not_deleted_and_a_deleted_one_is_forgotten() {
    let (server, _dir) = Server::with_machine().await;
    let mac = MAC.parse().expect("MAC");
    let mut client = server.client().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    let status = server.delete(&id).await.expect_err("refused");
    let want = format!(
        "workflow {id} is RUNNING: wait for its end with `farrier workflow wait {id}`, or cancel it with \
         `farrier workflow cancel {id}`"
    );
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, want.as_str())
    );
    agent.report(&run.attempt_id, failed()).await;
    server.reaches(&id, "FAILED").await;
    assert_eq!(
        server.control.boots_next(mac).await.expect("known").0,
        Next::Agent
    );
    server.delete(&id).await.expect("deleted");
    let all = client
        .list_workflows(ListWorkflowsRequest::default())
        .await
        .expect("list")
        .into_inner();
    assert!(all.workflows.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_of_a_machine_run_in_the_order_they_were_made() {
    let (server, _dir) = Server::with_machine().await;
    let first = server.create("two", MAC).await.expect("workflow").id;
    let second = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    assert_eq!(run.workflow_id, first);
    agent.report(&run.attempt_id, failed()).await;
    assert_eq!(agent.run().await.workflow_id, second);
}

/// What an agent is told follows the workflow that ended last, also when that was in this very moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_does_not_undo_the_end_of_another_workflow() {
    let store = Arc::new(Failing::default());
    let server = Server::over(StoreHandle::shared(store.clone()), Config::default()).await;
    server.apply(MACHINE).await.expect("machine");
    server.put(TWO_ACTIONS).await.expect("template");
    let id = server.create("two", MAC).await.expect("workflow").id;
    server.cancel(&id, "").await.expect("cancelled");
    let ended = Operation::Put {
        key: "last/node1".into(),
        value: r#"{"id":"another","state":"SUCCESS","message":""}"#.into(),
    };
    store.comes_before_deletion(Commit {
        operations: vec![ended],
        ..Commit::default()
    });
    server.delete(&id).await.expect("deleted");
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    assert_eq!(agent.idle().await, "the last workflow another is SUCCESS");
}

const ONE_AFTER_THE_OTHER: &str = r#"
version: "0.1"
name: both
tasks:
  - name: first
    worker: "{{.device_1}}"
    actions:
      - {name: restart, image: reboot}
      - {name: write, image: image2disk}
  - name: second
    worker: "52:54:00:77:00:0c"
    actions:
      - {name: write, image: image2disk}
"#;

/// The second machine's agent attached long before, and the first one's leaves in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_goes_from_one_machine_to_the_next_that_waits() {
    let (server, _dir) = Server::with_machine().await;
    let second = "machine: node2\nmac: 52:54:00:77:00:0c\naddress: 10.77.0.12/24\n";
    server.apply(second).await.expect("machine");
    server.put(ONE_AFTER_THE_OTHER).await.expect("template");
    let mut hello2 = hello("k2");
    hello2.mac = "52:54:00:77:00:0c".into();
    let mut node2 = server.attach(hello2).await.expect("attach");
    assert_eq!(node2.idle().await, "no workflow for this machine");
    let mut node1 = server.attach(hello("k1")).await.expect("attach");
    let id = server.create("both", MAC).await.expect("workflow").id;
    let why = node2.idle().await;
    assert!(
        why.ends_with("waits for task \"first\" on 52:54:00:77:00:0b"),
        "{why}"
    );

    let restart = node1.run().await;
    node1.report(&restart.attempt_id, started()).await;
    node1.report(&restart.attempt_id, leaving()).await;
    node1.acknowledged().await;
    assert_eq!(server.workflow(&id).await.state, "RUNNING");
    let mut node1 = server.attach(hello("k1b")).await.expect("attach");
    let write = node1.run().await;
    assert_eq!(write.attempt_id, format!("{id}/0/1/0/1/1"));
    node1.report(&write.attempt_id, succeeded()).await;

    let write = node2.run().await;
    assert_eq!(write.attempt_id, format!("{id}/1/1/0/0/1"));
    node2.report(&write.attempt_id, succeeded()).await;
    node2.acknowledged().await;
    server.reaches(&id, "SUCCESS").await;
    let _still_attached = node1;
}

#[tokio::test(flavor = "multi_thread")]
async fn items_and_rounds_know_where_they_are() {
    let (server, _dir) = Server::with_machine().await;
    let made = server
        .create_of(
            r#"
version: "1"
name: counted
outputs: {found: vars.found, places: "tasks.each.outputs.map(o, o.place)"}
tasks:
  - name: each
    forEach: "['a', 'b', 'c']"
    set: {place: "item + string(item_index)"}
  - name: look
    set: {found: "has(vars.found) ? vars.found + [round] : [round]"}
    goto: {when: size(vars.found) < 3, task: look, max: 5}
"#,
        )
        .await;
    let done = server.reaches(&made.id, "SUCCESS").await;
    assert_eq!(
        done.outputs_json,
        r#"{"found":[0,1,2],"places":["a0","b1","c2"]}"#
    );
    let status = server
        .put("version: \"1\"\nname: uncounted\ntasks:\n  - name: look\n    set: {found: 'vars.found + [round]'}\n")
        .await
        .expect_err("refused");
    for words in [
        "task \"look\" is not over",
        "there is no round where no goto leads back to",
    ] {
        assert!(status.message().contains(words), "{}", status.message());
    }
}
