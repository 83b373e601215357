//! A listener's connections.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;

use crate::places::{Full, Place, Places, peer_of};
use crate::{Connection, Said};

/// What the peers of a listener may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections of one address (of one /64 with IPv6).
    pub per_peer: usize,
    /// Connections of one address of this host itself.
    pub per_loopback: usize,
    /// Connections of all.
    pub in_all: usize,
    /// Until the first 24 bytes have come: as many as HTTP/2 begins with (RFC 9113 section 3.4), and every TLS and HTTP/1.1 client
    /// sends more.
    pub speaks_within: Duration,
    /// For as long as this a peer may take nothing of what is sent to it.
    pub reads_within: Duration,
}

/// Connections as they come, each in its place.
#[derive(Debug)]
pub struct Incoming {
    name: &'static str,
    listener: TcpListener,
    bounds: Bounds,
    places: Places<IpAddr>,
    pause: Option<Pin<Box<Sleep>>>,
    refused: Said,
    failed: Said,
}

/// Between two tries when the process can take no connection.
const PAUSE: Duration = Duration::from_millis(100);

impl Incoming {
    /// `name` is what the listener is called in the log.
    pub fn new(name: &'static str, listener: TcpListener, bounds: Bounds) -> Self {
        Self {
            name,
            listener,
            bounds,
            places: Places::new(bounds.in_all),
            pause: None,
            refused: Said::default(),
            failed: Said::default(),
        }
    }

    /// The next connection, with Nagle's algorithm off. Cancel safe.
    pub async fn accept(&mut self) -> Connection {
        poll_fn(|task| self.poll_accept(task)).await
    }

    /// As [`Incoming::accept`].
    pub fn poll_accept(&mut self, task: &mut Context<'_>) -> Poll<Connection> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(task));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(task)) {
                Ok((stream, peer)) => match self.place(peer) {
                    Ok(place) => return Poll::Ready(self.connection(stream, peer, place)),
                    // It is closed here: nobody waits in a queue that somebody else has filled.
                    Err(full) => self.say_refused(peer, full),
                },
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    self.say_failed(&error);
                    self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                }
            }
        }
    }

    fn place(&self, peer: SocketAddr) -> Result<Place<IpAddr>, Full> {
        let peer = peer_of(peer.ip());
        let most = if peer.is_loopback() {
            self.bounds.per_loopback
        } else {
            self.bounds.per_peer
        };
        self.places.take(peer, most)
    }

    fn connection(&self, stream: TcpStream, peer: SocketAddr, place: Place<IpAddr>) -> Connection {
        // A socket that does not take it is none of TCP, or gone.
        let _ = stream.set_nodelay(true);
        Connection::new(stream, peer, place, &self.bounds)
    }

    fn say_refused(&mut self, peer: SocketAddr, full: Full) {
        if let Some(unsaid) = self.refused.now() {
            let why = match full {
                Full::Holder(most) => {
                    format!("this address has {most} already, which is as many as one may have")
                }
                Full::All(most) => {
                    format!("there are {most} already, which is as many as all together may have")
                }
            };
            tracing::warn!(
                listener = self.name,
                peer = %peer.ip(),
                unsaid,
                "a connection is refused: {why}; look at what holds them (`ss -tnp`)"
            );
        }
    }

    fn say_failed(&mut self, error: &io::Error) {
        if let Some(unsaid) = self.failed.now() {
            tracing::warn!(
                listener = self.name,
                error = error as &dyn std::error::Error,
                unsaid,
                "no connection can be taken now; it is tried again every {PAUSE:?}. Where files are too many, give the server more of \
                 them (`LimitNOFILE=` of its unit, `ulimit -n`)"
            );
        }
    }
}

/// Its peer has gone before it was taken (accept(2), "Error handling"). Others wait behind it.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
