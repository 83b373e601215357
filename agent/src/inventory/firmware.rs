//! What the firmware says of itself and of the machine that it is in.
//!
//! Source: Documentation/ABI/testing/sysfs-class-dmi and sysfs-class-tpm; UEFI specification 2.10, section 3.3 (SecureBoot).

use disk::probe::System;
use proto::v1::{Board, Chassis, FirmwareRelease, HardwareInventory};

use super::files;
use super::smbios;

/// A table of SMBIOS is never larger in version 2; servers of version 3 have up to some 100 KiB.
const MAX_TABLE: u64 = 1 << 20;
/// Of the specification's own vendor, "8be4df61".
const SECURE_BOOT: &str = "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// "uefi" or "bios".
pub(super) fn kind(system: &System) -> String {
    let is_efi = system.sys.join("firmware/efi").exists();
    if is_efi { "uefi" } else { "bios" }.to_owned()
}

/// A field of SMBIOS types 0 to 3; what firmware leaves as its maker delivered it is none.
pub(super) fn dmi(system: &System, name: &str) -> String {
    let text = files::line(&system.sys.join("class/dmi/id").join(name));
    const PLACEHOLDERS: [&str; 8] = [
        "default string",
        "n/a",
        "none",
        "not specified",
        "o.e.m.",
        "system serial number",
        "to be filled by o.e.m.",
        "not available",
    ];
    match PLACEHOLDERS.contains(&text.to_lowercase().as_str()) {
        true => String::new(),
        false => text,
    }
}

/// Sets all that the firmware tells.
pub(super) fn read(system: &System, inventory: &mut HardwareInventory) {
    let dmi = |name: &str| dmi(system, name);
    let table = files::bytes(&system.sys.join("firmware/dmi/tables/DMI"), MAX_TABLE);
    inventory.uuid = super::system_uuid(system);
    inventory.sku = dmi("product_sku");
    inventory.family = dmi("product_family");
    inventory.board = Some(Board {
        vendor: dmi("board_vendor"),
        product: dmi("board_name"),
        version: dmi("board_version"),
        serial: dmi("board_serial"),
        asset_tag: dmi("board_asset_tag"),
    });
    inventory.chassis = Some(Chassis {
        vendor: dmi("chassis_vendor"),
        kind: smbios::chassis_kind(&table).to_owned(),
        version: dmi("chassis_version"),
        serial: dmi("chassis_serial"),
        asset_tag: dmi("chassis_asset_tag"),
    });
    inventory.firmware_release = Some(FirmwareRelease {
        vendor: dmi("bios_vendor"),
        version: dmi("bios_version"),
        date: dmi("bios_date"),
    });
    inventory.memory_modules = smbios::memory_modules(&table);
    inventory.secure_boot = secure_boot(system);
    inventory.tpm = tpm(system);
}

/// The variable is one byte behind four of attributes.
fn secure_boot(system: &System) -> String {
    let variable = files::bytes(&system.sys.join(SECURE_BOOT), 16);
    let state = match variable.as_slice() {
        [_, _, _, _, 1] => "enabled",
        [_, _, _, _, 0] => "disabled",
        _ => "",
    };
    state.to_owned()
}

/// The kernel tells the major version only; of either there is one minor that is in use.
fn tpm(system: &System) -> String {
    let folder = system.sys.join("class/tpm/tpm0");
    let version = match files::line(&folder.join("tpm_version_major")).as_str() {
        "1" => "1.2",
        "2" => "2.0",
        _ => "",
    };
    version.to_owned()
}
