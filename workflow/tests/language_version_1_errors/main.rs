//! What is wrong with a template of version 1, as an operator reads it. Each message is here word for word.
#![allow(clippy::unwrap_used)]

mod answers;
mod graph;

use std::collections::BTreeMap;

use serde_json::json;
use workflow::language::{Devices, check, inputs, render};

/// `LINE, COLUMN: message` of all that is wrong.
fn problems(text: &str) -> Vec<String> {
    let devices = BTreeMap::from([("device_1".into(), "52:54:00:77:00:0b".into())]);
    let devices = Devices {
        devices,
        hardware: serde_json::Value::Null,
    };
    let Err(problems) = render(text, &devices) else {
        return Vec::new();
    };
    problems
        .iter()
        .map(|problem| {
            format!(
                "{}, {}: {}",
                problem.finding.place.line, problem.finding.place.column, problem.finding.message
            )
        })
        .collect()
}

/// The problems of a workflow with these fields, which begin at line 3.
#[track_caller]
fn check_workflow(fields: &str, want: &[&str]) {
    let text = format!("version: '1'\nname: w\n{fields}\n");
    assert_eq!(problems(&text), want, "{text}");
}

/// The problems of a workflow with these tasks, which begin at line 4.
#[track_caller]
fn check_tasks(tasks: &str, want: &[&str]) {
    check_workflow(&format!("tasks:\n{tasks}"), want);
}

/// What people write who have not looked it up.
#[test]
fn what_is_meant_is_said_where_people_err_most() {
    for (fields, message) in [
        (
            "retry: 3, worker: w, actions: [{name: a, image: alpine}]",
            "retry must be a map (key: value), not \"3\": write retry: {attempts: 3}",
        ),
        (
            "approve: yes",
            "approve must be a map (key: value), not \"yes\": write approve: {message: \"wipe rack r7?\"}",
        ),
        ("succeed: true", "succeed is not \"true\": write succeed: {}"),
        (
            "fail: broken",
            "fail must be a map (key: value), not \"broken\": write fail: {message: \"no disk is large enough\"}",
        ),
        (
            "wait: 1s, goto: again",
            "goto must be a map (key: value), not \"again\": write goto: {task: NAME, when: CONDITION, max: 3}",
        ),
        (
            "set: {host: node1}",
            "there is no \"node1\"; there are inputs, tasks, vars, workflow; a text has quotes within quotes: \"'node1'\"",
        ),
        (
            "set: {note: some text}",
            "text where an operator or the end of the expression should be; a text has quotes within quotes: \"'some text'\"",
        ),
        // What is meant as an expression is not taken for a text.
        ("set: {x: inputs.nmae}", "there is no \"nmae\""),
    ] {
        let found = problems(&format!(
            "version: '1'\nname: w\ntasks:\n- {{name: task, {fields}}}\n"
        ));
        let [one] = found.as_slice() else {
            panic!("{fields}: {found:#?}")
        };
        match message.ends_with("\"nmae\"") {
            false => assert_eq!(one.split_once(": ").map(|(_, text)| text), Some(message)),
            true => assert!(!one.contains("quotes"), "{one}"),
        }
    }
    check_tasks(
        "- {name: write disk, set: {x: '1'}}\n- {name: b, needs: write disk, when: tasks.write disk.state == 'SUCCESS', set: {y: '2'}}",
        &[
            "5, 50: disk where an operator or the end of the expression should be; a name like this one stands in brackets: tasks[\"write disk\"]",
        ],
    );
}

/// The problems of a task of its own, at line 4; its fields begin at column 15.
#[track_caller]
fn check_task(fields: &str, want: &[&str]) {
    check_tasks(&format!("- {{name: task, {fields}}}"), want);
}

/// The problems of an action, at line 4; its fields begin at column 67.
#[track_caller]
fn check_action(fields: &str, want: &[&str]) {
    check_task(
        &format!("worker: w, actions: [{{name: action, image: alpine, {fields}}}]"),
        want,
    );
}

const TASKS: &str = "tasks: [{name: t, worker: w}]";

