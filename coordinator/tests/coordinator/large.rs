//! Workflows with more in them than fits into a commit.

use serde_json::{Map, Value, json};
use store::StoreError;
use workflow::engine::{Command, MAX_OUTPUTS_BYTES, Outcome, WorkflowState, replay};

use super::harness::{Server, limits};

/// As much as an agent takes from an action.
const MOST_OF_AN_ACTION: usize = 256 * 1024;

fn gives(name: &str, bytes: usize) -> Outcome {
    let outputs: Map<String, Value> = [(name.to_owned(), json!("x".repeat(bytes)))]
        .into_iter()
        .collect();
    Outcome::Succeeded {
        message: String::new(),
        bytes: 0,
        outputs,
        data_version: None,
    }
}

/// So many tasks of two actions each, one after the other on one machine.
fn text(tasks: usize) -> String {
    let task = |n| {
        let needs = if n == 0 {
            String::new()
        } else {
            format!("    needs: [t{}]\n", n - 1)
        };
        format!(
            "  - name: t{n}\n    worker: m1\n{needs}    actions:\n      - {{name: a, image: cexec}}\n      - {{name: b, \
             image: cexec}}\n"
        )
    };
    let tasks: String = (0..tasks).map(task).collect();
    format!("version: \"1\"\nname: w\ntasks:\n{tasks}")
}

#[test]
fn outputs_up_to_the_bound_are_kept_and_one_more_fails_its_action() {
    let mut server = Server::new(limits());
    server.attach("m1", "boot1");
    let id = server.create(&text(10));
    let mut all = 0;
    while server.state(&id) != WorkflowState::Failed {
        let attempt = server.run("m1");
        server.report("m1", &attempt, gives(&format!("k{all}"), MOST_OF_AN_ACTION - 20));
        all += 1;
        // Every other is seen by a server that has forgotten everything.
        if all % 2 == 0 {
            let before = server.workflow(&id);
            server.crash();
            server.settle();
            assert_eq!(server.workflow(&id), before);
        }
    }
    assert_eq!(all, MAX_OUTPUTS_BYTES / MOST_OF_AN_ACTION + 1);
    let workflow = server.workflow(&id);
    assert!(
        workflow.head.message.contains("(TooManyOutputs)"),
        "{}",
        workflow.head.message
    );
    let events = server.history(&id);
    assert_eq!(replay(&events).expect("a history"), *workflow);

    // What no row has any more is gone.
    let rows = server.keys("");
    let named = rows.iter().filter(|key| {
        let row = server
            .store
            .get(key.as_bytes())
            .expect("readable")
            .expect("there");
        row.value.starts_with(b"{\"detached\"")
    });
    let prefixes: std::collections::BTreeSet<&str> = rows
        .iter()
        .filter(|key| key.starts_with("detached/"))
        .filter_map(|key| key.rsplit_once('/'))
        .map(|(prefix, _)| prefix)
        .collect();
    assert!(!prefixes.is_empty());
    assert_eq!(named.count(), prefixes.len());
}

/// What is not durable before the commit must not be named by it.
#[test]
fn pieces_come_before_the_commit_that_names_them() {
    let mut server = Server::new(limits());
    server.attach("m1", "boot1");
    let id = server.create(&text(3));
    for n in 0..5 {
        let attempt = server.run("m1");
        server.report("m1", &attempt, gives(&format!("k{n}"), MOST_OF_AN_ACTION - 20));
    }
    let attempt = server.run("m1");
    let report = Command::Report {
        attempt,
        outcome: gives("k5", MOST_OF_AN_ACTION - 20),
    };
    let input = coordinator::Input::Command {
        workflow: id,
        command: report,
    };
    let plan = server
        .coordinator
        .prepare(server.now + 1, &input)
        .expect("a plan");
    assert!(plan.first.len() > 3, "{} pieces", plan.first.len());
    for commit in plan.first.iter().chain([&plan.commit]) {
        commit.check_limits().expect("a commit that a store takes");
    }
    let before = server.keys("").len();
    for piece in &plan.first {
        server.store.commit(piece).expect("a piece");
    }
    // Broken off here, nothing has changed but that there are pieces, and the same can be done again.
    assert_eq!(server.keys("").len(), before + plan.first.len());
    server.crash();
    server.settle();
    let again = server
        .coordinator
        .prepare(server.now + 1, &input)
        .expect("a plan");
    assert_eq!(again.first, plan.first);
    let conflict = server
        .store
        .commit(&plan.commit)
        .and(server.store.commit(&again.commit));
    assert!(
        matches!(conflict, Err(StoreError::Conflict { .. })),
        "{conflict:?}"
    );
}
