//! Listeners on loopback, and peers that take more than they may.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use connections::{Bounds, Connection, Incoming};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const WITHIN: Duration = Duration::from_secs(20);
const BOUNDS: Bounds = Bounds {
    per_peer: 1,
    per_loopback: 2,
    in_all: 3,
    speaks_within: WITHIN,
    reads_within: WITHIN,
};

async fn listen(bounds: Bounds) -> (Incoming, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (Incoming::new("a listener", listener, bounds), address)
}

async fn connect(from: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0)))
        .unwrap();
    socket.connect(to).await.unwrap()
}

/// A connection that comes within a short time.
async fn taken(incoming: &mut Incoming) -> Option<Connection> {
    tokio::time::timeout(Duration::from_millis(300), incoming.accept())
        .await
        .ok()
}

/// True: the other side has closed it.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    let read = tokio::time::timeout(WITHIN, stream.read(&mut byte)).await;
    !matches!(read.unwrap(), Ok(1))
}

#[tokio::test]
async fn one_peer_has_so_many_and_others_are_served() {
    let (mut incoming, address) = listen(BOUNDS).await;
    let mut held = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(connect(2, address).await);
        held.push(taken(&mut incoming).await.unwrap());
    }
    let mut third = connect(2, address).await;
    assert!(taken(&mut incoming).await.is_none());
    assert!(is_closed(&mut third).await, "a third of one peer");
    let _other = connect(3, address).await;
    held.push(taken(&mut incoming).await.unwrap());
    let mut beyond = connect(4, address).await;
    assert!(taken(&mut incoming).await.is_none());
    assert!(is_closed(&mut beyond).await, "a fourth of all");
    // A place is free again however its connection ended.
    let task = tokio::spawn({
        let connection = held.remove(0);
        async move {
            let _connection = connection;
            panic!("a defect, made for the test");
        }
    });
    assert!(task.await.is_err());
    let _again = connect(2, address).await;
    assert!(taken(&mut incoming).await.is_some());
}

#[tokio::test]
async fn a_peer_that_says_nothing_or_little_is_hung_up_on() {
    let speaks_within = Duration::from_millis(200);
    let (mut incoming, address) = listen(Bounds {
        speaks_within,
        ..BOUNDS
    })
    .await;
    for said in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        let mut client = connect(2, address).await;
        client.write_all(said).await.unwrap();
        let mut connection = taken(&mut incoming).await.unwrap();
        let mut all = Vec::new();
        let read = tokio::time::timeout(WITHIN, connection.read_to_end(&mut all)).await;
        let error = read.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "its peer has connected and said nothing");
    }
    let mut client = connect(2, address).await;
    client
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut connection = taken(&mut incoming).await.unwrap();
    let mut all = Vec::new();
    let read = tokio::time::timeout(2 * speaks_within, connection.read_to_end(&mut all)).await;
    assert!(read.is_err(), "it has spoken, and may be silent now");
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_hung_up_on_and_a_slow_one_is_not() {
    let reads_within = Duration::from_millis(400);
    let (mut incoming, address) = listen(Bounds {
        reads_within,
        ..BOUNDS
    })
    .await;
    let much = vec![0; 64 << 20];
    let _client = connect(2, address).await;
    let mut connection = taken(&mut incoming).await.unwrap();
    let began = Instant::now();
    let written = tokio::time::timeout(WITHIN, connection.write_all(&much)).await;
    let error = written.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "its peer has taken nothing for 400ms");
    assert!(began.elapsed() >= reads_within);
    drop(connection);

    let mut slow = connect(3, address).await;
    let mut connection = taken(&mut incoming).await.unwrap();
    let writing = tokio::spawn(async move { connection.write_all(&much).await });
    let mut piece = vec![0; 1 << 20];
    let mut left: usize = 64 << 20;
    while left > 0 {
        left -= slow.read(&mut piece).await.unwrap();
        if left.is_multiple_of(16) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    writing.await.unwrap().unwrap();
}
