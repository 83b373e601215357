//! Actions that are images of a registry, Debian's, by the real agent as a process. As root.

mod debian;
mod fake;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use debian::Registry;
use fake::{Agent, FakeServer, Stream};
use proto::v1::report::Outcome;
use proto::v1::{self, RunAction, agent_message};
use tempfile::TempDir;

fn action(attempt_id: &str, image: &str) -> RunAction {
    RunAction {
        attempt_id: attempt_id.to_owned(),
        workflow_id: "w".to_owned(),
        action: "a".to_owned(),
        image: image.to_owned(),
        ..RunAction::default()
    }
}

#[track_caller]
fn succeeded(outcome: Outcome) -> v1::Succeeded {
    match outcome {
        Outcome::Succeeded(succeeded) => succeeded,
        other => panic!("no success: {other:?}"),
    }
}

fn with_a_registry() -> (TempDir, Registry) {
    let folder = tempfile::Builder::new()
        .prefix("runtime.")
        .tempdir()
        .expect("folder");
    let registry = Registry::start(folder.path());
    (folder, registry)
}

async fn attached(folder: &Path) -> (FakeServer, Stream, Agent) {
    let mut server = FakeServer::start().await;
    let agent = Agent::start(&server, folder);
    let (stream, _) = server.accept().await;
    stream.welcome_of(5).await;
    (server, stream, agent)
}

#[tokio::test]
async fn an_image_is_pulled_once_and_runs_as_it_says() {
    let (folder, registry) = with_a_registry();
    let digest = registry.push_image();
    let name = format!("{}/tools/box", registry.host);
    let (_server, mut stream, _agent) = attached(folder.path()).await;
    let done = succeeded(stream.end_of(&action("w/1", &format!("{name}:v1"))).await);
    assert_eq!(done.message, "33");
    assert!(
        stream
            .lines
            .iter()
            .any(|line| line.ends_with("hello from a registry")),
        "{:?}",
        stream.lines
    );
    assert!(
        stream.lines.iter().any(|line| line.contains(&digest)),
        "{:?}",
        stream.lines
    );
    // What it keeps since then is told, in the middle of the action or after it.
    let told = async {
        loop {
            match stream.store {
                Some(store) if store.images > 0 => break store,
                _ => drop(stream.next().await),
            }
        }
    };
    let store = tokio::time::timeout(Duration::from_secs(20), told)
        .await
        .expect("it is told in time");
    assert_eq!((store.images, store.layers), (1, 2));
    assert!((1..store.limit_bytes).contains(&store.held_bytes), "{store:?}");
    let own = RunAction {
        command: vec!["echo $GREETING; test ! -e /dev/kmsg".to_owned()],
        confined: true,
        ..action("w/2", &format!("{name}@{digest}"))
    };
    assert_eq!(succeeded(stream.end_of(&own).await).message, "yes");
    let none = stream.end_of(&action("w/3", &format!("{name}:v2"))).await;
    assert!(
        matches!(&none, Outcome::Failed(failed) if failed.reason == "NoSuchImage"),
        "{none:?}"
    );
    // What was asked for by its digest needs nobody who has it, and is here after the agent was killed.
    drop(registry);
    let again = stream.end_of(&action("w/4", &format!("{name}@{digest}"))).await;
    assert_eq!(succeeded(again).message, "33");
    drop((stream, _agent, _server));
    let (_server, mut stream, _agent) = attached(folder.path()).await;
    let again = stream.end_of(&action("w/5", &format!("{name}@{digest}"))).await;
    assert_eq!(succeeded(again).message, "33");
}

/// What a `waitdaemon` starts.
fn last(attempt_id: &str, image: &str, folder: &Path) -> RunAction {
    RunAction {
        last: Some(v1::Last { wait_s: 0 }),
        command: vec!["echo here > /said/it; echo the last words".to_owned()],
        volumes: vec![format!("{}:/said", folder.display())],
        ..action(attempt_id, image)
    }
}

/// A folder that the image's user writes to.
fn open_to_all(folder: &Path) -> PathBuf {
    let said = folder.join("said");
    fs::create_dir(&said).expect("folder");
    fs::set_permissions(&said, fs::Permissions::from_mode(0o777)).expect("mode");
    said
}

#[track_caller]
fn leaves(outcome: &Outcome) {
    assert!(
        matches!(outcome, Outcome::Leaving(leaving) if leaving.how == "container"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_wrapped_image_runs_when_the_server_knows_that_the_machine_leaves() {
    let (folder, registry) = with_a_registry();
    registry.push_image();
    let name = format!("{}/tools/box", registry.host);
    let said = open_to_all(folder.path());
    let (_server, mut stream, mut agent) = attached(folder.path()).await;
    // What can be known before the report is told by it, and the machine stays.
    let none = stream.end_of(&last("w/1", &format!("{name}:v2"), &said)).await;
    assert!(
        matches!(&none, Outcome::Failed(failed) if failed.reason == "NoSuchImage"),
        "{none:?}"
    );
    leaves(&stream.end_of(&last("w/2", &format!("{name}:v1"), &said)).await);
    // The first of these is not the one that it waits for.
    stream.acknowledge(3).await;
    stream.run(&action("w/3", &format!("{name}:v1"))).await;
    // It has had the time: heartbeats are a second apart.
    for _ in 0..2 {
        while !matches!(stream.next().await, agent_message::Kind::Heartbeat(_)) {}
    }
    assert!(!said.join("it").exists());
    stream.acknowledge(4).await;
    stream.line("the last words").await;
    stream
        .line("the last action a succeeded, and the machine is still here: it reboots")
        .await;
    assert_eq!(agent.exit_code().await, Some(70));
    assert_eq!(fs::read_to_string(said.join("it")).expect("it"), "here\n");
}

#[tokio::test]
async fn a_worker_that_died_before_a_wrapped_image_ran_reboots_without_it() {
    let (folder, registry) = with_a_registry();
    registry.push_image();
    let said = open_to_all(folder.path());
    let image = format!("{}/tools/box:v1", registry.host);
    let (server, mut stream, agent) = attached(folder.path()).await;
    leaves(&stream.end_of(&last("w/1", &image, &said)).await);
    drop((agent, stream, server));
    let (_server, stream, mut agent) = attached(folder.path()).await;
    stream.acknowledge(2).await;
    assert_eq!(agent.exit_code().await, Some(70));
    assert!(!said.join("it").exists());
}
