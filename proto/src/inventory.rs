//! How much an inventory may say, and in which letters: agents keep to it, and the server makes sure of it.

use prost::Message;

use crate::v1::{
    BlockDevice, Bmc, Board, BondPort, Chassis, FirmwareRelease, HardwareInventory, LldpNeighbour,
    MemoryModule, NetworkInterface, Partition, PciDevice, Processor,
};

/// Letters of one text.
pub const MAX_TEXT: usize = 128;
/// Bytes of a whole inventory as it is sent.
pub const MAX_BYTES: usize = 64 << 10;
pub const MAX_DISKS: usize = 256;
pub const MAX_GPUS: usize = 64;
pub const MAX_INTERFACES: usize = 128;
pub const MAX_MEMORY_MODULES: usize = 256;
pub const MAX_PARTITIONS: usize = 32;
pub const MAX_PCI_DEVICES: usize = 512;
/// Other ways to a disk.
pub const MAX_WAYS: usize = 15;
/// Lines of what was left out: one for each list, and the partitions of some disks.
const MAX_LEFT_OUT: usize = 8;

/// A text of a machine as it may stand in an inventory: printable ASCII, and nothing that ends a quoted text, or begins an
/// expression, in a template into which it is put. Other letters become `_`.
pub fn cleaned(text: &str) -> String {
    let text = text.trim_matches(|letter: char| letter.is_whitespace() || letter == '\0');
    let mut clean: String = text.chars().take(MAX_TEXT).map(clean_letter).collect();
    clean.truncate(clean.trim_end().len());
    clean
}

fn clean_letter(letter: char) -> char {
    match letter {
        '"' | '\'' | '`' | '\\' | '{' | '}' | '$' => '_',
        ' '..='~' => letter,
        _ => '_',
    }
}

impl HardwareInventory {
    /// Cuts texts, lists and the whole to what an inventory may be, and says in `left_out` what there is more of. A second
    /// time changes nothing.
    pub fn bound(&mut self) {
        self.left_out.truncate(MAX_LEFT_OUT);
        let mut left_out = std::mem::take(&mut self.left_out);
        cut(&mut self.disks, MAX_DISKS, "disks", &mut left_out);
        cut(&mut self.interfaces, MAX_INTERFACES, "interfaces", &mut left_out);
        cut(
            &mut self.memory_modules,
            MAX_MEMORY_MODULES,
            "memory_modules",
            &mut left_out,
        );
        cut(
            &mut self.pci_devices,
            MAX_PCI_DEVICES,
            "pci_devices",
            &mut left_out,
        );
        cut(&mut self.gpus, MAX_GPUS, "gpus", &mut left_out);
        for disk in &mut self.disks {
            let name = format!("partitions of {}", disk.name);
            cut(&mut disk.partitions, MAX_PARTITIONS, &name, &mut left_out);
        }
        self.left_out = left_out;
        self.clean();
        // What is of least use goes first.
        let too_much =
            |all: &mut HardwareInventory, take: fn(&mut HardwareInventory) -> usize, what: &str| {
                if all.encoded_len() > MAX_BYTES {
                    let more = take(all);
                    note(&mut all.left_out, more, what);
                }
            };
        too_much(self, |all| take_all(&mut all.pci_devices), "pci_devices");
        too_much(
            self,
            |all| {
                all.disks
                    .iter_mut()
                    .map(|disk| take_all(&mut disk.partitions))
                    .sum()
            },
            "partitions",
        );
        too_much(self, |all| take_all(&mut all.memory_modules), "memory_modules");
        too_much(self, |all| take_all(&mut all.interfaces), "interfaces");
        too_much(self, |all| take_all(&mut all.disks), "disks");
    }

    fn clean(&mut self) {
        let Self {
            vendor,
            product,
            serial,
            cpus: _,
            memory_bytes: _,
            images: _,
            disks,
            interfaces,
            firmware,
            processor,
            memory_modules,
            pci_devices,
            gpus,
            uuid,
            sku,
            family,
            board,
            chassis,
            firmware_release,
            secure_boot,
            bmc,
            tpm,
            left_out,
        } = self;
        clean_all([
            vendor,
            product,
            serial,
            firmware,
            uuid,
            sku,
            family,
            secure_boot,
            tpm,
        ]);
        left_out.truncate(MAX_LEFT_OUT);
        clean_all(left_out.iter_mut());
        disks.iter_mut().for_each(clean_disk);
        interfaces.iter_mut().for_each(clean_interface);
        // There always, so that whoever asks for a field of them need not look first.
        let Processor {
            model, architecture, ..
        } = processor.get_or_insert_default();
        clean_all([model, architecture]);
        for module in memory_modules {
            let MemoryModule {
                slot,
                kind,
                manufacturer,
                part_number,
                serial,
                ..
            } = module;
            clean_all([slot, kind, manufacturer, part_number, serial]);
        }
        for device in pci_devices.iter_mut().chain(gpus) {
            let PciDevice {
                address,
                id,
                subsystem_id,
                class,
                driver,
            } = device;
            clean_all([address, id, subsystem_id, class, driver]);
        }
        let Board {
            vendor,
            product,
            version,
            serial,
            asset_tag,
        } = board.get_or_insert_default();
        clean_all([vendor, product, version, serial, asset_tag]);
        let Chassis {
            vendor,
            kind,
            version,
            serial,
            asset_tag,
        } = chassis.get_or_insert_default();
        clean_all([vendor, kind, version, serial, asset_tag]);
        let FirmwareRelease {
            vendor,
            version,
            date,
        } = firmware_release.get_or_insert_default();
        clean_all([vendor, version, date]);
        let Bmc {
            address,
            mac,
            source,
            version,
        } = bmc.get_or_insert_default();
        clean_all([address, mac, source, version]);
    }
}

