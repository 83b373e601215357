//! Who may ask what: two sockets, tokens, roles, and names in events.

use std::time::Duration;

use access::{Pinned, Token};
use futures_util::TryStreamExt;
use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::control_service_client::ControlServiceClient;
use proto::v1::{
    CancelWorkflowRequest, CreateTokenRequest, CreateWorkflowRequest, DeleteTokenRequest, GetDataRequest,
    ListMachinesRequest, ListTokensRequest, PauseWorkflowRequest, ResumeWorkflowRequest,
    RetryWorkflowRequest, WhoAmIRequest, WorkflowEventsRequest,
};
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::harness::*;

/// The names of a service's calls, out of its definition.
pub(crate) fn calls(definition: &str) -> Vec<&str> {
    let lines = definition
        .lines()
        .filter_map(|line| line.trim().strip_prefix("rpc "));
    lines.filter_map(|line| line.split('(').next()).collect()
}

/// Of what every call of people's API answers on this channel.
async fn each_call(channel: Channel) -> Vec<(&'static str, Code)> {
    let mut answers = Vec::new();
    for call in calls(include_str!("../../../proto/proto/farrier/v1/control.proto")) {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.expect("a connection");
        let path: PathAndQuery = format!("/farrier.v1.ControlService/{call}")
            .parse()
            .expect("a path");
        let codec = ProstCodec::<WhoAmIRequest, WhoAmIRequest>::default();
        let request = tonic::Request::new(WhoAmIRequest {});
        // A call that answers in a stream is refused before the first message, as one without.
        let answer = client.unary(request, path, codec).await;
        answers.push((call, answer.expect_err("refused").code()));
    }
    answers
}

