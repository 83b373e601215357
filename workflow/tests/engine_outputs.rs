//! How much a workflow may have in outputs, values and texts.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, tasks, with_outputs};
use serde_json::{Value, json};
use workflow::engine::{Command, MAX_FILLED_BYTES, MAX_OUTPUTS_BYTES, StepState, WorkflowState};

/// An object of so many bytes as JSON.
fn object(bytes: usize) -> Value {
    json!({"k": "x".repeat(bytes - r#"{"k":""}"#.len())})
}

fn two_actions() -> Script {
    Script::new(tasks(
        "
    - name: first
      run: one two on a
    - name: second
      run: one on a
    ",
    ))
}

/// Ends what is ready for `a` with outputs of so many bytes.
fn gives(script: &mut Script, bytes: usize) {
    let attempt = script.hand_out("a");
    script.report(&attempt, with_outputs(object(bytes)));
}

#[test]
fn outputs_have_a_bound_together_exactly() {
    for (last, state) in [(1000, StepState::Success), (1001, StepState::Failed)] {
        let mut script = two_actions();
        gives(&mut script, MAX_OUTPUTS_BYTES - 2000);
        gives(&mut script, 1000);
        gives(&mut script, last);
        assert_eq!(script.state().head.tasks[1].state, state);
        if state == StepState::Success {
            script.expect_state(WorkflowState::Success, "");
            continue;
        }
        let action = &script.execution("1/1/0").actions[0];
        assert_eq!(action.reason, "TooManyOutputs");
        assert_eq!(
            action.message,
            "with these 1001 B the outputs and values of the workflow come to 4194305 B, 4194304 B at most: hand larger \
             results on in /workflow"
        );
        assert!(script.execution("1/1/0").outputs.is_empty());
    }
}

#[test]
fn values_of_set_count_too() {
    for (names, state) in [("abc", StepState::Success), ("abcd", StepState::Failed)] {
        let values = names.chars().map(|name| format!("{name}: tasks.first.outputs.k"));
        let mut script = Script::new(tasks(&format!(
            "
    - name: first
      run: one on a
    - name: second
      set: {{{}}}
    ",
            values.collect::<Vec<_>>().join(", ")
        )));
        gives(&mut script, 1_000_000);
        let second = &script.state().head.tasks[1];
        assert_eq!(second.state, state);
        let reason = second.error.as_ref().map(|error| error.reason.as_str());
        assert_eq!(reason, (state == StepState::Failed).then_some("TooManyOutputs"));
        assert_eq!(script.state().head.vars.is_empty(), state == StepState::Failed);
    }
}

#[test]
fn a_run_begins_with_what_is_kept_of_the_one_before() {
    let mut script = two_actions();
    gives(&mut script, 1000);
    gives(&mut script, 500);
    let attempt = script.hand_out("a");
    script.report(&attempt, script::outcome("failed"));
    assert_eq!(script.state().head.state, WorkflowState::Failed);
    assert_eq!(script.state().head.outputs_bytes, 1500);
    script.decide(&Command::Retry { by: "ann".into() }).unwrap();
    // The later value of a name has taken the place of the earlier.
    assert_eq!(script.state().head.outputs_bytes, 500);
    gives(&mut script, MAX_OUTPUTS_BYTES - 500);
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn texts_have_a_bound() {
    let mut script = Script::new(tasks(
        "
    - name: first
      run: one on a
    - name: second
      environment: {A: \"${{ tasks.first.outputs.k }}\", B: \"${{ tasks.first.outputs.k }}\"}
      run: one on a
    ",
    ));
    gives(&mut script, MAX_FILLED_BYTES / 2);
    let second = &script.state().head.tasks[1];
    assert_eq!(second.state, StepState::Failed);
    let error = second.error.as_ref().unwrap();
    assert_eq!(error.reason, "Expression");
    assert!(
        error.message.ends_with(
            " B with the expressions filled in, 1048576 B at most: hand larger ones on in /workflow"
        ),
        "{}",
        error.message
    );
}
