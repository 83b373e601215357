//! DHCP option numbers, and the encodings inside options that are more than a number or a text.

use std::net::Ipv4Addr;

/// Option numbers (RFC 2132 unless said).
pub mod code {
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const NAME_SERVER: u8 = 6;
    pub const LOG_SERVER: u8 = 7;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN_NAME: u8 = 15;
    pub const INTERFACE_MTU: u8 = 26;
    pub const BROADCAST_ADDRESS: u8 = 28;
    pub const NTP_SERVER: u8 = 42;
    pub const VENDOR_SPECIFIC: u8 = 43;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OPTION_OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const PARAMETER_LIST: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const MAX_MESSAGE_SIZE: u8 = 57;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const VENDOR_CLASS: u8 = 60;
    pub const CLIENT_ID: u8 = 61;
    pub const TFTP_SERVER_NAME: u8 = 66;
    pub const BOOT_FILE_NAME: u8 = 67;
    /// RFC 3004.
    pub const USER_CLASS: u8 = 77;
    /// RFC 3046.
    pub const RELAY_AGENT_INFORMATION: u8 = 82;
    /// RFC 4578.
    pub const CLIENT_ARCHITECTURE: u8 = 93;
    /// RFC 4578.
    pub const NETWORK_INTERFACE: u8 = 94;
    /// RFC 4578.
    pub const MACHINE_UUID: u8 = 97;
    /// RFC 3397.
    pub const DOMAIN_SEARCH: u8 = 119;
    /// RFC 5859.
    pub const TFTP_SERVER_ADDRESS: u8 = 150;
    /// RFC 3442.
    pub const CLASSLESS_ROUTES: u8 = 121;
    /// iPXE's (and Etherboot's) encapsulated options.
    pub const IPXE: u8 = 175;
}

/// An option that Farrier sends, in words for people.
pub fn described(number: u8) -> String {
    let name = match number {
        code::SUBNET_MASK => "netmask",
        code::ROUTER => "gateway",
        code::NAME_SERVER => "name servers",
        code::LOG_SERVER => "log servers",
        code::HOST_NAME => "host name",
        code::DOMAIN_NAME => "domain",
        code::INTERFACE_MTU => "MTU",
        code::BROADCAST_ADDRESS => "broadcast address",
        code::NTP_SERVER => "time servers",
        code::VENDOR_SPECIFIC => "PXE",
        code::RENEWAL_TIME => "renewal time",
        code::REBINDING_TIME => "rebinding time",
        code::VENDOR_CLASS => "vendor class",
        code::CLIENT_ID => "client identifier",
        code::TFTP_SERVER_NAME => "TFTP server",
        code::BOOT_FILE_NAME => "boot file",
        code::MACHINE_UUID => "machine UUID",
        code::DOMAIN_SEARCH => "domain search",
        code::CLASSLESS_ROUTES => "static routes",
        code::TFTP_SERVER_ADDRESS => "TFTP server address",
        code::IPXE => "iPXE",
        _ => return format!("option {number}"),
    };
    format!("option {number} ({name})")
}

/// Numbers inside option 175 (iPXE's `src/include/ipxe/dhcp.h` and `features.h`).
pub mod ipxe {
    /// Feature: speaks HTTP.
    pub const HTTP: u8 = 0x13;
    /// Feature: speaks TFTP.
    pub const TFTP: u8 = 0x15;
    /// Feature: is an EFI program.
    pub const EFI: u8 = 0x24;
    /// From the server: do not wait for ProxyDHCP offers.
    pub const NO_PXEDHCP: u8 = 0xb0;
}

/// Returns the data of one option inside an encapsulating option (43 or 175); `None` if it is not there.
///
/// Source: RFC 2132 section 8.4 (pad and end have their usual meaning).
pub fn encapsulated(mut data: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match data {
            [0, rest @ ..] => data = rest,
            [255, ..] | [] => return None,
            [code, len, rest @ ..] => {
                let (value, rest) = rest.split_at_checked(usize::from(*len))?;
                if *code == wanted {
                    return Some(value);
                }
                data = rest;
            }
            [_] => return None,
        }
    }
}

/// Splits option 77 into its classes.
///
/// RFC 3004 wants each class behind a length; iPXE and many others send one bare text. Data that is not exactly a list
/// of length-prefixed classes is taken as one class.
pub fn user_classes(data: &[u8]) -> Vec<&[u8]> {
    let mut classes = Vec::new();
    let mut rest = data;
    while let [len, tail @ ..] = rest {
        match tail.split_at_checked(usize::from(*len)) {
            Some((class, tail)) if !class.is_empty() => {
                classes.push(class);
                rest = tail;
            }
            _ => return vec![data],
        }
    }
    classes
}

/// Reads a list of addresses; trailing bytes that make no address are left out.
pub fn addresses(data: &[u8]) -> Vec<Ipv4Addr> {
    data.as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| Ipv4Addr::from(*bytes))
        .collect()
}

