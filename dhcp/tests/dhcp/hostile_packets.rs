//! What arrives may be anything: it gives a packet or an error, never a panic.

use dhcp::options::code;
use dhcp::server::{classify, reply};
use dhcp::{DecodeError, Op, Packet, decode, encode};
use proptest::prelude::*;

use crate::packets::{MAC, SERVER, answer, ipxe_discover, pxe_discover, render};

fn valid() -> Vec<u8> {
    encode(&ipxe_discover(7)).unwrap()
}

#[track_caller]
fn check_error(change: impl FnOnce(&mut Vec<u8>), want: &str) {
    let mut bytes = valid();
    change(&mut bytes);
    assert_eq!(decode(&bytes).unwrap_err().to_string(), want);
}

#[test]
fn refuses_headers_that_cannot_be() {
    let type_1 =
        |hlen| format!("hardware address of type 1 with {hlen} B, only Ethernet (type 1 with 6 B) is served");
    check_error(|bytes| bytes[2] = 255, &type_1(255));
    check_error(|bytes| bytes[2] = 17, &type_1(17));
    check_error(|bytes| bytes[2] = 0, &type_1(0));
    check_error(
        |bytes| bytes[1] = 32,
        "hardware address of type 32 with 6 B, only Ethernet (type 1 with 6 B) is served",
    );
    check_error(|bytes| bytes[0] = 3, "op is 3, must be 1 (request) or 2 (reply)");
    check_error(
        |bytes| bytes[236] = 0,
        "magic cookie is [00, 82, 53, 63], must be [63, 82, 53, 63]",
    );
    check_error(
        |bytes| bytes[28] = 1,
        "hardware address 01:54:00:77:00:0b is not that of one host",
    );
    check_error(
        |bytes| bytes[28..34].fill(0),
        "hardware address 00:00:00:00:00:00 is not that of one host",
    );
    check_error(
        |bytes| bytes.truncate(239),
        "packet has 239 B, a DHCP packet has at least 240 B",
    );
    check_error(
        |bytes| bytes.clear(),
        "packet has 0 B, a DHCP packet has at least 240 B",
    );
    check_error(
        |bytes| bytes.resize(4097, 0),
        "packet has 4097 B, more than 4096 B are not read",
    );
}

#[test]
fn a_long_hlen_with_six_bytes_of_address_is_read() {
    let mut bytes = valid();
    bytes[2] = 16;
    let packet = decode(&bytes).unwrap();
    assert_eq!(packet.chaddr, MAC);
    assert_eq!(packet.oddities, ["hlen is 16, must be 6 for Ethernet"]);
    bytes[40] = 1;
    assert!(matches!(
        decode(&bytes),
        Err(DecodeError::HardwareAddress { hlen: 16, .. })
    ));
}

/// Replaces the options of a packet by these bytes.
fn with_options(options: &[u8]) -> Packet {
    let mut bytes = valid();
    bytes.truncate(240);
    bytes.extend(options);
    decode(&bytes).unwrap()
}

#[test]
fn one_bad_option_does_not_hide_the_others() {
    let packet = with_options(&[
        1, 3, 255, 255, 255, 50, 2, 1, 2, 94, 2, 1, 2, 80, 1, 7, 97, 3, 0, 1, 2, 93, 3, 0, 7, 9, 60, 9, b'P',
        b'X', b'E', b'C', b'l', b'i', b'e', b'n', b't', 12, 2, 0xff, 0xfe, 53, 1, 1, 255,
    ]);
    assert_eq!(packet.vendor_class().as_deref(), Some("PXEClient"));
    assert_eq!(packet.message_type(), Some(dhcp::MessageType::Discover));
    assert_eq!(packet.architectures(), [7]);
    assert_eq!(
        (packet.get(1), packet.get(50), packet.text(12)),
        (None, None, None)
    );
    assert_eq!(
        packet.oddities,
        [
            "option 1 (netmask) has 3 B, must be 4 B; ignored",
            "option 50 (requested address) has 2 B, must be 4 B; ignored",
            "option 93 (architecture) has 3 B, must be a multiple of 2 B",
            "option 94 (network interface) has 2 B, must be 3 B",
            "option 97 (machine UUID) has 3 B, must be 17 B beginning with 0",
        ]
    );
    let request = classify(&packet);
    assert_eq!(request.firmware, Some(dhcp::server::Firmware::UefiPxe));
}

#[test]
fn a_uuid_of_the_right_length_is_not_told_to_have_a_wrong_one() {
    let mut options = vec![53, 1, 1, 97, 17, 7];
    options.extend([0xab; 16]);
    options.push(255);
    assert_eq!(
        with_options(&options).oddities,
        ["option 97 (machine UUID) begins with 7, must begin with 0"]
    );
}

#[test]
fn options_before_a_broken_length_are_kept() {
    let packet = with_options(&[53, 1, 1, 12, 200, b'a', b'b']);
    assert_eq!(packet.message_type(), Some(dhcp::MessageType::Discover));
    assert_eq!(packet.get(12), None);
    assert_eq!(
        packet.oddities,
        ["option 12 at byte 3 of options is longer than what is left; it and what follows are ignored"]
    );
    assert_eq!(with_options(&[53, 1, 1, 12]).oddities.len(), 1);
    assert_eq!(with_options(&[53, 1, 1]).oddities.len(), 0);
}

#[test]
fn repeated_options_are_joined_also_when_they_stand_apart() {
    let packet = with_options(&[67, 2, b'a', b'b', 67, 1, b'c', 53, 1, 1, 67, 2, b'd', b'e', 255]);
    assert_eq!(packet.boot_file().as_deref(), Some("abcde"));
}

