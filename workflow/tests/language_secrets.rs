//! `${{ secrets.NAME }}` in templates: where it may stand, and what is said where it may not.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use workflow::language::{Devices, Rendered, render, secrets};

fn rendered(text: &str, hardware: Value) -> Result<Rendered, Vec<String>> {
    let devices = BTreeMap::from([("device_1".into(), "52:54:00:77:00:0b".into())]);
    render(text, &Devices { devices, hardware }).map_err(|problems| {
        problems
            .iter()
            .map(|problem| {
                format!(
                    "{}, {}: {}",
                    problem.finding.place.line, problem.finding.place.column, problem.finding.message
                )
            })
            .collect()
    })
}

/// Of a workflow of version 1 with these tasks, which begin at line 4.
fn of_tasks(tasks: &str) -> Result<Rendered, Vec<String>> {
    rendered(&format!("version: '1'\nname: w\ntasks:\n{tasks}\n"), Value::Null)
}

/// `NAME at LINE, COLUMN` of every secret.
fn named(rendered: &Rendered) -> Vec<String> {
    let names = rendered.secrets.iter();
    names
        .map(|secret| {
            format!(
                "{} at {}, {}",
                secret.name, secret.place.finding.place.line, secret.place.finding.place.column
            )
        })
        .collect()
}

#[test]
fn an_action_is_handed_secrets_in_its_command_and_environment() {
    let tasks = "
- name: t
  worker: w
  environment: {OF_TASK: 'a ${{ secrets.OF_TASK }} b'}
  actions:
  - name: a
    image: alpine
    command: [login, '${{secrets._p1}}']
    environment: {BOTH: '${{ 1 + 1 }}${{ secrets.PW }}${{ secrets.PW }}'}";
    let good = of_tasks(tasks).unwrap();
    assert_eq!(
        named(&good),
        [
            "OF_TASK at 7, 29",
            "_p1 at 11, 23",
            "PW at 12, 38",
            "PW at 12, 55"
        ]
    );
    assert_eq!(
        good.secrets[0].place.finding.message,
        "there is no secret OF_TASK: set it with `farrier secret set OF_TASK`"
    );
}

/// What is said of a secret that stands where its value would be recorded.
const CURE: &str = "a secret is put in when an action is handed out, and its value is part of nothing that is recorded: \
                    write ${{ secrets.NAME }}, just so, in the command, the environment or the input of an action, or \
                    in the environment of its task";

#[test]
fn a_secret_is_part_of_nothing_that_is_recorded() {
    let action = "worker: w, actions: [{name: a, image: alpine";
    for fields in [
        // Places that are recorded.
        "worker: '${{ secrets.A }}', actions: [{name: a, image: alpine}]",
        "worker: w, actions: [{name: a, image: 'registry/${{ secrets.A }}'}]",
        "approve: {message: '${{ secrets.A }}'}",
        "wait: '${{ secrets.A }}'",
        "until: '${{ secrets.A }}'",
        "workflow: '${{ secrets.A }}'",
        "workflow: x, inputs: {a: ['${{ secrets.A }}']}",
        "fail: {reason: A, message: '${{ secrets.A }}'}",
        "fail: {reason: '${{ secrets.A }}', message: b}",
        "set: {a: secrets.A}",
        "set: {a: '${{ secrets.A }}'}",
        // Expressions.
        &format!("when: secrets.A == 'x', {action}}}]"),
        &format!("when: has(secrets.A), {action}}}]"),
        &format!("forEach: '[secrets.A]', {action}}}]"),
        &format!("goto: {{when: secrets.A == 'x', task: t, max: 1}}, {action}}}]"),
        &format!("{action}, command: ['${{{{ secrets.A + \"x\" }}}}']}}]"),
        &format!("{action}, command: ['${{{{ size(secrets.A) }}}}']}}]"),
        &format!("{action}, command: ['${{{{ secrets[\"A\"] }}}}']}}]"),
        &format!("{action}, command: ['${{{{ secrets }}}}']}}]"),
        &format!("{action}, command: ['${{{{ [1].map(x, secrets.A) }}}}']}}]"),
        &format!("{action}, environment: {{A: '${{{{ true ? secrets.A : \"x\" }}}}'}}}}]"),
    ] {
        let problems = of_tasks(&format!("- {{name: t, {fields}}}")).expect_err(fields);
        assert!(
            problems.iter().any(|problem| problem.ends_with(CURE)),
            "{fields}: {problems:?}"
        );
    }
    let outputs = "version: '1'\nname: w\noutputs: {a: secrets.A}\ntasks: [{name: t, set: {b: '1'}}]\n";
    assert_eq!(
        rendered(outputs, Value::Null).unwrap_err(),
        [format!("3, 14: {CURE}")]
    );
    // A name of one's own is no secret.
    assert!(of_tasks("- {name: t, set: {a: '[{\"A\": 1}].map(secrets, secrets.A)'}}").is_ok());
}

