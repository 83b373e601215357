//! What people do to a running workflow, and the parts of version 1 that machines have a say in.

use proto::v1::{
    CreateWorkflowRequest, DecideApprovalRequest, ExplainWorkflowRequest, SetPolicyRequest,
    WaitWorkflowRequest,
};
use server::Config;
use tonic::Code;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlives_the_server_and_nothing_starts_in_it() {
    let (server, dir) = Server::with_machine().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let write = agent.run().await;
    let paused = server.pause(&id, "lunch").await.expect("paused");
    assert_eq!(paused.state, "PAUSING");
    // What is under way runs on.
    agent.report(&write.attempt_id, succeeded()).await;
    agent.acknowledged().await;
    assert_eq!(server.workflow(&id).await.state, "PAUSED");
    server.stop().await;

    let server = Server::start(&dir, Config::default()).await;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    agent.sequence = 1;
    let why = agent.idle().await;
    assert!(why.contains("PAUSED"), "{why}");
    let resumed = server.resume(&id).await.expect("resumed");
    assert_eq!(resumed.state, "RUNNING");
    let restart = agent.run().await;
    agent.report(&restart.attempt_id, leaving()).await;
    server.reaches(&id, "SUCCESS").await;
}

const ASKS: &str = r#"
version: "1"
name: asks
tasks:
  - name: wipe
    worker: "52:54:00:77:00:0b"
    approve: {message: "wipe node1?", by: [ops]}
    actions: [{name: wipe, image: cexec}]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_asked_for_and_the_first_decision_counts() {
    let (server, _dir) = Server::with_machine().await;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    agent.idle().await;
    let made = server.create_of(ASKS).await;
    let id = made.id;
    let execution = &made.tasks[0].executions[0];
    assert_eq!(
        (
            execution.state.as_str(),
            execution.waiting.as_str(),
            execution.approve_message.as_str()
        ),
        ("WAITING", "approval", "wipe node1?")
    );
    let decide = |approved| DecideApprovalRequest {
        id: id.clone(),
        task: String::new(),
        approved,
        comment: "as agreed".into(),
        ..DecideApprovalRequest::default()
    };
    let mut bob = server.person("bob", &["dev"], "operator").await;
    let mut ann = server.person("ann", &["dev", "ops"], "operator").await;
    let status = bob.decide_approval(decide(true)).await;
    let status = status.expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("bob"), "{}", status.message());
    let decided = ann.decide_approval(decide(true)).await;
    let decided = decided.expect("approved").into_inner();
    let decision = decided.tasks[0].executions[0]
        .decision
        .clone()
        .expect("a decision");
    assert!(decision.approved && decision.by == "ann" && decision.comment == "as agreed");
    let run = agent.run().await;
    let status = ann.decide_approval(decide(false)).await;
    assert_eq!(status.expect_err("too late").code(), Code::FailedPrecondition);
    agent.report(&run.attempt_id, succeeded()).await;
    server.reaches(&id, "SUCCESS").await;
}

