//! Which network cards and disk controllers a machine has, of those that QEMU emulates.

use std::fmt;

use image::Profile;

use crate::lab::firmware::Firmware;

/// A machine's network cards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Nic {
    /// virtio-net
    #[default]
    Virtio,
    /// Intel 82540EM
    E1000,
    /// Intel 82574L
    E1000e,
    /// AMD PCnet
    Pcnet,
    /// Realtek RTL-8139
    Rtl8139,
    /// VMware VMXNET3
    Vmxnet3,
}

/// What a machine's disks hang on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum DiskController {
    /// virtio-blk
    #[default]
    Virtio,
    /// virtio-scsi
    VirtioScsi,
    /// SATA by AHCI: that of the chipset
    Ahci,
    /// NVMe, one controller a disk
    Nvme,
    /// LSI MegaRAID SAS 1078
    Megasas,
    /// LSI SAS 1068
    Mptsas,
    /// LSI 53C895A, parallel SCSI
    Lsi,
    /// VMware PVSCSI
    Pvscsi,
    /// AMD Am53C974, parallel SCSI. From this one on `farrier lab` offers none: no Debian was installed on one
    #[value(skip)]
    Am53c974,
    /// A stick or a case on USB 3, by the protocol that all of them speak
    #[value(skip)]
    UsbStorage,
    /// An SD card in a host controller of PCI; a machine has one
    #[value(skip)]
    Sd,
}

impl Nic {
    /// The device in QEMU.
    pub(super) fn device(self) -> &'static str {
        match self {
            // Without a speed Linux takes it into no LACP channel.
            Nic::Virtio => "virtio-net-pci,speed=10000,duplex=full",
            Nic::E1000 => "e1000",
            Nic::E1000e => "e1000e",
            Nic::Pcnet => "pcnet",
            Nic::Rtl8139 => "rtl8139",
            Nic::Vmxnet3 => "vmxnet3",
        }
    }

    /// The card's option ROM under this firmware: `None` is QEMU's own choice, which is iPXE for either firmware.
    ///
    /// OVMF has a driver of its own for virtio cards alone, and its own PXE client is to be used; the empty name keeps iPXE's
    /// ROM away from it.
    pub(super) fn rom(self, firmware: Firmware) -> Option<&'static str> {
        (self == Nic::Virtio && firmware == Firmware::Uefi).then_some("")
    }

    fn is_in_the_cloud_kernel(self) -> bool {
        matches!(self, Nic::Virtio | Nic::Vmxnet3)
    }
}

impl DiskController {
    /// The controller in QEMU that all disks share; `None`: the machine has one, or each disk has its own.
    pub(super) fn device(self) -> Option<&'static str> {
        match self {
            DiskController::Virtio | DiskController::Ahci | DiskController::Nvme => None,
            DiskController::VirtioScsi => Some("virtio-scsi-pci"),
            DiskController::Megasas => Some("megasas"),
            DiskController::Mptsas => Some("mptsas1068"),
            DiskController::Lsi => Some("lsi53c895a"),
            DiskController::Pvscsi => Some("pvscsi"),
            DiskController::Am53c974 => Some("am53c974"),
            DiskController::UsbStorage => Some("qemu-xhci"),
            DiskController::Sd => Some("sdhci-pci"),
        }
    }

    /// Disk `index` of this controller's in QEMU, without what it is filled with. The controller has its own name as its id.
    pub(super) fn disk(self, index: usize) -> String {
        match self {
            DiskController::Virtio => "virtio-blk-pci".to_owned(),
            DiskController::Ahci => format!("ide-hd,bus=ide.{index}"),
            DiskController::Nvme => "nvme".to_owned(),
            DiskController::UsbStorage => format!("usb-storage,bus={self}.0"),
            DiskController::Sd => "sd-card,bus=sd-bus".to_owned(),
            _ => format!("scsi-hd,bus={self}.0,scsi-id={index}"),
        }
    }

    /// Whether its disks say a serial number, have sectors of a size that is chosen, and a place in the boot order.
    pub(super) fn has_disks_of_choice(self) -> bool {
        self != DiskController::Sd
    }

    /// What Linux calls disk `index` of a machine that has no other disks.
    pub fn linux_disk(self, index: u8) -> String {
        let letter = char::from(b'a' + index.min(25));
        match self {
            DiskController::Virtio => format!("/dev/vd{letter}"),
            DiskController::Nvme => format!("/dev/nvme{index}n1"),
            DiskController::Sd => format!("/dev/mmcblk{index}"),
            _ => format!("/dev/sd{letter}"),
        }
    }

    /// Whether this firmware has a driver for it. SeaBIOS has one for all of these; EDK2 as Debian builds it has not.
    fn is_known_to(self, firmware: Firmware) -> bool {
        let is_unknown = matches!(
            self,
            DiskController::Megasas | DiskController::Lsi | DiskController::Pvscsi | DiskController::Am53c974
        );
        firmware == Firmware::Bios || !is_unknown
    }

    fn is_in_the_cloud_kernel(self) -> bool {
        matches!(
            self,
            DiskController::Virtio | DiskController::VirtioScsi | DiskController::Nvme
        )
    }
}

