//! Answers router solicitations of machines that boot, so that they need not wait for a router that does not exist.
//!
//! iPXE waits 16 s for an advertisement after DHCP is done. The answer says that this is no router: lifetime 0, no
//! flags, no prefixes. It changes nothing for a host that has routers.
//!
//! Source: RFC 4861 sections 4.1, 4.2, 6.1.1, 6.2.6.

mod service;

use std::net::Ipv6Addr;

use macaddr::MacAddr6;

pub(crate) use service::RouterAdvertiser;

/// A valid router solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// The source link-layer address option.
    pub mac: Option<MacAddr6>,
}

impl Solicitation {
    /// Reads an ICMPv6 message whose checksum the kernel has verified; `None` for whatever is no valid solicitation.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let (header, mut options) = message.split_first_chunk::<8>()?;
        let [ROUTER_SOLICITATION, 0, ..] = *header else {
            return None;
        };
        let mut mac = None;
        while !options.is_empty() {
            let &[kind, units, ..] = options.first_chunk::<2>()?;
            // An option of no length makes the whole message invalid.
            let len_bytes = usize::from(units) * 8;
            if len_bytes == 0 {
                return None;
            }
            let (option, rest) = options.split_at_checked(len_bytes)?;
            if kind == SOURCE_LINK_LAYER_ADDRESS && mac.is_none() {
                mac = option
                    .get(2..8)
                    .and_then(|bytes| bytes.first_chunk::<6>())
                    .map(|&bytes| bytes.into());
            }
            options = rest;
        }
        Some(Self { mac })
    }

    /// Who sent it from `source`: by the option, else by an address that was made of the MAC (RFC 4291 appendix A).
    pub fn sender(&self, source: Ipv6Addr) -> Option<MacAddr6> {
        self.mac.or_else(|| mac_in(source))
    }
}

/// The answer to an ICMPv6 message: an advertisement, checksum left to the kernel; `None` unless it is a solicitation.
pub fn advertise(message: &[u8]) -> Option<Vec<u8>> {
    Solicitation::parse(message)?;
    // Type, code, checksum, hop limit unspecified, no flags, router lifetime 0, reachable and retransmission time
    // unspecified.
    let mut advertisement = vec![0; 16];
    if let Some(kind) = advertisement.first_mut() {
        *kind = ROUTER_ADVERTISEMENT;
    }
    Some(advertisement)
}

/// Where the answer goes: to the solicitor, or to all nodes where it has no address yet (RFC 4861 section 6.2.6).
pub fn destination(source: Ipv6Addr) -> Ipv6Addr {
    if source.is_unspecified() {
        ALL_NODES
    } else {
        source
    }
}

fn mac_in(address: Ipv6Addr) -> Option<MacAddr6> {
    let [.., a, b, c, 0xff, 0xfe, d, e, f] = address.octets() else {
        return None;
    };
    address
        .is_unicast_link_local()
        .then(|| MacAddr6::new(a ^ 2, b, c, d, e, f))
}

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: MacAddr6 = MacAddr6::new(0x52, 0x54, 0, 0x77, 0, 0x0b);
    const OF_IPXE: &[u8] = &[133, 0, 0x12, 0x34, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0x77, 0, 0x0b];

    #[test]
    fn answers_that_this_is_no_router() {
        assert_eq!(
            advertise(OF_IPXE).unwrap(),
            [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn knows_who_asks() {
        let link_local: Ipv6Addr = "fe80::5054:ff:fe77:b".parse().unwrap();
        assert_eq!(
            Solicitation::parse(OF_IPXE)
                .unwrap()
                .sender(Ipv6Addr::UNSPECIFIED),
            Some(MAC)
        );
        let bare = Solicitation::parse(&[133, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(bare.sender(link_local), Some(MAC));
        assert_eq!(bare.sender(Ipv6Addr::UNSPECIFIED), None);
        assert_eq!(bare.sender("2001:db8::5054:ff:fe77:b".parse().unwrap()), None);
    }

    #[test]
    fn without_an_address_everybody_is_told() {
        assert_eq!(destination(Ipv6Addr::UNSPECIFIED), ALL_NODES);
        let solicitor = "fe80::1".parse().unwrap();
        assert_eq!(destination(solicitor), solicitor);
    }

    #[test]
    fn ignores_what_is_no_valid_solicitation() {
        for bad in [
            &[][..],
            &[134, 0, 0, 0, 0, 0, 0, 0],
            &[133, 1, 0, 0, 0, 0, 0, 0],
            &[133, 0, 0, 0],
            &[133, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3, 4, 5, 6],
            &[133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2],
        ] {
            assert_eq!(advertise(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(tail in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Solicitation::parse(&[&[133, 0][..], &tail].concat());
            let _ = Solicitation::parse(&tail);
        }
    }
}
