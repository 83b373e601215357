//! What bounds a run, from inputs: it is worked out when the workflow is made, and refused in the same words as what is written out.
#![allow(clippy::unwrap_used)]

use serde_json::{Map, Value, json};
use workflow::language::{Amount, Definition, Devices, Problem, Rendered, inputs, render};

const HEAD: &str = "version: '1'\nname: w\ninputs: {x: {type: string, default: 'OK'}}\n";

/// A place for a value, a value that is right there, and one that is wrong.
const FIELDS: [(&str, &str, &str); 19] = [
    ("global_timeout: VALUE\ntasks: [{name: t, wait: 1}]", "2h", "soon"),
    ("tasks: [{name: t, wait: 1, timeout: VALUE}]", "30m", "30 minutes"),
    ("tasks: [{name: t, wait: 1, timeout: VALUE}]", "90", "1500ms"),
    ("tasks: [{name: t, wait: VALUE}]", "30m", "30 minutes"),
    ("tasks: [{name: t, until: VALUE}]", "next 22:00Z", "next 25:00Z"),
    (
        "tasks: [{name: t, approve: {message: m, timeout: VALUE}}]",
        "8h",
        "-1",
    ),
    (
        "tasks: [{name: t, workflow: v, retry: {attempts: VALUE}}]",
        "3",
        "0",
    ),
    (
        "tasks: [{name: t, workflow: v, retry: {attempts: 2, delay: VALUE}}]",
        "10s",
        "ten",
    ),
    (
        "tasks: [{name: t, workflow: v, retry: {attempts: 2, maxDelay: VALUE}}]",
        "10s",
        "1s1s",
    ),
    (
        "tasks: [{name: t, workflow: v, retry: {attempts: 2, backoff: VALUE}}]",
        "1.5",
        "0.5",
    ),
    (
        "tasks: [{name: t, forEach: '[1]', wait: 1, minItems: VALUE}]",
        "2",
        "10001",
    ),
    (
        "tasks: [{name: t, forEach: '[1]', wait: 1, maxParallel: VALUE}]",
        "4",
        "0",
    ),
    (
        "tasks: [{name: t, forEach: '[1]', wait: 1, maxFailures: VALUE}]",
        "10%",
        "101%",
    ),
    (
        "tasks: [{name: t, forEach: '[1]', wait: 1, waves: [2, VALUE]}]",
        "50%",
        "1",
    ),
    (
        "tasks: [{name: t, wait: 1, goto: {when: 'true', task: t, max: VALUE}}]",
        "5",
        "x",
    ),
    (
        "tasks: [{name: t, worker: w, actions: [{name: a, image: reboot, timeout: VALUE}]}]",
        "5m",
        "5 m",
    ),
    (
        "tasks: [{name: t, worker: w, actions: [{name: a, image: reboot, retry: {attempts: VALUE}}]}]",
        "5",
        "1001",
    ),
    (
        "tasks: [{name: t, worker: w, actions: [{name: a, image: x/y, resources: {memory: VALUE}}]}]",
        "64MiB",
        "64M",
    ),
    (
        "tasks: [{name: t, worker: w, actions: [{name: a, image: x/y, resources: {cpu: 1, pids: VALUE}}]}]",
        "100",
        "none",
    ),
];

fn rendered(text: &str) -> Result<Rendered, Vec<String>> {
    render(text, &Devices::default()).map_err(|problems| told(&problems))
}

fn told(problems: &[Problem]) -> Vec<String> {
    let told = |problem: &Problem| {
        let finding = &problem.finding;
        format!(
            "{}, {}: {}",
            finding.place.line, finding.place.column, finding.message
        )
    };
    problems.iter().map(told).collect()
}

#[track_caller]
fn made(rendered: &Rendered, given: Value) -> Result<Definition, Vec<String>> {
    let given: &Map<String, Value> = given.as_object().unwrap();
    let inputs = inputs(&rendered.definition, given).unwrap();
    rendered.made_with(&inputs).map_err(|problems| told(&problems))
}

#[test]
fn inputs_stand_wherever_something_is_bounded() {
    for (fields, good, bad) in FIELDS {
        let head = HEAD.replace("OK", good);
        let with = |value: &str| format!("{head}{}\n", fields.replace("VALUE", &format!("\"{value}\"")));
        let written_out = rendered(&with(good)).unwrap();
        let of_input = rendered(&with("${{ inputs.x }}")).unwrap();
        assert!(
            of_input.has_bounds_of_inputs && !written_out.has_bounds_of_inputs,
            "{fields}"
        );
        // `wait` and `until` keep their text, which is filled in when the task begins.
        if !fields.contains("wait: VALUE") && !fields.contains("until: VALUE") {
            for definition in [
                of_input.definition.clone(),
                made(&of_input, json!({})).unwrap(),
                made(&of_input, json!({"x": good})).unwrap(),
            ] {
                assert_eq!(definition, written_out.definition, "{fields}");
            }
        }
        let want = rendered(&with(bad)).unwrap_err();
        assert_eq!(made(&of_input, json!({"x": bad})).unwrap_err(), want, "{fields}");
        // A default that is wrong is found without a server.
        let default =
            with("${{ inputs.x }}").replace(&format!("default: '{good}'"), &format!("default: '{bad}'"));
        assert_eq!(rendered(&default).unwrap_err(), want, "{fields}");
    }
}