const STEPS: &str = r#"
version: "1"
name: steps
policy: [auto action=look]
tasks:
  - name: install
    worker: "52:54:00:77:00:0b"
    actions:
      - {name: look, image: cexec}
      - {name: write, image: image2disk, environment: {DEST_DISK: /dev/vda, IMG_URL: "http://10.77.0.1/d.raw"}}
      - {name: tell, image: cexec}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_asks_for_actions_is_changed_and_outlives_the_server() {
    let (server, dir) = Server::with_machine().await;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let make = |rule: &str| CreateWorkflowRequest {
        text: STEPS.into(),
        policy: vec![rule.to_owned()],
        ..CreateWorkflowRequest::default()
    };
    let wrong = server.make(make("ask disks")).await.expect_err("it is no rule");
    assert_eq!(wrong.code(), Code::InvalidArgument);
    let words =
        "policy \"ask disks\" says \"disks\", which is none of action=NAME, image=IMAGE and writes=disk";
    assert!(wrong.message().starts_with(words), "{}", wrong.message());
    let made = server
        .make(make("ask writes=disk by=ops"))
        .await
        .expect("workflow");
    assert_eq!(made.policy, ["ask writes=disk by=ops", "auto action=look"]);
    let id = made.id;
    let look = agent.run().await;
    agent.report(&look.attempt_id, succeeded()).await;
    agent.acknowledged().await;
    let shown = server.workflow(&id).await;
    let execution = &shown.tasks[0].executions[0];
    assert_eq!(
        (execution.waiting.as_str(), execution.approve_message.as_str()),
        (
            "approval",
            "action \"write\" (the policy says ask writes=disk by=ops)"
        )
    );
    server.stop().await;

    let server = Server::start(&dir, Config::default()).await;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    agent.sequence = 1;
    agent.idle().await;
    let decide = || DecideApprovalRequest {
        id: id.clone(),
        approved: true,
        ..DecideApprovalRequest::default()
    };
    let mut bob = server.person("bob", &["dev"], "operator").await;
    let refused = bob.decide_approval(decide()).await;
    assert_eq!(
        refused.expect_err("he is not of ops").code(),
        Code::FailedPrecondition
    );
    let mut ann = server.person("ann", &["ops"], "operator").await;
    let decided = ann
        .decide_approval(decide())
        .await
        .expect("released")
        .into_inner();
    let released = decided.tasks[0].executions[0].actions[1].released.clone();
    assert_eq!(released.expect("a decision").by, "ann");
    let write = agent.run().await;
    assert_eq!(write.action, "write");
    let deny = SetPolicyRequest {
        id: id.clone(),
        policy: vec!["deny action=tell".into()],
        ..SetPolicyRequest::default()
    };
    let set = ann.set_policy(deny).await.expect("set").into_inner();
    assert_eq!(set.policy, ["deny action=tell"]);
    agent.report(&write.attempt_id, succeeded()).await;
    let ended = server.reaches(&id, "FAILED").await;
    let execution = &ended.tasks[0].executions[0];
    assert_eq!(
        (execution.reason.as_str(), execution.message.as_str()),
        (
            "Denied",
            "the policy of this workflow does not let action \"tell\" be done: deny action=tell"
        )
    );
    let events = server.history(&id).await;
    let set = events
        .iter()
        .find(|event| event.kind == "policy_set")
        .expect("an event");
    assert_eq!(set.message, "the policy is deny action=tell, says ann");
}

