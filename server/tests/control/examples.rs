//! Examples as they are, over machines whose agents do what a test says: `rack-bring-up`, `nightly-rollout`, `debian-answers`. The others
//! run in virtual machines: see the end-to-end tests.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use proto::v1::{DecideApprovalRequest, Hello, Workflow, WorkflowEvent, report};
use server::Config;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::harness::*;

/// Beside the canary. One in twenty is 3 of them, one in ten 6.
const REST: usize = 60;
const CANARY: usize = REST;
/// Indexes of tasks.
const REST_TASK: &str = "2/";

fn mac(number: usize) -> String {
    format!("52:54:00:77:01:{number:02x}")
}

/// A rack, with agents that are attached.
struct Rack {
    server: Arc<Server>,
    _dir: TempDir,
    id: String,
    agents: JoinSet<()>,
    /// Images take as long as this is false, but for the canary's.
    written: watch::Sender<bool>,
}

/// `fails` says of a machine whether its reboot fails.
async fn rack(fails: fn(usize) -> bool) -> Rack {
    let dir = TempDir::new().expect("directory");
    let server = Arc::new(Server::start(&dir, Config::default()).await);
    // Names in the order of the numbers: that is the order of the items.
    let records: Vec<String> = (0..=REST)
        .map(|number| {
            let canary = if number == CANARY { ", canary: \"yes\"" } else { "" };
            format!(
                "machine: n{number:02}\nmac: {}\nlabels: {{rack: r7{canary}}}\n",
                mac(number)
            )
        })
        .chain(["machine: other\nmac: 52:54:00:77:02:00\nlabels: {rack: r8}\n".to_owned()])
        .collect();
    server.apply(&records.join("---\n")).await.expect("machines");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/rack-bring-up.yaml");
    let example = std::fs::read_to_string(example).expect("the example");
    server.put(&example).await.expect("template");
    let request = proto::v1::CreateWorkflowRequest {
        template: "rack-bring-up".into(),
        ..Default::default()
    };
    let id = server.make(request).await.expect("workflow").id;
    let mut agents = JoinSet::new();
    let written = watch::Sender::new(false);
    for number in 0..=REST {
        let hello = Hello {
            mac: mac(number),
            ..hello("k1")
        };
        let agent = server.attach(hello).await.expect("attach");
        let written = (number != CANARY).then(|| written.subscribe());
        agents.spawn(install(agent, fails(number), written));
    }
    Rack {
        server,
        _dir: dir,
        id,
        agents,
        written,
    }
}

/// Does what comes, as the agent does it.
async fn install(mut agent: Agent, fails: bool, mut written: Option<watch::Receiver<bool>>) {
    loop {
        let message = agent.received().await;
        let Ok(proto::v1::server_message::Kind::Run(run)) = message else {
            match message {
                Ok(_) => continue,
                // The server has stopped.
                Err(_) => return,
            }
        };
        agent.report(&run.attempt_id, started()).await;
        let outcome: report::Outcome = match run.image.as_str() {
            "image2disk" => {
                if let Some(written) = &mut written {
                    written
                        .wait_for(|written| *written)
                        .await
                        .expect("a test that goes on");
                }
                succeeded()
            }
            "reboot" if fails => failed(),
            "reboot" => leaving(),
            other => panic!("nobody has the action {other}"),
        };
        agent.report(&run.attempt_id, outcome).await;
    }
}

/// Items of the rest that something was handed out for, and that were over, before each further wave and at the end.
fn waves(events: &[WorkflowEvent]) -> Vec<(usize, usize)> {
    let (mut begun, mut over) = (BTreeSet::new(), BTreeSet::new());
    let mut waves = Vec::new();
    for event in events {
        let item = Some(event.execution.clone()).filter(|execution| execution.starts_with(REST_TASK));
        match (event.kind.as_str(), item) {
            ("dispatched", Some(item)) => drop(begun.insert(item)),
            ("execution_ended", Some(item)) => drop(over.insert(item)),
            ("wave_opened", _) => waves.push((begun.len(), over.len())),
            _ => {}
        }
    }
    waves.push((begun.len(), over.len()));
    waves
}

