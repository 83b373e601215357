//! Programs that follow the events of all workflows: each event once and in order, wherever they break off.

use std::sync::Arc;
use std::time::Duration;

use coordinator::order::trim::Kept;
use futures_util::{StreamExt, TryStreamExt};
use proto::v1::{
    CreateWorkflowRequest, DeleteTokenRequest, FollowEventsRequest, FollowedEvent, LabelWorkflowRequest,
};
use server::{Config, Limits};
use store::{MemoryStore, Store, StoreHandle};
use tempfile::TempDir;
use tonic::{Code, Status, Streaming};

use crate::archive::ended;
use crate::harness::*;

const DAY_MS: u64 = 24 * 3_600_000;
/// Ends by itself.
const SHORT: &str = "version: '1'\nname: short\nlabels: {rack: r7}\ntasks: [{name: only, succeed: {}}]\n";
const OTHER: &str = "version: '1'\nname: other\nlabels: {rack: r8}\ntasks: [{name: only, fail: {reason: Why, message: no}}]\n";
const PARENT: &str = "version: '1'\nname: parent\ntasks: [{name: inner, workflow: short}]\n";

fn since(token: &str) -> FollowEventsRequest {
    FollowEventsRequest {
        since: token.into(),
        ..FollowEventsRequest::default()
    }
}

async fn opened(
    client: &mut Client,
    request: FollowEventsRequest,
) -> Result<Streaming<FollowedEvent>, Status> {
    Ok(client.follow_events(request).await?.into_inner())
}

/// All that is told up to now, without those that say that there is nothing.
async fn told(server: &Server, request: FollowEventsRequest) -> Vec<FollowedEvent> {
    let stream = opened(&mut server.client().await, request)
        .await
        .expect("a stream");
    let all: Vec<FollowedEvent> = stream.try_collect().await.expect("a whole answer");
    all.into_iter().filter(|told| !told.workflow.is_empty()).collect()
}

/// The next event.
async fn next(stream: &mut Streaming<FollowedEvent>) -> FollowedEvent {
    loop {
        let next = tokio::time::timeout(WITHIN, stream.message())
            .await
            .expect("in time");
        let next = next.expect("an open stream").expect("more");
        if !next.workflow.is_empty() {
            return next;
        }
    }
}

/// `id/number kind`.
fn word(told: &FollowedEvent) -> String {
    let event = told.event.as_ref().expect("an event");
    format!("{}/{} {}", told.workflow, event.number, event.kind)
}

fn words(all: &[FollowedEvent]) -> Vec<String> {
    all.iter().map(word).collect()
}

