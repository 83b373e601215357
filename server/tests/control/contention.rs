//! A rack's machines are handed out work of one workflow at the same time.

use proto::v1::{Hello, server_message::Kind};
use server::Config;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::Status;

use crate::harness::*;

const MACHINES: usize = 200;

const ALL_AT_ONCE: &str = r#"
version: "1"
name: all-at-once
tasks:
  - name: look
    worker: "${{ item.mac }}"
    forEach: machines("rack == 'r7'")
    actions: [{name: look, image: cexec}]
"#;

fn mac(number: usize) -> String {
    format!("52:54:00:77:01:{number:02x}")
}

/// Does one action; the status that its stream ended with before that.
async fn works_once(mut agent: Agent) -> Result<Agent, Status> {
    loop {
        if let Kind::Run(run) = agent.received().await? {
            agent.report(&run.attempt_id, started()).await;
            agent.report(&run.attempt_id, succeeded()).await;
            return Ok(agent);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_machines_of_a_rack_get_their_work_at_once_and_no_stream_ends() {
    let dir = TempDir::new().expect("directory");
    let server = Server::start(&dir, Config::default()).await;
    let records: Vec<String> = (0..MACHINES)
        .map(|number| {
            format!(
                "machine: n{number:03}\nmac: {}\nlabels: {{rack: r7}}\n",
                mac(number)
            )
        })
        .collect();
    server.apply(&records.join("---\n")).await.expect("machines");
    let mut agents = JoinSet::new();
    for number in 0..MACHINES {
        let hello = Hello {
            mac: mac(number),
            ..hello("k1")
        };
        agents.spawn(works_once(server.attach(hello).await.expect("attach")));
    }
    let id = server.create_of(ALL_AT_ONCE).await.id;
    let mut attached = Vec::new();
    while let Some(agent) = agents.join_next().await {
        attached.push(agent.expect("an agent").expect("an open stream"));
    }
    let done = server.reaches(&id, "SUCCESS").await;
    assert_eq!(done.tasks[0].ended, MACHINES as u64);
}
