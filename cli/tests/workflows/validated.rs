//! `template validate` asks no server, and finds what creating the template's workflows finds, in the same words.

use crate::files::Server;

/// Tasks that are wrong for every machine, and words for what is wrong with them. Each is tried with a worker that is filled in.
const BAD: [(&str, &str); 16] = [
    (
        "- {name: a, worker: W, timeout: soon, actions: [{name: x, image: reboot}]}",
        "timeout \"soon\" is no duration",
    ),
    (
        "- {name: a, worker: W, timeout: '${{ inputs.limit }}', actions: [{name: x, image: reboot}]}",
        "timeout \"a while\" is no duration",
    ),
    (
        "- {name: a, worker: W, timeout: '${{ item }}', actions: [{name: x, image: reboot}]}",
        "there is no item yet",
    ),
    (
        "- {name: a, worker: W, needs: [b], actions: [{name: x, image: reboot}]}",
        "needs \"b\", which is no task",
    ),
    (
        "- {name: a, worker: W, actions: [{name: x, image: reboot}, {name: x, image: reboot}]}",
        "a second action of task",
    ),
    (
        "- {name: a, worker: W, actions: [{name: x, image: 'Bad Image'}]}",
        "is no image reference",
    ),
    (
        "- {name: a, worker: W, actions: [{name: x, image: reboot, timeot: 5}]}",
        "did you mean \"timeout\"?",
    ),
    (
        "- {name: a, worker: W, actions: [{name: x, image: reboot, retry: 3}]}",
        "write retry: {attempts: 3}",
    ),
    (
        "- {name: a, worker: W, actions: [{name: x, image: image2disk, input: {img: y}}]}",
        "\"img\"",
    ),
    (
        "- {name: a, worker: W, actions: [{name: x, image: syslinux}]}",
        "syslinux",
    ),
    (
        "- {name: a, worker: W, actions: [{name: x, image: reboot}]}\n- {name: b, set: {host: node1}}",
        "a text has quotes within quotes",
    ),
    (
        "- {name: a, worker: W, actions: [{name: x, image: reboot}]}\n- {name: b, wait: 1, when: tasks.c.state == 'SUCCESS'}",
        "tasks has no \"c\"",
    ),
    (
        "- {name: a, worker: W, actions: [{name: x, image: reboot}]}\n- {name: b, until: next 25:00Z}",
        "until \"next 25:00Z\" is no time",
    ),
    (
        "- {name: a, worker: W, actions: [{name: x, image: reboot}]}\n- {name: b, wait: 1, goto: {when: 'true', task: c, max: 1}}",
        "goto \"c\" is no task",
    ),
    (
        "- {name: a, worker: W, answers: {by: ping}, timeout: 1m}",
        "answers by \"ping\" is not known",
    ),
    (
        "- {name: a, wait: 1, forEach: '[1]', minItems: few}\n- {name: b, worker: W, actions: [{name: x, image: reboot}]}",
        "minItems \"few\" is no whole number",
    ),
];

/// What is said, without the place before it, the line behind it, and how to see what was rendered.
fn words(said: &str) -> Vec<String> {
    let lines = said.lines().filter(|line| line.contains("column "));
    lines
        .filter_map(|line| Some(line.split_once("column ")?.1.split_once(": ")?.1.to_owned()))
        .collect()
}

#[test]
fn validate_says_without_a_server_what_creation_says() {
    let server = Server::start();
    for (number, (tasks, want)) in BAD.into_iter().enumerate() {
        // The worker stands in a line of its own: what is wrong is in others.
        let tasks = tasks.replace(
            "{name: a, worker: W,",
            "{name: a,\n   worker: \"{{.device_1}}\",\n  ",
        );
        let tasks = tasks.replace(
            "{name: b, worker: W,",
            "{name: b,\n   worker: \"{{.device_1}}\",\n  ",
        );
        let text = format!("version: \"1\"\nname: bad\ninputs: {{limit: a while}}\ntasks:\n{tasks}\n");
        let file = server.file(&format!("bad{number}.yaml"), &text);
        let (code, made) = server.said(&["workflow", "create", "-f", &file, "-r", "device_1=node1"]);
        assert_eq!(code, Some(1), "{text}{made}");
        let made = words(&made);
        assert!(made.iter().any(|made| made.contains(want)), "{text}{made:?}");
        let (code, validated) = server.said(&["template", "validate", "-f", &file]);
        assert_eq!(code, Some(1), "{text}{validated}");
        assert_eq!(
            words(&validated),
            made,
            "left: validate, right: create, of\n{text}"
        );
    }
}
