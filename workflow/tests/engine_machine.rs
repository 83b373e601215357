//! The machine as an aggregate: order of claims, the fence, what an attach means.
#![allow(clippy::unwrap_used)]

use workflow::engine::machine::{Attached, Claim, Machine};
use workflow::engine::{AttemptId, ExecutionId};

fn execution(task: usize) -> ExecutionId {
    ExecutionId {
        task,
        instance: 1,
        item: 0,
    }
}

fn attempt(workflow: &str, attempt: u32) -> AttemptId {
    AttemptId {
        workflow: workflow.into(),
        execution: execution(0),
        action: 0,
        attempt,
    }
}

fn roots(machine: &Machine) -> Vec<&str> {
    machine.claims.iter().map(|claim| claim.root.as_str()).collect()
}

/// Attached, and wanted by `r1`.
fn ready() -> Machine {
    let mut machine = Machine::default();
    machine.want("r1", "w1", execution(0));
    assert_eq!(machine.attach("boot1"), Attached::Unchanged);
    machine
}

#[test]
fn roots_hold_it_in_order_of_creation() {
    let mut machine = Machine::default();
    for root in ["r2", "r3", "r1", "r3"] {
        machine.claim(root);
    }
    assert_eq!(roots(&machine), ["r1", "r2", "r3"]);
    machine.attach("boot1");
    assert_eq!(machine.next(), None, "nobody is ready");
    machine.want("r2", "w2", execution(0));
    assert_eq!(machine.next(), None, "r1 comes first");
    machine.release("r1");
    assert_eq!(machine.next().unwrap().workflow, "w2");
    machine.dispatched("r2", attempt("w2", 1));
    // Nobody is put before one that holds it.
    machine.claim("r0");
    assert_eq!(roots(&machine), ["r2", "r0", "r3"]);
    assert_eq!(
        machine.claims[0],
        Claim {
            root: "r2".into(),
            held: true
        }
    );
    assert_eq!(
        machine.explain(),
        [
            "held by workflow r2; then, in this order: r0, r3",
            "attempt w2/0/1/0/0/1 is under way"
        ]
    );
}

#[test]
fn sub_workflows_share_their_root_s_claim() {
    let mut machine = Machine::default();
    machine.claim("r1");
    machine.claim("r2");
    machine.want("r2", "w2", execution(0));
    machine.want("r1", "child", execution(3));
    machine.attach("boot1");
    assert_eq!(machine.next().unwrap().workflow, "child");
}

#[test]
fn it_runs_one_attempt_at_a_time() {
    let mut machine = ready();
    machine.want("r1", "w1", execution(1));
    machine.want("r1", "w1", execution(1));
    assert_eq!(machine.wants.len(), 2);
    assert_eq!(machine.next().unwrap().execution, execution(0));
    machine.dispatched("r1", attempt("w1", 1));
    assert_eq!(machine.wants.len(), 1);
    assert_eq!(machine.next(), None);
    machine.ended(&attempt("w1", 2));
    assert_eq!(machine.next(), None, "another attempt's end frees nothing");
    machine.ended(&attempt("w1", 1));
    assert_eq!(machine.next().unwrap().execution, execution(1));
    machine.unwant("w1", execution(1));
    assert_eq!(machine.next(), None);
}

#[test]
fn nothing_is_handed_out_before_an_agent_has_attached() {
    let mut machine = Machine::default();
    machine.want("r1", "w1", execution(0));
    assert_eq!(machine.next(), None);
    assert_eq!(
        machine.explain(),
        ["held by workflow r1", "it has never attached"]
    );
}

#[test]
fn every_attach_raises_the_epoch() {
    let mut machine = ready();
    assert_eq!(machine.epoch, 1);
    machine.sequence = 7;
    machine.attach("boot1");
    assert_eq!((machine.epoch, machine.sequence), (2, 7));
    machine.attach("boot2");
    assert_eq!((machine.epoch, machine.sequence), (3, 0));
}

