//! What version 0.1 does with each command in each situation, told as scripts.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, creation, two_tasks};
use workflow::engine::{self, Command, Refusal, StepState, WorkflowState};
use workflow::language::Runtime;

#[test]
fn runs_actions_in_order_on_their_workers() {
    let mut script = Script::new(two_tasks());
    script.expect_events("created\ntask_started 0\nexecution_made 0/1/0 machine");
    script.expect_effects("claim a for w\nclaim b for w\nwant a for 0/1/0");
    script.refused(
        "dispatch 1/1/0 b boot9",
        "task execution 1/1/0 of workflow w is not ready for a machine",
    );
    assert_eq!(script.state().head.state, WorkflowState::Pending);
    script.check("dispatch 0/1/0 a boot1", "dispatched w/0/1/0/0/1");
    assert_eq!(script.state().head.state, WorkflowState::Running);
    assert_eq!(script.state().head.started_at, Some(2_000));
    script.expect_tasks("WAITING IDLE");
    script.check("report w/0/1/0/0/1 started", "reported w/0/1/0/0/1 started");
    script.expect_tasks("RUNNING IDLE");
    script.expect_effects("");
    script.check("report w/0/1/0/0/1 succeeded", "reported w/0/1/0/0/1 succeeded");
    script.expect_tasks("RUNNING IDLE");
    script.expect_effects("want a for 0/1/0");
    script.check("dispatch 0/1/0 a boot1", "dispatched w/0/1/0/1/1");
    script.check(
        "report w/0/1/0/1/1 succeeded",
        "reported w/0/1/0/1/1 succeeded\nexecution_ended 0/1/0 SUCCESS\ntask_ended 0 SUCCESS\n\
         task_started 1\nexecution_made 1/1/0 machine",
    );
    script.expect_effects("want b for 1/1/0\nrelease a of w");
    script.check("dispatch 1/1/0 b boot9", "dispatched w/1/1/0/0/1");
    script.check(
        "report w/1/1/0/0/1 succeeded",
        "reported w/1/1/0/0/1 succeeded\nexecution_ended 1/1/0 SUCCESS\ntask_ended 1 SUCCESS\nended SUCCESS",
    );
    script.expect_effects("release b of w");
    script.expect_state(WorkflowState::Success, "");
    script.expect_tasks("SUCCESS SUCCESS");
    script.refused(
        "dispatch 1/1/0 b boot9",
        "task execution 1/1/0 of workflow w is not ready for a machine",
    );
}

#[test]
fn a_repeated_report_changes_nothing() {
    let mut script = Script::new(two_tasks());
    script.run("dispatch 0/1/0 a boot1");
    script.check("report w/0/1/0/0/1 started", "reported w/0/1/0/0/1 started");
    script.check("report w/0/1/0/0/1 started", "");
    script.check("report w/0/1/0/0/1 succeeded", "reported w/0/1/0/0/1 succeeded");
    script.check("report w/0/1/0/0/1 succeeded", "");
    script.check("report w/0/1/0/0/1 started", "");
    script.check("report w/0/1/0/0/1 failed", "late w/0/1/0/0/1 failed");
}

#[test]
fn nothing_is_handed_out_twice_or_to_another_machine() {
    let mut script = Script::new(two_tasks());
    let not_ready = "task execution 0/1/0 of workflow w is not ready for a machine";
    script.refused("dispatch 0/1/0 b boot1", not_ready);
    script.run("dispatch 0/1/0 a boot1");
    script.refused("dispatch 0/1/0 a boot1", not_ready);
    script.refused("dispatch 0/1/0 a boot2", not_ready);
    assert!(engine::dispatch(script.state(), &"w/0/1/0/0/1".parse().unwrap()).is_some());
    for other in ["w/0/1/0/0/2", "w/0/1/0/1/1", "v/0/1/0/0/1", "w/1/1/0/0/1"] {
        assert_eq!(engine::dispatch(script.state(), &other.parse().unwrap()), None);
    }
}

