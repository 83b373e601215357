//! When the client does what.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use dhcp::client::{Action, Client, Destination, LeaseInfo};
use dhcp::options::code;
use dhcp::server::{self, classify, reply};
use dhcp::{MessageType, Packet, decode, encode};
use macaddr::MacAddr6;

use crate::packets::{ADDRESS, MAC, SERVER, answer};

const SECOND: Duration = Duration::from_secs(1);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The one packet that is sent.
#[track_caller]
fn sent(actions: Vec<Action>) -> (Packet, Destination) {
    match &actions[..] {
        [Action::Send { bytes, destination }] => (decode(bytes).unwrap(), *destination),
        other => panic!("not one packet: {other:?}"),
    }
}

/// The server's answer, with a lease of 1000 s, and an MTU, which servers of others give.
fn answered(request: &Packet) -> Vec<u8> {
    let mut answer = answer("x");
    answer.lease.lease_time = secs(1000);
    match reply(&classify(request), &answer, &SERVER) {
        server::Action::Send { mut packet, .. } => {
            packet.set(code::INTERFACE_MTU, 1500_u16.to_be_bytes());
            encode(&packet).unwrap()
        }
        other => panic!("no answer: {other:?}"),
    }
}

fn bind(client: &mut Client, now: Instant) -> LeaseInfo {
    let (discover, _) = sent(client.on_timeout(now));
    let (request, _) = sent(client.on_packet(now, &answered(&discover)));
    match client.on_packet(now, &answered(&request)).remove(0) {
        Action::Bound(lease) => *lease,
        other => panic!("not bound: {other:?}"),
    }
}

#[test]
fn says_who_it_is_and_what_it_wants() {
    let now = Instant::now();
    let mut client = Client::new(MAC, 1, now);
    let (discover, destination) = sent(client.on_timeout(now));
    assert_eq!(destination, Destination::Broadcast);
    assert_eq!(classify(&discover).stage, server::Stage::Agent);
    assert_eq!(discover.client_id(), Some(&[1, 0x52, 0x54, 0, 0x77, 0, 0x0b][..]));
    assert!(discover.asks_for(code::CLASSLESS_ROUTES) && discover.oddities.is_empty());
    let (request, destination) = sent(client.on_packet(now, &answered(&discover)));
    assert_eq!(destination, Destination::Broadcast);
    assert_eq!(
        (request.server_id(), request.requested_address()),
        (Some(SERVER.address), Some(ADDRESS))
    );
    assert_eq!(
        (request.xid, request.ciaddr),
        (discover.xid, Ipv4Addr::UNSPECIFIED)
    );
}

#[test]
fn a_lease_holds_what_the_server_said() {
    let now = Instant::now();
    let lease = bind(&mut Client::new(MAC, 1, now), now);
    assert_eq!(
        (lease.address, lease.prefix, lease.server),
        (ADDRESS, 24, SERVER.address)
    );
    assert_eq!(
        lease.dns,
        [Ipv4Addr::new(10, 77, 0, 53), Ipv4Addr::new(10, 77, 0, 54)]
    );
    assert_eq!((lease.ntp, lease.mtu), (vec![SERVER.address], Some(1500)));
    assert_eq!(
        (lease.hostname.as_deref(), lease.domain.as_deref()),
        (Some("node-1"), Some("lab.example"))
    );
    assert_eq!(lease.search, ["lab.example"]);
    assert_eq!(
        lease.routes,
        [(Ipv4Addr::new(172, 16, 0, 0), 12, Ipv4Addr::new(10, 77, 0, 2))]
    );
    assert_eq!(
        (lease.lease, lease.renew_after),
        (Some(secs(1000)), Some(secs(500)))
    );
    assert_eq!(lease.rebind_after, Some(secs(875)));
}

#[test]
fn discovers_again_after_1_2_4_8_and_then_16_seconds() {
    let mut now = Instant::now();
    let mut client = Client::new(MAC, 1, now);
    let mut xids = Vec::new();
    for want in [1, 2, 4, 8, 16, 16, 16] {
        let (discover, _) = sent(client.on_timeout(now));
        xids.push(discover.xid);
        let wait = client.next_deadline().unwrap() - now;
        assert!(
            wait >= secs(want) * 7 / 8 && wait <= secs(want) * 9 / 8,
            "{wait:?} instead of {want} s"
        );
        assert!(client.on_timeout(now + wait / 2).is_empty(), "too early");
        now += wait;
    }
    xids.dedup();
    assert_eq!(xids.len(), 1, "answers to earlier DISCOVERs still count");
    let (late, _) = sent(client.on_timeout(now));
    assert!((50..80).contains(&late.secs), "secs is {}", late.secs);
}

#[test]
fn gives_an_offer_up_whose_server_went_silent() {
    let mut now = Instant::now();
    let mut client = Client::new(MAC, 1, now);
    let (discover, _) = sent(client.on_timeout(now));
    let mut kinds = vec![sent(client.on_packet(now, &answered(&discover))).0.message_type()];
    for _ in 0..4 {
        now = client.next_deadline().unwrap();
        kinds.push(sent(client.on_timeout(now)).0.message_type());
    }
    let request = Some(MessageType::Request);
    assert_eq!(
        kinds,
        [request, request, request, request, Some(MessageType::Discover)]
    );
}

