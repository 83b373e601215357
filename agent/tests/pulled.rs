//! Actions that are images of a registry, Debian's, by the real agent as a process. As root.

mod debian;
mod fake;

use std::path::Path;

use debian::Registry;
use fake::{Agent, FakeServer, Stream};
use proto::v1::report::Outcome;
use proto::v1::{self, RunAction};

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

async fn attached(folder: &Path) -> (FakeServer, Stream, Agent) {
    let mut server = FakeServer::start().await;
    let agent = Agent::start(&server, folder);
    let (stream, _) = server.accept().await;
    stream.welcome_of(5).await;
    (server, stream, agent)
}

#[tokio::test]
async fn an_image_is_pulled_once_and_runs_as_it_says() {
    let folder = tempfile::Builder::new()
        .prefix("runtime.")
        .tempdir()
        .expect("folder");
    let registry = Registry::start(folder.path());
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