/// As they stand in the workflow itself.
async fn history(server: &Server, id: &str) -> Vec<String> {
    let history = server.history(id).await.into_iter();
    history
        .map(|event| format!("{id}/{} {}", event.number, event.kind))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_once_and_in_order_over_restarts_of_the_server() {
    let (server, dir) = Server::with_machine().await;
    let mut stream = opened(
        &mut server.client().await,
        FollowEventsRequest {
            follow: true,
            ..since("")
        },
    )
    .await
    .expect("a stream");
    // Before anything happens there is a token.
    let begin = stream.message().await.expect("open").expect("a token");
    assert_eq!((begin.workflow.as_str(), begin.event), ("", None));
    let first = server.create("two", MAC).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let write = agent.run().await;
    agent.report(&write.attempt_id, started()).await;
    agent.acknowledged().await;
    let mut taken = Vec::new();
    // It breaks off in the middle of what a commit wrote.
    while taken.len() < 2 {
        taken.push(next(&mut stream).await);
    }
    drop(stream);
    server.stop().await;

    let server = Server::start(&dir, Config::default()).await;
    let mut stream = opened(
        &mut server.client().await,
        FollowEventsRequest {
            follow: true,
            ..since(&taken[1].token)
        },
    )
    .await
    .expect("a stream");
    let second = server.create_of(SHORT).await.id;
    let mut again = hello("k1");
    again.unacknowledged = vec![report(2, &write.attempt_id, succeeded())];
    again.boot_token = server
        .control
        .boot_token(MAC.parse().expect("MAC"), "boot of k1")
        .await
        .expect("token");
    let mut agent = server.attach(again).await.expect("attach");
    let restart = agent.run().await;
    agent.report(&restart.attempt_id, leaving()).await;
    server.reaches(&first, "SUCCESS").await;
    server.reaches(&second, "SUCCESS").await;
    let mut want = history(&server, &first).await;
    let of_second = history(&server, &second).await;
    while taken.len() < want.len() + of_second.len() {
        taken.push(next(&mut stream).await);
    }
    // Each in its own order, none twice and none left out.
    let of = |id: &str| -> Vec<String> {
        words(&taken)
            .into_iter()
            .filter(|word| word.starts_with(id))
            .collect()
    };
    assert_eq!((of(&first), of(&second)), (want.clone(), of_second.clone()));
    // From any token the rest is the same again.
    let all = words(&taken);
    for (n, told_before) in taken.iter().enumerate() {
        assert_eq!(
            words(&told(&server, since(&told_before.token)).await),
            all[n + 1..]
        );
    }
    assert_eq!(words(&told(&server, since(&begin.token)).await), all);
    want.extend(of_second);
    assert_eq!(told(&server, since("oldest")).await.len(), want.len());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_archived_is_told_and_what_is_deleted_is_named() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let config = Config {
        archive_after: Duration::from_secs(1),
        ..Config::default()
    };
    let server = Server::over(StoreHandle::shared(store.clone()), config).await;
    server.put(SHORT).await.expect("template");
    let id = server.create_of(PARENT).await.id;
    let done = server.reaches(&id, "SUCCESS").await;
    let child = done.tasks[0].executions[0].child.clone();
    let before = told(&server, since("oldest")).await;
    let archived = format!("archived/{id}");
    until("the archive", || {
        store.get(archived.as_bytes()).expect("readable").is_some()
    })
    .await;
    let after = told(&server, since("oldest")).await;
    assert_eq!(before, after);
    assert!(after.iter().all(|told| told.root == id), "{after:?}");
    // By the root, and by what is below it.
    let of = async |id: &str| {
        let request = FollowEventsRequest {
            workflow: id.to_owned(),
            ..since("oldest")
        };
        words(&told(&server, request).await)
    };
    assert_eq!(of(&id).await, words(&after));
    assert_eq!(of(&child).await, history(&server, &child).await);
    server.delete(&id).await.expect("deleted");
    let gone = told(&server, since("oldest")).await;
    assert_eq!(words(&gone), words(&after));
    assert!(
        gone.iter().all(|told| told.deleted && told.name.is_empty()),
        "{gone:?}"
    );
    // Nobody knows any more which labels it had.
    let labelled = FollowEventsRequest {
        selector: "rack=r7".into(),
        ..since("oldest")
    };
    assert!(told(&server, labelled).await.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_any_more_is_said() {
    let dir = TempDir::new().expect("directory");
    let config = Config {
        keep_events: Kept {
            for_ms: 3_000,
            rows: 1_000,
        },
        ..Config::default()
    };
    let server = Server::start(&dir, config).await;
    let id = server.create_of(SHORT).await.id;
    server.reaches(&id, "SUCCESS").await;
    let all = told(&server, since("oldest")).await;
    let (first, last) = (&all[0].token, &all.last().expect("some").token);
    let mut client = server.client().await;
    let deadline = std::time::Instant::now() + WITHIN;
    while !told(&server, since("oldest")).await.is_empty() {
        assert!(std::time::Instant::now() < deadline, "still kept");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let status = opened(&mut client, since(first)).await.expect_err("too old");
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(
        status
            .message()
            .contains("older than what is kept of the events (since "),
        "{status}"
    );
    // Who has seen all of it goes on.
    let next_one = server.create_of(SHORT).await.id;
    let more = told(&server, since(last)).await;
    assert!(more.iter().all(|told| told.workflow == next_one), "{more:?}");
    for (token, code, said) in [
        ("yesterday", Code::InvalidArgument, "\"yesterday\" is no token"),
        ("99999999", Code::OutOfRange, "was a backup put in place?"),
    ] {
        let status = opened(&mut client, since(token)).await.expect_err("refused");
        assert_eq!(status.code(), code);
        assert!(status.message().contains(said), "{status}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_wanted_is_told() {
    let (server, _dir) = Server::with_machine().await;
    server
        .apply("machine: node2\nmac: 52:54:00:77:00:0c\naddress: 10.77.0.12/24\n")
        .await
        .expect("machine");
    let short = server.create_of(SHORT).await.id;
    let failed_one = server.create_of(OTHER).await.id;
    server.reaches(&failed_one, "FAILED").await;
    let on_machine = ended(&server, failed(), "FAILED").await;
    let rolled = server
        .create_of(
            "version: '1'\nname: roll\ntasks: [{name: each, forEach: '[\"node1\", \"node2\"]', worker: '${{ item }}', actions: [{name: a, image: cexec}]}]\n",
        )
        .await
        .id;
    let of = async |request: FollowEventsRequest| {
        let request = FollowEventsRequest {
            since: "oldest".into(),
            ..request
        };
        words(&told(&server, request).await)
    };
    let kinds = of(FollowEventsRequest {
        kinds: vec!["ended".into(), "failed".into()],
        ..FollowEventsRequest::default()
    });
    let kinds = kinds.await;
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    assert!(
        kinds
            .iter()
            .all(|word| word.ends_with(" ended") || word.ends_with(" failed")),
        "{kinds:?}"
    );
    let rack = of(FollowEventsRequest {
        selector: "rack=r7".into(),
        ..FollowEventsRequest::default()
    });
    assert_eq!(rack.await, history(&server, &short).await);
    // By the labels that it has now.
    let change = LabelWorkflowRequest {
        id: failed_one.clone(),
        set: [("rack".to_owned(), "r7".to_owned())].into(),
        ..LabelWorkflowRequest::default()
    };
    server
        .client()
        .await
        .label_workflow(change)
        .await
        .expect("labelled");
    let both = of(FollowEventsRequest {
        selector: "rack=r7".into(),
        kinds: vec!["ended".into()],
        ..FollowEventsRequest::default()
    });
    assert_eq!(both.await.len(), 2);
    // On a machine: what is done there, and what its workflows are as a whole.
    for machine in ["node1", MAC, "10.77.0.11"] {
        let here = of(FollowEventsRequest {
            machine: machine.into(),
            ..FollowEventsRequest::default()
        });
        let here = here.await;
        let of_one: Vec<&String> = here.iter().filter(|word| word.starts_with(&on_machine)).collect();
        assert_eq!(of_one.len(), history(&server, &on_machine).await.len());
        let made = here
            .iter()
            .filter(|word| word.starts_with(&rolled) && word.ends_with("execution_made"));
        assert_eq!(made.count(), 1, "{here:?}");
        assert!(here.contains(&format!("{rolled}/1 created")), "{here:?}");
        assert!(!here.iter().any(|word| word.starts_with(&short)), "{here:?}");
    }
    let mut client = server.client().await;
    for (request, code, said) in [
        (
            FollowEventsRequest {
                kinds: vec!["endet".into()],
                ..since("")
            },
            Code::InvalidArgument,
            "did you mean \"ended\"?",
        ),
        (
            FollowEventsRequest {
                selector: "rack in".into(),
                ..since("")
            },
            Code::InvalidArgument,
            "a selector is labels",
        ),
        (
            FollowEventsRequest {
                machine: "node9".into(),
                ..since("")
            },
            Code::NotFound,
            "node9",
        ),
    ] {
        let status = opened(&mut client, request).await.expect_err("refused");
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(said), "{status}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sees_what_its_namespaces_have() {
    let (server, _dir) = Server::with_machine().await;
    server.namespace("blue").await;
    let mine = server.create_of(SHORT).await.id;
    let request = CreateWorkflowRequest {
        text: SHORT.into(),
        namespace: "blue".into(),
        ..CreateWorkflowRequest::default()
    };
    let theirs = server.make(request).await.expect("workflow").id;
    for id in [&mine, &theirs] {
        server.reaches(id, "SUCCESS").await;
    }
    let mut bob = server.scoped("bob", "viewer", &["blue"]).await;
    let of = |namespace: &str, all: bool| FollowEventsRequest {
        namespace: namespace.into(),
        all_namespaces: all,
        ..since("oldest")
    };
    let roots = async |client: &mut Client, request: FollowEventsRequest| {
        let all = opened(client, request)
            .await
            .expect("a stream")
            .try_collect::<Vec<_>>()
            .await
            .expect("whole");
        let mut roots: Vec<String> = all
            .into_iter()
            .map(|told| told.root)
            .filter(|root| !root.is_empty())
            .collect();
        roots.dedup();
        roots
    };
    let mut admin = server.client().await;
    assert_eq!(roots(&mut admin, of("", false)).await, [mine.as_str()]);
    assert_eq!(roots(&mut admin, of("blue", false)).await, [theirs.as_str()]);
    assert_eq!(
        roots(&mut admin, of("", true)).await,
        [mine.as_str(), theirs.as_str()]
    );
    assert_eq!(roots(&mut bob, of("blue", false)).await, [theirs.as_str()]);
    assert_eq!(roots(&mut bob, of("", true)).await, [theirs.as_str()]);
    server.stop().await;
}

fn limited(limits: Limits) -> Config {
    Config {
        limits,
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_is_cut_off_and_goes_on_later() {
    let dir = TempDir::new().expect("directory");
    let config = limited(Limits {
        follower_takes_within: Duration::from_millis(300),
        ..Limits::default()
    });
    let server = Server::start(&dir, config).await;
    // More than a connection holds on its way.
    let text: String = (0..40)
        .map(|n| format!("  - {{name: t{n}, set: {{v: '\"{}\"'}}}}\n", "x".repeat(950)))
        .collect();
    let text = format!("version: '1'\nname: long\ntasks:\n{text}");
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(server.create_of(&text).await.id);
    }
    for id in &ids {
        server.reaches(id, "SUCCESS").await;
    }
    let request = FollowEventsRequest {
        follow: true,
        ..since("oldest")
    };
    let mut stream = opened(&mut server.client().await, request)
        .await
        .expect("a stream");
    let mut taken = vec![next(&mut stream).await];
    tokio::time::sleep(Duration::from_secs(2)).await;
    let status = loop {
        match stream.next().await.expect("a status") {
            Ok(told) => taken.push(told),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(
        status.message().contains("nothing of the events was taken for"),
        "{status}"
    );
    let all = words(&told(&server, since("oldest")).await);
    assert!(taken.len() < all.len(), "it was not cut off");
    let rest = told(&server, since(&taken.last().expect("some").token)).await;
    assert_eq!([words(&taken), words(&rest)].concat(), all);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_token_are_few_and_end_with_it() {
    let dir = TempDir::new().expect("directory");
    let config = limited(Limits {
        followers_per_token: 2,
        follower_heartbeat: Duration::from_millis(100),
        ..Limits::default()
    });
    let server = Server::start(&dir, config).await;
    let mut ann = server.person("ann", &[], "viewer").await;
    let request = || FollowEventsRequest {
        follow: true,
        ..since("")
    };
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = opened(&mut ann, request()).await.expect("a stream");
        stream.message().await.expect("open").expect("a token");
        streams.push(stream);
    }
    let mut third = opened(&mut ann, request()).await.expect("a stream");
    let status = third.message().await.expect_err("one too many");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(
        status.message().contains("too many streams of events"),
        "{status}"
    );
    // Others have their own.
    let mut other = opened(&mut server.client().await, request())
        .await
        .expect("a stream");
    other.message().await.expect("open").expect("a token");
    drop(streams.pop());
    let deadline = std::time::Instant::now() + WITHIN;
    loop {
        let mut stream = opened(&mut ann, request()).await.expect("a stream");
        if stream.message().await.is_ok() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "its place is not free");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let name = "ann".to_owned();
    server
        .client()
        .await
        .delete_token(DeleteTokenRequest {
            name,
            ..DeleteTokenRequest::default()
        })
        .await
        .expect("deleted");
    let mut left = streams.pop().expect("the first");
    let ends = async {
        loop {
            if let Err(status) = left.message().await {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(WITHIN, ends).await.expect("an end");
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    // That of a token that is still good goes on.
    assert!(other.message().await.expect("open").is_some());
    server.stop().await;
}

/// How long is kept by default is said in the documentation.
#[test]
fn seven_days_are_kept() {
    assert_eq!(Kept::default().for_ms, 7 * DAY_MS);
}
