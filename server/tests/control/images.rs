//! Rules for images: said when a workflow is made, where that is known then, and before an action is handed out in any case.

use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::{
    CreateWorkflowRequest, DataAccess, GetPullSettingsRequest, Hello, PullSettings, PutTemplateRequest,
    RenderTemplateRequest, SetSecretRequest, WorkflowLogsRequest,
};
use server::{Config, RegistrySettings};
use tonic::{Code, Response, Status};
use workflow::language::{ImagePolicy, NativeImages};

use crate::harness::*;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn rules(allowed: &[&str], needs_digest: bool, native: NativeImages) -> Config {
    Config {
        image_policy: ImagePolicy {
            allowed: allowed
                .iter()
                .map(|text| text.parse().expect("a registry"))
                .collect(),
            needs_digest,
            native,
        },
        ..Config::default()
    }
}

fn template(name: &str, image: &str) -> String {
    format!(
        "version: \"1\"\nname: {name}\ninputs: {{image: quay.io/x}}\ntasks:\n  - name: only\n    worker: \"{MAC}\"\n    actions:\n\
         \x20     - {{name: flash, image: \"{image}\"}}\n"
    )
}

/// What is said of an image, with its task and action.
const REFUSED: &str = "task \"only\", action \"flash\": image evil.example/x:1 is refused: this server allows images of quay.io alone \
                       (--allow-registry), and this one is of evil.example: take one of those, or have the server started with \
                       --allow-registry evil.example";

#[tokio::test]
async fn a_refused_image_is_named_when_its_template_is_stored_rendered_and_made_a_workflow() {
    let (server, _dir) = Server::with_machine_and(rules(&["quay.io"], false, NativeImages::Prefer)).await;
    let text = template("bad", "evil.example/x:1");
    let mut client = server.client().await;
    let put = PutTemplateRequest {
        text: text.clone(),
        ..PutTemplateRequest::default()
    };
    let warnings = client
        .put_template(put)
        .await
        .expect("stored")
        .into_inner()
        .warnings;
    assert!(warnings.iter().any(|line| line == REFUSED), "{warnings:?}");
    let asked = RenderTemplateRequest {
        template: "bad".into(),
        ..RenderTemplateRequest::default()
    };
    let rendered = client
        .render_template(asked)
        .await
        .expect("rendered")
        .into_inner();
    assert_eq!(rendered.problems, [REFUSED]);
    assert!(rendered.yaml.contains("evil.example"), "{}", rendered.yaml);
    let refused = server.create("bad", MAC).await.expect_err("refused");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, REFUSED)
    );
    // What the agent has built in comes from nowhere.
    server.create("two", MAC).await.expect("a workflow");
}

#[tokio::test]
async fn an_image_that_an_expression_fills_in_is_refused_in_the_same_words_before_it_is_pushed() {
    let (server, _dir) = Server::with_machine_and(rules(&["quay.io"], false, NativeImages::Prefer)).await;
    let asked = |image: &str| CreateWorkflowRequest {
        text: template("later", "${{ inputs.image }}"),
        inputs_json: format!("{{\"image\": \"{image}\"}}"),
        ..CreateWorkflowRequest::default()
    };
    let bad = server
        .make(asked("evil.example/x:1"))
        .await
        .expect("not known yet");
    let mut agent = server.attach(hello("boot-1")).await.expect("attached");
    let ended = server.reaches(&bad.id, "FAILED").await;
    assert!(ended.message.contains(REFUSED), "{}", ended.message);
    // The machine was told nothing, and is free.
    let good = server.make(asked("quay.io/tools/x:1")).await.expect("workflow");
    let run = agent.run().await;
    assert_eq!(
        (run.workflow_id, run.image.as_str()),
        (good.id, "quay.io/tools/x:1")
    );
}

