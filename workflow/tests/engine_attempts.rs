//! Attempts in version 1: retries, delays, timeouts of tasks, machines that leave.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, tasks};
use workflow::engine::{self, StepState, WorkflowState};

#[test]
fn an_action_is_tried_again_after_growing_delays() {
    let mut definition = tasks(
        "
    - name: first
      run: one two on a
    ",
    );
    definition.tasks[0].actions[1].retry = Some(workflow::language::Retry {
        attempts: 3,
        delay_ms: 1_000,
        backoff_percent: 200,
        max_delay_ms: 0,
        on: vec!["failed".into()],
    });
    definition.tasks[0].actions[1].on_failure = vec!["rescue".into()];
    let mut script = Script::new(definition);
    script.does("a", "succeeded");
    script.run("dispatch 0/1/0 a boot1");
    script.check(
        "report w/0/1/0/1/1 failed",
        "reported w/0/1/0/1/1 failed\ndelayed 0/1/0 action 1",
    );
    script.expect_tasks("DELAYED");
    script.check("report w/0/1/0/1/1 failed", "");
    assert_eq!(engine::next_due(script.state()), Some(3_000));
    script.refused(
        "dispatch 0/1/0 a boot1",
        "task execution 0/1/0 of workflow w is not ready for a machine",
    );
    script.now = 3_000;
    script.effects.clear();
    script.check("timer", "resumed 0/1/0 machine");
    script.expect_effects("want a for 0/1/0");
    script.run("dispatch 0/1/0 a boot1; report w/0/1/0/1/2 failed");
    assert_eq!(engine::next_due(script.state()), Some(5_000));
    script.now = 5_000;
    script.run("timer; dispatch 0/1/0 a boot1");
    // After the last one comes the extra run, and then the end.
    script.check("report w/0/1/0/1/3 failed", "reported w/0/1/0/1/3 failed");
    script.run("dispatch 0/1/0 a boot1");
    assert_eq!(script.dispatch("w/0/1/0/1/4").command, ["rescue"]);
    script.run("report w/0/1/0/1/4 succeeded");
    script.expect_state(
        WorkflowState::Failed,
        "action \"two\" of task \"first\" failed (WrongDigest): digest is a, expected b",
    );
}

#[test]
fn retry_is_for_what_it_names() {
    for (on, outcome, again) in [
        ("failed", "failed", true),
        ("failed", "timed_out", false),
        ("timeout", "timed_out", true),
        ("timeout", "failed", false),
        ("WrongDigest", "failed", true),
        ("OtherReason", "failed", false),
        ("lost", "failed", false),
        ("", "failed", true),
        ("", "timed_out", true),
    ] {
        let mut definition = tasks(
            "
    - name: first
      run: one on a
    ",
        );
        definition.tasks[0].actions[0].retry = Some(workflow::language::Retry {
            attempts: 2,
            delay_ms: 0,
            backoff_percent: 100,
            max_delay_ms: 0,
            on: if on.is_empty() { vec![] } else { vec![on.into()] },
        });
        let mut script = Script::new(definition);
        script.does("a", outcome);
        assert_eq!(!script.state().head.state.is_final(), again, "{on} {outcome}");
        if again {
            script.does("a", outcome);
            assert!(script.state().head.state.is_final(), "{on} {outcome}");
        }
    }
}

#[test]
fn a_lost_attempt_follows_the_retry_where_there_is_one() {
    let mut definition = tasks(
        "
    - name: first
      run: one on a
    ",
    );
    let mut retry = workflow::language::Retry {
        attempts: 5,
        delay_ms: 0,
        backoff_percent: 100,
        max_delay_ms: 0,
        on: vec!["failed".into()],
    };
    definition.tasks[0].actions[0].retry = Some(retry.clone());
    let mut script = Script::new(definition.clone());
    script.run("dispatch 0/1/0 a boot1; lost w/0/1/0/0/1 silence");
    script.expect_state(
        WorkflowState::Failed,
        "action \"one\" of task \"first\" was lost: the machine was out of contact for 300 s",
    );
    retry.on = vec!["lost".into()];
    definition.tasks[0].actions[0].retry = Some(retry);
    let mut script = Script::new(definition);
    for attempt in 1..=5 {
        script.run(&format!(
            "dispatch 0/1/0 a boot1; lost w/0/1/0/0/{attempt} silence"
        ));
    }
    assert!(script.state().head.message.contains("was lost 5 times"));
}

