//! Actions whose image only starts another one: what is handed out in its place.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, creation, outcome, template};
use workflow::engine::{Dispatch, WorkflowState};

/// The dispatch of an action with `waitdaemon` and these fields, of a task with these.
fn dispatched(task: &str, action: &str) -> (Script, String, Dispatch) {
    let mut script = Script::made(creation(template(&format!(
        "version: \"0.1\"\nname: w\ntasks:\n- name: t\n  worker: a\n  {task}\n  actions:\n  - {{name: last, image: \
         ghcr.io/jacobweinstock/waitdaemon:0.2.1, {action}}}\n"
    ))));
    let attempt = script.hand_out("a");
    let dispatch = script.dispatch(&attempt);
    (script, attempt, dispatch)
}

fn handed(task: &str, action: &str) -> (String, Option<&'static str>, Option<u64>) {
    let dispatch = dispatched(task, action).2;
    (
        dispatch.image,
        dispatch.native.map(|native| native.name),
        dispatch.leaves_before_s,
    )
}

#[test]
fn an_image_is_run_after_the_machine_has_said_that_it_leaves() {
    let alpine = |wait_s| ("alpine:3".to_owned(), None, Some(wait_s));
    assert_eq!(handed("", "environment: {IMAGE: 'alpine:3'}"), alpine(0));
    assert_eq!(
        handed("", "environment: {IMAGE: 'alpine:3', WAIT_SECONDS: 5}"),
        alpine(5)
    );
    // An action's own goes before its task's.
    let of_task = "environment: {IMAGE: debian, WAIT_SECONDS: 7}";
    assert_eq!(handed(of_task, "environment: {IMAGE: 'alpine:3'}"), alpine(7));
}

#[test]
fn a_time_to_wait_that_an_expression_gives_and_that_is_none_is_never_taken_for_0() {
    for image in ["alpine", "reboot"] {
        let given = |wait: &str| {
            let mut script = Script::made(creation(template(&format!(
                "version: \"1\"\nname: w\ntasks:\n- name: t\n  worker: a\n  actions:\n  - name: last\n    image: \
                 jacobweinstock/waitdaemon\n    environment: {{IMAGE: {image}, WAIT_SECONDS: '${{{{ {wait} }}}}'}}\n"
            ))));
            let attempt = script.hand_out("a");
            script.dispatch(&attempt)
        };
        assert_eq!(given("7").bad_wait, None, "{image}");
        let bad = given("\"soon\"");
        assert_eq!(
            bad.bad_wait.map(|bad| bad.to_string()).as_deref(),
            Some("WAIT_SECONDS of action \"last\" is \"soon\": write a whole number of seconds"),
            "{image}"
        );
        assert_eq!(bad.leaves_before_s, None, "{image}");
    }
}

#[test]
fn what_the_agent_does_itself_needs_no_image() {
    for (image, native) in [
        ("reboot", "reboot"),
        ("quay.io/tinkerbell/actions/poweroff:v1", "poweroff"),
    ] {
        assert_eq!(
            handed("", &format!("environment: {{IMAGE: '{image}'}}")),
            (image.to_owned(), Some(native), None)
        );
    }
}

#[test]
fn as_the_last_action_of_a_machine_it_is_done_with_the_report() {
    let (mut script, attempt, _) = dispatched("", "environment: {IMAGE: alpine}");
    script.report(&attempt, outcome("leaving"));
    assert_eq!(script.state().head.state, WorkflowState::Success);
}
