//! A reply is never longer than its client takes, and what a client needs most is in it.

use std::net::Ipv4Addr;

use dhcp::options::{self, code};
use dhcp::server::{Action, Answer, classify, reply};
use dhcp::{MessageType, Packet, decode};
use proptest::prelude::*;

use crate::packets::{ADDRESS, MAC, SERVER, answer, ipxe_discover, pxe_discover};

/// A record with long names and 24 routes.
fn long() -> Answer {
    let mut long = answer("snponly.efi");
    long.lease.hostname = Some("n".repeat(63));
    long.lease.domain = Some(format!("{}.{}.example", "d".repeat(50), "e".repeat(50)));
    long.lease.routes = (0..24)
        .map(|n| (Ipv4Addr::new(172, 16, n, 0), 24, Ipv4Addr::new(10, 77, 0, 2)))
        .collect();
    long
}

/// As [`long`], for a client that boots nothing.
fn long_without_file() -> Answer {
    let mut long = long();
    long.boot_file = None;
    long
}

/// An operating system that takes no more than every client has to.
fn small_discover(listed: &[u8]) -> Packet {
    let mut packet = Packet::request(MessageType::Discover, MAC, 7);
    packet
        .set(code::MAX_MESSAGE_SIZE, 576_u16.to_be_bytes())
        .set(code::PARAMETER_LIST, listed);
    packet
}

#[track_caller]
fn sent(packet: &Packet, answer: &Answer) -> (Vec<u8>, Packet, String) {
    match reply(&classify(packet), answer, &SERVER) {
        Action::Send {
            bytes,
            packet,
            summary,
            ..
        } => {
            let decoded = decode(&bytes).unwrap();
            assert_eq!(decoded, *packet, "what is told is what is sent");
            (bytes, decoded, summary)
        }
        other => panic!("not sent: {other:?}"),
    }
}

#[test]
fn a_client_that_takes_576_bytes_gets_548_and_hears_what_it_lacks() {
    let listed = [1, 3, 6, 15, 12, 121, 42, 119];
    let (bytes, offer, summary) = sent(&small_discover(&listed), &long_without_file());
    assert!(bytes.len() <= 548, "{} B", bytes.len());
    assert_eq!(
        (offer.yiaddr, offer.server_id(), offer.u32(code::LEASE_TIME)),
        (ADDRESS, Some(SERVER.address), Some(86_400))
    );
    // 240 B of header, 308 B of options: 21 B always, then 6 + 10 + 112 + 66 B in the client's order, 3 B for option
    // 52. The routes (194 B) fit nowhere, the domain search (113 B) into `file`.
    assert_eq!(
        options::decode_domains(offer.get(code::DOMAIN_SEARCH).unwrap()).len(),
        1
    );
    for there in [
        code::ROUTER,
        code::NAME_SERVER,
        code::DOMAIN_NAME,
        code::HOST_NAME,
        code::NTP_SERVER,
    ] {
        assert!(offer.get(there).is_some(), "option {there}");
    }
    assert_eq!(offer.get(code::CLASSLESS_ROUTES), None);
    assert!(
        summary.contains("the client takes 548 B, so there is no room for option 121 (static routes)"),
        "{summary}"
    );
}

#[test]
fn the_clients_order_decides_what_is_left_out() {
    let (bytes, offer, summary) = sent(
        &small_discover(&[1, 121, 3, 6, 15, 12, 42, 119]),
        &long_without_file(),
    );
    assert!(bytes.len() <= 548);
    let routes = options::decode_routes(offer.get(code::CLASSLESS_ROUTES).unwrap());
    assert_eq!(routes, long().lease.routes);
    // The domain (110 B) is in `file`, so its search list (113 B) found no room.
    assert!(offer.get(code::DOMAIN_NAME).is_some());
    assert!(
        summary.contains("no room for option 119 (domain search)"),
        "{summary}"
    );
    let asked_first: Vec<u8> = wire_order(&bytes).into_iter().take(6).collect();
    assert_eq!(asked_first, [53, 54, 51, 1, 121, 3]);
}

