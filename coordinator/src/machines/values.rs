//! What a value of a record must be to work on a network, in either form of a record.
//!
//! Source: RFC 1122 section 3.2.1.3 and RFC 5735 (addresses), RFC 1123 section 2.1 and RFC 1034 section 3.1 (names of
//! hosts), RFC 3021 (networks of two addresses).

use std::net::Ipv4Addr;

use macaddr::MacAddr6;

use yaml::{Findings, Kind, Place};

use super::{Lease, mac_text};

/// A lease shorter than this is renewed more often than machines and switches like.
const SHORT_LEASE_S: u32 = 60;

/// Why no network card has this MAC.
pub(super) fn mac_problem(mac: MacAddr6) -> Option<String> {
    let why = if mac.is_nil() {
        "it is all zeros, which is no card's"
    } else if mac.is_broadcast() {
        "it is all ones, which means every card"
    } else if mac.is_multicast() {
        "it is a group's (the lowest bit of its first byte is set), not one card's"
    } else {
        return None;
    };
    Some(format!("bad MAC {}: {why}; write the card's own", mac_text(mac)))
}

/// Why no host can have this address, whatever its network.
pub(super) fn address_problem(what: &str, address: Ipv4Addr) -> Option<String> {
    let why = match address.octets() {
        [0, ..] => "it means no host",
        [127, ..] => "it is a loopback address, each host's own",
        [169, 254, ..] => "it is a link-local address, which hosts choose themselves",
        [224..=239, ..] => "it is a multicast address, a group's",
        [240..=255, ..] => "it is a broadcast or reserved address",
        _ => return None,
    };
    Some(format!("bad {what} {address}: {why}; write a host's address"))
}

/// Looks at an address with its netmask and gateway. `gateway_at` is where the gateway stands.
pub(super) fn check_lease(lease: &Lease, at: Place, gateway_at: Option<Place>, findings: &Findings) {
    let problem = |place, message: String| findings.problem(place, Kind::Value, message);
    let (address, mask) = (lease.address, lease.netmask.to_bits());
    let len = mask.count_ones();
    if let Some(message) = address_problem("address", address) {
        return problem(at, message);
    }
    if len == 0 {
        let message = format!(
            "bad netmask of {address}: a network of length 0 is the whole internet; write that of its own network"
        );
        return problem(at, message);
    }
    let network = Ipv4Addr::from_bits(address.to_bits() & mask);
    let broadcast = Ipv4Addr::from_bits(address.to_bits() | !mask);
    // A network of two addresses or one has neither (RFC 3021).
    let ends = if len < 31 {
        [Some(network), Some(broadcast)]
    } else {
        [None, None]
    };
    let of_network = |what: &str, found: Ipv4Addr| {
        let which = match ends {
            [Some(first), _] if found == first => "is the address of the network itself",
            [_, Some(last)] if found == last => "is the broadcast address",
            _ => return None,
        };
        Some(format!(
            "bad {what} {found}: it {which} in {network}/{len}; write a host's address"
        ))
    };
    if let Some(message) = of_network("address", address) {
        problem(at, message);
    }
    if let (Some(gateway), Some(at)) = (lease.gateway, gateway_at) {
        let outside = gateway.to_bits() & mask != network.to_bits();
        if let Some(message) = address_problem("gateway", gateway).or_else(|| of_network("gateway", gateway))
        {
            problem(at, message);
        } else if gateway == address {
            problem(
                at,
                format!("bad gateway {gateway}: it is the machine's own address; write the router's"),
            );
        } else if outside && len == 32 {
            let message = format!(
                "the gateway {gateway} is outside {network}/32, as every gateway is: only systems that take such a route use it"
            );
            findings.warn(at, Kind::Odd, message);
        } else if outside {
            let message = format!(
                "bad gateway {gateway}: it is outside {network}/{len}, so the machine cannot reach it; write a router of that \
                 network, or correct the netmask"
            );
            problem(at, message);
        }
    }
    for route in &lease.routes {
        if let Some(message) =
            address_problem("router", route.router).filter(|_| !route.router.is_unspecified())
        {
            problem(at, message);
        } else if route.router.to_bits() & mask != network.to_bits() && !route.router.is_unspecified() {
            let message = format!(
                "the router {} of {}/{} is outside {network}/{len}: the machine can hardly reach it",
                route.router, route.destination, route.prefix_len
            );
            findings.warn(at, Kind::Odd, message);
        }
    }
}

/// Looks at a lease time, in seconds.
pub(super) fn check_lease_time(seconds: u32, at: Place, findings: &Findings) {
    if seconds == 0 {
        let message =
            "bad lease_time 0: a lease that is over at once; write seconds such as 86400, or leave it out";
        findings.problem(at, Kind::Value, message);
    } else if seconds < SHORT_LEASE_S {
        let message = format!("lease_time {seconds} makes the machine ask for its address every few seconds");
        findings.warn(at, Kind::Odd, message);
    }
}

/// Why this is no name of a host or domain.
pub(super) fn host_name_problem(name: &str) -> Option<String> {
    if name.len() > 253 {
        return Some(format!("it has {} letters, a name has 253 at most", name.len()));
    }
    for label in name.split('.') {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
        if label.is_empty() {
            return Some("a part of it, between dots, is empty".to_owned());
        }
        if label.len() > 63 {
            let len = label.len();
            return Some(format!("its part {label:?} has {len} letters, 63 are the most"));
        }
        if let Some(bad) = label.chars().find(|letter| !allowed(*letter)) {
            return Some(format!(
                "{bad:?} stands in no name: letters a to z, digits and `-` do"
            ));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Some(format!("its part {label:?} begins or ends with a dash"));
        }
    }
    None
}

/// Looks at a host name or domain that a record gives.
pub(super) fn check_host_name(what: &str, name: &str, at: Place, findings: &Findings) {
    match host_name_problem(name) {
        Some(why) => findings.problem(at, Kind::Value, format!("bad {what} {name:?}: {why}")),
        None if name.contains('_') => {
            let message =
                format!("{what} {name:?} has an underscore, which some resolvers and mail servers refuse");
            findings.warn(at, Kind::Odd, message);
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts_are_as_rfc_1123_says() {
        for good in [
            "node1",
            "3com",
            "a-b.example.com",
            "N1",
            "node_1",
            &"a".repeat(63),
        ] {
            assert_eq!(host_name_problem(good), None, "{good}");
        }
        for bad in [
            "",
            "a b",
            "-a",
            "a-",
            "a..b",
            ".a",
            "a.",
            "a.-b",
            "knoten-ä",
            "a\n",
            &"a".repeat(64),
            &"a.".repeat(130),
        ] {
            assert!(host_name_problem(bad).is_some(), "{bad:?}");
        }
    }
}