/// The profile whose kernel drives both.
pub fn profile_for(nic: Nic, controller: DiskController) -> Profile {
    if nic.is_in_the_cloud_kernel() && controller.is_in_the_cloud_kernel() {
        Profile::Lab
    } else {
        Profile::Server
    }
}

/// Refuses a disk that the firmware cannot boot.
///
/// # Errors
/// In words, with what it can.
pub fn bootable(controller: DiskController, firmware: Firmware) -> anyhow::Result<()> {
    anyhow::ensure!(
        controller.is_known_to(firmware),
        "UEFI firmware has no driver for the disk controller {controller}: what is installed would never boot; take another \
         --disk-controller, or --firmware bios"
    );
    Ok(())
}

impl fmt::Display for Nic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&name_of(self))
    }
}

impl fmt::Display for DiskController {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&name_of(self))
    }
}

/// As it is written on the command line, where it is offered there.
fn name_of(value: &(impl clap::ValueEnum + fmt::Debug)) -> String {
    let offered = value.to_possible_value();
    offered.map_or_else(
        || format!("{value:?}").to_lowercase(),
        |offered| offered.get_name().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cloud_kernel_does_not_drive_takes_the_server_profile() {
        assert_eq!(profile_for(Nic::Virtio, DiskController::Virtio), Profile::Lab);
        assert_eq!(profile_for(Nic::Vmxnet3, DiskController::Nvme), Profile::Lab);
        assert_eq!(profile_for(Nic::E1000e, DiskController::Virtio), Profile::Server);
        assert_eq!(profile_for(Nic::Virtio, DiskController::Ahci), Profile::Server);
    }

    #[test]
    fn a_disk_that_uefi_cannot_boot_is_refused_by_its_name() {
        let error = bootable(DiskController::Megasas, Firmware::Uefi).unwrap_err();
        assert!(
            error.to_string().contains("the disk controller megasas"),
            "{error}"
        );
        assert!(bootable(DiskController::Megasas, Firmware::Bios).is_ok());
        // EDK2 has a driver, and Debian builds it without: the firmware saw no disk.
        assert!(bootable(DiskController::Pvscsi, Firmware::Uefi).is_err());
        assert!(bootable(DiskController::Nvme, Firmware::Uefi).is_ok());
    }

    #[test]
    fn disks_have_linuxs_names() {
        assert_eq!(DiskController::Virtio.linux_disk(0), "/dev/vda");
        assert_eq!(DiskController::Nvme.linux_disk(1), "/dev/nvme1n1");
        assert_eq!(DiskController::Mptsas.linux_disk(1), "/dev/sdb");
        assert_eq!(DiskController::VirtioScsi.to_string(), "virtio-scsi");
        assert_eq!(Nic::E1000e.to_string(), "e1000e");
    }
}
