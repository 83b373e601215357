//! What the server answers, as text.

use std::net::Ipv4Addr;

use dhcp::options::code;
use dhcp::server::{Action, Answer, Destination, Firmware, Stage, classify, reply};
use dhcp::{MessageType, Op, Packet, decode};

use crate::packets::{ADDRESS, MAC, SERVER, answer, ipxe_discover, pxe_discover, render, requesting};

const OVMF_DISCOVER: &[u8] = include_bytes!("captured/ovmf-discover.bin");
const OVMF_REQUEST: &[u8] = include_bytes!("captured/ovmf-request.bin");
const IPXE_ROM_DISCOVER: &[u8] = include_bytes!("captured/ipxe-rom-bios-discover.bin");
const SNPONLY_DISCOVER: &[u8] = include_bytes!("captured/snponly-discover.bin");

/// Answers a packet; returns the reply as decoded again from its bytes, where it goes, and the timeline's line.
#[track_caller]
fn sent(packet: &Packet, answer: &Answer) -> (Packet, Destination, String) {
    match reply(&classify(packet), answer, &SERVER) {
        Action::Send {
            bytes,
            packet,
            destination,
            summary,
        } => {
            let decoded = decode(&bytes).unwrap();
            assert_eq!(decoded, *packet);
            assert!(decoded.oddities.is_empty() && bytes.len() >= 300);
            (decoded, destination, summary)
        }
        other => panic!("not sent: {other:?}"),
    }
}

#[track_caller]
fn silent(packet: &Packet) -> String {
    match reply(&classify(packet), &answer("snponly.efi"), &SERVER) {
        Action::Silent { why } => why,
        other => panic!("not silent: {other:?}"),
    }
}

fn as_text((packet, destination, summary): (Packet, Destination, String)) -> String {
    format!("{}sent to {destination}\nsummary: {summary}\n", render(&packet))
}

#[test]
fn ovmf_is_offered_its_boot_file() {
    insta::assert_snapshot!(as_text(sent(
        &decode(OVMF_DISCOVER).unwrap(),
        &answer("snponly.efi")
    )));
}

#[test]
fn an_ipxe_rom_is_offered_its_script() {
    let script = "http://10.77.0.1:7080/ipxe/script/52:54:00:77:00:0b/auto.ipxe";
    insta::assert_snapshot!(as_text(sent(
        &decode(IPXE_ROM_DISCOVER).unwrap(),
        &answer(script)
    )));
}

#[test]
fn an_operating_system_gets_an_address_only() {
    let packet = Packet::request(MessageType::Discover, MAC, 7);
    let mut nothing = answer("");
    nothing.boot_file = None;
    insta::assert_snapshot!(as_text(sent(&packet, &nothing)));
}

#[test]
fn captured_packets_are_told_apart() {
    let who = |bytes| {
        let request = classify(&decode(bytes).unwrap());
        assert!(request.oddities.is_empty(), "{:?}", request.oddities);
        assert!(request.machine_uuid.is_some());
        (request.stage, request.firmware, request.arch, request.has_http)
    };
    assert_eq!(
        who(OVMF_DISCOVER),
        (Stage::Firmware, Some(Firmware::UefiPxe), Some(7), false)
    );
    assert_eq!(
        who(IPXE_ROM_DISCOVER),
        (Stage::Ipxe, Some(Firmware::Bios), Some(0), true)
    );
    assert_eq!(
        who(SNPONLY_DISCOVER),
        (Stage::Ipxe, Some(Firmware::UefiPxe), Some(7), true)
    );
}

