//! Namespaces: what is in one is, for whoever does not reach it, what does not exist.

use futures_util::TryStreamExt;
use proto::v1::*;
use tempfile::TempDir;
use tonic::{Code, Response, Status};

use crate::harness::*;
use crate::tokens::calls;

/// An id that no workflow has.
const NOBODYS: &str = "01900000-0000-7000-8000-000000000000";
const OTHER: &str = "machine: other1\nnamespace: other\nmac: 52:54:00:77:00:0c\naddress: 10.77.0.12/24\n";
const OTHER_MAC: &str = "52:54:00:77:00:0c";
/// A person is waited for.
const ASKS: &str =
    "version: '1'\nname: asks\nlabels: {team: red}\ntasks: [{name: go, approve: {message: go on?}}]\n";

/// A server with things in `default`, and a namespace `other` with a machine.
struct World {
    server: Server,
    /// Of `default`; it waits for approval.
    workflow: String,
    _dir: TempDir,
}

impl World {
    async fn new() -> Self {
        let (server, dir) = Server::with_machine().await;
        server.namespace("other").await;
        server.apply(OTHER).await.expect("machine");
        let mut admin = server.client().await;
        let secret = SetSecretRequest {
            name: "PW".into(),
            value: "correct horse".into(),
            ..SetSecretRequest::default()
        };
        admin.set_secret(secret).await.expect("secret");
        let webhook = CreateWebhookRequest {
            name: "ops".into(),
            url: "http://127.0.0.1:9/".into(),
            on: vec!["ended".into()],
            ..CreateWebhookRequest::default()
        };
        admin.create_webhook(webhook).await.expect("webhook");
        let workflow = server.create_of(ASKS).await.id;
        Self {
            server,
            workflow,
            _dir: dir,
        }
    }

    /// What there is to see of `default`, by an admin.
    async fn seen(&self) -> String {
        let mut admin = self.server.client().await;
        let workflow = self.server.workflow(&self.workflow).await;
        let machines = admin
            .list_machines(ListMachinesRequest::default())
            .await
            .expect("machines");
        let templates = admin
            .list_templates(ListTemplatesRequest::default())
            .await
            .expect("templates");
        let secrets = admin
            .list_secrets(ListSecretsRequest::default())
            .await
            .expect("secrets");
        let workflows = admin
            .list_workflows(ListWorkflowsRequest::default())
            .await
            .expect("workflows");
        let (machines, templates) = (machines.into_inner(), templates.into_inner());
        let (secrets, workflows) = (secrets.into_inner(), workflows.into_inner());
        format!("{workflow:?} {machines:?} {templates:?} {secrets:?} {workflows:?}")
    }
}

/// What a call is refused with, of a thing that is out of reach and of one that does not exist: the same.
#[track_caller]
fn same<T>(
    call: &str,
    there: (&str, Result<Response<T>, Status>),
    nowhere: (&str, Result<Response<T>, Status>),
) {
    let (there_is, there) = (there.0, there.1.err());
    let (nowhere_is, nowhere) = (nowhere.0, nowhere.1.err());
    let (Some(there), Some(nowhere)) = (there, nowhere) else {
        panic!("{call} is answered");
    };
    assert_eq!(there.code(), Code::NotFound, "{call}: {there}");
    assert_eq!(nowhere.code(), Code::NotFound, "{call}: {nowhere}");
    assert_eq!(
        there.message().replace(there_is, "IT"),
        nowhere.message().replace(nowhere_is, "IT"),
        "{call}"
    );
}

#[track_caller]
fn denied<T>(call: &str, answer: Result<Response<T>, Status>) {
    let status = answer.err().unwrap_or_else(|| panic!("{call} is answered"));
    assert_eq!(status.code(), Code::PermissionDenied, "{call}: {status}");
    assert!(
        status.message().contains("admins of all namespaces"),
        "{call}: {status}"
    );
}

#[track_caller]
fn of_all<T>(call: &str, answer: Result<Response<T>, Status>) {
    let status = answer.err().unwrap_or_else(|| panic!("{call} is answered"));
    assert_eq!(status.code(), Code::PermissionDenied, "{call}: {status}");
    assert!(
        status.message().contains("for machines of all namespaces"),
        "{call}: {status}"
    );
}

