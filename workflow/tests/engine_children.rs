//! Sub-workflows: started, paused, cancelled, retried; the root's claims.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, creation, tasks, two_tasks};
use serde_json::json;
use workflow::engine::{self, Effect, Parent, StepState, WorkflowState};

const PARENT: &str = "
    - name: sub
      workflow: other
      inputs: {disk: 'sd${{ 1 }}', count: 2}
    - name: last
      when: tasks.sub.outputs.address == '10.0.0.7'
      run: one on a
    ";

fn child(script: &Script, execution: &str) -> String {
    script.execution(execution).child.clone().unwrap()
}

#[test]
fn a_sub_workflow_s_outputs_are_the_task_s() {
    let mut script = Script::new(tasks(PARENT));
    script.expect_effects("claim a for w\nstart other as install-sub {\"count\":2,\"disk\":\"sd1\"}");
    assert_eq!(script.state().head.state, WorkflowState::Running);
    let id = child(&script, "0/1/0");
    assert_eq!((id.len(), &id[14..15]), (36, "7"));
    script.check(&format!("child 0/1/0 {id}x 1 SUCCESS"), "");
    script.check(
        &format!("child 0/1/0 {id} 1 SUCCESS"),
        "child_ended 0/1/0\nexecution_ended 0/1/0 SUCCESS\ntask_ended 0 SUCCESS\n\
         task_started 1\nexecution_made 1/1/0 machine",
    );
    script.check(&format!("child 0/1/0 {id} 1 SUCCESS"), "");
    // Machine c was the sub-workflow's.
    script.expect_effects("want a for 1/1/0\nrelease c of w");
    script.does("a", "succeeded");
    script.expect_effects("release a of w");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn a_sub_workflow_that_fails_fails_the_task() {
    for (state, end) in [
        ("FAILED", "FAILED"),
        ("TIMEOUT", "TIMEOUT"),
        ("CANCELLED", "FAILED"),
    ] {
        let mut script = Script::new(tasks(PARENT));
        let id = child(&script, "0/1/0");
        script.run(&format!("child 0/1/0 {id} 1 {state}"));
        script.expect_tasks(&format!("{end} SKIPPED"));
        let message = &script.state().head.message;
        assert!(
            message.contains(&format!("sub-workflow {id} is {state}: it broke")),
            "{message}"
        );
    }
}

#[test]
fn a_retry_goes_on_with_the_same_sub_workflow() {
    let mut script = Script::new(tasks(PARENT));
    let id = child(&script, "0/1/0");
    script.run(&format!("child 0/1/0 {id} 1 FAILED"));
    script.effects.clear();
    script.run("retry");
    assert_eq!(child(&script, "0/2/0"), id);
    script.expect_effects("claim a for w\nretry child");
    // A second delivery of the first end is none of the second run.
    script.check(&format!("child 0/1/0 {id} 1 FAILED"), "");
    script.run(&format!("child 0/1/0 {id} 2 SUCCESS"));
    script.expect_tasks("SUCCESS WAITING");
    // One that could not be made is made anew.
    let mut script = Script::new(tasks(PARENT));
    let id = child(&script, "0/1/0");
    script.run(&format!("child 0/1/0 {id} none FAILED"));
    script.run("retry");
    assert_ne!(child(&script, "0/2/0"), id);
    assert!(matches!(script.effects.last(), Some(Effect::StartChild { .. })));
}

#[test]
fn a_retry_goes_on_with_the_sub_workflow_of_a_run_before_the_last() {
    let mut script = Script::new(tasks(
        "
    - name: sub
      workflow: other
      inputs: {share: '${{ 100 / (workflow.run - 2) }}'}
    ",
    ));
    let id = child(&script, "0/1/0");
    script.run(&format!("child 0/1/0 {id} 1 FAILED"));
    // The second run does not come to it: its input has no value.
    script.run("retry");
    script.expect_tasks("FAILED");
    script.effects.clear();
    script.run("retry");
    script.expect_effects("retry child");
    assert_eq!(child(&script, "0/3/0"), id);
    // A second delivery of the first end is none of the third run.
    script.check(&format!("child 0/3/0 {id} 1 FAILED"), "");
    script.run(&format!("child 0/3/0 {id} 2 SUCCESS"));
    script.expect_tasks("SUCCESS");
}

#[test]
fn a_task_s_retry_makes_another_sub_workflow() {
    let mut script = Script::new(tasks(
        "
    - name: sub
      workflow: other
      retry: {attempts: 2, delay: 5s}
    ",
    ));
    let first = child(&script, "0/1/0");
    script.check(
        &format!("child 0/1/0 {first} 1 FAILED"),
        "child_ended 0/1/0\ndelayed 0/1/0",
    );
    assert_eq!(engine::next_due(script.state()), Some(7_000));
    script.now = 7_000;
    script.check("timer", "resumed 0/1/0 children");
    let second = child(&script, "0/1/0");
    assert_ne!(first, second);
    script.check(&format!("child 0/1/0 {first} 1 SUCCESS"), "");
    script.run(&format!("child 0/1/0 {second} 1 FAILED"));
    script.expect_tasks("FAILED");
}

#[test]
fn pause_and_cancel_reach_sub_workflows() {
    let mut script = Script::new(tasks(PARENT));
    let id = child(&script, "0/1/0");
    script.effects.clear();
    script.check("pause", "pause_asked\nchild_asked 0/1/0 pause\npaused");
    script.check("unpause", "unpaused\nchild_asked 0/1/0 unpause");
    script.check("cancel", "stopping CANCELLED\nchild_asked 0/1/0 cancel");
    script.expect_effects("pause child\nunpause child\ncancel child: wrong machine");
    script.check("continue", "");
    script.run(&format!("child 0/1/0 {id} 1 CANCELLED"));
    script.expect_tasks("CANCELLED CANCELLED");
    script.expect_state(WorkflowState::Cancelled, "wrong machine");
}

#[test]
fn a_task_s_timeout_cancels_its_sub_workflow() {
    let mut script = Script::new(tasks(
        "
    - name: sub
      timeout: 10
      workflow: other
    ",
    ));
    let id = child(&script, "0/1/0");
    script.effects.clear();
    script.now = 11_000;
    script.check("timer", "child_asked 0/1/0 cancel");
    script.expect_effects("cancel child: the task's timeout of 10 s has passed");
    assert_eq!(engine::next_due(script.state()), None);
    script.check("timer", "");
    script.run(&format!("child 0/1/0 {id} 1 CANCELLED"));
    script.expect_state(
        WorkflowState::Timeout,
        "task \"sub\" timed out: its timeout of 10 s has passed",
    );
}

#[test]
fn a_sub_workflow_claims_for_its_root_and_tells_it_what_it_claimed() {
    let mut creation = creation(two_tasks());
    creation.parent = Some(Parent {
        workflow: "p".into(),
        execution: "3/1/4".parse().unwrap(),
        root: "r".into(),
    });
    let mut script = Script::made(creation);
    script.expect_effects("claim a for r\nclaim b for r\nwant a for 0/1/0");
    script.refused("retry", "workflow w is part of workflow r: do this there");
    script.refused("deadlock", "workflow w is part of workflow r: do this there");
    script.does("a", "failed");
    let Some(Effect::EndChild {
        parent,
        child,
        run,
        state,
        workers,
        ..
    }) = script.effects.last()
    else {
        panic!("{:?}", script.effects);
    };
    assert_eq!(
        (parent.workflow.as_str(), parent.execution.to_string()),
        ("p", "3/1/4".into())
    );
    assert_eq!((child.as_str(), *run, *state), ("w", 1, WorkflowState::Failed));
    assert_eq!(workers, &["a", "b"]);
    assert!(
        !script
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Release { .. }))
    );
    // Its parent has it go on.
    script.run("retry-child");
    script.does("a", "succeeded");
    script.does("a", "succeeded");
    script.does("b", "succeeded");
    let Some(Effect::EndChild {
        run: 2,
        state: WorkflowState::Success,
        ..
    }) = script.effects.last()
    else {
        panic!("{:?}", script.effects);
    };
}

