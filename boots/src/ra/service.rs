//! The raw ICMPv6 socket that solicitations come to.

use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use nix::sys::socket::sockopt::Ipv6RecvHopLimit;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::{ALL_ROUTERS, Solicitation, advertise, destination};
use crate::context::{Context, Told};
use crate::interface;
use crate::timeline::Stage;

/// Answers solicitations on one interface.
pub(crate) struct RouterAdvertiser {
    /// A raw socket; tokio's type for it is a wrapper that only sends and receives.
    socket: UdpSocket,
    interface: String,
}

impl RouterAdvertiser {
    /// Joins all-routers on `interface`.
    pub(crate) fn bind(interface: &str) -> io::Result<Self> {
        let index = interface::index(interface)?;
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        // A receiver ignores what has passed a router (RFC 4861 section 6.1.2).
        socket.set_unicast_hops_v6(255)?;
        socket.set_multicast_hops_v6(255)?;
        socket.set_multicast_if_v6(index)?;
        setsockopt(&socket, Ipv6RecvHopLimit, &true)?;
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            interface: interface.to_owned(),
        })
    }

    /// Serves until `shutdown` is cancelled.
    pub(crate) async fn serve(self, context: Arc<Context>, shutdown: CancellationToken) {
        let mut buffer = [0; 1500];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => return,
                received = self.recv(&mut buffer) => received,
            };
            match received {
                Ok((len_bytes, from, 255)) => {
                    let message = buffer.get(..len_bytes).unwrap_or_default();
                    let taken = AssertUnwindSafe(self.take(&context, message, from));
                    if taken.catch_unwind().await.is_err() {
                        let told =
                            Told::failed("not answered: handling it panicked, which is a defect of Farrier");
                        context.record_in(None, Stage::RouterAdvertisement, None, WHAT, told);
                    }
                }
                // It has passed a router (RFC 4861 section 6.1.1).
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "router advertisements: receiving failed"
                    );
                    // Not to spin while the interface is away.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Ipv6Addr, i32)> {
        self.socket
            .async_io(Interest::READABLE, || receive(self.socket.as_raw_fd(), buffer))
            .await
    }

    async fn take(&self, context: &Context, message: &[u8], from: Ipv6Addr) {
        let (Some(solicitation), Some(advertisement)) = (Solicitation::parse(message), advertise(message))
        else {
            return;
        };
        let what = WHAT;
        let mac = solicitation.sender(from);
        let why = match mac {
            Some(mac) => match context.inventory.machine(mac).await {
                Ok(Some(machine)) => machine.name,
                Ok(None) => {
                    let told = Told::ignored(format!("a stranger's, from {from}"));
                    return context.record_in(None, Stage::RouterAdvertisement, Some(mac), what, told);
                }
                Err(error) => {
                    let told = Told::failed(format!("not answered: {error}"));
                    return context.record(Stage::RouterAdvertisement, Some(mac), what, told);
                }
            },
            // It has no address yet and does not say its MAC: it counts as ours while one of ours is booting.
            None if context.sessions().any_booting(SystemTime::now(), BOOTING) => {
                "a machine that boots".into()
            }
            None => {
                let told = Told::ignored(format!("from {from}, which does not say its MAC"));
                return context.record_in(None, Stage::RouterAdvertisement, None, what, told);
            }
        };
        let to = destination(from);
        let told = match self.send(&advertisement, to).await {
            Ok(()) => Told::answered(format!(
                "{why} is told that there is no router here; sent to {to}"
            )),
            Err(error) => Told::failed(format!(
                "no answer could be sent from {}: {error}",
                self.interface
            )),
        };
        context.record(Stage::RouterAdvertisement, mac, what, told);
    }

    async fn send(&self, advertisement: &[u8], to: Ipv6Addr) -> io::Result<()> {
        let index = interface::index(&self.interface)?;
        self.socket
            .send_to(advertisement, SocketAddrV6::new(to, 0, 0, index))
            .await?;
        Ok(())
    }
}

fn receive(fd: RawFd, buffer: &mut [u8]) -> io::Result<(usize, Ipv6Addr, i32)> {
    let mut space = nix::cmsg_space!(i32);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrIn6>(fd, &mut slices, Some(&mut space), MsgFlags::empty())?;
    let hop_limit = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv6HopLimit(limit) => Some(limit),
        _ => None,
    });
    let from = message
        .address
        .map_or(Ipv6Addr::UNSPECIFIED, |address| address.ip());
    Ok((message.bytes, from, hop_limit.unwrap_or(0)))
}

const WHAT: &str = "router solicitation";
/// iPXE solicits within seconds of its DHCP.
const BOOTING: Duration = Duration::from_secs(60);