#[test]
fn a_lost_attempt_is_tried_three_times() {
    let mut script = Script::new(two_tasks());
    script.run("dispatch 0/1/0 a boot1");
    script.effects.clear();
    script.check(
        "lost w/0/1/0/0/1 boot2",
        "lost w/0/1/0/0/1\ndelayed 0/1/0 action 0",
    );
    script.expect_effects("want a for 0/1/0");
    script.check("lost w/0/1/0/0/1 boot2", "");
    script.check("dispatch 0/1/0 a boot2", "dispatched w/0/1/0/0/2");
    script.check("report w/0/1/0/0/1 succeeded", "late w/0/1/0/0/1 succeeded");
    script.check(
        "lost w/0/1/0/0/2 forgotten",
        "lost w/0/1/0/0/2\ndelayed 0/1/0 action 0",
    );
    script.check("dispatch 0/1/0 a boot3", "dispatched w/0/1/0/0/3");
    script.check(
        "lost w/0/1/0/0/3 boot4",
        "lost w/0/1/0/0/3\nexecution_ended 0/1/0 FAILED\ntask_ended 0 FAILED\ntask_ended 1 SKIPPED\nended FAILED",
    );
    script.expect_state(
        WorkflowState::Failed,
        "action \"one\" of task \"first\" was lost 3 times: the machine came back with another boot before it was done",
    );
    script.expect_tasks("FAILED SKIPPED");
}

#[test]
fn leaving_in_the_middle_is_done_when_the_machine_is_back() {
    let mut script = Script::new(two_tasks());
    script.run("dispatch 0/1/0 a boot1");
    script.check("report w/0/1/0/0/1 leaving", "reported w/0/1/0/0/1 leaving");
    script.check("report w/0/1/0/0/1 leaving", "");
    script.check("returned w/0/1/0/0/1 boot2", "returned w/0/1/0/0/1");
    script.check("returned w/0/1/0/0/1 boot2", "");
    script.check("dispatch 0/1/0 a boot2", "dispatched w/0/1/0/1/1");
}

#[test]
fn leaving_as_the_last_action_on_a_machine_is_success_at_once() {
    let mut script = Script::new(two_tasks());
    script.run("dispatch 0/1/0 a boot1; report w/0/1/0/0/1 succeeded; dispatch 0/1/0 a boot1");
    script.check(
        "report w/0/1/0/1/1 leaving",
        "reported w/0/1/0/1/1 leaving\nexecution_ended 0/1/0 SUCCESS\ntask_ended 0 SUCCESS\n\
         task_started 1\nexecution_made 1/1/0 machine",
    );
    script.check("report w/0/1/0/1/1 leaving", "");
    script.run("dispatch 1/1/0 b boot9");
    script.check(
        "report w/1/1/0/0/1 leaving",
        "reported w/1/1/0/0/1 leaving\nexecution_ended 1/1/0 SUCCESS\ntask_ended 1 SUCCESS\nended SUCCESS",
    );
    let mut definition = two_tasks();
    definition.tasks[1].worker = "a".into();
    let mut script = Script::new(definition);
    script.run("dispatch 0/1/0 a boot1; report w/0/1/0/0/1 succeeded; dispatch 0/1/0 a boot1");
    script.check("report w/0/1/0/1/1 leaving", "reported w/0/1/0/1/1 leaving");
    script.check(
        "returned w/0/1/0/1/1 boot2",
        "returned w/0/1/0/1/1\nexecution_ended 0/1/0 SUCCESS\ntask_ended 0 SUCCESS\n\
         task_started 1\nexecution_made 1/1/0 machine",
    );
}

#[test]
fn a_failure_ends_the_workflow_with_its_reason() {
    let message = "action \"one\" of task \"first\" failed (WrongDigest): digest is a, expected b";
    let mut script = Script::new(two_tasks());
    script.run("dispatch 0/1/0 a boot1");
    script.check(
        "report w/0/1/0/0/1 failed",
        "reported w/0/1/0/0/1 failed\nexecution_ended 0/1/0 FAILED\ntask_ended 0 FAILED\ntask_ended 1 SKIPPED\nended FAILED",
    );
    script.expect_state(WorkflowState::Failed, message);
    script.check("report w/0/1/0/0/1 failed", "");
    script.check("report w/0/1/0/0/1 succeeded", "late w/0/1/0/0/1 succeeded");
    script.expect_state(WorkflowState::Failed, message);
    script
        .effects
        .retain(|effect| matches!(effect, engine::Effect::Release { .. }));
    script.expect_effects("release a of w\nrelease b of w");
}

