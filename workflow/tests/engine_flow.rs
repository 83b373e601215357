//! Which task runs when: needs, status gates, conditions, recovery, going back, early ends, waits.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, creation, machines, tasks, template, with_outputs};
use serde_json::json;
use workflow::engine::{self, WorkflowState};

#[test]
fn tasks_run_when_what_they_need_is_over() {
    let mut script = Script::new(tasks(
        "
    - name: left
      needs: []
      run: one on a
    - name: right
      needs: []
      run: one on b
    - name: both
      needs: [left, right]
      run: one on c
    ",
    ));
    script.expect_tasks("WAITING WAITING IDLE");
    script.does("b", "succeeded");
    script.expect_tasks("WAITING SUCCESS IDLE");
    script.does("a", "succeeded");
    script.expect_tasks("SUCCESS SUCCESS WAITING");
    script.does("c", "succeeded");
    script.expect_state(WorkflowState::Success, "");
}

/// A failing `first`, and what a task after it does, by its `when`.
#[test]
fn the_status_gate_decides() {
    for (when, after_failure, after_success) in [
        ("", "SKIPPED", "WAITING"),
        ("when: 1 == 1", "SKIPPED", "WAITING"),
        ("when: 1 == 2", "SKIPPED", "SKIPPED"),
        ("when: success()", "SKIPPED", "WAITING"),
        ("when: failure()", "WAITING", "SKIPPED"),
        ("when: always()", "WAITING", "WAITING"),
        ("when: failure() && 1 == 2", "SKIPPED", "SKIPPED"),
        ("when: tasks.first.state == 'FAILED'", "SKIPPED", "SKIPPED"),
        (
            "when: always() && tasks.first.state == 'FAILED'",
            "WAITING",
            "SKIPPED",
        ),
        (
            "when: always() && tasks.first.error.reason == 'WrongDigest'",
            "WAITING",
            "SKIPPED",
        ),
    ] {
        // It needs `between`, which is skipped: the gate sees all that it needs, directly or not.
        let text = format!(
            "
    - name: first
      run: one on a
    - name: between
      when: success() && 1 == 2
      run: one on b
    - name: last
      {when}
      run: one on c
    "
        );
        for (outcome, want) in [("failed", after_failure), ("succeeded", after_success)] {
            let mut script = Script::new(tasks(&text));
            script.does("a", outcome);
            let state = script.state().head.tasks[2].state;
            assert_eq!(state.as_str(), want, "{when} after {outcome}");
        }
    }
}

#[test]
fn a_condition_is_recorded_with_its_result() {
    let mut script = Script::new(tasks(
        "
    - name: first
      when: 1 + 1 == 3
      run: one on a
    ",
    ));
    script.expect_events("created\ntask_ended 0 SKIPPED\nended SUCCESS");
    let json = serde_json::to_value(&script.events[1]).unwrap();
    assert_eq!(
        json["condition"],
        json!({"expression": "1 + 1 == 3", "result": false})
    );
    assert_eq!(script.events[1].kind.to_string(), "skipped: 1 + 1 == 3 is false");
}

#[test]
fn an_expression_that_fails_fails_its_task() {
    let mut script = Script::new(tasks(
        "
    - name: first
      run: one on a
    - name: second
      when: tasks.first.outputs.disks > 3
      run: one on a
    ",
    ));
    script.does("a", "succeeded");
    script.expect_tasks("SUCCESS FAILED");
    let message = &script.state().head.message;
    assert!(
        message.starts_with("task \"second\" failed (Expression): ")
            && message.contains("tasks.first.outputs.disks"),
        "{message}"
    );
}

#[test]
fn a_recovered_failure_is_handled() {
    let text = "
    - name: first
      run: one on a
    - name: rescue
      when: failure()
      recovers: [first]
      run: one on b
    - name: last
      run: one on c
    ";
    let mut script = Script::new(tasks(text));
    script.does("a", "failed");
    script.expect_tasks("FAILED WAITING IDLE");
    script.does("b", "succeeded");
    script.expect_tasks("FAILED SUCCESS WAITING");
    assert!(script.state().head.tasks[0].recovered);
    script.does("c", "succeeded");
    script.expect_state(WorkflowState::Success, "");
    // A rescue that fails makes nothing good.
    let mut script = Script::new(tasks(text));
    script.does("a", "failed");
    script.does("b", "timed_out");
    script.expect_tasks("FAILED TIMEOUT SKIPPED");
    script.expect_state(
        WorkflowState::Failed,
        "action \"one\" of task \"first\" failed (WrongDigest): digest is a, expected b",
    );
    // Without a failure it is skipped, which is no failure.
    let mut script = Script::new(tasks(text));
    script.does("a", "succeeded");
    script.expect_tasks("SUCCESS SKIPPED WAITING");
}

