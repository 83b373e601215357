//! What a report writes, and that a server which has forgotten everything finds the same state again.

use store::Operation;
use workflow::engine::{Head, Outcome, WorkflowState, replay};

use super::harness::{Server, limits, succeeded};
use coordinator::{Answer, Input};

/// One task on one machine, with so many actions.
fn text(actions: usize) -> String {
    let actions: String = (0..actions)
        .map(|n| format!("      - {{name: a{n}, image: cexec}}\n"))
        .collect();
    format!("version: \"1\"\nname: w\ntasks:\n  - name: t\n    worker: m1\n    actions:\n{actions}")
}

/// Below which prefixes the commit of the next report puts something.
fn puts(server: &Server, outcome: Outcome, sequence: u64) -> Vec<String> {
    let work = server.machine("m1");
    let report = Input::Report(Box::new(coordinator::Report {
        machine: "m1".into(),
        boot_id: work.boot_id.clone(),
        epoch: work.epoch,
        sequence,
        attempt: work.current.expect("an attempt").attempt,
        outcome: Some(outcome),
        data: None,
        untouched: false,
    }));
    let plan = server
        .coordinator
        .prepare(server.now + 1, &report)
        .expect("a plan");
    assert!(matches!(plan.answer, Answer::Machine(_)));
    let prefix = |key: &[u8]| {
        let key = String::from_utf8_lossy(key).into_owned();
        key.split('/').next().unwrap_or_default().to_owned()
    };
    let mut puts: Vec<String> = plan
        .commit
        .operations
        .iter()
        .filter_map(|operation| match operation {
            Operation::Put { key, .. } => Some(prefix(key)),
            _ => None,
        })
        .collect();
    puts.sort();
    puts
}

fn stored_head(server: &Server, id: &str) -> Head {
    let row = server.store.get(format!("workflow/{id}").as_bytes());
    serde_json::from_slice(&row.expect("readable").expect("there").value).expect("a head")
}

#[test]
fn a_report_in_the_middle_of_a_task_writes_its_events_and_the_machine() {
    let mut server = Server::new(limits());
    // Others wait for the machine: what a report writes does not grow with that.
    let ids: Vec<String> = (0..5).map(|_| server.create(&text(4))).collect();
    server.attach("m1", "boot1");
    let attempt = server.run("m1");
    let first = puts(&server, Outcome::Started, 1);
    assert!(first.contains(&"workflow".into()), "the task runs now: {first:?}");
    server.report("m1", &attempt, Outcome::Started);
    assert_eq!(
        puts(&server, succeeded(), 2),
        ["event", "event", "machine-work"],
        "reported, and the next one dispatched"
    );
    server.report("m1", &attempt, succeeded());
    assert_eq!(puts(&server, Outcome::Started, 3), ["event", "machine-work"]);
    assert_eq!(server.machine("m1").claims.len(), ids.len());
}

#[test]
fn what_came_after_the_head_was_written_is_found_again() {
    let mut server = Server::new(limits());
    let id = server.create(&text(40));
    server.attach("m1", "boot1");
    let mut most = 0;
    for _ in 0..39 {
        let attempt = server.run("m1");
        for outcome in [Outcome::Started, succeeded()] {
            server.report("m1", &attempt, outcome);
            let (head, events) = (stored_head(&server, &id), server.history(&id));
            let now = replay(&events).expect("a history");
            assert!(now.head.differs_in_last_event_only(&head));
            most = most.max(now.head.last_event - head.last_event);
            assert_eq!(*server.workflow(&id), now);
            server.crash();
            assert_eq!(*server.workflow(&id), now, "loaded");
        }
    }
    assert!((20..=32).contains(&most), "{most} events after the head");
    server.work_off("m1");
    assert_eq!(server.state(&id), WorkflowState::Success);
    let now = replay(&server.history(&id)).expect("a history");
    assert_eq!(stored_head(&server, &id), now.head, "whole at its end");
}

#[test]
fn a_queue_is_stored_beside_its_machine_and_goes_with_the_last_that_waits() {
    let mut server = Server::new(limits());
    server.create(&text(1));
    server.create(&text(1));
    let queue = server.machine("m1").queue();
    assert_eq!(server.keys("machine-queue/"), ["machine-queue/m1"]);
    server.crash();
    assert_eq!(server.machine("m1").queue(), queue);
    server.attach("m1", "boot1");
    server.work_off("m1");
    assert!(server.keys("machine-queue/").is_empty());
    server.crash();
    assert!(server.machine("m1").claims.is_empty());
}

#[test]
fn of_two_steps_that_were_decided_from_the_same_event_one_happens() {
    let mut server = Server::new(limits());
    let id = server.create(&text(4));
    server.attach("m1", "boot1");
    let attempt = server.run("m1");
    server.report("m1", &attempt, Outcome::Started);
    let pause = Input::Command {
        workflow: id.clone(),
        command: workflow::engine::Command::Pause {
            by: "a person".into(),
            reason: String::new(),
        },
    };
    let plan = server.coordinator.prepare(server.now, &pause).expect("a plan");
    let head = stored_head(&server, &id);
    server.report("m1", &attempt, succeeded());
    assert_eq!(stored_head(&server, &id), head, "only its events were written");
    let error = server.store.commit(&plan.commit).expect_err("the second");
    assert!(error.is_conflict(), "{error}");
}