#[test]
fn what_is_not_asked_for_goes_first() {
    let (_, offer, summary) = sent(&small_discover(&[1, 3, 6, 12]), &long_without_file());
    assert!(offer.sname.is_empty() && offer.file.is_empty());
    for there in [code::ROUTER, code::NAME_SERVER, code::HOST_NAME] {
        assert!(offer.get(there).is_some(), "option {there}");
    }
    assert!(
        summary.contains("no room for option 121 (static routes)"),
        "{summary}"
    );
    let (bytes, ..) = sent(&small_discover(&[1, 3, 6, 12]), &long_without_file());
    assert!(!wire_order(&bytes).contains(&code::OPTION_OVERLOAD));
}

#[test]
fn firmware_keeps_its_file_name_and_gets_options_in_sname() {
    let mut discover = pxe_discover(7);
    discover
        .set(code::MAX_MESSAGE_SIZE, 576_u16.to_be_bytes())
        .set(code::PARAMETER_LIST, [1, 3, 6, 121, 15, 12, 66, 67, 43, 60]);
    let (bytes, offer, _) = sent(&discover, &long());
    assert!(bytes.len() <= 548);
    assert_eq!(&bytes[108..120], b"snponly.efi\0", "the field itself");
    assert_eq!(offer.text(code::BOOT_FILE_NAME), Some("snponly.efi"));
    assert_eq!(offer.vendor_class().as_deref(), Some("PXEClient"));
    assert_eq!(
        options::decode_routes(offer.get(code::CLASSLESS_ROUTES).unwrap()).len(),
        24
    );
}

#[test]
fn ipxe_which_knows_no_overload_is_sent_none() {
    let mut discover = ipxe_discover(7);
    discover.set(code::MAX_MESSAGE_SIZE, 576_u16.to_be_bytes());
    let (bytes, offer, _) = sent(&discover, &long());
    assert!(bytes.len() <= 548);
    assert!(!wire_order(&bytes).contains(&code::OPTION_OVERLOAD));
    assert_eq!(offer.boot_file().as_deref(), Some("snponly.efi"));
}

#[test]
fn what_a_client_says_of_its_room_is_kept_within_what_it_can_be() {
    let longest = |said: Option<u16>| {
        let mut packet = small_discover(&[1, 3, 6, 12, 15, 121, 119]);
        packet.options.remove(&code::MAX_MESSAGE_SIZE);
        if let Some(said) = said {
            packet.set(code::MAX_MESSAGE_SIZE, said.to_be_bytes());
        }
        let mut huge = long();
        huge.lease.routes = (0..200)
            .map(|n| (Ipv4Addr::new(172, 16, n, 0), 24, Ipv4Addr::new(10, 77, 0, 2)))
            .collect();
        let (bytes, offer, summary) = sent(&packet, &huge);
        (bytes.len(), offer.get(code::CLASSLESS_ROUTES).is_some(), summary)
    };
    for said in [None, Some(0), Some(300), Some(576)] {
        let (len_bytes, routes, summary) = longest(said);
        assert!(len_bytes <= 548 && !routes, "{said:?}: {len_bytes} B");
        assert!(summary.contains("takes 548 B"), "{summary}");
    }
    let (len_bytes, routes, summary) = longest(Some(9000));
    assert!(
        len_bytes <= 1472 && !routes,
        "{len_bytes} B in one Ethernet frame"
    );
    assert!(summary.contains("takes 1472 B"), "{summary}");
}

#[test]
fn a_long_option_is_split_and_stays_whole() {
    let mut packet = small_discover(&[121, 3]);
    packet.set(code::MAX_MESSAGE_SIZE, 1500_u16.to_be_bytes());
    let mut many = long();
    many.lease.routes = (0..100)
        .map(|n| (Ipv4Addr::new(172, 16, n, 0), 24, Ipv4Addr::new(10, 77, 0, 2)))
        .collect();
    let (bytes, offer, _) = sent(&packet, &many);
    assert_eq!(
        options::decode_routes(offer.get(code::CLASSLESS_ROUTES).unwrap()),
        many.lease.routes
    );
    let parts: Vec<u8> = wire_order(&bytes)
        .into_iter()
        .filter(|code| *code == 121)
        .collect();
    assert_eq!(parts.len(), 4, "800 B in parts of 255 B (RFC 3396)");
}

