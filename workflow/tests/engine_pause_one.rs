//! A person holds one thing of a workflow: a task, or one item of a `forEach`.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, tasks, two_tasks};
use workflow::engine::{self, MAX_PAUSED_AHEAD, WorkflowState};

const ROLLOUT: &str = r#"
    - name: roll
      forEach: '["a", "b", "c", "d"]'
      maxParallel: 2
      run: one two on ${{ item }}
    - name: check
      needs: [roll]
      run: three on z
    "#;

#[test]
fn one_machine_of_a_rollout_is_held_and_the_rest_goes_on() {
    let mut script = Script::new(tasks(ROLLOUT));
    script.effects.clear();
    // Ready, and not handed out.
    script.check("pause roll[1] look-first", "task_paused 0/1/1");
    script.expect_effects("unwant b for 0/1/1");
    script.check("pause roll[1] again", "");
    script.refused(
        "dispatch 0/1/1 b boot1",
        "task execution 0/1/1 of workflow w is not ready for a machine",
    );
    assert_eq!(
        engine::explain(script.state(), Some("roll[1]"), 2_000),
        [
            "task \"roll\" item 1 does not begin action \"one\" on b; paused by ann: look-first (farrier workflow resume w \
             roll[1])"
        ]
    );
    // What of it runs goes on to the end of its action, and no further.
    let attempt = script.hand_out("a");
    script.run(&format!("report {attempt} started; pause roll[0]"));
    script.effects.clear();
    script.check(
        &format!("report {attempt} succeeded"),
        &format!("reported {attempt} succeeded"),
    );
    script.expect_effects("");
    script.refused(
        "dispatch 0/1/0 a boot1",
        "task execution 0/1/0 of workflow w is not ready for a machine",
    );
    // They keep their places: no third one begins.
    assert_eq!(script.state().head.tasks[0].made, 2);
    script.check("unpause roll[0]", "task_resumed 0/1/0\nresumed 0/1/0 machine");
    script.expect_effects("want a for 0/1/0");
    script.does("a", "succeeded");
    script.does("c", "succeeded");
    script.does("c", "succeeded");
    script.does("d", "succeeded");
    script.does("d", "succeeded");
    script.expect_tasks("RUNNING IDLE");
    assert_eq!(script.state().head.state, WorkflowState::Running);
    script.run("unpause roll[1]");
    script.does("b", "succeeded");
    script.does("b", "succeeded");
    script.does("z", "succeeded");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn a_task_does_not_begin_before_it_is_resumed() {
    let text = "
    - name: first
      run: one on a
    - name: second
      needs: [first]
      when: workflow.run == 1
      run: two on b
    - name: third
      needs: [first]
      run: three on c
    ";
    let mut script = Script::new(tasks(text));
    script.check("pause second not-yet", "task_paused 1");
    script.check("pause second", "");
    script.does("a", "succeeded");
    // Not even what says whether it runs is asked.
    script.expect_tasks("SUCCESS IDLE WAITING");
    assert_eq!(
        engine::explain(script.state(), Some("second"), 2_000),
        ["task \"second\" has its turn next; paused by ann: not-yet (farrier workflow resume w second)"]
    );
    script.does("c", "succeeded");
    assert_eq!(script.state().head.state, WorkflowState::Running);
    script.effects.clear();
    script.check(
        "unpause second",
        "task_resumed 1\ntask_started 1\nexecution_made 1/1/0 machine",
    );
    script.expect_effects("want b for 1/1/0");
    script.does("b", "succeeded");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn what_both_pauses_hold_goes_on_when_both_are_lifted() {
    for order in ["unpause; unpause first", "unpause first; unpause"] {
        for begin in ["pause; pause first", "pause first; pause"] {
            let mut script = Script::new(two_tasks());
            script.run(begin);
            script.effects.clear();
            let (one, other) = order.split_once("; ").unwrap();
            script.run(one);
            script.expect_effects("");
            script.refused(
                "dispatch 0/1/0 a boot1",
                "task execution 0/1/0 of workflow w is not ready for a machine",
            );
            script.run(other);
            script.expect_effects("want a for 0/1/0");
            script.run("dispatch 0/1/0 a boot1");
        }
    }
}

#[test]
fn what_is_held_before_its_turn_is_held_when_that_comes() {
    let mut script = Script::new(tasks(ROLLOUT));
    script.check("pause roll[2]", "task_paused 0 item 2");
    script.check("pause roll[3]", "task_paused 0 item 3");
    script.check("pause roll[3]", "");
    script.check("unpause roll[3]", "task_resumed 0 item 3");
    script.does("a", "succeeded");
    let last = script.hand_out("a");
    script.check(
        &format!("report {last} succeeded"),
        &format!("reported {last} succeeded\nexecution_ended 0/1/0 SUCCESS\nexecution_made 0/1/2 resume"),
    );
    assert_eq!(
        engine::explain(script.state(), Some("roll[2]"), 2_000),
        ["task \"roll\" item 2 does not begin; paused by ann (farrier workflow resume w roll[2])"]
    );
    script.effects.clear();
    script.check("unpause roll[2]", "task_resumed 0/1/2\nresumed 0/1/2 machine");
    script.expect_effects("want c for 0/1/2");
    // One that is not wanted any more is not held.
    script.run("pause roll[3]; skip roll[3]");
    assert!(script.state().head.tasks[0].pauses.is_empty());
    for machine in ["b", "b", "c", "c", "z"] {
        script.does(machine, "succeeded");
    }
    assert_eq!(script.execution("0/1/3").state.as_str(), "SKIPPED");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn a_rollout_that_is_held_as_a_whole_starts_no_further_item() {
    let mut script = Script::new(tasks(ROLLOUT));
    script.check("pause roll not-in-this-window", "task_paused 0");
    script.check("pause roll", "");
    for machine in ["a", "b", "a", "b"] {
        script.does(machine, "succeeded");
    }
    assert_eq!(script.state().head.tasks[0].made, 2);
    assert_eq!(
        engine::explain(script.state(), Some("roll"), 2_000),
        [
            "task \"roll\": 2 of 4 items are over, 0 of them failed; no further one is started: paused by ann: \
             not-in-this-window (farrier workflow resume w roll)"
        ]
    );
    script.refused(
        "unpause roll[2]",
        "task \"roll[2]\" of workflow w is not paused; its task is, which starts no further item: farrier workflow resume w \
         roll",
    );
    script.check(
        "unpause roll",
        "task_resumed 0\nexecution_made 0/1/2 machine\nexecution_made 0/1/3 machine",
    );
    script.refused(
        "pause roll",
        "task \"roll\" of workflow w goes over 4 items, which have all begun: name one of them, such as roll[0]",
    );
}

#[test]
fn the_clock_of_what_is_held_stands_still_and_no_other() {
    let text = "
    - name: first
      timeout: 10
      run: one two on a
    - name: other
      needs: []
      timeout: 100
      run: three on b
    ";
    let mut script = Script::new(tasks(text));
    let attempt = script.hand_out("a");
    script.hand_out("b");
    script.run(&format!("report {attempt} succeeded"));
    assert_eq!(engine::next_due(script.state()), Some(12_000));
    script.now = 5_000;
    script.run("pause first");
    assert_eq!(engine::next_due(script.state()), Some(102_000));
    // A pause of the workflow in it counts once: held from 5 to 40 s, of which 10 s were a pause of all.
    script.now = 20_000;
    script.run("pause");
    script.now = 30_000;
    script.run("unpause");
    assert_eq!(engine::next_due(script.state()), Some(112_000));
    script.now = 40_000;
    script.run("unpause first");
    assert_eq!(engine::next_due(script.state()), Some(47_000));
    // One that begins in the other and ends with it.
    script.run("pause");
    script.now = 41_000;
    script.run("pause first");
    script.now = 50_000;
    script.run("unpause");
    script.now = 55_000;
    script.run("unpause first");
    assert_eq!(engine::next_due(script.state()), Some(62_000));
    script.now = 62_000;
    script.run("timer");
    script.expect_tasks("TIMEOUT WAITING");
}

#[test]
fn what_becomes_due_while_it_is_held_is_done_when_it_is_resumed() {
    let mut script = Script::new(tasks(
        "
    - name: ask
      approve: {message: go?, timeout: 60}
      run: one on a
    - name: pause
      needs: []
      wait: 10s
    - name: again
      needs: []
      retry: {attempts: 3, delay: 10s}
      run: one on b
    - name: sub
      needs: []
      workflow: other
    ",
    ));
    script.does("b", "failed");
    for name in ["ask", "pause", "again", "sub"] {
        script.effects.clear();
        script.run(&format!("pause {name}"));
    }
    script.expect_effects("pause child");
    assert_eq!(engine::next_due(script.state()), None);
    // Somebody may decide meanwhile; what comes of it waits.
    script.check("approve ask", "decided 0/1/0 yes");
    assert_eq!(
        engine::explain(script.state(), Some("ask"), 2_000),
        [
            "task \"ask\" is approved and goes on when it is resumed; paused by ann (farrier workflow resume w ask)"
        ]
    );
    script.now = 30_000;
    script.check("timer", "");
    script.effects.clear();
    script.check("unpause ask", "task_resumed 0/1/0\nresumed 0/1/0 machine");
    script.check(
        "unpause pause",
        "task_resumed 1/1/0\nexecution_ended 1/1/0 SUCCESS\ntask_ended 1 SUCCESS",
    );
    script.check("unpause again", "task_resumed 2/1/0\nresumed 2/1/0 machine");
    script.check("unpause sub", "task_resumed 3/1/0\nchild_asked 3/1/0 unpause");
    script.expect_effects("want a for 0/1/0\nwant b for 2/1/0\nunpause child");
}

#[test]
fn a_skip_and_a_cancel_end_what_is_held() {
    let mut script = Script::new(tasks(ROLLOUT));
    script.run("pause roll[0]; pause check");
    script.check(
        "skip roll[0] broken",
        "skip_asked 0/1/0\nexecution_ended 0/1/0 SKIPPED\nexecution_made 0/1/2 machine",
    );
    script.check("skip check", "skip_asked 1");
    script.refused(
        "pause check",
        "task \"check\" of workflow w is SKIPPED when its turn comes: nothing of it is left to pause",
    );
    script.run("pause roll[1]; cancel");
    assert_eq!(script.state().head.state, WorkflowState::Cancelled);
    // A pause is of its run.
    script.run("retry");
    assert!(script.state().head.tasks.iter().all(|task| task.pause.is_none()));
    script.does("a", "succeeded");
    script.does("b", "succeeded");
}

#[test]
fn what_cannot_be_paused_or_resumed_is_refused_in_words() {
    let mut script = Script::new(tasks(ROLLOUT));
    script.refused("pause rol", "workflow w has no task \"rol\"; it has roll, check");
    script.refused(
        "pause roll[4]",
        "task \"roll\" of workflow w has 4 items, 0 to 3, and no item 4",
    );
    script.refused(
        "pause check[0]",
        "task \"check\" of workflow w has no forEach, so that it has no items: say check",
    );
    script.refused(
        &format!("pause roll[0] {}", "x".repeat(1025)),
        "the reason takes 1025 B, 1024 B at most: put the long story where it can be read, and say here where",
    );
    script.refused("unpause check", "task \"check\" of workflow w is not paused");
    script.run("pause");
    script.refused(
        "unpause check",
        "task \"check\" of workflow w is not paused; the workflow is: farrier workflow resume w",
    );
    script.run("unpause");
    let attempt = script.hand_out("a");
    script.run("skip roll[0]");
    script.refused(
        "pause roll[0]",
        "task \"roll[0]\" of workflow w is SKIPPED when what it has under way has stopped: nothing of it is left to pause",
    );
    script.run(&format!("report {attempt} stopped"));
    script.refused(
        "pause roll[0]",
        "task \"roll[0]\" of workflow w is SKIPPED already: nothing of it is left to pause",
    );
    script.hand_out("b");
    script.run("cancel");
    for line in ["pause check", "unpause check"] {
        script.refused(
            line,
            "workflow w is CANCELLING: it ends as soon as what is under way has stopped",
        );
    }
    script.run("report w/0/1/1/0/1 stopped");
    script.refused("pause check", "workflow w has ended: it is CANCELLED");
}

#[test]
fn so_many_items_are_paused_before_their_turn() {
    let text = "
    - name: roll
      forEach: machines(\"rack == 'r7'\")
      maxParallel: 1
      run: one on ${{ item.mac }}
    ";
    let mut script = Script::new(tasks(text));
    // The answer to what it had asked is written down, and nothing is made of it.
    script.run("pause roll");
    let machines: Vec<String> = (0..300).map(|machine| format!("m{machine}")).collect();
    script.run(&format!("answer 0 1 {}", machines.join(" ")));
    assert_eq!(
        (
            script.state().head.tasks[0].items,
            script.state().head.tasks[0].made
        ),
        (300, 0)
    );
    script.run("unpause roll");
    for item in 1..=MAX_PAUSED_AHEAD {
        script.run(&format!("pause roll[{item}]"));
    }
    script.refused(
        "pause roll[299]",
        "task \"roll[299]\" of workflow w has 256 items that are paused before their turn, which is the most: pause roll, \
         which starts no further item then",
    );
}

#[test]
fn too_many_failures_call_off_what_is_held() {
    let text = r#"
    - name: roll
      forEach: '["a", "b", "c"]'
      maxParallel: 2
      maxFailures: 0
      run: one on ${{ item }}
    "#;
    let mut script = Script::new(tasks(text));
    script.run("pause roll[2]");
    script.does("b", "succeeded");
    script.does("a", "failed");
    assert_eq!(script.execution("0/1/2").state.as_str(), "SKIPPED");
    script.expect_tasks("FAILED");
}
