//! The boot file table: who is asking × what the machine boots → what it is told to fetch.
//!
//! One place, so that a machine that boots the wrong thing is looked up here. The measurements behind the rows: iPXE's
//! `exit` and `sanboot` do not reach the disk on UEFI, hence GRUB; silence or a bogus name costs minutes.

use dhcp::server::{Firmware, Request, Stage};

use crate::inventory::NextBoot;

/// Boot loaders of the boot directory that are handed to anybody who asks, by base name.
pub const LOADERS: [&str; 3] = [BIOS_IPXE, UEFI_IPXE, UEFI_LOCAL_BOOT];
/// iPXE over the firmware's UNDI driver, for BIOS.
pub const BIOS_IPXE: &str = "undionly.kpxe";
/// iPXE over the firmware's network driver, for UEFI.
pub const UEFI_IPXE: &str = "snponly.efi";
/// GRUB that chain-loads the disk's `/EFI/BOOT/BOOTX64.EFI`.
pub const UEFI_LOCAL_BOOT: &str = "local-boot.efi";

/// What kind of machine asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Platform {
    /// x86 with a BIOS.
    Bios,
    /// x86-64 with UEFI.
    UefiX64,
    /// One that Farrier has no boot loader for: its number in option 93.
    Other(u16),
}

/// Which program on the machine asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// UEFI HTTP boot: wants a URL.
    HttpFirmware,
    /// iPXE that can fetch over HTTP (option 175).
    Ipxe,
    /// iPXE that cannot: some NIC ROMs.
    IpxeWithoutHttp,
    /// An operating system or anything else that does not boot from the network.
    OperatingSystem,
    /// The firmware's PXE client: wants a TFTP file.
    PxeFirmware,
}

/// What the machine boots, as far as its boot file is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// The agent, or the operator's script: both need iPXE.
    Ipxe,
    /// Its own disk.
    LocalDisk,
    /// An address only.
    Nothing,
}

