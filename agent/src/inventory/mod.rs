//! What this machine is made of: read from sysfs, proc, SMBIOS, its disks, its management controller and its switches.
//!
//! [`brief`] takes no time and stands in the Hello. [`whole`] may take long, as it asks devices: [`watch`] has a thread for it,
//! so that neither the attach nor an action waits. All is read below the folders of a [`System`], so a recorded tree will do.

mod bmc;
mod disks;
mod files;
mod firmware;
mod interfaces;
mod listener;
pub mod lldp;
mod pci;
mod processor;
pub mod smbios;
#[cfg(test)]
mod tests;
pub mod watch;

use disk::probe::System;
pub use interfaces::Beside;
use proto::v1::{Bmc, HardwareInventory};

/// What the kernel knows without asking anybody.
pub fn brief(system: &System) -> HardwareInventory {
    let processor = processor::read(system);
    let mut inventory = HardwareInventory {
        vendor: firmware::dmi(system, "sys_vendor"),
        product: firmware::dmi(system, "product_name"),
        serial: firmware::dmi(system, "product_serial"),
        cpus: processor.threads,
        memory_bytes: processor::memory_bytes(&system.proc),
        disks: disks::list(system),
        interfaces: interfaces::read(system, &Beside::default()),
        firmware: firmware::kind(system),
        ..HardwareInventory::default()
    };
    inventory.bound();
    inventory
}

/// The UUID that SMBIOS gives the machine, in small letters; empty: none. Some firmware gives every machine the same.
pub(crate) fn system_uuid(system: &System) -> String {
    firmware::dmi(system, "product_uuid").to_lowercase()
}

/// All of it, within the bounds of an inventory. Blocks while disks are read; `bmc` is what the management controller said.
pub fn whole(system: &System, beside: &Beside, bmc: &Bmc) -> HardwareInventory {
    let processor = processor::read(system);
    let pci_devices = pci::read(system);
    let mut inventory = HardwareInventory {
        vendor: firmware::dmi(system, "sys_vendor"),
        product: firmware::dmi(system, "product_name"),
        serial: firmware::dmi(system, "product_serial"),
        cpus: processor.threads,
        memory_bytes: processor::memory_bytes(&system.proc),
        disks: disks::with_contents(system),
        interfaces: interfaces::read(system, beside),
        firmware: firmware::kind(system),
        processor: Some(processor),
        gpus: pci::gpus(&pci_devices),
        pci_devices,
        bmc: Some(bmc.clone()),
        ..HardwareInventory::default()
    };
    firmware::read(system, &mut inventory);
    inventory.bound();
    inventory
}
