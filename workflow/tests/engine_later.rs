//! A workflow that begins later: until then nothing of it happens, and no machine is claimed.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, creation, tasks, two_tasks};
use workflow::engine::{self, Command, Creation, Now, WorkflowState, decide_within};
use workflow::language::Definition;

/// Made at 1 s, it begins at 60 s.
fn later(definition: Definition) -> Script {
    Script::made(Creation {
        start_at: Some(60_000),
        ..creation(definition)
    })
}

#[test]
fn it_waits_for_its_time_and_for_no_machine() {
    let mut script = later(two_tasks());
    script.expect_events("created");
    script.expect_effects("");
    assert_eq!(script.state().head.state, WorkflowState::Pending);
    assert_eq!(engine::next_due(script.state()), Some(60_000));
    let told = engine::explain(script.state(), None, script.now).join("\n");
    let want = "it begins at 1970-01-01T00:01:00Z; until then it waits for no machine (farrier workflow start w --now)";
    assert!(told.contains(want), "{told}");
    script.now = 59_999;
    script.check("timer", "");
    script.expect_effects("");
    script.now = 60_000;
    script.check("timer", "begun\ntask_started 0\nexecution_made 0/1/0 machine");
    script.expect_effects("claim a for w\nclaim b for w\nwant a for 0/1/0");
    assert_eq!(engine::next_due(script.state()), None);
    let told = engine::explain(script.state(), None, script.now).join("\n");
    assert!(!told.contains("begins"), "{told}");
    script.does("a", "succeeded");
}

#[test]
fn it_goes_by_the_clock_on_the_wall() {
    let script = later(two_tasks());
    let looked = |at, wall_ahead_ms| {
        let now = Now {
            at,
            wall_ahead_ms,
            after: None,
        };
        let decision = decide_within(Some(script.state()), &Command::Timer, now, 96).unwrap();
        decision.workflow.head.start_at.is_none()
    };
    assert!(!looked(60_000, -30_000));
    assert!(looked(90_000, -30_000));
    assert!(looked(30_000, 30_000));
}

#[test]
fn its_time_is_moved_and_it_is_begun_by_hand_while_it_has_not_begun() {
    let mut script = later(two_tasks());
    script.check("start 90000", "start_moved");
    script.check("start 90000", "");
    assert_eq!(engine::next_due(script.state()), Some(90_000));
    script.now = 60_000;
    script.check("timer", "");
    script.expect_effects("");
    script.check("start", "begun\ntask_started 0\nexecution_made 0/1/0 machine");
    script.expect_effects("claim a for w\nclaim b for w\nwant a for 0/1/0");
    script.refused(
        "start",
        "workflow w is PENDING: it has begun already; farrier workflow pause holds it",
    );
}

#[test]
fn one_that_is_paused_begins_when_it_is_resumed() {
    let mut script = later(two_tasks());
    script.check("pause", "pause_asked\npaused");
    assert_eq!(engine::next_due(script.state()), None);
    script.now = 60_000;
    script.check("timer", "");
    script.expect_effects("");
    script.check(
        "unpause",
        "unpaused\nbegun\ntask_started 0\nexecution_made 0/1/0 machine",
    );
    // Resumed before its time it waits on; told to begin in a pause, it does so afterwards.
    let mut script = later(two_tasks());
    script.run("pause");
    script.check("unpause", "unpaused");
    assert_eq!(engine::next_due(script.state()), Some(60_000));
    script.run("pause");
    script.check("start", "start_moved");
    script.check(
        "unpause",
        "unpaused\nbegun\ntask_started 0\nexecution_made 0/1/0 machine",
    );
}

#[test]
fn one_that_is_cancelled_before_gives_nothing_back_and_a_retry_begins_at_once() {
    let mut script = later(two_tasks());
    script.check("cancel", "ended CANCELLED");
    script.expect_effects("");
    assert_eq!(engine::next_due(script.state()), None);
    script.expect_tasks("CANCELLED CANCELLED");
    script.refused("start", "workflow w has ended: it is CANCELLED");
    script.check(
        "retry",
        "run_opened [0, 1]\ntask_started 0\nexecution_made 0/1/0 machine",
    );
    script.expect_effects("claim a for w\nclaim b for w\nwant a for 0/1/0");
}

#[test]
fn the_global_timeout_counts_from_the_beginning() {
    let mut definition = tasks(
        "
    - name: pause
      wait: 40s
    ",
    );
    definition.global_timeout_s = 30;
    let mut script = later(definition);
    script.now = 60_000;
    script.run("timer");
    assert_eq!(engine::next_due(script.state()), Some(90_000));
    script.now = 90_000;
    script.run("timer");
    script.expect_state(WorkflowState::Timeout, "its global timeout of 30 s has passed");
}
