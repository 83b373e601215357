//! Machines that are not heard of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::v1::{GetMachineRequest, Hello, Machine};
use server::Config;
use store::{Commit, Operation, Store, StoreHandle};

use crate::harness::*;

async fn machine(server: &Server, wanted: impl Fn(&Machine) -> bool) -> Machine {
    let deadline = Instant::now() + WITHIN;
    loop {
        let request = GetMachineRequest {
            name_or_mac: MAC.into(),
        };
        let machine = server.client().await.get_machine(request).await;
        let machine = machine.expect("machine").into_inner();
        if wanted(&machine) {
            return machine;
        }
        assert!(Instant::now() < deadline, "{machine:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_is_lost_after_silence_and_its_late_report_changes_nothing_but_frees_the_machine() {
    let (server, _dir) = Server::with_machine_and(Config {
        lost_after: Duration::from_millis(300),
        ..Config::default()
    })
    .await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let first = agent.run().await;
    let lost = machine(&server, |machine| machine.attempt_lost).await;
    // The fence: it has not provably stopped.
    assert_eq!(lost.running_attempt, first.attempt_id);
    assert_eq!(lost.queue, [id.as_str()]);
    assert!(server.events(&id).await.contains(&"lost".to_owned()));
    agent.report(&first.attempt_id, succeeded()).await;
    let second = agent.run().await;
    assert_eq!(second.attempt_id, format!("{id}/0/1/0/0/2"));
    assert!(server.events(&id).await.contains(&"late".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_heard_is_not_lost() {
    let (server, _dir) = Server::with_machine_and(Config {
        lost_after: Duration::from_millis(500),
        ..Config::default()
    })
    .await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let first = agent.run().await;
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        let heartbeat = proto::v1::Heartbeat {
            running_attempt: first.attempt_id.clone(),
            ..proto::v1::Heartbeat::default()
        };
        agent
            .send(proto::v1::agent_message::Kind::Heartbeat(heartbeat))
            .await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!server.events(&id).await.contains(&"lost".to_owned()));
}

/// The first of the machines cannot be read any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_be_looked_at_does_not_keep_others_from_being_lost() {
    let store = Arc::new(Failing::default());
    let config = Config {
        lost_after: Duration::from_secs(1),
        ..Config::default()
    };
    let server = Server::over(StoreHandle::shared(store.clone()), config).await;
    let other = "52:54:00:77:00:0a";
    let first = MACHINE
        .replace("node1", "first")
        .replace(MAC, other)
        .replace(".11/", ".10/");
    server.apply(&first).await.expect("machine");
    server.apply(MACHINE).await.expect("machine");
    server.put(TWO_ACTIONS).await.expect("template");
    let mut agents = Vec::new();
    let mut ids = Vec::new();
    for mac in [other, MAC] {
        ids.push(server.create("two", mac).await.expect("workflow").id);
        let hello = Hello {
            mac: mac.into(),
            ..hello("k1")
        };
        let mut agent = server.attach(hello).await.expect("attach");
        agent.run().await;
        agents.push(agent);
    }
    let damage = Operation::Put {
        key: "machine-work/first".into(),
        value: "no machine".into(),
    };
    let commit = Commit {
        operations: vec![damage],
        ..Commit::default()
    };
    store.commit(&commit).expect("damaged");
    let deadline = Instant::now() + WITHIN;
    while !server.events(&ids[1]).await.contains(&"lost".to_owned()) {
        assert!(Instant::now() < deadline, "the second is not lost");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!server.events(&ids[0]).await.contains(&"lost".to_owned()));
}
