//! Secrets over the wire: set and listed, put in when an action is handed out, hidden in what comes back.

use proto::v1::{
    CreateWorkflowRequest, DeleteSecretRequest, ListSecretsRequest, Secret, SetSecretRequest, Succeeded,
    Workflow, report,
};
use server::Config;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::harness::*;

const VALUE: &str = "correct horse\"battery";

const LOGIN: &str = r#"
version: "1"
name: login
inputs: {user: {type: string}}
outputs: {said: tasks.login.outputs.said}
tasks:
  - name: login
    worker: "{{.device_1}}"
    environment: {URL: "http://${{ secrets.USER_NAME }}@h"}
    actions:
      - name: login
        image: cexec
        retry: {attempts: 3}
        environment: {PW: "${{ inputs.user }}/${{ secrets.PW }}"}
"#;

impl Server {
    async fn set_secret(&self, name: &str, value: &str) -> Result<Secret, Status> {
        let request = SetSecretRequest {
            name: name.into(),
            value: value.into(),
            ..SetSecretRequest::default()
        };
        Ok(self.client().await.set_secret(request).await?.into_inner())
    }

    async fn delete_secret(&self, name: &str) -> Result<Vec<String>, Status> {
        let request = DeleteSecretRequest {
            name: name.into(),
            ..DeleteSecretRequest::default()
        };
        Ok(self
            .client()
            .await
            .delete_secret(request)
            .await?
            .into_inner()
            .warnings)
    }

    /// Makes it with an input that looks like a secret.
    async fn log_in(&self) -> Result<Workflow, Status> {
        let request = CreateWorkflowRequest {
            template: "login".into(),
            devices: [("device_1".to_owned(), MAC.to_owned())].into(),
            inputs_json: r#"{"user": "${{ secrets.USER_NAME }}"}"#.into(),
            ..CreateWorkflowRequest::default()
        };
        self.make(request).await
    }

    /// `NAME VERSION` of each.
    async fn secrets(&self) -> Vec<String> {
        let all = self
            .client()
            .await
            .list_secrets(ListSecretsRequest::default())
            .await
            .expect("secrets");
        let all = all.into_inner().secrets;
        all.iter()
            .map(|secret| format!("{} {}", secret.name, secret.version))
            .collect()
    }
}

fn config(dir: &TempDir) -> Config {
    Config {
        secrets_key: Some(dir.path().join("secrets.key")),
        ..Config::default()
    }
}

/// With a machine, both secrets and the template, its store and its key in one folder.
async fn prepared() -> (Server, TempDir) {
    let dir = TempDir::new().expect("directory");
    let server = Server::start(&dir, config(&dir)).await;
    server.apply(MACHINE).await.expect("machine");
    server.set_secret("PW", VALUE).await.expect("secret");
    server
        .set_secret("USER_NAME", "ann-of-ops")
        .await
        .expect("secret");
    server.put(LOGIN).await.expect("template");
    (server, dir)
}

#[tokio::test]
async fn secrets_are_set_listed_and_deleted_and_never_told() {
    let (server, _dir) = prepared().await;
    assert_eq!(server.secrets().await, ["PW 1", "USER_NAME 1"]);
    let mut viewer = server.person("monitoring", &[], "viewer").await;
    let listed = viewer.list_secrets(ListSecretsRequest::default()).await;
    assert_eq!(listed.expect("secrets").into_inner().secrets.len(), 2);
    let request = SetSecretRequest {
        name: "PW".into(),
        value: "another value".into(),
        ..SetSecretRequest::default()
    };
    let refused = viewer.set_secret(request).await.expect_err("a viewer");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let again = server.set_secret("PW", "another value").await.expect("secret");
    assert_eq!((again.version, again.set_by.as_str()), (2, "admin"));
    assert_eq!(
        server.delete_secret("PW").await.expect("deleted"),
        ["template \"login\" names the secret PW: no workflow is made from it without one"]
    );
    assert_eq!(server.secrets().await, ["USER_NAME 1"]);
    assert_eq!(
        server.delete_secret("PW").await.expect_err("gone").code(),
        Code::NotFound
    );
    for (name, value) in [("a-b", VALUE), ("PW", "abc"), ("PW", "a\0bcd")] {
        let refused = server.set_secret(name, value).await.expect_err("bad");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(!refused.message().contains(value), "{}", refused.message());
    }
}

