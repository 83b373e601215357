//! An IPv4 UDP socket that knows which of this host's addresses a datagram came to, and answers from it.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::socket::sockopt::Ipv4PacketInfo;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;

use crate::config::StartError;

/// A bound socket.
#[derive(Debug)]
pub(crate) struct UdpSocket {
    inner: tokio::net::UdpSocket,
}

/// Where a datagram came from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) len_bytes: usize,
    pub(crate) from: SocketAddrV4,
    /// This host's address to answer from; never a broadcast address.
    pub(crate) local: Ipv4Addr,
}

impl UdpSocket {
    /// Binds `address`, on one interface where `interface` is given, and may then send broadcasts.
    ///
    /// SO_REUSEADDR is not set: with it two DHCP servers share a port without noticing.
    pub(crate) fn bind(
        service: &'static str,
        address: SocketAddrV4,
        interface: Option<&str>,
    ) -> Result<Self, StartError> {
        let failed = |source: io::Error| StartError::bind(service, SocketAddr::V4(address), source);
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        if let Some(interface) = interface {
            socket
                .bind_device(Some(interface.as_bytes()))
                .map_err(|source| StartError::interface(service, interface, source))?;
            socket.set_broadcast(true).map_err(failed)?;
        }
        setsockopt(&socket, Ipv4PacketInfo, &true).map_err(|errno| failed(errno.into()))?;
        socket.bind(&SocketAddr::V4(address).into()).map_err(failed)?;
        Ok(Self {
            inner: tokio::net::UdpSocket::from_std(socket.into()).map_err(failed)?,
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Waits for a datagram. Cancel safe.
    pub(crate) async fn recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.inner
            .async_io(Interest::READABLE, || receive(self.inner.as_raw_fd(), buffer))
            .await
    }

    /// Sends from the local address `from`, out of the interface that the socket is bound to, if any.
    pub(crate) async fn send(&self, bytes: &[u8], from: Ipv4Addr, to: SocketAddrV4) -> io::Result<()> {
        self.inner
            .async_io(Interest::WRITABLE, || {
                transmit(self.inner.as_raw_fd(), bytes, from, to)
            })
            .await
    }
}

fn receive(fd: RawFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = nix::cmsg_space!(libc::in_pktinfo);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrIn>(fd, &mut slices, Some(&mut space), MsgFlags::empty())?;
    let local = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)))
        }
        _ => None,
    });
    let from = message
        .address
        .ok_or_else(|| io::Error::other("a datagram without a sender"))?;
    Ok(Received {
        len_bytes: message.bytes,
        from: SocketAddrV4::new(from.ip(), from.port()),
        local: local.unwrap_or(Ipv4Addr::UNSPECIFIED),
    })
}

fn transmit(fd: RawFd, bytes: &[u8], from: Ipv4Addr, to: SocketAddrV4) -> io::Result<()> {
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr {
            s_addr: u32::from(from).to_be(),
        },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let control = [ControlMessage::Ipv4PacketInfo(&info)];
    sendmsg(
        fd,
        &[IoSlice::new(bytes)],
        &control,
        MsgFlags::empty(),
        Some(&SockaddrIn::from(to)),
    )?;
    Ok(())
}