#[test]
fn packets_of_others_change_nothing() {
    let now = Instant::now();
    let mut client = Client::new(MAC, 1, now);
    let (discover, _) = sent(client.on_timeout(now));
    let offer = decode(&answered(&discover)).unwrap();
    let changed = |change: fn(&mut Packet)| {
        let mut packet = offer.clone();
        change(&mut packet);
        encode(&packet).unwrap()
    };
    let others = [
        changed(|packet| packet.xid ^= 1),
        changed(|packet| packet.chaddr = MacAddr6::new(2, 0, 0, 0, 0, 1)),
        changed(|packet| packet.yiaddr = Ipv4Addr::UNSPECIFIED),
        changed(|packet| drop(packet.options.remove(&code::SERVER_ID))),
        changed(|packet| {
            packet.set(code::MESSAGE_TYPE, [MessageType::Ack as u8]);
        }),
        changed(|packet| {
            packet.set(code::MESSAGE_TYPE, [MessageType::Nak as u8]);
        }),
        encode(&discover).unwrap(),
        b"garbage".to_vec(),
    ];
    for bytes in others {
        assert_eq!(client.on_packet(now, &bytes), []);
    }
    let (request, _) = sent(client.on_packet(now, &encode(&offer).unwrap()));
    assert_eq!(
        client.on_packet(now, &encode(&offer).unwrap()),
        [],
        "a second OFFER"
    );
    let mut foreign = decode(&answered(&request)).unwrap();
    foreign.set_address(code::SERVER_ID, Ipv4Addr::new(10, 0, 0, 5));
    assert_eq!(
        client.on_packet(now, &encode(&foreign).unwrap()),
        [],
        "another server's ACK"
    );
}

#[test]
fn starts_over_after_a_nak_and_waits_longer_each_time() {
    let mut now = Instant::now();
    let mut client = Client::new(MAC, 1, now);
    for want in [1, 2, 4, 8, 16, 16] {
        let (discover, _) = sent(client.on_timeout(now));
        let (request, _) = sent(client.on_packet(now, &answered(&discover)));
        let mut nak = Packet::reply_to(&request, MessageType::Nak);
        nak.set_address(code::SERVER_ID, SERVER.address);
        assert_eq!(client.on_packet(now, &encode(&nak).unwrap()), []);
        assert_eq!(client.next_deadline(), Some(now + secs(want)));
        now += secs(want);
    }
}

#[test]
fn renews_then_rebinds_then_loses_the_lease() {
    let start = Instant::now();
    let mut client = Client::new(MAC, 1, start);
    bind(&mut client, start);
    assert_eq!(client.next_deadline(), Some(start + secs(500)));
    let mut seen = Vec::new();
    let lost = loop {
        let now = client.next_deadline().unwrap();
        let mut actions = client.on_timeout(now);
        if let Action::Lost { why } = &actions[0] {
            let why = why.clone();
            let (discover, _) = sent(actions.split_off(1));
            assert_eq!(
                (discover.message_type(), now),
                (Some(MessageType::Discover), start + secs(1000))
            );
            break why;
        }
        let (request, destination) = sent(actions);
        assert_eq!(
            (request.ciaddr, request.server_id(), request.requested_address()),
            (ADDRESS, None, None)
        );
        seen.push((((now - start).as_secs_f64()).round() as u64, destination));
    };
    let (renew, rebind) = (Destination::Unicast(SERVER.address), Destination::Broadcast);
    assert_eq!(
        seen,
        [
            (500, renew),
            (688, renew),
            (781, renew),
            (841, renew),
            (875, rebind),
            (938, rebind),
            (998, rebind),
        ]
    );
    assert_eq!(lost, "the lease of 10.77.0.11 ran out without an answer");
}

#[test]
fn a_renewed_lease_counts_from_its_request() {
    let start = Instant::now();
    let mut client = Client::new(MAC, 1, start);
    bind(&mut client, start);
    let asked = start + secs(500);
    let (request, _) = sent(client.on_timeout(asked));
    let actions = client.on_packet(asked + 20 * SECOND, &answered(&request));
    assert!(matches!(&actions[..], [Action::Bound(lease)] if lease.address == ADDRESS));
    assert_eq!(client.next_deadline(), Some(asked + secs(500)));
    assert_eq!(
        client.on_packet(asked + 21 * SECOND, &answered(&request)),
        [],
        "a duplicate"
    );
}

#[test]
fn a_conflict_is_declined_and_tried_again_later() {
    let now = Instant::now();
    let mut client = Client::new(MAC, 1, now);
    assert_eq!(client.conflict(now), [], "nothing to decline yet");
    bind(&mut client, now);
    let mut actions = client.conflict(now);
    assert_eq!(
        actions.pop(),
        Some(Action::Lost {
            why: "10.77.0.11 is in use by another host".to_owned()
        })
    );
    let (decline, destination) = sent(actions);
    assert_eq!(
        (decline.message_type(), destination),
        (Some(MessageType::Decline), Destination::Broadcast)
    );
    assert_eq!(
        (decline.requested_address(), decline.server_id()),
        (Some(ADDRESS), Some(SERVER.address))
    );
    assert_eq!(client.next_deadline(), Some(now + secs(10)));
}