#[test]
fn what_says_which_disk_is_written_is_no_secret() {
    let tasks = "- {name: t, worker: w, actions: [{name: a, image: cexec, environment: {DEST_DISK: '${{ secrets.D }}'}}]}";
    assert_eq!(
        of_tasks(tasks).unwrap_err(),
        [
            "4, 84: DEST_DISK says which disk is written, and that is recorded: write it out, or make it an input"
        ]
    );
}

#[test]
fn texts_that_are_written_out_have_no_secrets() {
    for fields in [
        "worker: w, actions: [{name: '${{ secrets.A }}', image: alpine}]",
        "worker: w, volumes: ['/${{ secrets.A }}:/a'], actions: [{name: a, image: alpine}]",
        "worker: w, actions: [{name: a, image: alpine, on-failure: ['${{ secrets.A }}']}]",
    ] {
        let problems = of_tasks(&format!("- {{name: t, {fields}}}")).expect_err(fields);
        assert!(
            problems[0].contains("is not looked through for ${{ }}: write it out"),
            "{problems:?}"
        );
    }
}

#[test]
fn a_record_may_hold_a_secret_for_templates_of_version_1() {
    let hardware = json!({"spec": {"userData": "password: ${{ secrets.ROOT }}"}});
    let text = |version: &str, field: &str| {
        format!(
            "version: '{version}'\nname: w\ntasks: [{{name: t, worker: w, actions: [{{name: a, image: writefile, \
             environment: {{CONTENTS: \"{{{{ {field} }}}}\"}}}}]}}]\n"
        )
    };
    for field in [".hardware.spec.userData", ".Hardware.UserData"] {
        let good = rendered(&text("1", field), hardware.clone()).unwrap();
        assert_eq!(named(&good), ["ROOT at 3, 103"]);
        assert_eq!(
            rendered(&text("0.1", field), hardware.clone()).unwrap_err(),
            ["3, 103: ${{ secrets.ROOT }} is put in by templates of version 1 only: write version: \"1\""]
        );
    }
}

#[test]
fn a_template_s_lines_tell_which_secrets_it_names() {
    let text = "version: \"1\"\n# ${{ secrets.NO }}\na: {{ .b }} ${{ secrets.A }}\nb: it's ${{secrets.B}} ${{ open\nc: ${{ \
                secrets.C + 'x' }}\n  - ${{ secrets.D }}\n";
    let found: Vec<_> = secrets(text)
        .iter()
        .map(|secret| {
            (
                secret.name.clone(),
                secret.place.finding.place.line,
                secret.place.finding.place.column,
            )
        })
        .collect();
    assert_eq!(found, [("A".into(), 3, 13), ("D".into(), 6, 5)]);
    assert_eq!(secrets(&text.replace("\"1\"", "\"0.1\"")), []);
}
