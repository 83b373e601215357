//! One transfer's shell: its own port, its content, its clock.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::socket::{MsgFlags, recv};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::packet::{self, ErrorCode};
use super::terms::Terms;
use super::transfer::{Action, End, Transfer, wire_number};

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file that exists only in memory.
    Bytes(Arc<[u8]>),
    /// A file on disk, read window by window.
    File { file: Arc<File>, size_bytes: u64 },
}

impl Source {
    pub(crate) fn size_bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size_bytes, .. } => *size_bytes,
        }
    }

    /// Reads one window's worth: at most 64 × 1468 B.
    async fn read(&self, start: u64, len_bytes: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                let part = bytes.get(start..start.saturating_add(len_bytes));
                part.map(<[u8]>::to_vec)
                    .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
            Self::File { file, .. } => {
                let file = file.clone();
                let read = tokio::task::spawn_blocking(move || {
                    let mut part = vec![0; len_bytes];
                    file.read_exact_at(&mut part, start).map(|()| part)
                });
                read.await.map_err(io::Error::other)?
            }
        }
    }
}

/// How sending ended.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) ended: Ended,
    pub(crate) acknowledged_bytes: u64,
}

#[derive(Debug)]
pub(crate) enum Ended {
    /// As the protocol has it.
    Protocol(End),
    /// The client's host says that nobody listens there any more.
    ClientGone,
    /// The content could not be read.
    Unreadable(io::Error),
    /// The same client asked anew, or the server stops.
    Superseded,
}

/// Opens the port that a transfer comes from: fresh, on the address that the request came to (RFC 1350 section 4).
pub(crate) async fn open_port(local: Ipv4Addr, client: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::from((local, 0))).await?;
    socket.connect(SocketAddr::V4(client)).await?;
    Ok(socket)
}

/// Sends an ERROR from a fresh port.
pub(crate) async fn refuse(local: Ipv4Addr, client: SocketAddrV4, code: ErrorCode, message: &str) {
    if let Ok(socket) = open_port(local, client).await {
        let _ = socket.send(&packet::error(code, message)).await;
    }
}

/// Sends `source` until the transfer is over. `heard` is called for every datagram from the client.
pub(crate) async fn send(
    socket: &UdpSocket,
    source: &Source,
    terms: Terms,
    superseded: &CancellationToken,
    heard: impl Fn(),
) -> Report {
    let (mut transfer, mut actions) = Transfer::start(Instant::now(), terms, source.size_bytes());
    let mut buffer = [0; 600];
    loop {
        let ended = match perform(socket, source, &transfer, actions).await {
            Ok(None) => None,
            Ok(Some(end)) => Some(Ended::Protocol(end)),
            Err(ended) => Some(ended),
        };
        if let Some(ended) = ended {
            return Report {
                ended,
                acknowledged_bytes: transfer.acknowledged_bytes(),
            };
        }
        actions = tokio::select! {
            () = superseded.cancelled() => {
                let ended = already_ended(socket, &mut transfer).map_or(Ended::Superseded, Ended::Protocol);
                return Report { ended, acknowledged_bytes: transfer.acknowledged_bytes() };
            }
            received = socket.recv(&mut buffer) => match received {
                Ok(len_bytes) => {
                    heard();
                    transfer.on_packet(Instant::now(), buffer.get(..len_bytes).unwrap_or_default())
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    let acknowledged_bytes = transfer.acknowledged_bytes();
                    return Report { ended: Ended::ClientGone, acknowledged_bytes };
                }
                // Whatever else the network says may pass; the deadline decides.
                Err(_) => Vec::new(),
            },
            () = tokio::time::sleep_until(transfer.deadline().into()) => transfer.on_deadline(Instant::now()),
        };
    }
}