async fn pinned(server: &Server) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.api)).expect("an address");
    let connector = Pinned::new(server.token.pin, Duration::from_secs(5));
    endpoint
        .connect_with_connector(connector)
        .await
        .expect("connected")
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_no_call_of_the_api_does_anything() {
    let (server, _dir) = Server::with_machine().await;
    for (call, code) in each_call(pinned(&server).await).await {
        assert_eq!(code, Code::Unauthenticated, "{call}");
    }
    let mut other = server.token.clone();
    other.secret = access::Secret::new([8; access::SECRET_BYTES]);
    let status = server
        .client_with(&other)
        .list_machines(ListMachinesRequest::default())
        .await;
    let status = status.expect_err("refused");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("does not know the token"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stands_in_the_rack_does_not_drive_it() {
    let (server, _dir) = Server::with_machine().await;
    // With the best token there is, on the socket of agents.
    let plain = Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    let channel = plain.connect().await.expect("connected");
    for (call, code) in each_call(channel.clone()).await {
        assert_eq!(code, Code::Unimplemented, "{call}");
    }
    let bearer = access::Bearer::new(&server.token.secret);
    let mut client = ControlServiceClient::with_interceptor(channel, bearer);
    let status = client.list_machines(ListMachinesRequest::default()).await;
    assert_eq!(status.expect_err("refused").code(), Code::Unimplemented);
    // And what agents ask is nothing for the socket of people.
    let mut agent = AgentServiceClient::new(pinned(&server).await);
    let status = agent.get_data(GetDataRequest::default()).await;
    assert_eq!(status.expect_err("refused").code(), Code::Unimplemented);
    // Nor does that one speak without TLS.
    let plain = Endpoint::from_shared(format!("http://{}", server.api)).expect("an address");
    if let Ok(channel) = plain.connect().await {
        let mut client = ControlServiceClient::new(channel);
        client
            .list_machines(ListMachinesRequest::default())
            .await
            .expect_err("not understood");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_its_own_and_no_more() {
    let (server, _dir) = Server::with_machine().await;
    let mut viewer = server.person("vic", &[], "viewer").await;
    let mut operator = server.person("olga", &["ops"], "operator").await;
    let me = operator
        .who_am_i(WhoAmIRequest {})
        .await
        .expect("known")
        .into_inner();
    assert_eq!((me.name.as_str(), me.role.as_str()), ("olga", "operator"));
    assert_eq!(
        (me.groups, me.created_by.as_str()),
        (vec!["ops".to_owned()], "admin")
    );

    let seen = viewer.list_machines(ListMachinesRequest::default()).await;
    assert_eq!(seen.expect("allowed").into_inner().machines.len(), 1);
    let pause = PauseWorkflowRequest::default();
    let status = viewer.pause_workflow(pause).await.expect_err("refused");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(
        status.message(),
        "PauseWorkflow is for tokens of role operator, and that of vic is of role viewer: ask an admin for another (`farrier token \
         create NAME --role operator`)"
    );
    let mine = CreateTokenRequest {
        name: "mine".into(),
        groups: vec!["board".into()],
        role: "admin".into(),
        expires_in_s: 0,
        ..CreateTokenRequest::default()
    };
    let status = operator.create_token(mine.clone()).await.expect_err("refused");
    assert_eq!(status.code(), Code::PermissionDenied);
    let status = operator.list_tokens(ListTokensRequest {}).await;
    assert_eq!(status.expect_err("refused").code(), Code::PermissionDenied);
    server.client().await.create_token(mine).await.expect("allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_deleted_or_expired_is_good_no_longer() {
    let (server, _dir) = Server::with_machine().await;
    let mut admin = server.client().await;
    let mut gone = server.person("gone", &[], "viewer").await;
    gone.who_am_i(WhoAmIRequest {}).await.expect("known");
    let request = DeleteTokenRequest {
        name: "gone".into(),
        ..DeleteTokenRequest::default()
    };
    admin.delete_token(request.clone()).await.expect("deleted");
    let status = gone.who_am_i(WhoAmIRequest {}).await.expect_err("refused");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(
        admin.delete_token(request).await.expect_err("gone").code(),
        Code::NotFound
    );

    let short = CreateTokenRequest {
        name: "short".into(),
        role: "viewer".into(),
        expires_in_s: 1,
        ..CreateTokenRequest::default()
    };
    let made = admin.create_token(short).await.expect("made").into_inner();
    let token: Token = made.text.parse().expect("a token");
    let mut client = server.client_with(&token);
    let within = std::time::Instant::now() + WITHIN;
    let status = loop {
        match client.who_am_i(WhoAmIRequest {}).await {
            Ok(_) => assert!(std::time::Instant::now() < within, "it never expires"),
            Err(status) => break status,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(
        status.message().contains("the token of short has expired"),
        "{status}"
    );

    let status = admin
        .delete_token(DeleteTokenRequest {
            name: "admin".into(),
            ..DeleteTokenRequest::default()
        })
        .await;
    assert_eq!(status.expect_err("the last").code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_do_stands_in_the_events_with_their_names() {
    let (server, _dir) = Server::with_machine().await;
    let mut ann = server.person("ann", &[], "operator").await;
    let mut bob = server.person("bob", &[], "operator").await;
    let text = "version: '1'\nname: w\ntasks: [{name: t, wait: 1d}]\n";
    let request = CreateWorkflowRequest {
        text: text.into(),
        ..CreateWorkflowRequest::default()
    };
    let made = ann.create_workflow(request).await.expect("made").into_inner();
    let id = made.workflow.expect("one").id;
    let pause = PauseWorkflowRequest {
        id: id.clone(),
        reason: "lunch".into(),
        ..PauseWorkflowRequest::default()
    };
    bob.pause_workflow(pause).await.expect("paused");
    let resume = ResumeWorkflowRequest {
        id: id.clone(),
        ..ResumeWorkflowRequest::default()
    };
    ann.resume_workflow(resume).await.expect("resumed");
    let cancel = CancelWorkflowRequest {
        id: id.clone(),
        reason: String::new(),
        ..CancelWorkflowRequest::default()
    };
    let cancelled = bob.cancel_workflow(cancel).await.expect("cancelled").into_inner();
    assert_eq!(cancelled.message, "cancelled by bob");
    let retry = RetryWorkflowRequest {
        id: id.clone(),
        ..RetryWorkflowRequest::default()
    };
    ann.retry_workflow(retry).await.expect("retried");
    let request = WorkflowEventsRequest {
        id,
        from: 0,
        follow: false,
    };
    let events = ann.workflow_events(request).await.expect("events").into_inner();
    let events: Vec<_> = events.try_collect().await.expect("events");
    let said: Vec<String> = events
        .iter()
        .filter(|event| event.message.contains("ann") || event.message.contains("bob"))
        .map(|event| format!("{}: {}", event.kind, event.message))
        .collect();
    assert_eq!(
        said,
        [
            "created: w by ann",
            "pause_asked: pause asked by bob: lunch",
            "unpaused: resumed by ann",
            "cancel_asked: cancel asked by bob: cancelled by bob",
            "ended: CANCELLED: cancelled by bob",
            "run_opened: run 2 opened by ann",
        ]
    );
}