#[test]
fn unknown_fields_are_errors() {
    check_workflow(
        &format!("nme: x\nowner: me\n{TASKS}"),
        &[
            "3, 1: \"nme\" is no field of a workflow; did you mean \"name\"?",
            "4, 1: \"owner\" is no field of a workflow: the fields are version, name, id, global_timeout, tasks, boots, labels, policy, inputs, outputs",
        ],
    );
    for (fields, message) in [
        (
            "foreach: x",
            "4, 16: \"foreach\" is no field of a task; did you mean \"forEach\"?",
        ),
        (
            "max_parallel: 1",
            "4, 16: \"max_parallel\" is no field of a task; did you mean \"maxParallel\"?",
        ),
    ] {
        check_task(&format!("{fields}, wait: 1"), &[message]);
    }
    check_action(
        "timeot: 5",
        &["4, 67: \"timeot\" is no field of an action; did you mean \"timeout\"?"],
    );
    check_action(
        "namespaces: {net: host}",
        &["4, 80: \"net\" is no field of namespaces: the fields are network, pid"],
    );
    check_action(
        "retry: {attempts: 1, delays: 1}",
        &["4, 88: \"delays\" is no field of retry; did you mean \"delay\"?"],
    );
    check_task(
        "approve: {message: a, form: [b]}",
        &["4, 38: \"form\" is no field of approve: the fields are message, by, timeout"],
    );
    check_task(
        "wait: 1, goto: {task: task, when: 'true', max: 1, min: 1}",
        &["4, 66: \"min\" is no field of goto: the fields are when, task, max"],
    );
    check_task(
        "fail: {reason: a, mesage: b}",
        &["4, 34: \"mesage\" is no field of fail; did you mean \"message\"?"],
    );
    check_workflow(
        &format!("inputs: {{x: {{type: int, defalt: 1}}}}\n{TASKS}"),
        &["3, 25: \"defalt\" is no field of an input; did you mean \"default\"?"],
    );
}

#[test]
fn in_version_0_1_the_fields_of_version_1_are_warnings_that_say_so() {
    let text = "version: '0.1'\nname: w\ninputs: {a: b}\ntasks: [{name: t, worker: w, when: [x], actions: [{name: a, image: alpine, reboots: 7}]}]\n";
    let warnings = render(text, &Devices::default()).unwrap().warnings;
    let warnings: Vec<String> = warnings
        .into_iter()
        .map(|warning| warning.finding.message)
        .collect();
    let only = "in version \"1\" only and has no effect: write version: \"1\" to use it";
    assert_eq!(
        warnings,
        [
            format!("\"inputs\" is a field of a workflow {only}"),
            format!("\"when\" is a field of a task {only}"),
            format!("\"reboots\" is a field of an action {only}"),
        ]
    );
}

#[test]
fn the_version_must_stand_in_the_text() {
    let expression =
        "tasks: [{name: t, worker: w, actions: [{name: a, image: alpine, command: ['${{ inputs.x }}']}]}]\n";
    assert_eq!(
        problems(&format!("version: '0.1'\nname: w\n{expression}")),
        [
            "3, 80: there is no function inputs: ${{ }} is of version 1; write version: \"1\" at the beginning of a line"
        ]
    );
    assert_eq!(
        problems("{{ `version: '1'` }}\nname: w\ntasks: [{name: t, worker: w}]\n"),
        [
            "0, 0: the version is 1, but the text does not say so: write version: \"1\" at the beginning of a line, outside of {{ }}"
        ]
    );
    assert_eq!(
        problems(
            "{{ if false }}\nversion: '1'\n{{ end }}\nversion: '0.1'\nname: '${{ x }}'\ntasks: [{name: t, worker: w}]\n"
        ),
        ["0, 0: the first version: line says 1, but another version comes out: write version: \"1\" once"]
    );
    assert_eq!(
        problems("version: '1.0'\nname: w\ntasks: [{name: t, worker: w}]\n"),
        ["1, 10: version \"1.0\" is not known: write \"0.1\" or \"1\""]
    );
}

