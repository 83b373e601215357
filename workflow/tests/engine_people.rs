//! What people do to a workflow: pause, resume, cancel, retry, approve, reject, explain.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, tasks, two_tasks};
use workflow::engine::{self, Effect, WorkflowState};
use workflow::language::Control;

#[test]
fn a_pause_starts_nothing_and_lets_attempts_run_on() {
    let mut script = Script::new(two_tasks());
    script.run("dispatch 0/1/0 a boot1");
    script.check("pause", "pause_asked");
    script.check("pause", "");
    assert_eq!(script.state().head.state, WorkflowState::Pausing);
    script.effects.clear();
    script.check(
        "report w/0/1/0/0/1 succeeded",
        "reported w/0/1/0/0/1 succeeded\npaused",
    );
    script.expect_effects("");
    assert_eq!(script.state().head.state, WorkflowState::Paused);
    script.refused(
        "dispatch 0/1/0 a boot1",
        "task execution 0/1/0 of workflow w is not ready for a machine",
    );
    script.check("unpause", "unpaused\nresumed 0/1/0 machine");
    script.expect_effects("want a for 0/1/0");
    assert_eq!(script.state().head.state, WorkflowState::Running);
    script.refused("unpause", "workflow w is RUNNING: it is not paused");
    script.does("a", "succeeded");
    // Before anything ran.
    let mut script = Script::new(two_tasks());
    script.effects.clear();
    script.check("pause", "pause_asked\npaused");
    script.expect_effects("unwant a for 0/1/0");
    script.check("unpause", "unpaused\nresumed 0/1/0 machine");
    assert_eq!(script.state().head.state, WorkflowState::Pending);
    script.does("a", "succeeded");
}

#[test]
fn a_pause_between_tasks_starts_the_next_at_resume() {
    let mut script = Script::new(two_tasks());
    script.does("a", "succeeded");
    script.run("dispatch 0/1/0 a boot1; pause");
    script.check(
        "report w/0/1/0/1/1 succeeded",
        "reported w/0/1/0/1/1 succeeded\nexecution_ended 0/1/0 SUCCESS\npaused",
    );
    script.check(
        "unpause",
        "unpaused\ntask_ended 0 SUCCESS\ntask_started 1\nexecution_made 1/1/0 machine",
    );
}

#[test]
fn a_pause_before_the_first_action_takes_nothing_from_budgets() {
    let mut definition = two_tasks();
    definition.global_timeout_s = 30;
    definition.tasks[0].timeout_s = 20;
    let mut script = Script::new(definition);
    script.run("pause");
    script.now = 5_000;
    script.run("unpause; dispatch 0/1/0 a boot1");
    assert_eq!(engine::next_due(script.state()), Some(25_000));
    script.run("pause");
    script.now = 6_000;
    script.run("unpause");
    assert_eq!(engine::next_due(script.state()), Some(26_000));
    script.run("report w/0/1/0/0/1 succeeded; dispatch 0/1/0 a boot1; report w/0/1/0/1/1 succeeded");
    assert_eq!(engine::next_due(script.state()), Some(36_000));
}

#[test]
fn budgets_stand_still_in_a_pause_and_waits_do_not() {
    let mut definition = tasks(
        "
    - name: first
      needs: []
      timeout: 10
      run: one on a
    - name: second
      needs: []
      wait: 20s
    ",
    );
    definition.global_timeout_s = 30;
    let mut script = Script::new(definition);
    script.run("dispatch 0/1/0 a boot1");
    script.now = 5_000;
    script.run("pause");
    assert_eq!(engine::next_due(script.state()), None);
    script.now = 25_000;
    script.check("timer", "");
    // The wait was over at 21; the timeouts have 20 s more.
    script.check(
        "unpause",
        "unpaused\nexecution_ended 1/1/0 SUCCESS\ntask_ended 1 SUCCESS",
    );
    assert_eq!(engine::next_due(script.state()), Some(32_000));
    script.run("report w/0/1/0/0/1 started");
    script.now = 32_000;
    script.check("timer", "stop_asked w/0/1/0/0/1 TIMEOUT");
    assert_eq!(engine::next_due(script.state()), Some(51_000));
}

