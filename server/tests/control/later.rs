//! Workflows that begin later: until then they have no machine and wait for none.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coordinator::netboot::Next;
use proto::v1::{CreateWorkflowRequest, ExplainWorkflowRequest, StartWorkflowRequest, Workflow};
use server::Config;
use tonic::{Code, Status};

use crate::harness::*;

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("a time")
}

fn at(ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: ms.div_euclid(1000),
        nanos: i32::try_from(ms.rem_euclid(1000)).expect("below a second") * 1_000_000,
    }
}

fn two_at(ms: i64) -> CreateWorkflowRequest {
    CreateWorkflowRequest {
        template: "two".into(),
        devices: [("device_1".to_owned(), MAC.to_owned())].into(),
        start_at: Some(at(ms)),
        ..CreateWorkflowRequest::default()
    }
}

async fn start(server: &Server, id: &str, ms: Option<i64>) -> Result<Workflow, Status> {
    let id = id.to_owned();
    let request = StartWorkflowRequest {
        id,
        at: ms.map(at),
        ..StartWorkflowRequest::default()
    };
    let answer = server.client().await.start_workflow(request).await?;
    Ok(answer.into_inner())
}

const HOUR: i64 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn until_its_time_a_workflow_has_no_machine_and_then_it_runs_by_itself() {
    let (server, _dir) = Server::with_machine().await;
    let mac = MAC.parse().expect("MAC");
    let begins = now_ms() + 2_000;
    let later = server.make(two_at(begins)).await.expect("workflow");
    assert_eq!(
        (later.state.as_str(), &later.starts_at),
        ("PENDING", &Some(at(begins)))
    );
    let next = server.control.boots_next(mac).await.expect("read").0;
    assert_eq!(next, Next::LocalDisk);
    // One that was made after it has the machine before it.
    let first = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    assert!(run.attempt_id.starts_with(&first), "{run:?}");
    agent.report(&run.attempt_id, failed()).await;
    server.reaches(&first, "FAILED").await;
    let run = agent.run().await;
    assert!(run.attempt_id.starts_with(&later.id), "{run:?}");
    assert!(begins <= now_ms());
    let workflow = server.workflow(&later.id).await;
    assert_eq!((workflow.state.as_str(), workflow.starts_at), ("RUNNING", None));
    let history = server.history(&later.id).await;
    assert!(history[0].message.contains("begins at 20"), "{:?}", history[0]);
    assert_eq!(
        (history[1].kind.as_str(), history[1].message.as_str()),
        ("begun", "the time has come: it begins")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_whose_time_comes_while_no_server_is_there_begins_when_one_is() {
    let (server, dir) = Server::with_machine().await;
    let begins = now_ms() + 300;
    let request = CreateWorkflowRequest {
        idempotency_key: "night".into(),
        ..two_at(begins)
    };
    let later = server.make(request.clone()).await.expect("workflow");
    assert_eq!(later.state, "PENDING");
    server.stop().await;
    while now_ms() <= begins {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let server = Server::start(&dir, Config::default()).await;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    assert!(run.attempt_id.starts_with(&later.id), "{run:?}");
    // Asked for again with its key, it is that workflow still, although the time has passed.
    let again = server.make(request).await.expect("the same");
    assert_eq!(again.id, later.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_time_is_moved_and_it_is_begun_by_a_person_and_cancelled_before() {
    let (server, _dir) = Server::with_machine().await;
    let begins = now_ms() + HOUR;
    let id = server.make(two_at(begins)).await.expect("workflow").id;
    let moved = start(&server, &id, Some(begins + HOUR)).await.expect("moved");
    assert_eq!(moved.starts_at, Some(at(begins + HOUR)));
    let request = ExplainWorkflowRequest {
        id: id.clone(),
        ..ExplainWorkflowRequest::default()
    };
    let told = server
        .client()
        .await
        .explain_workflow(request)
        .await
        .expect("told");
    let told = told.into_inner().lines.join("\n");
    assert!(
        told.contains("it begins at 20") && told.contains(&format!("farrier workflow start {id} --now")),
        "{told}"
    );
    start(&server, &id, None).await.expect("begun");
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    assert!(run.attempt_id.starts_with(&id), "{run:?}");
    let status = start(&server, &id, None).await.expect_err("refused");
    let want = format!("workflow {id} is RUNNING: it has begun already; farrier workflow pause holds it");
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, want.as_str())
    );
    let history = server.history(&id).await;
    assert_eq!(history[2].message, "begins now, says admin");

    let id = server.make(two_at(begins)).await.expect("workflow").id;
    let cancelled = server.cancel(&id, "no window").await.expect("cancelled");
    assert_eq!(
        (cancelled.state.as_str(), cancelled.starts_at),
        ("CANCELLED", None)
    );
    let status = start(&server, &id, None).await.expect_err("refused");
    assert!(
        status.message().contains("has ended: it is CANCELLED"),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_has_passed_or_is_too_far_ahead_is_refused() {
    let (server, _dir) = Server::with_machine().await;
    let id = server.make(two_at(now_ms() + HOUR)).await.expect("workflow").id;
    for (ms, want) in [
        (
            now_ms() - HOUR,
            "that has passed; leave the time out to begin at once",
        ),
        (-HOUR, "cannot begin at 1970-01-01T00:00:00Z"),
        (now_ms() + 367 * 24 * HOUR, "it may begin 366 days ahead at most"),
    ] {
        let made = server.make(two_at(ms)).await.map(|workflow| workflow.id);
        let moved = start(&server, &id, Some(ms)).await.map(|workflow| workflow.id);
        for status in [made.expect_err("refused"), moved.expect_err("refused")] {
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains(want), "{status:?}");
        }
    }
}
