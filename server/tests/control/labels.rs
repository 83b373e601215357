//! Labels: where they come from, how workflows and machines are found by them, who sees them.

use std::collections::HashMap;
use std::time::Duration;

use proto::v1::{
    CreateWorkflowRequest, LabelWorkflowRequest, ListMachinesRequest, ListWorkflowsRequest,
    PutTemplateRequest, Workflow,
};
use tonic::{Code, Status};

use crate::archive::{Kept, ended};
use crate::harness::*;

/// Of version 1: it has labels of its own, and waits for a person.
const ASKS: &str = "version: '1'\nname: asks\nlabels: {team: red, tier: web}\ntasks: [{name: go, approve: {message: go on?}}]\n";

fn labels(text: &str) -> HashMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// In order of their keys.
fn shown(labels: &HashMap<String, String>) -> String {
    let mut all: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    all.sort();
    all.join(",")
}

async fn make(server: &Server, text: &str, given: &str) -> Result<Workflow, Status> {
    let request = CreateWorkflowRequest {
        text: text.into(),
        labels: labels(given),
        ..CreateWorkflowRequest::default()
    };
    server.make(request).await
}

/// `change`: labels that are set, and keys that go, with a dash behind them.
async fn label(server: &Server, id: &str, change: &str) -> Result<Workflow, Status> {
    let gone = change.split(',').filter_map(|one| one.strip_suffix('-'));
    let request = LabelWorkflowRequest {
        id: id.into(),
        set: labels(change).into_iter().collect(),
        remove: gone.map(str::to_owned).collect(),
        ..LabelWorkflowRequest::default()
    };
    Ok(server.client().await.label_workflow(request).await?.into_inner())
}

async fn listed(server: &Server, request: ListWorkflowsRequest) -> Result<Vec<String>, Status> {
    let answer = server.client().await.list_workflows(request).await?;
    Ok(answer
        .into_inner()
        .workflows
        .into_iter()
        .map(|one| one.id)
        .collect())
}