const EVERYWHERE: &str = r#"
version: "1"
name: everywhere
inputs: {rack: {type: string}}
tasks:
  - name: update
    forEach: machines("rack == '" + inputs.rack + "'")
    worker: "${{ item.mac }}"
    actions: [{name: run, image: cexec, environment: {WHO: "${{ machine.name }}"}}]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_for_each_goes_over_the_machines_that_match() {
    let (server, _dir) = Server::with_machine().await;
    for (number, rack) in [("0c", "r7"), ("0d", "r8"), ("0e", "r7")] {
        let machine = format!("machine: n{number}\nmac: 52:54:00:77:00:{number}\nlabels: {{rack: {rack}}}\n");
        server.apply(&machine).await.expect("machine");
    }
    let request = CreateWorkflowRequest {
        text: EVERYWHERE.into(),
        inputs_json: r#"{"rack": "r7"}"#.into(),
        ..CreateWorkflowRequest::default()
    };
    let id = server.make(request).await.expect("workflow").id;
    for number in ["0c", "0e"] {
        let mut hello = hello("k1");
        hello.mac = format!("52:54:00:77:00:{number}");
        let mut agent = server.attach(hello).await.expect("attach");
        let run = agent.run().await;
        assert_eq!(
            (run.workflow_id.as_str(), run.environment["WHO"].as_str()),
            (id.as_str(), format!("n{number}").as_str())
        );
        agent.report(&run.attempt_id, succeeded()).await;
        agent.acknowledged().await;
    }
    let done = server.reaches(&id, "SUCCESS").await;
    let task = &done.tasks[0];
    assert_eq!((task.items, task.ended, task.executions.len()), (2, 2, 2));
    assert_eq!(task.executions[1].worker, "52:54:00:77:00:0e");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_without_a_value_for_one_machine_fails_the_task_and_a_label_that_is_missing_does_not() {
    let (server, _dir) = Server::with_machine().await;
    for (number, slots) in [("0c", "labels: {slots: \"8\"}"), ("0d", "labels: {slots: many}")] {
        let machine = format!("machine: n{number}\nmac: 52:54:00:77:00:{number}\n{slots}\n");
        server.apply(&machine).await.expect("machine");
    }
    let over = |selector: &str| {
        format!(
            "version: '1'\nname: over\ntasks:\n- name: roll\n  forEach: machines(\"{selector}\")\n  set: {{name: item.name}}\n\
             - {{name: after, when: always(), set: {{names: \"tasks.roll.state\"}}}}\n"
        )
    };
    // node1 has no labels at all.
    let done = server.create_of(&over("slots == '8'")).await.id;
    let done = server.reaches(&done, "SUCCESS").await;
    assert_eq!(done.tasks[0].items, 1);
    let failed = server.create_of(&over("slots != '' && int(slots) > 4")).await.id;
    let failed = server.reaches(&failed, "FAILED").await;
    assert_eq!(
        failed.message,
        "task \"roll\" failed (Expression): whether machine n0d is meant cannot be said: `slots != '' && int(slots) > 4`: \
         int(): \"many\" is no whole number of 64 bits; it saw slots = \"many\""
    );
    assert_eq!(failed.tasks[1].state, "SUCCESS", "{failed:?}");
    let events = server.events(&failed.id).await;
    assert_eq!(events[..3], ["created", "asked", "task_ended"], "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_are_checked_when_a_workflow_is_made() {
    let (server, _dir) = Server::with_machine().await;
    for (inputs, what) in [("{}", "rack"), (r#"{"rack": 7}"#, "rack"), ("[]", "JSON object")] {
        let request = CreateWorkflowRequest {
            text: EVERYWHERE.into(),
            inputs_json: inputs.into(),
            ..CreateWorkflowRequest::default()
        };
        let status = server.make(request).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(what), "{}", status.message());
    }
}

/// A bound from an input is refused in the words for one that is written out, and a run has its value.
#[tokio::test(flavor = "multi_thread")]
async fn bounds_come_from_inputs() {
    let (server, _dir) = Server::with_machine().await;
    let make = |limit: &str, inputs: &str| CreateWorkflowRequest {
        text: format!(
            "version: '1'\nname: w\ninputs: {{limit: {{type: string}}}}\ntasks:\n- name: ask\n  approve:\n    message: go on?\n    timeout: {limit}\n"
        ),
        inputs_json: inputs.into(),
        ..CreateWorkflowRequest::default()
    };
    let refused = async |request| {
        server
            .make(request)
            .await
            .expect_err("refused")
            .message()
            .to_owned()
    };
    let by_input = refused(make("'${{ inputs.limit }}'", r#"{"limit": "soon"}"#)).await;
    let written_out = refused(make("soon", r#"{"limit": "soon"}"#)).await;
    let words = "rendered line 8, column 14: timeout \"soon\" is no duration: write seconds, or one like 90s, 10m, 1h30m or 2d\n    ";
    assert!(by_input.starts_with(words), "{by_input}");
    assert!(written_out.starts_with(words), "{written_out}");
    assert!(by_input.contains("farrier template render -f FILE"), "{by_input}");
    let (id, _) = server
        .make(make("'${{ inputs.limit }}'", r#"{"limit": "1s"}"#))
        .await
        .map(|made| (made.id.clone(), made))
        .expect("workflow");
    assert_eq!(
        server.reaches(&id, "TIMEOUT").await.message,
        "task \"ask\" timed out: nobody decided within 1 s"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_workflow_is_tried_again_in_its_next_run() {
    let (server, _dir) = Server::with_machine().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let write = agent.run().await;
    agent.report(&write.attempt_id, failed()).await;
    server.reaches(&id, "FAILED").await;
    let again = server.retry(&id).await.expect("retried");
    assert_eq!((again.run, again.state.as_str()), (2, "PENDING"));
    let write = agent.run().await;
    assert_eq!(write.attempt_id, format!("{id}/0/2/0/0/1"));
    // No report of the first run does anything any more.
    agent.report(&format!("{id}/0/1/0/0/1"), succeeded()).await;
    agent.report(&write.attempt_id, succeeded()).await;
    let restart = agent.run().await;
    agent.report(&restart.attempt_id, leaving()).await;
    let done = server.reaches(&id, "SUCCESS").await;
    assert_eq!((done.run, done.tasks[0].instance), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_its_time_or_with_the_workflow() {
    let (server, _dir) = Server::with_machine().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let wait = |timeout_ms| WaitWorkflowRequest {
        id: id.clone(),
        timeout_ms,
    };
    let mut client = server.client().await;
    let waited = client.wait_workflow(wait(1)).await.expect("answer").into_inner();
    assert!(!waited.ended && waited.workflow.expect("workflow").state == "PENDING");
    let mut waiting = server.client().await;
    let waited = tokio::spawn({
        let wait = wait(0);
        async move { waiting.wait_workflow(wait).await.expect("answer").into_inner() }
    });
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let write = agent.run().await;
    agent.report(&write.attempt_id, failed()).await;
    let waited = waited.await.expect("a task");
    assert!(waited.ended && waited.workflow.expect("workflow").state == "FAILED");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_who_comes_first() {
    let (server, _dir) = Server::with_machine().await;
    let first = server.create("two", MAC).await.expect("workflow").id;
    let second = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    let explain = |task: &str| ExplainWorkflowRequest {
        id: second.clone(),
        task: task.into(),
    };
    let mut client = server.client().await;
    let lines = client
        .explain_workflow(explain(""))
        .await
        .expect("lines")
        .into_inner()
        .lines;
    let text = lines.join("\n");
    assert!(
        text.contains("install") && text.contains(&first) && text.contains(&run.attempt_id),
        "{text}"
    );
    let status = client
        .explain_workflow(explain("instal"))
        .await
        .expect_err("refused");
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("\"instal\""), "{}", status.message());
}

const OUTER: &str = r#"
version: "1"
name: outer
tasks:
  - {name: inner, workflow: two-of-it}
"#;

const INNER: &str = r#"
version: "1"
name: two-of-it
tasks:
  - {name: a, worker: "52:54:00:77:00:0b", actions: [{name: x, image: cexec}]}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_sub_workflow_is_made_of_a_stored_template() {
    let (server, _dir) = Server::with_machine().await;
    server.put(INNER).await.expect("template");
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    agent.idle().await;
    let id = server.create_of(OUTER).await.id;
    let run = agent.run().await;
    assert_ne!(run.workflow_id, id);
    let inner = server.workflow(&run.workflow_id).await;
    assert_eq!(
        (inner.parent.as_str(), inner.root.as_str()),
        (id.as_str(), id.as_str())
    );
    agent.report(&run.attempt_id, succeeded()).await;
    let outer = server.reaches(&id, "SUCCESS").await;
    assert_eq!(outer.tasks[0].executions[0].child, run.workflow_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_is_to_stop_is_given_the_grace_of_the_settings() {
    let (server, _dir) = Server::with_machine_and(Config {
        stop_grace: std::time::Duration::from_secs(45),
        ..Config::default()
    })
    .await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    server.cancel(&id, "wrong disk").await.expect("cancelled");
    let stop = agent.stop().await;
    assert_eq!((stop.attempt_id, stop.grace_s), (run.attempt_id, 45));
}
