//! Lists of workflows: which are found, in which order, by how many looks; names of machines, and how far actions are.

use std::time::Duration;

use proto::v1::{
    CreateWorkflowRequest, ListWorkflowsRequest, ListWorkflowsResponse, LogLine, Progress, Workflow,
    WorkflowLogsRequest, agent_message,
};
use tonic::{Code, Status};

use crate::archive::{Kept, ended};
use crate::harness::*;

/// Asks somebody of `ops`, or anybody.
const ASKS: &str = "version: '1'\nname: asks\ntasks: [{name: go, approve: {message: go on?, by: [ops]}}]\n";
const ASKS_ANYBODY: &str = "version: '1'\nname: open\ntasks: [{name: go, approve: {message: go on?}}]\n";
/// Its worker is an input.
const GIVEN: &str = "version: '1'\nname: given\ninputs: {where: {type: string}}\ntasks:\n  - name: look\n    worker: '${{ inputs.where \
                     }}'\n    actions: [{name: a, image: cexec, timeout: 60}]\n";

async fn asked(server: &Server, request: ListWorkflowsRequest) -> Result<ListWorkflowsResponse, Status> {
    let answer = server.client().await.list_workflows(request).await?;
    Ok(answer.into_inner())
}

async fn ids(server: &Server, request: ListWorkflowsRequest) -> Vec<String> {
    let answer = asked(server, request).await.expect("a list");
    answer.workflows.into_iter().map(|one| one.id).collect()
}