#[test]
fn firmware_is_told_by_architecture_and_vendor_class() {
    let told = |arch: Option<u16>, class: &str| {
        let mut packet = pxe_discover(0);
        packet.options.remove(&code::CLIENT_ARCHITECTURE);
        if let Some(arch) = arch {
            packet.set(code::CLIENT_ARCHITECTURE, arch.to_be_bytes());
        }
        packet.set(code::VENDOR_CLASS, class);
        let request = classify(&packet);
        (request.firmware, request.oddities.len())
    };
    use Firmware::{Bios, UefiHttp, UefiPxe};
    assert_eq!(told(Some(0), "PXEClient:Arch:00000"), (Some(Bios), 0));
    assert_eq!(told(Some(9), "PXEClient"), (Some(UefiPxe), 0));
    assert_eq!(told(Some(11), "PXEClient"), (Some(UefiPxe), 0));
    assert_eq!(
        told(Some(16), "HTTPClient:Arch:00016:UNDI:003001"),
        (Some(UefiHttp), 0)
    );
    assert_eq!(told(Some(7), "HTTPClient"), (Some(UefiHttp), 0));
    assert_eq!(told(None, "PXEClient:Arch:00007:UNDI:003016"), (Some(UefiPxe), 1));
    assert_eq!(told(None, "PXEClient"), (Some(Bios), 1));
    assert_eq!(told(Some(4711), "PXEClient"), (Some(Bios), 1));
    assert_eq!(told(None, "HTTPClient"), (Some(UefiHttp), 1));
    assert_eq!(told(None, "udhcp 1.30"), (None, 0));
}

#[test]
fn several_architectures_give_the_first_known_one() {
    let mut packet = pxe_discover(0);
    packet.set(code::CLIENT_ARCHITECTURE, [0x12, 0x34, 0, 7, 0, 0]);
    let request = classify(&packet);
    assert_eq!(
        (request.arch, request.firmware),
        (Some(7), Some(Firmware::UefiPxe))
    );
}

#[test]
fn the_agent_and_ipxe_are_known_by_their_classes() {
    let stage = |number, data: &[u8]| {
        let mut packet = Packet::request(MessageType::Discover, MAC, 7);
        packet.set(number, data);
        classify(&packet).stage
    };
    assert_eq!(stage(code::VENDOR_CLASS, b"Farrier-Agent"), Stage::Agent);
    assert_eq!(stage(code::USER_CLASS, b"\x04iPXE"), Stage::Ipxe);
    assert_eq!(stage(code::USER_CLASS, b"Tinkerbell"), Stage::Ipxe);
    assert_eq!(stage(code::VENDOR_CLASS, b"MSFT 5.0"), Stage::Os);
}

#[test]
fn a_request_for_this_server_is_acknowledged() {
    let (packet, _, summary) = sent(
        &decode(OVMF_REQUEST).map(requesting).unwrap(),
        &answer("snponly.efi"),
    );
    assert_eq!(packet.message_type(), Some(MessageType::Ack));
    assert_eq!((packet.yiaddr, packet.siaddr), (ADDRESS, SERVER.address));
    assert_eq!(
        summary,
        "ACK 10.77.0.11 (selecting) to firmware on UEFI PXE, sent to broadcast; boots snponly.efi from 10.77.0.1"
    );
}

#[test]
fn a_request_for_another_server_is_left_to_it() {
    let mut packet = requesting(pxe_discover(7));
    packet.set_address(code::SERVER_ID, Ipv4Addr::new(10, 0, 0, 5));
    assert_eq!(silent(&packet), "another DHCP server was chosen: 10.0.0.5");
}

#[test]
fn the_wrong_address_is_refused() {
    let wrong = Ipv4Addr::new(192, 168, 1, 7);
    let mut init_reboot = Packet::request(MessageType::Request, MAC, 7);
    init_reboot.set_address(code::REQUESTED_ADDRESS, wrong);
    let mut renewing = Packet::request(MessageType::Request, MAC, 7);
    renewing.ciaddr = wrong;
    let mut selecting = requesting(pxe_discover(7));
    selecting.set_address(code::REQUESTED_ADDRESS, wrong);
    for packet in [init_reboot, renewing, selecting] {
        let (nak, destination, summary) = sent(&packet, &answer("snponly.efi"));
        assert_eq!(nak.message_type(), Some(MessageType::Nak));
        assert_eq!(
            (nak.yiaddr, nak.ciaddr),
            (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED)
        );
        assert_eq!(
            nak.text(code::MESSAGE),
            Some("192.168.1.7 is not this machine's address, 10.77.0.11 is")
        );
        assert!(nak.get(code::LEASE_TIME).is_none());
        assert_eq!(destination, Destination::Broadcast);
        assert!(summary.starts_with("NAK: 192.168.1.7 is not"), "{summary}");
    }
}