/// Nothing of `default` stands in an answer.
#[track_caller]
fn shows_nothing<T: std::fmt::Debug>(call: &str, answer: Result<Response<T>, Status>, workflow: &str) {
    let shown = format!("{:?}", answer.expect(call).into_inner());
    for word in ["node1", MAC, "\"two\"", "PW", workflow, "asks"] {
        assert!(!shown.contains(word), "{call} shows {word}: {shown}");
    }
}

/// Asks the same of the workflow that is out of reach and of one that does not exist.
macro_rules! of_workflow {
    ($call:expr, $eve:expr, $world:expr, $method:ident, $request:ident { $($field:ident: $value:expr),* }) => {{
        let ask = |id: &str| $request { id: id.to_owned(), $($field: $value,)* ..$request::default() };
        let there = $eve.$method(ask(&$world.workflow)).await;
        let nowhere = $eve.$method(ask(NOBODYS)).await;
        same($call, (&$world.workflow, there), (NOBODYS, nowhere));
    }};
}

/// Asks the same of a machine that is out of reach, by name and by MAC, and of one that does not exist.
macro_rules! of_machine {
    ($call:expr, $eve:expr, $method:ident, $request:ident) => {{
        let ask = |name: &str| $request {
            name_or_mac: name.to_owned(),
            ..$request::default()
        };
        for (is, is_not) in [("node1", "node9"), (MAC, "52:54:00:77:00:99")] {
            let there = $eve.$method(ask(is)).await;
            let nowhere = $eve.$method(ask(is_not)).await;
            same($call, (is, there), (is_not, nowhere));
        }
    }};
}

/// Asks for a thing in a namespace that is out of reach and in one that does not exist; then, in a namespace that is reached, for
/// a name that another namespace has and for one that nobody has.
macro_rules! of_named {
    ($call:expr, $eve:expr, $method:ident, $request:ident, $field:ident, $is:expr, $is_not:expr) => {{
        let ask = |name: &str, namespace: &str| $request {
            $field: name.to_owned(),
            namespace: namespace.to_owned(),
            ..$request::default()
        };
        in_namespaces!($call, $eve, $method, |namespace: &str| ask($is, namespace));
        let there = $eve.$method(ask($is, "other")).await;
        let nowhere = $eve.$method(ask($is_not, "other")).await;
        same($call, ($is, there), ($is_not, nowhere));
    }};
}

macro_rules! in_namespaces {
    ($call:expr, $eve:expr, $method:ident, $ask:expr) => {{
        let ask = $ask;
        let there = $eve.$method(ask("default")).await;
        let nowhere = $eve.$method(ask("missing")).await;
        same($call, ("default", there), ("missing", nowhere));
        // And where none is named.
        let unnamed = $eve.$method(ask("")).await.err().expect($call);
        assert_eq!(unnamed.code(), Code::NotFound, "{}", $call);
    }};
}

