//! IPv4 and UDP headers, for packet sockets (`AF_PACKET`, `SOCK_DGRAM`).
//!
//! Needed where the kernel's UDP will not do: the server's reply to an address that its host does not have yet
//! (RFC 2131 section 4.1), and a client without an address. Source: RFC 791, RFC 768.

use std::net::{Ipv4Addr, SocketAddrV4};

const IP_HEADER_BYTES: usize = 20;
const UDP_HEADER_BYTES: usize = 8;
const UDP: u8 = 17;
const TTL: u8 = 64;

/// A received UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    pub source: SocketAddrV4,
    pub destination: SocketAddrV4,
    pub payload: &'a [u8],
}

/// Builds an IPv4 packet with one UDP datagram in it.
///
/// Returns `None` if the payload is too long for one packet (more than 65,507 B).
pub fn build(source: SocketAddrV4, destination: SocketAddrV4, payload: &[u8]) -> Option<Vec<u8>> {
    let udp_len = u16::try_from(UDP_HEADER_BYTES + payload.len()).ok()?;
    let ip_len = u16::try_from(IP_HEADER_BYTES + usize::from(udp_len)).ok()?;
    let mut udp = Vec::with_capacity(usize::from(udp_len));
    udp.extend(source.port().to_be_bytes());
    udp.extend(destination.port().to_be_bytes());
    udp.extend(udp_len.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    // A computed zero is sent as all ones: zero means "no checksum" (RFC 768).
    let checksum = match !fold(pseudo_header(*source.ip(), *destination.ip(), udp_len) + sum(&udp)) {
        0 => u16::MAX,
        checksum => checksum,
    };

    let mut packet = Vec::with_capacity(usize::from(ip_len));
    packet.extend([0x45, 0]);
    packet.extend(ip_len.to_be_bytes());
    // Identification 0, do not fragment (RFC 6864 section 4.1).
    packet.extend([0, 0, 0x40, 0, TTL, UDP, 0, 0]);
    packet.extend(source.ip().octets());
    packet.extend(destination.ip().octets());
    let ip_checksum = !fold(sum(&packet));
    for (at, bytes, value) in [(10, &mut packet, ip_checksum), (6, &mut udp, checksum)] {
        bytes.splice(at..at + 2, value.to_be_bytes());
    }
    packet.extend(udp);
    Some(packet)
}

/// Reads an IPv4 packet as it comes from a packet socket; `None` unless it is one whole, intact UDP datagram to `port`.
///
/// A datagram of the same host (veth, tap, virtio) may come with its checksum not computed yet, since no wire was to be
/// crossed: the field then holds the sum over the pseudo header only. That is taken as intact.
pub fn parse(packet: &[u8], port: u16) -> Option<Datagram<'_>> {
    let version_and_len = *packet.first()?;
    let header_len = usize::from(version_and_len & 0xf) * 4;
    if version_and_len >> 4 != 4 || header_len < IP_HEADER_BYTES {
        return None;
    }
    // Ethernet pads short frames: what is longer than the packet says does not belong to it.
    let packet = packet.get(..usize::from(u16_at(packet, 2)?))?;
    let (header, udp) = packet.split_at_checked(header_len)?;
    let is_fragment = u16_at(header, 6)? & 0x3fff != 0;
    if is_fragment || *header.get(9)? != UDP || fold(sum(header)) != u16::MAX {
        return None;
    }
    let source = address_at(header, 12)?;
    let destination = address_at(header, 16)?;

    let udp_len = u16_at(udp, 4)?;
    let udp = udp.get(..usize::from(udp_len))?;
    let payload = udp.get(UDP_HEADER_BYTES..)?;
    let pseudo = pseudo_header(source, destination, udp_len);
    let checksum = u16_at(udp, 6)?;
    let intact = checksum == 0 || checksum == fold(pseudo) || fold(pseudo + sum(udp)) == u16::MAX;
    if u16_at(udp, 2)? != port || !intact {
        return None;
    }
    Some(Datagram {
        source: SocketAddrV4::new(source, u16_at(udp, 0)?),
        destination: SocketAddrV4::new(destination, port),
        payload,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk::<2>()
        .map(|bytes| u16::from_be_bytes(*bytes))
}

fn address_at(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    bytes
        .get(at..)?
        .first_chunk::<4>()
        .map(|bytes| Ipv4Addr::from(*bytes))
}

fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, udp_len: u16) -> u32 {
    sum(&source.octets()) + sum(&destination.octets()) + u32::from(UDP) + u32::from(udp_len)
}

/// Adds up 16-bit words; cannot overflow for packets of at most 64 KiB.
fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let whole: u32 = words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .sum();
    whole + rest.first().map_or(0, |last| u32::from(*last) << 8)
}

/// Folds a sum into 16 bits with end-around carry (RFC 1071).
fn fold(sum: u32) -> u16 {
    let once = (sum >> 16) + (sum & 0xffff);
    ((once >> 16) + (once & 0xffff)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 1), 67);
    const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 11), 68);

    #[test]
    fn what_is_built_is_read_back() {
        for payload in [&b""[..], b"a", b"ab", &[0xff; 1400]] {
            let packet = build(SERVER, CLIENT, payload).unwrap();
            let datagram = parse(&packet, 68).unwrap();
            assert_eq!(
                datagram,
                Datagram {
                    source: SERVER,
                    destination: CLIENT,
                    payload
                }
            );
        }
        assert!(build(SERVER, CLIENT, &[0; 65_508]).is_none());
        assert!(build(SERVER, CLIENT, &[0; 65_507]).is_some());
    }

    #[test]
    fn checksums_are_those_of_a_known_packet() {
        // Added up by hand as RFC 1071 says: 10.0.0.1:1 to 10.0.0.2:2 with payload "hi".
        let at = |last, port| SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), port);
        let packet = build(at(1, 1), at(2, 2), b"hi").unwrap();
        assert_eq!(packet[10..12], [0x26, 0xcd]);
        assert_eq!(packet[26..28], [0x83, 0x6b]);
    }

    #[test]
    fn other_ports_and_broken_packets_are_left_alone() {
        let packet = build(SERVER, CLIENT, b"payload").unwrap();
        assert!(parse(&packet, 67).is_none());
        for len in 0..packet.len() {
            assert!(parse(&packet[..len], 68).is_none(), "cut to {len} B");
        }
        for at in 0..packet.len() {
            let mut broken = packet.clone();
            broken[at] ^= 0x10;
            assert!(parse(&broken, 68).is_none(), "byte {at} changed");
        }
    }

    #[test]
    fn padding_of_a_short_frame_is_dropped() {
        let mut packet = build(SERVER, CLIENT, b"x").unwrap();
        packet.resize(46, 0xee);
        assert_eq!(parse(&packet, 68).unwrap().payload, b"x");
    }

    #[test]
    fn absent_and_unfinished_checksums_are_taken() {
        let mut packet = build(SERVER, CLIENT, b"payload").unwrap();
        packet[26..28].copy_from_slice(&[0, 0]);
        assert!(parse(&packet, 68).is_some());
        let unfinished = fold(pseudo_header(*SERVER.ip(), *CLIENT.ip(), 15));
        packet[26..28].copy_from_slice(&unfinished.to_be_bytes());
        assert!(parse(&packet, 68).is_some());
    }

    #[test]
    fn fragments_are_left_alone() {
        let mut packet = build(SERVER, CLIENT, b"payload").unwrap();
        packet[6] = 0x20;
        packet[10..12].copy_from_slice(&[0, 0]);
        let checksum = !fold(sum(&packet[..20]));
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        assert!(parse(&packet, 68).is_none());
    }
}
