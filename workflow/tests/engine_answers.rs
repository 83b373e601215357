//! Tasks that wait until a system answers: who is asked, what is recorded, how it ends.
#![allow(clippy::unwrap_used)]

mod script;

use std::collections::BTreeMap;

use script::{Script, creation, tasks, template};
use serde_json::json;
use workflow::engine::{Creation, MAX_UNANSWERED, StepState, Waiting, WorkflowState, explain, next_due};
use workflow::engine::{questions, waits_for_answers};
use workflow::language::AnswersBy;

const INSTALL: &str = "
    - name: install
      run: one on a
    - name: up
      worker: a
      answers: {by: ssh}
      timeout: 30m
    - name: note
      set: {at: tasks.up.outputs}
    ";

fn installed() -> Script {
    let machine = json!({"name": "node1", "addresses": ["10.77.0.11", "10.77.0.12"]});
    let mut script = Script::made(Creation {
        machines: BTreeMap::from([("a".to_owned(), machine)]),
        ..creation(tasks(INSTALL))
    });
    script.does("a", "succeeded");
    script
}

#[test]
fn the_first_address_of_the_machines_record_is_asked_and_the_machine_is_given_back() {
    let mut script = installed();
    let up = script.execution("1/1/0");
    assert_eq!(
        (up.state, up.waiting),
        (StepState::Waiting, Some(Waiting::Answer))
    );
    // What waits for it to boot its disk does not keep it in the agent.
    assert!(
        script
            .effects
            .drain(..)
            .any(|effect| format!("{effect:?}").starts_with("Release {"))
    );
    let asked = questions(script.state());
    let [question] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(
        (question.by, question.address.as_str(), question.port),
        (AnswersBy::Ssh, "10.77.0.11", 22)
    );
    script.run("answered 1/1/0 yes");
    script.expect_state(WorkflowState::Success, "");
    assert_eq!(script.state().head.vars["at"], json!({"status": 200}));
    assert!(!waits_for_answers(script.state()) && questions(script.state()).is_empty());
    // One that was under way meanwhile.
    script.check("answered 1/1/0 yes", "");
}