fn clean_disk(disk: &mut BlockDevice) {
    let BlockDevice {
        name,
        model,
        serial,
        wwn,
        transport,
        partition_table,
        filesystem,
        partitions,
        other_names,
        health,
        health_warnings,
        ..
    } = disk;
    other_names.truncate(MAX_WAYS);
    clean_all(other_names.iter_mut());
    clean_all([
        name,
        model,
        serial,
        wwn,
        transport,
        partition_table,
        filesystem,
        health,
        health_warnings,
    ]);
    for partition in partitions {
        let Partition {
            filesystem,
            label,
            uuid,
            ..
        } = partition;
        clean_all([filesystem, label, uuid]);
    }
}

fn clean_interface(interface: &mut NetworkInterface) {
    let NetworkInterface {
        name,
        mac,
        driver,
        permanent_mac,
        pci_address,
        pci_id,
        neighbour,
        bond,
        ..
    } = interface;
    clean_all([name, mac, driver, permanent_mac, pci_address, pci_id]);
    if let Some(neighbour) = neighbour {
        let LldpNeighbour {
            chassis_id,
            port_id,
            port_description,
            system_name,
            ..
        } = neighbour;
        clean_all([chassis_id, port_id, port_description, system_name]);
    }
    if let Some(BondPort {
        name,
        mode,
        partner_mac,
        in_use: _,
    }) = bond
    {
        clean_all([name, mode, partner_mac]);
    }
}

fn clean_all<'a>(texts: impl IntoIterator<Item = &'a mut String>) {
    for text in texts {
        *text = cleaned(text);
    }
}

fn cut<T>(list: &mut Vec<T>, most: usize, what: &str, left_out: &mut Vec<String>) {
    let more = list.len().saturating_sub(most);
    list.truncate(most);
    note(left_out, more, what);
}

fn take_all<T>(list: &mut Vec<T>) -> usize {
    std::mem::take(list).len()
}

fn note(left_out: &mut Vec<String>, more: usize, what: &str) {
    if more > 0 && left_out.len() < MAX_LEFT_OUT {
        left_out.push(cleaned(&format!("{more} more of {what}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks(count: usize, text: &str) -> HardwareInventory {
        let disk = |number: usize| BlockDevice {
            name: format!("/dev/d{number}"),
            model: text.to_owned(),
            serial: text.to_owned(),
            partitions: vec![
                Partition {
                    label: text.to_owned(),
                    ..Partition::default()
                };
                MAX_PARTITIONS + 3
            ],
            ..BlockDevice::default()
        };
        HardwareInventory {
            disks: (0..count).map(disk).collect(),
            ..HardwareInventory::default()
        }
    }

    #[test]
    fn a_text_can_not_leave_its_place_in_a_template() {
        assert_eq!(cleaned("  ACME\u{0}\u{0}"), "ACME");
        assert_eq!(
            cleaned("a\"b'c`d\\e{{f}}${{g}}\nh\u{1b}[2Jü"),
            "a_b_c_d_e__f_____g___h_[2J_"
        );
        assert_eq!(cleaned(&"x".repeat(1000)).len(), MAX_TEXT);
    }

    #[test]
    fn lists_are_cut_and_what_there_is_more_of_is_said() {
        let mut inventory = disks(1, "x");
        inventory.bound();
        assert_eq!(inventory.disks[0].partitions.len(), MAX_PARTITIONS);
        assert_eq!(inventory.left_out, ["3 more of partitions of /dev/d0"]);
        let again = inventory.clone();
        inventory.bound();
        assert_eq!(inventory, again);
    }

    #[test]
    fn the_whole_is_never_larger_than_it_may_be() {
        let mut inventory = disks(MAX_DISKS + 10, &"ü\"".repeat(500));
        let pci = PciDevice {
            driver: "\u{7f}".repeat(500),
            ..PciDevice::default()
        };
        inventory.pci_devices = vec![pci; 5000];
        inventory.left_out = vec!["y".repeat(4000); 4000];
        inventory.bound();
        assert!(
            inventory.encoded_len() <= MAX_BYTES,
            "{}",
            inventory.encoded_len()
        );
        assert!(inventory.pci_devices.is_empty() && inventory.left_out.len() <= MAX_LEFT_OUT);
        let mut hostile = HardwareInventory {
            left_out: vec!["${{ secrets.PW }}".into()],
            tpm: "{{ .x }}".into(),
            ..HardwareInventory::default()
        };
        hostile.bound();
        let text = format!("{hostile:?}");
        assert!(!text.contains("${{") && !text.contains("{{"), "{text}");
    }
}