#[test]
fn fields_without_a_value_are_errors() {
    check_tasks(
        "- name: t\n  wait: 1\n  when:\n  needs: ~\n",
        &[
            "6, 7: when is empty: give it a value or leave it out",
            "7, 10: needs is empty: give it a value or leave it out",
        ],
    );
    // YAML takes the exclamation mark for a tag.
    check_tasks(
        "- name: t\n  wait: 1\n  when: !inputs.skip\n",
        &["6, 21: when is empty for YAML: put a text that begins with ! in quotes"],
    );
    check_task(
        "wait: 1, when: ' '",
        &["4, 31: when is empty: write a CEL expression"],
    );
    check_task("set: {x: ''}", &["4, 25: x is empty: write a CEL expression"]);
    check_task("set: {}", &["4, 21: set is empty: write name: expression"]);
    check_task(
        "workflow: ''",
        &["4, 26: workflow is empty: write the name of a template"],
    );
}

#[test]
fn inputs_that_are_declared_wrongly() {
    for (input, message) in [
        (
            "x: ~",
            "3, 13: input \"x\" has neither a type nor a default: write {type: string}",
        ),
        (
            "x: {description: a}",
            "3, 13: input \"x\" has neither a type nor a default: write {type: string}",
        ),
        (
            "x: {type: strng}",
            "3, 20: type \"strng\" is not known; did you mean \"string\"?",
        ),
        (
            "x: {type: integer}",
            "3, 20: type \"integer\" is not known; did you mean \"int\"?",
        ),
        (
            "x: {type: float}",
            "3, 20: type \"float\" is not known; did you mean \"double\"?",
        ),
        (
            "x: {type: object}",
            "3, 20: type \"object\" is not known; did you mean \"map\"?",
        ),
        (
            "x: {type: array}",
            "3, 20: type \"array\" is not known; did you mean \"list\"?",
        ),
        (
            "x: {type: secret}",
            "3, 20: type \"secret\" is not known: the types are string, int, double, bool, list, map",
        ),
        (
            "x: {type: int, default: many}",
            "3, 34: the default of input \"x\" is the string \"many\", but its type is int",
        ),
        (
            "x: {type: list, default: {a: b}}",
            "3, 35: the default of input \"x\" is the map {\"a\":\"b\"}, but its type is list",
        ),
        (
            "x: {type: bool, default: 'true'}",
            "3, 35: the default of input \"x\" is the string \"true\", but its type is bool",
        ),
        (
            "x: {default: '${{ 1 }}'}",
            "3, 23: the default of input \"x\" is not looked through for ${{ }}: write it out",
        ),
        (
            "x: {type: int, description: '${{ 1 }}'}",
            "3, 38: description is not looked through for ${{ }}: write it out",
        ),
        (
            "my-disk: a",
            "3, 10: \"my-disk\" is no name for an input: CEL knows names of letters, digits and _; write my_disk",
        ),
        (
            "in: a",
            "3, 10: \"in\" is no name for an input: CEL knows names of letters, digits and _; write _in",
        ),
        (
            "2nd: a",
            "3, 10: \"2nd\" is no name for an input: CEL knows names of letters, digits and _; write _2nd",
        ),
    ] {
        check_workflow(&format!("inputs: {{{input}}}\n{TASKS}"), &[message]);
    }
    check_workflow(
        &format!("inputs: [x]\n{TASKS}"),
        &["3, 9: inputs must be a map (key: value), not a list"],
    );
    check_workflow(
        &format!("outputs: {{a.b: '1'}}\n{TASKS}"),
        &["3, 11: \"a.b\" is no name for an output: CEL knows names of letters, digits and _; write a_b"],
    );
    check_task(
        "set: {a b: '1'}",
        &["4, 22: \"a b\" is no name for a variable: CEL knows names of letters, digits and _; write a_b"],
    );
    check_task(
        "workflow: x, inputs: {a-b: '1'}",
        &["4, 38: \"a-b\" is no name for an input: CEL knows names of letters, digits and _; write a_b"],
    );
}

