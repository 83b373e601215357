//! PCI ids, and which of them a module's alias means.
//!
//! Source: Linux `scripts/mod/file2alias.c` (`do_pci_entry`): `pci:v*d*sv*sd*bc*sc*i*`, digits in upper case.

use std::fmt;
use std::str::FromStr;

/// What a card says it is: vendor and device and, if known, the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PciId {
    /// Vendor, such as `0x8086`.
    pub vendor: u16,
    /// Device of that vendor.
    pub device: u16,
    /// Base class, subclass and interface, such as `0x010802` for NVMe. Drivers that go by class are found with it alone.
    pub class: Option<u32>,
}

/// The text is no PCI id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no PCI id: write vendor:device in hexadecimal as lspci -nn shows them, such as 8086:1572, or with the class, \
     144d:a80a/010802"
)]
pub struct NoPciId(String);

impl FromStr for PciId {
    type Err = NoPciId;

    fn from_str(text: &str) -> Result<Self, NoPciId> {
        let wrong = || NoPciId(text.to_string());
        let hex = |text: &str, digits: usize| {
            let fits = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            fits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
        };
        let (id, class) = match text.split_once('/') {
            Some((id, class)) => (id, Some(hex(class, 6).ok_or_else(wrong)?)),
            None => (text, None),
        };
        let (vendor, device) = id.split_once(':').ok_or_else(wrong)?;
        let part = |text: &str| {
            hex(text, 4)
                .and_then(|value| u16::try_from(value).ok())
                .ok_or_else(wrong)
        };
        Ok(Self {
            vendor: part(vendor)?,
            device: part(device)?,
            class,
        })
    }
}

impl fmt::Display for PciId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04x}:{:04x}", self.vendor, self.device)?;
        match self.class {
            Some(class) => write!(formatter, "/{class:06x}"),
            None => Ok(()),
        }
    }
}

impl PciId {
    /// The card that iPXE says it booted from: its setting `busid`, a byte for the bus (1 is PCI), then vendor and device, in
    /// hexadecimal with signs between. `None`: it is on no PCI bus, or iPXE says nothing.
    ///
    /// Source: iPXE `include/ipxe/dhcp.h` (`DHCP_EB_BUS_ID`, `struct dhcp_netdev_desc`).
    pub fn of_bus_id(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|one| !matches!(one, ':' | '-')).collect();
        let rest = digits.strip_prefix("01").filter(|rest| rest.len() == 8)?;
        let (vendor, device) = rest.split_at_checked(4)?;
        format!("{vendor}:{device}").parse().ok()
    }

    /// Vendor and device that an alias asks for, whatever else it asks for: `None` for an alias of no vendor in particular, and no device
    /// for all of a vendor's.
    pub fn named_by(alias: &str) -> Option<(u16, Option<u16>)> {
        let pattern = Pattern::parse(alias)?;
        let number = |field: &str| u32::from_str_radix(field, 16).ok()?.try_into().ok();
        let device = match pattern.device {
            "*" => None,
            device => Some(number(device)?),
        };
        Some((number(pattern.vendor)?, device))
    }

    /// Returns whether a module with this alias drives the card, or some of those with this id: subsystems are not looked at.
    /// Without a class, an alias that asks for one and for no device does not count.
    pub fn is_meant_by(&self, alias: &str) -> bool {
        let Some(pattern) = Pattern::parse(alias) else {
            return false;
        };
        let class = |at: u32| self.class.map(|class| format!("{:02X}", class >> at & 0xff));
        let by_class = [(pattern.class, 16), (pattern.subclass, 8), (pattern.interface, 0)];
        let class_fits = by_class.iter().all(|(field, at)| match (*field, class(*at)) {
            ("*", _) => true,
            (field, Some(digits)) => field == digits,
            // Said by the device alone, or unknown.
            (_, None) => pattern.device != "*",
        });
        let fits = |field: &str, value: u16| field == "*" || field == format!("{value:08X}");
        class_fits && fits(pattern.vendor, self.vendor) && fits(pattern.device, self.device)
    }
}

struct Pattern<'a> {
    vendor: &'a str,
    device: &'a str,
    class: &'a str,
    subclass: &'a str,
    interface: &'a str,
}

