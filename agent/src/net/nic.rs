//! Finds the NIC that booted, by its MAC, in `/sys/class/net`.

use std::path::Path;

use mac::mac_text;
use macaddr::MacAddr6;

use crate::cmdline::{BootParameters, parse_mac};

/// A network card as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    pub name: String,
    pub mac: MacAddr6,
    /// Empty where the device has none (virtual ones).
    pub driver: String,
    pub carrier: bool,
}

impl Nic {
    /// As it is written everywhere.
    pub fn mac_text(&self) -> String {
        mac_text(self.mac)
    }
}

/// Every Ethernet card that has hardware behind it, by name.
pub fn list() -> Vec<Nic> {
    list_in(Path::new("/sys/class/net"))
}

/// As [`list`], of a folder like it.
pub fn list_in(folder: &Path) -> Vec<Nic> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut nics: Vec<Nic> = entries.flatten().filter_map(|e| read(&e.path())).collect();
    nics.sort_by(|a, b| a.name.cmp(&b.name));
    nics
}

fn read(folder: &Path) -> Option<Nic> {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    if !folder.join("device").exists() {
        return None;
    }
    let driver = std::fs::read_link(folder.join("device/driver")).ok();
    let driver = driver
        .as_deref()
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    // All members of a bond show the bond's address; their own is beside it. Source: Linux drivers/net/bonding/bond_sysfs_slave.c.
    let own = parse_mac(text("bonding_slave/perm_hwaddr").trim());
    Some(Nic {
        name: folder.file_name()?.to_str()?.to_owned(),
        mac: own.or_else(|| parse_mac(text("address").trim()))?,
        driver,
        carrier: text("carrier").trim() == "1",
    })
}

/// The card that booted: by MAC; without one by `interface`; without that the only (or first) card.
pub fn find_boot_nic(parameters: &BootParameters) -> Option<Nic> {
    choose(list(), parameters)
}

fn choose(nics: Vec<Nic>, parameters: &BootParameters) -> Option<Nic> {
    let mut nics = nics.into_iter();
    match (parameters.mac, parameters.interface.as_deref()) {
        (Some(mac), _) => nics.find(|nic| nic.mac == mac),
        (None, Some(name)) => nics.find(|nic| nic.name == name),
        (None, None) => nics.next(),
    }
}

/// Says what is looked for and what there is, for the console.
pub fn describe_missing(parameters: &BootParameters) -> String {
    let wanted = match (parameters.mac, parameters.interface.as_deref()) {
        (Some(mac), _) => format!("NIC {}", mac_text(mac)),
        (None, Some(name)) => format!("NIC {name}"),
        (None, None) => "any NIC".to_owned(),
    };
    let there: Vec<String> = list()
        .iter()
        .map(|n| format!("{} {} {}", n.name, n.mac_text(), n.driver))
        .collect();
    let there = if there.is_empty() {
        "none".to_owned()
    } else {
        there.join(", ")
    };
    let without_driver = without_driver(Path::new("/sys/bus/pci/devices"));
    let without_driver = if without_driver.is_empty() {
        String::new()
    } else {
        format!(
            "; no driver of this boot image drives the network card {}: build it with --profile server or a newer kernel",
            without_driver.join(", ")
        )
    };
    format!("still waiting for {wanted}; there is: {there}{without_driver}")
}

/// The PCI ids of network cards (class 02) that no driver has taken, sorted.
fn without_driver(devices: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(devices) else {
        return Vec::new();
    };
    let mut ids: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let hex = |name: &str| {
                let text = std::fs::read_to_string(entry.path().join(name)).ok()?;
                Some(text.trim().strip_prefix("0x")?.to_owned())
            };
            let is_idle = !entry.path().join("driver").exists();
            let is_network = hex("class")?.starts_with("02");
            (is_idle && is_network).then_some(format!("{}:{}", hex("vendor")?, hex("device")?))
        })
        .collect();
    ids.sort();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(name: &str, last: u8) -> Nic {
        let mac = MacAddr6::new(0x52, 0x54, 0, 0x77, 0, last);
        Nic {
            name: name.to_owned(),
            mac,
            driver: "virtio_net".to_owned(),
            carrier: true,
        }
    }

    #[test]
    fn a_network_card_without_a_driver_is_named_by_its_pci_id() {
        let devices = tempfile::tempdir().expect("folder");
        for (name, class, device, driven) in [
            ("0000:00:02.0", "0x020000", "0x10d3", false),
            ("0000:00:03.0", "0x020000", "0x1521", true),
            ("0000:00:1f.2", "0x010601", "0x2922", false),
        ] {
            let folder = devices.path().join(name);
            std::fs::create_dir(&folder).expect("folder");
            for (file, content) in [("class", class), ("vendor", "0x8086"), ("device", device)] {
                std::fs::write(folder.join(file), format!("{content}\n")).expect("written");
            }
            if driven {
                std::fs::create_dir(folder.join("driver")).expect("folder");
            }
        }
        assert_eq!(without_driver(devices.path()), ["8086:10d3"]);
    }

    /// As Linux shows two members of a bond.
    #[test]
    fn a_member_of_a_bond_is_known_by_the_address_of_its_own() {
        let folder = tempfile::tempdir().expect("folder");
        for (name, own) in [("eth0", "52:54:00:77:00:0b"), ("eth1", "52:54:00:77:00:0c")] {
            let card = folder.path().join(name);
            std::fs::create_dir_all(card.join("device")).expect("folder");
            std::fs::create_dir_all(card.join("bonding_slave")).expect("folder");
            std::fs::write(card.join("address"), "52:54:00:77:00:0c\n").expect("written");
            std::fs::write(card.join("bonding_slave/perm_hwaddr"), format!("{own}\n")).expect("written");
        }
        let macs: Vec<String> = list_in(folder.path()).iter().map(Nic::mac_text).collect();
        assert_eq!(macs, ["52:54:00:77:00:0b", "52:54:00:77:00:0c"]);
    }

    #[test]
    fn the_mac_decides_and_no_other_card_stands_in() {
        let nics = vec![nic("eth0", 1), nic("eth1", 2)];
        let mut p = BootParameters {
            mac: Some(nic("", 2).mac),
            ..BootParameters::default()
        };
        assert_eq!(choose(nics.clone(), &p).map(|n| n.name).as_deref(), Some("eth1"));
        p.mac = Some(nic("", 9).mac);
        assert_eq!(choose(nics.clone(), &p), None);
        p = BootParameters {
            interface: Some("eth1".to_owned()),
            ..BootParameters::default()
        };
        assert_eq!(choose(nics.clone(), &p).map(|n| n.name).as_deref(), Some("eth1"));
        assert_eq!(
            choose(nics, &BootParameters::default())
                .map(|n| n.name)
                .as_deref(),
            Some("eth0")
        );
    }
}