#[test]
fn inputs_that_are_given_wrongly() {
    let text = "version: '1'\nname: w\ninputs:\n  disk: {type: string, description: where to}\n  count: 1\n  share: 0.5\n  wipe: false\n  \
                racks: [a]\n  labels: {type: map}\ntasks: [{name: t, worker: w}]\n";
    let definition = render(text, &Devices::default()).unwrap().definition;
    let check = |given: serde_json::Value, want: &[&str]| {
        let found = inputs(&definition, given.as_object().unwrap()).unwrap_err();
        assert_eq!(found, want, "{given}");
    };
    check(
        json!({}),
        &[
            "input \"disk\" (where to) is not given and has no default: give one like {\"disk\": \"text\"}",
            "input \"labels\" is not given and has no default: give one like {\"labels\": {\"key\": \"value\"}}",
        ],
    );
    let long = "x".repeat(100);
    let shown = "x".repeat(59);
    check(
        json!({"dsk": 1, "zone": 2, "disk": 3, "count": "4", "share": true, "wipe": null, "racks": {"a": 1}, "labels": [long]}),
        &[
            "workflow \"w\" has no input \"dsk\"; did you mean \"disk\"?",
            "workflow \"w\" has no input \"zone\": the inputs are count, disk, labels, racks, share, wipe",
            "input \"count\" is the string \"4\", but an int is wanted: give one like {\"count\": 3}",
            "input \"disk\" is the number 3, but a string is wanted: give one like {\"disk\": \"text\"}",
            &format!(
                "input \"labels\" is the list [\"{}…, but a map is wanted: give one like {{\"labels\": {{\"key\": \"value\"}}}}",
                &shown[..58]
            ),
            "input \"racks\" is the map {\"a\":1}, but a list is wanted: give one like {\"racks\": [\"a\", \"b\"]}",
            "input \"share\" is the bool true, but a double is wanted: give one like {\"share\": 0.5}",
            "input \"wipe\" is null, but a bool is wanted: give one like {\"wipe\": true}",
        ],
    );
    let whole = json!({"disk": "a", "labels": {}, "count": 1.5});
    check(
        whole,
        &["input \"count\" is the number 1.5, but an int is wanted: give one like {\"count\": 3}"],
    );
    let none = render(
        "version: '1'\nname: w\ntasks: [{name: t, worker: w}]\n",
        &Devices::default(),
    );
    let found = inputs(&none.unwrap().definition, json!({"a": 1}).as_object().unwrap()).unwrap_err();
    assert_eq!(found, ["workflow \"w\" has no input \"a\": leave it out"]);
}

#[test]
fn a_task_does_one_thing() {
    for (fields, messages) in [
        (
            "needs: []",
            vec![
                "4, 3: task \"task\" does nothing: write actions and a worker, or wait, until, answers, workflow, set, succeed, fail or approve",
            ],
        ),
        (
            "wait: 1, succeed: {}",
            vec!["4, 34: task \"task\" has both wait and succeed: make it two tasks"],
        ),
        (
            "actions: [{name: a, image: alpine}], wait: 1, worker: w",
            vec!["4, 59: task \"task\" has both actions and wait: make it two tasks"],
        ),
        (
            "actions: [{name: a, image: alpine}]",
            vec!["4, 3: task \"task\" has no worker: write a MAC, or a device like \"{{.device_1}}\""],
        ),
        (
            "actions: [{name: a, image: alpine}], worker: ''",
            vec!["4, 61: task \"task\" has no worker: write a MAC, or a device like \"{{.device_1}}\""],
        ),
        (
            "worker: w, wait: 1",
            vec!["4, 24: task \"task\" has a worker, but wait needs no machine: leave worker out"],
        ),
        (
            "wait: 1, volumes: ['/a:/b'], environment: {A: b}",
            vec![
                "4, 34: task \"task\" has volumes, which wait does not take: only actions have a use for it",
                "4, 58: task \"task\" has environment, which wait does not take: only actions have a use for it",
            ],
        ),
        (
            "wait: 1, approve: {message: a}",
            vec!["4, 34: task \"task\" has approve, which wait does not take: approve in a task before it"],
        ),
        (
            "set: {x: '1'}, retry: {attempts: 2}",
            vec!["4, 38: task \"task\" has retry, which set does not take: there is nothing to try again"],
        ),
        (
            "succeed: {}, forEach: '[1]', timeout: 5",
            vec![
                "4, 38: task \"task\" has forEach, which succeed does not take: it ends the workflow once",
                "4, 54: task \"task\" has timeout, which succeed does not take: it takes no time",
            ],
        ),
        (
            "fail: {reason: a}, goto: {when: 'true', task: task, max: 1}",
            vec![
                "4, 41: task \"task\" has goto, which fail does not take: nothing follows the end of the workflow; \
                 put the goto into a task before it, or leave one of the two out",
            ],
        ),
        (
            "succeed: {}, goto: {when: 'true', task: task, max: 1}",
            vec![
                "4, 35: task \"task\" has goto, which succeed does not take: nothing follows the end of the workflow; \
                 put the goto into a task before it, or leave one of the two out",
            ],
        ),
        (
            "wait: 1, inputs: {a: b}",
            vec!["4, 33: task \"task\" has inputs, but no workflow that they are for"],
        ),
        (
            "succeed: {reason: a}",
            vec!["4, 26: succeed takes no fields: write succeed: {}"],
        ),
        (
            "fail: {message: a}",
            vec!["4, 22: fail has no reason: write one word, like DiskTooSmall"],
        ),
    ] {
        check_task(fields, &messages);
    }
}

