//! Version 1: what becomes of each of its fields.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use workflow::language::{
    Action, Amount, Approve, Control, Definition, Devices, ForEach, Goto, InputType, Resources, Retry,
    Runtime, Task, check, inputs, render,
};

fn devices() -> Devices {
    Devices {
        devices: BTreeMap::from([("device_1".into(), "52-54-00-77-00-0B".into())]),
        hardware: json!({"spec": {"disks": [{"device": "/dev/nvme0n1"}]}}),
    }
}

#[track_caller]
fn definition(text: &str) -> Definition {
    match render(text, &devices()) {
        Ok(rendered) => {
            assert_eq!(rendered.warnings, []);
            rendered.definition
        }
        Err(problems) => panic!(
            "{}",
            problems.iter().map(|p| format!("{p}\n")).collect::<String>()
        ),
    }
}

/// The tasks of a workflow of version 1.
#[track_caller]
fn tasks(tasks: &str) -> Vec<Task> {
    definition(&format!("version: '1'\nname: w\ntasks:\n{tasks}")).tasks
}

fn named(name: &str) -> Task {
    Task {
        name: name.into(),
        ..Task::default()
    }
}

const OLD: &str = r#"version: "0.1"
name: debian
id: "17"
global_timeout: 1800
tasks:
  - name: "install"
    worker: "{{.device_1}}"
    volumes: [/dev:/dev]
    environment: {MIRROR: http://10.77.0.1:7080}
    actions:
      - name: "stream"
        image: quay.io/tinkerbell/actions/image2disk:latest
        timeout: 600
        environment: {DEST_DISK: '{{ index .Hardware.Disks 0 }}', MODE: 0644, ON: yes}
        command: [a, n, 1.50]
        on-timeout: [late]
        on-failure: [failed]
        pid: host
  - name: nothing
    worker: w
"#;

#[test]
fn a_text_of_version_0_1_means_the_same_in_version_1() {
    let old = definition(OLD);
    let new = definition(&OLD.replace("\"0.1\"", "\"1\""));
    assert_eq!((old.version.as_str(), new.version.as_str()), ("0.1", "1"));
    let as_old = Definition {
        version: "0.1".into(),
        ..new
    };
    assert_eq!(as_old, old);
}

#[test]
fn inputs_have_types_defaults_and_descriptions() {
    let inputs = definition(
        "version: '1'\nname: w\ninputs:\n  disk: /dev/sda\n  count: 3\n  share: 0.5\n  wipe: false\n  \
         mode: 0644\n  racks: [r7, 8]\n  host:\n    type: string\n    description: its name\n  labels: {type: map, default: {rack: r7}}\n  \
         size: {type: double, default: 3}\n  tag: {type: string, default: 1.10}\n  port: {default: 80}\ntasks: [{name: t, worker: a}]\n",
    )
    .inputs;
    let found: Vec<(&str, InputType, Option<Value>)> = inputs
        .iter()
        .map(|(name, input)| (name.as_str(), input.kind, input.default.clone()))
        .collect();
    let want = vec![
        ("count", InputType::Int, Some(json!(3))),
        ("disk", InputType::String, Some(json!("/dev/sda"))),
        ("host", InputType::String, None),
        ("labels", InputType::Map, Some(json!({"rack": "r7"}))),
        ("mode", InputType::String, Some(json!("0644"))),
        ("port", InputType::Int, Some(json!(80))),
        ("racks", InputType::List, Some(json!(["r7", 8]))),
        ("share", InputType::Double, Some(json!(0.5))),
        ("size", InputType::Double, Some(json!(3.0))),
        ("tag", InputType::String, Some(json!("1.10"))),
        ("wipe", InputType::Bool, Some(json!(false))),
    ];
    assert_eq!(found, want);
    assert_eq!(inputs["host"].description, "its name");
}

#[test]
fn given_inputs_are_checked_and_filled_up() {
    let definition = definition(
        "version: '1'\nname: w\ninputs: {disk: /dev/sda, count: {type: int}, size: {type: double, default: 1}}\n\
         tasks: [{name: t, worker: a}]\n",
    );
    let given = json!({"count": 2, "size": 5});
    let all = inputs(&definition, given.as_object().unwrap()).unwrap();
    assert_eq!(
        Value::Object(all),
        json!({"count": 2, "disk": "/dev/sda", "size": 5.0})
    );
}

#[test]
fn outputs_are_expressions_by_name() {
    let text = "version: '1'\nname: w\noutputs: {a: 'inputs.x', b: \"${{ inputs.x + 'y' }}\", c: 5}\ninputs: {x: z}\n\
                tasks: [{name: t, worker: a}]\n";
    let want = [("a", "inputs.x"), ("b", "inputs.x + 'y'"), ("c", "5")];
    let want: BTreeMap<String, String> = want.map(|(k, v)| (k.into(), v.into())).into();
    assert_eq!(definition(text).outputs, want);
}

#[test]
fn needs_left_out_is_the_task_before_and_an_empty_list_is_none() {
    let found = tasks(
        "- {name: a, wait: 1}\n- {name: b, wait: 1}\n- {name: c, wait: 1, needs: []}\n- {name: d, wait: 1, needs: [f, a]}\n\
         - {name: e, wait: 1, needs: c}\n- {name: f, wait: 1, needs: [a]}\n",
    );
    let needs: Vec<&[usize]> = found.iter().map(|task| task.needs.as_slice()).collect();
    assert_eq!(needs, [&[][..], &[0], &[], &[5, 0], &[2], &[0]]);
}

#[test]
fn when_and_recovers_are_read() {
    let found = tasks(
        "- {name: a, wait: 1}\n- {name: b, wait: 1, when: '1 < 2'}\n- {name: c, wait: 1, when: '${{ failure() }}', recovers: [a, b]}\n",
    );
    assert_eq!(found[1].when.as_deref(), Some("1 < 2"));
    assert_eq!(found[2].when.as_deref(), Some("failure()"));
    assert_eq!(found[2].recovers, [0, 1]);
}

#[test]
fn for_each_has_a_window_waves_and_a_budget() {
    let found = tasks(
        "- {name: a, worker: '${{ item.mac }}', forEach: 'machines(\"rack == ''r7''\")', minItems: 3, maxParallel: 4, waves: [1, 3, 10%, 100%], maxFailures: 5%}\n\
         - {name: b, wait: 1, forEach: '[1, 2]', maxFailures: 0}\n",
    );
    assert_eq!(found[0].worker, "${{ item.mac }}");
    let want = ForEach {
        min_items: 3,
        list: "machines(\"rack == 'r7'\")".into(),
        max_parallel: 4,
        waves: vec![
            Amount::Count(1),
            Amount::Count(3),
            Amount::Percent(10),
            Amount::Percent(100),
        ],
        max_failures: Some(Amount::Percent(5)),
    };
    assert_eq!(found[0].for_each, Some(want));
    let want = ForEach {
        min_items: 0,
        list: "[1, 2]".into(),
        max_parallel: 0,
        waves: vec![],
        max_failures: Some(Amount::Count(0)),
    };
    assert_eq!(found[1].for_each, Some(want));
}

#[test]
fn tasks_and_actions_are_tried_again() {
    let found = tasks(
        "- name: a\n  worker: w\n  timeout: 1h30m\n  retry: {attempts: 3}\n  actions:\n  - name: x\n    image: alpine\n    timeout: 90s\n    \
         reboots: true\n    retry: {attempts: 5, delay: 500ms, backoff: 1.5, maxDelay: 2m, on: [timeout, lost, TransferBroken]}\n  \
         - {name: y, image: alpine, reboots: false, retry: {attempts: 2, on: failed}}\n",
    );
    let once = Retry {
        attempts: 3,
        delay_ms: 0,
        backoff_percent: 100,
        max_delay_ms: 0,
        on: vec![],
    };
    assert_eq!(found[0].retry, Some(once.clone()));
    assert_eq!(found[0].timeout_s, 5400);
    let [x, y] = &found[0].actions[..] else {
        panic!("two actions")
    };
    let want = Retry {
        attempts: 5,
        delay_ms: 500,
        backoff_percent: 150,
        max_delay_ms: 120_000,
        on: vec!["timeout".into(), "lost".into(), "TransferBroken".into()],
    };
    assert_eq!(
        (x.timeout_s, x.reboots, x.retry.as_ref()),
        (90, true, Some(&want))
    );
    let on_failure = Retry {
        attempts: 2,
        on: vec!["failed".into()],
        ..once
    };
    assert_eq!((y.reboots, y.retry.as_ref()), (false, Some(&on_failure)));
}

#[test]
fn an_action_says_that_the_agent_itself_runs_it() {
    let found = tasks(
        "- name: a\n  worker: w\n  actions:\n  - {name: x, image: 'registry.example/x/reboot:v1', runtime: native}\n  \
         - {name: y, image: registry.example/x/reboot}\n",
    );
    let [x, y] = &found[0].actions[..] else {
        panic!("two actions")
    };
    assert_eq!(x.native().map(|native| native.name), Some("reboot"));
    assert_eq!(y.native(), None);
}

#[test]
fn an_action_says_how_its_container_is_bounded() {
    let found = tasks(
        "- name: a\n  worker: w\n  actions:\n  - {name: x, image: 'registry.example/x/y', confined: true, \
         resources: {memory: 256MiB, cpu: 0.5, pids: 100}, namespaces: {network: none}}\n  \
         - {name: y, image: reboot, runtime: namespaces, resources: {cpu: 1500m}}\n  \
         - {name: z, image: reboot, runtime: containerd, confined: true}\n",
    );
    let [x, y, z] = &found[0].actions[..] else {
        panic!("three actions")
    };
    assert_eq!(
        (z.native(), z.runtime, x.runtime),
        (None, Some(Runtime::Containerd), None)
    );
    let limits = Resources {
        memory_bytes: 256 << 20,
        cpu_millis: 500,
        pids: 100,
    };
    assert_eq!(
        (x.confined, x.resources, x.network.as_str()),
        (true, limits, "none")
    );
    // The image of that name, and not what the agent has built in.
    assert_eq!(
        (y.native(), y.confined, y.resources.cpu_millis),
        (None, false, 1500)
    );
}

#[test]
fn control_tasks_say_what_they_do() {
    let found = tasks(
        "- {name: a, wait: 10m}\n- {name: b, wait: '${{ inputs.pause }}'}\n- {name: c, until: 2026-12-24T18:00:00+01:00}\n\
         - {name: d, workflow: install, inputs: {disk: '${{ item }}', n: 3, deep: [{a: true}]}, forEach: '[1]', retry: {attempts: 2}}\n\
         - {name: e, set: {x: '1 + 1', y: 5}}\n- {name: f, succeed: {}}\n- {name: g, fail: {reason: TooSmall, message: 'no ${{ 1 }}'}}\n"
            .replace("${{ inputs.pause }}", "${{ \"5s\" }}")
            .as_str(),
    );
    let control: Vec<Control> = found.into_iter().map(|task| task.control.unwrap()).collect();
    let want = [
        Control::Wait("10m".into()),
        Control::Wait("${{ \"5s\" }}".into()),
        Control::Until("2026-12-24T18:00:00+01:00".into()),
        Control::Workflow {
            template: "install".into(),
            inputs: BTreeMap::from([
                ("disk".into(), json!("${{ item }}")),
                ("n".into(), json!(3)),
                ("deep".into(), json!([{"a": true}])),
            ]),
        },
        Control::Set(BTreeMap::from([
            ("x".into(), "1 + 1".into()),
            ("y".into(), "5".into()),
        ])),
        Control::Succeed,
        Control::Fail {
            reason: "TooSmall".into(),
            message: "no ${{ 1 }}".into(),
        },
    ];
    assert_eq!(control, want);
}

#[test]
fn approval_stands_alone_or_before_actions() {
    let found = tasks(
        "- {name: a, approve: {message: go on?}}\n- {name: b, worker: w, actions: [{name: x, image: alpine}], approve: {message: 'wipe ${{ 1 }}?', by: [ops, leads], timeout: 1d}}\n",
    );
    let want = Task {
        approve: Some(Approve {
            message: "go on?".into(),
            ..Approve::default()
        }),
        ..named("a")
    };
    assert_eq!(found[0], want);
    let want = Task {
        worker: "w".into(),
        actions: vec![Action {
            name: "x".into(),
            image: "alpine".into(),
            ..Action::default()
        }],
        needs: vec![0],
        approve: Some(Approve {
            message: "wipe ${{ 1 }}?".into(),
            by: vec!["ops".into(), "leads".into()],
            timeout_s: 86_400,
        }),
        ..named("b")
    };
    assert_eq!(found[1], want);
}

#[test]
fn goto_goes_back_over_a_loop_of_its_own() {
    // A loop with a fork and a rollout in it; what stands before and behind it is left alone.
    let found = tasks(
        "- {name: before, wait: 1}\n- {name: aside, wait: 1, needs: []}\n- {name: first, wait: 1, needs: [before]}\n\
         - {name: left, wait: 1, forEach: '[1, 2]', needs: [first]}\n- {name: right, wait: 1, needs: [first, before]}\n\
         - {name: last, wait: 1, needs: [left, right], goto: {when: failure(), task: first, max: 3}}\n\
         - {name: behind, wait: 1, needs: [last, aside]}\n- {name: self, wait: 1, goto: {when: 'true', task: self, max: 1}}\n",
    );
    let want = Goto {
        when: "failure()".into(),
        task: 2,
        max: 3,
    };
    assert_eq!(found[5].goto, Some(want));
    assert_eq!(found[7].goto.as_ref().map(|goto| goto.task), Some(7));
}

#[test]
fn go_s_template_step_leaves_expressions_alone() {
    let text = "version: \"1\"\nname: w\ninputs: {x: 1}\ntasks:\n- name: t\n  worker: '{{ .device_1 }}'\n  actions:\n  - name: a\n    image: alpine\n    \
                environment:\n      A: \"${{ inputs.x }}-{{ upper \"b\" }}-${{ {'a': {'b': \"}}\"}}.a.b }}\"\n      B: '{{ printf \"${{ inputs.%s }}\" \"x\" }}'\n      \
                C: \"${{ \\\"{{ .nothing }}\\\" }}\"\n      D: ${{ \"${{\" }}\n"
        .replace("\"}}\"}}.a.b }}\"", "'}}'}}.a.b }}\"")
        .replace("upper \"b\"", "upper `b`");
    let definition = definition(&text);
    let task = &definition.tasks[0];
    assert_eq!(task.worker, "52:54:00:77:00:0b");
    let want = [
        ("A", "${{ inputs.x }}-B-${{ {'a': {'b': '}}'}}.a.b }}"),
        ("B", "${{ inputs.x }}"),
        ("C", "${{ \"{{ .nothing }}\" }}"),
        ("D", "${{ \"${{\" }}"),
    ];
    let want: BTreeMap<String, String> = want.map(|(k, v)| (k.into(), v.into())).into();
    assert_eq!(task.actions[0].environment, want);
}

#[test]
fn in_version_0_1_a_dollar_before_an_action_is_a_dollar() {
    let text = "version: '0.1'\nname: w\ntasks: [{name: t, worker: '${{.device_1}}', actions: [{name: a, image: alpine, command: ['${{ `x` }}']}]}]\n";
    let definition = definition(text);
    assert_eq!(definition.tasks[0].worker, "$52-54-00-77-00-0B");
    assert_eq!(definition.tasks[0].actions[0].command, ["$x"]);
}

#[test]
fn a_text_of_json_is_read_too() {
    let text = "{\n  \"version\": \"1\",\n  \"name\": \"w\",\n  \"tasks\": [{\"name\": \"t\", \"wait\": \"${{ '5s' }}\"}]\n}\n";
    assert_eq!(
        definition(text).tasks[0].control,
        Some(Control::Wait("${{ '5s' }}".into()))
    );
}

#[test]
fn check_goes_through_a_text_that_fills_nothing_in_before() {
    let text = "version: '1'\nname: w\ntasks: [{name: t, worker: '${{ inputs.x }}', wait: 1}]\n";
    assert!(check(text).is_err());
}
