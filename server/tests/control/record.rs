//! What the API says of a workflow beside its state: what it was made from, who meddled and why, and its stamps.

use proto::v1::{CreateWorkflowRequest, ListWorkflowsRequest};
use store::Digest;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_says_which_version_of_the_template_it_was_made_from() {
    let (server, _dir) = Server::with_machine().await;
    let first = server.create("two", MAC).await.expect("workflow");
    assert_eq!((first.template.as_str(), first.template_version), ("two", 1));
    let digest = |text: &str| Digest::of(text.as_bytes()).to_string().replace("sha256:", "");
    assert_eq!(first.template_sha256, digest(TWO_ACTIONS));
    let changed = format!("{TWO_ACTIONS}# changed\n");
    server.put(&changed).await.expect("template");
    let second = server.create("two", MAC).await.expect("workflow");
    assert_eq!(
        (second.template_version, &second.template_id),
        (2, &first.template_id)
    );
    assert_eq!(second.template_sha256, digest(&changed));
    // The first one is still of the first.
    let first = server.workflow(&first.id).await;
    assert_eq!(
        (first.template_version, first.template_sha256),
        (1, digest(TWO_ACTIONS))
    );
    // One of a text is of no stored one.
    let given = CreateWorkflowRequest {
        text: TWO_ACTIONS.into(),
        devices: [("device_1".to_owned(), MAC.to_owned())].into(),
        ..CreateWorkflowRequest::default()
    };
    let given = server.make(given).await.expect("workflow");
    assert_eq!((given.template_id.as_str(), given.template_version), ("", 0));
    assert_eq!(given.template_sha256, digest(TWO_ACTIONS));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_meddled_is_the_tokens_and_times_and_stamps_are_those_of_the_events() {
    let (server, _dir) = Server::with_machine().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let workflow = server.workflow(&id).await;
    assert_eq!(
        (workflow.paused, workflow.resumed, workflow.cancelled),
        (None, None, None)
    );
    server.pause(&id, "power work").await.expect("paused");
    server.resume(&id).await.expect("resumed");
    let workflow = server.cancel(&id, "wrong image").await.expect("cancelled");
    let history = server.history(&id).await;
    let at = |kind: &str| {
        history
            .iter()
            .find(|event| event.kind == kind)
            .and_then(|event| event.at)
    };
    for (asked, kind, reason) in [
        (&workflow.paused, "pause_asked", "power work"),
        (&workflow.resumed, "unpaused", ""),
        (&workflow.cancelled, "cancel_asked", "wrong image"),
    ] {
        let asked = asked.as_ref().expect(kind);
        assert_eq!((asked.by.as_str(), asked.reason.as_str()), ("admin", reason));
        assert_eq!(asked.at, at(kind), "{kind}");
    }
    let last = history.last().expect("events");
    assert_eq!((&workflow.stamp, &workflow.updated_at), (&last.stamp, &last.at));
    assert!(
        history.is_sorted_by(|one, next| one.stamp < next.stamp),
        "{history:?}"
    );
    // A list says the same of one that has ended.
    let listed = server
        .client()
        .await
        .list_workflows(ListWorkflowsRequest::default())
        .await;
    let listed = listed.expect("list").into_inner().workflows;
    assert_eq!(
        (&listed[0].cancelled, &listed[0].stamp),
        (&workflow.cancelled, &workflow.stamp)
    );
}