#[test]
fn what_has_no_default_is_checked_when_it_is_given() {
    let text = "version: '1'\nname: w\ninputs: {n: {type: int}, limit: {type: string}}\ntasks:\n\
                - {name: a, workflow: v, timeout: '${{ inputs.limit }}', retry: {attempts: '${{ inputs.n + 1 }}', delay: '${{ inputs.n }}s'}}\n";
    let rendered = rendered(text).unwrap();
    let task = made(&rendered, json!({"n": 4, "limit": "1h"}))
        .unwrap()
        .tasks
        .remove(0);
    let retry = task.retry.unwrap();
    assert_eq!((task.timeout_s, retry.attempts, retry.delay_ms), (3600, 5, 4000));
    assert_eq!(
        made(&rendered, json!({"n": 2000, "limit": "a while"})).unwrap_err(),
        [
            "5, 35: timeout \"a while\" is no duration: write seconds, or one like 90s, 10m, 1h30m or 2d",
            "5, 76: attempts \"2001\" is no whole number from 1 to 1000",
        ]
    );
}

#[test]
fn a_list_of_waves_is_an_input() {
    let text = "version: '1'\nname: w\ninputs: {waves: [1, 10%, 100%]}\n\
                tasks: [{name: a, forEach: '[1]', wait: 1, waves: '${{ inputs.waves }}'}]\n";
    let rendered = rendered(text).unwrap();
    let waves = |given| made(&rendered, given).map(|made| made.tasks[0].for_each.clone().unwrap().waves);
    assert_eq!(
        waves(json!({})).unwrap(),
        [Amount::Count(1), Amount::Percent(10), Amount::Percent(100)]
    );
    assert_eq!(waves(json!({"waves": [2]})).unwrap(), [Amount::Count(2)]);
    assert_eq!(
        waves(json!({"waves": [2, 1]})).unwrap_err(),
        [
            "4, 51: the wave 1 is not larger than the one before it: sizes count from the beginning and rise, like [1, 10%, 100%]"
        ]
    );
    assert_eq!(
        waves(json!({"waves": []})).unwrap_err(),
        ["4, 51: waves is empty: write sizes that rise, like [1, 10%, 100%]"]
    );
}

/// Places and words of what is wrong with the expression itself.
#[test]
fn bounds_see_inputs_and_nothing_else() {
    for (fields, want) in [
        (
            "timeout: '${{ item.limit }}', forEach: '[1]', wait: 1",
            "4, 33: there is no item yet: timeout is worked out when the workflow is made, from inputs and nothing else",
        ),
        (
            "timeout: '${{ workflow.run }}', wait: 1",
            "4, 33: there is no workflow yet: timeout is worked out when the workflow is made, from inputs and nothing else",
        ),
        (
            "timeout: '${{ inputs.lmit }}', wait: 1",
            "4, 40: inputs has no \"lmit\"; did you mean \"limit\"?",
        ),
        (
            "timeout: '${{ inputs.quick }}', wait: 1",
            "4, 33: timeout is of type bool: it must be a number or a text, as it would be written out",
        ),
        (
            "timeout: '${{ inputs.n / 0 }}', wait: 1",
            "4, 28: timeout: `inputs.n / 0`: division by zero; it saw inputs.n = 3",
        ),
        (
            "forEach: '[1]', waves: '${{ inputs.n }}', wait: 1",
            "4, 47: waves is of type int: it must be a list",
        ),
        (
            "forEach: '[1]', maxParallel: 'x ${{', wait: 1",
            "4, 51: this ${{ has no }}: close it, or write ${{ \"${{\" }} for the text itself",
        ),
    ] {
        let text = format!(
            "version: '1'\nname: w\ninputs: {{n: 3, limit: 1h, quick: true}}\ntasks: [{{name: a, {fields}}}]\n"
        );
        assert_eq!(rendered(&text).unwrap_err(), [want], "{fields}");
    }
}

/// A task that may not begin need not be right.
#[test]
fn a_wait_that_a_condition_guards_is_not_looked_at_before() {
    let text = "version: '1'\nname: w\ninputs: {pause: ''}\n\
                tasks: [{name: a, when: inputs.pause != '', wait: '${{ inputs.pause }}'}]\n";
    let rendered = rendered(text).unwrap();
    assert!(made(&rendered, json!({"pause": ""})).is_ok());
}

#[test]
fn version_0_1_takes_no_expressions_for_numbers() {
    let text = "version: '0.1'\nname: w\ntasks: [{name: a, worker: w, actions: [{name: a, image: reboot, timeout: \"${{\"}]}]\n";
    let found = rendered(text).unwrap_err();
    assert_eq!(found.len(), 1, "{found:?}");
}