#[tokio::test]
async fn an_action_is_handed_the_value_and_all_else_has_the_hole() {
    let (server, dir) = prepared().await;
    let mut agent = server.attach(hello("k1")).await.expect("attached");
    let workflow = server.log_in().await.expect("workflow");
    let run = agent.run().await;
    assert_eq!(
        run.environment["PW"],
        format!("${{{{ secrets.USER_NAME }}}}/{VALUE}")
    );
    assert_eq!(run.environment["URL"], "http://ann-of-ops@h");
    let mut secrets = run.secrets.clone();
    secrets.sort();
    assert_eq!(secrets, ["ann-of-ops", VALUE]);

    // As an agent that hides nothing says it.
    agent.report(&run.attempt_id, started()).await;
    agent
        .log(
            &run.attempt_id,
            0,
            &["PW is correct horse\"battery!", "ann-of-ops"],
        )
        .await;
    let outputs = serde_json::json!({"said": [VALUE, {"ann-of-ops": 1}]}).to_string();
    let done = Succeeded {
        message: format!("logged in with {VALUE}"),
        outputs_json: outputs,
        ..Succeeded::default()
    };
    agent
        .report(&run.attempt_id, report::Outcome::Succeeded(done))
        .await;
    let ended = server.reaches(&workflow.id, "SUCCESS").await;
    let shown = format!("{ended:?} {:?}", server.history(&workflow.id).await);
    assert!(
        shown.contains("${{ secrets.PW }}") && shown.contains("logged in with ***"),
        "{shown}"
    );
    assert!(shown.contains(r#"{\"said\":[\"***\",{\"***\":1}]}"#), "{shown}");
    for hidden in [VALUE, "correct horse", "ann-of-ops"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
    server.stop().await;
    let stored = std::fs::read(dir.path().join("farrier.redb")).expect("a store");
    for hidden in ["correct horse", "ann-of-ops"] {
        let found = stored
            .windows(hidden.len())
            .any(|bytes| bytes == hidden.as_bytes());
        assert!(!found, "{hidden} is in the store");
    }
    let lines = stored.windows(9).any(|bytes| bytes == b"PW is ***");
    assert!(lines, "the log is in the store");
}

#[tokio::test]
async fn an_attempt_is_handed_what_is_set_then_and_fails_by_name_without_it() {
    let (server, dir) = prepared().await;
    let mut agent = server.attach(hello("k1")).await.expect("attached");
    let workflow = server.log_in().await.expect("workflow");
    let run = agent.run().await;
    server.set_secret("PW", "the new one").await.expect("secret");
    agent.report(&run.attempt_id, failed()).await;
    let run = agent.run().await;
    assert!(
        run.environment["PW"].ends_with("the new one"),
        "the value is of before"
    );

    server.delete_secret("PW").await.expect("deleted");
    agent.report(&run.attempt_id, failed()).await;
    let ended = server.reaches(&workflow.id, "FAILED").await;
    assert!(
        ended
            .message
            .contains("(SecretMissing): there is no secret PW: set it with `farrier secret set PW`"),
        "{}",
        ended.message
    );
    let refused = server.log_in().await.expect_err("no secret");
    assert_eq!(refused.code(), Code::NotFound);
    assert!(
        refused.message().contains("there is no secret PW"),
        "{}",
        refused.message()
    );

    // The machine is free: nothing is stuck.
    server.set_secret("PW", VALUE).await.expect("secret");
    let next = server.log_in().await.expect("workflow");
    let run = agent.run().await;
    assert_eq!(run.workflow_id, next.id);
    server.stop().await;

    // Whoever has the store alone has no secret.
    std::fs::remove_file(dir.path().join("secrets.key")).expect("the key file");
    let server = Server::start(&dir, config(&dir)).await;
    let refused = server.set_secret("NEW", VALUE).await.expect_err("no key");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("there is no key file"),
        "{}",
        refused.message()
    );
    let mut agent = server.attach(hello("k2")).await.expect("attached");
    let ended = server.reaches(&next.id, "FAILED").await;
    assert!(
        ended.message.contains("(SecretUnreadable): there is no key file"),
        "{}",
        ended.message
    );
    agent.idle().await;
}

/// What the agent has already it goes on with, whatever became of its secrets.
#[tokio::test]
async fn an_attempt_that_the_agent_has_is_not_ended_behind_its_back() {
    let (server, _dir) = prepared().await;
    let mut agent = server.attach(hello("k1")).await.expect("attached");
    let workflow = server.log_in().await.expect("workflow");
    let run = agent.run().await;
    drop(agent);
    server.delete_secret("PW").await.expect("deleted");
    let mut hello = hello("k1");
    hello.journal = vec![proto::v1::JournalEntry {
        attempt_id: run.attempt_id.clone(),
        state: proto::v1::AttemptState::Waiting.into(),
        sequence: 0,
    }];
    let mut agent = server.attach(hello).await.expect("attached");
    agent.report(&run.attempt_id, started()).await;
    agent
        .report(
            &run.attempt_id,
            report::Outcome::Succeeded(Succeeded {
                outputs_json: r#"{"said": "x"}"#.into(),
                ..Succeeded::default()
            }),
        )
        .await;
    let ended = server.reaches(&workflow.id, "SUCCESS").await;
    assert_eq!(ended.message, "");
}