#[test]
fn renewals_go_straight_to_the_client() {
    let mut packet = Packet::request(MessageType::Request, MAC, 7);
    packet.ciaddr = ADDRESS;
    let (ack, destination, _) = sent(&packet, &answer("snponly.efi"));
    assert_eq!(
        (ack.message_type(), ack.yiaddr, ack.ciaddr),
        (Some(MessageType::Ack), ADDRESS, ADDRESS)
    );
    assert_eq!(destination, Destination::Unicast(ADDRESS));
    assert_eq!(
        (ack.u32(code::LEASE_TIME), ack.u32(code::RENEWAL_TIME)),
        (Some(86_400), Some(43_200))
    );
    assert_eq!(ack.u32(code::REBINDING_TIME), Some(75_600));
}

#[test]
fn informing_gives_no_lease() {
    let mut packet = Packet::request(MessageType::Inform, MAC, 7);
    packet.ciaddr = Ipv4Addr::new(10, 77, 0, 200);
    let (ack, destination, _) = sent(&packet, &answer("snponly.efi"));
    assert_eq!(
        (ack.message_type(), ack.yiaddr),
        (Some(MessageType::Ack), Ipv4Addr::UNSPECIFIED)
    );
    assert_eq!(
        (ack.get(code::LEASE_TIME), ack.get(code::RENEWAL_TIME)),
        (None, None)
    );
    assert!(ack.get(code::NAME_SERVER).is_some());
    assert_eq!(destination, Destination::Unicast(packet.ciaddr));
}

#[test]
fn what_is_no_request_gets_no_answer() {
    let mut packet = pxe_discover(7);
    packet.op = Op::Reply;
    assert_eq!(silent(&packet), "a server's reply, not a request");
    packet.op = Op::Request;
    packet.options.remove(&code::MESSAGE_TYPE);
    assert_eq!(
        silent(&packet),
        "BOOTP without a DHCP message type (option 53) is not served"
    );
    packet.set(code::MESSAGE_TYPE, [13]);
    assert_eq!(silent(&packet), "message type [13] is not served");
    packet.set(code::MESSAGE_TYPE, [2]);
    assert_eq!(silent(&packet), "OFFER is for clients, not for servers");
    packet.set(code::MESSAGE_TYPE, [3]);
    assert_eq!(silent(&packet), "REQUEST names neither a server nor an address");
}

#[test]
fn replies_go_where_the_client_can_take_them() {
    let relay = Ipv4Addr::new(10, 78, 0, 1);
    let mut packet = pxe_discover(7);
    packet.set(code::RELAY_AGENT_INFORMATION, [1, 2, 0xab, 0xcd]);
    let boot = answer("snponly.efi");
    assert_eq!(
        sent(&packet, &boot).1,
        Destination::Direct {
            ip: ADDRESS,
            mac: MAC
        }
    );
    packet.broadcast = true;
    assert_eq!(sent(&packet, &boot).1, Destination::Broadcast);
    packet.giaddr = relay;
    let (offer, destination, _) = sent(&packet, &boot);
    assert_eq!(destination, Destination::Relay(relay));
    assert_eq!(destination.socket_address().port(), 67);
    assert_eq!(
        (offer.giaddr, offer.relay_agent_information()),
        (relay, Some(&[1, 2, 0xab, 0xcd][..]))
    );

    let mut wrong = requesting(packet);
    wrong.broadcast = false;
    wrong.set_address(code::REQUESTED_ADDRESS, relay);
    let (nak, destination, _) = sent(&wrong, &boot);
    assert_eq!((destination, nak.broadcast), (Destination::Relay(relay), true));
}

