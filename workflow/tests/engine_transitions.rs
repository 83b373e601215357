//! What each command does in each situation, told as scripts: one command a line in, one event a line out.

mod script;

use script::{Script, WORKER, two_tasks};
use workflow::engine::{self, Command, Refusal, StepState, WorkflowState};

#[test]
fn runs_actions_in_order_on_their_workers() {
    let mut script = Script::new(two_tasks());
    script.check("attached a boot1", "2 dispatched w/0/0/1");
    script.check("attached b boot9", "");
    script.check("report w/0/0/1 started", "3 reported w/0/0/1 started");
    script.check("report w/0/0/1 succeeded", "4 reported w/0/0/1 succeeded");
    script.check("attached a boot1", "5 dispatched w/0/1/1");
    script.check("report w/0/1/1 succeeded", "6 reported w/0/1/1 succeeded");
    script.check("attached a boot1", "");
    script.check("attached b boot9", "7 dispatched w/1/0/1");
    script.check(
        "report w/1/0/1 succeeded",
        "8 reported w/1/0/1 succeeded\n9 ended SUCCESS",
    );
    script.expect_state(WorkflowState::Success, "");
    script.check("attached b boot9", "");
    assert!(
        script
            .state()
            .tasks
            .iter()
            .all(|task| task.state == StepState::Success)
    );
}

#[test]
fn a_repeated_report_changes_nothing() {
    let mut script = Script::new(two_tasks());
    script.check("attached a boot1", "2 dispatched w/0/0/1");
    script.check("report w/0/0/1 started", "3 reported w/0/0/1 started");
    script.check("report w/0/0/1 started", "");
    script.check("report w/0/0/1 succeeded", "4 reported w/0/0/1 succeeded");
    script.check("report w/0/0/1 succeeded", "");
    script.check("report w/0/0/1 started", "");
    script.check("report w/0/0/1 failed", "5 late w/0/0/1 failed");
}

#[test]
fn attaching_again_with_the_same_boot_changes_nothing() {
    let mut script = Script::new(two_tasks());
    script.check("attached a boot1", "2 dispatched w/0/0/1");
    script.check("attached a boot1", "");
    script.check("attached a boot1 w/0/0/1", "");
    assert_eq!(script.current("a"), Some("w/0/0/1".into()));
    assert_eq!(script.current("b"), None);
}

#[test]
fn nothing_is_handed_to_a_machine_that_still_runs_something() {
    let mut script = Script::new(two_tasks());
    script.check("attached a boot1 other/0/0/1", "");
    script.check("attached a boot1", "2 dispatched w/0/0/1");
}

#[test]
fn another_boot_without_leaving_is_lost_and_tried_three_times() {
    let mut script = Script::new(two_tasks());
    script.check("attached a boot1", "2 dispatched w/0/0/1");
    script.check("attached a boot2", "3 lost w/0/0/1 retried\n4 dispatched w/0/0/2");
    script.check("report w/0/0/1 succeeded", "5 late w/0/0/1 succeeded");
    script.check("attached a boot3", "6 lost w/0/0/2 retried\n7 dispatched w/0/0/3");
    script.check("attached a boot4", "8 lost w/0/0/3\n9 ended FAILED");
    script.expect_state(
        WorkflowState::Failed,
        "action \"one\" of task \"first\" was lost 3 times: the machine came back with another boot before it was done",
    );
}

#[test]
fn leaving_in_the_middle_is_done_when_the_machine_is_back() {
    let mut script = Script::new(two_tasks());
    script.check("attached a boot1", "2 dispatched w/0/0/1");
    script.check("report w/0/0/1 leaving", "3 reported w/0/0/1 leaving");
    script.check("report w/0/0/1 leaving", "");
    script.check("attached a boot1", "");
    script.check("attached a boot2", "4 returned w/0/0/1\n5 dispatched w/0/1/1");
}

