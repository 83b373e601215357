//! What is wrong with a template, as an operator reads it. Each message is here word for word.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use workflow::language::{Devices, Problem, check, render};
use yaml::Kind;

/// A good workflow, with `WORKER` and `ACTION` to put something bad in.
const FRAME: &str = "version: '0.1'\nname: w\ntasks:\n- name: t\n  worker: WORKER\n  actions:\n  - ACTION\n";

fn problems(text: &str) -> Vec<Problem> {
    let devices = BTreeMap::from([("device_1".into(), "52:54:00:77:00:0b".into())]);
    match render(
        text,
        &Devices {
            devices,
            hardware: serde_json::Value::Null,
        },
    ) {
        Ok(rendered) => rendered.warnings,
        Err(problems) => problems,
    }
}

fn framed(worker: &str, action: &str) -> String {
    FRAME.replace("WORKER", worker).replace("ACTION", action)
}

/// The one problem of a text: its place, its message, the line that it quotes.
#[track_caller]
fn check_one(text: &str, place: &str, message: &str, quoted: &str) {
    let found = problems(text);
    let printed: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(printed, [format!("{place}: {message}\n    {quoted}")]);
    assert_eq!(
        (found[0].finding.message.as_str(), found[0].quoted.as_str()),
        (message, quoted)
    );
}

const GOOD_ACTION: &str = "{name: a, image: alpine}";

#[test]
fn rendering_problems_are_at_the_template_s_line() {
    for (worker, column, message) in [
        (
            "{{.device_2}}",
            13,
            "there is no value for .device_2; there are .device_1; did you mean .device_1?",
        ),
        (
            "{{ .rack }}",
            14,
            "there is no value for .rack; there are .device_1",
        ),
        (
            "{{.hardware.spec.x}}",
            13,
            "there is no value for .hardware: the workflow has no machine that is known",
        ),
        (
            "{{ index .Hardware.Disks 0 }}",
            14,
            "there is no value for .Hardware: the workflow has no machine that is known",
        ),
        (
            "{{ (dict \"a\" (dict \"b\" 1)).a.c }}",
            14,
            "there is no value for .a.c",
        ),
        (
            "{{ lowr .device_1 }}",
            14,
            "there is no function lowr; did you mean lower?",
        ),
        (
            "{{ now }}",
            14,
            "there is no function now: times are none of a template's values, and nothing here reads a clock: a template gives the same text every time",
        ),
        (
            "{{ env \"HOME\" }}",
            14,
            "there is no function env: nothing here reads the server's environment; give the value with -r NAME=VALUE",
        ),
        ("{{ template \"x\" }}", 14, "no template \"x\" is defined"),
        ("{{ if .device_1 }}a", 14, "this {{if}} has no {{end}}"),
        ("a{{end}}", 14, "an {{end}} too many: nothing is open here"),
        ("{{ .device_1.x }}", 14, "can't evaluate field x in type string"),
        (
            "{{ index (list 1) 3 }}",
            14,
            "there is no item 3: the list is shorter",
        ),
        ("{{ first list }}", 14, "there is no value to fill in here"),
        ("{{ lower }}", 14, "lower: wants 1 argument, got 0"),
        ("{{ fail \"no disk\" }}", 14, "fail: no disk"),
        (
            "{{ if false }}x{{else if .nope }}y{{end}}",
            33,
            "there is no value for .nope; there are .device_1",
        ),
        (
            "{{ range list 1 }}{{ .foo }}{{end}}",
            32,
            "can't evaluate field foo in type int",
        ),
        (
            "{{range until 3000}}{{repeat 100 \"x\"}}{{end}}",
            33,
            "the rendered template would be larger than 262144 B",
        ),
        (
            "{{range until 1000}}{{range until 1000}}{{end}}{{end}}",
            33,
            "its loops run more than 100000 times",
        ),
        (
            "{{define \"r\"}}{{template \"r\"}}{{end}}{{template \"r\"}}",
            27,
            "its templates and blocks are nested too deeply",
        ),
        ("{{.device_1", 11, "this {{ has no }} on its line"),
    ] {
        let text = framed(worker, GOOD_ACTION);
        check_one(
            &text,
            &format!("template line 5, column {column}"),
            message,
            &format!("  worker: {worker}"),
        );
    }
}

