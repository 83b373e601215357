//! ICMPv6 messages from anybody on the link: what is answered is a solicitation, and the answer is that of no router.

use std::net::Ipv6Addr;

use boots::ra::{Solicitation, advertise, destination};

pub(crate) fn run(bytes: &[u8]) {
    let source = bytes
        .first_chunk::<16>()
        .map_or(Ipv6Addr::UNSPECIFIED, |&octets| octets.into());
    for message in [bytes, bytes.get(16..).unwrap_or_default()] {
        let answer = advertise(message);
        assert_eq!(answer.is_some(), Solicitation::parse(message).is_some());
        if let Some(solicitation) = Solicitation::parse(message) {
            let _ = (solicitation.sender(source), destination(source));
        }
        // Type 134, and a router lifetime of 0.
        assert!(answer.is_none_or(|answer| answer.len() == 16 && answer[0] == 134 && answer[6..8] == [0, 0]));
    }
}
