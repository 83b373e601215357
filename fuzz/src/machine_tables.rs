//! What an agent reads of its machine and of its neighbours: SMBIOS tables, what disks say of their health, and frames of LLDP, and what an inventory comes to
//! that anything stands in.

use agent::inventory::{lldp, smbios};
use disk::health;
use prost::Message;
use proto::inventory::{MAX_BYTES, MAX_TEXT};
use proto::v1::HardwareInventory;

pub(crate) fn run(bytes: &[u8]) {
    let modules = smbios::memory_modules(bytes);
    assert!(
        modules
            .iter()
            .all(|module| module.size_bytes > 0 && module.slot.len() <= MAX_TEXT)
    );
    let _ = smbios::chassis_kind(bytes);
    let _ = health::nvme(bytes);
    if let Some(said) = health::ata(bytes) {
        // Of two answers.
        assert!(said.warnings.len() < 2);
    }
    if let Some((neighbour, _)) = lldp::parse(bytes) {
        let texts = [
            neighbour.chassis_id,
            neighbour.port_id,
            neighbour.port_description,
            neighbour.system_name,
        ];
        assert!(
            texts.iter().all(|text| text.len() <= MAX_TEXT && text.is_ascii()),
            "{texts:?}"
        );
    }
    if let Ok(mut inventory) = HardwareInventory::decode(bytes) {
        inventory.bound();
        assert!(inventory.encoded_len() <= MAX_BYTES);
        let text = format!("{inventory:?}");
        assert!(!text.contains("${{"), "{text}");
        let once = inventory.clone();
        inventory.bound();
        assert_eq!(inventory, once);
    }
}