#[test]
fn all_unknown_functions_are_said_at_once_also_without_devices() {
    let text = framed("{{ lowr .device_1 }}", "{name: '{{uper \"a\"}}', image: alpine}");
    let found = check(&text).unwrap_err();
    let places: Vec<(u32, &str)> = found
        .iter()
        .map(|problem| (problem.finding.place.line, problem.finding.message.as_str()))
        .collect();
    let want = [
        (5, "there is no function lowr; did you mean lower?"),
        (7, "there is no function uper; did you mean upper?"),
    ];
    assert_eq!(places, want);
}

#[test]
fn check_needs_no_devices_but_finds_what_needs_none() {
    assert_eq!(check(&framed("{{.device_1}}", GOOD_ACTION)), Ok(vec![]));
    assert_eq!(
        check(&framed("{{.device_1}}", "{name: a, image: 'NOT GOOD'}")),
        Ok(vec![])
    );
    let plain = check(&framed("w", "{name: a, image: 'NOT GOOD'}")).unwrap_err();
    assert_eq!(plain.len(), 1);
    let warned = check(&framed("w", "{name: a, image: alpine, comand: [x]}")).unwrap();
    assert_eq!(warned.len(), 1);
}

#[test]
fn yaml_problems_quote_the_rendered_line() {
    for (text, place, message, quoted) in [
        (
            "a: b: c\n",
            "1, column 5",
            "bad YAML: a second key in one line, or a key that is indented wrongly: put a text with `: ` in it in quotes, and each \
             key on a line of its own",
            "a: b: c",
        ),
        (
            "name: w\n\ttasks: []\n",
            "2, column 1",
            "bad YAML: a tab indents this line, and YAML takes blanks only",
            "\ttasks: []",
        ),
        (
            "name: *x\n",
            "1, column 7",
            "bad YAML: this alias (*name) stands for nothing: no &name is before it; put a text that begins with * in quotes",
            "name: *x",
        ),
        (
            "just text\n",
            "1, column 1",
            "a workflow must be a map (key: value), not \"just text\"",
            "just text",
        ),
        (
            "- list\n",
            "1, column 1",
            "a workflow must be a map (key: value), not a list",
            "- list",
        ),
        (
            "name: [w\ntasks: x\n",
            "1, column 7",
            "bad YAML: this [ is not closed: write a ] at its end",
            "name: [w",
        ),
    ] {
        check_one(text, &format!("rendered line {place}"), message, quoted);
    }
    let twice = framed("w", GOOD_ACTION).replace("name: w\n", "name: w\nname: x\n");
    check_one(
        &twice,
        "rendered line 3, column 1",
        "\"name\" is given twice; first in line 2",
        "name: x",
    );
}

#[test]
fn a_quote_that_is_not_closed_is_told_where_it_was_opened() {
    for quote in ["'", "\""] {
        let worker = format!("{quote}{{{{.device_1}}}}");
        check_one(
            &framed(&worker, GOOD_ACTION),
            "rendered line 5, column 11",
            &format!("bad YAML: this {quote} is not closed: write a {quote} where its text ends"),
            &format!("  worker: {quote}52:54:00:77:00:0b"),
        );
    }
}

#[test]
fn what_the_template_language_refuses_is_said_in_our_words() {
    for (worker, column, message) in [
        (
            "{{if .device_1}}{{else}}{{else}}{{end}}",
            37,
            "a second {{else}} in one {{if}}",
        ),
        (
            "{{else}}",
            13,
            "an {{else}} outside {{if}}, {{range}} and {{with}}",
        ),
        ("{{ .device_1 | }}", 26, "something is missing before this }}"),
        ("{{ if }}x{{end}}", 17, "something is missing before this }}"),
        (
            "{{ $x }}",
            14,
            "the variable $x is not set before it is used: write {{ $x := … }}",
        ),
        ("{{ \"a }}", 11, "a quote in this {{ }} is not closed"),
        ("{{ .device_1 ] }}", 24, "\"]\" cannot stand here in an action"),
    ] {
        check_one(
            &framed(worker, GOOD_ACTION),
            &format!("template line 5, column {column}"),
            message,
            &format!("  worker: {worker}"),
        );
    }
}

