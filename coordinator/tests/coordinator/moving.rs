//! Machines that move to another namespace while a workflow is about to claim them.

use coordinator::database::Batch;
use coordinator::namespaces::{Reach, Scope};
use coordinator::{Answer, Error, Input, Limits, NewWorkflow, Orders, machines, namespaces};
use store::{Commit, StoreError};
use workflow::engine::{Command, WorkflowState};

use crate::harness::*;

const MAC: &str = "02:00:00:00:00:01";

/// Two tasks, so that something is decided on the machine after its claim.
fn on_m1() -> String {
    format!(
        "version: \"1\"\nname: on m1\ntasks:\n- {{name: a, worker: \"{MAC}\", actions: [{{name: x, image: cexec}}]}}\n- {{name: b, \
         worker: \"{MAC}\", actions: [{{name: x, image: cexec}}]}}\n"
    )
}

impl Server {
    /// Puts machine m1 into a namespace.
    fn place(&self, namespace: &str) {
        for step in self.move_to(namespace) {
            self.store.commit(&step).expect("committed");
        }
    }

    /// What puts machine m1 into a namespace, as things stand now.
    fn move_to(&self, namespace: &str) -> Vec<Commit> {
        let text = format!("machine: m1\nnamespace: {namespace}\nmac: {MAC}\n");
        let file = machines::File {
            text,
            ..machines::File::default()
        };
        let anywhere = Scope::within(&self.view(), &Reach::everything(), "").expect("a scope");
        let applied = machines::apply(&self.view(), &anywhere, &file, &[], 1).expect("a good machine");
        applied.steps.into_iter().map(Batch::into_commit).collect()
    }

    fn with_m1(limits: Limits) -> Self {
        let server = Self::new(limits);
        let blue = namespaces::create(&server.view(), "blue", "ann", 1).expect("a new namespace");
        server.store.commit(&blue.into_commit()).expect("committed");
        server.place("default");
        server
    }

    fn new_workflow(&self) -> Input {
        Input::Create(Box::new(NewWorkflow {
            creation: creation("w1", &on_m1()),
            extra: Commit::default(),
        }))
    }

    fn no_machine_has_anything(&self) {
        for key in self.keys("machine-queue/") {
            let work = self.machine(key.trim_start_matches("machine-queue/"));
            assert!(work.claims.is_empty() && work.wants.is_empty(), "{key}: {work:?}");
        }
        assert!(self.keys("open/").is_empty());
    }
}

#[test]
fn a_machine_that_moves_before_its_claim_is_carried_is_not_claimed() {
    let mut server = Server::with_m1(Limits {
        inline_machines: 0,
        ..limits()
    });
    let new = server.new_workflow();
    assert!(matches!(server.step(new), Answer::Workflow(_)));
    assert_eq!(server.keys("open/"), [""; 0], "the claim is in the outbox");
    server.place("blue");
    server.settle();
    assert!(server.machine("m1").claims.is_empty());
    assert_eq!(
        server.keys("open/").len(),
        1,
        "it waits for a machine of its namespace"
    );
    let cancel = Command::Cancel {
        by: "ann".into(),
        reason: String::new(),
    };
    server.command("w1", cancel).expect("cancelled");
    assert_eq!(server.state("w1"), WorkflowState::Cancelled);
    server.no_machine_has_anything();
}

#[test]
fn what_is_decided_after_the_move_does_not_overtake_the_claim() {
    let mut server = Server::with_m1(Limits {
        inline_machines: 0,
        ..limits()
    });
    let new = server.new_workflow();
    server.step(new);
    server.place("blue");
    // From here on what is for a machine is written with its decision, where nothing is to come before it.
    server.limits.inline_machines = 2;
    server.crash();
    server.step(Input::Command {
        workflow: "w1".into(),
        command: Command::Cancel {
            by: "ann".into(),
            reason: String::new(),
        },
    });
    server.settle();
    assert_eq!(server.state("w1"), WorkflowState::Cancelled);
    server.no_machine_has_anything();
}

#[test]
fn a_machine_that_moves_while_a_claim_is_decided_is_decided_on_again() {
    let server = Server::with_m1(limits());
    let new = server.new_workflow();
    let plan = server.coordinator.prepare(1_000_000, &new).expect("a plan");
    server.place("blue");
    let done = server.store.commit(&plan.commit);
    assert!(
        matches!(done, Err(StoreError::Conflict { .. })),
        "{:?}",
        done.map_err(Error::from)
    );
}

#[test]
fn a_move_that_was_decided_before_a_claim_is_decided_again() {
    let mut server = Server::with_m1(limits());
    let moves = server.move_to("blue");
    let new = server.new_workflow();
    server.step(new);
    server.settle();
    assert_eq!(server.machine("m1").claims.len(), 1);
    let done = moves
        .iter()
        .try_for_each(|step| server.store.commit(step).map(drop));
    assert!(matches!(done, Err(StoreError::Conflict { .. })), "{done:?}");
}

/// No server of ours lets a machine go that is claimed: it is the last guard, for whatever else writes its record.
#[test]
fn what_was_to_run_on_a_machine_of_another_namespace_is_not_handed_out() {
    let mut server = Server::with_m1(limits());
    let moves = server.move_to("blue");
    let new = server.new_workflow();
    server.step(new);
    server.settle();
    for step in moves {
        let whatever = Commit {
            preconditions: Vec::new(),
            ..step
        };
        server.store.commit(&whatever).expect("committed");
    }
    server.attach("m1", "k1");
    let orders = server.orders("m1");
    assert!(matches!(orders, Orders::Wait), "{orders:?}");
    server.settle();
    let workflow = server.workflow("w1");
    assert_eq!(workflow.head.state, WorkflowState::Failed);
    let actions = workflow.executions.values().flat_map(|task| &task.actions);
    let reasons: Vec<&str> = actions.map(|action| action.reason.as_str()).collect();
    assert_eq!(reasons, ["OtherNamespace"]);
}
