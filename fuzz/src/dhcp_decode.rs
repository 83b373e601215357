//! Everything that looks at a DHCP packet from the wire: no input may panic, and what was decoded can be sent again.

use std::net::Ipv4Addr;
use std::time::Instant;

use dhcp::client::Client;
use dhcp::server::{Action, Answer, Lease, ServerFacts, classify, reply};
use macaddr::MacAddr6;

pub(crate) fn run(bytes: &[u8]) {
    let _ = dhcp::frame::parse(bytes, dhcp::CLIENT_PORT);
    let Ok(packet) = dhcp::decode(bytes) else { return };
    let _ = (
        packet.boot_file(),
        packet.user_classes(),
        packet.machine_uuid(),
        packet.architectures(),
    );

    let server = ServerFacts {
        address: Ipv4Addr::new(10, 77, 0, 1),
        prefix: 24,
    };
    let mut lease = Lease::new(Ipv4Addr::new(10, 77, 0, 11), Ipv4Addr::new(255, 255, 255, 0));
    lease.hostname = Some("n".repeat(63));
    lease.domain = Some("lab.example".to_owned());
    lease.routes = (0..24)
        .map(|n| (Ipv4Addr::new(172, n, 0, 0), 16, server.address))
        .collect();
    let answer = Answer {
        lease,
        boot_file: Some("snponly.efi".to_owned()),
        holder: None,
        withheld: None,
    };
    if let Action::Send {
        bytes, packet: told, ..
    } = reply(&classify(&packet), &answer, &server)
    {
        // What a relay adds is not bounded by what the client takes.
        let relayed = told.relay_agent_information().map_or(0, <[u8]>::len) > 255;
        assert!(bytes.len() <= 1472 || relayed);
        let sent = dhcp::decode(&bytes).expect("a reply can be decoded");
        assert_eq!(
            (sent.yiaddr, sent.message_type()),
            (told.yiaddr, told.message_type())
        );
    }

    let now = Instant::now();
    let mut client = Client::new(MacAddr6::new(0x52, 0x54, 0, 0x77, 0, 0x0b), 1, now);
    client.on_timeout(now);
    client.on_packet(now, bytes);

    // Options in the name fields (overload) may come out longer than one packet; anything else must fit.
    if let Ok(encoded) = dhcp::encode(&packet) {
        let again = dhcp::decode(&encoded).expect("what was encoded can be decoded");
        let mut options = packet.options;
        options.retain(|_, data| !data.is_empty());
        assert_eq!(
            (again.chaddr, again.xid, again.options),
            (packet.chaddr, packet.xid, options)
        );
    }
}
