//! Many machines at once: every commit stays within the store's limits, whatever it takes.

use coordinator::{Input, Limits, Next};
use workflow::engine::{Command, WorkflowState};

use crate::harness::*;

fn over(machines: usize, more: &str) -> String {
    let list: Vec<String> = (0..machines).map(|n| format!("n{n:04}")).collect();
    format!(
        "version: \"1\"\nname: rollout\ninputs: {{all: {{type: list, default: [{}]}}}}\ntasks:\n- name: a\n  forEach: inputs.all\n  worker: \"${{{{ item }}}}\"\n{more}  \
         actions: [{{name: x, image: cexec}}]\n",
        list.join(", ")
    )
}

fn work_through(server: &mut Server, id: &str, machines: usize) {
    for n in 0..machines {
        server.attach(&format!("n{n:04}"), "k1");
    }
    let mut rounds = 0;
    while !server.state(id).is_final() {
        rounds += 1;
        assert!(rounds <= machines + 1, "{:?}", server.workflow(id).head);
        for machine in std::mem::take(&mut server.woken) {
            server.work_off(&machine);
        }
    }
}

#[test]
fn a_rollout_over_many_machines_ends() {
    for inline_machines in [0, 2, 8] {
        let limits = Limits {
            inline_machines,
            ..limits()
        };
        let mut server = Server::new(limits);
        let id = server.create(&over(300, ""));
        work_through(&mut server, &id, 300);
        assert_eq!(server.state(&id), WorkflowState::Success);
        assert!(server.keys("outbox/").is_empty() && server.keys("open/").is_empty());
    }
}

#[test]
fn a_rollout_goes_on_after_crashes_in_the_middle_of_everything() {
    let mut server = Server::new(limits());
    let creation = creation("w1", &over(120, "  maxParallel: 10\n"));
    let new = coordinator::NewWorkflow {
        creation,
        extra: store::Commit::default(),
    };
    server.step(Input::Create(Box::new(new)));
    for n in 0..120 {
        server.crash();
        // Some of what is left is done, and the rest is found again.
        for _ in 0..3 {
            if let Some(coordinator::Next::Carry(key)) = server.then.pop_front() {
                server.step(Input::Carry { key });
            }
        }
        server.attach(&format!("n{n:04}"), "k1");
    }
    server.crash();
    server.settle();
    let mut rounds = 0;
    while !server.state("w1").is_final() {
        rounds += 1;
        assert!(rounds < 200, "{:?}", server.workflow("w1").head);
        for n in 0..120 {
            server.work_off(&format!("n{n:04}"));
        }
    }
    assert_eq!(server.state("w1"), WorkflowState::Success);
}

/// Both the report and the next action's start make as many executions as a decision may.
#[test]
fn a_report_while_a_rollout_is_still_being_made_fits_into_a_commit() {
    let mut server = Server::new(limits());
    let text = over(300, "").replace(
        "[{name: x, image: cexec}]",
        "[{name: x, image: cexec}, {name: y, image: cexec}]",
    );
    let new = coordinator::NewWorkflow {
        creation: creation("w1", &text),
        extra: store::Commit::default(),
    };
    server.step(Input::Create(Box::new(new)));
    let made = server.workflow("w1").executions.len();
    assert!(made < 300, "it is still being made");
    // The second: what its machine is told stands in a row; nothing else of what follows is done.
    let machine = "n0001";
    for next in std::mem::take(&mut server.then) {
        if let coordinator::Next::Carry(key) = next {
            server.then.push_back(coordinator::Next::Carry(key));
        }
    }
    while server.machine(machine).wants.is_empty() {
        let Some(coordinator::Next::Carry(key)) = server.then.pop_front() else {
            continue;
        };
        server.step(Input::Carry { key });
    }
    let before = server.workflow("w1").executions.len();
    assert!(before < 200, "it is still being made: {before}");
    let attach = Input::Attach {
        machine: machine.into(),
        boot_id: "k1".into(),
        running: None,
        knows: std::collections::BTreeSet::new(),
    };
    server.step(attach);
    server.step(Input::Work {
        machine: machine.into(),
        epoch: 1,
    });
    let attempt = server
        .machine(machine)
        .current
        .expect("it was handed out")
        .attempt;
    server.step(Input::Report(Box::new(coordinator::Report {
        machine: machine.into(),
        boot_id: "k1".into(),
        epoch: 1,
        sequence: 1,
        attempt,
        outcome: Some(succeeded()),
        data: None,
        untouched: false,
    })));
    assert!(
        server.workflow("w1").executions.len() < 300,
        "it is still being made"
    );
    server.settle();
    assert!(server.woken.contains(machine), "its next action waits for it");
    let answer = server.step(Input::Work {
        machine: machine.into(),
        epoch: 1,
    });
    assert!(
        matches!(&answer, coordinator::Answer::Machine(told) if matches!(&told.orders, coordinator::Orders::Run(attempt) if attempt.action == 1)),
        "{answer:?}"
    );
}