#[test]
fn the_first_document_counts_and_others_are_told() {
    let good = framed("w", GOOD_ACTION);
    let told = |text: &str| -> Vec<String> {
        let rendered = render(text, &Devices::default()).unwrap();
        assert_eq!(rendered.definition.name, "w");
        rendered.warnings.iter().map(ToString::to_string).collect()
    };
    for before in ["---\n", "# a comment\n---\n", "---\n---\n"] {
        assert_eq!(told(&format!("{before}{good}")), [""; 0], "{before:?}");
    }
    assert_eq!(
        told(&format!("{good}---\n")),
        ["rendered line 8, column 1: nothing stands behind this ---: leave it out\n    ---"]
    );
    let second = "a second document begins here and is not read: the first one is the template";
    for behind in ["name: x\n", "[\n", "a: *x\n"] {
        assert_eq!(
            told(&format!("{good}---\n{behind}")),
            [format!("rendered line 8, column 1: {second}\n    ---")],
            "{behind:?}"
        );
    }
}

#[test]
fn names_that_a_record_has_not_are_told_with_the_nearest() {
    let devices = Devices {
        devices: BTreeMap::from([("device_1".into(), "52:54:00:77:00:0b".into())]),
        hardware: serde_json::json!({
            "metadata": {"name": "node1"},
            "spec": {"disks": [{"device": "/dev/vda"}], "metadata": {}},
        }),
    };
    for (worker, message) in [
        (
            "{{ index .Hardware.disks 0 }}",
            "there is no value for .Hardware.disks; did you mean .Hardware.Disks?",
        ),
        (
            "{{ .hardware.spec.disk }}",
            "there is no value for .hardware.spec.disk; did you mean .hardware.spec.disks?",
        ),
        (
            "{{ .hardware.spec.userData }}",
            "there is no value for .hardware.spec.userData; .hardware.spec has disks, metadata",
        ),
        (
            "{{ .hardware.spec.metadata.x }}",
            "there is no value for .hardware.spec.metadata.x; .hardware.spec.metadata is empty",
        ),
        (
            "{{ with .hardware.spec }}{{ .disk }}{{ end }}",
            "there is no value for .disk; there are .Hardware, .device_1, .hardware",
        ),
        (
            "{{ .hardwaer.spec }}",
            "there is no value for .hardwaer; there are .Hardware, .device_1, .hardware; did you mean .Hardware?",
        ),
    ] {
        let found = render(&framed(worker, GOOD_ACTION), &devices).unwrap_err();
        assert_eq!(found[0].finding.message, message, "{worker}");
        assert_eq!(found[0].finding.kind, Kind::NoSuchName, "{worker}");
    }
}

#[test]
fn values_of_the_wrong_shape_are_all_at_their_places() {
    let text = "name: [x]\nid: {a: b}\ntasks:\n- x\n- name: t\n  worker: w\n  actions: {a: b}\n  environment: [x]\n  volumes: x\n- \
                {name: u, worker: w, actions: [{name: [a], image: alpine, command: x, environment: {A: [b]}}]}\n";
    let found: Vec<String> = problems(text)
        .iter()
        .map(|problem| {
            format!(
                "{}, {}: {}",
                problem.finding.place.line, problem.finding.place.column, problem.finding.message
            )
        })
        .collect();
    let want = [
        "1, 7: a name must be text, not a list",
        "2, 5: id must be text, not a map",
        "4, 3: a task must be a map (key: value), not \"x\"",
        "7, 12: actions must be a list, not a map",
        "8, 16: environment must be a map (key: value), not a list",
        "9, 12: volumes must be a list, not \"x\"",
        "10, 41: a name must be text, not a list",
        "10, 70: command must be a list, not \"x\"",
        "10, 90: A must be text, not a list",
    ];
    assert_eq!(found, want);
}

#[test]
fn an_empty_template_says_what_it_needs() {
    for text in ["", "# nothing\n", "---\n", "~\n"] {
        let found: Vec<String> = problems(text)
            .iter()
            .map(|problem| problem.finding.message.clone())
            .collect();
        assert_eq!(
            found,
            ["the template is empty: it needs version, name and tasks"],
            "{text:?}"
        );
    }
}

