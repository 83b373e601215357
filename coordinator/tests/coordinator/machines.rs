//! Who gets a machine, and what fences it.

use coordinator::{Answer, Input, Orders};
use workflow::engine::{Command, EventKind, Loss, Outcome, StepState, WorkflowState};

use crate::harness::*;

/// One after the other on three machines; the first again at the end.
const THERE_AND_BACK: &str = r#"
version: "1"
name: there and back
tasks:
  - {name: a, worker: m1, actions: [{name: x, image: cexec}]}
  - {name: b, worker: m2, actions: [{name: x, image: cexec}]}
  - {name: c, worker: m1, actions: [{name: x, image: cexec}]}
"#;

const ON_M1: &str = r#"
version: "1"
name: on m1
tasks:
  - {name: a, worker: m1, actions: [{name: x, image: cexec}, {name: y, image: cexec}]}
"#;

#[test]
fn a_machine_goes_to_workflows_in_the_order_they_were_made_and_stays_until_nothing_is_left_for_it() {
    let mut server = Server::new(limits());
    for machine in ["m1", "m2"] {
        server.attach(machine, "k1");
    }
    let first = server.create(THERE_AND_BACK);
    let second = server.create(ON_M1);
    let a = server.run("m1");
    assert_eq!(a.workflow, first);
    assert_eq!(server.report("m1", &a, succeeded()).orders, Orders::Wait);
    // The first comes back to it, so that the second has to wait although it is idle.
    assert_eq!(server.orders("m1"), Orders::Wait);
    let b = server.run("m2");
    assert_eq!((&b.workflow, b.execution.task), (&first, 1));
    server.report("m2", &b, succeeded());
    assert!(server.woken.contains("m1"));
    let c = server.run("m1");
    assert_eq!((&c.workflow, c.execution.task), (&first, 2));
    server.report("m1", &c, succeeded());
    assert_eq!(server.state(&first), WorkflowState::Success);
    let done = server.work_off("m1");
    assert!(done.iter().all(|attempt| attempt.workflow == second) && done.len() == 2);
    assert_eq!(server.state(&second), WorkflowState::Success);
    let work = server.machine("m1");
    assert!(work.claims.is_empty() && work.wants.is_empty() && work.current.is_none());
    assert!(server.keys("open/").is_empty());
}

#[test]
fn the_next_action_is_handed_out_in_the_commit_of_the_report() {
    let mut server = Server::new(limits());
    server.attach("m1", "k1");
    let id = server.create(ON_M1);
    let x = server.run("m1");
    let told = server.report("m1", &x, succeeded());
    let Orders::Run(y) = told.orders else {
        panic!("{told:?}")
    };
    assert_eq!((y.workflow.as_str(), y.action), (id.as_str(), 1));
    let dispatch = server
        .coordinator
        .dispatch(&y)
        .expect("readable")
        .expect("under way");
    assert_eq!(
        (
            dispatch.action.as_str(),
            dispatch.action_index,
            dispatch.action_count
        ),
        ("y", 1, 2)
    );
}

#[test]
fn a_report_is_applied_once_and_one_of_an_older_session_not_at_all() {
    let mut server = Server::new(limits());
    server.attach("m1", "k1");
    let id = server.create(ON_M1);
    let x = server.run("m1");
    let report = |epoch, sequence| {
        Input::Report(Box::new(coordinator::Report {
            machine: "m1".into(),
            boot_id: "k1".into(),
            epoch,
            sequence,
            attempt: x.clone(),
            outcome: Some(succeeded()),
            data: None,
            untouched: false,
        }))
    };
    server.step(report(1, 1));
    let events = server.events(&id).len();
    let Answer::Machine(again) = server.step(report(1, 1)) else {
        panic!("not answered")
    };
    assert_eq!((again.sequence, server.events(&id).len()), (1, events));
    server.attach("m1", "k1");
    assert!(matches!(server.step(report(1, 2)), Answer::Stale));
    assert!(matches!(
        server.step(Input::Work {
            machine: "m1".into(),
            epoch: 1
        }),
        Answer::Stale
    ));
    assert_eq!(server.machine("m1").sequence, 1);
}