async fn make(server: &Server, text: &str, name: &str) -> Workflow {
    let request = CreateWorkflowRequest {
        text: text.into(),
        name: name.into(),
        ..CreateWorkflowRequest::default()
    };
    server.make(request).await.expect("workflow")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_come_first_page_by_page_archived_or_not() {
    let kept = Kept::new();
    let server = kept.server(Duration::ZERO).await;
    let mut made = Vec::new();
    for _ in 0..3 {
        let id = ended(&server, leaving(), "SUCCESS").await;
        kept.is_archived(&id).await;
        made.push(id);
        made.push(make(&server, ASKS, "").await.id);
    }
    made.reverse();
    let newest = || ListWorkflowsRequest {
        newest_first: true,
        ..ListWorkflowsRequest::default()
    };
    assert_eq!(ids(&server, newest()).await, made);
    let mut request = ListWorkflowsRequest { limit: 2, ..newest() };
    let mut listed = Vec::new();
    loop {
        let page = asked(&server, request.clone()).await.expect("a page");
        assert!(page.workflows.len() <= 2);
        listed.extend(page.workflows.into_iter().map(|one| one.id));
        request.after = page.next;
        if request.after.is_empty() {
            break;
        }
    }
    assert_eq!(listed, made);
    let of_machine = ListWorkflowsRequest {
        machine: "node1".into(),
        limit: 2,
        ..newest()
    };
    assert_eq!(ids(&server, of_machine).await, [made[1].clone(), made[3].clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_are_found_by_state_template_time_name_and_the_beginning_of_their_ids() {
    let kept = Kept::new();
    let server = kept.server(Duration::ZERO).await;
    let done = ended(&server, leaving(), "SUCCESS").await;
    kept.is_archived(&done).await;
    let waits = make(&server, ASKS, "mine").await;
    let cancelled = make(&server, ASKS, "").await.id;
    server.cancel(&cancelled, "").await.expect("cancelled");
    let any = ListWorkflowsRequest::default;
    let of_states = |states: &[&str]| ListWorkflowsRequest {
        states: states.iter().map(ToString::to_string).collect(),
        ..any()
    };
    assert_eq!(ids(&server, of_states(&["success"])).await, [done.as_str()]);
    assert_eq!(
        ids(&server, of_states(&["CANCELLED", "SUCCESS"])).await,
        [done.clone(), cancelled.clone()]
    );
    assert_eq!(
        ids(&server, of_states(&["PENDING", "RUNNING"])).await,
        [waits.id.as_str()]
    );
    let status = asked(&server, of_states(&["runing"]))
        .await
        .expect_err("no state");
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::InvalidArgument,
            "\"runing\" is no state of a workflow; did you mean \"RUNNING\"?"
        )
    );
    let template = ListWorkflowsRequest {
        template: "two".into(),
        ..any()
    };
    assert_eq!(ids(&server, template).await, [done.as_str()]);
    let name = ListWorkflowsRequest {
        name: "mine".into(),
        ..any()
    };
    assert_eq!(ids(&server, name).await, [waits.id.as_str()]);
    let since = ListWorkflowsRequest {
        since: waits.created_at,
        ..any()
    };
    assert_eq!(ids(&server, since).await, [waits.id.clone(), cancelled.clone()]);
    let beginning = |id: &str| ListWorkflowsRequest {
        id_prefix: id.into(),
        newest_first: true,
        ..any()
    };
    assert_eq!(ids(&server, beginning(&done[..20])).await, [done.as_str()]);
    assert_eq!(
        ids(&server, beginning(&done[..4])).await,
        [cancelled, waits.id, done]
    );
    assert_eq!(ids(&server, beginning("ffff")).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_somebody_is_what_that_one_may_decide() {
    let (server, _dir) = Server::with_machine().await;
    let (of_ops, of_anybody) = (
        make(&server, ASKS, "").await.id,
        make(&server, ASKS_ANYBODY, "").await.id,
    );
    let decided = make(&server, ASKS_ANYBODY, "").await.id;
    server.cancel(&decided, "").await.expect("cancelled");
    server.create("two", MAC).await.expect("workflow");
    let waiting = || ListWorkflowsRequest {
        waiting: true,
        ..ListWorkflowsRequest::default()
    };
    assert_eq!(ids(&server, waiting()).await, [of_anybody.as_str()]);
    let mut ann = server.person("ann", &["ops"], "operator").await;
    let found = ann.list_workflows(waiting()).await.expect("a list").into_inner();
    let found: Vec<_> = found.workflows.into_iter().map(|one| one.id).collect();
    assert_eq!(found, [of_ops, of_anybody]);
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_have_their_names_and_inputs_their_values() {
    let kept = Kept::new();
    let server = kept.server(Duration::ZERO).await;
    server.apply(MACHINE).await.expect("machine");
    let request = CreateWorkflowRequest {
        text: GIVEN.into(),
        inputs_json: format!("{{\"where\": \"{MAC}\"}}"),
        ..CreateWorkflowRequest::default()
    };
    let id = server.make(request).await.expect("workflow").id;
    let place = |workflow: &Workflow| {
        let task = &workflow.tasks[0];
        (task.worker.clone(), task.machine.clone())
    };
    let there = (MAC.to_owned(), "node1".to_owned());
    let listed = || ListWorkflowsRequest::default();
    let found = asked(&server, listed()).await.expect("a list").workflows;
    assert_eq!(place(&found[0]), there);
    let shown = server.workflow(&id).await;
    assert_eq!(place(&shown), there);
    assert_eq!(shown.tasks[0].executions[0].machine, "node1");
    server.cancel(&id, "").await.expect("cancelled");
    kept.is_archived(&id).await;
    let found = asked(&server, listed()).await.expect("a list").workflows;
    assert_eq!(place(&found[0]), there, "archived");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_an_action_is_is_told_until_it_has_ended() {
    let (server, _dir) = Server::with_machine().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    agent.report(&run.attempt_id, started()).await;
    let progress = Progress {
        attempt_id: run.attempt_id.clone(),
        done_bytes: 5,
        total_bytes: 10,
        rate_bytes_per_s: 1,
        ..Progress::default()
    };
    agent.send(agent_message::Kind::Progress(progress)).await;
    let told = server.until(&id, |workflow| !workflow.progress.is_empty()).await;
    let one = &told.progress[0];
    assert_eq!(
        (
            one.task.as_str(),
            one.action.as_str(),
            one.done_bytes,
            one.total_bytes
        ),
        ("install", "write", 5, 10)
    );
    let listed = asked(&server, ListWorkflowsRequest::default())
        .await
        .expect("a list");
    assert_eq!(listed.workflows[0].progress, told.progress);
    let get = proto::v1::GetMachineRequest {
        name_or_mac: "node1".into(),
    };
    let machine = server
        .client()
        .await
        .get_machine(get.clone())
        .await
        .expect("machine");
    assert_eq!(machine.into_inner().progress.as_ref(), Some(one));
    agent.report(&run.attempt_id, failed()).await;
    let ended = server.reaches(&id, "FAILED").await;
    assert!(ended.progress.is_empty());
    let machine = server.client().await.get_machine(get).await.expect("machine");
    assert_eq!(machine.into_inner().progress, None);
}

async fn lines(server: &Server, request: WorkflowLogsRequest) -> Vec<LogLine> {
    use futures_util::TryStreamExt;
    let answer = server.client().await.workflow_logs(request).await.expect("a log");
    answer.into_inner().try_collect().await.expect("all of it")
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_found_by_task_machine_time_and_from_the_end() {
    let kept = Kept::new();
    let server = kept.server(Duration::ZERO).await;
    let before = prost_types::Timestamp::from(std::time::SystemTime::now());
    let id = ended(&server, leaving(), "SUCCESS").await;
    kept.is_archived(&id).await;
    let of = |change: fn(&mut WorkflowLogsRequest)| {
        let mut request = WorkflowLogsRequest {
            id: id.clone(),
            ..WorkflowLogsRequest::default()
        };
        change(&mut request);
        request
    };
    let texts = |lines: Vec<LogLine>| lines.into_iter().map(|line| line.text).collect::<Vec<_>>();
    let all = lines(&server, of(|_| ())).await;
    assert!(
        all.iter().all(|line| line.machine == "node1"
            && line.at.is_some_and(
                |at| (at.seconds, at.nanos) >= (before.seconds, before.nanos / 1_000_000 * 1_000_000)
            )),
        "{all:?}"
    );
    let all = texts(all);
    assert_eq!(all.len(), 3);
    assert_eq!(texts(lines(&server, of(|asked| asked.tail = 2)).await), all[1..]);
    assert_eq!(texts(lines(&server, of(|asked| asked.tail = 9)).await), all);
    assert_eq!(
        texts(lines(&server, of(|asked| asked.task = "install".into())).await),
        all
    );
    assert_eq!(
        texts(lines(&server, of(|asked| asked.task = "install[1]".into())).await),
        [""; 0]
    );
    assert_eq!(
        texts(lines(&server, of(|asked| asked.machine = "node1".into())).await),
        all
    );
    let ahead = |asked: &mut WorkflowLogsRequest| {
        let later = std::time::SystemTime::now() + Duration::from_secs(3600);
        asked.since = Some(later.into());
    };
    assert_eq!(texts(lines(&server, of(ahead)).await), [""; 0]);
    server
        .apply("machine: node2\nmac: 52:54:00:77:00:0c\n")
        .await
        .expect("machine");
    assert_eq!(
        texts(lines(&server, of(|asked| asked.machine = "node2".into())).await),
        [""; 0]
    );
    let request = of(|asked| asked.task = "instal".into());
    let status = server
        .client()
        .await
        .workflow_logs(request)
        .await
        .expect_err("no task");
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::NotFound,
            format!("workflow {id} has no task \"instal\": it has install").as_str()
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_misspells_a_name_is_told_the_nearest() {
    let (server, _dir) = Server::with_machine().await;
    let get = proto::v1::GetMachineRequest {
        name_or_mac: "nod1".into(),
    };
    let status = server
        .client()
        .await
        .get_machine(get)
        .await
        .expect_err("no machine");
    assert_eq!(
        status.message(),
        "no machine is named \"nod1\"; did you mean \"node1\"?"
    );
    let status = server.create("tw", MAC).await.expect_err("no template");
    assert_eq!(
        status.message(),
        "no template has name or id \"tw\"; did you mean \"two\"?"
    );
}

/// One answer looks at so many and says where it stopped: who goes on finds what lies behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_finds_nothing_near_says_where_to_go_on() {
    use coordinator::database::Batch;
    use store::Store;
    let kept = Kept::new();
    let server = kept.server(Duration::from_secs(3600)).await;
    let id = make(&server, ASKS, "first").await.id;
    let head = kept
        .store()
        .get(format!("workflow/{id}").as_bytes())
        .expect("read")
        .expect("a head");
    let head: serde_json::Value = serde_json::from_slice(&head.value).expect("JSON");
    let definition = kept.store().get(format!("workflow-definition/{id}").as_bytes());
    let definition: serde_json::Value =
        serde_json::from_slice(&definition.expect("read").expect("a definition").value).expect("JSON");
    for some in 0..150 {
        let mut batch = Batch::default();
        for n in some * 40..(some + 1) * 40 {
            // Made before it.
            let other = format!("00000000-0000-7000-8000-{n:012}");
            let mut head = head.clone();
            head["id"] = other.clone().into();
            head["name"] = "other".into();
            batch.put(format!("workflow/{other}"), &head);
            batch.put(format!("workflow-definition/{other}"), &definition);
        }
        kept.store().commit(&batch.into_commit()).expect("committed");
    }
    let mut request = ListWorkflowsRequest {
        name: "first".into(),
        ..ListWorkflowsRequest::default()
    };
    let page = asked(&server, request.clone()).await.expect("a page");
    assert_eq!((page.workflows.len(), page.next.is_empty()), (0, false));
    request.after = page.next;
    let page = asked(&server, request.clone()).await.expect("a page");
    assert_eq!((page.workflows.len(), page.next.as_str()), (1, ""));
    assert_eq!(page.workflows[0].id, id);
}