#[test]
fn a_task_is_tried_again_from_its_first_action() {
    let mut script = Script::new(tasks(
        "
    - name: first
      retry: {attempts: 2, delay: 10s}
      run: one two on a
    ",
    ));
    script.does("a", "succeeded");
    script.run("dispatch 0/1/0 a boot1");
    script.check(
        "report w/0/1/0/1/1 failed",
        "reported w/0/1/0/1/1 failed\ndelayed 0/1/0",
    );
    script.now = 12_000;
    script.check("timer", "resumed 0/1/0 machine");
    // Numbers of attempts go on: an id is never used twice.
    script.check("dispatch 0/1/0 a boot1", "dispatched w/0/1/0/0/2");
    script.check("report w/0/1/0/0/1 succeeded", "late w/0/1/0/0/1 succeeded");
    script.run("report w/0/1/0/0/2 succeeded; dispatch 0/1/0 a boot1; report w/0/1/0/1/2 failed");
    script.expect_state(
        WorkflowState::Failed,
        "action \"two\" of task \"first\" failed (WrongDigest): digest is a, expected b",
    );
}

#[test]
fn a_task_s_timeout_stops_what_runs() {
    let text = "
    - name: first
      timeout: 10
      run: one two on a
    ";
    let message = "task \"first\" timed out: its timeout of 10 s has passed";
    let mut script = Script::new(tasks(text));
    assert_eq!(engine::next_due(script.state()), None);
    script.run("dispatch 0/1/0 a boot1");
    assert_eq!(engine::next_due(script.state()), Some(12_000));
    script.now = 12_000;
    script.effects.clear();
    script.check("timer", "stop_asked w/0/1/0/0/1 TIMEOUT");
    script.expect_effects("stop w/0/1/0/0/1: the task's timeout of 10 s has passed");
    assert_eq!(engine::next_due(script.state()), None);
    script.check("timer", "");
    script.run("report w/0/1/0/0/1 stopped");
    script.expect_tasks("TIMEOUT");
    script.expect_state(WorkflowState::Timeout, message);
    assert_eq!(script.execution("0/1/0").actions[0].state, StepState::Timeout);
    // Between two actions it ends at once.
    let mut script = Script::new(tasks(text));
    script.does("a", "succeeded");
    script.now = 12_000;
    script.effects.clear();
    script.run("timer");
    script.expect_effects("unwant a for 0/1/0\nrelease a of w");
    script.expect_state(WorkflowState::Timeout, message);
    // An attempt that is out of contact is waited for until it is lost.
    let mut script = Script::new(tasks(text));
    script.run("dispatch 0/1/0 a boot1");
    script.now = 12_000;
    script.run("timer; lost w/0/1/0/0/1 silence");
    script.expect_state(WorkflowState::Timeout, message);
    // What succeeds all the same, has succeeded.
    let mut script = Script::new(tasks(text));
    script.does("a", "succeeded");
    script.run("dispatch 0/1/0 a boot1");
    script.now = 12_000;
    script.run("timer; report w/0/1/0/1/1 succeeded");
    script.expect_state(WorkflowState::Success, "");
    // The next action does not begin after the time is over.
    let mut script = Script::new(tasks(text));
    script.run("dispatch 0/1/0 a boot1");
    script.now = 12_000;
    script.run("timer; report w/0/1/0/0/1 succeeded");
    script.expect_state(WorkflowState::Timeout, message);
}