#[test]
fn leaving_as_the_last_action_is_success_at_once() {
    let mut script = Script::new(two_tasks());
    script.run("attached a boot1; report w/0/0/1 succeeded; attached a boot1; report w/0/1/1 succeeded; attached b boot9");
    script.check(
        "report w/1/0/1 leaving",
        "7 reported w/1/0/1 leaving\n8 ended SUCCESS",
    );
    script.check("report w/1/0/1 leaving", "");
}

#[test]
fn a_failure_ends_the_workflow_with_its_reason() {
    let mut script = Script::new(two_tasks());
    script.check("attached a boot1", "2 dispatched w/0/0/1");
    script.check(
        "report w/0/0/1 failed",
        "3 reported w/0/0/1 failed\n4 ended FAILED",
    );
    script.expect_state(
        WorkflowState::Failed,
        "action \"one\" of task \"first\" failed (WrongDigest): digest is a, expected b",
    );
    script.check("report w/0/0/1 failed", "");
    script.check("report w/0/0/1 succeeded", "5 late w/0/0/1 succeeded");
    script.expect_state(
        WorkflowState::Failed,
        "action \"one\" of task \"first\" failed (WrongDigest): digest is a, expected b",
    );
}

#[test]
fn an_action_timeout_ends_the_workflow_with_timeout() {
    let mut script = Script::new(two_tasks());
    script.check("attached a boot1", "2 dispatched w/0/0/1");
    script.check(
        "report w/0/0/1 timed_out",
        "3 reported w/0/0/1 timed_out\n4 ended TIMEOUT",
    );
    script.expect_state(
        WorkflowState::Timeout,
        "action \"one\" of task \"first\" timed out: after 5 s",
    );
}

#[test]
fn an_attempt_stopped_by_the_machine_itself_is_a_failure() {
    let mut script = Script::new(two_tasks());
    script.check("attached a boot1", "2 dispatched w/0/0/1");
    script.check(
        "report w/0/0/1 stopped",
        "3 reported w/0/0/1 stopped\n4 ended FAILED",
    );
    script.expect_state(
        WorkflowState::Failed,
        "action \"one\" of task \"first\" was stopped on the machine: SIGTERM",
    );
}

#[test]
fn on_failure_runs_once_more_and_does_not_change_the_outcome() {
    let mut definition = two_tasks();
    definition.tasks[0].actions[0].on_failure = vec!["rescue".into(), "--now".into()];
    for (end, events) in [
        (
            "report w/0/0/2 succeeded",
            "5 reported w/0/0/2 succeeded\n6 ended FAILED",
        ),
        (
            "report w/0/0/2 failed",
            "5 reported w/0/0/2 failed\n6 ended FAILED",
        ),
        (
            "report w/0/0/2 leaving",
            "5 reported w/0/0/2 leaving\n6 ended FAILED",
        ),
        ("attached a boot2", "5 lost w/0/0/2\n6 ended FAILED"),
    ] {
        let mut script = Script::new(definition.clone());
        script.check("attached a boot1", "2 dispatched w/0/0/1");
        assert_eq!(script.dispatch("a").command, ["original"]);
        script.check("report w/0/0/1 failed", "3 reported w/0/0/1 failed");
        script.check("attached a boot1", "4 dispatched w/0/0/2");
        assert_eq!(script.dispatch("a").command, ["rescue", "--now"]);
        script.check("report w/0/0/2 started", "");
        script.check(end, events);
        let message = "action \"one\" of task \"first\" failed (WrongDigest): digest is a, expected b";
        script.expect_state(WorkflowState::Failed, message);
    }
}

#[test]
fn on_timeout_runs_once_more_too() {
    let mut definition = two_tasks();
    definition.tasks[0].actions[0].on_timeout = vec!["too-slow".into()];
    let mut script = Script::new(definition);
    script.check("attached a boot1", "2 dispatched w/0/0/1");
    script.check("report w/0/0/1 timed_out", "3 reported w/0/0/1 timed_out");
    script.check("attached a boot1", "4 dispatched w/0/0/2");
    assert_eq!(script.dispatch("a").command, ["too-slow"]);
    script.check(
        "report w/0/0/2 succeeded",
        "5 reported w/0/0/2 succeeded\n6 ended TIMEOUT",
    );
}