#[tokio::test(flavor = "multi_thread")]
#[allow(
    clippy::needless_update,
    reason = "requests of one field are made as the others are"
)]
async fn a_token_for_another_namespace_sees_and_changes_nothing_by_any_call() {
    let world = World::new().await;
    let before = world.seen().await;
    let mut eve = world.server.scoped("eve", "operator", &["other"]).await;
    let mut boss = world.server.scoped("boss", "admin", &["other"]).await;
    let workflow = world.workflow.as_str();
    let all = calls(include_str!("../../../proto/proto/farrier/v1/control.proto"));
    assert!(all.len() > 30, "{all:?}");
    for call in all {
        match call {
            "WhoAmI" => {
                let me = eve.who_am_i(WhoAmIRequest {}).await.expect(call).into_inner();
                assert_eq!(me.namespaces, ["other"]);
            }
            "GetServer" => {
                let server = boss
                    .get_server(GetServerRequest {})
                    .await
                    .expect(call)
                    .into_inner();
                assert!(
                    !server.version.is_empty() && server.unready.is_empty(),
                    "{server:?}"
                );
                assert_eq!(
                    server.folders,
                    [],
                    "an admin of one namespace does not know the host"
                );
            }
            // Whoever gives tokens and namespaces could give itself more.
            "CreateToken" => {
                let request = CreateTokenRequest {
                    name: "mine".into(),
                    role: "viewer".into(),
                    ..CreateTokenRequest::default()
                };
                denied(call, boss.create_token(request).await);
            }
            "ListTokens" => denied(call, boss.list_tokens(ListTokensRequest {}).await),
            "DeleteToken" => {
                let name = "admin".into();
                denied(
                    call,
                    boss.delete_token(DeleteTokenRequest {
                        name,
                        ..DeleteTokenRequest::default()
                    })
                    .await,
                );
            }
            "CreateNamespace" => {
                let name = "mine".into();
                denied(
                    call,
                    boss.create_namespace(CreateNamespaceRequest {
                        name,
                        ..CreateNamespaceRequest::default()
                    })
                    .await,
                );
            }
            "DeleteNamespace" => {
                let name = "other".into();
                denied(
                    call,
                    boss.delete_namespace(DeleteNamespaceRequest {
                        name,
                        ..DeleteNamespaceRequest::default()
                    })
                    .await,
                );
            }
            "ListNamespaces" => {
                let all = eve.list_namespaces(ListNamespacesRequest {}).await.expect(call);
                let all = all.into_inner().namespaces;
                assert_eq!(
                    all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
                    ["other"]
                );
            }
            "ApplyMachines" => apply(call, &mut eve).await,
            "GetMachine" => of_machine!(call, eve, get_machine, GetMachineRequest),
            "DeleteMachine" => of_machine!(call, eve, delete_machine, DeleteMachineRequest),
            "LookAtMachine" => of_machine!(call, eve, look_at_machine, LookAtMachineRequest),
            "BootMachineDisk" => of_machine!(call, eve, boot_machine_disk, BootMachineDiskRequest),
            "ListMachines" => {
                let ask = |namespace: &str| ListMachinesRequest {
                    namespace: namespace.into(),
                    ..ListMachinesRequest::default()
                };
                in_namespaces!(call, eve, list_machines, ask);
                shows_nothing(call, eve.list_machines(ask("other")).await, workflow);
                let everything = ListMachinesRequest {
                    all_namespaces: true,
                    ..ask("")
                };
                shows_nothing(call, eve.list_machines(everything).await, workflow);
            }
            "PutTemplate" => in_namespaces!(call, eve, put_template, |namespace: &str| PutTemplateRequest {
                text: TWO_ACTIONS.replace("reboot", "poweroff"),
                namespace: namespace.into(),
                ..PutTemplateRequest::default()
            }),
            "GetTemplate" => of_named!(
                call,
                eve,
                get_template,
                GetTemplateRequest,
                name_or_id,
                "two",
                "ten"
            ),
            "ListTemplateVersions" => of_named!(
                call,
                eve,
                list_template_versions,
                ListTemplateVersionsRequest,
                name_or_id,
                "two",
                "ten"
            ),
            "DeleteTemplate" => {
                of_named!(
                    call,
                    eve,
                    delete_template,
                    DeleteTemplateRequest,
                    name_or_id,
                    "two",
                    "ten"
                );
            }
            "ListTemplates" => {
                let ask = |namespace: &str| ListTemplatesRequest {
                    namespace: namespace.into(),
                    all_namespaces: false,
                };
                in_namespaces!(call, eve, list_templates, ask);
                shows_nothing(call, eve.list_templates(ask("other")).await, workflow);
                let everything = ListTemplatesRequest {
                    all_namespaces: true,
                    ..ask("")
                };
                shows_nothing(call, eve.list_templates(everything).await, workflow);
            }
            "RenderTemplate" => {
                of_named!(
                    call,
                    eve,
                    render_template,
                    RenderTemplateRequest,
                    template,
                    "two",
                    "ten"
                );
                let ask = |machine: &str| RenderTemplateRequest {
                    text: TWO_ACTIONS.into(),
                    machine: machine.into(),
                    namespace: "other".into(),
                    ..RenderTemplateRequest::default()
                };
                let there = eve.render_template(ask("node1")).await;
                let nowhere = eve.render_template(ask("node9")).await;
                same(call, ("node1", there), ("node9", nowhere));
            }
            "CreateWorkflow" => create(call, &mut eve).await,
            "PreviewWorkflow" => {
                of_named!(
                    call,
                    eve,
                    preview_workflow,
                    CreateWorkflowRequest,
                    template,
                    "two",
                    "ten"
                );
            }
            "GetWorkflow" => of_workflow!(call, eve, world, get_workflow, GetWorkflowRequest {}),
            "ListWorkflows" => {
                let ask = |namespace: &str| ListWorkflowsRequest {
                    namespace: namespace.into(),
                    ..ListWorkflowsRequest::default()
                };
                in_namespaces!(call, eve, list_workflows, ask);
                // By a label that the workflow of `default` has, and by one that it has not.
                for (whole, selector) in [
                    (false, ""),
                    (true, ""),
                    (false, "team=red"),
                    (false, "team!=blue"),
                    (false, "team"),
                ] {
                    let everything = ListWorkflowsRequest {
                        all_namespaces: true,
                        whole,
                        selector: selector.into(),
                        ..ask("")
                    };
                    shows_nothing(call, eve.list_workflows(everything).await, workflow);
                }
                shows_nothing(call, eve.list_workflows(ask("other")).await, workflow);
                let ask = |machine: &str| ListWorkflowsRequest {
                    machine: machine.into(),
                    ..ask("other")
                };
                let there = eve.list_workflows(ask("node1")).await;
                let nowhere = eve.list_workflows(ask("node9")).await;
                same(call, ("node1", there), ("node9", nowhere));
            }
            "DeleteWorkflow" => of_workflow!(call, eve, world, delete_workflow, DeleteWorkflowRequest {}),
            "CancelWorkflow" => of_workflow!(call, eve, world, cancel_workflow, CancelWorkflowRequest {}),
            "PauseTask" => of_workflow!(call, eve, world, pause_task, PauseTaskRequest {}),
            "PauseWorkflow" => of_workflow!(call, eve, world, pause_workflow, PauseWorkflowRequest {}),
            "ResumeTask" => of_workflow!(call, eve, world, resume_task, ResumeTaskRequest {}),
            "ResumeWorkflow" => of_workflow!(call, eve, world, resume_workflow, ResumeWorkflowRequest {}),
            "RetryTask" => of_workflow!(call, eve, world, retry_task, RetryTaskRequest {}),
            "RetryWorkflow" => of_workflow!(call, eve, world, retry_workflow, RetryWorkflowRequest {}),
            "LabelWorkflow" => {
                let owner = || [("owner".to_owned(), "eve".to_owned())].into();
                of_workflow!(
                    call,
                    eve,
                    world,
                    label_workflow,
                    LabelWorkflowRequest { set: owner() }
                );
            }
            "SetPolicy" => of_workflow!(call, eve, world, set_policy, SetPolicyRequest {}),
            "SkipTask" => of_workflow!(call, eve, world, skip_task, SkipTaskRequest {}),
            "StartWorkflow" => of_workflow!(call, eve, world, start_workflow, StartWorkflowRequest {}),
            "DecideApproval" => {
                of_workflow!(
                    call,
                    eve,
                    world,
                    decide_approval,
                    DecideApprovalRequest { approved: true }
                );
                let go = || "go".to_owned();
                of_workflow!(
                    call,
                    eve,
                    world,
                    decide_approval,
                    DecideApprovalRequest {
                        approved: true,
                        task: go()
                    }
                );
            }
            "ExplainWorkflow" => of_workflow!(call, eve, world, explain_workflow, ExplainWorkflowRequest {}),
            "WaitWorkflow" => {
                of_workflow!(
                    call,
                    eve,
                    world,
                    wait_workflow,
                    WaitWorkflowRequest { timeout_ms: 1 }
                );
            }
            "WorkflowEvents" => of_workflow!(call, eve, world, workflow_events, WorkflowEventsRequest {}),
            "WorkflowData" => of_workflow!(call, eve, world, workflow_data, WorkflowDataRequest {}),
            "WorkflowLogs" => of_workflow!(call, eve, world, workflow_logs, WorkflowLogsRequest {}),
            // What happens in other namespaces is not told: see `listeners`.
            "FollowEvents" => {
                let ask = |namespace: &str| FollowEventsRequest {
                    since: "oldest".into(),
                    namespace: namespace.into(),
                    ..FollowEventsRequest::default()
                };
                in_namespaces!(call, eve, follow_events, ask);
                for (workflow, machine) in [(workflow, ""), ("", "node1")] {
                    let of = |workflow: &str, machine: &str| FollowEventsRequest {
                        workflow: workflow.into(),
                        machine: machine.into(),
                        ..ask("other")
                    };
                    let nowhere = match machine {
                        "" => (NOBODYS, eve.follow_events(of(NOBODYS, "")).await),
                        _ => ("node9", eve.follow_events(of("", "node9")).await),
                    };
                    let there = eve.follow_events(of(workflow, machine)).await;
                    let is = if machine.is_empty() { workflow } else { machine };
                    same(call, (is, there), nowhere);
                }
                let everything = FollowEventsRequest {
                    all_namespaces: true,
                    ..ask("")
                };
                for ask in [ask("other"), everything] {
                    let told = eve.follow_events(ask).await.expect(call).into_inner();
                    let told: Vec<FollowedEvent> = told.try_collect().await.expect(call);
                    assert!(told.iter().all(|told| told.workflow.is_empty()), "{told:?}");
                }
            }
            // Whoever has the server make requests reaches what the server reaches.
            "CreateWebhook" => {
                let request = CreateWebhookRequest {
                    name: "mine".into(),
                    ..CreateWebhookRequest::default()
                };
                denied(call, boss.create_webhook(request).await);
            }
            "DeleteWebhook" => denied(call, boss.delete_webhook(DeleteWebhookRequest::default()).await),
            "TestWebhook" => denied(call, boss.test_webhook(TestWebhookRequest::default()).await),
            "GetWebhook" => of_named!(call, eve, get_webhook, GetWebhookRequest, name, "ops", "oops"),
            "WebhookDeliveries" => of_named!(
                call,
                eve,
                webhook_deliveries,
                WebhookDeliveriesRequest,
                name,
                "ops",
                "oops"
            ),
            "ListWebhooks" => {
                let ask = |namespace: &str| ListWebhooksRequest {
                    namespace: namespace.into(),
                    all_namespaces: false,
                };
                in_namespaces!(call, eve, list_webhooks, ask);
                let everything = ListWebhooksRequest {
                    all_namespaces: true,
                    ..ask("")
                };
                for ask in [ask("other"), everything] {
                    let listed = eve.list_webhooks(ask).await.expect(call).into_inner();
                    assert_eq!(listed.webhooks, []);
                }
            }
            // Of all workflows: see below.
            "WatchProgress" => of_workflow!(call, eve, world, watch_progress, WatchProgressRequest {}),
            "BootLog" => {
                of_machine!(call, eve, boot_log, BootLogRequest);
                for all in [true, false] {
                    let request = BootLogRequest {
                        all,
                        ..BootLogRequest::default()
                    };
                    let shown = eve.boot_log(request).await.expect(call).into_inner();
                    let shown: Vec<BootLogEntry> = shown.try_collect().await.expect(call);
                    assert!(shown.iter().all(|entry| entry.mac == OTHER_MAC), "{shown:?}");
                }
            }
            "SetSecret" => in_namespaces!(call, eve, set_secret, |namespace: &str| SetSecretRequest {
                name: "PW".into(),
                value: "another value".into(),
                namespace: namespace.into(),
            }),
            "ListSecrets" => {
                let ask = |namespace: &str| ListSecretsRequest {
                    namespace: namespace.into(),
                    all_namespaces: false,
                };
                in_namespaces!(call, eve, list_secrets, ask);
                shows_nothing(call, eve.list_secrets(ask("other")).await, workflow);
                let everything = ListSecretsRequest {
                    all_namespaces: true,
                    ..ask("")
                };
                shows_nothing(call, eve.list_secrets(everything).await, workflow);
            }
            "DeleteSecret" => of_named!(call, eve, delete_secret, DeleteSecretRequest, name, "PW", "PX"),
            // Images are of no namespace: who changes them changes what machines of all run.
            "MissingImageBlobs" => {
                let asked = MissingImageBlobsRequest::default();
                eve.missing_image_blobs(asked).await.expect(call);
            }
            "PutImageBlob" => {
                let none = tokio_stream::iter([PutImageBlobRequest::default()]);
                of_all(call, eve.put_image_blob(none).await);
            }
            "PutImage" => of_all(call, eve.put_image(PutImageRequest::default()).await),
            "DeleteImage" => of_all(call, eve.delete_image(DeleteImageRequest::default()).await),
            "ListImages" => {
                let listed = eve.list_images(ListImagesRequest {}).await;
                shows_nothing(call, listed, workflow);
            }
            _ => panic!("say here how {call} is kept within the namespaces of a token"),
        }
    }
    assert_eq!(world.seen().await, before);
}