#[tokio::test]
async fn a_time_to_wait_that_is_none_fails_the_action_before_it_is_pushed() {
    let (server, _dir) = Server::with_machine_and(Config::default()).await;
    let asked = |wait: &str| CreateWorkflowRequest {
        text: format!(
            "version: \"1\"\nname: leave\ninputs: {{wait: \"1\"}}\ntasks:\n  - name: only\n    worker: \"{MAC}\"\n    actions:\n\
             \x20     - name: leave\n        image: jacobweinstock/waitdaemon\n        environment: {{IMAGE: alpine, WAIT_SECONDS: \"${{{{ \
             inputs.wait }}}}\"}}\n"
        ),
        inputs_json: format!("{{\"wait\": \"{wait}\"}}"),
        ..CreateWorkflowRequest::default()
    };
    let bad = server.make(asked("5s")).await.expect("not known yet");
    let mut agent = server.attach(hello("boot-1")).await.expect("attached");
    let ended = server.reaches(&bad.id, "FAILED").await;
    let said = "task \"only\": WAIT_SECONDS of action \"leave\" is \"5s\": write a whole number of seconds";
    assert!(ended.message.contains(said), "{}", ended.message);
    let good = server.make(asked("5")).await.expect("workflow");
    let run = agent.run().await;
    assert_eq!(
        (run.workflow_id, run.last.map(|last| last.wait_s)),
        (good.id, Some(5))
    );
}

#[tokio::test]
async fn a_workflow_that_was_made_before_a_rule_is_kept_to_it() {
    let (server, dir) = Server::with_machine_and(Config::default()).await;
    let before = server.create_of(&template("before", "quay.io/x:1")).await;
    server.stop().await;
    let server = Server::start(&dir, rules(&[], true, NativeImages::Prefer)).await;
    let _agent = server.attach(hello("boot-1")).await.expect("attached");
    let ended = server.reaches(&before.id, "FAILED").await;
    let cure = "write quay.io/x@sha256:DIGITS";
    assert!(
        ended.message.contains("(--require-digest)") && ended.message.contains(cure),
        "{}",
        ended.message
    );
    // With its digest it goes.
    server
        .create_of(&template("pinned", &format!("quay.io/x@{DIGEST}")))
        .await;
}

#[tokio::test]
async fn with_never_an_image_that_is_called_like_a_built_in_action_is_pulled() {
    for (native, sent) in [(NativeImages::Prefer, "writefile"), (NativeImages::Never, "")] {
        for image in ["quay.io/tinkerbell/actions/writefile:v1", "${{ inputs.image }}"] {
            let (server, _dir) = Server::with_machine_and(rules(&[], false, native)).await;
            let request = CreateWorkflowRequest {
                text: template("own", image),
                inputs_json: "{\"image\": \"quay.io/tinkerbell/actions/writefile:v1\"}".into(),
                ..CreateWorkflowRequest::default()
            };
            let mut client = server.client().await;
            let answer = client
                .create_workflow(request)
                .await
                .expect("workflow")
                .into_inner();
            let is_told = answer
                .warnings
                .iter()
                .any(|line| line.contains("(--native never)"));
            let is_known = native == NativeImages::Never && image.starts_with("quay");
            assert_eq!(is_told, is_known, "{:?}", answer.warnings);
            let mut agent = server.attach(hello("boot-1")).await.expect("attached");
            let run = agent.run().await;
            assert_eq!((run.native.as_str(), run.runtime.as_str()), (sent, ""), "{image}");
        }
    }
}

#[tokio::test]
async fn what_containerd_is_to_run_is_a_warning_where_the_machine_has_none() {
    let text = format!(
        "version: \"1\"\nname: by-containerd\ntasks:\n  - name: only\n    worker: \"{MAC}\"\n    actions:\n      - {{name: flash, image: \
         \"quay.io/x@{DIGEST}\", runtime: containerd}}\n"
    );
    let lacks = "task \"only\", action \"flash\": runtime: containerd, and machine node1 has booted an image without one";
    for (runtimes, is_told) in [
        (&["namespaces"][..], true),
        (&["namespaces", "containerd"], false),
        // An agent of before.
        (&[], false),
    ] {
        let (server, _dir) = Server::with_machine_and(Config::default()).await;
        let mut hello = hello("boot-1");
        hello.runtimes = runtimes.iter().map(|&name| name.to_owned()).collect();
        let _agent = server.attach(hello).await.expect("attached");
        let request = CreateWorkflowRequest {
            text: text.clone(),
            ..CreateWorkflowRequest::default()
        };
        let made = server.client().await.create_workflow(request).await;
        let warnings = made.expect("workflow").into_inner().warnings;
        let told = warnings.iter().any(|line| line.contains(lacks));
        assert_eq!(told, is_told, "{runtimes:?}: {warnings:?}");
    }
}