#[test]
fn bad_durations_and_times() {
    for (fields, message) in [
        (
            "wait: soon",
            "4, 22: wait \"soon\" is no duration: write seconds, or one like 90s, 10m, 1h30m or 2d",
        ),
        (
            "wait: 1, timeout: 5 minutes",
            "4, 34: timeout \"5 minutes\" is no duration: write seconds, or one like 90s, 10m, 1h30m or 2d",
        ),
        (
            "wait: 1, timeout: -5",
            "4, 34: timeout -5 is negative: write seconds, or 0 for none",
        ),
        (
            "wait: 1, timeout: 1500ms",
            "4, 34: timeout \"1500ms\" has a part of a second: write whole seconds",
        ),
        (
            "until: 2026-12-24",
            "4, 23: until \"2026-12-24\" is no time: write one with its zone, like 2026-12-24T18:00:00Z, next 22:00Z, next 22:00+01:00 or next 22:00 Europe/Berlin",
        ),
        (
            "approve: {message: a, timeout: 1w}",
            "4, 47: timeout \"1w\" is no duration: write seconds, or one like 90s, 10m, 1h30m or 2d",
        ),
    ] {
        check_task(fields, &[message]);
    }
    check_action(
        "timeout: 30m1h",
        &["4, 76: timeout \"30m1h\" is no duration: write seconds, or one like 90s, 10m, 1h30m or 2d"],
    );
    check_workflow(
        &format!("global_timeout: 1.5h\n{TASKS}"),
        &["3, 17: global_timeout \"1.5h\" is no duration: write seconds, or one like 90s, 10m, 1h30m or 2d"],
    );
}

#[test]
fn bad_retries() {
    for (retry, message) in [
        (
            "{delay: 5s}",
            "4, 74: retry has no attempts: write how often it runs at most, the first time included",
        ),
        (
            "{attempts: 0}",
            "4, 85: attempts \"0\" is no whole number from 1 to 1000",
        ),
        (
            "{attempts: many}",
            "4, 85: attempts \"many\" is no whole number from 1 to 1000",
        ),
        (
            "{attempts: 2, delay: x}",
            "4, 95: delay \"x\" is no duration: write seconds, or one like 90s, 10m, 1h30m or 2d",
        ),
        (
            "{attempts: 2, maxDelay: x}",
            "4, 98: maxDelay \"x\" is no duration: write seconds, or one like 90s, 10m, 1h30m or 2d",
        ),
        (
            "{attempts: 2, backoff: 0.5}",
            "4, 97: backoff \"0.5\" is no number from 1 to 100: 2 doubles the delay each time",
        ),
        (
            "{attempts: 2, on: [not ok]}",
            "4, 93: on \"not ok\" is neither failed, timeout, lost nor the reason of a failure",
        ),
        (
            "{attempts: 2, on: Timeout}",
            "4, 92: on \"Timeout\" is a reason that no action gives: write timeout",
        ),
        (
            "{attempts: 2, on: [lost, lost]}",
            "4, 99: on has lost twice: take one out",
        ),
    ] {
        check_action(&format!("retry: {retry}"), &[message]);
    }
    check_action(
        "reboots: yes",
        &["4, 76: reboots \"yes\" is neither true nor false"],
    );
}