/// A record may not take what another namespace has, and no message names that.
async fn apply(call: &str, eve: &mut Client) {
    in_namespaces!(call, eve, apply_machines, |namespace: &str| {
        ApplyMachinesRequest {
            yaml: "machine: new\nmac: 52:54:00:77:00:aa\n".into(),
            namespace: namespace.into(),
            ..ApplyMachinesRequest::default()
        }
    });
    for (yaml, said) in [
        (
            "machine: node1\nmac: 52:54:00:77:00:aa\n",
            "is there already, in another namespace",
        ),
        (
            "machine: node1\nnamespace: other\nmac: 52:54:00:77:00:aa\n",
            "is there already, in another namespace",
        ),
        (
            "machine: new\nmac: 52:54:00:77:00:0b\n",
            "belongs to a machine of another namespace already",
        ),
        (
            "machine: new\nmac: 52:54:00:77:00:aa\naddress: 10.77.0.11/24\n",
            "belongs to a machine of another namespace",
        ),
        (
            "machine: new\nnamespace: default\nmac: 52:54:00:77:00:aa\n",
            "there is no namespace \"default\"",
        ),
        (
            "machine: other1\nnamespace: default\nmac: 52:54:00:77:00:0c\n",
            "there is no namespace \"default\"",
        ),
    ] {
        let request = ApplyMachinesRequest {
            yaml: yaml.into(),
            namespace: "other".into(),
            ..ApplyMachinesRequest::default()
        };
        let status = eve.apply_machines(request).await.expect_err(yaml);
        assert!(status.message().contains(said), "{yaml}: {status}");
        let own = yaml.contains("machine: node1");
        assert!(own || !status.message().contains("node1"), "{yaml}: {status}");
    }
}