#[test]
fn http_boot_gets_its_vendor_class_and_url_in_options() {
    let mut packet = pxe_discover(16);
    packet
        .set(code::VENDOR_CLASS, "HTTPClient:Arch:00016:UNDI:003001")
        .set(code::PARAMETER_LIST, [1, 3]);
    let url = "http://10.77.0.1:7080/ipxe/binary/snponly.efi";
    let (offer, ..) = sent(&packet, &answer(url));
    assert_eq!(offer.get(code::VENDOR_CLASS), Some(&b"HTTPClient"[..]));
    assert_eq!(offer.get(code::BOOT_FILE_NAME), Some(url.as_bytes()));
    assert_eq!(offer.get(code::VENDOR_SPECIFIC), None);
}

#[test]
fn a_file_name_too_long_for_the_field_goes_into_option_67() {
    let url = format!("http://10.77.0.1:7080/{}", "a".repeat(300));
    let (offer, ..) = sent(&ipxe_discover(0), &answer(&url));
    assert!(offer.file.is_empty());
    assert_eq!(offer.boot_file(), Some(url));
}

#[test]
fn the_operators_own_boot_server_replaces_ours() {
    let mut theirs = answer("snponly.efi");
    theirs.lease.tftp_server_name = Some("10.77.0.9".to_owned());
    theirs.lease.boot_file_name = Some("pxelinux.0".to_owned());
    let (offer, ..) = sent(&pxe_discover(0), &theirs);
    assert_eq!(
        (offer.siaddr, offer.boot_file().as_deref()),
        (Ipv4Addr::new(10, 77, 0, 9), Some("pxelinux.0"))
    );
    assert_eq!(offer.text(code::TFTP_SERVER_NAME), Some("10.77.0.9"));
    theirs.lease.boot_file_name = None;
    theirs.lease.tftp_server_name = Some("tftp.lab.example".to_owned());
    let (offer, ..) = sent(&pxe_discover(0), &theirs);
    assert_eq!((offer.siaddr, offer.boot_file()), (Ipv4Addr::UNSPECIFIED, None));
    assert_eq!(offer.sname, b"tftp.lab.example");
}

#[test]
fn odd_requests_are_served_and_the_summary_says_what_was_odd() {
    let mut packet = pxe_discover(0);
    packet.options.remove(&code::NETWORK_INTERFACE);
    packet.options.remove(&code::CLIENT_ARCHITECTURE);
    assert_eq!(
        sent(&packet, &answer("undionly.kpxe")).2,
        "OFFER 10.77.0.11 to firmware on BIOS, sent to 10.77.0.11 by its MAC; boots undionly.kpxe from 10.77.0.1; \
         odd: option 93 (architecture) is missing; option 60 says 0; odd: option 94 (network interface) is missing"
    );
}

#[test]
fn leases_without_a_time_last_a_day_and_very_long_ones_for_ever() {
    let packet = Packet::request(MessageType::Discover, MAC, 7);
    let mut reservation = answer("x");
    reservation.lease.lease_time = std::time::Duration::ZERO;
    assert_eq!(sent(&packet, &reservation).0.u32(code::LEASE_TIME), Some(86_400));
    reservation.lease.lease_time = std::time::Duration::from_secs(1 << 40);
    let (offer, ..) = sent(&packet, &reservation);
    assert_eq!(
        (offer.u32(code::LEASE_TIME), offer.get(code::RENEWAL_TIME)),
        (Some(u32::MAX), None)
    );
}

#[test]
fn a_lease_without_a_netmask_gets_the_servers() {
    let mut reservation = answer("x");
    reservation.lease.netmask = Ipv4Addr::UNSPECIFIED;
    let (offer, ..) = sent(&pxe_discover(7), &reservation);
    assert_eq!(
        offer.address(code::SUBNET_MASK),
        Some(Ipv4Addr::new(255, 255, 255, 0))
    );
    assert_eq!(
        offer.address(code::BROADCAST_ADDRESS),
        Some(Ipv4Addr::new(10, 77, 0, 255))
    );
}