#[test]
fn what_comes_instead_is_recorded_when_it_changes_and_told() {
    let mut script = installed();
    let told = |script: &Script| explain(script.state(), Some("up"), script.now).join("\n");
    assert_eq!(
        told(&script),
        "task \"up\" waits for an answer of a: SSH at 10.77.0.11:22: not asked yet; it times out in 1800 s"
    );
    script.check("answered 1/1/0 no answer", "unanswered 1/1/0 no answer");
    script.check("answered 1/1/0 no answer", "");
    script.check(
        "answered 1/1/0 connection refused",
        "unanswered 1/1/0 connection refused",
    );
    assert_eq!(
        told(&script),
        "task \"up\" waits for an answer of a: SSH at 10.77.0.11:22: connection refused; it times out in 1800 s"
    );
    assert_eq!(questions(script.state())[0].seen, "connection refused");
    script.now += 1_800_000;
    assert_eq!(next_due(script.state()), Some(script.now));
    script.run("timer");
    script.expect_state(
        WorkflowState::Timeout,
        "task \"up\" timed out: its timeout of 1800 s has passed; SSH at 10.77.0.11:22: connection refused",
    );
    script.check("answered 1/1/0 yes", "");
    // Done again, it begins anew.
    script.run("retry up");
    assert_eq!(questions(script.state())[0].seen, "");
    let again = questions(script.state())[0].execution;
    script.run(&format!("answered {again} yes"));
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn so_many_entries_are_made_of_what_comes_instead() {
    let mut script = installed();
    for number in 0..MAX_UNANSWERED {
        assert!(questions(script.state())[0].is_noted);
        script.check(
            &format!("answered 1/1/0 {number}"),
            &format!("unanswered 1/1/0 {number}"),
        );
    }
    assert!(!questions(script.state())[0].is_noted);
    script.check("answered 1/1/0 one-more", "");
    script.run("answered 1/1/0 yes");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn during_a_pause_nobody_is_asked_and_nothing_counts() {
    let mut script = installed();
    for (pause, unpause) in [("pause", "unpause"), ("pause up", "unpause up")] {
        script.run(pause);
        assert!(questions(script.state()).is_empty() && waits_for_answers(script.state()));
        script.check("answered 1/1/0 yes", "");
        script.now += 600_000;
        script.run(unpause);
        assert_eq!(questions(script.state()).len(), 1);
    }
    // The pauses took nothing of the 30 minutes.
    assert_eq!(next_due(script.state()), Some(script.now + 1_800_000));
    script.run("cancel");
    script.expect_state(WorkflowState::Cancelled, "wrong machine");
    assert!(!waits_for_answers(script.state()));
}

#[test]
fn the_template_may_say_whom_to_ask() {
    let text = r#"
version: "1"
name: w
inputs: {vip: fd00::7, path: /healthz}
tasks:
- name: up
  forEach: "['10.0.0.1', '10.0.0.2']"
  answers: {by: http, address: "${{ item }}", port: 8080, path: "${{ inputs.path }}", status: 204}
  timeout: 1m
- name: vip
  needs: []
  answers: {by: http, address: "${{ inputs.vip }}"}
  timeout: 1m
"#;
    let mut script = Script::made(Creation {
        inputs: json!({"vip": "fd00::7", "path": "/healthz"})
            .as_object()
            .unwrap()
            .clone(),
        ..creation(template(text))
    });
    let asked = questions(script.state());
    let told: Vec<_> = asked
        .iter()
        .map(|question| {
            (
                question.address.as_str(),
                question.port,
                question.path.as_str(),
                question.status,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("10.0.0.1", 8080, "/healthz", 204),
            ("10.0.0.2", 8080, "/healthz", 204),
            ("fd00::7", 80, "/", 0)
        ]
    );
    assert_eq!(
        explain(script.state(), Some("vip"), script.now)[0],
        "task \"vip\" waits for an answer: HTTP at [fd00::7]:80: not asked yet; it times out in 59 s"
    );
    script.run("answered 0/1/0 yes; answered 1/1/0 yes; answered 0/1/1 yes");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn whom_nobody_knows_is_said() {
    for (machine, address, want) in [
        (
            json!({"addresses": []}),
            "",
            "task \"up\" failed (BadAddress): no address of machine \"a\" is known: write one into its record, or into answers, as address",
        ),
        (
            json!({}),
            ", address: '${{ machine.name + \":22\" }}'",
            "task \"up\" failed (BadAddress): address \"node1:22\" is neither an IP address nor the name of a host: write one, without a port",
        ),
    ] {
        let mut machine = machine;
        machine["name"] = json!("node1");
        let text = format!(
            "\n    - name: up\n      worker: a\n      answers: {{by: ssh{address}}}\n      timeout: 1m\n"
        );
        let script = Script::made(Creation {
            machines: BTreeMap::from([("a".to_owned(), machine)]),
            ..creation(tasks(&text))
        });
        script.expect_state(WorkflowState::Failed, want);
    }
}

/// A machine that something of the workflow needs later boots the agent, and its system never answers.
#[test]
fn a_machine_that_is_needed_later_is_warned_of() {
    let up = "{name: up, worker: a, answers: {by: ssh}, timeout: 1m}";
    let run = |name: &str, worker: &str| {
        format!("{{name: {name}, worker: '{worker}', actions: [{{name: x, image: reboot}}]}}")
    };
    let kept = |why: &str| {
        format!(
            "task \"up\" waits until a answers, and task {why}: the machine is kept in the agent for that; put \"up\" behind it, \
             or that into a workflow of its own"
        )
    };
    for (tasks, want) in [
        (vec![run("one", "a"), up.to_owned()], vec![]),
        (vec![run("one", "a"), up.to_owned(), run("two", "b")], vec![]),
        (
            vec![up.to_owned(), run("two", "a")],
            vec![kept("\"two\" runs on it later")],
        ),
        (
            vec![up.to_owned(), run("two", "${{ inputs.m }}")],
            vec![kept("\"two\" may run on it later")],
        ),
        (
            vec![up.to_owned(), "{name: sub, workflow: other}".to_owned()],
            vec![kept("\"sub\" may run on it later")],
        ),
    ] {
        let text = format!(
            "version: '1'\nname: w\ninputs: {{m: b}}\ntasks: [{}]\n",
            tasks.join(", ")
        );
        let rendered = workflow::language::render(&text, &Default::default()).unwrap();
        let found: Vec<&String> = rendered.warnings.iter().map(|odd| &odd.finding.message).collect();
        assert_eq!(found, want.iter().collect::<Vec<_>>(), "{text}");
    }
}
