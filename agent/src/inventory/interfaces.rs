//! Network cards. Source: Documentation/ABI/testing/sysfs-class-net.

use std::collections::BTreeMap;
use std::path::Path;

use disk::probe::System;
use proto::v1::{BondPort, LldpNeighbour, NetworkInterface};

use super::files;
use crate::net::{bond, nic};

/// What is known of cards beside what sysfs shows, by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beside {
    /// Addresses that cards have of their own.
    pub permanent: BTreeMap<String, String>,
    pub neighbours: BTreeMap<String, LldpNeighbour>,
}

pub(super) fn read(system: &System, beside: &Beside) -> Vec<NetworkInterface> {
    let folder = system.sys.join("class/net");
    let interface = |nic: nic::Nic| {
        let card = folder.join(&nic.name);
        let device = card.join("device");
        NetworkInterface {
            mac: nic.mac_text(),
            carrier: nic.carrier,
            driver: nic.driver,
            permanent_mac: beside.permanent.get(&nic.name).cloned().unwrap_or_default(),
            pci_address: pci_address(&device),
            pci_id: pci_id(&device),
            speed_mbit_per_s: speed(&card),
            mtu: files::number(&card.join("mtu")).map_or(0, |mtu| u32::try_from(mtu).unwrap_or(0)),
            neighbour: beside.neighbours.get(&nic.name).cloned(),
            bond: bond::port_of(&folder, &nic.name).map(|port| BondPort {
                name: port.bond,
                mode: port.mode,
                in_use: port.in_use,
                partner_mac: port.partner_mac,
            }),
            name: nic.name,
        }
    };
    nic::list_in(&folder).into_iter().map(interface).collect()
}

/// Which cards there are, how their links are and what their bonds make of them: when this is another, the inventory is.
pub(super) fn links(system: &System) -> Vec<(String, bool, u32, Option<bond::Port>)> {
    let folder = system.sys.join("class/net");
    let cards = nic::list_in(&folder).into_iter();
    cards
        .map(|nic| {
            let speed = speed(&folder.join(&nic.name));
            let port = bond::port_of(&folder, &nic.name);
            (nic.name, nic.carrier, speed, port)
        })
        .collect()
}

/// 0 where there is no link; drivers write -1 for what they don't know.
fn speed(card: &Path) -> u32 {
    let text = files::line(&card.join("speed"));
    text.parse().unwrap_or(0)
}

/// The PCI device that a card is, or hangs on (virtio, USB).
fn pci_folder(device: &Path) -> Option<std::path::PathBuf> {
    let real = std::fs::canonicalize(device).ok()?;
    let is_pci = |folder: &&Path| files::link_name(&folder.join("subsystem")) == "pci";
    real.ancestors().take(16).find(is_pci).map(Path::to_owned)
}

fn pci_address(device: &Path) -> String {
    let folder = pci_folder(device);
    let name = folder.as_deref().and_then(Path::file_name).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn pci_id(device: &Path) -> String {
    let Some(folder) = pci_folder(device) else {
        return String::new();
    };
    let number = |file: &str| files::number(&folder.join(file)).unwrap_or(0);
    format!("{:04x}:{:04x}", number("vendor"), number("device"))
}