#[test]
fn bombs_are_refused_quickly() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    assert_eq!(
        problems(&bomb)[0].finding.message,
        "more than 50000 values, aliases expanded"
    );
    let deep = format!("a: {}", "[".repeat(5000));
    assert_eq!(problems(&deep)[0].finding.message, "nested too deeply");
    let large = "x".repeat(262_145);
    assert_eq!(
        problems(&large)[0].to_string(),
        "template: the template has 262145 B, 262144 B is the most"
    );
}

#[test]
fn what_an_action_has_wrong_is_at_its_place() {
    for (action, column, message) in [
        (
            "{name: a, image: My Image}",
            22,
            "image \"My Image\" of action \"a\" is no image reference: it has a ' ', which no part of it may have",
        ),
        (
            "{name: a, image: Alpine:3}",
            22,
            "image \"Alpine:3\" of action \"a\" is no image reference: the repository \"Alpine\" has upper case; write \"alpine\"",
        ),
        (
            "{name: a}",
            5,
            "image \"\" of action \"a\" is no image reference: it is empty; write one like quay.io/tinkerbell/actions/image2disk:latest",
        ),
        (
            "{name: a, image: ghcr.io/jacobweinstock/waitdaemon:latest, environment: {WAIT_SECONDS: 5}}",
            22,
            "action \"a\" has the image waitdaemon, which starts the image that the variable IMAGE names, and there is no IMAGE: write it \
             below environment",
        ),
        (
            "{name: a, image: ghcr.io/jacobweinstock/waitdaemon, environment: {IMAGE: My Image}}",
            22,
            "IMAGE \"My Image\" of action \"a\" is no image reference: it has a ' ', which no part of it may have",
        ),
        (
            "{name: a, image: ghcr.io/jacobweinstock/waitdaemon, environment: {IMAGE: alpine, WAIT_SECONDS: 5s}}",
            22,
            "WAIT_SECONDS of action \"a\" is \"5s\": write a whole number of seconds",
        ),
        (
            "{image: alpine}",
            5,
            "an action has no name: it needs one of 1 to 199 bytes",
        ),
        (
            "{name: '', image: alpine}",
            12,
            "an action has no name: it needs one of 1 to 199 bytes",
        ),
        (
            "{name: a, image: alpine, timeout: -5}",
            39,
            "timeout -5 is negative: write seconds, or 0 for none",
        ),
        (
            "{name: a, image: alpine, timeout: 5m}",
            39,
            "timeout \"5m\" is no whole number of seconds: write one, like 600",
        ),
        (
            "{name: a, image: alpine, timeout: 99999999999999999999}",
            39,
            "timeout \"99999999999999999999\" is no whole number of seconds: write one, like 600",
        ),
        (
            "{name: a, image: alpine, volumes: [/a]}",
            40,
            "volume \"/a\" is not like /on/host:/in/container or /on/host:/in/container:ro",
        ),
        (
            "{name: a, image: alpine, volumes: [':/a']}",
            40,
            "volume \":/a\" is not like /on/host:/in/container or /on/host:/in/container:ro",
        ),
        (
            "{name: a, image: alpine, volumes: ['/a:b']}",
            40,
            "volume \"/a:b\" is not like /on/host:/in/container or /on/host:/in/container:ro",
        ),
        (
            "{name: a, image: alpine, volumes: ['/a:/b:ro:x']}",
            40,
            "volume \"/a:/b:ro:x\" is not like /on/host:/in/container or /on/host:/in/container:ro",
        ),
    ] {
        let text = framed("x", action);
        let place = format!("rendered line 7, column {column}");
        check_one(&text, &place, message, &format!("  - {action}"));
        assert!(render(&text, &Devices::default()).is_err());
    }
    let long = "n".repeat(200);
    let found = problems(&framed("x", &format!("{{name: {long}, image: alpine}}")));
    assert_eq!(
        found[0].finding.message,
        "the name of an action has 200 bytes: 199 is the most"
    );
    let longest = "n".repeat(199);
    assert_eq!(
        problems(&framed("x", &format!("{{name: {longest}, image: alpine}}"))),
        []
    );
}

