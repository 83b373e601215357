//! As much in outputs as may be: over the wire, into the store, into an archive, and out of all of them again.

use std::sync::Arc;
use std::time::Duration;

use proto::v1::{DataChanges, DataFile, Succeeded, report};
use server::Config;
use store::{MAX_COMMIT_BYTES, MemoryStore, Store, StoreHandle};

use crate::harness::*;

/// As much as an agent takes from an action; sixteen are the most of a workflow.
const MOST: usize = 256 * 1024;

fn gives(name: &str, bytes: usize) -> report::Outcome {
    report::Outcome::Succeeded(Succeeded {
        outputs_json: format!("{{\"{name}\":\"{}\"}}", "x".repeat(bytes - 10)),
        ..Succeeded::default()
    })
}

fn with_file(outcome: report::Outcome) -> report::Outcome {
    let report::Outcome::Succeeded(done) = outcome else {
        panic!("{outcome:?}")
    };
    let content = b"content".to_vec();
    let file = DataFile {
        path: "file".into(),
        size_bytes: content.len() as u64,
        sha256: ephemeral::Digest::of(&content).to_string(),
        executable: false,
        content,
    };
    report::Outcome::Succeeded(Succeeded {
        data_changes: Some(DataChanges {
            base_version: 0,
            put: vec![file],
            deleted: Vec::new(),
        }),
        ..done
    })
}

fn seventeen_actions() -> String {
    let actions: String = (0..17)
        .map(|n| format!("      - {{name: a{n}, image: cexec}}\n"))
        .collect();
    format!("version: \"1\"\nname: large\ntasks:\n  - name: all\n    worker: {MAC}\n    actions:\n{actions}")
}

fn keys(store: &MemoryStore, prefix: &str) -> usize {
    let end = store::prefix_end(prefix.as_bytes());
    store
        .range(prefix.as_bytes(), &end, usize::MAX)
        .expect("rows")
        .len()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_the_outputs_that_may_be_are_kept_and_more_fail_the_action() {
    let store = Arc::new(MemoryStore::default());
    let serve = async |archive_after| {
        let config = Config {
            archive_after,
            ..Config::default()
        };
        Server::over(StoreHandle::shared(store.clone()), config).await
    };
    let server = serve(Duration::from_secs(3600)).await;
    server.apply(MACHINE).await.expect("machine");
    server.put(&seventeen_actions()).await.expect("template");
    let id = server.create("large", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    for n in 0..17 {
        let run = agent.run().await;
        agent.report(&run.attempt_id, started()).await;
        let mut outcome = gives(&format!("k{n:02}"), MOST);
        if n == 16 {
            outcome = with_file(outcome);
        }
        agent.report(&run.attempt_id, outcome).await;
    }
    let ended = server.reaches(&id, "FAILED").await;
    let last = &ended.tasks[0].actions[16];
    assert_eq!(last.reason, "TooManyOutputs", "{}", last.message);
    assert!(
        last.message.starts_with("with these 262144 B "),
        "{}",
        last.message
    );
    let outputs = &ended.tasks[0].executions[0].outputs_json;
    let outputs: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(outputs).expect("an object");
    assert_eq!(outputs.len(), 16);
    // More than fits into any commit.
    assert!(ended.tasks[0].executions[0].outputs_json.len() > 2 * MAX_COMMIT_BYTES);
    // An action that failed changes no data, whatever its machine took it for.
    assert_eq!(keys(&store, "data/"), 0);
    let told = server.history(&id).await;
    assert!(keys(&store, "detached/") > 0);
    server.stop().await;

    let server = serve(Duration::ZERO).await;
    until("it to be archived", || keys(&store, "archived/") == 1).await;
    assert_eq!(keys(&store, "detached/"), 0);
    assert_eq!(format!("{:?}", server.workflow(&id).await), format!("{ended:?}"));
    assert_eq!(server.history(&id).await, told);

    // Brought back: the task is done again, and has all of the room again.
    server.retry(&id).await.expect("retried");
    assert!(keys(&store, "detached/") > 0);
    let mut agent = server.attach(hello("k2")).await.expect("attach");
    for n in 0..17 {
        let run = agent.run().await;
        let outcome = if n == 16 {
            succeeded()
        } else {
            gives(&format!("k{n:02}"), MOST)
        };
        agent.report(&run.attempt_id, outcome).await;
    }
    let again = server.reaches(&id, "SUCCESS").await;
    assert_eq!(
        again.tasks[0].executions[0].outputs_json.len(),
        ended.tasks[0].executions[0].outputs_json.len()
    );
    until("it to be archived again", || keys(&store, "archived/") == 1).await;
    server.delete(&id).await.expect("deleted");
    assert_eq!(keys(&store, "detached/"), 0);
}