/// How the transfer has ended by what the client sent before it asked anew: a ROM with one port for everything
/// acknowledges the last block and asks for the next file at once, and these two are read from different sockets.
fn already_ended(socket: &UdpSocket, transfer: &mut Transfer) -> Option<End> {
    let mut buffer = [0; 600];
    // The kernel is asked itself: tokio may not know yet that there is something to read.
    while let Ok(len_bytes) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
        let actions = transfer.on_packet(Instant::now(), buffer.get(..len_bytes).unwrap_or_default());
        let end = actions.into_iter().find_map(|action| match action {
            Action::End(end) => Some(end),
            Action::SendOack | Action::SendBlocks { .. } => None,
        });
        if end.is_some() {
            return end;
        }
    }
    None
}

async fn perform(
    socket: &UdpSocket,
    source: &Source,
    transfer: &Transfer,
    actions: Vec<Action>,
) -> Result<Option<End>, Ended> {
    for action in actions {
        match action {
            Action::End(end) => return Ok(Some(end)),
            Action::SendOack => transmit(socket, &packet::oack(&transfer.terms().accepted)).await?,
            Action::SendBlocks { first, count } => {
                if let Err(error) = send_blocks(socket, source, transfer, first, count).await? {
                    let sorry = packet::error(ErrorCode::NotDefined, "the file cannot be read");
                    transmit(socket, &sorry).await?;
                    return Err(Ended::Unreadable(error));
                }
            }
        }
    }
    Ok(None)
}

async fn send_blocks(
    socket: &UdpSocket,
    source: &Source,
    transfer: &Transfer,
    first: u64,
    count: u64,
) -> Result<io::Result<()>, Ended> {
    let (start, _) = transfer.span(first);
    let spans: Vec<(u64, usize)> = (first..first + count).map(|block| transfer.span(block)).collect();
    let window = match source
        .read(start, spans.iter().map(|(_, len_bytes)| len_bytes).sum())
        .await
    {
        Ok(window) => window,
        Err(error) => return Ok(Err(error)),
    };
    let mut rest = window.as_slice();
    let mut datagram = Vec::with_capacity(4 + usize::from(transfer.terms().block_bytes));
    for (block, (_, len_bytes)) in (first..).zip(spans) {
        let (content, after) = rest.split_at(len_bytes);
        rest = after;
        datagram.clear();
        datagram.extend_from_slice(&packet::data_header(wire_number(block)));
        datagram.extend_from_slice(content);
        transmit(socket, &datagram).await?;
    }
    Ok(Ok(()))
}

/// Sends; what the network loses or refuses for now is sent again at the deadline.
async fn transmit(socket: &UdpSocket, datagram: &[u8]) -> Result<(), Ended> {
    match socket.send(datagram).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Ended::ClientGone),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tftp::packet::Request;

    /// The last acknowledgement and the next request are both there before the transfer's task runs again.
    #[tokio::test]
    async fn a_transfer_that_was_acknowledged_before_the_client_asked_anew_is_complete() {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("client");
        let SocketAddr::V4(at) = client.local_addr().expect("address") else {
            panic!("IPv4")
        };
        for (acknowledged, complete) in [(1, true), (0, false)].repeat(10) {
            let socket = open_port(Ipv4Addr::LOCALHOST, at).await.expect("port");
            let source = Source::Bytes(Arc::from(&b"sixteen bytes..."[..]));
            let request = Request {
                file: "x".to_owned(),
                mode: "octet".to_owned(),
                options: Vec::new(),
            };
            let terms = Terms::negotiate(&request, source.size_bytes());
            let asked_anew = CancellationToken::new();
            let last = [0, 4, 0, acknowledged];
            client
                .send_to(&last, socket.local_addr().expect("port"))
                .await
                .expect("sent");
            asked_anew.cancel();
            let report = send(&socket, &source, terms, &asked_anew, || ()).await;
            assert_eq!(
                matches!(report.ended, Ended::Protocol(End::Complete)),
                complete,
                "{report:?}"
            );
        }
    }
}
