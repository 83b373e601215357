//! What a switch says of itself and of the port that a cable is in (LLDP). Pure.
//!
//! Source: IEEE 802.1AB-2016, section 8 (TLVs) and annex D.2.1 (port VLAN id); IANA address family numbers.

use std::net::{Ipv4Addr, Ipv6Addr};

use proto::inventory::cleaned;
use proto::v1::LldpNeighbour;

const END: u8 = 0;
const CHASSIS_ID: u8 = 1;
const PORT_ID: u8 = 2;
const TIME_TO_LIVE: u8 = 3;
const PORT_DESCRIPTION: u8 = 4;
const SYSTEM_NAME: u8 = 5;
const OF_AN_ORGANISATION: u8 = 127;
/// IEEE 802.1's, and of its texts the one with the VLAN of untagged frames.
const PORT_VLAN_ID: [u8; 4] = [0x00, 0x80, 0xc2, 0x01];

/// A neighbour, and for how many seconds it is one; 0: it says goodbye. `None`: the frame, from behind its Ethernet type on, is
/// none of LLDP's, as the three texts that every one begins with are not there in their order.
pub fn parse(frame: &[u8]) -> Option<(LldpNeighbour, u16)> {
    let mut texts = Texts(frame);
    let [chassis, port, life] = [CHASSIS_ID, PORT_ID, TIME_TO_LIVE].map(|kind| {
        let (found, value) = texts.next()?;
        (found == kind).then_some(value)
    });
    let mut neighbour = LldpNeighbour {
        chassis_id: chassis_id(chassis?)?,
        port_id: port_id(port?)?,
        ..LldpNeighbour::default()
    };
    let seconds = u16::from_be_bytes(*life?.first_chunk()?);
    for (kind, value) in texts {
        match kind {
            PORT_DESCRIPTION => neighbour.port_description = text(value),
            SYSTEM_NAME => neighbour.system_name = text(value),
            OF_AN_ORGANISATION => {
                let vlan = value.strip_prefix(&PORT_VLAN_ID).and_then(<[u8]>::first_chunk);
                if let Some(vlan) = vlan {
                    neighbour.vlan_id = u32::from(u16::from_be_bytes(*vlan));
                }
            }
            _ => {}
        }
    }
    Some((neighbour, seconds))
}

/// Kinds and values, up to the end or to one that does not fit.
struct Texts<'a>(&'a [u8]);

impl<'a> Iterator for Texts<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.0.split_first_chunk()?;
        // Seven bits of kind, nine of length.
        let head = u16::from_be_bytes(*head);
        let (kind, len) = ((head >> 9) as u8, usize::from(head & 0x1ff));
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        (kind != END).then_some((kind, value))
    }
}

fn chassis_id(value: &[u8]) -> Option<String> {
    let (kind, id) = value.split_first()?;
    Some(match kind {
        4 => hexadecimal(id),
        5 => network_address(id),
        _ => text(id),
    })
}

fn port_id(value: &[u8]) -> Option<String> {
    let (kind, id) = value.split_first()?;
    Some(match kind {
        3 => hexadecimal(id),
        4 => network_address(id),
        _ => text(id),
    })
}

fn text(value: &[u8]) -> String {
    cleaned(&String::from_utf8_lossy(value))
}

/// As MAC addresses are written.
fn hexadecimal(id: &[u8]) -> String {
    let bytes: Vec<String> = id.iter().take(32).map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

fn network_address(id: &[u8]) -> String {
    match id {
        [1, address @ ..] => address
            .first_chunk::<4>()
            .map(|bytes| Ipv4Addr::from(*bytes).to_string()),
        [2, address @ ..] => address
            .first_chunk::<16>()
            .map(|bytes| Ipv6Addr::from(*bytes).to_string()),
        _ => None,
    }
    .unwrap_or_else(|| hexadecimal(id))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn value(kind: u8, value: &[u8]) -> Vec<u8> {
        let head = u16::from(kind) << 9 | value.len() as u16;
        [&head.to_be_bytes(), value].concat()
    }

    /// As a switch sends it, without the Ethernet header.
    pub(crate) fn frame(seconds: u16) -> Vec<u8> {
        [
            value(CHASSIS_ID, &[4, 0x00, 0x1c, 0x73, 1, 2, 3]),
            value(PORT_ID, b"\x05Ethernet12"),
            value(TIME_TO_LIVE, &seconds.to_be_bytes()),
            value(PORT_DESCRIPTION, b"to node1"),
            value(SYSTEM_NAME, b"rack7-leaf1\n"),
            value(OF_AN_ORGANISATION, &[0x00, 0x80, 0xc2, 0x01, 0x00, 0x0c]),
            value(OF_AN_ORGANISATION, &[0x00, 0x12, 0x0f, 0x01, 0xff]),
            value(END, &[]),
            value(SYSTEM_NAME, b"behind the end"),
        ]
        .concat()
    }

    #[test]
    fn a_switch_says_which_port_the_cable_is_in() {
        let want = LldpNeighbour {
            chassis_id: "00:1c:73:01:02:03".into(),
            port_id: "Ethernet12".into(),
            port_description: "to node1".into(),
            system_name: "rack7-leaf1".into(),
            vlan_id: 12,
        };
        assert_eq!(parse(&frame(120)), Some((want, 120)));
    }

    #[test]
    fn ids_of_other_kinds_are_written_as_what_they_are() {
        let of = |chassis: &[u8], port: &[u8]| {
            let frame = [value(1, chassis), value(2, port), value(3, &[0, 0])].concat();
            let (neighbour, seconds) = parse(&frame).expect("LLDP");
            assert_eq!(seconds, 0);
            (neighbour.chassis_id, neighbour.port_id)
        };
        assert_eq!(
            of(b"\x05\x01\x0a\x00\x00\x01", b"\x07 12\x00"),
            ("10.0.0.1".into(), "12".into())
        );
        assert_eq!(
            of(b"\x05\x09\x0a", b"\x03\xab\xcd"),
            ("09:0a".into(), "ab:cd".into())
        );
    }

    #[test]
    fn what_is_no_frame_of_lldp_is_no_neighbour() {
        let whole = frame(120);
        let needed = 9 + 13 + 4;
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]).is_some(), len >= needed, "{len}");
        }
        // The three in another order.
        let turned = [value(2, b"\x05a"), value(1, b"\x07b"), value(3, &[0, 1])].concat();
        assert_eq!(parse(&turned), None);
        assert_eq!(parse(&[0xff; 1500]), None);
    }
}
