//! Whoever takes more than one may is told so, and the others are served.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use connections::Bounds;
use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::put_data_request::Kind;
use proto::v1::{AgentMessage, DataAccess, DataChunk, DataFile, ListTemplatesRequest, PutDataRequest};
use server::{Config, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::harness::*;

async fn connect(from: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("socket");
    let from = Ipv4Addr::new(127, 0, 0, from);
    socket.bind(SocketAddr::from((from, 0))).expect("bind");
    socket.connect(to).await.expect("connect")
}

/// Waits until the other side has closed it.
async fn closed(mut stream: TcpStream) -> Duration {
    let began = Instant::now();
    let mut all = Vec::new();
    let read = tokio::time::timeout(WITHIN, stream.read_to_end(&mut all)).await;
    assert!(read.is_ok(), "it is still open");
    began.elapsed()
}

/// A silent client is not hung up on meanwhile.
fn few() -> Bounds {
    Bounds {
        per_loopback: 2,
        speaks_within: WITHIN,
        ..Limits::default().agents
    }
}

async fn limited(change: impl FnOnce(&mut Limits)) -> (Server, tempfile::TempDir) {
    let mut limits = Limits::default();
    change(&mut limits);
    let config = Config {
        limits,
        ..Config::default()
    };
    Server::with_machine_and(config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_connections_to_the_service_of_agents() {
    let (server, _dir) = limited(|limits| limits.agents = few()).await;
    let _held = [connect(2, server.address).await, connect(2, server.address).await];
    closed(connect(2, server.address).await).await;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    agent.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_connections_to_the_api_for_people() {
    let (server, _dir) = limited(|limits| limits.people = few()).await;
    let _held = [connect(2, server.api).await, connect(2, server.api).await];
    closed(connect(2, server.api).await).await;
    let mut client = server.client().await;
    assert!(
        client
            .list_templates(ListTemplatesRequest::default())
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_handshake_that_does_not_go_on_is_given_up() {
    let (server, _dir) = limited(|limits| limits.people = few()).await;
    let mut client = connect(2, server.api).await;
    // A record of a handshake that says it is 512 bytes long (RFC 8446 section 5.1), and little of it.
    let mut begun = vec![22, 3, 1, 2, 0, 1];
    begun.resize(100, 0);
    client.write_all(&begun).await.expect("written");
    let within = closed(client).await;
    assert!(within < Duration::from_secs(15), "{within:?}");
}

async fn agents(server: &Server, from: u8) -> AgentServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).expect("address");
    let endpoint = endpoint.local_address(Some(Ipv4Addr::new(127, 0, 0, from).into()));
    AgentServiceClient::new(endpoint.connect().await.expect("connect"))
}

/// A stream that says nothing.
async fn silent(server: &Server, from: u8) -> (mpsc::Sender<AgentMessage>, Result<(), Status>) {
    let (to, messages) = mpsc::channel(1);
    let mut client = agents(server, from).await;
    let answer = client.attach(ReceiverStream::new(messages));
    match tokio::time::timeout(Duration::from_millis(500), answer).await {
        Ok(answer) => (to, answer.map(drop)),
        Err(_) => (to, Ok(())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_say_no_hello_are_few_for_one_address_and_for_all() {
    let (server, _dir) = limited(|limits| {
        limits.unspoken_per_loopback = 2;
        limits.unspoken = 4;
    })
    .await;
    // The stream is asked for as long as its future is held: each is kept waiting in a task of its own.
    let mut held = tokio::task::JoinSet::new();
    for from in [2, 2] {
        let mut client = agents(&server, from).await;
        held.spawn(async move {
            let (_to, messages) = mpsc::channel::<AgentMessage>(1);
            client.attach(ReceiverStream::new(messages)).await.map(drop)
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (_to, third) = silent(&server, 2).await;
    let status = third.expect_err("a third of one address");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let want = "too many streams of 127.0.0.2 have not said Hello: it has 2 already, and one may have 2";
    assert!(status.message().starts_with(want), "{status}");
    for from in [3, 3] {
        let mut client = agents(&server, from).await;
        held.spawn(async move {
            let (_to, messages) = mpsc::channel::<AgentMessage>(1);
            client.attach(ReceiverStream::new(messages)).await.map(drop)
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (_to, fifth) = silent(&server, 4).await;
    let status = fifth.expect_err("a fifth of all");
    assert!(status.message().contains("all together may have 4"), "{status}");
    // Broken off, they are no streams any more.
    held.shutdown().await;
    let deadline = Instant::now() + WITHIN;
    while let Err(status) = server.attach(hello("k1")).await {
        assert!(Instant::now() < deadline, "{status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_hello_ends() {
    let (server, _dir) = limited(|limits| limits.hello_within = Duration::from_millis(100)).await;
    let (_to, answer) = silent(&server, 2).await;
    assert_eq!(answer.expect_err("ended").code(), Code::DeadlineExceeded);
}

fn chunk(content: &[u8]) -> Kind {
    let file = DataFile {
        path: "x".into(),
        size_bytes: content.len() as u64,
        sha256: ephemeral::Digest::of(content).to_string(),
        ..DataFile::default()
    };
    Kind::Chunk(DataChunk {
        file: Some(file),
        content: content.to_vec(),
    })
}

async fn bring(server: &Server, access: &DataAccess, content: &[u8]) -> Result<(), Status> {
    let messages = [Kind::Access(access.clone()), chunk(content)];
    let messages = messages.map(|kind| PutDataRequest { kind: Some(kind) });
    let mut client = agents(server, 1).await;
    client.put_data(tokio_stream::iter(messages)).await.map(drop)
}

/// An attempt that runs, and who may bring data for it.
async fn at_work(server: &Server) -> (Agent, DataAccess) {
    let token = server.control.boot_token(MAC.parse().expect("MAC"), "boot");
    let mut hello = hello("k1");
    hello.boot_token = token.await.expect("token");
    server.create("two", MAC).await.expect("workflow");
    let mut agent = server.attach(hello.clone()).await.expect("attach");
    let run = agent.run().await;
    let access = DataAccess {
        mac: MAC.into(),
        boot_id: "k1".into(),
        boot_token: hello.boot_token,
        attempt_id: run.attempt_id,
        ..DataAccess::default()
    };
    (agent, access)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_brought_before_a_report_is_bounded_and_the_report_is_taken() {
    let (server, _dir) = limited(|limits| {
        limits.data_bytes = 1_000;
        limits.data_files = 3;
    })
    .await;
    let (mut agent, access) = at_work(&server).await;
    for content in [[1; 400], [2; 400]] {
        bring(&server, &access, &content).await.expect("stored");
    }
    let status = bring(&server, &access, &[3; 400]).await.expect_err("too much");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let want = "machine \"node1\" has brought more than 1000 B in 3 files for attempt";
    assert!(status.message().starts_with(want), "{status}");
    agent.report(&access.attempt_id, started()).await;
    agent.report(&access.attempt_id, succeeded()).await;
    // The next attempt begins anew.
    let next = agent.run().await.attempt_id;
    let access = DataAccess {
        attempt_id: next,
        ..access
    };
    for content in [&b"a"[..], b"b", b"c"] {
        bring(&server, &access, content).await.expect("stored");
    }
    let status = bring(&server, &access, b"d").await.expect_err("too many");
    assert_eq!(status.code(), Code::ResourceExhausted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_moves_data_in_few_calls_at_a_time_and_in_a_bounded_time() {
    let (server, _dir) = limited(|limits| limits.data_within = Duration::from_secs(2)).await;
    let (_agent, access) = at_work(&server).await;
    let mut held = Vec::new();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (to, messages) = mpsc::channel(1);
        let access = Kind::Access(access.clone());
        to.send(PutDataRequest { kind: Some(access) })
            .await
            .expect("open");
        held.push(to);
        let mut client = agents(&server, 1).await;
        calls.spawn(async move { client.put_data(ReceiverStream::new(messages)).await.map(drop) });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let status = bring(&server, &access, b"x").await.expect_err("a third");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status
            .message()
            .contains("it has 2 calls for data under way already"),
        "{status}"
    );
    for call in calls.join_all().await {
        let status = call.expect_err("it never ends by itself");
        assert!(status.message().contains("have not come within 2s"), "{status}");
    }
    bring(&server, &access, b"x").await.expect("there is room again");
}
