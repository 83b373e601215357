//! Requests with a key: each takes effect once, and who asks again is answered as before.

use std::time::Duration;

use proto::v1::*;
use server::Config;
use tonic::{Code, Response, Status};

use crate::archive::Kept;
use crate::harness::*;

const KEY: &str = "3f0c2a52-6c6a-4b8e-9b0f-0a4f6a1f3c11";
const LONG: &str = r#"
version: "1"
name: long
tasks:
  - {name: one, wait: 1d}
  - {name: gate, needs: [], approve: {message: go on?}}
  - {name: three, needs: [one], wait: 1d}
"#;

fn last_event(answer: Result<Response<Workflow>, Status>) -> u64 {
    answer.expect("done").into_inner().last_event
}

/// Asks the same twice with a key, and says of how many events it was.
macro_rules! twice {
    ($client:expr, $server:expr, $id:expr, $method:ident, $request:expr) => {{
        let request = $request;
        let before = $server.workflow($id).await.last_event;
        let first = last_event($client.$method(request.clone()).await);
        assert!(first > before, "{request:?} did nothing");
        let again = last_event($client.$method(request.clone()).await);
        assert_eq!(first, again, "{request:?}");
        request
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_of_a_workflow_takes_effect_once() {
    let (server, _dir) = Server::with_machine().await;
    let mut client = server.client().await;
    let id = server.create_of(LONG).await.id;
    let of = || id.clone();
    let key = |number: u32| format!("{KEY}-{number}");
    let pause = twice!(
        client,
        server,
        &id,
        pause_workflow,
        PauseWorkflowRequest {
            id: of(),
            idempotency_key: key(1),
            ..PauseWorkflowRequest::default()
        }
    );
    twice!(
        client,
        server,
        &id,
        resume_workflow,
        ResumeWorkflowRequest {
            id: of(),
            idempotency_key: key(2),
        }
    );
    // It was paused once, and somebody has resumed it.
    last_event(client.pause_workflow(pause).await);
    assert_eq!(server.workflow(&id).await.state, "RUNNING");
    twice!(
        client,
        server,
        &id,
        pause_task,
        PauseTaskRequest {
            id: of(),
            task: "three".into(),
            reason: "look".into(),
            idempotency_key: key(3),
        }
    );
    twice!(
        client,
        server,
        &id,
        resume_task,
        ResumeTaskRequest {
            id: of(),
            task: "three".into(),
            idempotency_key: key(4),
        }
    );
    twice!(
        client,
        server,
        &id,
        label_workflow,
        LabelWorkflowRequest {
            id: of(),
            set: [("owner".to_owned(), "ann".to_owned())].into(),
            idempotency_key: key(5),
            ..LabelWorkflowRequest::default()
        }
    );
    twice!(
        client,
        server,
        &id,
        set_policy,
        SetPolicyRequest {
            id: of(),
            policy: vec!["step".into()],
            idempotency_key: key(6),
        }
    );
    // Only one task waited for it, and then none did.
    twice!(
        client,
        server,
        &id,
        decide_approval,
        DecideApprovalRequest {
            id: of(),
            approved: true,
            idempotency_key: key(7),
            ..DecideApprovalRequest::default()
        }
    );
    twice!(
        client,
        server,
        &id,
        skip_task,
        SkipTaskRequest {
            id: of(),
            task: "one".into(),
            reason: "not now".into(),
            idempotency_key: key(8),
        }
    );
    twice!(
        client,
        server,
        &id,
        cancel_workflow,
        CancelWorkflowRequest {
            id: of(),
            reason: "enough".into(),
            idempotency_key: key(9),
        }
    );
    let retry = twice!(
        client,
        server,
        &id,
        retry_workflow,
        RetryWorkflowRequest {
            id: of(),
            idempotency_key: key(10),
        }
    );
    // Cancelled again, it stays so: the retry was done.
    server.cancel(&id, "").await.expect("cancelled");
    last_event(client.retry_workflow(retry).await);
    let workflow = server.workflow(&id).await;
    assert_eq!((workflow.state.as_str(), workflow.run), ("CANCELLED", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_task_is_retried_and_a_start_is_moved_once() {
    let (server, _dir) = Server::with_machine().await;
    let mut client = server.client().await;
    let text = "version: \"1\"\nname: f\ntasks: [{name: one, fail: {reason: Broken, message: no disk}}, {name: two, needs: [], wait: 1d}]\n";
    let id = server.create_of(text).await.id;
    server
        .until(&id, |workflow| workflow.tasks[0].state == "FAILED")
        .await;
    twice!(
        client,
        server,
        &id,
        retry_task,
        RetryTaskRequest {
            id: id.clone(),
            task: "one".into(),
            idempotency_key: KEY.into(),
        }
    );
    let in_ms = |ms: u64| {
        let then = std::time::SystemTime::now() + Duration::from_millis(ms);
        Some(prost_types::Timestamp::from(then))
    };
    let later = CreateWorkflowRequest {
        text: LONG.into(),
        start_at: in_ms(3_600_000),
        ..CreateWorkflowRequest::default()
    };
    let id = server.make(later).await.expect("workflow").id;
    let start = twice!(
        client,
        server,
        &id,
        start_workflow,
        StartWorkflowRequest {
            id: id.clone(),
            at: in_ms(500),
            idempotency_key: format!("{KEY}-start"),
        }
    );
    // Its time has passed, which would be refused if it was asked for now.
    server.reaches(&id, "RUNNING").await;
    last_event(client.start_workflow(start.clone()).await);
    let new = StartWorkflowRequest {
        idempotency_key: String::new(),
        ..start
    };
    let said = client.start_workflow(new).await.expect_err("it has passed");
    assert_eq!(said.code(), Code::InvalidArgument);
}

fn pause(id: &str, key: &str) -> PauseWorkflowRequest {
    PauseWorkflowRequest {
        id: id.into(),
        idempotency_key: key.into(),
        ..PauseWorkflowRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_outlives_a_restart_and_is_refused_for_anything_else() {
    let (server, dir) = Server::with_machine().await;
    let (id, other) = (server.create_of(LONG).await.id, server.create_of(LONG).await.id);
    let first = last_event(server.client().await.pause_workflow(pause(&id, KEY)).await);
    server.resume(&id).await.expect("resumed");
    server.stop().await;

    let server = Server::start(&dir, Config::default()).await;
    let mut client = server.client().await;
    let again = client.pause_workflow(pause(&id, KEY)).await.expect("done before");
    let again = again.into_inner();
    assert!(again.last_event > first, "it is as it is now");
    assert_eq!(again.state, "RUNNING");
    let said = client
        .pause_workflow(pause(&other, KEY))
        .await
        .expect_err("refused");
    assert_eq!(
        (said.code(), said.message()),
        (
            Code::AlreadyExists,
            format!(
                "idempotency key \"{KEY}\" of admin was used for something else, another PauseWorkflow, and this is \
                 PauseWorkflow: use a new key for each request, and the same one only to ask the same again"
            )
            .as_str()
        )
    );
    // With another reason it is another request, and so is another call.
    let reason = PauseWorkflowRequest {
        reason: "lunch".into(),
        ..pause(&id, KEY)
    };
    let said = client.pause_workflow(reason).await.expect_err("refused");
    assert_eq!(said.code(), Code::AlreadyExists);
    let resume = ResumeWorkflowRequest {
        id: id.clone(),
        idempotency_key: KEY.into(),
    };
    let said = client.resume_workflow(resume).await.expect_err("refused");
    assert!(
        said.message()
            .contains("something else, PauseWorkflow, and this is"),
        "{said}"
    );
    // Somebody else's is another key.
    let mut ann = server.person("ann", &[], "operator").await;
    assert_eq!(
        ann.pause_workflow(pause(&id, KEY))
            .await
            .expect("paused")
            .into_inner()
            .state,
        "PAUSED"
    );
    // What is refused may be asked again with its key.
    let retry = RetryWorkflowRequest {
        id: id.clone(),
        idempotency_key: "later".into(),
    };
    client
        .retry_workflow(retry.clone())
        .await
        .expect_err("it has not ended");
    server.cancel(&id, "").await.expect("cancelled");
    assert_eq!(
        client
            .retry_workflow(retry)
            .await
            .expect("retried")
            .into_inner()
            .run,
        2
    );
    for bad in ["k".repeat(257), "a\nb".to_owned()] {
        let said = client
            .pause_workflow(pause(&id, &bad))
            .await
            .expect_err("refused");
        assert_eq!(said.code(), Code::InvalidArgument, "{said}");
        let create = CreateWorkflowRequest {
            text: LONG.into(),
            idempotency_key: bad,
            ..CreateWorkflowRequest::default()
        };
        let said = server.make(create).await.expect_err("refused");
        assert_eq!(said.code(), Code::InvalidArgument, "{said}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_in_flight_one_is_done() {
    let (server, _dir) = Server::with_machine().await;
    let id = server.create_of(LONG).await.id;
    let before = server.workflow(&id).await.last_event;
    let set = LabelWorkflowRequest {
        id: id.clone(),
        set: [("owner".to_owned(), "ann".to_owned())].into(),
        idempotency_key: KEY.into(),
        ..LabelWorkflowRequest::default()
    };
    let delete = DeleteSecretRequest {
        name: "PW".into(),
        idempotency_key: "gone".into(),
        ..DeleteSecretRequest::default()
    };
    let secret = SetSecretRequest {
        name: "PW".into(),
        value: "correct horse".into(),
        ..SetSecretRequest::default()
    };
    server.client().await.set_secret(secret).await.expect("a secret");
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (mut client, set, delete) = (server.client().await, set.clone(), delete.clone());
        asking.spawn(async move {
            let event = last_event(client.label_workflow(set).await);
            client.delete_secret(delete).await.expect("deleted");
            event
        });
    }
    while let Some(event) = asking.join_next().await {
        assert_eq!(event.expect("no panic"), before + 1);
    }
}

/// Asks for a deletion twice with a key; between them the thing is there again.
macro_rules! deleted_once {
    ($client:expr, $method:ident, $request:expr, $again:expr) => {{
        let request = $request;
        let first = $client
            .$method(request.clone())
            .await
            .expect("deleted")
            .into_inner();
        $again.await;
        let again = $client
            .$method(request.clone())
            .await
            .expect("deleted before")
            .into_inner();
        assert_eq!(first, again);
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_with_a_key_and_made_again_stays() {
    let (server, _dir) = Server::with_machine().await;
    let mut client = server.client().await;
    let idempotency_key = || KEY.to_owned();
    let secret = || SetSecretRequest {
        name: "PW".into(),
        value: "correct horse".into(),
        ..SetSecretRequest::default()
    };
    let names = "version: \"1\"\nname: names\ntasks:\n  - {name: t, worker: node1, actions: [{name: a, image: cexec, command: ['${{ \
                 secrets.PW }}']}]}\n";
    client.set_secret(secret()).await.expect("a secret");
    server.put(names).await.expect("template");
    let request = DeleteSecretRequest {
        name: "PW".into(),
        idempotency_key: "secret".into(),
        ..DeleteSecretRequest::default()
    };
    let mut other = server.client().await;
    deleted_once!(client, delete_secret, request, async {
        other.set_secret(secret()).await.expect("a secret");
    });
    let left = client.list_secrets(ListSecretsRequest::default()).await;
    assert_eq!(left.expect("secrets").into_inner().secrets.len(), 1);

    let request = DeleteTemplateRequest {
        name_or_id: "two".into(),
        idempotency_key: "template".into(),
        ..DeleteTemplateRequest::default()
    };
    deleted_once!(client, delete_template, request, async {
        server.put(TWO_ACTIONS).await.expect("template");
    });
    let request = DeleteMachineRequest {
        name_or_mac: "node1".into(),
        idempotency_key: "machine".into(),
    };
    deleted_once!(client, delete_machine, request, async {
        server.apply(MACHINE).await.expect("machine");
    });
    let of_machine = GetMachineRequest {
        name_or_mac: "node1".into(),
    };
    client.get_machine(of_machine).await.expect("it is there");
    let create = CreateNamespaceRequest {
        name: "blue".into(),
        idempotency_key: idempotency_key(),
    };
    let made = client
        .create_namespace(create.clone())
        .await
        .expect("made")
        .into_inner();
    let again = client
        .create_namespace(create.clone())
        .await
        .expect("made")
        .into_inner();
    assert_eq!(made, again);
    let request = DeleteNamespaceRequest {
        name: "blue".into(),
        idempotency_key: "namespace".into(),
    };
    deleted_once!(client, delete_namespace, request, server.namespace("blue"));
    server.person("ann", &[], "viewer").await;
    let request = DeleteTokenRequest {
        name: "ann".into(),
        idempotency_key: "token".into(),
    };
    deleted_once!(client, delete_token, request, async {
        server.person("ann", &[], "operator").await;
    });
    let ops = || CreateWebhookRequest {
        name: "ops".into(),
        url: "http://127.0.0.1:9/".into(),
        on: vec!["ended".into()],
        ..CreateWebhookRequest::default()
    };
    client.create_webhook(ops()).await.expect("a webhook");
    let request = DeleteWebhookRequest {
        name: "ops".into(),
        idempotency_key: "webhook".into(),
        ..DeleteWebhookRequest::default()
    };
    deleted_once!(client, delete_webhook, request, async {
        other.create_webhook(ops()).await.expect("a webhook");
    });
    an_image(&server).await;
    let request = DeleteImageRequest {
        name: "tools/flash:v1".into(),
        idempotency_key: "image".into(),
    };
    deleted_once!(client, delete_image, request, an_image(&server));
    let id = server.create_of(LONG).await.id;
    server.cancel(&id, "").await.expect("cancelled");
    let request = DeleteWorkflowRequest {
        id: id.clone(),
        idempotency_key: "workflow".into(),
    };
    deleted_once!(client, delete_workflow, request, std::future::ready(()));
    // Without a key it is as it was: there is none.
    let said = server.delete(&id).await.expect_err("it is gone");
    assert_eq!(said.code(), Code::NotFound);
    // A key that was used for a deletion is none for a command, and the other way round.
    let said = client
        .pause_workflow(pause(&id, "workflow"))
        .await
        .expect_err("refused");
    assert!(
        said.message().contains("something else, DeleteWorkflow"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_an_archived_workflow_is_known() {
    let kept = Kept::new();
    let server = kept.server(Duration::ZERO).await;
    let mut client = server.client().await;
    let id = server.create_of(LONG).await.id;
    let label = |value: &str, key: &str| LabelWorkflowRequest {
        id: id.clone(),
        set: [("owner".to_owned(), value.to_owned())].into(),
        idempotency_key: key.into(),
        ..LabelWorkflowRequest::default()
    };
    last_event(client.label_workflow(label("ann", "first")).await);
    server.cancel(&id, "").await.expect("cancelled");
    kept.is_archived(&id).await;
    // It has that label: nothing is to be done, and that is kept.
    let event = last_event(client.label_workflow(label("ann", "second")).await);
    kept.is_archived(&id).await;
    last_event(client.label_workflow(label("bob", "third")).await);
    kept.is_archived(&id).await;
    for key in ["first", "second"] {
        let again = client
            .label_workflow(label("ann", key))
            .await
            .expect("done before");
        let again = again.into_inner();
        assert_eq!(
            (again.labels["owner"].as_str(), again.last_event),
            ("bob", event + 1),
            "{key}"
        );
    }
    server.stop().await;
}
