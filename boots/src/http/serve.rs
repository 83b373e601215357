//! Accepts connections and serves a router on them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Serves until `shutdown` is cancelled, then gives what is being sent a moment to finish.
pub(crate) async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    accept_all(listener, router, shutdown, HEADER_TIMEOUT).await;
}

async fn accept_all(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    header_timeout: Duration,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                connections.spawn(async move {
                    connection(stream, peer, router, shutdown, header_timeout).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "http: accepting failed");
                // Out of file descriptors: not to spin until some are free.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

type Permit = tokio::sync::OwnedSemaphorePermit;

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, Permit)> {
    let permit = room
        .clone()
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    shutdown: CancellationToken,
    header_timeout: Duration,
) {
    limit(&stream);
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    // HTTP/1 and nothing else: a builder that tells versions apart waits for the first bytes without a limit.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    // Broken off here, a download is resumed by its client.
    let _ = tokio::time::timeout(GRACE, connection).await;
}

/// A peer that is gone or takes nothing any more does not hold its connection for ever.
fn limit(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_user_timeout(Some(STALL_TIMEOUT));
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(STALL_TIMEOUT));
}

const MAX_CONNECTIONS: usize = 8192;
/// Until a request's head is complete, also on a connection that is kept for the next one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A machine that writes its disk may take nothing for a while.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_begins_a_request_and_waits_is_hung_up_on() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "here" }));
        let within = Duration::from_millis(100);
        let serving = tokio::spawn(accept_all(listener, router, shutdown.clone(), within));
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
}
