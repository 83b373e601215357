//! What a client is told, and where that is sent.

use std::net::Ipv4Addr;

use super::answer::{Action, Answer, Destination, Lease, ServerFacts};
use super::classify::{Request, Stage, is_http_client, is_pxe_client};
use crate::options::{self, code, ipxe};
use crate::{MessageType, Op, Packet, codec};

/// PXE discovery control (option 43, sub-option 6): do not ask for boot servers, load the file named in this reply.
const PXE_USE_BOOT_FILE: u8 = 8;

/// A lease for which the reservation names no time.
const DEFAULT_LEASE_S: u32 = 86_400;

/// The longest DHCP message that every client takes (RFC 2131 section 2: 576 B with IP and UDP headers).
const SMALLEST_MESSAGE_BYTES: usize = 576 - 28;

/// Answers a request.
///
/// Source: RFC 2131 section 4.3.
pub fn reply(request: &Request, answer: &Answer, server: &ServerFacts) -> Action {
    let packet = &request.packet;
    if packet.op == Op::Reply {
        return silent("a server's reply, not a request");
    }
    let lease = &answer.lease;
    match request.message {
        Some(MessageType::Discover) => send(request, offer(MessageType::Offer, request, answer, server), ""),
        Some(MessageType::Request) => requested(request, answer, server),
        Some(MessageType::Inform) => {
            // RFC 2131 section 4.3.5: the client has its address already, no lease is given.
            let mut ack = offer(MessageType::Ack, request, answer, server);
            ack.yiaddr = Ipv4Addr::UNSPECIFIED;
            ack.ciaddr = packet.ciaddr;
            for lease_option in [code::LEASE_TIME, code::RENEWAL_TIME, code::REBINDING_TIME] {
                ack.options.remove(&lease_option);
            }
            send(request, ack, "informed")
        }
        Some(MessageType::Decline) => Action::Noted {
            what: format!(
                "the machine found {} in use by another host",
                packet.requested_address().unwrap_or(lease.address)
            ),
        },
        Some(MessageType::Release) => Action::Noted {
            what: format!("the machine gave {} back", packet.ciaddr),
        },
        Some(other) => silent(format!("{other} is for clients, not for servers")),
        None => match packet.get(code::MESSAGE_TYPE) {
            Some(number) => silent(format!("message type {number:?} is not served")),
            None => silent("BOOTP without a DHCP message type (option 53) is not served"),
        },
    }
}

/// Answers a REQUEST (RFC 2131 section 4.3.2).
fn requested(request: &Request, answer: &Answer, server: &ServerFacts) -> Action {
    let packet = &request.packet;
    let reserved = answer.lease.address;
    let held = (!packet.ciaddr.is_unspecified()).then_some(packet.ciaddr);
    let (wanted, state) = match (packet.server_id(), packet.requested_address(), held) {
        (Some(other), _, _) if other != server.address => {
            return silent(format!("another DHCP server was chosen: {other}"));
        }
        (Some(_), wanted, held) => (wanted.or(held), "selecting"),
        (None, Some(wanted), None) => (Some(wanted), "init-reboot"),
        (None, _, Some(held)) => (Some(held), "renewing"),
        (None, None, None) => return silent("REQUEST names neither a server nor an address"),
    };
    match wanted {
        Some(wanted) if wanted != reserved => {
            let why = format!("{wanted} is not this machine's address, {reserved} is");
            let mut nak = Packet::reply_to(packet, MessageType::Nak);
            nak.set_address(code::SERVER_ID, server.address)
                .set(code::MESSAGE, &why);
            // RFC 2131 section 4.3.2: the relay must not unicast it to an address that the client is to give up.
            nak.broadcast |= !packet.giaddr.is_unspecified();
            send(request, nak, &why)
        }
        Some(_) => send(request, offer(MessageType::Ack, request, answer, server), state),
        None => send(
            request,
            offer(MessageType::Ack, request, answer, server),
            "no address requested",
        ),
    }
}

/// Builds an OFFER or an ACK (RFC 2131 table 3).
fn offer(kind: MessageType, request: &Request, answer: &Answer, server: &ServerFacts) -> Packet {
    let mut packet = Packet::reply_to(&request.packet, kind);
    packet.yiaddr = answer.lease.address;
    if kind == MessageType::Ack {
        packet.ciaddr = request.packet.ciaddr;
    }
    packet.set_address(code::SERVER_ID, server.address);
    add_lease(&mut packet, &answer.lease, server);
    add_boot(&mut packet, request, answer, server);
    packet
}

fn add_lease(packet: &mut Packet, lease: &Lease, server: &ServerFacts) {
    let mask = match lease.netmask.to_bits() {
        0 => options::mask_bits(server.prefix),
        mask => mask,
    };
    packet
        .set_u32(code::SUBNET_MASK, mask)
        .set_u32(code::BROADCAST_ADDRESS, lease.address.to_bits() | !mask);
    packet
        .set_addresses(code::ROUTER, lease.gateway.as_slice())
        .set_addresses(code::NAME_SERVER, &lease.name_servers)
        .set_addresses(code::LOG_SERVER, &lease.log_servers)
        .set_addresses(code::NTP_SERVER, &lease.time_servers);
    if let Some(hostname) = &lease.hostname {
        packet.set(code::HOST_NAME, hostname);
    }
    if let Some(domain) = &lease.domain {
        packet.set(code::DOMAIN_NAME, domain);
        if let Some(search) = options::encode_domain(domain) {
            packet.set(code::DOMAIN_SEARCH, search);
        }
    }
    if let Some(mtu) = lease.mtu {
        packet.set(code::INTERFACE_MTU, mtu.to_be_bytes());
    }
    if !lease.routes.is_empty() {
        packet.set(code::CLASSLESS_ROUTES, options::encode_routes(&lease.routes));
    }
    let seconds = match u32::try_from(lease.lease_time.as_secs()) {
        Ok(0) => DEFAULT_LEASE_S,
        Ok(seconds) => seconds,
        Err(_) => u32::MAX,
    };
    packet.set_u32(code::LEASE_TIME, seconds);
    // RFC 2131 section 4.4.5. A lease for ever is not renewed.
    if seconds != u32::MAX {
        packet.set_u32(code::RENEWAL_TIME, seconds / 2);
        packet.set_u32(code::REBINDING_TIME, seconds - seconds.div_ceil(8));
    }
}