#[test]
fn an_action_timeout_ends_the_workflow_with_timeout() {
    let mut script = Script::new(two_tasks());
    script.run("dispatch 0/1/0 a boot1; report w/0/1/0/0/1 timed_out");
    script.expect_tasks("TIMEOUT SKIPPED");
    script.expect_state(
        WorkflowState::Timeout,
        "action \"one\" of task \"first\" timed out: after 5 s",
    );
}

#[test]
fn an_attempt_stopped_by_the_machine_itself_is_a_failure() {
    let mut script = Script::new(two_tasks());
    script.run("dispatch 0/1/0 a boot1; report w/0/1/0/0/1 stopped");
    script.expect_tasks("FAILED SKIPPED");
    script.expect_state(
        WorkflowState::Failed,
        "action \"one\" of task \"first\" was stopped on the machine: SIGTERM",
    );
}

#[test]
fn on_failure_runs_once_more_and_does_not_change_the_outcome() {
    let mut definition = two_tasks();
    definition.tasks[0].actions[0].on_failure = vec!["rescue".into(), "--now".into()];
    let rest = "execution_ended 0/1/0 FAILED\ntask_ended 0 FAILED\ntask_ended 1 SKIPPED\nended FAILED";
    for (end, event) in [
        ("report w/0/1/0/0/2 succeeded", "reported w/0/1/0/0/2 succeeded"),
        ("report w/0/1/0/0/2 failed", "reported w/0/1/0/0/2 failed"),
        ("report w/0/1/0/0/2 leaving", "reported w/0/1/0/0/2 leaving"),
        ("lost w/0/1/0/0/2 boot2", "lost w/0/1/0/0/2"),
    ] {
        let mut script = Script::new(definition.clone());
        script.run("dispatch 0/1/0 a boot1");
        assert_eq!(script.dispatch("w/0/1/0/0/1").command, ["original"]);
        script.effects.clear();
        script.check("report w/0/1/0/0/1 failed", "reported w/0/1/0/0/1 failed");
        script.expect_effects("want a for 0/1/0");
        script.check("dispatch 0/1/0 a boot1", "dispatched w/0/1/0/0/2");
        assert_eq!(script.dispatch("w/0/1/0/0/2").command, ["rescue", "--now"]);
        script.check("report w/0/1/0/0/2 started", "");
        script.check(end, &format!("{event}\n{rest}"));
        let message = "action \"one\" of task \"first\" failed (WrongDigest): digest is a, expected b";
        script.expect_state(WorkflowState::Failed, message);
    }
}

#[test]
fn on_timeout_runs_once_more_too() {
    let mut definition = two_tasks();
    definition.tasks[0].actions[0].on_timeout = vec!["too-slow".into()];
    let mut script = Script::new(definition);
    script.run("dispatch 0/1/0 a boot1");
    script.check("report w/0/1/0/0/1 timed_out", "reported w/0/1/0/0/1 timed_out");
    script.run("dispatch 0/1/0 a boot1");
    assert_eq!(script.dispatch("w/0/1/0/0/2").command, ["too-slow"]);
    script.run("report w/0/1/0/0/2 succeeded");
    script.expect_state(
        WorkflowState::Timeout,
        "action \"one\" of task \"first\" timed out: after 5 s",
    );
}

#[test]
fn cancelling_before_anything_ran_is_cancelled_at_once() {
    let mut script = Script::new(two_tasks());
    script.effects.clear();
    script.check(
        "cancel",
        "execution_ended 0/1/0 CANCELLED\ntask_ended 0 CANCELLED\nended CANCELLED",
    );
    script.expect_effects("unwant a for 0/1/0\nrelease a of w\nrelease b of w");
    script.expect_state(WorkflowState::Cancelled, "wrong machine");
    script.expect_tasks("CANCELLED CANCELLED");
    script.refused("cancel", "workflow w has ended: it is CANCELLED");
}

