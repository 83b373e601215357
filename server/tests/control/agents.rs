//! What an agent is told, and who is not taken for one.

use std::sync::Arc;

use coordinator::netboot::Next;
use proto::v1::{
    BootOutcome, BootStage, GetMachineRequest, LookAtMachineRequest, Seen, Sight, Succeeded,
    WorkflowLogsRequest, agent_message, report, server_message,
};
use server::Config;
use store::StoreHandle;
use tonic::Code;

use crate::harness::*;

fn mac() -> macaddr::MacAddr6 {
    MAC.parse().expect("MAC")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_only_ends_like_a_built_in_action_is_not_handed_out_as_one() {
    let (server, _dir) = Server::with_machine().await;
    let text = format!(
        "version: '1'\nname: w\ntasks:\n- name: t\n  worker: '{MAC}'\n  actions:\n  \
         - {{name: theirs, image: registry.example/x/writefile}}\n  \
         - {{name: ours, image: \"${{{{ 'registry.example/x/reboot' }}}}\", runtime: native}}\n"
    );
    server.create_of(&text).await;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let theirs = agent.run().await;
    assert_eq!((theirs.action.as_str(), theirs.native.as_str()), ("theirs", ""));
    agent.report(&theirs.attempt_id, started()).await;
    agent.report(&theirs.attempt_id, succeeded()).await;
    let ours = agent.run().await;
    assert_eq!((ours.action.as_str(), ours.native.as_str()), ("ours", "reboot"));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_a_workflow_action_by_action_to_success_and_then_boots_the_disk() {
    let (server, _dir) = Server::with_machine().await;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let server_message::Kind::Welcome(welcome) = agent.next().await.expect("Welcome") else {
        panic!("no Welcome")
    };
    assert_eq!((welcome.machine.as_str(), welcome.epoch), ("node1", 1));
    assert_eq!(agent.idle().await, "no workflow for this machine");
    let id = server.create("two", MAC).await.expect("workflow").id;
    let write = agent.run().await;
    assert_eq!(write.attempt_id, format!("{id}/0/1/0/0/1"));
    assert_eq!(
        (write.action_index, write.action_count, write.timeout_s),
        (0, 2, 300)
    );
    assert_eq!(write.environment["DEST_DISK"], "/dev/vda");
    assert_eq!(write.environment["COLOUR"], "red");
    let (next, reason) = server.control.boots_next(mac()).await.expect("known");
    assert_eq!((next, reason), (Next::Agent, format!("workflow {id} is RUNNING")));
    agent.report(&write.attempt_id, started()).await;
    agent.report(&write.attempt_id, succeeded()).await;
    let restart = agent.run().await;
    assert_eq!((restart.image.as_str(), restart.action_index), ("reboot", 1));
    assert_eq!(
        (write.native.as_str(), restart.native.as_str()),
        ("image2disk", "reboot")
    );
    agent.report(&restart.attempt_id, started()).await;
    agent.report(&restart.attempt_id, leaving()).await;
    // Once that is acknowledged both hold, for whoever asks: it is one commit.
    agent.acknowledged().await;
    let workflow = server.workflow(&id).await;
    assert_eq!(workflow.state, "SUCCESS");
    assert_eq!(workflow.tasks[0].actions[0].bytes, Some(7));
    let (next, reason) = server.control.boots_next(mac()).await.expect("known");
    assert_eq!(
        (next, reason),
        (Next::LocalDisk, format!("workflow {id} has written its disk"))
    );
    let kinds = server.events(&id).await;
    let want = [
        "created",
        "task_started",
        "execution_made",
        "dispatched",
        "started",
        "succeeded",
        "dispatched",
        "started",
        "leaving",
        "execution_ended",
        "task_ended",
        "ended",
    ];
    assert_eq!(kinds, want);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_workflow_keeps_the_agent_and_tells_it_why() {
    let (server, _dir) = Server::with_machine().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let write = agent.run().await;
    agent.report(&write.attempt_id, failed()).await;
    let reason = agent.idle().await;
    assert!(
        reason.starts_with(&format!("the last workflow {id} is FAILED: action \"write\"")),
        "{reason}"
    );
    assert_eq!(
        server.control.boots_next(mac()).await.expect("known").0,
        Next::Agent
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_goes_on_where_it_was() {
    let (server, _dir) = Server::with_machine().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let write = agent.run().await;
    drop(agent);
    // It never got the action: the same attempt comes again.
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    assert_eq!(agent.run().await.attempt_id, write.attempt_id);
    agent.report(&write.attempt_id, started()).await;
    agent.acknowledged().await;
    drop(agent);
    // It runs it: nothing comes until it reports, and what was acknowledged may be sent again.
    let mut again = hello("k1");
    again.running_attempt = write.attempt_id.clone();
    again.unacknowledged = vec![report(1, &write.attempt_id, started())];
    let mut agent = server.attach(again).await.expect("attach");
    agent.acknowledged().await;
    agent.report(&write.attempt_id, succeeded()).await;
    assert_eq!(agent.run().await.attempt_id, format!("{id}/0/1/0/1/1"));
    assert_eq!(
        server.events(&id).await,
        [
            "created",
            "task_started",
            "execution_made",
            "dispatched",
            "started",
            "succeeded",
            "dispatched"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_stream_replaces_the_older_one() {
    let (server, _dir) = Server::with_machine().await;
    let mut old = server.attach(hello("k1")).await.expect("attach");
    old.idle().await;
    let mut new = server.attach(hello("k1")).await.expect("attach");
    let status = loop {
        if let Err(status) = old.next().await {
            break status;
        }
    };
    assert_eq!(
        (status.code(), status.message()),
        (Code::Aborted, "a newer stream of this machine replaced this one")
    );
    let server_message::Kind::Welcome(welcome) = new.next().await.expect("Welcome") else {
        panic!("no Welcome")
    };
    assert_eq!(welcome.epoch, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_boot_loses_the_attempt_which_is_tried_again_and_given_up_in_the_end() {
    let (server, _dir) = Server::with_machine().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    for boot in 1..=3 {
        let token = server
            .control
            .boot_token(mac(), &format!("boot{boot}"))
            .await
            .expect("token");
        let mut hello = hello(&format!("k{boot}"));
        hello.boot_token = token;
        let mut agent = server.attach(hello).await.expect("attach");
        let run = agent.run().await;
        assert_eq!(run.attempt_id, format!("{id}/0/1/0/0/{boot}"));
        agent.report(&run.attempt_id, started()).await;
        agent.acknowledged().await;
    }
    let token = server.control.boot_token(mac(), "boot4").await.expect("token");
    let mut last = hello("k4");
    last.boot_token = token;
    let mut agent = server.attach(last).await.expect("attach");
    agent.idle().await;
    let workflow = server.workflow(&id).await;
    assert_eq!(workflow.state, "FAILED");
    assert!(workflow.message.contains("lost 3 times"), "{}", workflow.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_attaches_with_the_machines_mac() {
    let (server, _dir) = Server::with_machine().await;
    let token = server.control.boot_token(mac(), "boot1").await.expect("token");
    assert_eq!(
        server.control.boot_token(mac(), "boot1").await.expect("token"),
        token
    );
    let with = |boot_id: &str, token: &str| {
        let mut hello = hello(boot_id);
        hello.boot_token = token.into();
        Agent::attach(server.address, hello)
    };
    let mut agent = with("k1", &token).await.expect("attach");
    agent.idle().await;
    let cases = [
        (
            "k2",
            "",
            "it shows no boot token, and this machine netbooted with one",
        ),
        ("k2", "0000", "its boot token is not this machine's"),
        ("k2", token.as_str(), "its boot token is in use by another boot"),
    ];
    for (boot_id, token, why) in cases {
        let status = with(boot_id, token).await.err().expect("refused");
        let want = format!("agent refused for machine \"node1\" ({MAC}): {why}");
        assert_eq!(
            (status.code(), status.message()),
            (Code::PermissionDenied, want.as_str())
        );
        let entry = server
            .boot_log("node1", |entry| entry.detail.ends_with(why))
            .await;
        assert_eq!(
            (entry.stage(), entry.what.as_str(), entry.outcome()),
            (BootStage::Agent, "ATTACH", BootOutcome::Refused)
        );
        assert_eq!(entry.boot, "boot1");
        assert!(entry.detail.starts_with("from 127.0.0.1:"), "{}", entry.detail);
    }
    // The one whose machine it is was not disturbed.
    server.create("two", MAC).await.expect("workflow");
    agent.run().await;
}

/// Before its first netboot there is no token to compare with: that is no reason to hand out its workflow.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_attaches_without_a_token_to_a_machine_that_has_yet_to_netboot() {
    let (server, _dir) = Server::with_machine().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let status = Agent::attach(server.address, hello("k1"))
        .await
        .err()
        .expect("refused");
    let want = format!(
        "agent refused for machine \"node1\" ({MAC}): it shows no boot token, and this machine gets one when it \
         netboots: if it never does, say `netboot: never` in its record (`netboot: {{allowPXE: false}}` in a Hardware's \
         interface)"
    );
    assert_eq!(
        (status.code(), status.message()),
        (Code::PermissionDenied, want.as_str())
    );
    assert_eq!(server.workflow(&id).await.state, "PENDING");
}

/// A machine that Farrier gives no script of its own never gets a token.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_not_netbooted_attaches_without_a_token() {
    let (server, _dir) = Server::with_machine().await;
    let never = [
        (
            "52:54:00:77:00:0c",
            "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {name: host1}\nspec:\n  interfaces: [{dhcp: \
             {mac: 52:54:00:77:00:0c}, netboot: {allowPXE: false}}]\n",
        ),
        (
            "52:54:00:77:00:0d",
            "machine: host2\nmac: 52:54:00:77:00:0d\nnetboot: never\n",
        ),
    ];
    for (mac, record) in never {
        server.apply(record).await.expect("machine");
        let mut host = hello("k1");
        host.mac = mac.into();
        // Also when it netbooted before its record said so.
        let mac = host.mac.parse().expect("MAC");
        server.control.boot_token(mac, "boot1").await.expect("token");
        let mut agent = Agent::attach(server.address, host).await.expect("attach");
        assert_eq!(agent.idle().await, "no workflow for this machine");
    }
}

/// It must come again, and then count.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_could_not_be_stored_is_not_taken_for_one_that_was() {
    let store = Arc::new(Failing::default());
    let server = Server::over(StoreHandle::shared(store.clone()), Config::default()).await;
    server.apply(MACHINE).await.expect("machine");
    server.put(TWO_ACTIONS).await.expect("template");
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let write = agent.run().await;
    agent.report(&write.attempt_id, started()).await;
    agent.acknowledged().await;
    store.refuses_events(true);
    agent.report(&write.attempt_id, succeeded()).await;
    while agent.next().await.is_ok() {}
    store.refuses_events(false);
    let mut again = hello("k1");
    again.unacknowledged = vec![report(2, &write.attempt_id, succeeded())];
    let mut agent = server.attach(again).await.expect("attach");
    assert_eq!(agent.run().await.attempt_id, format!("{id}/0/1/0/1/1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_told_so_and_noted() {
    let (server, _dir) = Server::with_machine().await;
    let mut stranger = hello("k1");
    stranger.mac = "52:54:00:99:99:99".into();
    let status = Agent::attach(server.address, stranger)
        .await
        .err()
        .expect("refused");
    let want = "no machine has MAC 52:54:00:99:99:99: add it with `farrier machine apply`";
    assert_eq!((status.code(), status.message()), (Code::NotFound, want));
    let entry = server
        .boot_log("", |entry| entry.mac == "52:54:00:99:99:99")
        .await;
    assert_eq!(
        (entry.what.as_str(), entry.outcome()),
        ("ATTACH", BootOutcome::Refused)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_log_lines_in_order_and_once() {
    let (server, _dir) = Server::with_machine().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    agent.log(&run.attempt_id, 0, &["one", "two"]).await;
    agent.log(&run.attempt_id, 1, &["two", "three"]).await;
    agent.log("not-ours/0/1/0/0/1", 0, &["nobody's"]).await;
    agent.report(&run.attempt_id, failed()).await;
    agent.acknowledged().await;
    let request = WorkflowLogsRequest {
        id,
        follow: true,
        ..WorkflowLogsRequest::default()
    };
    let mut lines = server
        .client()
        .await
        .workflow_logs(request)
        .await
        .expect("logs")
        .into_inner();
    let mut text = Vec::new();
    while let Some(line) = lines.message().await.expect("line") {
        assert_eq!(
            (line.task.as_str(), line.action.as_str(), line.attempt),
            ("install", "write", 1)
        );
        text.push((line.line, line.text));
    }
    assert_eq!(
        text,
        [
            (0, "one".to_owned()),
            (1, "two".to_owned()),
            (2, "three".to_owned())
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_bounded_and_says_so() {
    let (server, _dir) = Server::with_machine_and(Config {
        log_lines: 2,
        ..Config::default()
    })
    .await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    agent
        .log(&run.attempt_id, 0, &["one", "two", "three", "four"])
        .await;
    agent.log(&run.attempt_id, 4, &["five"]).await;
    agent.report(&run.attempt_id, failed()).await;
    agent.acknowledged().await;
    let request = WorkflowLogsRequest {
        id,
        follow: false,
        ..WorkflowLogsRequest::default()
    };
    let mut lines = server
        .client()
        .await
        .workflow_logs(request)
        .await
        .expect("logs")
        .into_inner();
    let mut text = Vec::new();
    while let Some(line) = lines.message().await.expect("line") {
        text.push(line.text);
    }
    let full = "[farrier: the log of this attempt is full at 2 lines, 6 B; what follows is only counted]";
    assert_eq!(text, ["one", "two", full]);
}

/// Every byte is six in the store, and numbers are the agent's to choose.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_an_action_prints_or_says_its_machine_stays_attached() {
    let (server, _dir) = Server::with_machine().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let write = agent.run().await;
    let line = "\u{1}".repeat(16 * 1024);
    agent.log(&write.attempt_id, 0, &[line.as_str(); 40]).await;
    agent.log(&write.attempt_id, u64::MAX, &["a", "b"]).await;
    let message = "x".repeat(2 * 1024 * 1024);
    let done = report::Outcome::Succeeded(Succeeded {
        message,
        ..Succeeded::default()
    });
    agent.report(&write.attempt_id, done).await;
    let restart = agent.run().await;
    let request = WorkflowLogsRequest {
        id,
        follow: false,
        ..WorkflowLogsRequest::default()
    };
    let mut client = server.client().await;
    let mut lines = client.workflow_logs(request).await.expect("logs").into_inner();
    let mut bytes = 0;
    while let Some(line) = lines.message().await.expect("line") {
        bytes += line.text.len();
    }
    assert_eq!(bytes, 40 * line.len() + 2);
    agent.report(&restart.attempt_id, leaving()).await;
    agent.acknowledged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_about_somebody_elses_attempt_changes_nothing() {
    let (server, _dir) = Server::with_machine().await;
    server
        .apply("machine: node2\nmac: 52:54:00:77:00:0c\naddress: 10.77.0.12/24\n")
        .await
        .expect("machine");
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    let mut other = hello("k9");
    other.mac = "52:54:00:77:00:0c".into();
    let mut other = server.attach(other).await.expect("attach");
    other.report(&run.attempt_id, failed()).await;
    other.acknowledged().await;
    assert_eq!(server.workflow(&id).await.state, "RUNNING");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_workflow_stops_what_runs() {
    let (server, _dir) = Server::with_machine().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    let cancelled = server.cancel(&id, "wrong disk").await.expect("cancelled");
    assert_eq!(cancelled.state, "CANCELLING");
    let stop = agent.stop().await;
    assert_eq!(stop.attempt_id, run.attempt_id);
    assert!(stop.reason.contains("wrong disk"), "{}", stop.reason);
    agent.report(&run.attempt_id, stopped("killed")).await;
    server.reaches(&id, "CANCELLED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shows_whether_a_machine_is_attached() {
    let (server, _dir) = Server::with_machine().await;
    let asked = || GetMachineRequest {
        name_or_mac: MAC.to_uppercase(),
    };
    let mut client = server.client().await;
    let machine = client.get_machine(asked()).await.expect("machine").into_inner();
    assert_eq!(
        (
            machine.name.as_str(),
            machine.attached,
            machine.boots_next.as_str()
        ),
        ("node1", false, "local-disk")
    );
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    agent.idle().await;
    let machine = client.get_machine(asked()).await.expect("machine").into_inner();
    assert!(
        machine.attached && machine.last_seen.is_some() && machine.agent_version == "test",
        "{machine:?}"
    );
    drop(agent);
    server.boot_log("node1", |entry| entry.what == "DETACH").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_sees_is_asked_in_its_session_and_who_is_not_there_is_said() {
    let (server, _dir) = Server::with_machine().await;
    let client = server.client().await;
    let ask = |sight: Sight| {
        let mut client = client.clone();
        let request = LookAtMachineRequest {
            name_or_mac: MAC.into(),
            sight: sight.into(),
        };
        async move {
            let answer = client.look_at_machine(request).await;
            answer.map(tonic::Response::into_inner)
        }
    };
    let refused = |answer: Result<proto::v1::LookAtMachineResponse, tonic::Status>, code, words: &str| {
        let status = answer.expect_err("a refusal");
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{status}");
    };
    let never = "no agent of machine node1 is attached; none ever was";
    refused(ask(Sight::Screen).await, Code::FailedPrecondition, never);
    refused(
        ask(Sight::Unspecified).await,
        Code::InvalidArgument,
        "SIGHT_SCREEN",
    );

    let mut agent = server.attach(hello("k1")).await.expect("attach");
    agent.idle().await;
    let seen = |id: u64, text: &str, problem: &str| {
        agent_message::Kind::Seen(Seen {
            id,
            text: text.into(),
            problem: problem.into(),
            ..Seen::default()
        })
    };
    for (sight, text, problem) in [
        (Sight::KernelLog, "[    0.0] Linux\n[    1.0] eth0", ""),
        (Sight::Screen, "Farrier", ""),
        (Sight::KernelLog, "", "the kernel's log cannot be read"),
    ] {
        let asked = tokio::spawn(ask(sight));
        let server_message::Kind::Look(look) = agent.next().await.expect("open") else {
            panic!("no look")
        };
        assert_eq!(look.sight(), sight);
        // Of an earlier one: it is nobody's.
        agent.send(seen(look.id + 7, "stale", "")).await;
        agent.send(seen(look.id, text, problem)).await;
        let answer = asked.await.expect("it runs");
        match problem {
            "" => {
                let answer = answer.expect("seen");
                assert_eq!((answer.machine.as_str(), answer.text.as_str()), ("node1", text));
                assert!(answer.at.is_some());
            }
            problem => refused(answer, Code::FailedPrecondition, problem),
        }
    }
    // It goes away before it answers, and then it is not there.
    let asked = tokio::spawn(ask(Sight::Screen));
    assert!(matches!(agent.next().await, Ok(server_message::Kind::Look(_))));
    drop(agent);
    refused(
        asked.await.expect("it runs"),
        Code::FailedPrecondition,
        "went away before it answered",
    );
    server.boot_log("node1", |entry| entry.what == "DETACH").await;
    refused(
        ask(Sight::Screen).await,
        Code::FailedPrecondition,
        "; the last was heard at 20",
    );
}