#[test]
fn cancelling_before_anything_ran_is_cancelled_at_once() {
    let mut script = Script::new(two_tasks());
    script.check("cancel", "2 ended CANCELLED");
    script.expect_state(WorkflowState::Cancelled, "wrong machine");
    script.check("attached a boot1", "");
    let refusal = script
        .decide(&Command::Cancel {
            reason: "again".into(),
        })
        .unwrap_err();
    assert_eq!(refusal.to_string(), "workflow w has ended: it is CANCELLED");
}

#[test]
fn cancelling_waits_until_the_attempt_has_stopped_or_is_lost() {
    for (end, events) in [
        (
            "report w/0/0/1 stopped",
            "4 reported w/0/0/1 stopped\n5 ended CANCELLED",
        ),
        (
            "report w/0/0/1 succeeded",
            "4 reported w/0/0/1 succeeded\n5 ended CANCELLED",
        ),
        (
            "report w/0/0/1 failed",
            "4 reported w/0/0/1 failed\n5 ended CANCELLED",
        ),
        (
            "report w/0/0/1 leaving",
            "4 reported w/0/0/1 leaving\n5 ended CANCELLED",
        ),
        ("attached a boot2", "4 lost w/0/0/1\n5 ended CANCELLED"),
        ("attached a boot1", "4 ended CANCELLED"),
    ] {
        let mut definition = two_tasks();
        definition.tasks[0].actions[0].on_failure = vec!["never-on-cancel".into()];
        let mut script = Script::new(definition);
        script.check("attached a boot1", "2 dispatched w/0/0/1");
        script.check("cancel", "3 stopping CANCELLED");
        script.check("cancel", "");
        assert_eq!(script.state().state, WorkflowState::Cancelling);
        assert_eq!(script.current("a"), None);
        let (attempt, reason) = engine::stop_due(script.state(), WORKER).unwrap();
        assert_eq!(
            (attempt.0.as_str(), reason.as_str()),
            ("w/0/0/1", "wrong machine")
        );
        script.check("attached a boot1 w/0/0/1", "");
        script.check(end, events);
        script.expect_state(WorkflowState::Cancelled, "wrong machine");
        assert_eq!(engine::stop_due(script.state(), WORKER), None);
    }
}

#[test]
fn cancelling_while_the_machine_reboots_waits_for_nothing() {
    let mut script = Script::new(two_tasks());
    script.run("attached a boot1; report w/0/0/1 leaving");
    script.check("cancel", "4 ended CANCELLED");
}

#[test]
fn cancelling_during_on_failure_leaves_the_outcome() {
    let mut definition = two_tasks();
    definition.tasks[0].actions[0].on_failure = vec!["rescue".into()];
    let mut script = Script::new(definition.clone());
    script.run("attached a boot1; report w/0/0/1 failed");
    script.check("cancel", "4 ended FAILED");
    let mut script = Script::new(definition);
    script.run("attached a boot1; report w/0/0/1 failed; attached a boot1");
    script.check("cancel", "5 stopping FAILED");
    assert_eq!(script.state().state, WorkflowState::Ending);
    script.check(
        "report w/0/0/2 stopped",
        "6 reported w/0/0/2 stopped\n7 ended FAILED",
    );
}

#[test]
fn the_global_timeout_counts_from_the_first_dispatch() {
    let mut definition = two_tasks();
    definition.global_timeout_s = 10;
    let mut script = Script::new(definition);
    script.now = 5_000;
    assert_eq!(engine::next_timer(script.state()), None);
    script.check("timer", "");
    script.check("attached a boot1", "2 dispatched w/0/0/1");
    assert_eq!(engine::next_timer(script.state()), Some(15_000));
    script.now = 14_999;
    script.check("timer", "");
    script.now = 15_000;
    script.check("timer", "3 stopping TIMEOUT");
    assert_eq!(engine::next_timer(script.state()), None);
    script.check("timer", "");
    script.check(
        "report w/0/0/1 stopped",
        "4 reported w/0/0/1 stopped\n5 ended TIMEOUT",
    );
    script.expect_state(WorkflowState::Timeout, "its global timeout of 10 s has passed");
}

