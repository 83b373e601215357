//! Workflows that make workflows.

use workflow::engine::{Command, WorkflowState};

use crate::harness::*;

const PARENT: &str = r#"
version: "1"
name: parent
tasks:
  - {name: before, worker: m1, actions: [{name: x, image: cexec}]}
  - {name: inner, workflow: child, inputs: {on: m1}}
  - {name: after, worker: m1, actions: [{name: x, image: cexec}]}
outputs: {answer: "tasks.inner.outputs.answer"}
"#;

const CHILD: &str = r#"
version: "1"
name: child
inputs: {on: {type: string}}
tasks:
  - {name: only, worker: "${{ inputs.on }}", actions: [{name: x, image: cexec}]}
outputs: {answer: "'from ' + inputs.on"}
"#;

#[test]
fn a_sub_workflow_runs_under_its_roots_claim_and_gives_its_outputs() {
    let mut server = Server::new(limits());
    server.template("child", CHILD);
    server.attach("m1", "k1");
    let root = server.create(PARENT);
    // Made later, and behind the root until that has ended.
    let other = server.create(
        "version: \"1\"\nname: other\ntasks: [{name: a, worker: m1, actions: [{name: x, image: cexec}]}]\n",
    );
    let done = server.work_off("m1");
    let workflows: Vec<&str> = done.iter().map(|attempt| attempt.workflow.as_str()).collect();
    let child = server
        .workflow(&root)
        .executions_of(1)
        .next()
        .and_then(|execution| execution.child.clone())
        .expect("a sub-workflow");
    assert_eq!(workflows, [root.as_str(), &child, &root, &other]);
    let ended = server.workflow(&root);
    assert_eq!(ended.head.state, WorkflowState::Success, "{}", ended.head.message);
    assert_eq!(ended.head.outputs["answer"], "from m1");
    assert_eq!(
        server
            .workflow(&child)
            .head
            .parent
            .as_ref()
            .map(|parent| parent.root.as_str()),
        Some(root.as_str())
    );
    assert!(server.keys("open/").is_empty() && server.keys("outbox/").is_empty());
}

#[test]
fn a_sub_workflow_that_cannot_be_made_fails_its_task() {
    let mut server = Server::new(limits());
    server.attach("m1", "k1");
    let root = server.create(PARENT);
    server.work_off("m1");
    let ended = server.workflow(&root);
    assert_eq!(ended.head.state, WorkflowState::Failed);
    assert!(
        ended
            .head
            .message
            .contains("no template has name or id \"child\""),
        "{}",
        ended.head.message
    );
    assert!(server.machine("m1").claims.is_empty());
}

#[test]
fn a_template_that_calls_itself_ends() {
    let mut server = Server::new(limits());
    let text = "version: \"1\"\nname: loop\ntasks: [{name: again, workflow: loop}]\n";
    server.template("loop", text);
    let root = server.create(text);
    let ended = server.workflow(&root);
    assert_eq!(ended.head.state, WorkflowState::Failed);
    assert!(
        ended.head.message.contains("16 are the most"),
        "{}",
        ended.head.message
    );
}

#[test]
fn a_cancel_reaches_the_sub_workflow_also_when_that_is_still_to_be_made() {
    let mut server = Server::new(limits());
    server.template("child", CHILD);
    server.attach("m1", "k1");
    let root = server.create(PARENT);
    let before = server.run("m1");
    // What follows from this report is left: the sub-workflow stands in the outbox.
    let input = coordinator::Input::Report(Box::new(coordinator::Report {
        machine: "m1".into(),
        boot_id: "k1".into(),
        epoch: 1,
        sequence: 1,
        attempt: before,
        outcome: Some(succeeded()),
        data: None,
        untouched: false,
    }));
    server.step(input);
    let left = std::mem::take(&mut server.then);
    let cancel = Command::Cancel {
        by: String::new(),
        reason: "no".into(),
    };
    server.step(coordinator::Input::Command {
        workflow: root.clone(),
        command: cancel,
    });
    server.then.extend(left);
    server.settle();
    assert_eq!(server.state(&root), WorkflowState::Cancelled);
    assert!(server.machine("m1").claims.is_empty());
    assert!(server.keys("open/").is_empty() && server.keys("outbox/").is_empty());
}