#[test]
fn what_is_ending_cannot_be_paused() {
    let mut script = Script::new(two_tasks());
    script.run("dispatch 0/1/0 a boot1; cancel");
    script.refused(
        "pause",
        "workflow w is CANCELLING: it ends as soon as what is under way has stopped",
    );
    script.run("report w/0/1/0/0/1 stopped");
    script.refused("pause", "workflow w has ended: it is CANCELLED");
    script.refused("unpause", "workflow w has ended: it is CANCELLED");
    let mut script = Script::new(two_tasks());
    script.run("pause; cancel");
    script.expect_state(WorkflowState::Cancelled, "wrong machine");
}

#[test]
fn an_approval_waits_for_the_first_decision() {
    let text = "
    - name: ask
      approve: {message: 'wipe ${{ workflow.name }}?', by: [ops, leads], timeout: 60}
      run: one on a
    ";
    let mut script = Script::new(tasks(text));
    script.expect_events("created\ntask_started 0\nexecution_made 0/1/0 approval");
    assert_eq!(engine::next_due(script.state()), Some(61_000));
    script.refused(
        "approve ask bob guests",
        "task \"ask\" is decided by one of the groups ops, leads, and \"bob\" is in none of them",
    );
    script.refused(
        "approve other",
        "workflow w has no task \"other\" that waits for approval: these do: ask",
    );
    script.refused(
        "approve ask[0]",
        "workflow w has no task \"ask[0]\" that waits for approval: these do: ask",
    );
    assert_eq!(
        engine::explain(script.state(), Some("ask"), 1_000),
        [
            "task \"ask\" waits for approval by ops or leads (farrier workflow approve w ask), it times out in 60 s: wipe install?"
        ]
    );
    script.effects.clear();
    script.check("approve ask ann staff leads", "decided 0/1/0 yes");
    script.expect_effects("want a for 0/1/0");
    script.check("approve ask ann staff leads", "");
    script.refused("reject ask bob leads", "task \"ask\" was approved by ann already");
    assert_eq!(engine::next_due(script.state()), None);
    let mut script = Script::new(tasks(text));
    script.run("reject ask ann ops");
    script.expect_state(
        WorkflowState::Failed,
        "task \"ask\" failed (Rejected): ann rejected it: ok",
    );
    let mut script = Script::new(tasks(text));
    script.now = 61_000;
    script.run("timer");
    script.expect_state(
        WorkflowState::Timeout,
        "task \"ask\" timed out: nobody decided within 60 s",
    );
}

#[test]
fn an_approval_in_a_pause_is_recorded_and_acts_at_resume() {
    let mut definition = tasks(
        "
    - name: ask
      approve: {message: go?}
      run: one on a
    ",
    );
    let sub = Control::Workflow {
        template: "other".into(),
        inputs: Default::default(),
    };
    for (control, effects) in [
        (None, "want a for 0/1/0"),
        (Some(sub), "start other as install-ask {}"),
        (Some(Control::Wait("10s".into())), ""),
    ] {
        if control.is_some() {
            definition.tasks[0].actions.clear();
        }
        definition.tasks[0].control = control;
        let mut script = Script::new(definition.clone());
        script.run("pause");
        script.effects.clear();
        script.check("approve ask", "decided 0/1/0 yes");
        script.check("approve ask", "");
        script.expect_effects("");
        script.run("unpause");
        script.expect_effects(effects);
        script.expect_tasks("WAITING");
    }
}