/// What an agent asks before it pulls.
async fn asks(server: &Server, hello: &Hello, attempt: &str, nonce: u8) -> Result<PullSettings, Status> {
    let mut client = AgentServiceClient::connect(format!("http://{}", server.address))
        .await
        .expect("connect");
    let request = GetPullSettingsRequest {
        access: Some(DataAccess {
            attempt_id: attempt.into(),
            mac: hello.mac.clone(),
            boot_id: hello.boot_id.clone(),
            boot_token: hello.boot_token.clone(),
            epoch: 1,
        }),
        nonce: vec![nonce; 32],
    };
    client.get_pull_settings(request).await.map(Response::into_inner)
}

async fn set_secret(server: &Server, name: &str, value: &str) -> Result<(), Status> {
    let request = SetSecretRequest {
        name: name.into(),
        value: value.into(),
        ..SetSecretRequest::default()
    };
    server.client().await.set_secret(request).await.map(drop)
}

#[tokio::test]
async fn a_login_is_given_to_whoever_asks_first_for_its_registry_and_to_nobody_later() {
    let config = Config {
        pulls: [(
            "lab:5000".to_owned(),
            RegistrySettings {
                mirrors: vec!["http://10.0.0.5:5000".to_owned()],
                plain_http: true,
                authorities_pem: String::new(),
            },
        )]
        .into(),
        ..Config::default()
    };
    let (server, _dir) = Server::with_machine_and(config).await;
    let logins = r#"{"auths": {"lab:5000": {"username": "ali", "password": "open sesame"}, "quay.io": {"auth": "Ym9iOm90aGVy"}}}"#;
    set_secret(&server, "PULL_LOGINS", logins).await.expect("logins");
    let mac = MAC.parse().expect("MAC");
    let hello = Hello {
        boot_token: server.control.boot_token(mac, "boot").await.expect("token"),
        ..hello("boot-1")
    };
    let mut agent = server.attach(hello.clone()).await.expect("attached");
    let first = server.create_of(&template("first", "lab:5000/x:1")).await;
    let run = agent.run().await;
    assert!(run.has_pull_settings);
    assert!(run.secrets.is_empty(), "nothing of it is pushed");
    let stranger = Hello {
        boot_id: "boot-2".into(),
        ..hello.clone()
    };
    let refused = asks(&server, &stranger, &run.attempt_id, 1)
        .await
        .expect_err("another boot");
    assert_eq!(refused.code(), Code::PermissionDenied);
    for _ in 0..2 {
        let given = asks(&server, &hello, &run.attempt_id, 1).await.expect("settings");
        assert_eq!(
            (given.user.as_str(), given.password.as_str()),
            ("ali", "open sesame")
        );
        assert_eq!(
            (given.mirrors, given.plain_http),
            (vec!["http://10.0.0.5:5000".to_owned()], true)
        );
    }
    // As an action does that has read all of the agent's memory.
    agent.report(&run.attempt_id, started()).await;
    let refused = asks(&server, &hello, &run.attempt_id, 2)
        .await
        .expect_err("it was given");
    assert!(refused.message().contains("given once"), "{}", refused.message());
    // What a registry said and the agent let through is hidden here.
    agent.log(&run.attempt_id, 0, &["no open sesame"]).await;
    agent.report(&run.attempt_id, succeeded()).await;
    server.reaches(&first.id, "SUCCESS").await;
    let refused = asks(&server, &hello, &run.attempt_id, 1)
        .await
        .expect_err("it is over");
    assert_eq!(refused.code(), Code::PermissionDenied);
    // A disk image of that registry is asked for in the same way, however its name is given.
    for (name, given) in [
        (
            "disk",
            "environment: {IMG_URL: 'oci://lab:5000/disk:1', DEST_DISK: /dev/vda}",
        ),
        (
            "disk-input",
            "input: {img_url: 'lab:5000/disk:1', dest_disk: /dev/vda}",
        ),
    ] {
        let native =
            template(name, "oci2disk").replace("image: \"oci2disk\"", &format!("image: oci2disk, {given}"));
        let disk = server.create_of(&native).await;
        let run = agent.run().await;
        assert_eq!((run.native.as_str(), run.has_pull_settings), ("oci2disk", true));
        let given = asks(&server, &hello, &run.attempt_id, 4).await.expect("settings");
        assert_eq!(given.user, "ali");
        agent.report(&run.attempt_id, started()).await;
        agent.report(&run.attempt_id, succeeded()).await;
        server.reaches(&disk.id, "SUCCESS").await;
    }
    // Of another registry nothing is said.
    server.create_of(&template("second", "ghcr.io/x:1")).await;
    let run = agent.run().await;
    assert!(!run.has_pull_settings);
    let refused = asks(&server, &hello, &run.attempt_id, 3)
        .await
        .expect_err("there is nothing");
    assert!(
        refused.message().contains("nothing to give"),
        "{}",
        refused.message()
    );
    let printed = printed(&server, first.id).await;
    assert!(
        printed.contains("no ***") && !printed.contains("sesame"),
        "{printed}"
    );
}

