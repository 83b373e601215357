//! The DHCP client's socket: packets of an interface that has no address yet.
//!
//! AF_PACKET without the link header; a filter in the kernel lets only UDP to port 68 through, or every byte of an
//! image download would come by here too. Source: packet(7), RFC 2131 section 4.1.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use dhcp::client::Destination;
use dhcp::{CLIENT_PORT, SERVER_PORT, frame};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

/// Larger than any Ethernet frame that could carry a reply.
const MAX_PACKET: usize = 4096;

pub(super) struct PacketSocket {
    socket: AsyncFd<Socket>,
    index: u32,
}

impl PacketSocket {
    /// Opens it on one interface. Needs CAP_NET_RAW.
    ///
    /// # Errors
    /// The kernel's (no AF_PACKET, no permission, no such interface).
    pub(super) fn open(index: u32) -> io::Result<PacketSocket> {
        // Protocol 0 receives nothing, so that no packet slips in before the filter.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), None)?;
        socket.attach_filter(&udp_to_client())?;
        socket.bind(&link_address(index))?;
        // SAFETY: the socket is owned by the AsyncFd from here on and stays open as long as it is registered.
        let socket = unsafe { AsyncFd::register(socket) }?;
        Ok(PacketSocket { socket, index })
    }

    /// The next DHCP message, and nothing else. Cancel safe.
    pub(super) async fn receive(&self) -> io::Result<Vec<u8>> {
        loop {
            let mut ready = self.socket.readable().await?;
            let read = ready.try_io(|inner| {
                let mut buffer = [0_u8; MAX_PACKET];
                let length = io::Read::read(&mut inner.get_ref(), &mut buffer)?;
                let packet = buffer.get(..length).unwrap_or_default();
                Ok(frame::parse(packet, CLIENT_PORT).map(|datagram| datagram.payload.to_vec()))
            });
            match read {
                Ok(Ok(Some(payload))) => return Ok(payload),
                Ok(Err(e)) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                // Not for us, or nothing there after all.
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Broadcasts a DHCP message from `source`.
    pub(super) fn broadcast(&self, source: Ipv4Addr, payload: &[u8]) -> io::Result<()> {
        let from = SocketAddrV4::new(source, CLIENT_PORT);
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
        let packet =
            frame::build(from, to, payload).ok_or_else(|| io::Error::other("DHCP message too long"))?;
        self.socket
            .get_ref()
            .send_to(&packet, &link_address(self.index))
            .map(drop)
    }
}

/// A leased interface's ordinary UDP socket, for renewals straight to the server.
///
/// Also keeps the kernel from answering the server's replies with "port unreachable".
pub(super) struct RenewalSocket {
    socket: std::net::UdpSocket,
}

impl RenewalSocket {
    pub(super) fn open(interface: &str) -> io::Result<RenewalSocket> {
        let socket = Socket::new(
            Domain::IPV4,
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        socket.set_reuse_address(true)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.set_recv_buffer_size(2048)?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT).into())?;
        Ok(RenewalSocket {
            socket: socket.into(),
        })
    }

    pub(super) fn send(&self, destination: Destination, payload: &[u8]) -> io::Result<()> {
        let Destination::Unicast(server) = destination else {
            return Ok(());
        };
        self.socket
            .send_to(payload, SocketAddrV4::new(server, SERVER_PORT))
            .map(drop)
    }
}

/// Everybody on the interface, for IPv4.
fn link_address(index: u32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the sockaddr types and not larger than sockaddr_storage.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    address.sll_ifindex = index as i32;
    address.sll_halen = 6;
    address.sll_addr = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0];
    // SAFETY: the storage holds a valid sockaddr_ll of this length.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32) }
}

/// Classic BPF on the IP packet: UDP, not a later fragment, destination port 68.
fn udp_to_client() -> [SockFilter; 9] {
    const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    const LOAD_HALF_AT_X: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
    const HEADER_LENGTH: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
    const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const IF_BITS: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    // The last two words of a jump: how many instructions to skip when true, when false.
    [
        SockFilter::new(LOAD_BYTE as u16, 0, 0, 9),
        SockFilter::new(IF_EQUAL as u16, 0, 5, libc::IPPROTO_UDP as u32),
        SockFilter::new(LOAD_HALF as u16, 0, 0, 6),
        SockFilter::new(IF_BITS as u16, 3, 0, 0x1fff),
        SockFilter::new(HEADER_LENGTH as u16, 0, 0, 0),
        SockFilter::new(LOAD_HALF_AT_X as u16, 0, 0, 2),
        SockFilter::new(IF_EQUAL as u16, 1, 0, u32::from(CLIENT_PORT)),
        SockFilter::new(RETURN as u16, 0, 0, 0),
        SockFilter::new(RETURN as u16, 0, 0, MAX_PACKET as u32),
    ]
}