#[test]
fn an_attempt_that_is_given_up_keeps_the_fence_until_another_boot() {
    let mut machine = ready();
    machine.dispatched("r1", attempt("w1", 1));
    machine.lost(&attempt("w1", 2));
    assert!(!machine.current.as_ref().unwrap().lost);
    machine.lost(&attempt("w1", 1));
    machine.want("r1", "w1", execution(0));
    assert_eq!(machine.next(), None);
    assert_eq!(machine.attach("boot1"), Attached::Unchanged);
    assert_eq!(machine.next(), None, "the same boot may still run it");
    machine.release("r1");
    machine.want("r2", "w2", execution(0));
    assert_eq!(machine.next(), None, "the fence outlives the claim");
    assert_eq!(machine.attach("boot2"), Attached::FenceDown);
    assert_eq!(machine.next().unwrap().workflow, "w2");
}

#[test]
fn the_agent_s_word_that_it_has_stopped_takes_the_fence_down_too() {
    let mut machine = ready();
    machine.dispatched("r1", attempt("w1", 1));
    machine.lost(&attempt("w1", 1));
    machine.ended(&attempt("w1", 1));
    machine.want("r1", "w1", execution(0));
    assert!(machine.next().is_some());
}

#[test]
fn another_boot_without_a_word_is_told_from_one_that_left() {
    let mut machine = ready();
    machine.dispatched("r1", attempt("w1", 1));
    assert_eq!(machine.attach("boot2"), Attached::OtherBoot(attempt("w1", 1)));
    machine.dispatched("r1", attempt("w1", 2));
    machine.left(&attempt("w1", 2), false);
    assert_eq!(
        machine.attach("boot2"),
        Attached::Unchanged,
        "it has not left yet"
    );
    assert_eq!(machine.attach("boot3"), Attached::Returned(attempt("w1", 2)));
    assert_eq!(machine.current, None);
}

#[test]
fn a_machine_that_leaves_gets_nothing_until_it_is_back() {
    let mut machine = ready();
    machine.dispatched("r1", attempt("w1", 1));
    machine.left(&attempt("w1", 1), true);
    assert_eq!(machine.current, None);
    machine.want("r1", "w1", execution(1));
    assert_eq!(machine.next(), None);
    machine.attach("boot1");
    assert_eq!(machine.next(), None);
    machine.attach("boot2");
    assert!(machine.next().is_some());
}

#[test]
fn only_what_is_under_way_can_be_stopped() {
    let mut machine = ready();
    assert!(!machine.stop(&attempt("w1", 1), "cancelled"));
    machine.dispatched("r1", attempt("w1", 1));
    assert!(!machine.stop(&attempt("w1", 2), "cancelled"));
    assert!(machine.stop(&attempt("w1", 1), "cancelled"));
    assert!(machine.stop(&attempt("w1", 1), "again"));
    let current = machine.current.clone().unwrap();
    assert_eq!(
        current.stop.as_deref(),
        Some("cancelled"),
        "the first reason stands"
    );
}

#[test]
fn it_is_stored_as_json_and_its_queue_beside_it() {
    let mut machine = ready();
    machine.dispatched("r1", attempt("w1", 1));
    let text = serde_json::to_string(&machine).unwrap();
    assert_eq!(
        text,
        r#"{"epoch":1,"boot_id":"boot1","leaving":false,"sequence":0,"current":{"attempt":"w1/0/1/0/0/1","boot_id":"boot1","stop":null,"lost":false,"leaving":false}}"#
    );
    let queue = serde_json::to_string(&machine.queue()).unwrap();
    assert_eq!(queue, r#"{"claims":[{"root":"r1","held":true}],"wants":[]}"#);
    let mut read: Machine = serde_json::from_str(&text).unwrap();
    read.set_queue(serde_json::from_str(&queue).unwrap());
    assert_eq!(read, machine);
}
