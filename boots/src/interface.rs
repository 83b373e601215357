//! What the kernel knows about the interface that machines are on.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;

/// The kernel's number of an interface; it changes when the interface is made anew.
pub(crate) fn index(interface: &str) -> io::Result<u32> {
    Ok(if_nametoindex(interface)?)
}

/// The IPv4 addresses of an interface with their prefix lengths.
pub(crate) fn ipv4(interface: &str) -> io::Result<Vec<(Ipv4Addr, u8)>> {
    let all = getifaddrs()?.filter(|entry| entry.interface_name == interface);
    let found = all.filter_map(|entry| {
        let address = entry.address?.as_sockaddr_in()?.ip();
        let mask = entry.netmask.and_then(|mask| Some(mask.as_sockaddr_in()?.ip()));
        let prefix = mask.map_or(32, |mask| mask.to_bits().count_ones());
        Some((address, u8::try_from(prefix).unwrap_or(32)))
    });
    Ok(found.collect())
}

/// Whether an interface has an IPv6 link-local address, which router advertisements come from (RFC 4861 section 4.2).
pub(crate) fn has_link_local(interface: &str) -> bool {
    let is_link_local = |address: Ipv6Addr| address.is_unicast_link_local();
    getifaddrs().is_ok_and(|mut all| {
        all.any(|entry| {
            entry.interface_name == interface
                && entry
                    .address
                    .and_then(|address| Some(address.as_sockaddr_in6()?.ip()))
                    .is_some_and(is_link_local)
        })
    })
}