fn add_boot(packet: &mut Packet, request: &Request, answer: &Answer, server: &ServerFacts) {
    if request.stage == Stage::Ipxe {
        // Else iPXE waits for ProxyDHCP offers.
        packet.set(code::IPXE, [ipxe::NO_PXEDHCP, 1, 1]);
    }
    let lease = &answer.lease;
    let by_operator = lease.tftp_server_name.is_some() || lease.boot_file_name.is_some();
    let file = if by_operator {
        &lease.boot_file_name
    } else {
        &answer.boot.file
    };
    if by_operator {
        if let Some(name) = &lease.tftp_server_name {
            packet.set(code::TFTP_SERVER_NAME, name);
            packet.siaddr = name.parse().unwrap_or(Ipv4Addr::UNSPECIFIED);
            if name.len() <= 63 {
                packet.sname = name.clone().into_bytes();
            }
        }
    } else if file.is_some() {
        packet.siaddr = answer.boot.next_server.unwrap_or(server.address);
        if request.packet.asks_for(code::TFTP_SERVER_NAME) {
            packet.set(code::TFTP_SERVER_NAME, packet.siaddr.to_string());
        }
    }
    let Some(file) = file else { return };
    let vendor_class = request.packet.vendor_class().unwrap_or_default();
    let fits = file.len() <= 127;
    if fits {
        packet.file = file.clone().into_bytes();
    }
    // Old PXE ROMs stumble over option 67, so it is sent only to those that ask for it or cannot do without.
    if !fits || by_operator || is_http_client(&vendor_class) || request.packet.asks_for(code::BOOT_FILE_NAME)
    {
        packet.set(code::BOOT_FILE_NAME, file);
    }
    if request.stage != Stage::Firmware {
        return;
    }
    if is_http_client(&vendor_class) {
        // UEFI specification 2.10 section 24.7.3.1: a reply without it is not for HTTP boot.
        packet.set(code::VENDOR_CLASS, "HTTPClient");
    } else if is_pxe_client(&vendor_class) {
        packet.set(code::VENDOR_CLASS, "PXEClient");
        packet.set(code::VENDOR_SPECIFIC, [6, 1, PXE_USE_BOOT_FILE, 255]);
    }
    if let Some(uuid) = request.packet.get(code::MACHINE_UUID) {
        packet.set(code::MACHINE_UUID, uuid);
    }
}

/// Encodes a reply and addresses it.
fn send(request: &Request, packet: Packet, why: &str) -> Action {
    let bytes = match codec::encode(&packet) {
        Ok(bytes) => bytes,
        Err(error) => return silent(format!("the reply cannot be sent: {error}")),
    };
    let destination = destination(&request.packet, &packet);
    let summary = summary(request, &packet, destination, bytes.len(), why);
    Action::Send {
        bytes,
        packet: Box::new(packet),
        destination,
        summary,
    }
}

/// Source: RFC 2131 section 4.1.
fn destination(request: &Packet, reply: &Packet) -> Destination {
    if !request.giaddr.is_unspecified() {
        Destination::Relay(request.giaddr)
    } else if reply.message_type() == Some(MessageType::Nak) {
        Destination::Broadcast
    } else if !request.ciaddr.is_unspecified() {
        Destination::Unicast(request.ciaddr)
    } else if request.broadcast || reply.yiaddr.is_unspecified() {
        Destination::Broadcast
    } else {
        Destination::Direct {
            ip: reply.yiaddr,
            mac: request.chaddr,
        }
    }
}

fn summary(
    request: &Request,
    reply: &Packet,
    destination: Destination,
    len_bytes: usize,
    why: &str,
) -> String {
    let mut text = match reply.message_type() {
        Some(MessageType::Nak) => format!("NAK: {why}"),
        Some(kind) if why.is_empty() => format!("{kind} {}", reply.yiaddr),
        Some(kind) => format!("{kind} {} ({why})", reply.yiaddr),
        None => String::new(),
    };
    text += &format!(" to {}", request.stage);
    if let Some(firmware) = request.firmware {
        text += &format!(" on {firmware}");
    }
    text += &format!(", sent to {destination}");
    match reply.boot_file() {
        Some(file) if reply.siaddr.is_unspecified() || file.contains("://") => {
            text += &format!("; boots {file}")
        }
        Some(file) => text += &format!("; boots {file} from {}", reply.siaddr),
        None => {}
    }
    let takes = request
        .packet
        .u16(code::MAX_MESSAGE_SIZE)
        .map_or(SMALLEST_MESSAGE_BYTES, usize::from);
    if len_bytes > takes.max(SMALLEST_MESSAGE_BYTES) {
        text += &format!("; odd: the reply has {len_bytes} B, the client takes {takes} B");
    }
    for oddity in &request.oddities {
        text += &format!("; odd: {oddity}");
    }
    text
}

fn silent(why: impl Into<String>) -> Action {
    Action::Silent { why: why.into() }
}
