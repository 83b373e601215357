//! Defects of ours: a panic leaves nothing registered, active or forgotten, and what cannot go on is not silent.

use std::sync::Arc;
use std::time::SystemTime;

use proto::v1::{GetMachineRequest, Machine};
use server::Config;
use server::timeline::{Entry, Outcome, Stage};
use store::StoreHandle;
use tonic::Code;

use crate::harness::*;

const NOBODYS: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const WAITS: &str = r#"
version: "1"
name: waits
tasks:
  - {name: first, wait: 1s}
  - {name: inner, needs: [first], workflow: child}
"#;
const CHILD: &str = r#"
version: "1"
name: child
tasks:
  - {name: only, succeed: {}}
"#;

async fn over(store: &Arc<Failing>, config: Config) -> Server {
    Server::over(StoreHandle::shared(store.clone()), config).await
}

async fn machine(server: &Server) -> Machine {
    let request = GetMachineRequest {
        name_or_mac: "node1".into(),
    };
    let answer = server.client().await.get_machine(request).await;
    answer.expect("a machine").into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_panics_is_not_registered_any_more_and_the_machine_comes_again() {
    let store = Arc::new(Failing::default());
    let server = over(&store, Config::default()).await;
    server.apply(MACHINE).await.expect("machine");
    server.put(TWO_ACTIONS).await.expect("template");
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    agent.idle().await;
    assert!(machine(&server).await.attached);
    store.panics_at(&format!("workflow/{NOBODYS}"), 1);
    agent.report(&format!("{NOBODYS}/0/1/0/0/1"), started()).await;
    let status = loop {
        if let Err(status) = agent.next().await {
            break status;
        }
    };
    assert!(status.message().contains("a defect of the server"), "{status}");
    assert!(store.has_panicked());
    server.boot_log("node1", |entry| entry.what == "DETACH").await;
    let deadline = std::time::Instant::now() + WITHIN;
    while machine(&server).await.attached {
        assert!(std::time::Instant::now() < deadline, "it is still registered");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let mut agent = server.attach(hello("k2")).await.expect("attach");
    server.create("two", MAC).await.expect("workflow");
    assert_eq!(agent.run().await.action_index, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_workflow_wants_of_others_is_carried_after_a_panic() {
    let store = Arc::new(Failing::default());
    let server = over(&store, Config::default()).await;
    server.put(CHILD).await.expect("template");
    let id = server.create_of(WAITS).await.id;
    store.panics_at("template/default/child", 1);
    server.reaches(&id, "SUCCESS").await;
    assert!(store.has_panicked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_panicked_fires_again() {
    let store = Arc::new(Failing::default());
    let server = over(&store, Config::default()).await;
    server.put(CHILD).await.expect("template");
    let id = server.create_of(WAITS).await.id;
    server.stop().await;
    let server = over(&store, Config::default()).await;
    // It reads the workflow, which is not in memory.
    store.panics_at(&format!("workflow/{id}"), 1);
    until("the timer", || store.has_panicked()).await;
    server.reaches(&id, "SUCCESS").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_found_lost_after_looking_for_it_has_panicked() {
    let store = Arc::new(Failing::default());
    let config = Config {
        lost_after: std::time::Duration::from_secs(2),
        ..Config::default()
    };
    let server = over(&store, config.clone()).await;
    server.apply(MACHINE).await.expect("machine");
    server.put(TWO_ACTIONS).await.expect("template");
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    agent.run().await;
    server.stop().await;
    let server = over(&store, config).await;
    store.panics_at("machine-work/node1", 1);
    until("the look", || store.has_panicked()).await;
    let deadline = std::time::Instant::now() + WITHIN;
    while !server.events(&id).await.contains(&"lost".to_owned()) {
        assert!(std::time::Instant::now() < deadline, "it is not lost");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_is_archived_after_archiving_it_has_panicked() {
    let store = Arc::new(Failing::default());
    let config = Config {
        archive_after: std::time::Duration::from_secs(1),
        ..Config::default()
    };
    let server = over(&store, config).await;
    let id = server.create_of(CHILD).await.id;
    server.reaches(&id, "SUCCESS").await;
    store.panics_at(&format!("workflow/{id}"), 1);
    until("archiving", || store.has_panicked()).await;
    let archived = || {
        let key = format!("archived/{id}");
        store::Store::get(&*store, key.as_bytes())
            .expect("readable")
            .is_some()
    };
    until("the archive", archived).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_boot_timeline_is_written_after_a_panic() {
    let store = Arc::new(Failing::default());
    let server = over(&store, Config::default()).await;
    server.apply(MACHINE).await.expect("machine");
    let entry = |what: &str| Entry {
        at: SystemTime::now(),
        mac: Some(MAC.parse().expect("MAC")),
        boot: None,
        stage: Stage::Dhcp,
        what: what.into(),
        detail: String::new(),
        bytes: 0,
        outcome: Outcome::Note,
    };
    store.panics_at(&format!("mac/{MAC}"), 1);
    server.control.record(entry("lost"));
    until("the entry", || store.has_panicked()).await;
    server.control.record(entry("kept"));
    server.boot_log("node1", |entry| entry.what == "kept").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_the_store_can_be_written_is_told() {
    let store = Arc::new(Failing::default());
    let server = over(&store, Config::default()).await;
    assert_eq!(server.control.ready(), Ok(()));
    store.refuses_events(true);
    server.put(CHILD).await.expect("template");
    let refused = server.create("child", MAC).await.expect_err("no room");
    assert_eq!(refused.code(), Code::Internal, "{refused}");
    let said = server.control.ready().expect_err("the last write failed");
    assert!(said.contains("no space left on device"), "{said}");
    store.refuses_events(false);
    server.apply(MACHINE).await.expect("machine");
    assert_eq!(server.control.ready(), Ok(()), "the last write was well");
    store.breaks_its_writer();
    let refused = server.put(TWO_ACTIONS).await.expect_err("no writer");
    assert!(
        refused.message().contains("its writer thread has stopped"),
        "{refused}"
    );
    until("the thread's end", || server.control.ready().is_err()).await;
    let said = server.control.ready().expect_err("its writer is gone");
    assert!(said.contains("its writer thread has stopped"), "{said}");
    assert!(said.contains("start the server again"), "{said}");
}