#[test]
fn a_task_that_timed_out_may_be_tried_again_with_its_full_time() {
    let mut script = Script::new(tasks(
        "
    - name: first
      timeout: 10
      retry: {attempts: 2, on: [timeout]}
      run: one on a
    ",
    ));
    script.run("dispatch 0/1/0 a boot1");
    script.now = 12_000;
    script.run("timer");
    script.check(
        "report w/0/1/0/0/1 stopped",
        "reported w/0/1/0/0/1 stopped\ndelayed 0/1/0",
    );
    script.now = 20_000;
    script.run("dispatch 0/1/0 a boot1");
    assert_eq!(engine::next_due(script.state()), Some(30_000));
    script.run("report w/0/1/0/0/2 succeeded");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn an_action_that_leaves_is_done_when_its_machine_is_back_and_the_last_one_at_once() {
    let definition = tasks(
        "
    - name: first
      run: one two on a
    - name: second
      run: three on a
    ",
    );
    // Not only with `reboots: true`: `reboot` and `poweroff` are there to leave, as they do in version 0.1.
    let mut script = Script::new(definition);
    script.run("dispatch 0/1/0 a boot1; report w/0/1/0/0/1 leaving");
    script.check("returned w/0/1/0/0/1 boot2", "returned w/0/1/0/0/1");
    // Another task still needs the machine: it has to come back.
    script.run("dispatch 0/1/0 a boot2");
    script.check("report w/0/1/0/1/1 leaving", "reported w/0/1/0/1/1 leaving");
    script.run("returned w/0/1/0/1/1 boot3; dispatch 1/1/0 a boot3; report w/1/1/0/0/1 leaving");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn a_task_that_times_out_while_its_machine_reboots_ends_at_once() {
    let mut definition = tasks(
        "
    - name: first
      timeout: 10
      run: one two on a
    ",
    );
    definition.tasks[0].actions[0].reboots = true;
    let mut script = Script::new(definition);
    script.run("dispatch 0/1/0 a boot1; report w/0/1/0/0/1 leaving");
    script.now = 12_000;
    script.run("timer");
    script.expect_state(
        WorkflowState::Timeout,
        "task \"first\" timed out: its timeout of 10 s has passed",
    );
    script.check("returned w/0/1/0/0/1 boot2", "");
    // With a retry it begins again, when the machine is back.
    let mut definition = script.state().definition.as_ref().clone();
    definition.tasks[0].retry = Some(workflow::language::Retry {
        attempts: 2,
        delay_ms: 0,
        backoff_percent: 100,
        max_delay_ms: 0,
        on: vec![],
    });
    let mut script = Script::new(definition);
    script.run("dispatch 0/1/0 a boot1; report w/0/1/0/0/1 leaving");
    script.now = 12_000;
    script.check("timer", "delayed 0/1/0");
    script.check("returned w/0/1/0/0/1 boot2", "");
    script.check("dispatch 0/1/0 a boot2", "dispatched w/0/1/0/0/2");
}

#[test]
fn a_task_s_timeout_does_not_change_how_its_action_failed() {
    let mut definition = tasks(
        "
    - name: first
      timeout: 10
      retry: {attempts: 2, on: [timeout]}
      run: one on a
    ",
    );
    definition.tasks[0].actions[0].on_failure = vec!["report".into()];
    let mut script = Script::new(definition);
    script.does("a", "failed");
    // The extra run waits for its machine, which is away.
    script.now = 12_000;
    script.check(
        "timer",
        "execution_ended 0/1/0 FAILED\ntask_ended 0 FAILED\nended FAILED",
    );
    script.expect_state(
        WorkflowState::Failed,
        "action \"one\" of task \"first\" failed (WrongDigest): digest is a, expected b",
    );
}

#[test]
fn the_version_of_the_ephemeral_data_goes_with_the_attempts() {
    let mut script = Script::new(tasks(
        "
    - name: first
      run: one two on a
    ",
    ));
    let attempt = script.hand_out("a");
    assert_eq!(script.dispatch(&attempt).data_version, 0);
    script.report(
        &attempt,
        engine::Outcome::Succeeded {
            message: String::new(),
            bytes: 0,
            outputs: Default::default(),
            data_version: Some(1),
        },
    );
    let attempt = script.hand_out("a");
    assert_eq!(script.dispatch(&attempt).data_version, 1);
}
