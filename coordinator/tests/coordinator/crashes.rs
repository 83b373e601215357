//! Servers that end between a commit and what follows from it, and two of them over one store.

use coordinator::{Answer, Input, Limits, Next, Orders};
use workflow::engine::{Command, WorkflowState};

use crate::harness::*;

const ON_THREE: &str = r#"
version: "1"
name: three
tasks:
  - {name: a, worker: m1, actions: [{name: x, image: cexec}]}
  - {name: b, worker: m2, needs: [], actions: [{name: x, image: cexec}]}
  - {name: c, worker: m3, needs: [], actions: [{name: x, image: cexec}]}
"#;

fn by_outbox() -> Limits {
    Limits {
        inline_machines: 0,
        ..limits()
    }
}

#[test]
fn what_a_server_did_not_carry_the_next_one_does() {
    let mut server = Server::new(by_outbox());
    for machine in ["m1", "m2", "m3"] {
        server.attach(machine, "k1");
    }
    let creation = creation("w1", ON_THREE);
    let new = coordinator::NewWorkflow {
        creation,
        extra: store::Commit::default(),
    };
    server.step(Input::Create(Box::new(new)));
    // It was made, and no machine knows of it.
    assert_eq!(server.keys("outbox/").len(), 6);
    assert!(server.machine("m1").claims.is_empty());
    server.crash();
    assert!(matches!(server.then.front(), Some(Next::Carry(_))));
    // One row, and another crash.
    let Some(Next::Carry(key)) = server.then.pop_front() else {
        panic!("nothing to carry")
    };
    server.step(Input::Carry { key });
    server.crash();
    server.settle();
    assert!(server.keys("outbox/").is_empty());
    for machine in ["m1", "m2", "m3"] {
        let work = server.machine(machine);
        assert_eq!((work.claims.len(), work.wants.len()), (1, 1), "{machine}");
        let attempt = server.run(machine);
        server.report(machine, &attempt, succeeded());
    }
    assert_eq!(server.state("w1"), WorkflowState::Success);
    for machine in ["m1", "m2", "m3"] {
        assert!(server.machine(machine).claims.is_empty(), "{machine}");
    }
    assert!(server.keys("open/").is_empty());
}

#[test]
fn carrying_a_row_that_is_gone_does_nothing() {
    let mut server = Server::new(by_outbox());
    let id = server.create(ON_THREE);
    let key = format!("outbox/{id}/0000000001/000");
    assert!(matches!(server.step(Input::Carry { key }), Answer::Done));
    assert!(server.then.is_empty());
    assert_eq!(server.machine("m1").claims.len(), 1);
}

/// The rows of a workflow are taken in their order, whichever is asked for.
#[test]
fn a_claim_is_never_overtaken_by_its_release() {
    let mut server = Server::new(by_outbox());
    let creation = creation("w1", ON_THREE);
    let new = coordinator::NewWorkflow {
        creation,
        extra: store::Commit::default(),
    };
    server.step(Input::Create(Box::new(new)));
    let cancel = Command::Cancel {
        by: String::new(),
        reason: String::new(),
    };
    server.step(Input::Command {
        workflow: "w1".into(),
        command: cancel,
    });
    let last = server.keys("outbox/").pop().expect("rows");
    server.then.clear();
    server.then.push_back(Next::Carry(last));
    server.settle();
    assert!(server.keys("outbox/").is_empty());
    for machine in ["m1", "m2", "m3"] {
        let work = server.machine(machine);
        assert!(
            work.claims.is_empty() && work.wants.is_empty(),
            "{machine}: {work:?}"
        );
    }
}

#[test]
fn the_slower_of_two_servers_decides_again() {
    let mut one = Server::new(limits());
    one.attach("m1", "k1");
    let id = one.create(ON_THREE);
    let mut other = Server::over(one.store.clone(), limits());
    assert_eq!(other.state(&id), WorkflowState::Pending);
    let attempt = one.run("m1");
    // The other has an older state in memory.
    let pause = Command::Pause {
        by: "p".into(),
        reason: String::new(),
    };
    let paused = other.command(&id, pause).expect("paused");
    assert_eq!(paused.head.state, WorkflowState::Pausing);
    let told = one.report("m1", &attempt, succeeded());
    assert_eq!(told.orders, Orders::Wait);
    assert_eq!(one.state(&id), WorkflowState::Paused);
}

#[test]
fn a_pause_outlives_the_server() {
    let mut server = Server::new(limits());
    server.attach("m1", "k1");
    let id = server.create(ON_THREE);
    let attempt = server.run("m1");
    let pause = Command::Pause {
        by: "p".into(),
        reason: "lunch".into(),
    };
    server.command(&id, pause).expect("paused");
    server.crash();
    server.settle();
    server.attach("m2", "k1");
    assert_eq!(server.orders("m2"), Orders::Wait);
    server.report("m1", &attempt, succeeded());
    assert_eq!(server.state(&id), WorkflowState::Paused);
    server.crash();
    server.settle();
    server
        .command(&id, Command::Unpause { by: "p".into() })
        .expect("resumed");
    for machine in ["m2", "m3"] {
        server.attach(machine, "k1");
        server.work_off(machine);
    }
    assert_eq!(server.state(&id), WorkflowState::Success);
}

const WITH_TIMER: &str = r#"
version: "1"
name: later
tasks:
  - {name: rest, wait: 10m}
  - {name: a, worker: m1, actions: [{name: x, image: cexec}]}
"#;

#[test]
fn a_timer_is_one_row_and_is_found_again() {
    let mut server = Server::new(limits());
    let id = server.create(WITH_TIMER);
    assert_eq!(server.keys("timer/").len(), 1);
    server.crash();
    server.settle();
    assert_eq!(server.timers.len(), 1);
    let begun = server.now;
    server.next_timer();
    assert!(server.now >= begun + 590_000);
    assert!(server.keys("timer/").is_empty());
    server.attach("m1", "k1");
    server.work_off("m1");
    assert_eq!(server.state(&id), WorkflowState::Success);
}