/// What a machine is told to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BootFile {
    /// A boot loader, by HTTP URL.
    Http(&'static str),
    /// Nothing, and why.
    None(&'static str),
    /// The machine's iPXE script, by HTTP URL.
    Script,
    /// A boot loader, by TFTP.
    Tftp(&'static str),
}

/// The table.
pub fn boot_file(platform: Platform, program: Program, decision: Decision) -> BootFile {
    use Decision as D;
    use Platform as P;
    use Program as G;
    match (platform, program, decision) {
        (_, G::OperatingSystem, _) => BootFile::None("does not ask to boot from the network"),
        (_, _, D::Nothing) => BootFile::None("is to be left alone"),
        (P::Other(_), _, _) => BootFile::None("there is no boot loader for its architecture"),

        (_, G::Ipxe, _) => BootFile::Script,

        // BIOS needs iPXE for the disk too: `sanboot` is the quickest way there.
        (P::Bios, G::PxeFirmware, _) => BootFile::Tftp(BIOS_IPXE),
        (P::Bios, G::IpxeWithoutHttp, _) => BootFile::Tftp(BIOS_IPXE),
        (P::Bios, G::HttpFirmware, _) => BootFile::None("a BIOS has no HTTP boot that Farrier knows"),

        (P::UefiX64, G::PxeFirmware | G::IpxeWithoutHttp, D::Ipxe) => BootFile::Tftp(UEFI_IPXE),
        (P::UefiX64, G::PxeFirmware | G::IpxeWithoutHttp, D::LocalDisk) => BootFile::Tftp(UEFI_LOCAL_BOOT),
        (P::UefiX64, G::HttpFirmware, D::Ipxe) => BootFile::Http(UEFI_IPXE),
        (P::UefiX64, G::HttpFirmware, D::LocalDisk) => BootFile::Http(UEFI_LOCAL_BOOT),
    }
}

impl Platform {
    /// The platform that a request tells of. x86-64 UEFI says 7, 9 or 16 in option 93 (RFC 4578 section 2.1, IANA
    /// "Processor Architecture Types"); firmware that says nothing is taken for it.
    pub fn of(request: &Request) -> Self {
        match (request.firmware, request.arch) {
            (None | Some(Firmware::Bios), _) => Self::Bios,
            (Some(_), None | Some(7 | 9 | 16)) => Self::UefiX64,
            (Some(_), Some(other)) => Self::Other(other),
        }
    }
}

impl Program {
    /// The program that a request tells of.
    pub fn of(request: &Request) -> Self {
        match (request.stage, request.firmware) {
            (Stage::Agent | Stage::Os, _) => Self::OperatingSystem,
            (Stage::Ipxe, _) if request.has_http => Self::Ipxe,
            (Stage::Ipxe, _) => Self::IpxeWithoutHttp,
            (Stage::Firmware, Some(Firmware::UefiHttp)) => Self::HttpFirmware,
            (Stage::Firmware, _) => Self::PxeFirmware,
        }
    }
}

impl Decision {
    /// What the inventory's answer means for the boot file.
    pub fn of(next: &NextBoot) -> Self {
        match next {
            NextBoot::Agent { .. } | NextBoot::Script { .. } => Self::Ipxe,
            NextBoot::LocalDisk { .. } => Self::LocalDisk,
            NextBoot::Nothing { .. } => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(platform: Platform, program: Program, decision: Decision, want: BootFile) {
        assert_eq!(boot_file(platform, program, decision), want);
    }

    #[test]
    fn bios_firmware_gets_ipxe_whatever_it_boots() {
        check(
            Platform::Bios,
            Program::PxeFirmware,
            Decision::Ipxe,
            BootFile::Tftp("undionly.kpxe"),
        );
        check(
            Platform::Bios,
            Program::PxeFirmware,
            Decision::LocalDisk,
            BootFile::Tftp("undionly.kpxe"),
        );
    }

    #[test]
    fn ipxe_with_http_gets_its_script_at_once() {
        for platform in [Platform::Bios, Platform::UefiX64] {
            for decision in [Decision::Ipxe, Decision::LocalDisk] {
                check(platform, Program::Ipxe, decision, BootFile::Script);
            }
        }
    }

    #[test]
    fn ipxe_without_http_is_chain_loaded() {
        check(
            Platform::Bios,
            Program::IpxeWithoutHttp,
            Decision::Ipxe,
            BootFile::Tftp("undionly.kpxe"),
        );
        check(
            Platform::Bios,
            Program::IpxeWithoutHttp,
            Decision::LocalDisk,
            BootFile::Tftp("undionly.kpxe"),
        );
        check(
            Platform::UefiX64,
            Program::IpxeWithoutHttp,
            Decision::Ipxe,
            BootFile::Tftp("snponly.efi"),
        );
        check(
            Platform::UefiX64,
            Program::IpxeWithoutHttp,
            Decision::LocalDisk,
            BootFile::Tftp("local-boot.efi"),
        );
    }

    #[test]
    fn uefi_pxe_gets_ipxe_for_the_agent_and_grub_for_the_disk() {
        check(
            Platform::UefiX64,
            Program::PxeFirmware,
            Decision::Ipxe,
            BootFile::Tftp("snponly.efi"),
        );
        check(
            Platform::UefiX64,
            Program::PxeFirmware,
            Decision::LocalDisk,
            BootFile::Tftp("local-boot.efi"),
        );
    }

    #[test]
    fn uefi_http_gets_the_same_by_url() {
        check(
            Platform::UefiX64,
            Program::HttpFirmware,
            Decision::Ipxe,
            BootFile::Http("snponly.efi"),
        );
        check(
            Platform::UefiX64,
            Program::HttpFirmware,
            Decision::LocalDisk,
            BootFile::Http("local-boot.efi"),
        );
    }

    #[test]
    fn nobody_gets_a_file_who_should_not() {
        for platform in [Platform::Bios, Platform::UefiX64, Platform::Other(11)] {
            for program in [
                Program::PxeFirmware,
                Program::HttpFirmware,
                Program::Ipxe,
                Program::IpxeWithoutHttp,
            ] {
                assert!(matches!(
                    boot_file(platform, program, Decision::Nothing),
                    BootFile::None(_)
                ));
            }
            for decision in [Decision::Ipxe, Decision::LocalDisk, Decision::Nothing] {
                assert!(matches!(
                    boot_file(platform, Program::OperatingSystem, decision),
                    BootFile::None(_)
                ));
            }
        }
        assert!(matches!(
            boot_file(Platform::Other(11), Program::PxeFirmware, Decision::Ipxe),
            BootFile::None(_)
        ));
        assert!(matches!(
            boot_file(Platform::Bios, Program::HttpFirmware, Decision::Ipxe),
            BootFile::None(_)
        ));
    }

    #[test]
    fn who_asks_follows_from_the_packet() {
        let asks = |class: &str, arch: Option<u16>, ipxe: Option<&[u8]>| {
            let mac = macaddr::MacAddr6::new(2, 0, 0, 0, 0, 1);
            let mut packet = dhcp::Packet::request(dhcp::MessageType::Discover, mac, 1);
            packet.set(60, class);
            if let Some(arch) = arch {
                packet.set(93, arch.to_be_bytes());
            }
            if let Some(features) = ipxe {
                packet.set(77, "iPXE").set(175, features);
            }
            let request = dhcp::server::classify(&packet);
            (Platform::of(&request), Program::of(&request))
        };
        let http = [19, 1, 1];
        assert_eq!(
            asks("PXEClient:Arch:00000", Some(0), None),
            (Platform::Bios, Program::PxeFirmware)
        );
        assert_eq!(
            asks("PXEClient", None, None),
            (Platform::Bios, Program::PxeFirmware)
        );
        assert_eq!(
            asks("PXEClient", Some(7), None),
            (Platform::UefiX64, Program::PxeFirmware)
        );
        assert_eq!(
            asks("PXEClient", Some(9), None),
            (Platform::UefiX64, Program::PxeFirmware)
        );
        assert_eq!(
            asks("HTTPClient", Some(16), None),
            (Platform::UefiX64, Program::HttpFirmware)
        );
        assert_eq!(
            asks("PXEClient", Some(11), None),
            (Platform::Other(11), Program::PxeFirmware)
        );
        assert_eq!(
            asks("PXEClient", Some(0), Some(&http)),
            (Platform::Bios, Program::Ipxe)
        );
        assert_eq!(
            asks("PXEClient", Some(7), Some(&http)),
            (Platform::UefiX64, Program::Ipxe)
        );
        assert_eq!(
            asks("PXEClient", Some(0), Some(&[33, 1, 1])),
            (Platform::Bios, Program::IpxeWithoutHttp)
        );
        assert_eq!(asks("MSFT 5.0", None, None).1, Program::OperatingSystem);
    }
}
