//! The translated workflows of docs/reference/coming-from.md do what their originals do.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, creation, example, outcome, template, with_outputs};
use serde_json::{Map, Value, json};
use workflow::engine::{StepState, WorkflowState};
use workflow::language::inputs;

/// An example of the page, on machine `a`, made with these inputs.
fn made(name: &str, given: Value) -> Script {
    let page = include_str!("../../docs/reference/coming-from.md");
    let text = example(page, name);
    let definition = template(&text.replace("{{.device_1}}", "a"));
    let mut creation = creation(definition.clone());
    let given: Map<String, Value> = given.as_object().unwrap().clone();
    creation.inputs = inputs(&definition, &given).unwrap();
    Script::made(creation)
}

#[track_caller]
fn outputs(script: &Script, want: Value) {
    script.expect_state(WorkflowState::Success, "");
    assert_eq!(Value::Object(script.state().head.outputs.clone()), want);
}

/// The machine looks, and the second branch has waited.
fn both_branches(script: &mut Script) {
    let attempt = script.hand_out("a");
    assert_eq!(
        script.dispatch(&attempt).input,
        *json!({"branch": 0}).as_object().unwrap()
    );
    script.report(&attempt, with_outputs(json!({"disks": 3})));
    script.now = 3_000;
    script.run("timer");
}

#[test]
fn an_order_in_the_states_language_runs_as_it_is_translated() {
    let mut script = made("from-states-language", json!({}));
    script.expect_tasks("SUCCESS WAITING WAITING IDLE IDLE IDLE");
    both_branches(&mut script);
    script.expect_tasks("SUCCESS SUCCESS SUCCESS WAITING IDLE SKIPPED");
    // One at a time, in order; one failure is tolerated, and what `ErrorEquals` names is tried again.
    for (disk, words) in [
        ("sda", &["succeeded"][..]),
        ("sdb", &["timed_out", "timed_out"]),
        ("sdc", &["succeeded"]),
    ] {
        for word in words {
            let attempt = script.hand_out("a");
            assert_eq!(script.dispatch(&attempt).input["disk"], disk);
            script.report(&attempt, outcome(word));
            script.now += 1_000;
            script.run("timer");
        }
    }
    script.expect_tasks("SUCCESS SUCCESS SUCCESS SUCCESS SKIPPED SKIPPED");
    outputs(
        &script,
        json!({"looked": {"Look": {"disks": 3}, "Settle": {}}, "written": true}),
    );

    // More than the Map tolerates: the Catch makes it good, and nothing more of it begins.
    let mut script = made("from-states-language", json!({}));
    both_branches(&mut script);
    script.does("a", "failed");
    script.does("a", "failed");
    assert_eq!(script.state().head.tasks[3].made, 2);
    script.expect_tasks("SUCCESS SUCCESS SUCCESS FAILED SUCCESS SKIPPED");
    assert_eq!(script.state().head.vars["tidied"], json!(true));
    outputs(
        &script,
        json!({"looked": {"Look": {"disks": 3}, "Settle": {}}, "written": false}),
    );

    // The Choice's Default: each item is skipped, and that is no failure.
    let mut script = made("from-states-language", json!({"wanted": 1}));
    both_branches(&mut script);
    script.expect_tasks("SUCCESS SUCCESS SUCCESS SUCCESS SKIPPED FAILED");
    assert_eq!(script.state().head.tasks[3].skipped, 3);
    script.expect_state(
        WorkflowState::Failed,
        "task \"TooFew\" failed (TooFew): 1 are not enough",
    );
}

#[test]
fn a_direct_workflow_of_mistral_runs_as_it_is_translated() {
    let mut script = made("from-mistral", json!({}));
    for name in ["a", "b"] {
        let attempt = script.hand_out("a");
        assert_eq!(script.dispatch(&attempt).input["name"], name);
        script.report(&attempt, with_outputs(json!({"id": name})));
    }
    // `wait-after`: nothing before its time.
    script.expect_tasks("SUCCESS WAITING IDLE SKIPPED IDLE");
    script.now = 11_999;
    script.run("timer");
    script.expect_tasks("SUCCESS WAITING IDLE SKIPPED IDLE");
    script.now = 12_000;
    script.run("timer");
    script.expect_tasks("SUCCESS SUCCESS SUCCESS SKIPPED WAITING");
    assert_eq!(
        script.state().head.vars["created"],
        json!([{"id": "a"}, {"id": "b"}])
    );
    // `pause-before`: it goes on when somebody says so.
    assert_eq!(script.execution("4/1/0").state, StepState::Waiting);
    script.run("approve report");
    outputs(&script, json!({}));

    // `on-error` makes the failure good, `on-success` does not come, `on-complete` does.
    let mut script = made("from-mistral", json!({}));
    for word in ["succeeded", "failed", "failed"] {
        script.does("a", word);
        script.now += 5_000;
        script.run("timer");
    }
    script.expect_tasks("FAILED SKIPPED SKIPPED SUCCESS WAITING");
    assert_eq!(script.state().head.vars["why"], json!("ItemsFailed"));
    script.run("approve report");
    outputs(&script, json!({}));
}

#[test]
fn a_session_of_fluxor_s_runs_as_it_is_translated() {
    let mut script = made("from-fluxor", json!({}));
    assert_eq!(script.state().head.vars["seen"], json!([0, 1, 2]));
    script.expect_tasks("SUCCESS SUCCESS WAITING IDLE");
    // `scheduleIn`, then the policy asks before the disk is written.
    script.now = 3_000;
    script.run("timer");
    script.expect_tasks("SUCCESS SUCCESS SUCCESS WAITING");
    script.refused(
        "dispatch 3/1/0 a boot1",
        "task execution 3/1/0 of workflow w is not ready for a machine",
    );
    script.run("approve write");
    script.does("a", "succeeded");
    outputs(
        &script,
        json!({"seen": [0, 1, 2], "doubled": [{"double": 0}, {"double": 2}, {"double": 4}]}),
    );
}
