//! What an ACK says.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::Packet;
use crate::options::{self, code};

/// Servers must send option 51; one that does not is asked again after this.
const UNSAID_LEASE: Duration = Duration::from_secs(3600);

/// Shorter leases would be nothing but traffic.
const SHORTEST_LEASE: Duration = Duration::from_secs(10);

/// A lease: what to configure, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    pub address: Ipv4Addr,
    /// Prefix length of the interface's network.
    pub prefix: u8,
    /// Default router: of option 121 if that is there, else of option 3 (RFC 3442).
    pub gateway: Option<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
    pub ntp: Vec<Ipv4Addr>,
    pub hostname: Option<String>,
    /// Option 15.
    pub domain: Option<String>,
    /// Option 119.
    pub search: Vec<String>,
    /// Option 121 without the default route: destination, prefix length, router. A router of 0.0.0.0 means "on the link".
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    pub mtu: Option<u16>,
    /// Who gave the lease.
    pub server: Ipv4Addr,
    /// How long the lease lasts; `None`: for ever.
    pub lease: Option<Duration>,
    /// T1: when it is renewed.
    pub renew_after: Option<Duration>,
    /// T2: when any server is asked.
    pub rebind_after: Option<Duration>,
}

impl LeaseInfo {
    /// Reads an ACK; `None` if it gives no usable address or does not say who sent it.
    pub(super) fn from_ack(ack: &Packet) -> Option<LeaseInfo> {
        let address = Some(ack.yiaddr).filter(|address| is_host(*address))?;
        let server = ack.server_id()?;
        let mut routes = ack
            .get(code::CLASSLESS_ROUTES)
            .map(options::decode_routes)
            .unwrap_or_default();
        // RFC 3442: option 3 must be ignored when option 121 is there.
        let gateway = match routes.is_empty() {
            true => ack.address(code::ROUTER),
            false => routes
                .iter()
                .find(|(_, prefix, _)| *prefix == 0)
                .map(|(_, _, router)| *router),
        };
        routes.retain(|(_, prefix, _)| *prefix != 0);
        let seconds = |number| {
            ack.u32(number)
                .map(|seconds| Duration::from_secs(u64::from(seconds)))
        };
        let lease = match ack.u32(code::LEASE_TIME) {
            Some(u32::MAX) => None,
            Some(_) => seconds(code::LEASE_TIME),
            None => Some(UNSAID_LEASE),
        };
        let lease = lease.map(|lease| lease.max(SHORTEST_LEASE));
        // RFC 2131 section 4.4.5: T1 < T2 < lease; what does not fit is replaced by the defaults.
        let rebind_after = lease.map(|lease| {
            let said = seconds(code::REBINDING_TIME).filter(|t2| *t2 < lease && !t2.is_zero());
            said.unwrap_or(lease * 7 / 8)
        });
        let renew_after = rebind_after.zip(lease).map(|(t2, lease)| {
            let said = seconds(code::RENEWAL_TIME).filter(|t1| *t1 < t2 && !t1.is_zero());
            said.unwrap_or((lease / 2).min(t2 / 2))
        });
        Some(LeaseInfo {
            address,
            prefix: ack
                .address(code::SUBNET_MASK)
                .and_then(prefix)
                .unwrap_or(classful_prefix(address)),
            gateway: gateway.filter(|router| !router.is_unspecified()),
            dns: ack.addresses(code::NAME_SERVER),
            ntp: ack.addresses(code::NTP_SERVER),
            hostname: ack.text(code::HOST_NAME).map(str::to_owned),
            domain: ack.text(code::DOMAIN_NAME).map(str::to_owned),
            search: ack
                .get(code::DOMAIN_SEARCH)
                .map(options::decode_domains)
                .unwrap_or_default(),
            routes,
            // RFC 2132 section 5.1: at least 68; below 576 no IPv4 host works well.
            mtu: ack.u16(code::INTERFACE_MTU).filter(|mtu| *mtu >= 576),
            server,
            lease,
            renew_after,
            rebind_after,
        })
    }
}

/// When a lease is renewed, rebound and lost; all `None` for a lease for ever.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timers {
    pub(super) renew: Option<Instant>,
    pub(super) rebind: Option<Instant>,
    pub(super) expiry: Option<Instant>,
}