#[test]
fn a_lease_for_ever_needs_no_timer() {
    let now = Instant::now();
    let mut client = Client::new(MAC, 1, now);
    let (discover, _) = sent(client.on_timeout(now));
    let (request, _) = sent(client.on_packet(now, &answered(&discover)));
    let mut ack = decode(&answered(&request)).unwrap();
    ack.set_u32(code::LEASE_TIME, u32::MAX);
    assert_eq!(client.on_packet(now, &encode(&ack).unwrap()).len(), 1);
    assert_eq!(
        (client.next_deadline(), client.on_timeout(now + secs(1 << 30))),
        (None, Vec::new())
    );
}

/// RFC 2131 section 4.3.2: in INIT-REBOOT the address stands in option 50, ciaddr is zero, and no server is named.
#[test]
fn after_a_link_was_away_the_address_is_asked_for_anew() {
    let start = Instant::now();
    let mut client = Client::new(MAC, 1, start);
    bind(&mut client, start);
    let back = start + secs(100);
    let (request, destination) = sent(client.on_link_up(back));
    assert_eq!(
        (request.message_type(), destination),
        (Some(MessageType::Request), Destination::Broadcast)
    );
    assert_eq!(
        (request.ciaddr, request.server_id(), request.requested_address()),
        (Ipv4Addr::UNSPECIFIED, None, Some(ADDRESS))
    );
    let actions = client.on_packet(back + SECOND, &answered(&request));
    assert!(matches!(&actions[..], [Action::Bound(lease)] if lease.address == ADDRESS));
    assert_eq!(
        client.next_deadline(),
        Some(back + secs(500)),
        "the lease counts from this request"
    );
    // In another network: its server says no, and the machine starts over at once.
    let (request, _) = sent(client.on_link_up(back + secs(9)));
    let mut nak = Packet::reply_to(&request, MessageType::Nak);
    nak.set_address(code::SERVER_ID, SERVER.address);
    let actions = client.on_packet(back + secs(9), &encode(&nak).unwrap());
    assert!(matches!(&actions[..], [Action::Lost { .. }]), "{actions:?}");
    let (discover, _) = sent(client.on_timeout(back + secs(9)));
    assert_eq!(discover.message_type(), Some(MessageType::Discover));
}

/// RFC 2131 section 3.2: "the client MAY choose to use the previously allocated network address … for the remainder of the
/// unexpired lease".
#[test]
fn a_server_that_says_nothing_after_a_link_was_away_leaves_the_lease_as_it_was() {
    let start = Instant::now();
    let mut client = Client::new(MAC, 1, start);
    bind(&mut client, start);
    let mut now = start + secs(100);
    let mut asked = vec![sent(client.on_link_up(now)).0];
    loop {
        now = client.next_deadline().unwrap();
        if now >= start + secs(500) {
            break;
        }
        asked.extend(
            client
                .on_timeout(now)
                .into_iter()
                .map(|action| sent(vec![action]).0),
        );
    }
    assert_eq!(asked.len(), 4);
    assert!(
        asked
            .iter()
            .all(|request| request.requested_address() == Some(ADDRESS))
    );
    assert_eq!(now, start + secs(500), "it is renewed when it would have been");
    let (renewal, destination) = sent(client.on_timeout(now));
    assert_eq!(
        (renewal.ciaddr, destination),
        (ADDRESS, Destination::Unicast(SERVER.address))
    );
    // So close to the end that the lease runs out while it asks.
    client.on_link_up(start + secs(999));
    let mut actions = Vec::new();
    while actions.is_empty() || !matches!(actions[0], Action::Lost { .. }) {
        now = client.next_deadline().unwrap();
        actions = client.on_timeout(now);
    }
    assert_eq!(now, start + secs(1000));
}

#[test]
fn a_link_that_comes_late_is_used_at_once() {
    let mut now = Instant::now();
    let mut client = Client::new(MAC, 1, now);
    for _ in 0..5 {
        client.on_timeout(now);
        now = client.next_deadline().unwrap();
    }
    // The next DISCOVER would be up to 16 s away.
    let up = now - 10 * SECOND;
    let (discover, _) = sent(client.on_link_up(up));
    assert_eq!(discover.message_type(), Some(MessageType::Discover));
    assert!(client.next_deadline().unwrap() <= up + 2 * SECOND);
    // A link that flaps makes no machine forget how long it was told to wait.
    let (request, _) = sent(client.on_packet(up, &answered(&discover)));
    let mut nak = Packet::reply_to(&request, MessageType::Nak);
    nak.set_address(code::SERVER_ID, SERVER.address);
    client.on_packet(up, &encode(&nak).unwrap());
    let wait = client.next_deadline();
    assert_eq!(
        (client.on_link_up(up), client.next_deadline()),
        (Vec::new(), wait)
    );
}
