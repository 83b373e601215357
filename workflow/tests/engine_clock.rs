//! The clock on the wall is set while the server runs: what is relative goes by the time that passes, `until` by the clock.

use workflow::engine::{Command, Creation, Now, Workflow, WorkflowState, decide, decide_within, next_due};
use workflow::language::{Devices, render};

/// 2026-01-31T08:00:00Z.
const EIGHT: u64 = 1_769_846_400_000;
const HOUR: u64 = 3_600_000;
const DAY: i64 = 86_400_000;

fn make(tasks: &str, now: u64) -> Workflow {
    let text = format!("version: \"1\"\nname: w\ntasks:\n{tasks}");
    let definition = render(&text, &Devices::default()).expect("a template").definition;
    let creation = Creation {
        id: "w1".into(),
        definition,
        ..Creation::default()
    };
    decide(None, &Command::Create(Box::new(creation)), now)
        .expect("made")
        .workflow
}

/// How it is after a look at that time.
fn looked_at(workflow: &Workflow, at: u64, wall_ahead_ms: i64) -> Workflow {
    let now = Now {
        at,
        wall_ahead_ms,
        after: None,
    };
    decide_within(Some(workflow), &Command::Timer, now, 96)
        .expect("a timer is taken")
        .workflow
}

fn is_over(workflow: &Workflow) -> bool {
    workflow.head.state == WorkflowState::Success
}

#[test]
fn a_wait_goes_by_the_time_that_passes() {
    let workflow = make("  - {name: t, wait: 1h}\n", EIGHT);
    assert_eq!(next_due(&workflow), Some(EIGHT + HOUR));
    for ahead in [-DAY, 0, DAY] {
        assert!(
            !is_over(&looked_at(&workflow, EIGHT + HOUR - 1, ahead)),
            "{ahead}"
        );
        assert!(is_over(&looked_at(&workflow, EIGHT + HOUR, ahead)), "{ahead}");
    }
}

/// The moment of a time of the day is found when the task begins, stays, and stands in the events.
#[test]
fn a_time_of_the_day_is_a_moment_from_the_beginning_on() {
    let workflow = make("  - {name: t, until: next 22:00Z}\n", EIGHT);
    assert_eq!(next_due(&workflow), Some(EIGHT + 14 * HOUR));
    assert!(!is_over(&looked_at(&workflow, EIGHT + 14 * HOUR - 1, 0)));
    assert!(is_over(&looked_at(&workflow, EIGHT + 14 * HOUR, 0)));
    // Looked at late, it is over, and does not become the next evening's.
    assert!(is_over(&looked_at(&workflow, EIGHT + 20 * HOUR, 0)));
    // The first moment may be that at which it begins.
    assert!(is_over(&make("  - {name: t, until: next 08:00Z}\n", EIGHT)));
    // Named zones have their own summer time: nine in the evening UTC is ten in Berlin's winter.
    let berlin = make("  - {name: t, until: next 22:00 Europe/Berlin}\n", EIGHT);
    assert_eq!(next_due(&berlin), Some(EIGHT + 13 * HOUR));
}

#[test]
fn until_goes_by_the_clock() {
    let workflow = make("  - {name: t, until: \"2026-01-31T09:00:00Z\"}\n", EIGHT);
    assert!(is_over(&looked_at(&workflow, EIGHT + HOUR, 0)));
    // It was set back: the hour comes a day later.
    assert!(!is_over(&looked_at(&workflow, EIGHT + HOUR, -DAY)));
    assert!(is_over(&looked_at(
        &workflow,
        EIGHT + HOUR + DAY.unsigned_abs(),
        -DAY
    )));
    // It was set forward: the hour has passed.
    assert!(is_over(&looked_at(&workflow, EIGHT + 1, DAY)));
}

#[test]
fn the_next_time_of_the_day_is_counted_from_where_the_task_begins() {
    // It begins at nine: the half past eight of that day has passed.
    let text = "  - {name: a, wait: 1h}\n  - {name: t, until: \"next 08:30Z\"}\n";
    let workflow = looked_at(&make(text, EIGHT), EIGHT + HOUR, 0);
    let due = EIGHT + HOUR / 2 + DAY.unsigned_abs();
    assert!(!is_over(&looked_at(&workflow, due - 1, 0)));
    assert!(is_over(&looked_at(&workflow, due, 0)));
}

#[test]
fn a_clock_that_was_set_back_before_does_not_end_until_early() {
    let text = "  - {name: a, wait: 1s}\n  - {name: t, until: \"2026-01-31T09:00:00Z\"}\n";
    let workflow = looked_at(&make(text, EIGHT + HOUR), EIGHT + HOUR + 1_000, -DAY);
    assert!(!is_over(&workflow));
    assert!(is_over(&looked_at(
        &workflow,
        EIGHT + HOUR + DAY.unsigned_abs(),
        -DAY
    )));
}

#[test]
fn timeouts_go_by_the_time_that_passes() {
    let text = "  - {name: t, approve: {message: now?, timeout: 1h}}\n";
    let workflow = make(text, EIGHT);
    for ahead in [-DAY, DAY] {
        let before = looked_at(&workflow, EIGHT + HOUR - 1, ahead);
        assert!(!before.head.state.is_final(), "{ahead}");
        let after = looked_at(&workflow, EIGHT + HOUR, ahead);
        assert_eq!(after.head.state, WorkflowState::Timeout);
    }
}
