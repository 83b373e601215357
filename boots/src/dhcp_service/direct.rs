//! Sends to a client that has no address yet: an IP packet to its MAC, without ARP (RFC 2131 section 4.1).

use std::io;
use std::mem::{size_of, zeroed};
use std::net::SocketAddrV4;
use std::os::fd::AsRawFd;

use dhcp::frame;
use macaddr::MacAddr6;
use socket2::{Domain, Socket, Type};

use crate::config::StartError;
use crate::interface;

/// A packet socket that only sends: bound to no protocol, it receives nothing.
#[derive(Debug)]
pub(super) struct DirectSocket {
    socket: Socket,
    interface: String,
}

impl DirectSocket {
    pub(super) fn open(interface: &str) -> Result<Self, StartError> {
        let failed = |source| StartError::interface("dhcp", interface, source);
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            socket,
            interface: interface.to_owned(),
        })
    }

    /// Sends one UDP datagram. Does not wait: what the interface cannot take now, the client asks for again.
    pub(super) fn send(
        &self,
        payload: &[u8],
        from: SocketAddrV4,
        to: SocketAddrV4,
        mac: MacAddr6,
    ) -> io::Result<()> {
        let packet = frame::build(from, to, payload).ok_or(io::ErrorKind::InvalidInput)?;
        let index = interface::index(&self.interface)?;
        // SAFETY: sockaddr_ll is plain integers and an array of bytes; all zeros is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
        address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
        address.sll_halen = 6;
        if let Some(head) = address.sll_addr.first_chunk_mut::<6>() {
            *head = mac.into_array();
        }
        // SAFETY: the socket is open; `packet` and `address` outlive the call and their lengths are those given;
        // the kernel only reads both.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}