impl Timers {
    /// Counts from when the REQUEST was first sent (RFC 2131 section 4.4.5).
    pub(super) fn new(from: Instant, lease: &LeaseInfo) -> Timers {
        let after = |time: Option<Duration>| time.and_then(|time| from.checked_add(time));
        Timers {
            renew: after(lease.renew_after),
            rebind: after(lease.rebind_after),
            expiry: after(lease.lease),
        }
    }
}

/// Whether an address can be that of a host.
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback())
}

/// Returns a netmask's prefix length; `None` unless it is ones followed by zeros.
fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let ones = mask.to_bits().leading_ones() as u8;
    (ones > 0 && options::mask_bits(ones) == mask.to_bits()).then_some(ones)
}

/// RFC 950: what a network is when nobody says.
fn classful_prefix(address: Ipv4Addr) -> u8 {
    match address.octets() {
        [0..=127, ..] => 8,
        [128..=191, ..] => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MessageType, Op};
    use macaddr::MacAddr6;

    fn ack() -> Packet {
        let mut packet = Packet::request(MessageType::Ack, MacAddr6::new(2, 0, 0, 0, 0, 1), 1);
        packet.op = Op::Reply;
        packet.yiaddr = Ipv4Addr::new(10, 77, 0, 11);
        packet.set_address(code::SERVER_ID, Ipv4Addr::new(10, 77, 0, 1));
        packet
    }

    #[test]
    fn missing_options_get_defaults() {
        let info = LeaseInfo::from_ack(&ack()).unwrap();
        assert_eq!((info.prefix, info.lease), (8, Some(UNSAID_LEASE)));
        assert_eq!(info.rebind_after, Some(Duration::from_secs(3150)));
        assert_eq!(info.renew_after, Some(Duration::from_secs(1575)));
    }

    #[test]
    fn timers_that_contradict_each_other_are_replaced() {
        let mut packet = ack();
        packet
            .set_u32(code::LEASE_TIME, 100)
            .set_u32(code::RENEWAL_TIME, 90)
            .set_u32(code::REBINDING_TIME, 500);
        let info = LeaseInfo::from_ack(&packet).unwrap();
        assert_eq!(info.rebind_after, Some(Duration::from_millis(87_500)));
        assert_eq!(info.renew_after, Some(Duration::from_millis(43_750)));
        packet.set_u32(code::LEASE_TIME, 0);
        assert_eq!(LeaseInfo::from_ack(&packet).unwrap().lease, Some(SHORTEST_LEASE));
        packet.set_u32(code::LEASE_TIME, u32::MAX);
        let forever = LeaseInfo::from_ack(&packet).unwrap();
        assert_eq!((forever.lease, forever.renew_after), (None, None));
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let router = Ipv4Addr::new(10, 77, 0, 254);
        let mut packet = ack();
        packet
            .set_addresses(code::ROUTER, &[router])
            .set(code::SUBNET_MASK, [255, 255, 255, 0]);
        assert_eq!(LeaseInfo::from_ack(&packet).unwrap().gateway, Some(router));
        let network = (Ipv4Addr::new(172, 16, 0, 0), 12, Ipv4Addr::new(10, 77, 0, 2));
        packet.set(code::CLASSLESS_ROUTES, options::encode_routes(&[network]));
        let info = LeaseInfo::from_ack(&packet).unwrap();
        assert_eq!(
            (info.gateway, info.routes, info.prefix),
            (None, vec![network], 24)
        );
    }

    #[test]
    fn an_ack_without_a_usable_address_is_none() {
        let mut packet = ack();
        packet.yiaddr = Ipv4Addr::BROADCAST;
        assert!(LeaseInfo::from_ack(&packet).is_none());
    }

    #[test]
    fn netmasks_with_holes_are_ignored() {
        assert_eq!(prefix(Ipv4Addr::new(255, 255, 255, 128)), Some(25));
        assert_eq!(prefix(Ipv4Addr::new(255, 0, 255, 0)), None);
        assert_eq!(prefix(Ipv4Addr::UNSPECIFIED), None);
    }
}
