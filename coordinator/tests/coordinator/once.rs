//! What is asked with a key takes effect once, whatever happens between the question and its answer.

use coordinator::once::{Came, Once};
use coordinator::{Answer, Error, Input, Plan};
use workflow::engine::{Command, EventKind};

use crate::harness::*;

const WAITS: &str = "version: \"1\"\nname: w\ntasks: [{name: t, wait: 1d}]\n";

fn set(value: &str) -> Command {
    Command::Label {
        set: [("owner".to_owned(), value.to_owned())].into(),
        remove: Default::default(),
        by: "ann".to_owned(),
    }
}

fn asked(id: &str, command: Command, key: &str) -> Input {
    let request = format!("{id} {command:?}");
    Input::Asked {
        workflow: id.to_owned(),
        command,
        once: Once::new("ann", key, "LabelWorkflow", request.as_bytes(), 1_000).expect("a key"),
    }
}

/// The event at which it was done before.
fn before(answer: &Answer) -> u64 {
    match answer {
        Answer::Before(done) => done.came.event().expect("of a workflow"),
        answer => panic!("it was not done before: {answer:?}"),
    }
}

fn labelled(server: &Server, id: &str) -> usize {
    let events = server.events(id).into_iter();
    events
        .filter(|kind| matches!(kind, EventKind::Labelled { .. }))
        .count()
}

fn owner(server: &Server, id: &str) -> String {
    server
        .workflow(id)
        .head
        .labels
        .get("owner")
        .cloned()
        .unwrap_or_default()
}

fn commit(server: &Server, plan: &Plan) -> Result<u64, store::StoreError> {
    server.store.commit(&plan.commit)
}

#[test]
fn the_same_again_is_answered_and_not_done() {
    let mut server = Server::new(limits());
    let id = server.create(WAITS);
    let input = asked(&id, set("ann"), "k");
    let Answer::Workflow(first) = server.step(input.clone()) else {
        panic!("not done")
    };
    // Somebody else has changed it since.
    server.command(&id, set("bob")).expect("set");
    assert_eq!(before(&server.step(input.clone())), first.head.last_event);
    server.crash();
    assert_eq!(before(&server.step(input)), first.head.last_event);
    assert_eq!((owner(&server, &id).as_str(), labelled(&server, &id)), ("bob", 2));
}

#[test]
fn without_a_key_nothing_is_kept() {
    let mut server = Server::new(limits());
    let id = server.create(WAITS);
    server.command(&id, set("ann")).expect("set");
    assert!(server.keys("once").is_empty());
    server.step(asked(&id, set("bob"), "k"));
    assert_eq!(server.keys("once/"), ["once/ann/k"]);
    assert_eq!(server.keys("once-until/"), ["once-until/0000086401000/ann/k"]);
}

#[test]
fn a_crash_before_the_commit_leaves_nothing_and_one_after_it_all() {
    for is_committed in [false, true] {
        let mut server = Server::new(limits());
        let id = server.create(WAITS);
        let input = asked(&id, set("ann"), "k");
        let plan = server.coordinator.prepare(2_000_000_u64, &input).expect("a plan");
        if is_committed {
            commit(&server, &plan).expect("committed");
        }
        // Nobody was answered.
        server.crash();
        match (is_committed, server.step(input.clone())) {
            (true, answer) => assert_eq!(before(&answer), server.workflow(&id).head.last_event),
            (false, answer) => assert!(matches!(answer, Answer::Workflow(_)), "{answer:?}"),
        }
        before(&server.step(input));
        assert_eq!(labelled(&server, &id), 1);
    }
}

#[test]
fn of_two_in_flight_the_second_is_answered_as_the_first() {
    let mut server = Server::new(limits());
    let (one, other) = (server.create(WAITS), server.create(WAITS));
    let input = asked(&one, set("ann"), "k");
    let plans: Vec<Plan> = (0..2)
        .map(|_| server.coordinator.prepare(2_000_000_u64, &input).expect("a plan"))
        .collect();
    // The same key for another workflow, decided before the first was there, too.
    let misused = asked(&other, set("ann"), "k");
    let late = server
        .coordinator
        .prepare(2_000_000_u64, &misused)
        .expect("a plan");
    let revision = commit(&server, &plans[0]).expect("committed");
    server.coordinator.committed(&plans[0], revision);
    for plan in [&plans[1], &late] {
        assert!(commit(&server, plan).expect_err("it is there").is_conflict());
        server.coordinator.forget(plan);
    }
    before(&server.step(input));
    let error = server
        .coordinator
        .prepare(2_000_000_u64, &misused)
        .expect_err("refused");
    let Error::Exists(said) = &error else {
        panic!("{error:?}")
    };
    assert!(
        said.contains("was used for something else, another LabelWorkflow"),
        "{said}"
    );
    assert_eq!((labelled(&server, &one), labelled(&server, &other)), (1, 0));
}

#[test]
fn what_had_nothing_to_do_does_nothing_later_either() {
    let mut server = Server::new(limits());
    let id = server.create(WAITS);
    server.command(&id, set("ann")).expect("set");
    let events = server.events(&id).len();
    let input = asked(&id, set("ann"), "k");
    assert!(matches!(server.step(input.clone()), Answer::Workflow(_)));
    assert_eq!(server.events(&id).len(), events);
    server.command(&id, set("bob")).expect("set");
    before(&server.step(input));
    assert_eq!(owner(&server, &id), "bob");
}

/// What had nothing to do was found out from a workflow that another server has changed meanwhile.
#[test]
fn that_there_is_nothing_to_do_counts_when_nothing_has_happened_since() {
    let mut one = Server::new(limits());
    let id = one.create(WAITS);
    one.command(&id, set("ann")).expect("set");
    let mut other = Server::over(one.store.clone(), limits());
    other.command(&id, set("bob")).expect("set");
    // It takes it for ann's still.
    let Answer::Workflow(done) = one.step(asked(&id, set("ann"), "k")) else {
        panic!("not done")
    };
    assert_eq!(done.head.labels["owner"], "ann");
    assert_eq!(labelled(&one, &id), 3);
}

#[test]
fn what_was_refused_leaves_no_key() {
    let mut server = Server::new(limits());
    let id = server.create(WAITS);
    let input = asked(&id, Command::Retry { by: "ann".into() }, "k");
    assert!(matches!(server.step(input.clone()), Answer::Refused(_)));
    assert!(server.keys("once").is_empty());
    let cancel = Command::Cancel {
        by: "ann".into(),
        reason: String::new(),
    };
    server.command(&id, cancel).expect("cancelled");
    let Answer::Workflow(retried) = server.step(input.clone()) else {
        panic!("not done")
    };
    assert_eq!(retried.head.run, 2);
    assert_eq!(before(&server.step(input)), retried.head.last_event);
    assert_eq!(Came::answer(b"").event(), None);
}
