//! Work in namespaces: what a workflow sees, machines that move, and what keeps a namespace from going.

use std::time::Duration;

use proto::v1::*;
use server::Config;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::harness::*;

const BLUE: &str =
    "machine: blue1\nnamespace: blue\nmac: 52:54:00:77:00:0c\naddress: 10.77.0.12/24\nlabels: {rack: r1}\n";
const BLUE_MAC: &str = "52:54:00:77:00:0c";
/// On every machine that it sees.
const ROLLOUT: &str = r#"
version: "1"
name: rollout
tasks:
  - name: each
    forEach: machines("rack == 'r1'")
    worker: "${{ item.mac }}"
    actions: [{name: a, image: cexec, environment: {PW: "${{ secrets.PW }}"}}]
"#;

impl Server {
    async fn with_blue(config: Config) -> (Self, TempDir) {
        let (server, dir) = Self::with_machine_and(config).await;
        server.namespace("blue").await;
        let labelled = format!("{MACHINE}labels: {{rack: r1}}\n---\n{BLUE}");
        server.apply(&labelled).await.expect("machines");
        for (namespace, value) in [("", "a value of default"), ("blue", "a value of blue")] {
            let request = SetSecretRequest {
                name: "PW".into(),
                value: value.into(),
                namespace: namespace.into(),
            };
            server.client().await.set_secret(request).await.expect("secret");
        }
        (server, dir)
    }

    async fn made_in(&self, namespace: &str, text: &str) -> Result<Workflow, Status> {
        let request = CreateWorkflowRequest {
            text: text.into(),
            namespace: namespace.into(),
            ..CreateWorkflowRequest::default()
        };
        self.make(request).await
    }

    async fn applied_in(&self, namespace: &str, yaml: &str) -> Result<(), Status> {
        let request = ApplyMachinesRequest {
            yaml: yaml.into(),
            namespace: namespace.into(),
            ..ApplyMachinesRequest::default()
        };
        self.client().await.apply_machines(request).await.map(drop)
    }

    async fn listed_in(&self, namespace: &str) -> Vec<String> {
        let request = ListWorkflowsRequest {
            namespace: namespace.into(),
            ..ListWorkflowsRequest::default()
        };
        let listed = self.client().await.list_workflows(request).await.expect("list");
        listed
            .into_inner()
            .workflows
            .into_iter()
            .map(|one| one.id)
            .collect()
    }
}

fn work_on(worker: &str) -> String {
    format!(
        "version: '1'\nname: w\ntasks: [{{name: t, worker: \"{worker}\", actions: [{{name: a, image: cexec}}]}}]\n"
    )
}

