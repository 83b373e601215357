//! Who is asking.

use macaddr::MacAddr6;

use crate::options::{code, ipxe};
use crate::{MessageType, Packet};

/// Vendor class (option 60) of the agent's own DHCP client.
pub const AGENT_VENDOR_CLASS: &str = "Farrier-Agent";

/// Which program on the machine is asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The firmware's own network boot: option 60 begins with `PXEClient` or `HTTPClient`.
    Firmware,
    /// iPXE, from a ROM or chain-loaded: user class `iPXE`, or option 175.
    Ipxe,
    /// Farrier's agent.
    Agent,
    /// Anything else: an operating system.
    Os,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::Firmware => "firmware",
            Stage::Ipxe => "iPXE",
            Stage::Agent => "agent",
            Stage::Os => "operating system",
        })
    }
}

/// How the machine's firmware boots, whether it asks itself or iPXE on top of it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Firmware {
    Bios,
    UefiHttp,
    UefiPxe,
}

impl std::fmt::Display for Firmware {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Firmware::Bios => "BIOS",
            Firmware::UefiHttp => "UEFI HTTP boot",
            Firmware::UefiPxe => "UEFI PXE",
        })
    }
}

/// A packet from a client, and what it tells about who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The packet itself.
    pub packet: Packet,
    /// Whose it is.
    pub mac: MacAddr6,
    /// Option 53; `None`: BOOTP, or a type that no server answers.
    pub message: Option<MessageType>,
    pub stage: Stage,
    /// Option 93 (IANA "Processor Architecture Types"), else what option 60 says.
    pub arch: Option<u16>,
    /// Known for [`Stage::Firmware`] and [`Stage::Ipxe`].
    pub firmware: Option<Firmware>,
    /// Whether this iPXE loads over HTTP.
    pub has_http: bool,
    /// The machine's UUID (option 97).
    pub machine_uuid: Option<[u8; 16]>,
    /// What was wrong with the packet and did not stop it from being understood.
    pub oddities: Vec<String>,
}

/// Tells who sent a packet.
///
/// Nothing that is missing or slightly wrong stops a machine from booting; it is named in [`Request::oddities`].
pub fn classify(packet: &Packet) -> Request {
    let mut oddities = packet.oddities.clone();
    let vendor_class = packet.vendor_class().unwrap_or_default();
    let is_ipxe = packet.get(code::IPXE).is_some()
        || packet
            .user_classes()
            .iter()
            .any(|class| matches!(*class, b"iPXE" | b"gPXE" | b"Tinkerbell"));
    let is_firmware = is_pxe_client(&vendor_class) || is_http_client(&vendor_class);
    let stage = if vendor_class.starts_with(AGENT_VENDOR_CLASS) {
        Stage::Agent
    } else if is_ipxe {
        Stage::Ipxe
    } else if is_firmware {
        Stage::Firmware
    } else {
        Stage::Os
    };
    let netboots = matches!(stage, Stage::Firmware | Stage::Ipxe);
    let arch = architecture(packet, &vendor_class, netboots, &mut oddities);
    let firmware = netboots.then(|| firmware(arch, &vendor_class, &mut oddities));
    if stage == Stage::Firmware {
        for (number, name) in [
            (code::NETWORK_INTERFACE, "network interface"),
            (code::MACHINE_UUID, "machine UUID"),
        ] {
            if packet.get(number).is_none() {
                oddities.push(format!("option {number} ({name}) is missing"));
            }
        }
    }
    Request {
        mac: packet.chaddr,
        message: packet.message_type(),
        stage,
        arch,
        firmware,
        has_http: stage == Stage::Ipxe && packet.has_ipxe_feature(ipxe::HTTP),
        machine_uuid: packet.machine_uuid(),
        oddities,
        packet: packet.clone(),
    }
}

pub(super) fn is_pxe_client(vendor_class: &str) -> bool {
    vendor_class.starts_with("PXEClient")
}

pub(super) fn is_http_client(vendor_class: &str) -> bool {
    vendor_class.starts_with("HTTPClient")
}

/// Option 93's first type that is known, else its first, else the one in `PXEClient:Arch:00007:UNDI:003016`.
fn architecture(
    packet: &Packet,
    vendor_class: &str,
    netboots: bool,
    oddities: &mut Vec<String>,
) -> Option<u16> {
    let named = packet.architectures();
    if let Some(arch) = named
        .iter()
        .find(|arch| firmware_of(**arch).is_some())
        .or(named.first())
    {
        return Some(*arch);
    }
    let from_class = vendor_class
        .split(':')
        .skip_while(|part| *part != "Arch")
        .nth(1)?
        .parse()
        .ok();
    if let (true, Some(arch)) = (netboots, from_class) {
        oddities.push(format!(
            "option 93 (architecture) is missing; option 60 says {arch}"
        ));
    }
    from_class
}

/// The firmware that an architecture type means; a missing or unknown type means BIOS to PXE, UEFI to HTTP clients.
fn firmware(arch: Option<u16>, vendor_class: &str, oddities: &mut Vec<String>) -> Firmware {
    let known = arch.and_then(firmware_of);
    if known.is_none() {
        match arch {
            Some(arch) => oddities.push(format!("option 93 (architecture) is {arch}, which is unknown")),
            None => oddities.push("option 93 (architecture) is missing".to_owned()),
        }
    }
    match known {
        // Some UEFI names the plain architecture with HTTPClient; what it says about the protocol counts.
        Some(Firmware::UefiPxe) | None if is_http_client(vendor_class) => Firmware::UefiHttp,
        Some(firmware) => firmware,
        None => Firmware::Bios,
    }
}

/// Source: IANA "Dynamic Host Configuration Protocol for IPv6" registry, "Processor Architecture Types" (RFC 5970).
fn firmware_of(arch: u16) -> Option<Firmware> {
    match arch {
        // x86 BIOS, NEC PC-98, PC/AT BIOS from HTTP.
        0 | 1 | 20 => Some(Firmware::Bios),
        // Itanium, IA32, x64, Xscale, EBC (really x64), ARM 32 and 64, RISC-V 32, 64, 128, LoongArch 32 and 64.
        2 | 6..=11 | 25 | 27 | 29 | 37 | 39 => Some(Firmware::UefiPxe),
        15..=19 | 26 | 28 | 30 | 38 | 40 => Some(Firmware::UefiHttp),
        _ => None,
    }
}