#[test]
fn a_root_keeps_its_machines_while_a_sub_workflow_may_use_them() {
    let mut script = Script::new(tasks(
        "
    - name: first
      run: one on a
    - name: sub
      workflow: other
      inputs: {of: '${{ tasks.first.state }}'}
    - name: last
      run: one on b
    ",
    ));
    script.effects.clear();
    script.does("a", "succeeded");
    script.expect_effects("start other as install-sub {\"of\":\"SUCCESS\"}");
    let id = child(&script, "1/1/0");
    script.run(&format!("child 1/1/0 {id} 1 SUCCESS"));
    script.expect_effects("want b for 2/1/0\nrelease a of w\nrelease c of w");
    assert_eq!(script.execution("1/1/0").state, StepState::Success);
    assert_eq!(json!(script.execution("1/1/0").child_workers), json!(["c"]));
}

#[test]
fn many_sub_workflows_run_in_a_window() {
    let mut script = Script::new(tasks(
        "
    - name: rack
      forEach: '[\"x\", \"y\", \"z\"]'
      maxParallel: 2
      workflow: other
      inputs: {host: '${{ item }}'}
    ",
    ));
    script.expect_effects(
        "start other as install-rack {\"host\":\"x\"}\nstart other as install-rack {\"host\":\"y\"}",
    );
    let id = child(&script, "0/1/1");
    script.run(&format!("child 0/1/1 {id} 1 SUCCESS"));
    script.expect_effects("start other as install-rack {\"host\":\"z\"}");
}
