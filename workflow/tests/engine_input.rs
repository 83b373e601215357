//! Input and outputs of actions in the engine: filled in once, recorded, handed out, and kept for each action.
#![allow(clippy::unwrap_used)]

mod script;

use std::collections::BTreeMap;

use proptest::prelude::*;
use script::{Script, creation, outcome, template, with_outputs};
use serde_json::{Value, json};
use workflow::engine::{self, DiskUse, MAX_HANDED_BYTES, SecretProblem, StepState, secret_names};
use workflow::language::MAX_INPUT_BYTES;

/// Task `look` on `a`, and behind it task `do` there with an action of this image and these fields.
fn with(image: &str, fields: &str) -> Script {
    Script::made(creation(template(&format!(
        "version: \"1\"\nname: w\ntasks:\n- {{name: look, worker: a, actions: [{{name: look, image: alpine}}]}}\n- {{name: do, worker: \
         a, environment: {{CHROOT: \"y\"}}, actions: [{{name: do, image: {image}, {fields}}}]}}\n"
    ))))
}

/// The second task's attempt, `outputs` being those of the first.
fn handed_out(script: &mut Script, outputs: Value) -> String {
    let first = script.hand_out("a");
    script.report(&first, with_outputs(outputs));
    script.hand_out("a")
}

fn values() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("PW".to_owned(), "a\"b\nc".to_owned()),
        ("DISK".to_owned(), "/dev/secret".to_owned()),
    ])
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn types_are_kept_and_texts_are_filled() {
    let fields = "input: {count: '${{ tasks.look.outputs.n + 1 }}', text: 'n is ${{ tasks.look.outputs.n }}', list: ['${{ \
                  tasks.look.outputs.all }}', 7], plain: {a: null}}";
    let mut script = with("alpine", fields);
    let attempt = handed_out(&mut script, json!({"n": 1, "all": ["x", {"y": 2.5}]}));
    let dispatch = script.dispatch(&attempt);
    let want = json!({"count": 2, "text": "n is 1", "list": [["x", {"y": 2.5}], 7], "plain": {"a": null}});
    assert_eq!(Value::Object(dispatch.input.clone()), want);
    let handed = dispatch.hand_out(&values()).unwrap();
    assert_eq!(json_of(&handed.input_json), want);
    // It is no variable: the task's own are all that there are.
    assert_eq!(
        handed.environment,
        BTreeMap::from([("CHROOT".to_owned(), "y".to_owned())])
    );
    // It stands in the event, and is not worked out again.
    assert_eq!(&engine::replay(&script.events).unwrap(), script.state());
    script.report(&attempt, outcome("failed"));
    assert!(
        handed_out_of_first(&with("alpine", "command: [a]"))
            .input_json
            .is_empty()
    );
}

fn handed_out_of_first(script: &Script) -> engine::Handed {
    let mut script = Script::made(creation((*script.state().definition).clone()));
    let attempt = script.hand_out("a");
    script.dispatch(&attempt).hand_out(&values()).unwrap()
}

#[test]
fn a_built_in_action_has_its_variables_from_it_above_its_task_s_environment() {
    let fields = "input: {block_device: /dev/vda1, chroot: false, update_resolv_conf: true, users: [ann], cmd_line: \
                  'login ${{ secrets.PW }}'}";
    let mut script = with("cexec", fields);
    let attempt = handed_out(&mut script, json!({}));
    let dispatch = script.dispatch(&attempt);
    let handed = dispatch.hand_out(&values()).unwrap();
    let want = [
        ("BLOCK_DEVICE", "/dev/vda1"),
        ("CHROOT", ""),
        ("CMD_LINE", "login a\"b\nc"),
        ("UPDATE_RESOLV_CONF", "true"),
    ];
    let environment = handed.environment.iter();
    assert!(
        environment
            .clone()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .eq(want),
        "{:?}",
        handed.environment
    );
    assert_eq!(json_of(&handed.input_json)["users"], json!(["ann"]));
    // Which disk is written is known of it, too.
    let disk = DiskUse::of(script.state(), &dispatch.attempt).unwrap();
    assert_eq!((disk.disk.as_str(), disk.whole), ("/dev/vda1", false));
}

