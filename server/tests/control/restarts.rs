//! A server that stops and comes back on the same store: nothing is lost, nothing is done twice.

use server::Config;
use tempfile::TempDir;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_in_the_middle_of_an_action() {
    let (server, dir) = Server::with_machine().await;
    let mac = MAC.parse().expect("MAC");
    let token = server.control.boot_token(mac, "boot1").await.expect("token");
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut first = hello("k1");
    first.boot_token = token.clone();
    let mut agent = server.attach(first.clone()).await.expect("attach");
    let write = agent.run().await;
    agent.report(&write.attempt_id, started()).await;
    agent.acknowledged().await;
    server.stop().await;

    // The action ended while there was no server: its report is owed.
    let server = Server::start(&dir, Config::default()).await;
    assert_eq!(
        server.control.boot_token(mac, "boot1").await.expect("token"),
        token
    );
    let mut again = first.clone();
    again.unacknowledged = vec![report(2, &write.attempt_id, succeeded())];
    let mut agent = server.attach(again).await.expect("attach");
    let restart = agent.run().await;
    assert_eq!(restart.attempt_id, format!("{id}/0/1/0/1/1"));
    agent.report(&restart.attempt_id, started()).await;
    agent.acknowledged().await;
    server.stop().await;

    // It left while there was no server. The acknowledgement that it waits for ends the workflow.
    let server = Server::start(&dir, Config::default()).await;
    let mut again = first;
    again.unacknowledged = vec![report(4, &restart.attempt_id, leaving())];
    let mut agent = server.attach(again).await.expect("attach");
    agent.acknowledged().await;
    assert_eq!(server.workflow(&id).await.state, "SUCCESS");
    let kinds = server.events(&id).await;
    let dispatched = kinds.iter().filter(|kind| *kind == "dispatched").count();
    assert_eq!(
        (dispatched, kinds.last().map(String::as_str)),
        (2, Some("ended")),
        "{kinds:?}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_machines_templates_logs_and_the_boot_timeline() {
    let (server, dir) = Server::with_machine().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    agent.log(&run.attempt_id, 0, &["kept"]).await;
    agent.report(&run.attempt_id, started()).await;
    agent.acknowledged().await;
    server.stop().await;
    let server = Server::start(&dir, Config::default()).await;
    let request = proto::v1::WorkflowLogsRequest {
        id,
        follow: false,
        ..proto::v1::WorkflowLogsRequest::default()
    };
    let mut lines = server
        .client()
        .await
        .workflow_logs(request)
        .await
        .expect("logs")
        .into_inner();
    assert_eq!(lines.message().await.expect("line").expect("a line").text, "kept");
    let entry = server.boot_log("node1", |entry| entry.what == "DETACH").await;
    assert!(
        entry.detail.ends_with("the server is stopping: attach again"),
        "{}",
        entry.detail
    );
    server.create("two", MAC).await.expect("the template is there");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_global_timeout_is_kept_over_a_restart() {
    let dir = TempDir::new().expect("directory");
    let server = Server::start(&dir, Config::default()).await;
    server.apply(MACHINE).await.expect("machine");
    server
        .put(&TWO_ACTIONS.replace("global_timeout: 600", "global_timeout: 1"))
        .await
        .expect("template");
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    server.stop().await;
    let server = Server::start(&dir, Config::default()).await;
    server.reaches(&id, "ENDING").await;
    let mut again = hello("k1");
    again.running_attempt = run.attempt_id.clone();
    let mut agent = server.attach(again).await.expect("attach");
    let stop = agent.stop().await;
    assert_eq!(stop.attempt_id, run.attempt_id);
    agent.report(&run.attempt_id, stopped("")).await;
    server.reaches(&id, "TIMEOUT").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_has_lost_its_memory_is_not_handed_the_same_attempt() {
    let (server, _dir) = Server::with_machine().await;
    server.create("two", MAC).await.expect("workflow");
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    agent.report(&run.attempt_id, started()).await;
    agent.acknowledged().await;
    // It knows that it has run it: that is for it to tell.
    let mut knows = hello("k1");
    knows.journal = vec![proto::v1::JournalEntry {
        attempt_id: run.attempt_id.clone(),
        state: proto::v1::AttemptState::Running.into(),
        sequence: 1,
    }];
    let mut agent = server.attach(knows).await.expect("attach");
    assert_eq!(agent.run().await.attempt_id, run.attempt_id);
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let stop = agent.stop().await;
    assert_eq!(stop.attempt_id, run.attempt_id);
    agent.report(&run.attempt_id, stopped("never started")).await;
    let second = agent.run().await;
    assert!(second.attempt_id.ends_with("/2"), "{}", second.attempt_id);
}