#[test]
fn cancelling_waits_until_the_attempt_has_stopped_or_is_lost() {
    for (end, event) in [
        ("report w/0/1/0/0/1 stopped", "reported w/0/1/0/0/1 stopped"),
        ("report w/0/1/0/0/1 succeeded", "reported w/0/1/0/0/1 succeeded"),
        ("report w/0/1/0/0/1 failed", "reported w/0/1/0/0/1 failed"),
        ("report w/0/1/0/0/1 leaving", "reported w/0/1/0/0/1 leaving"),
        ("lost w/0/1/0/0/1 boot2", "lost w/0/1/0/0/1"),
        ("lost w/0/1/0/0/1 forgotten", "lost w/0/1/0/0/1"),
        ("lost w/0/1/0/0/1 silence", "lost w/0/1/0/0/1"),
    ] {
        let mut definition = two_tasks();
        definition.tasks[0].actions[0].on_failure = vec!["never-on-cancel".into()];
        let mut script = Script::new(definition);
        script.run("dispatch 0/1/0 a boot1");
        script.effects.clear();
        script.check("cancel", "stopping CANCELLED\nstop_asked w/0/1/0/0/1 CANCELLED");
        script.expect_effects("stop w/0/1/0/0/1: wrong machine");
        script.check("cancel", "");
        assert_eq!(script.state().head.state, WorkflowState::Cancelling);
        assert_eq!(
            engine::dispatch(script.state(), &"w/0/1/0/0/1".parse().unwrap()),
            None
        );
        script.check(
            end,
            &format!("{event}\nexecution_ended 0/1/0 CANCELLED\ntask_ended 0 CANCELLED\nended CANCELLED"),
        );
        script.expect_effects("release a of w\nrelease b of w");
        script.expect_state(WorkflowState::Cancelled, "wrong machine");
    }
}

#[test]
fn cancelling_while_the_machine_reboots_waits_for_nothing() {
    let mut script = Script::new(two_tasks());
    script.run("dispatch 0/1/0 a boot1; report w/0/1/0/0/1 leaving");
    script.check(
        "cancel",
        "execution_ended 0/1/0 CANCELLED\ntask_ended 0 CANCELLED\nended CANCELLED",
    );
    assert_eq!(script.execution("0/1/0").actions[0].state, StepState::Cancelled);
}

#[test]
fn what_leaves_while_it_is_stopped_is_done_with_the_last_action_of_its_task() {
    let definition = || {
        let mut definition = two_tasks();
        definition.tasks[1].worker = "a".into();
        definition
    };
    let mut script = Script::new(definition());
    script.does("a", "succeeded");
    script.run("dispatch 0/1/0 a boot1; cancel");
    // Task `second` is for the machine, too, but does not begin any more.
    script.check(
        "report w/0/1/0/1/1 leaving",
        "reported w/0/1/0/1/1 leaving\nexecution_ended 0/1/0 SUCCESS\ntask_ended 0 SUCCESS\nended CANCELLED",
    );
    script.run("retry");
    script.expect_tasks("SUCCESS WAITING");
    // It had left before, and was to come back.
    let mut script = Script::new(definition());
    script.does("a", "succeeded");
    script.run("dispatch 0/1/0 a boot1; report w/0/1/0/1/1 leaving; cancel");
    script.expect_tasks("CANCELLED CANCELLED");
}

#[test]
fn cancelling_during_on_failure_leaves_the_outcome() {
    let mut definition = two_tasks();
    definition.tasks[0].actions[0].on_failure = vec!["rescue".into()];
    let message = "action \"one\" of task \"first\" failed (WrongDigest): digest is a, expected b";
    let mut script = Script::new(definition.clone());
    script.run("dispatch 0/1/0 a boot1; report w/0/1/0/0/1 failed");
    script.check(
        "cancel",
        "execution_ended 0/1/0 FAILED\ntask_ended 0 FAILED\nended FAILED",
    );
    script.expect_state(WorkflowState::Failed, message);
    let mut script = Script::new(definition);
    script.run("dispatch 0/1/0 a boot1; report w/0/1/0/0/1 failed; dispatch 0/1/0 a boot1");
    script.check("cancel", "stopping FAILED\nstop_asked w/0/1/0/0/2 CANCELLED");
    assert_eq!(script.state().head.state, WorkflowState::Ending);
    script.check(
        "report w/0/1/0/0/2 stopped",
        "reported w/0/1/0/0/2 stopped\nexecution_ended 0/1/0 FAILED\ntask_ended 0 FAILED\nended FAILED",
    );
    script.expect_state(WorkflowState::Failed, message);
}

