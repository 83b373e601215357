//! A person skips one thing of a workflow: a task, or one item of a `forEach`.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, tasks, two_tasks};
use workflow::engine::{self, MAX_SKIPPED_AHEAD, WorkflowState};

const ROLLOUT: &str = r#"
    - name: roll
      forEach: '["a", "b", "c", "d"]'
      maxParallel: 2
      maxFailures: 0
      run: one two on ${{ item }}
    - name: check
      needs: [roll]
      run: three on z
    "#;

#[test]
fn one_machine_of_a_rollout_is_skipped_and_the_rest_goes_on() {
    let mut script = Script::new(tasks(ROLLOUT));
    script.effects.clear();
    // Ready, and not handed out: at once. The next item takes its place.
    script.check(
        "skip roll[1] bad-disk",
        "skip_asked 0/1/1\nexecution_ended 0/1/1 SKIPPED\nexecution_made 0/1/2 machine",
    );
    script.expect_effects("unwant b for 0/1/1\nwant c for 0/1/2\nrelease b of w");
    script.check("skip roll[1] bad-disk", "");
    // Its turn has not come.
    script.check("skip roll[3] no-power", "skip_asked 0 item 3");
    script.check("skip roll[3] no-power", "");
    assert_eq!(
        engine::explain(script.state(), Some("roll[3]"), 2_000),
        [
            "item 3 of task \"roll\" has not been started: 2 at a time; skipped by ann: no-power; it is SKIPPED then"
        ]
    );
    // It runs: what it does is stopped first.
    let attempt = script.hand_out("a");
    script.run(&format!("report {attempt} started"));
    script.effects.clear();
    script.check(
        "skip roll[0] late",
        &format!("skip_asked 0/1/0\nstop_asked {attempt} SKIPPED"),
    );
    script.expect_effects(&format!(
        "skipped on a by w\nstop {attempt}: ann skipped it: late"
    ));
    script.check("skip roll[0] late", "");
    assert_eq!(
        engine::explain(script.state(), Some("roll[0]"), 2_000),
        [
            "task \"roll\" item 0 stops action \"one\" on a, attempt 1; skipped by ann: late; it is SKIPPED when that has \
             stopped"
        ]
    );
    script.check(
        &format!("report {attempt} stopped"),
        &format!("reported {attempt} stopped\nexecution_ended 0/1/0 SKIPPED\nexecution_made 0/1/3 SKIPPED"),
    );
    script.does("c", "succeeded");
    script.does("c", "succeeded");
    // Of four, three were skipped and none failed: no budget was spent, and what needs it goes on.
    assert_eq!(script.state().head.tasks[0].skipped, 3);
    assert_eq!(script.state().head.tasks[0].failed, 0);
    assert!(script.state().head.tasks[0].skips.is_empty());
    script.expect_tasks("SUCCESS WAITING");
    script.does("z", "succeeded");
    script.expect_state(WorkflowState::Success, "");
    let error = script.execution("0/1/3").error.clone().unwrap();
    assert_eq!(
        (&*error.reason, &*error.message),
        ("Skipped", "ann skipped it: no-power")
    );
}

#[test]
fn what_was_done_before_it_could_be_stopped_is_done() {
    let mut script = Script::new(tasks(ROLLOUT));
    script.does("a", "succeeded");
    let last = script.hand_out("a");
    script.run("skip roll[0]");
    script.run(&format!("report {last} succeeded"));
    assert_eq!(script.execution("0/1/0").state.as_str(), "SUCCESS");
    // After an action that is not the last nothing more comes.
    let first = script.hand_out("b");
    script.run("skip roll[1]");
    script.run(&format!("report {first} succeeded"));
    assert_eq!(script.execution("0/1/1").state.as_str(), "SKIPPED");
    // Neither a try that failed, nor one that was lost, is made again.
    for (machine, item, end) in [("c", 2, "report X failed"), ("d", 3, "lost X forgotten")] {
        let attempt = script.hand_out(machine);
        script.run(&format!("skip roll[{item}]"));
        script.run(&end.replace('X', &attempt));
        assert_eq!(
            script.execution(&format!("0/1/{item}")).state.as_str(),
            "SKIPPED",
            "{end}"
        );
    }
    script.expect_tasks("SUCCESS WAITING");
}

