//! Stamps sort across workflows as causes do, also when the clock goes back between two servers.

use workflow::engine::{Event, EventKind, Stamp};

use crate::harness::*;

const PARENT: &str = r#"
version: "1"
name: parent
tasks:
  - {name: before, worker: m1, actions: [{name: x, image: cexec}]}
  - {name: inner, workflow: child}
"#;
/// Without a machine: nothing but its parent tells it the time.
const CHILD: &str = "version: \"1\"\nname: child\ntasks: [{name: note, set: {a: \"1\"}}]\n";
const OTHER: &str =
    "version: \"1\"\nname: other\ntasks: [{name: a, worker: m1, actions: [{name: x, image: cexec}]}]\n";

fn stamp_of(events: &[Event], which: impl Fn(&EventKind) -> bool) -> Stamp {
    let found = events.iter().find(|event| which(&event.kind));
    found.map(Event::stamp).expect("such an event")
}

fn dispatched(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Dispatched { .. })
}

#[test]
fn a_stamp_is_above_every_stamp_that_its_commit_has_read() {
    let mut server = Server::new(limits());
    server.template("child", CHILD);
    server.now = 100_000;
    let root = server.create(PARENT);
    server.attach("m1", "k1");
    let attempt = server.run("m1");
    // Whoever is next has nothing in memory, and a clock that is far behind.
    server.crash();
    server.now = 90_000;
    server.attach_knowing("m1", "k1", &[&attempt]);
    // Its claim reads the machine, which has run something at a later time.
    let other = server.create(OTHER);
    assert!(
        stamp_of(&server.history(&other), |kind| matches!(
            kind,
            EventKind::Created { .. }
        ))
        .at >= 100_000
    );
    server.report("m1", &attempt, succeeded());
    server.settle();
    let parent = server.history(&root);
    let inner = server.workflow(&root);
    let child = inner
        .executions_of(1)
        .next()
        .and_then(|execution| execution.child.clone())
        .expect("a sub-workflow");
    let child = server.history(&child);
    let asked = stamp_of(&parent, |kind| {
        matches!(kind, EventKind::ExecutionMade { child: Some(_), .. })
    });
    let made = stamp_of(&child, |kind| matches!(kind, EventKind::Created { .. }));
    assert!(made > asked, "{made} {asked}");
    let ended = stamp_of(&child, |kind| matches!(kind, EventKind::Ended { .. }));
    let told = stamp_of(&parent, |kind| matches!(kind, EventKind::ChildEnded { .. }));
    assert!(told > ended, "{told} {ended}");
    server.crash();
    server.now = 80_000;
    server.attach("m1", "k2");
    server.work_off("m1");
    let (first, second) = (
        stamp_of(&parent, dispatched),
        stamp_of(&server.history(&other), dispatched),
    );
    assert!(second > first, "{second} {first}");
    assert!(
        second > told,
        "the machine was given back by what {told} is of: {second}"
    );
}

#[test]
fn stamps_sort_as_texts() {
    let stamp = |at, tick| Stamp { at, tick }.to_string();
    assert_eq!(stamp(1_764_380_000_123, 4), "1764380000123.0000000004");
    assert!(stamp(999, u32::MAX) < stamp(1_000, 0) && stamp(1_000, 9) < stamp(1_000, 10));
}
