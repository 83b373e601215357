//! Secrets in the engine: what is recorded has their holes, what is handed out their values, and nothing else becomes one.
#![allow(clippy::unwrap_used)]

mod script;

use std::collections::BTreeMap;

use proptest::prelude::*;
use script::{Script, creation, version_1, with_outputs};
use serde_json::{Map, Value, json};
use workflow::engine::{
    Command, Creation, Dispatch, EventKind, MAX_HANDED_BYTES, SecretProblem, StepState, secret_names,
};
use workflow::language::{Action, Task};

/// A task on `a` with one action, and one before it whose outputs it may use.
fn with(command: &[&str], environment: &[(&str, &str)]) -> Creation {
    let look = Task {
        name: "look".into(),
        worker: "a".into(),
        actions: vec![script::action("one")],
        ..Task::default()
    };
    let mut task = Task {
        name: "do".into(),
        needs: vec![0],
        ..look.clone()
    };
    task.environment = BTreeMap::from([
        (
            "SHARED".to_owned(),
            "of the task: ${{ secrets.SHARED }}".to_owned(),
        ),
        ("OVER".to_owned(), "${{ secrets.OVER }}".to_owned()),
    ]);
    task.actions = vec![Action {
        command: command.iter().map(ToString::to_string).collect(),
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..script::action("login")
    }];
    creation(version_1(vec![look, task]))
}

/// What is handed out of the second task, `outputs` being those of the first.
fn handed(creation: Creation, outputs: Value) -> (Script, Dispatch) {
    let mut script = Script::made(creation);
    let first = script.hand_out("a");
    script.report(&first, with_outputs(outputs));
    let attempt = script.hand_out("a");
    let dispatch = script.dispatch(&attempt);
    (script, dispatch)
}

fn values() -> BTreeMap<String, String> {
    let names = ["SHARED", "OVER", "PW", "TOKEN"];
    names
        .map(|name| (name.to_owned(), format!("value-of-{}", name.to_lowercase())))
        .into()
}

/// All that is recorded.
fn recorded(script: &Script) -> String {
    let events = serde_json::to_string(&script.events).unwrap();
    let state = script.state();
    let executions: Vec<_> = state.executions.values().map(|execution| &**execution).collect();
    let head = serde_json::to_string(&state.head).unwrap();
    format!("{events}{head}{}", serde_json::to_string(&executions).unwrap())
}

#[test]
fn recorded_is_the_hole_and_handed_out_the_value() {
    let environment = [
        ("PASSWORD", "${{secrets.PW}}"),
        ("OVER", "the action's own"),
        (
            "URL",
            "http://${{ 'é' }}:${{ secrets.PW }}@h/${{ secrets.TOKEN }}?${{ 1 + 1 }}",
        ),
    ];
    let (script, dispatch) = handed(with(&["login", "-p${{ secrets.PW }}"], &environment), json!({}));
    assert_eq!(dispatch.command, ["login", "-p${{ secrets.PW }}"]);
    let expected = [
        ("OVER", "the action's own"),
        ("PASSWORD", "${{ secrets.PW }}"),
        ("SHARED", "of the task: ${{ secrets.SHARED }}"),
        ("URL", "http://é:${{ secrets.PW }}@h/${{ secrets.TOKEN }}?2"),
    ];
    assert!(
        dispatch
            .environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .eq(expected)
    );
    // One that the action's own variable stands over is not needed.
    assert_eq!(
        dispatch.secret_names().into_iter().collect::<Vec<_>>(),
        ["PW", "SHARED", "TOKEN"]
    );

    let handed = dispatch.hand_out(&values()).unwrap();
    assert_eq!(handed.command, ["login", "-pvalue-of-pw"]);
    let expected = [
        ("OVER", "the action's own"),
        ("PASSWORD", "value-of-pw"),
        ("SHARED", "of the task: value-of-shared"),
        ("URL", "http://é:value-of-pw@h/value-of-token?2"),
    ];
    assert!(
        handed
            .environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .eq(expected)
    );

    let all = recorded(&script);
    assert!(
        all.contains("-p${{ secrets.PW }}") && !all.contains("value-of"),
        "{all}"
    );
    // What is hidden afterwards is all that the task was given.
    let names = secret_names(script.state(), &dispatch.attempt);
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        ["OVER", "PW", "SHARED", "TOKEN"]
    );
}

#[test]
fn a_value_that_is_not_there_or_too_long_is_said_by_name() {
    let (_, dispatch) = handed(with(&["${{ secrets.PW }}${{ secrets.PW }}"], &[]), json!({}));
    let mut values = values();
    values.remove("SHARED");
    let problem = dispatch.hand_out(&values).err().unwrap();
    assert_eq!(
        problem,
        SecretProblem::Missing {
            name: "SHARED".into()
        }
    );
    values.insert("SHARED".into(), "x".repeat(MAX_HANDED_BYTES));
    let problem = dispatch.hand_out(&values).err().unwrap();
    assert!(problem.to_string().contains("1572864 B at most"), "{problem}");
}