#[tokio::test]
async fn a_login_is_hidden_also_when_the_agent_has_attached_anew() {
    let (server, _dir) = Server::with_machine().await;
    let logins = r#"{"auths": {"lab:5000": {"username": "ali", "password": "open sesame"}}}"#;
    set_secret(&server, "PULL_LOGINS", logins).await.expect("logins");
    let mut agent = server.attach(hello("boot-1")).await.expect("attached");
    let made = server.create_of(&template("first", "lab:5000/x:1")).await;
    let run = agent.run().await;
    agent.report(&run.attempt_id, started()).await;
    agent.acknowledged().await;
    drop(agent);
    // What the session before knew of it is gone with that.
    let mut again = hello("boot-1");
    again.running_attempt = run.attempt_id.clone();
    again.unacknowledged = vec![report(1, &run.attempt_id, started())];
    let mut agent = server.attach(again).await.expect("attached");
    agent.acknowledged().await;
    agent.log(&run.attempt_id, 0, &["no open sesame"]).await;
    agent.report(&run.attempt_id, succeeded()).await;
    server.reaches(&made.id, "SUCCESS").await;
    let printed = printed(&server, made.id).await;
    assert!(
        printed.contains("no ***") && !printed.contains("sesame"),
        "{printed}"
    );
}

/// All lines of a workflow.
async fn printed(server: &Server, id: String) -> String {
    let request = WorkflowLogsRequest {
        id,
        ..WorkflowLogsRequest::default()
    };
    let asked = server.client().await.workflow_logs(request).await;
    let mut lines = asked.expect("lines").into_inner();
    let mut printed = String::new();
    while let Some(line) = lines.message().await.expect("a line") {
        printed += &format!("{line:?}");
    }
    printed
}

#[tokio::test]
async fn logins_of_machines_are_checked_when_they_are_set_and_no_template_is_given_them() {
    let (server, _dir) = Server::with_machine().await;
    let refused = set_secret(&server, "PULL_LOGINS", "hunter22")
        .await
        .expect_err("no logins");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(!refused.message().contains("hunter22"), "{}", refused.message());
    let logins = r#"{"auths": {"quay.io": {"auth": "Ym9iOm90aGVy"}}}"#;
    set_secret(&server, "PULL_LOGINS", logins).await.expect("logins");
    let text = format!(
        "version: \"1\"\nname: thief\ntasks:\n  - name: only\n    worker: \"{MAC}\"\n    actions:\n      - {{name: x, image: cexec, environment: \
         {{A: \"${{{{ secrets.PULL_LOGINS }}}}\"}}}}\n"
    );
    let request = CreateWorkflowRequest {
        text,
        ..CreateWorkflowRequest::default()
    };
    let refused = server.make(request).await.expect_err("it is not for actions");
    assert!(
        refused.message().contains("no action is given it"),
        "{}",
        refused.message()
    );
}
