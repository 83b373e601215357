//! A person has one thing that failed done again: a task, or one item of a `forEach`.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, tasks};
use workflow::engine::{self, WorkflowState};
use workflow::language::Approve;

const ROLLOUT: &str = r#"
    - name: roll
      forEach: '["a", "b", "c", "d"]'
      maxParallel: 2
      maxFailures: 1
      timeout: 10
      run: one two on ${{ item }}
    - name: check
      needs: [roll]
      run: three on z
    "#;

#[test]
fn one_machine_of_a_rollout_is_done_again_while_the_others_go_on() {
    let mut script = Script::new(tasks(ROLLOUT));
    script.does("a", "succeeded");
    script.does("a", "failed");
    assert_eq!(script.state().head.tasks[0].failed, 1);
    script.effects.clear();
    script.now = 5_000;
    script.check("retry roll[0]", "item_reopened 0/1/0\nresumed 0/1/0 machine");
    script.expect_effects("want a for 0/1/0");
    assert_eq!(script.state().head.tasks[0].failed, 0);
    // All of it, from the first action, with the full time; attempts are numbered on.
    assert_eq!(script.hand_out("a"), "w/0/1/0/0/2");
    assert_eq!(engine::next_due(script.state()), Some(15_000));
    script.run("report w/0/1/0/0/2 succeeded");
    script.does("a", "succeeded");
    // Its failure does not count any more: another one is borne.
    script.does("b", "failed");
    for machine in ["c", "c", "d", "d", "z"] {
        script.does(machine, "succeeded");
    }
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn a_task_is_done_again_with_what_was_skipped_for_it() {
    let text = "
    - name: first
      run: one on a
    - name: second
      needs: [first]
      run: two on b
    - name: other
      needs: []
      run: three on c
    ";
    let mut script = Script::new(tasks(text));
    script.does("a", "failed");
    script.expect_tasks("FAILED SKIPPED WAITING");
    script.effects.clear();
    script.check(
        "retry first",
        "tasks_reopened [0, 1]\ntask_started 0\nexecution_made 0/2/0 machine",
    );
    // Its machines were given back.
    script.expect_effects("claim a for w\nclaim b for w\nclaim c for w\nwant a for 0/2/0");
    for machine in ["a", "b", "c"] {
        script.does(machine, "succeeded");
    }
    script.expect_state(WorkflowState::Success, "");
    assert_eq!(script.state().head.run, 1);
}

#[test]
fn of_a_list_that_is_over_only_what_did_not_succeed_is_done_again() {
    let text = r#"
    - name: roll
      forEach: '["a", "b"]'
      run: one on ${{ item }}
    - name: other
      needs: []
      run: three on c
    "#;
    let mut script = Script::new(tasks(text));
    script.does("a", "succeeded");
    script.does("b", "failed");
    script.refused(
        "retry roll[1]",
        "task \"roll[1]\" of workflow w is over with its task: farrier workflow retry w roll does again what of it did not \
         succeed",
    );
    script.run("retry roll");
    script.does("b", "succeeded");
    script.does("c", "succeeded");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn a_task_of_a_workflow_that_has_ended_opens_the_next_run() {
    let text = "
    - name: first
      run: one on a
    - name: second
      needs: []
      run: two on b
    - name: last
      needs: [first]
      run: three on c
    ";
    let mut script = Script::new(tasks(text));
    script.does("a", "failed");
    script.does("b", "failed");
    assert_eq!(script.state().head.state, WorkflowState::Failed);
    script.check(
        "retry first",
        "run_opened [0, 2]\ntask_started 0\nexecution_made 0/2/0 machine",
    );
    script.does("a", "succeeded");
    script.does("c", "succeeded");
    // What else failed stays as it was, and counts.
    script.expect_tasks("SUCCESS FAILED SUCCESS");
    assert_eq!(script.state().head.state, WorkflowState::Failed);
    script.run("retry second");
    script.does("b", "succeeded");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn of_a_workflow_that_succeeded_nothing_is_done_again() {
    let text = "
    - name: first
      run: one on a
    - name: last
      when: failure()
      recovers: [first]
      run: three on c
    ";
    let mut script = Script::new(tasks(text));
    script.does("a", "failed");
    script.does("c", "succeeded");
    script.expect_tasks("FAILED SUCCESS");
    script.expect_state(WorkflowState::Success, "");
    script.refused(
        "retry first",
        "workflow w is SUCCESS: nothing of it failed that was not made good; create a new workflow to do it again",
    );
}

#[test]
fn what_nobody_approved_asks_again_and_what_was_approved_does_not() {
    let text = r#"
    - name: roll
      forEach: '["a", "b"]'
      approve: {message: go?, timeout: 60}
      run: one on ${{ item }}
    "#;
    let mut script = Script::new(tasks(text));
    script.run("reject roll[0]");
    script.check("retry roll[0]", "item_reopened 0/1/0\nresumed 0/1/0 approval");
    assert_eq!(script.execution("0/1/0").due, Some(62_000));
    script.run("approve roll[0]");
    script.does("a", "failed");
    script.check("retry roll[0]", "item_reopened 0/1/0\nresumed 0/1/0 machine");
}

/// The language has approvals in a task of their own; the engine takes them anywhere.
#[test]
fn the_end_of_a_sub_workflow_that_is_made_anew_counts_after_a_rejection_too() {
    let text = r#"
    - name: roll
      forEach: '["a", "b"]'
      workflow: other
    "#;
    let mut definition = tasks(text);
    definition.tasks[0].approve = Some(Approve {
        message: "go?".into(),
        by: vec![],
        timeout_s: 0,
    });
    let mut script = Script::new(definition);
    script.run("approve roll[0]; reject roll[1]");
    let first = script.execution("0/1/0").child.clone().expect("a sub-workflow");
    script.run(&format!("child 0/1/0 {first} 1 FAILED"));
    script.run("retry");
    // The next run would go on with it; nobody lets it.
    script.run("reject roll[0]; retry roll[0]; approve roll[0]");
    let anew = script.execution("0/2/0").child.clone().expect("a sub-workflow");
    assert_ne!(anew, first);
    script.check(
        &format!("child 0/2/0 {anew} 1 SUCCESS"),
        "child_ended 0/2/0\nexecution_ended 0/2/0 SUCCESS",
    );
}

#[test]
fn what_makes_no_sense_to_retry_is_refused_in_words() {
    let text = r#"
    - name: roll
      forEach: '["a", "b"]'
      run: one on ${{ item }}
    - name: first
      needs: []
      run: two on c
    - name: clean
      needs: [first]
      when: failure()
      run: three on d
    "#;
    let mut script = Script::new(tasks(text));
    script.refused(
        "retry rol",
        "workflow w has no task \"rol\"; it has roll, first, clean",
    );
    script.refused(
        "retry roll[0]",
        "task \"roll[0]\" of workflow w is WAITING: only what failed is done again",
    );
    script.refused(
        "retry clean",
        "task \"clean\" of workflow w is IDLE: only what failed is done again",
    );
    script.does("c", "failed");
    script.refused(
        "retry first",
        "task \"first\" of workflow w is FAILED, and task \"clean\", which depends on it, is WAITING already: when the workflow \
         has ended, farrier workflow retry w first runs both again",
    );
    script.run("pause");
    script.refused("retry first", "workflow w is PAUSED: resume it first");
    script.run("unpause; dispatch 0/1/0 a boot1; cancel");
    script.refused(
        "retry first",
        "workflow w is CANCELLING: it ends as soon as what is under way has stopped",
    );
    let mut broken = Script::new(tasks(
        r#"
    - name: roll
      forEach: '["a", "b"]'
      when: 1 / 0 == 1 || item == "b"
      run: one on ${{ item }}
    "#,
    ));
    broken.refused(
        "retry roll[0]",
        "task \"roll[0]\" of workflow w failed as an expression has no value, and those of a task are worked out once: when \
         the workflow has ended, farrier workflow retry w works them out again",
    );
}