/// What it writes nobody knows, and then it may be any disk.
#[test]
fn exec_writes_a_disk_only_where_it_is_told_that_it_may() {
    for (fields, want) in [
        ("environment: {CMD_LINE: lsblk}", None),
        ("environment: {CMD_LINE: lsblk, WRITE: 'no'}", None),
        ("environment: {CMD_LINE: lsblk, WRITE: 'true'}", Some("")),
        ("input: {cmd_line: lsblk, write: true}", Some("")),
        ("input: {cmd_line: lsblk, write: false}", None),
    ] {
        let mut script = with("exec", fields);
        let attempt = handed_out(&mut script, json!({}));
        let disk = DiskUse::of(script.state(), &script.dispatch(&attempt).attempt);
        assert_eq!(disk.as_ref().map(|disk| disk.disk.as_str()), want, "{fields}");
        assert!(disk.is_none_or(|disk| !disk.whole));
    }
}

/// The agent heeds `http_proxy` before `HTTP_PROXY`.
#[test]
fn an_input_goes_before_the_task_s_environment_in_either_spelling() {
    let mut script = Script::new(template(
        "version: \"1\"\nname: w\ntasks:\n- {name: do, worker: a, environment: {http_proxy: 'http://task', IMG_URL: 'http://task/i', \
         OTHER: o}, actions: [{name: do, image: image2disk, input: {http_proxy: 'http://own', img_url: 'http://own/i'}}]}\n",
    ));
    let attempt = script.hand_out("a");
    let handed = script.dispatch(&attempt).hand_out(&values()).unwrap();
    let want = [
        ("HTTP_PROXY", "http://own"),
        ("IMG_URL", "http://own/i"),
        ("OTHER", "o"),
    ];
    let want = want.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(handed.environment, BTreeMap::from(want));
}

#[test]
fn what_expressions_make_of_no_use_fails_the_task_before_anything_is_handed_out() {
    for (image, fields, message) in [
        (
            "writefile",
            "input: {contents: '${{ tasks.look.outputs.x }}'}",
            "the input of action \"do\" is of no use: contents is a list: writefile takes a text, a number, true or false there",
        ),
        (
            "'${{ tasks.look.outputs.image }}'",
            "input: {a: 1, when: 2}",
            "the input of action \"do\" is of no use: \"a\" is no variable of reboot, which takes none: leave it out; \"when\" is no \
             variable of reboot, which takes none: leave it out",
        ),
    ] {
        let mut script = with(image, fields);
        let first = script.hand_out("a");
        script.report(&first, with_outputs(json!({"x": [], "image": "reboot"})));
        let error = script.execution("1/1/0").error.clone().unwrap();
        assert_eq!(
            (error.reason.as_str(), error.message.as_str()),
            ("BadInput", message)
        );
        script.expect_tasks("SUCCESS FAILED");
    }
}

#[test]
fn an_input_has_a_bound() {
    // `{"a":""}`
    for (bytes, state) in [
        (MAX_INPUT_BYTES, StepState::Success),
        (MAX_INPUT_BYTES + 1, StepState::Failed),
    ] {
        let mut script = with("alpine", "input: {a: '${{ tasks.look.outputs.k }}'}");
        let first = script.hand_out("a");
        script.report(&first, with_outputs(json!({"k": "x".repeat(bytes - 8)})));
        if state == StepState::Success {
            script.does("a", "succeeded");
        }
        assert_eq!(script.state().head.tasks[1].state, state);
        if state == StepState::Failed {
            let error = script.execution("1/1/0").error.clone().unwrap();
            assert_eq!(error.reason, "BadInput");
            assert_eq!(
                error.message,
                "the input of action \"do\" comes to 262145 B as JSON, 262144 B at most: hand larger data on in /workflow"
            );
        }
    }
}

#[test]
fn recorded_is_the_name_of_a_secret_and_handed_out_its_value() {
    let fields = "input: {'a/b~c': [0, {pw: '${{ 1 + 1 }}${{ secrets.PW }}!'}], pw: '${{ secrets.PW }}'}";
    let mut script = with("alpine", fields);
    let attempt = handed_out(&mut script, json!({}));
    let dispatch = script.dispatch(&attempt);
    assert_eq!(
        Value::Object(dispatch.input.clone()),
        json!({"a/b~c": [0, {"pw": "2${{ secrets.PW }}!"}], "pw": "${{ secrets.PW }}"})
    );
    assert_eq!(dispatch.secret_names().into_iter().collect::<Vec<_>>(), ["PW"]);
    let handed = dispatch.hand_out(&values()).unwrap();
    assert_eq!(
        json_of(&handed.input_json),
        json!({"a/b~c": [0, {"pw": "2a\"b\nc!"}], "pw": "a\"b\nc"})
    );
    let recorded = serde_json::to_string(&script.events).unwrap() + &format!("{:?}", script.state());
    assert!(
        recorded.contains("secrets.PW") && !recorded.contains("a\\\"b"),
        "{recorded}"
    );
    let hidden = secret_names(script.state(), &dispatch.attempt);
    assert_eq!(hidden.into_iter().collect::<Vec<_>>(), ["PW"]);

    // With their secrets in them all have one bound.
    let mut values = values();
    values.insert("PW".into(), "\n".repeat(MAX_HANDED_BYTES / 4));
    let problem = dispatch.hand_out(&values).err().unwrap();
    assert!(matches!(problem, SecretProblem::TooLong { .. }), "{problem}");
}

