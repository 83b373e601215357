//! Packets to test with, and packets as text.

use std::fmt::Write;
use std::net::Ipv4Addr;

use dhcp::options::code;
use dhcp::server::{Answer, Lease, ServerFacts};
use dhcp::{MessageType, Packet};
use macaddr::MacAddr6;

pub(crate) const MAC: MacAddr6 = MacAddr6::new(0x52, 0x54, 0, 0x77, 0, 0x0b);
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
pub(crate) const SERVER: ServerFacts = ServerFacts {
    address: Ipv4Addr::new(10, 77, 0, 1),
    prefix: 24,
};

/// A DISCOVER as OVMF's PXE client sends it.
pub(crate) fn pxe_discover(arch: u16) -> Packet {
    let mut packet = Packet::request(MessageType::Discover, MAC, 0x1234_5678);
    packet
        .set(
            code::VENDOR_CLASS,
            format!("PXEClient:Arch:{arch:05}:UNDI:003016"),
        )
        .set(code::CLIENT_ARCHITECTURE, arch.to_be_bytes())
        .set(code::NETWORK_INTERFACE, [1, 3, 16])
        .set(
            code::MACHINE_UUID,
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
        )
        .set(code::MAX_MESSAGE_SIZE, 1472_u16.to_be_bytes())
        .set(code::PARAMETER_LIST, [1, 3, 6, 15, 51, 54, 66, 67, 97]);
    packet
}

/// A DISCOVER as iPXE sends it.
pub(crate) fn ipxe_discover(arch: u16) -> Packet {
    let mut packet = pxe_discover(arch);
    packet
        .set(code::USER_CLASS, "iPXE")
        .set(code::CLIENT_ID, [1, 0x52, 0x54, 0, 0x77, 0, 0x0b])
        .set(
            code::IPXE,
            [
                0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0, 0x13, 1, 1, 0x15, 1, 1, 0xeb, 3, 1, 0, 0,
            ],
        );
    packet
}

/// Turns a DISCOVER into the REQUEST that follows it.
pub(crate) fn requesting(mut packet: Packet) -> Packet {
    packet
        .set(code::MESSAGE_TYPE, [MessageType::Request as u8])
        .set_address(code::SERVER_ID, SERVER.address)
        .set_address(code::REQUESTED_ADDRESS, ADDRESS);
    packet
}

/// A reservation with everything in it.
pub(crate) fn answer(file: &str) -> Answer {
    let mut lease = Lease::new(ADDRESS, Ipv4Addr::new(255, 255, 255, 0));
    lease.gateway = Some(SERVER.address);
    lease.hostname = Some("node-1".to_owned());
    lease.domain = Some("lab.example".to_owned());
    lease.name_servers = vec![Ipv4Addr::new(10, 77, 0, 53), Ipv4Addr::new(10, 77, 0, 54)];
    lease.time_servers = vec![SERVER.address];
    lease.lease_time = std::time::Duration::from_secs(86_400);
    lease.routes = vec![(Ipv4Addr::new(172, 16, 0, 0), 12, Ipv4Addr::new(10, 77, 0, 2))];
    Answer {
        lease,
        boot_file: Some(file.to_owned()),
        holder: None,
        withheld: None,
    }
}

/// SplitMix64, so that a failing run can be repeated by its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// Writes a packet as text, for snapshots.
pub(crate) fn render(packet: &Packet) -> String {
    let mut text = String::new();
    let kind = packet
        .message_type()
        .map_or("no type".to_owned(), |kind| kind.to_string());
    let _ = writeln!(
        text,
        "{:?} {kind} xid {:08x} {}",
        packet.op,
        packet.xid,
        mac::mac_text(packet.chaddr)
    );
    for (name, address) in [
        ("ciaddr", packet.ciaddr),
        ("yiaddr", packet.yiaddr),
        ("siaddr", packet.siaddr),
        ("giaddr", packet.giaddr),
    ] {
        if !address.is_unspecified() {
            let _ = writeln!(text, "{name} {address}");
        }
    }
    if packet.broadcast {
        text += "broadcast\n";
    }
    for (name, field) in [("sname", &packet.sname), ("file", &packet.file)] {
        if !field.is_empty() {
            let _ = writeln!(text, "{name} {}", field.escape_ascii());
        }
    }
    for (number, data) in &packet.options {
        let is_text = data.len() > 3 && data.iter().all(|byte| byte.is_ascii_graphic());
        let data = if is_text {
            data.escape_ascii().to_string()
        } else {
            data.iter()
                .map(|byte| byte.to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let _ = writeln!(text, "option {number}: {data}");
    }
    for oddity in &packet.oddities {
        let _ = writeln!(text, "odd: {oddity}");
    }
    text
}
