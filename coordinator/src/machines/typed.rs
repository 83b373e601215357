//! Fields of a record that have a grammar of their own: MACs, addresses, names of hosts, times.

use std::net::Ipv4Addr;

use macaddr::MacAddr6;
use yaml::{Fields, Findings, Kind, Node, Place};

use super::values::{address_problem, check_host_name, check_lease_time, mac_problem};
use super::{DEFAULT_LEASE_S, parse_mac};

/// A MAC that a network card may have, and where it stands.
pub(super) fn mac(node: &Node, findings: &Findings) -> Option<(MacAddr6, Place)> {
    let mac = node.text().and_then(parse_mac);
    if mac.is_none() {
        let message = format!(
            "bad MAC {}: expected six hexadecimal pairs such as 52:54:00:77:00:0b",
            node.describe()
        );
        findings.problem(node.at, Kind::Value, message);
    }
    if let Some(message) = mac.and_then(mac_problem) {
        findings.problem(node.at, Kind::Value, message);
    }
    Some((mac?, node.at))
}

/// IPv4 addresses of hosts: a list, or one.
pub(super) fn addresses(fields: &Fields<'_>, name: &str, what: &str, findings: &Findings) -> Vec<Ipv4Addr> {
    let address = |item: &Node| {
        let address: Ipv4Addr = findings.parsed(item, what, "an IPv4 address such as 10.77.0.1")?;
        // A resolver of the machine's own may be meant.
        if address.is_loopback() {
            let message = format!("{what} {address} is a loopback address: the machine asks itself");
            findings.warn(item.at, Kind::Odd, message);
        } else if let Some(message) = address_problem(what, address) {
            findings.problem(item.at, Kind::Value, message);
        }
        Some(address)
    };
    fields.items(name).iter().filter_map(address).collect()
}

/// The name of a host or a domain; an empty one is none.
pub(super) fn host_name(fields: &Fields<'_>, name: &str, findings: &Findings) -> Option<String> {
    let (text, place) = fields.placed(name)?;
    check_host_name(name, &text, place, findings);
    Some(text)
}

/// Seconds of a lease, or the default.
pub(super) fn lease_time_s(fields: &Fields<'_>, findings: &Findings) -> u32 {
    let Some(seconds) = fields.parse("lease_time", "lease_time", "seconds, such as 3600") else {
        return DEFAULT_LEASE_S;
    };
    check_lease_time(seconds, fields.at("lease_time"), findings);
    seconds
}

/// A VLAN id, 1 to 4094 (IEEE 802.1Q); empty or 0 is none, as upstream takes it.
pub(super) fn vlan(fields: &Fields<'_>, name: &str, findings: &Findings) -> Option<u16> {
    let text = fields
        .text(name)
        .filter(|text| !text.is_empty() && *text != "0")?;
    let id = text.parse().ok().filter(|id| (1..=4094).contains(id));
    if id.is_none() {
        let message = format!("bad {name} {text:?}: expected a VLAN id from 1 to 4094");
        findings.problem(fields.at(name), Kind::Value, message);
    }
    id
}