#[test]
fn a_runtime_that_there_is_not() {
    check_action(
        "runtime: docker",
        &[
            "4, 76: runtime \"docker\" of action \"action\" is neither \"native\", the agent itself, nor \"namespaces\" or \
           \"containerd\", its image as a container that the agent or the machine's containerd runs: leave it out, and the image \
           says whether the agent has the action built in",
        ],
    );
    check_action(
        "runtime: native",
        &[
            "4, 76: action \"action\" has runtime native, and its image alpine ends in the name of no action that is built into the \
           agent; built in are archive2disk, bootentry, cexec, download, exec, growpart, image2disk, kexec, luks, lvm, mkfs, oci2disk, partition, poweroff, qemuimg2disk, raid, reboot, seed, wipe, writefile",
        ],
    );
    check_action(
        "runtime: \"${{ 'native' }}\"",
        &["4, 76: runtime is not looked through for ${{ }}: write it out"],
    );
}

#[test]
fn bounds_of_a_container_that_are_none() {
    check_action(
        "confined: maybe",
        &["4, 77: confined \"maybe\" is neither true nor false"],
    );
    check_action(
        "resources: {memory: 64M, cpu: half, pids: 0, disk: 1GiB}",
        &[
            "4, 87: memory \"64M\" of action \"action\" is no limit: write one of at least 4MiB, like 64MiB or 2GiB",
            "4, 97: cpu \"half\" of action \"action\" is no limit: write processors, like 2, 0.5 or 500m, and at least 0.01",
            "4, 109: pids \"0\" is no whole number from 1 to 4194304",
            "4, 112: \"disk\" is no field of resources: the fields are cpu, memory, pids",
        ],
    );
}

#[test]
fn what_is_built_in_has_no_bounds_of_a_container() {
    let text = "version: \"1\"\nname: n\ntasks:\n- {name: t, worker: w, actions: [{name: a, image: reboot, confined: true, resources: {pids: 1}}]}\n";
    let problems = render(text, &Devices::default()).unwrap_err();
    let told: Vec<String> = problems
        .iter()
        .map(|problem| problem.finding.message.clone())
        .collect();
    for (message, field) in told.iter().zip(["confined", "resources"]) {
        assert!(
            message.starts_with(&format!(
                "{field} of action \"a\" is for containers, and reboot is built into the agent"
            )),
            "{message}"
        );
    }
    assert_eq!(told.len(), 2);
}

#[test]
fn bad_rollouts() {
    for (fields, messages) in [
        (
            "forEach: [1, 2]",
            vec!["4, 25: forEach is CEL, not a list of YAML: write it as a text, '[1,2]'"],
        ),
        (
            "maxParallel: 2, waves: [1], maxFailures: 1",
            vec![
                "4, 29: maxParallel is for a forEach, which this task has not got",
                "4, 39: waves is for a forEach, which this task has not got",
                "4, 57: maxFailures is for a forEach, which this task has not got",
            ],
        ),
        (
            "forEach: '[1]', maxParallel: 0",
            vec!["4, 45: maxParallel \"0\" is no whole number from 1 on"],
        ),
        (
            "forEach: '[1]', waves: []",
            vec!["4, 39: waves is empty: write sizes that rise, like [1, 10%, 100%]"],
        ),
        (
            "forEach: '[1]', waves: [2, 2, 10%, 5%]",
            vec![
                "4, 43: the wave 2 is not larger than the one before it: sizes count from the beginning and rise, like [1, 10%, 100%]",
                "4, 51: the wave 5% is not larger than the one before it: sizes count from the beginning and rise, like [1, 10%, 100%]",
            ],
        ),
        (
            "forEach: '[1]', waves: [100%, 5]",
            vec![
                "4, 46: the wave 5 is not larger than the one before it: sizes count from the beginning and rise, like [1, 10%, 100%]",
            ],
        ),
        (
            "forEach: '[1]', waves: [0, 101%, x]",
            vec![
                "4, 40: a wave \"0\" is neither a count from 1 on nor a share of 1% to 100%",
                "4, 43: a wave \"101%\" is neither a count from 1 on nor a share of 1% to 100%",
                "4, 49: a wave \"x\" is neither a count from 1 on nor a share of 1% to 100%",
            ],
        ),
        (
            "forEach: '[1]', maxFailures: few",
            vec!["4, 45: maxFailures \"few\" is neither a count from 0 on nor a share of 0% to 100%"],
        ),
        (
            "forEach: '[1]', goto: {when: 'true', task: task, max: 1}",
            vec!["4, 38: a task with forEach cannot have goto: put the goto into a task behind it"],
        ),
    ] {
        check_task(&format!("{fields}, wait: 1"), &messages);
    }
}