#[test]
fn a_machine_that_has_left_has_stopped() {
    let mut script = Script::new(tasks("\n    - name: only\n      run: one two on a\n    "));
    let attempt = script.hand_out("a");
    script.run(&format!("report {attempt} leaving"));
    script.check(
        "skip only",
        "skip_asked 0/1/0\nexecution_ended 0/1/0 SKIPPED\ntask_ended 0 SKIPPED\nended SUCCESS",
    );
}

#[test]
fn a_task_is_skipped_when_its_turn_comes() {
    let text = "
    - name: first
      run: one on a
    - name: second
      needs: [first]
      goto: {when: 'true', task: first, max: 3}
      run: two on b
    - name: third
      needs: [second]
      run: three on c
    ";
    let mut script = Script::new(tasks(text));
    script.check("skip second not-here", "skip_asked 1");
    assert_eq!(
        engine::explain(script.state(), Some("second"), 2_000),
        ["task \"second\" waits for \"first\"; skipped by ann: not-here; it is SKIPPED when its turn comes"]
    );
    script.does("a", "succeeded");
    // It does not go back, and what needs it begins.
    script.expect_tasks("SUCCESS SKIPPED WAITING");
    let error = script.state().head.tasks[1].error.clone().unwrap();
    assert_eq!(error.message, "ann skipped it: not-here");
    script.check("skip second", "");
    // In a pause: what has begun at once, the workflow ends when it is resumed.
    script.run("pause");
    script.check("skip third", "skip_asked 2/1/0\nexecution_ended 2/1/0 SKIPPED");
    script.check("unpause", "unpaused\ntask_ended 2 SKIPPED\nended SUCCESS");
}

#[test]
fn what_waits_is_skipped_at_once() {
    let mut script = Script::new(tasks(
        "
    - name: ask
      approve: {message: go?, timeout: 60}
      run: one on a
    - name: pause
      needs: []
      wait: 1h
    - name: again
      needs: []
      retry: {attempts: 3, delay: 1h}
      run: one on b
    - name: sub
      needs: []
      workflow: other
    ",
    ));
    script.does("b", "failed");
    assert_eq!(script.execution("2/1/0").state.as_str(), "DELAYED");
    script.effects.clear();
    for (name, index) in [("ask", 0), ("pause", 1)] {
        script.check(
            &format!("skip {name}"),
            &format!(
                "skip_asked {index}/1/0\nexecution_ended {index}/1/0 SKIPPED\ntask_ended {index} SKIPPED"
            ),
        );
    }
    script.effects.clear();
    // What it left on the disk is not made good by the end of the workflow.
    script.check(
        "skip again",
        "skip_asked 2/1/0\nexecution_ended 2/1/0 SKIPPED\ntask_ended 2 SKIPPED",
    );
    assert!(engine_effects(&mut script).contains("skipped on b by w"));
    assert_eq!(engine::next_due(script.state()), None);
    // A sub-workflow is cancelled first.
    script.check("skip sub", "skip_asked 3/1/0\nchild_asked 3/1/0 cancel");
    let child = script.execution("3/1/0").child.clone().unwrap();
    script.check(
        &format!("child 3/1/0 {child} 1 CANCELLED"),
        "child_ended 3/1/0\nexecution_ended 3/1/0 SKIPPED\ntask_ended 3 SKIPPED\nended SUCCESS",
    );
}

fn engine_effects(script: &mut Script) -> String {
    let effects: Vec<String> = script
        .effects
        .drain(..)
        .map(|effect| script::print_effect(&effect))
        .collect();
    effects.join("\n")
}