#[test]
fn independent_branches_run_on_after_a_failure() {
    let mut script = Script::new(tasks(
        "
    - name: left
      needs: []
      run: one on a
    - name: right
      needs: []
      run: one two on b
    ",
    ));
    script.now = 3_000;
    script.does("a", "timed_out");
    assert_eq!(script.state().head.state, WorkflowState::Running);
    script.now = 4_000;
    script.does("b", "succeeded");
    script.does("b", "failed");
    // The first failure says how it ends.
    script.expect_state(
        WorkflowState::Timeout,
        "action \"one\" of task \"left\" timed out: after 5 s",
    );
}

#[test]
fn outputs_flow_from_actions_to_tasks_to_the_workflow() {
    let definition = template(
        r#"
version: "1"
name: install
inputs:
  disk: {type: string, default: sda}
outputs:
  address: tasks.probe.outputs.address
  run: workflow.run
tasks:
- name: probe
  worker: a
  actions:
  - {name: one, image: example.org/one:v1}
  - {name: two, image: example.org/two:v1}
- name: use
  worker: ${{ tasks.probe.outputs.next }}
  environment: {DISK: "/dev/${{ inputs.disk }}"}
  actions:
  - name: three
    image: example.org/three:v1
    command: ["${{ tasks.probe.outputs.address }}", plain, "${{ machine.mac }}"]
    environment: {COUNT: "${{ tasks.probe.outputs.count + 1 }}"}
"#,
    );
    let mut creation = creation(definition);
    creation.inputs = json!({"disk": "nvme0n1"}).as_object().unwrap().clone();
    creation.machines = machines(&[("08:00:27:00:00:0b", json!({"mac": "08:00:27:00:00:0b"}))]);
    let mut script = Script::made(creation);
    let attempt = script.hand_out("a");
    script.report(&attempt, with_outputs(json!({"address": "10.0.0.1", "count": 1})));
    let attempt = script.hand_out("a");
    script.report(
        &attempt,
        with_outputs(json!({"address": "10.0.0.2", "next": "08-00-27-00-00-0B"})),
    );
    let attempt = script.hand_out("08:00:27:00:00:0b");
    let dispatch = script.dispatch(&attempt);
    assert_eq!(dispatch.command, ["10.0.0.2", "plain", "08:00:27:00:00:0b"]);
    assert_eq!(
        dispatch.environment,
        [
            ("COUNT".into(), "2".into()),
            ("DISK".into(), "/dev/nvme0n1".into())
        ]
        .into()
    );
    script.report(&attempt, with_outputs(json!({})));
    script.expect_state(WorkflowState::Success, "");
    let outputs = serde_json::Value::Object(script.state().head.outputs.clone());
    assert_eq!(outputs, json!({"address": "10.0.0.2", "run": 1}));
}

