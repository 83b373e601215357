//! What a client is told, and where that is sent.

use std::net::Ipv4Addr;

use super::answer::{Action, Answer, Destination, Lease, ServerFacts};
use super::classify::{Request, Stage, is_http_client, is_pxe_client};
use crate::codec::{self, Field};
use crate::options::{self, code, ipxe};
use crate::{MessageType, Op, Packet};

/// PXE discovery control (option 43, sub-option 6): do not ask for boot servers, load the file named in this reply.
const PXE_USE_BOOT_FILE: u8 = 8;

/// A lease for which the reservation names no time.
const DEFAULT_LEASE_S: u32 = 86_400;

/// IP and UDP headers, which option 57 counts along (RFC 2131 section 2: 576 B are 312 B of options).
const HEADERS_BYTES: usize = 28;

/// The datagram that every client takes; option 57 may not say less (RFC 2132 section 9.10).
const SMALLEST_DATAGRAM_BYTES: usize = 576;

/// The longest datagram that goes through an Ethernet in one piece: boot ROMs join no fragments.
const LARGEST_DATAGRAM_BYTES: usize = 1500;

/// What a reply is nothing without, then what a boot needs: first of all, whatever the client lists.
const FIRST: [u8; 12] = [
    code::MESSAGE_TYPE,
    code::SERVER_ID,
    code::LEASE_TIME,
    code::SUBNET_MASK,
    code::CLIENT_ID,
    code::VENDOR_CLASS,
    code::VENDOR_SPECIFIC,
    code::IPXE,
    code::BOOT_FILE_NAME,
    code::TFTP_SERVER_NAME,
    code::TFTP_SERVER_ADDRESS,
    code::MACHINE_UUID,
];

/// What the client did not list, or has no list for.
const THEN: [u8; 10] = [
    code::ROUTER,
    code::NAME_SERVER,
    code::HOST_NAME,
    code::DOMAIN_NAME,
    code::CLASSLESS_ROUTES,
    code::RENEWAL_TIME,
    code::REBINDING_TIME,
    code::BROADCAST_ADDRESS,
    code::NTP_SERVER,
    code::DOMAIN_SEARCH,
];

/// Answers a request.
///
/// Source: RFC 2131 section 4.3.
pub fn reply(request: &Request, answer: &Answer, server: &ServerFacts) -> Action {
    let packet = &request.packet;
    if packet.op == Op::Reply {
        return silent("a server's reply, not a request");
    }
    match request.message {
        Some(MessageType::Discover) => match &answer.withheld {
            Some(why) => silent(format!("not offered: {why}")),
            None => send(request, offer(MessageType::Offer, request, answer, server), ""),
        },
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
        Some(MessageType::Decline) => declined(request, answer, server),
        Some(MessageType::Release) => released(request, answer, server),
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
            refused(request, server, &why)
        }
        _ if answer.withheld.is_some() => {
            refused(request, server, answer.withheld.as_deref().unwrap_or_default())
        }
        Some(_) => send(request, offer(MessageType::Ack, request, answer, server), state),
        None => send(
            request,
            offer(MessageType::Ack, request, answer, server),
            "no address requested",
        ),
    }
}

fn refused(request: &Request, server: &ServerFacts, why: &str) -> Action {
    let packet = &request.packet;
    let mut nak = Packet::reply_to(packet, MessageType::Nak);
    nak.set_address(code::SERVER_ID, server.address)
        .set(code::MESSAGE, why);
    // RFC 2131 section 4.3.2: the relay must not unicast it to an address that the client is to give up.
    nak.broadcast |= !packet.giaddr.is_unspecified();
    send(request, nak, why)
}

/// Takes a DECLINE (RFC 2131 section 4.3.3) from the machine that has the address, and from nobody else.
fn declined(request: &Request, answer: &Answer, server: &ServerFacts) -> Action {
    let packet = &request.packet;
    let held = answer.held();
    let refused = not_ours(packet, server).or_else(|| match packet.requested_address() {
        None => Some("it names no address (option 50)".to_owned()),
        Some(other) if other != held => Some(format!("{other} is not this machine's address, {held} is")),
        Some(_) => another_client(packet, answer),
    });
    match refused {
        Some(why) => silent(format!("DECLINE without effect: {why}")),
        None => Action::Declined { address: held },
    }
}