#[test]
fn an_attempt_that_was_lost_by_silence_fences_its_machine_until_its_end_is_known() {
    let mut server = Server::new(limits());
    server.attach("m1", "k1");
    let id = server.create(ON_M1);
    let first = server.run("m1");
    assert_eq!(server.coordinator.busy(), ["m1"]);
    server.step(Input::Silent {
        machine: "m1".into(),
        for_ms: 300_000,
    });
    server.settle();
    assert!(server.coordinator.busy().is_empty());
    let lost = |kind: &EventKind| {
        matches!(
            kind,
            EventKind::Lost {
                why: Loss::Silence { .. },
                ..
            }
        )
    };
    assert!(server.events(&id).iter().any(lost));
    // It is tried again, but not here before the first has stopped: the agent may still be running it.
    let told = server.orders("m1");
    assert!(
        matches!(&told, Orders::Stop { attempt, .. } if *attempt == first),
        "{told:?}"
    );
    let told = server.report("m1", &first, succeeded());
    let Orders::Run(second) = told.orders else {
        panic!("{told:?}")
    };
    assert_eq!((second.action, second.attempt), (0, 2));
    let late = |kind: &EventKind| matches!(kind, EventKind::Late { attempt, .. } if *attempt == first);
    assert!(server.events(&id).iter().any(late));
    let workflow = server.workflow(&id);
    let action = &workflow.executions_of(0).next().expect("an execution").actions[0];
    assert_ne!(action.state, StepState::Success);
}

#[test]
fn an_attempt_that_the_agent_has_forgotten_is_not_run_twice() {
    let mut server = Server::new(limits());
    server.attach("m1", "k1");
    let id = server.create(ON_M1);
    let first = server.run("m1");
    // Of one that was never said to have started, nobody has to know: it did not get there.
    assert_eq!(server.attach("m1", "k1").orders, Orders::Run(first.clone()));
    server.report("m1", &first, Outcome::Started);
    // An agent that knows of it says in time how it ended.
    let told = server.attach_knowing("m1", "k1", &[&first]);
    assert_eq!(told.orders, Orders::Run(first.clone()));
    let told = server.attach("m1", "k1");
    assert!(
        matches!(&told.orders, Orders::Stop { attempt, .. } if *attempt == first),
        "{told:?}"
    );
    assert_eq!(told.sequence, 0, "its reports are counted from 1 again");
    let forgotten = |kind: &EventKind| {
        matches!(
            kind,
            EventKind::Lost {
                why: Loss::Forgotten,
                ..
            }
        )
    };
    assert!(server.events(&id).iter().any(forgotten));
    // It answers that it runs nothing of the kind; then there is another attempt.
    let stopped = Outcome::Stopped {
        message: "never started".into(),
    };
    let told = server.report("m1", &first, stopped);
    let Orders::Run(second) = told.orders else {
        panic!("{told:?}")
    };
    assert_eq!((second.action, second.attempt), (0, 2));
    server.report("m1", &second, succeeded());
    server.work_off("m1");
    assert_eq!(server.state(&id), WorkflowState::Success);
}

#[test]
fn another_boot_takes_the_fence_down() {
    let mut server = Server::new(limits());
    server.attach("m1", "k1");
    server.create(ON_M1);
    let first = server.run("m1");
    server.step(Input::Silent {
        machine: "m1".into(),
        for_ms: 300_000,
    });
    server.attach("m1", "k2");
    let second = server.run("m1");
    assert_eq!((second.action, second.attempt), (first.action, 2));
}

#[test]
fn a_machine_that_said_that_it_reboots_is_not_lost_by_silence() {
    let mut server = Server::new(limits());
    server.attach("m1", "k1");
    let id = server.create(&ON_M1.replace(
        "{name: x, image: cexec}",
        "{name: x, image: reboot, reboots: true}",
    ));
    let first = server.run("m1");
    let told = server.report("m1", &first, Outcome::Leaving { how: "reboot".into() });
    assert_eq!(told.orders, Orders::Leave);
    assert!(server.coordinator.busy().is_empty());
    let silent = Input::Silent {
        machine: "m1".into(),
        for_ms: 300_000,
    };
    assert!(matches!(server.step(silent), Answer::Done));
    server.attach("m1", "k2");
    let next = server.run("m1");
    assert_eq!(
        (next.workflow.as_str(), next.action, next.attempt),
        (id.as_str(), 1, 1)
    );
}

#[test]
fn a_cancelled_workflow_gives_the_machine_on_when_its_attempt_has_stopped() {
    let mut server = Server::new(limits());
    server.attach("m1", "k1");
    let first = server.create(ON_M1);
    let second = server.create(ON_M1);
    let x = server.run("m1");
    let cancel = Command::Cancel {
        by: String::new(),
        reason: "wrong disk".into(),
    };
    let cancelled = server.command(&first, cancel).expect("cancelled");
    assert_eq!(cancelled.head.state, WorkflowState::Cancelling);
    assert!(server.woken.contains("m1"));
    assert!(
        matches!(server.orders("m1"), Orders::Stop { attempt, reason } if attempt == x && reason.contains("wrong disk"))
    );
    let stopped = Outcome::Stopped {
        message: String::new(),
    };
    server.report("m1", &x, stopped);
    assert_eq!(server.state(&first), WorkflowState::Cancelled);
    assert_eq!(server.run("m1").workflow, second);
}