#[test]
fn each_item_is_approved_for_itself() {
    let mut script = Script::new(tasks(
        "
    - name: each
      forEach: '[1, 2]'
      approve: {message: go?}
      run: one on m${{ item }}
    ",
    ));
    script.refused(
        "approve each",
        "workflow w has no task \"each\" that waits for approval: these do: each[0], each[1]",
    );
    script.run("approve each[1]");
    script.does("m2", "succeeded");
    script.run("approve each[0]");
    script.does("m1", "succeeded");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn a_retry_runs_what_failed_and_what_depends_on_it() {
    let text = "
    - name: left
      needs: []
      run: one on a
    - name: right
      needs: []
      run: one on b
    - name: after
      needs: [right]
      run: one on c
    - name: tidy
      needs: [right]
      when: always()
      run: one on d
    ";
    let mut script = Script::new(tasks(text));
    script.refused(
        "retry",
        "workflow w is PENDING: a workflow is retried when it has ended; cancel it first",
    );
    script.does("a", "succeeded");
    script.does("b", "failed");
    script.does("d", "succeeded");
    script.expect_tasks("SUCCESS FAILED SKIPPED SUCCESS");
    script.effects.clear();
    script.check(
        "retry",
        "run_opened [1, 2, 3]\ntask_started 1\nexecution_made 1/2/0 machine",
    );
    script.expect_tasks("SUCCESS WAITING IDLE IDLE");
    assert_eq!(script.state().head.run, 2);
    // Only the machines that this run uses.
    script.expect_effects("claim b for w\nclaim c for w\nclaim d for w\nwant b for 1/2/0");
    script.check("report w/1/1/0/0/1 succeeded", "late w/1/1/0/0/1 succeeded");
    for worker in ["b", "c", "d"] {
        script.does(worker, "succeeded");
    }
    script.expect_state(WorkflowState::Success, "");
    script.refused(
        "retry",
        "workflow w is SUCCESS: nothing of it failed; create a new workflow to do it again",
    );
}

#[test]
fn a_cancelled_workflow_may_be_retried() {
    let mut script = Script::new(two_tasks());
    script.does("a", "succeeded");
    script.run("dispatch 0/1/0 a boot1; cancel; report w/0/1/0/1/1 stopped; retry");
    script.expect_tasks("WAITING IDLE");
    script.does("a", "succeeded");
    script.does("a", "succeeded");
    script.does("b", "succeeded");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn a_deadlock_fails_the_root() {
    let mut script = Script::new(two_tasks());
    script.run("deadlock");
    script.expect_state(
        WorkflowState::Failed,
        "deadlock: machine b is held by workflow v, which waits for a machine that this one holds",
    );
}

#[test]
fn a_cancel_runs_nothing_more_not_even_always() {
    let mut script = Script::new(tasks(
        "
    - name: first
      run: one on a
    - name: tidy
      when: always()
      run: one on a
    ",
    ));
    script.run("dispatch 0/1/0 a boot1; cancel; report w/0/1/0/0/1 stopped");
    script.expect_tasks("CANCELLED CANCELLED");
    assert!(
        !script
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Want { execution, .. } if execution.task == 1))
    );
}

#[test]
fn explains_what_it_does_and_waits_for() {
    let mut script = Script::new(two_tasks());
    let lines = |script: &Script, task| engine::explain(script.state(), task, script.now).join("\n");
    assert_eq!(
        lines(&script, None),
        "workflow install (w) is PENDING\n\
         task \"first\" is ready for action \"one\" and waits for machine a\n\
         task \"second\" waits for \"first\""
    );
    script.run("dispatch 0/1/0 a boot1");
    assert_eq!(
        lines(&script, Some("first")),
        "task \"first\" was handed out and has not said that it runs: action \"one\" on a, attempt 1"
    );
    script.run("report w/0/1/0/0/1 started");
    assert_eq!(
        lines(&script, Some("first")),
        "task \"first\" runs action \"one\" on a, attempt 1"
    );
    script.run("report w/0/1/0/0/1 leaving");
    assert_eq!(
        lines(&script, Some("first")),
        "task \"first\" waits for the machine to come back in action \"one\" on a, attempt 1"
    );
    script.run("pause");
    assert!(lines(&script, None).contains("it is paused: nothing is started until it is resumed"));
    script.run("cancel");
    assert_eq!(
        lines(&script, None),
        "workflow install (w) is CANCELLED: wrong machine"
    );
    assert_eq!(
        lines(&script, Some("third")),
        "workflow w has no task \"third\"; it has first, second"
    );
    let script = Script::new(tasks(
        "
    - name: each
      forEach: '[\"a\", \"b\", \"c\"]'
      maxParallel: 1
      run: one on ${{ item }}
    - name: nap
      needs: []
      wait: 90s
    ",
    ));
    assert_eq!(
        lines(&script, None),
        "workflow install (w) is RUNNING\n\
         task \"each\": 0 of 3 items are over, 0 of them failed; 1 at a time\n\
         task \"each\" item 0 is ready for action \"one\" and waits for machine a\n\
         task \"nap\" waits; it is over in 89 s\n\
         the next timer is due in 89 s"
    );
    assert_eq!(
        lines(&script, Some("each[2]")),
        "item 2 of task \"each\" has not been started: 1 at a time"
    );
    assert_eq!(
        lines(&script, Some("each[3]")),
        "task \"each\" has 3 items and no item 3"
    );
}