/// Takes a RELEASE (RFC 2131 section 4.3.4) from the machine that has the address, and from nobody else.
fn released(request: &Request, answer: &Answer, server: &ServerFacts) -> Action {
    let packet = &request.packet;
    let held = answer.held();
    let refused = not_ours(packet, server).or_else(|| match packet.ciaddr {
        Ipv4Addr::UNSPECIFIED => Some("it names no address (ciaddr)".to_owned()),
        other if other != held => Some(format!("{other} is not this machine's address, {held} is")),
        _ => another_client(packet, answer),
    });
    match refused {
        Some(why) => silent(format!("RELEASE without effect: {why}")),
        None => Action::Released { address: held },
    }
}

/// Why a message that must name its server (RFC 2131 table 5) is not for this one.
fn not_ours(packet: &Packet, server: &ServerFacts) -> Option<String> {
    match packet.server_id() {
        Some(ours) if ours == server.address => None,
        Some(other) => Some(format!("it is for another DHCP server: {other}")),
        None => Some("it names no server (option 54)".to_owned()),
    }
}

/// Why a message is not of the client that has the lease: whoever got it with a client identifier keeps to that
/// (RFC 2131 section 4.2).
fn another_client(packet: &Packet, answer: &Answer) -> Option<String> {
    let holder = answer.holder.as_ref()?;
    (packet.client_id() != holder.client_id.as_deref())
        .then(|| "its client identifier (option 61) is not the one that the address was given to".to_owned())
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
        &answer.boot_file
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
        packet.siaddr = server.address;
        if request.packet.asks_for(code::TFTP_SERVER_NAME) {
            packet.set(code::TFTP_SERVER_NAME, packet.siaddr.to_string());
        }
        if request.packet.asks_for(code::TFTP_SERVER_ADDRESS) {
            packet.set_address(code::TFTP_SERVER_ADDRESS, packet.siaddr);
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

/// Encodes a reply for what its client takes, and addresses it.
fn send(request: &Request, mut packet: Packet, why: &str) -> Action {
    // An option without data is not sent (RFC 2132 gives each at least one byte).
    packet.options.retain(|_, data| !data.is_empty());
    let limits = limits(request);
    let fitted = match codec::encode_within(&packet, &limits) {
        Ok(fitted) => fitted,
        Err(error) => return silent(format!("the reply cannot be sent: {error}")),
    };
    for code in &fitted.left_out {
        packet.options.remove(code);
    }
    let destination = destination(&request.packet, &packet);
    let mut summary = summary(request, &packet, destination, why);
    if !fitted.left_out.is_empty() {
        let left_out: Vec<String> = fitted
            .left_out
            .iter()
            .map(|code| options::described(*code))
            .collect();
        summary += &format!(
            "; odd: the client takes {} B, so there is no room for {}",
            limits.message_bytes,
            left_out.join(", ")
        );
    }
    for oddity in &request.oddities {
        summary += &format!("; odd: {oddity}");
    }
    Action::Send {
        bytes: fitted.bytes,
        packet: Box::new(packet),
        destination,
        summary,
    }
}

/// What the client takes, in which order it wants its options, and in which fields it looks for them.
///
/// Source: RFC 2132 sections 9.8 and 9.10.
fn limits(request: &Request) -> codec::Limits {
    let packet = &request.packet;
    let datagram = packet
        .u16(code::MAX_MESSAGE_SIZE)
        .map_or(SMALLEST_DATAGRAM_BYTES, usize::from)
        .clamp(SMALLEST_DATAGRAM_BYTES, LARGEST_DATAGRAM_BYTES);
    // Without a list anything may be what the client cannot do without.
    let listed = packet.get(code::PARAMETER_LIST).unwrap_or(&THEN);
    codec::Limits {
        message_bytes: datagram - HEADERS_BYTES,
        wanted: FIRST.iter().chain(listed).copied().collect(),
        welcome: THEN.to_vec(),
        spare: match request.stage {
            Stage::Agent | Stage::Os => &[Field::File, Field::ServerName],
            // Firmware takes whatever stands in `file` for a boot file's name, whether option 52 says so or not.
            Stage::Firmware => &[Field::ServerName],
            // iPXE does not know option 52 (its `src/net/dhcppkt.c`).
            Stage::Ipxe => &[],
        },
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

fn summary(request: &Request, reply: &Packet, destination: Destination, why: &str) -> String {
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
    text
}

fn silent(why: impl Into<String>) -> Action {
    Action::Silent { why: why.into() }
}
