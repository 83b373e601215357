//! DECLINE and RELEASE: taken from the machine that has the address, and from nobody else.

use std::net::Ipv4Addr;

use dhcp::options::code;
use dhcp::server::{Action, Answer, Holder, classify, reply};
use dhcp::{MessageType, Packet};

use crate::packets::{ADDRESS, MAC, SERVER, answer, pxe_discover, requesting};

const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);

fn decline() -> Packet {
    let mut packet = Packet::request(MessageType::Decline, MAC, 7);
    packet
        .set_address(code::REQUESTED_ADDRESS, ADDRESS)
        .set_address(code::SERVER_ID, SERVER.address);
    packet
}

fn release() -> Packet {
    let mut packet = Packet::request(MessageType::Release, MAC, 7);
    packet.ciaddr = ADDRESS;
    packet.set_address(code::SERVER_ID, SERVER.address);
    packet
}

/// The address was acknowledged to a client with this identifier.
fn given_to(address: Ipv4Addr, client_id: Option<&[u8]>) -> Answer {
    Answer {
        holder: Some(Holder {
            address,
            client_id: client_id.map(<[u8]>::to_vec),
        }),
        ..answer("x")
    }
}

#[track_caller]
fn without_effect(packet: &Packet, answer: &Answer, want: &str) {
    match reply(&classify(packet), answer, &SERVER) {
        Action::Silent { why } => assert_eq!(why, want),
        other => panic!("it had an effect: {other:?}"),
    }
}

#[test]
fn whoever_has_the_address_may_decline_it_and_give_it_back() {
    let declined = Action::Declined { address: ADDRESS };
    let released = Action::Released { address: ADDRESS };
    for answer in [answer("x"), given_to(ADDRESS, None)] {
        assert_eq!(reply(&classify(&decline()), &answer, &SERVER), declined);
        assert_eq!(reply(&classify(&release()), &answer, &SERVER), released);
    }
    let id = [1, 0x52, 0x54, 0, 0x77, 0, 0x0b];
    let (mut decline, mut release) = (decline(), release());
    decline.set(code::CLIENT_ID, id);
    release.set(code::CLIENT_ID, id);
    let answer = given_to(ADDRESS, Some(&id));
    assert_eq!(reply(&classify(&decline), &answer, &SERVER), declined);
    assert_eq!(reply(&classify(&release), &answer, &SERVER), released);
}

#[test]
fn another_address_is_not_theirs_to_give() {
    let mut wrong = decline();
    wrong.set_address(code::REQUESTED_ADDRESS, OTHER);
    let want = "10.77.0.99 is not this machine's address, 10.77.0.11 is";
    without_effect(&wrong, &answer("x"), &format!("DECLINE without effect: {want}"));
    wrong.options.remove(&code::REQUESTED_ADDRESS);
    let none = "DECLINE without effect: it names no address (option 50)";
    without_effect(&wrong, &answer("x"), none);

    let mut wrong = release();
    wrong.ciaddr = OTHER;
    without_effect(&wrong, &answer("x"), &format!("RELEASE without effect: {want}"));
    wrong.ciaddr = Ipv4Addr::UNSPECIFIED;
    let none = "RELEASE without effect: it names no address (ciaddr)";
    without_effect(&wrong, &answer("x"), none);
    // The record was changed meanwhile: what was acknowledged counts.
    let want = "RELEASE without effect: 10.77.0.11 is not this machine's address, 10.77.0.99 is";
    without_effect(&release(), &given_to(OTHER, None), want);
}

#[test]
fn another_servers_messages_are_its_own() {
    for (packet, kind) in [(decline(), "DECLINE"), (release(), "RELEASE")] {
        let mut theirs = packet;
        theirs.set_address(code::SERVER_ID, OTHER);
        let want = format!("{kind} without effect: it is for another DHCP server: 10.77.0.99");
        without_effect(&theirs, &answer("x"), &want);
        theirs.options.remove(&code::SERVER_ID);
        let want = format!("{kind} without effect: it names no server (option 54)");
        without_effect(&theirs, &answer("x"), &want);
    }
}

#[test]
fn another_client_identifier_is_another_client() {
    let answer = given_to(ADDRESS, Some(b"\x01abcdef"));
    for (packet, kind) in [(decline(), "DECLINE"), (release(), "RELEASE")] {
        let want = format!(
            "{kind} without effect: its client identifier (option 61) is not the one that the address was given to"
        );
        without_effect(&packet, &answer, &want);
        let mut other = packet;
        other.set(code::CLIENT_ID, b"\x01ghijkl");
        without_effect(&other, &answer, &want);
    }
}

#[test]
fn an_address_that_is_set_aside_is_not_given_out() {
    let aside = Answer {
        withheld: Some("10.77.0.11 is set aside".to_owned()),
        ..answer("snponly.efi")
    };
    let discover = pxe_discover(7);
    without_effect(&discover, &aside, "not offered: 10.77.0.11 is set aside");
    let mut renewing = Packet::request(MessageType::Request, MAC, 7);
    renewing.ciaddr = ADDRESS;
    for packet in [requesting(discover), renewing] {
        match reply(&classify(&packet), &aside, &SERVER) {
            Action::Send { packet, summary, .. } => {
                assert_eq!(packet.message_type(), Some(MessageType::Nak));
                assert!(summary.starts_with("NAK: 10.77.0.11 is set aside"), "{summary}");
            }
            other => panic!("no NAK: {other:?}"),
        }
    }
}
