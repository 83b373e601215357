//! Workflows that make workflows.

use coordinator::Coordinator;
use workflow::engine::{Command, WorkflowState};
use workflow::language::ImagePolicy;

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
fn a_sub_workflow_whose_image_is_refused_fails_its_task_with_the_refusal() {
    let mut server = Server::new(limits());
    let images = ImagePolicy {
        allowed: vec!["quay.io".parse().expect("a registry")],
        ..ImagePolicy::default()
    };
    server.coordinator = Coordinator::new(server.store.clone(), limits()).with_images(images);
    server.template(
        "child",
        &CHILD.replace("image: cexec", "image: \"evil.example/x:1\""),
    );
    server.attach("m1", "k1");
    let root = server.create(PARENT);
    server.work_off("m1");
    let ended = server.workflow(&root);
    assert_eq!(ended.head.state, WorkflowState::Failed);
    let refused = "task \"only\", action \"x\": image evil.example/x:1 is refused: this server allows images of quay.io alone";
    assert!(ended.head.message.contains(refused), "{}", ended.head.message);
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

/// `top` calls `middle`, that calls `bottom`, which writes to a disk of each machine; something else of `top` goes on.
fn writers(server: &mut Server, machines: usize) -> String {
    let below = |name: &str, call: &str| {
        let inputs = "inputs: {on: {type: list}}";
        format!("version: \"1\"\nname: {name}\n{inputs}\ntasks:\n  - {{name: t, {call}}}\n")
    };
    let write = "forEach: inputs.on, worker: '${{ item }}', actions: [{name: x, image: image2disk, environment: {DEST_DISK: \
                 /dev/vda}}]";
    server.template("bottom", &below("bottom", write));
    let call = "workflow: bottom, inputs: {on: '${{ inputs.on }}'}";
    server.template("middle", &below("middle", call));
    let names: Vec<String> = (0..machines).map(|machine| format!("m{machine}")).collect();
    let list = names.join(", ");
    server.create(&format!(
        "version: \"1\"\nname: top\ntasks:\n  - {{name: sub, workflow: middle, inputs: {{on: [{list}]}}}}\n  - {{name: other, needs: \
         [], worker: elsewhere, actions: [{{name: x, image: writefile}}]}}\n"
    ))
}

fn skip(task: &str) -> Command {
    Command::Skip {
        task: task.to_owned(),
        item: None,
        by: "ann".to_owned(),
        reason: "no".to_owned(),
    }
}

#[test]
fn a_disk_that_a_skipped_sub_workflow_left_half_written_is_held_although_the_root_succeeds() {
    let limits = |operations| coordinator::Limits {
        commit_operations: operations,
        ..limits()
    };
    // With more machines than a step touches by itself, and in commits in which little fits.
    for (machines, operations) in [(1, 128), (7, 128), (7, 48), (60, 48)] {
        let mut server = Server::new(limits(operations));
        let root = writers(&mut server, machines);
        let names: Vec<String> = (0..machines).map(|machine| format!("m{machine}")).collect();
        let mut attempts = Vec::new();
        // The end of what is skipped is that of the root.
        server.attach("elsewhere", "k1");
        server.work_off("elsewhere");
        for (n, name) in names.iter().enumerate() {
            server.attach(name, "k1");
            // The last of several is not handed anything: nothing is left half written there.
            if n == 0 || n + 1 < machines {
                attempts.push((name, server.run(name)));
            }
        }
        server.command(&root, skip("sub")).expect("skipped");
        for (name, attempt) in &attempts {
            let stopped = workflow::engine::Outcome::Stopped {
                message: String::new(),
            };
            server.report(name, attempt, stopped);
        }
        assert_eq!(server.state(&root), WorkflowState::Success, "{machines} machines");
        assert!(server.keys("open/").is_empty() && server.keys("outbox/").is_empty());
        for (n, name) in names.iter().enumerate() {
            let disks = server.machine(name).disks;
            let held = disks.hold().map(|hold| (hold.root.to_owned(), hold.state));
            let want = (n == 0 || n + 1 < machines).then(|| (root.clone(), WorkflowState::Success));
            assert_eq!(held, want, "{name} of {machines}, {operations} operations");
        }
    }
}

#[test]
fn what_a_sub_workflow_wrote_whole_before_it_was_skipped_is_not_held() {
    let mut server = Server::new(limits());
    let root = writers(&mut server, 2);
    server.attach("m0", "k1");
    server.attach("m1", "k1");
    server.work_off("m0");
    server.command(&root, skip("sub")).expect("skipped");
    server.attach("elsewhere", "k1");
    server.work_off("elsewhere");
    assert_eq!(server.state(&root), WorkflowState::Success);
    for name in ["m0", "m1"] {
        assert_eq!(server.machine(name).disks.hold(), None, "{name}");
    }
    assert_eq!(
        server.machine("m0").disks.written_by.as_deref(),
        Some(root.as_str())
    );
}