#[test]
fn the_global_timeout_counts_from_the_first_dispatch() {
    let mut definition = two_tasks();
    definition.global_timeout_s = 10;
    let mut script = Script::new(definition);
    script.now = 5_000;
    assert_eq!(engine::next_due(script.state()), None);
    script.check("timer", "");
    script.run("dispatch 0/1/0 a boot1");
    assert_eq!(engine::next_due(script.state()), Some(15_000));
    script.now = 14_999;
    script.check("timer", "");
    script.now = 15_000;
    script.check("timer", "stopping TIMEOUT\nstop_asked w/0/1/0/0/1 CANCELLED");
    assert_eq!(engine::next_due(script.state()), None);
    script.check("timer", "");
    script.check(
        "report w/0/1/0/0/1 stopped",
        "reported w/0/1/0/0/1 stopped\nexecution_ended 0/1/0 CANCELLED\ntask_ended 0 CANCELLED\nended TIMEOUT",
    );
    script.expect_state(WorkflowState::Timeout, "its global timeout of 10 s has passed");
}

#[test]
fn the_global_timeout_between_two_actions_ends_at_once() {
    let mut definition = two_tasks();
    definition.global_timeout_s = 10;
    let mut script = Script::new(definition);
    script.run("dispatch 0/1/0 a boot1; report w/0/1/0/0/1 succeeded");
    script.now = 100_000;
    script.check(
        "timer",
        "execution_ended 0/1/0 CANCELLED\ntask_ended 0 CANCELLED\nended TIMEOUT",
    );
}

#[test]
fn tasks_without_actions_succeed_when_their_turn_comes() {
    let mut definition = two_tasks();
    definition.tasks[0].actions.clear();
    let script = Script::new(definition.clone());
    script.expect_tasks("SUCCESS WAITING");
    definition.tasks[1].actions.clear();
    let script = Script::new(definition);
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn refuses_what_cannot_be() {
    let mut script = Script::new(two_tasks());
    for unknown in [
        "w/0/1/0/0/1",
        "w/9/1/0/0/1",
        "x/0/1/0/0/1",
        "w/0/2/0/0/1",
        "w/0/1/7/0/1",
    ] {
        let refusal = format!("workflow w has no attempt {unknown}");
        script.refused(&format!("report {unknown} started"), &refusal);
        script.refused(&format!("lost {unknown} boot2"), &refusal);
        script.refused(&format!("returned {unknown} boot2"), &refusal);
    }
    let refusal = engine::decide(None, &Command::Timer, 1).unwrap_err();
    assert_eq!(refusal, Refusal::Missing);
    let create = Command::Create(Box::new(creation(two_tasks())));
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
    task.actions[0].confined = true;
    task.actions[0].resources.pids = 8;
    task.actions[0].runtime = Some(Runtime::Containerd);
    let mut script = Script::new(definition);
    script.run("dispatch 0/1/0 a boot1");
    let dispatch = script.dispatch("w/0/1/0/0/1");
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
    assert_eq!((dispatch.confined, dispatch.resources.pids), (true, 8));
    assert_eq!(dispatch.runtime, Some(Runtime::Containerd));
    assert_eq!(
        (dispatch.task.as_str(), dispatch.action.as_str()),
        ("first", "one")
    );
    assert_eq!((dispatch.action_index, dispatch.action_count), (0, 2));
}

#[test]
fn stamps_never_go_back_and_ticks_count_within_a_millisecond() {
    let mut script = Script::new(two_tasks());
    script.now = 500;
    script.run("dispatch 0/1/0 a boot1; report w/0/1/0/0/1 started");
    let stamps: Vec<(u64, u64, u32)> = script
        .events
        .iter()
        .map(|event| (event.number, event.at, event.tick))
        .collect();
    assert_eq!(
        stamps,
        [
            (1, 1_000, 0),
            (2, 1_000, 1),
            (3, 1_000, 2),
            (4, 1_000, 3),
            (5, 1_000, 4)
        ]
    );
    script.now = 1_001;
    script.run("report w/0/1/0/0/1 succeeded");
    let last = script.events.last().unwrap();
    assert_eq!((last.at, last.tick), (1_001, 0));
}