#[test]
fn texts_end_with_a_pad_option_for_readers_up_to_a_zero() {
    let (bytes, ..) = sent(&pxe_discover(0), &answer("undionly.kpxe"));
    for text in [
        &b"undionly.kpxe"[..],
        b"10.77.0.1",
        b"node-1",
        b"lab.example",
        b"PXEClient",
    ] {
        let at = bytes[240..]
            .windows(text.len())
            .position(|window| window == text)
            .unwrap();
        assert_eq!(bytes[240 + at + text.len()], 0, "{}", text.escape_ascii());
    }
}

#[test]
fn a_relays_option_is_the_last_and_comes_back_whole() {
    let mut packet = small_discover(&[1, 3, 6, 15, 12, 121, 42, 119]);
    packet.giaddr = Ipv4Addr::new(10, 78, 0, 1);
    let circuit = [&[1, 200][..], &[7; 200]].concat();
    packet.set(code::RELAY_AGENT_INFORMATION, &circuit);
    let (bytes, offer, _) = sent(&packet, &long_without_file());
    assert!(bytes.len() <= 548);
    assert_eq!(offer.relay_agent_information(), Some(&circuit[..]));
    assert_eq!(wire_order(&bytes).last(), Some(&code::RELAY_AGENT_INFORMATION));
}

/// The options field's option numbers as they stand on the wire.
fn wire_order(bytes: &[u8]) -> Vec<u8> {
    let mut order = Vec::new();
    let mut at = 240;
    loop {
        match bytes[at..] {
            [255, ..] | [] => return order,
            [0, ..] => at += 1,
            [code, len, ..] => {
                order.push(code);
                at += 2 + usize::from(len);
            }
            [_] => panic!("an option without a length"),
        }
    }
}

prop_compose! {
    fn any_answer()(
        hostname in "[a-z]{0,255}",
        domain in "[a-z]{1,60}(\\.[a-z]{1,60}){0,3}",
        file in "[a-z/]{0,400}",
        routes in 0u8..120,
        servers in 0u8..70,
    ) -> Answer {
        let mut any = answer(&file);
        any.lease.hostname = Some(hostname);
        any.lease.domain = Some(domain);
        any.lease.routes =
            (0..routes).map(|n| (Ipv4Addr::new(172, n, 0, 0), 16, SERVER.address)).collect();
        any.lease.name_servers = (0..servers).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
        any
    }
}

proptest! {
    #[test]
    fn whatever_the_record_a_reply_fits_and_has_what_it_must(
        any in any_answer(),
        said in proptest::option::of(any::<u16>()),
        listed in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..60)),
        relay in proptest::collection::vec(any::<u8>(), 0..255),
        client_id in proptest::collection::vec(any::<u8>(), 2..60),
        who in 0..3,
    ) {
        let mut packet = match who {
            0 => pxe_discover(7),
            1 => ipxe_discover(0),
            _ => Packet::request(MessageType::Discover, MAC, 7),
        };
        for (code, data) in [
            (code::MAX_MESSAGE_SIZE, said.map(|said| said.to_be_bytes().to_vec())),
            (code::PARAMETER_LIST, listed),
            (code::RELAY_AGENT_INFORMATION, Some(relay.clone())),
            (code::CLIENT_ID, Some(client_id)),
        ] {
            packet.options.remove(&code);
            if let Some(data) = data.filter(|data| !data.is_empty()) {
                packet.set(code, data);
            }
        }
        let (bytes, offer, _) = sent(&packet, &any);
        let takes = said.map_or(548, |said| usize::from(said.clamp(576, 1500)) - 28);
        prop_assert!(bytes.len() <= takes, "{} B of {takes} B", bytes.len());
        prop_assert_eq!(offer.yiaddr, ADDRESS);
        prop_assert_eq!(offer.message_type(), Some(MessageType::Offer));
        prop_assert_eq!(offer.server_id(), Some(SERVER.address));
        prop_assert_eq!(offer.u32(code::LEASE_TIME), Some(86_400));
        prop_assert!(offer.get(code::SUBNET_MASK).is_some());
        prop_assert_eq!(offer.relay_agent_information().unwrap_or_default(), &relay[..]);
    }
}