impl<'a> Pattern<'a> {
    fn parse(alias: &'a str) -> Option<Self> {
        let rest = alias.strip_prefix("pci:v")?;
        // A star at the end stands for all fields that follow.
        let mut rest = Some(rest);
        let mut field = |next: &str| -> &'a str {
            let Some(text) = rest else { return "*" };
            match text.split_once(next) {
                Some((field, after)) if !next.is_empty() => {
                    rest = Some(after);
                    field
                }
                _ => {
                    rest = None;
                    // `…d*` is a device and everything after; `…00001572*` names the device.
                    if text == "*" {
                        "*"
                    } else {
                        text.trim_end_matches('*')
                    }
                }
            }
        };
        let vendor = field("d");
        let device = field("sv");
        let _subvendor = field("sd");
        let _subdevice = field("bc");
        let (class, subclass, interface) = (field("sc"), field("i"), field(""));
        Some(Self {
            vendor,
            device,
            class,
            subclass,
            interface,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_lspci_writes_them() {
        for text in ["8086:1572", "144d:a80a/010802", "ffff:0000/ffffff"] {
            assert_eq!(text.parse::<PciId>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "8086",
            "8086:",
            "8086:15722",
            "8086:+157",
            "8086:1572/01",
            "0x8086:1572",
            "8086:157g",
        ] {
            let error = text.parse::<PciId>().unwrap_err().to_string();
            assert!(error.contains("such as 8086:1572"), "{error}");
        }
    }

    #[test]
    fn a_bus_id_of_ipxe_is_a_card_where_it_is_on_pci() {
        for text in ["01:80:86:10:d3", "01:8086:10D3", "01808610d3", "01-80-86-10-d3"] {
            let card = PciId::of_bus_id(text).unwrap();
            assert_eq!(card.to_string(), "8086:10d3", "{text}");
        }
        for text in [
            "",
            "02:80:86:10:d3",
            "01:80:86:10",
            "01:80:86:10:d3:00",
            "01:80:86:10:dg",
            "01\u{e4}\u{e4}\u{e4}\u{e4}",
        ] {
            assert_eq!(PciId::of_bus_id(text), None, "{text}");
        }
    }

    #[test]
    fn an_alias_names_a_card_a_vendor_or_neither() {
        for (alias, want) in [
            (
                "pci:v00008086d00001572sv*sd*bc*sc*i*",
                Some((0x8086, Some(0x1572))),
            ),
            (
                "pci:v00009005d0000028Fsv00001028sd00001FE0bc*sc*i*",
                Some((0x9005, Some(0x028f))),
            ),
            ("pci:v00001AF4d*sv*sd*bc*sc*i*", Some((0x1af4, None))),
            ("pci:v*d*sv*sd*bc01sc08i02*", None),
            ("pci:v0001AF4Fd00000001sv*", None),
            ("virtio:d00000001v*", None),
        ] {
            assert_eq!(PciId::named_by(alias), want, "{alias}");
        }
    }

    #[test]
    fn aliases_mean_ids() {
        let any = "sv*sd*bc*sc*i*";
        let cases = [
            ("8086:1572", format!("pci:v00008086d00001572{any}"), true),
            ("8086:1573", format!("pci:v00008086d00001572{any}"), false),
            ("8087:1572", format!("pci:v00008086d00001572{any}"), false),
            ("1af4:1041", format!("pci:v00001AF4d*{any}"), true),
            ("1af4:1041", "pci:v00001AF4d*".to_owned(), true),
            (
                "9005:028f",
                "pci:v00009005d0000028Fsv00001028sd00001FE0bc*sc*i*".to_owned(),
                true,
            ),
            // A driver of a class, such as ahci, is not one of every card of Intel's.
            ("8086:1572", "pci:v00008086d*sv*sd*bc01sc06i01*".to_owned(), false),
            ("8086:a182/010601", "pci:v*d*sv*sd*bc01sc06i01*".to_owned(), true),
            ("8086:a182/010802", "pci:v*d*sv*sd*bc01sc06i01*".to_owned(), false),
            ("8086:a182", "pci:v*d*sv*sd*bc01sc06i01*".to_owned(), false),
            ("144d:a80a/010802", "pci:v*d*sv*sd*bc01sc08i02*".to_owned(), true),
            ("8086:1572", "usb:v8086p1572".to_owned(), false),
        ];
        for (id, alias, want) in cases {
            assert_eq!(
                id.parse::<PciId>().unwrap().is_meant_by(&alias),
                want,
                "{id} {alias}"
            );
        }
    }
}
