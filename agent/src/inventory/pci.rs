//! PCI devices. Source: Documentation/ABI/testing/sysfs-bus-pci.

use disk::probe::System;
use proto::inventory::MAX_PCI_DEVICES;
use proto::v1::PciDevice;

use super::files;

/// Of the class, whose upper byte it is: display controllers.
const DISPLAY: &str = "03";

/// All of them by address, and how many more there are than an inventory has room for.
pub(super) fn read(system: &System) -> Vec<PciDevice> {
    let folder = system.sys.join("bus/pci/devices");
    let device = |address: String| {
        let folder = folder.join(&address);
        let hex = |file: &str, digits: usize| {
            let number = files::number(&folder.join(file)).unwrap_or(0);
            format!("{number:0digits$x}")
        };
        PciDevice {
            id: format!("{}:{}", hex("vendor", 4), hex("device", 4)),
            subsystem_id: format!("{}:{}", hex("subsystem_vendor", 4), hex("subsystem_device", 4)),
            class: hex("class", 6),
            driver: files::link_name(&folder.join("driver")),
            address,
        }
    };
    // Some more, so that what is left out can be said.
    let addresses = files::names(&folder, 8 * MAX_PCI_DEVICES);
    addresses.into_iter().map(device).collect()
}

/// Those that compute or show pictures.
pub(super) fn gpus(devices: &[PciDevice]) -> Vec<PciDevice> {
    let gpus = devices.iter().filter(|device| device.class.starts_with(DISPLAY));
    gpus.cloned().collect()
}