#[test]
fn bad_approvals() {
    for (approve, message) in [
        (
            "{by: [ops]}",
            "4, 25: approve has no message: write what is asked, for example \"wipe rack r7?\"",
        ),
        (
            "{message: a, by: [ops, ops]}",
            "4, 48: by has \"ops\" twice: take one out",
        ),
        ("{message: a, by: ['']}", "4, 43: by has a group without a name"),
    ] {
        check_task(&format!("approve: {approve}"), &[message]);
    }
}

#[test]
fn expressions_stand_only_where_they_are_filled_in() {
    let not = |field: &str| format!("{field} is not looked through for ${{{{ }}}}: write it out");
    check_workflow(
        "id: '${{ 1 }}'\ntasks: [{name: '${{ 1 }}', worker: w, volumes: ['/${{ 1 }}:/b'], actions: [{name: a, image: alpine, on-failure: ['${{ 1 }}'], on-timeout: ['${{ 1 }}']}]}]",
        &[
            &format!("3, 5: {}", not("id")),
            &format!("4, 16: {}", not("a name")),
            &format!("4, 49: {}", not("a volume")),
            &format!("4, 114: {}", not("on-failure")),
            &format!("4, 140: {}", not("on-timeout")),
        ],
    );
}

#[test]
fn an_expression_in_a_text_must_be_closed_and_not_empty() {
    let open = "this ${{ has no }}: close it, or write ${{ \"${{\" }} for the text itself";
    check_tasks(
        "- name: t\n  worker: 'a ${{ b'\n  actions:\n  - name: a\n    image: ${{}}\n    command: [\"é ${{ 'a }}\"]\n    environment:\n      A: |\n        one\n        two ${{\n",
        &[
            &format!("5, 14: {open}"),
            "8, 12: this ${{ }} is empty: write a CEL expression in it",
            &format!("9, 18: {open}"),
            &format!("13, 13: {open}"),
        ],
    );
}

#[test]
fn everything_wrong_is_said_at_once_in_the_order_of_the_text() {
    let text = "version: '1'\nnme: w\ninputs: {x: {type: strng}}\ntasks:\n- name: a\n  worker: w\n  needs: [b, c]\n  actions:\n  - name: x\n    image: Bad Image\n    \
                timeout: 5 min\n    retry: {}\n- name: b\n  wait: soon\n  worker: w\n- name: b\n";
    let found: Vec<String> = problems(text)
        .into_iter()
        .map(|problem| problem.split_once(", ").unwrap().0.to_owned())
        .collect();
    assert_eq!(
        found,
        ["1", "2", "3", "5", "7", "10", "11", "12", "14", "15", "16", "16"]
    );
}

#[test]
fn check_says_all_of_it_before_there_are_devices() {
    let text = "version: '1'\nname: w\ntasks: [{name: t, wait: soon, when: \"${{ 'x' }}\", worker: w}]\n";
    assert_eq!(check(text).unwrap_err().len(), 3);
}

#[test]
fn what_a_machine_boots_is_one_of_two() {
    let fields = format!("boots: disk\n{TASKS}");
    let want = "3, 8: bad boots \"disk\": expected agent (the in-memory agent) or local (its own disk)";
    check_workflow(&fields, &[want]);
    for good in ["agent", "local"] {
        check_workflow(&format!("boots: {good}\n{TASKS}"), &[]);
    }
}

#[test]
fn a_rule_of_a_policy_is_refused_where_it_stands() {
    let text = "version: '1'\nname: w\npolicy: [step, ask disk]\ntasks: [{name: t, wait: 1s}]\n";
    let problems = render(text, &Devices::default()).unwrap_err();
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("line 3, column 16: policy \"ask disk\" says \"disk\", which is none of action=NAME, image=IMAGE and writes=disk"),
        "{lines:?}"
    );
    let text = "version: '0.1'\nname: w\npolicy: [step]\ntasks: [{name: t, worker: w, actions: [{name: a, image: alpine}]}]\n";
    let rendered = render(text, &Devices::default()).unwrap();
    assert!(rendered.definition.policy.is_empty());
    assert!(
        rendered
            .warnings
            .iter()
            .any(|warning| warning.to_string().contains("policy"))
    );
}