#[test]
fn option_overload_is_followed() {
    let mut bytes = valid();
    bytes.truncate(240);
    bytes.extend([53, 1, 1, 12, 1, b'a', 52, 1, 3, 255]);
    bytes[108..113].copy_from_slice(&[12, 1, b'b', 255, 9]);
    bytes[44..48].copy_from_slice(&[12, 1, b'c', 255]);
    let packet = decode(&bytes).unwrap();
    assert_eq!(packet.text(12), Some("abc"));
    assert!(packet.file.is_empty() && packet.sname.is_empty() && packet.oddities.is_empty());

    // Found by fuzzing: overload inside an overloaded field would be sent on.
    bytes[108..112].copy_from_slice(&[52, 1, 2, 255]);
    let packet = decode(&bytes).unwrap();
    assert_eq!(packet.get(code::OPTION_OVERLOAD), None);
    assert_eq!(
        packet.oddities,
        ["option 52 (overload) stands inside an overloaded field; ignored"]
    );
}

#[test]
fn options_longer_than_255_bytes_go_there_and_back() {
    let mut packet = pxe_discover(7);
    packet
        .set(code::VENDOR_SPECIFIC, vec![7; 600])
        .set(code::RELAY_AGENT_INFORMATION, [1, 2, 3, 4]);
    let bytes = encode(&packet).unwrap();
    assert_eq!(decode(&bytes).unwrap(), packet);
    assert!(
        bytes.ends_with(&[82, 4, 1, 2, 3, 4, 255]),
        "option 82 must come last"
    );
}

#[test]
fn texts_that_do_not_fit_are_not_sent() {
    let mut packet = pxe_discover(7);
    packet.file = vec![b'a'; 127];
    packet.sname = vec![b'b'; 63];
    assert_eq!(decode(&encode(&packet).unwrap()).unwrap(), packet);
    packet.file.push(b'a');
    assert_eq!(
        encode(&packet).unwrap_err().to_string(),
        "file name has 128 B, the field holds 127 B"
    );
    packet.file.clear();
    packet.sname.push(b'b');
    assert_eq!(
        encode(&packet).unwrap_err().to_string(),
        "server name has 64 B, the field holds 63 B"
    );
    packet.sname.clear();
    packet.set(code::VENDOR_SPECIFIC, vec![7; 5000]);
    assert!(encode(&packet).is_err());
}

#[test]
fn a_short_packet_is_padded_to_the_bootp_minimum() {
    let packet = Packet::request(dhcp::MessageType::Discover, MAC, 1);
    assert_eq!(encode(&packet).unwrap().len(), 300);
}

/// Runs everything that looks at packets from the wire.
fn survive(bytes: &[u8]) {
    if let Ok(packet) = decode(bytes) {
        let _ = render(&packet);
        let _ = (packet.boot_file(), packet.user_classes(), packet.machine_uuid());
        let _ = reply(&classify(&packet), &answer("snponly.efi"), &SERVER);
        let _ = encode(&packet);
    }
    let _ = dhcp::frame::parse(bytes, 68);
    let now = std::time::Instant::now();
    let mut client = dhcp::client::Client::new(MAC, 1, now);
    client.on_timeout(now);
    client.on_packet(now, bytes);
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let text = |len| proptest::collection::vec(1..=255_u8, 0..len);
    let options =
        proptest::collection::btree_map(98..=254_u8, proptest::collection::vec(any::<u8>(), 1..400), 0..6);
    let addresses = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    (
        any::<bool>(),
        any::<u8>(),
        any::<u32>(),
        any::<u16>(),
        any::<bool>(),
        addresses,
        text(64),
        text(128),
        options,
    )
        .prop_map(
            |(op, hops, xid, secs, broadcast, (ciaddr, yiaddr, siaddr, giaddr), sname, file, options)| {
                let mut packet = Packet::request(dhcp::MessageType::Discover, MAC, xid);
                packet.op = if op { Op::Request } else { Op::Reply };
                (packet.hops, packet.secs, packet.broadcast) = (hops, secs, broadcast);
                (packet.ciaddr, packet.yiaddr) = (ciaddr.into(), yiaddr.into());
                (packet.siaddr, packet.giaddr) = (siaddr.into(), giaddr.into());
                (packet.sname, packet.file) = (sname, file);
                packet.options.extend(options);
                packet
            },
        )
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
        survive(&bytes);
    }

    #[test]
    fn arbitrary_options_do_no_harm(options in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut bytes = valid();
        bytes.truncate(240);
        bytes.extend(options);
        survive(&bytes);
    }

    #[test]
    fn changed_packets_do_no_harm(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..30),
        len in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = valid();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(len.index(bytes.len()));
        }
        survive(&bytes);
    }

    #[test]
    fn what_is_encoded_is_decoded(packet in any_packet()) {
        match encode(&packet) {
            Ok(bytes) => prop_assert_eq!(decode(&bytes).unwrap(), packet),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn what_was_decoded_can_be_encoded_again(options in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut bytes = valid();
        bytes.truncate(240);
        bytes.extend(options);
        let mut packet = decode(&bytes).unwrap();
        packet.oddities.clear();
        packet.options.retain(|_, data| !data.is_empty());
        // Oddities that are kept (a bad UUID) are found again.
        let mut again = decode(&encode(&packet).unwrap()).unwrap();
        again.oddities.clear();
        prop_assert_eq!(again, packet);
    }
}