#[test]
fn the_global_timeout_between_two_actions_ends_at_once() {
    let mut definition = two_tasks();
    definition.global_timeout_s = 10;
    let mut script = Script::new(definition);
    script.run("attached a boot1; report w/0/0/1 succeeded");
    script.now = 100_000;
    script.check("timer", "4 ended TIMEOUT");
}

#[test]
fn tasks_without_actions_succeed_when_their_turn_comes() {
    let mut definition = two_tasks();
    definition.tasks[0].actions.clear();
    let script = Script::new(definition.clone());
    let states: Vec<StepState> = script.state().tasks.iter().map(|task| task.state).collect();
    assert_eq!(states, [StepState::Success, StepState::Idle]);
    definition.tasks[1].actions.clear();
    let script = Script::new(definition);
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn refuses_what_cannot_be() {
    let mut script = Script::new(two_tasks());
    let report = |attempt: &str| Command::Report {
        attempt: engine::AttemptId(attempt.into()),
        outcome: engine::Outcome::Started,
    };
    for unknown in [
        "",
        "w",
        "w/0/0/1",
        "w/9/0/1",
        "x/0/0/1",
        "w/0/0/0",
        "w/0/0/-1",
        "w/0/0/99999999999999",
    ] {
        let refusal = script.decide(&report(unknown)).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            format!("workflow w has no attempt {unknown}")
        );
    }
    let refusal = engine::decide(None, &Command::Timer, 1).unwrap_err();
    assert_eq!(refusal, Refusal::Missing);
    let create = Command::Create {
        id: "w".into(),
        name: "n".into(),
        template: "t".into(),
        definition: Box::new(two_tasks()),
    };
    assert_eq!(
        script.decide(&create).unwrap_err().to_string(),
        "workflow w exists already"
    );
}

#[test]
fn the_dispatch_has_the_task_s_volumes_and_environment_under_the_action_s() {
    let mut definition = two_tasks();
    let task = &mut definition.tasks[0];
    task.volumes = vec!["/dev:/dev".into()];
    task.environment = [("A".into(), "task".into()), ("B".into(), "task".into())].into();
    task.actions[0].volumes = vec!["/tmp:/tmp:ro".into()];
    task.actions[0].environment = [("B".into(), "action".into())].into();
    task.actions[0].timeout_s = 60;
    task.actions[0].pid = "host".into();
    let mut script = Script::new(definition);
    script.run("attached a boot1");
    let dispatch = script.dispatch("a");
    assert_eq!(dispatch.attempt.0, "w/0/0/1");
    assert_eq!(dispatch.volumes, ["/dev:/dev", "/tmp:/tmp:ro"]);
    assert_eq!(
        dispatch.environment,
        [("A".into(), "task".into()), ("B".into(), "action".into())].into()
    );
    assert_eq!(
        (
            dispatch.timeout_s,
            dispatch.pid.as_str(),
            dispatch.network.as_str()
        ),
        (60, "host", "")
    );
    assert_eq!(
        (dispatch.task.as_str(), dispatch.action.as_str()),
        ("first", "one")
    );
    assert_eq!((dispatch.action_index, dispatch.action_count), (0, 2));
}

#[test]
fn explains_what_a_machine_waits_for() {
    let mut script = Script::new(two_tasks());
    assert_eq!(
        engine::explain(script.state(), "a"),
        "workflow install (w) is PENDING at action \"one\" of task \"first\""
    );
    assert_eq!(
        engine::explain(script.state(), "b"),
        "workflow install (w) waits for task \"first\" on a"
    );
    script.run("cancel");
    assert_eq!(
        engine::explain(script.state(), "a"),
        "workflow install (w) is CANCELLED: wrong machine"
    );
}