#[test]
fn a_rollout_is_cancelled_in_the_middle() {
    let mut server = Server::new(limits());
    let id = server.create(&over(200, ""));
    for n in 0..5 {
        let machine = format!("n{n:04}");
        server.attach(&machine, "k1");
        server.run(&machine);
    }
    let cancel = Command::Cancel {
        by: String::new(),
        reason: "enough".into(),
    };
    server.command(&id, cancel).expect("cancelled");
    assert_eq!(server.state(&id), WorkflowState::Cancelling);
    for n in 0..5 {
        let machine = format!("n{n:04}");
        let current = server.machine(&machine).current.expect("an attempt");
        assert_eq!(current.stop.as_deref(), Some("enough"));
        let stopped = workflow::engine::Outcome::Stopped {
            message: String::new(),
        };
        server.report(&machine, &current.attempt, stopped);
    }
    assert_eq!(server.state(&id), WorkflowState::Cancelled);
    assert!(server.keys("outbox/").is_empty() && server.keys("open/").is_empty());
    for n in 0..200 {
        let work = server.machine(&format!("n{n:04}"));
        assert!(
            work.claims.is_empty() && work.wants.is_empty(),
            "n{n:04}: {work:?}"
        );
    }
}

/// A commit is durable a moment before it is known here, and the carrier reads the store: what it has carried by then asks a
/// workflow for something that it does not know of yet.
#[test]
fn what_is_carried_before_its_commit_is_known_is_not_taken_for_out_of_date() {
    let limits = Limits {
        inline_machines: 0,
        ..limits()
    };
    let mut server = Server::new(limits);
    let id = server.create(&over(2, "  maxParallel: 1\n"));
    server.attach("n0000", "k1");
    server.attach("n0001", "k1");
    let first = server.run("n0000");
    // It makes room for the second machine.
    let end = Input::Report(Box::new(coordinator::Report {
        machine: "n0000".into(),
        boot_id: "k1".into(),
        epoch: 1,
        sequence: 1,
        attempt: first,
        outcome: Some(succeeded()),
        data: None,
        untouched: false,
    }));
    let plan = server.coordinator.prepare(server.now, &end).expect("a plan");
    let revision = server.store.commit(&plan.commit).expect("a commit");
    for key in server.keys("outbox/") {
        server.step(Input::Carry { key });
    }
    let second = server.run("n0001");
    server.coordinator.committed(&plan, revision);
    assert_eq!(server.run("n0001"), second);
    // Nothing is taken for still to be carried: what is for the machine at hand goes to it at once.
    let end = Input::Report(Box::new(coordinator::Report {
        machine: "n0001".into(),
        boot_id: "k1".into(),
        epoch: 1,
        sequence: 1,
        attempt: second.clone(),
        outcome: Some(succeeded()),
        data: None,
        untouched: false,
    }));
    let plan = server.coordinator.prepare(server.now, &end).expect("a plan");
    let carries = |next: &Next| matches!(next, Next::Carry(_));
    assert!(!plan.then.iter().any(carries), "{:?}", plan.then);
    server.report("n0001", &second, succeeded());
    assert_eq!(server.state(&id), WorkflowState::Success);
    assert!(server.keys("outbox/").is_empty() && server.keys("open/").is_empty());
}