async fn create(call: &str, eve: &mut Client) {
    of_named!(
        call,
        eve,
        create_workflow,
        CreateWorkflowRequest,
        template,
        "two",
        "ten"
    );
    let ask = |device: &str, machine: &str| CreateWorkflowRequest {
        text: TWO_ACTIONS.into(),
        devices: [("device_1".to_owned(), device.to_owned())].into(),
        machine: machine.into(),
        namespace: "other".into(),
        ..CreateWorkflowRequest::default()
    };
    for (is, is_not) in [("node1", "node9"), (MAC, "52:54:00:77:00:99")] {
        let there = eve.create_workflow(ask(is, "")).await;
        let nowhere = eve.create_workflow(ask(is_not, "")).await;
        same(call, (is, there), (is_not, nowhere));
    }
    let there = eve.create_workflow(ask(OTHER_MAC, "node1")).await;
    let nowhere = eve.create_workflow(ask(OTHER_MAC, "node9")).await;
    same(call, ("node1", there), ("node9", nowhere));
    let needs = |secret: &str| CreateWorkflowRequest {
        text: format!(
            "version: '1'\nname: s\ntasks: [{{name: t, worker: '{OTHER_MAC}', actions: [{{name: a, image: cexec, environment: \
             {{X: '${{{{ secrets.{secret} }}}}'}}}}]}}]\n"
        ),
        namespace: "other".into(),
        ..CreateWorkflowRequest::default()
    };
    let there = eve.create_workflow(needs("PW")).await;
    let nowhere = eve.create_workflow(needs("PX")).await;
    same(call, ("PW", there), ("PX", nowhere));
}