async fn found(server: &Server, selector: &str) -> Vec<String> {
    let request = ListWorkflowsRequest {
        selector: selector.into(),
        ..ListWorkflowsRequest::default()
    };
    listed(server, request).await.expect(selector)
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_the_templates_then_the_objects_then_those_that_are_given() {
    let (server, _dir) = Server::with_machine().await;
    let workflow = make(&server, ASKS, "tier=db,owner=ann").await.expect("workflow");
    assert_eq!(shown(&workflow.labels), "owner=ann,team=red,tier=db");
    let object = |kind: &str, meta: &str, spec: &str| {
        format!("apiVersion: tinkerbell.org/v1alpha1\nkind: {kind}\nmetadata: {{{meta}}}\nspec:\n{spec}\n")
    };
    let indented: String = ASKS.lines().map(|line| format!("    {line}\n")).collect();
    let template = object(
        "Template",
        "name: asks, labels: {team: blue, app.kubernetes.io/name: installer}",
        &format!("  data: |\n{indented}"),
    );
    let workflow = object(
        "Workflow",
        "name: w, labels: {tier: cache, rack: r7}",
        "  templateRef: asks",
    );
    let both = format!("{template}---\n{workflow}");
    let made = make(&server, &both, "rack=r8").await.expect("workflow");
    let want = "app.kubernetes.io/name=installer,rack=r8,team=red,tier=cache";
    assert_eq!(shown(&made.labels), want);
    // A template that is stored keeps the labels of its object.
    server.put(&template).await.expect("template");
    let made = make(&server, &workflow, "").await.expect("workflow");
    assert_eq!(shown(&made.labels), want.replace("r8", "r7"));
    // Other labels are another version of it.
    let request = PutTemplateRequest {
        text: template.replace("installer", "other"),
        ..PutTemplateRequest::default()
    };
    let put = server
        .client()
        .await
        .put_template(request)
        .await
        .expect("template");
    assert_eq!(put.into_inner().version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_out_of_bounds_are_refused_wherever_they_are_given() {
    let (server, _dir) = Server::with_machine().await;
    for (given, said) in [
        ("a/b/c=1", "bad key of a label \"a/b/c\""),
        (
            "mac=52:54:00:77:00:0b",
            "bad value of the label \"mac\", \"52:54:00:77:00:0b\"",
        ),
    ] {
        let status = make(&server, ASKS, given).await.expect_err(given);
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(said), "{status}");
    }
    let fifteen: Vec<String> = (10..25).map(|number| format!("k{number}=v")).collect();
    let status = make(&server, ASKS, &fifteen.join(","))
        .await
        .expect_err("seventeen");
    assert!(status.message().contains("17 labels are too many"), "{status}");
    let status = make(&server, &ASKS.replace("red", "'a b'"), "")
        .await
        .expect_err("a bad value");
    assert!(status.message().contains("line 3"), "{status}");
    let id = make(&server, ASKS, "").await.expect("workflow").id;
    let status = label(&server, &id, "a b=1").await.expect_err("a bad key");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let status = label(&server, &id, &format!("{},more=v", fifteen.join(",")))
        .await
        .expect_err("too many");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let status = label(&server, &id, "a=1,a-").await.expect_err("both");
    assert!(
        status.message().contains("is to be set and to be taken away"),
        "{status}"
    );
    assert_eq!(
        server
            .history(&id)
            .await
            .iter()
            .filter(|event| event.kind == "labelled")
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_are_found_by_their_labels_page_by_page() {
    let (server, _dir) = Server::with_machine().await;
    let mut ids = Vec::new();
    for number in 0..7 {
        let given = format!(
            "n=v{},even={}",
            number % 3,
            if number % 2 == 0 { "yes" } else { "" }
        );
        ids.push(make(&server, ASKS, &given).await.expect("workflow").id);
    }
    let none = make(
        &server,
        "version: '1'\nname: bare\ntasks: [{name: go, approve: {message: go on?}}]\n",
        "",
    );
    let none = none.await.expect("workflow").id;
    let of =
        |numbers: &[usize]| -> Vec<String> { numbers.iter().map(|number| ids[*number].clone()).collect() };
    assert_eq!(found(&server, "n=v0").await, of(&[0, 3, 6]));
    assert_eq!(found(&server, "n=v0,even=yes").await, of(&[0, 6]));
    assert_eq!(found(&server, "n in (v0,v2),even!=yes").await, of(&[3, 5]));
    assert_eq!(found(&server, "even=").await, of(&[1, 3, 5]));
    assert_eq!(found(&server, "n,even=yes").await, of(&[0, 2, 4, 6]));
    assert_eq!(found(&server, "n").await, ids);
    assert_eq!(found(&server, "!n").await, std::slice::from_ref(&none));
    assert_eq!(found(&server, "n!=v0,n!=v1,team").await, of(&[2, 5]));
    assert_eq!(found(&server, "name=bare").await, std::slice::from_ref(&none));
    assert_eq!(
        found(&server, "n == 'v1' || name == 'bare'").await,
        [of(&[1, 4]), vec![none]].concat()
    );
    assert!(found(&server, "n=v9").await.is_empty());
    for selector in [
        "n in (v0,v1)",
        "n",
        "n!=v2,team=red",
        "n != 'v2' && team == 'red'",
    ] {
        let mut pages = Vec::new();
        let mut after = String::new();
        loop {
            let request = ListWorkflowsRequest {
                selector: selector.into(),
                limit: 2,
                after,
                ..ListWorkflowsRequest::default()
            };
            let answer = server
                .client()
                .await
                .list_workflows(request)
                .await
                .expect("page")
                .into_inner();
            pages.push(answer.workflows.len());
            let shown = answer.workflows.iter().map(|one| one.id.clone());
            assert!(shown.into_iter().all(|id| ids.contains(&id)));
            after = answer.next;
            if after.is_empty() {
                break;
            }
        }
        let count = if selector == "n" { 7 } else { 5 };
        assert_eq!(pages.iter().sum::<usize>(), count, "{selector}: {pages:?}");
    }
    label(&server, &ids[0], "n=v9,even-").await.expect("labelled");
    assert_eq!(found(&server, "n=v9").await, of(&[0]));
    assert_eq!(found(&server, "n=v0").await, of(&[3, 6]));
    assert_eq!(found(&server, "even=yes").await, of(&[2, 4, 6]));
    let request = ListWorkflowsRequest {
        selector: "int(n) > 1".into(),
        ..ListWorkflowsRequest::default()
    };
    let status = listed(&server, request.clone()).await.expect_err("no number");
    assert!(status.message().contains("is no whole number"), "{status}");
    for (bad, said) in [
        ("n=a=b", "a selector is labels, such as rack=r7"),
        ("(n)", "true or false"),
    ] {
        let selector = bad.into();
        let status = listed(
            &server,
            ListWorkflowsRequest {
                selector,
                ..request.clone()
            },
        )
        .await;
        let status = status.expect_err(bad);
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(said), "{status}");
    }
    // A deleted one is found by nothing.
    server.cancel(&ids[3], "enough").await.expect("cancelled");
    server.delete(&ids[3]).await.expect("deleted");
    assert_eq!(found(&server, "n=v0").await, of(&[6]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_workflow_is_found_and_labelled_as_before() {
    let kept = Kept::new();
    let server = kept.server(Duration::ZERO).await;
    let id = ended(&server, failed(), "FAILED").await;
    label(&server, &id, "reviewed=no,rack=r7")
        .await
        .expect("labelled");
    kept.is_archived(&id).await;
    let rows = || {
        let rows = kept.keys(&id);
        rows.into_iter()
            .filter(|key| key.starts_with("label/"))
            .collect::<Vec<_>>()
    };
    let want = |reviewed: &str| {
        [
            format!("label/default/rack/r7/{id}"),
            format!("label/default/reviewed/{reviewed}/{id}"),
        ]
    };
    assert_eq!(rows(), want("no"));
    assert_eq!(found(&server, "rack=r7").await, std::slice::from_ref(&id));
    let same = label(&server, &id, "reviewed=no").await.expect("nothing changes");
    assert_eq!(same.state, "FAILED");
    assert!(
        kept.keys(&id).contains(&format!("archived/{id}")),
        "nothing was brought back"
    );
    let labelled = label(&server, &id, "reviewed=yes").await.expect("labelled");
    assert_eq!(shown(&labelled.labels), "rack=r7,reviewed=yes");
    assert_eq!(labelled.state, "FAILED");
    kept.is_archived(&id).await;
    assert_eq!(rows(), want("yes"));
    assert_eq!(
        found(&server, "reviewed=yes,rack").await,
        std::slice::from_ref(&id)
    );
    assert!(found(&server, "reviewed=no").await.is_empty());
    let unfinished = ListWorkflowsRequest {
        selector: "rack=r7".into(),
        unfinished: true,
        ..ListWorkflowsRequest::default()
    };
    assert!(listed(&server, unfinished).await.expect("list").is_empty());
    let of_machine = |selector: &str| ListWorkflowsRequest {
        selector: selector.into(),
        machine: "node1".into(),
        ..ListWorkflowsRequest::default()
    };
    assert_eq!(
        listed(&server, of_machine("rack=r7")).await.expect("list"),
        std::slice::from_ref(&id)
    );
    assert!(
        listed(&server, of_machine("rack=r8"))
            .await
            .expect("list")
            .is_empty()
    );
    server.delete(&id).await.expect("deleted");
    assert!(kept.keys(&id).is_empty(), "{:?}", kept.keys(&id));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_labelled_it_is_the_tokens_and_actions_see_what_it_has_then() {
    let (server, _dir) = Server::with_machine().await;
    let request = CreateWorkflowRequest {
        template: "two".into(),
        devices: [("device_1".to_owned(), MAC.to_owned())].into(),
        labels: labels("change=4711"),
        ..CreateWorkflowRequest::default()
    };
    let id = server.make(request).await.expect("workflow").id;
    let mut bob = server.person("bob", &[], "operator").await;
    let request = LabelWorkflowRequest {
        id: id.clone(),
        set: labels("owner=ann").into_iter().collect(),
        remove: vec!["absent".into()],
        ..LabelWorkflowRequest::default()
    };
    bob.label_workflow(request.clone()).await.expect("labelled");
    let event = server.history(&id).await.pop().expect("an event");
    assert_eq!(
        (event.kind.as_str(), event.message.as_str()),
        ("labelled", "labelled by bob: owner=ann")
    );
    let mut viewer = server.person("vera", &[], "viewer").await;
    let status = viewer.label_workflow(request).await.expect_err("a viewer");
    assert_eq!(status.code(), Code::PermissionDenied);
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    assert_eq!(shown(&run.labels), "change=4711,owner=ann");
    assert_eq!(run.namespace, "default");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sub_workflow_has_its_parents_labels_over_those_of_its_template() {
    let (server, _dir) = Server::with_machine().await;
    server.put(ASKS).await.expect("template");
    let text = "version: '1'\nname: top\ntasks: [{name: sub, workflow: asks}]\n";
    let id = make(&server, text, "tier=db,owner=ann")
        .await
        .expect("workflow")
        .id;
    let top = server
        .until(&id, |top| {
            top.tasks[0]
                .executions
                .first()
                .is_some_and(|one| !one.child.is_empty())
        })
        .await;
    let child = top.tasks[0].executions[0].child.clone();
    until_found(&server, "owner=ann", &[&id, &child]).await;
    assert_eq!(
        shown(&server.workflow(&child).await.labels),
        "owner=ann,team=red,tier=db"
    );
    // What comes later is of one of them.
    label(&server, &id, "owner=bob").await.expect("labelled");
    assert_eq!(found(&server, "owner=ann").await, [child]);
}

async fn until_found(server: &Server, selector: &str, want: &[&str]) {
    let deadline = tokio::time::Instant::now() + WITHIN;
    loop {
        let found = found(server, selector).await;
        if found == want {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{selector} finds {found:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_listed_by_the_same_selectors() {
    let (server, _dir) = Server::with_machine().await;
    let more = "machine: node2\nmac: 52:54:00:77:00:0c\nlabels: {rack: r7, gpu: a}\n---\nmachine: node3\nmac: \
                52:54:00:77:00:0d\nlabels: {rack: r8}\n";
    server.apply(more).await.expect("machines");
    for (selector, want) in [
        ("", vec!["node1", "node2", "node3"]),
        ("rack=r7", vec!["node2"]),
        ("rack!=r7", vec!["node1", "node3"]),
        ("rack,!gpu", vec!["node3"]),
        ("name=node1", vec!["node1"]),
        ("rack == 'r8' || gpu != ''", vec!["node2", "node3"]),
    ] {
        let request = ListMachinesRequest {
            selector: selector.into(),
            ..ListMachinesRequest::default()
        };
        let answer = server
            .client()
            .await
            .list_machines(request)
            .await
            .expect(selector);
        let names: Vec<String> = answer
            .into_inner()
            .machines
            .into_iter()
            .map(|one| one.name)
            .collect();
        assert_eq!(names, want, "{selector}");
    }
}
