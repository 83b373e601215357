//! The client's messages (RFC 2131 table 5).

use std::net::Ipv4Addr;

use macaddr::MacAddr6;

use crate::options::code;
use crate::server::AGENT_VENDOR_CLASS;
use crate::{MessageType, Packet};

/// What is asked for. RFC 3442: routes before the router.
const WANTED: [u8; 14] = [
    code::SUBNET_MASK,
    code::CLASSLESS_ROUTES,
    code::ROUTER,
    code::NAME_SERVER,
    code::HOST_NAME,
    code::DOMAIN_NAME,
    code::INTERFACE_MTU,
    code::BROADCAST_ADDRESS,
    code::NTP_SERVER,
    code::LEASE_TIME,
    code::SERVER_ID,
    code::RENEWAL_TIME,
    code::REBINDING_TIME,
    code::DOMAIN_SEARCH,
];

/// The largest message that fits into one Ethernet frame.
const MAX_MESSAGE_BYTES: u16 = 1500 - 28;

/// Builds what every DISCOVER and REQUEST carries.
///
/// The broadcast flag stays clear: packet sockets take unicast before there is an address.
pub(super) fn client_message(kind: MessageType, mac: MacAddr6, xid: u32) -> Packet {
    let mut packet = Packet::request(kind, mac, xid);
    packet
        .set(code::VENDOR_CLASS, AGENT_VENDOR_CLASS)
        .set(code::CLIENT_ID, client_id(mac))
        .set(code::PARAMETER_LIST, WANTED)
        .set(code::MAX_MESSAGE_SIZE, MAX_MESSAGE_BYTES.to_be_bytes());
    packet
}

/// REQUEST in SELECTING state: accepts an OFFER.
pub(super) fn selecting(mac: MacAddr6, xid: u32, offered: Ipv4Addr, server: Ipv4Addr) -> Packet {
    let mut packet = client_message(MessageType::Request, mac, xid);
    packet
        .set_address(code::REQUESTED_ADDRESS, offered)
        .set_address(code::SERVER_ID, server);
    packet
}

/// REQUEST in INIT-REBOOT state: may this machine still have this address?
pub(super) fn rebooting(mac: MacAddr6, xid: u32, address: Ipv4Addr) -> Packet {
    let mut packet = client_message(MessageType::Request, mac, xid);
    packet.set_address(code::REQUESTED_ADDRESS, address);
    packet
}

/// REQUEST in RENEWING or REBINDING state.
pub(super) fn extending(mac: MacAddr6, xid: u32, address: Ipv4Addr) -> Packet {
    let mut packet = client_message(MessageType::Request, mac, xid);
    packet.ciaddr = address;
    packet
}

/// DECLINE: the address is in use by another host.
pub(super) fn decline(mac: MacAddr6, xid: u32, address: Ipv4Addr, server: Ipv4Addr) -> Packet {
    let mut packet = Packet::request(MessageType::Decline, mac, xid);
    packet
        .set(code::CLIENT_ID, client_id(mac))
        .set_address(code::REQUESTED_ADDRESS, address)
        .set_address(code::SERVER_ID, server);
    packet
}

/// Hardware type and address (RFC 2132 section 9.14).
fn client_id(mac: MacAddr6) -> Vec<u8> {
    [&[1], mac.as_bytes()].concat()
}
