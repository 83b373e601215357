//! A wire with a server's end and a machine's end, in a network namespace of its own.
#![allow(clippy::unwrap_used, unreachable_pub)]

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

use dhcp::{Packet, frame};
use macaddr::MacAddr6;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Protocol, Socket, Type};

pub const SERVER_END: &str = "server0";
const SERVER_MAC: MacAddr6 = MacAddr6::new(0x52, 0x54, 0, 0x77, 0, 0x01);
const MACHINE_END: &str = "machine0";
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// The machine's end.
pub struct Wire {
    socket: Socket,
    mac: MacAddr6,
}

/// An Ethernet frame from the server.
pub struct Frame {
    pub to: [u8; 6],
}

/// A router advertisement from the server.
pub struct Advertisement {
    pub to: [u8; 6],
    pub from: Ipv6Addr,
    pub hop_limit: u8,
    pub message: Vec<u8>,
}

impl Wire {
    /// Takes the calling thread into a fresh network namespace, which goes with the last thread and socket in it.
    pub fn in_a_fresh_namespace(server: Ipv4Addr, machine: Ipv4Addr, mac: MacAddr6) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mac_text = mac.to_string();
        ip("link set lo up");
        ip(&format!(
            "link add {SERVER_END} address {SERVER_MAC} type veth peer name {MACHINE_END} address {mac_text}"
        ));
        ip(&format!("address add {server}/24 dev {SERVER_END}"));
        // Without duplicate address detection, which would hold the address back for a second.
        ip(&format!("address add fe80::1/64 dev {SERVER_END} nodad"));
        ip(&format!("link set {SERVER_END} up"));
        ip(&format!("link set {MACHINE_END} up"));
        // The machine's end has no stack that would answer.
        ip(&format!(
            "neighbour add {machine} lladdr {mac_text} dev {SERVER_END}"
        ));
        ip(&format!(
            "neighbour add fe80::5054:ff:fe77:b lladdr {mac_text} dev {SERVER_END}"
        ));
        let all = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap();
        bind(&socket, nix::net::if_::if_nametoindex(MACHINE_END).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self { socket, mac }
    }

    /// Sends a packet as a client without an address does.
    pub fn broadcast(&self, packet: &Packet) {
        self.broadcast_bytes(&dhcp::encode(packet).unwrap());
    }

    pub fn broadcast_bytes(&self, bytes: &[u8]) {
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
        self.send([0xff; 6], IPV4, &frame::build(from, to, bytes).unwrap());
    }

    pub fn unicast(&self, packet: &Packet, from: Ipv4Addr, to: Ipv4Addr) {
        let bytes = dhcp::encode(packet).unwrap();
        let packet = frame::build(SocketAddrV4::new(from, 68), SocketAddrV4::new(to, 67), &bytes).unwrap();
        self.send(SERVER_MAC.into_array(), IPV4, &packet);
    }

    /// The next reply from the server to the client's port.
    #[track_caller]
    pub fn next_reply(&mut self) -> (Packet, Frame) {
        self.wait_for("a DHCP reply", |to, kind, packet| {
            let datagram = frame::parse(packet, 68).filter(|_| kind == IPV4)?;
            Some((dhcp::decode(datagram.payload).unwrap(), Frame { to }))
        })
    }

    /// The reply with this transaction id.
    #[track_caller]
    pub fn reply(&mut self, xid: u32) -> (Packet, Frame) {
        loop {
            let reply = self.next_reply();
            if reply.0.xid == xid {
                return reply;
            }
        }
    }

    /// Sends a router solicitation with the source link-layer address option.
    pub fn solicit(&self, mac: MacAddr6, from: Ipv6Addr) {
        let mut message = vec![133, 0, 0, 0, 0, 0, 0, 0, 1, 1];
        message.extend(mac.as_bytes());
        self.send_solicitation(from, message);
    }

    /// As a host that has no address yet, and so may not say its MAC.
    pub fn solicit_without_address(&self) {
        self.send_solicitation(Ipv6Addr::UNSPECIFIED, vec![133, 0, 0, 0, 0, 0, 0, 0]);
    }

    /// The next router advertisement.
    #[track_caller]
    pub fn advertisement(&mut self) -> Advertisement {
        self.wait_for("a router advertisement", |to, kind, packet| {
            let is_advertisement = kind == IPV6 && packet.get(6) == Some(&58) && packet.get(40) == Some(&134);
            is_advertisement.then(|| Advertisement {
                to,
                from: <[u8; 16]>::try_from(&packet[8..24]).unwrap().into(),
                hop_limit: packet[7],
                message: packet[40..].to_vec(),
            })
        })
    }

    fn send_solicitation(&self, from: Ipv6Addr, mut message: Vec<u8>) {
        let to: Ipv6Addr = "ff02::2".parse().unwrap();
        let len = message.len() as u16;
        let pseudo = [
            &from.octets()[..],
            &to.octets(),
            &u32::from(len).to_be_bytes(),
            &[0, 0, 0, 58],
            &message,
        ];
        let checksum = internet_checksum(&pseudo.concat());
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let [high, low] = len.to_be_bytes();
        let header = [0x60, 0, 0, 0, high, low, 58, 255];
        let packet = [&header[..], &from.octets(), &to.octets(), &message].concat();
        self.send([0x33, 0x33, 0, 0, 0, 2], IPV6, &packet);
    }

    fn send(&self, to: [u8; 6], kind: [u8; 2], packet: &[u8]) {
        let frame = [&to[..], self.mac.as_bytes(), &kind, packet].concat();
        self.socket.send(&frame).unwrap();
    }

    #[track_caller]
    fn wait_for<T>(&mut self, what: &str, wanted: impl Fn([u8; 6], [u8; 2], &[u8]) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut buffer = vec![0; 2048];
        while Instant::now() < deadline {
            let Ok(len) = nix::unistd::read(&self.socket, &mut buffer) else {
                continue;
            };
            let Some((header, packet)) = buffer[..len].split_first_chunk::<14>() else {
                continue;
            };
            // A packet socket sees what it sends itself, too.
            if header[6..12] == *self.mac.as_bytes() {
                continue;
            }
            let to = header[..6].try_into().unwrap();
            if let Some(found) = wanted(to, [header[12], header[13]], packet) {
                return found;
            }
        }
        panic!("{what} did not come");
    }
}

fn bind(socket: &Socket, index: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain integers and an array of bytes; all zeros is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index as i32;
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the socket is open, `address` outlives the call and has the length given.
    match unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[track_caller]
fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("iproute2 is installed");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
