//! Accepts connections and serves a router on them.

use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use connections::{Bounds, Connection, Incoming};
use hyper::body;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Serves until `shutdown` is cancelled, then gives what is being sent a moment to finish.
pub(crate) async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    accept_all(listener, router, shutdown, BOUNDS).await;
}

async fn accept_all(listener: TcpListener, router: Router, shutdown: CancellationToken, bounds: Bounds) {
    let mut incoming = Incoming::new("HTTP", listener, bounds);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = incoming.accept() => accepted,
        };
        let (router, shutdown) = (router.clone(), shutdown.clone());
        connections.spawn(connection(accepted, router, shutdown, bounds.speaks_within));
    }
    drop(incoming);
    connections.close();
    connections.wait().await;
}

async fn connection(
    accepted: Connection,
    router: Router,
    shutdown: CancellationToken,
    header_timeout: Duration,
) {
    limit(accepted.stream());
    let peer = accepted.peer();
    let service = tower::service_fn(move |request: Request<body::Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    // HTTP/1 and nothing else: a builder that tells versions apart waits for the first bytes without a limit.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        // Of a body no more is read ahead than one chunk: who takes nothing costs no more than that.
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(accepted), TowerToHyperService::new(service));
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    // Broken off here, a download is resumed by its client.
    let _ = tokio::time::timeout(GRACE, connection).await;
}

/// A peer that is gone does not hold its connection for ever.
fn limit(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_user_timeout(Some(BOUNDS.reads_within));
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(BOUNDS.reads_within));
}

/// A machine has one or two connections at a time; behind a proxy there may be a rack.
const BOUNDS: Bounds = Bounds {
    per_peer: 256,
    per_loopback: 1024,
    in_all: 8192,
    // Also until a request's head is complete, the next one's of the same connection too.
    speaks_within: Duration::from_secs(30),
    // A machine that writes its disk may take nothing for a while.
    reads_within: Duration::from_secs(120),
};
/// Of a request's head. iPXE and the agent send a few hundred bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_begins_a_request_and_waits_is_hung_up_on() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "here" }));
        let bounds = Bounds {
            speaks_within: Duration::from_millis(100),
            ..BOUNDS
        };
        let serving = tokio::spawn(accept_all(listener, router, shutdown.clone(), bounds));
        for beginning in [
            "",
            "P",
            "PRI * HTTP/2.0\r\n",
            "GET / HT",
            "GET / HTTP/1.1\r\nA: b\r\n",
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(beginning.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let hung_up = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
            assert!(hung_up.await.is_ok(), "{beginning:?} holds its connection");
        }
        shutdown.cancel();
        serving.await.unwrap();
    }
    #[tokio::test]
    async fn one_address_has_so_many_connections_and_others_are_served() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "here" }));
        let bounds = Bounds {
            per_loopback: 2,
            ..BOUNDS
        };
        let serving = tokio::spawn(accept_all(listener, router, shutdown.clone(), bounds));
        let ask = async |from: &str| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(from.parse().unwrap()).unwrap();
            let mut stream = socket.connect(address).await.unwrap();
            let mut answer = [0; 8192];
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: farrier\r\n\r\n").await;
            let len = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut answer)).await;
            let len = len.unwrap().unwrap_or(0);
            (stream, answer[..len].starts_with(b"HTTP/1.1 200"))
        };
        let (first, is_served) = ask("127.0.0.2:0").await;
        assert!(is_served);
        let (_second, is_served) = ask("127.0.0.2:0").await;
        assert!(is_served);
        assert!(!ask("127.0.0.2:0").await.1, "a third of one address");
        assert!(ask("127.0.0.3:0").await.1, "another's first");
        drop(first);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !ask("127.0.0.2:0").await.1 {
            assert!(
                std::time::Instant::now() < deadline,
                "its place is not free again"
            );
        }
        shutdown.cancel();
        serving.await.unwrap();
    }
}