#[test]
fn set_records_values_for_later_tasks() {
    let mut script = Script::new(tasks(
        "
    - name: one
      set: {count: 1 + 1, name: workflow.name}
    - name: two
      set: {count: vars.count * 10}
    - name: three
      when: vars.count == 20 && vars.name == 'install'
      run: one on a
    ",
    ));
    script.expect_tasks("SUCCESS SUCCESS WAITING");
    assert_eq!(script.state().head.vars["count"], json!(20));
    script.does("a", "succeeded");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn goto_runs_the_loop_again_as_often_as_it_may() {
    let text = "
    - name: probe
      run: one on a
    - name: check
      goto: {when: failure() , task: probe, max: 2}
      run: one on a
    - name: last
      run: one on a
    ";
    let mut script = Script::new(tasks(text));
    for iteration in 0..3 {
        assert_eq!(script.state().head.tasks[1].iteration, iteration);
        script.does("a", "succeeded");
        script.effects.clear();
        script.does("a", "failed");
    }
    script.expect_tasks("SUCCESS FAILED SKIPPED");
    assert_eq!(script.state().head.tasks[0].instance, 3);
    script.expect_state(
        WorkflowState::Failed,
        "action \"one\" of task \"check\" failed (WrongDigest): digest is a, expected b",
    );
    let mut script = Script::new(tasks(text));
    script.does("a", "succeeded");
    script.does("a", "failed");
    script.does("a", "succeeded");
    script.does("a", "succeeded");
    script.expect_tasks("SUCCESS SUCCESS WAITING");
    script.does("a", "succeeded");
    script.expect_state(WorkflowState::Success, "");
    let back = script
        .events
        .iter()
        .find(|event| event.kind.name() == "went_back")
        .unwrap();
    assert_eq!(serde_json::to_value(back).unwrap()["tasks"], json!([0, 1]));
}

#[test]
fn a_loop_knows_its_round_and_what_the_one_before_recorded() {
    let mut script = Script::new(tasks(
        "
    - name: probe
      environment: {ROUND: '${{ round }}', SEEN: \"${{ has(vars.seen) ? vars.seen : 'nothing' }}\"}
      run: one on a
    - name: look
      set: {seen: \"has(vars.seen) ? vars.seen + '+' + string(round) : 'first'\"}
      goto: {when: round < 2, task: probe, max: 5}
    - name: last
      run: one on a
    ",
    ));
    for seen in ["nothing", "first", "first+1"] {
        let round = script.state().head.tasks[0].iteration.to_string();
        let attempt = script.hand_out("a");
        let environment = script.dispatch(&attempt).environment;
        assert_eq!((&environment["ROUND"], &*environment["SEEN"]), (&round, seen));
        script.report(&attempt, with_outputs(json!({})));
    }
    script.expect_tasks("SUCCESS SUCCESS WAITING");
    assert_eq!(script.state().head.vars["seen"], json!("first+1+2"));
}

#[test]
fn a_loop_within_a_loop_has_its_full_count_again() {
    let mut script = Script::new(tasks(
        "
    - name: outer
      set: {rounds: 1}
    - name: inner
      goto: {when: always(), task: inner, max: 2}
      run: one on a
    - name: end
      goto: {when: always(), task: outer, max: 1}
      set: {done: 1}
    ",
    ));
    for _ in 0..6 {
        script.does("a", "succeeded");
    }
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn a_machine_is_kept_while_a_loop_may_use_it_again() {
    let mut script = Script::new(tasks(
        "
    - name: probe
      run: one on a
    - name: check
      goto: {when: failure(), task: probe, max: 1}
      run: one on b
    - name: last
      run: one on c
    ",
    ));
    script.does("a", "succeeded");
    script.effects.clear();
    script.does("b", "succeeded");
    script.expect_effects("want c for 2/1/0\nrelease a of w\nrelease b of w");
}

#[test]
fn succeed_and_fail_end_the_workflow_and_stop_the_rest() {
    for (control, state, message) in [
        ("succeed: {}", WorkflowState::Success, ""),
        (
            "fail: {reason: TooOld, message: \"${{ workflow.name }} is too old\"}",
            WorkflowState::Failed,
            "task \"end\" failed (TooOld): install is too old",
        ),
    ] {
        let mut script = Script::new(tasks(&format!(
            "
    - name: long
      needs: []
      run: one on a
    - name: waits
      needs: []
      run: one on b
    - name: quick
      needs: []
      run: one on c
    - name: end
      {control}
    - name: never
      run: one on d
    "
        )));
        let attempt = script.hand_out("a");
        script.effects.clear();
        script.does("c", "succeeded");
        assert_eq!(script.state().head.state, WorkflowState::Ending);
        script
            .effects
            .retain(|effect| !matches!(effect, engine::Effect::Release { .. }));
        let reason = if message.is_empty() {
            String::new()
        } else {
            message.to_owned()
        };
        script.expect_effects(&format!("stop {attempt}: {reason}\nunwant b for 1/1/0"));
        script.report(&attempt, script::outcome("stopped"));
        script.expect_state(state, message);
        let end = if state == WorkflowState::Success {
            "CANCELLED CANCELLED SUCCESS SUCCESS CANCELLED"
        } else {
            "CANCELLED CANCELLED SUCCESS FAILED CANCELLED"
        };
        script.expect_tasks(end);
    }
}

#[test]
fn waits_end_when_they_are_due() {
    let mut script = Script::new(tasks(
        "
    - name: waits
      wait: 1m30s
    - name: until
      until: 1970-01-01T00:05:00Z
    - name: past
      until: 1970-01-01T00:00:01Z
    ",
    ));
    assert_eq!(script.state().head.state, WorkflowState::Running);
    assert_eq!(engine::next_due(script.state()), Some(91_000));
    script.now = 90_999;
    script.check("timer", "");
    script.now = 91_000;
    script.check(
        "timer",
        "execution_ended 0/1/0 SUCCESS\ntask_ended 0 SUCCESS\ntask_started 1\nexecution_made 1/1/0 time",
    );
    assert_eq!(engine::next_due(script.state()), Some(300_000));
    script.now = 300_001;
    script.run("timer");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn an_output_that_cannot_be_evaluated_fails_the_workflow() {
    let script = Script::new(template(
        "version: \"1\"\nname: install\noutputs: {x: 'inputs.list[7]'}\ninputs: {list: {type: list, default: []}}\n\
         tasks:\n- {name: one, set: {a: 1}}\n",
    ));
    let head = &script.state().head;
    assert_eq!(head.state, WorkflowState::Failed);
    assert!(head.message.starts_with("output \"x\": "), "{}", head.message);
}

#[test]
fn what_a_task_made_good_before_it_went_back_is_not_good_any_more() {
    let definition = tasks(
        "
    - name: first
      run: one on a
    - name: repair
      when: failure()
      recovers: [first]
      run: one on b
      goto: {when: 'true', task: repair, max: 1}
    ",
    );
    let mut script = Script::new(definition);
    script.does("a", "failed");
    script.does("b", "succeeded");
    assert!(!script.state().head.tasks[0].recovered, "it runs again");
    script.does("b", "failed");
    script.expect_tasks("FAILED FAILED");
    script.run("retry");
    script.does("a", "succeeded");
    script.expect_tasks("SUCCESS SKIPPED");
}