#[test]
fn a_skip_is_of_its_run() {
    let mut definition = tasks(ROLLOUT);
    definition.tasks.truncate(1);
    let mut script = Script::new(definition);
    script.run("skip roll[0]; skip roll[3]");
    script.does("c", "succeeded");
    script.does("b", "failed");
    script.does("c", "succeeded");
    assert_eq!(script.state().head.state, WorkflowState::Failed);
    script.run("retry");
    // What was skipped is done as well; what had succeeded is not.
    for machine in ["a", "b", "d"] {
        script.does(machine, "succeeded");
        script.does(machine, "succeeded");
    }
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn what_cannot_be_skipped_is_refused_in_words() {
    let mut script = Script::new(tasks(ROLLOUT));
    script.refused("skip rol", "workflow w has no task \"rol\"; it has roll, check");
    script.refused(
        "skip roll",
        "task \"roll\" of workflow w has begun and goes over 4 items: name one of them, such as roll[0]",
    );
    script.refused(
        "skip roll[4]",
        "task \"roll\" of workflow w has 4 items, 0 to 3, and no item 4",
    );
    script.refused(
        &format!("skip roll[0] {}", "x".repeat(1025)),
        "the reason takes 1025 B, 1024 B at most: put the long story where it can be read, and say here where",
    );
    script.refused(
        "skip check[0]",
        "task \"check\" of workflow w has no forEach, so that it has no items: say check",
    );
    script.does("a", "succeeded");
    script.does("a", "succeeded");
    script.refused(
        "skip roll[0]",
        "task \"roll[0]\" of workflow w is SUCCESS already: nothing of it is left to skip",
    );
    script.hand_out("c");
    script.does("b", "failed");
    script.refused(
        "skip roll[1]",
        "task \"roll[1]\" of workflow w is FAILED already: nothing of it is left to skip; when the workflow has ended, \
         farrier workflow retry does it again",
    );
    let mut idle = Script::new(tasks(
        "
    - name: first
      run: one on a
    - name: roll
      needs: [first]
      forEach: '[1, 2]'
      run: two on b
    ",
    ));
    idle.refused(
        "skip roll[0]",
        "task \"roll\" of workflow w has not begun, so that its items are not known: skip all of it (roll), or wait until \
         it has begun",
    );
    idle.check("skip roll", "skip_asked 1");
    let mut script = Script::new(two_tasks());
    script.run("dispatch 0/1/0 a boot1; cancel");
    script.refused(
        "skip first",
        "workflow w is CANCELLING: it ends as soon as what is under way has stopped",
    );
    script.run("report w/0/1/0/0/1 stopped");
    script.refused("skip first", "workflow w has ended: it is CANCELLED");
}

#[test]
fn so_many_items_are_skipped_before_their_turn() {
    let text = "
    - name: roll
      forEach: machines(\"rack == 'r7'\")
      maxParallel: 1
      run: one on ${{ item.mac }}
    ";
    let mut script = Script::new(tasks(text));
    let machines: Vec<String> = (0..300).map(|machine| format!("m{machine}")).collect();
    script.run(&format!("answer 0 1 {}", machines.join(" ")));
    for item in 1..=MAX_SKIPPED_AHEAD {
        script.run(&format!("skip roll[{item}]"));
    }
    script.refused(
        "skip roll[299]",
        "task \"roll[299]\" of workflow w has 256 items that were skipped before their turn, which is the most: wait until \
         some of them had it",
    );
    script.does("m0", "succeeded");
    let next = script.hand_out("m257");
    assert!(next.starts_with("w/0/1/257/"), "{next}");
}

#[test]
fn what_stops_an_attempt_before_or_cleans_up_after_it_does_not_undo_a_skip() {
    let definition = |more: &str| {
        let text = format!("\n    - name: only\n{more}      run: one two on a\n    ");
        tasks(&text)
    };
    // Its task's time was over, and it was told to stop when somebody skipped it.
    let mut script = Script::new(definition("      timeout: 10\n"));
    let attempt = script.hand_out("a");
    script.run(&format!("report {attempt} started"));
    script.now = 12_000;
    script.check("timer", &format!("stop_asked {attempt} TIMEOUT"));
    script.check("skip only late", "skip_asked 0/1/0");
    script.run(&format!("report {attempt} stopped"));
    script.expect_tasks("SKIPPED");
    script.expect_state(WorkflowState::Success, "");
    // Its action had failed, and what is done on failure runs.
    let mut definition = definition("");
    definition.tasks[0].actions[0].on_failure = vec!["rescue".into()];
    for end in ["succeeded", "failed", "stopped"] {
        let mut script = Script::new(definition.clone());
        let attempt = script.hand_out("a");
        script.run(&format!("report {attempt} failed"));
        let rescue = script.hand_out("a");
        assert_ne!(rescue, attempt);
        script.run(&format!("report {rescue} started; skip only"));
        script.run(&format!("report {rescue} {end}"));
        script.expect_tasks("SKIPPED");
        script.expect_state(WorkflowState::Success, "");
    }
}

const BELOW: &str = "
    - name: sub
      workflow: other
    ";

#[test]
fn what_a_sub_workflow_leaves_half_written_is_told_to_its_machines_when_it_has_ended() {
    let skipped = |state: &str| {
        let mut script = Script::new(tasks(BELOW));
        let child = script.execution("0/1/0").child.clone().unwrap();
        script.effects.clear();
        script.run("skip sub dead-fan");
        script.expect_effects("cancel child: ann skipped it: dead-fan");
        script.run(&format!("child 0/1/0 {child} 1 {state}"));
        engine_effects(&mut script)
    };
    // Before they are given back, however it ended.
    for state in ["CANCELLED", "FAILED", "TIMEOUT"] {
        assert_eq!(skipped(state), "skipped on c by w\nrelease c of w", "{state}");
    }
    // It was done before it could be stopped: whoever made it decided what of it may fail.
    assert_eq!(skipped("SUCCESS"), "release c of w");
}

#[test]
fn a_sub_workflow_that_is_to_be_tried_again_has_left_what_it_left() {
    let text = "
    - name: sub
      workflow: other
      retry: {attempts: 3, delay: 1h}
    ";
    let mut script = Script::new(tasks(text));
    let child = script.execution("0/1/0").child.clone().unwrap();
    script.run(&format!("child 0/1/0 {child} 1 FAILED"));
    script.effects.clear();
    script.run("skip sub");
    script.expect_effects("skipped on c by w\nrelease c of w");
}

#[test]
fn a_sub_workflow_that_runs_out_of_time_while_somebody_skips_it_is_skipped() {
    let text = "
    - name: sub
      timeout: 10
      workflow: other
    ";
    let mut script = Script::new(tasks(text));
    let child = script.execution("0/1/0").child.clone().unwrap();
    script.now = 12_000;
    script.check("timer", "child_asked 0/1/0 cancel");
    script.effects.clear();
    script.check("skip sub", "skip_asked 0/1/0");
    script.run(&format!("child 0/1/0 {child} 1 CANCELLED"));
    script.expect_effects("skipped on c by w\nrelease c of w");
    script.expect_tasks("SKIPPED");
}

/// A skip in the next run, of what the run before has left: the retry would have done it again.
#[test]
fn what_an_earlier_run_left_half_written_is_told_as_well() {
    let text = "
    - name: first
      run: one on a
    - name: second
      needs: [first]
      run: two on b
    - name: roll
      needs: []
      forEach: '[\"x\", \"y\", \"z\"]'
      maxParallel: 1
      maxFailures: 2
      run: three on ${{ item }}
    ";
    let mut script = Script::new(tasks(text));
    script.does("a", "succeeded");
    script.does("b", "failed");
    for machine in ["x", "y", "z"] {
        script.does(machine, "failed");
    }
    assert_eq!(script.state().head.state, WorkflowState::Failed);
    script.run("retry");
    script.effects.clear();
    // Ready for its machine, and not handed out in this run.
    script.run("skip second");
    assert!(engine_effects(&mut script).contains("skipped on b by w"));
    // Its turn has not come in this run. Of the others nothing is said.
    script.run("skip roll[2]");
    script.expect_effects("skipped on z by w");
}

#[test]
fn many_machines_are_told_at_once() {
    let mut script = Script::new(tasks(BELOW));
    let child = script.execution("0/1/0").child.clone().unwrap();
    script.run("skip sub");
    script.effects.clear();
    let ended = engine::Command::ChildEnded {
        execution: script::id("0/1/0"),
        child,
        run: Some(1),
        state: WorkflowState::Cancelled,
        message: String::new(),
        outputs: serde_json::Map::new(),
        workers: (0..500).map(|machine| format!("m{machine}")).collect(),
    };
    script.decide(&ended).unwrap();
    script.expect_effects("skipped on 500 machines by w\nrelease 500 machines of w");
}