#[test]
fn odd_fields_are_warnings() {
    for (action, column, message) in [
        (
            "{name: a, image: alpine, comand: [x]}",
            30,
            "\"comand\" is no field of an action and has no effect; did you mean \"command\"?",
        ),
        (
            "{name: a, image: alpine, on_timeout: [x]}",
            30,
            "\"on_timeout\" is no field of an action and has no effect; did you mean \"on-timeout\"?",
        ),
        (
            "{name: a, image: alpine, args: {x: [y]}}",
            30,
            "\"args\" is no field of an action and has no effect",
        ),
        (
            "{name: a, image: alpine, pid: shared}",
            35,
            "pid \"shared\" has no effect: only \"host\" has",
        ),
        (
            "{name: a, image: alpine, namespaces: {network: weave}}",
            52,
            "network \"weave\" has no effect: only \"host\", \"bridge\" and \"none\" have",
        ),
        (
            "{name: a, image: alpine, namespaces: {net: host}}",
            43,
            "\"net\" is no field of namespaces and has no effect",
        ),
        (
            "{name: a, image: alpine, volumes: ['/a:/b:odd']}",
            40,
            "volume \"/a:/b:odd\" has the unknown option \"odd\"",
        ),
    ] {
        let text = framed("x", action);
        check_one(
            &text,
            &format!("rendered line 7, column {column}"),
            message,
            &format!("  - {action}"),
        );
        assert!(render(&text, &Devices::default()).is_ok());
    }
    let text = framed("x", GOOD_ACTION).replace("version: '0.1'\n", "nme: x\n");
    let found: Vec<String> = problems(&text)
        .iter()
        .map(|problem| problem.finding.message.clone())
        .collect();
    let no_version = "there is no version: write version: \"0.1\"";
    assert_eq!(
        found,
        [
            no_version,
            "\"nme\" is no field of a workflow and has no effect; did you mean \"name\"?"
        ]
    );
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_text() {
    let text = "version: '2.0'\nglobal_timeout: -1\ntasks:\n- name: t\n  worker: ''\n  volumes: [bad]\n  actions:\n  \
                - {name: a, image: A}\n  - {name: a, image: b}\n  -\n- name: t\n  worker: w\n-\n";
    let found: Vec<String> = problems(text)
        .iter()
        .map(|problem| format!("{}: {}", problem.finding.place.line, problem.finding.message))
        .collect();
    assert_eq!(
        found,
        [
            "1: the workflow has no name: it needs one of 1 to 199 bytes",
            "1: version \"2.0\" is not known: write \"0.1\" or \"1\"",
            "2: global_timeout -1 is negative: write seconds, or 0 for none",
            "5: task \"t\" has no worker: write a MAC, or a device like \"{{.device_1}}\"",
            "6: volume \"bad\" is not like /on/host:/in/container or /on/host:/in/container:ro",
            "8: image \"A\" of action \"a\" is no image reference: the repository \"A\" has upper case; write \"a\"",
            "9: a second action of task \"t\" is called \"a\": names must differ",
            "10: an action has no name: it needs one of 1 to 199 bytes",
            "10: image \"\" of action \"\" is no image reference: it is empty; write one like quay.io/tinkerbell/actions/image2disk:latest",
            "11: a second task is called \"t\": names must differ",
            "13: a task has no name: it needs one of 1 to 199 bytes",
            "13: task \"\" has no worker: write a MAC, or a device like \"{{.device_1}}\"",
        ]
    );
}

#[test]
fn a_workflow_without_tasks_is_refused() {
    for (tasks, place) in [
        ("", "1, column 1"),
        ("tasks:\n", "3, column 6"),
        ("tasks: []\n", "3, column 8"),
    ] {
        let text = format!("version: '0.1'\nname: w\n{tasks}");
        let found = problems(&text);
        assert_eq!(found.len(), 1);
        let want = format!("rendered line {place}: the workflow has no tasks: it needs at least one");
        assert!(
            found[0].to_string().starts_with(&want),
            "{} for {tasks:?}",
            found[0]
        );
    }
}
