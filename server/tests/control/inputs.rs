//! Input and outputs of actions over the wire: handed out as data, and shown for each action with the names of secrets.

use std::sync::Arc;
use std::time::Duration;

use proto::v1::{CreateWorkflowRequest, SetSecretRequest, Succeeded, Workflow, report};
use serde_json::{Value, json};
use server::Config;
use store::{MemoryStore, Store, StoreHandle};

use crate::harness::*;

const ADD_USERS: &str = r#"
version: "1"
name: add-users
inputs: {users: {type: list}}
tasks:
  - name: install
    worker: "{{.device_1}}"
    environment: {CHROOT: "y"}
    actions:
      - name: users
        image: cexec
        retry: {attempts: 2}
        input:
          chroot: false
          fs_type: ext4
          count: "${{ size(inputs.users) }}"
          users: "${{ inputs.users }}"
          password: "is ${{ secrets.PW }}"
      - {name: off, image: poweroff}
"#;

fn gives(outputs: &Value) -> report::Outcome {
    report::Outcome::Succeeded(Succeeded {
        outputs_json: outputs.to_string(),
        ..Succeeded::default()
    })
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| panic!("no JSON: {json:?}"))
}

/// Input and outputs of each action of the only task.
fn shown(workflow: &Workflow) -> Vec<(String, String)> {
    let actions = workflow.tasks[0].actions.iter();
    actions
        .map(|action| (action.input_json.clone(), action.outputs_json.clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_handed_data_and_its_state_shows_them_without_secrets() {
    let store = Arc::new(MemoryStore::default());
    let serve = async |archive_after| {
        let config = Config {
            archive_after,
            ..Config::default()
        };
        Server::over(StoreHandle::shared(store.clone()), config).await
    };
    let server = serve(Duration::from_secs(3600)).await;
    server.apply(MACHINE).await.expect("machine");
    let secret = SetSecretRequest {
        name: "PW".into(),
        value: b"correct \"horse\"".to_vec(),
        ..SetSecretRequest::default()
    };
    server.client().await.set_secret(secret).await.expect("secret");
    server.put(ADD_USERS).await.expect("template");
    let request = CreateWorkflowRequest {
        template: "add-users".into(),
        devices: [("device_1".to_owned(), MAC.to_owned())].into(),
        inputs_json: r#"{"users": ["ann", {"name": "${{ secrets.PW }}"}]}"#.into(),
        ..CreateWorkflowRequest::default()
    };
    let id = server.make(request).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    let users = json!(["ann", {"name": "${{ secrets.PW }}"}]);
    let input = |password: &str| json!({"chroot": false, "fs_type": "ext4", "count": 2, "users": users, "password": password});
    assert_eq!(value(&run.input_json), input("is correct \"horse\""));
    let mut environment: Vec<_> = run.environment.clone().into_iter().collect();
    environment.sort();
    assert_eq!(
        environment,
        [
            ("CHROOT".to_owned(), String::new()),
            ("FS_TYPE".to_owned(), "ext4".to_owned())
        ]
    );
    assert_eq!(run.secrets, ["correct \"horse\""]);
    let of_first = input("is ${{ secrets.PW }}").to_string();
    let running = server.workflow(&id).await;
    assert_eq!(
        shown(&running),
        [(of_first.clone(), String::new()), Default::default()]
    );

    agent.report(&run.attempt_id, failed()).await;
    let run = agent.run().await;
    assert_eq!(value(&run.input_json), input("is correct \"horse\""));
    let given = json!({"added": 2, "said": ["***"]});
    let said = json!({"added": 2, "said": ["correct \"horse\""]});
    agent.report(&run.attempt_id, gives(&said)).await;
    let run = agent.run().await;
    assert_eq!(run.input_json, "");
    agent.report(&run.attempt_id, leaving()).await;
    let ended = server.reaches(&id, "SUCCESS").await;
    let want = [(of_first, given.to_string()), Default::default()];
    assert_eq!(shown(&ended), want);
    let all = format!("{ended:?} {:?}", server.history(&id).await);
    assert!(!all.contains("horse"), "{all}");
    server.stop().await;

    // The same when it has left the store.
    let server = serve(Duration::ZERO).await;
    let is_archived = || {
        let key = format!("archived/{id}");
        store.get(key.as_bytes()).expect("readable").is_some()
    };
    until("it to be archived", is_archived).await;
    assert_eq!(shown(&server.workflow(&id).await), want);
    server.stop().await;
}