#[test]
fn a_hole_that_is_not_where_it_was_noted_is_filled_with_nothing() {
    let (_, dispatch) = handed(with(&["${{ secrets.PW }}"], &[]), json!({}));
    for command in [
        vec!["x ${{ secrets.PW }}".to_owned()],
        vec!["é".to_owned()],
        vec![],
    ] {
        let other = Dispatch {
            command,
            ..dispatch.clone()
        };
        let problem = other.hand_out(&values()).err().unwrap();
        assert!(matches!(problem, SecretProblem::Misplaced { .. }), "{problem}");
    }
}

#[test]
fn what_an_extra_run_is_handed_has_no_holes() {
    let mut creation = with(&["${{ secrets.PW }}"], &[]);
    creation.definition.tasks[1].actions[0].on_failure = vec!["tidy".into(), "up".into()];
    let mut script = Script::made(creation);
    script.does("a", "succeeded");
    let attempt = script.hand_out("a");
    script.report(&attempt, script::outcome("failed"));
    let attempt = script.hand_out("a");
    let dispatch = script.dispatch(&attempt);
    assert_eq!(dispatch.command, ["tidy", "up"]);
    assert_eq!(dispatch.hand_out(&values()).unwrap().command, ["tidy", "up"]);
}

/// A record's own holes are for templates that are rendered with it: an expression would hand the characters on.
#[test]
fn a_hole_out_of_a_machine_s_record_is_refused_in_expressions() {
    let mut creation = with(&["${{ machine.metadata.password }}"], &[]);
    let facts = json!({"name": "a", "metadata": {"password": "${{ secrets.PW }}"}});
    creation.machines.insert("a".into(), facts);
    let mut script = Script::made(creation);
    script.does("a", "succeeded");
    let execution = script.execution("1/1/0");
    assert_eq!(execution.state, StepState::Failed);
    let error = &execution.error.as_ref().unwrap().message;
    assert!(
        error.contains("it gives ${{ secrets.PW }} out of a machine's record"),
        "{error}"
    );
}

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("${{ secrets.PW }}".to_owned()),
        Just("${{secrets.TOKEN}}".to_owned()),
        Just("${{ secrets.".to_owned()),
        Just("SHARED }}".to_owned()),
        Just("$".to_owned()),
        Just("é".to_owned()),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Whatever inputs, outputs and variables hold, it reaches the action as it is.
    #[test]
    fn no_text_from_outside_becomes_a_secret(
        input in hostile(),
        output in hostile(),
        before in "[a-z]{0,3}",
    ) {
        let command = [
            "${{ inputs.text }}".to_owned(),
            format!("{before}${{{{ inputs.text }}}}${{{{ secrets.PW }}}}${{{{ tasks.look.outputs.text }}}}"),
            "${{ 'x' + inputs.text }}".to_owned(),
        ];
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let environment = [("A", "${{ tasks.look.outputs.text }}${{ secrets.TOKEN }}")];
        let mut creation = with(&command, &environment);
        creation.inputs = Map::from_iter([("text".to_owned(), input.clone().into())]);
        let (script, dispatch) = handed(creation, json!({"text": output}));
        let handed = dispatch.hand_out(&values()).unwrap();
        prop_assert_eq!(&handed.command[0], &input);
        prop_assert_eq!(&handed.command[1], &format!("{before}{input}value-of-pw{output}"));
        prop_assert_eq!(&handed.command[2], &format!("x{input}"));
        prop_assert_eq!(&handed.environment["A"], &format!("{output}value-of-token"));
        prop_assert!(!recorded(&script).contains("value-of"));
        // As it is when it is read from its events again.
        let made = script.events.iter().find(|event| {
            matches!(&event.kind, EventKind::ExecutionMade { execution, .. } if execution.task == 1)
        });
        let text = serde_json::to_string(made.unwrap()).unwrap();
        let again: workflow::engine::Event = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&again, made.unwrap());
    }
}

#[test]
fn a_failure_before_the_action_has_started_ends_the_attempt() {
    let (mut script, dispatch) = handed(with(&["${{ secrets.PW }}"], &[]), json!({}));
    let outcome = workflow::engine::Outcome::Failed {
        reason: "SecretMissing".into(),
        message: "there is no secret PW".into(),
        exit_code: 0,
    };
    let attempt = dispatch.attempt;
    script.decide(&Command::Report { attempt, outcome }).unwrap();
    script.expect_tasks("SUCCESS FAILED");
}