fn blue(boot: &str) -> Hello {
    Hello {
        mac: BLUE_MAC.into(),
        ..hello(boot)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_sees_the_machines_secrets_and_templates_of_its_namespace() {
    let (server, _dir) = Server::with_blue(Config::default()).await;
    let id = server.made_in("blue", ROLLOUT).await.expect("workflow").id;
    let mut agent = server.attach(blue("b")).await.expect("attach");
    let run = agent.run().await;
    assert_eq!(run.environment["PW"], "a value of blue");
    agent.report(&run.attempt_id, succeeded()).await;
    let done = server.reaches(&id, "SUCCESS").await;
    assert_eq!((done.namespace.as_str(), done.tasks[0].items), ("blue", 1));

    let id = server.made_in("", ROLLOUT).await.expect("workflow").id;
    let mut agent = server.attach(hello("h")).await.expect("attach");
    let run = agent.run().await;
    assert_eq!(run.environment["PW"], "a value of default");
    agent.report(&run.attempt_id, succeeded()).await;
    assert_eq!(server.reaches(&id, "SUCCESS").await.tasks[0].items, 1);

    // The same name is another template there, also for a sub-workflow.
    for (namespace, seconds) in [("", 1), ("blue", 2)] {
        let text = format!(
            "version: '1'\nname: inner\noutputs: {{n: '{seconds}'}}\ntasks: [{{name: t, wait: 1s}}]\n"
        );
        let request = PutTemplateRequest {
            text,
            namespace: namespace.into(),
            ..PutTemplateRequest::default()
        };
        let put = server
            .client()
            .await
            .put_template(request)
            .await
            .expect("template");
        assert_eq!(put.into_inner().version, 1);
    }
    let outer =
        "version: '1'\nname: outer\noutputs: {n: tasks.t.outputs.n}\ntasks: [{name: t, workflow: inner}]\n";
    for (namespace, said) in [("", "{\"n\":1}"), ("blue", "{\"n\":2}")] {
        let id = server.made_in(namespace, outer).await.expect("workflow").id;
        assert_eq!(server.reaches(&id, "SUCCESS").await.outputs_json, said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_another_namespace_is_refused_in_words_and_never_runs() {
    let (server, _dir) = Server::with_blue(Config::default()).await;
    let status = server.made_in("", &work_on(BLUE_MAC)).await.expect_err("refused");
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(
        status.message(),
        "task \"t\": no machine has MAC 52:54:00:77:00:0c: machine \"blue1\" is of namespace \"blue\": make the workflow there, \
         or move the machine"
    );
    let status = server
        .made_in("blue", &work_on("node1"))
        .await
        .expect_err("refused");
    assert!(
        status.message().contains(
            "no machine of namespace \"blue\" has name or agent id node1: machine \"node1\" is of namespace"
        ),
        "{status}"
    );
    // Known only when its turn comes, it waits as for a machine that there is not.
    let hidden = work_on(&format!("${{{{ '{MAC}' }}}}"));
    let id = server.made_in("blue", &hidden).await.expect("workflow").id;
    let mut agent = server.attach(hello("h")).await.expect("attach");
    assert_eq!(agent.idle().await, "no workflow for this machine");
    server
        .until(&id, |workflow| workflow.tasks[0].state == "WAITING")
        .await;
    let request = ExplainWorkflowRequest {
        id: id.clone(),
        task: String::new(),
    };
    let explained = server
        .client()
        .await
        .explain_workflow(request)
        .await
        .expect("lines");
    let lines = explained.into_inner().lines;
    let said = format!(
        "machine {MAC}: no machine of namespace \"blue\" is called so: add it with `farrier machine apply -n blue`"
    );
    assert!(lines.contains(&said), "{lines:?}");
    // Where it moves there, it takes over what waits for it, attached as it is.
    let moved = format!("{MACHINE}namespace: blue\n");
    server.applied_in("", &moved).await.expect("moved");
    let run = agent.run().await;
    agent.report(&run.attempt_id, succeeded()).await;
    server.reaches(&id, "SUCCESS").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_moves_when_it_is_said_and_nothing_needs_it() {
    let (server, _dir) = Server::with_blue(Config::default()).await;
    // Forgetting -n moves nothing.
    let plain = BLUE.replace("namespace: blue\n", "");
    let status = server.applied_in("", &plain).await.expect_err("refused");
    assert!(
        status.message().contains(
            "machine \"blue1\" is of namespace \"blue\", and would be moved to \"default\": say so with `namespace: default` in its \
             record, or apply it with `-n blue`"
        ),
        "{status}"
    );
    server.applied_in("blue", &plain).await.expect("as it was");
    let twice = format!("{BLUE}---\n{}", BLUE.replace("blue\n", "default\n"));
    let status = server.applied_in("", &twice).await.expect_err("refused");
    assert!(
        status.message().contains("machine blue1 is given twice"),
        "{status}"
    );
    let nowhere = BLUE.replace("namespace: blue", "namespace: bleu");
    let status = server.applied_in("", &nowhere).await.expect_err("refused");
    assert!(status.message().contains("did you mean \"blue\"?"), "{status}");

    let id = server
        .made_in("blue", &work_on(BLUE_MAC))
        .await
        .expect("workflow")
        .id;
    let to_default = BLUE.replace("namespace: blue", "namespace: default");
    let status = server.applied_in("", &to_default).await.expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains(&format!(
            "cannot move to namespace \"default\": it has workflow {id}"
        )),
        "{status}"
    );
    server.cancel(&id, "").await.expect("cancelled");
    // A Hardware names it as Kubernetes does.
    let hardware = "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {name: blue1, namespace: default}\nspec:\n  \
                    interfaces: [{dhcp: {mac: '52:54:00:77:00:0c', ip: {address: 10.77.0.12, netmask: 255.255.255.0}}}]\n";
    server.applied_in("blue", hardware).await.expect("moved");
    let id = server.made_in("", &work_on(BLUE_MAC)).await.expect("workflow").id;
    let mut agent = server.attach(blue("b")).await.expect("attach");
    let run = agent.run().await;
    agent.report(&run.attempt_id, succeeded()).await;
    server.reaches(&id, "SUCCESS").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_when_nothing_is_in_it() {
    let archived = Config {
        archive_after: Duration::ZERO,
        ..Config::default()
    };
    let (server, _dir) = Server::with_blue(archived).await;
    let mut admin = server.client().await;
    let id = server
        .made_in("blue", "version: '1'\nname: w\ntasks: [{name: t, succeed: {}}]\n")
        .await
        .expect("workflow")
        .id;
    server.reaches(&id, "SUCCESS").await;
    server.put(TWO_ACTIONS).await.expect("template");
    let delete = || DeleteNamespaceRequest {
        name: "blue".into(),
        ..DeleteNamespaceRequest::default()
    };
    for (what, has) in [
        ("machine", "machine blue1 (`farrier machine list -n blue`)"),
        ("secret", "secret PW (`farrier secret list -n blue`)"),
        ("token", "token for it, bob (`farrier token list`)"),
        ("workflow", "(`farrier workflow list -n blue`)"),
    ] {
        if what == "token" {
            server.scoped("bob", "viewer", &["blue"]).await;
        }
        let status = admin.delete_namespace(delete()).await.expect_err(what);
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains(has), "{what}: {status}");
        match what {
            "machine" => {
                let name_or_mac = "blue1".into();
                admin
                    .delete_machine(DeleteMachineRequest {
                        name_or_mac,
                        ..DeleteMachineRequest::default()
                    })
                    .await
                    .map(drop)
            }
            "secret" => {
                let request = DeleteSecretRequest {
                    name: "PW".into(),
                    namespace: "blue".into(),
                    ..DeleteSecretRequest::default()
                };
                admin.delete_secret(request).await.map(drop)
            }
            "token" => admin
                .delete_token(DeleteTokenRequest {
                    name: "bob".into(),
                    ..DeleteTokenRequest::default()
                })
                .await
                .map(drop),
            _ => {
                // Archived or not, it is listed where it is.
                assert_eq!(server.listed_in("blue").await, std::slice::from_ref(&id));
                assert_eq!(server.listed_in("").await, Vec::<String>::new());
                server.delete(&id).await
            }
        }
        .expect(what);
    }
    admin.delete_namespace(delete()).await.expect("nothing is in it");
    let status = admin.delete_namespace(delete()).await.expect_err("gone");
    assert_eq!(status.code(), Code::NotFound);
    let default = DeleteNamespaceRequest {
        name: "default".into(),
        ..DeleteNamespaceRequest::default()
    };
    let status = admin.delete_namespace(default).await.expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition);
    let status = server.made_in("blue", ROLLOUT).await.expect_err("gone");
    assert!(
        status
            .message()
            .contains("make it with `farrier namespace create blue`"),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_namespace_has_its_own_idempotency_keys() {
    let (server, _dir) = Server::with_blue(Config::default()).await;
    let ask = |namespace: &str| CreateWorkflowRequest {
        text: "version: '1'\nname: w\ntasks: [{name: t, wait: 1d}]\n".into(),
        namespace: namespace.into(),
        idempotency_key: "once".into(),
        ..CreateWorkflowRequest::default()
    };
    let mine = server.make(ask("")).await.expect("made").id;
    let theirs = server.make(ask("blue")).await.expect("made").id;
    assert_ne!(mine, theirs);
    assert_eq!(server.make(ask("blue")).await.expect("the same").id, theirs);
    assert_eq!(server.make(ask("default")).await.expect("the same").id, mine);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_and_boots_of_other_namespaces_are_not_shown() {
    let (server, _dir) = Server::with_blue(Config::default()).await;
    let mut bob = server.scoped("bob", "viewer", &["blue"]).await;
    let mut progress = bob
        .watch_progress(WatchProgressRequest::default())
        .await
        .expect("a stream")
        .into_inner();
    let mut mine = None;
    let mut attached = Vec::new();
    for (namespace, hello) in [("", hello("h")), ("blue", blue("b"))] {
        server
            .made_in(namespace, &work_on(&hello.mac))
            .await
            .expect("workflow");
        let mut agent = server.attach(hello).await.expect("attach");
        let run = agent.run().await;
        agent.report(&run.attempt_id, started()).await;
        let said = Progress {
            attempt_id: run.attempt_id.clone(),
            done_bytes: 1,
            ..Progress::default()
        };
        agent.send(agent_message::Kind::Progress(said)).await;
        mine = Some(run.attempt_id);
        attached.push(agent);
    }
    // The first that comes is not the first that was.
    let first = tokio::time::timeout(WITHIN, progress.message())
        .await
        .expect("in time");
    let first = first.expect("open").expect("one");
    assert_eq!(Some(first.attempt_id), mine);

    let request = BootLogRequest {
        all: true,
        follow: true,
        ..BootLogRequest::default()
    };
    let mut boots = bob.boot_log(request).await.expect("a stream").into_inner();
    let first = tokio::time::timeout(WITHIN, boots.message())
        .await
        .expect("in time");
    assert_eq!(first.expect("open").expect("one").mac, BLUE_MAC);
    for hello in [hello("i"), blue("c")] {
        server.attach(hello).await.expect("attach");
    }
    let deadline = tokio::time::Instant::now() + WITHIN;
    loop {
        let next = tokio::time::timeout_at(deadline, boots.message())
            .await
            .expect("in time");
        let next = next.expect("open").expect("one");
        assert_eq!(next.mac, BLUE_MAC, "{next:?}");
        if next.boot.contains('c') {
            break;
        }
    }
}

/// A Template and a Workflow that names it, each with what its metadata say beside the name.
fn objects(of_template: &str, of_workflow: &str) -> (String, String) {
    let object = |kind: &str, meta: &str, spec: &str| {
        format!(
            "apiVersion: tinkerbell.org/v1alpha1\nkind: {kind}\nmetadata: {{name: asks{meta}}}\nspec:\n{spec}\n"
        )
    };
    let template =
        "  data: |\n    version: '1'\n    name: asks\n    tasks: [{name: go, approve: {message: go on?}}]";
    let template = object("Template", of_template, template);
    (template, object("Workflow", of_workflow, "  templateRef: asks"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_put_into_the_namespace_that_its_metadata_name() {
    let (server, _dir) = Server::with_blue(Config::default()).await;
    server.namespace("green").await;
    let (template, workflow) = objects(", namespace: blue", ", namespace: blue");
    let put = |namespace: &str, text: &str| PutTemplateRequest {
        text: text.into(),
        namespace: namespace.into(),
        ..PutTemplateRequest::default()
    };
    let mut admin = server.client().await;
    // `-n` may say the same, and nothing else.
    for namespace in ["", "blue"] {
        let stored = admin
            .put_template(put(namespace, &template))
            .await
            .expect("template")
            .into_inner();
        assert_eq!((stored.namespace.as_str(), stored.version), ("blue", 1));
        let made = server.made_in(namespace, &workflow).await.expect("workflow");
        assert_eq!(
            (made.namespace.as_str(), made.template.as_str()),
            ("blue", "asks")
        );
    }
    for namespace in ["green", "default"] {
        let stored = admin
            .put_template(put(namespace, &template))
            .await
            .expect_err("another one");
        let made = server
            .made_in(namespace, &workflow)
            .await
            .expect_err("another one");
        for status in [stored, made] {
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
            let said = format!("its metadata.namespace is \"blue\", and it is to be put into {namespace:?}");
            assert!(status.message().starts_with(&said), "{status}");
        }
    }
    // A token that does not reach it is told what it is told of one that is not there.
    let mut eve = server.scoped("eve", "operator", &["green"]).await;
    let there = eve
        .put_template(put("", &template))
        .await
        .expect_err("out of reach");
    let nowhere = template.replace("blue", "nowhere");
    let nowhere = eve.put_template(put("", &nowhere)).await.expect_err("not there");
    assert_eq!(there.code(), Code::NotFound);
    assert_eq!(
        there.message().replace("blue", "X"),
        nowhere.message().replace("nowhere", "X")
    );
    // In one file, a template of another namespace is not the one that is meant: that is looked for where the Workflow is.
    let (of_green, _) = objects(", namespace: green", "");
    let made = server
        .made_in("", &format!("{of_green}---\n{workflow}"))
        .await
        .expect("the stored one");
    assert_eq!(
        (made.namespace.as_str(), made.template.as_str()),
        ("blue", "asks")
    );
    // One that names none is of the other's.
    let (unsaid, unsaid_workflow) = objects("", "");
    let made = server
        .made_in("", &format!("{template}---\n{unsaid_workflow}"))
        .await
        .expect("workflow");
    assert_eq!((made.namespace.as_str(), made.template.as_str()), ("blue", ""));
    let made = server
        .made_in("green", &format!("{unsaid}---\n{unsaid_workflow}"))
        .await
        .expect("workflow");
    assert_eq!(made.namespace, "green");
}