async fn go_on(rack: &Rack) {
    let Rack { server, id, .. } = rack;
    let looks = |workflow: &Workflow| {
        let look = &workflow.tasks[1];
        look.executions
            .iter()
            .any(|execution| execution.waiting == "approval")
    };
    let asked = server.until(id, looks).await;
    let (canary, rest) = (&asked.tasks[0], &asked.tasks[2]);
    assert_eq!(
        (canary.state.as_str(), canary.items),
        ("SUCCESS", 1),
        "{canary:?}"
    );
    assert_eq!(canary.executions[0].worker, mac(CANARY));
    assert_eq!(
        (rest.state.as_str(), rest.made),
        ("IDLE", 0),
        "nobody has looked yet"
    );
    let yes = DecideApprovalRequest {
        id: id.into(),
        task: "look".into(),
        approved: true,
        ..DecideApprovalRequest::default()
    };
    server
        .client()
        .await
        .decide_approval(yes)
        .await
        .expect("approved");
    // Until all lists are made, a machine that is done may be one of them, and would have to come back into the agent. No
    // image is written as fast as that.
    server.until(id, |workflow| workflow.tasks[3].made == 1).await;
    rack.written.send_replace(true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rack_is_brought_up_behind_its_canary_wave_after_wave() {
    let mut rack = rack(|_| false).await;
    go_on(&rack).await;
    let Rack { server, id, .. } = &rack;
    let done = server.reaches(id, "SUCCESS").await;
    assert_eq!(done.outputs_json, format!("{{\"machines\":{}}}", REST + 1));
    let rest = &done.tasks[2];
    assert_eq!((rest.items, rest.ended, rest.failed), (60, 60, 0), "{rest:?}");
    // Whoever is done boots its disk, the canary too.
    for number in [0, REST - 1, CANARY] {
        let mac = mac(number).parse().expect("a MAC");
        let (next, why) = server.control.boots_next(mac).await.expect("a machine");
        assert_eq!(
            next,
            coordinator::netboot::Next::LocalDisk,
            "machine {number}: {why}"
        );
    }
    // Each wave begins when the one before is over.
    assert_eq!(waves(&server.history(id).await), [(1, 1), (6, 6), (60, 60)]);
    rack.agents.abort_all();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rack_where_too_many_fail_is_left_alone_from_there_on() {
    // Four of the second wave's five: one more than is borne.
    let mut rack = rack(|number| (1..=4).contains(&number)).await;
    go_on(&rack).await;
    let Rack { server, id, .. } = &rack;
    let failed = server.reaches(id, "FAILED").await;
    let rest = &failed.tasks[2];
    assert_eq!(
        (rest.state.as_str(), rest.reason.as_str(), rest.made, rest.failed),
        ("FAILED", "TooManyFailures", 6, 4),
        "{rest:?}"
    );
    assert!(failed.message.contains("TooManyFailures"), "{}", failed.message);
    assert_eq!(
        failed.tasks[3].state, "SUCCESS",
        "the canary was started: {failed:?}"
    );
    // The fifth of the second wave may not have begun when the others had failed.
    let waves = waves(&server.history(id).await);
    assert!(matches!(waves[..], [(1, 1), (5 | 6, 6)]), "{waves:?}");
    rack.agents.abort_all();
}

fn example(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/{name}.yaml"));
    std::fs::read_to_string(file).expect("the example")
}

/// Machines are chosen by what they told of themselves, after the evening, if there are enough.
#[tokio::test(flavor = "multi_thread")]
async fn the_nightly_rollout_takes_the_machines_that_are_fit_for_it() {
    let dir = TempDir::new().expect("directory");
    let server = Server::start(&dir, Config::default()).await;
    let mut records = Vec::new();
    // Memory, health of the disk, role. The last one never told anything.
    let machines = [
        (64, "good", "web"),
        (32, "", "web"),
        (8, "good", "web"),
        (64, "failing", "web"),
        (64, "good", "db"),
        (0, "", "web"),
    ];
    for (number, (_, _, role)) in machines.iter().enumerate() {
        records.push(format!(
            "machine: n{number}\nmac: {}\nlabels: {{role: {role}}}\n",
            mac(number)
        ));
    }
    server.apply(&records.join("---\n")).await.expect("machines");
    server.put(&example("nightly-rollout")).await.expect("template");
    let mut agents = JoinSet::new();
    for (number, (gib, health, _)) in machines.iter().enumerate().filter(|(_, (gib, _, _))| *gib > 0) {
        let disk = proto::v1::BlockDevice {
            name: "/dev/vda".into(),
            health: (*health).to_owned(),
            ..Default::default()
        };
        let inventory = proto::v1::HardwareInventory {
            cpus: 8,
            memory_bytes: gib << 30,
            disks: vec![disk],
            ..Default::default()
        };
        let hello = Hello {
            mac: mac(number),
            ..hello("k1")
        };
        let agent = server.attach(hello).await.expect("attach");
        let told = proto::v1::agent_message::Kind::Inventory(Box::new(inventory));
        agent.send(told).await;
        server
            .boot_log(&mac(number), |entry| entry.what == "INVENTORY")
            .await;
        agents.spawn(install(agent, false, None));
    }
    let make = |inputs: &str| proto::v1::CreateWorkflowRequest {
        template: "nightly-rollout".into(),
        inputs_json: inputs.into(),
        ..Default::default()
    };
    // It is not evening yet, wherever this runs.
    let waits = server.make(make("{}")).await.expect("workflow").id;
    let waits = server
        .until(&waits, |workflow| workflow.tasks[0].state == "WAITING")
        .await;
    assert!(waits.tasks[0].executions[0].due.is_some());
    let few = server
        .make(make(r#"{"evening": "2026-01-31T22:00:00Z", "least": 3}"#))
        .await
        .expect("workflow")
        .id;
    let few = server.reaches(&few, "FAILED").await;
    assert!(
        few.message.contains("(TooFewItems)") && few.message.contains("gives 2 items, and minItems is 3"),
        "{few:?}"
    );
    let done = server
        .make(make(
            r#"{"evening": "2026-01-31T22:00:00Z", "least": 2, "waves": [1, 2]}"#,
        ))
        .await
        .expect("workflow")
        .id;
    let done = server.reaches(&done, "SUCCESS").await;
    let workers: Vec<&str> = done.tasks[1]
        .executions
        .iter()
        .map(|execution| execution.worker.as_str())
        .collect();
    assert_eq!(workers, [mac(0), mac(1)]);
    let refused = server
        .make(make(r#"{"evening": "22:00", "budget": "a few"}"#))
        .await
        .expect_err("refused");
    for words in [
        "until \"22:00\" is no time",
        "maxFailures \"a few\" is neither a count",
    ] {
        assert!(refused.message().contains(words), "{}", refused.message());
    }
    agents.shutdown().await;
}

/// But for the address: that of a machine's record is never this host's own.
#[tokio::test(flavor = "multi_thread")]
async fn debian_answers_is_done_when_the_installed_system_is_there() {
    let dir = TempDir::new().expect("directory");
    let server = Server::start(&dir, Config::default()).await;
    server.apply(MACHINE).await.expect("machine");
    let text = example("debian-answers").replace("{by: ssh,", "{by: ssh, address: 127.0.0.1,");
    server.put(&text).await.expect("template");
    let sshd = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = sshd.local_addr().expect("address").port();
    let request = proto::v1::CreateWorkflowRequest {
        template: "debian-answers".into(),
        devices: [("device_1".to_owned(), MAC.to_owned())].into(),
        inputs_json: format!("{{\"port\": {port}}}"),
        ..Default::default()
    };
    let id = server.make(request).await.expect("workflow").id;
    let mut agents = JoinSet::new();
    agents.spawn(install(
        server.attach(hello("k1")).await.expect("attach"),
        false,
        None,
    ));
    let (mut asked, _) = sshd.accept().await.expect("a question");
    tokio::io::AsyncWriteExt::write_all(&mut asked, b"SSH-2.0-OpenSSH_10.0p1 Debian-7\r\n")
        .await
        .expect("an answer");
    let done = server.reaches(&id, "SUCCESS").await;
    assert_eq!(done.outputs_json, "{\"ssh\":\"SSH-2.0-OpenSSH_10.0p1 Debian-7\"}");
    agents.shutdown().await;
}
