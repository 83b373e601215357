//! Loops, branches and items know where they are: the round, the index, and what came of the round before.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, creation, example, outcome, tasks, template, with_outputs};
use serde_json::{Map, Value, json};
use workflow::engine::{Command, WorkflowState};
use workflow::language::inputs;

const REFERENCE: &str = include_str!("../../docs/reference/templates.md");

#[track_caller]
fn outputs(script: &Script, want: Value) {
    script.expect_state(WorkflowState::Success, "");
    assert_eq!(Value::Object(script.state().head.outputs.clone()), want);
}

#[test]
fn the_counting_loop_of_the_reference_counts() {
    let definition = template(example(REFERENCE, "count-to-ten"));
    let mut creation = creation(definition.clone());
    creation.inputs = inputs(&definition, &Map::new()).unwrap();
    let script = Script::made(creation);
    outputs(
        &script,
        json!({"index": 10, "worked": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}),
    );
}

#[test]
fn the_group_of_the_reference_gives_its_outputs_under_one_name() {
    let mut script = Script::new(template(
        &example(REFERENCE, "look-around").replace("{{.device_1}}", "a"),
    ));
    script.expect_tasks("WAITING SUCCESS IDLE IDLE");
    let attempt = script.hand_out("a");
    assert_eq!(
        script.dispatch(&attempt).input,
        *json!({"branch": 0}).as_object().unwrap()
    );
    script.report(&attempt, with_outputs(json!({"count": 3})));
    outputs(
        &script,
        json!({"disks": 3, "all": {"disks": {"count": 3}, "racks": [{"seen": "r7"}, {"seen": "r8"}]}}),
    );
}

/// `probe` on `a`, a list behind it, and `look`, which goes back.
fn looped() -> Script {
    Script::new(tasks(
        "
    - name: probe
      environment:
        OWN: \"${{ has(tasks.probe) ? tasks.probe.outputs : 'nothing' }}\"
        LATER: \"${{ has(tasks.look) ? tasks.look.state + ' ' + tasks.look.error.reason : 'nothing' }}\"
        LIST: \"${{ 'the-list' in tasks ? tasks['the-list'].outputs : 'nothing' }}\"
      run: one on a
    - name: the-list
      when: always() && round != 1
      forEach: '[1, 2]'
      set: {n: item * 10 + tasks.probe.outputs.n}
    - name: look
      when: always()
      goto: {when: round < 3, task: probe, max: 5}
      run: two on a
    ",
    ))
}

#[test]
fn what_the_round_before_came_to_is_there_until_it_is_over_anew() {
    let mut script = looped();
    let seen = |script: &Script, attempt: &str| {
        let environment = script.dispatch(attempt).environment;
        ["OWN", "LATER", "LIST"].map(|name| environment[name].clone())
    };
    let mut all = Vec::new();
    for (n, end) in [
        (1, "succeeded"),
        (2, "failed"),
        (3, "succeeded"),
        (4, "succeeded"),
    ] {
        let attempt = script.hand_out("a");
        all.push(seen(&script, &attempt));
        script.report(&attempt, with_outputs(json!({"n": n})));
        let attempt = script.hand_out("a");
        script.report(&attempt, outcome(end));
    }
    let want = [
        ["nothing", "nothing", "nothing"],
        [r#"{"n":1}"#, "SUCCESS ", r#"[{"n":11},{"n":21}]"#],
        // In the second round the list's items were skipped, and the last task failed.
        [r#"{"n":2}"#, "FAILED WrongDigest", "[{},{}]"],
        [r#"{"n":3}"#, "SUCCESS ", r#"[{"n":13},{"n":23}]"#],
    ];
    assert_eq!(all, want);
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn a_run_that_is_opened_anew_still_knows_the_round_before() {
    let mut script = looped();
    script.does("a", "succeeded");
    // The list has no `n` to go by.
    script.expect_tasks("SUCCESS FAILED WAITING");
    script.does("a", "succeeded");
    let attempt = script.hand_out("a");
    script.report(&attempt, outcome("failed"));
    script.does("a", "succeeded");
    let attempt = script.hand_out("a");
    script.report(&attempt, outcome("failed"));
    script
        .decide(&Command::Cancel {
            by: "ann".into(),
            reason: String::new(),
        })
        .unwrap();
    script.decide(&Command::Retry { by: "ann".into() }).unwrap();
    let attempt = script.hand_out("a");
    assert_eq!(script.dispatch(&attempt).environment["LATER"], "SUCCESS ");
}

#[test]
fn a_loop_of_one_task_sees_itself_and_goes_by_what_it_gives_now() {
    let mut script = Script::new(tasks(
        "
    - name: probe
      environment: {BEFORE: \"${{ has(tasks.probe) ? tasks.probe.outputs.n : -1 }}\"}
      goto: {when: tasks.probe.outputs.n < 2, task: probe, max: 5}
      run: one on a
    ",
    ));
    for (n, before) in [(0, "-1"), (1, "0"), (2, "1")] {
        let attempt = script.hand_out("a");
        assert_eq!(script.dispatch(&attempt).environment["BEFORE"], before);
        script.report(&attempt, with_outputs(json!({"n": n})));
    }
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn a_group_is_as_the_first_of_its_tasks_that_went_wrong() {
    let group = |ends: [&str; 2], when: &str| {
        let mut script = Script::new(tasks(&format!(
            "
    - name: one
      group: both
      when: {when}
      run: one on a
    - name: two
      group: both
      when: {when}
      run: one on b
    - name: after
      when: always()
      set: {{seen: \"[tasks.both.state, tasks.both.error.reason]\", both: tasks.both.outputs}}
    "
        )));
        if when == "true" {
            // Both at the same time.
            let attempts = ["a", "b"].map(|worker| script.hand_out(worker));
            for (attempt, end) in attempts.iter().zip(ends) {
                script.report(
                    attempt,
                    match end {
                        "succeeded" => with_outputs(json!({"on": attempt})),
                        end => outcome(end),
                    },
                );
            }
        }
        let vars = &script.state().head.vars;
        (vars["seen"].clone(), vars["both"].clone())
    };
    let gave = |attempt: &str| json!({"on": attempt});
    let (first, second) = (gave("w/0/1/0/0/1"), gave("w/1/1/0/0/1"));
    assert_eq!(
        group(["succeeded", "succeeded"], "true"),
        (json!(["SUCCESS", ""]), json!({"one": first, "two": second}))
    );
    assert_eq!(
        group(["succeeded", "timed_out"], "true"),
        (json!(["TIMEOUT", "Timeout"]), json!({"one": first, "two": {}}))
    );
    assert_eq!(
        group(["failed", "timed_out"], "true"),
        (json!(["FAILED", "WrongDigest"]), json!({"one": {}, "two": {}}))
    );
    assert_eq!(
        group(["", ""], "1 == 2"),
        (json!(["SKIPPED", ""]), json!({"one": {}, "two": {}}))
    );
}