/// Encodes option 121; host bits of destinations are dropped, as RFC 3442 wants.
///
/// A route is destination, prefix length, router. Prefix lengths above 32 count as 32.
pub fn encode_routes(routes: &[(Ipv4Addr, u8, Ipv4Addr)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (destination, prefix, router) in routes {
        let prefix = (*prefix).min(32);
        let network = destination.to_bits() & mask_bits(prefix);
        out.push(prefix);
        out.extend(network.to_be_bytes().iter().take(usize::from(prefix.div_ceil(8))));
        out.extend(router.octets());
    }
    out
}

/// Decodes option 121; what follows a malformed route is dropped.
pub fn decode_routes(mut data: &[u8]) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
    let mut routes = Vec::new();
    while let [prefix @ 0..=32, rest @ ..] = data {
        let Some((network, rest)) = rest.split_at_checked(usize::from(prefix.div_ceil(8))) else {
            break;
        };
        let Some((router, rest)) = rest.split_first_chunk::<4>() else {
            break;
        };
        let mut octets = [0; 4];
        for (to, from) in octets.iter_mut().zip(network) {
            *to = *from;
        }
        let destination = Ipv4Addr::from_bits(u32::from_be_bytes(octets) & mask_bits(*prefix));
        routes.push((destination, *prefix, Ipv4Addr::from(*router)));
        data = rest;
    }
    routes
}

/// Encodes a domain name for option 119, uncompressed; `None` if it is no domain name (RFC 1035 section 2.3.4).
pub fn encode_domain(name: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for label in name.trim_end_matches('.').split('.') {
        let len = u8::try_from(label.len())
            .ok()
            .filter(|len| (1..=63).contains(len))?;
        out.push(len);
        out.extend(label.as_bytes());
    }
    out.push(0);
    (out.len() <= 255).then_some(out)
}

/// Decodes option 119 (RFC 3397); what follows a malformed name is dropped.
pub fn decode_domains(data: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let Some((name, next)) = decode_domain(data, at) else {
            break;
        };
        names.push(name);
        at = next;
    }
    names
}

/// Reads the name at `start`; returns it with the place after it.
fn decode_domain(data: &[u8], start: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = start;
    let mut after = None;
    loop {
        let len = *data.get(at)?;
        match len {
            0 => break,
            1..=63 => {
                let label = data.get(at + 1..at + 1 + usize::from(len))?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(std::str::from_utf8(label).ok()?);
                at += 1 + usize::from(len);
            }
            0xc0.. => {
                let to = usize::from(len & 0x3f) << 8 | usize::from(*data.get(at + 1)?);
                after.get_or_insert(at + 2);
                // Only backwards, so that every chain of pointers ends.
                if to >= at.min(start) {
                    return None;
                }
                at = to;
            }
            _ => return None,
        }
        if name.len() > 255 {
            return None;
        }
    }
    (!name.is_empty()).then_some((name, after.unwrap_or(at + 1)))
}

/// Returns the netmask of a prefix length as bits; lengths above 32 count as 32.
pub fn mask_bits(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_class_is_read_raw_and_length_prefixed() {
        assert_eq!(user_classes(b"iPXE"), [b"iPXE".as_slice()]);
        assert_eq!(user_classes(b"\x04iPXE"), [b"iPXE".as_slice()]);
        assert_eq!(user_classes(b"\x04iPXE\x03lab"), [b"iPXE".as_slice(), b"lab"]);
        assert_eq!(user_classes(b"\x00"), [b"\x00".as_slice()]);
        assert!(user_classes(b"").is_empty());
    }

    #[test]
    fn encapsulated_options_skip_padding_and_stop_at_the_end() {
        let data = [0, 0x10, 2, 1, 2, 0, 0x13, 1, 1, 255, 0x14, 1, 1];
        assert_eq!(encapsulated(&data, 0x13), Some([1].as_slice()));
        assert_eq!(encapsulated(&data, 0x14), None);
        assert_eq!(encapsulated(&[0x13, 9, 1], 0x13), None);
        assert_eq!(encapsulated(&[0x13], 0x13), None);
    }

    #[test]
    fn routes_are_as_rfc_3442_says() {
        let routes = [
            (Ipv4Addr::new(10, 0, 0, 1), 8, Ipv4Addr::new(192, 168, 1, 10)),
            (Ipv4Addr::new(172, 16, 0, 0), 12, Ipv4Addr::new(192, 168, 1, 20)),
            (Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(192, 168, 1, 1)),
        ];
        let bytes = encode_routes(&routes);
        assert_eq!(
            bytes,
            [
                8, 10, 192, 168, 1, 10, 12, 172, 16, 192, 168, 1, 20, 0, 192, 168, 1, 1
            ]
        );
        let decoded = decode_routes(&bytes);
        assert_eq!(decoded[0].0, Ipv4Addr::new(10, 0, 0, 0));
        assert_eq!(decoded[1..], routes[1..]);
        assert!(decode_routes(&[33, 1, 2, 3, 4, 5]).is_empty());
        assert!(decode_routes(&[24, 1, 2]).is_empty());
    }

    #[test]
    fn domain_search_is_read_with_and_without_compression() {
        let mut bytes = encode_domain("lab.example").unwrap();
        bytes.extend(b"\x03www\xc0\x00");
        assert_eq!(decode_domains(&bytes), ["lab.example", "www.lab.example"]);
        assert!(encode_domain("a..b").is_none());
        assert!(encode_domain("").is_none());
    }

    #[test]
    fn domain_search_pointer_loops_end() {
        assert!(decode_domains(b"\xc0\x00").is_empty());
        assert!(decode_domains(b"\x01a\xc0\x00").is_empty());
        assert!(decode_domains(b"\x01a\xc0\x05\xc0\x00").is_empty());
    }
}