#[test]
fn the_extra_run_of_an_action_has_its_input() {
    let mut script = with("alpine", "on-failure: [tidy], input: {pw: '${{ secrets.PW }}'}");
    let attempt = handed_out(&mut script, json!({}));
    script.report(&attempt, outcome("failed"));
    let attempt = script.hand_out("a");
    let dispatch = script.dispatch(&attempt);
    assert_eq!(dispatch.command, ["tidy"]);
    let handed = dispatch.hand_out(&values()).unwrap();
    assert_eq!(json_of(&handed.input_json), json!({"pw": "a\"b\nc"}));
}

#[test]
fn a_hole_out_of_a_machine_s_record_is_refused_in_an_input() {
    let mut creation = creation(template(
        "version: \"1\"\nname: w\ntasks:\n- {name: do, worker: a, actions: [{name: do, image: alpine, input: {a: ['${{ \
         machine.metadata }}']}}]}\n",
    ));
    let facts = json!({"name": "a", "metadata": {"users": [{"password": "${{ secrets.PW }}"}]}});
    creation.machines.insert("a".into(), facts);
    let script = Script::made(creation);
    let error = &script.execution("0/1/0").error.clone().unwrap().message;
    assert!(
        error.contains("it gives ${{ secrets.PW }} out of a machine's record"),
        "{error}"
    );
}

#[test]
fn each_action_keeps_what_its_last_attempt_gave() {
    let mut script = Script::made(creation(template(
        "version: \"1\"\nname: w\ntasks:\n- name: do\n  worker: a\n  retry: {attempts: 2}\n  actions:\n  - {name: one, image: \
         alpine}\n  - {name: two, image: alpine, retry: {attempts: 2}}\n",
    )));
    let outputs = |script: &Script| -> Vec<Value> {
        let actions = &script.execution("0/1/0").actions;
        actions
            .iter()
            .map(|action| Value::Object(action.outputs.clone()))
            .collect()
    };
    let attempt = script.hand_out("a");
    script.report(&attempt, with_outputs(json!({"n": 1, "m": 1})));
    script.does("a", "failed");
    assert_eq!(outputs(&script), [json!({"n": 1, "m": 1}), json!({})]);
    script.does("a", "failed");
    // The whole task again: nothing of its first try is left.
    assert_eq!(outputs(&script), [json!({}), json!({})]);
    let attempt = script.hand_out("a");
    script.report(&attempt, with_outputs(json!({"n": 2})));
    let attempt = script.hand_out("a");
    script.report(&attempt, with_outputs(json!({"n": 3, "k": 4})));
    assert_eq!(outputs(&script), [json!({"n": 2}), json!({"n": 3, "k": 4})]);
    assert_eq!(script.state().head.tasks[0].outputs, json!({"n": 3, "k": 4}));
}

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("${{ secrets.PW }}".to_owned()),
        Just("${{secrets.DISK}}".to_owned()),
        Just("${{ secrets.".to_owned()),
        Just("PW }}".to_owned()),
        Just("\"".to_owned()),
        Just("~1/".to_owned()),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Whatever an output holds, as text, key or element, it reaches the action as it is.
    #[test]
    fn no_text_from_outside_becomes_a_secret(text in hostile(), key in hostile()) {
        let fields = "input: {all: '${{ tasks.look.outputs.all }}', mixed: '${{ tasks.look.outputs.text }}${{ secrets.PW }}', pw: ['${{ \
                      secrets.PW }}']}";
        let mut script = with("alpine", fields);
        let all = json!({key: [text]});
        let attempt = handed_out(&mut script, json!({"all": all, "text": text}));
        let handed = script.dispatch(&attempt).hand_out(&values()).unwrap();
        let want = json!({"all": all, "mixed": format!("{text}a\"b\nc"), "pw": ["a\"b\nc"]});
        prop_assert_eq!(json_of(&handed.input_json), want);
    }
}
