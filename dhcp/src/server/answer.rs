//! What the caller decides ([`Answer`]) and what it is to do ([`Action`]).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use macaddr::MacAddr6;

use crate::{CLIENT_PORT, Packet};

/// A fixed address and the options that go with it (RFC 2131, RFC 2132).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// yiaddr.
    pub address: Ipv4Addr,
    /// Option 1; option 28 follows from it. Unspecified: that of the server's own network.
    pub netmask: Ipv4Addr,
    /// Option 3.
    pub gateway: Option<Ipv4Addr>,
    /// Option 12.
    pub hostname: Option<String>,
    /// Options 15 and 119.
    pub domain: Option<String>,
    /// Option 6.
    pub name_servers: Vec<Ipv4Addr>,
    /// Option 42.
    pub time_servers: Vec<Ipv4Addr>,
    /// Option 51; options 58 and 59 follow from it. Zero: one day. 2³²-1 seconds or more: for ever.
    pub lease_time: Duration,
    /// Option 121 (RFC 3442): destination, prefix length, router.
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// Hands boot over to another TFTP server: option 66, and `siaddr` where it is an address.
    pub tftp_server_name: Option<String>,
    /// Option 67 and `file`, as they are. This or `tftp_server_name` switches [`Answer::boot_file`] off.
    pub boot_file_name: Option<String>,
}

impl Lease {
    /// Returns a lease of one day with nothing but an address and its netmask.
    pub fn new(address: Ipv4Addr, netmask: Ipv4Addr) -> Lease {
        Lease {
            address,
            netmask,
            gateway: None,
            hostname: None,
            domain: None,
            name_servers: Vec::new(),
            time_servers: Vec::new(),
            lease_time: Duration::ZERO,
            routes: Vec::new(),
            tftp_server_name: None,
            boot_file_name: None,
        }
    }
}

/// What the caller knows about a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub lease: Lease,
    /// What it is told to boot, a file name of this server's or a URL; `None`: an address and nothing to boot.
    pub boot_file: Option<String>,
    /// Who was last given an address for this machine; `None`: nobody that is remembered, the reservation stands.
    pub holder: Option<Holder>,
    /// Why the address is not given out now; `None`: it is.
    pub withheld: Option<String>,
}

impl Answer {
    /// The address that the machine has: acknowledged, else reserved.
    pub(super) fn held(&self) -> Ipv4Addr {
        self.holder
            .as_ref()
            .map_or(self.lease.address, |holder| holder.address)
    }
}

/// The client that an address was acknowledged to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which address.
    pub address: Ipv4Addr,
    /// Option 61 of the request that was acknowledged.
    pub client_id: Option<Vec<u8>>,
}

/// The server's end of the wire that the request came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// The server's address: option 54, and `siaddr` unless the operator says otherwise.
    pub address: Ipv4Addr,
    /// Prefix length of its network.
    pub prefix: u8,
}

/// What is to be done about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The machine found its address in use by another host: it is not to be given out (RFC 2131 section 4.3.3).
    Declined { address: Ipv4Addr },
    /// The machine gives its address back.
    Released { address: Ipv4Addr },
    /// Send a reply.
    Send {
        /// The reply, encoded.
        bytes: Vec<u8>,
        /// The reply, to look at.
        packet: Box<Packet>,
        /// Where it goes.
        destination: Destination,
        /// One line for the timeline: what was answered and why.
        summary: String,
    },
    /// Say nothing.
    Silent { why: String },
}

/// Where a reply is sent (RFC 2131 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// 255.255.255.255, port 68, on the interface that the request came in on.
    Broadcast,
    /// To an address that its host does not have yet: IP address `ip`, Ethernet address `mac`, without ARP.
    Direct { ip: Ipv4Addr, mac: MacAddr6 },
    /// The relay agent, port 67.
    Relay(Ipv4Addr),
    /// A client that has its address, port 68.
    Unicast(Ipv4Addr),
}

impl Destination {
    /// Returns the IP address and port that the reply is sent to.
    pub fn socket_address(&self) -> SocketAddrV4 {
        match *self {
            Destination::Broadcast => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
            Destination::Direct { ip, .. } | Destination::Unicast(ip) => SocketAddrV4::new(ip, CLIENT_PORT),
            Destination::Relay(ip) => SocketAddrV4::new(ip, crate::SERVER_PORT),
        }
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Destination::Broadcast => f.write_str("broadcast"),
            Destination::Direct { ip, .. } => write!(f, "{ip} by its MAC"),
            Destination::Relay(ip) => write!(f, "relay {ip}"),
            Destination::Unicast(ip) => write!(f, "{ip}"),
        }
    }
}
